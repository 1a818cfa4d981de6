"""Entropy-coded integers: what a quantizer stores when frequent levels get short words.

A mask may be entropy-coded, so the integers may be too. `integer_entropy` is the size in bits per weight that an
arithmetic coder needs for the levels of a quantizer, H(Q) = −Σ p log2 p; `entropy_coded` turns it round and finds the
step at which a wide grid takes a given size. After Gish and Pierce 1968, Asymptotically efficient quantizing.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike

from prunequant import arguments

from .grids import Grid, make_grid
from .laws import Law
from .snr import Distortion, check_law, quantization, typical_magnitude


def _probabilities(law: Law, grid: Grid, scale: float) -> np.ndarray:
    """P of each level, without order."""
    parts, nonzero = [], 0.0
    for chain, beyond in ((grid.positive, law.upper), (grid.negative, law.lower)):
        if chain.thresholds.size:
            passed = np.append(np.asarray(beyond(0, scale * chain.thresholds), float), 0.0)
            parts.append(passed[:-1] - passed[1:])
            nonzero += float(passed[0])
    if not grid.has_zero:  # numbers equal to zero are stored as the level below it
        parts[-1][0] += law.at_zero
        return np.concatenate(parts)
    return np.concatenate([*parts, [max(1.0 - nonzero, 0.0)]])


def _entropy(law: Law, grid: Grid, scale: float) -> float:
    p = _probabilities(law, grid, scale)
    p = p[p > 0]
    return float(-np.sum(p * np.log2(p)))


def integer_entropy(
    law: Law, bits: int, grid: str | ArrayLike = "twos_complement", scale: float | None = None
) -> float:
    """Entropy in bits per weight of the stored integers, by default at the step of least squared error.

    Never above `bits`. Parameters and errors as in `quantization`.

    Examples
    --------
    >>> from prunequant.distortion import Gaussian, Uniform
    >>> round(integer_entropy(Gaussian(), 4), 3), round(integer_entropy(Uniform(), 3, "mid_rise"), 6)
    (3.587, 3.0)
    """
    quantized = quantization(law, bits, grid, scale)
    return _entropy(law, make_grid(bits, grid), quantized.scale)


def entropy_coded(law: Law, rate: float, bits: int = 14, grid: str | ArrayLike = "twos_complement") -> Distortion:
    """Uniform rounding whose integers take `rate` bits per weight when entropy-coded.

    Parameters
    ----------
    law : Law
    rate : finite float > 0, bits per weight
    bits : int, 2 … 16. The grid has 2^bits levels: enough that its ends do not matter, unless the tail is very heavy.

    Returns
    -------
    Distortion at the coarsest step with that entropy

    Raises
    ------
    ValueError : a rate that is not positive, or that no step of this grid reaches

    Notes
    -----
    The entropy is scanned from coarse steps to fine ones (ratio 1.25) for the first that reaches the rate, then Brent's
    method; on given numbers (`Empirical`) it jumps, and the step found is within 1e-9 of such a jump.

    Examples
    --------
    >>> from prunequant.distortion import StudentT, equal_size_keep, pruning_snr
    >>> law = StudentT(2.0, 100.0)
    >>> coded, kept = entropy_coded(law, 2.0), equal_size_keep(2, "entropy")
    >>> f"{coded.snr:.2f} dB against {pruning_snr(law, 1 - kept):.2f} dB"
    '14.41 dB against 8.28 dB'
    """
    check_law(law)
    rate = arguments.real(rate, "rate", 0, open_low=True)
    table = make_grid(bits, grid)
    median = typical_magnitude(law)
    start = 2.0 * float(law.magnitude_quantile(1.0 - 1e-9))  # hardly any weight is nonzero
    steps = start * 1.25 ** -np.arange(0.0, math.log(max(1e4 * start / median, 2.0), 1.25))
    before = None
    for step in steps:
        if _entropy(law, table, step) >= rate:
            break
        before = step
    else:
        raise ValueError(f"rate is {rate}: no step of this grid of {table.levels.size} levels has that entropy")
    if before is not None:
        step = scipy.optimize.brentq(
            lambda s: _entropy(law, table, s) - rate, step, before, xtol=1e-12 * step, rtol=1e-9
        )
    return quantization(law, bits, grid, float(step))
