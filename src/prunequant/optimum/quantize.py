"""Exact and heuristic layerwise quantization: integer least squares in a box.

    minimise (s q − w)ᵀ gram (s q − w)   over integers low ≤ q ≤ high,

per output neuron. With gram = RᵀR this is the closest point of a lattice inside a box, solved depth first from the
last row of R upwards (sphere decoding); rounding in that order without ever turning back is OPTQ (GPTQ), known
elsewhere as Babai's nearest plane. Kuzmin et al. 2023 (who bound it by a semidefinite programme); Schnorr and
Euchner 1994.

The term of row k, with z = w/s and R already in steps, is t_k² for t_k = r_kk (q_k − z_k) + d_k, where
d_k = Σ_{j>k} r_kj (q_j − z_j) depends on the integers decided before only. Two cases:

* r_kk > 0: t_k² = r_kk² (q_k − c_k)² with the centre c_k = z_k − d_k/r_kk, and candidates cost more the further they
  lie from it.
* r_kk = 0, which happens exactly when gram is singular (a duplicated, opposite or dead input, fewer samples than
  inputs): t_k² = d_k², the same for every q_k. The rest of the row need not be zero, as R comes from a QR
  factorization; so the constant counts as a cost of the levels decided before, and all integers of the box are
  candidates of equal cost, which only the rows above tell apart (they are tried in the order of |q_k − z_k|).

In both cases the sum over the rows n−1 … k never falls on the way down the tree and is the error itself at a leaf.
So a branch whose sum reaches the best error found contains nothing better, and an exhausted tree proves the optimum;
cut short, the least sum among the branches not visited is a lower bound. Were d_k² left out, leaves would be valued
below their error, and the wrong one kept with a proof. The nearest plane minimises t_k² alone: where r_kk = 0 every
integer does, and the one nearest to z_k is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prunequant.arguments import choice, integer
from prunequant.distortion import best_scale

from . import _kernels
from .lattice import check_order, elimination_order, rounding_triangle, tail_costs, triangle
from .problem import (
    GRIDS,
    NODE_LIMIT,
    Problem,
    Solution,
    box,
    check_node_limit,
    check_scale,
    each_neuron,
    factor,
    in_steps,
)


class _Layer:
    """Checked input of one call, and the triangular factor shared by neurons whose scale is one number."""

    def __init__(self, weights, gram, bits, scale, grid, rounding, order):
        bits = integer(bits, "bits", 2, 16)
        grid = choice(grid, "grid", GRIDS)
        self.problem = problem = Problem(weights, gram)
        order = check_order(order, len(problem.plain))
        if scale is None:
            scale = best_scale(problem.weights, bits, grid, axis=0)
            scale = problem.from_units(scale[0] if problem.one else scale)
        full = check_scale(scale, problem.plain[:, 0] if problem.one else problem.plain)
        self.bits, self.grid = bits, grid
        self.weights, self.gram = problem.plain, problem.gram
        self.scale = full.reshape(self.weights.shape)
        self.z = in_steps(self.weights, self.scale)
        problem.measure(float(self.scale.max()) * 2 ** (bits - 1))
        self.unit = problem.to_units(self.scale)
        self.low, self.high = box(self.z, bits, grid, rounding)
        self.order = order
        self.shared = None
        if np.all(self.scale == self.scale[:1]):
            permutation = elimination_order(self.gram, order)
            r = triangle(self.gram, permutation)
            self.shared = permutation, r, rounding_triangle(r)
        else:
            factor(self.gram)

    def column(self, j: int):
        """Permutation, r of the gram in steps, r for rounding, and the permuted target and box of neuron j."""
        s = self.unit[:, j]
        if self.shared is not None:
            permutation, r, rounding = self.shared
            same = rounding is r
            r = r * s[0]
            rounding = r if same else rounding * s[0]
        else:
            stepped = self.gram * np.multiply.outer(s, s)
            permutation = elimination_order(stepped, self.order)
            r = triangle(stepped, permutation)
            rounding = rounding_triangle(r)
        parts = (self.z[permutation, j], self.low[permutation, j], self.high[permutation, j])
        return permutation, r, rounding, *(np.ascontiguousarray(p) for p in parts)

    def values(self, permutation, q, j) -> np.ndarray:
        out = np.empty(len(q))
        out[permutation] = q
        return out * self.scale[:, j]


def best_quantization(
    weights: ArrayLike,
    gram: ArrayLike,
    bits: int = 4,
    scale: ArrayLike | None = None,
    node_limit: int = NODE_LIMIT,
    *,
    grid: str = "twos_complement",
    rounding: str = "any",
) -> Solution:
    """Quantized weights of least output error: proved optimal, or the best found with a lower bound.

    Parameters
    ----------
    weights : (features,) or (features, neurons), within ±1e300
    gram : (features, features): inputs.T @ inputs, symmetric positive semidefinite
    bits : int, 2 … 16 (2 … 12 without a scale)
    scale : one number, or an array that broadcasts to the weights, positive, at most 1e300, and no weight beyond 2^52
        steps; None: the least-squares scale of each neuron
    node_limit : int, 1 … 2^62: nodes of the search tree of each neuron, and so the longest it may take
    grid : "twos_complement" or "narrow"
    rounding : "any" level of the grid, or "floor_ceil": only the two next to w/scale (the optimum of AdaRound's
    problem)

    Returns
    -------
    Solution
        `proved` is False where the limit was reached; `lower_bound` is then the least cost of an unvisited branch.

    Raises
    ------
    TypeError : an argument of the wrong kind (bits a float, weights of words)
    ValueError : shapes that do not agree, gram not symmetric or not positive semidefinite, a scale out of range,
        numbers so large that an error would pass the largest float

    Notes
    -----
    Depth-first sphere decoding (Schnorr-Euchner) in V-BLAST order from the heuristic's error; about 3e7 nodes a second.
    Exponential in features at worst: 4 bits reach n = 50 in less than 0.1 s on random layers, n about 70 in a second.
    A singular gram is allowed: its null directions cannot prune the tree, and what they leave constant is counted
    (see the module). Twin: tests/naive/optimum.py.

    Examples
    --------
    >>> gram = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> best_quantization(np.array([0.4, 0.4]), gram, bits=2, scale=1.0).values  # rounding each alone gives (0, 0)
    array([0., 1.])
    """
    node_limit = check_node_limit(node_limit)
    layer = _Layer(weights, gram, bits, scale, grid, rounding, "blast")

    def solve(j):
        permutation, r, rounded, z, low, high = layer.column(j)
        q = np.empty(len(z), np.int64)
        _kernels.babai(rounded, z, low, high, q)
        _kernels.improve(r.T @ r, z, low, high, len(z) <= 256, q)
        start = float(np.sum((r @ (q - z)) ** 2))
        best, bound, nodes = _kernels.decode(r, z, low, high, tail_costs(r, z, low, high), -1, node_limit, start, q)
        return layer.values(permutation, q, j), (None if bound >= best else bound), nodes

    return layer.problem.collect(each_neuron(solve, layer.weights.shape[1]))


def babai(
    weights: ArrayLike,
    gram: ArrayLike,
    bits: int = 4,
    scale: ArrayLike | None = None,
    *,
    grid: str = "twos_complement",
    order: str | ArrayLike = "given",
    search: int = 0,
) -> Solution:
    """Successive rounding with feedback (OPTQ, Babai's nearest plane), then local search.

    order : "given" (OPTQ as published), "diagonal" (its act-order), "blast", or a permutation, first rounded first.
    search : int, 0 none, 1 single changes (1-opt), 2 also pairs of ±1 changes (2-opt). Other parameters, the result and
    errors as in `best_quantization`; nothing is proved. O(features³ + neurons·features²).

    >>> gram = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> babai(np.array([0.4, 0.4]), gram, bits=2, scale=1.0).values
    array([0., 1.])
    """
    search = integer(search, "search", 0, 2)
    layer = _Layer(weights, gram, bits, scale, grid, "any", order)

    def solve(j):
        permutation, r, rounded, z, low, high = layer.column(j)
        q = np.empty(len(z), np.int64)
        _kernels.babai(rounded, z, low, high, q)
        if search:
            _kernels.improve(r.T @ r, z, low, high, search == 2, q)
        return layer.values(permutation, q, j), 0.0, 0

    return layer.problem.collect(each_neuron(solve, layer.weights.shape[1]))


def nearest(
    weights: ArrayLike, gram: ArrayLike, bits: int = 4, scale: ArrayLike | None = None, *, grid: str = "twos_complement"
) -> Solution:
    """Every weight to its nearest level, whatever the inputs.

    >>> nearest(np.array([0.4, 0.4]), np.eye(2), bits=2, scale=1.0).values
    array([0., 0.])
    """
    layer = _Layer(weights, gram, bits, scale, grid, "any", "given")
    values = np.clip(np.rint(layer.z), layer.low, layer.high) * layer.scale
    columns = [(values[:, j], 0.0, 0) for j in range(values.shape[1])]
    return layer.problem.collect(columns)
