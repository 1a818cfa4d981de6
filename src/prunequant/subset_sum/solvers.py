"""Find a subset with a given sum: exact, for one instance or for millions.

The random subset sum problem of the strong lottery ticket construction: samples x, a target t, a mask s with s·x = t
(Kumar & Natale 2025, Lemma 4). A prefix of log2(max|x|) + 4 samples usually suffices, so a search costs about the
square root of the range of the samples, however many samples there are; the prefix grows until the answer is proved.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import integer
from prunequant.threads import run_rows

from . import _kernels_solve as kernels
from ._validate import MAX_TABLE_BYTES, SearchTooLarge, row_lengths, row_targets, values

MAX_MEET_ITEMS = 52


class Solutions(NamedTuple):
    """Masks (N, n) bool and found (N,) bool; a row that has no solution has an empty mask."""

    masks: NDArray[np.bool_]
    found: NDArray[np.bool_]


class Words(NamedTuple):
    """Masks as words (N,) uint64, bit j for sample j, and found (N,) bool."""

    words: NDArray[np.uint64]
    found: NDArray[np.bool_]


def solve(x: NDArray[np.int64], target: int) -> NDArray[np.bool_] | None:
    """A subset of x with sum `target`, or None when it is proved that there is none.

    Parameters
    ----------
    x : (n,) integers, |x| <= 2**40
    target : int, of any size

    Returns
    -------
    (n,) bool with ``x[mask].sum() == target``, or None

    Raises
    ------
    TypeError, ValueError : x or target is not of integers, x is not one-dimensional, a value passes 2**40
    SearchTooLarge : more than 52 samples left it open and their range is too large for a table

    Notes
    -----
    Meet in the middle on a growing prefix, O(2**(p/2)) for a prefix of p samples; a table of all sums with a
    witness, O(n·Σ|x|/64), where that is cheaper. Source: Horowitz & Sahni 1974, with hashed filters in place of
    sorting. Twin: tests/naive/subset_sum.py.

    Examples
    --------
    >>> import numpy as np
    >>> solve(np.array([3, -1, 4]), 2)
    array([ True,  True, False])
    >>> solve(np.array([2, 4, 8]), 5) is None
    True
    """
    x, _ = values(x, ndim=(1,))
    target = integer(target, "target")
    mask = np.zeros(x.shape[0], dtype=bool)
    if not int(np.minimum(x, 0).sum()) <= target <= int(np.maximum(x, 0).sum()):
        return None
    result = _solve(x[None, :], np.array([target]), np.array([x.shape[0]]))
    columns = min(64, x.shape[0])
    if result.status[0] == kernels.FOUND:
        mask[:columns] = (result.words[0] >> np.arange(columns, dtype=np.uint64)) & np.uint64(1) != 0
    elif result.status[0] == kernels.UNDECIDED:
        return _settle(x, target)
    else:
        return None
    return mask


def solve_words(x: NDArray[np.int64], targets: ArrayLike, lengths: ArrayLike | None = None) -> Words:
    """`solve_many` for at most 64 samples a row, the masks as one 64-bit word a row.

    Parameters
    ----------
    x : (N, n) integers, n <= 64, |x| <= 2**40 — one instance a row
    targets : (N,) integers, or one for all rows
    lengths : (N,) integers, optional — row i uses only its first lengths[i] entries

    Returns
    -------
    Words(words (N,) uint64, found (N,) bool) : bit j of a word says whether sample j is in the subset

    Examples
    --------
    >>> import numpy as np
    >>> words, found = solve_words(np.array([[3, -1, 4], [2, 4, 8]]), [2, 5])
    >>> words.tolist(), found.tolist()
    ([3, 0], [True, False])
    """
    x, _ = values(x, ndim=(2,))
    if x.shape[1] > 64:
        raise ValueError(f"x has {x.shape[1]} columns: at most 64 fit a word; use solve_many")
    lengths = row_lengths(lengths, *x.shape)
    targets = row_targets(targets, x.shape[0])
    raw = _solve(x, targets, lengths)
    for i in np.flatnonzero(raw.status == kernels.UNDECIDED):
        mask = _settle(x[i, : lengths[i]], int(targets[i]))
        raw.status[i] = kernels.IMPOSSIBLE if mask is None else kernels.FOUND
        if mask is not None:
            raw.words[i] = sum(1 << int(j) for j in np.flatnonzero(mask))
    return Words(raw.words, raw.status == kernels.FOUND)


def solve_many(x: NDArray[np.int64], targets: ArrayLike, lengths: ArrayLike | None = None) -> Solutions:
    """`solve` for every row of x, on all threads; the result does not depend on their number.

    Parameters
    ----------
    x : (N, n) integers, |x| <= 2**40 — one instance a row
    targets : (N,) integers, or one for all rows
    lengths : (N,) integers, optional — row i uses only its first lengths[i] entries

    Returns
    -------
    Solutions(masks (N, n) bool, found (N,) bool) : every mask has been checked, ``(masks * x).sum(1) == targets``
    where found

    Raises
    ------
    TypeError, ValueError : shapes, dtypes or values as in `solve`
    SearchTooLarge : a row is beyond every method (see `solve`)

    Examples
    --------
    >>> import numpy as np
    >>> masks, found = solve_many(np.array([[3, -1, 4], [2, 4, 8]]), [2, 5])
    >>> found
    array([ True, False])
    """
    x, _ = values(x, ndim=(2,))
    rows, columns = x.shape
    lengths = row_lengths(lengths, rows, columns)
    targets = row_targets(targets, rows)
    raw = _solve(x, targets, lengths)
    masks = np.zeros((rows, columns), dtype=bool)
    if columns <= 64:
        wrong = run_rows(
            lambda start, stop: kernels.unpack_rows(x, raw.words, targets, raw.status, masks, start, stop), rows, 4096
        )
        _verify(not any(wrong), f"{sum(wrong)} masks do not sum to their targets")
    else:
        bits = np.arange(64, dtype=np.uint64)
        for i in np.flatnonzero(raw.status == kernels.FOUND):
            masks[i, :64] = (raw.words[i] >> bits) & np.uint64(1) != 0
            _verify(int(x[i, masks[i]].sum()) == int(targets[i]), f"the mask of row {i} does not sum to its target")
    for i in np.flatnonzero(raw.status == kernels.UNDECIDED):
        mask = _settle(x[i, : lengths[i]], int(targets[i]))
        raw.status[i] = kernels.IMPOSSIBLE if mask is None else kernels.FOUND
        if mask is not None:
            masks[i, : lengths[i]] = mask
    return Solutions(masks, raw.status == kernels.FOUND)


class _Raw(NamedTuple):
    words: np.ndarray
    status: np.ndarray


def _solve(x: np.ndarray, targets: np.ndarray, lengths: np.ndarray) -> _Raw:
    """The batch kernel over the first 64 columns; a longer row that these leave without a solution stays undecided."""
    rows = x.shape[0]
    used = np.minimum(lengths, 64)
    words = np.empty(rows, dtype=np.uint64)
    status = np.empty(rows, dtype=np.uint8)
    run_rows(lambda start, stop: kernels.solve_rows(x, used, targets, words, status, start, stop), rows)
    _verify(not (status == kernels.WRONG).any(), "a mask does not sum to its target")
    status[(lengths > 64) & (status == kernels.IMPOSSIBLE)] = kernels.UNDECIDED
    return _Raw(words, status)


def _settle(x: np.ndarray, target: int) -> np.ndarray | None:
    """One instance that the batch left open: a longer prefix, or the table of all sums, whichever is cheaper."""
    used = np.flatnonzero(x)
    items = x[used]
    below, above = int(np.minimum(items, 0).sum()), int(np.maximum(items, 0).sum())
    if not below <= target <= above:
        return None
    divisor = int(np.gcd.reduce(items)) if items.size else 1
    if target % divisor:
        return None
    items, target, below, above = items // divisor, target // divisor, below // divisor, above // divisor
    count = items.shape[0]
    goal = target - below  # as a sum of magnitudes: the positive taken, the negative left out
    mirrored = 2 * goal > above - below
    if mirrored:
        goal = above - below - goal
    table_fits = 2 * (goal + 1) <= MAX_TABLE_BYTES and count < 2**16
    table_cost = count * goal / 64 + 8 * goal
    shortest = min(count, int(np.abs(items).max()).bit_length() + 16, kernels.BATCH_ITEMS)
    longest = min(count, MAX_MEET_ITEMS)
    for prefix in [*range(shortest, longest, 4), longest]:
        if table_fits and table_cost < 8 * 2 ** (prefix / 2):
            break
        found, mask = kernels.meet_large(items, prefix, target)
        if found:
            return _checked(x, used[:prefix][_bits(mask, prefix)], target * divisor)
        if prefix == count:
            return None
    if not table_fits:
        raise SearchTooLarge(
            f"x has {count} non-zero values and sums up to {above - below}: no subset of the first {longest} reaches "
            f"{target * divisor}, and a table of {goal + 1} sums passes {MAX_TABLE_BYTES} bytes"
        )
    first = np.zeros(goal + 1, dtype=np.uint16)
    sizes = np.abs(items)
    if not kernels.table_witness(sizes, goal, first):
        return None
    taken = np.zeros(count, dtype=bool)
    while goal:
        item = int(first[goal]) - 1
        taken[item] = True
        goal -= int(sizes[item])
    return _checked(x, used[taken ^ (items < 0) ^ mirrored], target * divisor)


def _bits(mask, count: int) -> np.ndarray:
    return (np.uint64(mask) >> np.arange(count, dtype=np.uint64)) & np.uint64(1) != 0


def _checked(x: np.ndarray, chosen: np.ndarray, target: int) -> np.ndarray:
    mask = np.zeros(x.shape[0], dtype=bool)
    mask[chosen] = True
    _verify(int(x[mask].sum()) == target, "a mask does not sum to its target")
    return mask


def _verify(right: bool, message: str) -> None:
    """Nothing that fails its own check leaves this module."""
    if not right:
        raise RuntimeError(f"{message}: this is a fault of prunequant.subset_sum, not of the input")
