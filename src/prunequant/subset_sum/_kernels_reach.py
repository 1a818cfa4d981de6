"""Every target of a window at once: shift-or over a bit set of sums.

Three reductions keep the set small. Sums of signed samples are sums of magnitudes, shifted by the negative ones. A
set and its complement have sums that add up to the total, so a window beyond half the total is read in the mirror.
And a partial sum matters only while the items still to come can lift it into the window, and no longer once it has
passed it. Indices are uint64 throughout: a signed index would be tested for wrap-around and the loops would not
vectorise.
"""

import numpy as np
from numba import njit

ONE = np.uint64(1)
ZERO = np.uint64(0)
SIX = np.uint64(6)
LOW_6 = np.uint64(63)
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
M1 = np.uint64(0x5555555555555555)
M2 = np.uint64(0x3333333333333333)
M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
M8 = np.uint64(0x0101010101010101)
SORT_FROM = 1 << 13
BLOCK = 128
STEP = np.uint64(16)  # words; a multiple of any vector width times its unrolling, so that no remainder loop runs


@njit(cache=True, nogil=True)
def popcount(word):
    word = word - ((word >> ONE) & M1)
    word = (word & M2) + ((word >> np.uint64(2)) & M2)
    word = (word + (word >> np.uint64(4))) & M4
    return (word * M8) >> np.uint64(56)


@njit(cache=True, nogil=True)
def largest_magnitude(values):
    """max |v|, as uint64 so that -2**63 keeps its size."""
    low = np.int64(0)
    high = np.int64(0)
    for k in range(np.uint64(values.shape[0])):
        low = min(low, values[k])
        high = max(high, values[k])
    return max(np.uint64(high), ZERO - np.uint64(low))


@njit(cache=True, nogil=True)
def unimodal(sizes, count, sorted_sizes):
    """Reorder sizes[:count] in place: small ones at both ends, the largest in the middle.

    Small items first keep the set short while it grows; small items last keep the band of useful sums narrow.
    """
    for i in range(count):
        value = sizes[i]
        j = i
        while j > 0 and sorted_sizes[j - 1] > value:
            sorted_sizes[j] = sorted_sizes[j - 1]
            j -= 1
        sorted_sizes[j] = value
    front = 0
    back = count - 1
    for i in range(count):
        if i & 1:
            sizes[back] = sorted_sizes[i]
            back -= 1
        else:
            sizes[front] = sorted_sizes[i]
            front += 1


@njit(cache=True, nogil=True)
def reach_window(sizes, count, total, low, high, words, capacity):
    """The sums of sizes[:count] as bits, right inside [low, high]; returns where in words the bit set starts.

    words holds two sets of `capacity` words each, used in turn; what lies outside the band is left as it was.
    """
    left = total
    reached = np.int64(0)
    register = ONE
    k = 0
    while k < count and reached + sizes[k] <= 63:
        register |= register << np.uint64(sizes[k])
        reached += sizes[k]
        left -= sizes[k]
        k += 1
    src = ZERO
    dst = np.uint64(capacity)
    words[src] = register
    last = ZERO
    while k < count:
        size = np.uint64(sizes[k])
        left -= sizes[k]
        reached += sizes[k]
        k += 1
        new_last = np.uint64(min(high, reached)) >> SIX
        new_first = np.uint64(max(low - left, 0)) >> SIX
        jump = size >> SIX
        shift = size & LOW_6
        rest = LOW_6 - shift
        for w in range(last + ONE, new_last + ONE):
            words[src + w] = ZERO
        stop = new_last + ONE
        for w in range(new_first, min(jump, stop)):
            words[dst + w] = words[src + w]
        if jump < stop:
            if jump >= new_first:
                words[dst + jump] = words[src + jump] | (words[src] << shift)
            high_word = src - jump
            low_word = src - jump - ONE
            for w in range(max(new_first, jump + ONE), stop):
                words[dst + w] = (
                    words[src + w] | (words[high_word + w] << shift) | ((words[low_word + w] >> ONE) >> rest)
                )
        last = new_last
        src, dst = dst, src
    return src


