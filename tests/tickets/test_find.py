from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import tickets as naive
from prunequant import tickets
from prunequant.models.integer_digits import train_digits
from prunequant.tickets import source
from prunequant.tickets.carve import Recipe, carve, effective, prune


@pytest.fixture(scope="module")
def digits():
    return train_digits(0)


@pytest.fixture(scope="module")
def digits_ticket(digits):
    plan = tickets.plan(digits.network, failure=0.01, signed_inputs=False)
    return tickets.find(digits.network, plan, seed=0)


def test_the_target_network_is_the_naive_one():
    net = tickets.Network([[[3, -7, 1], [2, 2, -5]], [[-4, 1, 2]]], 7, divisors=(3, 0), constants=(5, 2))
    x = np.random.default_rng(0).integers(-50, 50, (30, 2))
    expected = [naive.forward(net.weights, row, net.divisors, net.constants) for row in x.tolist()]
    assert net.forward(x).tolist() == expected


def test_every_digit_gets_identical_integer_logits(digits, digits_ticket):
    result = digits_ticket.verify(digits.images)
    assert result.identical and result.samples == len(digits.images) and result.outputs == 10 * len(digits.images)
    assert np.array_equal(digits_ticket.logits(digits.images), digits.network.forward(digits.images))


def test_the_quantized_digits_are_still_read(digits):
    assert digits.float_accuracy > 0.94 and digits.accuracy > 0.93
    assert max(int(np.abs(w).max()) for w in digits.network.weights) <= 7


def test_masks_on_the_dense_source_make_the_target_in_python_integers():
    """Not one line shared with the library's forward pass: dense random matrices, masks, nested loops."""
    net = tickets.Network([[[1, -2, 2], [0, 2, -1]], [[2, -1]]], 2, divisors=(3, 0))
    made = tickets.plan(net, failure=0.01)
    ticket = tickets.find(net, made, seed=11)
    layers = []
    for l, (carving, layer) in enumerate(zip(ticket.carvings, ticket.layers)):
        d, m, k = carving.columns, carving.recipe.width, carving.recipe.source
        first = source.dense(11, l, source.FIRST, k, (d * m, d))
        second = source.dense(11, l, source.SECOND, k, (carving.rows, d * m))
        keep = np.zeros_like(first, dtype=bool)
        keep[np.arange(d * m), np.arange(d).repeat(m)] = layer.u_mask.ravel()
        layers.append(((first * keep).tolist(), (second * layer.v_mask).tolist()))
    c = made.recipes[0].factor
    for x in np.random.default_rng(1).integers(-9, 10, (40, 3)).tolist():
        expected = naive.forward(net.weights, x, net.divisors, net.constants)
        assert naive.pruned_forward(layers, x, (3 * c, 0)) == [c * v for v in expected]
        assert ticket.forward([x]).tolist() == [[c * v for v in expected]]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9), st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(0, 10**6), st.booleans(),
    st.sampled_from(["2l", "l+1"]), st.booleans(),
)  # fmt: skip
def test_a_ticket_equals_its_target_on_random_networks(levels, shape, seed, signed, depth, rounded):
    divisors = [3] * (len(shape) - 1) if rounded else None
    net = tickets.random_network(shape, levels, seed, divisors)
    ticket = tickets.find(net, tickets.plan(net, failure=1e-6, signed_inputs=signed, depth=depth), seed, depth)
    x = np.random.default_rng(seed).integers(-40 if signed else 0, 41, (6, shape[0]))
    assert ticket.verify(x).identical
    assert all(np.array_equal(a, b) for a, b in zip(ticket.weights(), net.weights))


