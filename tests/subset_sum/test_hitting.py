"""Hitting times against the definition, replayed from the same random streams."""

import numba
import numpy as np
import pytest

from naive import subset_sum as naive
from prunequant import random, subset_sum
from prunequant.subset_sum import theory


def replay(trial, seed, n_max, bound, sampler, random_target=False):
    """The samples (and the target) of one trial, drawn again in Python."""
    state, target = random.stream(np.uint64(seed), np.uint64(trial)), None
    step = round(bound**0.5) if sampler == "product" else 1

    def draw(limit):
        nonlocal state
        state, value = random.below(np.uint64(state), np.uint64(limit))
        return int(value)

    if random_target:
        if sampler == "positive":
            target = 1 + draw(bound)
        else:
            half = bound // step
            target = draw(2 * half) - half
            target = (target + (target >= 0)) * step
    x = []
    for _ in range(n_max):
        if sampler == "signed":
            x.append(draw(2 * bound + 1) - bound)
        elif sampler == "positive":
            x.append(draw(bound) + 1)
        else:
            a = draw(step) + 1
            x.append(a * (draw(2 * step + 1) - step))
    return x, target


@pytest.mark.parametrize("sampler", ["signed", "positive", "product"])
@pytest.mark.parametrize("targets", ["all", "random", 4, (-2, 7)])
def test_hitting_times_are_the_first_prefix_of_the_replayed_sample(sampler, targets):
    bound, n_max, seed = 16, 12, 11
    got = subset_sum.hitting_times(n_max, bound, targets, 60, seed, sampler, trial_offset=5)
    step = 4 if sampler == "product" else 1
    for i in range(60):
        x, target = replay(5 + i, seed, n_max, bound, sampler, targets == "random")
        if targets == "random":
            wanted = [target]
        elif targets == "all":
            wanted = range(1 if sampler == "positive" else -bound, bound + 1)
        elif isinstance(targets, tuple):
            wanted = range(targets[0], targets[1] + 1)
        else:
            wanted = [targets]
        wanted = [t for t in wanted if not isinstance(targets, str | tuple) or t % step == 0]
        assert got[i] == naive.first_prefix(x, wanted)


@pytest.mark.parametrize(("sampler", "window", "target"), [("signed", (5, 5), 5), ("product", (3, 6), 4)])
def test_a_window_that_holds_one_target_is_that_target(sampler, window, target):
    one = subset_sum.hitting_times(12, 16, window, 200, 4, sampler)
    assert (one == subset_sum.hitting_times(12, 16, target, 200, 4, sampler)).all()


def test_sums_up_to_just_below_two_to_the_32_have_room_and_those_beyond_are_refused():
    assert subset_sum.hitting_times(2**16, 2**16 - 1, "all", 0, 1).shape == (0,)
    with pytest.raises(ValueError, match="their sums need more than"):
        subset_sum.hitting_times(2**16, 2**16, "all", 0, 1)


def test_large_bounds_cross_words_correctly():
    times = subset_sum.hitting_times(14, 300, "random", 25, 3)
    for i, got in enumerate(times):
        x, target = replay(i, 3, 14, 300, "signed", True)
        assert got == naive.first_prefix(x, [target])


def test_shards_join_without_a_trial_twice_and_threads_change_nothing():
    whole = subset_sum.hitting_times(30, 256, "all", 1000, 7)
    shards = [subset_sum.hitting_times(30, 256, "all", 250, 7, trial_offset=k) for k in range(0, 1000, 250)]
    assert (whole == np.concatenate(shards)).all()
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    assert (whole == subset_sum.hitting_times(30, 256, "all", 1000, 7)).all()
    numba.set_num_threads(before)
    assert (whole != subset_sum.hitting_times(30, 256, "all", 1000, 8)).any()


def test_quantiles_follow_log2_m_plus_a_constant():
    """50/90/99 % of single random targets at log2 M + 2, 5, 8, as the mixture law predicts."""
    for log_m in (6, 8, 10):
        times = subset_sum.hitting_times(40, 2**log_m, "random", 20000, 1)
        assert np.quantile(times, [0.5, 0.9, 0.99], method="inverted_cdf").tolist() == [log_m + 2, log_m + 5, log_m + 8]


def test_success_is_monotone_and_zero_is_reached_at_once():
    assert (subset_sum.hitting_times(10, 64, 0, 50, 1) == 0).all()
    assert (subset_sum.hitting_times(10, 64, 641, 50, 1) == 11).all()
    assert (subset_sum.hitting_times(0, 64, 1, 50, 1) == 1).all()
    assert subset_sum.hitting_times(10, 64, "all", 0, 1).shape == (0,)


def test_measured_failures_lie_within_five_deviations_of_the_mixture_law_near_the_threshold():
    trials = 40000
    times = subset_sum.hitting_times(20, 256, 128, trials, 2)
    for n in (8, 12):
        predicted = theory.mixture_poisson_failure(n, 256, 128)
        deviation = (predicted * (1 - predicted) / trials) ** 0.5
        assert abs((times > n).mean() - predicted) < 5 * deviation + 0.05 * predicted


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((-1, 4, "all", 1, 0), ValueError, "n_max is -1"),
        ((4, 0, "all", 1, 0), ValueError, "bound is 0"),
        ((4, 4, "some", 1, 0), ValueError, "targets is 'some'"),
        ((4, 4, 1.5, 1, 0), TypeError, "targets is 1.5: it must be an integer"),
        ((4, 4, (3, 2), 1, 0), ValueError, "holds no multiple"),
        ((4, 4, "all", 1, -1), ValueError, "seed is -1"),
        ((4, 4, "all", 1, 0, "uniform"), ValueError, "sampler is 'uniform'"),
        ((4, 5, "all", 1, 0, "product"), ValueError, "needs a square"),
        ((2**16, 2**30, "all", 1, 0), ValueError, "more than"),
        ((4, 4, "all", 1.0, 0), TypeError, "trials is 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        subset_sum.hitting_times(*arguments)
