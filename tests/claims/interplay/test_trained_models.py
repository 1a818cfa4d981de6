"""The claims of interplay/trained-models."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by
from prunequant import records
from prunequant.claims.interplay import trained_models as claims


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def another_mean(record, preset):
    record["orders"][0]["means"]["0.5 INT4 sq"] += 0.01


def another_correction(record, preset):
    record["fine_tuned"][1]["differences"][0]["p_holm"] = 0.5


def a_seed_less(record, preset):
    record["orders"][1]["seeds"] = 4


def a_network_that_guesses(record, preset):
    record["orders"][0]["means"]["accuracy"] = 0.1


def quantizing_first_costs(record, preset):
    for cell in record["orders"][1]["cells"]:
        cell["delta"] |= {end: cell["delta"][end] + 0.1 for end in ("mean", "low", "high")}


def a_gain_by_layer(record, preset):
    for d in record["orders"][1]["adaptive"]:
        d |= {end: d[end] - 0.1 for end in ("mean", "low", "high")}


def errors_that_compound(record, preset):
    for cell in record["orders"][1]["cells"]:
        cell["excess"] |= {end: cell["excess"][end] + 0.1 for end in ("mean", "low", "high")}


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (another_mean, claims.RECOMPUTED),
        (another_correction, claims.RECOMPUTED),
        (a_seed_less, claims.WHOLE),
        (a_network_that_guesses, claims.WHOLE),
        (quantizing_first_costs, claims.PLAIN),
        (a_gain_by_layer, claims.CHOSEN),
        (errors_that_compound, claims.ADDED),
    ],
)
def test_a_tampered_record_turns_the_claim_on_vision_models_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "ours.order_vision", change, records, "read")
