"""The layerwise problem: weights, the Gram matrix of their inputs, and what a solver returns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from prunequant.distortion.grids import integer_range

NODE_LIMIT = 10_000_000


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found, for one neuron (weights (n,)) or for several (weights (n, neurons)).

    Attributes
    ----------
    values : like weights: the compressed weights
    error : float or (neurons,): (values − w)ᵀ gram (values − w), computed from `values`
    lower_bound : float or (neurons,): no admissible values have a smaller error (0 where nothing better is known)
    proved : bool or (neurons,): the error is the optimum, up to rounding
    nodes : int or (neurons,): visited nodes of the search tree, 0 for heuristics
    """

    values: np.ndarray
    error: float | np.ndarray
    lower_bound: float | np.ndarray
    proved: bool | np.ndarray
    nodes: int | np.ndarray = 0

    def snr(self, weights, gram):
        """wᵀ gram w over the error, in dB, neuron by neuron."""
        power = squared_norm(np.asarray(weights, float), np.asarray(gram, float))
        with np.errstate(divide="ignore"):
            return 10 * np.log10(power / np.asarray(self.error))


def squared_norm(x: np.ndarray, gram: np.ndarray):
    """xᵀ gram x for every column of x (never negative)."""
    return np.maximum(np.sum(x * (gram @ x), axis=0), 0.0)


def check_problem(weights, gram) -> tuple[np.ndarray, np.ndarray]:
    """float64 weights (n,) or (n, neurons) and a symmetric float64 gram (n, n), or an error that says what is wrong."""
    weights, gram = np.asarray(weights), np.asarray(gram)
    for name, array in (("weights", weights), ("gram", gram)):
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise TypeError(f"{name} has dtype {array.dtype}: it must hold real numbers")
    weights, gram = weights.astype(np.float64), gram.astype(np.float64)
    if weights.ndim not in (1, 2) or weights.size == 0:
        raise ValueError(f"weights has shape {weights.shape}: it must be (features,) or (features, neurons)")
    n = weights.shape[0]
    if gram.shape != (n, n):
        raise ValueError(
            f"weights has shape {weights.shape} but gram has shape {gram.shape}: gram must be ({n}, {n}), "
            "inputs.T @ inputs over the same features"
        )
    for name, array in (("weights", weights), ("gram", gram)):
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds a nan or an infinity: every number must be finite")
    size = np.max(np.abs(gram))
    skew = np.max(np.abs(gram - gram.T))
    if skew > 1e-6 * size:
        raise ValueError(f"gram is not symmetric: entries differ from their transposes by up to {skew:.3g}")
    return weights, 0.5 * (gram + gram.T)


def factor(gram: np.ndarray) -> np.ndarray:
    """A matrix m with mᵀm = gram: Cholesky, or by eigenvalues when singular; an error when it is not positive."""
    try:
        return np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(gram)
        if values[0] < -1e-8 * max(values[-1], 0.0) or values[-1] < 0:
            raise ValueError(
                f"gram is not positive semidefinite: its smallest eigenvalue is {values[0]:.3g}, its largest "
                f"{values[-1]:.3g}; use inputs.T @ inputs"
            ) from None
        return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T


def inverse(gram: np.ndarray) -> np.ndarray:
    """Inverse of a positive definite gram, or an error that tells how to make it so."""
    factor(gram)  # says if it is not even semidefinite
    values = np.linalg.eigvalsh(gram)
    if values[0] <= 1e-13 * values[-1]:
        raise ValueError(
            f"gram is singular (eigenvalues {values[0]:.3g} to {values[-1]:.3g}), so its inverse does not exist; "
            "add a ridge, for example gram + 1e-9 * np.trace(gram) / n * np.eye(n)"
        )
    solved = np.linalg.inv(gram)
    return 0.5 * (solved + solved.T)


def check_scale(scale, weights: np.ndarray) -> np.ndarray:
    """The scale broadcast to the weights: one number, one a neuron, or one an entry."""
    scale = np.asarray(scale, float)
    try:
        full = np.broadcast_to(scale, weights.shape)
    except ValueError:
        raise ValueError(
            f"scale has shape {scale.shape}: it must be one number or broadcast to the weights' shape {weights.shape}"
        ) from None
    if not (np.all(np.isfinite(full)) and np.all(full > 0)):
        raise ValueError(
            f"scale is {scale if scale.ndim == 0 else scale.min()}: every scale must be positive and finite"
        )
    return full


def check_node_limit(node_limit: int) -> int:
    if not isinstance(node_limit, int | np.integer) or isinstance(node_limit, bool) or node_limit < 1:
        raise ValueError(f"node_limit is {node_limit!r}: it must be a positive integer")
    return int(node_limit)


def box(z: np.ndarray, bits: int, grid: str, rounding: str) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest admissible integer of every weight z = w/scale."""
    low, high = integer_range(bits, grid)
    if rounding == "any":
        return np.full(z.shape, low), np.full(z.shape, high)
    if rounding == "floor_ceil":
        down = np.clip(np.floor(z), low, high).astype(np.int64)
        return down, np.clip(np.ceil(z), low, high).astype(np.int64)
    raise ValueError(f'rounding is {rounding!r}: it must be "any" or "floor_ceil"')


def each_neuron(solve: Callable[[int], tuple], neurons: int) -> list[tuple]:
    """solve(j) for every neuron, on threads (the kernels release the lock); the order of results is the neurons'."""
    threads = min(numba.get_num_threads(), neurons)
    if threads <= 1:
        return [solve(j) for j in range(neurons)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(solve, range(neurons)))


def collect(weights: np.ndarray, gram: np.ndarray, columns: list[tuple], one: bool) -> Solution:
    """A Solution from (values, lower bound or None when proved, nodes) of each neuron."""
    values = np.stack([c[0] for c in columns], axis=1)
    error = squared_norm(values - weights, gram)
    proved = np.array([c[1] is None for c in columns])
    bound = np.array([e if c[1] is None else min(max(c[1], 0.0), e) for e, c in zip(error, columns)])
    nodes = np.array([c[2] for c in columns])
    if one:
        return Solution(values[:, 0], float(error[0]), float(bound[0]), bool(proved[0]), int(nodes[0]))
    return Solution(values, error, bound, proved, nodes)
