"""What the chapter on later papers measures: one function for each question it asks of a newer result.

`nearest_plane` (GPTQ is Babai's algorithm) · `order_gaps`, `recorded_gaps` and `rank_correlation` (which order, and
whose step is the weaker) · `reverse_water_filling`, `entropy_bits`, `falling_gram`, `coded` and `extra_bits` (the
distance to the least possible rate) · `repaired` (pruning and quantization that mend each other) · `failures` and
`least_kappa` (how failures of subset sums fall).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from prunequant import optimum
from prunequant.arguments import choice, real
from prunequant.distortion import best_scale
from prunequant.formats import MX, NVFP4, Format, Integer
from prunequant.interplay import apply_orders
from prunequant.path_following import FiniteGrid, Grid, compress
from prunequant.path_following.gram import damped, reversed_cholesky
from prunequant.path_following.triangle import triangular_rounding
from prunequant.sparsity import gain, keep_largest
from prunequant.studies.inputs import LAWS
from prunequant.subset_sum import hitting_times

UNIFORM = 0.5 * float(
    np.log2(2 * np.pi * np.e / 12)
)  # bits that a uniform grid with coded integers pays at high rate: 0.2546
METHODS = ("nearest", "one step", "own steps")
FORMATS: dict[str, dict[str, Format]] = {
    "one scale": {f"INT{b}": Integer(b, granularity="tensor") for b in (2, 3, 4)},
    "a scale per row": {f"INT{b} rows": Integer(b, granularity="row") for b in (2, 3, 4)},
    "a scale per 64": {f"INT{b} groups of 64": Integer(b, granularity=64) for b in (2, 3, 4)},
    "a scale per 16 or 32": {"MXFP4": MX("fp4_e2m1"), "NVFP4": NVFP4()},
}


def nearest_plane(
    weights: NDArray, inputs: NDArray, step: float, damping: float = 0.0, bits: int | None = None, order: str = "given"
) -> dict[str, NDArray | int]:
    """GPTQ beside Babai's nearest plane on one layer: where they differ, and the error over Babai's bound.

    Parameters
    ----------
    weights : (features, neurons); inputs : (samples, features).
    step : of the grid, the same for all weights.
    damping : share of the mean diagonal added to the Gram matrix, in both.
    bits : of a symmetric grid that clips, 2 to 16; None: a grid without an end in GPTQ, 16 bits in the other.
    order : in which the nearest plane decides the features: "given", "diagonal" or "blast".

    Returns
    -------
    "differ" : number of weights whose integers differ. "share" : (neurons,) the error of GPTQ in the (damped) Gram
    matrix H over step²/4 · Σ D, where H = LᵀDL is the factorization of the features in reversed order, so that the D
    are the squared lengths r_ii² of Babai's orthogonalized basis.

    Examples
    --------
    >>> x, w = np.array([[1.0, 0.9], [0.0, 0.1]]), np.array([[0.4], [0.4]])
    >>> found = nearest_plane(w, x, 1.0)
    >>> found["differ"], bool(found["share"][0] <= 1)
    (0, True)
    """
    h = damped(inputs.T @ inputs, damping)
    operator = Grid(step, False) if bits is None else FiniteGrid(step, 2**bits - 1, False)
    gptq = compress(weights, inputs, operator, "optq", damping=damping).weights
    plane = optimum.babai(weights, h, bits or 16, step, grid="narrow", order=order).values
    error = weights - gptq
    bound = step**2 / 4 * reversed_cholesky(h)[1].sum()
    return {
        "differ": int(np.sum(np.rint(gptq / step) != np.rint(plane / step))),
        "share": np.sum(error * (h @ error), axis=0) / bound,
    }


def order_gaps(
    formats: Mapping[str, Mapping[str, Format]],
    sparsities: Iterable[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    laws: Iterable[str] = ("gaussian", "laplace", "student-t 3"),
    ties: str = "magnitude",
    shape: tuple[int, int] = (64, 128),
    seed: int = 0,
) -> list[dict]:
    """Both orders on random tensors: how much stronger quantization is than pruning, how much better pruning first is.

    formats : as `FORMATS`, by the number of scales. ties : as in `interplay.apply_orders`.

    A row holds "scales", "format", "law", "sparsity", "gap" = ln of ‖x − q(x)‖ over ‖x − s(x)‖, positive where pruning
    is the weaker of the two, and "advantage" = ln of ‖x − s(q(x))‖ over ‖x − q(s(x))‖, positive where pruning first
    leaves the smaller error. All norms are L2.

    >>> row = order_gaps({"one scale": {"INT4": Integer(4, granularity="tensor")}}, (0.5,), ("gaussian",))[0]
    >>> bool(row["gap"] < 0), row["advantage"]
    (True, 0.0)
    """
    rows = []
    for number, law in enumerate(laws):
        x = LAWS[law](np.random.default_rng([seed, number]), shape)
        for scales, named in formats.items():
            for name, fmt in named.items():
                for sparsity in sparsities:
                    orders = apply_orders(x, fmt, sparsity, ("sq", "qs"), ties)
                    s, q, sq, qs = (float(orders.error(which)) for which in ("s", "q", "sq", "qs"))
                    where = {"scales": scales, "format": name, "law": law, "sparsity": sparsity}
                    rows.append(where | {"gap": float(np.log(q / s)), "advantage": float(np.log(qs / sq))})
    return rows


def recorded_gaps(cells: Iterable[Mapping]) -> list[dict]:
    """Gap and advantage in the losses of a network, from cells as `cases.order_in_a_language_model` sums them up.

    cells : each with "pattern", "format", "nats" (losses "d" dense, "s", "q", "sq", "qs") and "qs minus sq", the paired
        difference with its interval.

    A row holds "pattern", "format", "gap" = ln of what quantizing alone costs over what pruning alone costs, in nats,
    "advantage" = loss of quantizing first less that of pruning first, "low" and "high" of its interval.

    >>> cell = {"pattern": "0.3", "format": "INT4", "nats": dict(d=3.0, s=3.1, q=3.2, sq=3.3, qs=3.4)}
    >>> row = recorded_gaps([cell | {"qs minus sq": dict(mean=0.1, low=0.0, high=0.2)}])[0]
    >>> round(row["gap"], 4), row["advantage"]
    (0.6931, 0.1)
    """
    rows = []
    for cell in cells:
        nats, paired = cell["nats"], cell["qs minus sq"]
        gap = float(np.log((nats["q"] - nats["d"]) / (nats["s"] - nats["d"])))
        where = {"pattern": cell["pattern"], "format": cell["format"], "gap": gap}
        rows.append(where | {"advantage": paired["mean"], "low": paired["low"], "high": paired["high"]})
    return rows


def rank_correlation(
    a: ArrayLike, b: ArrayLike, draws: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Spearman's rank correlation of paired values, with an interval by the bootstrap over pairs.

    >>> rank_correlation([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])[0]
    1.0
    """
    pairs = np.column_stack([a, b]).astype(float)
    chosen = np.random.default_rng(seed).integers(len(pairs), size=(draws, len(pairs)))
    sampled = np.concatenate([pairs[None], pairs[chosen]])
    ranks = rankdata(sampled, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a draw of one pair alone has no correlation
        correlations = (ranks[..., 0] * ranks[..., 1]).sum(1) / np.sqrt((ranks**2).sum(1).prod(-1))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(correlations[1:], [tail, 1 - tail])
    return float(correlations[0]), float(low), float(high)


def reverse_water_filling(variances: ArrayLike, distortion: float) -> float:
    """The least bits for independent Gaussians of these variances with a total squared error of `distortion`.

    Each component is given the error min(θ, variance), with the water level θ at which these add up to `distortion`,
    and ½ log₂(variance/θ) bits where that is positive (Kolmogorov; Cover and Thomas, Theorem 10.3.3).

    Raises
    ------
    ValueError, TypeError : a distortion that is not positive.

    >>> reverse_water_filling([4.0, 4.0], 2.0)
    2.0
    """
    distortion = real(distortion, "distortion", 0)
    lam = np.sort(np.asarray(variances, float))
    if distortion == 0:
        raise ValueError("distortion is 0: it must be positive, no number of bits reaches it")
    if distortion >= lam.sum():
        return 0.0
    below = np.concatenate([[0.0], np.cumsum(lam)])  # the k smallest lie under water
    level = (distortion - below[:-1]) / np.arange(len(lam), 0, -1)
    k = int(np.argmax(level <= lam))
    return float(0.5 * np.log2(lam[k:] / level[k]).sum())


def entropy_bits(integers: NDArray) -> float:
    """Mean over the rows of the entropy of their entries, in bits: what an ideal coder of each row spends an entry.

    Counts of n entries give too little by (values − 1)/(2n) nats on average; that is added (Miller and Madow).

    >>> round(entropy_bits(np.tile([0, 1, 2, 3], (2, 1000))), 2)
    2.0
    """
    total = 0.0
    for row in np.asarray(integers):
        p = np.unique(row, return_counts=True)[1] / len(row)
        total += -(p * np.log2(p)).sum() + (len(p) - 1) / (2 * len(row) * np.log(2))
    return float(total) / len(integers)


def falling_gram(features: int, exponent: float, seed: int = 0) -> tuple[NDArray, NDArray]:
    """A Gram matrix with eigenvalues like k^(−exponent) in a random basis, of mean 1; and these eigenvalues.

    >>> falling_gram(4, 1.0)[1].round(2).tolist()
    [1.92, 0.96, 0.64, 0.48]
    """
    lam = np.arange(1.0, features + 1) ** -exponent
    lam *= features / lam.sum()
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((features, features)))[0]
    return (basis * lam) @ basis.T, lam


