"""Exact integer arithmetic on arrays: products and roundings that never wrap and never round by accident.

A product of integer matrices is done in float64 by the platform's matrix routine when a bound proved beforehand keeps
every partial sum below 2⁵³ (then each of them is an integer that float64 holds exactly), in int64 below 2⁶³, and in
Python integers beyond. The bound is max|a| · max over columns of Σ|b|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments

_FLOAT, _INT = 2**53, 2**63


def integers(x: ArrayLike, name: str) -> NDArray:
    """The array as int64 (or Python integers when it holds some beyond int64); anything else is an error."""
    array = arguments.integers(x, name)
    if array.dtype in (np.dtype(object), np.dtype(np.uint64)) and largest(array) >= _INT:
        return array.astype(object)
    return array.astype(np.int64)


def within(x: ArrayLike, name: str, limit: int, shape: str, ndim: int) -> NDArray[np.int64]:
    """A fresh int64 array of so many axes, none of length 0, with entries up to ``limit`` in magnitude."""
    array = integers(x, name)
    if array.ndim != ndim or not array.size:
        raise ValueError(f"{name} has shape {array.shape}: {shape} is needed, no side of it 0")
    if largest(array) > limit:
        raise ValueError(f"{name} reaches {arguments.shown(largest(array))}: at most {limit} in magnitude is allowed")
    return array.astype(np.int64)


def several(x: Any, name: str) -> tuple:
    """The entries of a list, a tuple or an array of one axis."""
    if isinstance(x, np.ndarray) and x.ndim == 1 and not isinstance(x, np.ma.MaskedArray):
        return tuple(x)
    if not isinstance(x, Sequence) or isinstance(x, str | bytes):
        raise TypeError(f"{name} is {arguments.shown(x)}: it must be a sequence")
    return tuple(x)


def is_several(x: Any) -> bool:
    """Whether this is a sequence, rather than one value for all layers."""
    return isinstance(x, (Sequence, np.ndarray)) and not isinstance(x, str | bytes) and getattr(x, "ndim", 1) > 0


def largest(x: NDArray) -> int:
    """max|x| as a Python integer (0 for an empty array)."""
    return max(abs(int(x.max())), abs(int(x.min()))) if x.size else 0


def matmul(a: NDArray, b: NDArray) -> NDArray:
    """a @ b in exact integers: (N, d) by (d, o); int64 when the proved bound allows, else Python integers."""
    wide = b.astype(object) if largest(b) * b.shape[0] >= _INT else b
    columns = np.abs(wide).sum(axis=0) if b.size else np.zeros(b.shape[1:], np.int64)
    bound = largest(a) * (int(columns.max()) if columns.size else 0)
    if a.dtype != object and b.dtype != object:
        if bound < _FLOAT:
            return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
        if bound < _INT:
            return a.astype(np.int64) @ b.astype(np.int64)
    return a.astype(object) @ b.astype(object)


def scale(x: NDArray, factor: int) -> NDArray:
    """x · factor in exact integers."""
    if x.dtype == object or max(largest(x), 1) * abs(factor) >= _INT:
        return x.astype(object) * factor
    return x * np.int64(factor)


def divide(x: NDArray, divisor: int) -> tuple[NDArray, NDArray]:
    """⌊x/divisor⌋ and what is left, in exact integers."""
    if x.dtype == object or divisor >= _INT:
        x = x.astype(object)
        return x // divisor, x % divisor
    return np.divmod(x, divisor)


def outer_relu(x: NDArray, u: NDArray) -> NDArray:
    """max(u_jk · x_j, 0) as (N, d·m): the hidden layer that the block-diagonal U makes of inputs (N, d)."""
    if x.dtype == object or largest(x) * largest(u) >= _INT:
        product = x.astype(object)[:, :, None] * u.astype(object)[None]
        product[product < 0] = 0
    else:
        product = np.maximum(x[:, :, None] * u[None], 0)
    return product.reshape(x.shape[0], u.size)


def outer(x: NDArray, u: NDArray) -> NDArray:
    """u_jk · x_j as (N, d·m), without the ReLU."""
    if x.dtype == object or largest(x) * largest(u) >= _INT:
        x, u = x.astype(object), u.astype(object)
    return (x[:, :, None] * u[None]).reshape(x.shape[0], u.size)


def round_half_up(x: NDArray, divisor: int) -> NDArray:
    """⌊x/divisor + ½⌋ in integers, and back to int64 when the result fits."""
    if divisor == 1:
        return x
    if x.dtype != object and 2 * (largest(x) + divisor) >= _INT:
        x = x.astype(object)
    y = (2 * x + divisor) // (2 * divisor)
    if y.dtype == object and largest(y) < _INT:
        y = y.astype(np.int64)
    return y


def relu(x: NDArray) -> NDArray:
    """max(x, 0)."""
    return np.maximum(x, 0)
