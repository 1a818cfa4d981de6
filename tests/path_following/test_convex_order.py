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


@pytest.mark.parametrize("law", [([3.0], [1.0]), ([-2.0, 0.5], [1.0, 0.0])])
def test_a_constant_is_below_the_gaussian_of_no_spread(law):
    assert convex_order.least_gaussian(*law) == 0
    assert convex_order.is_below_gaussian(*law, 0.0)


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


@pytest.mark.parametrize("unit", [1e-100, 1e-9, 1.0, 1e9, 1e100])
def test_the_order_of_two_laws_does_not_depend_on_their_unit(unit):
    thirds, coin = np.array([-1, -1 / 3, 1 / 3, 1]), np.array([-1.0, 1.0])
    low, high = (thirds * unit, np.full(4, 0.25)), (coin * unit, np.full(2, 0.5))
    assert convex_order.is_below(*low, *high) and not convex_order.is_below(*high, *low)
    moved = (1 + 1e-13) * unit * thirds + 1e-13 * unit, low[1]  # another mean, by the rounding of the last bits
    assert convex_order.is_below(*moved, *high)
    assert not convex_order.is_below([0.0], [1.0], [unit], [1.0])
    assert not convex_order.is_below([0.0], [1.0], coin * unit + 1e-6 * unit, high[1])


@given(laws(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_order_is_transitive_along_spreads_and_never_holds_backwards(law, seed):
    rng, chain = np.random.default_rng(seed), [law]
    for _ in range(2):
        x, p = chain[-1]
        down, up = rng.uniform(0.1, 1, (2, len(x)))
        share = down / (down + up)
        chain.append((np.concatenate([x - down, x + up]), np.concatenate([p * (1 - share), p * share])))
    low, middle, high = chain
    assert convex_order.is_below(*low, *middle) and convex_order.is_below(*middle, *high)
    assert convex_order.is_below(*low, *high) and not convex_order.is_below(*high, *low)


@given(laws(), laws(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_linear_maps_of_independent_laws_stay_below_the_maps_of_their_gaussians(first, second, seed):
    (x, p), (y, q) = first, second
    rng = np.random.default_rng(seed)
    size = max(np.abs(x).max(), np.abs(y).max())
    points = np.array([(a, b) for a in x for b in y])
    weights = np.multiply.outer(p, q).ravel()
    matrix, direction, corners = rng.standard_normal((2, 2)), rng.standard_normal(2), rng.standard_normal((2, 5))
    sigma = size * np.sqrt(theory.PAPER_CONSTANT)
    along = matrix.T @ direction
    assert convex_order.is_below_gaussian(points @ along, weights, sigma * np.linalg.norm(along))
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    discrete = weights @ np.max(points @ matrix.T @ corners, axis=1)
    gaussian = sigma * np.sqrt(np.pi / 2) * np.mean(np.max(circle.T @ matrix.T @ corners, axis=1))
    assert discrete <= gaussian * (1 + 1e-6)


def test_what_is_not_a_law_is_refused():
    with pytest.raises(ValueError, match=r"^other_values reach 1e"):
        convex_order.convolve([0], [1], [1e308], [1])
    with pytest.raises(ValueError, match=r"sum to 0\.9"):
        convex_order.stop_loss([0, 1], [0.5, 0.4], 0)
    with pytest.raises(ValueError, match=r"shape \(2,\) but probabilities \(1,\)"):
        convex_order.least_gaussian([0, 1], [1])
    with pytest.raises(ValueError, match="at least 0"):
        convex_order.least_gaussian([0, 1], [1.5, -0.5])


def test_a_sum_keeps_values_apart_that_differ_by_more_than_a_rounding():
    sums, weights = convex_order.convolve([0.0, 3e-12], [0.5, 0.5], [1.0], [1.0])
    assert sums.size == 2 and weights.tolist() == [0.5, 0.5]
    sums, weights = convex_order.convolve([0.0, 1e-13], [0.5, 0.5], [1.0], [1.0])
    assert sums.size == 1 and weights.tolist() == [1.0]
