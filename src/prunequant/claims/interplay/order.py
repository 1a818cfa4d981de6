"""Claims on the order of the two at the level of one tensor: theorems, ties, several scales, a joint mask."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from prunequant.formats import MX, Format, Integer, named
from prunequant.interplay import apply_orders, compare, counterexample
from prunequant.interplay.audit import audit
from prunequant.interplay.orders import norm
from prunequant.interplay.search import integer_vectors
from prunequant.sparsity import gain, keep_largest
from prunequant.statistics import wilson

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

NORMS = (1.0, 2.0, 3.0, np.inf)
MAX_SCALED = {
    name: named(name)
    for name in ("INT3", "INT4", "INT4 two's complement", "HBFP4", "MXFP4", "MXFP6", "MXFP8", "NVFP4", "NF4")
}
ONE_SCALE = {name: fmt for name, fmt in MAX_SCALED.items() if fmt.odd}
SEED = 44


def _radius(budget: Budget) -> int:
    return budget.pick(6, 9, 12)


def _vectors(budget: Budget) -> np.ndarray:
    """Every non-zero integer 4-vector with entries up to the budget's radius."""
    vectors = np.concatenate(list(integer_vectors(_radius(budget), 4)))
    return vectors[np.any(vectors != 0, axis=1)]


NO_VECTOR = "no vector breaks the inequality"


def _violations(
    budget: Budget, formats: Mapping[str, Format], pattern: str | float, statement: str, ties: str = "first"
) -> Evidence:
    """Count the vectors that break a statement, over formats and norms."""
    shares = audit(formats, pattern, radius=_radius(budget), norms=NORMS, columns=((statement, ties),))
    count, worst = sum(s.violations for s in shares), max(s.worst for s in shares)
    figures = (
        Figure("violations", count),
        Figure("vectors", shares[0].vectors),
        Figure("formats × norms", len(shares)),
        Figure("worst excess", worst),
    )
    return Evidence({NO_VECTOR: count == 0}, figures)


def _matrix_evidence(fmt: Format, statement: str, p: float) -> Evidence:
    """Search a matrix whose scales run down the columns while groups of two run along the rows."""
    violation = counterexample(fmt, "1:2", statement, p, shape=(3, 2), axis=1, scale_axis=0, radius=3, trials=0)
    if violation is None:
        return Evidence({NO_VECTOR: True}, (Figure("counterexamples", 0),))
    figures = (Figure("left side", violation.left, digits=5), Figure("right side", violation.right, digits=5))
    return Evidence({NO_VECTOR: False}, figures, counterexample=str(violation))


