"""Compiled loops of the tickets: the random source, the items of every subset sum, and what masks keep of them.

The source is addressed, never stored: weight ``index`` of matrix ``matrix`` of layer ``layer`` is one lane of a Philox
block keyed by the seed, so any part of it can be made again in any order and on any thread. Lanes are mapped to
{-K..K} with rejection, so every value has exactly the same probability under an ideal generator.
"""

import numpy as np
from numba import njit

from prunequant.random import philox4x32

FIRST, SECOND = 0, 1  # which matrix of a pair: U (fed by the input) or V (feeding the output)


@njit(cache=True, nogil=True)
def _lane(block, lane, attempt, matrix, layer, seed):
    low = np.uint32(block & np.int64(0xFFFFFFFF))
    high = np.uint32(block >> np.int64(32))
    third = np.uint32(matrix + (attempt << 8))
    k0 = np.uint32(seed & np.uint64(0xFFFFFFFF))
    k1 = np.uint32(seed >> np.uint64(32))
    a, b, c, d = philox4x32(low, high, third, np.uint32(layer), k0, k1)
    if lane == 0:
        return np.uint64(a)
    if lane == 1:
        return np.uint64(b)
    if lane == 2:
        return np.uint64(c)
    return np.uint64(d)


@njit(cache=True, nogil=True)
def _redraw(block, lane, half_range, matrix, layer, seed):
    """The rare second draw of a lane that fell beyond the last whole multiple of 2K + 1."""
    size = np.uint64(2 * half_range + 1)
    limit = (np.uint64(1) << np.uint64(32)) // size * size
    attempt = 1
    while True:
        r = _lane(block, lane, attempt, matrix, layer, seed)
        if r < limit:
            return np.int64(r % size) - half_range
        attempt += 1


@njit(cache=True, nogil=True)
def fill_source(seed, layer, matrix, start, half_range, out):
    """out[k] = source weight number start + k, uniform on {-half_range..half_range}."""
    k0 = np.uint32(seed & np.uint64(0xFFFFFFFF))
    k1 = np.uint32(seed >> np.uint64(32))
    size = np.uint64(2 * half_range + 1)
    limit = (np.uint64(1) << np.uint64(32)) // size * size
    n = out.shape[0]
    k = 0
    while k < n:
        index = start + k
        block = index >> 2
        lanes = philox4x32(
            np.uint32(block & np.int64(0xFFFFFFFF)),
            np.uint32(block >> np.int64(32)),
            np.uint32(matrix),
            np.uint32(layer),
            k0,
            k1,
        )
        lane = index & 3
        while lane < 4 and k < n:
            if lane == 0:
                r = np.uint64(lanes[0])
            elif lane == 1:
                r = np.uint64(lanes[1])
            elif lane == 2:
                r = np.uint64(lanes[2])
            else:
                r = np.uint64(lanes[3])
            if r < limit:
                out[k] = np.int64(r % size) - half_range
            else:
                out[k] = _redraw(block, lane, half_range, matrix, layer, seed)
            lane += 1
            k += 1


@njit(cache=True, nogil=True)
def fill_rows(seed, layer, matrix, starts, half_range, out, start, stop):
    """Row r of out = the source weights from number starts[r] on."""
    for r in range(start, stop):
        fill_source(seed, layer, matrix, starts[r], half_range, out[r])


@njit(cache=True, nogil=True)
def gather_items(
    seed, layer, half_range, columns, block, offset, width, position, factor, rows, cols, lengths, items, start, stop
):
    """items[r, k] = V[rows[r], cols[r]·block + offset + position[c, k]] · factor[c, k], the items of subset sum r.

    columns: inputs of the layer; block: units an input; position, factor: (columns, ≥ lengths) usable units.
    """
    v = np.empty(width, np.int64)
    for r in range(start, stop):
        c = cols[r]
        fill_source(seed, layer, SECOND, (rows[r] * columns + c) * block + offset, half_range, v)
        for k in range(items.shape[1]):
            items[r, k] = v[position[c, k]] * factor[c, k] if k < lengths[r] else 0


