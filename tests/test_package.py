"""What is installed is whole: records and data are found, `verify` goes on past what is missing, every name imports."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import numba
import pytest
from typer.testing import CliRunner

import prunequant
from prunequant import claims, extras, kernel_cache, records
from prunequant.claims.core import Budget
from prunequant.claims.run import _run_portable
from test_architecture import FLOOR

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", ".github", "benchmarks", "book", "src", "tests", "tools")
KINDS = (".toml", ".md", ".py", ".in", ".yml", ".txt", ".cff")
SHIPPED = [*(ROOT / "book" / "results").glob("*.json"), *(ROOT / "book" / "data").iterdir()]


def python(code, folder, **environment):
    """Run code where nothing of the repository is in sight; its output and its exit status."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PRUNEQUANT_RECORDS")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**kept, **environment},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    return done.stdout + done.stderr, done.returncode


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the project without what was made in it."""
    copy = tmp_path_factory.mktemp("source")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.partial", ".ipynb_checkpoints")
    for path in ROOT.iterdir():
        if path.name in FOLDERS:
            shutil.copytree(path, copy / path.name, ignore=unwanted)
        elif path.is_file() and (path.suffix in KINDS or path.name in ("LICENSE", "Makefile", "postBuild")):
            shutil.copy(path, copy)
    return copy


def built(what, source, folder):
    """What setuptools makes of a source tree, in a process of its own."""
    said, status = python(f"from setuptools import build_meta; build_meta.build_{what}({str(folder)!r})", source)
    assert status == 0, said
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    return built("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel, made from the source distribution, as pip does where there is no wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(sdist, folder)
    (unpacked,) = folder.iterdir()
    return built("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder for PYTHONPATH that holds the unpacked wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_source_distribution_is_the_whole_project(source, sdist):
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    project = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {name for name in project ^ held if ".egg-info/" not in name} == {"PKG-INFO", "setup.cfg"}


def test_the_wheel_holds_every_module_record_and_data_file_and_no_others(wheel):
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        same = {path.name: archive.read(f"prunequant/_records/{path.name}") == path.read_bytes() for path in SHIPPED}
    assert all(same.values()), [name for name, equal in same.items() if not equal]
    code = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "prunequant").rglob("*.py")}
    data = {"py.typed", "models/digits.json", "pages/menus.js", "pages/slider.js", "tickets/failures.json"}
    data |= {f"checkpoint/{name}" for name in ("page.css", "page.js", "report.schema.json")}
    data |= {f"_records/{path.name}" for path in SHIPPED}
    assert held == code | {f"prunequant/{name}" for name in data}


def test_an_installed_package_finds_its_records_and_measures_a_claim_on_one(installed, tmp_path):
    code = (
        "import prunequant; from prunequant import records\n"
        "from prunequant.cases import runner; from prunequant.models import corpus, images\n"
        "print(prunequant.__file__, records.find('case_pareto_cpu.json'), runner.recorded('pareto')['case'])\n"
        "print(len(corpus.tokens('heldout')), len(images.fashion_small().test))\n"
        "from prunequant.cli import app; app(['verify', 'cases.pareto'])"
    )
    said, status = python(code, tmp_path, PYTHONPATH=str(installed))
    assert status == 0, said
    place, record, name = said.splitlines()[0].split()
    assert Path(place).is_relative_to(installed) and Path(record).is_relative_to(installed) and name == "pareto"
    assert "68240 1000" in said and "1 passed, 0 failed" in said.splitlines()


def test_the_records_of_a_checkout_are_its_own_and_a_given_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.delenv("PRUNEQUANT_RECORDS", raising=False)
    assert {records.find(path.name) for path in SHIPPED} == set(SHIPPED)
    monkeypatch.setenv("PRUNEQUANT_RECORDS", str(tmp_path))
    assert records.find("ledger.json") == ROOT / "book" / "results" / "ledger.json"
    (tmp_path / "ledger.json").write_text("[1]", encoding="utf-8")
    assert records.find("ledger.json") == tmp_path / "ledger.json" and records.read("ledger.json") == [1]
    (tmp_path / "ledger.json").write_text("[1", encoding="utf-8")
    with pytest.raises(ValueError, match=r"ledger\.json is damaged"):
        records.read("ledger.json")


def test_a_missing_record_is_named_with_the_places_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNEQUANT_RECORDS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set PRUNEQUANT_RECORDS") as raised:
        records.find("nothing.json")
    assert "nothing.json" in str(raised.value) and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("name", ["", ".", "..", "../results/ledger.json", "/etc/passwd", "a\\b", "a\0"])
def test_only_the_name_of_a_file_is_looked_for(name):
    with pytest.raises(ValueError, match="name of a file alone"):
        records.find(name)


def test_no_module_but_records_knows_where_the_book_lies():
    for path in (ROOT / "src").rglob("*.py"):
        if path.name == "records.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                parts = [side.value for side in (node.left, node.right) if isinstance(side, ast.Constant)]
                assert not {"book", "results"} & set(parts), f"{path}:{node.lineno}"


def test_no_chapter_reads_records_by_a_path():
    for path in (ROOT / "book").rglob("*.md"):
        assert not re.search(r"""["'](\.\./)*(results|data)/""", path.read_text(encoding="utf-8")), path


