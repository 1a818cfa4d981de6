"""Exact and heuristic layerwise pruning: which weights to keep, with or without a refit of the kept ones."""

from __future__ import annotations

import numpy as np

from . import _kernels, _subsets
from .problem import (
    NODE_LIMIT,
    Solution,
    check_node_limit,
    check_problem,
    collect,
    each_neuron,
    inverse,
)
from .quantize import _order, _triangle


def _check_keep(keep, n: int) -> int:
    if not isinstance(keep, int | np.integer) or isinstance(keep, bool) or not 0 <= keep <= n:
        raise ValueError(f"keep is {keep!r}: it must be an integer from 0 to {n}, the number of weights of a neuron")
    return int(keep)


def refitted(weights: np.ndarray, gram: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values on the mask that minimise (values − w)ᵀ gram (values − w), one neuron; zero elsewhere.

    >>> refitted(np.array([1.0, 1.0]), np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([True, False]))
    array([1.5, 0. ])
    """
    values = np.zeros(len(weights))
    kept = np.flatnonzero(mask)
    if kept.size:
        values[kept] = np.linalg.solve(gram[np.ix_(kept, kept)], gram[kept] @ weights)
    return values


def _largest(score: np.ndarray, keep: int) -> np.ndarray:
    """Mask of the `keep` largest scores, the first of equals kept (as `prunequant.sparsity.keep_largest`)."""
    mask = np.zeros(len(score), bool)
    mask[np.argsort(-score, kind="stable")[:keep]] = True
    return mask


def _without(n: int, pruned: np.ndarray) -> np.ndarray:
    mask = np.ones(n, bool)
    mask[pruned] = False
    return mask


def best_pruning(weights, gram, keep: int, node_limit: int = NODE_LIMIT, *, refit: bool = True) -> Solution:
    """The best `keep` weights of each neuron: proved optimal, or the best found with a lower bound.

    Parameters
    ----------
    weights : (features,) or (features, neurons)
    gram : (features, features): inputs.T @ inputs, symmetric; positive definite with a refit, else semidefinite
    keep : int, 0 … features: weights kept in each neuron
    node_limit : nodes of the search tree of each neuron
    refit : the kept weights are set to their least-squares values (the problem of Kuzmin et al. 2023); False leaves
    them

    Returns
    -------
    Solution

    Raises
    ------
    ValueError : keep larger than the number of weights, gram not symmetric, not positive, or singular with a refit

    Notes
    -----
    With a refit: leaps and bounds on the inverse Gram matrix (Furnival and Wilson 1974, in the variables of the Optimal
    Brain Surgeon), no big-M constant anywhere; n = 32 in about a second at a quarter kept. Without: the sphere
    decoder over {0, 1} with the number of ones fixed. Twin: tests/naive/optimum.py.

    Examples
    --------
    >>> gram = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]])
    >>> best_pruning(np.array([1.1, 1.0, 1.2]), gram, keep=2).values  # one of the twins carries both
    array([2. , 0. , 1.2])
    >>> best_pruning(np.array([1.1, 1.0, 1.2]), gram, keep=2, refit=False).values
    array([1.1, 1. , 0. ])
    """
    weights, gram = check_problem(weights, gram)
    node_limit = check_node_limit(node_limit)
    keep = _check_keep(keep, weights.shape[0])
    one = weights.ndim == 1
    columns = weights.reshape(len(weights), -1)
    solve = _with_refit(columns, gram, keep, node_limit) if refit else _in_place(columns, gram, keep, node_limit)
    return collect(columns, gram, each_neuron(solve, columns.shape[1]), one)


def _with_refit(columns, gram, keep, node_limit):
    n = len(columns)
    r = n - keep
    full = inverse(gram)

    def solve(j):
        w = np.ascontiguousarray(columns[:, j])
        if r == 0:
            return w, None, 0
        if keep == 0:
            return np.zeros(n), None, 0
        gone = np.zeros(n, bool)
        _subsets.obs(full.copy(), w.copy(), r, gone)
        _subsets.obs_swaps(gram, w, gone, 2 * n)
        pruned = np.flatnonzero(gone)
        part = w[pruned]
        start = float(part @ np.linalg.solve(full[np.ix_(pruned, pruned)], part))
        best, bound, nodes = _subsets.best_subset(full, w, r, node_limit, start * (1 + 1e-12), pruned)
        return refitted(w, gram, _without(n, pruned)), (None if bound >= min(best, start) else bound), nodes

    return solve


def _in_place(columns, gram, keep, node_limit):
    n = len(columns)

    def solve(j):
        w = np.ascontiguousarray(columns[:, j])
        cost = gram * np.multiply.outer(w, w)
        gone = (~_largest(w * w * np.diag(gram), keep)).astype(np.int64)
        _kernels.swap(cost, gone)
        permutation = _order(cost + 1e-9 * max(np.trace(cost) / n, 1e-300) * np.eye(n), "blast")
        r = _triangle(cost, permutation)
        q = gone[permutation]
        start = float(np.sum((r @ q) ** 2))
        zero, one = np.zeros(n, np.int64), np.ones(n, np.int64)
        none = np.zeros(n)
        best, bound, nodes = _kernels.decode(r, none, zero, one, none, n - keep, node_limit, start, q)
        values = w.copy()
        values[permutation[q == 1]] = 0.0
        return values, (None if bound >= best else bound), nodes

    return solve


def magnitude_pruning(weights, gram, keep: int, *, refit: bool = False) -> Solution:
    """Keep the largest |w| of each neuron; with `refit` the kept ones are set to their least-squares values."""
    weights, gram = check_problem(weights, gram)
    keep = _check_keep(keep, weights.shape[0])
    columns = weights.reshape(len(weights), -1)
    if refit:
        inverse(gram)
    out = []
    for w in np.ascontiguousarray(columns.T):
        mask = _largest(np.abs(w), keep)
        out.append((refitted(w, gram, mask) if refit else np.where(mask, w, 0.0), 0.0, 0))
    return collect(columns, gram, out, weights.ndim == 1)


def obs_pruning(weights, gram, keep: int, *, swaps: bool = True) -> Solution:
    """Greedy removal with refit (Optimal Brain Surgeon), then exchanges of a pruned for a kept weight while they help.

    Notes
    -----
    O(r n²) for r removals, O(r k²) for each exchange. Hassibi and Stork 1993.
    """
    weights, gram = check_problem(weights, gram)
    keep = _check_keep(keep, weights.shape[0])
    columns = weights.reshape(len(weights), -1)
    full = inverse(gram)
    out = []
    for w in np.ascontiguousarray(columns.T):
        gone = np.zeros(len(w), bool)
        _subsets.obs(full.copy(), w.copy(), len(w) - keep, gone)
        if swaps and 0 < keep < len(w):
            _subsets.obs_swaps(gram, w.copy(), gone, 2 * len(w))
        out.append((refitted(w, gram, ~gone), 0.0, 0))
    return collect(columns, gram, out, weights.ndim == 1)
