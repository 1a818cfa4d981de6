"""Sweeps resume, count nothing twice and give the same rows on every executor."""

import json
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from prunequant import experiments
from prunequant.experiments import Store, grid, sweep


def draw(n, seed):
    return {"mean": float(np.random.default_rng(seed).normal(size=n).mean())}


calls = []


def counted(n, seed):
    calls.append((n, seed))
    return {"n2": n * n}


def test_rows_come_in_the_order_of_grid_and_seeds():
    rows = sweep(counted, grid(n=[3, 1]), seeds=[1, 0])
    assert [(r["n"], r["seed"], r["n2"]) for r in rows] == [(3, 1, 9), (3, 0, 9), (1, 1, 1), (1, 0, 1)]


def test_a_unit_in_the_store_is_not_run_again(tmp_path):
    calls.clear()
    first = sweep(counted, grid(n=[1, 2]), store=tmp_path / "s.jsonl")
    more = sweep(counted, grid(n=[1, 2, 3]), store=tmp_path / "s.jsonl")
    assert more[:2] == first
    assert calls == [(1, 0), (2, 0), (3, 0)]


def test_the_same_unit_twice_in_a_grid_runs_once():
    calls.clear()
    rows = sweep(counted, [{"n": 2}, {"n": 2}])
    assert len(rows) == 2 and calls == [(2, 0)]


def test_an_unfinished_last_line_is_cut_off_and_run_again(tmp_path):
    place = tmp_path / "s.jsonl"
    sweep(counted, grid(n=[1, 2]), store=place)
    data = place.read_bytes()
    place.write_bytes(data[:-7])
    assert len(Store(place).rows) == 1
    assert sweep(counted, grid(n=[1, 2]), store=place)[1]["n2"] == 4
    assert place.read_bytes() == data


def test_a_damaged_line_is_an_error_that_names_file_and_line(tmp_path):
    place = tmp_path / "s.jsonl"
    place.write_text('{"key": "a", "row": {}}\n{"nonsense": 1}\n{"key": "b", "row": {}}\n')
    with pytest.raises(ValueError, match=r"s\.jsonl, line 2"):
        Store(place)


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_and_processes_give_the_rows_of_a_plain_loop(workers):
    plain = sweep(draw, grid(n=[5, 6]), seeds=range(3))
    with ThreadPoolExecutor(workers) as executor:
        assert sweep(draw, grid(n=[5, 6]), seeds=range(3), executor=executor) == plain
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as executor:
        assert sweep(draw, grid(n=[5, 6]), seeds=range(3), executor=executor) == plain


def test_a_local_dask_cluster_of_two_workers_gives_the_same_rows(tmp_path):
    from dask import distributed

    plain = sweep(draw, grid(n=[5, 6]), seeds=range(3))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        rows = sweep(draw, grid(n=[5, 6]), seeds=range(3), executor=client.get_executor(), store=tmp_path / "s.jsonl")
    assert rows == plain
    assert len(Store(tmp_path / "s.jsonl").rows) == 6


def test_a_killed_run_loses_at_most_one_unit_and_counts_nothing_twice(tmp_path):
    place = tmp_path / "s.jsonl"
    code = textwrap.dedent(f"""
        import os
        from prunequant.experiments import sweep, grid
        def unit(n, seed):
            if n == 3 and not os.path.exists({str(tmp_path / "second")!r}):
                os._exit(9)
            return {{"n2": n * n}}
        sweep(unit, grid(n=[1, 2, 3, 4]), store={str(place)!r})
    """)
    script = tmp_path / "run.py"
    script.write_text(code)
    assert subprocess.run([sys.executable, script]).returncode == 9
    assert len(place.read_text().splitlines()) == 2
    (tmp_path / "second").touch()
    assert subprocess.run([sys.executable, script]).returncode == 0
    rows = [json.loads(line)["row"]["n"] for line in place.read_text().splitlines()]
    assert rows == [1, 2, 3, 4]


def test_a_changed_function_does_not_answer_from_the_old_store(tmp_path):
    def make(power):
        source = f"def unit(n, seed):\n    return {{'out': n ** {power}}}\n"
        file = tmp_path / f"unit{power}.py"
        file.write_text(source)
        scope = {"__name__": "same"}
        exec(compile(source, str(file), "exec"), scope)
        return scope["unit"]

    assert experiments.unit_key(make(2), {"n": 1}, 0) != experiments.unit_key(make(3), {"n": 1}, 0)


def test_a_result_that_json_cannot_hold_is_an_error_that_names_its_type(tmp_path):
    def bad(n, seed):
        return {"out": object()}

    with pytest.raises(TypeError, match="plain values, not object"):
        sweep(bad, grid(n=[1]), store=tmp_path / "s.jsonl")


def test_provenance_names_no_place_of_the_machine():
    text = json.dumps(experiments.provenance("prunequant verify"))
    assert "/" not in text.replace("prunequant verify", "")
