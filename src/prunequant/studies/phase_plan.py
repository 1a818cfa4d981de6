"""The plan of the recorded phase diagram of random subset sums: which curves, and how many trials of each.

A shard of trials is one work unit, on this machine or on a cluster. The page book/tickets/failure-probability shows the
record.
"""

from __future__ import annotations

import math

from prunequant.studies import phase_diagram as phase
from prunequant.studies.runner import At, Study

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


def make(at: At, scale: float) -> dict:
    """All curves; `scale` multiplies the number of trials."""
    units = plan(scale)
    rows = at.sweep(phase.count_times, units, [SEED])
    return phase.to_json({"seed": SEED, "units": len(units)}, phase.merge(rows))


STUDIES = {
    "phase-diagram": Study(
        "phase-diagram", "failure of random subset sums", ("phase_diagram.json",), make, 10, {"scale": 1.0}
    )
}
