"""Phase diagrams from shards: how many samples until success, counted over as many trials as one cares to run.

`count_times` is one work unit, a pure function of its arguments: it runs one shard of the trials of one curve and
returns a histogram, a few hundred bytes however many trials. Histograms of different shards add up (`merge`), whatever
machine or order they came from, because trial number i of a curve is the same trial everywhere. A merged `PhaseCurve`
is the whole curve "failure probability against samples" with its confidence intervals and quantiles.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, integer, real
from prunequant.statistics import Interval, clopper_pearson
from prunequant.subset_sum import MAX_SUM
from prunequant.subset_sum.hitting import MAX_TRIALS, hitting_times

TARGETS = {
    "random": lambda bound: "random",
    "all": lambda bound: "all",
    "half": lambda bound: bound // 2,
    "bound": lambda bound: bound,
    "centre": lambda bound: (-(bound // 2), bound // 2),
}


def count_times(
    log2_bound: int, targets: str, sampler: str, n_max: int, trials: int, shard: int, seed: int
) -> dict[str, list[int]]:
    """Histogram of the hitting times of one shard: trials shard·trials, …, (shard + 1)·trials − 1 of the curve.

    Parameters
    ----------
    log2_bound : int in [0, 40] — M = 2**log2_bound
    targets : "random", one allowed target a trial; "all", every allowed one; "half", t = M/2; "bound", t = M;
        "centre", every |t| <= M/2
    sampler : see `hitting_times`
    n_max : int in [0, 2**16] — samples at most
    trials, shard : int — trials in a shard, at most 2**27, and which shard, from 0; shard·trials up to 2**62
    seed : int in [0, 2**64 - 1]

    Returns
    -------
    {"counts": [...]} : n_max + 2 integers, entry k the trials that needed exactly k samples, the last those that failed

    Raises
    ------
    TypeError, ValueError : an unknown name of targets or sampler, or a size that `hitting_times` refuses

    Examples
    --------
    >>> count_times(3, "half", "signed", 4, trials=100, shard=0, seed=1)["counts"]
    [0, 4, 12, 13, 21, 50]
    """
    bound = 2 ** integer(log2_bound, "log2_bound", 0, 40)
    targets = choice(targets, "targets", TARGETS)
    trials = integer(trials, "trials", 0, MAX_TRIALS)
    shard = integer(shard, "shard", 0, MAX_SUM // max(trials, 1))
    times = hitting_times(n_max, bound, TARGETS[targets](bound), trials, seed, sampler, trial_offset=shard * trials)
    return {"counts": np.bincount(times, minlength=integer(n_max, "n_max") + 2).tolist()}


@dataclass(frozen=True)
class PhaseCurve:
    """Trials by the number of samples that they needed: `counts[k]` needed exactly k, the last entry failed."""

    log2_bound: int
    targets: str
    sampler: str
    n_max: int
    seed: int
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("log2_bound", "n_max", "seed"):
            object.__setattr__(self, name, integer(getattr(self, name), name, 0))
        counts = tuple(integer(count, f"counts[{k}]", 0) for k, count in enumerate(self.counts))
        if len(counts) != self.n_max + 2:
            raise ValueError(f"counts has {len(counts)} entries: n_max {self.n_max} needs {self.n_max + 2}")
        object.__setattr__(self, "counts", counts)

    @property
    def trials(self) -> int:
        return sum(self.counts)

    def failed(self, n: int) -> int:
        """Trials that n samples leave without a solution.

        Raises
        ------
        TypeError, ValueError : n is no integer in [0, n_max]
        """
        n = integer(n, "n", 0, self.n_max)
        return sum(self.counts[n + 1 :])

    def failure(self) -> NDArray[np.float64]:
        """(n_max + 1,) float — the share of trials that fail with n = 0, 1, … samples."""
        return 1 - np.cumsum(self.counts)[:-1] / self.trials if self.trials else np.full(self.n_max + 1, np.nan)

    def interval(self, n: int, confidence: float = 0.95) -> Interval:
        """Exact confidence interval of the failure probability at n samples."""
        return clopper_pearson(self.failed(n), self.trials, confidence)

    def quantile(self, level: float) -> int | None:
        """The least n with which a share `level` of the trials succeeds, or None when n_max samples are too few.

        level : float in [0, 1]

        Examples
        --------
        >>> PhaseCurve(3, "half", "signed", 4, 1, (0, 4, 12, 13, 21, 50)).quantile(0.5)
        4
        """
        level = real(level, "level", 0, 1)
        reached = np.flatnonzero(np.cumsum(self.counts)[:-1] >= level * self.trials)
        return int(reached[0]) if reached.size else None


def merge(rows: Iterable[Mapping]) -> list[PhaseCurve]:
    """Add up the shards of each curve.

    Parameters
    ----------
    rows : mappings with the parameters of `count_times` and its "counts", such as `experiments.sweep` returns

    Raises
    ------
    ValueError : the same shard twice, or shards of one curve with different numbers of trials: they would overlap
    """
    sums: dict[tuple[int, str, str, int, int], np.ndarray] = {}
    shards_of: dict[tuple[int, str, str, int, int], dict[int, int]] = {}
    for row in rows:
        key = (row["log2_bound"], row["targets"], row["sampler"], row["n_max"], row["seed"])
        shards = shards_of.setdefault(key, {})
        if row["shard"] in shards:
            raise ValueError(f"shard {row['shard']} of the curve {key} is there twice: its trials would count twice")
        if shards and row["trials"] != next(iter(shards.values())):
            raise ValueError(f"the shards of the curve {key} have different sizes: their trials would overlap")
        shards[row["shard"]] = row["trials"]
        counts = np.array(row["counts"], dtype=np.int64)
        sums[key] = sums[key] + counts if key in sums else counts
    return [PhaseCurve(*key, tuple(counts.tolist())) for key, counts in sums.items()]


@dataclass(frozen=True)
class Record:
    """A recorded phase diagram: where and when it was measured, and its curves."""

    provenance: dict
    curves: tuple[PhaseCurve, ...]

    def curve(self, log2_bound: int, targets: str, sampler: str = "signed") -> PhaseCurve:
        """The one curve with these parameters.

        Raises
        ------
        KeyError : there is none; the message lists the recorded ones
        """
        for curve in self.curves:
            if (curve.log2_bound, curve.targets, curve.sampler) == (log2_bound, targets, sampler):
                return curve
        there = ", ".join(f"2^{c.log2_bound} {c.targets} {c.sampler}" for c in self.curves)
        raise KeyError(f"no curve for 2^{log2_bound} {targets} {sampler}; recorded: {there}")

    def origin(self) -> str:
        """One sentence: how many trials, on what, when."""
        total = sum(curve.trials for curve in self.curves)
        p = self.provenance
        return f"{total / 1e6:,.0f} million trials, measured on {p['cpu']} ({p['cores']} cores) on {p['date']}"


def to_json(provenance: Mapping, curves: Iterable[PhaseCurve]) -> dict:
    """Plain values for a file that `read` understands."""
    return {"provenance": dict(provenance), "curves": [asdict(curve) for curve in curves]}


def read(path: str | os.PathLike) -> Record:
    """A phase diagram from its file.

    Raises
    ------
    ValueError : the file is not one; the message names it
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        curves = [PhaseCurve(**{**c, "counts": tuple(c["counts"])}) for c in data["curves"]]
        return Record(data["provenance"], tuple(curves))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a recorded phase diagram ({error})") from None
