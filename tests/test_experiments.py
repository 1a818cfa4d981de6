"""Sweeps resume, count nothing twice and give the same rows on every executor."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from prunequant import records
from prunequant.experiments import Store, alone, grid, processes, sweep


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


@pytest.mark.parametrize(
    "line", ['{"nonsense": 1}', "", "[]", "3", '{"key": ["a"], "row": {}, "check": "b"}', "[" * 9999]
)
def test_a_damaged_line_is_an_error_that_names_file_and_line(tmp_path, line):
    place = tmp_path / "s.jsonl"
    Store(place).add("a", {})
    with place.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"s\.jsonl, line 2"):
        Store(place)


def test_a_store_from_before_there_were_checksums_is_refused_by_name(tmp_path):
    place = tmp_path / "s.jsonl"
    place.write_text('{"key": "a", "row": {}}\n')
    with pytest.raises(ValueError, match=r"s\.jsonl, line 1.*no checksum"):
        Store(place)


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_and_processes_give_the_rows_of_a_plain_loop(workers):
    plain = sweep(draw, grid(n=[5, 6]), seeds=range(3))
    with ThreadPoolExecutor(workers) as executor:
        assert sweep(draw, grid(n=[5, 6]), seeds=range(3), executor=executor) == plain
    with processes(workers) as executor:
        assert sweep(draw, grid(n=[5, 6]), seeds=range(3), executor=executor) == plain


EXECUTORS = """
    import sys
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context
    import numba, numpy as np
    from prunequant import formats
    from prunequant.experiments import grid, processes, sweep

    def unit(n, seed):
        x = np.random.default_rng(seed).normal(size=(n, 500)).astype(np.float32)
        return {"sum": float(formats.Integer(4).quantize(x).sum(dtype=float))}

    def rows(executor=None):
        return sweep(unit, grid(n=[200, 300, 400]), range(4), executor=executor)

    def pools():
        yield "threads", ThreadPoolExecutor(3)
        yield "processes", processes(2)
        for method in ("spawn", "forkserver"):
            yield method, ProcessPoolExecutor(2, mp_context=get_context(method))
        yield "fork", ProcessPoolExecutor(2, mp_context=get_context("fork"))

    if __name__ == "__main__":
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as early:
            before = rows(early)  # no kernel has run here yet
            plain = rows()
            assert before == plain == rows(early), "fork, its processes made before the first kernel"
        assert numba.threading_layer() == sys.argv[1]
        for name, pool in pools():
            with pool:
                try:
                    print(name, rows(pool) == plain)
                except ValueError as error:
                    print(name, error)
        from dask import distributed
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=3, processes=False, dashboard_address=None, local_directory=sys.argv[2]
        ) as cluster, distributed.Client(cluster) as client:
            print("dask", rows(client.get_executor()) == plain)
"""


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_parallel_kernels_run_under_every_executor_or_it_is_refused_by_name(tmp_path, layer):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(EXECUTORS))
    there = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, script, layer, tmp_path], capture_output=True, text=True, env=there)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    if layer == "omp":
        assert "executor copies this process" in said["fork"] and "processes(jobs)" in said.pop("fork")
    assert said and set(said.values()) == {"True"}, said


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
        sweep(unit, grid(n=[1, 2, 3, 4]), store={str(place)!r}, name="unit")
    """)
    script = tmp_path / "run.py"
    script.write_text(code)
    assert subprocess.run([sys.executable, script]).returncode == 9
    assert len(place.read_text().splitlines()) == 2
    (tmp_path / "second").touch()
    assert subprocess.run([sys.executable, script]).returncode == 0
    rows = [json.loads(line)["row"]["n"] for line in place.read_text().splitlines()]
    assert rows == [1, 2, 3, 4]


def test_a_raised_version_and_another_name_run_every_unit_anew(tmp_path):
    place = tmp_path / "s.jsonl"
    calls.clear()
    sweep(counted, grid(n=[1, 2]), store=place)
    sweep(counted, grid(n=[1, 2]), store=place)
    assert len(calls) == 2
    sweep(counted, grid(n=[1, 2]), store=place, version=2)
    assert len(calls) == 4
    sweep(counted, grid(n=[1, 2]), store=place, name="another")
    assert len(calls) == 6 and len(Store(place).rows) == 6
    sweep(counted, grid(n=[1, 2]), store=place, version=np.uint8(2))
    sweep(counted, grid(n=[1, 2]), store=place, name=f"{__name__}.counted")  # its name by default
    assert len(calls) == 6


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def unit(self, n, seed):
        return {"v": self.factor * n}

    __call__ = unit


