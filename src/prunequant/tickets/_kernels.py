"""Compiled loops of the tickets: the random source, the items of every subset sum, and what masks keep of them.

The source is addressed, never stored: weight ``index`` of matrix ``matrix`` of layer ``layer`` is one lane of a Philox
block keyed by the seed, so any part of it can be made again in any order and on any thread. Lanes are mapped to
{-K..K} with rejection, so every value has exactly the same probability under an ideal generator.
"""

import numpy as np
from numba import njit

from prunequant.random import below, philox4x32, stream

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
def _or_shifted(bits, shift):
    """bits |= bits shifted by shift (up when positive, down when negative); what leaves the window is lost."""
    words = bits.shape[0]
    by = abs(shift)
    q = by >> 6
    r = np.uint64(by & 63)
    back = np.uint64(63) - r
    one = np.uint64(1)
    if shift > 0:
        for w in range(words - 1, q - 1, -1):
            low = (bits[w - q - 1] >> one) >> back if w - q - 1 >= 0 else np.uint64(0)
            bits[w] |= (bits[w - q] << r) | low
    else:
        for w in range(words - q):
            high = (bits[w + q + 1] << one) << back if w + q + 1 < words else np.uint64(0)
            bits[w] |= (bits[w + q] >> r) | high


RELU, LINEAR, UNIFORM = 0, 1, 2  # items u⁺v, u·v, v


@njit(cache=True, nogil=True)
def count_hits(kind, half_range, target_step, targets, units, window, trials, seed, first_hit, start, stop):
    """first_hit[chunk, w - 1, m] += 1 when w·target_step first becomes a subset sum at unit m (units + 1: never).

    Only partial sums within ±window are followed, so a hit is a hit and a miss may be pessimistic. Trials are cut
    into first_hit.shape[0] chunks, each trial with its own stream: the counts do not depend on the threads.
    """
    chunks = first_hit.shape[0]
    for chunk in range(start, stop):
        bits = np.empty((2 * window >> 6) + 1, np.uint64)
        waiting = np.empty(targets, np.int64)
        size = np.uint64(2 * half_range + 1)
        for trial in range(chunk, trials, chunks):
            state = stream(np.uint64(seed), np.uint64(trial))
            bits[:] = np.uint64(0)
            bits[window >> 6] = np.uint64(1) << np.uint64(window & 63)
            left = targets
            for w in range(targets):
                waiting[w] = w + 1
            for m in range(1, units + 1):
                x = np.int64(1)
                if kind != UNIFORM:
                    state, r = below(state, size)
                    x = np.int64(r) - half_range
                state, r = below(state, size)
                if kind == RELU and x <= 0:
                    continue
                x *= np.int64(r) - half_range
                if x == 0:
                    continue
                _or_shifted(bits, x)
                still = 0
                for i in range(left):
                    at = waiting[i] * target_step + window
                    if (bits[at >> 6] >> np.uint64(at & 63)) & np.uint64(1):
                        first_hit[chunk, waiting[i] - 1, m] += 1
                    else:
                        waiting[still] = waiting[i]
                        still += 1
                left = still
                if left == 0:
                    break
            for i in range(left):
                first_hit[chunk, waiting[i] - 1, units + 1] += 1


@njit(cache=True, nogil=True)
def window_chain(now, then, shifts, law, stay, points, out):
    """Exact law of a set of reached points: out[w, m] = P(w is missing after m items).

    now, then: (2^points,) probabilities of sets, bit ``points // 2`` is the sum 0; an item shifts by shifts[i] with
    probability law[i], and changes nothing with probability stay.
    """
    full = (np.int64(1) << points) - 1
    middle = points // 2
    for m in range(1, out.shape[1]):
        then[:] = 0.0
        for s in range(now.shape[0]):
            p = now[s]
            if p == 0.0:
                continue
            then[s] += p * stay
            for i in range(shifts.shape[0]):
                moved = s << shifts[i] if shifts[i] > 0 else s >> -shifts[i]
                then[(s | moved) & full] += p * law[i]
        now[:] = then
        for w in range(1, out.shape[0]):
            out[w, m] = 0.0
        for s in range(now.shape[0]):
            p = now[s]
            if p == 0.0:
                continue
            for w in range(1, out.shape[0]):
                if (s >> (middle + w)) & 1 == 0:
                    out[w, m] += p


@njit(cache=True, nogil=True)
def cheapest_subset(items, costs, target, low, high, best, choice):
    """The subset with sum target of least total cost, by dynamic programming over the sums low..high.

    best: (high - low + 1,) float64 scratch; choice: (n + 1, high - low + 1) uint8, 1 where item n was taken.
    Returns the mask, or 0 with best = inf at the target when there is none (the caller tells the cases apart).
    """
    n = items.shape[0]
    size = high - low + 1
    for s in range(size):
        best[s] = np.inf
    best[-low] = 0.0
    for i in range(n):
        x = items[i]
        if x > 0:
            for s in range(size - 1, -1, -1):
                choice[i, s] = 0
                if s - x >= 0 and best[s - x] + costs[i] < best[s]:
                    best[s] = best[s - x] + costs[i]
                    choice[i, s] = 1
        else:
            for s in range(size):
                choice[i, s] = 0
                if x != 0 and s - x < size and best[s - x] + costs[i] < best[s]:
                    best[s] = best[s - x] + costs[i]
                    choice[i, s] = 1
    word = np.uint64(0)
    s = target - low
    if best[s] == np.inf:
        return word
    for i in range(n - 1, -1, -1):
        if choice[i, s]:
            word |= np.uint64(1) << np.uint64(i)
            s -= items[i]
    return word


@njit(cache=True, nogil=True)
def cheapest_subsets(items, lengths, costs, targets, words, least, start, stop):
    """cheapest_subset for every row; least[r] = its cost, inf when the target is out of reach."""
    for r in range(start, stop):
        n = lengths[r]
        low = np.int64(0)
        high = np.int64(0)
        for k in range(n):
            if items[r, k] < 0:
                low += items[r, k]
            else:
                high += items[r, k]
        if targets[r] < low or targets[r] > high:
            words[r] = np.uint64(0)
            least[r] = np.inf
            continue
        best = np.empty(high - low + 1, np.float64)
        choice = np.empty((n, high - low + 1), np.uint8)
        words[r] = cheapest_subset(items[r, :n], costs[r, :n], targets[r], low, high, best, choice)
        least[r] = best[targets[r] - low]


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
    count_hits(RELU, 2, 2, 2, 3, 64, 2, 1, np.zeros((1, 2, 5), np.int64), 0, 1)
    sets = np.zeros(8)
    sets[2] = 1.0
    window_chain(sets, np.empty(8), np.array([1]), np.ones(1), 0.0, 3, np.ones((2, 2)))
    cheapest_subsets(items, np.array([2]), np.ones((1, 2)), zero, words, np.zeros(1), 0, 1)
    image = np.zeros((1, 3, 3), np.int64)
    out = np.zeros((1, 1, 1), np.int64)
    starts = np.array([0, 1])
    convolve_kept(seed, 0, 2, 1, 2, 3, 1, False, True, 0, 2, place, unit, zero, zero, words, starts, image, out, 0, 1)
