"""Nondominated sets, paired intervals, and the case of one model in miniature."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunequant.cases.pareto import case as pareto
from prunequant.cases.pareto.frontier import nondominated
from prunequant.cases.runner import run_case
from prunequant.models import smollm2
from prunequant.statistics import paired_bootstrap

COSTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)


def naive(points):
    """By the definition, one pair after another."""
    out = []
    for name, p in points.items():
        beaten = False
        for q in points.values():
            if all(b <= a for a, b in zip(p, q)) and any(b < a for a, b in zip(p, q)):
                beaten = True
        if not beaten:
            out.append(name)
    return out


@given(COSTS)
@settings(deadline=None)
def test_the_nondominated_set_is_that_of_the_definition(costs):
    points = {str(i): c for i, c in enumerate(costs)}
    assert nondominated(points) == naive(points)


@given(COSTS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_point_outside_the_set_is_beaten_by_one_inside(costs, order):
    points = {str(i): c for i, c in enumerate(costs)}
    kept = nondominated(points)
    assert kept
    for name, p in points.items():
        assert name in kept or any(all(b <= a for a, b in zip(p, points[k])) for k in kept)
    names = list(points)
    order.shuffle(names)
    assert set(nondominated({n: points[n] for n in names})) == set(kept)


def test_points_without_costs_of_equal_number_are_refused():
    for points in ({}, {"a": (1, 2), "b": (1,)}, {"a": (1.0, float("nan"))}):
        with pytest.raises(ValueError):
            nondominated(points)


def test_the_bootstrap_interval_covers_the_mean_of_normal_differences():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        d = rng.normal(1.0, 1.0, 30)
        _, low, high = paired_bootstrap(d, np.zeros(30), draws=400)
        hits += low <= 1.0 <= high
    assert 0.86 <= hits / 200 <= 0.99


def test_pairing_removes_what_windows_have_in_common():
    windows = np.random.default_rng(1).normal(3, 1, 8)
    low, high = paired_bootstrap(windows + 0.01, windows)[1:]
    assert low == pytest.approx(0.01) and high == pytest.approx(0.01)


@pytest.fixture(scope="module")
def record():
    return run_case("pareto", "ci")


def test_losses_are_no_less_than_those_of_the_dense_network_it_is_compared_with(record):
    for row in record["rows"]:
        dense = row["schemes"]["fp32"]["loss"]
        assert all(found["loss"] >= dense - 1e-9 for found in row["schemes"].values())


def test_losses_and_bytes_are_the_same_in_every_run(record):
    again = run_case("pareto", "ci")
    for a, b in zip(record["rows"], again["rows"]):
        for name in a["schemes"]:
            assert a["schemes"][name]["bytes"] == b["schemes"][name]["bytes"]
            assert a["schemes"][name]["loss"] == pytest.approx(b["schemes"][name]["loss"], abs=1e-6)


def test_the_bytes_of_a_model_are_the_sum_of_its_layers(record):
    shapes = [tuple(layer.weight.shape) for layer in smollm2.linears(smollm2.random()).values()]
    for entry in record["summary"]["table"]:
        assert entry["bytes"] == pareto.model_bytes(entry["scheme"], shapes)


def test_the_recorded_sets_are_those_of_the_table(record):
    table = record["summary"]["table"]
    for cost in pareto.COSTS:
        points = {e["scheme"]: (e["loss"], e[cost]) for e in table}
        assert record["summary"]["frontier"][cost] == naive(points)


def test_the_model_has_its_own_layers_again_after_a_loss_was_taken():
    model = smollm2.random()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    text = np.arange(12).reshape(1, 12)
    pareto.losses("int8-weight", model, pareto.stack("int8-weight", model, 4), text, None)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_the_settings_for_a_gpu_run_in_small_on_a_cpu():
    small = {"model": "random", "windows": 1, "prompt": 16, "rounds": 1}
    found = run_case("pareto", "gpu", seeds=1, device="cpu", settings=small)
    assert set(found["summary"]["unavailable"]) == {"2:4-bf16", "2:4-int8", "2:4-fp8"}


def test_more_seeds_than_windows_are_refused():
    with pytest.raises(ValueError, match="seed 2 has no window"):
        run_case("pareto", "ci", seeds=3)