def _steps(gram: NDArray, method: str, step: float, pivots: NDArray) -> NDArray:
    """The step of each feature: one for all, or in proportion to 1/r_ii with the same geometric mean."""
    if method == "own steps":
        return step * np.exp(0.5 * np.log(pivots).mean()) / np.sqrt(pivots)
    return np.full(len(gram), step)


def coded(
    gram: NDArray,
    step: float,
    method: str = "one step",
    neurons: int = 2000,
    seed: int = 0,
    pivots: NDArray | None = None,
) -> dict[str, float]:
    """Gaussian weights rounded to integers that are entropy-coded, beside the least rate for the same output error.

    Parameters
    ----------
    gram : (features, features), positive definite.
    step : of the grid; with "own steps" the geometric mean of the steps.
    method : "nearest", "one step" (GPTQ) or "own steps" (GPTQ, the step of feature i in proportion to 1/r_ii).
    neurons : independent columns of weights, from which the entropies are estimated.
    pivots : the r_ii² that "own steps" goes by; by default those of the order in which the features are rounded.

    Returns
    -------
    "rate", "limit", "gap" in bits a weight; "distortion" a weight.

    Notes
    -----
    Steps s_i are unit steps of the weights w_i/s_i with the Gram matrix s_i s_j gram_ij. Each feature has a code of its
    own. The limit is reverse water-filling over the eigenvalues of gram.

    >>> found = coded(np.eye(4), 0.25, neurons=4000)
    >>> bool(abs(found["gap"] - UNIFORM) < 0.02)
    True
    """
    choice(method, "method", METHODS)
    unit, own = reversed_cholesky(gram)
    steps = _steps(gram, method, step, own if pivots is None else pivots)
    w = np.random.default_rng(seed).standard_normal((len(gram), neurons))
    factor, live = np.zeros_like(gram), np.zeros(len(gram))
    if method != "nearest":
        factor, live = reversed_cholesky(gram * np.outer(steps, steps))[0], np.ones(len(gram))
    q = triangular_rounding(w / steps[:, None], factor, live, Grid(1.0, False))
    error = unit @ (w - q * steps[:, None])
    distortion = float((own @ error**2).mean())
    limit = reverse_water_filling(np.linalg.eigvalsh(gram), distortion) / len(gram)
    rate = entropy_bits(q.astype(np.int64))
    return {"rate": rate, "distortion": distortion / len(gram), "limit": limit, "gap": rate - limit}


