"""Record the phase diagram of random subset sums: book/results/phase_diagram.json.

    python benchmarks/records/phase_diagram.py                       about ten minutes on two cores
    python benchmarks/records/phase_diagram.py --scale 0.01          a rehearsal, a hundredth of the trials
    python benchmarks/records/phase_diagram.py --cluster HOST:PORT   the same units on a Dask cluster

Work units that are finished are kept in a store; a run that was killed goes on where it stopped, and a wider plan
reuses the units that it shares with an earlier one. The page book/tickets/failure-probability shows the record.
"""

import argparse
import math
import sys
import time
from pathlib import Path

from prunequant.experiments import Store, sweep
from prunequant.records import provenance, write_json
from prunequant.studies import phase_diagram as phase

ROOT = Path(__file__).resolve().parents[2]
SEED = 2508


def plan(scale: float) -> list[dict]:
    """The work units: (bits, targets, sampler, n_max, trials, shard)."""
    curves = [(m, "random", "signed", m + 40, 10**7 if m <= 12 else 10**6) for m in range(2, 17)]
    curves += [(m, "all", "signed", m + 50, 10**6) for m in range(2, 17)]
    curves += [(20, "random", "signed", 60, 10**5), (20, "all", "signed", 70, 2 * 10**4)]
    curves += [(m, "centre", "signed", m + 50, 10**6) for m in (8, 10)]
    curves += [(m, "half", "signed", m + 50, 10**8) for m in (6, 8, 10)] + [(12, "half", "signed", 62, 4 * 10**7)]
    curves += [(m, "bound", "signed", m + 50, 4 * 10**7) for m in (6, 8, 10, 12)]
    curves += [(m, t, "product", m + 50, 10**6) for m in range(4, 17, 2) for t in ("random", "all")]
    curves += [(m, "bound", "positive", 9 * m, 10**6 if m <= 12 else 10**5) for m in range(6, 17, 2)]
    units = []
    for m, targets, sampler, n_max, trials in curves:
        shard = min(trials, 10**6 if m <= 13 else 10**5 if m <= 16 else 10**4)
        for number in range(max(1, math.ceil(trials * scale / shard))):
            size = shard if trials * scale >= shard else max(1, int(trials * scale))
            units.append(
                {
                    "log2_bound": m,
                    "targets": targets,
                    "sampler": sampler,
                    "n_max": n_max,
                    "trials": size,
                    "shard": number,
                }
            )
    return units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of trials")
    parser.add_argument("--store", type=Path, default=ROOT / "_build" / "phase_diagram.jsonl")
    parser.add_argument("--out", type=Path, default=None, help="default: book/results/, or _build/ for a rehearsal")
    parser.add_argument("--cluster", help="address of a Dask scheduler")
    arguments = parser.parse_args()
    place = "book/results" if arguments.scale == 1 else "_build"
    out = arguments.out or ROOT / place / "phase_diagram.json"
    units = plan(arguments.scale)
    executor = None
    if arguments.cluster:
        from dask.distributed import Client

        executor = Client(arguments.cluster).get_executor()
    store = Store(arguments.store)
    started, fresh = time.process_time(), len(store.rows)

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            print(
                f"{done}/{total} units, {time.process_time() - started:.0f} s of this process",
                file=sys.stderr,
                flush=True,
            )

    rows = sweep(phase.count_times, units, [SEED], executor, store, progress)
    command = "python benchmarks/records/phase_diagram.py"
    about = provenance(command, seed=SEED, units=len(units))
    if fresh == 0 and executor is None:
        about["cpu_seconds"] = round(time.process_time() - started)
    print(write_json(out, phase.to_json(about, phase.merge(rows))))


if __name__ == "__main__":
    main()
