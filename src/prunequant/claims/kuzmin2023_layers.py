"""Kuzmin et al. 2023, second half: post-training compression of a layer, both sides at their optimum."""

from __future__ import annotations

import math

import numpy as np

from prunequant import optimum
from prunequant.distortion import best_scale

from . import real_layers
from .core import Budget, Evidence, Figure, Source, Verdict, claim
from .real_records import counted_keep

PAPER = "kuzmin2023"
SEED = 1504


def random_layer(rng: np.random.Generator, n: int, correlation: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian weights, and the Gram matrix of 2n Gaussian inputs whose neighbours correlate."""
    inputs = rng.standard_normal((2 * n, n))
    for i in range(1, n):
        inputs[:, i] = correlation * inputs[:, i - 1] + math.sqrt(1 - correlation**2) * inputs[:, i]
    return rng.standard_normal(n), inputs.T @ inputs / len(inputs)


def _bound_against_optimum(budget: Budget, bound, chunked: bool = False) -> Evidence:
    """A lower bound of the error against the exact optimum, on random and on real layers, 2 bits."""
    rng = np.random.default_rng(SEED)
    n = budget.pick(16, 24, 32)
    problems = [random_layer(rng, n) for _ in range(budget.pick(4, 12, 40))]
    real = real_layers.layer("expand 24")
    problems += [real.channel(j) for j in real.channels(budget.pick(3, 12, 48))]
    gaps, violations = [], 0
    for weights, gram in problems:
        scale = best_scale(weights, 2)
        exact = optimum.best_quantization(weights, gram, 2, scale)
        below = bound(weights, gram, scale)
        violations += below > exact.error * (1 + 1e-9) or not exact.proved
        gaps.append(optimum.dual_gap_decibel(exact.error, below))
    figures = (
        Figure("bounds above the exact optimum", violations, f"of {len(gaps)}"),
        Figure("median overstatement of the reachable ratio", float(np.median(gaps)), "dB", digits=3),
        Figure("largest", float(np.max(gaps)), "dB", digits=3),
    )
    slack = 10 ** (float(np.median(gaps)) / 10)
    return Evidence(holds=violations == 0, figures=figures, slack=slack, trials=len(gaps), seed=SEED)


@claim(
    id="kuzmin2023.ptq_quantization",
    title="Semidefinite programming bounds the best rounding of a layer",
    statement=r"""Let $E^\*$ be the least of $(sq-w)^\top G\,(sq-w)$ over integer vectors $q$ of a $b$-bit grid.
    Relaxing
integrality to $x_i(x_i-1)\ge0$ around the floor of the unconstrained optimum, and $xx^\top$ to any $X\succeq xx^\top$,
gives a semidefinite programme whose value is at most $E^\*$: no rounding, however clever, does better.""",
    source=Source(PAPER, "post-training quantization, lower bound"),
    chapter="versus/exact-optimum",
    verdict=Verdict.LOOSE,
    factor=2.0,
    remark="Valid, but at 2 bits 3-7 dB above what can be reached: it ignores the ends of the grid.",
)
def ptq_quantization(budget: Budget) -> Evidence:
    """Bounds certified from a repaired dual point, against proved optima."""
    return _bound_against_optimum(budget, lambda w, g, s: optimum.sdp_bound(w, g, 2, s, box=False, cuts=0))


@ptq_quantization.control("optima of separate chunks, summed, as a bound of the layer")
def _(budget: Budget) -> Evidence:
    def chunks(w, g, s):
        parts = [slice(i, i + 8) for i in range(0, len(w), 8)]
        return sum(optimum.best_quantization(w[p], g[p, p], 2, s).error for p in parts)

    return _bound_against_optimum(budget, chunks)


def _big_m(factor: float, budget: Budget) -> Evidence:
    """Does the refitted exact optimum lie in the box factor·[min w, max w] of the big-M programme?"""
    names = budget.pick(("stem 3x3x3",), ("stem 3x3x3", "expand 24"), ("stem 3x3x3", "expand 16", "expand 24"))
    ratios, proved = [], True
    for name in names:
        layer = real_layers.layer(name)
        for j in layer.channels(budget.pick(4, 12, 32)):
            weights, gram = layer.channel(j)
            for bits in (2, 4):
                found = optimum.best_pruning(weights, gram, len(weights) * bits // 16)
                proved &= found.proved
                top, bottom = max(weights.max(), 0.0), max(-weights.min(), 0.0)
                sides = [found.values.max() / top if top else 0.0, -found.values.min() / bottom if bottom else 0.0]
                ratios.append(max(sides))
    outside = sum(r > factor for r in ratios)
    figures = (
        Figure("exact optima outside the box", outside, f"of {len(ratios)}"),
        Figure("largest refitted weight over the largest original one", max(ratios), digits=3),
        Figure("box factor", factor, digits=3),
    )
    worst = f"a refitted weight {max(ratios):.3g} times the largest original one" if outside else ""
    return Evidence(holds=outside == 0 and proved, figures=figures, trials=len(ratios), counterexample=worst)


@claim(
    id="kuzmin2023.ptq_pruning",
    title="Branch and bound finds the best mask",
    statement=r"""The least of $\|X(m\odot\hat w)-Xw\|^2$ over masks $m$ with $k$ ones and refitted values $\hat w$ with
$-m\odot l\le\hat w\le m\odot u$, $l=-c\min w$, $u=c\max w$, is the optimum of pruning with refit, found by branch
and bound.""",
    source=Source(PAPER, "post-training pruning, mixed-integer programme"),
    chapter="versus/exact-optimum",
    verdict=Verdict.CONDITIONAL,
    condition="the box must contain the optimum: the factor c = 2 of the published code does not always",
    remark="On the stem of EfficientNet-Lite0 refitted weights leave the box of c = 2. A subset search needs none.",
)
def ptq_pruning(budget: Budget) -> Evidence:
    """Exact optima by leaps and bounds, in a box wide enough."""
    return _big_m(100.0, budget)


@ptq_pruning.control("the box of factor 2")
def _(budget: Budget) -> Evidence:
    return _big_m(2.0, budget)


def margins(name: str, bits: int, channels: int, prune, scale: str = "channel", count: str = "paper", crops: int = 1):
    """Channel by channel: SNR of exact quantization, of pruning by `prune`, and whether both are proved.

    scale : "channel" or "tensor", the least-squares step of either. count : "paper" keeps floor(n·bits/16) weights
    with mask and scale free, "counted" as many as fit with both charged.
    """
    layer = real_layers.layer(name, crops)
    n, rows = len(layer.weights), []
    shared = best_scale(layer.weights, bits)
    for j in layer.channels(channels):
        weights, gram = layer.channel(j)
        keep = n * bits // 16 if count == "paper" else counted_keep(n, bits)
        step = best_scale(weights, bits) if scale == "channel" else shared
        rounded = optimum.best_quantization(weights, gram, bits, step, 2_000_000)
        pruned = prune(weights, gram, keep)
        rows.append(
            (
                float(rounded.snr(weights, gram)),
                float(pruned.snr(weights, gram)),
                bool(rounded.proved),
                bool(pruned.proved),
            )
        )
    return rows


def _contest(budget: Budget, prune, names, bits=(3, 4), scale="channel", count="paper") -> Evidence:
    rows = []
    for name in names:
        for b in bits:
            rows += margins(name, b, budget.pick(4, 12, 32), prune, scale, count)
    lead = np.array([q - p for q, p, *_ in rows])
    proved = sum(a and b for *_, a, b in rows)
    figures = (
        Figure("channels where quantization is ahead", int(np.sum(lead > 0)), f"of {len(rows)}"),
        Figure("mean margin", float(lead.mean()), "dB", digits=3),
        Figure("least margin", float(lead.min()), "dB", digits=3),
        Figure("both sides proved optimal", proved, f"of {len(rows)}"),
    )
    return Evidence(holds=proved == len(rows) and bool(np.all(lead > 0)), figures=figures, trials=len(rows))


POINTWISE = ("expand 16", "expand 24")


@claim(
    id="kuzmin2023.optimal_vs_optimal",
    title="Both at their optimum, quantization is ahead",
    statement=r"""Compress a real layer after training so that the error of its outputs is least: the best rounding
    to $b$
bits on one side, the best mask with refitted weights at sparsity $1-b/16$ on the other. At moderate compression
($b=3,4$) quantization has the higher signal-to-noise ratio in every channel.""",
    source=Source(PAPER, "post-training comparison on layers"),
    chapter="versus/exact-optimum",
    verdict=Verdict.CONDITIONAL,
    condition="pointwise layers, a step per channel; the 3×3 stem and depthwise layers have exceptions",
    remark="Ahead in all channels of the expansions. With one step a tensor, pruning wins most 3×3 depthwise channels.",
)
def optimal_vs_optimal(budget: Budget) -> Evidence:
    """Proved optima of both sides on EfficientNet-Lite0."""
    return _contest(budget, optimum.best_pruning, POINTWISE)


@optimal_vs_optimal.control("the first depthwise layer, nine inputs, one step for the tensor")
def _(budget: Budget) -> Evidence:
    return _contest(budget, optimum.best_pruning, ("depthwise 3x3",), scale="tensor")


@optimal_vs_optimal.control("magnitude pruning instead of the best mask: another margin, and no optimum")
def _(budget: Budget) -> Evidence:
    return _contest(budget, optimum.magnitude_pruning, POINTWISE)
