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
def searched(x, group, ratios, low, high, worse, floor, scales, errors):
    """The scale of every group of x (rows, columns), searched as `schemes.CANDIDATES` says, and its error.

    ratios (candidates,) float32: multiples of the group's largest magnitude. floor: the least scale that is stored,
    which smaller ones are raised to. scales float32, errors float64: (groups,), filled. A group of zeros, or below
    NOTHING, gets scale 0 and error 0.
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
                    s = max(half(ratios[j] * largest), floor)
                    error = _error(flat, first, stop, s, low, high)
                    if error < best:
                        best, scale = error, s
                    elif error > worse * best:
                        break
                s = _fitted(flat, first, stop, scale, low, high)
                if s > 0:
                    s = max(s, floor)
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
def remainders(x, group, scales, low, high, out):
    """out = x − s q for x (rows, columns), a scale a group as `searched` gives them, (groups,); where it is 0, x."""
    rows, columns = x.shape
    flat, rest = x.reshape(-1), out.reshape(-1)
    at = 0
    for row in range(rows):
        for first in range(row * columns, (row + 1) * columns, group):
            stop = min(first + group, (row + 1) * columns)
            scale = scales[at]
            inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
            for i in range(np.uint64(first), np.uint64(stop)):
                rest[i] = flat[i] - scale * min(max(np.rint(flat[i] * inverse), low), high)
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


# Neighbours are compared by keys, no two of which are alike: the bit pattern of a magnitude, then the place from
# behind, so that of equal magnitudes the first counts as the larger. Minima and maxima of keys need no branch.
@njit(cache=True, nogil=True)
def _key(x, place):
    return np.int64(np.float32(x).view(np.int32) & _ABS) * np.int64(8) + np.int64(place)


@njit(cache=True, nogil=True)
def _second(a, b, c, d):
    """The second largest of four."""
    return max(min(max(a, b), max(c, d)), max(min(a, b), min(c, d)))


@njit(cache=True, nogil=True)
def _sorted(a, b, c, d):
    """Four keys, falling: five comparisons."""
    a, b, c, d = max(a, b), min(a, b), max(c, d), min(c, d)
    a, c, b, d = max(a, c), min(a, c), max(b, d), min(b, d)
    return a, max(b, c), min(b, c), d


@njit(cache=True, nogil=True)
def prune_2_of_4(x, out):
    """out = x, a multiple of 4 values, with the 2 largest of every 4 neighbours left, of equals the first."""
    for i in range(np.uint64(0), np.uint64(x.size), np.uint64(4)):
        j, k, m = i + np.uint64(1), i + np.uint64(2), i + np.uint64(3)
        a, b, c, d = _key(x[i], 3), _key(x[j], 2), _key(x[k], 1), _key(x[m], 0)
        least = _second(a, b, c, d)
        out[i] = x[i] if a >= least else np.float32(0)
        out[j] = x[j] if b >= least else np.float32(0)
        out[k] = x[k] if c >= least else np.float32(0)
        out[m] = x[m] if d >= least else np.float32(0)


@njit(cache=True, nogil=True)
def prune_4_of_8(x, out):
    """out = x, a multiple of 8 values, with the 4 largest of every 8 neighbours left, of equals the first."""
    for first in range(np.uint64(0), np.uint64(x.size), np.uint64(8)):
        y = x[first : first + np.uint64(8)]
        a, b, c, d = _sorted(_key(y[0], 7), _key(y[1], 6), _key(y[2], 5), _key(y[3], 4))
        e, f, g, h = _sorted(_key(y[4], 3), _key(y[5], 2), _key(y[6], 1), _key(y[7], 0))
        # the four largest of two falling rows are the larger ones when one row is read from behind
        least = min(min(max(a, h), max(b, g)), min(max(c, f), max(d, e)))
        for i in range(8):
            out[first + np.uint64(i)] = y[i] if _key(y[i], 7 - i) >= least else np.float32(0)


@njit(cache=True, nogil=True)
def prune_below(x, start, low, high, share, out):
    """out = x without the values below `low` in magnitude, and without a share of those from there to below `high`.

    Which of these go follows from their place in the matrix, start + i: those whose multiple of the golden ratio,
    modulo 2^32, lies below `share` (0 to 2^32).
    """
    for i in range(np.uint64(x.size)):
        out[i] = x[i] if abs(x[i]) >= low else np.float32(0)
    for i in range(x.size):
        size = abs(x[i])
        if size >= low and size < high and ((np.int64(start) + i) * _GOLDEN) & 0xFFFFFFFF < share:
            out[i] = 0


@njit(cache=True, nogil=True)
def orders(x, scales, low, high, sums):
    """Errors of x (rows, columns) quantized, then pruned 2 of 4: (ties by place, ties by |x|, joint) added to `sums`.

    scales (rows,) float32: of the rows as they are. Joint: of the quantized values those stay that save the most
    squared error. Returns how many integers are 0.
    """
    rows, columns = x.shape
    place_key, weight_key, gain = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4)
    zeros, all_stay, place, weight, joint = 0, 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        scale = scales[row]
        inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
        for first in range(0, columns, 4):
            for i in range(4):
                value = x[row, first + i]
                q = min(max(np.rint(value * inverse), low), high)
                away = np.float64(value) - np.float64(scale * q)
                zeros += q == 0
                stored = np.int64(abs(q)) << np.int64(40)
                place_key[i], weight_key[i] = stored + np.int64(3 - i), stored + _key(value, 3 - i)
                gain[i] = np.float64(value) * np.float64(value) - away * away
                all_stay += away * away
            by_place = _second(place_key[0], place_key[1], place_key[2], place_key[3])
            by_weight = _second(weight_key[0], weight_key[1], weight_key[2], weight_key[3])
            for i in range(4):
                place += gain[i] if place_key[i] < by_place else 0.0
                weight += gain[i] if weight_key[i] < by_weight else 0.0
            below, above = min(gain[0], gain[1]), max(gain[0], gain[1])
            low_gain, high_gain = min(gain[2], gain[3]), max(gain[2], gain[3])
            joint += min(below, low_gain) + min(max(below, low_gain), min(above, high_gain))
    sums[0] += all_stay + place
    sums[1] += all_stay + weight
    sums[2] += all_stay + joint
    return zeros


def warm() -> None:
    """Compile every kernel, on a handful of values."""
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    y, low, high = np.empty(8, np.float32), np.float32(-2), np.float32(1)
    scales, errors = np.ones(2, np.float32), np.empty(2)
    count(x.reshape(-1), np.zeros((BINS, 3), np.int64))
    searched(x, 4, np.ones(2, np.float32), low, high, 2.0, np.float32(0), scales, errors)
    errors_at(x, 4, scales, low, high, errors)
    remainders(x, 4, scales, low, high, np.empty_like(x))
    one_scale(x, np.float32(1), low, high)
    code_counts(x, 4, scales, low, high, np.zeros(4, np.int64))
    squared_difference(x.reshape(-1), y)
    binned_scale(np.ones(2), np.ones(2, np.int64), 0.0, scales, 2.0, 2.0)
    prune_2_of_4(x.reshape(-1), y)
    prune_4_of_8(x.reshape(-1), y)
    prune_below(x.reshape(-1), 0, np.float32(0.5), np.float32(1), 1, y)
    orders(x, scales, low, high, np.zeros(3))