def test_every_name_that_the_package_lists_can_be_loaded_and_every_room_is_listed():
    for name in dir(prunequant):
        getattr(prunequant, name)
    listed = {name for name in dir(prunequant) if not name.startswith("_")}
    assert listed == {room for room in FLOOR if not room.startswith("_")}
    for name in ("no_such_room", "formats.base", "no_such_room.base", ""):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(prunequant, name)


@pytest.mark.parametrize("room", ["cases", "finetune", "models", "pages", "studies", "timing"])
def test_a_room_of_modules_lists_each_of_them_and_each_name_it_lists_can_be_loaded(room):
    room = import_module(f"prunequant.{room}")
    (folder,) = map(Path, room.__path__)
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {name for name in modules if not name.startswith("_")} <= set(dir(room))
    for name in dir(room):
        getattr(room, name)


# --- what is not installed ------------------------------------------------------------------------------------------


def test_every_extra_that_an_error_may_name_exists_and_brings_its_package():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = {"sklearn": "scikit-learn", "PIL": "pillow", "distributed": "dask", "z3": "z3-solver"}
    names["llama_cpp"] = "llama-cpp-python"
    for package, extra in extras.EXTRAS.items():
        lines = {re.split(r"[\[<>=]", line)[0].replace("-", "_") for line in listed[extra]}
        assert names.get(package, package).replace("-", "_") in lines, package


def test_the_library_asks_for_nothing_that_no_extra_brings():
    asked = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "need":
                asked.add(ast.literal_eval(node.args[0]))
    assert {"torch", "sklearn", "cvxpy", "matplotlib"} <= asked <= set(extras.EXTRAS)


MISSING = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "sklearn", "cvxpy", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from prunequant.finetune import lsq", "torch"),
        ("from prunequant.models import networks; networks.digits_mlp()", "torch"),
        ("from prunequant.models import images; images.digits()", "book"),
        ("from prunequant.pages import plotting; plotting.figure()", "plot"),
        (
            "import numpy as np; from prunequant import optimum\n"
            "optimum.sdp_bound(np.ones(2), np.array([[2, 1], [1, 2.0]]), 2, 0.3)",
            "sdp",
        ),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(code, extra, tmp_path):
    said, status = python(MISSING + code, tmp_path, PYTHONPATH=str(ROOT / "src"))
    assert status == 1
    assert said.splitlines()[-1].startswith("prunequant.extras.MissingExtra: this needs "), said
    assert said.rstrip().endswith(f"pip install 'prunequant[{extra}]'")


