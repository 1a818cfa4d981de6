"""Claims of Zhang and Saab on convex order (arXiv 2412.18184)."""

import itertools

import numpy as np

from prunequant.path_following import convex_order, theory

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2412
ANGLES = np.stack([np.cos(np.arange(360) * np.pi / 180), np.sin(np.arange(360) * np.pi / 180)])


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


def spread(values, probabilities, rng):
    """A law above a given one: every value moves down or up, the mean unchanged."""
    down, up = rng.uniform(0.1, 1, (2, len(values)))
    share = down / (down + up)
    return (
        np.concatenate([values - down, values + up]),
        np.concatenate([probabilities * (1 - share), probabilities * share]),
    )


def _steps(laws, constant: float) -> tuple[list, list, list]:
    """Least Gaussian variances, in units of what is claimed: of each law, of sums, of steps that know the past."""
    single = [convex_order.least_gaussian(*law) ** 2 / constant for law in laws]
    sums, dependent = [], []
    for (x, p), (y, q) in [(laws[0], laws[0]), *zip(laws[:-1:2], laws[1::2])]:
        sums.append(convex_order.least_gaussian(*convex_order.convolve(x, p, y, q)) ** 2 / (2 * constant))
        # given the first value, the second step is ±1 scaled by a function of it: a martingale, not a sum
        reach = np.abs(np.cos(3 * x))
        values, weights = np.concatenate([x - reach, x + reach]), np.concatenate([p, p]) / 2
        dependent.append(convex_order.least_gaussian(values, weights) ** 2 / (2 * constant))
    return single, sums, dependent


def plane_mean(columns, values=None, probabilities=None) -> float:
    """E max_k ⟨a_k, Y⟩ for directions a_k, the columns: of a law on points of the plane, or of 𝒩(0, I)."""
    if values is None:  # Y = R·angle with E R = √(π/2), and the angle uniform
        return float(np.sqrt(np.pi / 2) * np.mean(np.max(ANGLES.T @ columns, axis=1)))
    return float(probabilities @ np.max(values @ columns, axis=1))


def _linear(laws, constant: float, rng) -> tuple[float, float]:
    """Largest share of the Gaussian's that an image AX takes: along random directions, and in convex functions."""
    along, plane = 0.0, 0.0
    for first, second in zip(laws[:-1:2], laws[1::2]):
        pair = [(laws[0], laws[0]), (first, second)]
        for (x, p), (y, q) in pair:
            points = np.array(list(itertools.product(x, y)))
            weights = np.multiply.outer(p, q).ravel()
            matrix = rng.standard_normal((2, 2))
            image = points @ matrix.T
            direction = rng.standard_normal(2)
            variance = constant * np.sum((matrix.T @ direction) ** 2)
            along = max(along, convex_order.least_gaussian(image @ direction, weights) ** 2 / variance)
            corners = rng.standard_normal((2, 6))
            gaussian = np.sqrt(constant) * plane_mean(matrix.T @ corners)
            plane = max(plane, plane_mean(corners, image, weights) / gaussian)
    return along, plane


def _covariances(count: int, rng, larger) -> float:
    """Largest ratio of E max_k⟨a_k, Y⟩ under 𝒩(0, A) to that under 𝒩(0, larger(A))."""
    worst = 0.0
    for _ in range(count):
        root = rng.standard_normal((2, 2))
        small = root @ root.T
        large = larger(small, rng)
        corners = rng.standard_normal((2, 6)) * rng.choice([0.05, 1.0], (2, 1))  # thin ones see one direction alone
        means = [plane_mean(np.linalg.cholesky(m).T @ corners) for m in (small, large)]
        worst = max(worst, means[0] / means[1])
    return worst


def _more(covariance, rng):
    """A ⪯ B: something positive semidefinite on top."""
    root = rng.standard_normal((2, 2))
    return covariance + root @ root.T


