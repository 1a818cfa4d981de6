"""Claims of this book on one triangle for every method, and on alignment as a triangular solve."""

import numpy as np
from numpy.linalg import cholesky, inv

from prunequant.path_following import Grid, compress, gram
from prunequant.path_following.operators import uniforms
from prunequant.path_following.triangle import triangular_rounding

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2412


def literal_alignment(w, x, y, order: int):
    """SPFQ's first phase as rank-one updates, one feature after the other."""
    out, u = np.zeros_like(w), np.zeros((len(x), w.shape[1]))
    for sweep in range(order):
        for t in range(len(w)):
            u += np.outer(x[:, t], w[t]) if sweep == 0 else np.outer(y[:, t], out[t])
            out[t] = y[:, t] @ u / (y[:, t] @ y[:, t])
            u -= np.outer(y[:, t], out[t])
    return out


def literal_gpfq(w, x, y, step: float):
    """GPFQ for changed inputs, one phase, nearest grid point."""
    q, u = np.zeros_like(w), np.zeros((len(x), w.shape[1]))
    for t in range(len(w)):
        u += np.outer(x[:, t], w[t])
        q[t] = step * np.rint(y[:, t] @ u / (y[:, t] @ y[:, t]) / step)
        u -= np.outer(y[:, t], q[t])
    return q


