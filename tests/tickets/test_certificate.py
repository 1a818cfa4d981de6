import numpy as np
import pytest
from scipy import stats

from naive import tickets as naive
from prunequant.tickets import certificate as c


@pytest.mark.parametrize(
    ("kind", "levels", "units"), [("relu", 1, 4), ("relu", 2, 3), ("linear", 2, 2), ("uniform", 2, 4)]
)
def test_trials_agree_with_enumeration_of_every_block(kind, levels, units):
    of = c.law(kind, levels, levels)
    trials = 40_000
    counts = c.count_failures(of, trials, seed=5, units=units)
    for w in range(1, levels + 1):
        exact = naive.failure_probability(kind, levels, of.factor, w, units)
        test = stats.binomtest(int(counts[w - 1, -1]), trials, float(exact))
        assert test.pvalue > 1e-4


@pytest.mark.parametrize(
    ("kind", "levels", "units"), [("relu", 2, 3), ("linear", 2, 2), ("uniform", 2, 4), ("relu", 3, 2)]
)
def test_the_proved_bound_is_never_below_the_exact_probability(kind, levels, units):
    of = c.law(kind, levels, levels)
    bound = c.window_failure(of, units)
    for w in range(levels + 1):
        for m in range(1, units + 1):
            assert bound[w, m] >= float(naive.failure_probability(kind, levels, of.factor, w, m))


def test_the_proved_bound_is_exact_when_every_sum_stays_in_the_window():
    of = c.law("uniform", 1, 1)  # one step of −1, 0, 1: the window −1..1 loses sums only beyond both targets
    assert c.window_failure(of, 1)[1, 1] == pytest.approx(2 / 3, rel=1e-8)


def test_the_proved_bound_is_above_the_measured_rate_and_falls_exponentially():
    of = c.law("relu", 7, 7)
    proved, measured = c.window_failure(of, 400), c.rates(of)
    assert (proved[:, :65] >= measured - 5e-3).all()
    assert proved[:, 400].max() < 1e-7


def test_counts_do_not_depend_on_threads(monkeypatch):
    import numba

    of = c.law("relu", 4, 4)
    one = c.count_failures(of, 3000, 1, 20)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert np.array_equal(one, c.count_failures(of, 3000, 1, 20))
    finally:
        numba.set_num_threads(before)


def test_the_recorded_table_agrees_with_fresh_trials():
    for of in (c.law("relu", 7, 7), c.law("linear", 7, 7), c.law("uniform", 8, 8)):
        counts, trials = c.failures(of)
        assert trials >= 1_000_000
        fresh = c.count_failures(of, 20_000, seed=77, units=24)
        for m in (8, 16, 24):
            low, high = stats.binomtest(int(fresh[-1, m - 1]), 20_000).proportion_ci(1 - 1e-5)
            assert low <= counts[-1, m - 1] / trials <= high


def test_upper_limits_are_clopper_pearson_limits_with_the_confidence_shared_out():
    of = c.law("relu", 3, 3)
    counts, trials = c.failures(of)
    limits = c.upper_limits(of, 0.99)
    alpha = 0.01 / counts.size
    k = int(counts[1, 39])
    assert limits[2, 40] == pytest.approx(stats.beta.isf(alpha, k + 1, trials - k), rel=1e-12)
    assert (limits[1:, 1:] >= counts / trials).all()


def test_a_block_cut_in_two_misses_only_when_both_parts_miss():
    of = c.law("relu", 2, 2)
    rates = c.rates(of)[2]
    assert rates[40] <= rates[20] ** 2 + 5 * np.sqrt(rates[20] ** 2 / 4e6)
    assert c.block_failure(of, (20, 20))[2] == pytest.approx(c.upper_limits(of)[2, 20] ** 2)


def test_chosen_blocks_meet_the_failure_and_one_unit_less_does_not():
    of = c.law("relu", 7, 7)
    blocks = c.choose_blocks(of, np.log(1e-3))
    assert c.block_failure(of, blocks).max() <= 1e-3
    assert len(blocks) == 2 and c.block_failure(of, tuple(b - 1 for b in blocks)).max() > 1e-3


def test_a_failure_that_32_blocks_of_64_units_do_not_reach_is_refused_by_the_number_of_units():
    of = c.law("relu", 7, 7)
    most = (c.MAX_UNITS,) * 32
    least = np.log(c.block_failure(of, most).max())
    assert len(c.choose_blocks(of, least + 1e-6)) == 32
    with pytest.raises(ValueError, match=f"no block of up to {sum(most)} units"):
        c.choose_blocks(of, least - 1e-6)


@pytest.mark.parametrize("reach", [0, -1, 2**31 + 1])
def test_a_reach_without_a_weight_or_beyond_31_bits_is_refused(reach):
    with pytest.raises(ValueError, match=rf"reach is {reach}: it must be an integer in \[1, 2147483648\]"):
        c.law("relu", 7, 7, reach)


def test_indivisible_steps_are_named():
    with pytest.raises(ValueError, match="target step 1/2 is not a multiple of δ_in² = 1/9"):
        c.law("relu", 3, 2)
    with pytest.raises(ValueError, match="kind"):
        c.law("cubic", 3, 3)
    with pytest.raises(ValueError, match="reach"):
        c.window_failure(c.law("relu", 16, 16), 10)
    with pytest.raises(ValueError, match="units is 4097: at reach 8 it must be at most 4096"):
        c.window_failure(c.law("relu", 8, 8), 4097)
    assert c.most_window_units(5) == 2**14
    assert c.common_grid(3, 2) == 4


def test_laws_that_share_a_confidence_have_wider_limits():
    of = c.law("relu", 3, 3)
    counts, trials = c.failures(of)
    k = int(counts[1, 39])
    alpha = (1 - 0.99) / (counts.size * 5)
    assert c.upper_limits(of, 0.99, laws=5)[2, 40] == pytest.approx(stats.beta.isf(alpha, k + 1, trials - k), rel=1e-12)
    assert c.upper_limits(of, 0.99, laws=5)[2, 40] > c.upper_limits(of, 0.99)[2, 40]
