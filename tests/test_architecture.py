"""The house keeps its shape: imports go down, the door is light, kernels state their flags, functions stay small."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "prunequant"
MODULES = sorted(path for path in SRC.rglob("*.py"))
NAMES = [path.relative_to(SRC).as_posix() for path in MODULES]

CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def floors(text):
    """The rooms that CONTRIBUTING draws, from the lowest floor up: a line a room, a blank line between two floors."""
    drawn = re.search(r"## Where a line of code lives.*?```\n(.*?)```", text, re.DOTALL).group(1)
    return tuple(tuple(line.split()[0] for line in floor.splitlines()) for floor in drawn.strip().split("\n\n"))


# A room may import rooms on lower floors, and itself.
FLOORS = floors(CONTRIBUTING.read_text(encoding="utf-8"))
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
    "checkpoint/_kernels.py": (
        {"reassoc", "contract"},
        "short float32 runs added in float64: good to 1e-6",
    ),
    "distortion/_kernels.py": (
        {"nnan", "nsz", "reassoc", "contract"},
        "sums of squares of validated, finite magnitudes, good to far more digits than are printed",
    ),
}
LONGEST = 80
# Rooms that still take a name with an underscore from another room, (taker, owner). Strike out what is mended.
NOT_YET: set[tuple[str, str]] = set()


def room_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def loaded_by_name(node):
    """The module in `import_module("a.b")` or `need("a")`, whose name an import statement would show; else nothing."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "need"):
        return [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)][:1]
    return []


def names_of(path, text=None):
    """What a module imports of the package, inside functions too: the parts of it, its name there, the line."""
    package = ["prunequant", *path.relative_to(SRC).parent.parts]
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            base, aliases = [], node.names
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base, aliases = [*base, *(node.module.split(".") if node.module else [])], node.names
        else:
            base, aliases = [], [ast.alias(name) for name in loaded_by_name(node)]
        for alias in aliases:
            parts = [*base, *alias.name.split(".")]
            if parts[0] == "prunequant" and len(parts) > 1 and parts[1] in FLOOR:
                yield parts, alias.asname or alias.name, node.lineno


def imports_of(path):
    """Rooms of the package imported anywhere in a module, inside functions too, with the line."""
    for parts, _, line in names_of(path):
        yield parts[1], line


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_of(path, text=None):
    """Names and modules with an underscore that a module takes from another room, imported or as an attribute."""
    room, known = room_of(path), {}
    for parts, name, line in names_of(path, text):
        if parts[1] != room:
            known[name] = parts
            if any(is_private(part) for part in parts[2:]):
                yield parts[1], ".".join(parts), line
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            first, *rest = ast.unparse(node).split(".")
            taken = [*known.get(first, [first]), *rest]
            if taken[0] == "prunequant" and taken[1] in FLOOR and taken[1] != room:
                yield taken[1], ".".join(taken), node.lineno


def test_the_rooms_are_those_that_contributing_draws_each_with_a_line():
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert rooms == set(FLOOR) and len(FLOOR) == sum(map(len, FLOORS))


