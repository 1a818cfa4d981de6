"""Claims on the order of the two at the level of one tensor: theorems, ties, several scales, a joint mask."""

import numpy as np

from prunequant.formats import MX, Integer, named
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


def _violations(budget: Budget, formats, pattern, statement: str, ties: str = "first") -> Evidence:
    """Count the vectors that break a statement, over formats and norms."""
    shares = audit(formats, pattern, radius=_radius(budget), norms=NORMS, columns=((statement, ties),))
    count, worst = sum(s.violations for s in shares), max(s.worst for s in shares)
    figures = (
        Figure("violations", count),
        Figure("vectors", shares[0].vectors),
        Figure("formats × norms", len(shares)),
        Figure("worst excess", worst),
    )
    return Evidence(holds=count == 0, figures=figures)


def _matrix_evidence(fmt, statement: str, p: float) -> Evidence:
    """Search a matrix whose scales run down the columns while groups of two run along the rows."""
    found = counterexample(fmt, "1:2", statement, p, shape=(3, 2), axis=1, scale_axis=0, radius=3, trials=0)
    if found is None:
        return Evidence(holds=True, figures=(Figure("counterexamples", 0),))
    figures = (Figure("left side", found.left, digits=5), Figure("right side", found.right, digits=5))
    return Evidence(holds=False, figures=figures, counterexample=str(found))


@claim(
    id="harma2025.theorem3_5",
    title="Pruning before quantization adds nothing beyond the sum",
    statement=r"""Let $q$ be a quantizer whose scale is a function of the largest magnitude of each block and which
keeps zero, and let $s$ prune by magnitude such that every block keeps a value of its largest magnitude or is zeroed.
Then for every $x$ and every $p\in[1,\infty]$

$$\|x-q(s(x))\|_p\;\le\;\|x-q(x)\|_p+\|x-s(x)\|_p ,$$

and more exactly $\|x-q(s(x))\|_p^p=\|x_P\|_p^p+\|(x-q(x))_K\|_p^p$ for $p<\infty$, with $P$ the pruned and $K$ the kept
places. Equality in the first line is an effect of $L_1$.""",
    source=Source("harma2025", "Theorem 3.5"),
    verdict=Verdict.CONDITIONAL,
    condition="every block keeps a value of its largest magnitude or is zeroed (groups nested in blocks, one axis), "
    "and the scale sees that magnitude alone",
    remark="True in every norm, with a Pythagorean equality in place of the sum; only $L_1$ attains the sum.",
)
def theorem3_5(budget: Budget) -> Evidence:
    """All small integer vectors, every max-scaled format, four norms; and the equality for each."""
    made_of = _violations(budget, MAX_SCALED, "2:4", "sq<=sum")
    x = _vectors(budget)
    deviation, equal = 0.0, {1.0: 0, 2.0: 0}
    for fmt in MAX_SCALED.values():
        made = apply_orders(x, fmt.row_by_row(_radius(budget)), "2:4", ("sq",), batch=1, axis=-1)
        parts = np.where(made.masks["sq"], x - made.quantized, x)
        deviation = max(deviation, *(np.abs(made.error("sq", p) - norm(parts, p, (1,))).max() for p in NORMS))
        both_positive = (made.error("s", 1) > 0) & (made.error("q", 1) > 0)
        for p in equal:
            attained = np.isclose(made.error("sq", p), made.error("sum", p), rtol=0, atol=1e-9)
            equal[p] += int(np.count_nonzero(attained & both_positive))
    figures = (
        *made_of.figures[:3],
        Figure("largest deviation from the equality", float(f"{deviation:.0e}") if deviation else 0),
        Figure("sum attained in L1", equal[1.0]),
        Figure("sum attained in L2", equal[2.0]),
    )
    holds = made_of.holds and deviation < 1e-12 and equal[1.0] > 0 and equal[2.0] == 0
    return Evidence(holds=holds, figures=figures)


