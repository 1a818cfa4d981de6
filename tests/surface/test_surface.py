"""Every public callable, every parameter, a sample of the catalogue of values; the whole is `make surface`.

A fault is mended in the library, never excused here. `python -m tests.surface --only formats.Integer --all` shows
every value of one callable.
"""

import importlib
import json
from contextlib import contextmanager
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from surface import calls, judge, run, values, walk

pytest.importorskip("resource", reason="limits of time and memory of a process need POSIX")

LIMIT = 5.0  # seconds of processor time a call may take before its process is ended
SAMPLE = (2, 20251125)  # values for each parameter, and the seed that draws them
ROOMS = walk.rooms()


@cache
def outcomes() -> list[dict]:
    return run.run(run.tasks(LIMIT, SAMPLE))


def of(room: str) -> list[dict]:
    return [row for row in outcomes() if row["target"].split(".")[0] == room]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_callable_has_a_canonical_call(room):
    missing = run.without_a_call(of(room))
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("room", ROOMS)
def test_every_value_is_taken_as_it_is_meant_or_refused_by_name(room):
    rows = of(room)
    lines = run.faults(rows)
    assert rows and not lines, f"{len(lines)} faults, each with its values and first message:\n" + "\n".join(lines)


def test_every_room_is_walked_or_stays_outside_for_a_reason():
    walked = {target.room for target in walk.targets()}
    assert walked == set(ROOMS) and not walked & set(walk.OUTSIDE) and all(walk.OUTSIDE.values())


def test_what_stays_outside_is_there_and_says_why():
    for path, why in walk.OUTSIDE.items():
        module, _, name = f"prunequant.{path}".rpartition(".")
        assert why and walk.named(importlib.import_module(module), name), path


def test_constructors_that_are_not_tried_are_called_by_a_function_that_is():
    known = {(target.name, target.kind) for target in walk.targets()}
    for handle, maker in calls.HANDLES.items():
        assert (handle, "constructor") in known
        assert (maker, "function") in known or any(maker.startswith(outside) for outside in walk.OUTSIDE)


def test_what_a_room_offers_when_it_is_asked_for_is_walked_and_so_are_the_modules_of_its_folder(tmp_path, monkeypatch):
    folder = tmp_path / "offering"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import json\n\ndef __getattr__(name):\n    if name == 'made':\n        return len\n"
        "    raise AttributeError(name)\n\n"
        "def __dir__():\n    return ['json', 'made', 'other']\n"
    )
    (folder / "other.py").write_text("def found():\n    pass\n\ndef _hidden():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("offering")
    assert walk._names(module) == ["made", "other"]
    assert walk._names(importlib.import_module("offering.other")) == ["found"]
    assert {"models.compress", "models.compare_outputs", "models.input_grams", "threads.using"} <= {
        target.name for target in walk.targets()
    }


def test_the_work_of_a_context_begins_when_it_is_entered():
    @contextmanager
    def entered(bits):
        yield guarded(bits)

    assert judged(entered, "bits", lambda: 4, "uint8 twin").kind == "accepted"
    assert judged(entered, "bits", lambda: 4, "'x'").kind == "refused"


def test_the_record_covers_every_room_and_holds_no_fault():
    kept = json.loads(run.RECORD.read_text(encoding="utf-8"))
    assert set(kept["rooms"]) == {target.room for target in walk.targets()}
    varied = {target.room for target in walk.targets() if calls.varied(target)}
    for room, row in {**kept["rooms"], "all": kept["total"]}.items():
        assert row["calls"] == sum(row[kind] for kind in kept["columns"][1:])
        assert not any(row[fault] for fault in ("foreign", "hang", "death", "wrong")), room
        assert (row["calls"] > 0) == (room in varied or room == "all")
    assert all(row["measured"]["command"] and row["measured"]["date"] for row in kept["rooms"].values())


def test_what_calls_names_exists():
    known = {target.name: target for target in walk.targets()}
    for table in (calls.CALLS, calls.ONLY, calls.EXPERIMENTS, calls.SEPARATE):
        assert set(table) <= set(known), f"no such callable: {sorted(set(table) - set(known))}"
    owners = {name.rsplit(".", 1)[0] for name in known}
    assert set(calls.INSTANCES) <= owners, f"no such class: {sorted(set(calls.INSTANCES) - owners)}"


# The machinery itself, on a room of its own: each kind of fault is seen as what it is.


def scaled(x: "np.ndarray", bits: "int" = 4) -> object:
    return np.asarray(x) * 2**bits


def guarded(bits: "int") -> int:
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer):
        raise TypeError(f"bits is {bits!r}: it must be an integer")
    if not 0 <= bits <= 8:
        raise ValueError("out of range")
    return int(bits)


