"""Lower bounds that scale further than enumeration: semidefinite relaxation, and bounds for a whole layer.

For integers x = q − ⌊z⌋ in a box [l, u] each of these is non-negative: (x_i − k)(x_i − k − 1) for every integer k, and
(x_i − l_i)(u_i − x_i). Subtract them with multipliers ν_ik, μ_i ≥ 0 from the error (x − d)ᵀP(x − d) and minimise
what is left over all real x: with A = P − Diag(Σ_k ν_ik) + Diag(μ) positive definite, that is

    c − bᵀ A⁻¹ b,   b = P d − ½ Σ_k (2k+1) ν_k + ½ μ (l + u),   c = dᵀPd − Σ ν_ik k(k+1) + Σ μ_i l_i u_i,

a lower bound of the error for whatever multipliers. The semidefinite solver only proposes them; `certified_bound`
checks them and makes them feasible. Kuzmin et al. 2023 (k = 0 alone, no box); Park and Boyd 2018.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import lsq_linear

from prunequant.arguments import flag, instance, integer, integers, numbers, real
from prunequant.extras import need

from .problem import NODE_LIMIT, check_node_limit, factor, inverse
from .quantize import _Layer, best_quantization

_LARGEST = 1e60  # products of five of them stay finite


def certified_bound(
    p: ArrayLike, d: ArrayLike, cuts: ArrayLike, nu: ArrayLike, low: ArrayLike, high: ArrayLike, mu: ArrayLike
) -> float:
    """The bound above for given multipliers, made feasible: ν is shrunk, μ raised, until A is safely positive definite.

    p (n, n) symmetric, d (n,), cuts (n, K) integers, nu (n, K), low, high, mu (n,). Never negative, and valid whatever
    the multipliers given (rounding is charged against it; those that are negative, NaN or above 1e60 count as 0).

    Raises
    ------
    TypeError : arrays that do not hold real numbers, cuts that are not integers
    ValueError : shapes that do not agree, NaN or infinity outside nu and mu, p that is not symmetric, any of the others
        beyond ±1e60

    >>> cuts = np.array([[0]])  # one weight 0.4 steps above an integer: the error is 0.16 or 0.36
    >>> bound = certified_bound(np.eye(1), np.array([0.4]), cuts, np.array([[0.8]]), [-2], [1], [0.0])
    >>> round(bound, 3)
    0.16
    """
    p, d, low, high = (
        numbers(x, name).astype(np.float64) for x, name in ((p, "p"), (d, "d"), (low, "low"), (high, "high"))
    )
    cuts = integers(cuts, "cuts").astype(np.float64)
    nu, mu = (numbers(x, name, finite=False).astype(np.float64) for x, name in ((nu, "nu"), (mu, "mu")))
    n = d.size
    shapes = {"p": (n, n), "d": (n,), "cuts": (n, cuts.size // max(n, 1)), "nu": cuts.shape}
    shapes |= {"low": (n,), "high": (n,), "mu": (n,)}
    for (name, shape), x in zip(shapes.items(), (p, d, cuts, nu, low, high, mu)):
        if n == 0 or x.shape != shape:
            raise ValueError(f"{name} has shape {x.shape}: it must be {shape}, for d of shape {d.shape}")
        if name not in ("nu", "mu") and np.max(np.abs(x), initial=0.0) > _LARGEST:
            raise ValueError(f"{name} reaches {np.max(np.abs(x)):.3g}: it must lie within ±{_LARGEST:g}")
    if np.max(np.abs(p - p.T)) > 1e-9 * np.max(np.abs(p)):
        raise ValueError("p is not symmetric: it must be the Gram matrix in steps")
    nu, mu = (np.where((x <= _LARGEST) & (x > 0), x, 0.0) for x in (nu, mu))
    size = np.linalg.norm(p, 2)
    row = np.maximum(nu.sum(axis=1, keepdims=True), 1e-300)
    boxed = bool(np.any(mu > 0))
    candidates = [(nu * shrink, mu) for shrink in (1.0, *(1.0 - 10.0**-k for k in range(9, 0, -1)), 0.5)]
    for power in range(-12, -1):  # the same by an absolute amount, which an ill-conditioned p needs
        less = size * 10.0**power
        candidates.append((nu * np.maximum(1.0 - less / row, 0.0), mu + less if boxed else mu))
    best = 0.0
    for v, m in candidates:
        a = p - np.diag(v.sum(axis=1)) + np.diag(m)
        b = p @ d - 0.5 * np.sum((2 * cuts + 1) * v, axis=1) + 0.5 * m * (low + high)
        c = d @ p @ d - np.sum(v * cuts * (cuts + 1)) + np.sum(m * low * high)
        rounding = 1e-14 * n * np.linalg.norm(a, 2)
        least = np.linalg.eigvalsh(a)[0] - rounding
        if least <= 0:
            continue
        x = np.linalg.solve(a, b)
        residual = b - a @ x  # min f ≥ f(x) − ‖residual‖²/least for any x
        value = c - 2 * b @ x + x @ a @ x - residual @ residual / least
        terms_b = np.abs(p) @ np.abs(d) + 0.5 * np.sum(np.abs(2 * cuts + 1) * v, axis=1) + 0.5 * m * np.abs(low + high)
        terms_c = np.abs(d) @ np.abs(p) @ np.abs(d) + np.sum(v * np.abs(cuts * (cuts + 1))) + m @ np.abs(low * high)
        magnitude = terms_c + 2 * terms_b @ np.abs(x) + np.abs(x) @ np.abs(a) @ np.abs(x)
        best = max(best, value - 1e-14 * n * magnitude)
    return float(best)


def _cuts(low: np.ndarray, high: np.ndarray, extra: int) -> np.ndarray:
    """The intervals [k, k+1] next to the unconstrained optimum (k = 0), `extra` on either side, inside the box."""
    offsets = np.concatenate(([0], *([[-i, i] for i in range(1, extra + 1)])))
    cuts = np.add.outer(np.zeros(len(low), np.int64), offsets.astype(np.int64))
    return np.clip(cuts, low[:, None], np.maximum(high - 1, low)[:, None])


def sdp_bound(
    weights: ArrayLike,
    gram: ArrayLike,
    bits: int = 4,
    scale: ArrayLike | None = None,
    *,
    grid: str = "twos_complement",
    box: bool = True,
    cuts: int = 1,
    solver: str = "CLARABEL",
) -> NDArray | float:
    """Certified lower bound of the quantization error by semidefinite programming.

    Parameters
    ----------
    weights, gram, bits, scale, grid : as in `best_quantization`
    box : also use that the integers lie in the grid; False, with cuts=0, is the relaxation of Kuzmin et al. 2023
    cuts : int, 0 … 32: intervals used on either side of the one around the unconstrained optimum
    solver : the name of an installed cvxpy solver for semidefinite programmes

    Returns
    -------
    float or (neurons,): no quantized weights have a smaller error. Where the solver fails and leaves no point to
    certify (weights a million steps and more outside the grid, say), the bound is the least error of real numbers
    between the ends of the grid (0 with box=False), and a UserWarning says for which neuron and why

    Raises
    ------
    ImportError : cvxpy is not installed: pip install 'prunequant[sdp]'
    TypeError : as `best_quantization`
    ValueError : as `best_quantization`; a gram that is singular; a solver that is not installed or cannot solve
        semidefinite programmes

    Notes
    -----
    Solved in the dual, whose variables are the multipliers, and then certified from the repaired point, so that a
    solver that stopped early can only weaken the bound. O(n⁴) or more: n = 32 about half a second, n = 96 a minute.

    Examples
    --------
    >>> gram = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> bound = sdp_bound(np.array([0.4, 0.4]), gram, bits=2, scale=1.0)
    >>> 0 < bound <= best_quantization(np.array([0.4, 0.4]), gram, bits=2, scale=1.0).error + 1e-9
    True
    """
    cuts = integer(cuts, "cuts", 0, 32)
    box = flag(box, "box")
    layer = _Layer(weights, gram, bits, scale, grid, "any", "given")
    inverse(layer.gram)
    solver = _check_solver(solver)
    bounds = []
    for j in range(layer.weights.shape[1]):
        s = layer.unit[:, j]
        p, z = layer.gram * np.multiply.outer(s, s), layer.z[:, j]
        unit = np.trace(p) / len(z)
        floor = np.floor(z).astype(np.int64)
        low, high = layer.low[:, j] - floor, layer.high[:, j] - floor
        if box:
            intervals = _cuts(low, high, cuts)
        else:
            intervals = _cuts(np.full(len(z), -cuts), np.full(len(z), cuts + 1), cuts)
        nu, mu, failure = _multipliers(p / unit, z - floor, intervals, low, high, box, solver)
        bound = certified_bound(p / unit, z - floor, intervals, nu, low, high, mu)
        if failure:
            bound = _box_bound(p / unit, z, layer.low[:, j], layer.high[:, j]) if box else 0.0
            which = "that of the grid's ends alone" if bound else "0"
            warnings.warn(
                f"{solver} failed on neuron {j}, whose bound is {which}: {failure}", UserWarning, stacklevel=2
            )
        bounds.append(unit * bound)
    bounds = layer.problem.error(np.array(bounds))
    return float(bounds[0]) if layer.problem.one else bounds


def _box_bound(p: np.ndarray, z: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Certified bound of (q − z)ᵀ p (q − z) over real q in [low, high], without a solver of semidefinite programmes.

    At its optimum q the multipliers are ν = 0 and μ = |gradient|/(high − low) where q lies at an end.
    """
    origin = np.clip(np.floor(z), low, high).astype(np.int64)  # in the box, so that its ends stay small beside z
    d, low, high = z - origin, (low - origin).astype(np.float64), (high - origin).astype(np.float64)
    root = factor(p)
    q = lsq_linear(root, root @ d, (low, high), method="bvls").x
    at_end = np.minimum(q - low, high - q) <= 1e-9
    mu = np.where(at_end, np.abs(2 * p @ (q - d)) / (high - low), 0.0)
    none = np.zeros((len(z), 1), np.int64)
    return certified_bound(p, d, none, none.astype(np.float64), low, high, mu)


