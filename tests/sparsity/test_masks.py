"""Masks against sorted lists, their tie rules, and the exact selection."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prunequant import sparsity
from prunequant.formats import HBFP, Integer
from prunequant.sparsity import select

sys.path.insert(0, str(Path(__file__).parents[1]))
from naive import sparsity as naive

TIED = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.just(12)), elements=st.sampled_from([0.0, 1.0, -1.0, 2.0, 3.5])
)


@given(
    TIED, st.sampled_from([(1, 2), (2, 4), (1, 3), (3, 4), (0, 2), (4, 4), (5, 12)]), st.sampled_from(["first", "last"])
)
def test_n_of_m_is_the_sorted_list_with_its_index_rule(x, pattern, ties):
    np.testing.assert_array_equal(sparsity.n_m(x, *pattern, ties), naive.n_m(x, *pattern, ties))


@given(TIED, st.integers(0, 2**31))
def test_ties_by_magnitude_look_at_the_original(x, seed):
    original = np.random.default_rng(seed).choice([0.0, 0.4, -0.6, 1.0], x.shape)
    got = sparsity.n_m(x, 2, 4, "magnitude", original=original)
    np.testing.assert_array_equal(got, naive.n_m(x, 2, 4, "magnitude", original))
    flat = sparsity.magnitude(x, 0.4, "magnitude", original=original)
    keep = x.size - int(0.4 * x.size + 1e-9)
    expected = naive.keep_largest(np.abs(x).ravel().tolist(), keep, "magnitude", original.ravel().tolist())
    np.testing.assert_array_equal(flat.ravel(), expected)


@given(TIED, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.sampled_from(["first", "last", "random"]))
def test_a_sparsity_prunes_exactly_its_count_and_never_a_larger_value(x, fraction, ties):
    mask = sparsity.magnitude(x, fraction, ties, seed=4)
    assert np.count_nonzero(~mask) == sparsity.pruned_count(fraction, x.size)
    if mask.any() and not mask.all():
        assert np.abs(x[mask]).min() >= np.abs(x[~mask]).max()
    if ties != "random":
        expected = naive.keep_largest(np.abs(x).ravel().tolist(), int(mask.sum()), ties)
        np.testing.assert_array_equal(mask.ravel(), expected)


def test_a_fraction_is_read_as_the_decimal_it_was_written_as():
    for percent in range(101):
        assert sparsity.pruned_count(percent / 100, 100) == percent
    assert sparsity.pruned_count(1 / 3, 10) == 3


def test_random_ties_are_fair_and_repeat_for_a_seed():
    counts = sum(sparsity.n_m(np.ones(4), 2, 4, "random", seed=seed).astype(int) for seed in range(2000))
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(500))
    one = sparsity.magnitude(np.ones(100), 0.5, "random", seed=1)
    np.testing.assert_array_equal(one, sparsity.magnitude(np.ones(100), 0.5, "random", seed=1))
    assert np.any(one != sparsity.magnitude(np.ones(100), 0.5, "random", seed=2))


def test_any_axis_gives_the_transposed_mask():
    x = np.random.default_rng(0).standard_normal((8, 12))
    np.testing.assert_array_equal(sparsity.n_m(x, 2, 4, axis=0), sparsity.n_m(x.T, 2, 4).T)
    np.testing.assert_array_equal(sparsity.magnitude(x, 0.5, axis=0), sparsity.magnitude(x.T, 0.5, axis=1).T)
    assert np.all(sparsity.magnitude(x, 0.5, axis=1).sum(axis=1) == 6)


@pytest.mark.parametrize("ties", ["first", "last", "random", "magnitude"])
def test_large_float32_arrays_get_the_mask_of_the_plain_selection(ties):
    rng = np.random.default_rng(1)
    size = select.SMALL + 4321
    for x in (
        rng.standard_normal(size),
        np.round(rng.standard_normal(size), 1),
        np.ones(size),
        rng.standard_t(1, size),
    ):
        x = x.astype(np.float32)
        original = rng.standard_normal(size).astype(np.float32)
        for fraction in (0.02, 0.5, 0.999):
            fast = sparsity.magnitude(x, fraction, ties, original=original, seed=3)
            plain = sparsity.magnitude(x.astype(np.float64), fraction, ties, original=original, seed=3)
            np.testing.assert_array_equal(fast, plain)


@pytest.mark.parametrize("kind", ["gauss", "sorted", "two values", "constant", "zeros", "periodic"])
def test_the_kth_largest_magnitude_is_exact(kind):
    rng = np.random.default_rng(2)
    size = select.SMALL + 999
    x = {
        "gauss": lambda: rng.standard_normal(size),
        "sorted": lambda: np.linspace(-3, 4, size),
        "two values": lambda: rng.choice([1.0, 2.0], size),
        "constant": lambda: np.full(size, -2.5),
        "zeros": lambda: np.zeros(size),
        "periodic": lambda: np.arange(size) % 4 + rng.random(size) * 1e-3,
    }[kind]().astype(np.float32)
    ordered = np.sort(np.abs(x))[::-1]
    for k in (1, 2, 777, size // 3, size // 2, size - 1, size):
        assert sparsity.kth_largest_magnitude(x, k) == ordered[k - 1]


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, 16, elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 1e-45, 3.0])))
def test_two_of_four_in_one_pass_is_the_mask_times_the_values(x):
    np.testing.assert_array_equal(sparsity.prune_2_4(x), np.where(sparsity.n_m(x, 2, 4), x, 0))


def test_two_of_four_over_a_large_matrix_and_other_axes():
    x = np.round(np.random.default_rng(3).standard_normal((400, 400)), 1).astype(np.float32)
    for axis in (0, 1):
        expected = np.where(sparsity.n_m(x, 2, 4, axis=axis), x, 0)
        np.testing.assert_array_equal(sparsity.prune_2_4(x, axis), expected)
    out = np.empty_like(x)
    assert sparsity.prune_2_4(x, out=out) is out
    np.testing.assert_array_equal(out, sparsity.prune_2_4(x.astype(np.float64)))


@pytest.mark.parametrize("norm", [1, 2, 3])
def test_the_joint_mask_is_the_best_of_all_masks(norm):
    rng = np.random.default_rng(5)
    for trial in range(40):
        x = rng.standard_t(3, 8)
        fmt = (Integer(3, granularity=4), HBFP(4, 4))[trial % 2]
        q = fmt.quantize(x)
        mask = sparsity.joint(x, q, 0.5, norm=norm)
        error = np.sum(np.abs(x - mask * q) ** norm)
        best = min(
            np.sum(np.abs(x - np.isin(np.arange(8), kept) * q) ** norm) for kept in itertools.combinations(range(8), 4)
        )
        assert error <= best * (1 + 1e-12)


def test_channels_go_as_a_whole():
    x = np.random.default_rng(6).standard_normal((6, 5, 2))
    for axis in range(3):
        mask = sparsity.channels(x, 0.5, axis)
        lines = np.moveaxis(mask, axis, 0).reshape(x.shape[axis], -1)
        assert np.all(lines.all(axis=1) | ~lines.any(axis=1))
        assert lines.any(axis=1).sum() == x.shape[axis] - sparsity.pruned_count(0.5, x.shape[axis])
        norms = np.linalg.norm(np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1), axis=1)
        assert norms[lines.any(axis=1)].min() >= norms[~lines.any(axis=1)].max()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: sparsity.n_m(np.ones(8), 5, 4), ValueError, "5:4"),
        (lambda: sparsity.n_m(np.ones(8), 1.0, 4), TypeError, "integer"),
        (lambda: sparsity.n_m(np.ones(6), 2, 4), ValueError, "do not divide"),
        (lambda: sparsity.n_m(np.ones(8), 2, 4, axis=1), ValueError, "axis is 1"),
        (lambda: sparsity.n_m(np.ones(8), 2, 4, "lowest"), ValueError, "first"),
        (lambda: sparsity.n_m(np.ones(8), 2, 4, "magnitude"), ValueError, "original"),
        (lambda: sparsity.n_m(np.ones(8), 2, 4, "magnitude", original=np.ones(4)), ValueError, "shape"),
        (lambda: sparsity.n_m(np.array([1, np.nan, 1, 1]), 2, 4), ValueError, "NaN"),
        (lambda: sparsity.magnitude(np.ones(8), 1.5), ValueError, "sparsity"),
        (lambda: sparsity.magnitude(np.ones(8), "2:4"), TypeError, "fraction"),
        (lambda: sparsity.magnitude(np.full(select.SMALL + 1, np.inf, np.float32), 0.5), ValueError, "infinity"),
        (lambda: sparsity.keep_largest(np.ones(8), "2-4"), ValueError, "N:M"),
        (lambda: sparsity.kth_largest_magnitude(np.ones(4), 5), ValueError, r"\[1, 4\]"),
        (lambda: sparsity.kth_largest_magnitude(np.array([np.nan, 1]), 1), ValueError, "NaN"),
        (lambda: sparsity.prune_2_4(np.ones(6, np.float32)), ValueError, "do not divide"),
        (lambda: sparsity.prune_2_4(np.array([1, np.inf, 1, 1], np.float32)), ValueError, "infinity"),
        (lambda: sparsity.joint(np.ones(4), np.ones(5), 0.5), ValueError, "same"),
        (lambda: sparsity.joint(np.ones(4), np.ones(4), 0.5, norm=np.inf), ValueError, "norm"),
        (lambda: sparsity.channels(np.ones((2, 2)), 0.5, axis=2), ValueError, "axis"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_empty_and_constant_inputs_have_exact_masks():
    assert sparsity.magnitude(np.zeros(5), 0.4).tolist() == [True, True, True, False, False]
    assert sparsity.magnitude(np.zeros(0), 0.4).shape == (0,)
    assert sparsity.magnitude(np.ones(3), 0.0).all() and not sparsity.magnitude(np.ones(3), 1.0).any()


def test_a_sparsity_may_be_a_number_or_its_text_wherever_a_pattern_is_asked_for():
    x = np.random.default_rng(5).standard_normal((6, 20))
    for number, text in ((0.5, "0.5"), (0.29, "0.29"), (0, "0"), (1.0, "1"), (0.25, "2.5e-1")):
        assert sparsity.parse_pattern(number) == sparsity.parse_pattern(text)
        np.testing.assert_array_equal(sparsity.keep_largest(x, number), sparsity.keep_largest(x, text))
        made = [sparsity.joint(x, np.round(x), pattern) for pattern in (number, text)]
        np.testing.assert_array_equal(*made)
