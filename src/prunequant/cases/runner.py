"""Case studies: presets, paired seeds, a record with provenance, and a killed run that goes on where it stopped.

A case is a grid of work units, each a pure function of settings, parameters and a seed. `run_case` runs every unit for
every seed, seed by seed, keeps each finished row at once in a folder beside the record, and writes the record when
all rows are there. The folder also holds the checkpoints of the units; it is removed when the record stands. One run at
a time may use it. Every row of a record carries a key, which says what the row answers for, and a checksum.
"""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from prunequant import arguments, records
from prunequant.experiments import Store, checksum, plain, processes, unit_key, workplace
from prunequant.extras import need
from prunequant.records import processor, provenance, write_json
from prunequant.threads import using

CASES = (
    "lsq-against-pruning",
    "order-in-a-language-model",
    "paths-in-a-language-model",
    "hardware",
    "pareto",
)  # the folder of each has its name, with underscores
MAX_JOBS = 61
FIELDS = ("case", "preset", "settings", "seeds", "device", "provenance", "summary", "rows", "keys", "checks")


@dataclass(frozen=True)
class Run:
    """What a work unit may use beside its parameters."""

    device: str  # "cpu", "cuda", "cuda:1"
    data: Path | None  # folder of data sets the reader has
    scratch: Path  # checkpoints and shared bases; kept until the record is written
    progress: Callable[[str, int, int], None]  # inside a unit: what, step, steps


def _all(settings: Mapping, unit: Mapping) -> Mapping:
    return settings


@dataclass(frozen=True)
class Case:
    """A case study: its presets, its work units, the function that runs one, the summary of all rows.

    `run` is given what `relevant` leaves of the settings, and a finished row answers for every run in which that and
    the unit are the same: a study that grows by a format or a size costs only what is new.
    """

    name: str
    title: str
    presets: Mapping[str, Mapping[str, object]]  # "ci", "cpu", "gpu" → plain settings, "seeds" among them
    units: Callable[[Mapping], list[dict]]
    run: Callable[[Mapping, Mapping, int, Run], Mapping]
    summarise: Callable[[Mapping, list[dict]], dict]
    relevant: Callable[[Mapping, Mapping], Mapping] = _all  # the settings that one unit's row depends on
    version: int = 1  # raised by the author when the rows may change: no row of an earlier version is used again
    timed: bool = False  # its rows are times: nothing may run beside it
    apart: bool = False  # units of one seed may run side by side: what they share is made once, under a lock


class Unfinished(RuntimeError):
    """A run stopped before its last unit; what it finished is kept."""

    def __init__(self, done: int, total: int, why: str) -> None:
        super().__init__(f"{why}: {done} of {total} units are done and kept; run it again with --resume to go on")
        self.done, self.total = done, total


def load(name: str) -> Case:
    """The case of that name.

    Raises
    ------
    TypeError : the name is no string.
    ValueError : there is none; the message lists those there are.
    """
    _check_name(name)
    return import_module(f"{__package__}.{name.replace('-', '_')}.case").CASE


def _check_name(name: str) -> None:
    arguments.instance(name, "name", str, f"the name of a case, such as {CASES[0]!r}")
    if name not in CASES:
        raise ValueError(f"no case has the name {name!r}; the cases are {', '.join(CASES)}")


def describe(device: str) -> dict[str, object]:
    """Kind, name and threads of a device that exists here, as a record says them.

    Raises
    ------
    ValueError : torch does not know the device, or this machine has none.
    """
    need("torch")
    import torch

    from prunequant.finetune.training import check_device

    torch_device = check_device(device)
    name = torch.cuda.get_device_name(torch_device) if torch_device.type == "cuda" else processor()
    return {"kind": torch_device.type, "name": name, "threads": torch.get_num_threads()}


