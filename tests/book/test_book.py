"""The real book, without executing it: what stands in it is listed, in step, and complete."""

import re
from pathlib import Path

import pytest
import sourcepages
import yaml
from chapters import CELL, Book

ROOT = Path(__file__).resolve().parents[2]
BOOK = Book(ROOT)
CHAPTERS = BOOK.chapters()


def test_every_page_of_the_contents_exists_and_every_page_is_in_the_contents():
    assert set(BOOK.toc()) == set(BOOK.sources())


def test_copies_that_an_editor_keeps_beside_the_chapters_are_no_pages(tmp_path):
    for name in ("book/paths/a.md", "book/paths/.ipynb_checkpoints/a-checkpoint.md", "book/data/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# A\n")
    assert Book(tmp_path).sources() == ["book/paths/a"]


def test_every_part_numbers_its_chapters_for_itself():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    assert "options" not in contents, "numbered at the root numbers nothing: it belongs to each part"
    for part in contents["parts"]:
        assert part.get("numbered") is True or part["caption"] in ("Practice", "The library", "Reference")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_source_and_reference_are_in_step(chapter):
    assert chapter.out_of_step() == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_the_cells_seen_for_change_are_the_cells_that_run(chapter):
    text = chapter.source.read_text()
    cells = [cell for cell in chapter.read().cells if cell.cell_type == "code"]
    assert len(CELL.findall(text)) == len(cells)


def test_no_reference_is_left_without_its_chapter():
    references = set((ROOT / "book" / "reference").rglob("*.ipynb"))
    assert references <= {chapter.reference for chapter in CHAPTERS}


def test_mathjax_is_one_vendored_file_with_its_licence():
    folder = ROOT / "book" / "_static" / "mathjax"
    assert {path.name for path in folder.iterdir()} == {"tex-svg-full.js", "LICENSE"}
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "3.2.2" in (folder / "tex-svg-full.js").read_text()
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["sphinx"]["config"]["mathjax_path"] == "mathjax/tex-svg-full.js"


def test_our_own_style_and_script_load_nothing_from_elsewhere():
    for path in (*(ROOT / "book/_static/css").iterdir(), *(ROOT / "book/_static/js").iterdir()):
        assert not re.search(r"https?://", path.read_text()), path


def test_a_source_page_has_an_anchor_for_each_claim_function_and_line():
    check = '@claim(\n    id="kumar2025.lemma2",\n)\ndef check(budget):\n    return 1 < 2\n'
    text = f"{check}\n\nclass A:\n    def b(self): ...\n"
    page = sourcepages.page("src/x.py", text, "../../")
    for anchor in ("kumar2025.lemma2", "check", "A", "A.b", "L1", "L9"):
        assert f'id="{anchor}"' in page
    assert 'href="../../book/index.html"' in page
    assert "&lt;" in page
    assert page.index('id="kumar2025.lemma2"') < page.index('id="L2"')


def test_a_claims_source_and_its_test_lead_back_to_the_card_and_the_chapter():
    text = '@claim(id="kumar2025.lemma2", title="x")\ndef lemma2(budget):\n    pass\n'
    page = sourcepages.page("src/prunequant/claims/tickets/subset_sums.py", text, "../")
    assert 'href="../book/tickets/subset-sums.html#claim-kumar2025-lemma2">card and proof</a>' in page
    assert 'href="../book/tickets/subset-sums.html">the chapter</a>' in page
    test = sourcepages.page("tests/claims/tickets/test_subset_sums.py", "x = 1\n", "../")
    assert 'href="../book/tickets/subset-sums.html">the chapter</a>' in test
    assert "the chapter" not in sourcepages.page("src/prunequant/cli.py", "x = 1\n", "../")
