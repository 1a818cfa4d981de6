"""The number of solutions as an integral, and its first two moments.

Two problems. "partition": signs σ with Σ σ_i X_i = z, X uniform on {1..M} (Borgs, Chayes & Pittel 2001).
"subset_sum": subsets with sum t, X uniform on {-M..M} (Kumar & Natale 2025). Lemma 2 turns one into the other with
z = Λ - 2t, but z is then random.

Here n is an integer in [0, 1000] (for second moments [0, 500]: then every moment is a float), M an integer in
[1, 2**40], t and z any integers; what would take more than some seconds is a ValueError that says so.
"""

import math

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, integer, shown

from .._validate import MAX_TABLE_BYTES, MAX_VALUE, number, values

PROBLEMS = ("subset_sum", "partition")
MAX_FIRST, MAX_SECOND = 1000, 500
MAX_WORK = 2**27
MAX_NODES = 2**24
_CHUNK = 1 << 20


def _arguments(n, bound, target, problem, most: int = MAX_FIRST) -> tuple[int, int, int]:
    n, bound = integer(n, "n", 0, most), integer(bound, "bound", 1, MAX_VALUE)
    target = integer(target, "target")
    choice(problem, "problem", PROBLEMS)
    return n, bound, target


def _check_nodes(x: np.ndarray, extra: int) -> int:
    """How many nodes the quadrature over these samples takes."""
    count = int(np.abs(x).sum()) + extra + 1
    if count * (x.size + 1) > MAX_WORK:
        raise ValueError(
            f"x has {x.size} values, Σ|x| + |t| = {count - 1}: the quadrature takes {count} nodes of {x.size + 1} "
            "cosines, at most 2**27 in all"
        )
    return count


def _nodes(count: int):
    """The angles 2πk/count in chunks."""
    for start in range(0, count, _CHUNK):
        yield (2 * math.pi / count) * np.arange(start, min(start + _CHUNK, count))


def partition_integral(x: NDArray[np.int64], z: int) -> float:
    """Number of signs σ with Σ σ_i x_i = z, by quadrature: 2ⁿ/2π ∫ Π cos(θ x_j) cos(z θ) dθ over a period.

    The integrand is a trigonometric polynomial of degree at most Σ|x| + |z|, so an even grid of more nodes is exact.
    Rounding limits it to about 1e-15·2ⁿ. O(n (Σ|x| + |z|)).

    Parameters
    ----------
    x : (n,) integers, (n + 1)·(Σ|x| + |z| + 1) <= 2**27
    z : int; 0.0 beyond Σ|x|

    Examples
    --------
    >>> import numpy as np
    >>> round(partition_integral(np.array([7, 6, 5, 3, 3, 1, 1, 1]), 1), 9)
    16.0
    """
    x, _ = values(x, ndim=(1,))
    z = integer(z, "z")
    if abs(z) > int(np.abs(x).sum()):
        return 0.0
    count = _check_nodes(x, abs(z))
    total = 0.0
    for theta in _nodes(count):
        product = np.cos(z * theta)
        for value in x:
            product *= 2 * np.cos(value * theta)
        total += float(product.sum())
    return total / count


def subset_sum_integral(x: NDArray[np.int64], target: int) -> float:
    """Number of subsets of x with sum `target`, by quadrature: 1/2π ∫ Π (1 + e^{iθx_j}) e^{-iθt} dθ; exact as above.

    Parameters
    ----------
    x : (n,) integers, (n + 1)·(Σ|x| + |t| + 1) <= 2**27
    target : int; 0.0 outside the sums of the negative and of the positive x

    Examples
    --------
    >>> import numpy as np
    >>> round(subset_sum_integral(np.array([1, 1, 2, -1]), 1), 9)
    4.0
    """
    x, _ = values(x, ndim=(1,))
    target = integer(target, "target")
    total_sum = int(x.sum())
    if not int(np.minimum(x, 0).sum()) <= target <= int(np.maximum(x, 0).sum()):
        return 0.0
    count = _check_nodes(x, abs(target))
    total = 0.0
    for theta in _nodes(count):
        product = np.cos((total_sum / 2 - target) * theta)
        for value in x:
            product *= 2 * np.cos(value / 2 * theta)
        total += float(product.sum())
    return total / count


