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

Here M is an integer in [1, 2**22], n an integer: where the chain is run n <= 2**13 and n·(M + 1) <= 2**29 (about
ten seconds), in closed forms n <= 2**62; a failure probability is a float in (0, 1). Anything else is a TypeError or a
ValueError.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, integer, real

MAX_BOUND = 2**22
MAX_SAMPLES = 2**13
MAX_WORK = 2**29
ANY = 2**62  # where the cost does not grow with the argument


def expected_growth(covered: float, bound: int, window: int | None = None) -> float:
    """E|A_{k+1}| - |A_k| for |A_k| = `covered` in a window of `window` integers (default M + 1), at most M + 1 of them.

    covered : float in [0, window]; bound : int in [1, 2**62]; window : int in [1, bound + 1]

    Examples
    --------
    >>> expected_growth(3, 4, 5)  # 3·(5 - 3)/9
    0.6666666666666666
    """
    bound = integer(bound, "bound", 1, ANY)
    window = bound + 1 if window is None else integer(window, "window", 1, bound + 1)
    covered = real(covered, "covered", 0, window)
    return covered * (window - covered) / (2 * bound + 1)


def interval_law(covered: int, window: int, bound: int) -> NDArray[np.float64]:
    """The law of the gain r* of an interval of `covered` integers at an end of the window: entry g is P(gain = g).

    P(gain >= s) = (w - 2s + 1)/N for 1 <= s <= min(a, w - a).

    bound : int in [1, 2**22]; window : int in [1, bound + 1]; covered : int in [0, window]

    Examples
    --------
    >>> (interval_law(2, 5, 4) * 9).round(12)
    array([5., 2., 2.])
    """
    bound = integer(bound, "bound", 1, MAX_BOUND)
    window = integer(window, "window", 1, bound + 1)
    covered = integer(covered, "covered", 0, window)
    top = min(covered, window - covered)
    at_least = np.array([1.0, *((window - 2 * s + 1) / (2 * bound + 1) for s in range(1, top + 1)), 0.0])
    return at_least[:-1] - at_least[1:]


