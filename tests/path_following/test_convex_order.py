"""Convex order decided in closed form, against integration and against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from prunequant.path_following import convex_order, theory


@st.composite
def laws(draw):
    size = draw(st.integers(2, 6))
    values = draw(st.lists(st.integers(-3000, 3000), min_size=size, max_size=size, unique=True))
    weights = draw(st.lists(st.floats(0.05, 1), min_size=size, max_size=size))
    values, weights = np.array(values) / 1000, np.array(weights) / np.sum(weights)
    values = values - values @ weights
    return values / np.ptp(values), weights


def test_stop_loss_of_a_gaussian_is_its_integral():
    for at in (-2.0, 0.0, 0.7, 3.0):
        value, _ = integrate.quad(lambda x, a=at: (x - a) * stats.norm.pdf(x, 0.5, 1.3), at, 20)
        assert convex_order.stop_loss_gaussian(1.3, at, mean=0.5) == pytest.approx(value, abs=1e-9)


@given(laws())
@settings(max_examples=100, deadline=None)
def test_the_least_gaussian_just_touches(law):
    values, probabilities = law
    sigma = convex_order.least_gaussian(values, probabilities)
    assert convex_order.gap_to_gaussian(values, probabilities, sigma)[0] == pytest.approx(0, abs=1e-9)
    assert convex_order.gap_to_gaussian(values, probabilities, 0.98 * sigma)[0] < 0
    grid = np.linspace(-3, 3, 4001)
    gap = convex_order.stop_loss_gaussian(sigma, grid) - convex_order.stop_loss(values, probabilities, grid)
    assert gap.min() > -1e-9


@given(laws())
@settings(max_examples=100, deadline=None)
def test_a_law_of_width_one_is_below_the_sharp_gaussian(law):
    values, probabilities = law
    sigma = np.sqrt(theory.SHARP_CONSTANT) * np.ptp(values)
    assert convex_order.is_below_gaussian(values, probabilities, sigma)


@given(laws())
@settings(max_examples=60, deadline=None)
def test_convex_functions_respect_the_order(law):
    values, probabilities = law
    sigma = convex_order.least_gaussian(values, probabilities)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    for convex in (np.square, lambda x: np.exp(2 * x), lambda x: np.abs(x) ** 4):
        gaussian = weights @ convex(sigma * nodes) / np.sqrt(2 * np.pi)
        assert probabilities @ convex(values) <= gaussian * (1 + 1e-9)


def test_only_the_fair_coin_attains_the_sharp_constant():
    p = np.linspace(0.001, 0.999, 999)
    scales = theory.two_point_scale(p)
    assert p[np.argmax(scales)] == pytest.approx(0.5)
    assert scales.max() ** 2 == pytest.approx(np.pi / 8)
    for q in (0.1, 0.5, 0.83):
        exact = convex_order.least_gaussian([-q, 1 - q], [1 - q, q])
        assert exact == pytest.approx(float(theory.two_point_scale(q)), rel=1e-9)


def test_a_coin_is_the_largest_law_on_its_interval_and_sums_keep_the_order():
    coin, uniform = ([-1, 1], [0.5, 0.5]), (np.linspace(-1, 1, 5), np.full(5, 0.2))
    assert convex_order.is_below(*uniform, *coin) and not convex_order.is_below(*coin, *uniform)
    assert not convex_order.is_below([0.0], [1.0], [1.0], [1.0])
    two_coins, two_uniforms = convex_order.convolve(*coin, *coin), convex_order.convolve(*uniform, *uniform)
    assert np.array_equal(two_coins[0], [-2, 0, 2]) and np.allclose(two_coins[1], [0.25, 0.5, 0.25])
    assert convex_order.is_below(*two_uniforms, *two_coins)


def test_what_is_not_a_law_is_refused():
    with pytest.raises(ValueError, match=r"^other_values reach 1e"):
        convex_order.convolve([0], [1], [1e308], [1])
    with pytest.raises(ValueError, match=r"sum to 0\.9"):
        convex_order.stop_loss([0, 1], [0.5, 0.4], 0)
    with pytest.raises(ValueError, match=r"shape \(2,\) but probabilities \(1,\)"):
        convex_order.least_gaussian([0, 1], [1])
    with pytest.raises(ValueError, match="at least 0"):
        convex_order.least_gaussian([0, 1], [1.5, -0.5])
