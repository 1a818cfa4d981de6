"""The edge law and the closed growth bound, against enumeration of every draw and against seeded trials."""

from itertools import product

import numpy as np
import pytest

from naive import subset_sum as naive
from prunequant.subset_sum import hitting_times, theory


def draws(n, bound):
    return product(range(-bound, bound + 1), repeat=n)


@pytest.mark.parametrize(("n", "bound"), [(1, 3), (3, 2), (4, 2), (5, 1)])
def test_the_law_of_the_positive_sum_is_that_of_every_draw(n, bound):
    totals = np.bincount([sum(max(v, 0) for v in x) for x in draws(n, bound)], minlength=n * bound + 1)
    assert np.allclose(theory.positive_sum_law(n, bound), totals / (2 * bound + 1) ** n)


@pytest.mark.parametrize(("n", "bound"), [(1, 3), (3, 2), (4, 1)])
def test_the_mean_number_of_magnitude_subsets_is_that_of_every_draw(n, bound):
    mean = np.zeros(n * bound + 1)
    for x in draws(n, bound):
        for total, ways in naive.counts([abs(v) for v in x]).items():
            mean[total] += ways / (2 * bound + 1) ** n
    assert np.allclose(theory.magnitude_counts(n, bound), mean)


@pytest.mark.parametrize(("n", "bound", "target"), [(4, 2, 1), (4, 2, -2), (3, 3, 3), (5, 2, 2)])
def test_a_one_sided_draw_fails_so_its_probability_is_a_lower_bound(n, bound, target):
    failed = sum(target not in naive.all_sums(x) for x in draws(n, bound)) / (2 * bound + 1) ** n
    assert 0 < theory.one_sided_failure(n, bound, target) <= failed


@pytest.mark.parametrize(("bound", "n"), [(1, 4), (2, 4), (3, 4)])
def test_the_closed_bound_lies_above_the_sharper_one_and_that_above_the_truth(bound, n):
    window = range(-(bound // 2), bound - bound // 2 + 1)
    missed = sum(not set(window) <= naive.all_sums(x) for x in draws(n, bound)) / (2 * bound + 1) ** n
    sharper = theory.all_targets_failure(n, bound, "window")  # rounded up by a few units in the last place
    assert missed <= sharper <= theory.closed_failure(n, bound) * (1 + 1e-12)


@pytest.mark.parametrize("reach", ["window", "full"])
def test_without_samples_the_closed_bound_promises_nothing(reach):
    assert theory.closed_failure(0, 1, reach) == theory.closed_failure(0, 256, reach) == 1


@pytest.mark.parametrize("bound", [1, 5, 256, 2**16])
@pytest.mark.parametrize("reach", ["window", "full"])
def test_closed_samples_is_the_least_number_that_suffices(bound, reach):
    n = theory.closed_samples(bound, 1e-3, reach)
    assert theory.closed_failure(n, bound, reach) <= 1e-3 < theory.closed_failure(n - 1, bound, reach)


@pytest.mark.parametrize(("log2_bound", "target"), [(6, 32), (6, 64), (8, 128), (8, 256)])
def test_the_edge_law_follows_the_trials_where_the_mixture_law_has_left_them(log2_bound, target):
    trials, bound = 400_000, 2**log2_bound
    times = hitting_times(log2_bound + 14, bound, target, trials, seed=5)
    for n in range(log2_bound - 2, log2_bound + 13, 3):
        failed = int((times > n).sum())
        if failed > 400:
            assert failed / trials == pytest.approx(theory.edge_failure(n, bound, target), rel=0.2)


def test_the_empty_subset_reaches_zero_so_the_edge_law_refuses_it():
    with pytest.raises(ValueError, match="target is 0"):
        theory.edge_failure(8, 16, 0)


def test_a_target_beyond_every_sum_always_fails():
    assert theory.edge_failure(2, 4, 9) == theory.one_sided_failure(2, 4, 9) == pytest.approx(1)
