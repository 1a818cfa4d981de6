"""Slow and obvious twins of `prunequant.optimum`: enumeration."""

from itertools import combinations, product

import numpy as np


def best_quantization_error(weights, gram, scale, low, high):
    """Least error over every integer vector of the box [low_i, high_i]."""
    ranges = [
        range(int(a), int(b) + 1)
        for a, b in zip(np.broadcast_to(low, weights.shape), np.broadcast_to(high, weights.shape))
    ]
    difference = np.array(list(product(*ranges)), float) * scale - weights
    return float(np.min(np.einsum("ij,jk,ik->i", difference, gram, difference)))


def best_pruning_error(weights, gram, keep, refit):
    """Least error over every set of `keep` kept weights."""
    n, best = len(weights), np.inf
    for kept in combinations(range(n), keep):
        kept = list(kept)
        values = np.zeros(n)
        if kept:
            block = gram[np.ix_(kept, kept)]
            values[kept] = np.linalg.solve(block, gram[kept] @ weights) if refit else weights[kept]
        best = min(best, float((values - weights) @ gram @ (values - weights)))
    return best


def random_problem(rng, n, correlation=0.5, samples=None):
    """A Gaussian layer whose neighbouring inputs correlate: weights and Gram matrix."""
    inputs = rng.standard_normal((samples or 2 * n, n))
    for i in range(1, n):
        inputs[:, i] = correlation * inputs[:, i - 1] + np.sqrt(1 - correlation**2) * inputs[:, i]
    return rng.standard_normal(n), inputs.T @ inputs / len(inputs)
