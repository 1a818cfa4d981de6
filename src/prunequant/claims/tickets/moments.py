"""Claims of Kumar and Natale 2025 on moments: what they are (lemma 1) and what they say about failure (lemma 3)."""

import numpy as np

from prunequant import subset_sum
from prunequant.statistics import clopper_pearson
from prunequant.subset_sum import theory

from ..core import Budget, Evidence, Figure, Source, Verdict, claim
from .subset_sums import sign_vector_counts

SEED = 2001


def half_range_integral(x: np.ndarray, discrepancy: int, parity_factor: bool = True) -> float:
    """2^n·(1 + (−1)^(Λ+z))/2·(1/π)∫ Π cos(θ x_j) cos(θ z) dθ over (−π/2, π/2), by the trapezoidal rule.

    With the right parity the integrand has period π: a rule with more nodes than its highest frequency is exact.
    """
    nodes = int(np.abs(x).sum()) + abs(discrepancy) + 1
    theta = (np.arange(nodes) + 0.5) * np.pi / nodes - np.pi / 2
    integrand = np.cos(np.multiply.outer(theta, x)).prod(axis=1) * np.cos(theta * discrepancy)
    factor = (1 + (-1) ** (int(x.sum()) + discrepancy)) / 2 if parity_factor else 1.0
    return float(2.0 ** len(x) * factor * integrand.mean())


def _lemma1(budget: Budget, parity_factor: bool) -> Evidence:
    generator = np.random.default_rng(SEED)
    instances = budget.pick(60, 200, 2000)
    error, compared = 0.0, 0
    for trial in range(instances):
        x = generator.integers(1, 21, 1 + trial % 12)
        reach = int(x.sum()) + 1
        counts = sign_vector_counts(x)
        for z in range(-reach, reach + 1, 3):
            integral = half_range_integral(x, z, parity_factor)
            error = max(error, abs(integral - counts.get(z, 0)))
            compared += 1
    first, second = [], []
    for bound in (16, 64, 256):
        for n in (8, 12, 16, 24, budget.pick(32, 32, 48)):
            z = bound // 2
            arguments = (n, bound, z, "partition")
            first.append(n * (theory.first_moment(*arguments) / theory.first_moment_gaussian(*arguments) - 1))
            second.append(n * (theory.second_moment_ratio(*arguments) / (2 if parity_factor else 1) - 1))
    worst_first, worst_second = max(map(abs, first)), max(map(abs, second))
    told = f"{error:.0e}" if error > 1e-6 else "below 1e-6"
    figures = (
        Figure("largest difference of the integral and the enumeration", told),
        Figure("discrepancies compared", compared),
        Figure("n × relative error of the first moment, largest", worst_first, digits=2),
        Figure("n × relative error of the second moment, largest", worst_second, digits=2),
    )
    holds = error < 1e-6 and worst_first < 1 and worst_second < 1
    return Evidence(holds, figures, trials=instances, seed=SEED)


@claim(
    id="kumar2025.lemma1",
    title="The moments of the number of partitions",
    statement=r"""Let $X_1,\dots,X_n$ be integers with total $\Lambda$, and $Z_{n,z}$ the number of signs
$\epsilon\in\{-1,+1\}^n$ with $\sum_i\epsilon_iX_i=z$. Then

$$Z_{n,z}=2^n\,\frac{1+(-1)^{\Lambda+z}}2\cdot\frac1\pi\int_{-\pi/2}^{\pi/2}\prod_j\cos(\theta
X_j)\,\cos(\theta z)\,d\theta .$$

If the $X_i$ are independent and uniform on $\{1,\dots,M\}$, with $s_2=\mathbb E X^2=(M+1)(2M+1)/6$ and a fixed
$z\ne0$ of the size of $M$, then

$$\mathbb E Z_{n,z}=\frac{2^n}{\sqrt{2\pi ns_2}}\,e^{-z^2/(2ns_2)}\bigl(1+O(\tfrac1n)\bigr),$$

$$\frac{\mathbb E Z_{n,z}^2-\mathbb E Z_{n,z}}{(\mathbb E Z_{n,z})^2}=2\bigl(1+O(\tfrac1n)\bigr).$$""",
    source=Source("kumar2025", "Lemma 1 (after Borgs, Chayes and Pittel)"),
    verdict=Verdict.HOLDS,
    remark="The 2 in the second moment is parity: half of the draws cannot reach $z$ at all, the others have twice the "
    "mean.",
)
def lemma1(budget: Budget) -> Evidence:
    """The integral against enumeration; exact moments by convolution against the Gaussian forms."""
    return _lemma1(budget, parity_factor=True)


