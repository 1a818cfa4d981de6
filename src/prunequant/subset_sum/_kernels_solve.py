"""One target: filter meet-in-the-middle on a prefix that grows until it decides, and a table with a witness.

Meet in the middle without sorting: all sums of the first half set bits of a small hashed bit set; the sums of the
second half pass through it and leave a few candidates; the candidates set a second filter and the first half
passes through that; what is left is compared exactly. A sum's place in the list, built by doubling, is its own bit
mask.
"""

import numpy as np
from numba import njit

HASH_1 = np.uint64(0x9E3779B97F4A7C15)
HASH_2 = np.uint64(0xD6E8FEB86659FD93)
ONE = np.uint64(1)
ZERO = np.uint64(0)
SIX = np.uint64(6)
LOW_6 = np.uint64(63)

FOUND, IMPOSSIBLE, UNDECIDED, WRONG = 1, 0, 2, 3
BATCH_ITEMS = 32


@njit(cache=True, nogil=True)
def half_sums(items, first, last, sums):
    """sums[m] = the sum of items[first + k] over the bits k of m, for all 2**(last - first) masks m."""
    sums[0] = 0
    size = ONE
    for k in range(first, last):
        value = items[k]
        for j in range(size):
            sums[size + j] = sums[j] + value
        size <<= ONE
    return size


@njit(cache=True, nogil=True)
def meet(items, count, target, left, right, filter_words, candidates, places, head, chain):
    """The mask of a subset of items[:count] with sum `target`: (True, mask) or (False, 0)."""
    a_items = count >> 1
    size_a = half_sums(items, 0, a_items, left)
    size_b = half_sums(items, a_items, count, right)
    bits = np.uint64(max(a_items + 4, 6))
    shift = np.uint64(64) - bits
    words = ONE << (bits - SIX)
    for w in range(words):
        filter_words[w] = ZERO
    for j in range(size_a):
        h = (np.uint64(left[j]) * HASH_1) >> shift
        filter_words[h >> SIX] |= ONE << (h & LOW_6)
    kept = ZERO
    for j in range(size_b):
        rest = target - right[j]
        h = (np.uint64(rest) * HASH_1) >> shift
        candidates[kept] = rest
        places[kept] = j
        kept += (filter_words[h >> SIX] >> (h & LOW_6)) & ONE
    if kept == ZERO:
        return False, ZERO
    if kept <= np.uint64(2):
        for c in range(kept):
            rest = candidates[c]
            for j in range(size_a):
                if left[j] == rest:
                    return True, j | (np.uint64(places[c]) << np.uint64(a_items))
        return False, ZERO
    # second filter, from the candidates; a chained table of the distinct ones decides exactly
    for w in range(words):
        filter_words[w] = ZERO
    table_bits = SIX
    while (ONE << table_bits) < kept + kept and table_bits < np.uint64(26):
        table_bits += ONE
    table_shift = np.uint64(64) - table_bits
    for w in range(ONE << table_bits):
        head[w] = -1
    for c in range(kept):
        rest = candidates[c]
        product = np.uint64(rest) * HASH_2
        h = product >> shift
        filter_words[h >> SIX] |= ONE << (h & LOW_6)
        slot = product >> table_shift
        entry = head[slot]
        while entry >= 0 and candidates[np.uint64(entry)] != rest:
            entry = chain[np.uint64(entry)]
        if entry < 0:
            chain[c] = head[slot]
            head[slot] = c
    for j in range(size_a):
        value = left[j]
        product = np.uint64(value) * HASH_2
        h = product >> shift
        if (filter_words[h >> SIX] >> (h & LOW_6)) & ONE:
            entry = head[product >> table_shift]
            while entry >= 0:
                if candidates[np.uint64(entry)] == value:
                    return True, j | (np.uint64(places[np.uint64(entry)]) << np.uint64(a_items))
                entry = chain[np.uint64(entry)]
    return False, ZERO


