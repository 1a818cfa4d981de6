"""The claims of cases/pareto."""

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by
from prunequant.claims.cases import pareto
from prunequant.timing.schemes import kept_weights


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def half_pruned_as_good_as_dense(record, preset):
    for row in record["rows"]:
        for name in pareto.HALF:
            row["schemes"][name]["loss"] = row["schemes"]["fp32"]["loss"]


def a_useful_model_of_a_tenth(record, preset):
    for row in record["rows"]:
        row["schemes"][pareto.MOST]["loss"] = row["schemes"]["int4-weight"]["loss"]


def eight_bits_that_cost(record, preset):
    for row in record["rows"]:
        row["schemes"]["int8-weight"]["loss"] += 0.02


def bytes_without_places(record, preset):
    for row in record["rows"]:
        row["schemes"]["csr-50"]["bytes"] //= 2


def one_window_eight_times(record, preset):
    for row in record["rows"]:
        for name, found in row["schemes"].items():
            found["loss"] = record["rows"][0]["schemes"][name]["loss"]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (half_pruned_as_good_as_dense, pareto.BETTER),
        (half_pruned_as_good_as_dense, pareto.OUT),
        (a_useful_model_of_a_tenth, pareto.USELESS),
        (eight_bits_that_cost, pareto.NEAR),
        (bytes_without_places, "the recorded bytes are those of the formulas"),
        (one_window_eight_times, "the losses are finite, of as many different windows as rows"),
    ],
)
def test_a_tampered_record_turns_the_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.pareto", change)


@pytest.mark.parametrize("name", ["csr-30", "csr-50", "csr-90"])
def test_the_packed_bytes_are_those_of_arrays_that_hold_values_and_a_bitmap(name):
    outputs, inputs = 40, 77
    mask = np.zeros(outputs * inputs, bool)
    mask[: kept_weights(name, outputs, inputs)] = True
    held = np.zeros(mask.sum(), np.float16).nbytes + np.packbits(mask).nbytes
    assert pareto.packed_bytes(name, outputs, inputs) == held
