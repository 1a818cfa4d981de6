"""Exact signal-to-noise ratios: published tables, closed forms, quadrature cell by cell, Monte Carlo."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import distortion as naive
from prunequant import distortion as ds
from prunequant.distortion import (
    Empirical,
    Gaussian,
    GeneralizedNormal,
    Laplace,
    Logistic,
    StudentT,
    Uniform,
    quantization_snr,
    theory,
)

BITS = range(2, 9)
QUANTIZATION = {
    Gaussian(): [8.256, 13.911, 19.258, 24.527, 29.818, 35.163, 40.570],
    Laplace(): [6.840, 11.427, 15.976, 20.609, 25.361, 30.231, 35.209],
    Uniform(): [9.688, 16.909, 23.522, 29.827, 35.987, 42.076, 48.131],
    Logistic(): [7.468, 12.466, 17.258, 22.042, 26.896, 31.841, 36.877],
    StudentT(10.0): [7.622, 12.646, 17.360, 21.984, 26.606, 31.255, 35.934],
    StudentT(5.0): [6.649, 10.755, 14.543, 18.214, 21.842, 25.456, 29.067],
    StudentT(3.0, 100.0): [4.736, 7.356, 9.854, 12.430, 15.227, 18.389, 22.059],
    StudentT(2.0, 100.0): [3.189, 5.105, 7.331, 10.114, 13.659, 18.034, 23.072],
    StudentT(2.0, 1000.0): [1.960, 2.973, 4.057, 5.319, 6.858, 8.794, 11.285],
    StudentT(1.0, 10.0): [6.667, 11.554, 16.971, 22.745, 28.647, 34.608, 40.599],
}
PRUNING = {
    Gaussian(): [3.031, 4.303, 5.585, 6.912, 8.314, 9.821, 11.468],
    Laplace(): [4.624, 6.272, 7.873, 9.484, 11.146, 12.896, 14.774],
    Uniform(): [1.740, 2.705, 3.748, 4.882, 6.124, 7.496, 9.031],
    Logistic(): [3.674, 5.052, 6.412, 7.799, 9.250, 10.796, 12.475],
    StudentT(10.0): [3.502, 4.840, 6.169, 7.533, 8.964, 10.494, 12.159],
    StudentT(5.0): [4.219, 5.635, 7.018, 8.423, 9.886, 11.441, 13.128],
    StudentT(3.0, 100.0): [5.911, 7.448, 8.916, 10.384, 11.895, 13.489, 15.207],
    StudentT(2.0, 100.0): [9.167, 10.894, 12.488, 14.047, 15.629, 17.278, 19.041],
    StudentT(2.0, 1000.0): [11.158, 12.885, 14.480, 16.039, 17.621, 19.271, 21.033],
    StudentT(1.0, 10.0): [5.996, 8.033, 9.875, 11.632, 13.372, 15.151, 17.019],
}


@pytest.mark.parametrize("law", QUANTIZATION, ids=str)
def test_the_quantization_table_is_reproduced_to_its_digits(law):
    assert [round(quantization_snr(law, b), 3) for b in BITS] == QUANTIZATION[law]


@pytest.mark.parametrize("law", PRUNING, ids=str)
def test_the_pruning_table_is_reproduced_to_its_digits(law):
    assert [round(ds.pruning_snr(law, 1 - b / 16), 3) for b in BITS] == PRUNING[law]


def test_the_symmetric_grid_of_a_gaussian_is_reproduced():
    narrow = [7.208, 13.292, 18.898, 24.326, 29.709, 35.106, 40.540]
    assert [round(quantization_snr(Gaussian(), b, "narrow"), 3) for b in BITS] == narrow
    assert round(quantization_snr(Gaussian(), 4, "mid_rise"), 3) == 19.377


def test_steps_clipping_and_zeros_of_a_gaussian_are_reproduced():
    found = [ds.quantization(Gaussian(), b) for b in BITS]
    steps = [1.04839, 0.60182, 0.33861, 0.18879, 0.10418, 0.05689, 0.03077]
    assert [round(f.scale, 5) for f in found] == steps
    assert [round(100 * f.clipping, 1) for f in found] == [43.0, 27.4, 20.1, 16.0, 13.3, 11.5, 10.1]
    assert [round(f.zeros, 3) for f in found] == [0.400, 0.237, 0.134, 0.075, 0.042, 0.023, 0.012]


def test_pruning_errors_are_their_closed_forms():
    for c in (0.1, 0.5, 0.75, 0.875, 0.99):
        assert ds.pruning(Gaussian(), c).error == pytest.approx(theory.gaussian_pruning_error(c), rel=1e-12)
        assert ds.pruning(Laplace(), c).error == pytest.approx(theory.laplace_pruning_error(c), rel=1e-10)
        assert ds.pruning(Uniform(), c).error == pytest.approx(theory.uniform_pruning_error(c), rel=1e-14)
        assert ds.pruning_snr(Uniform(), c) == pytest.approx(-30 * math.log10(c), rel=1e-12)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_gaussian_error_agrees_with_its_closed_form_cell_by_cell(bits):
    for grid in ("twos_complement", "narrow"):
        for scale in (0.05, 0.3, 1.1):
            closed = theory.gaussian_quantization_error(scale, *ds.integer_range(bits, grid))
            assert ds.quantization(Gaussian(), bits, grid, scale).error == pytest.approx(closed, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("grid", ["mid_rise", "narrow"])
def test_a_uniform_law_fills_equal_cells(bits, grid):
    assert quantization_snr(Uniform(), bits, grid) == pytest.approx(
        theory.uniform_quantization_snr(bits, grid), abs=1e-9
    )


def test_two_levels_on_a_gaussian_lose_one_minus_two_over_pi():
    found = ds.quantization(Gaussian(), None, grid=np.array([-0.5, 0.5]))
    assert found.error == pytest.approx(theory.two_level_gaussian_error(), rel=1e-12)


def test_fine_rounding_error_is_step_squared_over_twelve():
    fine = ds.quantization(Gaussian(), 12, scale=0.005)  # reaches 10 standard deviations
    assert fine.error == pytest.approx(theory.high_rate_error(0.005), rel=1e-6)


@pytest.mark.parametrize("law", [Gaussian(), Logistic(), StudentT(3.0, 20.0), GeneralizedNormal(1.4)], ids=str)
@pytest.mark.parametrize("grid", ["twos_complement", "narrow", "mid_rise"])
def test_the_chain_of_thresholds_agrees_with_quadrature_cell_by_cell(law, grid):
    for bits, scale in ((2, 0.9), (3, 0.37), (4, 0.21)):
        mine = ds.quantization(law, bits, grid, scale).error
        tail = min(law.support, 60.0)
        assert mine == pytest.approx(
            naive.quantization_error(law, naive.levels(bits, grid), scale, tail), rel=1e-10, abs=1e-13
        )


@pytest.mark.parametrize("law", list(QUANTIZATION), ids=str)
def test_no_scale_of_a_dense_grid_beats_the_optimum(law):
    for bits in (2, 4, 7):
        best = ds.quantization(law, bits)
        for factor in np.concatenate((np.linspace(0.5, 2, 301), np.linspace(0.97, 1.03, 121))):
            assert ds.quantization(law, bits, scale=best.scale * factor).error >= best.error * (1 - 1e-12)


@pytest.mark.parametrize("law", [Gaussian(), Laplace(), StudentT(2.0, 1000.0)], ids=str)
def test_the_best_step_satisfies_the_centroid_condition(law):
    best = ds.quantization(law, 4)
    nudge = 1e-5
    left, right = (ds.quantization(law, 4, scale=best.scale * (1 + s)).error for s in (-nudge, nudge))
    assert abs(right - left) < 1e-8 * best.error


@pytest.mark.parametrize("law", [Gaussian(), Laplace(), StudentT(5.0), Uniform()], ids=str)
@pytest.mark.parametrize("sparsity", [0.0, 0.4])
def test_monte_carlo_lies_within_its_interval(law, sparsity):
    exact = ds.joint(law, sparsity, 4)
    x = law.sample(400_000, np.random.default_rng(7))
    q = exact.scale * np.clip(np.round(x / exact.scale), -8, 7)
    square = (x - np.where(np.abs(x) > exact.threshold, q, 0.0)) ** 2
    spread = 5 * square.std() / math.sqrt(x.size)
    assert abs(square.mean() - exact.error) < spread


def test_joint_is_quantization_when_nothing_is_pruned_and_pruning_when_bits_are_fine():
    assert ds.joint(Gaussian(), 0.0, 4).snr == quantization_snr(Gaussian(), 4)
    assert ds.joint_snr(Gaussian(), 0.75, 9) == pytest.approx(ds.pruning_snr(Gaussian(), 0.75), abs=2e-3)


@given(st.floats(0.05, 0.9), st.integers(2, 6), st.sampled_from(["twos_complement", "narrow", "mid_rise"]))
@settings(max_examples=20, deadline=None)
def test_pruning_first_never_helps_at_the_same_bits(sparsity, bits, grid):
    if grid != "mid_rise":  # without a level at zero, pruning supplies it
        assert ds.joint_snr(Laplace(), sparsity, bits, grid) <= quantization_snr(Laplace(), bits, grid) + 1e-9


def test_an_empirical_law_of_many_draws_approaches_its_law():
    x = Gaussian().sample(200_000, np.random.default_rng(3))
    assert quantization_snr(Empirical(x), 4) == pytest.approx(19.258, abs=0.05)
    assert ds.pruning_snr(Empirical(x), 0.75) == pytest.approx(5.585, abs=0.05)


def test_an_empirical_law_is_exact_on_its_numbers():
    x = np.random.default_rng(5).standard_t(3, 301)
    for bits in (2, 3, 5):
        found = ds.quantization(Empirical(x), bits)
        assert found.error * x.size == pytest.approx(
            naive.rounding_error(x, found.scale, naive.levels(bits, "twos_complement")), rel=1e-10
        )
    kept = np.sort(np.abs(x))[225:]
    assert ds.pruning(Empirical(x), 225 / 301).error == pytest.approx((x @ x - kept @ kept) / x.size, rel=1e-12)


def test_a_joint_empirical_error_is_the_direct_one():
    x = np.random.default_rng(6).standard_normal(200)
    both = ds.joint(Empirical(x), 0.5, 3)
    q = both.scale * np.clip(np.round(x / both.scale), -4, 3)
    direct = np.mean((x - np.where(np.abs(x) > both.threshold, q, 0)) ** 2)
    assert both.error == pytest.approx(direct, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantization_snr(Gaussian(), 1), "bits is 1"),
        (lambda: quantization_snr(Gaussian(), 4, "nibble"), "grid is 'nibble'"),
        (lambda: quantization_snr(Gaussian(), 4, scale=0.0), "scale is 0.0"),
        (lambda: quantization_snr(StudentT(2.0), 4), "infinite variance"),
        (lambda: ds.pruning_snr(StudentT(1.0), 0.5), "infinite variance"),
        (lambda: ds.pruning_snr(Gaussian(), 1.0), "sparsity is 1.0"),
        (lambda: ds.pruning_snr(Gaussian(), -0.1), "sparsity is -0.1"),
        (lambda: quantization_snr(Gaussian(), 4, np.array([-1.0, 2.0])), "no level 0"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_something_that_is_not_a_law_is_a_type_error():
    with pytest.raises(TypeError, match="law is a ndarray"):
        quantization_snr(np.ones(3), 4)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_generalized_normal_reaches_the_uniform_law_monotonely(bits):
    betas = [2, 4, 8, 16, 30, 60, 120, 199, 201, 300, 1000, 3000, 1e4, 1e5, 1e6]
    snr = [quantization_snr(GeneralizedNormal(beta), bits) for beta in betas]
    pruned = [ds.pruning_snr(GeneralizedNormal(beta), 0.5) for beta in betas]
    assert np.all(np.diff(snr) > 0) and np.all(np.diff(pruned) < 0)
    assert snr[-1] == pytest.approx(quantization_snr(Uniform(), bits), abs=1e-6)
    assert pruned[-1] == pytest.approx(ds.pruning_snr(Uniform(), 0.5), abs=1e-6)
    gap = [quantization_snr(Uniform(), bits) - value for value in snr[-3:]]
    assert gap[0] > 5 * gap[1] > 25 * gap[2]  # about 1/beta, or faster


TIED = st.lists(st.integers(-3, 3), min_size=2, max_size=9).filter(any)
BOOK = np.array([-2.0, -0.3, 0.0, 1.0, 1.1])


@given(TIED, st.floats(0, 0.95), st.sampled_from(["twos_complement", "narrow", "mid_rise", "book"]))
@settings(max_examples=150, deadline=None)
def test_tied_magnitudes_are_pruned_to_the_share_with_the_least_error_of_all_choices(values, sparsity, grid):
    x = np.array(values, float)
    gone = ds.pruning(Empirical(x), sparsity)
    count = math.floor(round(sparsity * x.size, 9))
    table = BOOK if grid == "book" else naive.levels(2, grid)
    scale = 0.8 if grid == "book" else None
    found = ds.joint(Empirical(x), sparsity, 2, BOOK if grid == "book" else grid, scale)
    assert found.threshold == pytest.approx(gone.threshold)
    errors = []
    for dropped in itertools.combinations(range(x.size), count):
        kept = np.delete(x, dropped)
        if count and np.max(np.abs(x[list(dropped)])) > np.min(np.abs(kept)):
            continue  # not by magnitude
        pruned = float(np.sum(x[list(dropped)] ** 2)) if count else 0.0
        if grid == "book":
            best = naive.rounding_error(kept, scale, table)
        else:
            best = naive.best_scale_error(kept, 2, grid)
        errors.append((pruned + best) / x.size)
    assert found.error == pytest.approx(min(errors), rel=1e-9, abs=1e-12)


def test_joint_takes_out_exactly_the_share_asked_for():
    tied = Empirical([1.0, 1, 1, 1, 10])
    assert ds.joint(tied, 0.2, 8).zeros == pytest.approx(0.2)
    assert ds.joint_snr(tied, 0.2, 12) == pytest.approx(ds.pruning_snr(tied, 0.2), abs=1e-2)
    equal = ds.joint(Empirical([1.0, 1, -1, 1]), 0.25, 4)
    assert equal.zeros == 0.25 and equal.error == pytest.approx(0.25)
    x = np.random.default_rng(4).integers(-7, 8, 10_000) * 0.1
    law = Empirical(x)
    both = ds.joint(law, 0.1, 4)
    kept = np.sort(np.abs(x))[1000:]
    assert both.error == pytest.approx((x @ x - kept @ kept) / x.size, rel=1e-9)  # 15 levels hold the rest exactly
    assert both.zeros == pytest.approx(ds.pruning(law, 0.1).zeros)


def test_the_side_with_the_lower_level_is_kept_first():
    x = np.array([2.0, -2.0, 2.0, -2.0])  # levels -2 … 1: at scale 1 only the negative ones are exact
    assert ds.joint(Empirical(x), 0.5, 2, scale=1.0).error == pytest.approx(2.0)
    mirrored = -np.array([-2.0, -1.0, 0.0, 1.0])
    assert ds.joint(Empirical(x), 0.5, None, mirrored, scale=1.0).error == pytest.approx(2.0)


@given(TIED, st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_on_a_grid_without_zero_the_zeros_become_its_smallest_level(values, bits):
    x = np.array(values, float)
    found = ds.quantization(Empirical(x), bits, "mid_rise")
    direct = naive.rounding_error(x, found.scale, naive.levels(bits, "mid_rise"))
    assert found.error * x.size == pytest.approx(direct, rel=1e-9, abs=1e-12) and found.zeros == pytest.approx(0)
    assert direct == pytest.approx(naive.best_scale_error(x, bits, "mid_rise"), rel=1e-9, abs=1e-12)
    assert ds.integer_entropy(Empirical(x), bits, "mid_rise") <= bits + 1e-12


def test_pruning_counts_the_numbers_that_are_zero():
    assert ds.pruning(Empirical([1.0, 2, 3, 4, 5]), 0.25).zeros == 0.2  # floor(0.25 · 5)
    assert ds.pruning(Empirical([0.0, 0, 0, 4, 5]), 0.25).zeros == 0.6
    assert ds.joint(Empirical([1.0, 2.0]), 1 - 1e-12, 4).snr == 0.0


def test_more_than_half_of_the_numbers_may_be_zero():
    x = np.array([0.0, 0, 0, 0, 1, -2, 0, 3])
    found = ds.quantization(Empirical(x), None, np.array([-2.0, 0, 1, 3]))
    assert found.error == pytest.approx(0, abs=1e-12) and found.scale == pytest.approx(1)
    assert ds.entropy_coded(Empirical(x), 1.0).scale > 0


@pytest.mark.parametrize("law", [Gaussian(), Laplace(), StudentT(3.0, 100.0)], ids=str)
@pytest.mark.parametrize(("sparsity", "bits"), [(0.0, 4), (0.05, 2), (0.5, 3), (0.759, 5), (0.9, 8)])
def test_zeros_of_both_are_what_was_pruned_and_what_rounds_to_zero_beside(law, sparsity, bits):
    both = ds.joint(law, sparsity, bits)
    nearest = max(both.threshold, both.scale / 2)  # the larger of the two borders decides
    assert both.zeros == pytest.approx(1 - 2 * float(law.upper(0, nearest)), abs=1e-9)
    assert both.zeros >= sparsity - 1e-9
    if both.threshold > both.scale / 2:
        assert both.zeros == pytest.approx(sparsity, abs=1e-9)
