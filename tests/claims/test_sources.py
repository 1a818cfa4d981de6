"""The measurements behind the claims on sources, against enumeration."""

from itertools import product

import numpy as np
import pytest

from prunequant import tickets
from prunequant.claims.tickets.lower_bound import (
    expected_choices,
    first_units,
    half_parameters,
    least_weights,
    odd_item,
    small_sources,
    source_choices,
    units_a_bit,
)
from prunequant.claims.tickets.shallow_tickets import rounded_first_layer
from prunequant.claims.tickets.tickets import masked_pair, shared_blocks, wrong_outputs
from prunequant.tickets import counting
from prunequant.tickets.carve import Recipe


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_first_units_are_those_at_which_all_pairs_of_masks_first_give_the_weight(levels):
    found = first_units(levels, 20, largest=8)
    for trial, row in enumerate(found):
        rng = np.random.default_rng([30, levels, trial])
        draws = np.array(rng.integers(-levels, levels + 1, (8, 2)))
        for w in range(levels + 1):
            least = 9
            for h in range(8, -1, -1):
                if (w * levels, w * levels) in counting.representable_weights(draws[:h, 0], draws[:h, 1]):
                    least = h
            assert row[w] == least


def test_half_of_the_draws_contain_the_weight_at_the_half_parameters():
    units = half_parameters(4, 400) // 2
    share = (first_units(4, 400) <= units).mean(axis=0)
    assert share.min() >= 0.5 > (first_units(4, 400) <= units - 1).mean(axis=0).min()


@pytest.mark.parametrize(("d", "outputs", "levels"), [(1, 1, 1), (2, 1, 2), (2, 2, 1)])
def test_expected_choices_are_the_mean_over_all_units(d, outputs, levels):
    grid = range(-levels, levels + 1)
    choices = [
        source_choices(np.array([u]), np.array(v)[:, None])
        for u in product(grid, repeat=d)
        for v in product(grid, repeat=outputs)
    ]
    assert expected_choices(d, outputs, levels) == pytest.approx(np.mean(choices))


def test_small_sources_have_no_more_functions_than_choices_and_no_more_choices_than_masks():
    for d, _, h, u, v, functions, _ in small_sources([(1, 2, 5), (2, 1, 4)], 10):
        assert len(functions) <= source_choices(u, v) <= 2 ** (2 * d * h)


def test_the_function_bound_is_never_below_the_mask_bound():
    for d, levels in product((1, 2, 8, 64), (1, 3, 7, 127)):
        assert least_weights(d, levels) >= counting.counting_bound([d * d], [levels])


@pytest.mark.parametrize("levels", [1, 3, 7, 15])
def test_odd_products_are_as_likely_as_counted(levels):
    v = np.arange(-levels, levels + 1)
    products = np.multiply.outer(np.maximum(v, 0), v)
    assert odd_item(levels) == pytest.approx((products % 2 == 1).mean())
    odd_u, even_v = ((v > 0) & (v % 2 == 1)).mean(), (v % 2 == 0).mean()
    assert units_a_bit(levels) == pytest.approx(-1 / (odd_u * np.log2(even_v)))


def test_a_masked_dense_pair_is_the_target_and_is_not_when_its_blocks_are_shared():
    w = np.random.default_rng(0).integers(-7, 8, (3, 4))
    x = np.random.default_rng(1).integers(-20, 21, (50, 4))
    pair = masked_pair(w, Recipe(0, "relu", 7, 7, (64, 64), True), seed=5)
    assert wrong_outputs(pair, w, x) == (0, 150)
    assert (pair.keep_u.sum(axis=1) <= 1).all() and pair.factor == 7
    assert wrong_outputs(shared_blocks(pair), w, x)[0] > 100


def test_rounding_the_first_layer_to_its_own_grid_changes_nothing():
    network = tickets.random_network((4, 3, 3), 7, seed=1, divisors=[7, 0])
    ticket = tickets.find(network, tickets.plan(network, failure=1e-4, depth="l+1"), seed=2)
    x = np.random.default_rng(0).integers(-30, 31, (40, 4))
    assert np.array_equal(rounded_first_layer(ticket, x, grain=1), ticket.forward(x))
    assert not np.array_equal(rounded_first_layer(ticket, x, grain=7), ticket.forward(x))