def test_every_module_can_be_imported_by_its_name_or_says_which_extra_brings_what_it_misses(tmp_path):
    code = """
import json, pkgutil, importlib, sys
import prunequant
from prunequant import extras
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in extras.EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
said = {}
for module in pkgutil.walk_packages(prunequant.__path__, "prunequant.", onerror=lambda name: None):
    if module.name.endswith(".__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        said[module.name] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""
    printed, status = python(code, tmp_path, PYTHONPATH=str(ROOT / "src"))
    assert status == 0, printed
    said = {name: tuple(error) for name, error in json.loads(printed.splitlines()[-1]).items()}
    wanted = {("MissingExtra", f"this needs {p}: pip install 'prunequant[{e}]'") for p, e in extras.EXTRAS.items()}
    assert {name: error for name, error in said.items() if error not in wanted} == {}
    assert {"prunequant.models.smollm2", "prunequant.finetune.lsq", "prunequant.formats._torch"} <= set(said)


def raising(error):
    def check(budget):
        raise error

    return check


@pytest.fixture
def broken(monkeypatch):
    """Two claims whose checks raise what is asked for."""

    def broken(**errors):
        for claim_id, error in errors.items():
            object.__setattr__(claims.registry()[claim_id.replace("_", ".")], "check", raising(error))

    kept = {claim_id: claim.check for claim_id, claim in claims.registry().items()}
    yield broken
    for claim_id, check in kept.items():
        object.__setattr__(claims.registry()[claim_id], "check", check)


def verify(*arguments):
    from prunequant.cli import app

    done = CliRunner().invoke(app, ["verify", *arguments])
    return done.exit_code, [line for line in done.output.splitlines() if line.strip()]


def test_verify_goes_on_past_a_claim_that_needs_an_extra_and_counts_it_apart(broken, tmp_path):
    broken(kumar2025_lemma2=extras.MissingExtra("sklearn", "book"))
    record = tmp_path / "record.json"
    status, lines = verify("kumar2025.lemma2", "kumar2025.lemma4", "--json", str(record))
    assert status == 0
    assert lines[-1] == "1 passed, 0 failed, 1 skipped"
    assert lines[-2] == "not run, kumar2025.lemma2: this needs sklearn: pip install 'prunequant[book]'"
    row = next(row for row in json.loads(record.read_text(encoding="utf-8")) if row["id"] == "kumar2025.lemma2")
    assert row == {"id": row["id"], "verdict": "holds", "skipped": "this needs sklearn: pip install 'prunequant[book]'"}


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'torch'", name="torch"), records.MissingRecord("no record real.json")],
    ids=["a plain import at the top of a module", "a record"],
)
def test_whatever_is_not_there_is_skipped(broken, error):
    broken(kumar2025_lemma2=error)
    status, lines = verify("kumar2025.lemma2")
    assert status == 0 and lines[-1] == "0 passed, 0 failed, 1 skipped"


@pytest.mark.parametrize(
    "error",
    [ValueError("[/] bad [bold]"), ModuleNotFoundError("No module named 'ours'", name="ours"), FileNotFoundError("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_check_that_raises_fails_with_its_message_and_the_rest_goes_on(broken, error):
    broken(kumar2025_lemma2=error)
    status, lines = verify("kumar2025.lemma2", "kumar2025.lemma4")
    assert status == 1 and lines[-1] == "1 passed, 1 failed"
    assert f"the check raised {type(error).__name__}: {error}" in " ".join(lines)


def test_what_another_process_did_not_run_comes_back_as_it_was(broken):
    broken(kumar2025_lemma2=extras.MissingExtra("torch", "torch"))
    claim_id, evidence, controls, _, skipped, error, confirmations = _run_portable(
        "kumar2025.lemma2", Budget.QUICK.value
    )
    assert (claim_id, evidence, controls, confirmations, error) == ("kumar2025.lemma2", None, {}, {}, "")
    assert skipped == "this needs torch: pip install 'prunequant[torch]'"


# --- where compiled kernels go --------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Nothing is writable but what a test says, and the temporary folder."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    writable = []
    monkeypatch.setattr(kernel_cache, "_writable", lambda folder: folder in writable)
    yield writable
    os.environ.pop("NUMBA_CACHE_DIR", None)


def test_where_numba_finds_a_place_nothing_is_set(places):
    places.append(kernel_cache._home_cache())
    kernel_cache.settle()
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_where_nothing_is_writable_kernels_go_to_one_temporary_folder_of_the_users_own(places, tmp_path):
    kernel_cache.settle()
    chosen = Path(os.environ["NUMBA_CACHE_DIR"])
    assert chosen.parent == tmp_path and chosen.stat().st_mode & 0o777 == 0o700
    assert numba.config.CACHE_DIR == str(chosen)
    kernel_cache.settle()
    assert os.environ["NUMBA_CACHE_DIR"] == str(chosen), "the next process finds the same kernels"


def test_a_folder_that_others_can_write_to_is_not_used(places, tmp_path, monkeypatch):
    taken = Path(kernel_cache._own_folder())
    taken.chmod(0o777)
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    kernel_cache.settle()
    chosen = Path(os.environ["NUMBA_CACHE_DIR"])
    assert chosen != taken and chosen.stat().st_mode & 0o077 == 0


def test_without_any_writable_folder_the_error_names_the_variable(places, monkeypatch):
    def none():
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", none)
    with pytest.raises(RuntimeError, match="set NUMBA_CACHE_DIR"):
        kernel_cache.settle()


def test_whether_a_folder_is_writable_is_tried_and_not_read_off_its_permissions(tmp_path):
    assert kernel_cache._writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert not kernel_cache._writable(tmp_path / "file" / "folder")


# --- text files -----------------------------------------------------------------------------------------------------


def unstated(tree):
    """Lines that open a text file without its encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg for keyword in node.keywords}
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            # write_text(path, text) of tools/chapters.py is a function and not meant
            stated = "encoding" in keywords or len(node.args) > (node.func.attr == "write_text")
            if not stated:
                yield node.lineno
        elif isinstance(node.func, ast.Name) and node.func.id == "open":
            mode = next((a.value for a in node.args[1:2] if isinstance(a, ast.Constant)), "r")
            if "b" not in mode and "encoding" not in keywords:
                yield node.lineno
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "open" and node.args:
            mode = node.args[0].value if isinstance(node.args[0], ast.Constant) else "b"
            if set(mode) <= set("rwax+t") and "encoding" not in keywords:
                yield node.lineno


@pytest.mark.parametrize("folder", ["src", "tools", "benchmarks"])
def test_every_text_file_is_opened_with_its_encoding(folder):
    for path in (ROOT / folder).rglob("*.py"):
        lines = list(unstated(ast.parse(path.read_text(encoding="utf-8"))))
        assert not lines, f"{path}: lines {lines}"


@pytest.mark.parametrize("code", ["p.read_text()", "p.write_text(x)", "open(p)", "open(p, 'w')", "p.open('a')"])
def test_the_encoding_check_sees(code):
    assert list(unstated(ast.parse(code))) == [1]
