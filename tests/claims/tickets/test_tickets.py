"""The claims of tickets/tickets, and what they measure with."""

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
from prunequant.claims.tickets.tickets import (
    growth_matrix,
    growth_rate,
    masked_pair,
    product_law,
    proved_rate,
    shared_blocks,
    wrong_outputs,
)
from prunequant.tickets.carve import Recipe


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def test_a_masked_dense_pair_is_the_target_and_is_not_when_its_blocks_are_shared():
    w = np.random.default_rng(0).integers(-7, 8, (3, 4))
    x = np.random.default_rng(1).integers(-20, 21, (50, 4))
    pair = masked_pair(w, Recipe(0, "relu", 7, 7, (64, 64), True), seed=5)
    assert wrong_outputs(pair, w, x) == (0, 150)
    assert (pair.keep_u.sum(axis=1) <= 1).all() and pair.factor == 7
    assert wrong_outputs(shared_blocks(pair), w, x)[0] > 100


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_the_law_of_products_is_that_of_all_pairs(levels):
    v = np.arange(-levels, levels + 1)
    products = np.multiply.outer(v[v > 0], v).ravel()
    law = product_law(levels)
    for x in range(-(levels**2), levels**2 + 1):
        assert law[x + levels**2] == pytest.approx((products == x).sum() / v.size**2)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_every_set_of_sums_grows_at_the_proved_rate_and_at_the_exact_one(levels):
    """The lemma of the proof, over all subsets of its window: new sums in the mean, against q|A|(h − |A|)/h."""
    proved, window = proved_rate(levels)
    chances = growth_matrix(levels, window)
    exact = growth_rate(chances)
    assert 0 < proved <= exact
    for word in range(1, 2**window - 1):
        inside = (word >> np.arange(window)) & 1 == 1
        gain = chances[np.ix_(inside, ~inside)].sum()
        size = inside.sum() * (~inside).sum() / window
        assert gain >= exact * size - 1e-12 and gain >= proved * size


def test_sums_of_one_first_weight_do_not_leave_their_class():
    chances = growth_matrix(5, 12, first=5)
    assert growth_rate(chances) == pytest.approx(0, abs=1e-12)
