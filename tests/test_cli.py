"""The planner's command says what the library says, and bad input ends in one line and exit code 2."""

import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunequant import cli, tickets
from prunequant.cli import app

ROOT = Path(__file__).resolve().parents[1]
RUN = CliRunner()


def test_plan_prints_the_plan_of_the_library():
    result = RUN.invoke(app, ["plan", "--widths", "784,128,10", "--bits", "4", "--failure", "0.01"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tickets.plan((784, 128, 10), Fraction(1, 7), Fraction(1, 7), 0.01))


def test_bits_may_differ_from_layer_to_layer():
    result = RUN.invoke(app, ["plan", "--widths", "8,6,3", "--bits", "4,3", "--no-signed-inputs"])
    made = tickets.plan((8, 6, 3), (Fraction(1, 7), Fraction(1, 3)), None, 0.01, signed_inputs=False)
    assert result.output.strip() == str(made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--widths", "8,x"], "--widths is '8,x': it must be one whole number"),
        (["--widths", "8,4", "--bits", "4.5"], "--bits is '4.5'"),
        (["--widths", "8,4", "--bits", "20000"], "--bits is 20000: it must be an integer in [2, 16]"),
        (["--widths", "8,4", "--bits", "9" * 5000], "--bits is"),
        (["--widths", "8,4", "--source-bits", "[/]"], "--source-bits is '[/]'"),
        (["--widths", "8,4", "--depth", "[bold]3[/]"], "--depth is '[bold]3[/]'"),
        (["--widths", "8,4", "--failure", "nan"], "--failure is nan"),
        (["--widths", "8"], "at least two"),
        (["--widths", "8,4", "--bits", "1"], "--bits is 1: it must be an integer in [2, 16]"),
        (["--widths", "8,4", "--bits", "4,4,4"], "3 entries"),
        (["--widths", "8,4", "--failure", "2"], "--failure is 2.0"),
        (["--widths", "8,4", "--bits", "4", "--source-bits", "3"], "not a multiple"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_in_one_line(arguments, message):
    result = RUN.invoke(app, ["plan", *arguments])
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("text", ["[/]", "[bold red]x[/]", "[link=a]b"])
def test_brackets_in_a_message_are_shown_as_they_were_typed(text):
    result = RUN.invoke(app, ["verify", text])
    assert result.exit_code == 2 and f"no claim {text};" in result.output
    result = RUN.invoke(app, ["case", text])
    assert result.exit_code == 2 and f"no case has the name '{text}'" in result.output


@pytest.mark.parametrize("name", ["", "file/below.json", "/proc/x.json"])
def test_an_outcome_that_cannot_be_written_is_told_before_any_claim_is_measured(tmp_path, monkeypatch, name):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cli.claims, "run_all", lambda *a: pytest.fail("claims were measured"))
    result = RUN.invoke(app, ["verify", "kumar2025.lemma2", "--json", str(tmp_path / name)])
    assert result.exit_code == 2 and "--json is" in result.output and "Traceback" not in result.output
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "record", ["", "3", "[3]", '[{"id": "a"}]', '[{"id": "a", "evidence": [], "controls": 3}]', "[" * 9999]
)
def test_a_file_that_is_no_record_is_refused_before_any_claim_is_measured(tmp_path, monkeypatch, record):
    place = tmp_path / "record.json"
    place.write_text(record)
    monkeypatch.setattr(cli.claims, "run_all", lambda *a: pytest.fail("claims were measured"))
    result = RUN.invoke(app, ["verify", "kumar2025.lemma2", "--against", str(place)])
    assert result.exit_code == 2 and "is not a record written by verify --json" in result.output


def listed(*names):
    result = RUN.invoke(app, ["verify", "--files", *names])
    assert result.exit_code == 0, result.output
    return {line.split("  ")[0] for line in result.output.splitlines()}


@pytest.mark.parametrize("claim_id", ["kumar2025.lemma2", "ours.imagenet_ticket", "cases.pareto"])
def test_verify_files_names_every_file_that_holds_a_claim_or_its_outcome_and_measures_nothing(claim_id, monkeypatch):
    monkeypatch.setattr(cli.claims, "run_all", lambda *a: pytest.fail("claims were measured"))
    named, claim = listed(claim_id), cli.claims.registry()[claim_id]
    assert named >= {f"src/{claim.where()[0]}", claim.test, f"book/{claim.chapter}.md"}
    written = [*(ROOT / "book" / "results").glob("*.json"), *(ROOT / "book" / "reference").rglob("*.ipynb")]
    held = {path.relative_to(ROOT).as_posix() for path in written if claim_id in path.read_text(encoding="utf-8")}
    held.discard("book/results/mutations.json")  # what was tried on the code, no outcome of the claim
    assert held and held <= named
    assert listed(claim.chapter) == named, "for a new claim of the chapter they are the same"
    assert all((ROOT / name).is_file() for name in named)


def test_the_instructions_to_add_a_claim_name_the_files_that_the_command_prints():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Add a claim")[1].split("\n## ")[0]
    assert {name for name in listed("tickets/subset-sums") if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("names", [[], ["ours.nothing"], ["nowhere/moments"], ["tickets/../moments"]])
def test_verify_files_refuses_what_is_neither_a_claim_nor_a_chapter(names):
    result = RUN.invoke(app, ["verify", "--files", *names])
    assert result.exit_code == 2 and "chapter" in result.output and "Traceback" not in result.output


def test_a_stopped_case_says_how_to_go_on(tmp_path, monkeypatch):
    out = tmp_path / "record.json"

    def stopped(*arguments, out, **named):
        Path(f"{out}.partial").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("prunequant.cases.runner.run_case", stopped)
    result = RUN.invoke(app, ["case", "hardware", "--out", str(out)])
    assert result.exit_code == 130 and "--resume" in result.output


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=lambda end: end.name)
def test_verify_in_processes_ends_at_once_and_leaves_none_behind(tmp_path, end):
    script = tmp_path / "slow.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from prunequant import claims, cli

        def wait():
            Path({str(tmp_path)!r}, f"worker {{os.getpid()}}").touch()
            time.sleep(600)

        def run_all(ids, budget, executor, progress):
            for future in [executor.submit(wait) for _ in range(20)]:
                future.result()

        if __name__ == "__main__":
            claims.run_all = run_all
            cli.app(["verify", "kumar2025.lemma2", "--jobs", "2"])
    """)
    )
    running = subprocess.Popen(
        [sys.executable, script],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    until = time.monotonic() + 120
    while len(found := list(tmp_path.glob("worker *"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(end)
    said = running.communicate(timeout=20)[1]
    assert running.returncode == 128 + end and "Traceback" not in said
    workers = [Path("/proc", place.name.split()[1], "cmdline") for place in found]
    until = time.monotonic() + 20
    while any(place.exists() and place.read_bytes() for place in workers) and time.monotonic() < until:
        time.sleep(0.02)
    assert len(workers) == 2 and not any(place.exists() and place.read_bytes() for place in workers)
