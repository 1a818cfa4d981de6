"""A report on a file: totals, JSON there and back, what the terminal prints, what the command says of bad input."""

from __future__ import annotations

import json
import math
from importlib.resources import files as resources

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from prunequant import checkpoint
from prunequant.checkpoint import Report
from prunequant.cli import app, report_text

SCHEMA = json.loads(resources("prunequant.checkpoint").joinpath("report.schema.json").read_text(encoding="utf-8"))
RUN = CliRunner()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    bell = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    broken = bell(4, 8)
    broken[2, 5] = np.nan
    heavy = rng.standard_t(2, (32, 64)).astype(np.float16)
    tensors = {
        "model.layers.0.self_attn.q_proj.weight": bell(64, 256),
        "model.layers.0.mlp.with_a_name_that_no_terminal_has_room_for.down_proj.weight": heavy,
        "mostly_zero.weight": bell(64, 256) * (rng.random((64, 256)) < 0.1),
        "zeros.weight": np.zeros((8, 16), np.float32),
        "constant.weight": np.full((8, 16), 0.5, np.float32),
        "experts.w1": bell(3, 16, 32),
        "broken.weight": broken,
        "norm.weight": np.ones(64, np.float32),
    }
    place = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(tensors, place)
    return place


@pytest.fixture(scope="module")
def report(path):
    return checkpoint.report(path, entropy=True)


def test_a_report_is_the_same_after_json_and_its_json_is_what_the_schema_says(report):
    text = json.dumps(report.to_json(), allow_nan=False)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert Report.from_json(json.loads(text)) == report
    rows = {m["name"]: m for m in report.to_json()["matrices"]}
    assert all(s["snr"] is None and s["lossless"] for s in rows["zeros.weight"]["schemes"])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_report_is_the_same_whoever_judges_which_matrix_and_reads_every_weight_twice(path, report, threads):
    """With one thread all matrices go one by one, with seven each is large and its blocks are shared out."""
    progress: dict[str, int] = {}

    def count_weights(name, count):
        progress[name] = progress.get(name, 0) + count

    found = checkpoint.report(path, entropy=True, threads=threads, weights_read=count_weights)
    assert found == report
    with checkpoint.open_model(path) as model:
        assert [m.name for m in found.matrices] == [m.name for m in model.matrices if m.name != "broken.weight"]
    assert all(progress[m.name] == 2 * m.weights for m in found.matrices)


def test_the_schema_refuses_what_is_no_report(report):
    document = report.to_json()
    document["matrices"][0]["kurtosis"] = "large"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)
    for broken in ({}, {"schema": 2}, {"schema": 1}, [], {**report.to_json(), "settings": {}}):
        with pytest.raises(ValueError, match=r"report|schema"):
            Report.from_json(broken)


def test_a_matrix_with_nan_is_untreated_and_its_reason_names_the_place(report):
    reasons = {u.name: u.reason for u in report.untreated}
    assert "nan in row 2, column 5" in reasons["broken.weight"]
    assert "broken.weight" not in {m.name for m in report.matrices}


def test_nothing_is_passed_over_and_bytes_add_up(report, path):
    totals = report.totals
    names = {m.name for m in report.matrices} | {u.name for u in report.untreated}
    assert len(names) == report.model["tensors"] == 8
    headers = report.model["bytes"]["headers"]
    assert totals["matrix_bytes"] + totals["untreated_bytes"] + headers == path.stat().st_size


def test_stacked_experts_are_judged_as_one_matrix_of_all_rows(report):
    experts = next(m for m in report.matrices if m.name == "experts.w1")
    assert (experts.kind, experts.experts, experts.rows, experts.columns) == ("experts", 3, 48, 32)


def test_shares_of_winners_add_up_at_every_budget_and_zeros_are_counted(report):
    totals = report.totals
    for row in totals["winners"]:
        assert sum(share for key, share in row.items() if key != "bits") == pytest.approx(1)
    assert totals["zeros"] == sum(m.zeros for m in report.matrices) > 14_000
    sparse = totals["sparse"]
    assert sparse["entropy"] < sparse["bitmap"] < sparse["dense"] == 2 * totals["weights"]


def test_a_file_and_an_open_model_give_the_same_report_and_progress_counts_every_weight_twice(report, path):
    seen = {}
    with checkpoint.open_model(path) as model:
        again = checkpoint.report(
            model, entropy=True, weights_read=lambda name, n: seen.__setitem__(name, seen.get(name, 0) + n)
        )
        assert again == report
        assert {m.name: 2 * m.weights for m in model.matrices if m.name != "broken.weight"}.items() <= seen.items()


def printed(*arguments, columns=80):
    result = RUN.invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_prints_words_then_a_line_for_every_matrix_then_what_was_not_judged(path, report, tmp_path):
    text = printed(path, "--json", tmp_path / "report.json")
    for bits in (2.25, 3.25, 4.25, 8.25):
        assert f"Loses least at {bits} bits a weight" in text
    assert "to prune first loses less in" in text and "Against the crowd" not in text.splitlines()[0]
    for m in report.matrices:
        assert report_text.shortened(m.name, 30).split("…")[0] in text
    assert "not judged, it holds nan in row 2, column 5: 1 tensor" in text and "norm.weight" in text
    assert Report.from_json(json.loads((tmp_path / "report.json").read_text())).matrices[0].name


def test_the_table_fits_eighty_columns_and_names_the_winner_in_words(report):
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    report_text.print_report(report, 4.25, console)
    lines = console.export_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("tensor"))
    table = lines[start : start + 1 + len(report.matrices)]
    assert all(len(line.rstrip()) <= 80 for line in table) and all("…" not in line[40:] for line in table)
    assert sum(any(word in line for word in ("quantize", "prune", "both", "none fits")) for line in table[1:]) == len(
        report.matrices
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors"], "nowhere.safetensors"),
        (["{path}", "--bits", "17"], "budgets[0] is 17"),
        (["{path}", "--mask", "none"], "mask is 'none'"),
        (["{path}", "--group", "1"], "group is 1"),
        (["{path}", "--threads", "0"], "threads"),
        (["{path}", "--scales", "good"], "scales is 'good'"),
    ],
)
def test_what_cannot_be_carried_out_ends_in_one_line_and_exit_code_2(path, arguments, message, tmp_path):
    out = tmp_path / "report.json"
    result = RUN.invoke(app, ["report", *(a.format(path=path) for a in arguments), "--json", str(out)])
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not out.exists() and not list(tmp_path.iterdir())


def test_a_damaged_file_ends_in_one_line_and_leaves_nothing_behind(path, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    result = RUN.invoke(app, ["report", str(cut), "--json", str(tmp_path / "report.json")])
    assert result.exit_code == 2 and "cut.safetensors" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["cut.safetensors"]


def test_a_report_on_a_file_without_a_matrix_says_so(tmp_path):
    save_file({"bias": np.ones(4, np.float32)}, tmp_path / "m.safetensors")
    assert "There is nothing to judge in it" in printed(tmp_path / "m.safetensors")


def test_a_report_feeds_the_plan(report):
    plan = checkpoint.allocate(report, 5)
    assert set(plan.tensors) == {m.name for m in report.matrices} and math.isfinite(plan.bits_per_weight)


def test_a_name_is_shortened_in_its_middle_and_never_longer_than_the_room():
    for room in range(12, 40):
        short = report_text.shortened("model.layers.0.self_attn.q_proj.weight", room)
        assert len(short) <= room and short.startswith("model.") and short.endswith("weight"[-5:])
