"""The claims of cases/hardware."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by, of


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def layers(record):
    return of(record["rows"], part="layer", threads=1, instructions="all")


def sparse_seven_times_faster(record, preset):
    for row in layers(record):
        row["schemes"]["csr-50"]["cold"] = [t / 7 for t in row["schemes"]["csr-50"]["cold"]]


def half_pruned_faster_than_dense(record, preset):
    for row in of(layers(record), batch=256, seed=0):
        row["schemes"]["csr-50"]["ratio"] = 0.9


def no_places_stored(record, preset):
    for row in layers(record):
        row["schemes"]["csr-50"]["bytes"] //= 2


def one_pass_for_all(record, preset):
    for row in layers(record):
        row["seed"] = 0


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (sparse_seven_times_faster, "every recorded ratio is that of its recorded times"),
        (half_pruned_faster_than_dense, "with 64 inputs or more the half pruned layer is slower in every row"),
        (no_places_stored, "every recorded layer has the bytes of the formula"),
        (one_pass_for_all, "every layer and batch was timed in five passes, each once"),
    ],
)
def test_a_tampered_record_turns_the_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.hardware", change)
