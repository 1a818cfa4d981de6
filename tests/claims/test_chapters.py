"""Claims are found by walking the chapters' modules: nothing is skipped, nothing is imported that is not asked for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from prunequant.claims.chapters import files, read_index

BOOK = Path(__file__).resolve().parents[2] / "book"

DECLARED = '@claim(\n    id="{}",\n)\ndef check(budget): ...\n'


@pytest.fixture
def tree(tmp_path):
    """A package of claims: what each file holds, by its path."""

    def tree(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return tree


def test_claims_are_listed_by_part_chapter_and_line(tree):
    two = DECLARED.format("ours.c") + DECLARED.format("ours.a")
    folder = tree(cases__x=DECLARED.format("ours.d"), tickets__b=two, tickets__a=DECLARED.format("ours.b"))
    assert list(read_index(folder).items()) == [
        ("ours.b", "prunequant.claims.tickets.a"),
        ("ours.c", "prunequant.claims.tickets.b"),
        ("ours.a", "prunequant.claims.tickets.b"),
        ("ours.d", "prunequant.claims.cases.x"),
    ]


def test_a_module_of_a_part_without_a_claim_is_an_error(tree):
    with pytest.raises(ValueError, match=r"claims/tickets/helpers\.py declares no claim"):
        read_index(tree(tickets__helpers="def f(): ...\n"))


@pytest.mark.parametrize("name", ["flat", "misspelt__x", "tickets__deeper__x"])
def test_a_claim_outside_the_chapters_is_an_error(tree, name):
    with pytest.raises(ValueError, match=r"must stand in claims/PART/CHAPTER\.py"):
        read_index(tree(**{name: DECLARED.format("ours.a")}))


@pytest.mark.parametrize("declared", ['title="a",\n    id="ours.a"', 'id=f"{PAPER}.a"', "id=NAME"])
def test_an_id_that_cannot_be_read_is_an_error(tree, declared):
    with pytest.raises(ValueError, match="a declaration begins"):
        read_index(
            tree(tickets__a=DECLARED.format("ours.b") + f"@claim(\n    {declared},\n)\ndef check(budget): ...\n")
        )


def test_an_id_in_two_modules_is_an_error_that_names_both(tree):
    with pytest.raises(ValueError, match=r"stands twice: in .*tickets\.a and in .*tickets\.b"):
        read_index(tree(tickets__a=DECLARED.format("ours.a"), tickets__b=DECLARED.format("ours.a")))


def loaded_after(code):
    """The modules of chapters' claims that a process has imported after this code."""
    program = f"import sys\nfrom prunequant import claims\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = [name.removeprefix("prunequant.claims.") for name in done.stdout.split() if "prunequant.claims." in name]
    return [name for name in modules if "." in name]


@pytest.mark.parametrize(
    "code", ["claims.show('kumar2025.lemma2')", "claims.check('kumar2025.lemma2', claims.Budget.QUICK)"]
)
def test_one_claim_is_shown_or_checked_by_importing_its_chapter_alone(code):
    assert loaded_after(code) == ["tickets.subset_sums"]


def test_ids_and_their_number_need_no_import():
    assert loaded_after("assert len(list(claims.registry())) == len(claims.registry()) > 60") == []
    assert loaded_after("assert 'kumar2025.lemma2' in claims.registry() and 'ours.x' not in claims.registry()") == []


def test_a_new_claim_changes_every_page_that_counts_all_claims_or_lists_them():
    of_all = re.compile(r"claims\.tally\(|registry\(\)\.values\(\)|\bkinds\(")
    pages = {
        path.relative_to(BOOK).with_suffix("").as_posix()
        for path in BOOK.rglob("*.md")
        if of_all.search(path.read_text(encoding="utf-8"))
    }
    assert {"index", "ledger"} <= pages
    assert {f"book/reference/{page}.ipynb" for page in pages} <= set(files("tickets/subset-sums"))
