"""The claims of cases/paths-in-a-language-model."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by, of
from prunequant.claims.cases import paths_in_a_language_model as claims


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def a_neuron_above_its_bound(record, preset):
    layers = of(record["rows"], method="coins", bits=4)[2]["layers"]
    layers["above"][7], layers["closest"][7] = 1, 1.01


def a_bound_that_is_passed_unnoticed(record, preset):
    of(record["rows"], method="coins", bits=4)[2]["layers"]["closest"][7] = 1.5


def one_seed_for_all(record, preset):
    rows = of(record["rows"], method="path", bits=4, calibration="text")
    for row in rows:
        row["losses"], row["loss"] = rows[0]["losses"], rows[0]["loss"]


def rounding_as_good_as_the_path(record, preset):
    for row, path in zip(
        of(record["rows"], method="nearest", bits=4), of(record["rows"], method="path", bits=4, calibration="text")
    ):
        row["losses"], row["loss"] = path["losses"], path["loss"]


def a_layer_left_out(record, preset):
    for row in of(record["rows"], method="path", bits=4):
        row["layers"]["layer"][-1] = row["layers"]["layer"][0]


def better_than_dense(record, preset):
    for row in of(record["rows"], method="path", bits=4, calibration="text"):
        row["losses"], row["loss"] = [v - 1 for v in row["losses"]], row["loss"] - 1


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (a_neuron_above_its_bound, claims.COVERED),
        (a_bound_that_is_passed_unnoticed, "the closest neuron is as near to its bound as the counts say"),
        (one_seed_for_all, "all methods have the same five seeds or more, no two alike"),
        (rounding_as_good_as_the_path, claims.LOWER),
        (a_layer_left_out, "every run compressed the 210 layers of the model, each once"),
        (better_than_dense, "every loss is finite and no model is better than dense by a tenth"),
    ],
)
def test_a_tampered_record_turns_the_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.paths_lm", change)
