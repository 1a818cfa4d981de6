"""The exact k-th largest magnitude of a large array, at the speed of memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats.base import as_values, flat
from prunequant.sparsity import _kernels

_SAMPLE = 1 << 16
SMALL = 1 << 18


def bits_of(x: NDArray[np.float32]) -> NDArray[np.int32]:
    """The bit patterns of all values, flat; without their sign they are ordered as the magnitudes are."""
    return flat(x).view(np.int32)


def refuse_beyond(largest: int) -> None:
    """An error where the largest bit pattern of a magnitude is that of an infinity or NaN."""
    if largest >= 0x7F800000:
        raise ValueError("x holds NaN or infinity: every value must be finite")


def kth_largest_magnitude(x: ArrayLike, k: int) -> float:
    """The k-th largest |x|, exactly: k = 1 is the largest.

    Parameters
    ----------
    x : array of real numbers, finite.
    k : 1 to x.size.

    Raises
    ------
    TypeError : x that does not hold real numbers, or k that is no integer.
    ValueError : an empty x, NaN or infinity, k outside [1, x.size].

    Notes
    -----
    float32 arrays of more than 262,144 values take a sample, bracket the answer between two of its order statistics,
    and count and collect in one pass; should the bracket miss (probability below 1e-6) it is widened, so the
    result is always exact. Expected O(n), about one reading of memory. Others go through np.partition.

    Examples
    --------
    >>> kth_largest_magnitude([3.0, -5.0, 1.0], 2)
    3.0
    """
    x = as_values(x)
    if x.size == 0:
        raise ValueError("x is empty: it must hold at least one value")
    k = arguments.integer(k, "k", 1, x.size)
    if x.dtype != np.float32 or x.size <= SMALL:
        magnitudes = np.abs(x).reshape(-1)
        if not np.all(np.isfinite(magnitudes)):
            raise ValueError("x holds NaN or infinity: every value must be finite")
        return float(np.partition(magnitudes, x.size - k)[x.size - k])
    return float(np.int32(_kth_bits(bits_of(x), k)).view(np.float32))


def _kth_bits(bits: NDArray[np.int32], k: int) -> int:
    """The k-th largest bit pattern of |x| by a sampled bracket."""
    n = bits.size
    rank = n - k  # from below, from 0
    # strided places, jittered by a fixed generator so that no period of the data can line up with them
    stride = n // _SAMPLE
    places = np.arange(_SAMPLE) * stride + np.random.default_rng(0).integers(0, stride, _SAMPLE)
    sample = np.sort(bits[places] & 0x7FFFFFFF)
    p = rank / n
    width = 6 * np.sqrt(_SAMPLE * max(p * (1 - p), 1e-6)) + 8
    tasks = max(1, min(256, n >> 14))
    while True:
        low_place, high_place = int(p * _SAMPLE - width), int(p * _SAMPLE + width)
        low = sample[low_place] if low_place >= 0 else np.int32(0)
        high = sample[high_place] if high_place < _SAMPLE else np.int32(0x7FFFFFFF)
        room = int(2.5 * width * stride / tasks) + 4096
        slots, counts = np.empty((tasks, room), np.int32), np.empty((tasks, 3), np.int64)
        _kernels.bracket(bits, low, high, slots, counts)
        refuse_beyond(counts[:, 2].max())
        below, inside = int(counts[:, 0].sum()), int(counts[:, 1].sum())
        if below <= rank < below + inside:
            if low == high:
                return int(low)
            if counts[:, 1].max() <= room:
                collected = np.concatenate([slots[t, : counts[t, 1]] for t in range(tasks)])
            else:  # many equal values in the bracket: collect them plainly
                magnitudes = bits & 0x7FFFFFFF
                collected = magnitudes[(magnitudes >= low) & (magnitudes <= high)]
            return int(np.partition(collected, rank - below)[rank - below])
        width *= 4


def keep_from_kth(x: NDArray[np.float32], keep: int) -> tuple[NDArray[np.bool_], NDArray[np.intp], int]:
    """The mask |x| >= t of a large flat float32 array, where t is its keep-th largest magnitude.

    Also the places of the magnitudes that equal t when the mask holds more than `keep` (else none), and how many of
    them must stay.
    """
    bits = bits_of(x)
    threshold = np.int32(_kth_bits(bits, keep))
    mask = np.empty(bits.size, dtype=bool)
    counts = np.zeros((-(-bits.size // _kernels._RUN), 2), np.int64)
    _kernels.keep_from(bits, threshold, mask, counts)
    kept, equal = counts.sum(axis=0)
    if kept == keep:
        return mask, np.empty(0, np.intp), 0
    return mask, np.flatnonzero((bits & 0x7FFFFFFF) == threshold), int(equal - (kept - keep))
