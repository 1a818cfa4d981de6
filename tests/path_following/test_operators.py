"""The rounding operators: exact laws, the three facts the theory uses, and their scalar twins bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import path_following as naive
from prunequant.path_following import FiniteGrid, Grid, OneBit, Prune, PruneThenQuantize

INTEGERS = [int, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
STOCHASTIC = [
    Grid(0.3),
    FiniteGrid(0.3, 5),
    FiniteGrid(0.3, 4),
    OneBit(2.0),
    Prune(0.8),
    PruneThenQuantize(0.9, 0.3),
    PruneThenQuantize(0.8, 0.3),
    PruneThenQuantize(0.2, 0.3),
]
TWINS = [
    (Grid(0.3), lambda x, u: naive.grid(x, u, 0.3)),
    (Grid(0.3, False), lambda x, u: naive.grid(x, u, 0.3, False)),
    (FiniteGrid(0.25, 5), lambda x, u: naive.finite_grid(x, u, 0.25, 5)),
    (FiniteGrid(0.25, 4), lambda x, u: naive.finite_grid(x, u, 0.25, 4)),
    (FiniteGrid(0.25, 5, False), lambda x, u: naive.finite_grid(x, u, 0.25, 5, False)),
    (FiniteGrid(0.25, 4, False), lambda x, u: naive.finite_grid(x, u, 0.25, 4, False)),
    (OneBit(2.0), lambda x, u: naive.one_bit(x, u, 2.0)),
    (OneBit(2.0, False), lambda x, u: naive.one_bit(x, u, 2.0, False)),
    (Prune(0.8), lambda x, u: naive.prune(x, u, 0.8)),
    (Prune(0.8, False), lambda x, u: naive.prune(x, u, 0.8, False)),
    (PruneThenQuantize(0.75, 0.25), lambda x, u: naive.prune_then_quantize(x, u, 0.75, 0.25)),
    (PruneThenQuantize(0.8, 0.25), lambda x, u: naive.prune_then_quantize(x, u, 0.8, 0.25)),
    (PruneThenQuantize(0.8, 0.25, False), lambda x, u: naive.prune_then_quantize(x, u, 0.8, 0.25, False)),
]


def inside(operator, x):
    """x moved into the operator's domain."""
    limit = operator.domain
    return x if np.isinf(limit) else x * limit / 4


@pytest.mark.parametrize("operator", STOCHASTIC, ids=repr)
@given(x=st.floats(-4, 4))
@settings(max_examples=60, deadline=None)
def test_the_mean_is_the_weight_and_parameter_and_width_are_never_exceeded(operator, x):
    x = inside(operator, x)
    values, probabilities = operator.law(x)
    values = values[probabilities > 1e-12]
    probabilities = probabilities[probabilities > 1e-12]
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)
    assert (values * probabilities).sum() == pytest.approx(x, abs=1e-9)
    assert np.abs(values - x).max() <= operator.parameter + 1e-12
    assert np.ptp(values) <= operator.width + 1e-12
    assert operator.mean_zero


@pytest.mark.parametrize("operator", STOCHASTIC, ids=repr)
def test_the_width_is_attained(operator):
    x = np.linspace(-3, 3, 2001)
    x = x if np.isinf(operator.domain) else x * operator.domain / 3
    values, probabilities = operator.law(x)
    reach = np.where(probabilities > 0, values, -np.inf).max(-1) - np.where(probabilities > 0, values, np.inf).min(-1)
    assert reach.max() == pytest.approx(operator.width)


