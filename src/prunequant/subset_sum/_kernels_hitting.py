"""First prefix of a random sample that reaches its targets, one incremental bit set a trial."""

import numpy as np
from numba import njit

from prunequant.random import below, stream

from ._kernels_reach import STEP

ONE = np.uint64(1)
ZERO = np.uint64(0)
SIX = np.uint64(6)
LOW_6 = np.uint64(63)
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)

SIGNED, POSITIVE, PRODUCT = 0, 1, 2
SHORT_BELOW = 1 << 13


@njit(cache=True, nogil=True)
def sample(sampler, bound, root, state):
    """(state, value): uniform on {-bound..bound}, on {1..bound}, or a product of {1..root} and {-root..root}."""
    if sampler == SIGNED:
        state, r = below(state, np.uint64(2 * bound + 1))
        return state, np.int64(r) - bound
    if sampler == POSITIVE:
        state, r = below(state, np.uint64(bound))
        return state, np.int64(r) + 1
    state, r = below(state, np.uint64(root))
    a = np.int64(r) + 1
    state, r = below(state, np.uint64(2 * root + 1))
    return state, a * (np.int64(r) - root)


@njit(cache=True, nogil=True)
def grow(words, src, dst, old_last, new_last, size):
    """words[dst + w] = s | s << size of the set s at words[src:], for w in [0, new_last]; old_last is its last word."""
    jump = size >> SIX
    shift = size & LOW_6
    rest = LOW_6 - shift
    for w in range(old_last + ONE, new_last + ONE):
        words[src + w] = ZERO
    for w in range(min(jump, new_last + ONE)):
        words[dst + w] = words[src + w]
    if jump <= new_last:
        words[dst + jump] = words[src + jump] | (words[src] << shift)
        from_high = src - jump
        from_low = src - jump - ONE
        for w in range(jump + ONE, new_last + ONE):
            words[dst + w] = words[src + w] | (words[from_high + w] << shift) | ((words[from_low + w] >> ONE) >> rest)


@njit(cache=True, nogil=True)
def grow_short(words, src, dst, old_last, new_last, size):
    """`grow` for few words, in whole steps over zeros around the sets, as `_kernels_reach.reach_window_short`."""
    clean = (old_last + STEP) & ~(STEP - ONE)
    number = (new_last + STEP) & ~(STEP - ONE)
    for w in range(src + clean, src + number):
        words[w] = ZERO
    shift = size & LOW_6
    rest = LOW_6 - shift
    high_word = src - (size >> SIX)
    low_word = high_word - ONE
    for w in range(number):
        words[dst + w] = words[src + w] | (words[high_word + w] << shift) | ((words[low_word + w] >> ONE) >> rest)


@njit(cache=True, nogil=True)
def window_full(words, src, low, high):
    """Whether all bits low..high (included) of the set at words[src:] are set."""
    first = low >> SIX
    last = high >> SIX
    low_mask = FULL << (low & LOW_6)
    high_mask = FULL >> (LOW_6 - (high & LOW_6))
    if first == last:
        mask = low_mask & high_mask
        return (words[src + first] & mask) == mask
    if (words[src + first] & low_mask) != low_mask:
        return False
    if (words[src + last] & high_mask) != high_mask:
        return False
    for w in range(first + ONE, last):
        if words[src + w] != FULL:
            return False
    return True


@njit(cache=True, nogil=True)
def hitting_rows(n_max, sampler, bound, root, low, high, step, random_target, seed, offset, out, start, stop):
    """out[i] = the smallest k such that every target is a sum of some of the first k samples of trial offset + i.

    Targets are the multiples of step in [low, high], or, with random_target, one of them that is not 0, uniform.
    Sums are held as sums of magnitudes: a negative sample shifts the set up and the origin with it.
    """
    short = bound < SHORT_BELOW
    pad = np.uint64(bound // 64 + 2) if short else ZERO
    need = (n_max * bound) // 64 + 2 + np.int64(pad + STEP)
    capacity = np.uint64(need + (72 - need) % 512)  # as in _threads.apart
    if short:
        words = np.zeros(2 * capacity, np.uint64)
    else:
        words = np.empty(2 * capacity, np.uint64)
    first_target, last_target = low, high
    for i in range(start, stop):
        state = stream(np.uint64(seed), np.uint64(offset + i))
        if random_target:
            multiples_low = -((-low) // step)
            multiples_high = high // step
            holds_zero = multiples_low <= 0 <= multiples_high
            number = multiples_high - multiples_low + 1 - (1 if holds_zero else 0)
            state, r = below(state, np.uint64(number))
            multiple = multiples_low + np.int64(r)
            if holds_zero and multiple >= 0:
                multiple += 1
            first_target = multiple * step
            last_target = first_target
        targets = (last_target - first_target) // step + 1
        src = pad
        dst = capacity + pad
        words[src] = ONE
        for w in range(src + ONE, src + min(STEP, capacity - pad)):
            words[w] = ZERO
        total = 0
        origin = 0
        out[i] = n_max + 1
        if targets == 1 and first_target == 0:
            out[i] = 0
            continue
        for k in range(n_max):
            state, value = sample(sampler, bound, root, state)
            size = abs(value)
            if value < 0:
                origin += size
            if size > 0:
                last = np.uint64(total) >> SIX
                total += size
                if total <= 63:
                    words[src] |= words[src] << np.uint64(size)
                elif short:
                    grow_short(words, src, dst, last, np.uint64(total) >> SIX, np.uint64(size))
                    src, dst = dst, src
                else:
                    grow(words, src, dst, last, np.uint64(total) >> SIX, np.uint64(size))
                    src, dst = dst, src
            a = first_target + origin
            b = last_target + origin
            if a < 0 or b > total:
                continue
            if k < 61 and (1 << (k + 1)) < targets:
                continue
            if step == 1 or targets == 1:
                done = window_full(words, src, np.uint64(a), np.uint64(b))
            else:
                done = True
                for s in range(a, b + 1, step):
                    u = np.uint64(s)
                    if (words[src + (u >> SIX)] >> (u & LOW_6)) & ONE == ZERO:
                        done = False
                        break
            if done:
                out[i] = k + 1
                break


def warm() -> None:
    """Compile every kernel for the one type it is used with."""
    out = np.zeros(1, dtype=np.int64)
    hitting_rows(8, SIGNED, 4, 2, -4, 4, 1, False, np.uint64(0), 0, out, 0, 1)