def _convex_order(budget: Budget, constant: float = theory.PAPER_CONSTANT, larger=_more) -> Evidence:
    """Every rule of the lemma on random laws, decided exactly: on the line by corners, in the plane by angles."""
    laws, rng = list(random_laws(budget.pick(400, 2000, 20_000))), np.random.default_rng(SEED)
    single, sums, dependent = _steps(laws, constant)
    chains = []
    for x, p in laws[: len(laws) // 4]:
        y, q = spread(x, p, rng)
        z, r = spread(y, q, rng)
        pairs = (x, p, y, q), (y, q, z, r), (x, p, z, r)
        chains.append([convex_order.is_below(a, b, c, d) for a, b, c, d in pairs])
    highers = [(spread(x, p, rng), x, p) for x, p in laws[:100]]
    backwards = sum(convex_order.is_below(y, q, x, p) for (y, q), x, p in highers)
    along, plane = _linear(laws[: len(laws) // 4], constant, rng)
    covariance = _covariances(budget.pick(100, 400, 4000), rng, larger)
    limit = 1 + 1e-12
    holds = {
        "each law lies below its Gaussian": max(single) <= limit,
        "sums lie below the sum of the Gaussians": max(sums) <= limit,
        "steps that know the past lie below it too": max(dependent) <= limit,
        "the order is transitive": all(all(chain) for chain in chains) and backwards == 0,
        "linear images lie below the Gaussian's image": max(along, plane) <= 1 + 1e-9,
        "a larger covariance is a larger Gaussian": covariance <= 1 + 1e-9,
    }
    largest = max(*single, *sums, *dependent) * constant
    figures = (
        Figure("largest least variance, in units of M²", float(largest), digits=5),
        Figure("linear images: largest share of the Gaussian's variance along a line", along),
        Figure("linear images in the plane: largest share of a convex mean", plane),
        Figure("chains X ≤ Y ≤ Z with X ≤ Z", sum(map(all, chains))),
        Figure("𝒩(0, A) against 𝒩(0, B), A ⪯ B: largest ratio of a convex mean", covariance),
    )
    bound = Figure("variance claimed", constant, digits=5)
    trials = len(single) + len(sums) + len(dependent)
    return Evidence(holds, figures, bound, slack=constant / largest, trials=trials, seed=SEED)


@claim(
    id="zhang2025.convex_order",
    title="What is bounded and centred lies below a Gaussian",
    statement=r"""Write $X\le_{cx}Y$ if $\mathbb E f(X)\le\mathbb E f(Y)$ for every convex $f$. The order is transitive
and kept by linear maps, and $A\preceq B$ gives $\mathcal N(0,A)\le_{cx}\mathcal N(0,B)$. If $X\le_{cx}W$ and, given
$X$, $Y-X\le_{cx}Z$, with $W$ and $Z$ independent, then $Y\le_{cx}W+Z$. If $\mathbb EX=0$ and $|X|\le M$, then
$X\le_{cx}\mathcal N(0,\tfrac\pi2M^2)$.""",
    source=Source("zhang2025", "Definition 4.1 and Lemma 4.3", wording="paraphrased"),
    verdict=Verdict.HOLDS,
    remark=r"The constant $\pi/2$ is attained by the fair coin $\pm M$: every other law needs less.",
)
def convex_order_claim(budget: Budget) -> Evidence:
    """Exact comparison over random laws, sums, martingale steps, chains, images and pairs of covariances."""
    return _convex_order(budget)


@convex_order_claim.control(
    "variance M² instead of πM²/2",
    breaks=(
        "each law lies below its Gaussian",
        "sums lie below the sum of the Gaussians",
        "steps that know the past lie below it too",
        "linear images lie below the Gaussian's image",
    ),
)
def _(budget: Budget) -> Evidence:
    return _convex_order(budget, constant=1.0)


@convex_order_claim.control(
    "a covariance that is larger in trace alone", breaks="a larger covariance is a larger Gaussian"
)
def _(budget: Budget) -> Evidence:
    def turned(covariance, rng):
        turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
        return 1.2 * turn @ covariance @ turn.T

    return _convex_order(budget, larger=turned)
