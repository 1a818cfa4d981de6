"""The rounding error of one tensor at several integer widths, from one reading of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats import _kernels, _kernels_error
from prunequant.formats.base import as_values, block_largest, flat, to_blocks
from prunequant.formats.integer import Integer

# The float32 kernel squares in float32. It is used where no square can overflow, and its answer where the squares that
# underflow (each off by at most 2^-150) cannot show.
_VALUES, _SCALES = (2.0**-40, 2.0**40), (2.0**-60, 2.0**60)
_LEAST_MEAN = 2.0**-126
_WIDE = (2.0**-400, 2.0**400)  # float64 magnitudes whose squares, and sums of squares, are normal numbers
_PIECE = 1 << 20


def integer_squared_errors(
    x: ArrayLike, bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8), *, grid: str = "narrow", scale: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Sum of squared errors of `Integer(b, grid)` on x, for every b in bits.

    Parameters
    ----------
    x : array of finite real numbers, taken as one block.
    bits : widths, each 2 to 16. grid : "narrow" or "twos_complement".
    scale : one for each width, positive; None: from the largest magnitude.

    Returns
    -------
    (len(bits),) float64; a sum beyond the range of float64 is 0 or infinity (`integer_snr` is right even then).

    Raises
    ------
    TypeError : x, bits, grid or scale of the wrong kind.
    ValueError : NaN or infinity, another grid, a width outside 2 to 16, not one positive scale for each width.

    Notes
    -----
    x is read once in pieces that stay in cache while every width is measured. In float32 x is multiplied by 1/scale
    (the formats divide), so a value on a tie may go the other way, and sums carry a relative error below 1e-5.
    Magnitudes or errors whose squares would leave the range of float32 go the way of the definition, value by value
    in float64.
    """
    sums, exponent = _squared_errors(as_values(x), bits, grid, scale)
    with np.errstate(over="ignore"):
        return np.ldexp(sums, 2 * exponent)


def integer_snr(
    x: ArrayLike, bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8), *, grid: str = "narrow", scale: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Signal to noise in dB, 10·log10(Σx² / Σ(x - q)²), at every width; infinite where nothing is lost.

    An error more than 3000 dB below the signal counts as none. Parameters and errors as in `integer_squared_errors`.

    >>> integer_snr(np.linspace(-1, 1, 1001), bits=(4, 8)).round(2)
    array([22.94, 48.11])
    """
    x = as_values(x)
    errors, exponent = _squared_errors(x, bits, grid, scale)
    power = float(np.sum(np.square(np.ldexp(x, -exponent) if exponent else x, dtype=np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors > 0, 10 * np.log10(power / errors), np.inf)


def _squared_errors(x: NDArray, bits, grid, scale) -> tuple[NDArray[np.float64], int]:
    """Sums of squared errors in units of 4**exponent, and the exponent, which is 0 unless x is float64 and extreme."""
    try:
        widths = tuple(bits)
    except TypeError:
        raise TypeError(f"bits is {arguments.shown(bits)}: it must be a sequence of integers in [2, 16]") from None
    grid = arguments.choice(grid, "grid", ("narrow", "twos_complement"))
    formats = [Integer(b, grid) for b in widths]
    if scale is not None:
        scale = arguments.numbers(scale, "scale").astype(np.float64)
        if scale.shape != (len(formats),) or not np.all(scale > 0):
            raise ValueError(f"scale must be {len(formats)} positive numbers, one for each of bits")
    x = np.ascontiguousarray(x).reshape(-1)
    largest = float(block_largest(to_blocks(x, 0, -1), 2.0 ** (np.finfo(x.dtype).maxexp - 1)).max(initial=0))
    if largest == 0 or not formats:
        return np.zeros(len(formats)), 0
    usual, narrow = (_WIDE, False) if x.dtype == np.float64 else (_VALUES, True)
    extreme = not usual[0] <= largest <= usual[1]
    scales = _scales(x.dtype.type(largest), formats, extreme) if scale is None else scale
    if narrow:
        return _narrow_errors(x, formats, scales, extreme), 0
    exponent = int(np.frexp(largest)[1]) if extreme else 0
    if extreme:  # in units of 2**exponent no square leaves the range; beyond these ends a scale changes no sum
        with np.errstate(over="ignore"):
            x, scales = np.ldexp(x, -exponent), np.clip(np.ldexp(scales, -exponent), 2.0**-600, 2.0**10)
    low, high = np.array([f.code_range for f in formats], dtype=np.float64).T
    with np.errstate(over="ignore"):
        errors = (x - s * np.clip(np.rint(x / s), a, b) for s, a, b in zip(scales, low, high))
        return np.array([np.dot(e, e) for e in errors]), exponent


def _scales(largest: np.floating, formats: list[Integer], extreme: bool) -> NDArray[np.float64]:
    """The scale of each width: in the usual range the first one's times a ratio, else each rounded as its format's."""
    if not extreme:
        return float(largest / largest.dtype.type(formats[0].divisor)) * formats[0].divisor / _divisors(formats)
    own = np.array([largest / largest.dtype.type(d) for d in _divisors(formats)], dtype=np.float64)
    return np.maximum(own, float(np.finfo(largest.dtype).smallest_subnormal))


def _divisors(formats: list[Integer]) -> NDArray[np.float64]:
    return np.array([f.divisor for f in formats])


def _narrow_errors(x: NDArray[np.float32], formats: list[Integer], scales, extreme: bool) -> NDArray[np.float64]:
    """The sums of float32 values: by the kernel, and by the definition where squares could leave the range."""
    fast = (scales >= _SCALES[0]) & (scales <= _SCALES[1]) & (not extreme)
    total = np.zeros(len(formats))
    if fast.any():
        low, high = np.array([f.code_range for f in formats], dtype=np.float64).T
        sums = np.empty((-(-x.size // _kernels._RUN), int(fast.sum())))
        given = (flat(v[fast].astype(np.float32)) for v in (scales, low, high))
        _kernels_error.integer_squared_errors(flat(x), *given, sums)
        total[fast] = sums.sum(axis=0)
    for i in np.flatnonzero(~fast | (total < x.size * _LEAST_MEAN)):
        total[i] = 0
        for start in range(0, x.size, _PIECE):
            piece = x[start : start + _PIECE]
            error = piece.astype(np.float64) - formats[i].quantize(piece, scale=scales[i])
            total[i] += np.dot(error, error)
    return total
