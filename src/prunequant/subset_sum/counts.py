"""How many subsets have a given sum, exactly, for every target of a window.

The number Z of solutions whose moments Kumar & Natale 2025 (Lemmas 1 and 3) take from Borgs, Chayes & Pittel 2001.
"""

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import output
from prunequant.threads import run_rows

from . import _kernels_count as kernels
from ._buffers import apart
from ._validate import MAX_TABLE_BYTES, SearchTooLarge, values, window

_MAX_JOIN_ITEMS = 48
_MAX_JOIN_MATCHES = 2.0**36


def count(x: NDArray[np.int64], low: int, high: int, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """Number of subsets of x with sum t, for every t in [low, high].

    Parameters
    ----------
    x : (n,) or (N, n) integers, |x| <= 2**40 — one instance, or one a row
    low, high : int — the window, both ends included, within [-2**62, 2**62]
    out : C-contiguous uint64 of the result's shape, optional — filled and returned; fresh memory costs more than
    small counts

    Returns
    -------
    (high - low + 1,) or (N, high - low + 1) uint64 — equal samples at different places make different subsets

    Raises
    ------
    TypeError, ValueError : not integers, an empty window, values or sums too large, an `out` that does not fit
    OverflowError : more than 63 samples and a number that passes 2**64 - 1
    SearchTooLarge : neither the table nor the join of two halves fits

    Notes
    -----
    Table: O(n·Σ|x|) additions, mirrored and kept to the band of useful sums, 32 bits wide when n <= 31. Join of
    two sorted halves: O(2**(n/2) + subsets in the window). The cheaper by an estimate. Twin: tests/naive/subset_sum.py.

    Examples
    --------
    >>> import numpy as np
    >>> count(np.array([1, 1, 2, -1]), -1, 2)
    array([1, 3, 4, 4], dtype=uint64)
    """
    x, _ = values(x)
    low, high = window(low, high)
    instances = x if x.ndim == 2 else x[None, :]
    rows, columns = instances.shape
    width = high - low + 1
    if 8 * width * rows > MAX_TABLE_BYTES:
        raise SearchTooLarge(f"{rows} rows of {width} targets: the answer passes {MAX_TABLE_BYTES} bytes")
    shape = (rows, width) if x.ndim == 2 else (width,)
    if out is None:
        out = np.empty(shape, dtype=np.uint64)
    else:
        output(out, "out", shape, np.uint64, x)
    numbers = out.reshape(rows, width)
    dtype = np.uint32 if columns <= 31 else np.uint64
    total = max((int(np.abs(row).sum()) for row in instances), default=0)
    cells = apart(min(total // 2 + width, total) + 2)
    checked = columns > 63
    fits = 2 * cells * np.dtype(dtype).itemsize <= MAX_TABLE_BYTES
    spread = float(np.sqrt(np.mean(np.square(instances, dtype=float)))) * columns**0.5 if instances.size else 0.0
    matches = 2.0**columns * min(1.0, width / (1.2 * spread + 1.0))
    # nanoseconds, measured once; only the choice between two exact methods hangs on them
    join_cost = 1.0 * matches + 3 * columns + 2.0 ** (columns / 2 + 2)
    table_cost = (0.12 if cells < 2**20 else 0.26) * columns * total / 4 + 0.3 * width + 50 * columns
    can_join = columns <= _MAX_JOIN_ITEMS and matches <= _MAX_JOIN_MATCHES
    if can_join and (not fits or join_cost < table_cost):
        run_rows(lambda start, stop: kernels.join_rows(instances, low, high, numbers, start, stop), rows, 2, 1)
    elif fits:
        overflow = np.empty(rows, dtype=bool)

        def work(start: int, stop: int) -> None:
            table = np.empty(2 * cells, dtype=dtype)
            kernels.count_rows(instances, low, high, table, checked, numbers, overflow, start, stop)

        run_rows(work, rows, 2, 1)
        if overflow.any():
            row = int(np.flatnonzero(overflow)[0])
            raise OverflowError(f"x has {columns} samples: a number of subsets of row {row} passes 2**64 - 1")
    else:
        raise SearchTooLarge(
            f"{columns} samples, sums of magnitudes up to {total}: too many for a join of two halves, and the table "
            f"passes {MAX_TABLE_BYTES} bytes"
        )
    return out
