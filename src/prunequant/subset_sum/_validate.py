"""What is particular to subset sums in the checks of arguments: samples, targets, lengths and windows."""

import operator

import numpy as np

from prunequant.arguments import integer, integers, real, shown

from ._kernels_reach import largest_magnitude

MAX_VALUE = 2**40
MAX_SUM = 2**62
MAX_TABLE_BYTES = 2**30


class SearchTooLarge(ValueError):
    """The instance is beyond every exact method here: too many values for a search, too large ones for a table."""


def number(value, name: str, low: float | None = None, high: float | None = None) -> int | float:
    """A Python int where an integer was given, so that products of integers stay exact, else a Python float."""
    checked = real(value, name, low, high)
    try:
        return operator.index(value)
    except TypeError:
        return checked


def values(x, name: str = "x", ndim: tuple[int, ...] = (1, 2)) -> tuple[np.ndarray, int]:
    """C-contiguous int64 samples and the largest magnitude among them."""
    x = integers(x, name)
    if x.ndim not in ndim:
        allowed = " or ".join("(n,)" if d == 1 else "(N, n)" for d in ndim)
        raise ValueError(f"{name} has shape {x.shape}: it must be {allowed}")
    if x.dtype == np.int64 and x.flags.c_contiguous:
        largest = int(largest_magnitude(x.reshape(-1)))
    else:
        largest = max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0
    if largest > MAX_VALUE:
        raise ValueError(f"{name} holds a value of magnitude {shown(largest)}: the largest allowed is 2**40")
    if largest * x.shape[-1] >= MAX_SUM:
        raise ValueError(f"{name} has {x.shape[-1]} values of magnitude up to {largest}: their sums may pass 2**62")
    return np.ascontiguousarray(x, dtype=np.int64), largest


def row_lengths(lengths, rows: int, columns: int) -> np.ndarray:
    """(N,) int64 numbers of used entries, all of them by default."""
    if lengths is None:
        return np.full(rows, columns, dtype=np.int64)
    lengths = integers(lengths, "lengths")
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has shape {lengths.shape}: it must be ({rows},), one entry a row of x")
    if rows and (int(lengths.min()) < 0 or int(lengths.max()) > columns):
        raise ValueError(f"lengths spans [{lengths.min()}, {lengths.max()}]: it must stay in [0, {columns}]")
    return np.ascontiguousarray(lengths, dtype=np.int64)


def row_targets(targets, rows: int) -> np.ndarray:
    """(N,) int64 targets; anything beyond 2**62 is out of reach of every sum and is brought back to there."""
    targets = integers(targets, "targets")
    if targets.dtype == object:
        targets = np.asarray(np.clip(targets, -MAX_SUM, MAX_SUM), dtype=np.int64)
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
    low, high = integer(low, "low", -MAX_SUM, MAX_SUM), integer(high, "high", -MAX_SUM, MAX_SUM)
    if low > high:
        raise ValueError(f"the window [{low}, {high}] is empty: low must not pass high")
    return low, high
