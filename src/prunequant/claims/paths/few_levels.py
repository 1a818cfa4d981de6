"""Claims of Zhang and Saab on finite alphabets, down to one bit (arXiv 2412.18184)."""

import numpy as np
from scipy import stats

from prunequant.path_following import FiniteGrid, Grid, OneBit, compress, theory
from prunequant.studies import paths as studies

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2412
FAILURE = 0.01


def _finite_alphabet(budget: Budget, spare) -> Evidence:
    """Share of walks that are clipped on a grid with `spare(...)` levels beyond the largest weight."""
    seeds, samples, step = budget.pick(1000, 4000, 5000), 48, 0.25
    clipped, needed, offered, rows = 0, [], [], 0
    for features in budget.pick((64, 256), (64, 256, 1024), (64, 256, 1024, 4096)):
        for kind in ("white", "relu", "digits"):
            x = studies.data(kind, samples, features, SEED)
            norms = np.linalg.norm(x, axis=0)
            x = x[:, norms > 0] / norms[norms > 0]
            w = np.random.default_rng(SEED).uniform(-1, 1, (x.shape[1], seeds))
            for scaling in (1.0, 4.0):
                levels = spare(x.shape[1], samples, scaling, step)
                result = compress(w, x, FiniteGrid(step, 2 * levels + 1), scaling=scaling, seed=SEED)
                clipped = max(clipped, int(np.sum(np.asarray(result.saturation) > 0)))
                free = np.abs(compress(w, x, Grid(step), scaling=scaling, seed=SEED).weights).max(axis=0)
                needed.append(float(np.quantile(free, 1 - FAILURE)) / step - 1 / step)
                offered.append(levels - 1 / step)
                rows += 1
    allowed = stats.binom.isf(1e-4, seeds, FAILURE)
    figures = (
        Figure("clipped walks, most in one case", clipped),
        Figure("spare levels a side, most offered", max(offered)),
        Figure("spare levels a side, most used by 99 % of walks", max(needed), digits=2),
    )
    slack = min(o / max(n, 1.0) for o, n in zip(offered, needed))
    return Evidence(clipped <= allowed, figures, slack=slack, trials=seeds * rows, seed=SEED)


@claim(
    id="zhang2025.finite_alphabet",
    title="A few levels more, and nothing is ever clipped",
    statement=r"""Let $\rho=\max_{s,t}\|X_s\|/\|X_t\|$. A grid $\{k\delta:|k|\le K\}$ with
$K\delta\ge\|w\|_\infty+\delta\rho\sqrt{2\pi p\log N_0/(2C-1)}$ is never left, with probability at least
$1-\sqrt2(m+N_0)N_0^{-p}$, and then the bound of the infinite grid holds. So the bits grow like $\log\log N_0$.""",
    source=Source("zhang2025", "finite alphabet theorem"),
    verdict=Verdict.LOOSE,
    factor=2,
    remark="No walk was clipped; one or two spare levels a side are really used where the theorem offers up to nine.",
)
def finite_alphabet(budget: Budget) -> Evidence:
    """Clipping frequency on the theorem's alphabet, and the levels that walks on an infinite grid would use."""
    return _finite_alphabet(budget, lambda n, m, c, step: theory.levels_needed(1.0, step, 1.0, n, m, c, FAILURE))


@finite_alphabet.control("an alphabet that covers the weights and nothing more")
def _(budget: Budget) -> Evidence:
    return _finite_alphabet(budget, lambda n, m, c, step: round(1 / step))


def _one_bit(budget: Budget, scaling_of) -> Evidence:
    """Two values only: share of walks that leave [−K, K], and the error against the bound, for growing N₀."""
    seeds, samples = budget.pick(200, 400, 2000), 32
    sizes = budget.pick((64, 256, 1024), (64, 256, 1024, 4096), (64, 256, 1024, 4096, 8192))
    saturated, errors, signs, slack = 0, [], [], []
    for features in sizes:
        x = studies.data("white", samples, features, SEED)
        x /= np.linalg.norm(x, axis=0)
        w = np.random.default_rng(SEED).uniform(-1, 1, (features, seeds))
        scaling = scaling_of(features)
        result = compress(w, x, OneBit(2.0), scaling=scaling, seed=SEED)
        saturated = max(saturated, int(np.sum(np.asarray(result.saturation) > 0)))
        errors.append(float(np.quantile(result.error, 0.99)))
        slack.append(theory.one_bit_bound(2.0, scaling, 1.0, samples, FAILURE) / errors[-1])
        signs.append(float(np.quantile(np.abs(x @ (w - np.sign(w))).max(0), 0.99)))
    growth = [float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) for values in (errors, signs)]
    figures = (
        Figure("walks with a value clipped, most in one size", saturated),
        Figure(f"99th percentile of the error at N₀ = {sizes[-1]}", errors[-1]),
        Figure(f"the same for the plain sign at N₀ = {sizes[-1]}", signs[-1]),
        Figure("growth exponent of the plain sign's error", growth[1], digits=2),
    )
    holds = saturated <= stats.binom.isf(1e-4, seeds, FAILURE) and min(slack) >= 1
    return Evidence(holds, figures, slack=min(slack), trials=seeds * len(sizes), seed=SEED)


@claim(
    id="zhang2025.one_bit",
    title="One bit, two values, a logarithmic error",
    statement=r"""With $K=2\|w\|_\infty$ and $C\ge\frac12\left(1+8\rho^2\log\frac{2N_0}{\epsilon}\right)$, rounding to
$\{-K,K\}$ never meets a value outside $[-K,K]$ with probability $1-\epsilon$, and then, with probability
$1-2\epsilon$, $\|Xw-Xq\|_\infty\le K\frac{C}{\sqrt{2C-1}}\max_t\|X_t\|\sqrt{2\log(2m/\epsilon)}$: logarithmic in
$N_0$.""",
    source=Source("zhang2025", "one-bit theorem; constants ours"),
    verdict=Verdict.HOLDS,
    remark="It holds, but the scaling of 40 to 60 that it needs makes two values no better than plain signs until "
    "about ten thousand features.",
)
def one_bit(budget: Budget) -> Evidence:
    """Saturation zero and the error under its bound for N₀ = 64 … 8192."""
    return _one_bit(budget, lambda features: theory.one_bit_scaling(features, 1.0, FAILURE))


@one_bit.control("scaling C = 1")
def _(budget: Budget) -> Evidence:
    return _one_bit(budget, lambda features: 1.0)
