"""The entropy of stored integers: closed forms, counts on given numbers, and the step that fills a size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunequant.distortion import (
    Empirical,
    Gaussian,
    Laplace,
    StudentT,
    Uniform,
    best_scale,
    entropy_coded,
    integer_entropy,
    make_grid,
)

LAWS = [Gaussian(), Laplace(), Uniform(), StudentT(3.0), StudentT(2.0, 100.0)]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_equal_cells_of_a_uniform_law_need_every_bit(bits):
    assert integer_entropy(Uniform(), bits, "mid_rise") == pytest.approx(bits, abs=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("grid", ["twos_complement", "narrow", "mid_rise"])
def test_the_entropy_is_that_of_the_cells_of_the_distribution_function(law, grid):
    levels, scale = make_grid(3, grid).levels, 0.7
    edges = np.concatenate(([-np.inf], scale * (levels[1:] + levels[:-1]) / 2, [np.inf]))
    p = np.diff(law.cdf(edges))
    p = p[p > 0]
    assert integer_entropy(law, 3, grid, scale) == pytest.approx(-np.sum(p * np.log2(p)), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_the_entropy_of_a_tensor_is_that_of_its_counted_integers(seed, bits):
    x = np.random.default_rng(seed).standard_normal(200)
    scale = best_scale(x, bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    _, counts = np.unique(np.clip(np.rint(x / scale), low, high), return_counts=True)
    p = counts / x.size
    assert integer_entropy(Empirical(x), bits) == pytest.approx(-np.sum(p * np.log2(p)), abs=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("rate", [0.3, 1.0, 2.5, 5.0])
def test_the_step_found_fills_the_size(law, rate):
    found = entropy_coded(law, rate)
    assert integer_entropy(law, 14, scale=found.scale) == pytest.approx(rate, abs=1e-6)


def test_many_bits_gain_six_decibels_each_and_keep_the_gish_pierce_distance():
    """At high rate the error is 2^(2(h − rate))/12 with h the differential entropy, ½ log2(2πe) for a normal law."""
    first, second = entropy_coded(Gaussian(), 8.0), entropy_coded(Gaussian(), 9.0)
    assert second.snr - first.snr == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert second.error == pytest.approx(2 * np.pi * np.e / 12 * 4.0**-9, rel=1e-4)


def test_on_a_tensor_the_size_is_met_to_one_weight():
    x = np.random.default_rng(1).standard_t(3, 5000)
    found = entropy_coded(Empirical(x), 2.0)
    assert integer_entropy(Empirical(x), 14, scale=found.scale) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.inf, np.nan])
def test_a_size_that_is_not_positive_and_finite_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        entropy_coded(Gaussian(), rate)


def test_a_size_above_the_grid_is_refused():
    with pytest.raises(ValueError, match="no step of this grid"):
        entropy_coded(Gaussian(), 3.0, bits=2)


def test_infinite_variance_is_refused():
    with pytest.raises(ValueError, match="infinite variance"):
        entropy_coded(StudentT(2.0), 2.0)
