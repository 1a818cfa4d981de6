"""A layer's size shared out among its neurons: the least sum of errors, by enumeration."""

import numpy as np
import pytest

from naive import optimum as naive
from prunequant import optimum


@pytest.mark.parametrize("seed", range(30))
def test_the_layers_optimum_is_the_best_of_all_choices(seed):
    rng = np.random.default_rng(seed)
    neurons, options = rng.integers(1, 6), rng.integers(1, 6)
    errors = rng.integers(0, 30, (neurons, options)) / 8
    sizes = rng.integers(0, 7, (neurons, options) if seed % 2 else options) * (1 + seed % 3)
    for budget in range(20):
        least = naive.best_allocation_error(errors, sizes, budget)
        if np.isinf(least):
            with pytest.raises(ValueError, match=f"budget is {budget}: the smallest sizes of all neurons take"):
                optimum.allocate(errors, sizes, budget)
            continue
        chosen = optimum.allocate(errors, sizes, budget)
        assert errors[np.arange(neurons), chosen].sum() == least
        assert np.broadcast_to(sizes, errors.shape)[np.arange(neurons), chosen].sum() <= budget


def test_the_mask_of_a_layer_is_the_best_of_all_masks_of_its_size():
    from itertools import combinations

    rng = np.random.default_rng(5)
    problems = [naive.random_problem(rng, 4) for _ in range(2)]
    tables = [[optimum.best_pruning(w, g, k).error for k in range(5)] for w, g in problems]
    for keep in range(9):
        chosen = optimum.allocate(tables, range(5), keep)
        found = sum(t[k] for t, k in zip(tables, chosen))
        best = np.inf
        for kept in combinations(range(8), keep):
            error = 0.0
            for at, (w, g) in enumerate(problems):
                own = [i - 4 * at for i in kept if i // 4 == at]
                values = np.zeros(4)
                if own:
                    values[own] = np.linalg.solve(g[np.ix_(own, own)], g[own] @ w)
                error += (values - w) @ g @ (values - w)
            best = min(best, error)
        assert found == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("errors", "sizes", "budget", "message"),
    [
        ([1.0, 2.0], [0, 1], 1, r"errors has shape \(2,\)"),
        ([[1.0, 2.0]], [0, 1, 2], 1, r"sizes has shape \(3,\): it must be \(2,\) or \(1, 2\)"),
        ([[1.0, 2.0]], [0, -1], 1, "sizes holds -1 … 0"),
        ([[1.0, np.nan]], [0, 1], 1, "errors holds NaN"),
        ([[1.0, 2.0]], [2, 3], 1, "budget is 1: the smallest sizes of all neurons take 2"),
        ([[1.0, 2.0]] * 300, [1, 1 << 40], 1 << 40, "cells is too large"),
    ],
)
def test_what_is_no_allocation_is_refused_by_name(errors, sizes, budget, message):
    with pytest.raises(ValueError, match=message):
        optimum.allocate(errors, sizes, budget)
