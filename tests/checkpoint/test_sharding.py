"""A report judged by a cluster is the report; a worker that is killed costs time, and no number."""

from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from prunequant import checkpoint
from prunequant.checkpoint import coders, sharding
from prunequant.checkpoint.calibration import Calibration, write_inputs
from prunequant.checkpoint.outputs import output_errors
from prunequant.cli import app, common

DEADLY = "layers.2.weight"


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"layers.{i}.weight": rng.standard_normal((16, 64 + 32 * (i % 3))).astype(np.float32) for i in range(6)}
    tensors["layers.4.weight"][3, 5] = np.inf
    save_file({**tensors, "norm.weight": np.ones(16, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def mortal(function, flag, deadly, **unit):
    """Run a unit; the first process that comes to one of them is killed there."""
    if unit["name"] == DEADLY and function.__name__ == deadly:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return function(**unit)


class Mortal:
    """An executor, one of whose processes is killed once."""

    def __init__(self, executor, flag, deadly):
        self.executor, self.flag, self.deadly, self.units = executor, str(flag), deadly, []

    def submit(self, function, **unit):
        self.units.append((function.__name__, unit["name"]))
        return self.executor.submit(mortal, function, flag=self.flag, deadly=self.deadly, **unit)


def plain(report):
    return {key: value for key, value in report.to_json().items() if key != "provenance"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers of a thread each."""
    from dask import distributed

    place = str(tmp_path_factory.mktemp("dask"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=place
    ) as cluster:
        yield cluster


@pytest.fixture
def dask(cluster):
    """An executor of the two, both alive again."""
    from dask import distributed

    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client.get_executor()


def test_two_dask_workers_one_of_which_is_killed_make_the_same_report_and_count_no_matrix_twice(
    model, dask, cluster, tmp_path
):
    counted = []
    mortals = Mortal(dask, tmp_path / "killed", "judge_one")
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


@pytest.mark.parametrize(
    ("to", "method", "asked"),
    [
        ("prunequant", "nearest", {"scheme": "2:4 INT4 g32"}),
        ("prunequant", "path", {"scheme": "INT4 g32"}),
        ("compressed-tensors", "nearest", {"budget": 4.5}),
    ],
)
def test_two_dask_workers_one_of_which_is_killed_make_the_same_file_to_the_last_byte(
    to, method, asked, model, dask, tmp_path
):
    (model.parent / "config.json").write_text("{}", encoding="utf-8")
    rng = np.random.default_rng(1)
    inputs = {f"layers.{i}.weight": rng.standard_normal((80, 64 + 32 * (i % 3))) for i in (0, 2)}
    np.savez(tmp_path / "inputs.npz", **inputs)
    options = {"to": to, "settings": checkpoint.Settings(method=method), **asked}
    options["calibrate"] = tmp_path / "inputs.npz" if method != "nearest" else None
    alone = checkpoint.compress(model, tmp_path / "alone", **options)
    mortals, shown = Mortal(dask, tmp_path / "killed", "code_one"), []
    together = checkpoint.compress(
        model, tmp_path / "together", **options, executor=mortals, progress=lambda *done: shown.append(done)
    )
    assert (tmp_path / "killed").exists() and len(set(mortals.units)) == len(mortals.units)
    assert [done for done, _, _ in shown] == list(range(6)) and shown[-1] == (5, 5, "")
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")
    assert {**alone.to_json(), "file": ""} == {**together.to_json(), "file": ""}
    assert not list(tmp_path.glob(".*.part"))


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir()} if path.is_dir() else path.read_bytes()


def test_compress_takes_the_address_of_a_cluster(model, cluster, tmp_path):
    line = ["compress", str(model), "--scheme", "INT4 channel"]
    for out, more in (("here", []), ("there", ["--cluster", cluster.scheduler_address])):
        done = CliRunner().invoke(app, [*line[:2], str(tmp_path / out), *line[2:], *more])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_two_dask_workers_make_the_same_plan_by_outputs(model, dask, cluster, tmp_path):
    rng = np.random.default_rng(2)
    grams = {f"layers.{i}.weight.gram": np.cov(rng.standard_t(3, (64 + 32 * (i % 3), 200))) for i in (0, 1, 2, 5)}
    write_inputs(tmp_path / "inputs.npz", {**grams, "layers.1.weight.gram": np.zeros((96, 96))})
    with checkpoint.open_model(model) as opened:
        report = checkpoint.report(opened)
        inputs, schemes = Calibration(tmp_path / "inputs.npz", opened), ["INT3 *", "INT4 *", "NVFP4"]
        counted = []
        alone = output_errors(opened, report, inputs, schemes)
        together = output_errors(
            opened, report, inputs, schemes, executor=dask, progress=lambda *done: counted.append(done)
        )
    assert together == alone and list(together.errors) == list(alone.errors) == [
        f"layers.{i}.weight" for i in (0, 2, 5)
    ]
    assert set(alone.by_weights) == {"layers.1.weight", "layers.3.weight"}  # 4 holds infinity
    assert counted[-1] == (5, 5)
    line = ["allocate", str(model), "--budget", "4.25", "--schemes", ",".join(schemes)]
    line += ["--calibrate", str(tmp_path / "inputs.npz")]
    for plan, more in (("here", []), ("there", ["--cluster", cluster.scheduler_address])):
        done = CliRunner().invoke(app, [*line, "--json", str(tmp_path / plan), *more])
        assert done.exit_code == 0 and "by the errors of their outputs" in done.output, done.output
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


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
        with pytest.raises(checkpoint.ModelFileError, match=message):
            checkpoint.compress(model, tmp_path / "out", scheme="INT4 channel", executor=there)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_worker_that_does_not_find_the_inputs_says_so(model, tmp_path):
    with checkpoint.open_model(model) as opened:
        unit = {**sharding.place_of(opened), "name": DEADLY, "scheme": "INT4 g32"}
    settings = vars(checkpoint.Settings(method="path"))
    with pytest.raises(checkpoint.ModelFileError, match=r"none\.npz: there is no such file on this machine"):
        coders.code_one(**unit, settings=settings, inputs=(str(tmp_path / "none.npz"), [["none.npz", 3]]))


def test_no_scheduler_at_the_address_ends_in_one_line_and_exit_code_2(model, tmp_path):
    out = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["report", str(model), "--cluster", "nowhere", "--json", str(out)])
    assert done.exit_code == 2 and "no Dask scheduler answers at 'nowhere'" in done.stderr and not out.exists()


def test_workers_that_die_at_every_attempt_end_the_command_in_one_line_and_exit_code_2(capsys):
    from distributed.scheduler import KilledWorker

    for error in (
        BrokenProcessPool("a process died"),
        KilledWorker("code_one-1", SimpleNamespace(address="tcp://there"), 3),
    ):
        with pytest.raises(typer.Exit) as end, ExitStack() as stack:
            common.executor(stack, 1, None)
            raise error
        assert end.value.exit_code == 2 and "the workers died" in capsys.readouterr().err
    with pytest.raises(KeyError), ExitStack() as stack:
        common.executor(stack, 1, None)
        raise KeyError("another error")
