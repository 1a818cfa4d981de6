"""Singular Gram matrices and numbers of extreme size: a proof is given of the optimum only, or the input is refused."""

import numpy as np
import pytest

from naive import optimum as naive
from prunequant import optimum
from prunequant.optimum import _kernels
from prunequant.optimum.lattice import rounding_triangle, tail_costs, triangle

DUPLICATED = np.array([[7.0, -3.0, 3.0], [-3.0, 6.0, -6.0], [3.0, -6.0, 6.0]])


def rounding(gram, largest):
    """What double precision leaves of an error whose entries are up to `largest`: the tolerance `Solution` states."""
    return len(gram) * 2e-16 * 4 * float(np.sqrt(np.diag(gram)) @ largest) ** 2


def check(found, values_in_units, weights, gram, best, tolerance, shift):
    def to_caller(x):
        return np.ldexp(x, shift)

    error = max(float((values_in_units - weights) @ gram @ (values_in_units - weights)), 0.0)
    tiniest = 1e-323
    assert found.lower_bound <= found.error
    assert found.lower_bound <= to_caller(best + tolerance) + tiniest
    assert abs(found.error - to_caller(error)) <= to_caller(tolerance) + tiniest
    assert error >= best - tolerance
    if found.proved:
        assert error <= best + tolerance


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("kind", naive.SINGULAR)
def test_a_proof_on_a_singular_gram_is_a_proof_of_the_optimum(kind, extreme):
    rng = np.random.default_rng([7, naive.SINGULAR.index(kind), extreme])
    refused = proved = 0
    for trial in range(60):
        n, bits = int(rng.integers(2, 6)), 2
        gram = naive.singular_gram(rng, kind, n)
        weights = rng.standard_normal(n) if trial % 2 else np.round(1.3 * rng.standard_normal(n), 1)
        scale = (1.0, rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2, n))[trial % 3]
        keep, limit = int(rng.integers(0, n + 1)), 10**7 if trial % 4 else int(rng.integers(1, 12))
        a, b = (int(v) for v in rng.integers(-990, 991, 2)) if extreme else (0, 0)  # 2^990 is 1e298
        tolerance = rounding(gram, np.abs(weights) + 2 * scale)
        shift = a + 2 * b
        given = np.ldexp(weights, b), np.ldexp(gram, a)
        try:
            rounded = optimum.best_quantization(*given, bits, np.ldexp(scale, b), limit)
            pruned = optimum.best_pruning(*given, keep, limit, refit=False)
        except ValueError as error:
            assert extreme and "could pass the largest float" in str(error)
            refused += 1
            continue
        best = naive.best_quantization_error(weights, gram, scale, -2, 1)
        check(rounded, np.ldexp(rounded.values, -b), weights, gram, best, tolerance, shift)
        best = naive.best_pruning_error(weights, gram, keep, False)
        check(pruned, np.ldexp(pruned.values, -b), weights, gram, best, tolerance, shift)
        proved += rounded.proved + pruned.proved
    assert proved > 50
    assert (refused > 0) == extreme


def test_a_constant_row_is_counted_in_quantization_and_in_pruning():
    found = optimum.best_quantization(np.array([1.3, -1.4, 0.9]), DUPLICATED, 2, 1.0)
    assert found.error == pytest.approx(1.71) and found.proved
    gram = np.array([[4.0, 0.0, 4.0], [0.0, 4.0, 0.0], [4.0, 0.0, 4.0]])
    found = optimum.best_pruning(np.array([-0.5, 1.4, -1.4]), gram, 2, refit=False)
    assert found.error == pytest.approx(1.0) and found.proved
    np.testing.assert_array_equal(found.values, [0.0, 1.4, -1.4])


def test_the_decoder_adds_the_row_of_a_zero_pivot_whatever_its_place():
    from itertools import product

    rng = np.random.default_rng(3)
    for trial in range(200):
        n = int(rng.integers(1, 5))
        r = np.triu(rng.integers(-2, 3, (n, n))).astype(float)
        np.fill_diagonal(r, rng.integers(0, 2, n))
        z = rng.uniform(-2, 2, n)
        low, high = np.full(n, -2), np.full(n, 1)
        best = min(float(np.sum((r @ (np.array(q) - z)) ** 2)) for q in product(range(-2, 2), repeat=n))
        q = np.zeros(n, np.int64)
        limit = 10**6 if trial % 2 else 1 + trial % 7
        tail = tail_costs(r, z, low, high)
        value, bound, nodes = _kernels.decode(r, z, low, high, tail, -1, limit, np.inf, q)
        assert bound <= best * (1 + 1e-12) + 1e-15
        if nodes <= limit:
            assert value == bound == pytest.approx(best, rel=1e-12, abs=1e-15)
            assert value == pytest.approx(float(np.sum((r @ (q - z)) ** 2)), rel=1e-12, abs=1e-15)


