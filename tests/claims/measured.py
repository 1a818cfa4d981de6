"""What the tests of all chapters do: measure the claims of one chapter and compare them with verdict and ledger."""

from functools import lru_cache
from pathlib import Path

import pytest

from prunequant import records
from prunequant.claims import Budget, drift, run, to_record
from prunequant.claims.chapters import index
from prunequant.claims.render import outcome_plain


def claims_of(file: str) -> list:
    """The claims of the chapter that a test file is named after, marked `claim`; known without importing any."""
    path = Path(file)
    module = f"prunequant.claims.{path.parent.name}.{path.stem.removeprefix('test_')}"
    found = [claim_id for claim_id, place in index().items() if place == module]
    assert found, f"{file}: {module} holds no claim"
    return [pytest.param(claim_id, marks=pytest.mark.claim) for claim_id in found]


@lru_cache(maxsize=1)
def ledger() -> dict[str, dict]:
    return {row["id"]: row for row in records.read("ledger.json")}


def as_recorded(claim_id: str) -> None:
    """Measure a claim and its controls at the quick budget: verdict, controls, and every figure of the ledger."""
    outcome = run(claim_id, Budget.QUICK)
    assert outcome.agrees, outcome_plain(outcome)
    different, _ = drift(to_record([outcome]), ledger())
    assert not different, "\n".join(different)