@theorem3_5.control("scales down the columns, groups along the rows")
def _(budget: Budget) -> Evidence:
    return _matrix_evidence(named("INT3"), "sq<=sum", 1)


@theorem3_5.control("a zero-point grid, whose scale sees both ends")
def _(budget: Budget) -> Evidence:
    return _violations(budget, {"INT4 zero-point": named("INT4 zero-point")}, "2:4", "sq<=sum")


@theorem3_5.control("a quantizer that rescales rows without negative values")
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
    made = apply_orders(x, Integer(4), "1:2", ("sq", "qs"), ties)
    excess = {p: float(made.error("qs", p) - made.error("sum", p)) for p in NORMS}
    names = {1.0: "L1", 2.0: "L2", 3.0: "L3", np.inf: "L∞"}
    figures = [Figure(f"excess over the sum in {names[p]}", e) for p, e in excess.items()]
    found = counterexample(Integer(3), "1:2", "qs<=sum", 1, ties, radius=6, trials=0)
    name = "smallest integer witness, INT3, L1"
    figures.append(Figure(name, "none" if found is None else str(found).split(":")[0]))
    return Evidence(holds=all(e > 1e-9 for e in excess.values()) and found is not None, figures=tuple(figures))


@theorem3_6.control("ties broken by the original magnitude")
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
            made = apply_orders(x, own, "2:4", ("sq", "qs"), ties, batch=1, axis=-1)
            dropped = ~made.masks["sq"]
            for p in (1.0, 2.0, np.inf):
                excess = made.error("qs", p) - made.error("sum", p)
                exact = norm(np.where(dropped, x - made.quantized, 0), p, (1,))
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
    holds = worst_exact < 1e-9 and worst_step < 1e-9 and sharp <= factor / 2
    return Evidence(holds=holds, figures=figures, slack=slack)


@theorem3_7.control("half the constant")
def _(budget: Budget) -> Evidence:
    return _excess_bounds(budget, 0.5)


@claim(
    id="harma2025.corollary",
    title="Prune first",
    statement=r"""With a quantizer that is odd and monotone, keeps zero and takes its scale from the largest magnitude,
and one scale for all values that compete for a place, no order is better than pruning first:
$\|x-q(s(x))\|_p\le\|x-s(q(x))\|_p$ for every $x$, every $p\in[1,\infty]$ and every rule for ties.""",
    source=Source("harma2025", "corollary of Theorems 3.5-3.7"),
    verdict=Verdict.CONDITIONAL,
    condition="one max-scaled scale for all values that compete for a place, and an odd monotone grid",
    remark="The paper's theorems compare each order with the sum and so do not rank the two; one scale does. With "
    "several scales and one threshold the order is undecided.",
)
def corollary(budget: Budget) -> Evidence:
    """All small integer vectors under one scale: 2:4 in every odd format, and a sparsity per tensor."""
    aligned = _violations(budget, ONE_SCALE, "2:4", "sq<=qs")
    whole = _violations(budget, {k: f for k, f in ONE_SCALE.items() if f.block_size is None}, 0.5, "sq<=qs", "last")
    figures = (
        Figure("violations, 2:4", aligned.figures[0].value),
        Figure("violations, 50 % of a tensor", whole.figures[0].value),
        *aligned.figures[1:3],
    )
    return Evidence(holds=aligned.holds and whole.holds, figures=figures)


@corollary.control("two scales and one threshold")
def _(budget: Budget) -> Evidence:
    formats = {name: named(name, block=2) for name in ("INT3", "INT4", "HBFP6")}
    return _violations(budget, formats, 0.5, "sq<=qs")


@corollary.control("a grid that is not odd (NF4)")
def _(budget: Budget) -> Evidence:
    return _violations(budget, {"NF4": named("NF4")}, "2:4", "sq<=qs")


@corollary.control("scales down the columns, groups along the rows")
def _(budget: Budget) -> Evidence:
    return _matrix_evidence(Integer(4, granularity="row"), "sq<=qs", 1)


