"""Call everything public with every value of the catalogue, and count what came of it, room by room.

    python -m tests.surface --all --json surface.json      all of it, on two processes
    python -m tests.surface --only formats.Integer         names that begin so
    python -m tests.surface --sample 2 --seed 7            two values a parameter, as `make test` draws them
    python -m tests.surface --all --record                 and keep the counts of each whole room in book/results

The columns: *accepted* (the same result as for the canonical argument, or another sane one), *refused* (TypeError,
ValueError or OSError, and the message names the argument), and the faults: *unnamed* (refused, without the name),
*foreign* (any other exception, numba's and NumPy's included), *slow* (more than a second of processor time), *hang*
(past the limit; after four of them a parameter's other values are left), *death* (the process ended by a signal), *lax*
(accepted, though the dialect of `prunequant.arguments` has no room for such a value: a date, a complex number, True for
a number), *wrong* (another result than for the same value in another form, than the twin's, or than sense allows).
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prunequant import records
from surface import calls, walk

RECORD = Path(__file__).resolve().parents[2] / "book" / "results" / "surface.json"

FAULTS = ("unnamed", "foreign", "slow", "hang", "death", "lax", "wrong")
WALL = 600.0  # seconds without a word after which a worker that does not use the processor is ended


PATIENCE = 4  # hangs and deaths of one parameter, after which its other values are left


class Worker:
    """One process, started anew when it dies."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.buffer = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def line(self) -> bytes | None:
        """The next line, None when the process has ended."""
        while b"\n" not in self.buffer:
            if not self.selector.select(WALL):
                self.process.kill()
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                return None
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def stop(self) -> None:
        if self.process is not None:
            self.selector.close()
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    def run(self, task: dict) -> list[dict]:
        rows: list[dict] = []
        skip: list[str] = []
        lost = 0  # processes that ended in a call
        idle = 0  # deaths before anything was called
        while True:
            if self.process is None:
                self.start()
            begun = "the start of the process"
            try:
                self.process.stdin.write(json.dumps({**task, "skip": skip}).encode() + b"\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass
            while (line := self.line()) is not None:
                said = json.loads(line)
                if "begin" in said:
                    begun = said["begin"]
                elif "case" in said:
                    rows.append({"target": task["target"], "parameter": task["parameter"], **said})
                    skip.append(said["case"])
                elif "broken" in said:
                    last = f"at {begun}: {said['broken'].splitlines()[-1]}"
                    rows.append({"target": task["target"], "parameter": task["parameter"], "case": "canonical"})
                    rows[-1] |= {"kind": "canonical", "detail": last, "seconds": 0}
                    print(f"{task}\n{said['broken']}", file=sys.stderr)
                else:
                    return rows
            code = self.process.wait()
            self.stop()
            if begun.startswith("the start") and (idle := idle + 1) < 3:
                continue
            ended = -code == signal.SIGPROF
            detail = "" if ended else signal.Signals(-code).name if code < 0 else f"exit status {code}"
            row = {"target": task["target"], "parameter": task["parameter"], "case": begun, "detail": detail}
            rows.append({**row, "kind": "hang" if ended else "death", "seconds": 0})
            skip.append(begun)
            lost += 1
            if begun == "canonical" or begun.startswith("the start") or lost == PATIENCE:
                return rows


def tasks(limit: float, sample: tuple[int, int] | None, only: Iterable[str] = ()) -> list[dict]:
    """One for each callable and parameter; without a parameter, the canonical call alone."""
    found = []
    for target in walk.targets():
        if calls.left_out(target) or (only and not target.name.startswith(tuple(only))):
            continue
        for name in (None, *calls.varied(target)):
            found.append({"target": target.name, "parameter": name, "limit": limit, "sample": sample})
    return found


def run(todo: list[dict], jobs: int = 1, loud: bool = False) -> list[dict]:
    """All outcomes of the tasks, in the order of the tasks."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for number, task in enumerate(todo):
        waiting.put((number, task))
    found: dict[int, list[dict]] = {}
    began = time.monotonic()

    def work() -> None:
        worker = Worker()
        try:
            while True:
                try:
                    number, task = waiting.get_nowait()
                except queue.Empty:
                    return
                found[number] = worker.run(task)
                if loud and len(found) % 50 == 0:
                    print(f"{len(found)} of {len(todo)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        except BaseException as error:
            broken.append(error)
        finally:
            worker.stop()

    broken: list[BaseException] = []
    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    return [row for number in sorted(found) for row in found[number]]


def table(rows: list[dict]) -> dict[str, dict[str, int]]:
    """Counts by room; the canonical calls themselves are not counted."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for row in rows:
        counts[row["target"].split(".")[0]].update()
        if row["case"] != "canonical":
            counts[row["target"].split(".")[0]][row["kind"]] += 1
            counts["all"][row["kind"]] += 1
    order = sorted(counts, key=lambda room: (room == "all", room))
    kinds = ("accepted", "refused", *FAULTS)
    return {room: {"calls": sum(counts[room].values()), **{k: counts[room][k] for k in kinds}} for room in order}


def as_text(counts: dict[str, dict[str, int]]) -> str:
    columns = ("calls", "accepted", "refused", *FAULTS)
    lines = ["| room | " + " | ".join(columns) + " |", "|:--|" + "--:|" * len(columns)]
    lines += [f"| {room} | " + " | ".join(str(row[c]) for c in columns) + " |" for room, row in counts.items()]
    return "\n".join(lines)


def faults(rows: list[dict]) -> list[str]:
    """One line for each callable, parameter and fault, with the values and the first message."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for row in rows:
        if row["kind"] in FAULTS:
            error = row["detail"].split(":")[0] if row["kind"] == "foreign" else ""
            groups[row["target"], row["parameter"], row["kind"], error].append(row)
    lines = []
    for (target, parameter, kind, _), group in sorted(groups.items(), key=lambda item: tuple(map(str, item[0]))):
        values = ", ".join(row["case"] for row in group[:5]) + (", ..." if len(group) > 5 else "")
        lines.append(f"{target}({parameter}): {kind} for {len(group)} ({values}): {group[0]['detail']}".rstrip(": "))
    return lines


def without_a_call(rows: list[dict]) -> list[str]:
    """Callables and parameters whose canonical call fails, though nothing says that it may."""
    lines = []
    for row in rows:
        name = row["target"] + (f": {row['parameter']}" if row["parameter"] else "")
        refused = row["kind"] == "canonical" and row["target"] not in calls.MAY_REFUSE and name not in calls.MAY_REFUSE
        if row["case"] == "canonical" and (refused or row["kind"] in FAULTS):
            lines.append(f"give {name} a canonical call in tests/surface/calls.py ({row['kind']}: {row['detail']})")
    return lines


def record(counts: dict[str, dict[str, int]], path: Path = RECORD) -> None:
    """Put the counts of these rooms in the place of the ones that the record has of them.

    Each room says when and on what it was run, so that rooms may be run one after the other.
    """
    rooms = json.loads(path.read_text(encoding="utf-8"))["rooms"] if path.exists() else {}
    measured = records.provenance("python -m tests.surface --all --record")
    rooms |= {room: {**row, "measured": measured} for room, row in counts.items() if room != "all"}
    columns = ("calls", "accepted", "refused", *FAULTS)
    rooms = {room: rooms[room] for room in walk.rooms() if room in rooms}
    total = {column: sum(row[column] for row in rooms.values()) for column in columns}
    records.write_json(path, {"columns": list(columns), "total": total, "rooms": rooms})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.surface", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every value (default: a sample)")
    parser.add_argument("--sample", type=int, default=2, help="values drawn for each parameter")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="beginnings of names, such as formats")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds of processor time that a call has")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, help="write the table and every fault to this file")
    parser.add_argument("--record", action="store_true", help=f"merge the counts into {RECORD.name} of book/results")
    given = parser.parse_args(arguments)
    only = {name.rstrip(".") for name in given.only}
    if given.record and not (given.all and only <= set(walk.rooms())):
        parser.error("--record needs --all, and --only none but whole rooms, such as formats.")
    if given.record:
        given.only = [f"{name}." for name in only]
    todo = tasks(given.limit, None if given.all else (given.sample, given.seed), given.only)
    rows = run(todo, given.jobs, loud=True)
    counts, lines, missing = table(rows), faults(rows), without_a_call(rows)
    print("\n".join([*missing, *lines, "", as_text(counts)]))
    if given.json:
        bad = [row for row in rows if row["kind"] in FAULTS]
        text = json.dumps({"table": counts, "without_a_call": missing, "groups": lines, "faults": bad}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
    if given.record:
        record(counts)
    return 1 if lines or missing else 0


if __name__ == "__main__":
    sys.exit(main())
