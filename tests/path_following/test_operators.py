"""The rounding operators: exact laws, the three facts the theory uses, and their scalar twins bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import path_following as naive
from prunequant.path_following import FiniteGrid, Grid, OneBit, Prune, PruneThenQuantize, _kernels, compress
from prunequant.path_following.operators import uniforms

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
    (Prune(0.8, c=0.4), lambda x, u: naive.prune(x, u, 0.8, c=0.4)),
    (Prune(0.8, False, c=0.4), lambda x, u: naive.prune(x, u, 0.8, False, 0.4)),
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


def all_draws(operator, x, bits=20):
    """T(x) at 2**bits evenly spaced uniforms: the law itself, up to one of them."""
    draws = ((np.arange(2**bits) + 0.5) / 2**bits).astype(np.float32)
    v, q = np.full(draws.size, float(x)), np.empty(draws.size)
    kind, stochastic, *sizes = operator._coded(draws.size, np.float64)
    _kernels.round_row(kind, stochastic, v, draws, *sizes, q, np.zeros(draws.size, np.int64))
    return q


@pytest.mark.parametrize("c", [1.0, 0.75, 0.5, 0.1, 1e-3])
def test_pruning_is_unbiased_with_reach_and_width_k_for_every_c_of_the_paper(c):
    operator = Prune(0.8, c=c)
    for x in (*np.linspace(-1, 1, 21), 0.999 * c * 0.8, -1e-3 * c):
        drawn = all_draws(operator, x)
        assert drawn.mean() == pytest.approx(x, abs=0.8 * 2.0**-19)
        assert np.abs(drawn - x).max() <= operator.parameter == 0.8
        assert np.ptp(drawn) <= operator.width == 0.8
        assert drawn.var() == pytest.approx(float(operator.spread(x)), abs=1e-5)
        survivors = np.abs(drawn[drawn != 0])
        if 0 < abs(x) < c * 0.8:
            assert np.all((survivors >= c * 0.8) & (survivors <= 0.8)) and np.all(
                np.sign(x) == np.sign(drawn[drawn != 0])
            )
            assert np.mean(drawn != 0) == pytest.approx(2 * abs(x) / ((1 + c) * 0.8), abs=1e-5)
        elif x:
            assert np.all(drawn == x)
    assert np.abs(all_draws(operator, 0.01 * c)).max() == pytest.approx(0.8, abs=0.05)  # so M = K is reached


def test_pruning_with_c_one_draws_the_very_weights_that_the_operator_without_c_drew():
    x = np.random.default_rng(1).normal(0, 0.7, (64, 40))
    for dtype in (np.float32, np.float64):
        draws = uniforms(64, 40, 9)
        size, v = dtype(0.8), x.astype(dtype)
        before = np.where(
            np.abs(v) < size, np.where(draws.astype(dtype) * size < np.abs(v), np.copysign(size, v), dtype(0)), v
        )
        for operator in (Prune(0.8), Prune(0.8, c=1.0)):
            found = compress(v, np.eye(64, dtype=dtype), operator, "none", seed=9).weights
            assert found.dtype == dtype and np.array_equal(found, before)


def test_the_law_of_pruning_is_finite_at_c_one_alone_and_its_hard_threshold_is_at_ck():
    with pytest.raises(ValueError, match=r"Prune.law: c is 0.5: survivors lie anywhere in \[cK, K\]"):
        Prune(1.0, c=0.5).law(0.2)
    assert np.array_equal(Prune(1.0, stochastic=False, c=0.5)(np.array([0.49, -0.5, 0.7])), [0, -0.5, 0.7])
    assert np.array_equal(Prune(1.0, stochastic=False, c=0.5).spread([0.2, 0.7]), [0, 0])
    assert (Prune(1.0, False, c=0.5).parameter, Prune(1.0, False, c=0.5).width) == (0.5, 1.0)
    x = np.linspace(-1.2, 1.2, 25)
    values, probabilities = Prune(0.8).law(x)
    assert np.allclose(Prune(0.8).spread(x), (values**2 * probabilities).sum(-1) - x**2)
    together, alone = Prune(np.array([0.5, 0.8]), c=0.3), Prune(0.8, c=0.3)
    y = np.random.default_rng(0).normal(size=(6, 2))
    assert np.array_equal(together(y, seed=2)[:, 1], np.hstack([y, alone(y, seed=2)])[:, 3])
    assert together.part(1, 2).c == 0.3


def test_joint_pruning_reaches_as_far_as_the_threshold_rounded_up_to_the_grid_and_no_further():
    for size, step, reach in ((0.9, 0.3, 0.9), (0.3, 0.3, 0.3), (1.0, 0.3, 1.2), (0.2, 0.3, 0.3), (0.6, 1.2, 1.2)):
        operator = PruneThenQuantize(size, step)
        x = np.linspace(-3, 3, 60_001)
        values, probabilities = operator.law(x)
        moved = np.where(probabilities > 1e-12, np.abs(values - x[:, None]), 0)
        assert operator.parameter == pytest.approx(reach) == operator.width
        assert moved.max() == pytest.approx(reach, abs=1e-3)


@pytest.mark.parametrize(("size", "step"), [(0.9, 0.3), (0.5, 0.8), (0.31, 0.6), (0.2, 0.6), (0.05, 0.6)])
def test_a_hard_threshold_and_the_nearest_point_reach_as_far_as_the_larger_of_the_two(size, step):
    operator = PruneThenQuantize(size, step, stochastic=False)
    x = np.linspace(-3, 3, 60_001)
    moved = x - operator(x)
    assert np.abs(moved).max() == pytest.approx(operator.parameter, abs=2e-4)
    assert np.ptp(moved) == pytest.approx(operator.width, abs=4e-4)


def test_pruning_before_rounding_to_twice_its_threshold_is_that_rounding():
    """The operator of the paper's three values: δ = 2K. In law it is stochastic rounding, whatever c is."""
    x = np.linspace(-5, 5, 2001)
    both, grid = PruneThenQuantize(0.5, 1.0), Grid(1.0)
    for value in range(-6, 7):
        shares = [np.sum(p * np.isclose(v, value), axis=-1) for v, p in (both.law(x), grid.law(x))]
        assert np.allclose(*shares, atol=1e-9)
    for c in (0.2, 0.6):
        for y in (0.05, 0.3, 0.45, 0.8):
            survivors = all_draws(Prune(0.5, c=c), y, 14)
            assert np.mean(survivors) / 1.0 == pytest.approx(y, abs=1e-4)  # P(T = 1), all survivors being below 1
            assert survivors.max() <= 1


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
        (lambda: Grid([]), r"Grid: step has shape \(0,\): one number, or one for each neuron"),
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
        (lambda: Prune(1.0, c=0), r"Prune: c is 0: it must be a finite number in \(0, 1\]"),
        (lambda: Prune(1.0, c=1.5), "Prune: c is 1.5"),
        (lambda: Prune(1.0, c=np.nan), "Prune: c is nan"),
        (lambda: Prune(np.ones(2), c=0.5).spread(0.1), "Prune.spread: size is one a neuron"),
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
    "make",
    [
        lambda: FiniteGrid(0.1, 2.5),
        lambda: Grid("0.5"),
        lambda: Grid(0.5, 1),
        lambda: Grid(True),
        lambda: Prune(1.0, c="1"),
        lambda: Prune(1.0, c=np.ones(2)),
    ],
)
def test_the_wrong_kind_of_size_or_flag_is_a_type_error(make):
    with pytest.raises(TypeError, match=r"(Grid|Prune): (levels|step|stochastic|c) is"):
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


@pytest.mark.parametrize("stochastic", [True, False])
def test_one_size_gives_a_python_float_and_a_size_for_each_neuron_an_array(stochastic):
    one, each = PruneThenQuantize(0.9, 0.3, stochastic), PruneThenQuantize(np.array([0.9, 1.2]), 0.3, stochastic)
    assert type(one.parameter) is float
    assert np.shape(each.parameter) == (2,) and float(each.parameter[0]) == one.parameter