def _characteristic(theta: np.ndarray, bound: int, problem: str) -> np.ndarray:
    """E cos(θX): for X uniform on {-M..M} ("subset_sum") or on {1..M} ("partition")."""
    half = np.sin(theta / 2)
    near = np.abs(half) < 1e-12
    kernel = np.where(near, 2 * bound + 1.0, np.sin((bound + 0.5) * theta) / np.where(near, 1.0, half))
    return kernel / (2 * bound + 1) if problem == "subset_sum" else (kernel - 1) / (2 * bound)


def first_moment(n: int, bound: int, target: int, problem: str = "subset_sum") -> float:
    """E[Z], exactly (to about 1e-15·2ⁿ): Σ_k C(n,k) P(S_k = t), or 2ⁿ P(Σ ±X = z); nM + |t| at most 2**24.

    Examples
    --------
    >>> first_moment(2, 1, 0)  # 1 + 2·(1/3) + 3/9
    2.0
    """
    n, bound, target = _arguments(n, bound, target, problem)
    if abs(target) > n * bound:
        return 0.0
    count = n * bound + abs(target) + 1
    if count > MAX_NODES:
        raise ValueError(
            f"n is {n}, bound is {bound} and target is {shown(target)}: n·bound + |target| must be below 2**24"
        )
    total = 0.0
    for theta in _nodes(count):
        phi = _characteristic(theta, bound, problem)
        base = 1 + phi if problem == "subset_sum" else 2 * phi
        total += float((base**n * np.cos(target * theta)).sum())
    return max(total / count, 0.0)


def _variance(bound: float, problem: str) -> float:
    bound = number(bound, "bound", 1, 1e150)
    choice(problem, "problem", PROBLEMS)
    return bound * (bound + 1) / 3 if problem == "subset_sum" else (bound + 1) * (2 * bound + 1) / 6


def first_moment_gaussian(n: float, bound: float, target: float, problem: str = "subset_sum") -> float:
    """The Gaussian limit of E[Z], with relative error O(1/n).

    2ⁿ/√(πnσ²)·e^{-t²/(nσ²)} for subset sums, 2ⁿ/√(2πns)·e^{-z²/(2ns)} with s = E X² for partitions, which counts both
    parities of Λ + z: given the right one it doubles, given the other it is 0.

    n : number in [1e-9, 1000]; bound : number in [1, 1e150]; target : any finite number
    """
    n, target = number(n, "n", 1e-9, MAX_FIRST), min(abs(number(target, "target")), 1e153)
    spread = n * _variance(bound, problem) * (0.5 if problem == "subset_sum" else 1.0)
    return 2.0**n / math.sqrt(2 * math.pi * spread) * math.exp(-(target**2) / (2 * spread))


def _sum_laws(n: int, bound: int, problem: str) -> np.ndarray:
    """(n + 1, 2nM + 1): row k is the law of the sum of k signed samples, at -nM..nM."""
    reach = n * bound
    if 8 * (n + 1) * (2 * reach + 1) * 3 > MAX_TABLE_BYTES:
        raise ValueError(f"n is {n} and bound is {bound}: the laws of their sums pass {MAX_TABLE_BYTES} bytes")
    if n * n * (2 * reach + 1) > 2**31:
        raise ValueError(f"n is {n} and bound is {bound}: n³·bound must be at most 2**30")
    laws = np.zeros((n + 1, 2 * reach + 1))
    laws[0, reach] = 1.0
    for k in range(n):
        running = np.concatenate([np.zeros(bound + 1), np.cumsum(laws[k]), np.full(bound, laws[k].sum())])
        window = running[2 * bound + 1 :] - running[: -2 * bound - 1]
        law = window / (2 * bound + 1) if problem == "subset_sum" else (window - laws[k]) / (2 * bound)
        laws[k + 1] = np.maximum(law, 0.0)
    return laws