@pytest.mark.parametrize("half", [(7, 7), (8, 8), (8, 4), (4, 8), (6, 9)])
def test_every_weight_of_the_grid_is_found_for_both_signs_of_the_input(half):
    k, t = half
    target = np.arange(-t, t + 1)[:, None]
    carving = carve(target, Recipe(0, "relu", k, t, (64, 64, 64), True), seed=3)
    layer = prune(carving, 3)
    for x in (-5, -1, 0, 1, 9):
        hidden = np.maximum(layer.u.ravel() * x, 0)
        assert np.array_equal(layer.v @ hidden, target[:, 0] * x * (k * k // t))


def test_scales_beyond_int64_stay_exact():
    net = tickets.random_network((4,) * 13, 8, 5)
    ticket = tickets.find(net, tickets.plan(net, failure=1e-4), 2)
    x = np.random.default_rng(0).integers(-1000, 1000, (5, 4))
    assert ticket.scale == 8**12
    out = ticket.forward(x)
    assert ticket.verify(x).identical and out.dtype == object
    assert max(abs(int(v)) for v in out.ravel()) > 2**63 or max(abs(int(v)) for v in net.forward(x).ravel()) == 0


def test_flipping_one_mask_bit_is_noticed(digits, digits_ticket):
    first = digits_ticket.carvings[0]
    words = first.words.copy()
    place = tuple(np.argwhere(words != 0)[0])
    words[place] &= words[place] - np.uint64(1)
    forged = tickets.Carving(first.recipe, words, first.tries)
    assert not np.array_equal(effective(forged, digits_ticket.seed), digits.network.weights[0])


def test_a_plan_too_small_returns_nothing_and_says_how_many_weights_and_where(digits):
    plan = tickets.plan(digits.network, failure=0.01, signed_inputs=False).with_blocks([12, 40])
    with pytest.raises(
        tickets.TicketNotFound, match=r"of 2410 subset sums have no solution \(\d+ in layer 0, \d+ in layer 1\)"
    ) as error:
        tickets.find(digits.network, plan, 0)
    assert error.value.failures[0] > 500 and 0 < error.value.failures[1] < 30


def test_unsolved_weights_of_an_undersized_plan_come_at_the_predicted_rate():
    net = tickets.random_network((12, 8, 5), 7, 1)
    plan = tickets.plan(net, failure=0.01).with_blocks([18, 26])
    result = tickets.controls.undersized(net, plan, range(60))
    assert abs(result.measured - result.predicted) < 4.5 * result.standard_error
    assert result.without_ticket == 60


def test_tickets_fail_no_more_often_than_certified():
    net = tickets.random_network((6, 4, 3), 7, 1)
    plan = tickets.plan(net, failure=0.1)
    missed = tickets.controls.undersized(net, plan, range(200)).without_ticket
    from scipy import stats

    assert stats.binom.sf(missed - 1, 200, plan.certified) > 1e-4


def test_different_seeds_make_different_tickets_and_the_same_seed_the_same():
    net = tickets.random_network((3, 2), 7, 0)
    plan = tickets.plan(net, failure=1e-6)
    a, b, again = (tickets.find(net, plan, s) for s in (1, 2, 1))
    assert np.array_equal(a.carvings[0].words, again.carvings[0].words)
    assert not np.array_equal(a.carvings[0].words, b.carvings[0].words)


def test_off_grid_targets_wrong_shapes_and_float_weights_are_refused():
    with pytest.raises(ValueError, match=r"weights\[0\] reaches 9, off the grid"):
        tickets.Network([[[9, 1]]], 7)
    with pytest.raises(TypeError, match="must hold integers"):
        tickets.Network([[[0.5]]], 7)
    with pytest.raises(ValueError, match="1 inputs, but layer 0 has 2 outputs"):
        tickets.Network([[[1], [2]], [[3]]], 7)
    net = tickets.random_network((3, 2), 7, 0)
    with pytest.raises(ValueError, match="shape"):
        tickets.find(net, tickets.plan((4, 2), Fraction(1, 7)), 0)
    with pytest.raises(ValueError, match="depth is 'l\\+1', but the plan was made for '2l'"):
        tickets.find(net, tickets.plan(net), 0, depth="l+1")
    with pytest.raises(ValueError, match="signed_inputs=False"):
        tickets.find(net, tickets.plan(net, failure=1e-4, signed_inputs=False), 0).forward([[-1, 0, 0]])
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\)"):
        net.forward([[1, 2]])


@pytest.mark.parametrize("weights", [[1, 2], np.zeros((0, 3), int), np.zeros((3, 0), int), np.ones((1, 1, 1), int), 5])
def test_a_layer_that_is_no_matrix_with_entries_is_refused(weights):
    with pytest.raises(ValueError, match=r"weights\[0\] has shape .*: \(out, in\) is needed"):
        tickets.Network([weights], 7)


@pytest.mark.parametrize("levels", [0, [0], -1, 2**62 + 1])
def test_a_grid_without_a_level_or_beyond_62_bits_is_refused(levels):
    with pytest.raises(ValueError, match=r"levels\[0\] is .*: it must be an integer in \[1, 4611686018427387904\]"):
        tickets.Network([[[0]]], levels)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_of_a_random_network_has_64_bits(seed):
    assert tickets.random_network((3, 2), 7, 2**64 - 1).shape == (3, 2)
    with pytest.raises(ValueError, match=r"seed is .*: it must be an integer in \[0, 18446744073709551615\]"):
        tickets.random_network((3, 2), 7, seed)


def test_a_width_up_to_two_to_the_31_is_judged_by_the_weights_it_makes_and_a_larger_one_by_itself():
    with pytest.raises(ValueError, match=r"at most 2\^27 weights"):
        tickets.random_network((2**31, 1), 7, 0)
    for width in (0, 2**31 + 1):
        with pytest.raises(ValueError, match=rf"shape\[0\] is {width}: it must be an integer in \[1, 2147483648\]"):
            tickets.random_network((width, 1), 7, 0)


def test_the_torch_module_gives_the_same_integers(digits, digits_ticket):
    torch = pytest.importorskip("torch")
    module = digits_ticket.to_torch()
    out = module(torch.from_numpy(digits.images[:50])).numpy()
    assert np.array_equal(out, digits_ticket.scale * digits.network.forward(digits.images[:50]))
    net = tickets.Network([[[3, -2, 1], [1, 4, -1]], [[2, -1, 3]]], 4, (0, 0), (2, 3))
    ticket = tickets.find(net, tickets.plan(net, failure=1e-5, depth="l+1"), 0)
    x = np.random.default_rng(0).integers(-9, 10, (20, 2))
    assert np.array_equal(ticket.to_torch()(torch.from_numpy(x)).numpy(), ticket.scale * net.forward(x))


def test_a_torch_module_that_could_wrap_is_refused():
    pytest.importorskip("torch")
    net = tickets.random_network((4,) * 13, 8, 5)
    with pytest.raises(ValueError, match="beyond int64"):
        tickets.find(net, tickets.plan(net, failure=1e-3), 2).to_torch()
