"""The multiple-choice knapsack: enumeration, HiGHS, bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from naive import knapsack as naive
from prunequant.checkpoint import knapsack

ITEMS = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=4), min_size=1, max_size=5
)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.integers(0, 120))
def test_the_choice_is_the_best_of_all_choices(items, budget):
    sizes, errors = [[s for s, _ in item] for item in items], [[e for _, e in item] for item in items]
    least = naive.least_error(sizes, errors, budget)
    if np.isinf(least):
        with pytest.raises(ValueError, match=f"budget is {budget}: the smallest sizes of all items take"):
            knapsack.best_choice(sizes, errors, budget)
        return
    found = knapsack.best_choice(sizes, errors, budget)
    assert found.error == found.bound == least
    assert found.size == sum(s[i] for s, i in zip(sizes, found.chosen)) <= budget


@settings(max_examples=100, deadline=None)
@given(ITEMS, st.integers(0, 120))
def test_with_few_sums_kept_the_gap_still_holds_the_optimum(items, budget):
    sizes, errors = [[s for s, _ in item] for item in items], [[e for _, e in item] for item in items]
    least = naive.least_error(sizes, errors, budget)
    if np.isfinite(least):
        found = knapsack.best_choice(sizes, errors, budget, most_states=1)
        assert found.bound <= least * (1 + 1e-12) <= found.error * (1 + 1e-12) + 1e-12
        assert found.size <= budget


def layers(seed, count):
    """Sizes and errors as those of a model's matrices: few shapes, errors that fall by 6 dB a bit."""
    rng = np.random.default_rng(seed)
    shapes = rng.choice([(64, 64), (128, 64), (64, 192)], count)
    bits = np.array([2, 2.125, 3, 3.125, 4, 4.125, 4.25, 8, 9])
    sizes = [np.int64(r * c * bits + 16 * r) for r, c in shapes]
    errors = [r * c * 10 ** -((6 * bits - 5 + rng.normal(0, 1.5) + rng.normal(0, 0.5, bits.size)) / 10)
              for r, c in shapes]  # fmt: skip
    return sizes, errors


@pytest.mark.parametrize("seed", range(6))
def test_highs_finds_nothing_better(seed):
    sizes, errors = layers(seed, 25)
    budget = int(sum(s.max() for s in sizes) * (0.35 + 0.07 * seed))
    found = knapsack.best_choice(sizes, errors, budget)
    s, e = np.concatenate(sizes), np.concatenate(errors)
    one_each = np.kron(np.eye(len(sizes)), np.ones(len(sizes[0])))
    theirs = milp(e / e.sum(), integrality=np.ones(e.size), bounds=Bounds(0, 1), options={"mip_rel_gap": 0.0},
                  constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(s / budget, -np.inf, 1)])  # fmt: skip
    assert found.size <= budget and found.gap == 0
    chosen = [(s[i], e[i]) for s, e, i in zip(sizes, errors, found.chosen, strict=True)]
    assert (found.size, found.error) == pytest.approx(tuple(map(sum, zip(*chosen))), rel=1e-12)
    assert found.error <= theirs.fun * e.sum() * (1 + 1e-6)  # HiGHS of SciPy 1.13 stops above the optimum


def test_a_start_is_never_made_worse_even_when_no_sums_are_kept():
    for seed in range(20):
        sizes, errors = layers(100 + seed, 12)
        best = knapsack.best_choice(sizes, errors, 500_000)
        found = knapsack.best_choice(sizes, errors, 500_000, start=best.chosen, most_states=1)
        assert found.error == best.error and found.bound <= best.error


def test_the_steps_trace_the_hull_of_all_choices():
    sizes, errors = layers(3, 5)
    first, order = knapsack.steps(sizes, errors)
    size, error = sum(s[i] for s, i in zip(sizes, first)), sum(e[i] for e, i in zip(errors, first))
    for step in order:
        size, error = size + step.size, error + step.error
        best = knapsack.best_choice(sizes, errors, int(size))
        assert best.error == pytest.approx(error, rel=1e-9)  # a corner of the hull is an optimum at its own size
    assert all(a.saving >= b.saving for a, b in itertools.pairwise(order))


@pytest.mark.parametrize(
    ("sizes", "errors", "budget", "message"),
    [
        ([[1, 2]], [[1.0]], 3, r"sizes\[0\] has shape \(2,\) and errors\[0\] \(1,\)"),
        ([[1, 2], [1]], [[1.0, 0.0]], 3, "sizes has 2 items and errors 1"),
        ([[-1]], [[1.0]], 3, "item 0 has an option of size -1"),
        ([[1]], [[-1.0]], 3, "item 0 has an option of size 1 and error -1.0"),
        ([[1]], [[np.nan]], 3, r"errors\[0\] holds NaN"),
        ([[1 << 52], [1]], [[1.0], [1.0]], 3, "more than 2"),
        ([[5], [5]], [[1.0], [1.0]], 9, "budget is 9: the smallest sizes of all items take 10"),
        ([[5]], [[1.0]], -1, "budget is -1"),
    ],
)
def test_what_is_no_knapsack_is_refused_by_name(sizes, errors, budget, message):
    with pytest.raises(ValueError, match=message):
        knapsack.best_choice(sizes, errors, budget)
