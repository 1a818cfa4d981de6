"""float32 kernels that measure what a block of rows loses: it stays in cache while everything is tried on it.

A block is a C-contiguous array (rows, columns) in a unit that the matrix's largest magnitude is one to two of: squares
neither overflow nor, where they count, underflow. Groups of `group` values run along a row, the last one of a row may
be shorter. The kernels are serial and let go of the interpreter lock: threads share out the blocks, whose sums are
added in their order, so that no result depends on the number of threads. Indices are unsigned, see `formats._kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_ABS = np.int32(0x7FFFFFFF)
BINS = 1 << 16
_PIECE = 1024  # squares added in float32; the sums of pieces are added in float64
NOTHING = np.float32(
    2.0**-60
)  # a group below it loses nothing that shows beside the largest magnitude, whatever its scale
_GOLDEN = 0x9E3779B9


@njit(cache=True, nogil=True)
def count(x, histogram):
    """Sort x (n,) by the upper half of its bit patterns, and return the largest pattern of |x| and the zeros.

    histogram (BINS, 3) int64: to each row are added how many fell there, and the sums of their lower halves and of
    the squares of these: integers, so that the order of adding is nothing.
    """
    largest, zeros = np.int32(0), 0
    for i in range(x.size):
        pattern = np.float32(x[i]).view(np.int32)
        size = pattern & _ABS
        largest = max(largest, size)
        zeros += size == 0
        place, low = (np.int64(pattern) >> 16) & 0xFFFF, np.int64(pattern & 0xFFFF)
        histogram[place, 0] += 1
        histogram[place, 1] += low
        histogram[place, 2] += low * low
    return largest, zeros


@njit(cache=True, nogil=True)
def half(x):
    """A positive float32 number to 11 significant bits, the nearest, ties to even."""
    u = np.float32(x).view(np.int32)
    return np.int32((u + np.int32(0xFFF) + ((u >> 13) & np.int32(1))) & ~np.int32(0x1FFF)).view(np.float32)


# Sums only: reassociation lets the compiler add in vector lanes.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squares(x, start, stop, scale, inverse, low, high):
    total = np.float32(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        error = x[i] - scale * min(max(np.rint(x[i] * inverse), low), high)
        total += error * error
    return total


@njit(cache=True, nogil=True)
def _error(x, start, stop, scale, low, high):
    """Σ (x − s q)² over [start, stop)."""
    inverse = np.float32(1) / scale
    total = 0.0
    for piece in range(start, stop, _PIECE):
        total += _squares(x, piece, min(piece + _PIECE, stop), scale, inverse, low, high)
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _products(x, start, stop, inverse, low, high):
    square, cross = np.float32(0), np.float32(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        q = min(max(np.rint(x[i] * inverse), low), high)
        square += q * q
        cross += q * x[i]
    return square, cross


@njit(cache=True, nogil=True)
def _fitted(x, start, stop, scale, low, high):
    """The scale of least squares for the integers that this scale gives, to half precision; 0 where there is none."""
    inverse = np.float32(1) / scale
    square, cross = 0.0, 0.0
    for piece in range(start, stop, _PIECE):
        a, b = _products(x, piece, min(piece + _PIECE, stop), inverse, low, high)
        square += a
        cross += b
    return half(np.float32(cross / square)) if cross > 0 else np.float32(0)


@njit(cache=True, nogil=True)
def _largest(x, start, stop):
    largest = np.float32(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        largest = max(largest, abs(x[i]))
    return largest


@njit(cache=True, nogil=True)
def searched(x, group, ratios, low, high, worse, scales, errors):
    """The scale of every group of x (rows, columns), searched as `schemes.CANDIDATES` says, and its error.

    ratios (candidates,) float32: multiples of the group's largest magnitude. scales float32, errors float64: (groups,),
    filled. A group of zeros, or below NOTHING, gets scale 0 and error 0.
    """
    rows, columns = x.shape
    flat = x.reshape(-1)
    at = 0
    for row in range(rows):
        for first in range(row * columns, (row + 1) * columns, group):
            stop = min(first + group, (row + 1) * columns)
            largest = _largest(flat, first, stop)
            best, scale = 0.0, np.float32(0)
            if largest >= NOTHING:
                best = np.inf
                for j in range(ratios.size):
                    s = half(ratios[j] * largest)
                    error = _error(flat, first, stop, s, low, high)
                    if error < best:
                        best, scale = error, s
                    elif error > worse * best:
                        break
                s = _fitted(flat, first, stop, scale, low, high)
                if s > 0:
                    error = _error(flat, first, stop, s, low, high)
                    if error < best:
                        best, scale = error, s
            scales[at], errors[at] = scale, best
            at += 1


@njit(cache=True, nogil=True)
def errors_at(x, group, scales, low, high, errors):
    """The error of every group of x (rows, columns) under given scales, (groups,) float32; 0 means no error."""
    rows, columns = x.shape
    flat = x.reshape(-1)
    at = 0
    for row in range(rows):
        for first in range(row * columns, (row + 1) * columns, group):
            stop = min(first + group, (row + 1) * columns)
            errors[at] = _error(flat, first, stop, scales[at], low, high) if scales[at] > 0 else 0.0
            at += 1


@njit(cache=True, nogil=True)
def one_scale(x, scale, low, high):
    """The error of all of x (rows, columns) under one scale."""
    return _error(x.reshape(-1), 0, x.size, scale, low, high)


@njit(cache=True, nogil=True)
def code_counts(x, group, scales, low, high, counts):
    """Add to counts (levels,) int64 how often each integer is the code of a value; scale 0: code 0."""
    rows, columns = x.shape
    flat = x.reshape(-1)
    at = 0
    for row in range(rows):
        for first in range(row * columns, (row + 1) * columns, group):
            inverse = np.float32(1) / scales[at] if scales[at] > 0 else np.float32(0)
            for i in range(first, min(first + group, (row + 1) * columns)):
                counts[np.int64(min(max(np.rint(flat[i] * inverse), low), high) - low)] += 1
            at += 1


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _differences(x, y, start, stop):
    total = np.float32(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        error = x[i] - y[i]
        total += error * error
    return total


@njit(cache=True, nogil=True)
def squared_difference(x, y):
    """Σ (x − y)² of two flat arrays."""
    total = 0.0
    for piece in range(0, x.size, _PIECE):
        total += _differences(x, y, piece, min(piece + _PIECE, x.size))
    return total


@njit(cache=True, nogil=True)
def binned_scale(means, numbers, inside, tried, top, worse):
    """The scale, of those that are tried in falling order, of least error on a histogram; `inside` its bins' own."""
    best, scale = np.inf, 1.0
    for s in tried:
        inverse = 1.0 / s
        error = inside
        for i in range(means.size):
            away = means[i] - s * min(max(np.rint(means[i] * inverse), -top), top - 1.0)
            error += numbers[i] * (away * away)
        if error < best:
            best, scale = error, np.float64(s)
        elif error > worse * best:
            break
    return scale


