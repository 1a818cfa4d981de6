"""The record of a compressed language model: its sums follow from its rows, its files are as promised."""

import json

import numpy as np
import pytest

from nearly import differences
from prunequant import records

pytest.importorskip("torch")
from prunequant.studies import compressed_model as study


@pytest.fixture(scope="module")
def record():
    return records.read("compressed_model.json")


def test_perplexities_and_paired_differences_follow_from_the_losses(record):
    assert differences(json.loads(json.dumps(study.summary(record["rows"]))), record["summary"]) == []
    losses = {row["name"]: np.array(row["losses"]) for row in record["rows"]}
    for one in record["summary"]:
        assert one["perplexity"] == pytest.approx(np.exp(losses[one["name"]].mean()), rel=1e-12)
        for reference, found in one["difference"].items():
            assert found["mean"] == pytest.approx(np.mean(losses[one["name"]] - losses[reference]), abs=1e-12)


def test_every_file_has_the_bytes_that_were_promised_and_passes_a_second_look(record):
    ours = [row for row in record["rows"] if "verified" in row]
    assert len(ours) >= 4
    for row in ours:
        assert row["bytes"] == row["promised_bytes"] and row["verified"]["problems"] == []
        assert row["verified"]["matrices"] == row["verified"]["compared"] == len(row["snr"])


def test_plan_and_uniform_scheme_are_stored_within_the_budget_and_lose_what_was_planned(record):
    plan, rows = record["plan"], {row["name"]: row for row in record["rows"]}
    for name in ("plan", "uniform"):
        assert rows[name]["bits_per_weight"] <= plan["budget"] + 1e-9
    assert plan["snr"] >= plan["uniform_snr"]
    assert sum(plan["schemes"].values()) == len(plan["tensors"]) == len(rows["plan"]["snr"])


def test_a_lossless_matrix_has_no_ratio_and_every_other_has_one(record):
    for row in record["rows"]:
        for ratio in row.get("snr", {}).values():
            assert ratio is None or np.isfinite(ratio)
    exact = [row for row in record["rows"] if row.get("snr") and not any(row["snr"].values())]
    assert [row["name"] for row in exact] == ["Q4_1"] and exact[0]["losses"] == record["rows"][0]["losses"]


@pytest.mark.parametrize("name", [study.OUTPUTS, study.LATER])
def test_a_plan_by_outputs_keeps_more_of_the_outputs_than_the_other_two_within_the_budget(record, name):
    plan, rows = record[name.replace(" ", "_")], {row["name"]: row for row in record["rows"]}
    assert rows[name]["bits_per_weight"] <= record["plan"]["budget"] + 1e-9
    assert plan["bits_per_weight"] <= plan["budget"] and plan["gap"] == 0
    assert plan["snr"] >= max(plan["uniform_snr"], plan["plan_by_weights_snr"])
    assert sum(plan["schemes"].values()) == len(plan["tensors"]) == len(rows[name]["snr"])
    matrices = rows[name]["snr"].keys()
    assert plan["tensors"].keys() == matrices == record["plan"]["tensors"].keys()


def test_the_share_of_the_first_tokens_is_what_leaving_them_out_takes_from_the_inputs(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 5, 4))  # windows, tokens, inputs
    x[:, 0] *= 50
    every, later = (part.reshape(-1, 4) for part in (x, x[:, 1:]))
    np.savez(tmp_path / study.INPUTS, **{"w.gram": every.T @ every})
    np.savez(tmp_path / study.LATER_INPUTS, **{"w.gram": later.T @ later})
    share = np.sum(x[:, 0] ** 2) / np.sum(x**2)
    assert study.first_tokens(tmp_path) == {"w": pytest.approx(share, abs=1e-4)} and share > 0.99


def test_the_matrix_that_the_plan_by_outputs_cuts_most_sees_little_but_first_tokens(record):
    """What the page says of the four matrices that are cut, and that the plan without first tokens keeps the first."""
    name, share = max(record["first_tokens"].items(), key=lambda pair: pair[1])
    cut = min(record["plan_by_outputs"]["tensors"], key=lambda n: _db(record, study.OUTPUTS, n))
    assert cut == name and share > 0.99
    assert _db(record, study.LATER, name) > _db(record, study.OUTPUTS, name) + 10


def _db(record, variant, matrix):
    (row,) = (row for row in record["rows"] if row["name"] == variant)
    return row["snr"][matrix]