@claim(
    id="harma2025.theorem3_5",
    title="Pruning before quantization adds nothing beyond the sum",
    statement=r"""Let $q$ quantize in blocks whose scale comes from their largest magnitude, and let $s$ prune by
magnitude. Then for every $x$

$$\|x-q(s(x))\|\;\le\;\|x-q(x)\|+\|x-s(x)\| .$$""",
    source=Source("harma2025", "Theorem 3.5"),
    verdict=Verdict.CONDITIONAL,
    condition="every block keeps a value of its largest magnitude or is zeroed (groups nested in blocks, one axis), "
    "and the scale sees that magnitude alone",
    truth=r"""If $q$ keeps zero and pruning leaves in every block a value of its largest magnitude, or nothing, then
for every $x$ and $p\in[1,\infty]$ the inequality holds in $L_p$, and more exactly
$\|x-q(s(x))\|_p^p=\|x_P\|_p^p+\|(x-q(x))_K\|_p^p$ for $p<\infty$, with $P$ the pruned and $K$ the kept places. The
sum is attained in $L_1$, never in $L_2$ by a vector with both errors.""",
    difference="That scales survive pruning is our hypothesis; without it there are counterexamples. The proofs "
    "of the paper are reported to be in $L_1$; the equality, and the other norms, are ours.",
    remark="True in every norm, with a Pythagorean equality in place of the sum; only $L_1$ attains the sum.",
)
def theorem3_5(budget: Budget) -> Evidence:
    """All small integer vectors, every max-scaled format, four norms; and the equality for each."""
    made_of = _violations(budget, MAX_SCALED, "2:4", "sq<=sum")
    x = _vectors(budget)
    deviation, equal = 0.0, {1.0: 0, 2.0: 0}
    for fmt in MAX_SCALED.values():
        orders = apply_orders(x, fmt.row_by_row(_radius(budget)), "2:4", ("sq",), batch=1, axis=-1)
        parts = np.where(orders.masks["sq"], x - orders.quantized, x)
        deviation = max(deviation, *(np.abs(orders.error("sq", p) - norm(parts, p, (1,))).max() for p in NORMS))
        both_positive = (orders.error("s", 1) > 0) & (orders.error("q", 1) > 0)
        for p in equal:
            attained = np.isclose(orders.error("sq", p), orders.error("sum", p), rtol=0, atol=1e-9)
            equal[p] += int(np.count_nonzero(attained & both_positive))
    figures = (
        *made_of.figures[:3],
        Figure("largest deviation from the equality", float(f"{deviation:.0e}") if deviation else 0),
        Figure("sum attained in L1", equal[1.0]),
        Figure("sum attained in L2", equal[2.0]),
    )
    holds = {
        **made_of.conditions,
        "the error is that of the pruned part beside that of the kept part, to 1e-12": deviation < 1e-12,
        "the sum is attained in L1": equal[1.0] > 0,
        "the sum is attained in L2 by no vector with both errors": equal[2.0] == 0,
    }
    return Evidence(holds, figures)


@theorem3_5.control("scales down the columns, groups along the rows", breaks=NO_VECTOR)
def _(budget: Budget) -> Evidence:
    return _matrix_evidence(named("INT3"), "sq<=sum", 1)


@theorem3_5.control("a zero-point grid, whose scale sees both ends", breaks=NO_VECTOR)
def _(budget: Budget) -> Evidence:
    return _violations(budget, {"INT4 zero-point": named("INT4 zero-point")}, "2:4", "sq<=sum")


@theorem3_5.control("a quantizer that rescales rows without negative values", breaks=NO_VECTOR)
def _(budget: Budget) -> Evidence:
    return _violations(budget, {"INT4 gptq": named("INT4 gptq")}, "2:4", "sq<=sum")


@claim(
    id="harma2025.theorem3_6",
    title="Quantizing before pruning can exceed the sum",
    statement=r"""There are $x$, a max-scaled quantizer $q$ and a magnitude pruning $s$ (ties to the first index) with
$\|x-s(q(x))\|_p>\|x-q(x)\|_p+\|x-s(x)\|_p$, in every norm $p\in\{1,2,3,\infty\}$.""",
    source=Source("harma2025", "Theorem 3.6"),
    verdict=Verdict.HOLDS,
    remark="One vector does it in every norm: 2.6 and 3.4 both become 3, the first is kept, and 3.4 is lost.",
)
def theorem3_6(budget: Budget) -> Evidence:
    """The witness x = (2.6, 3.4 | 7, 0) in INT4 with 1 of 2 kept, in every norm."""
    return _witness("first")


def _witness(ties: str) -> Evidence:
    x = np.array([2.6, 3.4, 7.0, 0.0])
    orders = apply_orders(x, Integer(4), "1:2", ("sq", "qs"), ties)
    excess = {p: float(orders.error("qs", p) - orders.error("sum", p)) for p in NORMS}
    names = {1.0: "L1", 2.0: "L2", 3.0: "L3", np.inf: "L∞"}
    figures = [Figure(f"excess over the sum in {names[p]}", e) for p, e in excess.items()]
    example = counterexample(Integer(3), "1:2", "qs<=sum", 1, ties, radius=6, trials=0)
    name = "smallest integer witness, INT3, L1"
    figures.append(Figure(name, "none" if example is None else str(example).split(":")[0]))
    holds = {
        "the witness exceeds the sum in L1, L2, L3 and L∞": all(e > 1e-9 for e in excess.values()),
        "integers alone exceed it in L1": example is not None,
    }
    return Evidence(holds, tuple(figures))


