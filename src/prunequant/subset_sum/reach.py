"""Which integers of a window are subset sums: all targets of an instance decided together.

Kumar & Natale 2025 ask for every weight of a quantization set (Lemma 5): every target of a window.
"""

import numpy as np
from numpy.typing import NDArray

from prunequant.threads import run_rows

from . import _kernels_reach as kernels
from ._buffers import apart
from ._validate import MAX_TABLE_BYTES, SearchTooLarge, values, window

_SMALL = 63


def reachable(x: NDArray[np.int64], low: int, high: int) -> NDArray[np.bool_]:
    """Which integers in [low, high] are a sum of some of the x.

    Parameters
    ----------
    x : (n,) or (N, n) integers, |x| <= 2**40 — one instance, or one a row
    low, high : int — the window, both ends included, within [-2**62, 2**62]

    Returns
    -------
    (high - low + 1,) or (N, high - low + 1) bool — entry t - low says whether t is reached (the empty sum is 0)

    Raises
    ------
    TypeError, ValueError : not integers, an empty window, values or sums too large
    SearchTooLarge : the bit set, or the answer, would pass `MAX_TABLE_BYTES`

    Notes
    -----
    Shift-or over a bit set, O(n·Σ|x|/64) words at most; read in the mirror beyond half the total, since a set and
    its complement have sums that add up to Σx. Twin: tests/naive/subset_sum.py.

    Examples
    --------
    >>> import numpy as np
    >>> reachable(np.array([3, -1, 4]), -1, 4)
    array([ True,  True, False,  True,  True,  True])
    >>> reachable(np.array([[2, 4], [1, 2]]), 0, 3).astype(int)
    array([[1, 0, 1, 0],
           [1, 1, 1, 1]])
    """
    x, largest = values(x)
    low, high = window(low, high)
    rows = x if x.ndim == 2 else x[None, :]
    width = high - low + 1
    if width * rows.shape[0] > MAX_TABLE_BYTES:
        raise SearchTooLarge(f"{rows.shape[0]} rows of {width} targets pass {MAX_TABLE_BYTES} bytes: use covered")
    out = np.empty((rows.shape[0], width), dtype=bool)
    _run(rows, low, high, largest, out)
    return out if x.ndim == 2 else out[0]


def covered(x: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64] | int:
    """How many integers in [low, high] are a sum of some of the x: `reachable` without the table of answers.

    Parameters
    ----------
    x : (n,) or (N, n) integers, |x| <= 2**40
    low, high : int — the window, both ends included, within [-2**62, 2**62]

    Returns
    -------
    int, or (N,) int64

    Examples
    --------
    >>> import numpy as np
    >>> covered(np.array([[2, 4], [1, 2]]), 0, 3)
    array([2, 4])
    """
    x, largest = values(x)
    low, high = window(low, high)
    rows = x if x.ndim == 2 else x[None, :]
    hits = _run(rows, low, high, largest, np.empty((0, 0), dtype=bool))
    return hits if x.ndim == 2 else int(hits[0])


def _run(x: np.ndarray, low: int, high: int, largest: int, out: np.ndarray) -> np.ndarray:
    rows, columns = x.shape
    hits = np.empty(rows, dtype=np.int64)
    want_bits = out.size > 0
    top = largest * columns
    if top // 8 * 2 > MAX_TABLE_BYTES:
        top = max((int(np.abs(row).sum()) for row in x), default=0)
        if top // 8 * 2 > MAX_TABLE_BYTES:
            raise SearchTooLarge(
                f"x has sums of magnitudes up to {top}: their bit sets pass {MAX_TABLE_BYTES} bytes; "
                "use solve for single targets"
            )
    words = top // 64 + 2
    capacity = apart(words + largest // 64 + 3 + int(kernels.STEP))
    if largest <= _SMALL:
        run_rows(
            lambda start, stop: kernels.reach_small_rows(x, low, high, words, want_bits, out, hits, start, stop),
            rows,
            4 * kernels.BLOCK,
        )
    else:
        run_rows(
            lambda start, stop: kernels.reach_rows(x, low, high, largest, capacity, want_bits, out, hits, start, stop),
            rows,
            8,
        )
    return hits