def _identical(budget: Budget, ties: str) -> Evidence:
    """Tensors and small vectors for which the two orders end in different values."""
    generator = np.random.default_rng(SEED)
    x, different, compared = _vectors(budget), 0, 0
    tensors = generator.standard_normal((budget.pick(4, 20, 100), 128, 128))
    differing_places, places = 0, 0
    for fmt in ONE_SCALE.values():
        made = apply_orders(x, fmt.row_by_row(_radius(budget)), "2:4", ("sq", "qs"), ties, batch=1, axis=-1)
        different += int(np.count_nonzero(np.any(made.compressed["sq"] != made.compressed["qs"], axis=1)))
        compared += len(x)
        for tensor in tensors:
            made = apply_orders(tensor, fmt, "2:4", ("sq", "qs"), ties)
            differing_places += int(np.count_nonzero(made.compressed["sq"] != made.compressed["qs"]))
            places += tensor.size
    figures = (
        Figure("small vectors with different results", different),
        Figure("small vectors × formats", compared),
        Figure("different values in Gaussian tensors", differing_places),
        Figure("values in Gaussian tensors", places),
    )
    return Evidence(holds=different + differing_places == 0, figures=figures, seed=SEED)


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


@ties.control("ties by the first index")
def _(budget: Budget) -> Evidence:
    return _identical(budget, "first")


def _two_sided(budget: Budget, rows, groups) -> Evidence:
    """How often each order is the better one on heavy-tailed tensors under one threshold; ties by magnitude."""
    two = "tensor" if rows == "tensor" else 2
    example = apply_orders(np.array([3, 1.4, 1.39, 0]), Integer(3, granularity=two), 0.5, ("sq", "qs"))
    seeds = budget.pick(8, 20, 100)
    qs_better = sq_better = 0
    for seed in range(seeds):
        x = np.random.default_rng([SEED, seed]).standard_t(3, (256, 256))
        made = apply_orders(x, Integer(4, granularity=rows), 0.5, ("sq", "qs"), "magnitude")
        qs_better += int(made.error("qs", 2) < made.error("sq", 2) - 1e-9)
        made = apply_orders(x, Integer(4, granularity=groups), 0.5, ("sq", "qs"), "magnitude")
        sq_better += int(made.error("sq", 2) < made.error("qs", 2) - 1e-9)
    figures = (
        Figure("smallest example, prune first, L2", float(example.error("sq", 2)), digits=5),
        Figure("smallest example, quantize first, L2", float(example.error("qs", 2)), digits=5),
        Figure("INT4 rows: quantize first better", qs_better / seeds, interval=wilson(qs_better, seeds)),
        Figure("INT4 groups of 64: prune first better", sq_better / seeds, interval=wilson(sq_better, seeds)),
    )
    crossed = qs_better > seeds / 2 and sq_better > seeds / 2
    holds = bool(example.error("sq", 2) > example.error("qs", 2)) and crossed
    return Evidence(holds=holds, figures=figures, trials=seeds, seed=SEED)


@claim(
    id="ours.cross_scale",
    title="Over several scales neither order is the better one",
    statement=r"""When values under different scales compete for one place (unstructured pruning with a scale per row or
group), each order is strictly better than the other for some $x$, in $L_1$ and $L_2$. On whole tensors too: for
Student-$t(3)$ weights at 50 % sparsity, quantizing first wins with INT4 rows, pruning first with INT4 groups of 64.""",
    source=Source("ours", "cross-scale counterexample", "ours"),
    verdict=Verdict.HOLDS,
    remark="Smallest example: $(3,\\ 1.4\\,|\\,1.39,\\ 0)$ in INT3; pruning first keeps 1.4 and stores it as 1.",
)
def cross_scale(budget: Budget) -> Evidence:
    """The smallest example, and heavy-tailed 256 × 256 tensors over seeds."""
    return _two_sided(budget, "row", 64)