@theorem3_6.control(
    "ties broken by the original magnitude",
    breaks=("the witness exceeds the sum in L1, L2, L3 and L∞", "integers alone exceed it in L1"),
)
def _(budget: Budget) -> Evidence:
    return _witness("magnitude")


@claim(
    id="harma2025.theorem3_7",
    title="What quantizing first can cost",
    statement=r"""For **any** quantizer $q$ and any pruning $s$ by magnitude, with $P$ the places that $s$ would prune
from $x$ itself,

$$\|x-s(q(x))\|_p\le\|x-q(x)\|_p+\|x-s(x)\|_p+\|(x-q(x))_P\|_p ,$$

and with rounding to nearest, steps at most $\delta$ and no saturation the last term is at most
$|P|^{1/p}\,\delta/2$. For $N{:}M$ pruning in $L_1$ that is $n(1-N/M)\,\delta/2$.""",
    source=Source("harma2025", "Theorem 3.7"),
    verdict=Verdict.HOLDS,
    remark="Sharp: $x=(2.5+\\epsilon,3\\,|\\,7,0)$ costs $\\delta/2-\\epsilon$ beyond the sum. A saturating format "
    "(MXFP4 with the specification's scale) can pass $\\delta/2$, but not the first bound.",
)
def theorem3_7(budget: Budget) -> Evidence:
    """Both bounds over all small integer vectors, formats, norms and two tie rules; and the sharp example."""
    return _excess_bounds(budget, 1.0)


def _excess_bounds(budget: Budget, factor: float) -> Evidence:
    x = _vectors(budget)
    worst_exact, worst_step, slack = -np.inf, -np.inf, np.inf
    formats = {
        **MAX_SCALED,
        "INT4 zero-point": named("INT4 zero-point"),
        "MXFP4 rceil": MX("fp4_e2m1", 32, "rceil"),
    }
    for fmt in formats.values():
        own = fmt.row_by_row(_radius(budget))
        step = own.step(x)
        for ties in ("first", "last"):
            orders = apply_orders(x, own, "2:4", ("sq", "qs"), ties, batch=1, axis=-1)
            dropped = ~orders.masks["sq"]
            for p in (1.0, 2.0, np.inf):
                excess = orders.error("qs", p) - orders.error("sum", p)
                exact = norm(np.where(dropped, x - orders.quantized, 0), p, (1,))
                worst_exact = max(worst_exact, float((excess - factor * exact).max()))
                if not fmt.saturates:
                    half = norm(np.where(dropped, step / 2, 0), p, (1,))
                    worst_step = max(worst_step, float((excess - factor * half).max()))
                    positive = excess > 1e-9
                    if positive.any():
                        slack = min(slack, float((factor * half[positive] / excess[positive]).min()))
    sharp = compare([2.5 + 1e-6, 3.0, 7.0, 0.0], Integer(4), "1:2", "qs").errors[1]["extra"]
    figures = (
        Figure("most above the first bound", max(worst_exact, 0.0) if worst_exact > 1e-9 else 0),
        Figure("most above |P|^(1/p) δ/2", max(worst_step, 0.0) if worst_step > 1e-9 else 0),
        Figure("cost of the sharp example", sharp, "δ", digits=5),
        Figure("vectors", len(x)),
    )
    holds = {
        WITHIN_EXACT: worst_exact < 1e-9,
        WITHIN_STEP: worst_step < 1e-9,
        SHARP: factor / 2 - 2e-6 < sharp <= factor / 2,
    }
    return Evidence(holds, figures, slack=slack)


WITHIN_EXACT = "no excess is above the quantization error of what pruning drops"
WITHIN_STEP = "no excess is above half a step for each, where formats do not saturate"
SHARP = "the example comes within two millionths of a step of the bound, from below"


@theorem3_7.control("half the constant", breaks=(WITHIN_EXACT, WITHIN_STEP, SHARP))
def _(budget: Budget) -> Evidence:
    return _excess_bounds(budget, 0.5)


