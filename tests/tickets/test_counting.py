from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunequant.tickets import controls, counting

small = st.lists(st.integers(-3, 3), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(small, st.integers(0, 1000))
def test_slopes_by_sumset_are_the_slopes_of_all_masked_networks(u, seed):
    v = np.random.default_rng(seed).integers(-3, 4, len(u))
    counted = counting.representable_weights(np.array(u), v)
    assert set(counted) == counting.brute_force_weights(np.array(u), v)
    assert sum(counted.values()) == 4 ** len(u)


def test_distinct_functions_are_those_of_all_masks():
    rng = np.random.default_rng(1)
    u, v, probes = rng.integers(-2, 3, (2, 2)), rng.integers(-2, 3, (2, 2)), rng.integers(-5, 6, (9, 2))
    brute = set()
    for bits in product((0, 1), repeat=8):
        mu, mv = np.array(bits[:4]).reshape(2, 2), np.array(bits[4:]).reshape(2, 2)
        brute.add((np.maximum(probes @ (u * mu).T, 0) @ (v * mv).T).ravel().tobytes())
    assert {row.tobytes() for row in counting.distinct_functions(u, v, probes)} == brute


def test_masks_overcount_functions_by_far():
    rng = np.random.default_rng(0)
    u, v, probes = rng.integers(-1, 2, (8, 2)), rng.integers(-1, 2, (2, 8)), rng.integers(-5, 6, (16, 2))
    functions = counting.distinct_functions(u, v, probes)
    assert len(functions) < 1e-4 * 2.0**32
    assert counting.reached_targets(functions, probes, 2, 1, 1) <= 81


def test_measured_least_parameters_stay_above_the_counting_bound():
    least = [counting.least_parameters(k) for k in (1, 2, 4)]
    assert least == sorted(least)
    assert all(p >= counting.counting_bound([1], [k]) for p, k in zip(least, (1, 2, 4)))


def test_the_counting_bound_adds_over_layers():
    assert counting.counting_bound([6, 6], [3, 3]) + 1 == 2 * (counting.counting_bound([6], [3]) + 1)


def test_a_matrix_without_weights_adds_nothing_to_the_counting_bound_and_a_negative_size_is_refused():
    assert counting.counting_bound([6, 0], [3, 7]) == counting.counting_bound([6], [3])
    with pytest.raises(ValueError, match=r"sizes\[1\] is -1: it must be an integer in \[0, "):
        counting.counting_bound([6, -1], [3, 7])


def test_a_weight_at_threshold_is_mostly_missed_and_found_twelve_samples_later():
    at, later = (controls.single_weight_success(16, 16, n) for n in (16, 40))
    assert 0.25 < at < 0.45 and later > 0.97


def test_the_least_width_follows_the_additive_law():
    units = [controls.least_width(6, 2**k, layers=40).units for k in (3, 5, 7)]
    assert all(2 <= b - a <= 14 for a, b in pairwise(units))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at most 12"):
        counting.representable_weights(np.ones(13, int), np.ones(13, int))
    with pytest.raises(ValueError, match="at most 10"):
        counting.brute_force_weights(np.ones(11, int), np.ones(11, int))
    with pytest.raises(ValueError, match="are needed"):
        counting.distinct_functions(*(np.ones(shape, int) for shape in ((2, 2), (2, 3), (1, 2))))
    with pytest.raises(ValueError, match="no block"):
        controls.least_width(4, 255, layers=5, largest=20)
