"""Compile every kernel once: `python -m prunequant.warm [--quiet] [--jobs N]`.

Kernels are compiled when first called and kept on the disk. Chapters run in processes of their own, so without this
each of the first ones would wait for the same compilation. Every module of the package that defines a top-level
function `warm()` is found by reading its text, imported, and called; modules without one are not imported.
"""

from __future__ import annotations

import argparse
import re
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

_DEFINES_WARM = re.compile(r"^def warm\(", re.MULTILINE)


def modules_with_warm() -> list[str]:
    """Names of the modules that define `warm()`, in alphabetical order.

    Examples
    --------
    >>> "prunequant.random" in modules_with_warm(), "prunequant.warm" in modules_with_warm()
    (True, False)
    """
    top = Path(__file__).resolve().parent
    names = []
    for path in sorted(top.rglob("*.py")):
        if path.name == "warm.py" or not _DEFINES_WARM.search(path.read_text(encoding="utf-8")):
            continue
        parts = path.relative_to(top.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def _warm_one(name: str) -> float:
    start = time.perf_counter()
    import_module(name).warm()
    return time.perf_counter() - start


def warm(quiet: bool = False, jobs: int = 1) -> float:
    """Call every `warm()` of the package, `jobs` modules at a time; the seconds it took.

    A line is printed for each module unless `quiet`. An error of a module is raised when its turn to be printed comes.
    """
    start = time.perf_counter()
    names = modules_with_warm()
    width = max(map(len, names), default=0)

    def print_times(times) -> None:
        for number, (name, seconds) in enumerate(zip(names, times), 1):
            if not quiet:
                print(f"  [{number:2d}/{len(names)}] {name:{width}s} {seconds:6.1f} s", flush=True)

    if jobs > 1:
        # Fresh processes: a fork of one that holds compiled, threaded code is not safe.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            print_times(pool.map(_warm_one, names))
    else:
        print_times(map(_warm_one, names))
    seconds = time.perf_counter() - start
    if not quiet:
        print(f"Kernels are compiled ({seconds:.1f} s)")
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.add_argument("--jobs", type=int, default=1, help="modules at a time (processes)")
    given = parser.parse_args()
    warm(given.quiet, given.jobs)
