"""Would a claim turn red? The code that it is about is changed, one small change at a time, and asked again.

    python tools/mutate.py                            three changes for each claim, into book/results/mutations.json
    python tools/mutate.py kumar2025.lemma2 --per 10   more, for one claim
    python tools/mutate.py --again                    those that nothing noticed and nobody explained, once more
    python tools/mutate.py --list kumar2025.lemma2     the functions that a claim runs, nothing is changed

Which functions a claim runs is seen by running it; the kernels that they call are among them. The changes are made by
cosmic-ray's operators (another number, another sign, another comparison, a condition turned round), drawn with a seed.
A change counts as noticed by the *claim* when its verdict contradicts its evidence, or the check raises or does not
end; by the *ledger* when a printed figure differs; by the *tests* when a unit test of the changed room fails. What
nothing notices survives, and is named with the reason that a person gave, if one did.

Everything runs on copies of the package, one for each process; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from queue import SimpleQueue

from chapters import ROOT

from prunequant.records import provenance, write_json

RECORD = ROOT / "book" / "results" / "mutations.json"
FOLDER = ROOT / "_build" / "mutants"
ROOMS = ("random", "statistics", "formats", "sparsity", "subset_sum", "path_following", "distortion", "optimum",
         "tickets", "interplay", "models", "studies", "cases", "finetune", "tolerance")  # fmt: skip
BINARY = (("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"))
COMPARISON = (("Lt", "LtE"), ("LtE", "Lt"), ("Gt", "GtE"), ("GtE", "Gt"), ("Eq", "NotEq"), ("NotEq", "Eq"),
              ("Lt", "Gt"), ("Gt", "Lt"))  # fmt: skip
OPERATORS = (
    "core/NumberReplacer",
    *(f"core/ReplaceBinaryOperator_{a}_{b}" for a, b in BINARY),
    *(f"core/ReplaceComparisonOperator_{a}_{b}" for a, b in COMPARISON),
    "core/ReplaceUnaryOperator_USub_UAdd",
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/AddNot",
)
SECONDS = 180  # what a claim may take; one that takes longer does not end
TRACE = """
import json, sys
from types import ModuleType
from prunequant.claims import Budget, run
import prunequant
top = prunequant.__path__[0]
seen, kernels = {}, {}

def kernel(function):
    code = function.py_func.__code__
    if code in kernels or not code.co_filename.startswith(top):
        return
    kernels[code] = function.py_func.__globals__
    called(code, function.py_func.__globals__)

def called(code, names):
    modules = [value for value in names.values() if isinstance(value, ModuleType)]
    for name in code.co_names:
        for value in (names.get(name), *(getattr(module, name, None) for module in modules)):
            if hasattr(value, "py_func") and hasattr(value.py_func, "__code__"):
                kernel(value)

def watch(frame, event, argument):
    code = frame.f_code
    if event == "call" and code not in seen and code.co_filename.startswith(top):
        seen[code] = frame.f_globals

run(sys.argv[1], Budget.QUICK)  # once before: what compiling calls is not what the claim runs
sys.setprofile(watch)
run(sys.argv[1], Budget.QUICK)
sys.setprofile(None)
for code, names in list(seen.items()):
    called(code, names)
rows = []
for code in (*seen, *kernels):
    lines = [line for *_, line in code.co_lines() if line]
    if not code.co_name.startswith("<") and lines:
        rows.append([code.co_filename[len(top) + 1:], code.co_qualname, min(lines), max(lines)])
print(json.dumps(sorted(set(map(tuple, rows)))))
"""


def environment(source: Path, cache: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}


def functions(claim: str) -> list[tuple[str, str, int, int]]:
    """(file below the package, function, first line, last line) of everything in `ROOMS` that a claim runs."""
    run = subprocess.run(
        [sys.executable, "-c", TRACE, claim],
        capture_output=True, text=True, check=True, env=environment(ROOT / "src", compiled()),
    )  # fmt: skip
    return [tuple(row) for row in json.loads(run.stdout.splitlines()[-1]) if room(row[0]) in ROOMS]


def room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def compiled() -> Path:
    """Where the checkout's kernels are kept."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or ROOT / "_build" / "numba")


def positions(text: str, operator) -> Iterator[int]:
    """The line of each place where an operator could change a text, in the order of its occurrences."""
    from cosmic_ray.ast import ast_nodes, get_ast

    for node in ast_nodes(get_ast(text)):
        for start, _ in operator.mutation_positions(node):
            yield start[0]


