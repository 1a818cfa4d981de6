"""A chapter runs wherever it lies: no cell reads a file of the repository by its place."""

import ast
import re
from pathlib import Path

import pytest
from chapters import Book

CHAPTERS = Book(Path(__file__).resolve().parents[2]).chapters()

FILES = {"glob", "io", "os", "pathlib", "shutil", "tempfile"}
READERS = {"read_text", "read_bytes", "write_text", "write_bytes", "loadtxt", "genfromtxt", "fromfile", "savefig"}
PLACE = re.compile(
    r"(\.{1,2}/|~/|/(home|root|tmp|usr|etc|work|Users)/|(book|results|data|src|tests|tools|benchmarks|_build)/)"
)


def places(code):
    """What a cell does with files in a place of its own choice: (line, what)."""
    tree = ast.parse(code)
    # A page may link upwards (`up="../"`), and a name is read through the package alone.
    links = {id(keyword.value) for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords
             if keyword.arg == "up"}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] in FILES - {"io"})
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FILES:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in READERS or (isinstance(node.func, ast.Name) and called == "open"):
                yield node.lineno, f"{called}()"
        elif isinstance(node, ast.Name) and node.id == "__file__":
            yield node.lineno, "__file__"
        elif isinstance(node, ast.Attribute) and node.attr == "__file__":
            yield node.lineno, "__file__"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in links:
            if PLACE.match(node.value) and " " not in node.value:
                yield node.lineno, node.value


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_no_cell_reads_a_file_by_its_place(chapter):
    cells = [cell for cell in chapter.read().cells if cell.cell_type == "code"]
    found = [(number, *place) for number, cell in enumerate(cells) for place in places(cell.source)]
    assert not found, "(cell, line, what): read it by name, with prunequant.records"


@pytest.mark.parametrize(
    "code",
    [
        "from pathlib import Path",
        "import os.path",
        'open("ledger.json")',
        'root.joinpath("x").read_text()',
        'records.read("../results/ledger.json")',
        'where = "book/results"[:3] or "results/x.json"',
        "here = prunequant.__file__",
        "np.loadtxt(name)",
    ],
)
def test_the_check_sees(code):
    assert list(places(code))


@pytest.mark.parametrize(
    "code",
    [
        'record = records.read("ledger.json")',
        'claims.table(ids, up="../")',
        "import io",
        'label = "data / weights"',
        'print("/ bits")',
        "ratio = one / two",
    ],
)
def test_the_check_lets_pass(code):
    assert not list(places(code))