def _cvxpy():
    need("cvxpy")
    import cvxpy

    return cvxpy


def _check_solver(solver) -> str:
    """The solver's name, if it is an installed one that takes semidefinite programmes."""
    cp = _cvxpy()
    name = instance(solver, "solver", str, "the name of a cvxpy solver, such as 'CLARABEL'").upper()
    installed = cp.installed_solvers()
    if name in installed and _takes_semidefinite(name):
        return name
    why = "cannot solve semidefinite programmes" if name in installed else "is not installed, or unknown to cvxpy"
    fit = ", ".join(repr(other) for other in installed if _takes_semidefinite(other))
    raise ValueError(f"solver is {solver!r}, which {why}: it must be one of those installed, {fit}")


def _takes_semidefinite(solver: str) -> bool:
    """Whether cvxpy would hand the solver the smallest semidefinite programme."""
    cp = _cvxpy()
    x = cp.Variable((2, 2), symmetric=True)
    try:
        cp.Problem(cp.Minimize(cp.trace(x)), [x >> 0]).get_problem_data(solver)
    except cp.error.SolverError:
        return False
    return True


def _multipliers(p, d, cuts, low, high, box, solver) -> tuple[np.ndarray, np.ndarray, str]:
    """Approximate optimal multipliers (ν, μ) from the dual semidefinite programme, and why there are none but zeros."""
    cp = _cvxpy()
    n, k = cuts.shape
    low, high = low.astype(np.float64), high.astype(np.float64)  # their products may pass an int64
    nu = cp.Variable((n, k), nonneg=True)
    mu = cp.Variable(n, nonneg=True) if box else None
    gamma = cp.Variable((1, 1))
    a = p - cp.diag(cp.sum(nu, axis=1)) + (0 if mu is None else cp.diag(mu))
    b = p @ d - 0.5 * cp.sum(cp.multiply(2 * cuts + 1, nu), axis=1)
    value = -gamma[0, 0] + d @ p @ d - cp.sum(cp.multiply(cuts * (cuts + 1), nu))
    if mu is not None:
        b = b + 0.5 * cp.multiply(mu, low + high)
        value = value + cp.sum(cp.multiply(mu, low * high))
    b = cp.reshape(b, (n, 1), order="C")
    problem = cp.Problem(cp.Maximize(value), [cp.bmat([[a, b], [b.T, gamma]]) >> 0])
    failure = ""
    try:
        problem.solve(solver=solver)
    except cp.error.SolverError as error:
        failure = " ".join(str(error).split()) or "no reason given"
    if nu.value is None:
        return np.zeros((n, k)), np.zeros(n), failure or f"it ended as {problem.status}"
    # whatever point it reached is repaired and certified
    return np.asarray(nu.value), np.zeros(n) if mu is None else np.asarray(mu.value), ""