@claim(
    id="harma2025.corollary",
    title="Prune first",
    statement=r"""Pruning first is the better order: $\|x-q(s(x))\|\le\|x-s(q(x))\|$ for every $x$.""",
    source=Source("harma2025", "corollary of Theorems 3.5-3.7"),
    verdict=Verdict.CONDITIONAL,
    condition="one max-scaled scale for all values that compete for a place, and an odd monotone grid",
    truth=r"""With a quantizer that is odd and monotone, keeps zero and takes its scale from the largest magnitude, and
one scale for all values that compete for a place, no order is better than pruning first:
$\|x-q(s(x))\|_p\le\|x-s(q(x))\|_p$ for every $x$, every $p\in[1,\infty]$ and every rule for ties.""",
    difference="Bounds of each order by the sum do not rank the two. With several scales and one threshold, or a grid "
    "that is not odd, quantizing first can be the better order. The abstract of the first version is reported to call "
    "pruning first optimal, that of the second not.",
    remark="The paper's theorems compare each order with the sum and so do not rank the two; one scale does. With "
    "several scales and one threshold the order is undecided.",
)
def corollary(budget: Budget) -> Evidence:
    """All small integer vectors under one scale: 2:4 in every odd format, and a sparsity per tensor."""
    return _corollary(budget, ONE_SCALE)


def _corollary(budget: Budget, formats: Mapping[str, Format]) -> Evidence:
    aligned = _violations(budget, formats, "2:4", "sq<=qs")
    whole = _violations(budget, {k: f for k, f in formats.items() if f.block_size is None}, 0.5, "sq<=qs", "last")
    worse, pairs = _every_rule(budget, formats)
    figures = (
        Figure("violations, 2:4", aligned.figures[0].value),
        Figure("violations, 50 % of a tensor", whole.figures[0].value),
        *aligned.figures[1:3],
        Figure("masks that some rule for ties takes", pairs),
        Figure("of these better than pruning first", worse),
    )
    holds = {
        NO_VECTOR: bool(aligned.holds and whole.holds),
        "no mask that any rule for ties could take is better": worse == 0 and pairs > 0,
    }
    return Evidence(holds, figures)


def _every_rule(budget: Budget, formats: Mapping[str, Format]) -> tuple[int, int]:
    """Of the 2:4 masks that keep two largest |q(x)|, over vectors and formats, how many beat pruning first; and all.

    A rule for ties chooses among these masks and no others, so no rule is left out.
    """
    x, worse, taken = _vectors(budget), 0, 0
    masks = [np.isin(np.arange(4), pair) for pair in combinations(range(4), 2)]
    for fmt in formats.values():
        orders = apply_orders(x, fmt.row_by_row(_radius(budget)), "2:4", ("sq",), batch=1, axis=-1)
        size = np.abs(orders.quantized)
        first = {p: orders.error("sq", p) for p in NORMS}
        for mask in masks:
            rule = size[:, mask].min(axis=1) >= size[:, ~mask].max(axis=1)
            left = np.where(mask, orders.quantized, 0)[rule] - x[rule]
            better = [norm(left, p, (1,)) < first[p][rule] - 1e-9 for p in NORMS]
            worse, taken = worse + int(np.count_nonzero(np.any(better, axis=0))), taken + int(np.count_nonzero(rule))
    return worse, taken


@corollary.control("two scales and one threshold", breaks=NO_VECTOR)
def _(budget: Budget) -> Evidence:
    formats = {name: named(name, block=2) for name in ("INT3", "INT4", "HBFP6")}
    return _violations(budget, formats, 0.5, "sq<=qs")


@corollary.control("a grid that is not odd (NF4)", breaks=NO_VECTOR)
def _(budget: Budget) -> Evidence:
    return _violations(budget, {"NF4": named("NF4")}, "2:4", "sq<=qs")


@corollary.control("scales down the columns, groups along the rows", breaks=NO_VECTOR)
def _(budget: Budget) -> Evidence:
    return _matrix_evidence(Integer(4, granularity="row"), "sq<=qs", 1)


