"""Everything that is compared, again, as other machines would compute it.

    python tools/portability.py                        every profile that this machine can stand for
    python tools/portability.py "no AVX2, no FMA"      one of them
    python tools/portability.py --stage chapters       units, claims or chapters alone
    python tools/portability.py --list                 the profiles, and what each sets

A profile is a set of environment variables, an environment of other packages or another Python, a processor that is
emulated, or the package as one installs it. Each has its own processes, its own compiled kernels and its own executed
chapters, under `_build/portability/`. The table is kept in `book/results/portability.json` and shown in the book;
`make test` does not run this.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import run_environment
from chapters import ROOT, Book

from prunequant.claims import drift, kinds
from prunequant.records import provenance, write_json, write_text

RECORD = ROOT / "book" / "results" / "portability.json"
FOLDER = "_build/portability"
SHOWN_BY = "checked"
STAGES = ("units", "claims", "chapters")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

NO_AVX512 = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
}
NO_AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NUMBA_CPU_NAME": "nehalem",
    "NUMBA_CPU_FEATURES": "",
}


@dataclass(frozen=True)
class Profile:
    """A machine to stand for: variables, a Python, and how its packages are resolved (None: today's environment)."""

    name: str
    variables: dict[str, str] = field(default_factory=dict, hash=False)
    python: str = ""  # such as "3.12"; empty: the one that runs this
    packages: str = ""  # "pins", "newest" or "lowest"; "arm64": emulated; empty: the environment that runs this
    torch: bool = True  # without it: the rooms that do not need it, the claims, and the pages that are named
    rooms: tuple[str, ...] = ()  # what of tests/ is run, when not all that can be
    pages: tuple[str, ...] = ()  # the chapters that are run, when not all that can be
    installed: bool = False  # the package from its wheel, and each chapter's notebook to take away in an empty folder

    @property
    def stages(self) -> tuple[str, ...]:
        """What can be run: the unit tests are the checkout's, and most chapters need PyTorch."""
        if self.installed:
            return ("claims", "chapters")
        return STAGES if self.torch or self.pages else ("units", "claims")

    @property
    def folder(self) -> Path:
        return ROOT / FOLDER / re.sub(r"\W+", "-", self.name)

    @property
    def emulated(self) -> bool:
        return self.packages == "arm64"


# What ends within minutes in emulation, where compiling takes longest: pages that need no PyTorch, of every part.
QUICK_PAGES = ("ledger", "index", "tickets/moments", "tickets/precision-and-noise", "tickets/shallow-tickets",
               "versus/signal-to-noise", "interplay/formats")  # fmt: skip

PROFILES = (
    Profile("this machine"),
    Profile("no AVX-512", NO_AVX512),
    Profile("no AVX2, no FMA", NO_AVX2),
    Profile("one thread", dict.fromkeys(THREADS, "1")),
    Profile("two threads", dict.fromkeys(THREADS, "2")),
    Profile("no variables set", {"PRUNEQUANT_RUN_ENV": os.devnull, "PYTHONHASHSEED": "random"}),
    Profile("newest packages", packages="newest"),
    Profile("lowest packages", packages="lowest"),
    Profile("Python 3.12, no PyTorch", python="3.12", packages="pins", torch=False),
    Profile("Python 3.13, no PyTorch", python="3.13", packages="pins", torch=False),
    Profile(
        "64-bit Arm, emulated",
        packages="arm64",
        torch=False,
        rooms=("subset_sum", "formats", "sparsity", "distortion"),
        pages=QUICK_PAGES,
    ),
    Profile("installed wheel, empty folder", {"PRUNEQUANT_RUN_ENV": os.devnull}, installed=True),
)


def features(profile: Profile) -> dict[str, str]:
    """The variables, without names of processor features that this processor or this NumPy does not know."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    variables = dict(profile.variables)
    wanted = variables.get("NPY_DISABLE_CPU_FEATURES", "").split()
    known = [name for name in wanted if name in __cpu_dispatch__ and __cpu_features__.get(name)]
    if "NPY_DISABLE_CPU_FEATURES" in variables:
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(known)
    if platform.machine() not in ("x86_64", "AMD64"):
        variables = {name: value for name, value in variables.items() if name in THREADS}
    return variables


def environment(profile: Profile) -> dict[str, str]:
    """The environment of a profile's processes: nothing numerical is inherited from the caller."""
    numerical = {*NO_AVX2, *THREADS, "PYTHONHASHSEED", "PRUNEQUANT_RUN_ENV", "OPENBLAS_L2_SIZE", "PYTHONPATH",
                 "NUMBA_CACHE_DIR", "PRUNEQUANT_KERNEL", "PRUNEQUANT_RECORDS"}  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in numerical}
    own = {"NUMBA_CACHE_DIR": str(profile.folder / "numba"), "PYTHONPATH": str(ROOT / "src")}
    if profile.installed:  # its kernels are kept where they would be: beside it
        own = {"PYTHONPATH": str(installed(profile))}
    if profile.emulated:  # the kernel is emulated, what compares its outputs need not be
        own |= {"JUPYTER_PATH": str(profile.folder / "venv" / "share" / "jupyter"), "PRUNEQUANT_KERNEL": "emulated"}
    defaults = {} if "PRUNEQUANT_RUN_ENV" in profile.variables else run_environment.variables()
    return {**kept, **defaults, **features(profile), **own}


