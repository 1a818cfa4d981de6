"""Claims on moments: what they are, what they say of signs and of subsets, and the repair by the size-biased law."""

import math
from itertools import product

import numpy as np

from prunequant import subset_sum
from prunequant.statistics import clopper_pearson
from prunequant.subset_sum import theory

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim
from .subset_sums import failures, sign_vector_counts

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


def bell(n: int, bound: int, z: int) -> tuple[float, float]:
    """(ρ_n/2, e^(−a)): 2ⁿ/√(2πn s₂) and the height of the bell at z, s₂ = E X² for X uniform on {1..M}."""
    middle = theory.first_moment_gaussian(n, bound, 0, "partition")
    return middle, theory.first_moment_gaussian(n, bound, z, "partition") / middle


# --- theorem 4 ---------------------------------------------------------------------------------------------------

INTEGRAL = "the integral equals the enumeration"
FIRST = "first moment: the error, over the bell's height, is below 1/n"
SECOND = "second moment: the error, over twice the square of the bell's height, is below 1/n"


def _theorem4(budget: Budget, parity_factor: bool) -> Evidence:
    generator = np.random.default_rng(SEED)
    instances = budget.pick(60, 200, 2000)
    error, compared, mixed = 0.0, 0, 0
    for trial in range(instances):
        x = generator.integers(1, 21, 1 + trial % 12)
        reach = int(x.sum()) + 1
        counts = sign_vector_counts(x)
        mixed += len({z % 2 for z in counts}) > 1
        for z in range(-reach, reach + 1, 3):
            integral = half_range_integral(x, z, parity_factor)
            error = max(error, abs(integral - counts.get(z, 0)))
            compared += 1
    first, second = [], []
    for bound, n in product((16, 64, 256), (8, 12, 16, 24, budget.pick(32, 32, 48))):
        for z in (bound // 2, bound, 3 * bound):
            arguments = (n, bound, z, "partition")
            middle, height = bell(n, bound, z)
            mean = theory.first_moment(*arguments)
            pairs = (theory.second_moment(*arguments) - mean) / ((2 if parity_factor else 1) * middle**2)
            first.append(n * abs(mean / middle - height))
            second.append(n * abs(pairs - height**2))
    difference = f"{error:.0e}" if error > 1e-6 else "below 1e-6"
    figures = (
        Figure("largest difference of the integral and the enumeration", difference),
        Figure("discrepancies compared", compared),
        Figure("n × error of the first moment, largest", max(first), digits=2),
        Figure("n × error of the second moment, largest", max(second), digits=2),
        Figure("draws with solutions for z of both parities", mixed),
    )
    holds = {
        INTEGRAL: error < 1e-6,
        FIRST: max(first) < 1,
        SECOND: max(second) < 1,
        "no draw has solutions for discrepancies of different parity": mixed == 0,
    }
    return Evidence(holds, figures, trials=instances, seed=SEED)


@claim(
    id="kumar2025.theorem4",
    title="The moments of the number of partitions",
    statement=r"""Let $N_z$ be the number of signs $\epsilon\in\{-1,+1\}^n$ with $\sum_i\epsilon_iX_i=z$, where the
$X_i$ are independent and uniform on $\{1,\dots,M\}$, and let $s_2=\mathbb E X^2=(M+1)(2M+1)/6$. For integers $X_i$
with total $\Lambda$,

$$N_z=2^n\,\frac{1+(-1)^{\Lambda+z}}2\cdot\frac1\pi\int_{-\pi/2}^{\pi/2}\prod_j\cos(\theta X_j)\,\cos(\theta
z)\,d\theta ,$$

so $N_zN_{z'}=0$ if $z$ and $z'$ differ in parity. In the mean

$$\mathbb E N_z=\frac{2^n}{\sqrt{2\pi ns_2}}\Bigl(e^{-z^2/(2ns_2)}+O(\tfrac1n)\Bigr)$$

and, for $z\ne0$,

$$\mathbb E N_z^2-\mathbb E N_z=\frac{2\cdot4^n}{2\pi ns_2}\Bigl(e^{-z^2/(ns_2)}+O(\tfrac1n)\Bigr).$$""",
    source=Source("kumar2025", "Theorem 4, appendix A, recalled from Borgs, Chayes and Pittel", "restored"),
    verdict=Verdict.HOLDS,
    remark="The 2 in the second moment is parity: half of the draws cannot reach $z$ at all, the others have twice "
    "the mean. The paper's $Z_{n,z}$ counts both signs of $z$: it is $2N_z$ for $z\\ne0$.",
    changes=(
        Change(
            Verdict.HOLDS,
            "the paper's number for it; the errors are added, not relative, and tested at larger $z$ too; the parity "
            "of two discrepancies is checked",
            formerly="kumar2025.lemma1",
        ),
    ),
)
def theorem4(budget: Budget) -> Evidence:
    """The integral against enumeration; exact moments by convolution against the Gaussian forms."""
    return _theorem4(budget, parity_factor=True)


@theorem4.control("the parity factor left out, in the integral and in the second moment", breaks=(INTEGRAL, SECOND))
def _(budget: Budget) -> Evidence:
    return _theorem4(budget, parity_factor=False)


# --- lemma 1 -----------------------------------------------------------------------------------------------------


def partition_failures(n: int, bound: int, discrepancy: int, trials: int, seed: int = SEED) -> int:
    """In how many random draws from {1..M} no signs give the discrepancy."""
    x = np.random.default_rng([seed, n]).integers(1, bound + 1, (trials, n))
    twice = x.sum(axis=1) - discrepancy
    solved = subset_sum.solve_words(x, twice // 2).found & (twice % 2 == 0)
    return trials - int(solved.sum())


def fractions(n: int, bound: int, z: int, parity: float = 0.5) -> tuple[float, float]:
    """Lemma 1's two fractions without their O(1/n): parity·ρ e^(−2a)/(ρ e^(−2a) + e^(−a)), and ρ e^(−a)."""
    middle, height = bell(n, bound, z)
    mean = 2 * middle * height
    return parity * mean / (mean + 1), mean


AT_LEAST = "success is at least the lower fraction, less 1/n of it"


def _lemma1(budget: Budget, parity: float) -> Evidence:
    trials = budget.pick(20_000, 100_000, 1_000_000)
    bound, above, below = 2**8, True, True
    for n, z in product((6, 8, 10, 12, 16, 20, 24), (1, 2**8)):
        signs = clopper_pearson(trials - partition_failures(n, bound, z, trials), trials, 0.999)
        least, most = fractions(n, bound, z, parity)
        above &= least * (1 - 1 / n) <= signs.high
        below &= signs.low <= most * (1 + 1 / n)
        if n == 8 and z == 1:
            few, mean = signs, most
    figures = (
        Figure(f"n = 24, z = M = 2⁸: at least {least:.3f}, measured", sum(signs) / 2, "", (signs.low, signs.high)),
        Figure(f"n = 8, z = 1: at most {mean:.2f}, measured", sum(few) / 2, "", (few.low, few.high)),
    )
    holds = {
        AT_LEAST: above,
        "success is at most the upper fraction, and 1/n of it": below,
        "far above the threshold the truth is one half, as the bound is": abs(sum(signs) / 2 - 0.5) < 0.02
        and abs(fractions(24, bound, bound)[0] - 0.5) < 0.02,
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="kumar2025.lemma1",
    title="Two moments bound the chance of a partition",
    statement=r"""For $X_i$ independent and uniform on $\{1,\dots,M\}$ and a fixed $z\ne0$ let
$\rho_n=2^{n+1}/\sqrt{2\pi ns_2}$ and $a=z^2/(2ns_2)$. Then

$$\tfrac12\,\frac{\rho_n\bigl(e^{-a}+O(\frac1n)\bigr)^2}{\rho_n\bigl(e^{-2a}+O(\frac1n)\bigr)+e^{-a}+O(\frac1n)}
\;\le\;\mathbb P(N_z>0)\;\le\;\rho_n\bigl(e^{-a}+O(\tfrac1n)\bigr).$$""",
    source=Source("kumar2025", "Lemma 1", "restored"),
    verdict=Verdict.HOLDS,
    remark="The lower bound is as good as can be: above the threshold it and the truth are both one half, the share "
    "of draws with the right parity. The upper one is twice too large, since solutions for $z$ and $-z$ come "
    "together.",
    changes=(Change(None, "what bore this id was the paper's theorem 4; this is the paper's lemma 1"),),
)
def lemma1(budget: Budget) -> Evidence:
    """Measured shares of random draws with signs for z = 1 and z = M, below and above the threshold."""
    return _lemma1(budget, parity=0.5)


@lemma1.control("the one half of parity left out", breaks=AT_LEAST)
def _(budget: Budget) -> Evidence:
    return _lemma1(budget, parity=1.0)


# --- lemma 3: from a fixed discrepancy to one that the draw decides ----------------------------------------------

SMALL = ((6, 3, 1), (7, 3, 2), (8, 3, 1), (6, 4, 1), (6, 4, 3), (7, 4, 4), (6, 5, 5))  # (n, M, t)


def sign_counts(n: int, bound: int) -> np.ndarray:
    """(Mⁿ, 2nM + 1) int64: for every choice of magnitudes from {1..M} the number of signs with sum −nM … nM."""
    reach = n * bound
    magnitudes = np.indices((bound,) * n).reshape(n, -1).T + 1
    counts = np.zeros((len(magnitudes), 2 * reach + 1), dtype=np.int64)
    counts[:, reach] = 1
    place = np.arange(2 * reach + 1)
    for column in magnitudes.T:
        moved = [np.take_along_axis(counts, (place - s * column[:, None]) % (2 * reach + 1), 1) for s in (1, -1)]
        counts = moved[0] + moved[1]
    return counts


def missing(counts: np.ndarray, t: int) -> np.ndarray:
    """Whether no signs have the sum y − 2t: (draws, 2nM + 1) bool, one column for each y."""
    absent = np.ones_like(counts, dtype=bool)
    absent[:, 2 * t :] = counts[:, : counts.shape[1] - 2 * t] == 0
    return absent


def failure_by_size_bias(counts: np.ndarray, t: int) -> int:
    """Σ over all magnitudes of Σ_y N_y·1{N_{y−2t} = 0}: over (2M)ⁿ it is the share of draws without a subset."""
    return int((counts * missing(counts, t)).sum())


def failure_as_if_fixed(counts: np.ndarray, t: int) -> float:
    """The same when y − 2t is taken for a number fixed beforehand, once its parity is known to be right."""
    absent, y = missing(counts, t), np.arange(counts.shape[1])
    even = counts[:, ::2].any(axis=1)  # the parity of the total, for each row
    right = np.where(y % 2 == 0, np.reshape(even, (-1, 1)), ~np.reshape(even, (-1, 1)))
    chance = (absent & right).sum(axis=0) / np.maximum(right.sum(axis=0), 1)
    return float((counts.sum(axis=0) * chance).sum())


def success_given_total(n: int, bound: int, t: int, trials: int):
    """(middle of the bin, trials in it, successes) for the totals of random draws from ±{1..M}, in bins of σ√n/3."""
    rng = np.random.default_rng([SEED, n, bound])
    x = rng.integers(1, bound + 1, (trials, n)) * rng.choice([-1, 1], (trials, n))
    solved, total = subset_sum.solve_words(x, t).found, x.sum(axis=1)
    width = bound * math.sqrt(n / 3) / 3
    place = np.rint(total / width).astype(int)
    for k in range(-9, 10):
        inside = place == k
        if inside.sum() >= 100:
            yield total[inside], int(inside.sum()), int(solved[inside].sum())


GIVEN = "given Λ, success is at least the lower fraction, less 1/n of it"


def _lemma3(budget: Budget, total) -> Evidence:
    trials = budget.pick(20_000, 100_000, 1_000_000)
    above = below = True
    for n in (10, 12, 16, 20):
        for totals, drawn, solved in success_given_total(n, 2**8, 2**8, trials):
            given = [fractions(n, 2**8, int(total(y)) - 2**9, 1.0) for y in np.quantile(totals, np.linspace(0, 1, 9))]
            least, most = np.mean(given, axis=0)
            low, high = clopper_pearson(solved, drawn, 0.9999)
            above &= least * (1 - 1 / n) <= high
            below &= low <= most * (1 + 1 / n)
    pairs = []
    for n, bound, t in SMALL:
        counts, all_draws = sign_counts(n, bound), (2 * bound) ** n
        pairs.append((1 - failure_by_size_bias(counts, t) / all_draws, 1 - failure_as_if_fixed(counts, t) / all_draws))
    listed = ", ".join(f"{true:.4f} / {fixed:.4f}" for true, fixed in pairs)
    figures = (
        Figure("truth / with z fixed given its parity, seven small cases, every draw", listed),
        Figure("largest difference", max(true - fixed for true, fixed in pairs), digits=2),
    )
    holds = {
        GIVEN: above,
        "given Λ, success is at most the upper fraction, and 1/n of it": below,
        "z taken as fixed understates success in each small case": all(true > fixed for true, fixed in pairs),
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="kumar2025.lemma3",
    title="From partitions to subset sums, by parity",
    statement=r"""Let $X_i$ be independent and uniform on $\{-M,\dots,-1,1,\dots,M\}$ and $t=O(M)$. The probability
that some subset sums to $t$ lies between the fractions of lemma 1 at $z=\Lambda-2t$, without the factor $\frac12$:
whichever parity $\Lambda$ has, $z$ has it too.""",
    truth=r"""The fractions contain the random $\Lambda$: they bound the probability **given** $\Lambda$. Averaged
over $\Lambda$ as if $z$ were fixed once its parity is known, they bound another number, which is not the
probability: at $n=6$, $M=3$, $t=1$ it is 0.9640, the truth 0.9685.""",
    difference="The proof conditions on the parity of $z$ alone. But $z$ is a function of the samples: given the "
    "magnitudes, $\\Lambda$ is one of their signed sums, so to know it favours magnitudes with many such sums.",
    source=Source("kumar2025", "Lemma 3", "restored"),
    verdict=Verdict.CONDITIONAL,
    condition="read given $\\Lambda$",
    remark="As an equality the step fails in all seven small cases, always on the safe side; nobody has proved that "
    "it always is. `ours.size_bias` goes round it.",
    changes=(
        Change(
            Verdict.LOOSE,
            "the statement is now the paper's; what stood here are its theorems 5 and 6 (Markov; Cauchy and "
            "Schwarz), and their ceiling of 0.866 is `ours.second_moment_ceiling`",
        ),
    ),
)
def lemma3(budget: Budget) -> Evidence:
    """Success measured in bins of Λ against the fractions; and every draw of seven small cases, counted."""
    return _lemma3(budget, lambda total: total)


@lemma3.control("the discrepancy fixed at its mean, −2t, for every draw", breaks=GIVEN)
def _(budget: Budget) -> Evidence:
    return _lemma3(budget, lambda total: 0)


# --- the ceiling of two moments ----------------------------------------------------------------------------------

CEILING = "the lower bound stays below √3/2 and 1/n"


def _ceiling(budget: Budget, lower) -> Evidence:
    trials = budget.pick(20_000, 100_000, 4_000_000)
    inside, bound = True, 2**8
    for n in (6, 8, 10, 12, 16, 20, 24):
        failed = int((subset_sum.hitting_times(n, bound, bound, trials, SEED) > n).sum())
        subsets = clopper_pearson(trials - failed, trials, 0.999)
        low = theory.cauchy_schwarz_bound(n, bound, bound)
        inside &= low <= subsets.high and subsets.low <= theory.markov_bound(n, bound, bound)
    sizes = (12, 16, 24, 32, budget.pick(40, 48, 64))
    best = [lower(n, 2**6) for n in sizes]
    figures = (
        Figure("n = 24, M = 2⁸, t = M: lower bound", low),
        Figure("the same, measured success, at least", round(subsets.low, 4), digits=4),
        Figure(f"largest lower bound, n up to {sizes[-1]}, M = 2⁶, t = 0", max(best), digits=4),
        Figure("√3/2", 3**0.5 / 2, digits=4),
    )
    holds = {
        "success lies between the two bounds": inside,
        "success at n = 24 is above 0.99": subsets.low > 0.99,
        CEILING: all(value < 3**0.5 / 2 + 1 / n for n, value in zip(sizes, best)),
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="ours.second_moment_ceiling",
    title="For subset sums, two moments stop at 87 percent",
    statement=r"""Let $Z$ be the number of subsets with sum $t$ of $n$ samples uniform on $\{-M,\dots,M\}$. Then
$(\mathbb E Z)^2/\mathbb E[Z^2]\le\mathbb P(Z>0)\le\mathbb E Z$, as for every count. But for $M$ fixed and
$n\to\infty$ the left side tends to $\sqrt3/2=0.866$ and not to 1, because the total $\Lambda$ stays random; the
probability tends to 1.""",
    source=Source("ours", "derived here; the two bounds are the paper's theorems 5 and 6", "ours"),
    verdict=Verdict.HOLDS,
    remark="At $n=24$, $M=t=2^8$ the bound admits that a fifth of the draws fail; fewer than one in a thousand does. "
    "To prove success, look at the draws given $\\Lambda$.",
    changes=(Change(None, "stood under the paper's lemma 3, which says something else"),),
)
def second_moment_ceiling(budget: Budget) -> Evidence:
    """Exact bounds against measured probabilities, below and above the threshold."""
    return _ceiling(budget, lambda n, bound: theory.cauchy_schwarz_bound(n, bound, 0))


@second_moment_ceiling.control("signs with a fixed discrepancy, given the right parity: no ceiling", breaks=CEILING)
def _(budget: Budget) -> Evidence:
    return _ceiling(budget, lambda n, bound: 2 * theory.cauchy_schwarz_bound(n, bound, 2, "partition"))


# --- the repair --------------------------------------------------------------------------------------------------


def _sum_laws(n: int, bound: int) -> np.ndarray:
    """(n + 1, L): the laws of sums of k = 0 … n samples from ±{1..M}, at 0, 1, …, −2, −1, L > 4nM a power of two."""
    size = 1 << (4 * n * bound).bit_length()
    one = np.zeros(size)
    one[1 : bound + 1] = one[-bound:] = 1 / (2 * bound)
    wave = np.fft.rfft(one).real
    return np.maximum([np.fft.irfft(wave**k, size) for k in range(n + 1)], 0)


def size_bias_bound(n: int, bound: int, target: int) -> float:
    """A proved bound on the share of draws from ±{1..M} without a subset: the identity, and two exact moments.

    2⁻ⁿ Σ_y min(E N_y, √(E N_y²·Q(y − 2t))) with Q(z) = P(right parity) − (E N_z)²/E N_z² ≥ P(N_z = 0, right parity).

    n·M up to about 2**19: O(n²M) numbers.

    Examples
    --------
    >>> round(size_bias_bound(12, 256, 256), 2), round(size_bias_bound(20, 1024, 1024), 2)
    (0.6, 0.17)
    """
    laws = _sum_laws(n, bound)
    z = np.arange(laws.shape[1])
    first = 2.0**n * laws[n]
    second = 2.0**n * sum(math.comb(n, k) * laws[n - k][0] * laws[k] for k in range(n + 1))
    uneven = (-1 / bound) ** n if bound % 2 else 0.0  # P(Σ even) − P(Σ odd)
    right = np.where(z % 2 == 0, 1 + uneven, 1 - uneven) / 2
    some = second > 1e-9
    empty = right - np.where(some, first**2 / np.where(some, second, 1), 0)
    empty = np.clip(empty, 0, right)
    return float(2.0**-n * np.minimum(first, np.sqrt(second * np.roll(empty, 2 * target))).sum())


IDENTITY = "the identity, in integers, over every draw of seven small cases"


def _size_bias(budget: Budget, failing) -> Evidence:
    wrong, draws = 0, 0
    for n, bound, t in ((4, 3, 1), (5, 3, 2), (6, 3, 1), (4, 6, 5), (5, 4, 4), (6, 2, 1), (7, 2, 3)):
        grid = np.array([v for v in range(-bound, bound + 1) if v])
        x = grid[np.indices((2 * bound,) * n).reshape(n, -1).T]
        counted = len(x) - int(subset_sum.solve_words(x, t).found.sum())
        wrong += abs(failing(sign_counts(n, bound), t) - counted) > 1e-6
        draws += len(x)
    trials = budget.pick(4_000, 20_000, 1_000_000)
    above, rate, comparisons = True, [], []
    for samples_a_bit, m in product((1.5, 2.0), (6, 8, 10)):
        n = int(samples_a_bit * m)
        most = size_bias_bound(n, 2**m, 2**m)
        low, _ = clopper_pearson(failed := failures(n, 2**m, 2**m, trials), trials, 0.999)
        above &= low <= most
        rate.append(most / math.sqrt(math.log(n) / n))
        comparisons.append(f"{failed / trials:.3f} ≤ {most:.3f}")
    figures = (
        Figure("small cases in which the identity fails", wrong),
        Figure("draws counted one by one", draws),
        Figure("κ = 2/3, M = 2⁶ / 2⁸ / 2¹⁰: failure and its bound", " / ".join(comparisons[:3])),
        Figure("κ = 1/2, the same", " / ".join(comparisons[3:])),
        Figure("bound over √(log n/n), largest", max(rate), digits=2),
    )
    holds = {
        IDENTITY: wrong == 0,
        "the bound with exact moments is never below the failure": above,
        "at most twice √(log n/n), and a smaller multiple of it for larger n": max(rate) < 2
        and rate[:3] == sorted(rate[:3], reverse=True)
        and rate[3:] == sorted(rate[3:], reverse=True),
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="ours.size_bias",
    title="Given its total, a draw is size-biased; lemma 4 follows",
    statement=r"""Let $X_i$ be independent and uniform on $\{-M,\dots,-1,1,\dots,M\}$ and $N_y$ the number of signs
with $\sum_i\epsilon_i|X_i|=y$. Then

$$\mathbb P(\text{no subset sums to }t)=2^{-n}\sum_y\mathbb E\bigl[N_y\,\mathbf 1\{N_{y-2t}=0\}\bigr].$$

Hence, if $t=O(M)$ and $\log_2M/n$ tends to a limit below one, some subset sums to $t$ with probability
$1-O\bigl(\sqrt{\log n/n}\bigr)$.""",
    source=Source("ours", "repair of lemma 4's proof", "ours"),
    verdict=Verdict.HOLDS,
    remark="Proved with the two moments that the paper recalls, and better than its $n^{-1/7}$; still far from the "
    "truth, which is exponentially small. With exact moments it is a number for every $n$: 0.17 at $M=2^{10}$, "
    "$n=20$.",
    changes=(Change(None, "the step from partitions to subset sums needed a proof"),),
)
def size_bias(budget: Budget) -> Evidence:
    """The identity by enumerating all signed draws; the bound that the proof gives against measured failure."""
    return _size_bias(budget, failure_by_size_bias)


@size_bias.control("the discrepancy y − 2t taken as fixed once its parity is known", breaks=IDENTITY)
def _(budget: Budget) -> Evidence:
    return _size_bias(budget, failure_as_if_fixed)
