"""Certificates hold for walks they have not seen, with the slack that theory predicts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prunequant.path_following import (
    FiniteGrid,
    Grid,
    OneBit,
    Prune,
    PruneThenQuantize,
    certificate,
    compress,
    energy_certificate,
    influence,
    sample_bounds,
    theory,
)


def inputs(samples=30, features=80, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, features)) * rng.lognormal(0, 1, features)


def test_the_error_is_the_influence_times_the_rounding_errors():
    x = inputs()
    w = np.random.default_rng(1).normal(size=(80, 4))
    for feedback in ("none", "path", "optq"):
        q = compress(w, x, Grid(0.3), feedback=feedback, scaling=2.0).weights
        a = influence(x, 2.0, feedback)
        r = np.linalg.lstsq(a.T @ a + 1e-12 * np.eye(80), a.T @ (x @ (w - q)), rcond=None)[0]
        assert np.allclose(a @ r, x @ (w - q), atol=1e-6)


@given(st.integers(0, 10**6), st.floats(1, 20))
@settings(max_examples=25, deadline=None)
def test_the_influence_never_exceeds_the_domination_theorem(seed, scaling):
    x = inputs(12, 40, seed)
    largest = np.linalg.eigvalsh(influence(x, scaling) @ influence(x, scaling).T).max()
    limit = theory.scaling_factor(scaling, exact=True) * (np.linalg.norm(x, axis=0) ** 2).max()
    assert largest <= limit * (1 + 1e-10)


@pytest.mark.parametrize("operator", [Grid(0.3), Prune(0.9), PruneThenQuantize(0.9, 0.3)], ids=repr)
@pytest.mark.parametrize("feedback", ["none", "path", "optq"])
def test_violations_are_no_more_frequent_than_promised(operator, feedback):
    x, failure = inputs(), 0.2
    w = np.random.default_rng(1).normal(size=(80, 1)) @ np.ones((1, 2000))
    result = compress(w, x, operator, feedback=feedback, scaling=1.5, failure=failure)
    violations = int(np.sum(result.error > result.certificate))
    assert stats.binom.sf(violations - 1, 2000, failure) > 1e-6
    assert result.certificate[0] == pytest.approx(certificate(x, operator, 1.5, failure, feedback))
    assert np.mean(result.rms_error**2) <= energy_certificate(x, operator, 1.5, feedback) ** 2


def test_nearest_rounding_never_passes_its_worst_case():
    x = inputs()
    w = np.random.default_rng(1).normal(size=(80, 500))
    for operator in (Grid(0.3, False), Prune(0.9, False), PruneThenQuantize(0.9, 0.3, False)):
        result = compress(w, x, operator)
        assert np.all(result.error <= result.certificate)
        assert np.all(result.rms_error <= energy_certificate(x, operator))


def test_alignment_error_is_part_of_the_certificate():
    x = inputs(60, 20)
    y = x + 0.1 * np.random.default_rng(3).normal(size=x.shape)
    w = np.random.default_rng(1).normal(size=(20, 400))
    for order in (0, 1, 4, "least-squares"):
        result = compress(w, x, Grid(0.02), quantized_inputs=y, alignment=order, failure=0.01)
        assert np.mean(result.error > result.certificate) <= 0.03
        assert np.all(result.certificate > certificate(y, Grid(0.02)))


def test_root_mean_square_is_root_two_thirds_of_the_certificate_for_uniform_fractions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 256))
    result = compress(rng.uniform(-50, 50, (256, 800)), x, Grid(1.0))
    measured = np.sqrt(np.mean(result.rms_error**2)) / energy_certificate(x, Grid(1.0))
    assert measured == pytest.approx(np.sqrt(2 / 3), rel=0.01)


def test_the_best_tail_is_the_smaller_of_hoeffding_and_gaussian():
    x = inputs()
    for failure in (0.9, 0.1, 1e-4):
        both = [sample_bounds(x, Grid(1.0), failure=failure, tail=tail) for tail in ("hoeffding", "gaussian")]
        assert np.array_equal(sample_bounds(x, Grid(1.0), failure=failure), np.minimum(*both))


@pytest.mark.parametrize(
    "operator", [OneBit(2.0), PruneThenQuantize(0.8, 0.5), Prune(0.8, c=0.3), Grid(0.3, False)], ids=repr
)
def test_certificates_are_proportional_to_the_width_and_shared_among_samples_and_both_tails(operator):
    x = inputs(7, 20)
    rows = influence(x)
    if operator.stochastic:
        wanted = np.linalg.norm(rows, axis=1).max() * np.sqrt(np.log(2 * 7 / 1e-3) / 2)
        energy = np.linalg.norm(rows) / np.sqrt(7) / 2
    else:
        wanted = np.abs(rows).sum(axis=1).max() / 2
        energy = np.sqrt(np.mean(np.abs(rows).sum(axis=1) ** 2)) / 2
    assert certificate(x, operator, failure=1e-3) == pytest.approx(operator.width * wanted)
    assert energy_certificate(x, operator) == pytest.approx(operator.width * energy)


def test_one_size_a_neuron_gives_one_certificate_a_neuron():
    x = inputs()
    steps = np.array([0.1, 0.4, 0.2])
    assert np.allclose(certificate(x, Grid(steps)), steps * certificate(x, Grid(1.0)))
    assert compress(np.ones((80, 3)), x, Grid(steps)).certificate.shape == (3,)


def test_an_unclipped_finite_alphabet_is_certified_and_a_clipped_one_is_not():
    x = inputs(16, 64)
    w = np.random.default_rng(1).uniform(-1, 1, (64, 300))
    wide = compress(w, x / np.linalg.norm(x, axis=0), FiniteGrid(0.5, 31))
    assert np.all(np.isfinite(wide.certificate)) and np.mean(wide.error > wide.certificate) <= 0.03
    narrow = compress(w, x, OneBit(1.0))
    assert np.array_equal(np.isinf(narrow.certificate), narrow.saturation > 0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="scaling is 0"):
        certificate(np.eye(2), Grid(1.0), scaling=0)
    with pytest.raises(ValueError, match="failure is 1"):
        certificate(np.eye(2), Grid(1.0), failure=1)
    with pytest.raises(ValueError, match="tail is 'normal'"):
        certificate(np.eye(2), Grid(1.0), tail="normal")
    with pytest.raises(ValueError, match="feedback is 'magic'"):
        certificate(np.eye(2), Grid(1.0), feedback="magic")
    with pytest.raises(ValueError, match="inputs holds nan"):
        certificate(np.full((2, 2), np.nan), Grid(1.0))
    for bound in (certificate, energy_certificate, sample_bounds):
        for operator in (None, "x", 4.0):
            with pytest.raises(TypeError, match=r"operator is .*: it must be one of Grid"):
                bound(np.eye(2), operator)
    for name, value in [("scaling", "1"), ("failure", None), ("damping", True), ("feedback", 1), ("tail", None)]:
        with pytest.raises(TypeError, match=f"^{name} is"):
            certificate(np.eye(2), Grid(1.0), **{name: value})


def test_a_certificate_is_finite_down_to_the_least_failure():
    assert 0 < certificate(np.eye(64), Grid(1.0), failure=1e-280) < 100
    with pytest.raises(ValueError, match="failure is 5e-324"):
        certificate(np.eye(2), Grid(1.0), failure=5e-324)
