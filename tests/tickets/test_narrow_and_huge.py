"""Integers of any type give one result; no integer, or one too large for the work, is refused by name and at once."""

import time
from fractions import Fraction

import numpy as np
import pytest

from prunequant import tickets
from prunequant.tickets import blocks, certificate, controls, counting, noise, source, structured
from prunequant.tickets.carve import kept_totals

TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
HUGE = [2**31, 2**40, 2**62, 2**63, 2**64, 2**70, -(2**31), -(2**70), 10**400]
LAW = certificate.law("relu", 7, 7)
RECIPE = tickets.Recipe(0, "relu", 7, 7, (40, 40))
NETWORK = tickets.random_network((3, 2), 7, 0)
PLAN = tickets.plan(NETWORK, failure=0.01)
PAIR = tickets.find_pair([[2, -3]], 4, failure=1e-3, linear=True)
IMAGE = np.arange(32).reshape(1, 2, 4, 4) - 9

CALLS = {
    "attention": (
        lambda heads, levels: blocks.Attention(*[np.eye(4, dtype=int)] * 4, heads, 0.1, levels).levels,
        (2, 99),
    ),
    "carve": (lambda seed: tickets.carve([[3, -5]], RECIPE, seed).words, (1,)),
    "common_grid": (certificate.common_grid, (6, 8)),
    "convolve": (lambda s, p: structured.convolve(IMAGE, np.ones((1, 2, 2, 2), int), s, p), (2, 1)),
    "count_failures": (lambda n, seed, units: certificate.count_failures(LAW, n, seed, units), (50, 3, 20)),
    "counting_bound": (lambda n, k: counting.counting_bound([n], [k]), (100, 7)),
    "dense": (lambda rows, columns: source.dense(1, 0, 1, 7, (rows, columns)), (2, 3)),
    "find": (lambda seed: tickets.find(NETWORK, PLAN, seed).carvings[0].words, (1,)),
    "find_pair": (lambda t, k, s, l: tickets.find_pair([[2, -3]], t, k, 1e-3, s, layer=l).carving.words, (7, 7, 1, 2)),
    "find_shallow": (lambda levels, seed: blocks.find_shallow_residual([[2, -1], [0, 3]], levels, seed).values, (4, 1)),
    "forward": (lambda stride, padding: PAIR.forward(IMAGE, stride, padding), (2, 1)),
    "law": (lambda k, t, reach: certificate.law("relu", k, t, reach), (14, 7, 9)),
    "least_parameters": (counting.least_parameters, (2, 20, 1, 100)),
    "least_width": (lambda *a: controls.least_width(a[0], a[1], 0.9, *a[2:]).units, (2, 3, 20, 0, 2, 100)),
    "levels": (lambda k: tickets.Network([[[3, -2]]], k).levels, (100,)),
    "network": (lambda g, c: tickets.Network([[[3, -2]]], 7, [g], [c]).forward([[99]]), (2, 100)),
    "plan": (lambda i, o: tickets.plan((i, o), Fraction(1, 7)).samples, (100, 50)),
    "quietest": (lambda seed: noise.quietest([[3, -5]], RECIPE, seed).words, (1,)),
    "random_network": (lambda d, k, seed: tickets.random_network((d, 3), k, seed).weights[0], (5, 100, 1)),
    "recipe": (lambda layer, k, t, m: tickets.Recipe(layer, "relu", k, t, (m, m)).factor, (3, 100, 50, 64)),
    "residual": (lambda levels, g: blocks.residual([[2, -1], [0, 3]], [[1, 2]], levels, g), (100, 2)),
    "rounding": (
        lambda k, w, n, seed, r, u: noise.interior_rounding(k, 1.0, w, n, seed, "nearest", r, False, u),
        (7, 5, 9, 1, 64, 60),
    ),
    "single_weight": (controls.single_weight_success, (7, 7, 20, 50, 1)),
    "source": (source.weights, (1, 2, 1, 100, 7, 5)),
    "source_blocks": (source.blocks, (1, 2, 100, 3, 4)),
    "step": (tickets.step, (8,)),
    "upper_limits": (lambda laws: certificate.upper_limits(LAW, 0.99, laws), (2,)),
    "window_failure": (lambda units: certificate.window_failure(certificate.law("relu", 3, 3), units), (64,)),
    "with_blocks": (lambda m: PLAN.with_blocks([(m, m)]).certified, (40,)),
}
INTEGERS = [
    pytest.param(function, given, place, id=f"{name}-{place}")
    for name, (function, given) in CALLS.items()
    for place in range(len(given))
]


