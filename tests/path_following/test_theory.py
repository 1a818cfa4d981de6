"""Closed forms against direct computation."""

import numpy as np
import pytest
from scipy import stats

from prunequant.path_following import Grid, Prune, compress, theory


def test_the_bound_is_the_paper_formula():
    m, n, c, failure = 64, 512, 3.0, 0.01
    p = theory.exponent(n, m, failure)
    assert np.sqrt(2) * m * n ** (-p) == pytest.approx(failure)
    assert theory.error_bound(0.7, c, 2.0, m, failure) == pytest.approx(
        0.7 * np.sqrt(2 * np.pi * c * p * np.log(n)) * 2.0
    )


def test_the_exact_scaling_factor_is_never_above_the_scaling():
    for c in (1.0, 1.5, 4.0, 50.0):
        assert theory.scaling_factor(c, exact=True) <= theory.scaling_factor(c)
    assert theory.scaling_factor(1.0, exact=True) == 1


def test_shortfall_is_the_mean_of_the_gaussian_tail():
    for p in (0.3, 0.01):
        z = stats.norm.isf(p)
        assert theory.shortfall(p) == pytest.approx(stats.norm.expect(lambda x: x, lb=z, conditional=True), rel=1e-6)


def test_enough_levels_are_never_left():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 256))
    x /= np.linalg.norm(x, axis=0)
    w = rng.uniform(-1, 1, (256, 400))
    largest_correction = np.abs(compress(w, x, Grid(1.0)).weights).max()
    k = theory.levels_needed_sharp(1.0, 1.0, 1.0, 256, 1.0, 0.01)
    assert largest_correction <= k + 1 <= theory.levels_needed(1.0, 1.0, 1.0, 256, 32, 1.0, 0.01) + 1


@pytest.mark.parametrize("ratio", [1.0, 3.0, 20.0])
def test_levels_are_the_least_for_which_the_tail_lemma_fails_with_the_failure_asked_for(ratio):
    for features, samples, c in ((64, 8, 1.0), (4096, 8, 4.0), (10**6, 64, 2.0)):
        wide = theory.levels_needed(1.0, 0.25, ratio, features, samples, c, 0.01)
        sharp = theory.levels_needed_sharp(1.0, 0.25, ratio, features, c, 0.01)
        variance = np.pi / 2 * ratio**2 / (2 * c - 1)  # of a correction, in units of the step
        for levels, holds in ((wide, True), (wide - 1, False)):
            tail = np.sqrt(2) * (samples + features) * np.exp(-((levels - 4) ** 2) / (4 * variance))
            assert (tail <= 0.01) == holds
        for levels, holds in ((sharp, True), (sharp - 1, False)):
            tail = 2 * features * np.exp(-2 * (levels - 4) ** 2 * (2 * c - 1) / ratio**2)
            assert (tail <= 0.01) == holds


def test_scalings_and_bounds_of_two_and_three_values_fail_with_just_the_failure_asked_for():
    for n, m, ratio in ((64, 2, 1.0), (8192, 64, 5.0)):
        c = theory.one_bit_scaling(n, ratio, 0.005)
        assert 2 * n * np.exp(-(2 * c - 1) / (8 * ratio**2)) == pytest.approx(0.005)
        bound = theory.one_bit_bound(2.0, c, 1.0, m, 0.005)
        assert 2 * m * np.exp(-((bound / 2) ** 2) * (2 * c - 1) / (2 * c**2)) == pytest.approx(0.005)
        for room, constant in ((0.25, 32 * np.pi), (0.5, 8 * np.pi)):
            wide = theory.scaling_for_room(room, n, ratio, 0.005)
            assert np.sqrt(2) * n * np.exp(-wide / (constant * ratio**2)) == pytest.approx(0.005)
            assert wide > c
    assert theory.scaling_for_room(1.0, 2, 1.0, 0.99) == pytest.approx(2 * np.pi * np.log(np.sqrt(2) * 2 / 0.99))


def test_the_ceiling_of_pruning_falls_with_c_and_is_that_of_the_fixed_point():
    for scaling in (1.0, 4.0):
        found = [theory.sparsity_ceiling(scaling, c) for c in (1.0, 0.75, 0.5, 0.2)]
        assert found == sorted(found, reverse=True) and found[0] == pytest.approx(1 - 1 / (np.pi * scaling))
        for c, share in zip((1.0, 0.75, 0.5, 0.2), found):
            s, mean = 1.0, np.sqrt(2 / np.pi)  # corrections of variance s², K = 1, weights negligible
            for _ in range(2000):  # s² (2C − 1) is the variance of one rounding, at a Gaussian value small against cK
                s = np.sqrt(max((2 * s * mean * (1 + c + c**2) / (3 * (1 + c)) - s**2) / (2 * scaling - 1), 1e-12))
            assert 1 - 2 * s * mean / (1 + c) == pytest.approx(share, abs=1e-6)


def test_scaling_for_sparsity_inverts_the_ceiling():
    for sparsity in (0.7, 0.9, 0.99):
        assert theory.sparsity_ceiling(theory.scaling_for_sparsity(sparsity)) == pytest.approx(sparsity)
    assert theory.scaling_for_sparsity(0.1) == 1
    with pytest.raises(ValueError, match="sparsity is 1"):
        theory.scaling_for_sparsity(1)


