"""Comparisons that are paired over seeds: the orthogonality threshold and the correction for many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from prunequant import arguments
from prunequant.intervals import paired_mean


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values corrected for their number by Holm's step-down rule, in the order given.

    Rejecting those at most alpha keeps the probability of any false rejection at most alpha, whatever their
    dependence (Holm 1979).

    >>> holm([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    p = arguments.numbers(p_values, "p_values").astype(np.float64)
    if p.ndim != 1 or np.any((p < 0) | (p > 1)):
        raise ValueError("p_values must be a list of numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1)
    return out


@dataclass(frozen=True)
class Paired:
    """A mean difference over seeds with its Student interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float
    positive: int
    seeds: int

    @property
    def verdict(self) -> str:
        """ "above" or "below" when the interval excludes 0, else "undecided"."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        half = (self.high - self.low) / 2
        return f"{self.mean:+.4f} ± {half:.4f} (p = {self.p:.2g}, {self.positive} of {self.seeds} positive)"


def _a_number_a_seed(values: ArrayLike, name: str) -> NDArray[np.float64]:
    a = arguments.numbers(values, name).astype(np.float64)
    if a.ndim != 1 or a.size < 2:
        raise ValueError(f"{name} has shape {a.shape}: give one number a seed, at least two")
    if np.max(np.abs(a)) > 1e150:
        raise ValueError(f"{name} reaches to {np.max(np.abs(a)):g}: its squares leave the range of floats")
    return a


def paired(differences: ArrayLike, confidence: float = 0.95) -> Paired:
    """Mean, interval, p-value and count of positive ones of paired differences, one a seed, at least two.

    >>> str(paired([1.0, 2.0, 3.0]))
    '+2.0000 ± 2.4841 (p = 0.074, 3 of 3 positive)'
    """
    d = _a_number_a_seed(differences, "differences")
    confidence = arguments.real(confidence, "confidence", 0, 1, open_low=True, open_high=True)
    mean, interval = paired_mean(d, confidence)
    spread = d.std(ddof=1)
    if spread > 0:
        p = float(2 * stats.t.sf(abs(mean) / (spread / np.sqrt(d.size)), d.size - 1))
    else:
        p = 1.0 if mean == 0 else 0.0
    return Paired(mean, interval.low, interval.high, p, int(np.count_nonzero(d > 0)), d.size)


@dataclass(frozen=True)
class Threshold:
    """What pruning and quantization would cost together if their costs added, and what they do cost.

    value : mean over the seeds of metric(S) + metric(Q) - metric(dense).
    excess : metric(both) minus that, paired over the seeds: positive means that the two compound.
    compounds : "above" (they compound), "below" (they cost less than the sum) or "undecided".
    """

    value: float
    excess: Paired
    lower_is_better: bool

    @property
    def compounds(self) -> str:
        if self.lower_is_better or self.excess.verdict == "undecided":
            return self.excess.verdict
        return "below" if self.excess.verdict == "above" else "above"

    def __str__(self) -> str:
        return f"threshold {self.value:.4f}, measured minus threshold {self.excess}: {self.compounds}"


def threshold(
    dense: Sequence[float] | NDArray,
    pruned: Sequence[float] | NDArray,
    quantized: Sequence[float] | NDArray,
    both: Sequence[float] | NDArray,
    *,
    transform: Callable[[NDArray], NDArray] | None = None,
    lower_is_better: bool = True,
    confidence: float = 0.95,
) -> Threshold:
    """The orthogonality threshold S + Q - D of a metric, with a paired interval of what exceeds it.

    Parameters
    ----------
    dense, pruned, quantized, both : (seeds,) the metric of the model as trained, with one of the two, with both; the
        same seeds in the same order, at least two. Different seeds would add the spread between models to the interval.
    transform : applied to all four first: np.exp turns cross-entropy into perplexity. exp is convex, so the two
        thresholds differ; give both.
    lower_is_better : False for accuracies.
    confidence : of the interval.

    Notes
    -----
    Harma et al. 2025, equation 12 (reconstructed). The paper expects models to lie above it; both signs occur.

    Examples
    --------
    >>> t = threshold([1.0, 1.1, 0.9], [1.2, 1.3, 1.1], [1.1, 1.2, 1.0], [1.4, 1.52, 1.3])
    >>> round(t.value, 3), t.compounds
    (1.3, 'above')
    """
    lower_is_better = arguments.flag(lower_is_better, "lower_is_better")
    confidence = arguments.real(confidence, "confidence", 0, 1, open_low=True, open_high=True)
    names = ("dense", "pruned", "quantized", "both")
    arrays = [_a_number_a_seed(a, name) for name, a in zip(names, (dense, pruned, quantized, both))]
    for name, a in zip(names, arrays):
        if a.shape != arrays[0].shape:
            raise ValueError(f"{name} has shape {a.shape}, dense {arrays[0].shape}: give the same seeds for all four")
    if transform is not None:
        if not callable(transform):
            raise TypeError(
                f"transform is {arguments.shown(transform)}: it must be a function of an array, such as np.exp"
            )
        for at, name in enumerate(names):
            changed = arguments.numbers(transform(arrays[at]), f"transform({name})").astype(np.float64)
            if changed.shape != arrays[at].shape:
                raise ValueError(
                    f"transform({name}) has shape {changed.shape}: it must keep the shape {arrays[at].shape}"
                )
            arrays[at] = changed
    d, s, q, b = arrays
    expected = s + q - d
    return Threshold(float(expected.mean()), paired(b - expected, confidence), lower_is_better)