@pytest.mark.parametrize(("function", "given", "place"), INTEGERS)
def test_an_integer_of_any_numpy_type_gives_the_result_of_the_python_integer(function, given, place):
    expected = function(*given)
    for kind in TYPES:
        narrow = (*given[:place], kind(given[place]), *given[place + 1 :])
        np.testing.assert_equal(function(*narrow), expected, err_msg=str(kind))


@pytest.mark.parametrize(("function", "given", "place"), INTEGERS)
def test_what_is_no_integer_and_what_is_too_large_is_refused_at_once(function, given, place):
    start = time.process_time()
    for wrong in (None, "x", 1.5, True, 2j, [1, 2], np.ma.masked):
        if wrong is None and function is CALLS["find_pair"][0]:
            continue  # the default of a step and of a layer's reach
        if function is CALLS["law"][0] and wrong is None:
            continue
        with pytest.raises((TypeError, ValueError)):
            function(*given[:place], wrong, *given[place + 1 :])
    for value in HUGE:
        try:
            function(*given[:place], value, *given[place + 1 :])
        except (ValueError, tickets.TicketNotFound) as error:
            assert len(str(error)) < 300
    assert time.process_time() - start < 10


def test_a_bound_that_passes_int64_does_not_wrap():
    assert tickets.Network([np.full((1, 4), 2**62)], 2**62).forward([[1, 1, 1, 1]]).tolist() == [[2**64]]
    huge = tickets.Network([[[1, -1]]], 1, [2**62]).forward([[2**62, -(2**62)]])
    assert huge.tolist() == [[2]]
    assert tickets.Network([[[1]]], 1, [2**62], [0]).forward([[3]]).tolist() == [[0]]


@pytest.mark.parametrize("make", [tickets.carve, tickets.quietest])
def test_narrow_targets_are_carved_exactly(make):
    recipe = tickets.Recipe(0, "relu", 15, 15, (60, 60))
    for kind in (np.int8, np.uint8, np.int16, np.uint64, object):
        found = make(np.array([[15, 3]], kind), recipe, 1)
        assert tickets.carve([[15, 3]], recipe, 1).words.shape == found.words.shape
        assert (kept_totals(found, 1).sums[..., 0] == np.array([[15, 3]]) * 15).all()
    for wrong, error in (
        (np.array([[0.5, 1]]), TypeError),
        (np.ma.masked_array([[1, 2]], [[0, 1]]), TypeError),
        (None, TypeError),
        ([[16, 0]], ValueError),
        ([[-128, 0]], ValueError),
        ([1, 2], ValueError),
    ):
        with pytest.raises(error, match="target"):
            make(wrong, recipe, 1)


def test_narrow_images_kernels_and_tokens_do_not_wrap():
    x, kernel = np.full((1, 2, 3, 3), 100, np.int8), np.full((2, 1, 2, 2), 100, np.int8)
    assert (structured.convolve(x, kernel, depthwise=True) == 40_000).all()
    assert (structured.convolve(x, kernel.reshape(1, 2, 2, 2)) == 80_000).all()
    assert blocks.residual(np.array([[100]], np.int8), np.array([[100]], np.int8), np.int8(100), 1).tolist() == [
        [20_000]
    ]
    attention = blocks.Attention(*[np.array([[100]], np.int8)] * 4, 1, 0.1, np.uint8(255))
    assert attention.forward(np.array([[100]], np.int8)).tolist() == [[100 * 100 * 255 * 100]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tickets.Network([[[1]]], 1, divisors=[2.7]),
        lambda: tickets.Network([[[1]]], 1, constants=[0.5]),
        lambda: tickets.Network([[[1]]], 1.0),
        lambda: tickets.plan((4.9, 3.9), 1 / 7),
        lambda: tickets.plan((4, 3), "x"),
        lambda: tickets.plan(None, 1 / 7),
        lambda: tickets.plan((4, 3), 1 / 7, signed_inputs=1),
        lambda: tickets.find("x", PLAN, 1),
        lambda: tickets.find(NETWORK, "x", 1),
        lambda: tickets.find(NETWORK, PLAN, 1).verify([[1, 2, 3]], "x"),
        lambda: tickets.find_pair([[0.5]], 7),
        lambda: tickets.Recipe(None, "relu", 7, 7, (40,)),
        lambda: counting.representable_weights([0.5], [1]),
        lambda: noise.quietest([[1]], "x", 1),
    ],
)
def test_what_would_be_cut_off_or_fail_inside_is_a_type_error(wrong):
    with pytest.raises(TypeError, match=r"must be|must hold"):
        wrong()


