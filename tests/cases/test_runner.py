"""A case study keeps what it finished: a killed run, a full disk, a damaged file; and it refuses bad input first."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunequant.cases import runner as cases
from prunequant.cases.runner import Case, Unfinished, read_record, run_case
from prunequant.cli import app

CALLS = []


def units(settings):
    return [{"width": width} for width in settings["widths"]]


def unit(settings, parameters, seed, run):
    CALLS.append((parameters["width"], seed))
    run.progress("adding", 1, 1)
    (run.scratch / "mark").write_text("a checkpoint")
    return {"area": parameters["width"] * settings["height"] + seed}


def total(settings, rows):
    return {"total": sum(row["area"] for row in rows)}


SMALL = Case("hardware", "areas", {"ci": {"seeds": 2, "widths": [1, 2], "height": 10}}, units, unit, total)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(cases, "load", lambda name: SMALL)
    CALLS.clear()


def test_a_record_holds_rows_seed_by_seed_summary_settings_device_and_command():
    record = run_case("hardware", "ci")
    assert [(r["width"], r["seed"], r["area"]) for r in record["rows"]] == [
        (1, 0, 10),
        (2, 0, 20),
        (1, 1, 11),
        (2, 1, 21),
    ]
    assert record["summary"] == {"total": 62}
    assert record["settings"] == {"widths": [1, 2], "height": 10} and record["seeds"] == 2
    assert record["device"]["kind"] == "cpu" and record["device"]["threads"] == 1
    assert record["provenance"]["command"] == "prunequant case hardware --preset ci --seeds 2"
    assert {"torch", "numpy", "python"} <= set(record["provenance"]["versions"])


def test_a_written_record_reads_back_and_its_partial_folder_is_gone(tmp_path):
    out = tmp_path / "record.json"
    record = run_case("hardware", "ci", out=out)
    assert read_record(out) == record
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_limit_stops_between_units_and_resume_runs_only_the_rest(tmp_path):
    out = tmp_path / "record.json"
    with pytest.raises(Unfinished, match="0 of 4 units are done"):
        run_case("hardware", "ci", out=out, limit=0)
    run_case("hardware", "ci", out=out, resume=True, seeds=1)
    assert CALLS == [(1, 0), (2, 0)]
    CALLS.clear()
    again = run_case("hardware", "ci", out=out, resume=True)
    assert CALLS == [(1, 1), (2, 1)]
    assert [row["area"] for row in again["rows"]] == [10, 20, 11, 21]
    assert again["provenance"]["note"] == "2 of 4 rows were kept from earlier runs."
    same = run_case("hardware", "ci", out=out, resume=True)
    assert same["provenance"]["note"] == again["provenance"]["note"]


def test_other_settings_are_not_answered_by_old_rows(tmp_path):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    other = run_case("hardware", "ci", out=out, resume=True, settings={"height": 100})
    assert [row["area"] for row in other["rows"]] == [100, 200, 101, 201]


def test_a_larger_grid_runs_only_what_is_new_where_a_unit_says_what_it_depends_on(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    own = replace(SMALL, relevant=lambda settings, unit: {"height": settings["height"]})
    monkeypatch.setattr(cases, "load", lambda name: own)
    run_case("hardware", "ci", out=out)
    CALLS.clear()
    more = run_case("hardware", "ci", out=out, resume=True, settings={"widths": [3, 2]})
    assert CALLS == [(3, 0), (3, 1)] and [row["area"] for row in more["rows"]] == [30, 20, 31, 21]
    run_case("hardware", "ci", out=out, resume=True, settings={"height": 1})
    assert len(CALLS) == 2 + 4


def test_a_unit_sees_only_the_settings_it_says_it_depends_on(monkeypatch):
    monkeypatch.setattr(cases, "load", lambda name: replace(SMALL, relevant=lambda settings, unit: {}))
    with pytest.raises(KeyError, match="height"):
        run_case("hardware", "ci")


def test_a_run_that_was_killed_goes_on_with_what_it_had(tmp_path):
    out = tmp_path / "record.json"
    program = f"""
        import os, signal
        from prunequant.cases import runner as cases
        def unit(settings, parameters, seed, run):
            if (parameters["width"], seed) == (1, 1) and not os.environ.get("WHOLE"):
                os.kill(os.getpid(), signal.SIGKILL)
            return {{"area": parameters["width"] + seed}}
        CASE = cases.Case("hardware", "", {{"ci": {{"seeds": 2, "widths": [1, 2]}}}},
            lambda s: [{{"width": w}} for w in s["widths"]], unit, lambda s, rows: {{}})
        cases.load = lambda name: CASE
        record = cases.run_case("hardware", "ci", out={str(out)!r}, resume=True)
        print([row["area"] for row in record["rows"]])
    """
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(program))
    first = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL and not out.exists()
    stored = (tmp_path / "record.json.partial" / "rows.jsonl").read_text().splitlines()
    assert len(stored) == 2
    whole = {**os.environ, "WHOLE": "1"}
    second = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=whole)
    assert second.stdout.strip() == "[1, 2, 2, 3]"


def test_a_full_disk_keeps_what_was_finished(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    real = cases.Store.add

    def full(self, key, row):
        if row["width"] == 2:
            raise OSError(28, "No space left on device")
        real(self, key, row)

    monkeypatch.setattr(cases.Store, "add", full)
    with pytest.raises(Unfinished, match=r"No space left on device.*1 of 4 units are done and kept"):
        run_case("hardware", "ci", out=out)
    monkeypatch.setattr(cases.Store, "add", real)
    CALLS.clear()
    assert run_case("hardware", "ci", out=out, resume=True)["summary"] == {"total": 62}
    assert (1, 0) not in CALLS


def test_a_record_that_cannot_be_written_leaves_the_rows(tmp_path, monkeypatch):
    out = tmp_path / "record.json"

    def full(path, record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cases, "write_json", full)
    with pytest.raises(Unfinished, match=r"record\.json could not be written"):
        run_case("hardware", "ci", out=out)
    monkeypatch.undo()
    monkeypatch.setattr(cases, "load", lambda name: SMALL)
    CALLS.clear()
    run_case("hardware", "ci", out=out, resume=True)
    assert CALLS == []


def test_an_existing_record_is_not_overwritten_unless_resumed(tmp_path):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match="--resume"):
        run_case("hardware", "ci", out=out)
    assert out.read_bytes() == before


@pytest.mark.parametrize("cut", [0, 1, 50, -3])
def test_a_damaged_record_is_refused_by_name(tmp_path, cut):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    out.write_text(out.read_text()[:cut])
    with pytest.raises(ValueError, match=r"record\.json is damaged"):
        read_record(out)
    with pytest.raises(ValueError, match=r"record\.json is damaged"):
        run_case("hardware", "ci", out=out, resume=True)


@pytest.mark.parametrize(
    "record",
    [[], {}, {"case": "other", "rows": [], "keys": []}, {"case": "hardware", "rows": [{}], "keys": ["a"]}],
)
def test_json_that_is_no_record_is_refused(tmp_path, record):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="no record of a case"):
        read_record(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "the presets are ci"),
        ({"device": "abacus"}, "device is 'abacus': give 'cpu'"),
        ({"device": "meta"}, "give 'cpu'"),
        ({"device": "cuda:99"}, "GPU"),
        ({"settings": {"depth": 1}}, "no setting depth"),
        ({"seeds": 0}, "seeds is 0"),
        ({"data": "nowhere/at/all"}, "is not there"),
    ],
)
def test_bad_input_is_refused_before_any_work(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_case("hardware", **{"preset": "ci", "out": tmp_path / "record.json", **arguments})
    assert CALLS == [] and list(tmp_path.iterdir()) == []


def test_an_unknown_case_lists_those_there_are(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="the cases are lsq-against-pruning, order-in-a-language-model"):
        cases.load("chess")


def test_a_result_that_json_cannot_hold_is_an_error_that_names_its_type(monkeypatch):
    strange = Case("hardware", "", SMALL.presets, units, lambda *a: {"area": {1, 2}}, total)
    monkeypatch.setattr(cases, "load", lambda name: strange)
    with pytest.raises(TypeError, match="not set"):
        run_case("hardware", "ci")


def test_the_command_writes_a_record_and_refuses_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    first = run.invoke(app, ["case", "hardware", "--preset", "ci", "--seeds", "1"])
    assert first.exit_code == 0, first.output
    assert "2 rows" in first.output and read_record("case_hardware_ci.json")["seeds"] == 1
    again = run.invoke(app, ["case", "hardware", "--preset", "ci"])
    assert again.exit_code == 2 and "--resume" in again.output and "Traceback" not in again.output
    more = run.invoke(app, ["case", "hardware", "--preset", "ci", "--resume"])
    assert more.exit_code == 0 and "4 rows" in more.output
    lost = run.invoke(app, ["case", "hardware", "--preset", "ci", "--device", "cuda:99", "--out", "b.json"])
    assert lost.exit_code == 2 and "GPU" in lost.output
    monkeypatch.setattr(cases.Store, "add", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    full = run.invoke(app, ["case", "hardware", "--preset", "ci", "--out", "c.json"])
    assert full.exit_code == 3 and "--resume" in full.output


def test_a_page_says_where_its_gpu_record_was_made_or_what_makes_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNEQUANT_RECORDS", str(tmp_path))
    missing = cases.on_a_gpu("pareto")
    assert "No GPU record exists yet" in missing and "prunequant case pareto --preset gpu" in missing
    run_case("hardware", "ci", out=tmp_path / "case_hardware_gpu.json")
    assert cases.on_a_gpu("hardware").startswith("measured on 20")


@pytest.mark.parametrize(
    "error",
    [ValueError("no data"), ModuleNotFoundError("No module named 'gguf'"), FloatingPointError("the loss is nan")],
)
def test_a_unit_that_fails_before_anything_is_kept_leaves_no_folder_and_one_line(tmp_path, monkeypatch, error):
    def broken(settings, parameters, seed, run):
        raise error

    monkeypatch.setattr(cases, "load", lambda name: Case("hardware", "", SMALL.presets, units, broken, total))
    out = tmp_path / "record.json"
    said = CliRunner().invoke(app, ["case", "hardware", "--preset", "ci", "--out", str(out)])
    assert said.exit_code == 2 and str(error) in said.output and "Traceback" not in said.output
    assert list(tmp_path.iterdir()) == []


def committed():
    return sorted((Path(__file__).parents[2] / "book" / "results").glob("case_*.json"))


@pytest.mark.parametrize("place", committed(), ids=lambda place: place.stem)
def test_every_row_of_a_committed_record_is_found_by_a_resumed_run(tmp_path, monkeypatch, place):
    monkeypatch.undo()
    record = read_record(place)
    case = cases.load(record["case"])

    def never(*arguments):
        raise AssertionError("a unit ran anew")

    monkeypatch.setattr(cases, "load", lambda name: replace(case, run=never))
    if record["device"]["kind"] == "cuda":  # a record made on a GPU is looked at on any machine
        monkeypatch.setattr(cases, "describe", lambda device: record["device"])
    out = tmp_path / "record.json"
    out.write_bytes(place.read_bytes())
    again = run_case(
        record["case"],
        record["preset"],
        out=out,
        resume=True,
        seeds=record["seeds"],
        settings=record["settings"],
        device=record["device"]["kind"],
    )
    assert again["rows"] == record["rows"] and again["keys"] == record["keys"]


def test_the_committed_records_are_there():
    assert {place.stem for place in committed()} >= {"case_hardware_cpu", "case_pareto_cpu"}
    assert {place.stem for place in committed() if place.stem.endswith("_gpu")} == {
        "case_hardware_gpu",
        "case_lsq_against_pruning_gpu",
        "case_order_in_a_language_model_gpu",
    }


def test_a_raised_version_runs_every_row_anew(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    CALLS.clear()
    run_case("hardware", "ci", out=out, resume=True)
    assert CALLS == []
    monkeypatch.setattr(cases, "load", lambda name: replace(SMALL, version=2))
    run_case("hardware", "ci", out=out, resume=True)
    assert len(CALLS) == 4


def test_rows_outlive_a_move_of_the_code(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    CALLS.clear()
    monkeypatch.setattr(cases, "load", lambda name: replace(SMALL, run=lambda *arguments: unit(*arguments)))
    run_case("hardware", "ci", out=out, resume=True)
    assert CALLS == []


def edit(record, **row):
    return {**record, "rows": [{**record["rows"][0], **row}, *record["rows"][1:]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: edit(r, area=99.5), "row 1 of 4 does not match its checksum"),
        (lambda r: {**r, "rows": [r["rows"][1], r["rows"][0], *r["rows"][2:]]}, "row 1 of 4"),
        (lambda r: {**r, "keys": [r["keys"][1], r["keys"][0], *r["keys"][2:]]}, "row 1 of 4"),
        (lambda r: {**r, "checks": r["checks"][1:]}, "checksums"),
        (lambda r: {name: r[name] for name in r if name != "checks"}, "no checksums: it was written by an earlier"),
        (lambda r: {name: r[name] for name in r if name != "provenance"}, "it lacks provenance"),
    ],
)
def test_an_edited_record_is_named_and_nothing_of_it_is_used(tmp_path, change, message):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    out.write_text(json.dumps(change(json.loads(out.read_text()))))
    before = out.read_bytes()
    with pytest.raises(ValueError, match=rf"record\.json is damaged .*{message}"):
        run_case("hardware", "ci", out=out, resume=True)
    assert out.read_bytes() == before and [place.name for place in tmp_path.iterdir()] == ["record.json"]


def test_an_edited_row_of_a_stopped_run_is_named(tmp_path):
    out = tmp_path / "record.json"
    with pytest.raises(Unfinished):
        run_case("hardware", "ci", out=out, limit=0)

    def stops(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_case("hardware", "ci", out=out, resume=True, progress=stops)
    rows = tmp_path / "record.json.partial" / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"area": 10', '"area": 11'))
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: .*does not match its checksum"):
        run_case("hardware", "ci", out=out, resume=True)


def test_a_record_of_another_case_is_not_overwritten(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    run_case("hardware", "ci", out=out)
    before = out.read_bytes()
    monkeypatch.setattr(cases, "load", lambda name: replace(SMALL, name="pareto"))
    with pytest.raises(ValueError, match="a record of the case hardware"):
        run_case("pareto", "ci", out=out, resume=True)
    assert out.read_bytes() == before


def test_a_second_run_on_the_same_record_is_refused_by_name(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    refused = []

    def meanwhile(settings, parameters, seed, run):
        for resume in (True, False):
            with pytest.raises(OSError, match=r"record\.json\.partial") as error:
                run_case("hardware", "ci", out=out, resume=resume)
            refused.append(str(error.value))
        return unit(settings, parameters, seed, run)

    def load(name):
        return replace(SMALL, run=meanwhile if not refused else unit)

    monkeypatch.setattr(cases, "load", load)
    record = run_case("hardware", "ci", out=out)
    assert record["summary"] == {"total": 62} and "another process is at work in" in refused[0]
    assert [place.name for place in tmp_path.iterdir()] == ["record.json"]
    assert run_case("hardware", "ci", out=out, resume=True)["rows"] == record["rows"]


def test_two_processes_that_start_on_one_record_end_with_a_right_record(tmp_path):
    out = tmp_path / "record.json"
    script = tmp_path / "twice.py"
    script.write_text(
        textwrap.dedent(f"""
        import time
        from prunequant.cases import runner as cases
        def unit(settings, parameters, seed, run):
            time.sleep(0.2)
            return {{"area": parameters["width"] + seed}}
        CASE = cases.Case("hardware", "", {{"ci": {{"seeds": 5, "widths": [1, 2]}}}},
            lambda s: [{{"width": w}} for w in s["widths"]], unit, lambda s, rows: {{}})
        cases.load = lambda name: CASE
        cases.run_case("hardware", "ci", out={str(out)!r}, resume=True)
    """)
    )
    both = [subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted((process.communicate()[1], process.returncode) for process in both)
    ended = [code for _, code in said]
    assert 0 in ended  # the other came too late, or was refused
    assert all(code == 0 or "another process is at work" in text for text, code in said)
    assert len(read_record(out)["rows"]) == 10 and not (tmp_path / "record.json.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seeds": 1.0}, TypeError, "seeds is 1.0"),
        ({"seeds": 10**5}, ValueError, "seeds is 100000"),
        ({"limit": float("nan")}, ValueError, "limit is nan"),
        ({"limit": "5"}, TypeError, "limit is '5'"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"threads": 2.5}, TypeError, "threads is 2.5"),
        ({"jobs": 0}, ValueError, "jobs is 0"),
        ({"jobs": "all"}, TypeError, "jobs is 'all'"),
        ({"resume": 1}, TypeError, "resume is 1"),
        ({"preset": 3}, TypeError, "preset is 3"),
        ({"settings": 3}, TypeError, "settings is 3"),
        ({"out": 3}, TypeError, "out is 3"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        run_case("hardware", **{"preset": "ci", **arguments})
    assert CALLS == []


SIDE = {"task": "digits", "checkpoints": 0, "inputs": 20, "reestimate": 2}
FEW = {
    "kind": {"network": {"kind": "resnet", "width": 4}, "dense_steps": 3, "steps": 4, "rate": 1e-3},
    "rates": {"lsq": {"2": 1e-3}, "pruning": {"2": 1e-2}, "tuned": {"16": 1e-3}},
}


def small_networks(*names):
    chosen = {**FEW["kind"], "fine_rate": FEW["rates"], "references": ["dense"], "lengths": [[1, {"lsq": [2]}]]}
    return {**SIDE, "models": {name: dict(chosen) for name in names}}


def test_seeds_and_models_side_by_side_give_the_rows_of_one_process(tmp_path, monkeypatch):
    monkeypatch.undo()
    given = {"seeds": 2, "threads": 1, "settings": small_networks("a", "b")}
    alone = run_case("lsq-against-pruning", "ci", **given)
    seen = []
    out = tmp_path / "record.json"
    beside = run_case(
        "lsq-against-pruning", "ci", jobs=2, out=out, progress=lambda done, units: seen.append((done, units)), **given
    )
    for record in (alone, beside):
        for row in record["rows"]:
            del row["seconds"]
    assert beside["rows"] == alone["rows"] and beside["keys"] == alone["keys"]
    assert beside["provenance"]["command"] == alone["provenance"]["command"]
    assert seen[-1] == (8, 8) and [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_limit_ends_processes_side_by_side_too_and_what_is_finished_is_kept(tmp_path, monkeypatch):
    monkeypatch.undo()
    given = {"seeds": 2, "threads": 1, "settings": small_networks("a")}
    out = tmp_path / "record.json"
    with pytest.raises(Unfinished, match="0 of 4 units are done and kept"):
        run_case("lsq-against-pruning", "ci", jobs=2, out=out, limit=0, **given)
    run_case("lsq-against-pruning", "ci", out=out, resume=True, **{**given, "seeds": 1})
    record = run_case("lsq-against-pruning", "ci", jobs=2, out=out, resume=True, **given)
    assert [row["seed"] for row in record["rows"]] == [0, 0, 1, 1]


def test_an_error_in_one_process_is_the_error_of_the_run(monkeypatch):
    monkeypatch.undo()
    broken = small_networks("a")
    broken["models"]["a"]["network"] = {"kind": "no such network"}
    with pytest.raises(ValueError, match="no such network"):
        run_case("lsq-against-pruning", "ci", jobs=2, seeds=2, threads=1, settings=broken)


@pytest.mark.parametrize("name", ["hardware", "pareto"])
def test_a_case_that_measures_times_runs_alone(monkeypatch, name):
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"jobs is 2, but the case .* measures times"):
        run_case(name, "ci", jobs=2)
