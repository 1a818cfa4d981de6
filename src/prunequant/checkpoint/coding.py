"""A matrix as small integers with scales, or in a number format: what a compressed file stores of it.

Integers are rounded to nearest with the scale of least squared error of its group (`distortion.best_scale`, exact).
The scale is then rounded to the 16 bits that are stored, and the codes are taken for that rounded scale: what is
judged is what is stored. Zero is always a code, so what was pruned stays zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from prunequant import arguments, distortion, formats
from prunequant.checkpoint.schemes import Scheme

SCALE_DTYPES: dict[str, np.dtype] = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
LEAST_SCALE = {"F16": 2.0**-14, "BF16": 2.0**-126}  # the smallest that has all its digits
GRIDS = ("symmetric", "signed", "zero point", "minimum")
SHRINKS = np.float32(1) - np.arange(20, dtype=np.float32) / 40  # how far a range is narrowed in search of the best
_FITS = 3  # times that scale and minimum are fitted to the codes by least squares
_CHUNK = 1 << 18  # values looked at together


@dataclass(frozen=True, eq=False)
class Codes:
    """A matrix as integers: value = scale · (code − zero).

    Parameters
    ----------
    codes : (rows, columns) int8 (two's complement), or uint8 with zeros.
    scales : (rows, groups) float32, each a number of the stored dtype; (1, 1) for one scale in all.
    bits : of a code.
    group : columns that share a scale; the last group of a row may be shorter.
    zeros : (rows, groups) uint8: the code of zero, for a grid that is not symmetric; None where it is 0.
    mask : (rows, columns) bool of the weights that are stored, or None for all; the others are code zero.
    clamped : groups whose scale would underflow, and is the least that the dtype holds in full.
    """

    codes: NDArray = field(repr=False)
    scales: NDArray = field(repr=False)
    bits: int
    group: int
    zeros: NDArray | None = field(default=None, repr=False)
    mask: NDArray | None = field(default=None, repr=False)
    clamped: int = 0

    def spread(self, per_group: NDArray) -> NDArray:
        """(rows, columns) of one number a group."""
        return spread(per_group, self.group, self.codes.shape[1])

    def decode(self) -> NDArray[np.float32]:
        """(rows, columns) float32: the matrix that a reader of the file computes with."""
        codes = self.codes.astype(np.float32)
        if self.zeros is not None:
            codes -= self.spread(self.zeros.astype(np.float32))
        codes *= self.spread(self.scales)
        codes += 0  # every zero a positive one
        return codes


@dataclass(frozen=True, eq=False)
class Shifted:
    """A matrix as integers from 0 on over a minimum: value = scale · code + minimum, as GGUF's Q4_1.

    Zero is such a value only by chance.
    """

    codes: NDArray = field(repr=False)
    scales: NDArray = field(repr=False)
    minima: NDArray = field(repr=False)
    bits: int
    group: int
    mask: NDArray | None = field(default=None, repr=False)

    def decode(self) -> NDArray[np.float32]:
        """(rows, columns) float32."""
        columns = self.codes.shape[1]
        values = self.codes * spread(self.scales, self.group, columns)
        return values + spread(self.minima, self.group, columns)


def spread(per_group: NDArray, group: int, columns: int) -> NDArray:
    """(rows, columns) of one number a group, (rows, groups); what has one group in all is left to broadcast.

    Examples
    --------
    >>> spread(np.array([[1.0, 2.0]]), 2, 3)
    array([[1., 1., 2.]])
    """
    if per_group.shape[1] == 1:
        return per_group
    return np.repeat(per_group, group, axis=1)[:, :columns]


def group_of(scheme: Scheme, columns: int) -> int:
    """How many values of a row share a scale."""
    return min(scheme.granularity, columns) if isinstance(scheme.granularity, int) else columns


def _by_groups(weights: NDArray, scheme: Scheme, function: Callable[[NDArray], NDArray]) -> NDArray:
    """One number for each group, (rows, groups), of a function of (groups, values)."""
    rows, columns = weights.shape
    if scheme.granularity == "tensor":
        return function(weights.reshape(1, -1)).reshape(1, 1)
    group = group_of(scheme, columns)
    whole = columns // group * group
    parts = [function(np.ascontiguousarray(weights[:, :whole]).reshape(-1, group)).reshape(rows, -1)]
    if whole < columns:
        parts.append(function(np.ascontiguousarray(weights[:, whole:])).reshape(rows, 1))
    return np.concatenate(parts, axis=1)


def stored_scales(scales: NDArray, dtype: str, name: str = "the matrix") -> tuple[NDArray[np.float32], int]:
    """Scales as the file's 16-bit floats hold them, and how many were raised to the least of these.

    Raises
    ------
    ValueError : a scale beyond the largest float of the dtype.
    """
    with np.errstate(over="ignore"):
        rounded = scales.astype(SCALE_DTYPES[dtype]).astype(np.float32)
    if not np.all(np.isfinite(rounded)):
        raise ValueError(
            f"{name} needs a scale of {np.max(scales):.3g}, which {dtype} does not hold: give the model in another unit"
        )
    small = rounded < LEAST_SCALE[dtype]
    rounded[small] = LEAST_SCALE[dtype]
    return rounded, int(np.count_nonzero(small))


def exact_scales(weights: NDArray, scheme: Scheme) -> NDArray[np.float64]:
    """(rows, groups): the scale of least squared error of every group; 1 for a group of zeros.

    Examples
    --------
    >>> exact_scales(np.array([[1.0, -2.0, 0.0, 0.0]]), Scheme.named("INT4 g2"))
    array([[0.25, 1.  ]])
    """
    bits = scheme.bits or 8

    def of(groups: NDArray) -> NDArray:
        peak = np.max(np.abs(groups), axis=1, initial=0)
        unit = np.where(peak > 0, np.ldexp(1.0, np.frexp(peak)[1]), 1.0)  # so that no group is below float64's range
        return np.atleast_1d(distortion.best_scale(groups / unit[:, None], bits, axis=1)) * unit

    return _by_groups(weights, scheme, of)


def nearest(
    weights: NDArray,
    scheme: Scheme,
    *,
    grid: str = "symmetric",
    scale_dtype: str = "F16",
    mask: NDArray | None = None,
    name: str = "the matrix",
) -> Codes | Shifted:
    """Round every weight to the nearest integer multiple of its group's best scale.

    Parameters
    ----------
    weights : (rows, columns) finite numbers.
    scheme : of integers.
    grid : "symmetric", zero is the code 0; "signed", and a scale may be negative, so that the one code more lies on the
        side where it helps; "zero point", a group has a code of its own for zero, and its codes begin at 0; "minimum",
        codes from 0 on above the group's own minimum (groups of whole rows only).
    scale_dtype : "F16" or "BF16".
    mask : (rows, columns) bool; what it prunes becomes zero.
    name : of the matrix, for errors.

    Raises
    ------
    ValueError : a scheme without integers, weights that are not finite, a scale that the dtype does not hold.

    Notes
    -----
    Symmetric scales are exact before they are stored. For the others the range of a group is narrowed in 20 steps of
    2.5 % at both ends together, and the best is taken.

    Examples
    --------
    >>> coded = nearest(np.array([[0.9, -1.1, 2.1, -0.2]]), Scheme.named("INT4 channel"))
    >>> coded.codes, bool(abs(coded.decode() - [[0.9, -1.1, 2.1, -0.2]]).max() < 0.15)
    (array([[ 3, -4,  7, -1]], dtype=int8), True)
    """
    w = np.asarray(arguments.numbers(weights, name), dtype=np.float32)
    if w.ndim != 2 or w.size == 0 or scheme.bits is None:
        raise ValueError(f"{name} has shape {w.shape} and scheme {scheme.name}: give a matrix and a scheme of integers")
    arguments.choice(scale_dtype, "scale_dtype", SCALE_DTYPES)
    arguments.choice(grid, "grid", GRIDS)
    if mask is not None:
        w = np.where(mask, w, np.float32(0))
    group = group_of(scheme, w.shape[1])
    if grid == "minimum":
        return _above_minimum(w, scheme.bits, group)
    if grid == "zero point":
        return _affine(w, scheme, group, scale_dtype, mask, name)
    scales, clamped = stored_scales(exact_scales(w, scheme), scale_dtype, name)
    codes = integer_codes(w, scales, group, scheme.bits)
    if grid == "signed":
        turned, small = stored_scales(exact_scales(-w, scheme), scale_dtype, name)
        other = integer_codes(-w, turned, group, scheme.bits)
        columns = w.shape[1]
        lost = [_lost(w - codes * spread(scales, group, columns), group),
                _lost(-w - other * spread(turned, group, columns), group)]  # fmt: skip
        better = lost[1] < lost[0]
        scales = np.where(better, -turned, scales)
        codes = np.where(spread(better, group, columns), other, codes)
        clamped = max(clamped, small)
    return Codes(codes, scales, scheme.bits, group, None, mask, clamped)


def _lost(difference: NDArray, group: int) -> NDArray:
    """(rows, groups) of squared errors; one for every row where a group is the row."""
    edges = np.arange(0, difference.shape[1], group)
    return np.add.reduceat(np.square(difference), edges, axis=1)


def _above_minimum(w: NDArray, bits: int, group: int) -> Shifted:
    rows, columns = w.shape
    if columns % group:
        raise ValueError(f"groups of {group} do not divide rows of {columns}")
    scales, minima, codes = with_minimum(w.reshape(-1, group), bits)
    return Shifted(codes.reshape(rows, columns), scales.reshape(rows, -1), minima.reshape(rows, -1), bits, group)


def integer_codes(
    weights: NDArray, scales: NDArray, group: int, bits: int, zeros: NDArray | None = None
) -> NDArray[np.int8] | NDArray[np.uint8]:
    """clip(rint(w / s) + zero), the codes of (rows, columns) weights for given scales (and zeros)."""
    top = 1 << (bits - 1)
    codes = np.rint(weights / spread(scales, group, weights.shape[1]))
    if zeros is None:
        return np.clip(codes, -top, top - 1).astype(np.int8)
    codes += spread(zeros.astype(np.float32), group, weights.shape[1])
    return np.clip(codes, 0, 2 * top - 1).astype(np.uint8)


def _affine(w: NDArray, scheme: Scheme, group: int, dtype: str, mask: NDArray | None, name: str) -> Codes:
    bits = scheme.bits or 8

    def scale(groups: NDArray) -> NDArray:
        return np.concatenate([_best_range(part, bits, dtype)[0] for part in _pieces(groups)])

    scales, clamped = stored_scales(_by_groups(w, scheme, scale), dtype, name)
    low = _by_groups(w, scheme, lambda groups: np.minimum(groups.min(axis=1), 0))
    high = _by_groups(w, scheme, lambda groups: np.maximum(groups.max(axis=1), 0))
    # the code of zero that leaves the same share of the range uncovered at both ends
    middle = (2**bits - 1 + (-low - high) / scales) / 2
    zeros = np.clip(np.rint(middle), 0, 2**bits - 1).astype(np.uint8)
    codes = integer_codes(w, scales, group, bits, zeros)
    return Codes(codes, scales, bits, group, zeros, mask, clamped)


def _pieces(groups: NDArray) -> list[NDArray]:
    """The groups, some hundred thousand values at a time."""
    return np.array_split(groups, max(1, groups.size // _CHUNK))


def _best_range(groups: NDArray, bits: int, dtype: str) -> tuple[NDArray, NDArray]:
    """Scale and error of each group on the grid 0 … 2^bits − 1 about a whole zero: the best of narrowed ranges."""
    top = np.float32(2**bits - 1)
    low, high = np.minimum(groups.min(axis=1), 0), np.maximum(groups.max(axis=1), 0)
    best = np.full(len(groups), np.inf)
    scales = np.ones(len(groups), np.float32)
    for shrink in SHRINKS:
        scale = ((high - low) * (shrink / top)).astype(SCALE_DTYPES[dtype]).astype(np.float32)
        scale = np.where(high > low, np.maximum(scale, LEAST_SCALE[dtype]), np.float32(1)).astype(np.float32)
        zero = np.clip(np.rint((top + (-low - high) / scale) / 2), 0, top)[:, None]
        codes = np.clip(np.rint(groups / scale[:, None]) + zero, 0, top) - zero
        error = np.sum((groups - codes * scale[:, None]) ** 2, axis=1)
        better = error < best
        best[better], scales[better] = error[better], scale[better]
    return scales, best


def with_minimum(groups: NDArray, bits: int) -> tuple[NDArray, NDArray, NDArray]:
    """Scale d, minimum m and codes q in 0 … 2^bits − 1 of each group, for value = d q + m: the grid of GGUF's Q4_1.

    Narrowed ranges are tried, and scale and minimum are fitted to the codes of each by least squares; d and m are
    half precision. Zero is on such a grid only by chance.

    Parameters
    ----------
    groups : (groups, values) float32.

    Returns
    -------
    scales (groups,), minima (groups,) float32; codes (groups, values) uint8.

    Examples
    --------
    >>> d, m, q = with_minimum(np.array([[0.5, 1.0, 2.0, 8.0]], np.float32), 4)
    >>> bool(abs(d[:, None] * q + m[:, None] - [[0.5, 1.0, 2.0, 8.0]]).max() < 0.13)
    True
    """
    parts = [_fitted(part, bits) for part in _pieces(np.asarray(groups, np.float32))]
    scales, minima, codes = (np.concatenate(column) for column in zip(*parts))
    return scales, minima, codes


def _fitted(groups: NDArray, bits: int) -> tuple[NDArray, NDArray, NDArray]:
    top = np.float32(2**bits - 1)
    low, high = groups.min(axis=1), groups.max(axis=1)
    middle, mean = (low + high) / 2, groups.mean(axis=1)
    best = np.full(len(groups), np.inf)
    scales, minima = np.ones(len(groups), np.float32), low.copy()
    for shrink in SHRINKS[::3]:
        scale, least = (high - low) * (shrink / top), middle - (high - low) * (shrink / 2)
        for fit in range(_FITS + 1):
            d, m = _half(scale), _half(least)
            d = np.where(d > 0, np.maximum(d, np.float32(LEAST_SCALE["F16"])), np.float32(1))
            codes = np.clip(np.rint((groups - m[:, None]) / d[:, None]), 0, top)
            error = np.sum((groups - codes * d[:, None] - m[:, None]) ** 2, axis=1)
            better = error < best
            best[better], scales[better], minima[better] = error[better], d[better], m[better]
            if fit == _FITS:
                break
            about = codes - codes.mean(axis=1, keepdims=True)
            spread_ = np.sum(about * about, axis=1)
            scale = np.where(spread_ > 0, np.sum(about * groups, axis=1) / np.maximum(spread_, 1e-30), scale)
            least = mean - scale * codes.mean(axis=1)
    codes = np.clip(np.rint((groups - minima[:, None]) / scales[:, None]), 0, top).astype(np.uint8)
    return scales, minima, codes


def _half(x: NDArray) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix in a number format of `prunequant.formats`, its blocks along the rows."""

    encoded: formats.Encoded = field(repr=False)
    format: formats.Format
    mask: NDArray | None = field(default=None, repr=False)

    def decode(self) -> NDArray[np.float32]:
        """(rows, columns) float32."""
        return self.format.decode(self.encoded).astype(np.float32) + 0


@dataclass(frozen=True, eq=False)
class Halves:
    """A matrix as (rows, columns) float16, of which a mask says what is stored."""

    values: NDArray = field(repr=False)
    mask: NDArray | None = field(default=None, repr=False)

    def decode(self) -> NDArray[np.float32]:
        """(rows, columns) float32."""
        return self.values.astype(np.float32) + 0


Coded: TypeAlias = Codes | Shifted | Blocks | Halves


def encode(
    weights: NDArray,
    scheme: Scheme,
    *,
    grid: str = "symmetric",
    scale_dtype: str = "F16",
    unit_scale: bool = False,
    mask: NDArray | None = None,
    name: str = "the matrix",
) -> Coded:
    """The matrix by any scheme, every weight rounded to nearest; see `nearest` for the arguments and errors.

    With `unit_scale` the scale that NVFP4 has for the whole tensor is 1, for a file that has no place for it.

    Raises
    ------
    ValueError : also for weights beyond half precision with the format "FP16".

    Examples
    --------
    >>> encode(np.array([[1.0, -2.0]]), Scheme.named("MXFP4")).decode()
    array([[ 1., -2.]], dtype=float32)
    """
    if scheme.bits is not None:
        return nearest(weights, scheme, grid=grid, scale_dtype=scale_dtype, mask=mask, name=name)
    w = np.asarray(arguments.numbers(weights, name), dtype=np.float32)
    if mask is not None:
        w = np.where(mask, w, np.float32(0))
    if scheme.format == "FP16":
        with np.errstate(over="ignore"):
            half = w.astype(np.float16)
        if not np.all(np.isfinite(half)):
            raise ValueError(f"{name} holds {np.max(np.abs(w)):.3g}, which half precision does not hold")
        return Halves(half, mask)
    fmt = formats.named(scheme.format or "")
    if unit_scale and isinstance(fmt, formats.NVFP4):
        fmt = replace(fmt, tensor_scale=1.0)
    return Blocks(fmt.encode(w), fmt, mask)
