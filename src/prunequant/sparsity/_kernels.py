"""float32 kernels of the masks: N of M in one pass, and the exact k-th largest magnitude without a sort.

Magnitudes are compared as the integer bit patterns of |x|, whose order is that of the numbers and in which NaN and
infinity are the largest: a kernel returns the largest it saw, so a caller refuses them without another pass.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from prunequant.parallel import one_at_a_time

_ABS = np.int32(0x7FFFFFFF)
_RUN = 1 << 15


@njit(cache=True)
def _two_of_four(bits, out, start, stop):
    """out = bits where they are among the two largest magnitudes of their four, else 0; the earlier wins a tie."""
    largest = np.int32(0)
    for group in range(np.uint64(start), np.uint64(stop)):
        i = group * np.uint64(4)
        w, x, y, z = bits[i], bits[i + np.uint64(1)], bits[i + np.uint64(2)], bits[i + np.uint64(3)]
        a, b, c, d = w & _ABS, x & _ABS, y & _ABS, z & _ABS
        ab, ac, ad = np.int32(a >= b), np.int32(a >= c), np.int32(a >= d)
        bc, bd, cd = np.int32(b >= c), np.int32(b >= d), np.int32(c >= d)
        # each value wins against three others; the two kept win at least twice
        out[i] = w if ab + ac + ad >= 2 else np.int32(0)
        out[i + np.uint64(1)] = x if bc + bd - ab >= 1 else np.int32(0)
        out[i + np.uint64(2)] = y if cd - ac - bc >= 0 else np.int32(0)
        out[i + np.uint64(3)] = z if ad + bd + cd <= 1 else np.int32(0)
        largest = max(largest, max(max(a, b), max(c, d)))
    return largest


@one_at_a_time
@njit(cache=True, parallel=True)
def two_of_four(bits, out):
    """2:4 magnitude pruning of a flat array of float32 bit patterns whose length is a multiple of 4."""
    groups = bits.size // 4
    runs = (groups + _RUN - 1) // _RUN
    largest = np.zeros(runs, np.int32)
    for run in prange(runs):
        largest[run] = _two_of_four(bits, out, run * _RUN, min((run + 1) * _RUN, groups))
    return largest.max() if runs else np.int32(0)


@one_at_a_time
@njit(cache=True, parallel=True)
def bracket(bits, low, high, slots, counts):
    """How many |x| lie below `low`, and which lie in [low, high]: one pass over memory.

    slots : (tasks, room) int32 for the magnitudes found; counts : (tasks, 3) int64 = below, inside, largest. A task
    that finds more than `room` counts on without storing.
    """
    tasks, room = slots.shape
    each = (bits.size + tasks - 1) // tasks
    for task in prange(tasks):
        below, inside, largest = np.int64(0), np.int64(0), np.int32(0)
        start, stop = task * each, min((task + 1) * each, bits.size)
        for piece in range(start, stop, 32):
            first, last = np.uint64(piece), np.uint64(min(piece + 32, stop))
            count, hit = np.int32(0), np.int32(0)
            for i in range(first, last):
                a = bits[i] & _ABS
                count += np.int32(a < low)
                hit += np.int32(a <= high)
                largest = max(largest, a)
            below += count
            if hit != count:
                for i in range(first, last):
                    a = bits[i] & _ABS
                    if low <= a <= high:
                        if inside < room:
                            slots[task, inside] = a
                        inside += 1
        counts[task, 0] = below
        counts[task, 1] = inside
        counts[task, 2] = largest


@one_at_a_time
@njit(cache=True, parallel=True)
def keep_from(bits, threshold, mask, counts):
    """mask = |x| >= threshold; counts[run] = how many, and how many of them equal the threshold."""
    for run in prange(counts.shape[0]):
        kept, equal = np.int32(0), np.int32(0)
        for i in range(np.uint64(run * _RUN), np.uint64(min((run + 1) * _RUN, bits.size))):
            a = bits[i] & _ABS
            mask[i] = a >= threshold
            kept += np.int32(a >= threshold)
            equal += np.int32(a == threshold)
        counts[run, 0] = kept
        counts[run, 1] = equal


def warm() -> None:
    """Compile every kernel, on a handful of values."""
    bits = np.linspace(-1, 1, 8, dtype=np.float32).view(np.int32)
    bits.flags.writeable = False  # the type that `formats.base.flat` makes
    two_of_four(bits, np.empty_like(bits))
    bracket(bits, np.int32(0), np.int32(5), np.empty((1, 8), np.int32), np.empty((1, 3), np.int64))
    keep_from(bits, np.int32(5), np.empty(8, np.bool_), np.zeros((1, 2), np.int64))
