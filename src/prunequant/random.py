"""Seeds and counter-based random streams for compiled kernels.

A draw is a pure function of (seed, trial, position), so a result never depends on the number of threads, on the size
of a chunk or on the order in which trials run. Two generators: SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a
64-bit state stepped once a draw, for streams; Philox4x32-10 (Salmon, Moraes, Dror & Shaw, SC 2011), a block cipher of
the counter, for random access. Both are checked against published vectors in tests/test_random.py.

Outside kernels use `generator`, a NumPy generator whose `SeedSequence` is keyed by the same numbers.
"""

import numpy as np
from numba import njit

from prunequant import arguments

__all__ = ["below", "generator", "mix64", "philox4x32", "splitmix64", "stream", "uniform", "warm"]

_MAX_KEY = 2**128 - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LOW_32 = np.uint64(0xFFFFFFFF)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_PHILOX_M0 = np.uint64(0xD2511F53)
_PHILOX_M1 = np.uint64(0xCD9E8D57)
_PHILOX_W0 = np.uint64(0x9E3779B9)
_PHILOX_W1 = np.uint64(0xBB67AE85)
_TO_UNIT = 2.0**-53


def generator(seed: int, *keys: int) -> np.random.Generator:
    """A NumPy generator keyed by a seed and any number of further integers, each from 0 to 2**128 - 1.

    Raises
    ------
    TypeError, ValueError : a seed or key that is no integer, or outside that range.

    Examples
    --------
    >>> bool(generator(1, 2).integers(1000) == generator(1, 2).integers(1000))
    True
    """
    entropy = [arguments.integer(seed, "seed", 0, _MAX_KEY)]
    entropy += [arguments.integer(key, f"keys[{i}]", 0, _MAX_KEY) for i, key in enumerate(keys)]
    return np.random.default_rng(np.random.SeedSequence(entropy))


@njit(cache=True, nogil=True)
def mix64(value: np.uint64) -> np.uint64:
    """The SplitMix64 output function: a bijection of 64 bits in which every input bit moves every output bit."""
    z = np.uint64(value)
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def splitmix64(state: np.uint64) -> tuple[np.uint64, np.uint64]:
    """One step of SplitMix64: ``(new state, 64 random bits)``, both uint64."""
    state = np.uint64(state) + _GOLDEN
    return state, mix64(state)


@njit(cache=True, nogil=True)
def stream(seed: np.uint64, trial: np.uint64) -> np.uint64:
    """The uint64 state with which trial number `trial` of a seed starts."""
    return mix64(mix64(np.uint64(seed) + _GOLDEN) + np.uint64(trial) * _GOLDEN)


@njit(cache=True, nogil=True)
def below(state: np.uint64, limit: np.uint64) -> tuple[np.uint64, np.uint64]:
    """``(new state, uint64 in [0, limit))``, exactly uniform (Lemire's rejection; bit-mask rejection from 2**32 on)."""
    limit = np.uint64(limit)
    state = np.uint64(state)
    if limit <= _LOW_32:
        state, bits = splitmix64(state)
        product = (bits >> np.uint64(32)) * limit
        if (product & _LOW_32) < limit:
            threshold = (_LOW_32 + _ONE - limit) % limit
            while (product & _LOW_32) < threshold:
                state, bits = splitmix64(state)
                product = (bits >> np.uint64(32)) * limit
        return state, product >> np.uint64(32)
    mask = limit - _ONE
    for k in (1, 2, 4, 8, 16, 32):
        mask |= mask >> np.uint64(k)
    while True:
        state, bits = splitmix64(state)
        if (bits & mask) < limit:
            return state, bits & mask


@njit(cache=True, nogil=True)
def uniform(state: np.uint64) -> tuple[np.uint64, np.float64]:
    """``(new state, float64 in [0, 1))`` with 53 random bits."""
    state, bits = splitmix64(state)
    return state, np.float64(bits >> np.uint64(11)) * _TO_UNIT


@njit(cache=True, nogil=True)
def philox4x32(
    c0: np.uint32, c1: np.uint32, c2: np.uint32, c3: np.uint32, k0: np.uint32, k1: np.uint32
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Philox4x32-10: four random uint32 from a counter of four and a key of two 32-bit words."""
    w0, w1, w2, w3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    key0, key1 = np.uint64(k0), np.uint64(k1)
    for _ in range(10):
        p0 = _PHILOX_M0 * w0
        p1 = _PHILOX_M1 * w2
        w0, w1 = (p1 >> np.uint64(32)) ^ w1 ^ key0, p1 & _LOW_32
        w2, w3 = (p0 >> np.uint64(32)) ^ w3 ^ key1, p0 & _LOW_32
        key0 = (key0 + _PHILOX_W0) & _LOW_32
        key1 = (key1 + _PHILOX_W1) & _LOW_32
    return np.uint32(w0), np.uint32(w1), np.uint32(w2), np.uint32(w3)


def warm() -> None:
    """Compile every function once for the types it is used with."""
    one = np.uint64(1)
    mix64(one)
    splitmix64(one)
    stream(one, one)
    below(one, one)
    uniform(one)
    word = np.uint32(1)
    philox4x32(word, word, word, word, word, word)
