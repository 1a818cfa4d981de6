"""Karmarkar-Karp differencing: a subset with a given sum in O(n log n), when there are samples to spare.

Replace the two largest numbers by their difference until one is left; if that is 0 the numbers split into two
equal sides. By Lemma 2 of Kumar & Natale 2025 a subset sum t is such a split of the |x| and |Λ - 2t|. A heuristic:
it may miss a subset that exists, it never returns a wrong one. It succeeds with high probability from about 8·log2
M samples on for M <= 2**24. Source: Karmarkar & Karp 1982.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import integer
from prunequant.threads import run_rows

from . import _kernels_difference as kernels
from ._validate import MAX_SUM, row_lengths, row_targets, values
from .solvers import Solutions, _verify


def karmarkar_karp(x: NDArray[np.int64], target: int) -> NDArray[np.bool_] | None:
    """A subset of x with sum `target`, or None when differencing does not end at 0 (which proves nothing).

    Parameters
    ----------
    x : (n,) integers, |x| <= 2**40
    target : int, of any size

    Returns
    -------
    (n,) bool with ``x[mask].sum() == target``, or None

    Examples
    --------
    >>> import numpy as np
    >>> karmarkar_karp(np.array([8, 7, 6, 5, 4]), 15) is None  # although 8 + 7 = 15
    True
    >>> karmarkar_karp(np.array([9, 7, 6, 3, -2]), 13)
    array([ True, False,  True, False,  True])
    """
    x, _ = values(x, ndim=(1,))
    target = integer(target, "target")
    if abs(target) > MAX_SUM // 4:
        return None
    masks, found = karmarkar_karp_many(x[None, :], np.array([target]))
    return masks[0] if found[0] else None


def karmarkar_karp_many(x: NDArray[np.int64], targets: ArrayLike, lengths: ArrayLike | None = None) -> Solutions:
    """`karmarkar_karp` for every row of x, on all threads.

    Parameters
    ----------
    x : (N, n) integers, |x| <= 2**40 — one instance a row, any n
    targets : (N,) integers, or one for all rows
    lengths : (N,) integers, optional — row i uses only its first lengths[i] entries

    Returns
    -------
    Solutions(masks (N, n) bool, found (N,) bool) : every mask found has been checked

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).integers(-256, 257, (100, 64))
    >>> int(karmarkar_karp_many(x, 100).found.sum())
    100
    """
    x, largest = values(x, ndim=(2,))
    rows, columns = x.shape
    if columns * largest >= MAX_SUM // 4:
        raise ValueError(f"x has {columns} values of magnitude up to {largest}: their sums may pass 2**60")
    lengths = row_lengths(lengths, rows, columns)
    targets = row_targets(targets, rows)
    limit = MAX_SUM // 4
    reachable = np.abs(targets) <= limit
    masks = np.empty((rows, columns), dtype=bool)
    found = np.empty(rows, dtype=bool)
    clipped = np.clip(targets, -limit, limit)
    wrong = run_rows(lambda start, stop: kernels.difference_rows(x, lengths, clipped, masks, found, start, stop), rows)
    _verify(not any(wrong), "a mask does not sum to its target")
    found &= reachable
    masks[~reachable] = False
    return Solutions(masks, found)