@njit(cache=True, nogil=True)
def prune_pattern(x, n, m, out):
    """out = x, a multiple of m values, with the n largest of every m neighbours left, of equals the first.

    Returns Σ x² of what is pruned.
    """
    lost = 0.0
    for first in range(0, x.size, m):
        for i in range(first, first + m):
            size, above = abs(x[i]), 0
            for j in range(first, first + m):
                other = abs(x[j])
                above += (other > size) | ((other == size) & (j < i))
            if above < n:
                out[i] = x[i]
            else:
                out[i] = 0
                lost += np.float64(x[i]) * np.float64(x[i])
    return lost


@njit(cache=True, nogil=True)
def prune_below(x, start, low, high, share, out):
    """out = x without the values below `low` in magnitude, and without a share of those from there to below `high`.

    Which of these go follows from their place in the matrix, start + i: those whose multiple of the golden ratio,
    modulo 2^32, lies below `share` (0 to 2^32). Returns Σ x² of what is pruned.
    """
    lost = 0.0
    for i in range(x.size):
        size = abs(x[i])
        gone = size < low
        if size >= low and size < high:
            gone = ((np.int64(start) + i) * _GOLDEN) & 0xFFFFFFFF < share
        out[i] = np.float32(0) if gone else x[i]
        if gone:
            lost += np.float64(x[i]) * np.float64(x[i])
    return lost


@njit(cache=True, nogil=True)
def _left(score, tie, error_if_zero, error, n, m):
    """The error of m neighbours when the n of highest score stay: ties by `tie`, then by place."""
    total = 0.0
    for i in range(m):
        above = 0
        for j in range(m):
            higher = score[j] > score[i]
            if score[j] == score[i]:
                higher = tie[j] > tie[i] or (tie[j] == tie[i] and j < i)
            above += higher
        total += error[i] if above < n else error_if_zero[i]
    return total


@njit(cache=True, nogil=True)
def orders(x, scales, n, m, low, high, sums):
    """Errors of x (rows, columns) quantized, then pruned n of m: (ties by place, ties by |x|, joint) added to `sums`.

    scales (rows,) float32: of the rows as they are. Joint: of the quantized values those stay that save the most
    squared error. Returns how many integers are 0.
    """
    rows, columns = x.shape
    score, size, gain = np.empty(m), np.empty(m), np.empty(m)
    nothing, zeroed, error = np.zeros(m), np.empty(m), np.empty(m)
    zeros = 0
    for row in range(rows):
        inverse = np.float32(1) / scales[row] if scales[row] > 0 else np.float32(0)
        for first in range(0, columns, m):
            for i in range(m):
                value = x[row, first + i]
                q = min(max(np.rint(value * inverse), low), high)
                difference = np.float64(value) - np.float64(scales[row] * q)
                zeros += q == 0
                score[i], size[i] = abs(q), abs(value)
                zeroed[i], error[i] = np.float64(value) * np.float64(value), difference * difference
                gain[i] = zeroed[i] - error[i]
            sums[0] += _left(score, nothing, zeroed, error, n, m)
            sums[1] += _left(score, size, zeroed, error, n, m)
            sums[2] += _left(gain, nothing, zeroed, error, n, m)
    return zeros


def warm() -> None:
    """Compile every kernel, on a handful of values."""
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    y, low, high = np.empty(8, np.float32), np.float32(-2), np.float32(1)
    scales, errors = np.ones(2, np.float32), np.empty(2)
    count(x.reshape(-1), np.zeros((BINS, 3), np.int64))
    searched(x, 4, np.ones(2, np.float32), low, high, 2.0, scales, errors)
    errors_at(x, 4, scales, low, high, errors)
    one_scale(x, np.float32(1), low, high)
    code_counts(x, 4, scales, low, high, np.zeros(4, np.int64))
    squared_difference(x.reshape(-1), y)
    binned_scale(np.ones(2), np.ones(2, np.int64), 0.0, scales, 2.0, 2.0)
    prune_pattern(x.reshape(-1), 2, 4, y)
    prune_below(x.reshape(-1), 0, np.float32(0.5), np.float32(1), 1, y)
    orders(x, scales, 2, 4, low, high, np.zeros(3))