def test_a_small_node_limit_bounds_a_singular_layer_from_below():
    rng = np.random.default_rng(4)
    for limit in (1, 4, 16, 64):
        weights = rng.standard_normal(14)
        gram = naive.singular_gram(rng, "duplicated", 14)
        exact = optimum.best_quantization(weights, gram, 2, 1.0)
        short = optimum.best_quantization(weights, gram, 2, 1.0, limit)
        assert exact.proved
        assert 0 <= short.lower_bound <= exact.error * (1 + 1e-12) <= short.error * (1 + 2e-12)


def test_nearest_plane_rounds_a_duplicated_input_to_its_nearest_level():
    rng = np.random.default_rng(5)
    for _ in range(50):
        inputs = rng.standard_normal((20, 6))
        inputs[:, 4] = inputs[:, 1]  # feature 1 is rounded before its double
        weights = rng.uniform(-2, 2, 6)
        found = optimum.babai(weights, inputs.T @ inputs, 4, 1.0, order=[0, 1, 2, 3, 4, 5])
        # the double makes good what was lost on the first: the first itself is asked for nothing
        assert found.values[1] == np.rint(weights[1])
        assert np.all(np.abs(found.values) < 8)


def test_a_pivot_lost_in_rounding_is_dropped_for_rounding_alone():
    gram = np.array([[1.0, 1.0, 0.0], [1.0, 1.0 + 2.3e-16, 0.0], [0.0, 0.0, 1.0]])
    r = triangle(gram, np.arange(3))
    rounded = rounding_triangle(r)
    assert rounded[1, 1] == 0.0 and r[1, 1] > 0.0
    np.testing.assert_array_equal(np.triu(rounded, 1), np.triu(r, 1))
    regular = triangle(np.array([[2.0, 0.5], [0.5, 1.0]]), np.arange(2))
    assert rounding_triangle(regular) is regular


def test_a_weak_feature_is_decided_as_well_as_a_strong_one():
    # the duplicated pair is 1e200 times as strong, and costs nothing
    gram = np.zeros((4, 4))
    gram[:2, :2], gram[2:, 2:] = 1e100, 1e-100 * np.array([[1.0, 0.9], [0.9, 1.0]])
    found = optimum.best_quantization(np.array([1.0, -1.0, 0.4, 0.4]), gram, 2, 1.0)
    pair = optimum.best_quantization(np.array([0.4, 0.4]), gram[2:, 2:], 2, 1.0)
    assert found.proved and found.error == pytest.approx(pair.error, rel=1e-9)


@pytest.mark.parametrize("kind", [k for k in naive.SINGULAR if k not in ("integer", "one-hot")])
def test_heuristics_take_a_singular_gram_or_ask_for_a_ridge(kind):
    rng = np.random.default_rng(6)
    for _ in range(20):
        weights, gram = rng.standard_normal(5), naive.singular_gram(rng, kind, 5)
        best = optimum.best_quantization(weights, gram, 3, 0.5).error
        slack = rounding(gram, np.abs(weights) + 2)
        for order in ("given", "diagonal", "blast"):
            for search in (0, 1, 2):
                assert optimum.babai(weights, gram, 3, 0.5, order=order, search=search).error >= best - slack
        assert optimum.nearest(weights, gram, 3, 0.5).error >= best - slack
        assert optimum.magnitude_pruning(weights, gram, 2).error >= (
            optimum.best_pruning(weights, gram, 2, refit=False).error - slack
        )
        for call in (
            lambda w=weights, g=gram: optimum.best_pruning(w, g, 2),
            lambda w=weights, g=gram: optimum.obs_pruning(w, g, 2),
            lambda w=weights, g=gram: optimum.magnitude_pruning(w, g, 2, refit=True),
            lambda w=weights, g=gram: optimum.layer_bound(w, g, 3, 0.5),
            lambda w=weights, g=gram: optimum.sdp_bound(w, g, 3, 0.5),
        ):
            with pytest.raises(ValueError, match=r"singular.*add a ridge"):
                call()


@pytest.mark.parametrize("kind", naive.SINGULAR)
def test_refitted_values_are_a_least_squares_solution_also_where_many_are(kind):
    rng = np.random.default_rng(8)
    for _ in range(30):
        weights, gram = rng.standard_normal(5), naive.singular_gram(rng, kind, 5)
        mask = rng.random(5) < 0.7
        values = optimum.refitted(weights, gram, mask)
        power = float(np.sqrt(np.diag(gram)) @ np.abs(weights))
        residual = (gram @ (values - weights))[mask]
        assert np.all(np.abs(residual) <= 1e-7 * power * np.sqrt(np.diag(gram))[mask] + 1e-300)
        assert not values[~mask].any()


def test_a_ridge_as_advised_makes_pruning_with_a_refit_exact():
    rng = np.random.default_rng(9)
    for kind in naive.SINGULAR:
        weights, gram = rng.standard_normal(6), naive.singular_gram(rng, kind, 6)
        gram = gram + 1e-9 * np.trace(gram) / 6 * np.eye(6)
        found = optimum.best_pruning(weights, gram, 3)
        assert found.proved
        expected = naive.best_pruning_error(weights, gram, 3, True)
        assert found.error == pytest.approx(expected, rel=1e-5, abs=1e-12 * float(weights @ gram @ weights))