@njit(cache=True, nogil=True)
def kept_sums(
    seed,
    layer,
    half_range,
    columns,
    block,
    offset,
    width,
    position,
    factor,
    rows,
    cols,
    words,
    sums,
    kept,
    energy,
    start,
    stop,
):
    """For each subset sum r: the sum its mask keeps, how many source weights that is, and their sum of squares."""
    v = np.empty(width, np.int64)
    for r in range(start, stop):
        c = cols[r]
        fill_source(seed, layer, SECOND, (rows[r] * columns + c) * block + offset, half_range, v)
        total = np.int64(0)
        count = np.int64(0)
        square = np.int64(0)
        word = words[r]
        k = 0
        while word != np.uint64(0):
            if word & np.uint64(1):
                x = v[position[c, k]]
                total += x * factor[c, k]
                square += x * x
                count += 1
            word >>= np.uint64(1)
            k += 1
        sums[r] = total
        kept[r] = count
        energy[r] = square


@njit(cache=True, nogil=True)
def spread_masks(
    seed, layer, half_range, columns, block, offset, width, position, rows, cols, words, masks, values, start, stop
):
    """Write the masks into the full matrix: masks[row, c·block + offset + position] and the kept values there."""
    v = np.empty(width, np.int64)
    for r in range(start, stop):
        c = cols[r]
        fill_source(seed, layer, SECOND, (rows[r] * columns + c) * block + offset, half_range, v)
        word = words[r]
        k = 0
        while word != np.uint64(0):
            if word & np.uint64(1):
                p = position[c, k]
                masks[rows[r], c * block + offset + p] = True
                values[rows[r], c * block + offset + p] = v[p]
            word >>= np.uint64(1)
            k += 1


@njit(cache=True, nogil=True)
def convolve_kept(
    seed, layer, half_range, columns, block, kernel_size, stride, depthwise, rectify, offset, width,
    position, unit, rows, cols, words, starts, image, out, start, stop,
):  # fmt: skip
    """Run the pruned pair (1×1 convolution U, ReLU if rectify, k×k convolution V) on one padded image, adding to out.

    image: (channels, H, W) int64, already padded; unit[c, k]: the source weight u of unit position[c, k] of channel c.
    A kept weight v of row o·k·k + tap (of row tap, when depthwise) adds v·max(u·x, 0) at every place.
    Jobs of output channel o are starts[o]..starts[o + 1]; channels start..stop are done here.
    """
    v = np.empty(width, np.int64)
    taps = kernel_size * kernel_size
    for o in range(start, stop):
        for r in range(starts[o], starts[o + 1]):
            word = words[r]
            if word == np.uint64(0):
                continue
            c = cols[r]
            fill_source(seed, layer, SECOND, (rows[r] * columns + c) * block + offset, half_range, v)
            tap = rows[r] if depthwise else rows[r] % taps
            dy = tap // kernel_size
            dx = tap % kernel_size
            k = 0
            while word != np.uint64(0):
                if word & np.uint64(1):
                    u = unit[c, k]
                    value = v[position[c, k]]
                    for y in range(out.shape[1]):
                        line = image[c, y * stride + dy]
                        for x in range(out.shape[2]):
                            hidden = u * line[x * stride + dx]
                            if rectify:
                                hidden = max(hidden, np.int64(0))
                            out[o, y, x] += value * hidden
                word >>= np.uint64(1)
                k += 1


def warm() -> None:
    """Compile every kernel once, on tiny inputs."""
    seed = np.uint64(1)
    fill_source(seed, 0, FIRST, 0, 2, np.empty(3, np.int64))
    fill_rows(seed, 0, FIRST, np.zeros(2, np.int64), 2, np.empty((2, 3), np.int64), 0, 2)
    place = np.zeros((1, 2), np.int64)
    unit = np.ones((1, 2), np.int64)
    zero = np.zeros(1, np.int64)
    items = np.empty((1, 2), np.int64)
    words = np.zeros(1, np.uint64)
    gather_items(seed, 0, 2, 1, 2, 0, 2, place, unit, zero, zero, np.array([2]), items, 0, 1)
    kept_sums(seed, 0, 2, 1, 2, 0, 2, place, unit, zero, zero, words, zero.copy(), zero.copy(), zero.copy(), 0, 1)
    masks = np.zeros((1, 2), np.bool_)
    spread_masks(seed, 0, 2, 1, 2, 0, 2, place, zero, zero, words, masks, np.zeros((1, 2), np.int64), 0, 1)
    image = np.zeros((1, 3, 3), np.int64)
    out = np.zeros((1, 1, 1), np.int64)
    starts = np.array([0, 1])
    convolve_kept(seed, 0, 2, 1, 2, 3, 1, False, True, 0, 2, place, unit, zero, zero, words, starts, image, out, 0, 1)
