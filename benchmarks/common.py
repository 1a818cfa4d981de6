"""What every benchmark shares: interleaved timing, medians of ratios, provenance, a record written whole or not at all.

Two programs timed minutes apart measure the machine's mood. Here the contenders take turns, and what is reported is the
median over rounds of the ratio of two times taken next to each other.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from prunequant import records

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"


def parser(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument(
        "--quick", action="store_true", help="small sizes and few rounds: seconds, figures not to be quoted"
    )
    options.add_argument("--rounds", type=int, default=None, help="rounds of interleaved timing (7, or 3 with --quick)")
    options.add_argument("--threads", type=int, default=1, help="threads of our kernels")
    options.add_argument(
        "--output",
        type=Path,
        default=None,
        help="the record; default book/results/benchmark_NAME.json, none with --quick",
    )
    return options


def rounds(options: argparse.Namespace) -> int:
    return options.rounds or (3 if options.quick else 7)


def clock(options: argparse.Namespace) -> Callable[[], float]:
    """CPU seconds of this process for one thread, which a busy machine disturbs least; wall seconds for more."""
    return time.process_time if options.threads == 1 else time.perf_counter


def interleave(
    contenders: Mapping[str, Callable[[], object]], rounds: int = 7, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; one unmeasured call of each first, then all of them in turn."""
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def median_ratio(slower: Sequence[float], faster: Sequence[float], work: float = 1.0) -> float:
    """The median over rounds of slower/faster; `work` = (faster's amount of work) / (slower's)."""
    return statistics.median(work * a / b for a, b in zip(slower, faster, strict=True))


def summary(
    seconds: Mapping[str, Sequence[float]], reference: str, work: Mapping[str, float] | None = None
) -> list[dict]:
    """One row a contender: median seconds, items a second, and the median ratio of its time an item to the reference's.

    `work[name]` is the number of items that contender handles in a call (1 when absent).
    """
    work = work or {}
    rows = []
    for name, times in seconds.items():
        items = work.get(name, 1.0)
        rows.append(
            {
                "name": name,
                "items": items,
                "seconds": statistics.median(times),
                "rate": items / statistics.median(times),
                "ratio": median_ratio(times, seconds[reference], work.get(reference, 1.0) / items),
            }
        )
    return rows


def provenance(packages: Sequence[str] = (), **extra) -> dict:
    """Where, when and with what a record was made; `load_average` says how busy the machine was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return records.provenance(
        "python " + shlex.join([str(Path(sys.argv[0]).name), *sys.argv[1:]]),
        packages,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        load_average=load,
        **extra,
    )


def plain(value: object) -> object:
    """NumPy's numbers as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a record holds plain numbers and words, not {type(value).__name__}")


def write(path: Path, record: dict) -> None:
    """Write a record whole or not at all; what is not a number is refused."""
    records.write_json(path, json.loads(json.dumps(record, allow_nan=False, default=plain)))


def finish(name: str, options: argparse.Namespace, rows: list[dict], packages: Sequence[str] = (), **extra) -> None:
    """Write the record unless the run was quick and no output was named; say where."""
    path = options.output or (None if options.quick else RESULTS / f"benchmark_{name}.json")
    if path is None:
        print("quick run: no record written")
        return
    write(
        path,
        {"provenance": provenance(packages, threads=options.threads, rounds=rounds(options)), "rows": rows, **extra},
    )
    print(f"record: {path}")


def table(rows: Sequence[Mapping], columns: Sequence[str]) -> str:
    """Rows as aligned text; floats with three significant digits, absent entries as a dash."""

    def cell(value) -> str:
        if value is None:
            return "-"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(columns), *([cell(row.get(c)) for c in columns] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    return "\n".join("  ".join(v.ljust(w) for v, w in zip(line, widths)).rstrip() for line in lines)
