"""Run several checks, all of them even when one fails, and end with what each said last.

    python tools/check_all.py lint unit validate site

Each name is a target of the Makefile. The closing lines (pytest's among them) are repeated at the end, where a person,
or a program that reads only the tail of a log, finds them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

CLOSING = re.compile(r"(?:\x1b\[[0-9;]*m)*(?:=+ .+ =+|\d+ (?:passed|failed|error)\b.*)(?:\x1b\[[0-9;]*m)*\s*$")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(target: str) -> tuple[int, list[str], float]:
    """The exit status of `make TARGET`, the closing lines it printed, and its seconds."""
    print(f"\n>>> make {target}", flush=True)
    start = time.perf_counter()
    process = subprocess.Popen(
        [os.environ.get("MAKE", "make"), target],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    closing: list[str] = []
    for line in process.stdout or ():
        sys.stdout.write(line)
        sys.stdout.flush()
        if CLOSING.match(line):
            closing.append(COLOUR.sub("", line).strip())
    status = process.wait()
    return status, closing[-1:], time.perf_counter() - start


def main(targets: list[str]) -> int:
    results = {target: run(target) for target in targets}
    print()
    for target, (status, _, seconds) in results.items():
        print(f"  {target:10s} {'ok' if status == 0 else 'FAILED':8s} {seconds:7.1f} s")
    print()
    # The unit tests last: their line is the one that counts tests.
    for target in sorted(results, key=lambda name: name == "unit"):
        for line in results[target][1]:
            print(line)
    return 1 if any(status for status, _, _ in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
