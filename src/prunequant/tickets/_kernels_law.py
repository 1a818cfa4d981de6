"""Compiled loops about the law of subset sums: seeded trials, the exact window process, and the cheapest subset."""

import numpy as np
from numba import njit

from prunequant.random import below, stream

RELU, LINEAR, UNIFORM = 0, 1, 2  # items u⁺v, u·v, v


ONE = np.uint64(1)
ZERO = np.uint64(0)
SIX = np.uint64(6)
LOW_6 = np.uint64(63)


@njit(cache=True, nogil=True)
def _or_shifted(bits, now, then, first, last, final, shift):
    """The set at bits[then:] = the one at bits[now:] and its shift (up when positive); (first, last) word in use.

    Words first..last of the set may hold bits, those around them are zero, and words 0..final make the window: what
    leaves it is lost. Two places rather than one, so that the loop runs on whole vectors.
    """
    by = np.uint64(abs(shift))
    jump = by >> SIX
    rest = by & LOW_6
    back = LOW_6 - rest
    if shift > 0:
        last = min(last + jump + ONE, final)
        near, far = now - jump, now - jump - ONE
        for w in range(first, last + ONE):
            bits[then + w] = bits[now + w] | (bits[near + w] << rest) | ((bits[far + w] >> ONE) >> back)
    else:
        first = first - jump - ONE if first > jump else ZERO
        near, far = now + jump, now + jump + ONE
        for w in range(first, last + ONE):
            bits[then + w] = bits[now + w] | (bits[near + w] >> rest) | ((bits[far + w] << ONE) << back)
    return first, last


@njit(cache=True, nogil=True)
def count_hits(kind, half_range, target_step, targets, units, window, trials, seed, first_hit, start, stop):
    """first_hit[chunk, w - 1, m] += 1 when w·target_step first becomes a subset sum at unit m (units + 1: never).

    Only partial sums within ±window are followed, so a hit is a hit and a miss may be pessimistic. Trials are cut
    into first_hit.shape[0] chunks, each trial with its own stream: the counts do not depend on the threads.
    """
    chunks = first_hit.shape[0]
    for chunk in range(start, stop):
        final = np.uint64(2 * window >> 6)
        largest = half_range if kind == UNIFORM else half_range * half_range
        pad = np.uint64((largest >> 6) + 2)  # zeros around the windows: no shift reads another set
        bits = np.zeros(2 * (final + ONE) + np.uint64(3) * pad, np.uint64)
        middle = np.uint64(window >> 6)
        waiting = np.empty(targets, np.int64)
        size = np.uint64(2 * half_range + 1)
        for trial in range(chunk, trials, chunks):
            state = stream(np.uint64(seed), np.uint64(trial))
            now, then = pad, np.uint64(2) * pad + final + ONE
            first, last = middle, middle
            bits[now + middle] = ONE << np.uint64(window & 63)
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
                first, last = _or_shifted(bits, now, then, first, last, final, x)
                now, then = then, now
                still = 0
                for i in range(left):
                    at = waiting[i] * target_step + window
                    if (bits[now + np.uint64(at >> 6)] >> np.uint64(at & 63)) & ONE:
                        first_hit[chunk, waiting[i] - 1, m] += 1
                    else:
                        waiting[still] = waiting[i]
                        still += 1
                left = still
                if left == 0:
                    break
            for i in range(left):
                first_hit[chunk, waiting[i] - 1, units + 1] += 1
            for w in range(first, last + ONE):
                bits[now + w] = ZERO
                bits[then + w] = ZERO


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


def warm() -> None:
    """Compile every kernel once, on tiny inputs."""
    count_hits(RELU, 2, 2, 2, 3, 64, 2, np.uint64(1), np.zeros((1, 2, 5), np.int64), 0, 1)
    sets = np.zeros(8)
    sets[2] = 1.0
    window_chain(sets, np.empty(8), np.array([1]), np.ones(1), 0.0, 3, np.ones((2, 2)))
    one, items = np.zeros(1, np.int64), np.ones((1, 2), np.int64)
    cheapest_subsets(items, np.array([2]), np.ones((1, 2)), one, np.zeros(1, np.uint64), np.zeros(1), 0, 1)
