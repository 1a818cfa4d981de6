"""`prunequant allocate`: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from checkpoint import judged
from prunequant.checkpoint import Allocation, allocate
from prunequant.cli import app

RUN = CliRunner()
REPORT = judged.report()


@pytest.fixture
def report(tmp_path):
    place = tmp_path / "report.json"
    place.write_text(json.dumps(REPORT), encoding="utf-8")
    return place


def test_the_plan_that_is_written_is_the_librarys_and_the_uniform_one_is_printed_beside_it(report, tmp_path):
    out = tmp_path / "plans" / "plan.json"
    done = RUN.invoke(app, ["allocate", str(report), "--budget", "4.25", "--json", str(out)])
    assert done.exit_code == 0, done.output
    plan = allocate(REPORT, 4.25)
    assert Allocation.from_json(out) == plan
    assert f"all {plan.uniform.scheme}" in done.output and f"{plan.uniform.snr:.2f} dB" in done.output
    assert f"{plan.snr:.2f} dB" in done.output and "0.004 MB that are not treated" in done.output


def test_megabytes_patterns_and_sensitivities_are_those_of_the_library(report, tmp_path):
    factors = tmp_path / "factors.json"
    factors.write_text('{"layers.3.weight": 50}', encoding="utf-8")
    out = tmp_path / "plan.json"
    line = [
        "allocate",
        str(report),
        "--megabytes",
        "0.07",
        "--schemes",
        "INT4 *, INT8 channel",
        "--weighting",
        "tensors",
    ]
    done = RUN.invoke(app, [*line, "--sensitivities", str(factors), "--json", str(out)])
    assert done.exit_code == 0, done.output
    wanted = allocate(REPORT, megabytes=0.07, schemes=["INT4 *", "INT8 channel"], weighting="tensors",
                      sensitivities={"layers.3.weight": 50})  # fmt: skip
    assert Allocation.from_json(out) == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "give a budget"),
        (["--budget", "1"], "the smallest plan of these schemes takes"),
        (["--budget", "4", "--schemes", "INT4 g7"], "the report did not judge"),
        (["--budget", "4", "--weighting", "[/]"], "weighting is '[/]'"),
        (["--budget", "4", "--sensitivities", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_planned_ends_in_one_line_and_exit_code_2_and_writes_nothing(report, tmp_path, line, message):
    out = tmp_path / "plan.json"
    done = RUN.invoke(app, ["allocate", str(report), "--json", str(out), *line])
    assert done.exit_code == 2 and message in done.stderr and not done.stdout and not out.exists()
    assert done.stderr.count("\n") == 1
