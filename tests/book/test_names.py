"""What a reader sees uses what a reader can see: names of shown cells alone, and public ones of the package."""

import ast
import builtins
import re
import symtable
from pathlib import Path

import pytest
from chapters import Book, tags

CHAPTERS = Book(Path(__file__).resolve().parents[2]).chapters()

REMOVED = {"remove-cell", "remove-input"}  # a cell tagged hide-input opens on a click: it counts as shown
PRIVATE = re.compile(r"_(?!_)")
GIVEN = {*dir(builtins), "get_ipython", "display"}


def names(code):
    """The global names that a cell defines, and those that it uses."""
    defined, used = set(), set()

    def walk(table, top):
        for symbol in table.get_symbols():
            mine = top or symbol.is_global()
            if mine and (symbol.is_assigned() or symbol.is_imported()):
                defined.add(symbol.get_name())
            if mine and symbol.is_referenced():
                used.add(symbol.get_name())
        for child in table.get_children():
            walk(child, False)

    walk(symtable.symtable(code, "cell", "exec"), True)
    return defined, used


def unseen(cells):
    """(cell, name) wherever a shown cell uses what no shown cell up to it defines; cells are (code, tags)."""
    seen, found = set(GIVEN), []
    for number, (code, marks) in enumerate(cells):
        if REMOVED & set(marks):
            continue
        defined, used = names(code)
        seen |= defined
        found += [(number, name) for name in sorted(used - seen)]
    return found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_every_name_of_a_shown_cell_is_defined_where_a_reader_can_see_it(chapter):
    cells = [(cell.source, tags(cell)) for cell in chapter.read().cells if cell.cell_type == "code"]
    assert unseen(cells) == []


@pytest.mark.parametrize(
    ("first", "marks", "second", "found"),
    [
        ("import numpy as np", ["remove-cell"], "np.ones(2)", ["np"]),
        ("a = 1", ["remove-input"], "def f(x):\n    return a * x", ["a"]),
        ("def f(): ...", ["remove-cell"], "[f() for _ in range(2)]", ["f"]),
        ("a = 1", ["remove-cell"], "a = 2\nprint(a)", []),
        ("a = 1", ["hide-input"], "print(a)", []),
        ("from numpy import ones as a", [], "print(f'{a}')", []),
        ("a = 1", ["remove-cell"], "def f(a):\n    return a", []),
    ],
)
def test_the_check_sees_names_of_removed_cells_alone(first, marks, second, found):
    assert unseen([(first, marks), (second, [])]) == [(1, name) for name in found]


def private(code):
    """Names with an underscore that a cell takes from the package, imported or as an attribute of what it imported."""
    tree, known, found = ast.parse(code), set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for alias in node.names:
                parts = [*(module.split(".") if module else []), *alias.name.split(".")]
                if parts[0] == "prunequant":
                    known.add((alias.asname or alias.name).split(".")[0])
                    found += [part for part in parts if PRIVATE.match(part)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.match(node.attr):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in known:
                found.append(node.attr)
    return found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_a_cell_takes_no_private_name_of_the_package(chapter):
    cells = [cell.source for cell in chapter.read().cells if cell.cell_type == "code"]
    assert [name for code in cells for name in private(code)] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from prunequant.optimum import _kernels", ["_kernels"]),
        ("from prunequant.optimum._kernels import babai", ["_kernels"]),
        ("import prunequant.optimum._kernels as k", ["_kernels"]),
        ("from prunequant import optimum\noptimum._kernels.babai", ["_kernels"]),
        ("from prunequant import optimum\noptimum.__doc__, _mine", []),
        ("import os\nos._exit", []),
    ],
)
def test_the_check_sees_private_names_imported_or_as_attributes(code, found):
    assert private(code) == found
