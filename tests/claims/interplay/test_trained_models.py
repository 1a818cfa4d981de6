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


def cheap_by_index(record, preset):
    for cell in record["cells"]:
        if (cell["pattern"], cell["format"], cell["ties"]) == ("2:4", "MXFP4", "first"):
            cell["delta"] |= {end: cell["delta"][end] - 0.01 for end in ("mean", "low", "high")}


def wide_at_random(record, preset):
    for cell in record["cells"]:
        if (cell["pattern"], cell["format"], cell["ties"]) == ("0.5", "HBFP4", "random"):
            cell["delta"] |= {"low": -0.05, "high": 0.1}


def dear_by_magnitude(record, preset):
    for cell in record["cells"]:
        if (cell["pattern"], cell["format"], cell["ties"]) == ("0.5", "INT4", "magnitude"):
            cell["delta"] |= {end: cell["delta"][end] + 0.05 for end in ("mean", "low", "high")}


def two_computations(record, preset):
    for cell in record["cells"]:
        if (cell["pattern"], cell["format"], cell["ties"]) == ("2:4", "INT8", "magnitude"):
            cell["delta"] |= {"low": -1e-9, "high": 1e-9}


def ahead(record, preset):
    for cell in record["cells"]:
        if (cell["pattern"], cell["format"], cell["ties"]) == ("0.75", "INT8", "first"):
            cell["delta"] |= {end: cell["delta"][end] - 0.05 for end in ("mean", "low", "high")}


def draws_that_agree(record, preset):
    for d in record["chance"]:
        d |= {"low": -1.0, "high": 1.0}


def a_gain_in_each_layer(record, preset):
    d = next(d for d in record["adaptive"] if d["name"] == "0.75 HBFP8 first against sq")
    d |= {end: d[end] - 0.05 for end in ("mean", "low", "high")}


def a_grid(record, preset):
    record["grid"]["half"] = 1.0


def a_stretch_less(record, preset):
    record["cells"][5]["delta"]["seeds"] = 9


def a_cell_less(record, preset):
    record["joint"].pop()


def another_dense_model(record, preset):
    record["apart"] = 0.1


def another_outcome(record, preset):
    record["means"]["0.75 HBFP6 joint"] += 1e-6


def another_draw(record, preset):
    record["means"]["2:4 INT4 draw B"] += 1e-6


def no_correction(record, preset):
    record["chance"][3]["p_holm"] = record["chance"][3]["p"] + 0.01


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (cheap_by_index, claims.INDEXED),
        (wide_at_random, claims.DRAWN),
        (dear_by_magnitude, claims.KINDER),
        (two_computations, claims.BOTH_SAME),
        (ahead, claims.NOWHERE),
        (draws_that_agree, claims.BY_CHANCE),
        (a_gain_in_each_layer, claims.LAYERED),
        (a_grid, claims.NO_GRID),
        (a_stretch_less, claims.WHOLE_MODEL),
        (a_cell_less, claims.WHOLE_MODEL),
        (another_dense_model, claims.WHOLE_MODEL),
        (another_outcome, claims.RECOMPUTED),
        (another_draw, claims.RECOMPUTED),
        (no_correction, claims.RECOMPUTED),
    ],
)
def test_a_tampered_record_turns_the_claim_on_embeddings_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "ours.order_embeddings", change, records, "read")
