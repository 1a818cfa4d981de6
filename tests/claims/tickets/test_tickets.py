"""The claims of tickets/tickets, and what they measure with."""

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
from prunequant.claims.tickets.tickets import masked_pair, shared_blocks, wrong_outputs
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
