"""Are damaged model files refused, whatever is wrong with them? Files are made, opened and read, by the ten thousands.

    python tools/fuzz_models.py --files 2000              some seconds; prints what it found
    python tools/fuzz_models.py --files 100000 --record   some minutes; into book/results/fuzz_models.json
    python tools/fuzz_models.py --seed 1 --only 886       one file again, with the traceback

What a file is made of and what must hold for it stands in tests/checkpoint/damaged.py: a model whose every matrix can
be read and whose every byte is accounted for, or an error that names the file; nothing executed, no memory beyond some
megabytes, no warning.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chapters import ROOT

from prunequant.records import provenance, write_json

sys.path.insert(0, str(ROOT / "tests"))
from checkpoint import damaged

RECORD = ROOT / "book" / "results" / "fuzz_models.json"
ROUND = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one file: made again, what happens is raised")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        folder = Path(name)
        if given.only is not None:
            print(*damaged.check(given.only, given.seed, folder))
            return 0
        counts: Counter = Counter()
        failures: list[tuple[int, str, str]] = []
        before, start = damaged.memory(), time.process_time()
        for first in range(0, given.files, ROUND):
            more, failed = damaged.run(range(first, min(first + ROUND, given.files)), given.seed, folder)
            counts += more
            failures += failed
            print(f"{min(first + ROUND, given.files)} files, {len(failures)} failures", file=sys.stderr, flush=True)
        seconds = time.process_time() - start
        grown = damaged.memory() - before
    for (case, outcome), count in sorted(counts.items()):
        print(f"{case:28} {outcome:8} {count}")
    for number, case, what in failures[:20]:
        print(f"FAILED --seed {given.seed} --only {number} ({case}): {what}")
    if given.record:
        command = f"python tools/fuzz_models.py --files {given.files} --seed {given.seed} --record"
        cases: dict[str, dict[str, int]] = {}
        for (case, outcome), count in sorted(counts.items()):
            cases.setdefault(case, {})[outcome] = count
        packages = ("safetensors", "gguf", "onnx")
        write_json(RECORD, {
            "files": given.files, "seed": given.seed, "failures": len(failures), "cases": cases,
            "milliseconds_per_file": round(1000 * seconds / given.files, 2),
            "memory_grown_mb": round(grown / 1e6, 1),
            "provenance": provenance(command, packages, seconds=round(seconds)),
        })  # fmt: skip
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