@pytest.mark.parametrize("step", [float("inf"), float("-inf"), float("nan"), 0, -1, 2, 1e308, 1e-9])
def test_a_step_that_is_no_unit_fraction_is_a_value_error(step):
    for given in ({"target_step": step}, {"target_step": 1 / 7, "source_step": [step]}):
        with pytest.raises(ValueError, match="_step"):
            tickets.plan((2, 2), **given)


def test_a_network_keeps_copies_and_leaves_the_callers_arrays_alone():
    for dtype in (object, np.int64):
        mine = np.array([[1, 2]], dtype)
        net = tickets.Network([mine], 7)
        mine[0, 0] = 5
        assert net.weights[0].tolist() == [[1, 2]]
        with pytest.raises(ValueError, match="read-only"):
            net.weights[0][0, 0] = 3


def test_no_samples_are_verified_as_no_samples():
    ticket = tickets.find(NETWORK, PLAN, 1)
    assert ticket.verify(np.empty((0, 3), int)) == (True, 0, 0, 0)
    assert structured.convolve(np.empty((0, 2, 3, 3), int), np.ones((4, 2, 2, 2), int)).shape == (0, 4, 2, 2)


def test_the_recipe_has_no_more_sub_blocks_than_a_byte_can_name():
    assert len(tickets.Recipe(0, "relu", 3, 3, (1,) * 254).blocks) == 254
    with pytest.raises(ValueError, match="255 entries"):
        tickets.Recipe(0, "relu", 3, 3, (1,) * 255)


def test_the_quietest_ticket_says_when_its_table_is_too_large():
    with pytest.raises(ValueError, match="passes 1073741824 bytes"):
        noise.quietest([[3]], tickets.Recipe(0, "relu", 2**15 - 1, 7, (64,)), 1)


def test_a_live_run_takes_the_same_time_at_every_step():
    laws = [certificate.law("relu", k, k) for k in (5, 255, 511, 8191)]
    trials = [certificate.live_trials(of) for of in laws]
    assert trials[:2] == [certificate.LIVE_TRIALS] * 2 and trials[2] == 99_608 and trials[3] == 387
    with pytest.raises(ValueError, match="source step 1/8192"):
        certificate.count_failures(certificate.law("relu", 8192, 8192), 1, 1)


@pytest.mark.parametrize("kind", ["relu", "linear", "uniform"])
def test_the_items_of_the_window_process_are_those_of_the_enumeration(kind):
    for k, t in ((4, 2), (6, 3), (8, 4), (5, 5)):
        of = certificate.law(kind, k, t)
        v = np.arange(-k, k + 1)
        u = np.array([1]) if kind == "uniform" else np.maximum(v, 0) if kind == "relu" else v
        items = np.multiply.outer(u, v).ravel()
        one = [float(1 - (items == w * of.factor).mean()) for w in range(1, t + 1)]
        np.testing.assert_allclose(certificate.window_failure(of, 1)[1:, 1], one, rtol=1e-8)


def test_a_proved_bound_of_a_fine_source_needs_no_table_of_all_products():
    assert certificate.window_failure(certificate.law("relu", 2**15 - 1, 7), 2).shape == (8, 3)


def test_a_convolution_in_bands_is_the_same_convolution(monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = rng.integers(-9, 10, (2, 3, 7, 6)), rng.integers(-9, 10, (4, 3, 2, 2))
    whole = structured.convolve(x, kernel, 1, ((1, 0), (2, 1)))
    monkeypatch.setattr(structured, "BAND", 150)
    assert np.array_equal(structured.convolve(x, kernel, 1, ((1, 0), (2, 1))), whole)
