"""The house keeps its shape: imports go down, the door is light, kernels state their flags, functions stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "prunequant"
MODULES = sorted(path for path in SRC.rglob("*.py"))
NAMES = [path.relative_to(SRC).as_posix() for path in MODULES]

# A room may import rooms on lower floors, and itself.
FLOORS = (
    ("arguments",),
    ("extras", "records", "kernel_cache", "_parallel", "threads"),
    ("random", "statistics", "tolerance", "experiments", "pages"),
    ("formats",),
    ("sparsity",),
    ("subset_sum", "path_following", "distortion"),
    ("optimum",),
    ("tickets", "interplay"),
    ("models", "timing"),
    ("finetune",),
    ("cases",),
    ("studies",),
    ("claims",),
    ("cli",),
    ("warm",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = ("torch", "matplotlib", "cvxpy")
# Modules with kernels that may relax floating point, the flags they may use, and why no printed figure depends on it.
# `fastmath=True` is never allowed: it also assumes that no value is NaN or infinite.
FASTMATH_ALLOWED = {
    "path_following/_kernels.py": ({"contract"}, "a·b + c rounded once; the order of the sums stays fixed"),
    "formats/_kernels_error.py": (
        {"reassoc", "contract"},
        "short float32 runs added in float64: good to 1e-6",
    ),
    "distortion/_kernels.py": (
        {"nnan", "nsz", "reassoc", "contract"},
        "sums of squares of validated, finite magnitudes, good to far more digits than are printed",
    ),
}
LONGEST = 80


def room_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(path):
    """Rooms of the package imported anywhere in a module, inside functions too, with the line."""
    package = ["prunequant", *path.relative_to(SRC).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "prunequant" and len(parts) > 1 and parts[1] in FLOOR:
                yield parts[1], node.lineno


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert rooms <= set(FLOOR), f"give {rooms - set(FLOOR)} a floor"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_go_down_only(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for other, line in imports_of(path):
        assert other == room or FLOOR[other] < FLOOR[room], (
            f"{path}:{line}: {room} imports {other}, which is not below it"
        )


def test_the_floor_check_sees_relative_and_lazy_imports(tmp_path):
    seen = {other for path in MODULES for other, _ in imports_of(path)}
    assert "random" in seen and "claims" in seen


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_nothing_in_the_library_reads_the_book_or_the_tests(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] not in ("book", "tests", "tools", "benchmarks")


def loaded_after(code):
    program = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import prunequant") == []


def test_every_room_can_be_imported_without_torch_matplotlib_or_cvxpy():
    rooms = sorted({room_of(path) for path in MODULES} - {"__init__", "__main__"})
    assert (
        loaded_after("from importlib import import_module\n" + f"for r in {rooms!r}: import_module('prunequant.' + r)")
        == []
    )


def compiled(path):
    """Every use of a numba decorator: its name, the keywords it is given, the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            target = call.func if call else decorator
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name in ("njit", "jit", "vectorize", "guvectorize", "generated_jit"):
                yield node, (call.keywords if call else []), (call.args if call else [])


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_every_kernel_is_kept_on_the_disk_compiled_lazily_and_without_fastmath(path):
    for function, keywords, positional in compiled(path):
        where = f"{path}:{function.lineno}: {function.name}"
        given = {keyword.arg: keyword.value for keyword in keywords}
        cache = given.get("cache")
        assert isinstance(cache, ast.Constant) and cache.value is True, f"{where}: state cache=True"
        assert not positional, f"{where}: no eager signature, it compiles at import"
        fastmath = given.get("fastmath")
        if fastmath is not None and not (isinstance(fastmath, ast.Constant) and fastmath.value is False):
            allowed, _ = FASTMATH_ALLOWED.get(path.relative_to(SRC).as_posix(), (set(), ""))
            flags = ast.literal_eval(fastmath)
            assert isinstance(flags, set) and flags <= allowed, f"{where}: fastmath={flags} needs a reason in the list"
        if "parallel" in given:
            outermost = function.decorator_list[0]
            assert isinstance(outermost, ast.Name) and outermost.id == "one_at_a_time", (
                f"{where}: a parallel kernel stands behind _parallel.one_at_a_time"
            )


@pytest.mark.parametrize("path", [path for path in MODULES if path.name.startswith("_kernels")], ids=str)
def test_every_module_of_kernels_is_warmed(path):
    package = path.parent / "__init__.py"
    siblings = [module for module in path.parent.glob("_kernels*.py") if "\ndef warm(" in module.read_text()]
    covered = (package.is_file() and "\ndef warm(" in package.read_text()) or any(
        module == path or path.stem in module.read_text() for module in siblings
    )
    assert covered, f"{path} has kernels that no warm() calls"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_function_fits_in_the_head(path):
    """A module is as long as its idea; a function can be read without scrolling (its docstring apart)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1
            assert lines <= LONGEST, f"{path}:{node.lineno}: {node.name} has {lines} lines, {LONGEST} are allowed"
