"""The exact scale against enumeration of all events, and against grids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import distortion as naive
from prunequant.distortion import best_scale, scale_error

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


@given(st.integers(0, 10**6), st.floats(1e-150, 1e150))
@settings(max_examples=30, deadline=None)
def test_the_scale_follows_the_units(seed, unit):
    x = np.random.default_rng(seed).standard_normal(20)
    assert best_scale(x * unit, 4) == pytest.approx(unit * best_scale(x, 4), rel=1e-9)


def test_zeros_get_scale_one_and_a_lone_number_is_exact():
    assert best_scale(np.zeros(5), 4) == 1.0
    assert scale_error(np.array([-3.7]), best_scale(np.array([-3.7]), 4), 4) == pytest.approx(0, abs=1e-25)
    assert list(best_scale(np.array([[0.0, 0.0], [1.0, -2.0]]), 2, axis=1)) == [1.0, 1.0]


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
        (lambda: scale_error(np.ones(2), -1.0, 4), "scale is -1.0"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
