"""All targets of a window: against sets and against unbounded integers."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import subset_sum as naive
from prunequant import subset_sum
from prunequant.subset_sum import SearchTooLarge, _kernels_reach


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([1, 5, 63, 64, 200, 5000]).flatmap(lambda m: st.lists(st.integers(-m, m), max_size=11)),
    st.integers(-3000, 3000),
    st.integers(0, 900),
)
def test_reachable_targets_are_the_set_of_all_sums(x, low, width):
    x = np.array(x, dtype=np.int64)
    expected = naive.reachable(x, low, low + width)
    assert subset_sum.reachable(x, low, low + width).tolist() == expected
    assert subset_sum.covered(x, low, low + width) == sum(expected)


@pytest.mark.parametrize(
    ("bound", "n"), [(3, 64), (63, 40), (64, 40), (1000, 30), (2**13, 20), (2**14, 25), (2**16, 40)]
)
def test_long_rows_agree_with_one_unbounded_integer(bound, n):
    rng = np.random.default_rng(bound)
    x = rng.integers(-bound, bound + 1, (5, n))
    x[1] = np.abs(x[1])
    x[2] = -np.abs(x[2])
    x[3] = 2 * (x[3] // 2)
    x[4, 2:] = 0
    for low, high in ((-bound, bound), (0, 0), (bound // 2, 4 * bound), (-bound * n, bound * n)):
        got = subset_sum.reachable(x, low, high)
        for i in range(5):
            bits, origin = naive.reach_big_int(x[i])
            text = bin(bits >> (low + origin) if low + origin >= 0 else bits << -(low + origin))[:1:-1]
            expected = np.zeros(high - low + 1, dtype=bool)
            part = np.frombuffer(text[: high - low + 1].encode(), dtype=np.uint8) == ord("1")
            expected[: part.size] = part
            assert (got[i] == expected).all()
        assert (subset_sum.covered(x, low, high) == got.sum(1)).all()


def test_a_set_and_its_complement_reach_mirrored_windows():
    x = np.random.default_rng(0).integers(-500, 501, 14)
    total = int(x.sum())
    window = subset_sum.reachable(x, -700, 300)
    assert (window[::-1] == subset_sum.reachable(x, total - 300, total + 700)).all()


def test_the_order_of_the_samples_does_not_matter():
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**15), 2**15, 16)
    assert (subset_sum.reachable(x, -5000, 5000) == subset_sum.reachable(rng.permutation(x), -5000, 5000)).all()


@pytest.mark.parametrize("x", [[], [0], [0, 0, 0]])
def test_nothing_or_zeros_reach_zero_alone(x):
    assert subset_sum.reachable(np.array(x, dtype=int), -2, 2).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("bound", [40, 3000])
def test_the_number_of_threads_changes_no_answer(bound):
    x = np.random.default_rng(2).integers(-bound, bound + 1, (3000, 14))
    before = numba.get_num_threads()
    results = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        results.append(subset_sum.reachable(x, -bound, bound))
    numba.set_num_threads(before)
    assert (results[0] == results[1]).all()


def test_bad_windows_and_tables_too_large_are_named():
    x = np.array([1, 2])
    with pytest.raises(ValueError, match=r"window \[3, 2\] is empty"):
        subset_sum.reachable(x, 3, 2)
    with pytest.raises(TypeError, match=r"low is 0\.0: it must be an integer"):
        subset_sum.reachable(x, 0.0, 2)
    with pytest.raises(TypeError, match="dtype float64"):
        subset_sum.reachable(np.array([0.5]), 0, 2)
    with pytest.raises(SearchTooLarge, match="targets pass"):
        subset_sum.reachable(x, 0, 2**33)
    with pytest.raises(SearchTooLarge, match="bit sets pass"):
        subset_sum.covered(np.full(8, 2**36), 0, 5)


@pytest.mark.parametrize(("values", "largest"), [([0, 0], 0), ([-3, 2], 3), ([-(2**63), 0], 2**63), ([], 0)])
def test_the_largest_magnitude_keeps_zero_and_the_least_integer(values, largest):
    assert int(_kernels_reach.largest_magnitude(np.array(values, np.int64))) == largest