@njit(cache=True, nogil=True)
def reach_window_short(sizes, count, total, low, high, words, src, dst):
    """`reach_window` for sets of few words: each pass is one loop over whole steps, with nothing before or after it.

    The two sets start at words[src] and words[dst]; below each lie zeros, at least one word more than the largest size
    spans, and above each STEP words to spare. Reading them replaces every special case.
    """
    need = (np.uint64(high) >> SIX) + ONE + STEP
    for w in range(src, src + need):
        words[w] = ZERO
    for w in range(dst, dst + need):
        words[w] = ZERO
    left = total
    reached = np.int64(0)
    register = ONE
    k = 0
    while k < count and reached + sizes[k] <= 63:
        register |= register << np.uint64(sizes[k])
        reached += sizes[k]
        left -= sizes[k]
        k += 1
    words[src] = register
    while k < count:
        size = np.uint64(sizes[k])
        left -= sizes[k]
        reached += sizes[k]
        k += 1
        first = np.uint64(max(low - left, 0)) >> SIX
        number = ((np.uint64(min(high, reached)) >> SIX) - first + STEP) & ~(STEP - ONE)
        shift = size & LOW_6
        rest = LOW_6 - shift
        here = src + first
        high_word = here - (size >> SIX)
        low_word = high_word - ONE
        there = dst + first
        for w in range(number):
            words[there + w] = (
                words[here + w] | (words[high_word + w] << shift) | ((words[low_word + w] >> ONE) >> rest)
            )
        src, dst = dst, src
    return src


@njit(cache=True, nogil=True)
def count_bits(words, src, low, high):
    """How many of the bits low..high of the set at words[src:] are set."""
    first = np.uint64(low) >> SIX
    last = np.uint64(high) >> SIX
    low_mask = FULL << (np.uint64(low) & LOW_6)
    high_mask = FULL >> (LOW_6 - (np.uint64(high) & LOW_6))
    if first == last:
        return popcount(words[src + first] & low_mask & high_mask)
    hits = popcount(words[src + first] & low_mask) + popcount(words[src + last] & high_mask)
    for w in range(src + first + ONE, src + last):
        hits += popcount(words[w])
    return hits


@njit(cache=True, nogil=True)
def write_bits(words, src, low, high, out, row, place, step):
    """out[row, place + step·k] = bit low + k of the set at words[src:], for low + k up to high; step is 1 or -1."""
    u = np.uint64(low)
    end = np.uint64(high) + ONE
    while u < end:
        word = words[src + (u >> SIX)] >> (u & LOW_6)
        number = min(np.uint64(64) - (u & LOW_6), end - u)
        if step == 1:
            for b in range(number):
                out[row, np.uint64(place) + b] = (word >> b) & ONE != ZERO
            place += np.int64(number)
        else:
            for b in range(number):
                out[row, np.uint64(place) - b] = (word >> b) & ONE != ZERO
            place -= np.int64(number)
        u += number


@njit(cache=True, nogil=True)
def reach_rows(x, low, high, largest, capacity, want_bits, out, hits, start, stop):
    """hits[i] = number of targets of [low, high] that row i reaches; with want_bits also out[i, t - low] = reached."""
    columns = x.shape[1]
    width = high - low + 1
    short = largest < SORT_FROM
    if short:  # zeros below each of the two sets; capacity leaves room for them
        words = np.zeros(2 * capacity, np.uint64)
    else:
        words = np.empty(2 * capacity, np.uint64)
    pad = np.uint64((largest >> 6) + 2)
    sizes = np.empty(columns, np.int64)
    ordered = np.empty(columns, np.int64)
    bits = 0
    while largest >> bits:
        bits += 1
    for i in range(start, stop):
        for attempt in range(2):
            # a prefix that already reaches everything settles the row
            limit = min(columns, bits + 8) if attempt == 0 and columns > bits + 12 else columns
            count = 0
            total = 0
            negative = 0
            for j in range(limit):
                value = x[i, j]
                size = abs(value)
                sizes[count] = size
                count += size != 0
                total += size
                negative += size if value < 0 else 0
            first = max(low + negative, 0)
            last = min(high + negative, total)
            if first > last:
                if limit < columns:
                    continue
                hits[i] = 0
                if want_bits:
                    for j in range(width):
                        out[i, j] = False
                break
            mirrored = total - first < last
            a = total - last if mirrored else first
            b = total - first if mirrored else last
            if short:
                src = reach_window_short(sizes, count, total, a, b, words, pad, np.uint64(capacity) + pad)
            else:
                unimodal(sizes, count, ordered)
                src = reach_window(sizes, count, total, a, b, words, capacity)
            number = np.int64(count_bits(words, src, a, b))
            if limit < columns and number < width:
                continue
            hits[i] = number
            if want_bits:
                place = first - negative - low
                if last - first + 1 < width:
                    for j in range(place):
                        out[i, j] = False
                    for j in range(last - negative - low + 1, width):
                        out[i, j] = False
                if mirrored:
                    write_bits(words, src, a, b, out, i, last - negative - low, -1)
                else:
                    write_bits(words, src, a, b, out, i, place, 1)
            break