def run_case(
    name: str,
    preset: str = "cpu",
    *,
    seeds: int | None = None,
    device: str | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    data: str | os.PathLike | None = None,
    limit: float | None = None,
    threads: int | None = None,
    jobs: int = 1,
    settings: Mapping[str, object] | None = None,
    progress: Callable[[int, int], None] | None = None,
    unit_progress: Callable[[str, int, int], None] | None = None,
) -> dict:
    """Run a case and return its record; with `out` also write it.

    Parameters
    ----------
    name, preset : which case, and "ci" (seconds), "cpu" (minutes) or "gpu".
    seeds : seeds 0 … seeds − 1, in [1, 10000]; the preset's number unless said.
    device : "cpu", "cuda", "cuda:N"; "cuda" for presets whose names begin with gpu, else "cpu", unless said.
    out : where the record goes. Rows and checkpoints lie in the folder `OUT.partial` until it is written.
    resume : go on with what `OUT.partial` and the record at `out` hold; without it they must not exist. Rows of an
        earlier version of the case, and of other settings, are not used.
    data : folder of data sets that are at hand.
    limit : seconds from 0 on after which no further unit is begun (for machines lent for minutes); then `Unfinished`.
    threads : torch threads on the CPU, in [1, 1024], of each process; 1 for the preset ci, else all cores, unless said.
    jobs : processes, in [1, 61]: seeds, and the models of a seed where units name one, run side by side; in a case
        whose units may, the units of a seed too. Results do not depend on it. A case that measures times takes 1 alone.
    settings : replaces single settings of the preset; the record says what was used.
    progress, unit_progress : called with (units done, units) and with (what, step, steps) inside a unit; the second
        by one process only.

    Raises
    ------
    TypeError : an argument of the wrong kind.
    ValueError : unknown case, preset or device; settings the preset does not have; a damaged or edited record or store.
    FileExistsError : `out` or its partial folder exists and `resume` is not set.
    BlockingIOError : another process is at work on the same record.
    Unfinished : the limit was reached, or a file could not be written; finished rows are kept.
    """
    case = load(name)
    if arguments.instance(preset, "preset", str, "a string") not in case.presets:
        raise ValueError(f"no preset {preset!r}; the presets are {', '.join(case.presets)}")
    arguments.instance(settings or {}, "settings", Mapping, "a mapping of settings by name")
    resume = arguments.flag(resume, "resume")
    limit = None if limit is None else arguments.real(limit, "limit", 0)
    threads = None if threads is None else arguments.integer(threads, "threads", 1, 1024)
    jobs = arguments.integer(jobs, "jobs", 1, MAX_JOBS)
    if jobs > 1 and case.timed:
        raise ValueError(f"jobs is {jobs}, but the case {name} measures times: it must be 1")
    used = dict(case.presets[preset])
    unknown = set(settings or {}) - set(used)
    if unknown:
        strange = ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"case {name} has no setting {strange}; it has {', '.join(used)}")
    used.update(settings or {})
    count = arguments.integer(used["seeds"] if seeds is None else seeds, "seeds", 1, 10_000)
    used.pop("seeds", None)
    if data is not None and not Path(data).is_dir():
        raise ValueError(f"the data folder {os.fspath(data)} is not there")
    device = device or _usual(preset)
    describe(device)
    chosen = threads
    if threads is None:
        threads = 1 if preset == "ci" else None if device != "cpu" else max(1, (os.cpu_count() or 1) // jobs)
    used = json.loads(json.dumps(used))
    with using(torch=threads), workplace(out, resume) as folder:
        about = describe(device)
        store = Store(folder / "rows.jsonl")
        before = read_record(out) if out is not None and Path(out).exists() else None
        todo = [(_key(case, used, unit, seed, about), unit, seed) for seed in range(count) for unit in case.units(used)]
        if before and out is not None and before["case"] != name:
            raise ValueError(f"{os.fspath(out)} is a record of the case {before['case']}: give another --out")
        if before:
            _adopt(before, {key for key, _, _ in todo}, store)
        finished = sum(key in store for key, _, _ in todo)
        run = Run(
            device, None if data is None else Path(data), folder, unit_progress or (lambda what, step, steps: None)
        )
        if jobs == 1:
            rows = _rows(case, used, todo, run, store, limit, progress)
        else:
            rows = _side_by_side(case, used, todo, run, store, limit, progress, jobs, threads)
        record = {
            "case": name,
            "preset": preset,
            "settings": used,
            "seeds": count,
            "device": about,
            "provenance": provenance(
                _command(name, preset, count, device, chosen), seconds=round(sum(row["seconds"] for row in rows))
            )
            | _note(finished, len(rows), before),
            "summary": case.summarise(used, rows),
            "rows": rows,
            "keys": [key for key, _, _ in todo],
        }
        record = json.loads(json.dumps(record, default=plain))
        record["checks"] = [checksum(key, row) for key, row in zip(record["keys"], record["rows"])]
        if out is not None:
            try:
                write_json(out, record)
            except OSError as error:
                raise Unfinished(len(rows), len(rows), f"{out} could not be written ({error.strerror})") from None
    return record


def read_record(path: str | os.PathLike) -> dict:
    """A record that `run_case` wrote.

    Raises
    ------
    FileNotFoundError : it is not there.
    ValueError : it is damaged, or no record of a case, or a row is not the one that its run wrote; the message names
        the file and the row.
    """
    path = os.fspath(arguments.instance(path, "path", (str, os.PathLike), "the path of a record"))
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        rows, keys = record["rows"], record["keys"]
        if record["case"] not in CASES or len(rows) != len(keys) or not all("seed" in row for row in rows):
            raise ValueError("its rows do not fit its keys")
        missing = [field for field in FIELDS if field not in record]
        if missing == ["checks"]:
            raise ValueError("its rows have no checksums: it was written by an earlier version, and is made anew")
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        checks = record["checks"]
        if len(checks) != len(rows):
            raise ValueError("its rows do not fit its checksums")
        for number, (key, row, check) in enumerate(zip(keys, rows, checks), start=1):
            if check != checksum(key, row):
                raise ValueError(f"row {number} of {len(rows)} does not match its checksum: it was changed")
    except FileNotFoundError:
        raise FileNotFoundError(f"no record {path}; prunequant case writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no record of a case ({error!r})") from None
    return record


def recorded(name: str, preset: str = "cpu") -> dict:
    """The record that the book shows: `case_NAME_PRESET.json`, where `prunequant.records` finds it.

    Raises
    ------
    TypeError, ValueError : no name of a case.
    FileNotFoundError : there is none, neither in `$PRUNEQUANT_RECORDS` nor among those that ship.
    """
    _check_name(name)
    arguments.instance(preset, "preset", str, "the name of a preset, such as 'cpu'")
    return read_record(records.find(f"case_{name.replace('-', '_')}_{preset}.json"))


def measured(record: Mapping) -> str:
    """When, where and how a record was made, in lines of at most 72 characters; for the page that shows it.

    Examples
    --------
    >>> made = {"date": "2026-11-22", "seconds": 3909, "command": "prunequant case hardware --preset cpu"}
    >>> device = {"kind": "cpu", "name": "a processor", "threads": 1}
    >>> print(measured({"provenance": made, "device": device, "seeds": 5}))
    measured on 2026-11-22 on a processor, threads: 1, seeds: 5, 3,909 s, by
      prunequant case hardware --preset cpu
    """
    arguments.instance(record, "record", Mapping, "a record, as read_record returns it")
    if absent := [field for field in ("provenance", "device", "seeds") if field not in record]:
        raise ValueError(f"record lacks {', '.join(absent)}: it must be one that read_record returns")
    provenance, device = record["provenance"], record["device"]
    head = (
        f"measured on {provenance['date']} on {device['name']}, threads: {device['threads']}, "
        f"seeds: {record['seeds']}, {provenance['seconds']:,} s, by"
    )
    command = textwrap.wrap(provenance["command"], 70, break_long_words=False, break_on_hyphens=False)
    lines = [*textwrap.wrap(head, 72), "  " + " \\\n    ".join(command)]
    return "\n".join([*lines, *textwrap.wrap(provenance.get("note", ""), 72)])


def on_a_gpu(name: str) -> str:
    """When and where the GPU record of a case was made; where there is none, that there is none and what makes it.

    Raises
    ------
    TypeError, ValueError : no name of a case.
    """
    try:
        return measured(recorded(name, "gpu"))
    except FileNotFoundError:
        out = f"book/results/case_{name.replace('-', '_')}_gpu.json"
        return (
            "No GPU record exists yet. The command that makes one:\n"
            f"  prunequant case {name} --preset gpu \\\n    --limit 420 --resume \\\n    --out {out}"
        )


def _key(case: Case, settings: Mapping, unit: Mapping, seed: int, device: Mapping) -> str:
    """The key of a row: a hash of the case and its version, the unit, the settings it depends on, seed, kind of device.

    The code is not hashed: rows outlive a move of the module, and a change of results is the author's to declare.
    """
    known = {"unit": unit, "settings": case.relevant(settings, unit), "kind": device["kind"]}
    return unit_key(case.name, case.version, known, seed)


def _adopt(record: dict, wanted: set[str], store: Store) -> None:
    """Take the rows of a finished record that are still wanted, so that more seeds or units cost only themselves.

    They are not written again: the record stands until another one takes its place, whole.
    """
    for key, row in zip(record["keys"], record["rows"]):
        if key in wanted:
            store.rows.setdefault(key, row)


def _note(finished: int, total: int, before: Mapping | None) -> dict[str, str]:
    """What the provenance says of rows that this run did not make, after what the record said before."""
    said = (before or {}).get("provenance", {}).get("note", "")
    added = f"{finished} of {total} rows were kept from earlier runs." if 0 < finished < total else ""
    note = " ".join(filter(None, (said, added)))
    return {"note": note} if note else {}


def _usual(preset: str) -> str:
    """The device of a preset: those for a GPU are named so."""
    return "cuda" if preset.startswith("gpu") else "cpu"


def _command(name: str, preset: str, seeds: int, device: str, threads: int | None) -> str:
    where = "" if device == _usual(preset) else f" --device {device}"
    cores = "" if threads is None else f" --threads {threads}"
    return f"prunequant case {name} --preset {preset} --seeds {seeds}{where}{cores}"


def _rows(case: Case, settings: Mapping, todo: list, run: Run, store: Store, limit, progress) -> list[dict]:
    """All rows, seed by seed; those in the store are not run again."""
    start = time.perf_counter()
    for done, (key, unit, seed) in enumerate(todo):
        if key not in store:
            if limit is not None and time.perf_counter() - start > limit:
                raise Unfinished(done, len(todo), f"the limit of {limit:g} s is reached")
            began = time.perf_counter()
            result = json.loads(
                json.dumps(dict(case.run(case.relevant(settings, unit), unit, seed, run)), default=plain)
            )
            row = {**unit, "seed": seed, **result, "seconds": round(time.perf_counter() - began, 2)}
            try:
                store.add(key, row)
            except OSError as error:
                raise Unfinished(done, len(todo), f"{store.path} could not be written ({error.strerror})") from None
        if progress is not None:
            progress(done + 1, len(todo))
    return [store.rows[key] for key, _, _ in todo]


def _side_by_side(
    case: Case, settings: Mapping, todo: list, run: Run, store: Store, limit, progress, jobs: int, threads: int | None
) -> list[dict]:
    """All rows, in their order, from processes that each take a seed (and a model) and add to the store."""
    groups: dict[tuple, list] = {}
    for key, unit, seed in todo:
        if key not in store:
            groups.setdefault((seed, unit.get("model")), []).append((key, unit, seed))
    shares = list(groups.values())
    if case.apart:
        parts = max(1, jobs // max(1, len(groups)))
        shares = [share for group in shares for i in range(parts) if (share := group[i::parts])]
    until = None if limit is None else time.time() + limit
    where = run.device, run.data, run.scratch
    with processes(min(jobs, max(1, len(shares)))) as pool:
        waiting = {pool.submit(_share, case.name, settings, share, *where, until, threads) for share in shares}
        while True:
            finished, waiting = wait(waiting, timeout=1)
            for each in finished:
                each.result()
            store.refresh()
            done = sum(key in store for key, *_ in todo)
            if progress is not None:
                progress(done, len(todo))
            if not waiting:
                break
    if done < len(todo):
        raise Unfinished(done, len(todo), f"the limit of {limit:g} s is reached")
    return [store.rows[key] for key, _, _ in todo]


def _share(name: str, settings: Mapping, todo: list, device: str, data, scratch: Path, until, threads) -> None:
    """What one process does: the units of a group, each added to the store of the run."""
    limit = None if until is None else until - time.time()
    with using(torch=threads):
        try:
            run = Run(device, data, scratch, lambda what, step, steps: None)
            _rows(load(name), settings, todo, run, Store(scratch / "rows.jsonl"), limit, None)
        except Unfinished:
            if until is None:  # the disk, not the clock
                raise OSError(f"a row could not be written to {scratch / 'rows.jsonl'}") from None