@njit(cache=True, nogil=True)
def scratch_filter_words(count):
    """Words of the hashed bit set for `count` items."""
    return 1 << max(count // 2 + 4 - 6, 0)


@njit(cache=True, nogil=True)
def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return a


@njit(cache=True, nogil=True)
def solve_rows(x, lengths, targets, words, status, start, stop):
    """Decide rows [start, stop): FOUND (mask in words), IMPOSSIBLE (proved) or UNDECIDED (a larger search is due)."""
    widest = 0
    for i in range(start, stop):
        widest = max(widest, lengths[i])
    cap = min(widest, BATCH_ITEMS)
    half = 1 << ((cap + 1) // 2)
    left = np.empty(half, np.int64)
    right = np.empty(half, np.int64)
    candidates = np.empty(half, np.int64)
    places = np.empty(half, np.int32)
    chain = np.empty(half, np.int32)
    head = np.empty(max(2 * half, 64), np.int32)
    filter_words = np.empty(scratch_filter_words(cap), np.uint64)
    items = np.empty(64, np.int64)
    origin = np.empty(64, np.uint64)
    for i in range(start, stop):
        target = targets[i]
        words[i] = ZERO
        if target == 0:
            status[i] = FOUND
            continue
        count = 0
        above = 0
        below = 0
        largest = 0
        for j in range(lengths[i]):
            value = x[i, j]
            if value != 0:
                items[count] = value
                origin[count] = np.uint64(j)
                count += 1
            above += max(value, 0)
            below += min(value, 0)
            largest = max(largest, abs(value))
        if target > above or target < below:
            status[i] = IMPOSSIBLE
            continue
        bits = 0
        while largest >> bits:
            bits += 1
        prefix = bits + 4
        if prefix + 2 >= count:
            prefix = count
        ceiling = min(BATCH_ITEMS, bits + 14)
        first = True
        status[i] = UNDECIDED
        while prefix <= ceiling or (prefix == count and prefix <= BATCH_ITEMS):
            found, mask = meet(items, prefix, target, left, right, filter_words, candidates, places, head, chain)
            if found:
                word = ZERO
                total = 0
                for k in range(prefix):
                    if (mask >> np.uint64(k)) & ONE:
                        word |= ONE << origin[k]
                        total += items[k]
                words[i] = word
                status[i] = FOUND if total == target else WRONG
                break
            if prefix == count:
                status[i] = IMPOSSIBLE
                break
            if first:
                first = False
                divisor = 0
                for k in range(count):
                    divisor = gcd(divisor, abs(items[k]))
                    if divisor == 1:
                        break
                if target % divisor != 0:
                    status[i] = IMPOSSIBLE
                    break
            prefix = count if prefix + 4 >= count else prefix + 2


@njit(cache=True, nogil=True)
def unpack_rows(x, words, targets, status, masks, start, stop):
    """masks[i, j] = bit j of words[i]; returns how many found rows do not sum to their target."""
    wrong = 0
    columns = x.shape[1]
    for i in range(start, stop):
        word = words[i]
        total = 0
        for j in range(columns):
            bit = (word >> np.uint64(j)) & ONE
            masks[i, j] = bit != ZERO
            total += np.int64(bit) * x[i, j]
        if status[i] == FOUND and total != targets[i]:
            wrong += 1
    return wrong


@njit(cache=True, nogil=True)
def meet_large(items, count, target):
    """`meet` with scratch of its own, for one large search."""
    half = 1 << ((count + 1) // 2)
    left = np.empty(half, np.int64)
    right = np.empty(half, np.int64)
    candidates = np.empty(half, np.int64)
    places = np.empty(half, np.int32)
    chain = np.empty(half, np.int32)
    head = np.empty(max(2 * half, 64), np.int32)
    filter_words = np.empty(scratch_filter_words(count), np.uint64)
    return meet(items, count, target, left, right, filter_words, candidates, places, head, chain)


@njit(cache=True, nogil=True)
def table_witness(sizes, goal, first):
    """first[s] = 1 + the item that first reached s, for 0 < s <= goal and sizes > 0; stops once goal is reached.

    Shift-or over a bit set, in place from the top; every sum is recorded once. Stepping s -> s - sizes[first[s] - 1]
    uses strictly falling items, so it spells out a subset. Returns whether goal was reached.
    """
    if goal == 0:
        return True
    top = np.uint64(goal)
    last_word = top >> SIX
    bits = np.zeros(goal // 64 + 1, np.uint64)
    bits[0] = ONE
    total = ZERO
    for k in range(sizes.shape[0]):
        size = np.uint64(sizes[k])
        if size > top:
            continue
        total = min(total + size, top)
        jump = size >> SIX
        shift = size & LOW_6
        w = total >> SIX
        while True:
            if w < jump:
                break
            moved = bits[w - jump] << shift
            if w > jump:
                moved |= (bits[w - jump - ONE] >> ONE) >> (LOW_6 - shift)
            new = moved & ~bits[w]
            if new != ZERO:
                bits[w] |= new
                base = w << SIX
                for b in range(np.uint64(64)):
                    if (new >> b) & ONE and base + b <= top:
                        first[base + b] = k + 1
            if w == ZERO:
                break
            w -= ONE
        if (bits[last_word] >> (top & LOW_6)) & ONE:
            return True
    return False


def warm() -> None:
    """Compile every kernel for the one type it is used with."""
    x = np.array([[3, 5, -2, 7]], dtype=np.int64)
    lengths = np.array([4], dtype=np.int64)
    targets = np.array([8], dtype=np.int64)
    words = np.zeros(1, dtype=np.uint64)
    status = np.zeros(1, dtype=np.uint8)
    solve_rows(x, lengths, targets, words, status, 0, 1)
    unpack_rows(x, words, targets, status, np.zeros((1, 4), dtype=bool), 0, 1)
    meet_large(x[0], 4, 8)
    table_witness(np.array([3, 5], dtype=np.int64), 8, np.zeros(9, dtype=np.uint16))