@cache
def away(profile: Profile) -> TemporaryDirectory:
    """A folder outside the checkout, gone when this process ends."""
    return TemporaryDirectory(prefix="prunequant-")


@cache
def installed(profile: Profile) -> Path:
    """The package's wheel, made of this checkout's source distribution and unpacked outside it."""
    top = Path(away(profile).name)
    source = f"from setuptools import build_meta; build_meta.build_sdist({str(top)!r})"
    subprocess.run([sys.executable, "-c", source], check=True, cwd=ROOT, capture_output=True)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
             "--disable-pip-version-check", "--wheel-dir", str(top), *map(str, top.glob("*.tar.gz"))]  # fmt: skip
    subprocess.run(wheel, check=True, cwd=top)
    (made,) = top.glob("*.whl")
    with ZipFile(made) as archive:
        archive.extractall(top / "site")
    return top / "site"


def interpreter(profile: Profile) -> str:
    """The Python of a profile, its environment made first when it has one of its own."""
    if not profile.packages:
        return sys.executable
    venv = profile.folder / "venv"
    inside = venv / "bin" / "python"
    done = venv / ".done"
    if done.is_file():
        return str(inside)
    if profile.emulated:
        return emulated(profile, inside, done)
    python = find_python(profile.python)
    subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=True)
    install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lines = [line for line in pins() if profile.torch or not line.startswith(("torch", "efficientnet"))]
    if profile.packages == "pins":
        subprocess.run([*install, *lines], check=True, cwd=ROOT)
    else:
        # The book's tools and torch at their pins: another torch is gigabytes, and other pages are not the question.
        tools = [line for line in lines if not any(line.startswith(f"{name}==") for name in LIBRARY)]
        subprocess.run([*install, *tools], check=True, cwd=ROOT)
        subprocess.run([*install, "--upgrade", *(floors() if profile.packages == "lowest" else library())], check=True)
    subprocess.run([*install, "--no-deps", "-e", "."], check=True, cwd=ROOT)
    done.touch()
    return str(inside)


def emulated(profile: Profile, inside: Path, done: Path) -> str:
    """A Python for another processor, see tools/arm_root.sh."""
    needed = ("qemu-aarch64-static", "apt-get", "dpkg-deb")
    absent = [name for name in needed if not shutil.which(name)]
    if absent:
        raise LookupError(f"no {' and no '.join(absent)} at hand")
    script = ["sh", str(ROOT / "tools" / "arm_root.sh"), str(profile.folder)]
    subprocess.run(script, check=True, cwd=ROOT, env={**os.environ, "PYTHON": sys.executable})
    done.touch()
    return str(inside)


