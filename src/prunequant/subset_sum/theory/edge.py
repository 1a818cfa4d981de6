r"""The edge law: why subset sums fail deep in the tail, and how often.

Split the samples by sign. S₊ is the sum of the positive ones, the largest sum of all. A subset with sum t leaves out
some positive samples and takes in some negative ones whose magnitudes add up to u = S₊ - t: the signed problem is the
one-signed problem of the magnitudes |X_i| with the random target u. If u < 0 there is no solution. If u is small, few
magnitudes fit below it and only about e^{2√(nu/M)} subsets matter, not 2ⁿ: the law of one-signed samples. With

    m(u) = Σ_k C(n,k) P(|X_1| + ... + |X_k| = u),

the mean number of such subsets, P(no solution) ≈ P(S₊ < t) + Σ_{u ≥ 0} P(S₊ = t + u) e^{-m(u)}. The first term is a
proved lower bound. What is approximate: the magnitudes are taken as independent of S₊, and their number of solutions
as Poisson. Chapter: tickets/failure-probability.

Here n is an integer in [0, 1000], M an integer in [1, 2**40] with n²M <= 2**30 and nM <= 2**25, t any integer; anything
else is a TypeError or a ValueError.
"""

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import integer

from .._validate import MAX_VALUE

MAX_SAMPLES = 1000  # the numbers of subsets, up to 2**n, are floats
MAX_WORK = 2**30


def _check(n, bound, target) -> tuple[int, int, int]:
    n, bound = integer(n, "n", 0, MAX_SAMPLES), integer(bound, "bound", 1, MAX_VALUE)
    if max(n, 32) * (n * bound + 1) > MAX_WORK:
        raise ValueError(f"n is {n} and bound is {bound}: n²·bound must be at most 2**30, n·bound at most 2**25")
    return n, bound, abs(integer(target, "target"))


def _spread(values: np.ndarray, stay: float, each: float, bound: int) -> np.ndarray:
    """stay·values + each·(the sum of the `bound` entries before each place): one more sample, entry by entry."""
    running = np.concatenate([np.zeros(bound + 1), np.cumsum(values)])
    return stay * values + each * (running[bound : bound + values.size] - running[: values.size])


def positive_sum_law(n: int, bound: int) -> NDArray[np.float64]:
    """(nM + 1,) float — P(S₊ = s), the sum of the positive ones of n samples uniform on {-M..M}.

    Examples
    --------
    >>> (positive_sum_law(1, 2) * 5).round(12)
    array([3., 1., 1.])
    """
    n, bound, _ = _check(n, bound, 0)
    law = np.zeros(n * bound + 1)
    law[0] = 1.0
    for _ in range(n):
        law = _spread(law, (bound + 1) / (2 * bound + 1), 1 / (2 * bound + 1), bound)
    return law


def magnitude_counts(n: int, bound: int) -> NDArray[np.float64]:
    """(nM + 1,) float — m(u), the mean number of subsets of n magnitudes |X| that sum to u, X uniform on {-M..M}.

    Examples
    --------
    >>> (magnitude_counts(1, 2) * 5).round(12)  # the empty set, and X = 0; then |X| = 1, |X| = 2
    array([6., 2., 2.])
    """
    n, bound, _ = _check(n, bound, 0)
    counts = np.zeros(n * bound + 1)
    counts[0] = 1.0
    for _ in range(n):
        counts = _spread(counts, 1 + 1 / (2 * bound + 1), 2 / (2 * bound + 1), bound)
    return counts


def one_sided_failure(n: int, bound: int, target: int) -> float:
    """P(S₊ < |t|), all positive samples together too small: a proved lower bound on the failure probability.

    Examples
    --------
    >>> one_sided_failure(1, 2, 2)  # X = 2 alone reaches 2
    0.8
    """
    n, bound, target = _check(n, bound, target)
    return min(1.0, float(positive_sum_law(n, bound)[:target].sum()))


def edge_failure(n: int, bound: int, target: int) -> float:
    """P(no subset of n samples uniform on {-M..M} sums to t ≠ 0), by the edge law.

    Right to about 15 % from 1 down to 1e-6 for 2^6 <= M <= 2^12 and t = M/2, M. O(n²M).

    Raises
    ------
    TypeError, ValueError : arguments outside the above; target 0, which the empty subset reaches

    Examples
    --------
    >>> round(edge_failure(26, 256, 256), 7)  # measured: 9.0e-5
    9.14e-05
    """
    n, bound, target = _check(n, bound, target)
    if target == 0:
        raise ValueError("target is 0: the empty subset reaches it, the law is for other targets")
    law, counts = positive_sum_law(n, bound), magnitude_counts(n, bound)
    if target >= law.size:
        return 1.0
    short = law[:target].sum()
    return min(1.0, float(short + (law[target:] * np.exp(-counts[: law.size - target])).sum()))
