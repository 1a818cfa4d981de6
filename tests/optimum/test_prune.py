"""Exact pruning against enumeration, with and without refit, and the heuristics above it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import optimum as naive
from prunequant import optimum


@pytest.mark.parametrize("refit", [True, False])
def test_the_best_subset_agrees_with_enumeration_on_a_thousand_layers(refit):
    rng = np.random.default_rng(1)
    for trial in range(1000):
        n = int(rng.integers(2, 9))
        keep = int(rng.integers(0, n + 1))
        weights, gram = naive.random_problem(rng, n, (0.0, 0.6, 0.97)[trial % 3])
        found = optimum.best_pruning(weights, gram, keep, refit=refit)
        assert found.proved
        assert found.error == pytest.approx(naive.best_pruning_error(weights, gram, keep, refit), rel=1e-7, abs=1e-11)
        assert np.count_nonzero(found.values) <= keep
        if not refit:
            assert set(found.values[found.values != 0]) <= set(weights)


@given(st.integers(0, 10**6), st.integers(1, 17), st.floats(0, 0.95))
@settings(max_examples=40, deadline=None)
def test_exact_is_at_most_swaps_at_most_greedy_at_most_magnitude(seed, keep, correlation):
    weights, gram = naive.random_problem(np.random.default_rng(seed), 18, correlation)
    exact = optimum.best_pruning(weights, gram, keep)
    swapped = optimum.obs_pruning(weights, gram, keep)
    greedy = optimum.obs_pruning(weights, gram, keep, swaps=False)
    refitted = optimum.magnitude_pruning(weights, gram, keep, refit=True)
    plain = optimum.magnitude_pruning(weights, gram, keep)
    in_place = optimum.best_pruning(weights, gram, keep, refit=False)
    slack = 1e-9 * (weights @ gram @ weights)
    assert exact.proved and in_place.proved
    assert exact.error <= swapped.error + slack <= greedy.error + 2 * slack
    assert exact.error <= refitted.error + slack <= plain.error + 2 * slack
    assert exact.error <= in_place.error + slack <= plain.error + 2 * slack


def test_uncorrelated_inputs_of_equal_power_make_magnitude_pruning_optimal():
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((30, 3))
    exact = optimum.best_pruning(weights, 2.0 * np.eye(30), 8)
    np.testing.assert_allclose(exact.values, optimum.magnitude_pruning(weights, np.eye(30), 8).values, rtol=1e-12)
    assert np.all(exact.proved)


def test_a_small_node_limit_is_not_proved_but_bounded_from_below():
    rng = np.random.default_rng(3)
    for refit in (True, False):
        weights, gram = naive.random_problem(rng, 26, 0.8)
        short = optimum.best_pruning(weights, gram, 9, node_limit=3, refit=refit)
        exact = optimum.best_pruning(weights, gram, 9, refit=refit)
        assert exact.proved and not short.proved
        assert short.lower_bound <= exact.error + 1e-12 <= short.error + 2e-12


def test_keeping_all_or_nothing_needs_no_search():
    weights, gram = naive.random_problem(np.random.default_rng(4), 6)
    everything, nothing = optimum.best_pruning(weights, gram, 6), optimum.best_pruning(weights, gram, 0)
    np.testing.assert_array_equal(everything.values, weights)
    assert everything.error == 0.0
    assert nothing.error == pytest.approx(weights @ gram @ weights)


def test_refitted_values_solve_the_normal_equations():
    weights, gram = naive.random_problem(np.random.default_rng(5), 9, 0.7)
    mask = np.arange(9) % 2 == 0
    values = optimum.refitted(weights, gram, mask)
    np.testing.assert_allclose((gram @ (values - weights))[mask], 0, atol=1e-12)
    assert not values[~mask].any()


def test_a_singular_gram_needs_a_ridge_only_with_a_refit():
    inputs = np.random.default_rng(6).standard_normal((3, 5))
    gram, weights = inputs.T @ inputs, np.arange(1.0, 6.0)
    with pytest.raises(ValueError, match="add a ridge"):
        optimum.best_pruning(weights, gram, 2)
    found = optimum.best_pruning(weights, gram, 2, refit=False)
    assert found.error == pytest.approx(naive.best_pruning_error(weights, gram, 2, False), rel=1e-9)


@pytest.mark.parametrize(
    ("keep", "error"), [(7, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_a_keep_that_cannot_be_is_refused(keep, error):
    with pytest.raises(error, match=f"keep is {keep!r}: it must be an integer in"):
        optimum.best_pruning(np.ones(6), np.eye(6), keep)


def test_a_gram_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="not positive semidefinite"):
        optimum.best_pruning(np.ones(2), np.array([[1.0, 3.0], [3.0, 1.0]]), 1)