@pytest.mark.parametrize("operator", STOCHASTIC, ids=repr)
def test_drawn_values_follow_the_law(operator):
    x = inside(operator, 0.7)
    trials = 40_000
    drawn = operator(np.full((100, trials // 100), x), seed=7).ravel()
    values, probabilities = operator.law(x)
    assert set(np.round(drawn, 12)) <= set(np.round(values, 12))
    deviation = np.sqrt(operator.spread(x) / trials)
    assert abs(drawn.mean() - x) <= 5 * deviation
    for value in np.unique(values):
        share = probabilities[np.isclose(values, value)].sum()
        assert np.isclose(drawn, value).mean() == pytest.approx(share, abs=5 * np.sqrt(0.25 / trials))


@pytest.mark.parametrize("operator", [Grid(0.4, False), FiniteGrid(0.4, 8, False), OneBit(1.5, False)], ids=repr)
def test_nearest_rounding_moves_a_weight_by_at_most_half_the_width(operator):
    x = np.linspace(-1, 1, 999) * min(operator.domain, 5)
    assert np.abs(operator(x) - x).max() <= operator.width / 2 + 1e-12
    assert not operator.mean_zero


@pytest.mark.parametrize(("operator", "twin"), TWINS, ids=lambda o: repr(o) if not callable(o) else "")
def test_the_kernel_equals_its_scalar_twin_bit_for_bit(operator, twin):
    x = np.random.default_rng(3).normal(0, 0.7, (5, 9))
    x[0, :4] = [0, 0.25, -0.25, 0.75]
    expected = [[twin(x[t, n], naive.draw(n, t, seed=2**40 + 5)) for n in range(9)] for t in range(5)]
    assert np.array_equal(operator(x, seed=2**40 + 5), expected)


def test_points_of_the_grid_are_never_moved():
    points = np.arange(-5, 6) * 0.25
    for seed in range(20):
        assert np.array_equal(Grid(0.25)(points, seed), points)


def test_pruning_keeps_large_weights_and_zeroes_small_ones():
    x = np.array([1.0, -1.2, 0.99, 0.0])
    assert np.array_equal(Prune(1.0, stochastic=False)(x), [1.0, -1.2, 0, 0])
    drawn = Prune(1.0)(np.tile(x, (50, 1)), seed=1)
    assert np.all(drawn[:, 0] == 1.0) and np.all(drawn[:, 1] == -1.2) and set(drawn[:, 2]) <= {0.0, 1.0}


def test_joint_pruning_on_the_grid_costs_no_more_than_the_dearer_of_the_two():
    assert PruneThenQuantize(0.9, 0.3).parameter == pytest.approx(0.9)
    assert PruneThenQuantize(0.3, 0.3).parameter == pytest.approx(0.3)
    assert PruneThenQuantize(1.0, 0.3).parameter == pytest.approx(1.3)
    assert PruneThenQuantize(1.0, 0.3).width == pytest.approx(1.2)


def test_one_size_a_neuron_is_the_same_as_neuron_by_neuron():
    x = np.random.default_rng(0).normal(size=(6, 8))
    steps = np.linspace(0.1, 0.8, 8)
    together = Grid(steps)(x, seed=3)
    for n in range(8):
        assert np.array_equal(Grid(float(steps[n]))(x, seed=3)[:, n], together[:, n])
    assert np.array_equal(Grid(steps).width, steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(0), "Grid: step is 0: it must be a finite number in"),
        (lambda: Grid(np.nan), "step is nan"),
        (lambda: Grid(np.ones((2, 2))), r"shape \(2, 2\)"),
        (lambda: FiniteGrid(0.1, 1), "FiniteGrid: levels is 1: it must be an integer in"),
        (lambda: FiniteGrid(0.1, 2**24 + 1), "levels is 16777217"),
        (lambda: FiniteGrid(np.ones(64), 2**24).values, "more than 134217728 values"),
        (lambda: Grid([1.0, 0.0]), "step is 0.0 at 1"),
        (lambda: Grid([[1.0, 2.0], [3.0]]), r"Grid: step is \[\[1.0, 2.0\], \[3.0\]\]"),
        (lambda: OneBit(1e200), r"size is 1e\+200"),
        (lambda: Grid(1e-150)(np.array([1e200])), r"x holds values beyond 1e\+150"),
        (lambda: Grid(1e-150).law(-1e200), r"x holds values beyond 1e\+150"),
        (lambda: Grid(1.0)(np.array([np.nan])), "x holds NaN"),
        (lambda: Grid(1.0)(np.ones(2), seed=2**64), "seed is 18446744073709551616"),
        (lambda: OneBit(-1), "size is -1"),
        (lambda: PruneThenQuantize(1, np.inf), "step is inf"),
        (lambda: PruneThenQuantize(np.ones(3), np.ones(2)), "3 sizes but 2 steps"),
        (lambda: Grid(np.ones(3))(np.ones((2, 4))), "3 sizes but there are 4 neurons"),
        (lambda: Grid(np.ones(3)).law(0.1), "give one number"),
    ],
)
def test_impossible_sizes_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make", [lambda: FiniteGrid(0.1, 2.5), lambda: Grid("0.5"), lambda: Grid(0.5, 1), lambda: Grid(True)]
)
def test_the_wrong_kind_of_size_or_flag_is_a_type_error(make):
    with pytest.raises(TypeError, match=r"Grid: (levels|step|stochastic) is"):
        make()


@pytest.mark.parametrize("kind", INTEGERS)
def test_levels_and_seeds_of_any_integer_type_are_python_integers(kind):
    wanted, given = FiniteGrid(0.3, 8), FiniteGrid(0.3, kind(8))
    assert (given.domain, given.levels) == (wanted.domain, 8) and type(given.levels) is int
    assert np.array_equal(given.values, wanted.values)
    for ours, theirs in zip(given.law([-0.7, 0.2]), wanted.law([-0.7, 0.2]), strict=True):
        assert np.array_equal(ours, theirs)
    x = np.linspace(-2, 2, 9)
    assert np.array_equal(given(x, seed=kind(5)), wanted(x, seed=5))


def test_nothing_in_gives_nothing_out():
    for shape in ((0,), (0, 3), (3, 0)):
        assert Grid(0.5)(np.zeros(shape)).shape == shape
