"""The search of what trained-out networks are trained with: no choice is an edge, and nothing is computed twice."""

from pathlib import Path

import numpy as np
import pytest

from prunequant.studies import lsq_searches, runner

pytest.importorskip("torch")


def valley(**given):
    """A made-up loss with its least value at a rate of its own for every cell."""
    wanted = {"dense": 0.02, "tuned": 0.004, "lsq": 0.001 * given["bits"], "pruning": 0.03}[given["method"]]
    rate = given["dense_rate"] if given["method"] == "dense" else given["rate"]
    loss = np.log(rate / wanted) ** 2 + (given["step_rate"] - 0.3) ** 2 + (given["ramp"] - 0.9) ** 2
    return {"loss": float(loss), "accuracy": 0.5}


def search(monkeypatch, tmp_path, **settings):
    calls = []

    def unit(seed, data, folder, **given):
        calls.append(tuple(sorted(given.items())))
        return valley(**given)

    monkeypatch.setattr(lsq_searches, "converged_unit", unit)
    (tmp_path / "data").mkdir()
    record = runner.run_study("lsq-rates-converged-vit", {"data": tmp_path / "data", **settings})
    return record, calls


def test_a_list_goes_on_where_its_best_stands_at_an_end_and_every_choice_lies_inside(monkeypatch, tmp_path):
    record, calls = search(monkeypatch, tmp_path)
    assert len(set(calls)) == len(calls) == len(record["rows"])
    by_cell = {}
    for row in record["rows"]:
        if (row["step_rate"], row["ramp"]) == (0.1, 0.75):
            value = "dense_rate" if row["method"] == "dense" else "rate"
            by_cell.setdefault((row["method"], row["bits"], row["length"]), []).append((row["loss"], row[value]))
    assert len(by_cell) == 1 + 2 + 2 * 4 + 2 * 3
    for cell, tried in by_cell.items():
        rates = [rate for _, rate in tried]
        assert min(rates) < min(tried)[1] < max(rates), cell


def test_all_networks_start_from_the_dense_one_that_was_best_and_the_record_names_no_place(monkeypatch, tmp_path):
    record, _ = search(monkeypatch, tmp_path, short_bits=(2,), long_bits=(2,))
    dense = [row for row in record["rows"] if row["method"] == "dense"]
    best = min(dense, key=lambda row: row["loss"])["dense_rate"]
    assert {row["dense_rate"] for row in record["rows"] if row["method"] != "dense"} == {best}
    steps = [row["step_rate"] for row in record["rows"] if row["method"] == "lsq" and row["length"] == 1]
    assert {0.03, 0.1, 0.3, 0.9} <= set(steps)
    assert str(tmp_path) not in str(record)


@pytest.mark.parametrize("model", lsq_searches.MODELS)
def test_a_unit_trains_the_network_of_its_preset_at_the_rates_that_it_is_given(model, monkeypatch, tmp_path):
    from prunequant.cases.lsq_against_pruning import case
    from prunequant.models import images

    rng = np.random.default_rng(0)
    few = [rng.integers(0, 255, (12, 28, 28), np.uint8) for _ in range(10)]
    monkeypatch.setattr(images, "fashion_part", lambda part, folder: images.part_of(few, 0, 8, 2))
    whole, seen = case._optimiser, []

    def watched(settings, net, rate, head_rate, steps=(), step_rate=0.0):
        seen.append((rate, step_rate))
        return whole(settings, net, rate, head_rate, steps, step_rate)

    monkeypatch.setattr(case, "_optimiser", watched)
    short = {m: {**lsq_searches.PRESETS[f"converged_{m}"]["models"][m], "dense_steps": 2, "steps": 2} for m in (model,)}
    monkeypatch.setitem(
        lsq_searches.PRESETS, f"converged_{model}", {**lsq_searches.PRESETS[f"converged_{model}"], "models": short}
    )
    given = dict(bits=2, length=3, dense_rate=0.002, rate=0.01, step_rate=0.3, ramp=0.5, seed=5)
    for method, mask in (("lsq", "none"), ("pruning", "free")):
        found = lsq_searches.converged_unit(
            model, method, mask, **given, data=str(Path(tmp_path)), folder=str(tmp_path)
        )
        assert np.isfinite(found["loss"])
    assert seen == [(0.002, 0.0), (0.01, 0.003), (0.01, 0.003)]  # the dense network is trained once
