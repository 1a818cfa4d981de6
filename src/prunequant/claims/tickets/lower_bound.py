"""Claims on what no source can do: counting (theorem 3), tightness (corollary 1), parity."""

from collections.abc import Sequence
from fractions import Fraction
from math import log2

import numpy as np
from scipy import stats

from prunequant import tickets
from prunequant.tickets import certificate, counting

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim

SEED = 30
LEVELS = (1, 2, 4, 8, 16)
STEPS = (3, 7, 15, 31, 63, 127)
SHAPE = (32,) * 4


def first_units(levels: int, trials: int, seed: int = SEED, largest: int = 64) -> np.ndarray:
    """After how many hidden units a one-dimensional source first contains each weight, both signs of x served.

    Returns
    -------
    (trials, levels + 1) int64, column w for the weight w/levels (w ≥ 0; −w has the same law); `largest` + 1 is never

    Notes
    -----
    Each side's reachable sums are the bits of one Python integer, shifted by every product u·v.
    """
    middle = largest * levels**2
    out = np.full((trials, levels + 1), largest + 1)
    for trial in range(trials):
        products = np.random.default_rng([seed, levels, trial]).integers(-levels, levels + 1, (largest, 2)).tolist()
        sides, open_ = {True: 1 << middle, False: 1 << middle}, set(range(1, levels + 1))
        out[trial, 0] = 0
        for unit, (a, b) in enumerate(products, 1):
            bits, move = sides[a > 0], a * b
            sides[a > 0] = bits | (bits << move if move >= 0 else bits >> -move)
            both = sides[True] & sides[False]
            reached = {w for w in open_ if both >> (middle + w * levels) & 1}
            out[trial, sorted(reached)] = unit
            open_ -= reached
            if not open_:
                break
    return out


