"""Exact integer arithmetic on arrays: products and roundings that never wrap and never round by accident.

A product of integer matrices is done in float64 by the platform's matrix routine when a bound proved beforehand keeps
every partial sum below 2⁵³ (then each of them is an integer that float64 holds exactly), in int64 below 2⁶³, and in
Python integers beyond. The bound is max|a| · max over columns of Σ|b|.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FLOAT, _INT = 2**53, 2**63


def integers(x: ArrayLike, name: str) -> NDArray:
    """The array as int64 (or Python integers when it holds some beyond int64); anything else is an error."""
    array = np.asarray(x)
    if array.dtype == object:
        if not all(isinstance(v, (int, np.integer)) for v in array.ravel()):
            raise TypeError(f"{name} holds values that are not integers")
        return array
    if array.dtype == bool or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} has dtype {array.dtype}: integers are needed (multiply by 1/step and round first)")
    if array.dtype == np.uint64 and array.size and array.max() > np.uint64(2**63 - 1):
        return array.astype(object)
    return array.astype(np.int64)


def largest(x: NDArray) -> int:
    """max|x| as a Python integer (0 for an empty array)."""
    return max(abs(int(x.max())), abs(int(x.min()))) if x.size else 0


def matmul(a: NDArray, b: NDArray) -> NDArray:
    """a @ b in exact integers: (N, d) by (d, o); int64 when the proved bound allows, else Python integers."""
    columns = np.abs(b).sum(axis=0) if b.size else np.zeros(b.shape[1:], np.int64)
    bound = largest(a) * (int(columns.max()) if columns.size else 0)
    if a.dtype != object and b.dtype != object:
        if bound < _FLOAT:
            return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
        if bound < _INT:
            return a.astype(np.int64) @ b.astype(np.int64)
    return a.astype(object) @ b.astype(object)


def scale(x: NDArray, factor: int) -> NDArray:
    """x · factor in exact integers."""
    if x.dtype == object or largest(x) * abs(factor) >= _INT:
        return x.astype(object) * factor
    return x * np.int64(factor)


def outer_relu(x: NDArray, u: NDArray) -> NDArray:
    """max(u_jk · x_j, 0) as (N, d·m): the hidden layer that the block-diagonal U makes of inputs (N, d)."""
    if x.dtype == object or largest(x) * largest(u) >= _INT:
        product = x.astype(object)[:, :, None] * u.astype(object)[None]
        product[product < 0] = 0
    else:
        product = np.maximum(x[:, :, None] * u[None], 0)
    return product.reshape(x.shape[0], -1)


def outer(x: NDArray, u: NDArray) -> NDArray:
    """u_jk · x_j as (N, d·m), without the ReLU."""
    if x.dtype == object or largest(x) * largest(u) >= _INT:
        x, u = x.astype(object), u.astype(object)
    return (x[:, :, None] * u[None]).reshape(x.shape[0], -1)


def round_half_up(x: NDArray, divisor: int) -> NDArray:
    """⌊x/divisor + ½⌋ in integers, and back to int64 when the result fits."""
    if divisor == 1:
        return x
    if x.dtype != object and 2 * largest(x) + divisor >= _INT:
        x = x.astype(object)
    y = (2 * x + divisor) // (2 * divisor)
    if y.dtype == object and largest(y) < _INT:
        y = y.astype(np.int64)
    return y


def relu(x: NDArray) -> NDArray:
    """max(x, 0)."""
    return np.maximum(x, 0)
