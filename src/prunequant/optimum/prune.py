"""Exact and heuristic layerwise pruning: which weights to keep, with or without a refit of the kept ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prunequant.arguments import booleans, flag, integer

from . import _kernels, _subsets
from .lattice import elimination_order, triangle
from .problem import NODE_LIMIT, Problem, Solution, check_node_limit, each_neuron, factor, inverse


def refitted(weights: np.ndarray, gram: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values on the mask that minimise (values − w)ᵀ gram (values − w), one neuron; zero elsewhere.

    weights (n,), gram (n, n) positive semidefinite, mask (n,) bool. Where the kept inputs are dependent, so that many
    values do, the one nearest to zero, each weight measured by the power of its input.

    Raises
    ------
    TypeError : a mask that is not of bools, weights or gram that are not real numbers
    ValueError : shapes that do not agree, a gram that is not symmetric or not positive semidefinite

    >>> refitted(np.array([1.0, 1.0]), np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([True, False]))
    array([1.5, 0. ])
    """
    problem = Problem(weights, gram)
    mask = booleans(mask, "mask")
    if not problem.one or mask.shape != problem.shape:
        raise ValueError(
            f"weights has shape {problem.shape} and mask {mask.shape}: both must be (features,), one neuron"
        )
    kept = np.flatnonzero(mask)
    factor(problem.gram)
    w, block = problem.weights[:, 0], problem.gram[np.ix_(kept, kept)]
    if not kept.size or _regular(block):
        return problem.from_units(_refitted(w, problem.gram, mask))
    size = np.sqrt(np.diag(block))
    size[size == 0.0] = 1.0
    values = np.zeros(len(w))
    fit = np.linalg.pinv(block / size / size[:, None], rcond=len(kept) * 1e-15, hermitian=True)
    values[kept] = fit @ (problem.gram[kept] @ w / size) / size
    return problem.from_units(values)


def _regular(block: np.ndarray) -> bool:
    values = np.linalg.eigvalsh(block)
    return values[0] > 1e-13 * values[-1]


def _refitted(weights: np.ndarray, gram: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`refitted` on a positive definite gram."""
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


def best_pruning(
    weights: ArrayLike, gram: ArrayLike, keep: int, node_limit: int = NODE_LIMIT, *, refit: bool = True
) -> Solution:
    """The best `keep` weights of each neuron: proved optimal, or the best found with a lower bound.

    Parameters
    ----------
    weights : (features,) or (features, neurons), within ±1e300
    gram : (features, features): inputs.T @ inputs, symmetric; positive definite with a refit, else semidefinite
    keep : int, 0 … features: weights kept in each neuron
    node_limit : int, 1 … 2^62: nodes of the search tree of each neuron, and so the longest it may take
    refit : the kept weights are set to their least-squares values (the problem of Kuzmin et al. 2023); False leaves
    them

    Returns
    -------
    Solution

    Raises
    ------
    TypeError : an argument of the wrong kind (keep a float, weights of words)
    ValueError : keep larger than the number of weights, gram not symmetric, not positive, or singular with a refit,
        numbers so large that an error would pass the largest float

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
    problem = Problem(weights, gram)
    node_limit = check_node_limit(node_limit)
    keep = integer(keep, "keep", 0, len(problem.plain))
    solve = (_with_refit if flag(refit, "refit") else _in_place)(problem, keep, node_limit)
    return problem.collect(each_neuron(solve, problem.plain.shape[1]))


def _with_refit(problem, keep, node_limit):
    columns, gram = problem.weights, problem.gram
    n = len(columns)
    r = n - keep
    full = inverse(gram)

    def solve(j):
        w = np.ascontiguousarray(columns[:, j])
        if r == 0:
            return problem.plain[:, j], None, 0
        if keep == 0:
            return np.zeros(n), None, 0
        gone = np.zeros(n, bool)
        _subsets.obs(full.copy(), w.copy(), r, gone)
        _subsets.obs_swaps(gram, w, gone, 2 * n)
        pruned = np.flatnonzero(gone)
        part = w[pruned]
        start = float(part @ np.linalg.solve(full[np.ix_(pruned, pruned)], part))
        best, bound, nodes = _subsets.best_subset(full, w, r, node_limit, start * (1 + 1e-12), pruned)
        values = problem.from_units(_refitted(w, gram, _without(n, pruned)))
        return values, (None if bound >= min(best, start) else bound), nodes

    return solve


def _in_place(problem, keep, node_limit):
    columns, gram = problem.weights, problem.gram
    n = len(columns)

    def solve(j):
        w = np.ascontiguousarray(columns[:, j])
        cost = gram * np.multiply.outer(w, w)
        gone = (~_largest(w * w * np.diag(gram), keep)).astype(np.int64)
        _kernels.swap(cost, gone)
        permutation = elimination_order(cost + 1e-9 * max(np.trace(cost) / n, 1e-300) * np.eye(n), "blast")
        r = triangle(cost, permutation)
        q = gone[permutation]
        start = float(np.sum((r @ q) ** 2))
        zero, one = np.zeros(n, np.int64), np.ones(n, np.int64)
        none = np.zeros(n)
        best, bound, nodes = _kernels.decode(r, none, zero, one, none, n - keep, node_limit, start, q)
        values = problem.plain[:, j].copy()
        values[permutation[q == 1]] = 0.0
        return values, (None if bound >= best else bound), nodes

    return solve


def magnitude_pruning(weights: ArrayLike, gram: ArrayLike, keep: int, *, refit: bool = False) -> Solution:
    """Keep the largest |w| of each neuron; with `refit` the kept ones are set to their least-squares values.

    Arguments, result and errors as in `best_pruning`; nothing is proved.

    >>> magnitude_pruning(np.array([1.0, 3.0, -2.0]), np.eye(3), keep=2).values
    array([ 0.,  3., -2.])
    """
    problem = Problem(weights, gram)
    keep = integer(keep, "keep", 0, len(problem.plain))
    refit = flag(refit, "refit")
    (inverse if refit else factor)(problem.gram)
    out = []
    for w in np.ascontiguousarray(problem.plain.T):
        mask = _largest(np.abs(w), keep)
        if refit:
            values = problem.from_units(_refitted(problem.to_units(w), problem.gram, mask))
        else:
            values = np.where(mask, w, 0.0)
        out.append((values, 0.0, 0))
    return problem.collect(out)


def obs_pruning(weights: ArrayLike, gram: ArrayLike, keep: int, *, swaps: bool = True) -> Solution:
    """Greedy removal with refit (Optimal Brain Surgeon), then exchanges of a pruned for a kept weight while they help.

    Arguments, result and errors as in `best_pruning` with a refit; nothing is proved.

    Notes
    -----
    O(r n²) for r removals, O(r k²) for each exchange. Hassibi and Stork 1993.

    >>> gram = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]])
    >>> obs_pruning(np.array([1.1, 1.0, 1.2]), gram, keep=2).values
    array([2. , 0. , 1.2])
    """
    problem = Problem(weights, gram)
    keep = integer(keep, "keep", 0, len(problem.plain))
    swaps = flag(swaps, "swaps")
    full = inverse(problem.gram)
    out = []
    for w in np.ascontiguousarray(problem.weights.T):
        gone = np.zeros(len(w), bool)
        _subsets.obs(full.copy(), w.copy(), len(w) - keep, gone)
        if swaps and 0 < keep < len(w):
            _subsets.obs_swaps(problem.gram, w.copy(), gone, 2 * len(w))
        out.append((problem.from_units(_refitted(w, problem.gram, ~gone)), 0.0, 0))
    return problem.collect(out)
