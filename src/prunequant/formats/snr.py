"""The rounding error of one tensor at several integer widths, from one reading of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.formats import _kernels, _kernels_error
from prunequant.formats.base import as_values, check_finite
from prunequant.formats.integer import Integer


def integer_squared_errors(
    x: ArrayLike, bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8), *, grid: str = "narrow", scale: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Sum of squared errors of `Integer(b, grid)` on x, for every b in bits.

    Parameters
    ----------
    x : array, taken as one block.
    bits : widths; grid : "narrow" or "twos_complement".
    scale : one for each width; None: from the largest magnitude.

    Returns
    -------
    (len(bits),) float64

    Notes
    -----
    x is read once in pieces that stay in cache while every width is measured. In float32 x is multiplied by 1/scale
    (the formats divide), so a value on a tie may go the other way, and sums carry a relative error below 1e-5.
    """
    x = as_values(x).reshape(-1)
    formats = [Integer(b, grid) for b in bits]
    if not all(f.max_scaled for f in formats):
        raise ValueError(f"grid is {grid!r}: give 'narrow' or 'twos_complement'")
    if x.size == 0:
        return np.zeros(len(formats))
    x = np.ascontiguousarray(x)
    if scale is None:
        scales = np.array([f.scales(x)[0, 0] for f in formats[:1]], dtype=np.float64)
        scales = scales[0] * formats[0].divisor / np.array([f.divisor for f in formats])
    else:
        scales = np.asarray(scale, dtype=np.float64)
        check_finite(np.array([x.min(), x.max()]))
        if scales.shape != (len(formats),) or not np.all(scales > 0):
            raise ValueError(f"scale must be {len(formats)} positive numbers, one for each of bits")
    low, high = np.array([f.code_range for f in formats], dtype=np.float64).T
    if x.dtype != np.float32:
        errors = (x - s * np.clip(np.rint(x / s), a, b) for s, a, b in zip(scales, low, high))
        return np.array([np.dot(e, e) for e in errors])
    sums = np.empty((-(-x.size // _kernels._RUN), len(formats)))
    _kernels_error.integer_squared_errors(x, *(v.astype(np.float32) for v in (scales, low, high)), sums)
    return sums.sum(axis=0)


def integer_snr(
    x: ArrayLike, bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8), *, grid: str = "narrow", scale: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Signal to noise in dB, 10·log10(Σx² / Σ(x - q)²), at every width; infinite where nothing is lost.

    Parameters as in `integer_squared_errors`.

    >>> integer_snr(np.linspace(-1, 1, 1001), bits=(4, 8)).round(2)
    array([22.94, 48.11])
    """
    x = as_values(x)
    errors = integer_squared_errors(x, bits, grid=grid, scale=scale)
    power = float(np.sum(np.square(x, dtype=np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors > 0, 10 * np.log10(power / errors), np.inf)
