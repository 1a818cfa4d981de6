"""Claims of Zhang and Saab on quantization along a path (arXiv 2412.18184)."""

import numpy as np
from scipy import stats

from prunequant.path_following import Grid, compress, theory
from prunequant.studies import paths as studies

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2412
FAILURE = 0.01


def _domination(budget: Budget, stochastic: bool) -> Evidence:
    """Mean, covariance and Laplace transform of the walk, over many roundings of the same weights."""
    runs = budget.pick(3000, 20_000, 200_000)
    samples, features = 12, 48
    rng = np.random.default_rng(SEED)
    holds, share, drift, cases = True, [], 0.0, 0
    for kind in studies.DATA:
        x = studies.data(kind, samples, features, SEED)
        w = rng.uniform(-1, 1, features)
        for scaling in (1.0, 4.0):
            for stop in (features // 2, features):
                seen = x[:, :stop]
                same = np.repeat(w[:stop, None], runs, axis=1)
                q = compress(same, seen, Grid(0.5, stochastic), scaling=scaling, seed=SEED + cases).weights
                u = seen @ (same - q)
                variance = theory.domination_variance(0.5, scaling, theory.column_norms(seen)[0])
                error = np.sqrt(variance / runs)
                drift = max(drift, float(np.abs(u.mean(1)).max() / error))
                top = float(np.linalg.eigvalsh(np.cov(u)).max())
                share.append(top / variance)
                directions = rng.standard_normal((20, samples))
                directions /= np.linalg.norm(directions, axis=1, keepdims=True) * np.sqrt(variance)
                for size in (0.02, 0.5, 1.0):
                    values = np.exp(size * directions @ u)
                    low = values.mean(1) - 6 * values.std(1) / np.sqrt(runs)
                    holds &= bool(np.all(low <= np.exp(size**2 / 2) * (1 + 1e-12)))
                cases += 1
    holds &= drift <= 6 and max(share) <= 1
    top = round(max(share), 9)  # without coins all walks are one, and their covariance is zero up to rounding
    figures = (
        Figure("largest mean of u, in standard errors of the bound", drift, digits=2),
        Figure("largest eigenvalue of Cov u, in units of σ²", top, digits=2),
        Figure("data × scaling × step cases", cases),
    )
    return Evidence(holds, figures, trials=runs, seed=SEED)


@claim(
    id="zhang2025.domination",
    title="The walk never leaves the shadow of a Gaussian",
    statement=r"""Let $\mathcal T$ be unbiased with $|\mathcal T(x)-x|\le M$ and $C\ge1$. For any weights and inputs,
$u_t=\sum_{s\le t}(w_s-q_s)X_s$ satisfies $u_t\le_{cx}\mathcal N(0,\sigma_t^2I)$ with
$\sigma_t^2=\frac{\pi M^2}{2}\frac{C^2}{2C-1}\max_{j\le t}\|X_j\|^2\le\frac{\pi CM^2}{2}\max_{j\le t}\|X_j\|^2$.""",
    source=Source("zhang2025", "Gaussian domination theorem"),
    verdict=Verdict.HOLDS,
    remark="No assumption on weights or inputs is needed; the randomness of the rounding does all the work.",
)
def domination(budget: Budget) -> Evidence:
    """Covariance below σ²I, mean zero, Laplace transforms below the Gaussian's, for five kinds of data."""
    return _domination(budget, stochastic=True)


@domination.control("nearest rounding, which is not mean zero")
def _(budget: Budget) -> Evidence:
    return _domination(budget, stochastic=False)


def coverage_evidence(rows: list[dict], what: str, note: str = "") -> Evidence:
    """Bounds are passed no more often than allowed; the slack is the least over all cases."""
    failure, seeds = rows[0]["failure"], rows[0]["seeds"]
    most = max(row[f"{what}_passed"] for row in rows)
    slack = [row[f"{what}_slack"] for row in rows]
    figures = (
        Figure("walks above the bound, most in one case", most),
        Figure("allowed on average", failure * seeds),
        Figure("cases (data × operator × scaling)", len(rows)),
        Figure("slack, largest of all cases", max(slack)),
    )
    holds = all(stats.binom.sf(row[f"{what}_passed"] - 1, seeds, failure) > 1e-4 for row in rows)
    return Evidence(holds, figures, slack=min(slack), trials=seeds * len(rows), seed=SEED, note=note)


def coverage_rows(budget: Budget, operators, scalings=(1.0, 4.0), kinds=studies.DATA, failure=FAILURE) -> list[dict]:
    """`studies.coverage` over kinds of data, operators and scalings; at least 1000 seeds a case."""
    seeds = budget.pick(1000, 5000, 20_000)
    samples, features = budget.pick((48, 96), (64, 256), (64, 512))
    return [
        studies.coverage(kind, operator, c, samples, features, seeds, failure, SEED)
        for kind in kinds
        for operator in operators
        for c in scalings
    ]


@claim(
    id="zhang2025.quantization",
    title="The sup-norm error of quantization along a path",
    statement=r"""Stochastic rounding to the grid $\delta\mathbb Z$ with feedback $1/C$ satisfies, for any weights,
$\|Xw-Xq\|_\infty\le\delta\sqrt{2\pi C\,p\log N_0}\;\max_t\|X_t\|_2$ with probability at least
$1-\sqrt2\,m\,N_0^{-p}$, for $N_0$ features and $m$ samples.""",
    source=Source("zhang2025", "error bound, infinite alphabet"),
    verdict=Verdict.LOOSE,
    factor=5,
    remark="True for every kind of data, with a factor of six to spare on the best of them and of tens with outlier "
    "channels: the bound charges every feature for the largest one.",
)
def quantization(budget: Budget) -> Evidence:
    """Coverage over seeds, five kinds of data, two scalings; slack against the 99th percentile of the error."""
    return coverage_evidence(coverage_rows(budget, [Grid(0.25)]), "bound")


@quantization.control("the factor max‖X_t‖ left out, inputs ten times larger")
def _(budget: Budget) -> Evidence:
    x = 10 * studies.data("white", 48, 96, SEED)
    w = np.random.default_rng(SEED).uniform(-1, 1, (96, 1000))
    error = compress(w, x, Grid(0.25), seed=SEED).error
    bound = theory.error_bound(0.25, 1.0, 1.0, 48, FAILURE)
    passed = int(np.sum(error > bound))
    return Evidence(passed <= 30, (Figure("walks above the bound", passed),), trials=1000, seed=SEED)
