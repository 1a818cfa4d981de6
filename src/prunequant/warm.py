"""Compile every kernel once: `python -m prunequant.warm [--quiet]`.

Kernels are compiled when first called and kept on the disk. Chapters run in processes of their own, so without this
each of the first ones would wait for the same compilation. Every module of the package that defines a top-level
function `warm()` is found by reading its text, imported, and called; modules without one are not imported.
"""

from __future__ import annotations

import re
import sys
import time
from importlib import import_module
from pathlib import Path

_DEFINES_WARM = re.compile(r"^def warm\(", re.MULTILINE)


def modules_with_warm() -> list[str]:
    """Names of the modules that define `warm()`, in import order of the packages' names.

    Examples
    --------
    >>> "prunequant.warm" in modules_with_warm()
    False
    """
    top = Path(__file__).resolve().parent
    names = []
    for path in sorted(top.rglob("*.py")):
        if path.name == "warm.py" or not _DEFINES_WARM.search(path.read_text()):
            continue
        parts = path.relative_to(top.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def warm(quiet: bool = False) -> float:
    """Call every `warm()` of the package, with a line for each unless `quiet`; the seconds it took."""
    start = time.perf_counter()
    names = modules_with_warm()
    for number, name in enumerate(names, 1):
        before = time.perf_counter()
        if not quiet:
            print(f"  [{number}/{len(names)}] {name.removeprefix('prunequant.'):40s}", end="", flush=True)
        import_module(name).warm()
        if not quiet:
            print(f"{time.perf_counter() - before:6.1f} s", flush=True)
    seconds = time.perf_counter() - start
    if not quiet:
        print(f"Kernels are compiled ({seconds:.1f} s)")
    return seconds


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - {"--quiet"}
    if unknown:
        sys.exit(f"unknown argument {sorted(unknown)[0]!r}: the only one is --quiet")
    warm(quiet="--quiet" in sys.argv[1:])
