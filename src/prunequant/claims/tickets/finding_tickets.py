"""Claims of this book on search: what finding a subset costs, and how samples buy time."""

import numpy as np

from prunequant import subset_sum
from prunequant.statistics import clopper_pearson

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 1982


def differencing_success(log2_bound: int, n: int, trials: int, seed: int = SEED) -> int:
    """In how many of `trials` random instances differencing finds a subset with the random target; each is re-added.

    Raises
    ------
    AssertionError : a returned mask does not sum to its target
    """
    generator = np.random.default_rng([seed, log2_bound, n])
    bound = 2**log2_bound
    x = generator.integers(-bound, bound + 1, (trials, n))
    targets = generator.integers(-bound, bound + 1, trials)
    masks, solved = subset_sum.karmarkar_karp_many(x, targets)
    assert ((masks * x).sum(axis=1)[solved] == targets[solved]).all(), "a mask does not sum to its target"
    return int(solved.sum())


MOST = "at least 95 % of the instances are solved, every mask added up again"


@claim(
    id="ours.fast_tickets",
    title="With samples to spare, differencing finds exact subsets at once",
    statement=r"""Let $n=8\log_2M$ samples be uniform on $\{-M,\dots,M\}$ and the target uniform on the same range,
$2^8\le M\le 2^{24}$. Karmarkar and Karp's differencing, which takes $O(n\log n)$ time, finds a subset with exactly
that sum in at least 95 % of the instances.""",
    source=Source("ours", "measured", "ours"),
    verdict=Verdict.HOLDS,
    remark="Eight samples per bit in place of one, and the search costs no more than sorting: 24 bits in microseconds.",
)
def fast_tickets(budget: Budget) -> Evidence:
    """Success of differencing at eight samples per bit, every mask re-added."""
    trials = budget.pick(1_000, 2_000, 50_000)
    successes = {m: differencing_success(m, 8 * m, trials) for m in (8, 12, 16, 20, 24)}
    worst = min(successes.values())
    figures = [Figure(f"success at M = 2^{m}, n = {8 * m}", f"{100 * k / trials:.1f} %") for m, k in successes.items()]
    holds = {MOST: clopper_pearson(worst, trials, 0.99).low >= 0.95}
    return Evidence(holds, tuple(figures), trials=trials, seed=SEED)


@fast_tickets.control("two samples per bit, M = 2²⁴", breaks=MOST)
def _(budget: Budget) -> Evidence:
    trials = budget.pick(1_000, 2_000, 50_000)
    successes = differencing_success(24, 48, trials)
    figures = (Figure("success at M = 2^24, n = 48", f"{100 * successes / trials:.1f} %"),)
    return Evidence({MOST: clopper_pearson(successes, trials, 0.99).low >= 0.95}, figures, trials=trials, seed=SEED)


# --- the price in samples of a cheap search -----------------------------------------------------------------------


def samples_for_differencing(log2_bound: int, share: float, trials: int) -> int:
    """The least n on the grid 2^(k/8) at which differencing solves at least `share` of the trials."""
    k = 16
    while differencing_success(log2_bound, n := round(2 ** (k / 8)), trials) < share * trials:
        k += 1
    return n


def meeting_work(log2_bound: int, trials: int) -> float:
    """Mean number of half-subsets that meeting in the middle lists: 2·2^(p/2) for each prefix p = m + 2, m + 6, …"""
    times = subset_sum.hitting_times(log2_bound + 50, 2**log2_bound, "random", trials, SEED)
    work, prefix = 0.0, log2_bound + 2
    while (left := (times > prefix - 4).mean() if prefix > log2_bound + 2 else 1.0) > 0:
        work += left * 2 * 2 ** (prefix / 2)
        prefix += 4
    return float(work)


def misfit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(slope, largest deviation) of the best straight line through the points."""
    slope, start = np.polyfit(x, y, 1)
    return float(slope), float(np.abs(y - slope * x - start).max())


EXPONENTIAL = "the work of the frugal search is exponential in the bits, within 0.3 bits"


@claim(
    id="ours.poly_time",
    title="Samples buy time: three prices for a subset",
    statement=r"""Let $m=\log_2M$. With as few samples as suffice, about $m+2$, meeting in the middle lists about
$2^{m/2}$ half-subsets. With $n\approx2^{\sqrt{2m}}$ samples, differencing succeeds every other time, in $n\log_2n$
steps: fewer than any power of $M$, more than any power of $m$. Whether numbers of samples and of steps that are
polynomial in $m$ can do is not decided here.""",
    source=Source("ours", "not asked by the paper", "ours"),
    verdict=Verdict.OPEN,
    remark="The frugal search doubles its work with every two bits. Differencing pays in samples instead, "
    "$2^{\\sqrt{2m}}$ of them, a law that fits from 8 to 40 bits.",
)
def poly_time(budget: Budget) -> Evidence:
    """Work of the two searches, counted in steps and not in seconds, against the bits of the range."""
    few = np.arange(4, 17)
    frugal = np.log2([meeting_work(int(m), budget.pick(500, 2_000, 20_000)) for m in few])
    many = np.arange(8, budget.pick(33, 41, 41), 4)
    trials = budget.pick(300, 1_000, 10_000)
    needed = np.log2([samples_for_differencing(int(m), 0.5, trials) for m in many])
    slope, off = misfit(few, frugal)
    root_slope, _ = misfit(np.sqrt(many), needed)
    law_off = float(np.abs(needed - np.sqrt(2 * many)).max())
    power, power_off = misfit(np.log2(many), needed)
    figures = (
        Figure("meeting in the middle: bits of work per bit of range", slope, digits=2),
        Figure("its largest misfit to an exponential", off, "bits", digits=1),
        Figure(f"samples for differencing at {many[-1]} bits, half succeed", round(2 ** needed[-1])),
        Figure("their logarithm minus √(2m), largest over the bits", law_off, "bits", digits=2),
        Figure("their logarithm against √m: slope (√2 predicted)", root_slope, digits=2),
        Figure("largest misfit to a power of m", power_off, "bits", digits=1),
        Figure("that power", power, digits=2),
    )
    holds = {
        EXPONENTIAL: off < 0.3,
        "half a bit of work for each bit of the range": abs(slope - 0.5) < 0.05,
        "differencing needs 2^√(2m) samples, within 0.4 bits": law_off < 0.4,
        "a power of m fits that no better than to 0.1 bits": power_off > 0.1,
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@poly_time.control("the frugal search as a power of the bits", breaks=EXPONENTIAL)
def _(budget: Budget) -> Evidence:
    few = np.arange(4, 17)
    frugal = np.log2([meeting_work(int(m), budget.pick(500, 2_000, 20_000)) for m in few])
    power, off = misfit(np.log2(few), frugal)
    figures = (Figure("largest misfit to a power of m", off, "bits", digits=1), Figure("that power", power, digits=2))
    return Evidence({EXPONENTIAL: off < 0.3}, figures, seed=SEED)