def _identical(budget: Budget, ties: str) -> Evidence:
    """Tensors and small vectors for which the two orders end in different values."""
    generator = np.random.default_rng(SEED)
    x, different, compared = _vectors(budget), 0, 0
    tensors = generator.standard_normal((budget.pick(4, 20, 100), 128, 128))
    differing_places, places = 0, 0
    for fmt in ONE_SCALE.values():
        orders = apply_orders(x, fmt.row_by_row(_radius(budget)), "2:4", ("sq", "qs"), ties, batch=1, axis=-1)
        different += int(np.count_nonzero(np.any(orders.compressed["sq"] != orders.compressed["qs"], axis=1)))
        compared += len(x)
        for tensor in tensors:
            orders = apply_orders(tensor, fmt, "2:4", ("sq", "qs"), ties)
            differing_places += int(np.count_nonzero(orders.compressed["sq"] != orders.compressed["qs"]))
            places += tensor.size
    figures = (
        Figure("small vectors with different results", different),
        Figure("small vectors × formats", compared),
        Figure("different values in Gaussian tensors", differing_places),
        Figure("values in Gaussian tensors", places),
    )
    return Evidence({SAME_SMALL: different == 0, SAME_LARGE: differing_places == 0}, figures, seed=SEED)


SAME_SMALL = "no small vector ends differently"
SAME_LARGE = "no value of a Gaussian tensor ends differently"


@claim(
    id="ours.ties",
    title="Under one scale the whole price of quantizing first is the tie rule",
    statement=r"""Let $q$ keep zero, be odd and monotone and take its scale from the largest magnitude, and let all
values that compete for a place share one scale. If the mask of "quantize, then prune" breaks ties by the original
magnitude, then $s(q(x))=q(s(x))$, value for value.""",
    source=Source("ours", "tie theorem", "ours"),
    verdict=Verdict.HOLDS,
    remark="Take the mask from the stored high-precision weights and the order no longer matters: the price is that of "
    "the ties.",
)
def ties(budget: Budget) -> Evidence:
    """Both orders with ties by magnitude, on all small vectors and on Gaussian tensors, in every odd format."""
    return _identical(budget, "magnitude")


@ties.control("ties by the first index", breaks=(SAME_SMALL, SAME_LARGE))
def _(budget: Budget) -> Evidence:
    return _identical(budget, "first")


EXAMPLE = "in the smallest example pruning first is worse, in L1 and L2"
EITHER = "among small vectors each order is better for some, in L1 and L2"
ROWS = "on most tensors with INT4 rows quantizing first is better"
GROUPS = "on most tensors with INT4 groups of 64 pruning first is better"


def _two_sided(budget: Budget, rows: str | int, groups: str | int) -> Evidence:
    """How often each order is the better one under one threshold: small vectors, heavy-tailed tensors."""
    two = "tensor" if rows == "tensor" else 2
    one = apply_orders(np.array([3, 1.4, 1.39, 0]), Integer(3, granularity=two), 0.5, ("sq", "qs"))
    own = (named("INT3") if two == "tensor" else Integer(3, granularity=2)).row_by_row(_radius(budget))
    small = apply_orders(_vectors(budget), own, 0.5, ("sq", "qs"), "magnitude", batch=1)
    lead = [small.error("qs", p) - small.error("sq", p) for p in (1.0, 2.0)]
    counts = [int(np.count_nonzero(np.all([sign * d > 1e-9 for d in lead], axis=0))) for sign in (1, -1)]
    seeds = budget.pick(8, 20, 100)
    qs_better = sq_better = 0
    for seed in range(seeds):
        x = np.random.default_rng([SEED, seed]).standard_t(3, (256, 256))
        orders = apply_orders(x, Integer(4, granularity=rows), 0.5, ("sq", "qs"), "magnitude")
        qs_better += int(orders.error("qs", 2) < orders.error("sq", 2) - 1e-9)
        orders = apply_orders(x, Integer(4, granularity=groups), 0.5, ("sq", "qs"), "magnitude")
        sq_better += int(orders.error("sq", 2) < orders.error("qs", 2) - 1e-9)
    figures = (
        Figure("smallest example, prune first, L2", float(one.error("sq", 2)), digits=5),
        Figure("smallest example, quantize first, L2", float(one.error("qs", 2)), digits=5),
        Figure("small vectors where pruning first is better in L1 and L2", counts[0]),
        Figure("small vectors where quantizing first is", counts[1]),
        Figure("INT4 rows: quantize first better", qs_better / seeds, interval=wilson(qs_better, seeds)),
        Figure("INT4 groups of 64: prune first better", sq_better / seeds, interval=wilson(sq_better, seeds)),
    )
    holds = {
        EXAMPLE: all(bool(one.error("sq", p) > one.error("qs", p) + 1e-9) for p in (1, 2)),
        EITHER: min(counts) > 0,
        ROWS: qs_better > seeds / 2,
        GROUPS: sq_better > seeds / 2,
    }
    return Evidence(holds, figures, trials=seeds, seed=SEED)


