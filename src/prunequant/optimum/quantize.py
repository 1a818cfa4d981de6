"""Exact and heuristic layerwise quantization: integer least squares in a box.

    minimise (s q − w)ᵀ gram (s q − w)   over integers low ≤ q ≤ high,

per output neuron. With gram = RᵀR this is the closest point of a lattice inside a box, solved depth first from the
last row of R upwards (sphere decoding); rounding in that order without ever turning back is OPTQ (GPTQ), known
elsewhere as Babai's nearest plane. Kuzmin et al. 2023 (who bound it by a semidefinite programme); Schnorr and
Euchner 1994.
"""

from __future__ import annotations

import numpy as np

from prunequant.distortion import best_scale

from . import _kernels
from .problem import (
    NODE_LIMIT,
    Solution,
    box,
    check_node_limit,
    check_problem,
    check_scale,
    collect,
    each_neuron,
    factor,
)

ORDERS = ("blast", "given", "diagonal")


def _order(gram: np.ndarray, order) -> np.ndarray:
    """A permutation whose last entry is rounded first."""
    n = gram.shape[0]
    if isinstance(order, str):
        if order == "given":  # OPTQ as published: the first feature first
            return np.arange(n)[::-1]
        if order == "diagonal":  # OPTQ's act-order: the largest input power first
            return np.argsort(np.diag(gram), kind="stable")
        if order == "blast":
            ridge = 1e-12 * max(np.trace(gram) / n, 1e-300)
            for _ in range(5):
                try:
                    return _kernels.blast_order(np.linalg.inv(gram + ridge * np.eye(n)))
                except np.linalg.LinAlgError:
                    ridge *= 1e3
            return np.arange(n)
        raise ValueError(f"order is {order!r}: it must be one of {ORDERS} or a permutation, first rounded first")
    given = np.asarray(order)
    if given.shape != (n,) or sorted(given.tolist()) != list(range(n)):
        raise ValueError(f"order has shape {given.shape}: it must be a permutation of 0 … {n - 1}")
    return given[::-1]


