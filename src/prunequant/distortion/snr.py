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
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike

from prunequant import arguments
from prunequant.sparsity.masks import pruned_count

from .empirical import Empirical, survivors
from .grids import Grid, make_grid
from .laws import Law
from .scale import best_scale

FINEST, COARSEST = 1e-90, 1e90  # scales that may be given
MAX_CELLS = 1 << 23  # cells (scales × thresholds) looked at in one go
MAX_SCAN = 1 << 26  # cells of the whole fine scan: reached from 13 bits on only, a quarter of a minute
ENERGY_BEYOND = 1e-10  # the scan looks at scales up to where this share of E X² lies beyond the grid


@dataclass(frozen=True)
class Distortion:
    """What a compression does to a law.

    snr : dB; error : E (X − X̂)²; scale : the quantizer's step, nan without one; zeros : P(X̂ = 0); clipping : share of
    the error from beyond the last half cell; threshold : magnitudes below it were pruned, and as many of those equal to
    it as the sparsity asks for.
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
        raise TypeError(
            f"law is a {type(law).__name__}: it must be one of the laws of prunequant.distortion, "
            "such as Gaussian() or Empirical(x)"
        )
    power = law.second_moment
    if not math.isfinite(power):
        raise ValueError(f"{law} has infinite variance, so no signal-to-noise ratio: give it a clip")
    return power


def _moments(law: Law, grid: Grid, scales: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """E[XQ] and E[Q²] at each scale; magnitudes ≤ threshold are forced to zero."""
    rows = max(MAX_CELLS // max(grid.positive.thresholds.size, grid.negative.thresholds.size, 1), 1)
    if scales.size > rows:
        parts = [_moments(law, grid, scales[at : at + rows], threshold) for at in range(0, scales.size, rows)]
        return np.concatenate([cross for cross, _ in parts]), np.concatenate([square for _, square in parts])
    cross, square = np.zeros_like(scales), np.zeros_like(scales)
    short, long = sorted((grid.positive.thresholds, grid.negative.thresholds), key=len)
    if law.symmetric and short.size < long.size and np.array_equal(short, long[: short.size]):
        t = np.maximum(np.multiply.outer(scales, long), threshold)
        one, none = np.asarray(law.upper(1, t)), np.asarray(law.upper(0, t))  # both sides look at the same places
        for chain in (grid.positive, grid.negative):
            if n := chain.thresholds.size:
                cross += np.ascontiguousarray(one[:, :n]) @ chain.jumps
                square += np.ascontiguousarray(none[:, :n]) @ chain.square_jumps
        return cross, square  # such grids have a level 0
    for chain, beyond in ((grid.positive, law.upper), (grid.negative, law.lower)):
        if not chain.thresholds.size:
            continue
        t = np.maximum(np.multiply.outer(scales, chain.thresholds), threshold)
        cross += beyond(1, t) @ chain.jumps
        square += beyond(0, t) @ chain.square_jumps
        if law.symmetric and grid.positive.top == grid.negative.top:
            return 2 * cross, 2 * square
    if not grid.has_zero:  # numbers equal to zero go to the level next to it, which a threshold of 0 does not count
        square += law.at_zero * grid.positive.square_jumps[0]
    return cross, square


def _error(law, grid, scales, threshold, power):
    cross, square = _moments(law, grid, scales, threshold)
    return power - 2 * scales * cross + scales**2 * square


def typical_magnitude(law: Law) -> float:
    """The median of |X|, of its nonzero values where more than half are zero: the unit of the scans over scales."""
    median = float(law.magnitude_quantile(0.5))
    if median > 0 or not isinstance(law, Empirical):  # only numbers have an atom at 0
        return median
    return float(np.median(np.abs(law.x[law.x != 0])))


def _reach(law: Law, power: float) -> float:
    """Magnitude beyond which ENERGY_BEYOND of E X² lies (at most 1e12 medians)."""
    if math.isfinite(law.support):
        return law.support
    t = typical_magnitude(law)
    limit = 1e12 * t
    while t < limit and 2 * float(law.inner(2, t)) < (1 - ENERGY_BEYOND) * power:
        t *= 1.5
    return t


def _optimum(law: Law, grid: Grid, threshold: float, power: float) -> tuple[float, float]:
    """Scale of least error over all positive scales, and that error."""
    cut = 0.0 if isinstance(law, Empirical) else threshold
    reach, top = _reach(law, power), grid.top
    low = 0.3 * max(typical_magnitude(law), threshold) / top
    high = 4.0 * reach / top
    scales = np.exp(np.arange(math.log(low), math.log(high), 0.02))
    errors = _error(law, grid, scales, cut, power)
    best = errors.min()
    near = np.flatnonzero(errors <= 1.1 * best + 1e-9 * power)
    left, right = scales[max(near[0] - 1, 0)], scales[min(near[-1] + 1, scales.size - 1)]
    # where the support ends sharply the edge passes from cell to cell: minima a factor 1 + 1/top apart at the closest
    step = 0.01 if not law.sharp else min(0.01, max(0.2 / top, 5e-4))
    cells = max(grid.positive.thresholds.size, grid.negative.thresholds.size)
    step = max(step, math.log(right / left) * cells / MAX_SCAN)
    fine = np.exp(np.arange(math.log(left), math.log(right), step))
    cross, square = _moments(law, grid, fine, cut)
    slope = fine * square - cross
    errors = power - 2 * fine * cross + fine**2 * square
    ends = np.argsort(errors)[:1]
    candidates = [(float(errors[i]), float(fine[i])) for i in ends]
    for i in np.flatnonzero((slope[:-1] < 0) & (slope[1:] >= 0)):
        if min(errors[i], errors[i + 1]) > 1.02 * errors.min():
            continue

        def derivative(s):
            c, q = _moments(law, grid, np.array([s]), cut)
            return float(s * q[0] - c[0])

        root = scipy.optimize.brentq(derivative, fine[i], fine[i + 1], xtol=1e-14 * fine[i + 1], rtol=1e-14)
        candidates.append((float(_error(law, grid, np.array([root]), cut, power)[0]), root))
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


def _quantizer(law, table, grid, bits, scale, threshold, power) -> Distortion:
    """Of what is left of a law: numbers say themselves what was pruned, of other laws all up to the threshold was."""
    numbers = isinstance(law, Empirical)
    cut = 0.0 if numbers else threshold
    if scale is None:
        if numbers and isinstance(grid, str):  # exact on atoms, where the derivative jumps
            scale = float(best_scale(getattr(law, "kept", law.x), bits, grid))
            error = float(_error(law, table, np.array([scale]), cut, power)[0])
        else:
            scale, error = _optimum(law, table, threshold, power)
    else:
        error = float(_error(law, table, np.array([scale]), cut, power)[0])
    error = max(error, 0.0)
    nonzero = 0.0 if table.has_zero else law.at_zero
    for chain, beyond in ((table.positive, law.upper), (table.negative, law.lower)):
        if chain.thresholds.size:
            nonzero += float(beyond(0, max(scale * chain.thresholds[0], cut)))
    clipping = _clipping(law, table, scale, cut) / error if error > 0 else 0.0
    # Without a zero level nothing becomes zero that was not pruned: exactly, not up to the rounding of a sum of shares.
    zeros = 1.0 - nonzero if table.has_zero or threshold > 0 else 0.0
    return Distortion(to_decibel(power, error), error, float(scale), zeros, clipping, threshold)


def quantization(
    law: Law, bits: int, grid: str | ArrayLike = "twos_complement", scale: float | None = None
) -> Distortion:
    """Round-to-nearest on a `bits`-bit grid: exact error, by default at the best of all scales.

    Parameters
    ----------
    law : Law
    bits : int, 2 … 16 (2 … 12 for the best scale of an `Empirical` law)
    grid : "twos_complement" (−2^(b−1) … 2^(b−1)−1), "narrow" (without the extra negative level), "mid_rise" (no zero),
        or an array of levels (a code book that contains 0, or is symmetric next to 0)
        The largest level of a code book lies in [1e-6, 1e6].
    scale : step to use instead of the best one, in [1e-90, 1e90]

    Returns
    -------
    Distortion

    Raises
    ------
    TypeError : not a law, bits that are no integer, a scale that is no number
    ValueError : bits, grid or scale out of range, a law of infinite variance

    Notes
    -----
    Error as in `prunequant.distortion.grids`, good to about 1e-12 E X². Given numbers equal to zero stay zero where the
    grid has that level; on one without (mid-rise) they become the smallest level. The best scale of a wide law such as
    StudentT(2, 1e6) takes a tenth of a second at 8 bits, seconds at 12, a quarter of a minute at 16; a given scale or
    an `Empirical` law milliseconds. After Kuzmin et al. 2023.

    Examples
    --------
    >>> from prunequant.distortion import Gaussian
    >>> found = quantization(Gaussian(), 4)
    >>> f"{found.snr:.3f} dB at step {found.scale:.5f}, {found.zeros:.1%} zeros"
    '19.258 dB at step 0.33861, 13.4% zeros'
    """
    power = check_law(law)
    return _quantizer(law, make_grid(bits, grid), grid, bits, _given(scale), 0.0, power)


def _given(scale) -> float | None:
    return None if scale is None else arguments.real(scale, "scale", FINEST, COARSEST)


def quantization_snr(
    law: Law, bits: int, grid: str | ArrayLike = "twos_complement", scale: float | None = None
) -> float:
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
    sparsity = _share(sparsity)
    if isinstance(law, Empirical):
        gone = pruned_count(sparsity, law.x.size)
        squares = np.sort(law.x**2)[:gone]
        error = float(np.sum(squares) / law.x.size)
        threshold = math.sqrt(squares[-1]) if gone else 0.0
        sparsity = max(gone / law.x.size, law.at_zero)
    else:
        threshold = float(law.magnitude_quantile(sparsity))
        error = 2.0 * float(law.inner(2, threshold))
    return Distortion(to_decibel(power, error), error, math.nan, sparsity, 0.0, threshold)


def _share(sparsity) -> float:
    return arguments.real(sparsity, "sparsity", 0, 1, open_high=True)


def pruning_snr(law: Law, sparsity: float) -> float:
    """Signal-to-noise ratio in dB of `pruning`.

    >>> from prunequant.distortion import Gaussian
    >>> round(pruning_snr(Gaussian(), 0.75), 3)
    5.585
    """
    return pruning(law, sparsity).snr


def joint(
    law: Law, sparsity: float, bits: int, grid: str | ArrayLike = "twos_complement", scale: float | None = None
) -> Distortion:
    """Magnitude pruning first, the survivors quantized on one grid whose scale is chosen for them.

    A survivor may still round to level 0 of the grid. With `grid="mid_rise"` no level is spent on zero, which the
    mask stores already.

    Parameters
    ----------
    law, bits, grid, scale : as in `quantization`
    sparsity : as in `pruning`. For an `Empirical` law exactly floor(sparsity · n) numbers are taken out, however many
        share the magnitude of the threshold.

    Notes
    -----
    Which of the tied numbers stay is chosen so that the error is least, exactly: at a given scale the error is linear
    in how many of the positive ones stay, so one of the two extreme choices is best at every scale, and the better of
    the two with its own best scale is best of all. On the named grids the negative ones stay first (their levels
    contain those of the positive side); with a code book both choices are tried.

    Examples
    --------
    >>> from prunequant.distortion import Empirical, Laplace
    >>> both = joint(Laplace(), 0.5, 4)
    >>> round(both.snr, 3) < pruning_snr(Laplace(), 0.5)
    True
    >>> tied = Empirical([1.0, 1.0, 1.0, 1.0, 10.0])
    >>> round(joint(tied, 0.2, 8).zeros, 6), round(pruning(tied, 0.2).snr, 2)
    (0.2, 20.17)
    """
    power = check_law(law)
    sparsity, scale, table = _share(sparsity), _given(scale), make_grid(bits, grid)
    if not isinstance(law, Empirical):
        threshold = float(law.magnitude_quantile(sparsity)) if sparsity else 0.0
        return _quantizer(law, table, grid, bits, scale, threshold, power)
    gone = pruned_count(sparsity, law.x.size)
    if gone == law.x.size:  # a sparsity within 1e-9 of 1
        return pruning(law, sparsity)
    threshold = float(np.partition(np.abs(law.x), gone - 1)[gone - 1]) if gone else 0.0
    sides = (True,) if isinstance(grid, str) else (True, False)
    left = (survivors(law, gone, keep_negative) for keep_negative in sides)
    return min((_quantizer(one, table, grid, bits, scale, threshold, power) for one in left), key=lambda d: d.error)


def joint_snr(
    law: Law, sparsity: float, bits: int, grid: str | ArrayLike = "twos_complement", scale: float | None = None
) -> float:
    """Signal-to-noise ratio in dB of `joint`."""
    return joint(law, sparsity, bits, grid, scale).snr
