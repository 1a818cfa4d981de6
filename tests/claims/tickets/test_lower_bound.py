"""The claims of tickets/lower-bound, and what they measure with."""

from itertools import product

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
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
from prunequant.tickets import counting


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


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
