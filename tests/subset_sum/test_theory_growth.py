"""Theorem A: every step of the proof by enumeration, and the bounds against exact and measured probabilities."""

from itertools import combinations, product

import numpy as np
import pytest

from naive import subset_sum as naive
from prunequant import subset_sum
from prunequant.subset_sum import theory
from prunequant.subset_sum.theory import growth


def windows(bound):
    """Every window of bound + 1 consecutive integers that holds 0, as (low, high)."""
    return [(-k, bound - k) for k in range(bound + 1)]


def gains(members, low, high, bound):
    """Size of (A + x) ∩ W \\ A for each x of {-M..M}."""
    return [sum(low <= a + x <= high and a + x not in members for a in members) for x in range(-bound, bound + 1)]


def subsets(items):
    return (set(c) for k in range(1, len(items) + 1) for c in combinations(items, k))


@pytest.mark.parametrize("bound", [1, 2, 3, 4, 5, 6])
def test_the_growth_identity_is_exact_on_every_set(bound):
    for low, high in windows(bound):
        for members in subsets(range(low, high + 1)):
            mean = sum(gains(members, low, high, bound)) / (2 * bound + 1)
            assert mean == pytest.approx(theory.expected_growth(len(members), bound), abs=1e-12)


def test_the_growth_identity_fails_when_the_window_is_wider_than_the_samples():
    members, low, high, bound = {0}, -6, 6, 4
    mean = sum(gains(members, low, high, bound)) / (2 * bound + 1)
    assert mean < 1 * (13 - 1) / 9 - 0.1


@pytest.mark.parametrize("bound", [2, 3, 4, 5, 6, 7])
def test_intervals_have_the_largest_gain_in_convex_order(bound):
    """Σ min(gain, s) is smallest for an interval, for every s and every set; equality there."""
    w, size = bound + 1, 2 * bound + 1
    for members in subsets(range(w)):
        a = len(members)
        got = gains(members, 0, bound, bound)
        for s in range(1, min(a, w - a) + 1):
            assert sum(min(g, s) for g in got) >= s * (w - s)
        if members == set(range(a)):
            law = np.bincount(got, minlength=min(a, w - a) + 1) / size
            assert law == pytest.approx(theory.interval_law(a, w, bound), abs=1e-12)


def random_convex(rng, length):
    """A positive, convex, decreasing sequence."""
    steps = np.sort(rng.exponential(size=length) ** 3)[::-1]
    return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])[:length] + rng.random() * 0.1


@pytest.mark.parametrize("bound", [3, 5, 7])
def test_one_step_of_the_bound_holds_for_every_set_target_and_convex_function(bound):
    rng = np.random.default_rng(bound)
    w, size = bound + 1, 2 * bound + 1
    for _ in range(6):
        v = random_convex(rng, w + 1)
        for members in subsets(range(w)):
            a = len(members)
            if a == w:
                continue
            got = gains(members, 0, bound, bound)
            law = theory.interval_law(a, w, bound)
            assert np.mean([v[a + g] for g in got]) <= float((law * v[a + np.arange(law.size)]).sum()) + 1e-12
            # one target: keep the draws that miss it; the bound leaves out the a largest gains of an interval
            top = min(a, w - 1 - a)
            ordered = [0] * (size - w + 2) + [g for s in range(1, top) for g in (s, s)] + [top] * (w - 2 * top)
            kept = sorted(ordered[:size] if top else [0] * size)[: size - a]
            worst = sum(v[a + g] for g in kept) / size
            for target in set(range(w)) - members:
                missed = [v[a + g] for x, g in zip(range(-bound, bound + 1), got) if target - x not in members]
                assert sum(missed) / size <= worst + 1e-12


def explicit_step(v, bound):
    """T_1 written out draw by draw."""
    w, size = bound + 1, 2 * bound + 1
    new = np.zeros_like(v)
    for a in range(1, w):
        top = min(a, w - 1 - a)
        draws = [0] * (size - w + 2) + [g for s in range(1, top) for g in (s, s)] + [top] * (w - 2 * top)
        draws = draws[:size] if top else [0] * size
        assert len(draws) == size
        new[a] = sum(v[a + g] for g in sorted(draws)[: size - a]) / size
    return new


