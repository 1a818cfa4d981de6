"""The limit laws: stable evaluation, known values, and agreement with measurement where they claim it."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from prunequant import subset_sum
from prunequant.subset_sum import theory


@pytest.mark.parametrize(
    ("n", "bound", "target"), [(8, 256, 128), (16, 256, 0), (20, 4096, 4096), (3, 256, 9), (40, 64, 64)]
)
def test_the_mixture_law_is_the_gaussian_average_of_poisson_failures(n, bound, target):
    deviation = math.sqrt(n * bound * (bound + 1) / 3)
    mean = 2.0 ** (n + 1) / (math.sqrt(2 * math.pi) * deviation)
    tau = 2 * target / deviation

    def integrand(g):
        return math.exp(-(g**2) / 2 - mean * math.exp(-((g - tau) ** 2) / 2)) / math.sqrt(2 * math.pi)

    edge = math.sqrt(max(2 * math.log(mean), 0))
    corners = sorted({0.0, tau - edge, tau + edge})
    expected = quad(integrand, -30, 30, points=corners, epsabs=0, epsrel=1e-9, limit=500)[0]
    assert theory.mixture_poisson_failure(n, bound, target) == pytest.approx(expected, rel=1e-6)
    log = theory.mixture_poisson_failure(n, bound, target, log=True)
    assert math.exp(log) == pytest.approx(expected, rel=1e-6)


def test_the_deep_tail_stays_finite_smooth_and_about_one_bit_a_sample():
    logs = np.array([theory.mixture_poisson_failure(n, 256, 128, log=True) for n in range(100, 3000, 100)])
    slopes = -np.diff(logs) / 100 / math.log(2)
    assert np.isfinite(logs).all() and (0.9 < slopes).all() and (slopes < 1.01).all()
    assert theory.mixture_poisson_failure(1000, 256, 128) < 1e-290
    tail = theory.mixture_poisson_tail(300, 256, 0)
    assert theory.mixture_poisson_failure(300, 256, 0) == pytest.approx(tail, rel=0.1)


def test_the_mixture_law_reproduces_the_moments_it_comes_from():
    """E[Z] = μ E exp(-(G-τ)²/2) = μ e^{-τ²/4}/√2."""
    n, bound, target = 24, 256, 200
    deviation = math.sqrt(n * bound * (bound + 1) / 3)
    mean, tau = 2.0 ** (n + 1) / (math.sqrt(2 * math.pi) * deviation), 2 * target / deviation
    assert mean * math.exp(-(tau**2) / 4) / math.sqrt(2) == pytest.approx(
        theory.first_moment_gaussian(n, bound, target), rel=1e-12
    )


def test_plain_poisson_is_far_too_optimistic_above_the_threshold():
    times = subset_sum.hitting_times(16, 256, 128, 40000, 1)
    measured = (times > 16).mean()
    assert measured == pytest.approx(theory.mixture_poisson_failure(16, 256, 128), rel=0.25)
    assert theory.poisson_failure(16, 256, 128) < measured / 1000


def test_predicted_samples_and_thresholds_take_their_known_values():
    table = {8: (9.2, 11.5, 14.3, 17.5), 16: (17.7, 19.9, 22.7, 25.7), 32: (34.1, 36.3, 39.1, 42.1)}
    for log_m, expected in table.items():
        got = [theory.samples_needed(2.0**log_m, p) for p in (0.5, 0.1, 0.01, 0.001)]
        assert np.round(got, 1).tolist() == list(expected)
    assert [round(theory.critical_kappa(2.0**m), 3) for m in (8, 16, 32, 64)] == [0.870, 0.906, 0.937, 0.961]
    assert theory.samples_needed(256, 0.5, "random") > theory.samples_needed(256, 0.5)


def test_the_perfect_partition_probability_agrees_with_measurement_and_with_its_limit():
    rng = np.random.default_rng(0)
    n, bound, trials = 14, 3000, 3000
    x = rng.integers(1, bound + 1, (trials, n))
    sums = x.sum(1)
    parity = sums % 2
    _, found = subset_sum.solve_many(x, (sums - parity) // 2)
    predicted = theory.perfect_partition_probability(n, bound)
    assert abs(found.mean() - predicted) < 5 * (predicted * (1 - predicted) / trials) ** 0.5 + 0.02
    big = 400
    window = 0.7
    kappa = theory.window_kappa(big, window)
    assert theory.perfect_partition_probability(big, 2.0 ** (kappa * big)) == pytest.approx(
        theory.critical_window(window), rel=1e-6
    )
    assert theory.critical_density(1.0) == pytest.approx(theory.critical_density(0.0) / 2)


def test_expected_misses_bound_measured_coverage_above_the_threshold():
    times = subset_sum.hitting_times(24, 256, "all", 4000, 3)
    for n in (18, 20):
        assert (times > n).mean() < theory.all_targets_misses(n, 256)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="failure is 1"):
        theory.samples_needed(256, 1)
    with pytest.raises(ValueError, match="n is 0"):
        theory.mixture_poisson_failure(0, 256, 1)
    with pytest.raises(ValueError, match="above the threshold"):
        theory.mixture_poisson_tail(3, 256, 1)


@pytest.mark.parametrize(("n", "bound", "target"), [(8, 256, 256), (9, 256, 128), (10, 1024, 1024)])
def test_plain_poisson_is_the_exponential_of_the_gaussian_mean(n, bound, target):
    mean = theory.first_moment_gaussian(n, bound, target)
    assert theory.poisson_failure(n, bound, target) == pytest.approx(np.exp(-mean), rel=1e-9)
