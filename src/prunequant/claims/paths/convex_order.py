"""Claims of Zhang and Saab on convex order (arXiv 2412.18184)."""

import numpy as np

from prunequant.path_following import convex_order, theory

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2412


def random_laws(count: int):
    """Mean-zero laws on at most five points, scaled to |X| ≤ 1, and the fair coin."""
    rng = np.random.default_rng(SEED)
    yield np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    for k in range(count - 1):
        size = 2 + k % 4
        p = rng.dirichlet(np.full(size, rng.choice([0.3, 1.0, 5.0])))
        x = rng.uniform(-1, 1, size)
        x -= x @ p
        yield x / np.abs(x).max(), p


def _convex_order(budget: Budget, constant: float) -> Evidence:
    """Least Gaussian variance above each law, above sums, and above sums whose second law depends on the first."""
    laws = list(random_laws(budget.pick(400, 2000, 20_000)))
    single = [convex_order.least_gaussian(*law) ** 2 for law in laws]
    sums, dependent = [], []
    for (x, p), (y, q) in zip(laws[:-1:2], laws[1::2]):
        sums.append(convex_order.least_gaussian(*convex_order.convolve(x, p, y, q)) ** 2)
        # given the first value, the second step is ±1 scaled by a function of it: a martingale, not a sum
        reach = np.abs(np.cos(3 * x))
        values, weights = np.concatenate([x - reach, x + reach]), np.concatenate([p, p]) / 2
        dependent.append(convex_order.least_gaussian(values, weights) ** 2)
    largest = max(max(single), max(sums) / 2, max(dependent) / 2)
    limit = constant * (1 + 1e-12)
    wrong = sum(v > limit for v in single) + sum(v > 2 * limit for v in (*sums, *dependent))
    figures = (
        Figure("laws, sums and martingale steps not dominated", int(wrong)),
        Figure("largest least variance, in units of M²", float(largest), digits=5),
    )
    bound = Figure("variance claimed", constant, digits=5)
    trials = len(single) + len(sums) + len(dependent)
    return Evidence(wrong == 0, figures, bound, slack=constant / largest, trials=trials, seed=SEED)


@claim(
    id="zhang2025.convex_order",
    title="What is bounded and centred lies below a Gaussian",
    statement=r"""Write $X\le_{cx}Y$ if $\mathbb E f(X)\le\mathbb E f(Y)$ for every convex $f$. If $\mathbb E X=0$ and
$|X|\le M$, then $X\le_{cx}\mathcal N(0,\tfrac\pi2M^2)$. The order is kept by linear maps, by adding steps that are
dominated given the past, and $A\preceq B$ gives $\mathcal N(0,A)\le_{cx}\mathcal N(0,B)$.""",
    source=Source("zhang2025", "convex order lemmas"),
    verdict=Verdict.HOLDS,
    remark=r"The constant $\pi/2$ is attained by the fair coin $\pm M$: every other law needs less.",
)
def convex_order_claim(budget: Budget) -> Evidence:
    """Exact comparison of stop-loss functions over random laws, sums and martingale steps."""
    return _convex_order(budget, theory.PAPER_CONSTANT)


@convex_order_claim.control("variance M² instead of πM²/2")
def _(budget: Budget) -> Evidence:
    return _convex_order(budget, 1.0)