def half_parameters(levels: int, trials: int, seed: int = SEED) -> int:
    """Fewest weights (two a unit) of a one-dimensional source that contains each target weight in half of all "
    "draws."""
    units = np.sort(first_units(levels, trials, seed), axis=0)[(trials - 1) // 2]
    return int(2 * units.max())


def small_sources(cases: Sequence[tuple[int, int, int]], sources: int):
    """Yield (d, levels, h, u, v, functions, probes): every function that the masks of small random sources make."""
    for d, levels, h in cases:
        for index in range(sources):
            rng = np.random.default_rng([SEED, d, levels, h, index])
            u, v = rng.integers(-levels, levels + 1, (h, d)), rng.integers(-levels, levels + 1, (d, h))
            probes = rng.integers(-9, 10, (16, d))
            yield d, levels, h, u, v, counting.distinct_functions(u, v, probes), probes


FEWER = "each target weight is found in half of the draws"
HALF = "the source is as large as the count asks for probability one half"

# --- theorem 3 ---------------------------------------------------------------------------------------------------


@claim(
    id="kumar2025.theorem3",
    title="No source does with fewer weights than the target has bits",
    statement=r"""If a two-layer network with $\alpha$ random weights other than zero, of any law on $S_\delta$,
contains each $W\in S_\delta^{d\times d}$ with probability at least $p$, then $\alpha\ge
d^2\log_2(2/\delta+1)+\log_2p=\Omega\bigl(d^2\log\frac1\delta\bigr)$.""",
    source=Source("kumar2025", "Theorem 3", "restored"),
    verdict=Verdict.HOLDS,
    sanity="it counts masks, and a source cannot have more functions than masks: only a mistake in the counting or "
    "in the enumeration could contradict it.",
    remark="Right, and far from what a source needs at $p=\\frac12$: for one weight 14 to 40 times as much, because "
    "most masks make the same functions and most functions are no linear map.",
    changes=(Change(Verdict.HOLDS, "stated for any probability and any law of the weights, as in the paper"),),
)
def theorem3(budget: Budget) -> Evidence:
    """Least sources for one weight against the bound; all functions of small sources against their number of "
    "masks."""
    trials = budget.pick(300, 1_000, 20_000)
    needed = [half_parameters(k, trials) for k in LEVELS]
    bounds = [counting.counting_bound([1], [k]) for k in LEVELS]
    cases = [(2, 1, h) for h in (2, 3, 4, 5, 6)] + [(2, 2, h) for h in (2, 3, 4)]
    over, most, masks, functions, reached = 0, 0.0, 0, 0, 0
    for d, levels, h, _, _, distinct, probes in small_sources(cases, budget.pick(4, 12, 100)):
        targets = counting.reached_targets(distinct, probes, d, levels, levels)
        over += len(distinct) > 2 ** (2 * d * h) or targets > len(distinct)
        if h == 6:
            masks, functions, reached = masks + 2 ** (2 * d * h), functions + len(distinct), reached + targets
        most = max(most, np.log2(len(distinct)) / (2 * d * h))
    listed = " / ".join
    figures = (
        Figure("random weights needed for one target weight, δ = 1/16", needed[-1]),
        Figure("at least, by counting", bounds[-1]),
        Figure("needed for δ = 1, 1/2, 1/4, 1/8, 1/16", listed(map(str, needed))),
        Figure("at least, by counting", listed(f"{b:.1f}" for b in bounds)),
        Figure("sources with more functions than masks, or more targets than functions", over),
        Figure("d = 2, δ = 1, 6 units: masks for one function", masks / functions, digits=2),
        Figure("functions for one target matrix", functions / reached, digits=2),
        Figure("bits of function a weight, at most", most, digits=2),
    )
    share = np.array([(first_units(16, trials, largest=u) <= u).mean(axis=0).min() for u in (8, 16)])
    ceiling = [2.0 ** (2 * u) / 33 for u in (8, 16)]
    holds = {
        "no source has more functions than masks, or more targets than functions": over == 0,
        HALF: all(n >= b for n, b in zip(needed, bounds)),
        "p at 16 and 32 weights, δ = 1/16, is at most 2^α/(2/δ + 1)": bool((share <= ceiling).all()),
    }
    return Evidence(holds, figures, slack=min(n / b for n, b in zip(needed, bounds)), trials=trials, seed=SEED)


@theorem3.control("a source with fewer weights: δ = 1/16 and two units, 4 weights for 4.04 bits", breaks=FEWER)
def _(budget: Budget) -> Evidence:
    trials = budget.pick(2_000, 10_000, 100_000)
    share = (first_units(16, trials, largest=2) <= 2).mean(axis=0)
    figures = (
        Figure("a target weight is found with probability, least", share.min(), digits=2),
        Figure("found with probability, most (weight 0 aside)", share[1:].max(), digits=2),
    )
    return Evidence({FEWER: share.min() >= 0.5}, figures, trials=trials, seed=SEED)


@theorem3.control("counting one choice a hidden unit instead of one a weight", breaks=HALF)
def _(budget: Budget) -> Evidence:
    plan = tickets.plan((64, 64), Fraction(1, 7), failure=0.5)
    claimed = counting.counting_bound([64 * 64], [7])
    figures = (
        Figure("hidden units it would ask for, d = 64", claimed),
        Figure("hidden units of a source certified to succeed half the time", plan.widths[1]),
    )
    return Evidence({HALF: plan.widths[1] >= claimed}, figures)


# --- corollary 1 -------------------------------------------------------------------------------------------------


def constants(shapes: Sequence[tuple[int, ...]], levels: Sequence[int], failure: float = 0.5, depth: str = "2l"):
    """Weights of certified sources over the counting bound, one ratio a (shape, 1/δ) pair."""
    pairs = list(zip(shapes, levels))
    plans = [tickets.plan(s, Fraction(1, k), failure=failure, signed_inputs=False, depth=depth) for s, k in pairs]
    return [plan.ratio for plan in plans]


BOUNDED = "the source is at most a hundred times the bound"
STEADY = "the ratio does not rise from the first to the last, but for a quarter"


def _tight(ratios: list[float], names: Sequence[str]) -> Evidence:
    figures = (
        Figure(f"source over bound, {names[0]}", ratios[0]),
        Figure(f"source over bound, {names[1]}", ratios[-1]),
        Figure("largest on the way", max(ratios)),
    )
    return Evidence({BOUNDED: max(ratios) <= 100, STEADY: ratios[-1] <= 1.25 * ratios[0]}, figures)


@claim(
    id="kumar2025.corollary1",
    title="The two bounds meet, but for a constant",
    statement=r"""Under the hypothesis of theorem 3 the width of the source is $\Omega\bigl(d\log\frac1\delta\bigr)$:
the order of theorem 1.""",
    truth=r"""The width of the source is $\Omega\bigl(d\log\frac1\delta\bigr)$. For a target with $N_t$ weights, layers
about as wide as they are tall and $\log N_t=O(\log\frac1\delta)$, width $\Theta\bigl(d\log\frac1\delta\bigr)$ and
$\Theta\bigl(N_t\log\frac1\delta\bigr)$ weights are enough for probability $\frac12$ and are needed for it.""",
    difference="With the step held fixed and more and more weights the two do not meet: failures add, and "
    "the construction pays for them with $\\log N_t$.",
    source=Source("kumar2025", "Corollary 1", "paraphrased"),
    verdict=Verdict.CONDITIONAL,
    condition="$\\log N_t=O(\\log\\frac1\\delta)$, and layers about as wide as they are tall",
    remark="At width 32 the factor between the two falls from 64 at $\\delta=1/3$ to 30 at $1/127$. As "
    "$\\delta\\to0$ an uncut block would tend to 8; the planned ones, cut into two sub-blocks, would tend to 16, "
    "into three to 24. With $\\delta$ held fixed and the layers growing it rises with $\\log N_t$, because failures "
    "add.",
    changes=(
        Change(
            Verdict.CONDITIONAL, "the paper states the width only; what is added is marked, and the limit corrected"
        ),
    ),
)
def corollary1(budget: Budget) -> Evidence:
    """Certified sources at probability ½ over the counting bound, three layers of width 32, δ from 1/3 to 1/127."""
    return _tight(constants([SHAPE] * len(STEPS), STEPS), ("δ = 1/3", "δ = 1/127"))


@corollary1.control("the precision held fixed, layers from width 16 to 4096", breaks=STEADY)
def _(budget: Budget) -> Evidence:
    widths = (16, 64, 256, 1024, 4096)
    return _tight(constants([(d,) * 4 for d in widths], [7] * len(widths)), ("width 16", "width 4096"))


@corollary1.control("depth ℓ + 1: copies meet copies", breaks=BOUNDED)
def _(budget: Budget) -> Evidence:
    return _tight(constants([SHAPE] * len(STEPS), STEPS, depth="l+1"), ("δ = 1/3", "δ = 1/127"))


# --- functions instead of masks ----------------------------------------------------------------------------------


def source_choices(u: np.ndarray, v: np.ndarray, dead: int = 1) -> int:
    """How many functions a source can have at most: Π over its units of (2^a − 1)(2^b − 1) + 1.

    a, b : weights other than zero into a unit, u (h, d), and out of it, v (o, h). `dead` = 1 counts the pruned unit.
    """
    a, b = np.count_nonzero(u, axis=1).tolist(), np.count_nonzero(v, axis=0).tolist()
    return int(np.prod([(2**i - 1) * (2**o - 1) + dead for i, o in zip(a, b)], dtype=object))


def expected_choices(d: int, outputs: int, levels: int) -> float:
    """The mean of a unit's factor over random weights, uniform on −levels … levels."""
    r = 1 + 2 * levels / (2 * levels + 1)
    return r ** (d + outputs) - r**d - r**outputs + 2


def least_weights(d: int, levels: int) -> float:
    """Weights a pair of layers needs to reach each d × d target of the same step with probability ½, by functions."""
    units = counting.counting_bound([d * d], [levels]) / log2(expected_choices(d, d, levels))
    return 2 * d * units


def over_theorem3(d: int, levels: int) -> float:
    """`least_weights` over the counting bound of theorem 3."""
    return least_weights(d, levels) / counting.counting_bound([d * d], [levels])


@claim(
    id="ours.function_count",
    title="Functions are fewer than masks",
    statement=r"""A hidden unit with $a$ weights other than zero into it and $b$ out of it can be pruned to at most
$(2^a-1)(2^b-1)+1$ different contributions. Hence, with $r=1+2K/(2K+1)$ and $K=1/\delta$, a random pair of layers
that represents each $W\in S_\delta^{d\times d}$ with probability at least $\frac12$ has at least
$\bigl(d^2\log_2(2K+1)-1\bigr)\big/\log_2\bigl(r^{2d}-2r^d+2\bigr)$ hidden units.""",
    source=Source("ours", "sharper form of theorem 3", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="It asks for 3.8 times as many weights as theorem 3 for a single ternary weight, for 1.36 times as many "
    "for wide ternary layers, and for hardly more at high precision.",
)
def function_count(budget: Budget) -> Evidence:
    """Every enumerated source has at most so many functions; least sources for one weight respect the bound."""
    over, tight, tried = _enumerated(budget, dead=1)
    levels = (1, 2, 4, 8, 16)
    trials = budget.pick(200, 1_000, 20_000)
    needed = [half_parameters(k, trials) for k in levels]
    bounds = [least_weights(1, k) for k in levels]
    figures = (
        Figure("sources with more functions than choices", over),
        Figure("bits of function over bits of choice, most", tight),
        Figure("weights needed for one target weight, 1/δ = 1 / 2 / 4 / 8 / 16", " / ".join(map(str, needed))),
        Figure("this bound", " / ".join(f"{b:.1f}" for b in bounds)),
        Figure("over theorem 3's, d = 1 and δ = 1", over_theorem3(1, 1)),
        Figure("over theorem 3's, d = 32 and δ = 1", over_theorem3(32, 1)),
        Figure("over theorem 3's, d = 32 and δ = 1/127", over_theorem3(32, 127)),
    )
    holds = {
        CHOICES: over == 0,
        "some source makes every choice": tight > 0.999,
        "sources for one weight are as large as this bound": all(n >= b for n, b in zip(needed, bounds)),
    }
    return Evidence(holds, figures, trials=tried, seed=30)


CHOICES = "no source has more functions than choices"


def _enumerated(budget: Budget, dead: int) -> tuple[int, float, int]:
    cases = [(1, k, h) for k in (1, 2, 4) for h in (2, 4, 8)] + [(2, 1, h) for h in (2, 4, 6)] + [(2, 2, 3), (2, 3, 3)]
    over, tight, tried = 0, 0.0, 0
    for _, _, _, u, v, functions, _ in small_sources(cases, budget.pick(8, 20, 100)):
        choices = source_choices(u, v, dead)
        over += len(functions) > choices
        tried += 1
        if choices > 1:
            tight = max(tight, log2(len(functions)) / log2(choices))
    return over, tight, tried


@function_count.control("the unit that is pruned away is forgotten", breaks=CHOICES)
def _(budget: Budget) -> Evidence:
    over, _, tried = _enumerated(budget, dead=0)
    figures = (Figure("sources with more functions than choices", over), Figure("sources", tried))
    return Evidence({CHOICES: over == 0}, figures, trials=tried, seed=30)


# --- parity ------------------------------------------------------------------------------------------------------


def odd_item(levels: int) -> float:
    """Probability of an odd product u⁺v, both uniform on −levels … levels with `levels` odd: near 1/8."""
    return (levels + 1) ** 2 / (2 * (2 * levels + 1) ** 2)


REACHED = "at δ = 1/15 the first weight tried is within a tenth of the floor at 64 units"
FLOOR = "no entry of the record is below the floor, by more than chance"


def _parity(weights: slice) -> Evidence:
    """Measured failure over (1 − a)^m: 99.9999 % upper limits against the floor, and the ratio for the first "
    "weight."""
    below, entries, ratios = 0, 0, []
    for levels in (3, 7, 15, 31, 63, 127):
        counts, trials = certificate.failures(certificate.law("relu", levels, levels))
        counts = counts[weights]
        floor = (1 - odd_item(levels)) ** np.arange(1, counts.shape[1] + 1)
        upper = np.where(counts < trials, stats.beta.isf(1e-6, counts + 1, np.maximum(trials - counts, 1)), 1.0)
        below += int((upper < floor).sum())
        entries += counts.size
        if levels == 15:
            ratios.append(counts[0, -1] / trials / floor[-1])
    figures: tuple[Figure, ...] = (
        Figure("entries of the record below the floor, by more than chance", below),
        Figure("entries", entries),
        Figure("δ = 1/15, 64 units, smallest weight: measured over the floor", ratios[0]),
        Figure("bits a unit of the floor, δ = 1/7 and 1/127", " / ".join(f"{_floor_bits(k):.3f}" for k in (7, 127))),
        Figure(
            "units for each bit of N, c at δ = 1/7 and 1/127", " / ".join(f"{units_a_bit(k):.2f}" for k in (7, 127))
        ),
    )
    few, many = (columns_missed(7, 10, 2**k) for k in (6, 12))
    figures += (Figure("δ = 1/7, 10 units an input: odd weights missed, of 64 and of 4096", f"{few:.1f} / {many:.0f}"),)
    holds = {FLOOR: below == 0, REACHED: abs(ratios[0] - 1) < 0.1}
    holds |= {"sources with m well below c·log2 N miss odd weights": few > 1 and many > 40}
    return Evidence(holds, figures, seed=certificate.LIVE_SEED)


def columns_missed(levels: int, units: int, weights: int, seed: int = SEED) -> float:
    """How many of so many odd weights, each in a block of its own, have no unit with both factors odd (u > 0)."""
    rng = np.random.default_rng([seed, levels, units, weights])
    u, v = (rng.integers(-levels, levels + 1, (20, weights, units)) for _ in range(2))
    return float((~((u > 0) & (u * v % 2 == 1)).any(axis=2)).sum(axis=1).mean())


def units_a_bit(levels: int) -> float:
    """Units an input that blocks need for each doubling of the odd weights: 1 over −P(u odd, > 0)·log2 P(v even)."""
    return -(2 * levels + 1) / ((levels + 1) / 2 * log2(levels / (2 * levels + 1)))


def _floor_bits(levels: int) -> float:
    return -log2(1 - odd_item(levels))


@claim(
    id="ours.parity_floor",
    title="Parity keeps a block from failing less often",
    statement=r"""Let $K=1/\delta_{\mathrm{in}}$ be odd, and let $a=(K+1)^2/\bigl(2(2K+1)^2\bigr)\approx\frac18$. A
block of $m$ hidden units misses each weight that is an odd multiple of $\delta_t$ with probability at least
$(1-a)^m$. Blocks find a target with $N$ such weights with probability tending to 0 as $N$ grows, unless
$m\ge(c-o(1))\log_2N$, where $c=3.4$ for $\delta_{\mathrm{in}}=1/7$ and $c\to4$ for finer steps.""",
    source=Source("ours", "lower bound for blocks", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="The floor is reached by small odd weights: with 64 units nearly every miss of theirs is a block whose "
    "products are all even. Even weights are missed less often; the largest ones 15 times more, for want of range.",
)
def parity_floor(budget: Budget) -> Evidence:
    """Every odd weight and block size of the record, 0.5 to 4 million blocks each, against the floor."""
    return _parity(slice(0, None, 2))


@parity_floor.control("even weights", breaks=(FLOOR, REACHED))
def _(budget: Budget) -> Evidence:
    return _parity(slice(1, None, 2))
