"""Exact signal-to-noise ratios of a law under quantization, magnitude pruning, and both; no sampling anywhere.

The scale of a quantizer is chosen by minimum mean squared error over all positive scales. That error is a continuous
function of the scale with a continuous derivative 2 (s E[Q²] − E[XQ]) (the levels on the two sides of a threshold are
equally wrong there), but it is not convex: heavy tails and clipped laws have several local minima. `_optimum` scans
the derivative's sign over a logarithmic grid fine enough to separate neighbouring minima, refines each by Brent's
method and keeps the best.

Rounding here includes the last half cell (hi s, (hi + ½) s); clipping is what lies beyond it. After Kuzmin et al. 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from prunequant.sparsity.masks import pruned_count

from .empirical import Empirical
from .grids import Grid, make_grid
from .laws import Law
from .scale import best_scale

ENERGY_BEYOND = 1e-10  # the scan looks at scales up to where this share of E X² lies beyond the grid


@dataclass(frozen=True)
class Distortion:
    """What a compression does to a law.

    snr : dB; error : E (X − X̂)²; scale : the quantizer's step, nan without one; zeros : P(X̂ = 0); clipping : share of
    the error from beyond the last half cell; threshold : magnitudes up to it were pruned.
    """

    snr: float
    error: float
    scale: float
    zeros: float
    clipping: float
    threshold: float


def to_decibel(signal: float, error: float) -> float:
    """10 log10(signal/error); infinite when the error is 0."""
    return math.inf if error <= 0 else 10.0 * math.log10(signal / error)


def check_law(law: Law) -> float:
    """E X² of the law, or an error that says why there is no signal-to-noise ratio."""
    if not isinstance(law, Law):
        raise TypeError(f"law is a {type(law).__name__}: it must be one of the laws of prunequant.distortion")
    power = law.second_moment
    if not math.isfinite(power):
        raise ValueError(f"{law} has infinite variance, so no signal-to-noise ratio: give it a clip")
    return power


def check_fraction(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is {value}: it must be at least 0 and below 1")
    return float(value)


def _moments(law: Law, grid: Grid, scales: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """E[XQ] and E[Q²] at each scale; magnitudes ≤ threshold are forced to zero."""
    cross, square = np.zeros_like(scales), np.zeros_like(scales)
    for chain, beyond in ((grid.positive, law.upper), (grid.negative, law.lower)):
        if not chain.thresholds.size:
            continue
        t = np.maximum(np.multiply.outer(scales, chain.thresholds), threshold)
        cross += beyond(1, t) @ chain.jumps
        square += beyond(0, t) @ chain.square_jumps
        if law.symmetric and grid.positive.top == grid.negative.top:
            return 2 * cross, 2 * square
    return cross, square


def _error(law, grid, scales, threshold, power):
    cross, square = _moments(law, grid, scales, threshold)
    return power - 2 * scales * cross + scales**2 * square


def _reach(law: Law, power: float) -> float:
    """Magnitude beyond which ENERGY_BEYOND of E X² lies (at most 1e12 medians)."""
    if math.isfinite(law.support):
        return law.support
    t = float(law.magnitude_quantile(0.5))
    limit = 1e12 * t
    while t < limit and 2 * float(law.inner(2, t)) < (1 - ENERGY_BEYOND) * power:
        t *= 1.5
    return t


def _optimum(law: Law, grid: Grid, threshold: float, power: float) -> tuple[float, float]:
    """Scale of least error over all positive scales, and that error."""
    reach, top = _reach(law, power), grid.top
    low = 0.3 * max(float(law.magnitude_quantile(0.5)), threshold) / top
    high = 4.0 * reach / top
    scales = np.exp(np.arange(math.log(low), math.log(high), 0.02))
    errors = _error(law, grid, scales, threshold, power)
    best = errors.min()
    near = np.flatnonzero(errors <= 1.1 * best + 1e-9 * power)
    left, right = scales[max(near[0] - 1, 0)], scales[min(near[-1] + 1, scales.size - 1)]
    # where the support ends sharply the edge passes from cell to cell: minima a factor 1 + 1/top apart at the closest
    step = 0.01 if math.isinf(law.support) else min(0.01, max(0.2 / top, 5e-4))
    fine = np.exp(np.arange(math.log(left), math.log(right), step))
    cross, square = _moments(law, grid, fine, threshold)
    slope = fine * square - cross
    errors = power - 2 * fine * cross + fine**2 * square
    ends = np.argsort(errors)[:1]
    candidates = [(float(errors[i]), float(fine[i])) for i in ends]
    for i in np.flatnonzero((slope[:-1] < 0) & (slope[1:] >= 0)):
        if min(errors[i], errors[i + 1]) > 1.02 * errors.min():
            continue

        def derivative(s):
            c, q = _moments(law, grid, np.array([s]), threshold)
            return float(s * q[0] - c[0])

        root = brentq(derivative, fine[i], fine[i + 1], xtol=1e-14 * fine[i + 1], rtol=1e-14)
        candidates.append((float(_error(law, grid, np.array([root]), threshold, power)[0]), root))
    error, scale = min(candidates)
    return scale, error


def _beyond_second(law: Law, side: str, t: float) -> float:
    """∫_t^∞ x² p (or the same on the negative side), for the clipping share."""
    if law.symmetric:
        return max(0.5 * law.second_moment - float(law.inner(2, t)), 0.0)
    return float(getattr(law, side)(2, t))


def _clipping(law: Law, grid: Grid, scale: float, threshold: float) -> float:
    total = 0.0
    for chain, side in ((grid.positive, "upper"), (grid.negative, "lower")):
        if not chain.thresholds.size:
            continue
        edge = scale * chain.top
        half = scale * (chain.top - chain.thresholds[-1]) if chain.thresholds.size > 1 else 0.5 * scale
        start, beyond = max(edge + half, threshold), getattr(law, side)
        total += _beyond_second(law, side, start)
        total += -2 * edge * float(beyond(1, start)) + edge**2 * float(beyond(0, start))
    return total


def _quantizer(law, bits, grid, scale, threshold, power) -> Distortion:
    table = make_grid(bits, grid)
    if scale is None:
        if isinstance(law, Empirical) and isinstance(grid, str):  # exact on atoms, where the derivative jumps
            scale = float(best_scale(law.x[np.abs(law.x) > threshold], bits, grid))
            error = float(_error(law, table, np.array([scale]), threshold, power)[0])
        else:
            scale, error = _optimum(law, table, threshold, power)
    else:
        if not (np.isscalar(scale) and scale > 0 and math.isfinite(scale)):
            raise ValueError(f"scale is {scale!r}: it must be a positive finite number")
        error = float(_error(law, table, np.array([float(scale)]), threshold, power)[0])
    error = max(error, 0.0)
    nonzero = 0.0
    for chain, beyond in ((table.positive, law.upper), (table.negative, law.lower)):
        if chain.thresholds.size:
            nonzero += float(beyond(0, max(scale * chain.thresholds[0], threshold)))
    clipping = _clipping(law, table, scale, threshold) / error if error > 0 else 0.0
    return Distortion(to_decibel(power, error), error, float(scale), 1.0 - nonzero, clipping, threshold)


def quantization(law: Law, bits: int, grid="twos_complement", scale: float | None = None) -> Distortion:
    """Round-to-nearest on a `bits`-bit grid: exact error, by default at the best of all scales.

    Parameters
    ----------
    law : Law
    bits : int, 2 … 16
    grid : "twos_complement" (−2^(b−1) … 2^(b−1)−1), "narrow" (without the extra negative level), "mid_rise" (no zero),
        or an array of levels (a code book that contains 0, or is symmetric next to 0)
    scale : step to use instead of the best one

    Returns
    -------
    Distortion

    Raises
    ------
    ValueError : bits or grid unknown, a scale that is not positive, a law of infinite variance

    Notes
    -----
    Error as in `prunequant.distortion.grids`; relative accuracy about 1e-12. After Kuzmin et al. 2023.

    Examples
    --------
    >>> from prunequant.distortion import Gaussian
    >>> found = quantization(Gaussian(), 4)
    >>> f"{found.snr:.3f} dB at step {found.scale:.5f}, {found.zeros:.1%} zeros"
    '19.258 dB at step 0.33861, 13.4% zeros'
    """
    return _quantizer(law, bits, grid, scale, 0.0, check_law(law))


def quantization_snr(law: Law, bits: int, grid="twos_complement", scale: float | None = None) -> float:
    """Signal-to-noise ratio in dB of `quantization`.

    >>> from prunequant.distortion import Uniform
    >>> round(quantization_snr(Uniform(), 8, "mid_rise"), 3)  # 2^8 equal cells: 20 log10 2^8
    48.165
    """
    return quantization(law, bits, grid, scale).snr


def pruning(law: Law, sparsity: float) -> Distortion:
    """Magnitude pruning: the share `sparsity` of smallest magnitude set to zero.

    Parameters
    ----------
    law : Law
    sparsity : float in [0, 1). For an `Empirical` law floor(sparsity · n) numbers are set to zero.

    Examples
    --------
    >>> from prunequant.distortion import Gaussian
    >>> round(pruning(Gaussian(), 0.75).error, 7)  # c − 2 t φ(t)
    0.276393
    """
    power = check_law(law)
    sparsity = check_fraction("sparsity", sparsity)
    if isinstance(law, Empirical):
        gone = pruned_count(sparsity, law.x.size)
        squares = np.sort(law.x**2)[:gone]
        error = float(np.sum(squares) / law.x.size)
        threshold = math.sqrt(squares[-1]) if gone else 0.0
    else:
        threshold = float(law.magnitude_quantile(sparsity))
        error = 2.0 * float(law.inner(2, threshold))
    return Distortion(to_decibel(power, error), error, math.nan, sparsity, 0.0, threshold)


def pruning_snr(law: Law, sparsity: float) -> float:
    """Signal-to-noise ratio in dB of `pruning`.

    >>> from prunequant.distortion import Gaussian
    >>> round(pruning_snr(Gaussian(), 0.75), 3)
    5.585
    """
    return pruning(law, sparsity).snr


def joint(law: Law, sparsity: float, bits: int, grid="twos_complement", scale: float | None = None) -> Distortion:
    """Magnitude pruning first, the survivors quantized on one grid whose scale is chosen for them.

    A survivor may still round to level 0 of the grid. With `grid="mid_rise"` no level is spent on zero, which the
    mask stores already.

    Examples
    --------
    >>> from prunequant.distortion import Laplace
    >>> both = joint(Laplace(), 0.5, 4)
    >>> round(both.snr, 3) < pruning_snr(Laplace(), 0.5)
    True
    """
    power = check_law(law)
    sparsity = check_fraction("sparsity", sparsity)
    threshold = pruning(law, sparsity).threshold if sparsity else 0.0
    return _quantizer(law, bits, grid, scale, threshold, power)


def joint_snr(law: Law, sparsity: float, bits: int, grid="twos_complement", scale: float | None = None) -> float:
    """Signal-to-noise ratio in dB of `joint`."""
    return joint(law, sparsity, bits, grid, scale).snr