@claim(
    id="ours.cross_scale",
    title="Over several scales neither order is the better one",
    statement=r"""When values under different scales compete for one place (unstructured pruning with a scale per
row or group), each order is strictly better than the other for some $x$, in $L_1$ and $L_2$. On whole tensors too:
for Student-$t(3)$ weights at 50 % sparsity, quantizing first wins with INT4 rows, pruning first with INT4 groups of
64.""",
    source=Source("ours", "cross-scale counterexample", "ours"),
    verdict=Verdict.HOLDS,
    remark="Smallest example: $(3,\\ 1.4\\,|\\,1.39,\\ 0)$ in INT3; pruning first keeps 1.4 and stores it as 1.",
)
def cross_scale(budget: Budget) -> Evidence:
    """The smallest example, and heavy-tailed 256 × 256 tensors over seeds."""
    return _two_sided(budget, "row", 64)


@cross_scale.control("one scale for the tensor", breaks=(EXAMPLE, EITHER, ROWS, GROUPS))
def _(budget: Budget) -> Evidence:
    return _two_sided(budget, "tensor", "tensor")


NEVER_WORSE = "the mask is never worse than the better order"
SOME_BETTER = "it is strictly better for most tensors"


def _joint(budget: Budget, score: Callable[[NDArray, NDArray], NDArray]) -> Evidence:
    """Masks by a score against both orders in L2, at fixed scales."""
    generator = np.random.default_rng(SEED)
    tensors = budget.pick(6, 20, 100)
    formats = (named("INT4"), named("INT4", block=64), named("HBFP4"), named("MXFP4"), named("NVFP4"))
    worse = strictly = compared = 0
    gains = []
    for _ in range(tensors):
        x = generator.standard_t(3, (128, 128))
        for fmt in formats:
            orders = apply_orders(x, fmt, 0.5, ("sq", "qs"))
            mask = keep_largest(score(orders.x, orders.quantized), 0.5)
            error = float(np.linalg.norm(x - mask * orders.quantized))
            best = min(float(orders.error("sq", 2)), float(orders.error("qs", 2)))
            worse += error > best * (1 + 1e-12)
            gains.append(1 - error / best)
            strictly += error < best * (1 - 1e-6)
            compared += 1
    figures = (
        Figure("tensors × formats where it is worse", worse),
        Figure("compared", compared),
        Figure("error below the better order, mean", 100 * float(np.mean(gains)), "%"),
        Figure("error below the better order, most", 100 * float(np.max(gains)), "%"),
    )
    holds = {NEVER_WORSE: worse == 0, SOME_BETTER: strictly > compared / 2}
    return Evidence(holds, figures, trials=compared, seed=SEED)


@claim(
    id="ours.joint_mask",
    title="A mask by gain is at least as good as both orders",
    statement=r"""For fixed quantized values $q=q(x)$ the mask that keeps the largest
$|q_i|(2|x_i|-|q_i|)=x_i^2-(x_i-q_i)^2$ leaves the smallest $\|x-m\odot q\|_2$ of all masks of its pattern. So where
scales survive pruning it is at least as good as either order.""",
    source=Source("ours", "joint mask", "ours"),
    verdict=Verdict.HOLDS,
    remark="One line of code, never worse, and strictly better where several scales compete.",
)
def joint_mask(budget: Budget) -> Evidence:
    """Gain mask against both orders on heavy-tailed tensors in five formats."""
    return _joint(budget, lambda x, q: gain(x, q, 2))