def test_rooms_of_algorithms_import_neither_torch_nor_scikit_learn():
    algorithms = {room for room in FLOOR if FLOOR[room] <= FLOOR["interplay"]} - {"extras", "threads", "pages"}
    for path in MODULES:
        if room_of(path) in algorithms and path.name != "_torch.py":
            tree = ast.parse(path.read_text())
            typed = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
            typing_only = {id(node) for block in typed for node in ast.walk(block)}  # for checkers of types, never run
            for node in ast.walk(tree):
                if id(node) in typing_only:
                    continue
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                names += loaded_by_name(node)
                assert not {name.split(".")[0] for name in names} & {"torch", "sklearn"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_go_down_only(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for other, line in imports_of(path):
        assert other == room or FLOOR[other] < FLOOR[room], (
            f"{path}:{line}: {room} imports {other}, which is not below it"
        )


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_name_with_an_underscore_is_taken_across_rooms(path):
    room = room_of(path)
    for other, name, line in private_of(path):
        assert (room, other) in NOT_YET, f"{path}:{line}: {room} takes {name}, which is private to {other}"


def test_the_check_of_private_names_sees_modules_names_and_attributes():
    path = SRC / "interplay" / "orders.py"
    for text in (
        "from prunequant.formats import _torch",
        "from prunequant.formats._torch import quantize",
        "from ..sparsity.masks import _scores as scores",
        "def f():\n    import prunequant.sparsity._kernels",
        "from prunequant.sparsity import masks as m\nm._scores",
        "from prunequant import sparsity\nsparsity.masks._scores(x)",
        "import prunequant.sparsity\nprunequant.sparsity.masks._scores",
        "importlib.import_module('prunequant.sparsity._kernels')",
    ):
        assert [other for other, _, _ in private_of(path, text)] in (["formats"], ["sparsity"]), text
    for text in (
        "from prunequant.interplay import _a",
        "from prunequant.formats import __doc__",
        "import os\nos._exit",
    ):
        assert list(private_of(path, text)) == []


def test_the_floor_check_sees_relative_and_lazy_imports():
    path = SRC / "formats" / "base.py"
    for text in (
        "from prunequant.tickets import plan",
        "from ..tickets import plan",
        "def f():\n    import prunequant.tickets.plan",
        "import_module('prunequant.tickets.plan')",
    ):
        assert [parts[1] for parts, _, _ in names_of(path, text)] == ["tickets"], text


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_nothing_in_the_library_reads_the_book_or_the_tests(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] not in ("book", "tests", "tools", "benchmarks")


def loaded_after(code, names=HEAVY):
    program = f"import sys\n{code}\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import prunequant") == []


def test_what_a_report_on_a_model_needs_loads_no_part_of_scipy_that_takes_a_second():
    code = "import prunequant.cli, prunequant.checkpoint as c; c.report.__module__"
    code += "; from prunequant import distortion; distortion.equal_size_keep(4.25, 'entropy')"
    assert loaded_after(code, ("scipy.optimize", "scipy.special", "scipy.stats")) == []


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
                f"{where}: a parallel kernel stands behind parallel.one_at_a_time"
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


def dotted(path, src=SRC):
    """The name of a module: formats/base.py is prunequant.formats.base, formats/__init__.py is prunequant.formats."""
    parts = ["prunequant", *path.relative_to(src).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names_imported(path, src=SRC):
    """Everything of the package imported anywhere in a module, inside functions too: dotted names with their lines.

    Left out is the `__getattr__` by which a package loads what it offers when it is first asked for.
    """
    package = ["prunequant", *path.relative_to(src).parent.parts]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"]
    left_out = {id(node) for function in lazy for node in ast.walk(function)} if path.name == "__init__.py" else set()
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            names = loaded_by_name(node)
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "prunequant")


# Two modules hand a torch tensor over to a module that stands on them; it is loaded when the first tensor comes.
LATE = {
    ("prunequant.formats.base", "prunequant.formats._torch"),
    ("prunequant.sparsity.masks", "prunequant.sparsity._torch"),
}


def modules_imported(src=SRC):
    """For each module the modules of the package that it imports."""
    paths = {dotted(path, src): path for path in src.rglob("*.py")}
    graph = {}
    for module, path in paths.items():
        found = {name if name in paths else name.rpartition(".")[0] for name, _ in names_imported(path, src)}
        graph[module] = (found & set(paths)) - {module}
    return graph


def circles(graph):
    """What remains when modules that import nothing, or are imported by nothing, are taken away again and again."""
    left = {module: set(others) for module, others in graph.items()}
    while True:
        wanted = set().union(*left.values()) if left else set()
        ends = {module for module, others in left.items() if not others or module not in wanted}
        if not ends:
            return left
        left = {module: others - ends for module, others in left.items() if module not in ends}


def test_no_two_modules_import_each_other_not_even_inside_functions():
    graph = modules_imported()
    assert all(late in graph[early] for early, late in LATE), "strike out what is no longer so"
    assert circles({m: others - {late for early, late in LATE if early == m} for m, others in graph.items()}) == {}


def test_the_circle_check_sees_relative_imports_and_those_inside_functions(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("def __getattr__(name):\n    from .lower import thing\n    return thing\n")
    (room / "lower.py").write_text("from prunequant import room\n\nthing = 1\n")
    (room / "upper.py").write_text("from .lower import thing\n")
    assert circles(modules_imported(tmp_path)) == {}
    for late in ("from .upper import thing", "thing = importlib.import_module('prunequant.room.upper')"):
        (room / "lower.py").write_text(f"def later():\n    {late}\n    return thing\n")
        assert circles(modules_imported(tmp_path)) == {
            "prunequant.room.lower": {"prunequant.room.upper"},
            "prunequant.room.upper": {"prunequant.room.lower"},
        }