@njit(cache=True, nogil=True)
def reach_small_rows(x, low, high, set_words, want_bits, out, hits, start, stop):
    """`reach_rows` for |x| <= 63: BLOCK instances side by side, one shift distance a lane.

    sets[w, i] is word w of the bit set of instance i; a shift below 64 needs only the word underneath, so the
    inner loop is one vector operation over instances.
    """
    columns = x.shape[1]
    width = high - low + 1
    sets = np.empty((set_words, BLOCK), np.uint64)
    shifts = np.empty((columns, BLOCK), np.uint64)
    tops = np.empty(columns, np.uint64)
    totals = np.empty(BLOCK, np.int64)
    firsts = np.empty(BLOCK, np.int64)
    lasts = np.empty(BLOCK, np.int64)
    negatives = np.empty(BLOCK, np.int64)
    counts = np.empty(BLOCK, np.int64)
    column = np.zeros(BLOCK, np.int64)
    for block in range(start, stop, BLOCK):
        base = np.uint64(block)
        lanes = np.uint64(min(BLOCK, stop - block))
        for i in range(np.uint64(BLOCK)):
            sets[ZERO, i] = ONE
            totals[i] = 0
            negatives[i] = 0
            column[i] = 0
            counts[i] = 0
        for j in range(np.uint64(columns)):
            for i in range(lanes):
                column[i] = x[base + i, j]
            top = np.int64(0)
            for i in range(np.uint64(BLOCK)):
                value = column[i]
                size = abs(value)
                shifts[j, i] = np.uint64(size)
                totals[i] += size
                negatives[i] += (size - value) >> 1
                top = max(top, totals[i])
            tops[j] = np.uint64(top) >> SIX
        end = np.int64(0)
        for i in range(np.uint64(BLOCK)):
            firsts[i] = max(low + negatives[i], 0)
            lasts[i] = min(high + negatives[i], totals[i])
            end = max(end, lasts[i])
        last_word = np.uint64(end) >> SIX
        used = ONE
        for j in range(np.uint64(columns)):
            need = min(tops[j], last_word) + ONE
            for w in range(used, need):
                for i in range(np.uint64(BLOCK)):
                    sets[w, i] = ZERO
            used = need
            w = used - ONE
            while w > ZERO:
                for i in range(np.uint64(BLOCK)):
                    shift = shifts[j, i]
                    sets[w, i] |= (sets[w, i] << shift) | ((sets[w - ONE, i] >> ONE) >> (LOW_6 - shift))
                w -= ONE
            for i in range(np.uint64(BLOCK)):
                sets[ZERO, i] |= sets[ZERO, i] << shifts[j, i]
        for w in range(used):
            start_bit = np.int64(w << SIX)
            for i in range(np.uint64(BLOCK)):
                skip = min(max(firsts[i] - start_bit, 0), 64)
                drop = min(max(start_bit + 63 - lasts[i], 0), 64)
                high_mask = (FULL >> np.uint64(drop >> 1)) >> np.uint64(drop - (drop >> 1))
                low_mask = (FULL << np.uint64(skip >> 1)) << np.uint64(skip - (skip >> 1))
                counts[i] += np.int64(popcount(sets[w, i] & low_mask & high_mask))
        for i in range(lanes):
            hits[base + i] = counts[i]
        if want_bits:
            for i in range(lanes):
                for j in range(width):
                    u = low + j + negatives[i]
                    if u < 0 or u > lasts[i]:
                        out[base + i, j] = False
                    else:
                        out[base + i, j] = (sets[u >> 6, i] >> np.uint64(u & 63)) & ONE != ZERO


def warm() -> None:
    """Compile every kernel for the one type it is used with."""
    x = np.array([[3, -5, 70]], dtype=np.int64)
    largest_magnitude(x.reshape(-1))
    out = np.zeros((1, 5), dtype=bool)
    hits = np.zeros(1, dtype=np.int64)
    reach_rows(x, -2, 2, 70, 64, True, out, hits, 0, 1)
    reach_small_rows(x % 64, -2, 2, 4, True, out, hits, 0, 1)