def _triangle(gram: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Upper triangular r with rᵀr = gram[permutation][:, permutation] and a non-negative diagonal."""
    m = factor(gram[np.ix_(permutation, permutation)])
    if np.any(np.tril(m, -1)):
        m = np.linalg.qr(m, mode="r")
        m = m * np.where(np.diag(m) < 0, -1.0, 1.0)[:, None]
    return np.ascontiguousarray(m)


def _tail(r: np.ndarray, z: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """tail[k]: what the coordinates below k cost at least, whatever the others are.

    The centre of coordinate k stays within Σ_j |r_kj| max|z_j − q_j| / r_kk of z_k: with weakly correlated inputs,
    or weights far outside the grid, that keeps it away from every admissible integer.
    """
    diagonal = np.diag(r)
    widest = np.maximum(np.abs(z - low), np.abs(z - high))
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(diagonal > 0, (np.abs(np.triu(r, 1)) @ widest) / diagonal, np.inf)
    near = np.clip(np.rint(z), low, high)
    outside = np.maximum(np.maximum(low - z, z - high), 0.0)
    distance = np.where(reach < 0.5, np.abs(z - near) - reach, outside - reach)
    cost = np.square(diagonal * np.maximum(np.where(np.isfinite(distance), distance, 0.0), 0.0))
    return np.concatenate(([0.0], np.cumsum(cost)[:-1])) * (1 - 1e-9)


class _Layer:
    """Checked input of one call, and the triangular factor shared by neurons whose scale is one number."""

    def __init__(self, weights, gram, bits, scale, grid, rounding, order):
        weights, self.gram = check_problem(weights, gram)
        self.one = weights.ndim == 1
        if scale is None:
            scale = best_scale(weights, bits, grid) if self.one else best_scale(weights, bits, grid, axis=0)
        full = check_scale(scale, weights)
        self.weights = weights.reshape(len(weights), -1)
        self.scale = full.reshape(self.weights.shape)
        self.z = self.weights / self.scale
        self.low, self.high = box(self.z, bits, grid, rounding)
        self.order = order
        self.shared = None
        if np.all(self.scale == self.scale[:1]):
            permutation = _order(self.gram, order)
            self.shared = permutation, _triangle(self.gram, permutation)
        else:
            factor(self.gram)

    def column(self, j: int):
        """Permutation, r of the gram in steps, and the permuted target and box of neuron j."""
        s = self.scale[:, j]
        if self.shared is not None:
            permutation, r = self.shared[0], self.shared[1] * s[0]
        else:
            stepped = self.gram * np.multiply.outer(s, s)
            permutation = _order(stepped, self.order)
            r = _triangle(stepped, permutation)
        parts = (self.z[permutation, j], self.low[permutation, j], self.high[permutation, j])
        return permutation, r, *(np.ascontiguousarray(p) for p in parts)

    def values(self, permutation, q, j) -> np.ndarray:
        out = np.empty(len(q))
        out[permutation] = q
        return out * self.scale[:, j]


def best_quantization(
    weights,
    gram,
    bits: int = 4,
    scale=None,
    node_limit: int = NODE_LIMIT,
    *,
    grid: str = "twos_complement",
    rounding: str = "any",
) -> Solution:
    """Quantized weights of least output error: proved optimal, or the best found with a lower bound.

    Parameters
    ----------
    weights : (features,) or (features, neurons)
    gram : (features, features): inputs.T @ inputs, symmetric positive semidefinite
    bits : int, 2 … 16
    scale : one number, or an array that broadcasts to the weights; None: the least-squares scale of each neuron
    node_limit : nodes of the search tree of each neuron
    grid : "twos_complement" or "narrow"
    rounding : "any" level of the grid, or "floor_ceil": only the two next to w/scale (the optimum of AdaRound's
    problem)

    Returns
    -------
    Solution
        `proved` is False where the limit was reached; `lower_bound` is then the least cost of an unvisited branch.

    Raises
    ------
    ValueError : shapes that do not agree, gram not symmetric or not positive semidefinite, a scale that is not positive

    Notes
    -----
    Depth-first sphere decoding (Schnorr-Euchner) in V-BLAST order from the heuristic's error; about 3e7 nodes a second.
    Exponential in features at worst: 4 bits reach n = 50 in less than 0.1 s on random layers, n about 70 in a second.
    A singular gram is allowed (its null directions cannot prune the tree). Twin: tests/naive/optimum.py.

    Examples
    --------
    >>> gram = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> best_quantization(np.array([0.4, 0.4]), gram, bits=2, scale=1.0).values  # rounding each alone gives (0, 0)
    array([0., 1.])
    """
    node_limit = check_node_limit(node_limit)
    layer = _Layer(weights, gram, bits, scale, grid, rounding, "blast")

    def solve(j):
        permutation, r, z, low, high = layer.column(j)
        q = np.empty(len(z), np.int64)
        _kernels.babai(r, z, low, high, q)
        _kernels.improve(r.T @ r, z, low, high, len(z) <= 256, q)
        start = float(np.sum((r @ (q - z)) ** 2))
        best, bound, nodes = _kernels.decode(r, z, low, high, _tail(r, z, low, high), -1, node_limit, start, q)
        return layer.values(permutation, q, j), (None if bound >= best else bound), nodes

    return collect(layer.weights, layer.gram, each_neuron(solve, layer.weights.shape[1]), layer.one)


def babai(
    weights, gram, bits: int = 4, scale=None, *, grid: str = "twos_complement", order="given", search: int = 0
) -> Solution:
    """Successive rounding with feedback (OPTQ, Babai's nearest plane), then local search.

    order : "given" (OPTQ as published), "diagonal" (its act-order), "blast", or a permutation, first rounded first.
    search : 0 none, 1 single changes (1-opt), 2 also pairs of ±1 changes (2-opt). Other parameters and the result as in
    `best_quantization`; nothing is proved. O(features³ + neurons·features²).

    >>> gram = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> babai(np.array([0.4, 0.4]), gram, bits=2, scale=1.0).values
    array([0., 1.])
    """
    if search not in (0, 1, 2):
        raise ValueError(f"search is {search!r}: it must be 0, 1 or 2")
    layer = _Layer(weights, gram, bits, scale, grid, "any", order)

    def solve(j):
        permutation, r, z, low, high = layer.column(j)
        q = np.empty(len(z), np.int64)
        _kernels.babai(r, z, low, high, q)
        if search:
            _kernels.improve(r.T @ r, z, low, high, search == 2, q)
        return layer.values(permutation, q, j), 0.0, 0

    return collect(layer.weights, layer.gram, each_neuron(solve, layer.weights.shape[1]), layer.one)


def nearest(weights, gram, bits: int = 4, scale=None, *, grid: str = "twos_complement") -> Solution:
    """Every weight to its nearest level, whatever the inputs.

    >>> nearest(np.array([0.4, 0.4]), np.eye(2), bits=2, scale=1.0).values
    array([0., 0.])
    """
    layer = _Layer(weights, gram, bits, scale, grid, "any", "given")
    values = np.clip(np.rint(layer.z), layer.low, layer.high) * layer.scale
    columns = [(values[:, j], 0.0, 0) for j in range(values.shape[1])]
    return collect(layer.weights, layer.gram, columns, layer.one)
