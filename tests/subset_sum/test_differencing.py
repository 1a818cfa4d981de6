"""Karmarkar-Karp: the masks it recovers, and where it succeeds."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import subset_sum as naive
from prunequant import subset_sum


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-60, 60), max_size=14), st.integers(-150, 150))
def test_differencing_ends_at_zero_exactly_when_the_naive_one_does_and_its_mask_is_right(x, target):
    mask = subset_sum.karmarkar_karp(np.array(x, dtype=np.int64), target)
    assert (mask is not None) == naive.karmarkar_karp(x, target)
    if mask is not None:
        assert sum(v for v, bit in zip(x, mask) if bit) == target


def test_success_needs_samples_in_proportion_to_log2_m():
    rng = np.random.default_rng(0)
    rates = {}
    for log_m, factor in ((8, 8), (16, 8), (24, 2), (24, 8)):
        n = factor * log_m
        x = rng.integers(-(2**log_m), 2**log_m + 1, (400, n))
        rates[log_m, factor] = subset_sum.karmarkar_karp_many(
            x, rng.integers(-(2**log_m), 2**log_m + 1, 400)
        ).found.mean()
    assert rates[8, 8] == rates[16, 8] == 1.0
    assert rates[24, 8] > 0.95 and rates[24, 2] < 0.05


def test_large_values_and_many_samples_do_not_overflow():
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**40), 2**40, (3, 4000))
    targets = rng.integers(-(2**40), 2**40, 3)
    masks, found = subset_sum.karmarkar_karp_many(x, targets)
    assert found.any()
    for i in np.flatnonzero(found):
        assert sum(int(v) for v in x[i, masks[i]]) == targets[i]


def test_lengths_and_threads_are_respected():
    rng = np.random.default_rng(2)
    x = rng.integers(-50, 51, (500, 30))
    lengths = rng.integers(0, 31, 500)
    targets = rng.integers(-50, 51, 500)
    first = subset_sum.karmarkar_karp_many(x, targets, lengths)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    second = subset_sum.karmarkar_karp_many(x, targets, lengths)
    numba.set_num_threads(before)
    assert (first.masks == second.masks).all() and (first.found == second.found).all()
    for i in range(500):
        assert not first.masks[i, lengths[i] :].any()
        assert first.found[i] == naive.karmarkar_karp(x[i, : lengths[i]], int(targets[i]))


def test_targets_beyond_every_sum_are_missed_not_wrapped():
    assert subset_sum.karmarkar_karp(np.array([1, 2]), 2**80) is None
    assert not subset_sum.karmarkar_karp_many(np.array([[1, 2]]), [2**62]).found.any()
    with pytest.raises(ValueError, match="sums may pass"):
        subset_sum.karmarkar_karp(np.full(2**20, 2**40), 1)
