"""Confidence intervals: coverage by exact enumeration, not by trust."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prunequant.intervals import clopper_pearson, paired_mean, wilson


@given(st.integers(1, 60), st.floats(0.001, 0.999))
def test_clopper_pearson_never_covers_less_than_its_confidence(trials, probability):
    successes = np.arange(trials + 1)
    weights = stats.binom.pmf(successes, trials, probability)
    covered = [probability in clopper_pearson(int(k), trials, 0.95) for k in successes]
    assert weights[covered].sum() >= 0.95 - 1e-12


def test_wilson_is_the_score_interval_by_its_defining_equation():
    low, high = wilson(7, 50, 0.95)
    z = stats.norm.ppf(0.975)
    for end in (low, high):
        assert abs(7 / 50 - end) == pytest.approx(z * np.sqrt(end * (1 - end) / 50), rel=1e-9)


def test_paired_mean_agrees_with_the_t_test():
    values = np.random.default_rng(0).normal(0.3, 1, 20)
    mean, interval = paired_mean(values)
    reference = stats.ttest_1samp(values, 0).confidence_interval()
    assert mean == pytest.approx(values.mean())
    assert tuple(interval) == pytest.approx(tuple(reference))


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson(successes, trials)


def test_one_difference_is_not_an_interval():
    with pytest.raises(ValueError, match="at least two"):
        paired_mean([1.0])
