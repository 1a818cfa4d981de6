"""What shows exactness must be able to fail: `verify`, and the check of every mask behind `effective`."""

from dataclasses import replace

import numpy as np
import pytest

from prunequant import tickets
from prunequant.tickets.carve import Recipe, carve, effective, kept_totals, prune


@pytest.fixture(scope="module", params=["2l", "l+1"])
def ticket(request):
    network = tickets.random_network((5, 4, 3), 7, seed=3, divisors=[7, 0])
    return tickets.find(network, tickets.plan(network, failure=1e-4, depth=request.param), seed=2)


INPUTS = np.random.default_rng(0).integers(-40, 41, (60, 5))


def with_weight(network, layer, row, column, value):
    weights = [w.copy() for w in network.weights]
    weights[layer][row, column] = value
    return tickets.Network(weights, network.levels, network.divisors, network.constants)


def flipped(ticket, layer, row, column):
    """The same ticket with one bit of one mask flipped, the first that changes what the mask keeps."""
    carving = ticket.carvings[layer]
    for bit in range(64):
        words = carving.words.copy()
        words[row, column, 0] ^= np.uint64(1 << bit)
        changed = replace(carving, words=words)
        try:
            if (kept_totals(changed, ticket.seed).sums != kept_totals(carving, ticket.seed).sums).any():
                break
        except (ValueError, IndexError):
            continue
    carvings = list(ticket.carvings)
    carvings[layer] = changed
    return replace(ticket, carvings=tuple(carvings))


def test_an_untouched_ticket_is_identical_in_every_output(ticket):
    outcome = ticket.verify(INPUTS)
    assert outcome == (True, 0, 180, 60)


@pytest.mark.parametrize("layer", [0, 1])
def test_one_flipped_bit_of_a_mask_is_seen(ticket, layer):
    rows, columns = np.nonzero(ticket.carvings[layer].words[..., 0])
    outcomes = [flipped(ticket, layer, row, column).verify(INPUTS) for row, column in zip(rows[:20], columns[:20])]
    assert any(not outcome.identical for outcome in outcomes)  # a copy that no later mask keeps has no effect
    assert all(outcome.identical == (outcome.differing == 0) for outcome in outcomes)


@pytest.mark.parametrize("output", [0, 1, 2])
def test_another_target_is_seen_in_whichever_output_it_differs(ticket, output):
    right = ticket.target
    value = int(right.weights[1][output, 0])
    other = with_weight(right, 1, output, 0, value - 1 if value > 0 else value + 1)
    ours, theirs = ticket.verify(INPUTS, other), right.forward(INPUTS) != other.forward(INPUTS)
    assert not ours.identical
    assert ours.differing == int(theirs.sum()) == int(theirs[:, output].sum()) > 0


def test_verify_asks_the_target_and_not_the_masks_about_themselves(ticket):
    rows, columns = np.nonzero(ticket.carvings[1].words[..., 0])
    wrong = flipped(ticket, 1, rows[0], columns[0])
    assert not wrong.verify(INPUTS, ticket.target).identical


def test_one_output_of_one_input_is_enough_to_differ():
    network = tickets.Network([np.array([[1, 0]]), np.array([[1], [1]])], 1)
    ticket = tickets.find(network, tickets.plan(network, failure=1e-4, signed_inputs=False), seed=0)
    other = tickets.Network([np.array([[1, 0]]), np.array([[1], [0]])], 1)
    assert ticket.verify([[0, 5], [0, 7]], other).identical  # both zero there
    assert ticket.verify([[0, 5], [1, 7]], other) == (False, 1, 4, 2)


@pytest.fixture(scope="module")
def carving():
    target = np.random.default_rng(1).integers(-7, 8, (3, 4))
    return carve(target, Recipe(0, "relu", 7, 7, (60, 60), signed=True), 5), target


def test_effective_reads_the_target_off_the_masks(carving):
    made, target = carving
    assert np.array_equal(effective(made, 5), target)


def test_what_the_masks_keep_is_what_the_pruned_matrices_hold(carving):
    made, target = carving
    totals, pruned = kept_totals(made, 5), prune(made, 5)
    kept, v = (m.reshape(*target.shape, made.recipe.width) for m in (pruned.v_mask, pruned.v))
    for half, sign in enumerate((1, -1)):
        mine = sign * pruned.u > 0
        assert np.array_equal(totals.number[..., half], (kept & mine).sum(axis=2))
        assert np.array_equal(totals.energy[..., half], (np.square(v) * mine).sum(axis=2))
        assert np.array_equal(totals.sums[..., half], (v * abs(pruned.u) * mine).sum(axis=2))


@pytest.mark.parametrize("half", [0, 1])
def test_effective_sees_a_wrong_mask_of_either_sign_of_the_input(carving, half):
    made, target = carving
    row, column = (int(i[0]) for i in np.nonzero(made.words[..., half]))
    words = made.words.copy()
    words[row, column, half] = 0  # nothing kept: the sum of this half is zero, the weight is not
    seen = effective(replace(made, words=words), 5)
    assert seen[row, column] != target[row, column]
    seen[row, column] = target[row, column]
    assert np.array_equal(seen, target)


def test_effective_sees_a_sum_that_is_off_the_grid_by_less_than_a_step(carving):
    """At K = 7 a weight is seven units of the sum: a mask whose sums are 7w + 1 stands for no weight."""
    made, target = carving
    sums = kept_totals(made, 5).sums
    offered = prune(made, 5)
    assert np.array_equal(sums[..., 0] % 7, np.zeros_like(target)) and offered.u_mask.any()
    for row, column in np.ndindex(*target.shape):
        for bit in range(20):
            words = made.words.copy()
            words[row, column, :] ^= np.uint64(1 << bit)
            changed = replace(made, words=words)
            moved = kept_totals(changed, 5).sums[row, column]
            if 0 < (moved[0] - sums[row, column, 0]) % 7 and moved[0] + moved[1] == 0:
                assert abs(effective(changed, 5)[row, column]) > 7
                return
    one_sided = carve(target, Recipe(0, "relu", 7, 7, (60, 60), signed=False), 5)
    for row, column in np.ndindex(*target.shape):
        for bit in range(20):
            words = one_sided.words.copy()
            words[row, column, 0] ^= np.uint64(1 << bit)
            changed = replace(one_sided, words=words)
            if kept_totals(changed, 5).sums[row, column, 0] % 7:
                assert abs(effective(changed, 5)[row, column]) > 7
                return
    pytest.fail("no mask with a sum off the grid was made")
