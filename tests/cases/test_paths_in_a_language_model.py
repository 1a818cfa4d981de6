"""The case end to end with a tiny model: rows, summary, resume, and what its committed record says."""

import json

import numpy as np
import pytest

from nearly import differences
from prunequant.cases.paths_in_a_language_model import case as paths
from prunequant.cases.paths_in_a_language_model import summary as paths_summary
from prunequant.cases.runner import Unfinished, recorded, run_case

NAME = "paths-in-a-language-model"
TINY = {"steps": 12, "windows": 3, "length": 48, "measured": 24, "evaluate": 4, "at_once": 4}


@pytest.fixture(scope="module")
def record():
    return run_case(NAME, "ci", seeds=2, settings=TINY)


def test_every_seed_has_one_row_for_every_unit(record):
    units = paths.units(record["settings"])
    assert len(record["rows"]) == 2 * len(units)
    assert {row["seed"] for row in record["rows"]} == {0, 1}


def test_what_draws_nothing_has_the_same_row_for_every_seed(record):
    for method in paths.PLAIN:
        first, second = paths_summary.chosen(record["rows"], method)
        assert first["losses"] == second["losses"]
    first, second = paths_summary.chosen(record["rows"], "path", calibration="text")
    assert first["losses"] != second["losses"]


def test_every_layer_is_covered_and_reported(record):
    rows = paths_summary.chosen(record["rows"], "coins")
    assert all(len(row["layers"]["layer"]) == 14 and sum(row["layers"]["above"]) == 0 for row in rows)
    assert record["summary"]["coverage"]["3"]["layers"] == 28


def test_the_summary_is_recomputed_from_the_rows(record):
    rows = json.loads(json.dumps(record["rows"]))
    entry = next(m for m in record["summary"]["methods"] if m["method"] == "optq")
    by_hand = [np.mean(r["losses"]) for r in rows if r["method"] == "optq"]
    nearest = [np.mean(r["losses"]) for r in rows if r["method"] == "nearest"]
    assert entry["loss"] == pytest.approx(np.mean(by_hand))
    assert entry["perplexity"] == pytest.approx(np.exp(np.mean(by_hand)))
    assert entry["against_nearest"]["mean"] == pytest.approx(np.mean(np.subtract(by_hand, nearest)))
    assert len(entry["held_error"]) == 2


def test_a_stopped_run_goes_on_to_the_same_rows(record, tmp_path):
    out = tmp_path / "record.json"
    with pytest.raises(Unfinished):
        run_case(NAME, "ci", seeds=2, settings=TINY, out=out, limit=0)
    found = run_case(NAME, "ci", seeds=2, settings=TINY, out=out, resume=True)
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in found["rows"]]
    assert same == [{k: v for k, v in row.items() if k != "seconds"} for row in record["rows"]]
    assert not (tmp_path / "record.json.partial").exists()


def test_a_method_that_does_not_exist_is_refused_before_any_work():
    with pytest.raises(ValueError, match="no method gptq; the methods are nearest"):
        run_case(NAME, "ci", settings={"methods": {"3": ["gptq"]}})


def test_the_preset_for_a_gpu_runs_end_to_end_in_small_on_the_cpu():
    settings = {**TINY, "model": "bytes"}
    found = run_case(NAME, "gpu", seeds=2, device="cpu", threads=1, settings=settings)
    assert {m["bits"] for m in found["summary"]["methods"]} == {3, 4}


def test_calibration_text_is_drawn_by_the_seed_and_never_the_evaluation_text():
    settings = {**paths.PRESETS["cpu"], "windows": 2}
    first, again, other = (paths.calibration(settings, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(first[-1], other[-1])  # the window that measures is the same
    evaluated = {row.tobytes() for row in paths.corpus.windows(16)}
    assert not any(row.tobytes() in evaluated for row in (*first, *other))


def test_noise_calibration_is_uniform_tokens():
    settings = {**paths.PRESETS["cpu"], "windows": 2}
    noise = paths.calibration(settings, 0, "noise")[:-1]
    assert 0.45 < noise.mean() / 49152 < 0.55
    with pytest.raises(ValueError, match="kind is 'other'"):
        paths.calibration(settings, 0, "other")


def test_a_grid_without_zero_never_gives_zero():
    w = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    q = paths.no_zero(w, 3)
    step = np.abs(w).max(axis=1) / 3.5
    assert np.all(q != 0) and all(np.unique(q[i]).size <= 8 for i in range(4))
    assert np.all(np.abs(q - w).max(axis=1) <= 0.5001 * step)


def test_a_model_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="model is 'gpt'"):
        run_case(NAME, "ci", seeds=1, settings={**TINY, "model": "gpt"})


def test_missing_rows_are_named(record):
    with pytest.raises(ValueError, match="no row of 'path' at 7 bits"):
        paths_summary.losses(record["rows"], "path", 7)


def test_the_summary_of_the_committed_record_follows_from_its_rows():
    found = recorded(NAME)
    again = json.loads(json.dumps(paths_summary.summarise(found["settings"], found["rows"])))
    assert differences(again, found["summary"]) == []
    assert found["seeds"] >= 5