def scaled(factor):
    def unit(n, seed):
        return {"v": factor * n}

    return unit


@pytest.mark.parametrize(
    "function",
    [
        scaled(2),
        lambda n, seed: {"v": n},
        functools.partial(counted, n=3),
        Scaled(2).unit,
        Scaled(2),
        functools.lru_cache(counted),
    ],
    ids=["closure", "lambda", "partial", "method", "callable object", "wrapped object"],
)
def test_a_function_without_a_lasting_name_needs_one_for_a_store(tmp_path, function):
    with pytest.raises(ValueError, match=r"lasting name for .*give name="):
        sweep(function, grid(n=[5]), store=tmp_path / "s.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_name_tells_closures_apart_and_keeps_their_rows(tmp_path):
    place = tmp_path / "s.jsonl"
    for factor in (1, 2, 1):
        rows = sweep(scaled(factor), [{"n": 5}], store=place, name=f"scaled by {factor}")
        assert rows[0]["v"] == 5 * factor
    assert len(Store(place).rows) == 2


def test_a_function_of_a_script_needs_a_name_for_a_store(tmp_path):
    code = "from prunequant.experiments import sweep\n" + textwrap.dedent(f"""
        def unit(n, seed):
            return {{"n2": n * n}}
        print(sweep(unit, [{{"n": 3}}]))
        sweep(unit, [{{"n": 3}}], store={str(tmp_path / "s.jsonl")!r})
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'n2': 9" in done.stdout and "lasting name for unit" in done.stderr


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"seeds": [0.5]}, TypeError, r"seeds\[0\] is 0.5: it must be an integer"),
        ({"seeds": [True]}, TypeError, r"seeds\[0\] is True"),
        ({"seeds": [1, 2**64]}, ValueError, r"seeds\[1\] is 18446744073709551616: it must be an integer in"),
        ({"seeds": 3}, TypeError, "seeds is 3: it must be a sequence"),
        ({"seeds": "12"}, TypeError, "seeds is '12'"),
        ({"grid": "ab"}, TypeError, "grid is 'ab'"),
        ({"grid": {"n": 1}}, TypeError, "grid is"),
        ({"grid": [3]}, TypeError, "a parameter set of the grid is 3"),
        ({"grid": [{"seed": 1}]}, ValueError, "parameter 'seed'"),
        ({"grid": [{"n": {1: 2}}]}, TypeError, "the name 1 of a parameter is not a string"),
        ({"grid": [{"n": object()}]}, TypeError, "plain values, not object"),
        ({"function": None}, TypeError, "function is None"),
        ({"executor": 2}, TypeError, "executor is 2"),
        ({"progress": 2}, TypeError, "progress is 2"),
        ({"store": 2}, TypeError, "store is 2"),
        ({"name": 2}, TypeError, "name is 2"),
        ({"version": 0}, ValueError, "version is 0"),
        ({"version": 1.0}, TypeError, "version is 1.0"),
    ],
)
def test_bad_input_is_refused_by_name_before_any_work(given, error, message):
    calls.clear()
    with pytest.raises(error, match=message):
        sweep(**{"function": counted, "grid": [{"n": 1}], **given})
    assert calls == []


@pytest.mark.parametrize("axis", [5, "abc", None, np.float64(3)])
def test_an_axis_of_a_grid_is_a_sequence(axis):
    with pytest.raises(TypeError, match=r"n is .*: it must be a sequence of values"):
        grid(n=axis)


def test_a_grid_too_large_is_refused_at_once():
    with pytest.raises(ValueError, match="combinations: at most 10000000"):
        grid(a=range(10**4), b=range(10**4))
    with pytest.raises(ValueError, match="units"):
        sweep(counted, grid(n=range(10**4)), seeds=range(10**4))


def test_a_result_that_is_no_mapping_is_an_error_that_names_the_function():
    with pytest.raises(TypeError, match=r"lambda.* returned None: it must return a mapping"):
        sweep(lambda n, seed: None, grid(n=[1]))


def test_the_rows_that_are_returned_belong_to_the_caller(tmp_path):
    store = Store(tmp_path / "s.jsonl")
    first = sweep(draw, grid(n=[5]), store=store)
    first[0]["mean"] = None
    again = sweep(draw, grid(n=[5, 5]), store=store)
    assert again[0] == again[1] and again[0]["mean"] is not None and again[0] is not again[1]


def test_every_flipped_bit_is_named_or_harmless(tmp_path):
    place = tmp_path / "s.jsonl"
    rows = sweep(draw, grid(n=[5]), seeds=range(3), store=place)
    good = Store(place).rows
    data = place.read_bytes()
    named = 0
    for bit in range(0, 8 * len(data), 7):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        place.write_bytes(damaged)
        try:
            found = Store(place).rows
        except ValueError as error:
            assert re.search(r"s\.jsonl, line \d", str(error))
            named += 1
        else:
            assert found.items() <= good.items()
    assert named > len(data)  # of 8/7 flips a byte
    assert len(rows) == 3


def test_swapped_and_edited_rows_are_named(tmp_path):
    place = tmp_path / "s.jsonl"
    sweep(counted, grid(n=[1, 2]), store=place)
    one, two = map(json.loads, place.read_text().splitlines())
    for first, second, line in (
        ({**one, "row": two["row"]}, {**two, "row": one["row"]}, 1),
        ({**one, "key": two["key"]}, {**two, "key": one["key"]}, 1),
        (one, {**two, "row": {**two["row"], "n2": 5}}, 2),
        (one, {"key": two["key"], "row": two["row"]}, 2),
    ):
        place.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
        with pytest.raises(ValueError, match=rf"s\.jsonl, line {line}: not a stored work unit .*checksum"):
            Store(place)


def test_a_reader_leaves_a_line_that_another_process_is_writing(tmp_path):
    place = tmp_path / "s.jsonl"
    Store(place).add("a", {"n": 1})
    data = place.read_bytes()
    place.write_bytes(data + data[:20])
    assert Store(place).rows == {"a": {"n": 1}} and place.read_bytes() == data + data[:20]


def test_a_store_takes_what_another_one_has_added_to_its_file(tmp_path):
    one, other = Store(tmp_path / "units.jsonl"), Store(tmp_path / "units.jsonl")
    one.refresh()  # no file yet
    other.add("a", {"n": 1})
    assert "a" not in one
    one.refresh()
    one.refresh()
    assert one.rows == {"a": {"n": 1}}
    with (tmp_path / "units.jsonl").open("a") as file:
        file.write('{"key": "b", "row"')  # another process is writing
    one.refresh()
    assert list(one.rows) == ["a"]


def test_two_stores_of_one_file_keep_what_either_adds(tmp_path):
    one, two = Store(tmp_path / "s.jsonl"), Store(tmp_path / "s.jsonl")
    one.add("a", {"n": 1})
    two.add("b", {"n": 2})
    one.add("b", {"n": 3})  # finished there first
    one.add("c", {"n": 4})
    assert one.rows == Store(tmp_path / "s.jsonl").rows == {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 4}}
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 3


WRITER = """
    import sys
    from prunequant.experiments import Store
    store = Store(sys.argv[1])
    for n in range(12):
        store.add(f"{sys.argv[2]} {n}", {"text": sys.argv[2] * 300_000})
        Store(sys.argv[1])
    store.add("both", {"n": 1})
"""


def test_processes_that_fill_one_store_with_large_rows_lose_nothing(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(WRITER))
    running = [subprocess.Popen([sys.executable, script, tmp_path / "s.jsonl", name]) for name in "xyz"]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(Store(tmp_path / "s.jsonl").rows) == 3 * 12 + 1
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 3 * 12 + 1


def test_a_full_disk_leaves_a_store_that_goes_on(tmp_path):
    place = tmp_path / "s.jsonl"
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import resource, signal
        from prunequant.experiments import Store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = Store({str(place)!r})
        store.add("a", {{"n": 1}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        try:
            store.add("b", {{"text": "x" * 5000}})
        except OSError as error:
            print(type(error).__name__)
        assert "b" not in store
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.add("c", {{"n": 3}})
        store.add("b", {{"text": "x"}})
    """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "OSError\n"
    assert Store(place).rows == {"a": {"n": 1}, "c": {"n": 3}, "b": {"text": "x"}}


def test_an_error_of_one_unit_cancels_the_rest_and_keeps_what_was_finished(tmp_path):
    store = Store(tmp_path / "s.jsonl")
    begun, second = [], threading.Event()

    def unit(n, seed):
        begun.append(n)
        if n == 0:
            second.wait()
            raise RuntimeError("broken")
        if n == 1:
            return {"n2": 1}
        second.set()
        time.sleep(0.2)
        return {"n2": n * n}

    with ThreadPoolExecutor(2) as pool, pytest.raises(RuntimeError, match="broken"):
        sweep(unit, grid(n=range(50)), executor=pool, store=store, name="unit")
    assert len(begun) < 10
    assert 1 in [row["n"] for row in Store(store.path).rows.values()]


KILLED = """
    import os, signal, sys, time
    from prunequant.experiments import grid, processes, sweep

    def unit(n, seed):
        time.sleep(100)

    if __name__ == "__main__":
        with processes(2) as pool:
            print(*[pool.submit(os.getpid).result() for _ in range(40)], flush=True)
            sweep(unit, grid(n=range(20)), executor=pool)
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_processes_end_with_the_one_that_made_them(tmp_path, end):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(KILLED))
    running = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    workers = set(map(int, running.stdout.readline().split()))
    assert workers
    time.sleep(0.3)  # the sweep has begun
    running.send_signal(end)
    assert running.wait(timeout=20) != 0
    until = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, workers))


@pytest.mark.parametrize("jobs", [0, 62, 2.0, True])
def test_the_number_of_processes_is_checked(jobs):
    with pytest.raises((TypeError, ValueError), match="jobs is"):
        processes(jobs)


def test_a_result_that_json_cannot_hold_is_an_error_that_names_its_type(tmp_path):
    def bad(n, seed):
        return {"out": object()}

    with pytest.raises(TypeError, match="plain values, not object"):
        sweep(bad, grid(n=[1]), store=tmp_path / "s.jsonl", name="bad")


def test_provenance_names_no_place_of_the_machine():
    text = json.dumps(records.provenance("prunequant verify"))
    assert "/" not in text.replace("prunequant verify", "")


def test_a_row_or_a_place_of_the_wrong_kind_is_refused_by_name(tmp_path):
    store = Store(tmp_path / "s.jsonl")
    for row in (b"x", 3, [1], None):
        with pytest.raises(TypeError, match=r"^row is"):
            store.add("a", row)
    for place in ("", ".", ".."):
        with pytest.raises(ValueError, match=r"^path is"):
            records.write_json(place, [])
    for seeds, at in (([0, 1.5], 1), ((None,), 0)):
        with pytest.raises(TypeError, match=rf"^seeds\[{at}\] is"):
            sweep(draw, grid(n=[5]), seeds=seeds)
    store.add("wide", {"n": np.longdouble(0.5)})
    assert Store(tmp_path / "s.jsonl").rows == {"wide": {"n": 0.5}}


def test_a_block_behind_a_lock_file_is_entered_by_one_at_a_time(tmp_path):
    seen, inside = [], threading.Event()

    def second():
        inside.wait(10)
        seen.append("waits")
        with alone(tmp_path / "folder" / "made.lock"):
            seen.append("second")

    other = threading.Thread(target=second)
    other.start()
    with alone(tmp_path / "folder" / "made.lock"):
        inside.set()
        while "waits" not in seen:
            time.sleep(0.01)
        time.sleep(0.1)
        seen.append("first")
    other.join(10)
    assert seen == ["waits", "first", "second"]


@pytest.mark.parametrize(("path", "error"), [(7, TypeError), (".", ValueError)])
def test_a_lock_file_needs_a_name(path, error):
    with pytest.raises(error, match="path is"), alone(path):
        pass
