"""A report judged by a cluster is the report; a worker that is killed costs time, and no number."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from prunequant import checkpoint
from prunequant.cli import app

DEADLY = "layers.2.weight"


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"layers.{i}.weight": rng.standard_normal((16, 64 + 32 * (i % 3))).astype(np.float32) for i in range(6)}
    tensors["layers.4.weight"][3, 5] = np.inf
    save_file({**tensors, "norm.weight": np.ones(16, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def mortal(function, flag, **unit):
    """Run a unit; the first process that comes to one of them is killed there."""
    if unit["name"] == DEADLY:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return function(**unit)


class Mortal:
    """An executor, one of whose processes is killed once."""

    def __init__(self, executor, flag):
        self.executor, self.flag = executor, str(flag)

    def submit(self, function, **unit):
        return self.executor.submit(mortal, function, flag=self.flag, **unit)


def plain(report):
    return {key: value for key, value in report.to_json().items() if key != "provenance"}


def test_two_dask_workers_one_of_which_is_killed_make_the_same_report_and_count_no_matrix_twice(model, tmp_path):
    from dask import distributed

    counted = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        mortals = Mortal(client.get_executor(), tmp_path / "killed")
        found = checkpoint.report(model, executor=mortals, progress=lambda *done: counted.append(done))
        page = tmp_path / "page.html"
        line = ["report", str(model), "--cluster", cluster.scheduler_address, "--html", str(page)]
        done = CliRunner().invoke(app, line)
        there, here = tmp_path / "there.json", tmp_path / "here.json"
        ask = ["allocate", str(model), "--budget", "4.5", "--json"]
        plans = [CliRunner().invoke(app, [*ask, str(there), "--cluster", cluster.scheduler_address]),
                 CliRunner().invoke(app, [*ask, str(here)])]  # fmt: skip
    assert [p.exit_code for p in plans] == [0, 0] and there.read_bytes() == here.read_bytes()
    assert (tmp_path / "killed").exists() and counted == [(i + 1, 6) for i in range(6)]
    alone = checkpoint.report(model)
    assert plain(found) == plain(alone) and found.matrices == alone.matrices
    assert "layers.4.weight" in {u.name for u in found.untreated}
    assert done.exit_code == 0, done.output
    assert page.exists()


def test_a_worker_that_finds_another_file_under_the_path_says_so(model, tmp_path):
    class Elsewhere:
        def submit(self, function, **unit):
            future = Future()
            try:
                future.set_result(function(**{**unit, **self.other}))
            except ValueError as error:
                future.set_exception(error)
            return future

    from concurrent.futures import Future

    there = Elsewhere()
    for other, message in (
        ({"path": str(tmp_path / "none")}, "no such file on this machine"),
        ({"stamp": [["model.safetensors", 3]]}, "another size on this machine"),
        ({"name": "nobody"}, "other tensors here"),
    ):
        there.other = other
        with pytest.raises(checkpoint.ModelFileError, match=message):
            checkpoint.report(model, executor=there)


def test_no_scheduler_at_the_address_ends_in_one_line_and_exit_code_2(model, tmp_path):
    out = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["report", str(model), "--cluster", "nowhere", "--json", str(out)])
    assert done.exit_code == 2 and "no Dask scheduler answers at 'nowhere'" in done.stderr and not out.exists()