def extra_bits(gram: NDArray, method: str) -> float:
    """What theory says a method pays above `UNIFORM` at high rate: ½ log₂ of the mean of d_i over the geometric mean
    of r_ii², with d_i = gram_ii for "nearest", r_ii² for "one step", and nothing for "own steps".

    >>> extra_bits(np.eye(3), "one step")
    0.0
    """
    choice(method, "method", METHODS)
    pivots = reversed_cholesky(gram)[1]
    if method == "own steps":
        return 0.0
    paid = np.diag(gram) if method == "nearest" else pivots
    return float(0.5 * (np.log2(paid.mean()) - np.log2(pivots).mean()))


def repaired(weights: NDArray, gram: NDArray, sparsity: float = 0.5, bits: int = 4) -> dict[str, float]:
    """Pruned and quantized at one mask and one grid, with more and more compensation: output errors.

    Parameters
    ----------
    weights : (features, neurons). gram : (features, features), positive definite.
    sparsity : share pruned of each neuron. bits : of each neuron's grid; its step is the least-squares one of the
        neuron's dense weights, in all variants.

    Returns
    -------
    Σ (w − v)ᵀ gram (w − v) over neurons for v = "zero" (no layer at all), "mask" (largest |w| · √gram_ii kept),
    "rounded" (mask, then nearest), "refit" (mask, the kept ones set to least squares, not rounded), "refit, rounded",
    "plane" (mask, then GPTQ on the kept, no refit), "compensated" (refit, then GPTQ on the kept), "joint" (nearest,
    then the mask by gain); and "kept rounding", the error of "compensated" in the kept weights alone, around the refit.

    >>> found = repaired(np.array([[1.0], [0.4]]), np.eye(2))
    >>> found["compensated"] == found["rounded"]
    True
    """
    quantized = optimum.nearest(weights, gram, bits)
    step = np.atleast_1d(best_scale(weights, bits, axis=0))
    power = np.sqrt(np.diag(gram))[:, None]
    mask = keep_largest(np.abs(weights) * power, sparsity, axis=0)
    by_gain = keep_largest(gain(weights, quantized.values, 2) * power**2, sparsity, axis=0)
    variants = {name: np.zeros_like(weights) for name in ("rounded", "refit", "refit, rounded", "plane", "compensated")}
    for j in range(weights.shape[1]):
        rows = np.flatnonzero(mask[:, j])
        block, scale = gram[np.ix_(rows, rows)], float(step[j])
        plain, refit = weights[rows, j], optimum.refitted(weights[:, j], gram, mask[:, j])[rows]
        variants["rounded"][rows, j] = optimum.nearest(plain, block, bits, scale).values
        variants["refit"][rows, j] = refit
        variants["refit, rounded"][rows, j] = optimum.nearest(refit, block, bits, scale).values
        variants["plane"][rows, j] = optimum.babai(plain, block, bits, scale).values
        variants["compensated"][rows, j] = optimum.babai(refit, block, bits, scale).values
    variants |= {"zero": np.zeros_like(weights), "mask": weights * mask, "joint": quantized.values * by_gain}

    def error(difference: NDArray) -> float:
        return float(np.sum(difference * (gram @ difference)))

    return {name: error(weights - values) for name, values in variants.items()} | {
        "kept rounding": error(variants["refit"] - variants["compensated"])
    }


def failures(
    bound: int,
    trials: int,
    seed: int = 0,
    targets: str | int | tuple[int, int] = "all",
    n_max: int = 60,
    sampler: str = "signed",
) -> tuple[NDArray, NDArray]:
    """How often n random samples miss one of the targets, n = 0 … n_max: (share, count); see `hitting_times`.

    >>> failures(4, 100)[1][:2].tolist()  # no subset reaches all nine targets with none or one sample
    [100, 100]
    """
    times = hitting_times(n_max, bound, targets, trials, seed, sampler)
    count = np.array([(times > n).sum() for n in range(n_max + 1)])
    return count / trials, count


def least_kappa(share: NDArray, start: float) -> float:
    """The least κ for which 2 exp(−(n − start)²/(κn)) is at least share[n] wherever n > start and share[n] > 0.

    >>> n = np.arange(1.0, 40)
    >>> round(least_kappa(np.concatenate([[1.0], np.minimum(1, 2 * np.exp(-((n - 5) ** 2) / (3 * n)))]), 5.0), 9)
    3.0
    """
    n = np.arange(len(share))
    used = (n > start) & (share > 0)
    return float(np.max((n[used] - start) ** 2 / (n[used] * np.log(2 / share[used]))))
