"""Plans under a budget: never worse than a uniform one, proved best, read back, and refused by name."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint import judged
from naive import knapsack as naive
from prunequant.checkpoint import Allocation, Scheme, allocate, pareto

REPORT = judged.report()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 14), st.floats(2.25, 15.9), st.sampled_from(["weights", "tensors", "power"])
)
def test_a_plan_is_never_worse_than_the_best_uniform_plan_and_keeps_to_its_budget(seed, count, budget, weighting):
    report = judged.report(seed, count)
    plan = allocate(report, budget, weighting=weighting)
    assert plan.bits <= budget * plan.weights + 0.001
    assert plan.bound <= plan.error and plan.gap == 0
    found = [u for u in pareto(report, weighting=weighting).uniform if u.bits_per_weight <= budget]
    assert (plan.uniform is None) == (not found)
    for uniform in found:
        assert plan.error <= uniform.error * (1 + 1e-12) and plan.uniform.error <= uniform.error


def test_sizes_and_errors_of_a_plan_are_those_of_its_schemes():
    plan = allocate(REPORT, 4.25)
    bits, error, weights = 0, 0.0, 0
    for row in REPORT["matrices"]:
        scheme = Scheme.named(plan.tensors[row["name"]])
        bits += scheme.stored_bits(row["rows"], row["columns"])
        weights += row["rows"] * row["columns"]
        snr = {entry["name"]: entry["snr"] for entry in row["schemes"]} | {"75% FP16": 5.5}
        error += row["rows"] * row["columns"] * 10 ** (-snr[scheme.name] / 10)
    assert (plan.bits, plan.weights) == (bits, weights)
    assert plan.error == pytest.approx(error / weights) and plan.snr == pytest.approx(-10 * math.log10(error / weights))


def test_a_small_plan_is_the_best_of_all_plans():
    report = judged.report(5, 4, schemes=("INT2 channel", "INT3 channel", "INT4 channel", "INT8 channel", "NVFP4"))
    rows = report["matrices"]
    total = sum(row["weights"] for row in rows)
    sizes = [[e["stored_bits"] for e in row["schemes"]] for row in rows]
    errors = [[row["weights"] / total * 10 ** (-e["snr"] / 10) for e in row["schemes"]] for row in rows]
    for budget in (2.5, 3.3, 4.1, 5.0, 6.4):
        plan = allocate(report, budget, schemes=["INT*", "NVFP4"])
        assert plan.error == pytest.approx(naive.least_error(sizes, errors, math.floor(budget * total)), rel=1e-12)


def test_a_budget_in_megabytes_includes_what_is_not_treated():
    plan = allocate(REPORT, megabytes=0.06)
    assert plan.untreated_bytes == 4000 and plan.megabytes <= 0.06
    assert math.ceil(plan.bits / 8) + 4000 == pytest.approx(plan.megabytes * 1e6)
    alone = copy.deepcopy(REPORT)
    alone["untreated"] = []
    assert allocate(alone, megabytes=0.056).bits == plan.bits


def test_a_tied_matrix_counts_once():
    tied = copy.deepcopy(REPORT)
    tied["matrices"][0]["aliases"] = ["lm_head.weight"]
    assert allocate(tied, 4.25) == allocate(REPORT, 4.25)


@pytest.mark.parametrize("given", [{"budget": 1.5}, {"budget": 40.0}, {"megabytes": 0.01}, {"megabytes": 3.0}])
def test_a_budget_that_no_plan_can_keep_or_need_keep_names_both_ends(given):
    with pytest.raises(ValueError, match=r"the smallest plan .* takes [\d.]+ and the model as it is stored") as error:
        allocate(REPORT, **given)
    name = next(iter(given))
    least, most = _ends(str(error.value))
    assert least < most
    for end in (least, most):  # the ends that are named are budgets that are met
        allocate(REPORT, **{name: end})


def _ends(message):
    words = message.split()
    return float(words[words.index("takes") + 1]), float(words[words.index("stored") + 1])


def test_a_model_that_is_smaller_than_every_plan_is_told_so():
    small = copy.deepcopy(REPORT)
    for row in small["matrices"]:
        row["stored_bytes"] = row["weights"] // 8
    with pytest.raises(ValueError, match="the smallest plan of these schemes takes 2"):
        allocate(small, 2.5)


def test_more_sensitivity_never_takes_bits_away():
    name = REPORT["matrices"][3]["name"]
    size = {e["name"]: e["stored_bits"] for e in REPORT["matrices"][3]["schemes"]}
    bits = [size[allocate(REPORT, 4.25, sensitivities={name: f}).tensors[name]] for f in (0.01, 0.3, 1, 10, 1000)]
    assert bits == sorted(bits) and bits[0] < bits[-1]


def test_a_factor_on_a_matrix_changes_no_plan_by_relative_errors_and_does_change_one_by_power():
    scaled = copy.deepcopy(REPORT)
    scaled["matrices"][2]["power"] *= 1e4
    assert allocate(scaled, 4.25) == allocate(REPORT, 4.25)
    name = scaled["matrices"][2]["name"]
    before, after = (allocate(r, 4.25, weighting="power").tensors[name] for r in (REPORT, scaled))
    size = {e["name"]: e["stored_bits"] for e in scaled["matrices"][2]["schemes"]}
    assert size[after] > size[before]


def test_errors_that_were_measured_take_the_place_of_the_reports():
    name = REPORT["matrices"][0]["name"]
    plan = allocate(REPORT, 4.25, errors={name: {"INT2 channel": 0.0, "FP16": 0.5}})
    assert plan.tensors[name] == "INT2 channel" and plan.weighting == "outputs"


def test_a_lossless_scheme_has_no_error():
    report = copy.deepcopy(REPORT)
    for row in report["matrices"]:
        entry = next(e for e in row["schemes"] if e["name"] == "FP16")
        entry.update(snr=None, lossless=True)
    plan = allocate(report, 16)
    assert plan.error == 0 and plan.snr == math.inf and plan.uniform.error == 0
    json.dumps(plan.to_json(), allow_nan=False)


def test_schemes_are_chosen_by_name_and_pattern():
    plan = allocate(REPORT, 4.25, schemes=["INT4 *", "INT3 g128"])
    assert set(plan.tensors.values()) <= {"INT4 tensor", "INT4 channel", "INT4 g128", "INT3 g128"}
    pruned = allocate(REPORT, 5.5, schemes=["75% FP16"])
    assert set(pruned.tensors.values()) == {"75% FP16"} and pruned.bits_per_weight == 5


@pytest.mark.parametrize("seed", range(4))
def test_the_pareto_curve_lies_under_every_plan_and_its_corners_are_plans(seed):
    report = judged.report(seed)
    curve = pareto(report)
    assert np.all(np.diff(curve.bits) > 0) and np.all(np.diff(curve.errors) < 0)
    slopes = np.diff(curve.errors) / np.diff(curve.bits)
    assert np.all(np.diff(slopes) >= -1e-9 * np.abs(slopes[:-1]))
    for i in range(0, len(curve.bits), 9):
        at = allocate(report, megabytes=(math.ceil(curve.bits[i] / 8) + curve.untreated_bytes) / 1e6)
        assert at.error <= curve.errors[i] * (1 + 1e-9)
        assert at.error >= np.interp(at.bits, curve.bits, curve.errors) * (1 - 1e-9)
    for uniform in curve.uniform:
        assert uniform.error >= np.interp(uniform.bits, curve.bits, curve.errors) * (1 - 1e-9)


def test_a_plan_is_read_back_as_it_was_written(tmp_path):
    plan = allocate(REPORT, 4.25)
    place = tmp_path / "plan.json"
    place.write_text(json.dumps(plan.to_json()), encoding="utf-8")
    assert Allocation.from_json(place) == Allocation.from_json(str(place)) == plan
    plan.check(REPORT["matrices"])
    (tmp_path / "report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    assert allocate(tmp_path / "report.json", 4.25) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=2), 'the plan: it is no plan: "schema" must be 1'),
        (lambda d: d.pop("tensors"), "it is no plan"),
        (lambda d: d.update(tensors={}), '"tensors" must name a scheme'),
        (lambda d: d["tensors"].update({"layers.0.weight": "INT4"}), "tensor 'layers.0.weight': scheme is 'INT4'"),
        (lambda d: d["tensors"].update({"layers.0.weight": 4}), "tensor 'layers.0.weight': scheme is 4"),
        (lambda d: d.pop("bits"), "'bits' is missing"),
        (lambda d: d.update(weights=-1), "weights is -1"),
        (lambda d: d.update(budget=4.25), "no attribute|budget"),
        (lambda d: d["uniform"].update(scheme="INT1 channel"), "scheme is 'INT1 channel'"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(change, message):
    document = allocate(REPORT, 4.25).to_json()
    change(document)
    with pytest.raises(ValueError, match=message):
        Allocation.from_json(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["tensors"].update({"lost.weight": "FP16"}), "names 'lost.weight', which the model does not have"),
        (lambda d: d["tensors"].pop("layers.4.weight"), "no scheme for 'layers.4.weight'"),
    ],
)
def test_a_plan_of_another_model_is_refused(change, message):
    document = allocate(REPORT, 4.25).to_json()
    change(document)
    with pytest.raises(ValueError, match=message):
        Allocation.from_json(document).check(REPORT["matrices"])


def test_a_plan_whose_scheme_does_not_fit_names_the_tensor():
    document = allocate(REPORT, 4.25).to_json()
    document["tensors"]["layers.1.weight"] = "2:4 FP16"
    odd = copy.deepcopy(REPORT["matrices"])
    odd[1].update(columns=63)
    with pytest.raises(ValueError, match=r"stores layers.1.weight as 2:4 FP16, which does not fit: rows of 63 values"):
        Allocation.from_json(document).check(odd)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give a budget: either bits a weight, or megabytes"),
        ({"budget": 4, "megabytes": 1}, "give a budget"),
        ({"budget": 4, "schemes": []}, "schemes is empty"),
        ({"budget": 4, "schemes": ["INT9 channel"]}, "integers have 2 to 8 bits"),
        ({"budget": 4, "schemes": ["INT5 channel"]}, "'INT5 channel', which the report did not judge: it has '2:4"),
        ({"budget": 4, "weighting": "size"}, "weighting is 'size'"),
        ({"budget": 4, "sensitivities": {"nothing": 1}}, "sensitivities has 'nothing'"),
        ({"budget": 4, "sensitivities": {"layers.0.weight": -1}}, "layers.0.weight.* is -1"),
        ({"budget": 4, "errors": {"nothing": {}}}, "errors has 'nothing'"),
        ({"budget": 4, "errors": {"layers.0.weight": {"MXFP8": 1}}}, "'MXFP8', which the report did not judge"),
        ({"budget": float("nan")}, "budget is nan"),
    ],
)
def test_what_is_no_request_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        allocate(REPORT, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("matrices"), 'the report is no report: it has no "matrices"'),
        (lambda d: d.update(schema=7), '"schema" 7: it must be 1'),
        (lambda d: d["matrices"][2].pop("power"), "matrix 'layers.2.weight' has no \"power\""),
        (lambda d: d.update(matrices=[]), "the report has no matrix"),
    ],
)
def test_what_is_no_report_is_refused_by_name(change, message):
    report = copy.deepcopy(REPORT)
    change(report)
    with pytest.raises(ValueError, match=message):
        allocate(report, 4.25)
