"""float32 kernels of the formats: one pass over memory each, in parallel over runs of blocks.

Values lie in a flat, C-contiguous, read-only array (made by `base.flat`: one type, so one compilation) of rows of
`length` values; blocks of `block` values run along a row and the last one of a row may be shorter. Every kernel
returns the largest bit pattern of |x| it saw: 0x7F800000 and more means that x held an infinity or a NaN. Each
repeats, operation by operation, the NumPy definition in its format's module; the tests compare them bit for bit.
Indices of the inner loops are unsigned: a signed one may be negative in Python, and the test for it keeps the compiler
from using vectors.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from prunequant.parallel import one_at_a_time

_ABS = np.int32(0x7FFFFFFF)
_EXPONENT = np.int32(0x7F800000)
_MANTISSA = np.int32(0x007FFFFF)
_RUN = 1 << 15  # values a parallel task takes at least


@njit(cache=True)
def uniform32(index, key0, key1):
    """A number in [0, 1) from a counter and two keys: `base.uniform32` for one index."""
    h = np.uint32(index) ^ key0
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = h ^ key1
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    h = h ^ (h >> np.uint32(16))
    return np.float32(np.int32(h >> np.uint32(8))) * np.float32(2.0**-24)


@njit(cache=True)
def _power_of_two(k):
    """2**k as float32 for k in [-127, 127]."""
    bits = np.int32((k + 127) << 23) if k > -127 else np.int32(1 << (k + 149))
    return np.int32(bits).view(np.float32)


@njit(cache=True)
def _largest_bits(x, start, stop):
    """The largest bit pattern of |x| in [start, stop): as integers, so that NaN sorts above every number."""
    largest = np.int32(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        largest = max(largest, np.float32(x[i]).view(np.int32) & _ABS)
    return largest


@njit(cache=True)
def _integer_run(x, out, start, stop, scale, low, high, stochastic, key0, key1):
    """out = scale * clip(round(x / scale), low, high) on [start, stop); the largest bit pattern of |x|."""
    largest = np.int32(0)
    zero, one = np.float32(0), np.float32(1)
    if stochastic:
        for i in range(np.uint64(start), np.uint64(stop)):
            largest = max(largest, np.float32(x[i]).view(np.int32) & _ABS)
            t = x[i] / scale
            floor = np.floor(t)
            unit = floor + (one if uniform32(i, key0, key1) < t - floor else zero)
            out[i] = scale * min(max(unit, low), high) + zero
    else:
        for i in range(np.uint64(start), np.uint64(stop)):
            largest = max(largest, np.float32(x[i]).view(np.int32) & _ABS)
            out[i] = scale * min(max(np.rint(x[i] / scale), low), high) + zero
    return largest


@one_at_a_time
@njit(cache=True, parallel=True)
def integer_one_scale(x, scale, low, high, stochastic, key0, key1, out):
    """One scale for all of x."""
    runs = (x.size + _RUN - 1) // _RUN
    worst = np.zeros(runs, np.int32)
    for run in prange(runs):
        start = run * _RUN
        stop = min(start + _RUN, x.size)
        worst[run] = _integer_run(x, out, start, stop, scale, low, high, stochastic, key0, key1)
    return worst.max()


@njit(cache=True)
def _first(index, per_row, length, block):
    """Where block number `index` starts, and the block's place in its row."""
    row = index // per_row
    place = index - row * per_row
    return row * length + place * block, place


@njit(cache=True)
def _next(start, place, per_row, length, block):
    """Where the block that starts here stops, and the place in its row of the block after it."""
    stop = start + min(block, length - place * block)
    return stop, place + 1 if place + 1 < per_row else 0


