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


def best_allocation_error(errors, sizes, budget):
    """Least sum of errors over every choice of one option a neuron whose sizes fit the budget; infinite without one."""
    sizes = np.broadcast_to(sizes, np.shape(errors))
    choices = product(*[range(len(row)) for row in errors])
    fitting = (c for c in choices if sum(s[o] for s, o in zip(sizes, c)) <= budget)
    return min((sum(e[o] for e, o in zip(errors, c)) for c in fitting), default=np.inf)


def random_problem(rng, n, correlation=0.5, samples=None):
    """A Gaussian layer whose neighbouring inputs correlate: weights and Gram matrix."""
    inputs = rng.standard_normal((samples or 2 * n, n))
    for i in range(1, n):
        inputs[:, i] = correlation * inputs[:, i - 1] + np.sqrt(1 - correlation**2) * inputs[:, i]
    return rng.standard_normal(n), inputs.T @ inputs / len(inputs)


SINGULAR = ("integer", "duplicated", "opposite", "one-hot", "dead", "few samples")


def singular_gram(rng, kind, n):
    """A Gram matrix of a kind of SINGULAR, n ≥ 2 ("integer" and "one-hot" ones are singular mostly, not always)."""
    inputs = rng.standard_normal((2 * n, n))
    one, other = rng.choice(n, 2, replace=False)
    if kind == "integer":
        inputs = rng.integers(-2, 3, (int(rng.integers(1, n + 1)), n)).astype(float)
    elif kind == "duplicated":
        inputs[:, one] = inputs[:, other]
    elif kind == "opposite":
        inputs[:, one] = -inputs[:, other]
    elif kind == "one-hot":
        inputs = np.eye(n)[rng.integers(0, n, n + 2)][:, rng.integers(0, n, n)]
    elif kind == "dead":
        inputs[:, one] = 0.0
    elif kind == "few samples":
        inputs = inputs[: int(rng.integers(1, n))]
    return inputs.T @ inputs
