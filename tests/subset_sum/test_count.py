"""Numbers of subsets: enumeration, binomials, symmetry, and no silent overflow."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import subset_sum as naive
from prunequant import subset_sum
from prunequant.subset_sum import SearchTooLarge, counts


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([1, 6, 100, 4000]).flatmap(lambda m: st.lists(st.integers(-m, m), max_size=10)),
    st.integers(-900, 900),
    st.integers(0, 500),
)
def test_counts_are_those_of_enumeration(x, low, width):
    table = naive.counts(x)
    expected = [table.get(t, 0) for t in range(low, low + width + 1)]
    x = np.array(x, dtype=np.int64)
    assert subset_sum.count(x, low, low + width).tolist() == expected


def test_the_join_and_the_table_agree(monkeypatch):
    x = np.random.default_rng(0).integers(-(2**10), 2**10, (20, 14))
    x[3, 5:9] = 0
    results = []
    for items in (-1, 48):
        monkeypatch.setattr(counts, "_MAX_JOIN_ITEMS", items)
        results.append(subset_sum.count(x, -500, 700))
    joined = np.zeros_like(results[0])
    counts.kernels.join_rows(x, -500, 700, joined, 0, 20)
    assert (results[0] == results[1]).all() and (results[0] == joined).all()


@pytest.mark.parametrize("n", [1, 20, 31, 32, 33, 63])
def test_equal_samples_give_binomial_coefficients(n):
    got = subset_sum.count(np.ones(n, dtype=int), 0, n)
    assert got.tolist() == [math.comb(n, k) for k in range(n + 1)]


def test_zeros_double_every_count():
    x = np.array([3, -1, 4])
    padded = np.array([0, 3, 0, -1, 4, 0])
    assert (subset_sum.count(padded, -2, 8) == 8 * subset_sum.count(x, -2, 8)).all()


@pytest.mark.parametrize(("bound", "n"), [(50, 40), (1000, 26), (2**15, 24)])
def test_all_counts_add_up_to_two_to_the_n(bound, n):
    x = np.random.default_rng(n).integers(-bound, bound + 1, n)
    low, high = int(np.minimum(x, 0).sum()), int(np.maximum(x, 0).sum())
    got = subset_sum.count(x, low, high)
    assert int(got.astype(object).sum()) == 2**n
    assert (got == got[::-1]).all()
    assert ((got > 0) == subset_sum.reachable(x, low, high)).all()


def test_a_count_beyond_64_bits_is_an_error_and_one_just_within_is_exact():
    assert int(subset_sum.count(np.ones(66, dtype=int), 33, 33)[0]) == math.comb(66, 33)
    with pytest.raises(OverflowError, match="68 samples"):
        subset_sum.count(np.ones(68, dtype=int), 34, 34)
    with pytest.raises(OverflowError, match="64 samples"):
        subset_sum.count(np.zeros(64, dtype=int), 0, 0)
    assert int(subset_sum.count(np.zeros(63, dtype=int), 0, 0)[0]) == 2**63


def test_huge_values_are_joined_where_no_table_fits_and_refused_where_neither_does():
    x = np.random.default_rng(1).integers(-(2**40), 2**40, 20)
    target = int(x[::3].sum())
    assert subset_sum.count(x, target, target)[0] >= 1
    with pytest.raises(SearchTooLarge, match="too many for a join"):
        subset_sum.count(np.tile(x, 3), target, target)


def test_counts_can_fill_memory_that_is_given():
    x = np.random.default_rng(2).integers(-9, 10, (4, 8))
    out = np.full((4, 11), 77, dtype=np.uint64)
    assert subset_sum.count(x, -5, 5, out=out) is out
    assert (out == subset_sum.count(x, -5, 5)).all()
    with pytest.raises(ValueError, match="dtype int64: it must be"):
        subset_sum.count(x, -5, 5, out=out.astype(np.int64))


def test_a_join_writes_no_further_than_its_window():
    x = np.array([[1, 2, 4, 8, 16, 32]], dtype=np.int64)  # every sum from 0 to 63 once
    for width in (1, 5, counts.kernels.CHUNK, counts.kernels.CHUNK + 3):
        out = np.full((1, width + 2), 77, dtype=np.uint64)
        counts.kernels.join_rows(x, 0, width - 1, out, 0, 1)
        assert out[0, :width].tolist() == [int(t < 64) for t in range(width)]
        assert out[0, width:].tolist() == [77, 77]


def test_a_join_of_more_matches_than_its_limit_is_refused_where_no_table_fits(monkeypatch):
    x = np.random.default_rng(3).integers(-(2**20), 2**20, 16)
    monkeypatch.setattr(counts, "MAX_TABLE_BYTES", 2**25)  # room for the answer, not for a table of all sums
    low, high = -(2**20), 2**20
    assert int(subset_sum.count(x, low, high).sum()) == sum(
        ways for total, ways in naive.counts(x).items() if low <= total <= high
    )
    monkeypatch.setattr(counts, "_MAX_JOIN_MATCHES", 2.0**10)
    with pytest.raises(SearchTooLarge, match="too many for a join"):
        subset_sum.count(x, low, high)
