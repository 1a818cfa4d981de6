"""Claims of Harma et al. 2025 on dot products: theorem 3.9; and what is true of it on the mean."""

import numpy as np
from numpy.typing import NDArray

from prunequant.formats import Integer, named
from prunequant.interplay import DotProducts, dot_products

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim

SEED = 39
FORMATS = ("INT8", "INT4", "HBFP6", "MXFP4")


def _pairs(budget: Budget) -> tuple[NDArray, NDArray]:
    generator = np.random.default_rng(SEED)
    shape = (budget.pick(2_000, 20_000, 200_000), 256)
    return generator.standard_normal(shape), generator.standard_normal(shape)


def _products(x: NDArray, w: NDArray) -> dict[str, DotProducts]:
    return {name: dot_products(x, w, named(name), "2:4") for name in FORMATS}


WITNESS = "the witness exceeds the sum, whichever order"
SOME = "some Gaussian dot products exceed it in every format"


@claim(
    id="harma2025.theorem3_9",
    title="In dot products the two are not orthogonal",
    statement=r"""There are inputs $x$ and weights $w$ for which the error of the dot product of quantized inputs with
pruned and quantized weights exceeds the sum of the errors that quantization and pruning make alone.""",
    source=Source("harma2025", "Theorem 3.9"),
    verdict=Verdict.HOLDS,
    remark="True as existence: about one dot product in five exceeds the sum. For one dot product the better order is "
    "close to a coin toss.",
)
def theorem3_9(budget: Budget) -> Evidence:
    """The witness, and the share of exceedances among Gaussian dot products in four formats."""
    return _exceeding(budget, [[7, 3.4, 1.6, 0]])


def _exceeding(budget: Budget, weights: list[list[float]]) -> Evidence:
    witness = dot_products([[0.0, 1, 1, 0]], weights, Integer(4), "2:4")
    x, w = _pairs(budget)
    all_of = _products(x, w)
    figures = [
        Figure("witness: error of both", float(np.abs(witness.sq[0]))),
        Figure("witness: sum of the errors", float(np.abs(witness.s[0]) + np.abs(witness.q[0]))),
    ]
    for name, d in all_of.items():
        figures.append(Figure(f"{name}: exceed the sum, prune first", d.exceeds("sq"), digits=2))
        figures.append(Figure(f"{name}: exceed the sum, quantize first", d.exceeds("qs"), digits=2))
    figures.append(Figure("INT4: quantize first is the closer one", all_of["INT4"].qs_better, digits=2))
    holds = {
        WITNESS: witness.exceeds("sq") == witness.exceeds("qs") == 1,
        SOME: all(d.exceeds("sq") > 0 for d in all_of.values()),
    }
    return Evidence(holds, tuple(figures), trials=len(x), seed=SEED)


@theorem3_9.control("a witness whose weights lie on the grid: there is nothing to cancel", breaks=WITNESS)
def _(budget: Budget) -> Evidence:
    return _exceeding(budget, [[7, 3, 2, 0]])


IDENTITY = "the error of both is that of each less the errors of the pruned products, to 1e-11"
BOTH_SIDES = "inputs and weights are quantized, counted apart"
BELOW = "the root mean square stays below the sum of theirs, in every format"


def _identity(budget: Budget, quantized_inputs: bool = True, interaction: bool = True, below: float = 1) -> Evidence:
    x, w = _pairs(budget)
    all_of = _products(x, w)
    residual = {
        name: float(np.abs(d.sq - (d.q + d.s - (d.interaction if interaction else 0))).max())
        for name, d in all_of.items()
    }
    apart = 0.0
    for name, d in all_of.items():
        fmt = named(name)
        inputs = fmt.quantize(x) if quantized_inputs else x
        apart = max(apart, float(np.abs(np.einsum("ij,ij->i", x, w) - np.einsum(
            "ij,ij->i", inputs, fmt.quantize(w)) - d.q).max()))  # fmt: skip
    ratios = {name: d.rms("sq") / (d.rms("s") + d.rms("q")) for name, d in all_of.items()}
    worst = max(residual.values())
    figures = [Figure("largest residual of the identity", "below 1e-11" if worst < 1e-11 else f"{worst:.1e}")]
    figures += [Figure(f"{name}: RMS over the sum of RMS", ratio, digits=2) for name, ratio in ratios.items()]
    holds = {IDENTITY: worst < 1e-11, BOTH_SIDES: apart < 1e-9, BELOW: all(r < below for r in ratios.values())}
    return Evidence(holds, tuple(figures), trials=len(x), seed=SEED)


@claim(
    id="ours.dot_products",
    title="The error of both is that of each, less the errors that pruning takes away",
    statement=r"""Write $r_i=x_iw_i-q(x)_iq(w)_i$, and let the scales of $w$ survive pruning. The error of
$\langle q(x),q(s(w))\rangle$ is $\varepsilon_Q+\varepsilon_S-\sum_{i\in P}r_i$, the errors of quantization and of
pruning alone less the quantization errors of the pruned products. Over Gaussian $x,w$ its root mean square stays below
the sum of theirs.""",
    source=Source("ours", "dot products", "ours"),
    verdict=Verdict.HOLDS,
    remark="As a rule the two are sub-additive: the root mean square of both never reaches the sum of the two.",
    changes=(Change(None, "It stood in the claim on theorem 3.9, of which only the existence is the paper's."),),
)
def identity(budget: Budget) -> Evidence:
    """The identity to rounding, quantization of both sides counted apart, and root mean squares in four formats."""
    return _identity(budget)


@identity.control("the identity without its interaction term", breaks=IDENTITY)
def _(budget: Budget) -> Evidence:
    return _identity(budget, interaction=False)


@identity.control("inputs that are not quantized", breaks=BOTH_SIDES)
def _(budget: Budget) -> Evidence:
    return _identity(budget, quantized_inputs=False)


@identity.control("the root mean square claimed to stay below half of the sum", breaks=BELOW)
def _(budget: Budget) -> Evidence:
    return _identity(budget, below=0.5)