@pytest.mark.parametrize("bound", [1, 2, 3, 4, 7, 8, 16, 33])
def test_the_vectorised_recursions_are_the_explicit_ones_and_keep_functions_convex(bound):
    w, size = bound + 1, 2 * bound + 1
    one, whole = np.ones(w + 1), w - np.arange(w + 1.0)
    one[w] = 0
    for k in range(12):
        assert growth._one_curve(20, bound)[k] == pytest.approx(one[1], rel=1e-12)
        assert growth._all_curve(20, bound)[k] == pytest.approx(whole[1], rel=1e-12)
        one = explicit_step(one, bound)
        new = np.zeros(w + 1)
        for a in range(1, w):
            law = theory.interval_law(a, w, bound)
            new[a] = (law * whole[a + np.arange(law.size)]).sum()
        whole = new
        for v in (one[1:w], whole[1:]):
            assert (np.diff(v) <= 1e-15).all()
            assert (np.diff(v, 2) >= -1e-12 * v[0]).all()
    assert size == 2 * w - 1


@pytest.mark.parametrize(("bound", "n"), [(1, 5), (2, 5), (3, 4), (4, 4)])
def test_bounds_hold_against_exact_probabilities_over_every_sample(bound, n):
    draws = list(product(range(-bound, bound + 1), repeat=n))
    sums = [naive.all_sums(x) for x in draws]
    for t in range(1, bound + 1):
        exact = sum(t not in s for s in sums) / len(draws)
        assert theory.parity_floor(n, bound) * (t % 2) <= exact <= theory.one_target_failure(n, bound)
    everything = set(range(-bound, bound + 1))
    assert sum(not everything <= s for s in sums) / len(draws) <= theory.all_targets_failure(n, bound)
    half = set(range(-(bound // 2), bound // 2 + 1))
    assert sum(not half <= s for s in sums) / len(draws) <= theory.all_targets_failure(n, bound, "window")


@pytest.mark.parametrize("bound", [4, 16, 64])
def test_bounds_hold_against_measurement(bound):
    trials = 20000
    everything = subset_sum.hitting_times(60, bound, "all", trials, 1)
    single = subset_sum.hitting_times(60, bound, bound, trials, 2)
    for n in range(4, 40, 4):
        assert (everything > n).mean() <= theory.all_targets_failure(n, bound) + 1e-9
        assert (single > n).mean() <= theory.one_target_failure(n, bound) + 1e-9


def test_certified_samples_are_the_first_that_satisfy_the_bound():
    for targets, bound_of in (
        ("one", theory.one_target_failure),
        ("full", theory.all_targets_failure),
        ("window", lambda n, m: theory.all_targets_failure(n, m, "window")),
    ):
        n = theory.certified_samples(64, 1e-5, targets)
        assert bound_of(n, 64) <= 1e-5 < bound_of(n - 1, 64)
    assert theory.certified_samples(256, 1e-40) > 64
    assert theory.one_target_failure(300, 256) > 0


def test_independent_blocks_multiply_their_failures():
    assert theory.blocks_failure(0.01, 18, 35) == pytest.approx(0.01)
    assert theory.blocks_failure(0.01, 18, 54) == pytest.approx(1e-6)
    times = subset_sum.hitting_times(40, 16, "all", 20000, 3, "signed")
    assert (times > 24).mean() <= theory.blocks_failure((times > 12).mean(), 12, 24) + 0.005


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="reach is 'half'"):
        theory.all_targets_failure(5, 4, "half")
    with pytest.raises(ValueError, match="bound is 0"):
        theory.one_target_failure(5, 0)
    with pytest.raises(ValueError, match="window is 9"):
        theory.expected_growth(1, 4, 9)
    with pytest.raises(ValueError, match="targets is 'some'"):
        theory.certified_samples(4, 0.1, "some")