def changes(claim: str, count: int, seed: int) -> list[dict]:
    """`count` changes of the code that a claim runs, no two in the same line, drawn with a seed."""
    from cosmic_ray.plugins import get_operator

    found: list[dict] = []
    ran = functions(claim)
    for file in sorted({file for file, *_ in ran}):
        text = (ROOT / "src" / "prunequant" / file).read_text(encoding="utf-8")
        inside = [(name, first, last) for f, name, first, last in ran if f == file]
        for name in OPERATORS:
            for occurrence, line in enumerate(positions(text, get_operator(name)())):
                # The first line of a function holds its defaults and annotations: a call with arguments runs neither.
                where = [function for function, first, last in inside if first < line <= last]
                if where:
                    found.append({"file": file, "function": where[-1], "line": line, "operator": name,
                                  "occurrence": occurrence})  # fmt: skip
    draw = random.Random(f"{seed}:{claim}")
    draw.shuffle(found)
    chosen, lines, names = [], set(), {}
    for change in found:  # first one a function, then more
        if names.get((change["file"], change["function"]), 0) <= len(chosen) // max(1, len({f[1] for f in ran})):
            key = (change["file"], change["line"])
            if key not in lines:
                lines.add(key)
                names[change["file"], change["function"]] = names.get((change["file"], change["function"]), 0) + 1
                chosen.append(change)
        if len(chosen) == count:
            break
    return chosen


