"""The exact least-squares scale of given numbers: the global optimum over scale and integers together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments

from . import _kernels
from .grids import GRIDS, check_bits, make_grid

_TINY = np.finfo(np.float64).tiny  # the smallest float that has all its digits
_NEXT_TO_NOTHING = 2.0**-100  # a scale of zeros: it has all its digits in single precision, its square is 0 there
LONG = 512  # longer groups are sorted first; where levels are many, those of half as many numbers for each of one side
MAX_LEVELS = 1 << 16


def _levels(bits: int, grid: str) -> tuple[int, int, float]:
    """Number of jumps after the first level on each side, and the offset of the first level."""
    grid = arguments.choice(grid, "grid", GRIDS)
    half = 1 << (check_bits(bits, 12) - 1)
    if grid == "mid_rise":
        return half - 1, half - 1, 0.5
    return half - 1, half if grid == "twos_complement" else half - 1, 0.0


def best_scale(
    x: ArrayLike, bits: int, grid: str = "twos_complement", axis: int | None = None, block: int | None = None
) -> NDArray | float:
    """Scale that minimises Σ (x − s q)² over every s > 0 and every rounding q to the grid: exact, not a grid search.

    Parameters
    ----------
    x : array of finite numbers, at least one
    bits : int, 2 … 12
    grid : "twos_complement", "narrow" or "mid_rise"
    axis : None for one scale for all of x; else one scale for each vector along this axis
    block : with an axis, one scale for each run of `block` numbers along it (must divide its length)

    Returns
    -------
    float, or array of x's shape without `axis` (with it, length n/block, if a block is given). A group of zeros gets 1;
    on a grid without 0, where its error falls with the scale, 2^−100.

    Raises
    ------
    TypeError : x, bits, axis or block of the wrong kind
    ValueError : numbers that are not finite, a block that does not divide, an unknown grid, or a scale that no normal
        float holds (all numbers of a group below 1e-300 in size, say)

    Notes
    -----
    Branch and bound over s on the events at which a number changes its level (`_kernels`). Up to 512 numbers, or to
    2^bits times 128: O(n) for each of a few dozen intervals. Beyond: one sort, prefix sums, then O(2^bits log n) an
    interval. The optimum
    may exceed max|x|/(2^(b−1)−1), where scale grids usually end. Errors are compared to about 1e-13 Σ x². Twin:
    tests/naive/distortion.py.

    Examples
    --------
    >>> x = np.array([0.9, -1.1, 2.1, -0.2])
    >>> s = best_scale(x, 3)
    >>> round(s, 6), round(scale_error(x, s, 3), 6), round(scale_error(x, 2.1 / 3, 3), 6)
    (1.033333, 0.063333, 0.17)
    """
    return _along(arguments.numbers(x, "x"), *_levels(bits, grid), axis, block)


def best_step(x: ArrayLike, levels: int, axis: int | None = None, block: int | None = None) -> NDArray | float:
    """The same for a symmetric grid of any number of levels: the step s that minimises Σ (x − s q)², exactly.

    Parameters
    ----------
    x, axis, block : as for `best_scale`
    levels : int, 2 … 65,536. Odd: q in 0, ±1 … ±(levels − 1)/2. Even: q in ±½, ±3/2 … ±(levels − 1)/2. So 2^b levels
        are the "mid_rise" grid of b bits, 2^b − 1 the "narrow" one.

    Returns
    -------
    As for `best_scale`.

    Raises
    ------
    TypeError, ValueError : as for `best_scale`

    Notes
    -----
    Two levels are ±s/2, and their step is twice the mean magnitude. From thousands of levels on the cost is O(n) for
    each of about as many intervals as there are levels.

    Examples
    --------
    >>> best_step(np.array([1.0, -2.0, 3.0]), 2)
    4.0
    >>> best_step(np.array([[-1.5, 1.0], [0.5, 0.0], [1.5, -1.0]]), 4, axis=0)
    array([1.        , 0.63157895])
    """
    x, levels = arguments.numbers(x, "x"), arguments.integer(levels, "levels", 2, MAX_LEVELS)
    return _along(x, (levels - 1) // 2, (levels - 1) // 2, 0.0 if levels % 2 else 0.5, axis, block)


def _along(x: NDArray, up: int, down: int, offset: float, axis: int | None, block: int | None) -> NDArray | float:
    """Scales of the groups of x: all of it, the vectors along an axis, or blocks of these."""
    if x.size == 0:
        raise ValueError(f"x has shape {x.shape} and dtype {x.dtype}: it must hold at least one real number")
    x = x.astype(np.float64, copy=False)
    if axis is None:
        if block is not None:
            raise ValueError("block is given without an axis: say along which axis the blocks lie")
        return float(_grouped(x.reshape(1, -1), up, down, offset)[0])
    if x.ndim == 0:
        raise ValueError("axis is given but x is a single number: leave axis out")
    axis = arguments.integer(axis, "axis", -x.ndim, x.ndim - 1)
    moved = np.moveaxis(x, axis, -1)
    length = moved.shape[-1]
    if block is None:
        return _grouped(moved.reshape(-1, length), up, down, offset).reshape(moved.shape[:-1])
    block = arguments.integer(block, "block", 1, length)
    if length % block:
        raise ValueError(f"block is {block}: it must be a positive divisor of {length}, the length of axis {axis}")
    scales = _grouped(moved.reshape(-1, block), up, down, offset)
    return np.moveaxis(scales.reshape(*moved.shape[:-1], length // block), -1, axis)


def _grouped(rows: np.ndarray, up: int, down: int, offset: float) -> np.ndarray:
    """Scales of the rows (groups, n)."""
    if rows.shape[1] <= LONG * max(1, up // 2):
        out = np.empty(rows.shape[0])
        _kernels.best_scales_short(np.ascontiguousarray(rows), up, down, offset, out)
    else:
        out = np.array([_sorted(row, up, down, offset) for row in rows])
    if offset:
        out[~rows.any(axis=1)] = _NEXT_TO_NOTHING
    if not (out.min() >= _TINY and out.max() < np.inf):
        at = int(np.flatnonzero((out < _TINY) | ~np.isfinite(out))[0])
        raise ValueError(
            f"x holds a group whose largest magnitude is {np.max(np.abs(rows[at])):g}: no float is its scale; give x "
            "in another unit"
        )
    return out


def _sorted(row: np.ndarray, up: int, down: int, offset: float) -> float:
    """Scale of one long row: sorted magnitudes of each sign and their suffix sums."""
    largest = np.max(np.abs(row))
    if largest == 0.0:
        return 1.0
    ordered = np.sort(row)
    split = row.size - np.searchsorted(ordered, 0.0)
    magnitudes = np.concatenate((ordered[row.size - split :], -ordered[: row.size - split][::-1]))
    magnitudes /= largest  # in units of the largest no group can over- or underflow
    suffix = np.zeros(row.size + 1)
    np.cumsum(magnitudes[::-1], out=suffix[-2::-1])
    total = float(magnitudes @ magnitudes)
    return largest * _kernels.best_scale_sorted(magnitudes, split, suffix, total, up, down, offset)


def scale_error(x: ArrayLike, scale: float, bits: int, grid: str | ArrayLike = "twos_complement") -> float:
    """Σ (x − Q(x))² for round-to-nearest at this scale, computed directly.

    Parameters
    ----------
    x : array of finite numbers, any shape
    scale : positive finite number
    bits, grid : as in `make_grid`

    Raises
    ------
    ValueError : also where the sum leaves the range of floats

    Examples
    --------
    >>> round(scale_error(np.array([0.9, -1.1]), 1.0, 4), 12)
    0.02
    """
    scale = arguments.real(scale, "scale", 0, open_low=True)
    x = arguments.numbers(x, "x").astype(np.float64, copy=False).ravel()
    levels = make_grid(bits, grid).levels
    with np.errstate(over="ignore", invalid="ignore"):
        index = np.searchsorted(0.5 * (levels[1:] + levels[:-1]) * scale, x)
        error = float(np.sum((x - scale * levels[index]) ** 2))
    if not np.isfinite(error):
        raise ValueError(f"x at scale {scale:g} has an error above the largest float: give both in another unit")
    return error