@joint_mask.control("the gain of L1, judged in L2", breaks=NEVER_WORSE)
def _(budget: Budget) -> Evidence:
    return _joint(budget, lambda x, q: gain(x, q, 1))


BEST_OF_ALL = "no mask of the pattern is better on 2 x 2 matrices"
BEST_OF_TWO = "neither quantizing first nor the joint mask is better on 4 x 4 matrices"


def _largest_error(budget: Budget, formats: Sequence[Format], p: float) -> Evidence:
    """How often another mask leaves a smaller error than pruning first, over several scales and one threshold."""
    x = _vectors(budget).reshape(-1, 2, 2)
    generator = np.random.default_rng(SEED)
    tensors = generator.standard_t(3, (budget.pick(2_000, 10_000, 100_000), 4, 4))
    masks = [np.isin(np.arange(4), pair).reshape(2, 2) for pair in combinations(range(4), 2)]
    worse = {BEST_OF_ALL: 0, BEST_OF_TWO: 0}
    for fmt in formats:
        own = fmt.row_by_row(1024)
        orders = apply_orders(x, own, 0.5, ("sq",), ties="first", batch=1)
        best = np.min([norm(x - np.where(mask, orders.quantized, 0), p, (1, 2)) for mask in masks], axis=0)
        worse[BEST_OF_ALL] += int(np.count_nonzero(orders.error("sq", p) * (1 - 1e-12) > best))
        orders = apply_orders(tensors, own, 0.5, ties="first", batch=1)
        best = np.minimum(orders.error("qs", p), orders.error("joint", p))
        worse[BEST_OF_TWO] += int(np.count_nonzero(orders.error("sq", p) * (1 - 1e-12) > best))
    compared = len(formats) * (len(x) + len(tensors))
    figures = (
        Figure("tensors × formats where pruning first is worse", sum(worse.values())),
        Figure("compared", compared),
        Figure("masks tried on each 2 × 2 matrix", len(masks)),
    )
    return Evidence({name: count == 0 for name, count in worse.items()}, figures, trials=compared, seed=SEED)


SEVERAL_SCALES = (
    *(named(name) for name in ("INT3", "INT4", "INT4 two's complement")),
    *(named(name, block=2) for name in ("HBFP4", "HBFP6", "MXFP4", "NVFP4", "NF4")),
)


@claim(
    id="ours.largest_error",
    title="For the largest single error, pruning first is always best",
    statement=r"""Let scales survive pruning and let $|x_i-q(x)_i|\le|x_i|$ for every value (rounding to nearest,
zero a level). Then $\|x-q(s(x))\|_\infty\le\|x-m\odot q(x)\|_\infty$ for **every** mask $m$ of the same pattern,
over one scale or several, on odd grids or not.""",
    source=Source("ours", "largest error", "ours"),
    verdict=Verdict.HOLDS,
    remark="Magnitude pruning is the joint mask of $L_\\infty$; the counterexamples across scales need another norm.",
)
def largest_error(budget: Budget) -> Evidence:
    """All small integer 2 x 2 matrices and heavy-tailed 4 x 4 ones with a scale a row or block, half pruned."""
    return _largest_error(budget, SEVERAL_SCALES, np.inf)


@largest_error.control("the same in L2", breaks=(BEST_OF_ALL, BEST_OF_TWO))
def _(budget: Budget) -> Evidence:
    return _largest_error(budget, SEVERAL_SCALES, 2.0)


@largest_error.control("a scale that does not survive pruning (gptq)", breaks=(BEST_OF_ALL, BEST_OF_TWO))
def _(budget: Budget) -> Evidence:
    return _largest_error(budget, (named("INT4 gptq"),), np.inf)