@lemma1.control("the parity factor left out, in the integral and in the second moment")
def _(budget: Budget) -> Evidence:
    return _lemma1(budget, parity_factor=False)


# --- lemma 3 -----------------------------------------------------------------------------------------------------


def partition_failures(n: int, bound: int, discrepancy: int, trials: int, seed: int = SEED) -> int:
    """In how many random draws from {1..M} no signs give the discrepancy."""
    x = np.random.default_rng([seed, n]).integers(1, bound + 1, (trials, n))
    twice = x.sum(axis=1) - discrepancy
    found = subset_sum.solve_words(x, twice // 2).found & (twice % 2 == 0)
    return trials - int(found.sum())


@claim(
    id="kumar2025.lemma3",
    title="From moments to existence",
    statement=r"""Let $Z\ge0$ count the solutions of a random instance, signs with a fixed discrepancy or subsets
with a fixed sum. Then

$$\frac{(\mathbb E Z)^2}{\mathbb E[Z^2]}\;\le\;\mathbb P(Z>0)\;\le\;\min(1,\mathbb E Z).$$""",
    source=Source("kumar2025", "Lemma 3"),
    verdict=Verdict.LOOSE,
    factor=100,
    remark="True. But for subset sums the lower bound never passes $\\sqrt3/2=0.866$, however many samples "
    "are drawn, because the total $\\Lambda$ stays random: to prove success, condition on $\\Lambda$ first.",
)
def lemma3(budget: Budget) -> Evidence:
    """Exact bounds against measured probabilities, for both kinds of count, below and above the threshold."""
    trials = budget.pick(20_000, 100_000, 4_000_000)
    holds, bound = True, 2**8
    for n in (6, 8, 10, 12, 16, 20, 24):
        failed = int((subset_sum.hitting_times(n, bound, bound, trials, SEED) > n).sum())
        missed = partition_failures(n, bound, 1, trials)
        subsets = clopper_pearson(trials - failed, trials, 0.999)
        signs = clopper_pearson(trials - missed, trials, 0.999)
        low, below = theory.cauchy_schwarz_bound(n, bound, bound), theory.cauchy_schwarz_bound(n, bound, 1, "partition")
        holds &= low <= subsets.high and subsets.low <= theory.markov_bound(n, bound, bound)
        holds &= below <= signs.high and signs.low <= theory.markov_bound(n, bound, 1, "partition")
    figures = (
        Figure("subset sums, n = 24, M = 2⁸, t = M: lower bound", low),
        Figure("the same, measured success, at least", round(subsets.low, 4), digits=4),
        Figure("signs with discrepancy 1, n = 24: lower bound", below),
        Figure("the same, measured success", 1 - missed / trials, interval=(signs.low, signs.high), digits=3),
    )
    slack = (1 - low) / (1 - subsets.low)
    note = "slack: failure allowed / failure measured"
    return Evidence(holds, figures, slack=slack, trials=trials, seed=SEED, note=note)


@lemma3.control("the lower bound of a subset sum tends to one, as if its discrepancy Λ − 2t were a fixed number")
def _(budget: Budget) -> Evidence:
    best, bound = 0.0, 2**6
    for n in (12, 16, 24, 32, budget.pick(40, 48, 64)):
        best = max(best, theory.cauchy_schwarz_bound(n, bound, 0))
    figures = (Figure(f"largest lower bound, n up to {n}, M = 2⁶, t = 0", best, digits=4),)
    return Evidence(best > 1 - 1 / 12, figures, bound=Figure("√3/2", 3**0.5 / 2, digits=4))