@cross_scale.control("one scale for the tensor")
def _(budget: Budget) -> Evidence:
    return _two_sided(budget, "tensor", "tensor")


def _joint(budget: Budget, score) -> Evidence:
    """Masks by a score against both orders in L2, at fixed scales."""
    generator = np.random.default_rng(SEED)
    tensors = budget.pick(6, 20, 100)
    formats = (named("INT4"), named("INT4", block=64), named("HBFP4"), named("MXFP4"), named("NVFP4"))
    worse, gains, compared = 0, [], 0
    for _ in range(tensors):
        x = generator.standard_t(3, (128, 128))
        for fmt in formats:
            made = apply_orders(x, fmt, 0.5, ("sq", "qs"))
            mask = keep_largest(score(made.x, made.quantized), 0.5)
            error = float(np.linalg.norm(x - mask * made.quantized))
            best = min(float(made.error("sq", 2)), float(made.error("qs", 2)))
            worse += error > best * (1 + 1e-12)
            gains.append(1 - error / best)
            compared += 1
    figures = (
        Figure("tensors × formats where it is worse", worse),
        Figure("compared", compared),
        Figure("error below the better order, mean", 100 * float(np.mean(gains)), "%"),
        Figure("error below the better order, most", 100 * float(np.max(gains)), "%"),
    )
    return Evidence(holds=worse == 0, figures=figures, trials=compared, seed=SEED)


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


@joint_mask.control("the gain of L1, judged in L2")
def _(budget: Budget) -> Evidence:
    return _joint(budget, lambda x, q: gain(x, q, 1))


def _largest_error(budget: Budget, formats, p: float) -> Evidence:
    """How often another order leaves a smaller error than pruning first, over several scales and one threshold."""
    x, worse, compared = _vectors(budget), 0, 0
    generator = np.random.default_rng(SEED)
    tensors = generator.standard_t(3, (budget.pick(2_000, 10_000, 100_000), 4, 4))
    for fmt in formats:
        for values in (x.reshape(-1, 2, 2), tensors):
            made = apply_orders(values, fmt.row_by_row(1024), 0.5, ties="first", batch=1)
            first = made.error("sq", p) * (1 - 1e-12)
            worse += int(np.count_nonzero((first > made.error("qs", p)) | (first > made.error("joint", p))))
            compared += len(values)
    figures = (Figure("tensors × formats where pruning first is worse", worse), Figure("compared", compared))
    return Evidence(holds=worse == 0, figures=figures, trials=compared, seed=SEED)


SEVERAL_SCALES = (
    *(named(name) for name in ("INT3", "INT4", "INT4 two's complement")),
    *(named(name, block=2) for name in ("HBFP4", "HBFP6", "MXFP4", "NVFP4", "NF4")),
)


@claim(
    id="ours.largest_error",
    title="For the largest single error, pruning first is always best",
    statement=r"""Let scales survive pruning and let $|x_i-q(x)_i|\le|x_i|$ for every value (rounding to nearest, zero a
level). Then $\|x-q(s(x))\|_\infty\le\|x-m\odot q(x)\|_\infty$ for **every** mask $m$ of
the same pattern, over one scale or several, on odd grids or not.""",
    source=Source("ours", "largest error", "ours"),
    verdict=Verdict.HOLDS,
    remark="Magnitude pruning is the joint mask of $L_\\infty$; the counterexamples across scales need another norm.",
)
def largest_error(budget: Budget) -> Evidence:
    """All small integer 2 x 2 matrices and heavy-tailed 4 x 4 ones with a scale a row or block, half pruned."""
    return _largest_error(budget, SEVERAL_SCALES, np.inf)


@largest_error.control("the same in L2")
def _(budget: Budget) -> Evidence:
    return _largest_error(budget, SEVERAL_SCALES, 2.0)


@largest_error.control("a scale that does not survive pruning (gptq)")
def _(budget: Budget) -> Evidence:
    return _largest_error(budget, (named("INT4 gptq"),), np.inf)
