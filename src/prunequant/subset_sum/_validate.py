"""Checks of arguments, shared by the public functions: an error names the argument, what was given, what is allowed."""

import operator

import numpy as np

from ._kernels_reach import largest_magnitude

MAX_VALUE = 2**40
MAX_SUM = 2**62
MAX_TABLE_BYTES = 2**30


class SearchTooLarge(ValueError):
    """The instance is beyond every exact method here: too many values for a search, too large ones for a table."""


def integer(value, name: str) -> int:
    """A Python int from any integer (bool excluded)."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}: it must be an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}: it must be an integer") from None


def values(x, name: str = "x", ndim: tuple[int, ...] = (1, 2)) -> tuple[np.ndarray, int]:
    """C-contiguous int64 samples and the largest magnitude among them."""
    x = np.asarray(x)
    if x.size == 0 and x.dtype.kind == "f":  # np.asarray([]) is float
        x = x.astype(np.int64)
    if x.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {x.dtype}: it must hold integers")
    if x.ndim not in ndim:
        allowed = " or ".join("(n,)" if d == 1 else "(N, n)" for d in ndim)
        raise ValueError(f"{name} has shape {x.shape}: it must be {allowed}")
    if x.dtype == np.int64 and x.flags.c_contiguous:
        largest = int(largest_magnitude(x.reshape(-1)))
    else:
        largest = max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0
    if largest > MAX_VALUE:
        raise ValueError(f"{name} holds a value of magnitude {largest}: the largest allowed is 2**40")
    if largest * x.shape[-1] >= MAX_SUM:
        raise ValueError(f"{name} has {x.shape[-1]} values of magnitude up to {largest}: their sums may pass 2**62")
    return np.ascontiguousarray(x, dtype=np.int64), largest


def row_lengths(lengths, rows: int, columns: int) -> np.ndarray:
    """(N,) int64 numbers of used entries, all of them by default."""
    if lengths is None:
        return np.full(rows, columns, dtype=np.int64)
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths has dtype {lengths.dtype}: it must hold integers")
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has shape {lengths.shape}: it must be ({rows},), one entry a row of x")
    if rows and (int(lengths.min()) < 0 or int(lengths.max()) > columns):
        raise ValueError(f"lengths spans [{lengths.min()}, {lengths.max()}]: it must stay in [0, {columns}]")
    return np.ascontiguousarray(lengths, dtype=np.int64)


def row_targets(targets, rows: int) -> np.ndarray:
    """(N,) int64 targets; anything beyond 2**62 is out of reach of every sum and is brought back to there."""
    targets = np.asarray(targets)
    if targets.dtype == object and all(isinstance(t, int) for t in targets.flat):
        targets = np.asarray(np.clip(targets, -MAX_SUM, MAX_SUM), dtype=np.int64)
    if targets.size == 0 and targets.dtype.kind == "f":
        targets = targets.astype(np.int64)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets has dtype {targets.dtype}: it must hold integers")
    if targets.shape not in ((), (rows,)):
        raise ValueError(f"targets has shape {targets.shape}: it must be ({rows},), one target a row of x, or a scalar")
    limit = np.asarray(MAX_SUM, dtype=np.uint64 if targets.dtype.kind == "u" else np.int64)
    if targets.dtype.itemsize == 8:
        targets = np.minimum(targets, limit)
        if targets.dtype.kind == "i":
            targets = np.maximum(targets, -limit)
    return np.ascontiguousarray(np.broadcast_to(targets, (rows,)), dtype=np.int64)


def window(low, high) -> tuple[int, int]:
    """A non-empty window of integers."""
    low, high = integer(low, "low"), integer(high, "high")
    if low > high:
        raise ValueError(f"the window [{low}, {high}] is empty: low must not pass high")
    if low < -MAX_SUM or high > MAX_SUM:
        raise ValueError(f"the window [{low}, {high}] must lie within [-2**62, 2**62]")
    return low, high
