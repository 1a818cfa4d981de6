"""Claims on pruning along a path, alone and with quantization, and on how much can be pruned."""

import numpy as np

from prunequant.path_following import Prune, PruneThenQuantize, compress, theory
from prunequant.studies import paths as studies

from ..core import Budget, Evidence, Figure, Source, Verdict, claim
from .path_following import coverage_evidence, coverage_rows

SEED = 2412
FAILURE = 0.01


def _weak_feedback(stochastic: bool) -> tuple[int, int, float, float]:
    """Walks above the bound where a drift has room to grow: all inputs near one, positive weights, weak correction."""
    samples, features, scaling, size = 4, 2500, 2000.0, 1.0
    rng = np.random.default_rng(SEED)
    x = rng.uniform(1.0, 1.2, (samples, features))
    w = rng.uniform(0.2, 0.8, (features, 60))
    result = compress(w, x, Prune(size, stochastic), scaling=scaling, seed=SEED)
    bound = theory.error_bound(size, scaling, theory.column_norms(x)[0], samples, FAILURE)
    return int(np.sum(result.error > bound)), w.shape[1], bound, float(result.error.max())


@claim(
    id="zhang2025.pruning",
    title="The sup-norm error of unbiased pruning",
    statement=r"""Let $\mathcal P_K(x)=x$ for $|x|\ge K$ and, below, $K\,\mathrm{sign}(x)$ with probability $|x|/K$ and
$0$ otherwise. With feedback $1/C$: $\|Xw-Xq\|_\infty\le K\sqrt{2C\pi\,p\log N_0}\;\max_t\|X_t\|_2$ with probability at
least $1-\sqrt2\,m\,N_0^{-p}$.""",
    source=Source("zhang2025", "pruning bound"),
    verdict=Verdict.LOOSE,
    factor=5,
    remark="True with a factor of six and more to spare; but being unbiased means that survivors are blown up to K.",
)
def pruning(budget: Budget) -> Evidence:
    """Coverage over seeds, five kinds of data, two scalings, and a case in which any drift would show."""
    evidence = coverage_evidence(coverage_rows(budget, [Prune(0.9)]), "bound")
    passed, walks, _, _ = _weak_feedback(True)
    figures = (*evidence.figures, Figure("walks above the bound with inputs near 1 and C = 2000", passed))
    return Evidence(
        evidence.holds and passed <= 0.1 * walks, figures, slack=evidence.slack, trials=evidence.trials, seed=SEED
    )


@pruning.control("keep-probability 0 or 1 (a hard threshold), inputs near 1, C = 2000")
def _(budget: Budget) -> Evidence:
    passed, walks, bound, error = _weak_feedback(False)
    figures = (Figure("walks above the bound", passed), Figure("largest error", error))
    return Evidence(passed <= 0.1 * walks, figures, Figure("bound", bound), trials=walks, seed=SEED)


def _reach(size: float, step: float, claimed: float) -> tuple[float, float, float]:
    """Largest |T(x) − x|, largest bias, and the claimed M, by the exact law over a fine range of x."""
    x = np.linspace(-4 * size, 4 * size, 40_001)
    values, probabilities = PruneThenQuantize(size, step).law(x)
    moved = np.where(probabilities > 1e-12, np.abs(values - x[:, None]), 0).max()
    bias = np.abs(np.sum(values * probabilities, axis=1) - x).max()
    return float(moved), float(bias), claimed


def _joint(budget: Budget, cases) -> Evidence:
    """Exact reach and bias of the composed operator, then coverage of the bound that uses the claimed M."""
    found = [_reach(size, step, m) for size, step, m in cases]
    excess = max(moved / m for moved, _, m in found)
    bias = max(b for _, b, _ in found)
    rows = coverage_rows(budget, [PruneThenQuantize(cases[0][0], cases[0][1])], scalings=(1.0,))
    covered = coverage_evidence(rows, "bound")
    figures = (
        Figure("largest |T(x) − x| over the claimed M", excess, digits=4),
        Figure("bias is zero to 1e-12", "yes" if bias < 1e-12 else "no"),
        *covered.figures[:2],
    )
    return Evidence(
        excess <= 1 + 1e-9 and bias < 1e-12 and covered.holds, figures, slack=covered.slack, trials=covered.trials,
        seed=SEED,
    )  # fmt: skip


@claim(
    id="zhang2025.joint",
    title="Pruning and then quantizing is one unbiased operator",
    statement=r"""$\mathcal Q_\delta\circ\mathcal P_K$ is unbiased and moves a weight by at most $M=K+\delta$; if $K$ is
a multiple of $\delta$, by at most $M=\max(K,\delta)$. The bound of either task holds with this $M$, so on the grid both
together cost no more than pruning alone. (The sharper case is ours.)""",
    source=Source("zhang2025", "joint pruning and quantization"),
    verdict=Verdict.HOLDS,
    remark="Choose the pruning size on the grid: quantization is then free of charge in the bound.",
)
def joint(budget: Budget) -> Evidence:
    """Sizes on and off the grid with the M that belongs to each."""
    cases = [(0.75, 0.25, 0.75), (0.25, 0.25, 0.25), (0.8, 0.25, 1.05), (1.0, 0.3, 1.3), (0.2, 0.3, 0.5)]
    return _joint(budget, cases)


@joint.control("K off the grid with M = max(K, δ)")
def _(budget: Budget) -> Evidence:
    return _joint(budget, [(0.8, 0.25, 0.8), (1.0, 0.3, 1.0)])


def _ceiling(budget: Budget, stochastic: bool) -> Evidence:
    """Share of zeros in the second half of many features, for pruning sizes far above the weights."""
    samples, features, neurons = 24, budget.pick(1500, 4000, 8000), budget.pick(32, 64, 128)
    x = studies.data("white", samples, features, SEED)
    w = np.random.default_rng(SEED).standard_normal((features, neurons))
    scalings, sizes = (1.0, 2.0, 4.0, 8.0), (30.0, 100.0)
    worst, figures = 0.0, []
    for c in scalings:
        shares = [
            float(np.mean(compress(w, x, Prune(size, stochastic), scaling=c, seed=SEED).weights[features // 2 :] == 0))
            for size in sizes
        ]
        worst = max(worst, *(abs(share - theory.sparsity_ceiling(c)) for share in shares))
        figures.append(Figure(f"zeros at C = {c:g}, K = {sizes[-1]:g}", shares[-1], digits=3))
    figures.append(Figure("largest distance from 1 − 1/(πC)", worst, digits=2))
    return Evidence(worst < 0.03, tuple(figures), trials=len(scalings) * len(sizes), seed=SEED)


@claim(
    id="ours.sparsity_ceiling",
    title="Unbiased pruning cannot prune more than 1 − 1/(πC)",
    statement=r"""With many more features than samples and a pruning size $K$ far above the weights, corrections take
over and the share of zeros that unbiased pruning with feedback $1/C$ leaves tends to $1-\frac1{\pi C}$, whatever $K$
is: 68 % at $C=1$. A larger $K$ only makes the error larger. (A fixed point with Gaussian corrections, not a
theorem.)""",
    source=Source("ours", "path following, sparsity ceiling", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="To prune 90 % one needs C of at least 3.2; on white data the error is then that of zeroing the layer, "
    "or more.",
)
def sparsity_ceiling(budget: Budget) -> Evidence:
    """Measured ceilings at four scalings and two sizes."""
    return _ceiling(budget, True)


@sparsity_ceiling.control("a biased operator: the hard threshold")
def _(budget: Budget) -> Evidence:
    return _ceiling(budget, False)