@cache
def imports() -> dict[str, set[str]]:
    """File of the package: the files of the package that it imports; a name that is no file may be any of its room."""
    top = ROOT / "src" / "prunequant"
    files = {path.relative_to(top).as_posix() for path in top.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for file in files:
        package = ["prunequant", *file.split("/")[:-1]]
        paths = []
        for node in ast.walk(ast.parse((top / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                above = package[: len(package) + 1 - node.level] if node.level else []
                module = [*above, *(node.module or "").split(".")] if node.module else above
                if module[:1] == ["prunequant"]:
                    paths += ["/".join([*module[1:], alias.name]) for alias in node.names]
        found[file] = set()
        for path in paths:
            own = {f"{path}.py", f"{path.rpartition('/')[0]}.py"} & files
            found[file] |= own or {f for f in files if f.startswith(f"{path.partition('/')[0]}/")}
    return found


def dependents(file: str) -> set[str]:
    """The file itself and every file whose code can call it, through others or not."""
    found, new = set(), {file}
    while new:
        found |= new
        new = {f for f, names in imports().items() if names & new} - found
    return found


def place(number: int) -> Path:
    """A copy of the package as it is, and its compiled kernels: what process `number` changes."""
    where = FOLDER / str(number)
    if not (where / "src").is_dir():
        shutil.copytree(ROOT / "src", where / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        warm = [sys.executable, "-m", "prunequant.warm", "--jobs", "1"]
        subprocess.run(warm, env=environment(where / "src", where / "numba"), check=True, capture_output=True)
    return where


def asked(claim: str, change: dict, where: Path) -> dict:
    """What notices one change: the claim, the ledger, the tests of the room, or nothing."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    original = ROOT / "src" / "prunequant" / change["file"]
    file = where / "src" / "prunequant" / change["file"]
    text = original.read_text(encoding="utf-8")
    mutant = mutate_code(text, get_operator(change["operator"])(), change["occurrence"])
    if mutant is None or mutant == text:
        return {**change, "noticed": "no change"}
    before, after = (lines.splitlines()[change["line"] - 1].strip() for lines in (text, mutant))
    stale = {(Path("prunequant", name).parent.name, Path(name).stem) for name in dependents(change["file"])}

    def old(folder: str, names: list[str]) -> list[str]:
        """A kernel that has inlined the changed one would answer from its cache: what can call it is compiled anew."""
        return [name for name in names if (Path(folder).name.rpartition("_")[0], name.partition(".")[0]) in stale]

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="prunequant-") as folder:
        kernels = Path(folder) / "numba"
        shutil.copytree(where / "numba", kernels, ignore=old)
        env = environment(where / "src", kernels)
        file.write_text(mutant, encoding="utf-8")
        try:
            noticed = by_claim(claim, env) or by_tests(change["file"], env)
        finally:
            shutil.copy2(original, file)  # with its time, by which compiled kernels know it
    return {
        **change,
        "before": before,
        "after": after,
        "noticed": noticed,
        "seconds": round(time.perf_counter() - start),
    }


def by_claim(claim: str, env: dict[str, str]) -> str:
    ledger = ROOT / "book" / "results" / "ledger.json"
    command = [sys.executable, "-m", "prunequant.cli", "verify", claim]
    try:
        alone = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
        if alone.returncode:
            return "claim"
        compared = subprocess.run(
            [*command, "--against", str(ledger)], env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "claim"
    return "ledger" if compared.returncode else ""


def by_tests(file: str, env: dict[str, str]) -> str:
    """The unit tests of the module first, then those of its room."""
    name = Path(file).stem.removeprefix("_")
    folder = ROOT / "tests" / room(file)
    whole = folder if folder.is_dir() else ROOT / "tests" / f"test_{room(file)}.py"
    own = [path for path in (folder / f"test_{name}.py",) if path.is_file()]
    for where in (*own, whole):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not claim",
                   str(where)]  # fmt: skip
        try:
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=10 * SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return "tests"
        if done.returncode not in (0, 5):  # 5: no test was collected; a crash is noticed too
            return "tests"
    return ""


def key(claim: str, change: dict) -> str:
    """What makes a row of the record the answer to this question: the change, and the text that it was made in."""
    text = (ROOT / "src" / "prunequant" / change["file"]).read_text(encoding="utf-8")
    name = f"{claim} {change['file']} {change['operator']} {change['occurrence']} {text}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def main() -> int:
    from prunequant.claims import registry

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", help="ids; all when none is named")
    parser.add_argument("--per", type=int, default=3, help="changes for each claim")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="ask again where nothing noticed and no reason is given")
    parser.add_argument("--list", action="store_true", help="only the functions that a claim runs")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no change is begun")
    parser.add_argument("--jobs", type=int, default=1, help="changes that are tried at a time")
    given = parser.parse_args()
    if given.jobs < 1:
        parser.error(f"--jobs is {given.jobs}: give 1 or more")
    known = list(registry())
    if wrong := [name for name in given.claims if name not in known]:
        parser.error(f"no claim {', '.join(wrong)}")
    chosen = given.claims or known
    if given.list:
        for claim in chosen:
            for file, name, first, last in functions(claim):
                print(f"{claim}: {file}:{first}-{last} {name}")
        return 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["rows"] if RECORD.is_file() else []
    rows = [row for row in rows if row["claim"] in known]
    start = time.perf_counter()
    places: SimpleQueue = SimpleQueue()
    for number in range(given.jobs):
        places.put(number)

    def ask(claim: str, change: dict) -> dict | None:
        if time.perf_counter() - start > given.limit:
            return None
        number = places.get()
        try:
            return asked(claim, change, place(number))
        finally:
            places.put(number)

    todo = []
    for claim in chosen:
        for change in changes(claim, given.per, given.seed):
            same = [row for row in rows if row["key"] == key(claim, change)]
            if not same or (given.again and not same[0]["noticed"] and not same[0].get("why")):
                todo.append((claim, change, same[0].get("why") if same else None))
    print(f"{len(todo)} changes to try", flush=True)
    with ThreadPoolExecutor(given.jobs) as pool:
        waiting = {pool.submit(ask, claim, change): (claim, change, why) for claim, change, why in todo}
        for number, done in enumerate(as_completed(waiting), 1):
            (claim, change, why), outcome = waiting[done], done.result()
            if outcome is None:
                continue
            row = {"claim": claim, "key": key(claim, change), **outcome}
            rows = [r for r in rows if r["key"] != row["key"]] + [row | ({"why": why} if why else {})]
            rows.sort(key=lambda r: (known.index(r["claim"]), r["file"], r["line"], r["operator"]))
            made = provenance("python tools/mutate.py", packages=("cosmic-ray",))
            write_json(RECORD, {"provenance": made, "rows": rows})
            where = f"{number}/{len(todo)} {claim}: {change['file']}:{change['line']}"
            what = f"{row.get('before', '')} -> {row.get('after', '')}"
            print(f"{where} {what}: {row['noticed'] or 'SURVIVES'}", flush=True)
    if time.perf_counter() - start > given.limit:
        print("time is up: run it again to go on")
        return 3
    survivors = [row for row in rows if not row["noticed"] and not row.get("why")]
    print(f"{len(rows)} changes, {len(survivors)} that nothing noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
