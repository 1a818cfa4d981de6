"""What a reader sees uses what a reader can see: no name of a shown cell is defined in a removed one alone."""

import builtins
import symtable
from pathlib import Path

import pytest
from chapters import Book, tags

CHAPTERS = Book(Path(__file__).resolve().parents[2]).chapters()

REMOVED = {"remove-cell", "remove-input"}  # a cell tagged hide-input opens on a click: it counts as shown
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
