"""The exact scale against enumeration of all events, and against grids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import distortion as naive
from prunequant.distortion import best_scale, best_step, scale_error

GRIDS = ["twos_complement", "narrow", "mid_rise"]


@pytest.mark.parametrize("grid", GRIDS)
def test_the_scale_is_as_good_as_enumeration_on_a_thousand_vectors(grid):
    rng = np.random.default_rng(11)
    for trial in range(340):
        n, bits = int(rng.integers(1, 25)), int(rng.integers(2, 6))
        x = rng.standard_t(2, n) if trial % 2 else rng.integers(-4, 5, n) * 0.5
        if not np.any(x):
            continue
        scale = best_scale(x, bits, grid)
        error = naive.rounding_error(x, scale, naive.levels(bits, grid))
        assert error <= naive.best_scale_error(x, bits, grid) + 1e-11 * (x @ x)


@given(st.integers(0, 2**31), st.sampled_from(GRIDS), st.integers(2, 8), st.sampled_from([40, 700]))
@settings(max_examples=25, deadline=None)
def test_no_grid_of_scales_does_better(seed, grid, bits, n):
    x = np.random.default_rng(seed).standard_t(4, n)
    best = scale_error(x, best_scale(x, bits, grid), bits, grid)
    top = np.abs(x).max() / 2 ** (bits - 1)
    for scale in top * np.linspace(0.2, 2.2, 200):
        assert best <= scale_error(x, scale, bits, grid) + 1e-11 * (x @ x)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_short_and_long_groups_use_two_methods_with_one_answer(bits, monkeypatch):
    from prunequant.distortion import scale as module

    for seed in range(40):
        x = np.random.default_rng(seed).standard_normal(300)
        short = best_scale(x, bits)
        monkeypatch.setattr(module, "LONG", 1)
        long = best_scale(x, bits)
        monkeypatch.undo()
        assert scale_error(x, short, bits) == pytest.approx(scale_error(x, long, bits), rel=1e-11)


def test_groups_blocks_and_axes_are_solved_one_by_one():
    x = np.random.default_rng(2).standard_normal((6, 8, 4))
    each = best_scale(x, 3, axis=1)
    assert each.shape == (6, 4)
    assert each[2, 1] == best_scale(x[2, :, 1], 3)
    blocks = best_scale(x, 3, axis=1, block=4)
    assert blocks.shape == (6, 2, 4)
    assert blocks[5, 1, 3] == best_scale(x[5, 4:, 3], 3)


# What the library once scanned: 60 clipping points of a neuron, 80 of a channel, 120 of a layer.
SCANS = {"neuron": (0.05, 1.0, 60), "channel": (0.3, 1.05, 80), "layer": (0.3, 1.05, 120)}


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
@pytest.mark.parametrize("levels", [2, 3, 4, 7, 15, 16, 33])
def test_the_exact_step_is_never_worse_than_a_scan_and_most_often_better(levels, scan):
    rng, better = np.random.default_rng(levels), 0
    table = naive.symmetric(levels)
    for trial in range(30):
        n = int(rng.integers(5, 200))
        x = (rng.standard_t(3, n), rng.standard_normal(n), rng.uniform(-1, 1, n))[trial % 3]
        exact = naive.rounding_error(x, best_step(x, levels), table)
        scanned = naive.rounding_error(x, naive.scanned_step(x, table, np.linspace(*scan)), table)
        assert exact <= scanned + 1e-13 * (x @ x)
        better += exact < scanned * (1 - 1e-9)
    assert better >= 25


def test_the_step_is_as_good_as_enumeration_at_any_number_of_levels():
    rng = np.random.default_rng(4)
    for trial in range(300):
        n, levels = int(rng.integers(1, 25)), int(rng.integers(2, 40))
        x = rng.standard_t(2, n) if trial % 2 else rng.integers(-4, 5, n) * 0.5
        if not np.any(x):
            continue
        table = naive.symmetric(levels)
        error = naive.rounding_error(x, best_step(x, levels), table)
        assert error <= naive.least_error(x, table) + 1e-11 * (x @ x)


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 600, 3000]))
@settings(max_examples=25, deadline=None)
def test_the_step_of_two_levels_is_twice_the_mean_magnitude(seed, n):
    x = np.random.default_rng(seed).standard_t(3, n)
    assert best_step(x, 2) == pytest.approx(2 * np.mean(np.abs(x)), rel=1e-12)


@given(st.integers(0, 2**31), st.integers(2, 8), st.sampled_from([40, 700]))
@settings(max_examples=25, deadline=None)
def test_a_grid_counted_in_levels_is_the_one_counted_in_bits(seed, bits, n):
    x = np.random.default_rng(seed).standard_t(4, (2, n))
    assert np.array_equal(best_step(x, 2**bits, axis=1), best_scale(x, bits, "mid_rise", axis=1))
    assert np.array_equal(best_step(x, 2**bits - 1, axis=1), best_scale(x, bits, "narrow", axis=1))


@pytest.mark.parametrize("levels", [2**13, 2**14 + 1, 2**16])
def test_thousands_of_levels_are_no_worse_than_a_scan(levels):
    x = np.random.default_rng(levels).standard_normal((2, 700))
    table = naive.symmetric(levels)

    def error(row, step):
        index = np.searchsorted(0.5 * (table[1:] + table[:-1]) * step, row)
        return np.sum((row - step * table[index]) ** 2)

    for row, step in zip(x, best_step(x, levels, axis=1)):
        top = np.abs(row).max() / table[-1]
        scanned = min(error(row, top * ratio) for ratio in np.linspace(0.9, 1.05, 300))
        assert error(row, step) <= scanned + 1e-13 * (row @ row)


@given(st.integers(0, 10**6), st.floats(1e-150, 1e150))
@settings(max_examples=30, deadline=None)
def test_the_scale_follows_the_units(seed, unit):
    x = np.random.default_rng(seed).standard_normal(20)
    assert best_scale(x * unit, 4) == pytest.approx(unit * best_scale(x, 4), rel=1e-9)


def test_zeros_get_scale_one_and_a_lone_number_is_exact():
    assert best_scale(np.zeros(5), 4) == 1.0
    assert scale_error(np.array([-3.7]), best_scale(np.array([-3.7]), 4), 4) == pytest.approx(0, abs=1e-25)
    assert list(best_scale(np.array([[0.0, 0.0], [1.0, -2.0]]), 2, axis=1)) == [1.0, 1.0]
    assert list(best_step(np.array([[0.0, 0.0], [1.0, -1.0]]), 3, axis=1)) == [1.0, 1.0]


@pytest.mark.parametrize("n", [5, 700])
def test_zeros_on_a_grid_without_zero_get_a_scale_that_loses_nothing_in_any_precision(n):
    for scale in (best_scale(np.zeros(n), 2, "mid_rise"), best_step(np.zeros(n), 2), best_step(np.zeros(n), 16)):
        assert np.float32(scale) > 0
        assert np.float32(n * (7.5 * scale) ** 2) == 0


def test_many_equal_magnitudes_are_one_event():
    x = np.repeat([1.0, -1.0, 0.3], 400)
    assert scale_error(x, best_scale(x, 2), 2) == pytest.approx(
        naive.best_scale_error(x, 2, "twos_complement"), rel=1e-9
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_scale(np.array([1.0, np.inf]), 4), "every value must be finite"),
        (lambda: best_scale(np.array([]), 4), "at least one real number"),
        (lambda: best_scale(np.ones(6), 4, axis=0, block=4), "block is 4"),
        (lambda: best_scale(np.ones(6), 4, block=2), "block is given without an axis"),
        (lambda: best_scale(np.ones(6), 13), "bits is 13"),
        (lambda: best_scale(np.ones(6), 4, "ternary"), "grid is 'ternary'"),
        (lambda: best_step(np.ones(6), 1), "levels is 1: it must be an integer in"),
        (lambda: best_step(np.ones(6), 2**16 + 1), "levels is 65537"),
        (lambda: best_step(np.array([1.0, np.nan]), 4), "every value must be finite"),
        (lambda: best_step(np.ones(6), 4, axis=0, block=4), "block is 4"),
        (lambda: scale_error(np.ones(2), -1.0, 4), "scale is -1.0"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
