"""The orthogonality threshold: what pruning and quantization would cost together if their costs added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.statistics import Paired, one_a_seed, paired


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
    arrays = [one_a_seed(a, name) for name, a in zip(names, (dense, pruned, quantized, both))]
    for name, a in zip(names, arrays):
        if a.shape != arrays[0].shape:
            raise ValueError(f"{name} has shape {a.shape}, dense {arrays[0].shape}: give the same seeds for all four")
    if transform is not None:
        arguments.function(transform, "transform", "a function of an array, such as np.exp")
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