@njit(cache=True)
def _tasks(blocks, block):
    """Parallel tasks for so many blocks, and the blocks in each."""
    each = max(1, _RUN // block)
    return (blocks + each - 1) // each, each


@one_at_a_time
@njit(cache=True, parallel=True)
def integer_scales(x, length, block, scales, lows, highs, stochastic, key0, key1, out):
    """A scale and a range for each block, given."""
    per_row = (length + block - 1) // block
    blocks = scales.size
    tasks, each = _tasks(blocks, block)
    worst_of = np.zeros(tasks, np.int32)
    for task in prange(tasks):
        worst = np.int32(0)
        start, place = _first(task * each, per_row, length, block)
        for b in range(task * each, min((task + 1) * each, blocks)):
            stop, place = _next(start, place, per_row, length, block)
            largest = _integer_run(x, out, start, stop, scales[b], lows[b], highs[b], stochastic, key0, key1)
            worst = max(worst, largest)
            start = stop
        worst_of[task] = worst
    return worst_of.max()


@one_at_a_time
@njit(cache=True, parallel=True)
def integer_blocks(x, length, block, divisor, low, high, stochastic, key0, key1, out):
    """A scale for each block from its largest magnitude, found while the block is in cache."""
    per_row = (length + block - 1) // block
    blocks = x.size // length * per_row
    tasks, each = _tasks(blocks, block)
    worst_of = np.zeros(tasks, np.int32)
    tiny = np.int32(1).view(np.float32)
    for task in prange(tasks):
        worst = np.int32(0)
        start, place = _first(task * each, per_row, length, block)
        for _ in range(task * each, min((task + 1) * each, blocks)):
            stop, place = _next(start, place, per_row, length, block)
            largest = _largest_bits(x, start, stop)
            worst = max(worst, largest)
            scale = max(np.int32(largest).view(np.float32) / divisor, tiny) if largest > 0 else np.float32(1)
            if stochastic:
                _integer_run(x, out, start, stop, scale, low, high, stochastic, key0, key1)
            else:
                for i in range(np.uint64(start), np.uint64(stop)):
                    out[i] = scale * min(max(np.rint(x[i] / scale), low), high) + np.float32(0)
            start = stop
        worst_of[task] = worst
    return worst_of.max()


@one_at_a_time
@njit(cache=True, parallel=True)
def shared_integer(x, length, block, shift, above, least, fraction, top, stochastic, key0, key1, out):
    """Integers under a power of two: 2^k·clip(round(2^fraction·x/2^k), ±top)/2^fraction.

    k = floor(log2 a) - shift, one more if the mantissa bits of a exceed `above`, kept in [least, 127].
    """
    per_row = (length + block - 1) // block
    blocks = x.size // length * per_row
    tasks, each = _tasks(blocks, block)
    worst_of = np.zeros(tasks, np.int32)
    up, down = _power_of_two(fraction), _power_of_two(-fraction)
    zero, one = np.float32(0), np.float32(1)
    for task in prange(tasks):
        worst = np.int32(0)
        start, place = _first(task * each, per_row, length, block)
        for _ in range(task * each, min((task + 1) * each, blocks)):
            stop, place = _next(start, place, per_row, length, block)
            largest = _largest_bits(x, start, stop)
            worst = max(worst, largest)
            k = np.int32((largest >> 23) - 127) - shift + np.int32((largest & _MANTISSA) > above)
            k = min(max(k, least), np.int32(127))
            scale, inverse = _power_of_two(k), _power_of_two(-k)
            if stochastic:
                for i in range(np.uint64(start), np.uint64(stop)):
                    t = x[i] * inverse * up
                    floor = np.floor(t)
                    unit = floor + (one if uniform32(i, key0, key1) < t - floor else zero)
                    out[i] = min(max(unit, -top), top) * down * scale + zero
            elif k > -120:
                into, back = inverse * up, down * scale
                for i in range(np.uint64(start), np.uint64(stop)):
                    out[i] = min(max(np.rint(x[i] * into), -top), top) * back + zero
            else:  # the product of both powers of two would overflow
                for i in range(np.uint64(start), np.uint64(stop)):
                    out[i] = min(max(np.rint(x[i] * inverse * up), -top), top) * down * scale + zero
            start = stop
        worst_of[task] = worst
    return worst_of.max()


@njit(cache=True)
def _round_float(t, least, mantissa, top):
    """t to the nearest small float, ties to even, saturating at top: adding 2^23 steps makes the FPU round."""
    bits = np.float32(t).view(np.int32)
    shifter = max(bits & _EXPONENT, least) + ((np.int32(23) - mantissa) << 23)
    magic = np.int32(shifter).view(np.float32)
    rounded = min((abs(t) + magic) - magic, top)
    return np.int32(np.float32(rounded).view(np.int32) | (bits & ~_ABS)).view(np.float32)


@njit(cache=True)
def _round_float_stochastic(t, least, mantissa, top, uniform):
    """t to a neighbouring small float, up with a probability equal to the fraction; saturating."""
    field = max(np.float32(t).view(np.int32) & _EXPONENT, least)
    step = np.int32(field - (mantissa << 23)).view(np.float32)
    inverse = np.int32((np.int32(254) << 23) - (field - (mantissa << 23))).view(np.float32)
    unit = t * inverse
    floor = np.floor(unit)
    unit = floor + (np.float32(1) if uniform < unit - floor else np.float32(0))
    return min(max(unit * step, -top), top)


@one_at_a_time
@njit(cache=True, parallel=True)
def shared_float(x, length, block, shift, above, least, mantissa, top, stochastic, key0, key1, out):
    """Small floats under a power of two, the exponent k as in `shared_integer`, kept in [-127, 127]."""
    per_row = (length + block - 1) // block
    blocks = x.size // length * per_row
    tasks, each = _tasks(blocks, block)
    worst_of = np.zeros(tasks, np.int32)
    least_field = np.int32((least + 127) << 23)
    for task in prange(tasks):
        worst = np.int32(0)
        start, place = _first(task * each, per_row, length, block)
        for _ in range(task * each, min((task + 1) * each, blocks)):
            stop, place = _next(start, place, per_row, length, block)
            largest = _largest_bits(x, start, stop)
            worst = max(worst, largest)
            k = np.int32((largest >> 23) - 127) - shift + np.int32((largest & _MANTISSA) > above)
            k = min(max(k, np.int32(-127)), np.int32(127))
            scale, inverse = _power_of_two(k), _power_of_two(-k)
            if stochastic:
                for i in range(np.uint64(start), np.uint64(stop)):
                    u = uniform32(i, key0, key1)
                    out[i] = _round_float_stochastic(x[i] * inverse, least_field, mantissa, top, u) * scale
            else:
                for i in range(np.uint64(start), np.uint64(stop)):
                    out[i] = _round_float(x[i] * inverse, least_field, mantissa, top) * scale
            start = stop
        worst_of[task] = worst
    return worst_of.max()


@one_at_a_time
@njit(cache=True, parallel=True)
def scaled_e2m1(x, scales, length, block, stochastic, key0, key1, out):
    """fp4_e2m1 values times a given scale a block (0: the block is zero)."""
    per_row = (length + block - 1) // block
    blocks = scales.size
    tasks, each = _tasks(blocks, block)
    least, mantissa, top = np.int32(127 << 23), np.int32(1), np.float32(6)
    zero, bound = np.float32(0), np.float32(8)
    for task in prange(tasks):
        start, place = _first(task * each, per_row, length, block)
        for b in range(task * each, min((task + 1) * each, blocks)):
            stop, place = _next(start, place, per_row, length, block)
            scale = scales[b]
            if scale == zero:
                out[start:stop] = zero
            elif stochastic:
                for i in range(np.uint64(start), np.uint64(stop)):
                    t = min(max(x[i] / scale, -bound), bound)
                    u = uniform32(i, key0, key1)
                    out[i] = _round_float_stochastic(t, least, mantissa, top, u) * scale
            else:
                for i in range(np.uint64(start), np.uint64(stop)):
                    t = min(max(x[i] / scale, -bound), bound)
                    out[i] = _round_float(t, least, mantissa, top) * scale
            start = stop


@njit(cache=True)
def _nearest_levels(x, scale, thresholds, levels, scaled, out):
    """The level of each x / scale, times the scale: a pass for each threshold, in vector lanes."""
    for i in range(np.uint64(x.size)):
        scaled[i] = x[i] / scale
        out[i] = levels[0]
    for j in range(thresholds.size):
        edge, above = thresholds[j], levels[j + 1]
        for i in range(np.uint64(x.size)):
            out[i] = above if scaled[i] > edge else out[i]
    for i in range(np.uint64(x.size)):
        out[i] *= scale


@one_at_a_time
@njit(cache=True, parallel=True)
def nearest_level(x, length, block, thresholds, levels, out):
    """The level of each x over its block's largest magnitude, times that magnitude; ties to the lower level."""
    per_row = (length + block - 1) // block
    blocks = x.size // length * per_row
    tasks, each = _tasks(blocks, block)
    worst_of = np.zeros(tasks, np.int32)
    for task in prange(tasks):
        worst = np.int32(0)
        scaled = np.empty(min(block, length), np.float32)
        start, place = _first(task * each, per_row, length, block)
        for _ in range(task * each, min((task + 1) * each, blocks)):
            stop, place = _next(start, place, per_row, length, block)
            largest = _largest_bits(x, start, stop)
            worst = max(worst, largest)
            scale = np.int32(largest).view(np.float32) if largest > 0 else np.float32(1)
            _nearest_levels(x[start:stop], scale, thresholds, levels, scaled[: stop - start], out[start:stop])
            start = stop
        worst_of[task] = worst
    return worst_of.max()


@one_at_a_time
@njit(cache=True, parallel=True)
def largest_bits(x, length, block, out):
    """The largest bit pattern of |x| in each block; blocks longer than a run are cut among the threads."""
    per_row = (length + block - 1) // block
    blocks = x.size // length * per_row
    if block > 4 * _RUN:
        pieces = (block + _RUN - 1) // _RUN
        largest = np.zeros((blocks, pieces), np.int32)
        for piece in prange(blocks * pieces):
            b = piece // pieces
            first, place = _first(b, per_row, length, block)
            stop = first + min(block, length - place * block)
            start = first + (piece - b * pieces) * _RUN
            largest[b, piece - b * pieces] = _largest_bits(x, start, min(start + _RUN, stop))
        for b in range(blocks):
            out[b] = largest[b].max()
    else:
        tasks, each = _tasks(blocks, block)
        for task in prange(tasks):
            for b in range(task * each, min((task + 1) * each, blocks)):
                first, place = _first(b, per_row, length, block)
                out[b] = _largest_bits(x, first, first + min(block, length - place * block))


def warm() -> None:
    """Compile every kernel, on a handful of values."""
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    out = np.empty_like(x)
    one, key = np.float32(1), np.uint32(1)
    two = np.full(2, 1, np.float32)
    x.flags.writeable = two.flags.writeable = False  # the types that `base.flat` makes
    minus = -two
    minus.flags.writeable = False
    i = np.int32
    integer_one_scale(x, one, -one, one, False, key, key, out)
    integer_scales(x, 8, 4, two, minus, two, False, key, key, out)
    integer_blocks(x, 8, 4, one, -one, one, False, key, key, out)
    shared_integer(x, 8, 4, i(2), i(0), i(-126), i(0), one, False, key, key, out)
    shared_float(x, 8, 4, i(2), i(0), i(0), i(1), one, False, key, key, out)
    scaled_e2m1(x, two, 8, 4, False, key, key, out)
    nearest_level(x, 8, 4, np.zeros(15, np.float32), np.zeros(16, np.float32), out)
    largest_bits(x, 8, 4, np.zeros(2, np.int32))