def test_unbiased_pruning_stops_at_its_ceiling():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(32, 1500)), rng.normal(size=(1500, 40))
    for c in (1.0, 4.0):
        zeros = compress(w, x, Prune(100.0), scaling=c).weights[750:] == 0
        assert zeros.mean() == pytest.approx(theory.sparsity_ceiling(c), abs=0.02)


def test_mean_square_errors_of_one_rounding():
    x = np.random.default_rng(0).uniform(-30, 30, (200, 1000))
    for stochastic in (True, False):
        errors = Grid(0.5, stochastic)(x) - x
        assert np.mean(errors**2) == pytest.approx(theory.mean_square_error(0.5, stochastic), rel=0.01)


def test_column_norms_ignore_dead_features():
    x = np.array([[3.0, 0.0, 1.0], [4.0, 0.0, 0.0]])
    assert theory.column_norms(x) == (5.0, 5.0)
    assert theory.column_norms(0 * x) == (0.0, 1.0)


@pytest.mark.parametrize("size", [0.5, 2.0, 10.0])
def test_the_share_of_zeros_follows_the_fixed_point_at_every_size(size):
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((24, 3000)), rng.standard_normal((3000, 32))
    for c in (1.0, 4.0):
        zeros = compress(w, x, Prune(size), scaling=c, seed=1).weights[600:] == 0
        assert zeros.mean() == pytest.approx(theory.pruned_share(size, c), abs=0.015)


def test_the_share_of_zeros_has_the_ceiling_and_memoryless_pruning_as_limits():
    for c, apart in ((1.0, 5e-4), (3.0, 1e-7)):
        assert theory.pruned_share(1e8, c) == pytest.approx(theory.sparsity_ceiling(c), abs=apart)
    alone = stats.norm.expect(lambda v: 1 - min(abs(v) / 1.7, 1.0), lb=-1.7, ub=1.7)
    assert theory.pruned_share(1.7, 1e9) == pytest.approx(alone, abs=1e-7)
    assert theory.pruned_share(3.4, 1e9, deviation=2.0) == pytest.approx(alone, abs=1e-7)
    with pytest.raises(ValueError, match="scaling is 0"):
        theory.pruned_share(1.0, 0.5)


CALLS = {
    theory.domination_variance: dict(parameter=1.0, scaling=1.0, column_norm=1.0),
    theory.error_bound: dict(parameter=1.0, scaling=1.0, column_norm=1.0, samples=64, failure=0.01, neurons=3),
    theory.exponent: dict(features=100, samples=64, failure=0.01, neurons=3),
    theory.levels_needed: dict(
        largest_weight=1.0, step=0.5, ratio=2.0, features=100, samples=64, scaling=1.0, failure=0.01
    ),
    theory.levels_needed_sharp: dict(largest_weight=1.0, step=0.5, ratio=2.0, features=100, scaling=1.0, failure=0.01),
    theory.one_bit_scaling: dict(features=100, ratio=2.0, failure=0.01),
    theory.one_bit_bound: dict(size=1.0, scaling=2.0, column_norm=1.0, samples=64, failure=0.01),
    theory.sparsity_ceiling: dict(scaling=2.0, c=1.0),
    theory.scaling_for_room: dict(room=1.0, features=100, ratio=2.0, failure=0.01),
    theory.pruned_share: dict(size=2.0, scaling=1.0, deviation=1.0),
    theory.scaling_for_sparsity: dict(sparsity=0.5),
    theory.shortfall: dict(probability=0.1),
    theory.tail_constant: dict(failure=0.1),
    theory.mean_square_error: dict(step=0.5),
}


@pytest.mark.parametrize("form", CALLS, ids=lambda form: form.__name__)
def test_every_closed_form_takes_numbers_of_any_type_and_refuses_others_by_name(form):
    given = CALLS[form]
    wanted = form(**given)
    for name, value in given.items():
        for kind in (np.int8, np.uint8, np.float32, np.float64):
            if float(kind(value)) == value and (isinstance(value, float) or np.issubdtype(kind, np.integer)):
                assert form(**(given | {name: kind(value)})) == wanted
        for bad in (None, "1", True, 1j):
            with pytest.raises(TypeError, match=f"{name} is"):
                form(**(given | {name: bad}))
        for bad in (-1, float("nan"), 1e200, 10**400) if isinstance(value, float) else (0, -1, 2**63):
            with pytest.raises(ValueError, match=f"{name} is"):
                form(**(given | {name: bad}))


def test_the_pruned_share_is_found_for_sizes_of_any_magnitude():
    for size in (1e-150, 1e-9, 1e9, 1e150):
        assert 0 <= theory.pruned_share(size, 1.0) <= 1
        assert theory.pruned_share(size, 1.0, size) == pytest.approx(theory.pruned_share(1.0, 1.0), rel=1e-9)


def test_the_gaussian_density_is_zero_far_out_and_takes_real_numbers_alone():
    assert theory.density([1e300, -np.inf, np.inf]).tolist() == [0, 0, 0]
    assert theory.density(0) == pytest.approx(stats.norm.pdf(0), rel=1e-15)
    for z, kind in (("x", TypeError), (1j, TypeError), (np.nan, ValueError)):
        with pytest.raises(kind, match=r"^z (has|holds)"):
            theory.density(z)
