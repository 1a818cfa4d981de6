"""Claims of this book on pruning against quantization: exact layers, and both at one budget."""

from __future__ import annotations

import itertools

import numpy as np

from prunequant import optimum
from prunequant.distortion import (
    Gaussian,
    Laplace,
    StudentT,
    Uniform,
    best_scale,
    entropy_coded,
    equal_size_keep,
    pruning_snr,
    quantization_snr,
    splits,
)

from .core import Budget, Evidence, Figure, Source, Verdict, claim
from .kuzmin2023_layers import random_layer

SEED = 72


def _exact(budget: Budget, node_limit: int) -> Evidence:
    """Proofs on 4-bit layers of growing width, and enumeration on small 2-bit ones."""
    rng = np.random.default_rng(SEED)
    widths = budget.pick((20, 30, 40), (20, 30, 40, 50), (30, 40, 50, 60, 70))
    figures, proofs = [], []
    for n in widths:
        nodes = []
        for _ in range(5):
            weights, gram = random_layer(rng, n)
            found = optimum.best_quantization(weights, gram, 4, best_scale(weights, 4), node_limit)
            proofs.append((n, bool(found.proved)))
            nodes.append(found.nodes)
        figures.append(Figure(f"median nodes at n = {n}, log10", np.log10(np.median(nodes)), digits=2))
    wrong = 0
    for _ in range(budget.pick(20, 100, 1000)):
        weights, gram = random_layer(rng, 5)
        scale = best_scale(weights, 2)
        tried = np.array(list(itertools.product(range(-2, 2), repeat=5))) * scale - weights
        least = np.einsum("ij,jk,ik->i", tried, gram, tried).min()
        wrong += abs(optimum.best_quantization(weights, gram, 2, scale, node_limit).error - least) > 1e-9 * (1 + least)
    for name, some in (("n ≤ 40", [p for n, p in proofs if n <= 40]), ("n > 40", [p for n, p in proofs if n > 40])):
        if some:
            figures.append(Figure(f"proved, {name}", sum(some), f"of {len(some)}"))
    figures.append(Figure("contradictions by enumeration", wrong))
    holds = all(p for n, p in proofs if n <= 40) and wrong == 0
    return Evidence(holds=holds, figures=tuple(figures), trials=len(proofs), seed=SEED)


@claim(
    id="ours.exact_layer",
    title="The best rounding of a layer of real size can be proved",
    statement=r"""For a neuron of $n$ inputs and 4-bit weights, the least $(sq-w)^\top G(sq-w)$ over the grid is found
and proved by depth-first search over the rows of the triangular factor of $G$ in V-BLAST order: within $5\cdot10^7$
nodes for $n\le40$, on Gaussian weights and inputs whose neighbours have correlation ½.""",
    source=Source("ours", "sphere decoding in a box", "ours"),
    chapter="versus/exact-optimum",
    verdict=Verdict.HOLDS,
    remark="Ten times as many nodes for every ten inputs more, roughly; most layers are proved up to n = 70.",
)
def exact_layer(budget: Budget) -> Evidence:
    """Proved optima, and agreement with enumeration."""
    return _exact(budget, 50_000_000)


@exact_layer.control("a node limit of 300")
def _(budget: Budget) -> Evidence:
    return _exact(budget, 300)


def _joint(budget: Budget, mask: str) -> Evidence:
    """Best split of each budget for four laws against quantization alone at the same budget."""
    laws = {"normal": Gaussian(), "uniform": Uniform(), "Laplace": Laplace(), "t(3)": StudentT(3.0, 100.0)}
    gains, figures = {}, []
    for name, law in laws.items():
        for bits in budget.pick((2, 4), (2, 3, 4, 6), (2, 3, 4, 5, 6, 8)):
            rows = splits(law, bits, mask, range(2, budget.pick(9, 11, 13)))
            alone = next(row for row in rows if row.bits == bits and row.keep == 1)
            gains[name, bits] = rows[0].snr - alone.snr
            text = f"{name}, {bits} bits: {rows[0].keep:.0%} kept at {rows[0].bits} bits, gain"
            figures.append(Figure(text, gains[name, bits], "dB", digits=3))
    light = max(v for (name, _), v in gains.items() if name in ("normal", "uniform"))
    heavy = min(v for (name, _), v in gains.items() if name.startswith("t(3)"))
    return Evidence(holds=light < 1e-6 and gains["Laplace", 2] > 1 and heavy > 1, figures=tuple(figures))


