"""The pages of the library: a room has one, what is public is on it, and a docstring is shown as it was meant."""

import re
from pathlib import Path

import library
import public
import pytest
from chapters import Book
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
ROOMS = public.rooms()


def shown(text, names=None):
    return library.Text(names or {}).docstring(text)


def test_every_room_has_a_page_in_the_table_of_contents_and_the_page_makes_it():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book" / "library").glob("*.md")}
    assert set(pages) == set(ROOMS)
    assert {page for page in Book(ROOT).toc() if page.startswith("book/library/")} == {
        f"book/library/{r}" for r in ROOMS
    }
    assert {room: re.findall(r"^```\{library\} (\w+)$", text, re.M) for room, text in pages.items()} == {
        room: [room] for room in ROOMS
    }


@pytest.mark.parametrize("room", ["formats", "sparsity", "subset_sum", "random", "statistics", "tickets"])
def test_whatever_a_room_exports_is_on_its_page_and_what_can_be_called_says_how(room):
    module = __import__(f"prunequant.{room}", fromlist=["x"])
    found = {entry.name: entry for entry in public.walk(room)}
    assert {f"{room}.{name}" for name in getattr(module, "__all__", ())} <= set(found)
    for entry in found.values():
        if entry.kind == "function":
            assert public.signature(entry).startswith(f"{entry.short}("), entry.name
        assert entry.kind in ("module", "data") or library.written(entry.thing), f"{entry.name} has no docstring"


def test_a_signature_stands_as_it_was_written():
    found = {entry.name: public.signature(entry) for entry in public.walk("formats") if entry.kind != "data"}
    assert found["formats.HBFP"] == "HBFP(bits: int, block: int = 64)"
    assert found["formats.Encoded"].splitlines()[1:4] == [
        "    codes: NDArray,",
        "    scales: NDArray,",
        "    axis: int,",
    ]
    solve = next(public.signature(entry) for entry in public.walk("subset_sum") if entry.short == "solve")
    assert solve == "solve(x: NDArray[np.int64], target: int) -> NDArray[np.bool_] | None"


def test_a_docstring_in_numpys_layout_becomes_terms_paragraphs_and_examples():
    made = shown(
        "A sum, |x| <= 2**40 and `pack` of ``k*``.\n\nParameters\n----------\nx, y : (n,) integers,\n    signed\n"
        "z : int\n    The place.\n\nReturns\n-------\n(n,) bool\n\nExamples\n--------\n>>> 1\n1\n",
        {"pack": "formats.pack"},
    )
    assert [type(node).__name__ for node in made] == [
        "paragraph", "paragraph", "definition_list", "paragraph", "paragraph", "paragraph", "literal_block",
    ]  # fmt: skip
    assert made[0].astext() == "A sum, |x| <= 2**40 and pack of k*."
    assert next(iter(made[0].findall(nodes.reference)))["refid"] == "formats.pack"
    assert [term.astext() for term in made[2].findall(nodes.term)] == ["x, y", "z"]
    assert [body.astext() for body in made[2].findall(nodes.definition)] == [
        "(n,) integers, signed",
        "int\n\nThe place.",
    ]
    assert made[6].astext() == ">>> 1\n1"


def test_lists_and_indented_pieces_of_a_docstring_keep_their_lines():
    made = shown("Four:\n\n* one, which\n  goes on\n* two\n\nNames:\n\n    a   1\n    b   2\n\nwhich are: \n* x\n* y")
    kinds = [type(node).__name__ for node in made]
    assert kinds == ["paragraph", "bullet_list", "paragraph", "literal_block", "paragraph", "bullet_list"]
    assert [item.astext() for item in made[1].findall(nodes.list_item)] == ["one, which goes on", "two"]
    assert made[3].astext() == "a   1\nb   2"


def test_formulas_and_stress_are_seen_and_products_and_powers_are_not():
    (made,) = shown("The *measured* error $|Xw-q|_i$ of **all** is a*b*c, 2**3 * 2**4, for $5 and *args, **options.")
    kinds = [type(node).__name__ for node in made.children if not isinstance(node, nodes.Text)]
    assert kinds == ["emphasis", "math", "strong"]
    assert made.astext().endswith(" is a*b*c, 2**3 * 2**4, for $5 and *args, **options.")
