"""The random source network: weights uniform on {−K..K}, addressed by (seed, layer, matrix, index), never stored.

Layer l of the source is a pair. U, the first matrix of the pair, has shape (d·m, d): m hidden units for each of d
inputs; after pruning only the entries that tie unit (j, k) to its input j are left, so only those are ever drawn.
V, the second, has shape (outputs, d·m). The entry in row r and column s of a matrix with S columns is number r·S
+ s of its stream.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunequant.subset_sum._threads import run_rows
from prunequant.tickets import _kernels as kernels

FIRST, SECOND = kernels.FIRST, kernels.SECOND
MAX_HALF_RANGE = 2**15 - 1


def check_seed(seed: int) -> np.uint64:
    """A seed as 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 2**64:
        raise ValueError(f"seed is {seed!r}: an integer from 0 to 2^64 − 1 is needed")
    return np.uint64(seed)


def weights(seed: int, layer: int, matrix: int, half_range: int, start: int, count: int) -> NDArray[np.int64]:
    """Source weights number start … start + count − 1 of one matrix, uniform on {−half_range..half_range}.

    Examples
    --------
    >>> all_ = weights(1, 0, SECOND, 7, 0, 100)
    >>> bool((weights(1, 0, SECOND, 7, 40, 10) == all_[40:50]).all())
    True
    """
    out = np.empty(count, np.int64)
    kernels.fill_source(check_seed(seed), layer, matrix, start, half_range, out)
    return out


def blocks(seed: int, layer: int, half_range: int, columns: int, width: int) -> NDArray[np.int64]:
    """The entries of U that survive pruning: (columns, width), unit k of input j at [j, k]."""
    starts = (np.arange(columns * width) * columns + np.arange(columns).repeat(width)).astype(np.int64)
    out = np.empty((columns * width, 1), np.int64)
    seed = check_seed(seed)
    run_rows(
        lambda start, stop: kernels.fill_rows(seed, layer, FIRST, starts, half_range, out, start, stop),
        out.shape[0],
        4096,
    )
    return out.reshape(columns, width)


def dense(seed: int, layer: int, matrix: int, half_range: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """A whole source matrix, unpruned: for small networks and for tests."""
    return weights(seed, layer, matrix, half_range, 0, shape[0] * shape[1]).reshape(shape)
