"""The claims of tickets/shallow-tickets, and what they measure with."""

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
from prunequant import tickets
from prunequant.claims.tickets.shallow_tickets import rounded_first_layer


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def test_rounding_the_first_layer_to_its_own_grid_changes_nothing():
    network = tickets.random_network((4, 3, 3), 7, seed=1, divisors=[7, 0])
    ticket = tickets.find(network, tickets.plan(network, failure=1e-4, depth="l+1"), seed=2)
    x = np.random.default_rng(0).integers(-30, 31, (40, 4))
    assert np.array_equal(rounded_first_layer(ticket, x, grain=1), ticket.forward(x))
    assert not np.array_equal(rounded_first_layer(ticket, x, grain=7), ticket.forward(x))