def indexed(bits: "int") -> int:
    return range(5)[bits]


def judged(function, name, canonical, label):
    from contextlib import nullcontext

    target = walk.Target("tried", f"tried.{function.__name__}", function)
    calls.CALLS[target.name] = {"x": lambda: np.ones(3), name: canonical}
    case = next(c for c in values.catalogue(target.parameters[name], canonical()) if c.label == label)
    try:
        reference = judge.run(target, name)[0][:-1]
        return judge.judge(target, name, case, reference, nullcontext)
    finally:
        del calls.CALLS[target.name]


@pytest.mark.parametrize(
    ("function", "label", "kind"),
    [
        (guarded, "uint8 twin", "accepted"),
        (guarded, "'x'", "refused"),
        (guarded, "2**31", "unnamed"),
        (scaled, "float twin", "lax"),
        (scaled, "'x'", "unnamed"),
        (indexed, "100", "foreign"),
        (scaled, "nan", "lax"),
        (scaled, "0-d int64 twin", "accepted"),
    ],
)
def test_an_outcome_is_called_what_it_is(function, label, kind):
    outcome = judged(function, "bits", lambda: 4, label)
    assert outcome.kind == kind, outcome


def test_a_width_that_wraps_around_is_a_wrong_result():
    assert judged(scaled, "bits", lambda: 8, "uint8 twin").kind == "wrong"
    assert judged(guarded, "bits", lambda: 8, "uint8 twin").kind == "accepted"


def test_the_caller_s_array_is_watched():
    def zeroing(x):
        if x[0] == 1:
            x[...] = 0

    outcome = judged(zeroing, "x", lambda: np.full(3, 2.0), "ones")
    assert outcome.kind == "wrong" and outcome.detail == "x is changed by the call"


def test_every_memory_order_of_an_array_is_the_same_array():
    target = walk.Target("tried", "tried.scaled", scaled)
    a = np.arange(6.0).reshape(2, 3) / 8
    cases = {case.label: case for case in values.catalogue(target.parameters["x"], a)}
    for label in ("Fortran order", "strided", "negative strides", "read-only", "byte-swapped", "memmap", "unaligned"):
        assert cases[label].same and np.array_equal(cases[label].make(), a)
    assert not cases["read-only"].make().flags.writeable and not cases["strided"].make().flags.c_contiguous
    assert cases["masked values"].barred and not cases["as int8"].same


def test_no_value_of_the_tensor_of_formats_lies_halfway_between_two_codes():
    x = calls.tensor()
    for part in (x, *x, *x.reshape(-1, 8)):  # 4 bits for the whole, a row, a block
        largest = Fraction(np.abs(part).max())
        assert not [v for v in part.flat if (2 * 7 * Fraction(v) / largest) % 2 == 1]


def test_no_keys_at_all_are_no_fault_of_the_function_that_takes_any_number():
    rows = run.run([{"target": "random.generator", "parameter": "keys", "limit": 5.0, "sample": None}])
    assert [row["kind"] for row in rows if row["case"] == "()"] == ["accepted"]


def test_a_process_that_died_is_started_anew_and_its_cases_go_on():
    worker = run.Worker()
    try:
        task = {"target": "random.generator", "parameter": "seed", "limit": 5.0, "sample": (3, 0)}
        first = worker.run(task)
        worker.process.kill()
        worker.process.wait()
        second = worker.run(task)
    finally:
        worker.stop()
    assert [row["case"] for row in second if row["kind"] != "death"] == [row["case"] for row in first]