def layer_bound(
    weights: ArrayLike,
    gram: ArrayLike,
    bits: int = 4,
    scale: ArrayLike | None = None,
    chunk: int = 32,
    node_limit: int = NODE_LIMIT // 10,
    *,
    grid: str = "twos_complement",
) -> NDArray | float:
    """Lower bound of the error of a whole wide neuron from exact optima of chunks of its features.

    Parameters
    ----------
    weights, gram, bits, scale, grid : as in `best_quantization`; gram positive definite
    chunk : int, at least 1: features solved exactly at a time
    node_limit : int, 1 … 2^62: nodes for each chunk of each neuron, and so the longest it may take

    Returns
    -------
    float or (neurons,)

    Raises
    ------
    TypeError, ValueError : as `best_quantization`; a gram that is singular

    Notes
    -----
    The optima of the diagonal blocks gram_KK do not bound the layer, singly or summed: the other features may help
    (the cross terms). Minimising over all other features as real numbers leaves the Schur complement S_K = (H_KK)⁻¹,
    H the inverse of gram, and its optimum is a bound. Several add up after scaling: with τ the least eigenvalue of
    blockdiag(S)^-½ gram blockdiag(S)^-½, gram ⪰ τ blockdiag(S), so τ Σ_K optimum_K is a bound too. Returned is the
    larger.

    Examples
    --------
    >>> gram = np.array([[1.0, 0.6], [0.6, 1.0]])
    >>> round(layer_bound(np.array([0.4, 0.4]), gram, bits=2, scale=1.0, chunk=1), 4)
    0.128
    """
    chunk = integer(chunk, "chunk", 1)
    node_limit = check_node_limit(node_limit)
    layer = _Layer(weights, gram, bits, scale, grid, "any", "given")
    matrix = layer.gram
    full = inverse(matrix)
    n = len(matrix)
    root = np.zeros((n, n))
    optima = []
    for start in range(0, n, chunk):
        part = slice(start, min(start + chunk, n))
        schur = inverse(full[part, part])
        best = best_quantization(
            layer.problem.weights[part], schur, layer.bits, layer.unit[part], node_limit, grid=layer.grid
        ).lower_bound
        optima.append(best)
        values, vectors = np.linalg.eigh(schur)
        root[part, part] = (vectors / np.sqrt(values)) @ vectors.T
    singles = np.array(optima)
    least = max(float(np.linalg.eigvalsh(root @ matrix @ root)[0]) - 1e-12 * n, 0.0)
    bound = layer.problem.error(np.maximum(singles.max(axis=0), least * singles.sum(axis=0)))
    return float(bound[0]) if layer.problem.one else bound


def dual_gap_decibel(error: float, bound: float) -> float:
    """How far a bound may overstate the reachable signal-to-noise ratio: 10 log10(error/bound).

    error : finite, at least 0. bound : finite; infinity is returned where it is 0 or less.

    >>> round(dual_gap_decibel(0.2, 0.1), 4)
    3.0103
    """
    error, bound = real(error, "error", 0), real(bound, "bound")
    if bound <= 0:
        return math.inf
    if error == 0:
        return -math.inf
    ratio = error / bound
    if ratio == 0 or math.isinf(ratio):
        return 10 * (math.log10(error) - math.log10(bound))
    return 10 * math.log10(ratio)