@claim(
    id="ours.joint_budget",
    title="One budget for both: prune first only where the tails are heavy",
    statement=r"""Spend $B$ bits per weight on a share $k$ of the weights, kept and rounded to $b$ bits each, and on
the mask that says which: $kb+H_2(k)=B$, with $H_2$ the binary entropy. With two's-complement integers of fixed length,
on the normal and the uniform law nothing beats $k=1$, quantization alone, at $B=2,\dots,8$. On heavier tails both
together beat either: by more than 1 dB for the Laplace law at 2 bits and for Student's law with 3 degrees of freedom on
$[-100,100]$ at every $B$.""",
    source=Source("ours", "exact quadrature over all splits", "ours"),
    chapter="versus/both-at-once",
    verdict=Verdict.HOLDS,
    remark="t(3): 3.2 dB at every budget up to 4 bits, a quarter to a half kept; Laplace: 2.5 dB at 2 bits, 0 from 5.",
)
def joint_budget(budget: Budget) -> Evidence:
    """Exact signal-to-noise ratio of every split, entropy-coded mask charged."""
    return _joint(budget, "entropy")


@joint_budget.control("the mask not charged: pruning first then wins on the normal law too")
def _(budget: Budget) -> Evidence:
    return _joint(budget, "free")


LAWS = {
    "uniform": Uniform(),
    "normal": Gaussian(),
    "Laplace": Laplace(),
    "t(3) on 100": StudentT(3.0, 100.0),
    "t(2) on 100": StudentT(2.0, 100.0),
    "t(2) on 1000": StudentT(2.0, 1000.0),
}


def _coded(laws: dict, quantized, rates=(1, 2, 4)) -> Evidence:
    """Margin of `quantized(law, rate)` over pruning with an entropy-coded mask, by law and rate."""
    figures, least = [], {}
    for name, law in laws.items():
        margins = [quantized(law, r) - pruning_snr(law, 1 - equal_size_keep(r, "entropy")) for r in rates]
        least[name] = min(margins)
        text = ", ".join(f"{m:.1f}" for m in margins)
        figures.append(Figure(f"{name}: margin at {', '.join(map(str, rates))} bits stored", text, "dB"))
    return Evidence(holds=min(least.values()) > 0, figures=tuple(figures))


@claim(
    id="ours.entropy_coded",
    title="With both sides entropy-coded, heavy tails are no exception",
    statement=r"""Store the mask of a pruned tensor in $H_2(k)$ bits per weight, its kept weights in 16, and the
integers of a uniform quantizer in their entropy. On the uniform, normal and Laplace laws, on Student's law with 3
degrees of freedom on $[-100,100]$ and with 2 on $[-100,100]$ and $[-1000,1000]$, quantization has the higher
signal-to-noise ratio at equal stored size, at 1, 2 and 4 bits per weight.""",
    source=Source("ours", "exact quadrature", "ours"),
    chapter="versus/counting-bits",
    verdict=Verdict.HOLDS,
    remark="t(2) on [−100, 100] at 2 bits: 14.4 dB against 8.3 for pruning; integers of fixed length reach only 3.2.",
)
def coded_both(budget: Budget) -> Evidence:
    """A grid of 2^14 levels, its step chosen so that the entropy is the size."""
    return _coded(LAWS, lambda law, rate: entropy_coded(law, rate).snr)


@coded_both.control("integers of fixed length")
def _(budget: Budget) -> Evidence:
    heavy = {name: law for name, law in LAWS.items() if name.startswith("t(")}
    return _coded(heavy, quantization_snr, (2, 4))


@coded_both.control("t(2.1) on the whole line, where 2^14 levels do not reach the tail")
def _(budget: Budget) -> Evidence:
    return _coded({"t(2.1)": StudentT(2.1)}, lambda law, rate: entropy_coded(law, rate).snr)
