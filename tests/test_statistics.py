"""Confidence intervals: coverage by exact enumeration, not by trust."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prunequant.statistics import clopper_pearson, paired, paired_mean, paired_resplits, wilson


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
    with pytest.raises(ValueError, match=r"^(trials|successes) is"):
        wilson(successes, trials)


def test_one_difference_is_not_an_interval():
    with pytest.raises(ValueError, match="at least two"):
        paired_mean([1.0])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_counts_of_any_width_count_as_python_ints(kind):
    for interval in (wilson, clopper_pearson):
        assert interval(kind(100), kind(120)) == interval(100, 120)


@pytest.mark.parametrize("exponent", [-1040, -700, 700, 1000])
def test_an_interval_of_differences_follows_their_unit(exponent):
    values = np.ldexp(np.round(np.random.default_rng(1).normal(0.3, 1, 20) * 2**10), -10)
    mean, interval = paired_mean(values, 0.9)
    scaled, (low, high) = paired_mean(np.ldexp(values, exponent), 0.9)
    assert (scaled, low, high) == tuple(np.ldexp([mean, *interval], exponent))


@pytest.mark.parametrize("confidence", [1e-300, 1e-16, 0.5, 1 - 2.0**-52])
def test_every_confidence_gives_an_interval_around_the_estimate(confidence):
    for successes, trials in ((0, 1), (1, 1), (3, 10), (2**52, 2**53)):
        for interval in (wilson, clopper_pearson):
            low, high = interval(successes, trials, confidence)
            assert 0 <= low <= successes / trials * (1 + 1e-9) and successes / trials * (1 - 1e-9) <= high <= 1


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: clopper_pearson(1, np.inf), TypeError, "^trials is inf"),
        (lambda: clopper_pearson(1.0, 5), TypeError, "^successes is 1.0"),
        (lambda: clopper_pearson(1, 2**60), ValueError, "^trials is"),
        (lambda: wilson(True, 5), TypeError, "^successes is True"),
        (lambda: wilson(1, 5, "0.9"), TypeError, "^confidence is '0.9'"),
        (lambda: wilson(1, 5, 1.0), ValueError, "^confidence is 1.0"),
        (lambda: paired_mean([1.0, np.nan]), ValueError, "^differences holds NaN"),
        (lambda: paired_mean([True, False]), TypeError, "^differences has dtype bool"),
        (lambda: paired_mean([1.0, 2.0], 0), ValueError, "^confidence is 0"),
    ],
)
def test_a_bad_argument_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_differences_over_splits_that_share_their_data_have_nadeau_and_bengios_variance():
    d = np.array([0.3, 0.1, 0.5, 0.2, 0.4])
    found, plain = paired_resplits(d, 1000 / 5000), paired(d)
    error = np.sqrt((1 / 5 + 1000 / 5000) * d.var(ddof=1))
    expected = stats.t.interval(0.95, 4, d.mean(), error)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.p == pytest.approx(2 * stats.t.sf(d.mean() / error, 4)) and found.p > plain.p
    assert (found.mean, found.positive, found.seeds) == (plain.mean, 5, 5)
    assert paired_resplits([1.0, 1.0], 0.2).p == 0


def test_the_corrected_interval_covers_the_truth_where_the_plain_one_does_not():
    """Splits of one pool: the mean of all, estimated from half of it again and again, against the pool's own mean."""
    rng = np.random.default_rng(0)
    plain = corrected = 0
    for _ in range(400):
        pool = rng.standard_normal(60)
        splits = [rng.permutation(pool)[:10].mean() for _ in range(8)]  # 10 test values, 50 others
        plain += paired(splits).low < 0 < paired(splits).high  # the truth is the law's mean, not the pool's
        corrected += paired_resplits(splits, 10 / 50).low < 0 < paired_resplits(splits, 10 / 50).high
    assert plain < 0.9 * 400 < 0.93 * 400 < corrected


def test_a_share_of_test_data_that_is_none_is_refused():
    with pytest.raises(ValueError, match="test_share is 0"):
        paired_resplits([1.0, 2.0], 0)