def second_moment(n: int, bound: int, target: int, problem: str = "subset_sum") -> float:
    """E[Z²], exactly up to rounding, by convolution.

    Partition: two sign vectors that agree on k places both reach z iff the agreeing part sums to z and the rest to 0:
    2ⁿ Σ_k C(n,k) a_k(z) a_{n-k}(0). Subset sums: two sets share k samples with sum a and reach t - a with what they
    do not share. O(n² · nM) time, O(n · nM) memory; n at most 500, n³M at most 2**30.

    Examples
    --------
    >>> round(second_moment(2, 1, 0), 12)  # 42/9: Z is 4 on (0, 0), 2 on six pairs, 1 on two
    4.666666666667
    """
    n, bound, target = _arguments(n, bound, target, problem, MAX_SECOND)
    laws = _sum_laws(n, bound, problem)
    reach = n * bound
    if abs(target) > reach:
        return 0.0
    choose = [[float(math.comb(m, k)) for k in range(m + 1)] for m in range(n + 1)]
    if problem == "partition":
        return 2.0**n * sum(
            choose[n][k] * float(laws[k, reach + target]) * float(laws[n - k, reach]) for k in range(n + 1)
        )
    # F_r(u) = Σ_j C(r, j) p_j(u), the expected number of subsets of r samples with sum u
    counts = np.array([[choose[r][j] if j <= r else 0.0 for j in range(n + 1)] for r in range(n + 1)]) @ laws
    places = reach + target - np.arange(-reach, reach + 1)
    inside = (places >= 0) & (places < laws.shape[1])
    places = np.where(inside, places, 0)
    total = 0.0
    for shared in range(n + 1):
        rest = n - shared
        both = np.zeros(laws.shape[1])
        for i in range(rest + 1):
            both += choose[rest][i] * laws[i] * counts[rest - i]
        total += choose[n][shared] * float((laws[shared] * np.where(inside, both[places], 0.0)).sum())
    return total


def second_moment_ratio(n: int, bound: int, target: int, problem: str = "subset_sum") -> float:
    """(E[Z²] - E[Z]) / E[Z]², exactly: how much more often than independent ones two solutions come together.

    Raises
    ------
    TypeError, ValueError : as `second_moment`; a target out of reach, where both moments are 0
    """
    n, bound, target = _arguments(n, bound, target, problem, MAX_SECOND)
    second = second_moment(n, bound, target, problem)
    if second == 0:
        raise ValueError(f"target is {shown(target)}: no {n} samples up to {bound} reach it, E[Z] is 0")
    first = first_moment(n, bound, target, problem)
    return (second - first) / first**2


def second_moment_ratio_limit(n: float, bound: float, target: float, problem: str = "subset_sum") -> float:
    """The large-n form of `second_moment_ratio`.

    Subset sums: (2/√3) e^{(2/3) t²/(nσ²)}: it stays above 1 for ever, because Λ moves the centre of the sums by as
    much as they spread. Partitions: 2 (1 + 0.2/n): the 2 is the parity of Λ + z.

    n : number in [1e-9, 2**24]; bound : number in [1, 1e150]; target : any finite number
    """
    n, target = number(n, "n", 1e-9, 2.0**24), min(abs(number(target, "target")), 1e153)
    variance = _variance(bound, problem)
    if problem == "partition":
        return 2 * (1 + 0.2 / n)
    return 2 / math.sqrt(3) * math.exp(min(2 * target**2 / (3 * n * variance), 700.0))


def markov_bound(n: int, bound: int, target: int, problem: str = "subset_sum") -> float:
    """P(Z > 0) <= min(1, E[Z]) (Markov; Kumar & Natale 2025, Theorem 5)."""
    return min(1.0, first_moment(n, bound, target, problem))


def cauchy_schwarz_bound(n: int, bound: int, target: int, problem: str = "subset_sum") -> float:
    """P(Z > 0) >= E[Z]²/E[Z²] (Cauchy and Schwarz; Theorem 6); for subset sums it never passes √3/2 = 0.866 by much.

    Examples
    --------
    >>> round(cauchy_schwarz_bound(24, 256, 256), 3)
    0.795
    """
    first = first_moment(n, bound, target, problem)
    second = second_moment(n, bound, target, problem)
    return min(first**2 / second, 1.0) if second > 0 else 0.0
