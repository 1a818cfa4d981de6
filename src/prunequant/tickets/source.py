"""The random source network: weights uniform on {−K..K}, addressed by (seed, layer, matrix, index), never stored.

Layer l of the source is a pair. U, the first matrix of the pair, has shape (d·m, d): m hidden units for each of d
inputs; after pruning only the entries that tie unit (j, k) to its input j are left, so only those are ever drawn.
V, the second, has shape (outputs, d·m). The entry in row r and column s of a matrix with S columns is number r·S
+ s of its stream.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import integer, shown
from prunequant.threads import run_rows
from prunequant.tickets import _kernels as kernels

FIRST, SECOND = kernels.FIRST, kernels.SECOND
MAX_HALF_RANGE = 2**15 - 1
MAX_COUNT = 2**27  # 1 GiB


def check_seed(seed: int) -> np.uint64:
    """A seed in [0, 2^64 − 1] as 64 bits."""
    return np.uint64(integer(seed, "seed", 0, 2**64 - 1))


def check_layer(layer: int) -> int:
    """The number of a layer of the source, in [0, 2^32 − 1]."""
    return integer(layer, "layer", 0, 2**32 - 1)


def weights(seed: int, layer: int, matrix: int, half_range: int, start: int, count: int) -> NDArray[np.int64]:
    """Source weights number start … start + count − 1 of one matrix, uniform on {−half_range..half_range}.

    Parameters
    ----------
    seed : int in [0, 2^64 − 1]
    layer : int in [0, 2^32 − 1]
    matrix : int in [0, 255]; `FIRST` for U, `SECOND` for V
    half_range : int in [1, 2^15 − 1]
    start : int in [0, 2^62]
    count : int in [0, 2^27]

    Examples
    --------
    >>> all_ = weights(1, 0, SECOND, 7, 0, 100)
    >>> bool((weights(1, 0, SECOND, 7, 40, 10) == all_[40:50]).all())
    True
    """
    key, layer, matrix = check_seed(seed), check_layer(layer), integer(matrix, "matrix", 0, 255)
    half_range = integer(half_range, "half_range", 1, MAX_HALF_RANGE)
    start = integer(start, "start", 0, 2**62)
    out = np.empty(integer(count, "count", 0, MAX_COUNT), np.int64)
    kernels.fill_source(key, layer, matrix, start, half_range, out)
    return out


def blocks(seed: int, layer: int, half_range: int, columns: int, width: int) -> NDArray[np.int64]:
    """The entries of U that survive pruning: (columns, width), unit k of input j at [j, k]; at most 2^26 of them."""
    key, layer = check_seed(seed), check_layer(layer)
    half_range = integer(half_range, "half_range", 1, MAX_HALF_RANGE)
    columns, width = integer(columns, "columns", 0, 2**26), integer(width, "width", 0, 2**26)
    if columns * width > 2**26:
        raise ValueError(f"columns is {columns} and width is {width}: at most 2^26 entries are made at once")
    starts = (np.arange(columns * width) * columns + np.arange(columns).repeat(width)).astype(np.int64)
    out = np.empty((columns * width, 1), np.int64)
    run_rows(
        lambda start, stop: kernels.fill_rows(key, layer, FIRST, starts, half_range, out, start, stop),
        out.shape[0],
        4096,
    )
    return out.reshape(columns, width)


def dense(seed: int, layer: int, matrix: int, half_range: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """A whole source matrix, unpruned: for small networks and for tests; at most 2^27 entries."""
    if not isinstance(shape, list | tuple | np.ndarray) or np.shape(shape) != (2,):
        raise TypeError(f"shape is {shown(shape)}: it must be two integers, (rows, columns)")
    rows, columns = (integer(side, f"shape[{i}]", 0, MAX_COUNT) for i, side in enumerate(shape))
    if rows * columns > MAX_COUNT:
        raise ValueError(f"shape is {(rows, columns)}: at most 2^27 entries are made at once")
    return weights(seed, layer, matrix, half_range, 0, rows * columns).reshape(rows, columns)
