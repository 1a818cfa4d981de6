"""The claims of since/what-came-after."""

import pytest

from claims.measured import as_recorded, claims_of


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)
