"""Claims of Harma et al. 2025 on dot products: theorem 3.9."""

import numpy as np

from prunequant.formats import Integer, named
from prunequant.interplay import dot_products

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 39
FORMATS = ("INT8", "INT4", "HBFP6", "MXFP4")


def _products(budget: Budget):
    trials = budget.pick(2_000, 20_000, 200_000)
    generator = np.random.default_rng(SEED)
    x, w = generator.standard_normal((trials, 256)), generator.standard_normal((trials, 256))
    return trials, {name: dot_products(x, w, named(name), "2:4") for name in FORMATS}


@claim(
    id="harma2025.theorem3_9",
    title="In dot products the two are not orthogonal, as a rule they are sub-additive",
    statement=r"""Write $r_i=x_iw_i-q(x)_iq(w)_i$, and let the scales of $w$ survive pruning. The error of
$\langle q(x),q(s(w))\rangle$ is $\varepsilon_Q+\varepsilon_S-\sum_{i\in P}r_i$, the errors of quantization and of
pruning alone less the quantization errors of the pruned products. So there are $x,w$ for which its magnitude exceeds
$|\varepsilon_Q|+|\varepsilon_S|$; but over Gaussian $x,w$ its root mean square stays below the sum of theirs.""",
    source=Source("harma2025", "Theorem 3.9"),
    verdict=Verdict.HOLDS,
    remark="True as existence: about one dot product in five exceeds the sum, the root mean square never does. For "
    "one dot product the better order is close to a coin toss.",
)
def theorem3_9(budget: Budget) -> Evidence:
    """The witness, the identity to rounding, the share of exceedances and the root mean squares."""
    witness = dot_products([[0.0, 1, 1, 0]], [[7, 3.4, 1.6, 0]], Integer(4), "2:4")
    trials, all_of = _products(budget)
    residual = max(float(np.abs(d.sq - (d.q + d.s - d.interaction)).max()) for d in all_of.values())
    figures = [
        Figure("witness: error of both", float(np.abs(witness.sq[0]))),
        Figure("witness: sum of the errors", float(np.abs(witness.s[0]) + np.abs(witness.q[0]))),
        Figure("largest residual of the identity", "below 1e-11" if residual < 1e-11 else f"{residual:.1e}"),
    ]
    for name, d in all_of.items():
        figures.append(Figure(f"{name}: exceed the sum, prune first", d.exceeds("sq"), digits=2))
        figures.append(Figure(f"{name}: exceed the sum, quantize first", d.exceeds("qs"), digits=2))
        figures.append(Figure(f"{name}: RMS over the sum of RMS", d.rms("sq") / (d.rms("s") + d.rms("q")), digits=2))
    int4 = all_of["INT4"]
    figures.append(Figure("INT4: quantize first is the closer one", int4.qs_better, digits=2))
    holds = (
        witness.exceeds("sq") == 1
        and residual < 1e-11
        and all(d.exceeds("sq") > 0 and d.rms("sq") < d.rms("s") + d.rms("q") for d in all_of.values())
    )
    return Evidence(holds=holds, figures=tuple(figures), trials=trials, seed=SEED)


@theorem3_9.control("the root mean square claimed to exceed the sum")
def _(budget: Budget) -> Evidence:
    trials, all_of = _products(budget)
    ratios = {name: d.rms("sq") / (d.rms("s") + d.rms("q")) for name, d in all_of.items()}
    figures = [Figure(f"{name}: RMS over the sum of RMS", ratio, digits=2) for name, ratio in ratios.items()]
    return Evidence(holds=any(ratio > 1 for ratio in ratios.values()), figures=tuple(figures), trials=trials, seed=SEED)


@theorem3_9.control("the identity without its interaction term")
def _(budget: Budget) -> Evidence:
    trials, all_of = _products(budget)
    residual = max(float(np.abs(d.sq - (d.q + d.s)).max()) for d in all_of.values())
    return Evidence(
        holds=residual < 1e-11, figures=(Figure("largest residual", residual, digits=2),), trials=trials, seed=SEED
    )
