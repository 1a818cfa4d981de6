"""Claims of this book on the two orders: ties, several scales, the joint mask, and the formats themselves."""

import ml_dtypes
import numpy as np

from prunequant.formats import ELEMENTS, MX, Integer, named
from prunequant.interplay import apply_orders
from prunequant.sparsity import gain, keep_largest
from prunequant.statistics import wilson

from .core import Budget, Evidence, Figure, Source, Verdict, claim
from .harma2025_order import ONE_SCALE, _radius, _vectors

SEED = 44


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
    chapter="interplay/order",
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
    holds = example.error("sq", 2) > example.error("qs", 2) and qs_better > seeds / 2 and sq_better > seeds / 2
    return Evidence(holds=holds, figures=figures, trials=seeds, seed=SEED)


@claim(
    id="ours.cross_scale",
    title="Over several scales neither order is the better one",
    statement=r"""When values under different scales compete for one place (unstructured pruning with a scale per row or
group), each order is strictly better than the other for some $x$, in $L_1$ and $L_2$. On whole tensors too: for
Student-$t(3)$ weights at 50 % sparsity, quantizing first wins with INT4 rows, pruning first with INT4 groups of 64.""",
    source=Source("ours", "cross-scale counterexample", "ours"),
    chapter="interplay/order",
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
    chapter="interplay/order",
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
    chapter="interplay/order",
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


ML_DTYPES = {
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}


def _away(x: np.ndarray, fmt: MX) -> np.ndarray:
    """The format with ties rounded away from zero: what some emulators do."""
    element, scale = ELEMENTS[fmt.element], np.repeat(fmt.scales(x), fmt.block, axis=1)
    t = np.abs(x.astype(np.float64)) / scale
    exponent = np.maximum(np.frexp(t)[1] - 1, element.least_exponent)
    step = np.ldexp(1.0, exponent - element.mantissa_bits)
    return np.copysign(np.minimum(np.floor(t / step + 0.5) * step, element.largest) * scale, x)


def _against_ml_dtypes(budget: Budget, quantize) -> Evidence:
    """Values whose microscaled result differs from the specification written with ml_dtypes' casts."""
    generator = np.random.default_rng(SEED)
    rows = budget.pick(2_000, 20_000, 200_000)
    x = generator.standard_normal((rows, 64))
    x[1::4] *= np.exp(generator.normal(0, 8, x[1::4].shape))
    x[2::4] = generator.integers(-96, 97, x[2::4].shape) / 16
    x[3::16], x[7::16] = 0, x[7::16] * 1e-41
    x = x.astype(np.float32)
    differ = compared = 0
    for name, kind in ML_DTYPES.items():
        blocks = x.reshape(-1, 32).astype(np.float64)
        largest = np.abs(blocks).max(axis=1, keepdims=True)
        exponent = np.frexp(largest)[1] - 1 - ELEMENTS[name].largest_exponent
        scale = np.ldexp(1.0, np.where(largest > 0, np.clip(exponent, -127, 127), -127))
        inside = np.clip(blocks / scale, -ELEMENTS[name].largest, ELEMENTS[name].largest).astype(np.float32)
        expected = (inside.astype(kind).astype(np.float64) * scale).reshape(x.shape)
        differ += int(np.count_nonzero(quantize(x, MX(name)) != expected))
        compared += x.size
    figures = (Figure("values that differ", differ), Figure("values compared", compared))
    return Evidence(holds=differ == 0, figures=figures, trials=compared, seed=SEED)


@claim(
    id="ours.formats",
    title="Each format is its specification, bit for bit",
    statement=r"""The microscaling formats of this library (MXFP4, MXFP6, MXFP8 with E8M0 scales) give on every finite
float32 the value that the specification prescribes: scale from the exponent of the largest magnitude, elements rounded
half to even and saturated. The tests hold all formats against further oracles: exact rational arithmetic, gfloat, torch
and torchao.""",
    source=Source("ours", "tested", "ours"),
    chapter="interplay/formats",
    verdict=Verdict.HOLDS,
    remark="No difference on millions of values, subnormal numbers, ties and saturation among them.",
)
def formats(budget: Budget) -> Evidence:
    """Against the specification written with the casts of ml_dtypes."""
    return _against_ml_dtypes(budget, lambda x, fmt: fmt.quantize(x))


@formats.control("ties rounded away from zero")
def _(budget: Budget) -> Evidence:
    return _against_ml_dtypes(budget, _away)