def _check(n, bound) -> tuple[int, int]:
    """n and bound of a chain that is run: 64 steps at least."""
    bound = integer(bound, "bound", 1, MAX_BOUND)
    return integer(n, "n", 0, min(MAX_SAMPLES, MAX_WORK // (bound + 1))), bound


def _suffix(v: np.ndarray) -> np.ndarray:
    """s[i] = v[i] + v[i+1] + ...; v is decreasing, so differences of s lose at most a factor len(v) in precision."""
    return np.concatenate([np.cumsum(v[::-1])[::-1], [0.0]])


@lru_cache(maxsize=64)
def _all_curve(n: int, bound: int) -> np.ndarray:
    """(T^k V)(1) for k = 0..n, V(a) = w - a."""
    w, size = bound + 1, 2 * bound + 1
    a = np.arange(1, w)
    share = w - 2 * a + 1
    v = np.zeros(2 * w + 1)
    v[: w + 1] = w - np.arange(w + 1.0)
    curve = np.empty(n + 1)
    for k in range(n + 1):
        curve[k] = v[1]
        sums = _suffix(v)
        # beyond w, v is 0: the formula for a <= w/2 then also holds above
        double = slice(2, 2 * w - 1, 2)  # 2a
        v[1:w] = ((size - w + 1) * v[1:w] + 2 * (sums[2 : w + 1] - sums[double]) + share * v[double]) / size
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
    first, last = a + pairs + 1, np.minimum(a + pairs + 1, w)
    v = np.ones(w + 1)
    v[w] = 0.0
    curve = np.empty(n + 1)
    for k in range(n + 1):
        curve[k] = v[1] if w > 1 else 0.0
        sums = _suffix(v)
        gained = 2 * (sums[2 : w + 1] - sums[first]) + single * v[last]
        v[1:w] = (still * v[1:w] + gained) / size
    return curve


def _rounded_up(value: float, n: int, bound: int) -> float:
    """Above the exact value whatever the rounding did: each step errs by at most a factor 1 + 2w·2^-52."""
    return min(1.0, value * (1 + (n + 2) * (bound + 8) * 2.0**-49))


def all_targets_failure(n: int, bound: int, reach: str = "full") -> float:
    """A proved upper bound on P(some target is no subset sum of n samples uniform on {-M..M}).

    Parameters
    ----------
    n : int in [0, 2**13], n·(M + 1) <= 2**29; bound : int in [1, 2**22]
    reach : "full", all |t| <= M (the windows 0..M and -M..0 together); "window", all t of one window of M + 1
        consecutive integers with 0 among them, such as |t| <= M/2

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
    reach = choice(reach, "reach", ("full", "window"))
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


def _probability(failure) -> float:
    return real(failure, "failure", 0, 1, open_low=True, open_high=True)


def certified_samples(bound: int, failure: float, targets: str = "one") -> int:
    """The smallest n at which the proved bound is at most `failure`.

    Parameters
    ----------
    bound : int in [1, 2**22]
    failure : float in (0, 1)
    targets : "one", a fixed |t| <= M; "window", M + 1 consecutive ones; "full", all |t| <= M

    Raises
    ------
    TypeError, ValueError : arguments outside the above; a failure that the bound reaches with too many samples to run

    Examples
    --------
    >>> certified_samples(256, 1e-6), certified_samples(256, 1e-6, "full")
    (54, 66)
    """
    _, bound = _check(0, bound)
    failure = _probability(failure)
    targets = choice(targets, "targets", ("one", "window", "full"))
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
        most = min(MAX_SAMPLES, MAX_WORK // (bound + 1))
        if steps >= most:
            raise ValueError(f"failure is {failure}: below what the bound reaches with {steps} samples")
        steps = min(2 * steps, most)


def blocks_failure(block_failure: float, block: int, n: int) -> float:
    """If `block` samples fail with probability at most p, n of them fail with at most p^(n // block), whatever the law.

    Disjoint blocks are independent and one success is enough. It turns a measured p, with its confidence bound, into a
    certificate far below what can be measured.

    block_failure : float in [0, 1]; block : int in [1, 2**62]; n : int in [0, 2**62]

    Examples
    --------
    >>> blocks_failure(0.01, 18, 40)
    0.0001
    """
    block, n = integer(block, "block", 1, ANY), integer(n, "n", 0, ANY)
    block_failure = real(block_failure, "block_failure", 0, 1)
    return block_failure ** (n // block)


def closed_failure(n: int, bound: int, reach: str = "window") -> float:
    """`all_targets_failure` in closed form, and weaker: M²·(1 - q/2)ⁿ with q = (M + 1)/(2M + 1), below M²·(3/4)ⁿ.

    With v = |A|/w and v' = v(1 + y), y in [0, 1]: 1/(1 + y) <= 1 - y/2, so E[1/v' - 1] <= (1 - q/2)(1/v - 1) by the
    growth identity; it starts from w - 1 = M, and A ≠ W means 1/v - 1 >= 1/M. Doubled for reach "full".

    n : int in [0, 2**62]; bound : int in [1, 2**22]

    Examples
    --------
    >>> closed_failure(70, 256) < 1e-3 < closed_failure(50, 256)
    True
    """
    n, bound = integer(n, "n", 0, ANY), integer(bound, "bound", 1, MAX_BOUND)
    reach = choice(reach, "reach", ("full", "window"))
    q = (bound + 1) / (2 * bound + 1)
    return min(1.0, (2 if reach == "full" else 1) * bound**2 * (1 - q / 2) ** n)


def closed_samples(bound: int, failure: float, reach: str = "window") -> int:
    """The smallest n at which `closed_failure` is at most `failure`: about 4.82 log2(M) + 2.41 log2(1/failure).

    bound : int in [1, 2**22]; failure : float in (0, 1)

    Examples
    --------
    >>> closed_samples(256, 0.01), certified_samples(256, 0.01, "window")
    (55, 44)
    """
    _, bound = _check(0, bound)
    failure = _probability(failure)
    reach = choice(reach, "reach", ("full", "window"))
    q = (bound + 1) / (2 * bound + 1)
    start = (2 if reach == "full" else 1) * bound**2
    n = max(0, math.ceil((math.log(start) - math.log(failure)) / -math.log1p(-q / 2)) - 1)
    while closed_failure(n, bound, reach) > failure:
        n += 1
    return n


def parity_floor(n: int, bound: int) -> float:
    """A lower bound on the failure probability of every odd target: all samples even, ((2⌊M/2⌋ + 1)/(2M + 1))ⁿ.

    No certificate can fall faster than this, about one bit a sample.

    n : int in [0, 2**62]; bound : int in [1, 2**62]

    Examples
    --------
    >>> round(parity_floor(2, 1), 6)  # both samples 0: 1/9
    0.111111
    """
    n, bound = integer(n, "n", 0, ANY), integer(bound, "bound", 1, ANY)
    return math.exp(n * math.log((2 * (bound // 2) + 1) / (2 * bound + 1)))
