r"""Theorem A: proved upper bounds on the failure probability, for every n and M, computed rather than estimated.

Samples X uniform on {-M..M}, N = 2M + 1. Let W be w = M + 1 consecutive integers with 0 among them, A_0 = {0} and
A_{k+1} = A_k ∪ ((A_k + X_{k+1}) ∩ W): a part of the subset sums. Any z in W and a in A_k differ by at most M, so
every new element z is hit with probability |A_k|/N exactly, and with a = |A_k|

    E|A_{k+1}| = a + a (w - a)/N                                     (the growth identity).

How the gain G is spread matters too. For B = W \ A let r(x) = #{(b, a') : b - a' = x}; the gain on drawing x is
r(x). The a by (w - a) grid of pairs holds, for each s <= min(a, w - a), s disjoint hooks on which b - a' strictly
rises, of w - 1, w - 3, ..., w - 2s + 1 pairs; hence Σ_x min(r(x), s) >= s (w - s), with equality when A is an
interval at an end of W (Pollard's inequality over the integers). Together with the growth identity: r <= r* in the
convex order, r* the gain of an interval. So for every convex decreasing V

    E V(|A_{k+1}|) <= (T V)(a) = E V(a + r*_a),        and T V is again convex and decreasing.

Intervals grow worst, and E V(|A_n|) <= (T^n V)(1). With V(a) = w - a this bounds the expected number of targets
missed, so the probability that any is. For one target t in W \ A the draw x hits t for exactly a values of x;
leaving out the a largest gains of r* (on w - 1 places, t aside) bounds what survives, and P(t not in A_n) <= (T_1^n
1)(1). Chapter: tickets/failure-probability.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .._validate import integer

MAX_BOUND = 2**22


def expected_growth(covered: float, bound: int, window: int | None = None) -> float:
    """E|A_{k+1}| - |A_k| for |A_k| = `covered` in a window of `window` integers (default M + 1), at most M + 1 of them.

    Examples
    --------
    >>> expected_growth(3, 4, 5)  # 3·(5 - 3)/9
    0.6666666666666666
    """
    window = bound + 1 if window is None else window
    if not 1 <= window <= bound + 1:
        raise ValueError(f"window is {window}: the identity needs 1 to bound + 1 = {bound + 1} consecutive integers")
    return covered * (window - covered) / (2 * bound + 1)


def interval_law(covered: int, window: int, bound: int) -> NDArray[np.float64]:
    """The law of the gain r* of an interval of `covered` integers at an end of the window: entry g is P(gain = g).

    P(gain >= s) = (w - 2s + 1)/N for 1 <= s <= min(a, w - a).

    Examples
    --------
    >>> (interval_law(2, 5, 4) * 9).round(12)
    array([5., 2., 2.])
    """
    top = min(covered, window - covered)
    at_least = np.array([1.0, *((window - 2 * s + 1) / (2 * bound + 1) for s in range(1, top + 1)), 0.0])
    return at_least[:-1] - at_least[1:]


def _check(n, bound) -> tuple[int, int]:
    n, bound = integer(n, "n"), integer(bound, "bound")
    if n < 0 or not 1 <= bound <= MAX_BOUND:
        raise ValueError(f"n is {n} and bound is {bound}: n must be at least 0, bound in [1, 2**22]")
    return n, bound


def _suffix(v: np.ndarray) -> np.ndarray:
    """s[i] = v[i] + v[i+1] + ...; v is decreasing, so differences of s lose at most a factor len(v) in precision."""
    return np.concatenate([np.cumsum(v[::-1])[::-1], [0.0]])


@lru_cache(maxsize=64)
def _all_curve(n: int, bound: int) -> np.ndarray:
    """(T^k V)(1) for k = 0..n, V(a) = w - a."""
    w, size = bound + 1, 2 * bound + 1
    a = np.arange(1, w)
    v = np.zeros(2 * w + 1)
    v[: w + 1] = w - np.arange(w + 1.0)
    curve = np.empty(n + 1)
    for k in range(n + 1):
        curve[k] = v[1]
        sums = _suffix(v)
        # beyond w, v is 0: the formula for a <= w/2 then also holds above
        v[1:w] = ((size - w + 1) * v[1:w] + 2 * (sums[a + 1] - sums[2 * a]) + (w - 2 * a + 1) * v[2 * a]) / size
    return curve


@lru_cache(maxsize=64)
def _one_curve(n: int, bound: int) -> np.ndarray:
    """(T_1^k 1)(1) for k = 0..n."""
    w, size = bound + 1, 2 * bound + 1
    a = np.arange(1, w)
    # gains of an interval of a in w - 1 places: 0 for size - w + 2 draws, each of 1..top-1 for 2, top for the rest;
    # a draws hit the target and are left out, the largest gains first: w - 2 - a draws with a gain remain
    top = np.minimum(a, w - 1 - a)
    gainers = np.maximum(w - 2 - a, 0)
    pairs = np.clip(np.minimum(gainers // 2, top - 1), 0, None)
    single = np.where(top > 0, gainers - 2 * pairs, 0)
    still = np.where(top > 0, size - w + 2, size - a)
    v = np.ones(w + 1)
    v[w] = 0.0
    curve = np.empty(n + 1)
    for k in range(n + 1):
        curve[k] = v[1] if w > 1 else 0.0
        sums = _suffix(v)
        gained = 2 * (sums[a + 1] - sums[a + pairs + 1]) + single * v[np.minimum(a + pairs + 1, w)]
        v[1:w] = (still * v[a] + gained) / size
    return curve


def _rounded_up(value: float, n: int, bound: int) -> float:
    """Above the exact value whatever the rounding did: each step errs by at most a factor 1 + 2w·2^-52."""
    return min(1.0, value * (1 + (n + 2) * (bound + 8) * 2.0**-49))


def all_targets_failure(n: int, bound: int, reach: str = "full") -> float:
    """A proved upper bound on P(some target is no subset sum of n samples uniform on {-M..M}).

    Parameters
    ----------
    n : int; bound : int, M <= 2**22
    reach : "full", all |t| <= M (the windows 0..M and -M..0 together); "window", all t of one window of M + 1
    consecutive
        integers with 0 among them, such as |t| <= M/2

    Returns
    -------
    float in [0, 1], rounded up

    Notes
    -----
    The expected number of targets missed by the interval chain, see the module's text. O(nM), remembered. It loses
    about a factor 1.8 in n against measurement; it falls by 0.65-0.8 bits a sample.

    Examples
    --------
    >>> all_targets_failure(70, 256) < 1e-6 < all_targets_failure(60, 256)
    True
    """
    n, bound = _check(n, bound)
    if reach not in ("full", "window"):
        raise ValueError(f"reach is {reach!r}: it must be 'full' or 'window'")
    steps = max(n, 64)
    return _rounded_up((2 if reach == "full" else 1) * float(_all_curve(steps, bound)[n]), n, bound)


def one_target_failure(n: int, bound: int) -> float:
    """A proved upper bound on P(t is no subset sum of n samples uniform on {-M..M}), for any fixed |t| <= M.

    Examples
    --------
    >>> one_target_failure(54, 256) < 1e-6 < one_target_failure(52, 256)
    True
    """
    n, bound = _check(n, bound)
    return _rounded_up(float(_one_curve(max(n, 64), bound)[n]), n, bound)


def certified_samples(bound: int, failure: float, targets: str = "one") -> int:
    """The smallest n at which the proved bound is at most `failure`.

    Parameters
    ----------
    targets : "one", a fixed |t| <= M; "window", M + 1 consecutive ones; "full", all |t| <= M

    Examples
    --------
    >>> certified_samples(256, 1e-6), certified_samples(256, 1e-6, "full")
    (54, 66)
    """
    if not 0 < failure < 1:
        raise ValueError(f"failure is {failure}: it must lie strictly between 0 and 1")
    if targets not in ("one", "window", "full"):
        raise ValueError(f"targets is {targets!r}: it must be 'one', 'window' or 'full'")
    steps = 64
    while True:
        for n in range(steps + 1):
            if targets == "one":
                value = _rounded_up(float(_one_curve(steps, bound)[n]), n, bound)
            else:
                factor = 2 if targets == "full" else 1
                value = _rounded_up(factor * float(_all_curve(steps, bound)[n]), n, bound)
            if value <= failure:
                return n
        steps *= 2
        if steps > 2**13:
            raise ValueError(f"failure is {failure}: below what the bound reaches with {steps} samples")


def blocks_failure(block_failure: float, block: int, n: int) -> float:
    """If `block` samples fail with probability at most p, n of them fail with at most p^(n // block), whatever the law.

    Disjoint blocks are independent and one success is enough. It turns a measured p, with its confidence bound, into a
    certificate far below what can be measured.

    Examples
    --------
    >>> blocks_failure(0.01, 18, 40)
    0.0001
    """
    block, n = integer(block, "block"), integer(n, "n")
    if not 0 <= block_failure <= 1 or block < 1 or n < 0:
        raise ValueError(f"block_failure {block_failure}, block {block}, n {n}: a probability, at least 1, at least 0")
    return block_failure ** (n // block)


def closed_failure(n: int, bound: int, reach: str = "window") -> float:
    """`all_targets_failure` in closed form, and weaker: M²·(1 - q/2)ⁿ with q = (M + 1)/(2M + 1), below M²·(3/4)ⁿ.

    With v = |A|/w and v' = v(1 + y), y in [0, 1]: 1/(1 + y) <= 1 - y/2, so E[1/v' - 1] <= (1 - q/2)(1/v - 1) by the
    growth identity; it starts from w - 1 = M, and A ≠ W means 1/v - 1 >= 1/M. Doubled for reach "full".

    Examples
    --------
    >>> closed_failure(70, 256) < 1e-3 < closed_failure(50, 256)
    True
    """
    n, bound = _check(n, bound)
    if reach not in ("full", "window"):
        raise ValueError(f"reach is {reach!r}: it must be 'full' or 'window'")
    q = (bound + 1) / (2 * bound + 1)
    return min(1.0, (2 if reach == "full" else 1) * bound**2 * (1 - q / 2) ** n)


def closed_samples(bound: int, failure: float, reach: str = "window") -> int:
    """The smallest n at which `closed_failure` is at most `failure`: about 4.82 log2(M) + 2.41 log2(1/failure).

    Examples
    --------
    >>> closed_samples(256, 0.01), certified_samples(256, 0.01, "window")
    (55, 44)
    """
    _, bound = _check(0, bound)
    if not 0 < failure < 1:
        raise ValueError(f"failure is {failure}: it must lie strictly between 0 and 1")
    q = (bound + 1) / (2 * bound + 1)
    start = (2 if reach == "full" else 1) * bound**2
    n = max(0, math.ceil(math.log(start / failure) / -math.log1p(-q / 2)) - 1)
    while closed_failure(n, bound, reach) > failure:
        n += 1
    return n


def parity_floor(n: int, bound: int) -> float:
    """A lower bound on the failure probability of every odd target: all samples even, ((2⌊M/2⌋ + 1)/(2M + 1))ⁿ.

    No certificate can fall faster than this, about one bit a sample.
    """
    n, bound = integer(n, "n"), integer(bound, "bound")
    return math.exp(n * math.log((2 * (bound // 2) + 1) / (2 * bound + 1)))
