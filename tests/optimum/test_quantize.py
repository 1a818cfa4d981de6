"""Exact quantization against enumeration, its bounds, and the heuristics below it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import optimum as naive
from prunequant import optimum
from prunequant.distortion import best_scale, integer_range


@pytest.mark.parametrize("grid", ["twos_complement", "narrow"])
def test_the_optimum_agrees_with_enumeration_on_a_thousand_layers(grid):
    rng = np.random.default_rng(1)
    for trial in range(500):
        n, bits = int(rng.integers(1, 6)), int(rng.integers(2, 4))
        correlation = (0.0, 0.5, 0.95)[trial % 3]
        samples = n if trial % 4 else max(1, n - 1)  # every fourth Gram matrix is singular
        weights, gram = naive.random_problem(rng, n, correlation, samples)
        scale = rng.uniform(0.1, 1.5) if trial % 5 else rng.uniform(0.2, 1.2, n)
        found = optimum.best_quantization(weights, gram, bits, scale, grid=grid)
        expected = naive.best_quantization_error(weights, gram, scale, *integer_range(bits, grid))
        assert found.proved
        assert found.error == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert found.lower_bound == found.error
        q = np.round(found.values / scale)
        np.testing.assert_allclose(found.values, q * scale, rtol=1e-14)
        assert integer_range(bits, grid)[0] <= q.min() <= q.max() <= integer_range(bits, grid)[1]


def test_floor_or_ceil_agrees_with_enumeration_and_costs_at_least_the_free_optimum():
    rng = np.random.default_rng(2)
    for _ in range(150):
        weights, gram = naive.random_problem(rng, 7, 0.8)
        scale = rng.uniform(0.2, 0.8)
        z = weights / scale
        low, high = np.clip(np.floor(z), -8, 7), np.clip(np.ceil(z), -8, 7)
        found = optimum.best_quantization(weights, gram, 4, scale, rounding="floor_ceil")
        assert found.error == pytest.approx(naive.best_quantization_error(weights, gram, scale, low, high), rel=1e-9)
        assert found.error >= optimum.best_quantization(weights, gram, 4, scale).error - 1e-12


def test_without_correlation_rounding_to_nearest_is_the_optimum():
    rng = np.random.default_rng(3)
    weights, gram = rng.standard_normal((60, 4)), np.diag(rng.uniform(0.1, 3, 60))
    found = optimum.best_quantization(weights, gram, 3, 0.6)
    np.testing.assert_array_equal(found.values, optimum.nearest(weights, gram, 3, 0.6).values)
    assert np.all(found.proved)


@given(st.integers(0, 10**6), st.integers(2, 4), st.floats(0, 0.95))
@settings(max_examples=40, deadline=None)
def test_exact_is_at_most_two_opt_at_most_one_opt_at_most_optq(seed, bits, correlation):
    weights, gram = naive.random_problem(np.random.default_rng(seed), 14, correlation)
    scale = best_scale(weights, bits)
    by = [optimum.babai(weights, gram, bits, scale, search=s).error for s in (0, 1, 2)]
    exact = optimum.best_quantization(weights, gram, bits, scale)
    assert exact.error <= by[2] + 1e-12 <= by[1] + 2e-12 <= by[0] + 3e-12
    assert exact.proved


def test_optq_rounds_a_diagonal_layer_to_nearest_in_every_order():
    weights = np.linspace(-1, 1, 9)
    for order in ("given", "diagonal", "blast", np.arange(9)):
        found = optimum.babai(weights, np.eye(9) * 2, 3, 0.3, order=order)
        np.testing.assert_array_equal(found.values, optimum.nearest(weights, np.eye(9), 3, 0.3).values)


def test_optq_agrees_with_column_by_column_compensation():
    rng = np.random.default_rng(4)
    weights, gram = naive.random_problem(rng, 10, 0.7)
    h, w, values = np.linalg.inv(gram), weights.copy(), np.zeros(10)
    for i in range(10):  # Frantar et al.: round, spread the error over what is left, delete
        values[i] = 0.3 * np.clip(np.round(w[i] / 0.3), -4, 3)
        w = w - h[:, i] * (w[i] - values[i]) / h[i, i]
        h = h - np.outer(h[:, i], h[i]) / h[i, i]
    np.testing.assert_allclose(optimum.babai(weights, gram, 3, 0.3).values, values, atol=1e-12)


def test_a_small_node_limit_is_not_proved_but_bounded_from_below():
    rng = np.random.default_rng(5)
    for limit in (1, 20, 300):
        weights, gram = naive.random_problem(rng, 24, 0.6)
        short = optimum.best_quantization(weights, gram, 2, 1.0, node_limit=limit)
        exact = optimum.best_quantization(weights, gram, 2, 1.0)
        assert exact.proved and not short.proved
        assert short.lower_bound <= exact.error <= short.error + 1e-12
        assert short.nodes <= limit + 24


def test_neurons_are_solved_one_by_one_and_in_any_number_of_threads():
    import numba

    rng = np.random.default_rng(6)
    _, gram = naive.random_problem(rng, 12, 0.5)
    weights = rng.standard_normal((12, 5))
    together = optimum.best_quantization(weights, gram, 3)
    for j in range(5):
        alone = optimum.best_quantization(weights[:, j], gram, 3)
        np.testing.assert_array_equal(alone.values, together.values[:, j])
        assert alone.error == pytest.approx(together.error[j], rel=1e-12)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(optimum.best_quantization(weights, gram, 3).values, together.values)
    finally:
        numba.set_num_threads(threads)


def test_the_optimum_scales_with_the_units():
    rng = np.random.default_rng(7)
    weights, gram = naive.random_problem(rng, 10, 0.5)
    plain = optimum.best_quantization(weights, gram, 3, 0.5)
    scaled = optimum.best_quantization(1e5 * weights, 1e-7 * gram, 3, 0.5e5)
    np.testing.assert_allclose(scaled.values, 1e5 * plain.values, rtol=1e-12)
    np.testing.assert_allclose(scaled.snr(1e5 * weights, 1e-7 * gram), plain.snr(weights, gram), rtol=1e-9)


def test_a_dead_layer_has_no_error():
    found = optimum.best_quantization(np.array([0.3, -0.2]), np.zeros((2, 2)), 4, 0.1)
    assert found.error == 0.0 and found.proved


GOOD = np.array([[2.0, 0.3], [0.3, 1.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gram": np.eye(3)}, r"gram must be \(2, 2\)"),
        ({"gram": np.array([[1.0, 0.5], [0.1, 1.0]])}, "not symmetric: .* by up to 0.4 of the largest entry"),
        ({"gram": np.array([[4.0, 2.0], [0.4, 1.0]])}, "not symmetric: .* by up to 0.4 of the largest entry"),
        ({"gram": np.array([[1.0, 2.0], [2.0, 1.0]])}, "not positive semidefinite"),
        ({"gram": np.array([[1.0, np.nan], [np.nan, 1.0]])}, "gram holds NaN or infinity"),
        ({"weights": np.array([1.0, np.inf])}, "weights holds NaN or infinity"),
        ({"weights": np.zeros((2, 2, 2))}, "weights has shape"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": -1.0}, "scale is -1.0"),
        ({"scale": np.ones(3)}, r"scale has shape \(3,\)"),
        ({"bits": 1}, "bits is 1"),
        ({"node_limit": 0}, "node_limit is 0"),
        ({"grid": "mid_rise"}, "grid is 'mid_rise'"),
        ({"rounding": "up"}, "rounding is 'up'"),
    ],
)
def test_bad_input_is_refused_with_its_name(change, message):
    arguments = {"weights": np.array([0.4, -1.0]), "gram": GOOD, "bits": 3, "scale": 0.5} | change
    with pytest.raises(ValueError, match=message):
        optimum.best_quantization(**arguments)


def test_a_whole_float_is_not_a_number_of_bits():
    with pytest.raises(TypeError, match=r"bits is 4\.0: it must be an integer in"):
        optimum.best_quantization(np.array([0.4, -1.0]), GOOD, 4.0, 0.5)


def test_words_are_not_weights():
    with pytest.raises(TypeError, match="weights has dtype"):
        optimum.best_quantization(np.array(["a", "b"]), GOOD, 3, 0.5)


@pytest.mark.parametrize(("argument", "message"), [({"order": "best"}, "order is"), ({"search": 3}, "search is 3")])
def test_unknown_heuristics_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        optimum.babai(np.array([0.4, -1.0]), GOOD, 3, 0.5, **argument)


@pytest.mark.parametrize("correlation", [0.02, 0.1, 0.3])
def test_the_search_alone_finds_the_optimum_where_what_is_left_costs_much(correlation):
    """From no answer at all, on weights beyond the ends of the grid: there the bound of the undecided ones cuts."""
    from prunequant.optimum import _kernels
    from prunequant.optimum.lattice import tail_costs, triangle

    rng, used = np.random.default_rng(17), 0
    for _ in range(120):
        n = 5
        _, gram = naive.random_problem(rng, n, correlation, samples=40)
        z = 2.0 * rng.standard_normal(n)
        low, high = np.full(n, -2), np.full(n, 1)
        r = triangle(gram, np.arange(n))
        tail = tail_costs(r, z, low, high)
        used += tail[-1] > 0
        out = np.zeros(n, np.int64)
        best, bound, _ = _kernels.decode(r, z, low, high, tail, -1, 10**6, np.inf, out)
        assert best == bound == pytest.approx(naive.best_quantization_error(z, gram, 1.0, -2, 1), rel=1e-9)
    assert used >= 30


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_what_the_local_search_ends_at_no_single_weight_and_no_pair_of_steps_improves(n, pairs):
    from prunequant.optimum import _kernels

    improve = getattr(_kernels.improve, "py_func", _kernels.improve)  # interpreted, so that every index is checked
    rng, low, high = np.random.default_rng(n), np.full(n, -3), np.full(n, 2)
    singles = [move * np.eye(n, dtype=int)[i] for i in range(n) for move in range(-5, 6)]
    steps = [np.array(step) for step in itertools.product((-1, 0, 1), repeat=n) if np.count_nonzero(step) <= 2]
    for _ in range(20):
        _, gram = naive.random_problem(rng, n, 0.8, samples=n + 2)
        z, start = rng.uniform(-4, 3, n), rng.integers(-3, 3, n)
        q, compiled = start.copy(), start.copy()
        assert improve(gram, z, low, high, pairs, q) == _kernels.improve(gram, z, low, high, pairs, compiled)
        assert np.array_equal(q, compiled)
        moved = np.array([q + step for step in (singles + steps if pairs else singles)])
        moved = moved[np.all((moved >= low) & (moved <= high), axis=1)] - z
        errors = np.einsum("ki,ij,kj->k", moved, gram, moved)
        assert (q - z) @ gram @ (q - z) <= errors.min() + 1e-9
