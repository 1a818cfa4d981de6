"""Notebooks to take away: Markdown that any Jupyter shows, what the execution gave, a note on how to run it."""

import re
from pathlib import Path

import nbformat
import pytest
from chapters import Book, write_notebook
from notebooks import Plain, glued, is_executed, take_away

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = Book(ROOT).chapters()
MYST = re.compile(r"^ *[`:]{3,}\{.*$|\{[\w:-]+\}`[^`]*`|^\([\w:-]+\)=$|\]\((?:\.\./)*[\w/-]+\.md\)", re.MULTILINE)


def test_numbers_of_cells_stand_in_the_prose_of_a_notebook_as_the_page_shows_them():
    def given(name, text):
        record = {"application/papermill.record/text/plain": text}
        return nbformat.v4.new_output("display_data", record, metadata={"scrapbook": {"name": name}})

    code = nbformat.v4.new_code_cell("glue(...)", outputs=[given("loss", "0.12345"), given("device", "'a GPU'")])
    values = glued([*markdown("prose"), code])
    assert values == {"loss": 0.12345, "device": "a GPU"}
    plain = Plain(Book(ROOT).chapter("tickets/moments"), [], values)
    assert plain("It adds {glue:text}`loss:.2f` nats on {glue:text}`device`, {glue:}`loss`.") == (
        "It adds **0.12** nats on **a GPU**, **0.12345**."
    )
    assert plain("Not run: {glue:text}`error:.1f`.") == "Not run: *error*."


def markdown(*sources):
    return [nbformat.v4.new_markdown_cell(source) for source in sources]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_no_markup_of_the_pages_is_left_in_the_prose_of_a_notebook(chapter):
    cells = chapter.read().cells
    plain = Plain(chapter, cells)
    for cell in cells:
        if cell.cell_type == "markdown":
            assert MYST.findall(plain(cell.source)) == []
        elif "caption" in cell.metadata.get("mystnb", {}).get("figure", {}):
            assert MYST.findall(plain(cell.metadata["mystnb"]["figure"]["caption"])) == []


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        (":::{admonition} Takeaway\n:class: pq-takeaway\n**One** number.\n:::", "> **Takeaway**\n>\n> **One** number."),
        ("```{prf:lemma} Tails\n:label: lem-a\nShort.\n```", "**Lemma (Tails).** Short."),
        ("```{prf:proof}\nBy $x^2\\ge0$.\n```", "*Proof.* By $x^2\\ge0$. ∎"),
        ("```{exercise-start} Try\n:label: ex-a\n```\nDo.\n```{exercise-end}\n```", "**Exercise. Try**\n\nDo.\n"),
        ("::::{admonition} A\n:::{admonition} B\nx\n:::\ny\n::::", "> **A**\n>\n> > **B**\n> >\n> > x\n> y"),
        ("```{raw} html\n:file: a.html\n```", "> *Here the page of this chapter has a part to try out.*"),
        ("By {cite:t}`kumar2025`.", "By Kumar and Natale (2025)."),
        ("$$a=b .$$ (eq-a)\n\nBy {eq}`eq-a`.", "$$a=b .\\tag{1}$$\n\nBy (1)."),
        ("(order)=\n# Order\n\nSee [](moments.md), [it](moments.md).", "# Order\n\nSee *Counting solutions*, it."),
        ("```python\n{eq}`kept` [](moments.md)\n```", "```python\n{eq}`kept` [](moments.md)\n```"),
        ("```{unknown} kept\nas it is\n```", "```{unknown} kept\nas it is\n```"),
        (":::{admonition} never closed\nx", ":::{admonition} never closed\nx"),
    ],
)
def test_markup_becomes_what_a_plain_notebook_shows(myst, plain):
    assert Plain(Book(ROOT).chapter("tickets/moments"), markdown(myst))(myst) == plain


def test_a_notebook_holds_the_outputs_the_caption_and_a_note_on_how_to_run_it(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text(
        "sphinx: {config: {mathjax3_config: {tex: {macros: {EE: '\\mathbb{E}', norm: ['|#1|', 1]}}}}}"
    )
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/a\n")
    cell = ":tags: [hide-input]\n:mystnb:\n:  figure: {name: fig-a, caption: 'What {numref}`fig-a` shows.'}\n\n1 + 1\n"
    (tmp_path / "book" / "a.md").write_text(
        "---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n# A\n\n```{code-cell} ipython3\n" + cell + "```\n"
    )
    chapter = Book(tmp_path).chapter("a")
    executed = chapter.read()
    for done in executed.cells:
        if done.cell_type == "code":
            done.execution_count = 1
            done.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)]
    assert not is_executed(chapter)
    write_notebook(chapter.executed, executed)
    assert is_executed(chapter)

    note, title, code, caption = take_away(chapter, "https://github.com/a/b").cells
    assert "pip install 'prunequant[book] @ git+https://github.com/a/b'" in note.source
    assert r"$\newcommand{\EE}{\mathbb{E}}\newcommand{\norm}[1]{|#1|}$" in note.source
    assert title.source == "# A" and caption.source == "**Figure 1.** What Figure 1 shows."
    assert code.outputs[0].data == {"text/plain": "2"} and code.execution_count == 1
    assert code.metadata["jupyter"] == {"source_hidden": True} and code.metadata["tags"] == ["hide-input"]
    assert "pip install '.[book]'" in take_away(chapter).cells[0].source
    chapter.source.write_text(chapter.source.read_text().replace("1 + 1", "1 + 2"))
    assert not is_executed(chapter), "what is offered is what the page shows"