def find_python(wanted: str) -> str:
    """A Python of that version that runs; the one that runs this when none is asked for."""
    if not wanted:
        return sys.executable
    for python in (f"python{wanted}", *map(str, sorted(Path.home().glob(f".pyenv/versions/{wanted}.*/bin/python")))):
        try:
            done = subprocess.run(
                [python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=False
            )
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.startswith(wanted):
            return python
    raise LookupError(f"no Python {wanted} at hand")


# What the library computes with, and so what the newest and the lowest packages are asked of.
LIBRARY = ("numpy", "scipy", "numba", "llvmlite", "safetensors", "ml_dtypes", "rich", "typer", "matplotlib", "cvxpy",
           "clarabel", "scs", "osqp", "scikit-learn")  # fmt: skip


def pins() -> list[str]:
    """The lines of requirements.txt without their comments."""
    lines = (
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    )
    return [line for line in lines if line]


def library() -> list[str]:
    """What pyproject.toml asks of the packages of `LIBRARY`."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["sdp"], *extras["plot"], *extras["book"]]
    return [line for line in lines if re.split(r"[<>=\[]", line)[0] in LIBRARY]


def floors() -> list[str]:
    """The lowest version of each that pyproject.toml admits."""
    return [re.sub(r">=([\w.]+).*", r"==\1.*", line) for line in library()]


def differing_packages(python: str) -> list[str]:
    """What the library computes with and this other Python has in another version than this one: "name 1.2 for 1.1"."""
    ask = f"""
import json
from importlib.metadata import PackageNotFoundError, version
found = {{}}
for name in {LIBRARY!r}:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = ""
print(json.dumps(found))
"""
    here, there = (
        json.loads(subprocess.run([p, "-c", ask], check=True, capture_output=True, text=True).stdout)
        for p in (sys.executable, python)
    )
    return [f"{name} {there[name]} for {here[name]}" for name in LIBRARY if there[name] != here[name]]


def run(profile: Profile, python: str, *command: str) -> tuple[int, str]:
    profile.folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [python, *command], cwd=ROOT, env=environment(profile), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


TORCHLESS = ("test_arguments.py", "test_tolerance.py", "test_random.py", "test_statistics.py", "test_experiments.py",
             "subset_sum", "sparsity", "distortion", "optimum")  # fmt: skip


def units(profile: Profile, python: str, jobs: int) -> dict:
    """The unit tests, without those of pins (other versions are the point), of the pipeline and of claims."""
    apart = ["--ignore=tests/book", "--ignore=tests/test_environment.py", "--ignore=tests/test_package.py",
             "-m", "not claim"]  # fmt: skip
    rooms = profile.rooms or (() if profile.torch else TORCHLESS)
    where = [f"tests/{name}" for name in rooms] or ["tests"]
    side = ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else ["-n", "0"]
    _, said = run(profile, python, "-m", "pytest", *side, "-p", "no:cacheprovider", *apart, *where)
    write_text(profile.folder / "units.txt", said)
    closing = [line for line in said.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    found = dict(
        (word, int(n)) for n, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", (closing or [""])[-1])
    )
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return {"passed": found.get("passed", 0), "failed": len(failed) or (0 if found else 1), "which": failed[:20]}


def claims(profile: Profile, python: str, jobs: int) -> dict:
    out = profile.folder / "ledger.json"
    out.unlink(missing_ok=True)
    _, said = run(profile, python, "-m", "prunequant.cli", "verify", "--jobs", str(jobs), "--json", str(out))
    if not out.is_file():
        return {"passed": 0, "failed": 1, "which": [said.strip().splitlines()[-1] if said.strip() else "nothing said"]}
    rows = json.loads(out.read_text(encoding="utf-8"))
    recorded = json.loads((ROOT / "book" / "results" / "ledger.json").read_text(encoding="utf-8"))
    skipped = [row["id"] for row in rows if "skipped" in row] if not profile.torch else []
    rows = [row for row in rows if row["id"] not in skipped]
    differing, used = drift(rows, {row["id"]: row for row in recorded})
    wrong = [row["id"] for row in rows if not row.get("agrees")] + differing
    passed = len(rows) - len({line.split(",")[0].split(":")[0] for line in wrong})
    found = {"passed": passed, "failed": len(wrong), "which": wrong[:20], "numbers": kinds(rows), "tolerances": used}
    return {**found, "skipped": len(skipped)} if skipped else found


def chapters(profile: Profile, python: str, jobs: int) -> dict:
    build = (profile.folder / "build").relative_to(ROOT).as_posix()
    # The page that shows this very record is not among them: it is refreshed when the record stands.
    listed = [chapter for chapter in Book(ROOT, build).chapters() if chapter.name != SHOWN_BY]
    listed = [chapter for chapter in listed if chapter.name in (profile.pages or {chapter.name})]
    how = ["--jobs", str(jobs), "--build", build, *(["--away"] if profile.installed else [])]
    runner = sys.executable if profile.emulated else python
    _, said = run(profile, runner, "tools/book.py", "validate", *how, *(chapter.name for chapter in listed))
    passed, wrong, tolerances = 0, [], {}
    numbers = dict.fromkeys(("exact", "stable", "sensitive"), 0)
    for chapter in listed:
        state = chapter.state()
        tolerances |= {f"{chapter.name}, cell {cell}": share for cell, share in state.get("tolerances", {}).items()}
        for kind in numbers:
            numbers[kind] += state.get("numbers", {}).get(kind, 0)
        if state.get("how") == "validated":
            passed += 1
        else:
            first = (state.get("differences") or ["did not end"])[0].splitlines()[0]
            wrong.append(f"{chapter.name}: {first}")
    write_text(profile.folder / "chapters.txt", said)
    return {"passed": passed, "failed": len(wrong), "which": wrong, "numbers": numbers, "tolerances": tolerances}


def same_as(profile: Profile, python: str) -> dict[str, str]:
    """The profile that this one is no different from on this machine, and why; empty where it is another."""
    if profile.packages == "newest" and not differing_packages(python):
        return {"same_as": "this machine", "because": "its packages are the newest that are admitted"}
    if profile.variables == dict.fromkeys(THREADS, str(os.cpu_count())):
        return {"same_as": "no variables set", "because": f"{os.cpu_count()} processors give as many threads unasked"}
    return {}


def measure(profile: Profile, stages: Sequence[str], jobs: int, before: dict) -> dict:
    """What a profile gives; the stages that were not asked for stay as they were recorded."""
    row = {"profile": profile.name, "variables": features(profile), **{s: before[s] for s in STAGES if s in before}}
    try:
        python = interpreter(profile)
    except (LookupError, subprocess.CalledProcessError) as error:
        return {**row, "not_run": str(error), "date": datetime.now(UTC).date().isoformat()}
    row |= {name: list(part) for name, part in (("rooms", profile.rooms), ("pages", profile.pages)) if part}
    row["versions"] = json.loads(run(profile, python, "-c", VERSIONS)[1].splitlines()[-1])
    if same := same_as(profile, python):
        row = {key: value for key, value in row.items() if key not in STAGES}
        return {**row, **same, "date": datetime.now(UTC).date().isoformat()}
    run(
        profile, python, "-m", "prunequant.warm", "--jobs", str(jobs)
    )  # its own kernels, compiled for its own processor
    for stage in (stage for stage in stages if stage in profile.stages):
        start = time.perf_counter()
        row[stage] = {"units": units, "claims": claims, "chapters": chapters}[stage](profile, python, jobs)
        row[stage] |= {"seconds": round(time.perf_counter() - start), "date": datetime.now(UTC).date().isoformat()}
        print(f"  {profile.name:18s} {stage:9s} {row[stage]['passed']:5d} passed {row[stage]['failed']:3d} failed"
              f" {row[stage]['seconds']:6d} s", flush=True)  # fmt: skip
        for line in row[stage]["which"]:
            print(f"      {line}", flush=True)
    return row


VERSIONS = """
import json, platform
from importlib.metadata import version, PackageNotFoundError
found = {"python": platform.python_version()}
for name in ("numpy", "scipy", "numba", "llvmlite", "torch", "ml_dtypes", "scikit-learn", "cvxpy", "clarabel"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", help="names of profiles; all of them when none is named")
    parser.add_argument("--stage", action="append", choices=STAGES, help="may be given more than once; all by default")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS", "2")))
    parser.add_argument("--list", action="store_true", help="the profiles and what they set")
    given = parser.parse_args()
    known = {profile.name: profile for profile in PROFILES}
    unknown = [name for name in given.profiles if name not in known]
    if unknown:
        parser.error(f"no profile {', '.join(unknown)}; there are {', '.join(known)}")
    if given.list:
        for profile in PROFILES:
            more = " ".join(filter(None, [profile.python and f"Python {profile.python}", profile.packages]))
            print(
                f"{profile.name}: {more}",
                *(f"{name}={value}" for name, value in profile.variables.items()),
                sep="\n    ",
            )
        return 0
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        record = {"rows": []}
    rows = {row["profile"]: row for row in record["rows"]}
    for name in given.profiles or known:
        rows[name] = measure(known[name], given.stage or STAGES, given.jobs, rows.get(name, {}))
        order = [profile.name for profile in PROFILES]
        kept = sorted(rows.values(), key=lambda row: order.index(row["profile"]) if row["profile"] in order else 99)
        made = provenance("python tools/portability.py")
        write_json(RECORD, {"provenance": made, "rows": kept})
    failed = sum(row.get(stage, {}).get("failed", 0) for row in rows.values() for stage in STAGES)
    print(f"{len(rows)} profiles in {RECORD.relative_to(ROOT)}, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