def _alignment(budget: Budget, solve) -> Evidence:
    worst, differing, decisions = 0.0, 0, 0
    trials = budget.pick(6, 30, 300)
    rng = np.random.default_rng(SEED)
    for trial in range(trials):
        samples, features = (60, 24) if trial % 2 else (16, 40)
        x = rng.standard_normal((samples, features))
        y = x + 0.3 * rng.standard_normal(x.shape)
        w = rng.standard_normal((features, 8))
        for order in (1, 2, 4):
            expected = literal_alignment(w, x, y, order)
            solution = solve(w, x, y, order)
            worst = max(worst, float(np.abs(expected - solution).max() / np.abs(expected).max()))
        expected = literal_gpfq(w, x, y, 0.25)
        solution = compress(w, x, Grid(0.25, False), quantized_inputs=y).weights
        differing += int(np.sum(np.abs(solution - expected) > 0.1))
        decisions += solution.size
    figures = (
        Figure("agreement of alignment to 1e-10", "yes" if worst < 1e-10 else "no"),
        Figure("order-1 nearest rounding differs from GPFQ", differing, "weights"),
        Figure("weights compared", decisions),
    )
    holds = {
        "passes are solves and sweeps, to 1e-10": worst < 1e-10,
        "order 1 and nearest rounding give GPFQ's weights": differing == 0,
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="ours.alignment",
    title="Data alignment is a triangular solve and then Gauss-Seidel",
    statement=r"""For original inputs $X$ and changed inputs $\tilde X$ let $H=\tilde X^\top\tilde X$, $B=\tilde
X^\top X$. The first pass of SPFQ's alignment solves $\mathrm{tril}(H)\tilde w=\mathrm{tril}(B)w$; every further pass
is one Gauss-Seidel sweep on $H\tilde w=Bw$. Order-1 alignment followed by nearest rounding is GPFQ for changed
inputs.""",
    source=Source("ours", "path following, alignment", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="Passes of rank-one updates become one matrix product and one triangular solve each.",
)
def alignment(budget: Budget) -> Evidence:
    """The library's solves against the rank-one recursion, more and fewer samples than features."""
    return _alignment(budget, gram.align)


@alignment.control("the upper triangle instead of the lower", breaks="passes are solves and sweeps, to 1e-10")
def _(budget: Budget) -> Evidence:
    def upper(w, x, y, order):
        return np.linalg.lstsq(np.triu(y.T @ y), np.triu(y.T @ x) @ w, rcond=None)[0]

    return _alignment(budget, upper)


def independent_methods(w, x, step: float, seed: int) -> dict:
    """Round to nearest, GPFQ, SPFQ (the same draws) and textbook OPTQ, each as its own authors write it."""
    features, neurons = w.shape
    draws = uniforms(features, neurons, seed).astype(np.float64)
    out = {"nearest": step * np.rint(w / step)}
    for name in ("GPFQ", "SPFQ"):
        q, u = np.zeros_like(w), np.zeros((len(x), w.shape[1]))
        for t in range(len(w)):
            v = (w[t] + x[:, t] @ u / (x[:, t] @ x[:, t])) / step
            low = np.floor(v)
            q[t] = step * (np.rint(v) if name == "GPFQ" else low + (draws[t] < v - low))
            u += np.outer(x[:, t], w[t] - q[t])
        out[name] = q
    h = x.T @ x
    h += 0.01 * np.mean(np.diag(h)) * np.eye(len(h))
    upper, rest, q = cholesky(inv(h)).T, w.copy(), np.zeros_like(w)
    for t in range(len(w)):
        q[t] = step * np.rint(rest[t] / step)
        rest[t + 1 :] -= np.outer(upper[t, t + 1 :], (rest[t] - q[t]) / upper[t, t])
    return out | {"OPTQ": q}


def _triangular(budget: Budget, factor_of_optq) -> Evidence:
    """One kernel with four factors against four implementations: differing weights."""
    trials = budget.pick(4, 20, 200)
    rng = np.random.default_rng(SEED)
    differing, compared = dict.fromkeys(("OPTQ", "SPFQ", "GPFQ", "nearest"), 0), 0
    for trial in range(trials):
        samples, features, neurons = (150, 70, 24) if trial % 2 else (40, 90, 24)
        x, w = rng.standard_normal((samples, features)), rng.standard_normal((features, neurons))
        expected = independent_methods(w, x, 0.25, trial)
        path = gram.feedback_factor(x, "path")
        none = np.zeros((features, features)), np.zeros(features)
        rules = {
            "nearest": (*none, False),
            "GPFQ": (*path, False),
            "SPFQ": (*path, True),
            "OPTQ": (factor_of_optq(x), np.ones(features), False),
        }
        for name, (factor, gain, stochastic) in rules.items():
            rounded = triangular_rounding(w, factor, gain, Grid(0.25, stochastic), seed=trial)
            differing[name] += int(np.sum(rounded != expected[name]))
        compared += w.size
    figures = (
        *(Figure(f"{name}: weights that differ", count) for name, count in differing.items()),
        Figure("weights compared, each", compared),
    )
    holds = {f"the weights of {name} are those of its own implementation": n == 0 for name, n in differing.items()}
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="ours.triangular",
    title="Nearest, GPFQ, SPFQ and OPTQ are one triangular rounding",
    statement=r"""Every sequential rounding whose feedback is a fixed linear function of the errors before it is
$v=w+M(w-q)$, $q_t=\mathcal T(v_t)$, with $M$ strictly lower triangular: $M=0$ for memoryless rounding,
$M=\frac1C\mathrm{diag}(G)^{-1}\mathrm{tril}(G,-1)$ for GPFQ (nearest) and SPFQ (stochastic), $M=L-I$ for OPTQ, where
$G+\lambda I=L^\top DL$ with $L$ unit lower triangular: the Cholesky factor of the reversed features, without an
inverse.""",
    source=Source("ours", "path following, one triangle (OPTQ's form is known)", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="One kernel gives the very same weights as four independent implementations.",
)
def triangular(budget: Budget) -> Evidence:
    """Weight by weight against independent implementations, with the same random draws for SPFQ."""
    return _triangular(budget, lambda x: gram.reversed_cholesky(gram.damped(x.T @ x, 0.01))[0])


@triangular.control(
    "the Cholesky factor of the features in their given order",
    breaks="the weights of OPTQ are those of its own implementation",
)
def _(budget: Budget) -> Evidence:
    def forward(x):
        lower = cholesky(gram.damped(x.T @ x, 0.01))
        return lower / np.diagonal(lower)

    return _triangular(budget, forward)
