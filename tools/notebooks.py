"""A chapter as a notebook to take away: its cells, what they gave, and Markdown that any Jupyter shows.

The pages are written in MyST, of which a plain notebook knows little. Here a box becomes a quotation, a theorem a
paragraph with its name, a reference its number or title, a caption a paragraph below its figure; macros of the
mathematics are defined once, in the first cell. What is not known here stays as it was written.
"""

from __future__ import annotations

import re
from ast import literal_eval
from functools import cache
from pathlib import Path
from typing import Any

from chapters import Book, Chapter, tags

import prunequant

OPEN = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\} *(?P<title>.*?) *$")
OPTION = re.compile(r"^ *:[\w-]+:( .*)?$")
LABEL = re.compile(r"^\((?P<label>[\w:-]+)\)=\n+#+ *(?P<title>.+)$", re.MULTILINE)
BARE_LABEL = re.compile(r"^\([\w:-]+\)=\n", re.MULTILINE)
EQUATION = re.compile(r"(?P<body>\$\$(?:(?!\$\$).)+)\$\$ *\((?P<label>[\w:-]+)\)", re.DOTALL)
STATEMENT = re.compile(
    r"^`{3,}\{prf:(?P<kind>\w+)\} *(?P<title>.*)\n(?: *:[\w-]+:.*\n)*? *:label: *(?P<label>\S+)", re.MULTILINE
)
ROLE = re.compile(r"\{(?P<name>cite:[pt]|eq|numref|prf:ref)\}`(?P<what>[^`]+)`")
GLUED = re.compile(r"\{glue:(?:text)?\}`(?P<name>[^`:]+)(?::(?P<format>[^`]+))?`")
GLUE_PREFIX = "application/papermill.record/"
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<where>(?:\.\./)*[\w/-]+)(?:\.md)?\)")
CODE = re.compile(r"(^(?P<fence>`{3,}|~{3,})(?!\{).*?^(?P=fence) *$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)

NOTE = """\
**A chapter of *Prune or Quantize?* as a notebook**, with the outputs of its last execution. To run it in an
environment of your own:

```sh
{install}
```

The records and the small data sets that it reads come with the package; the folder it lies in does not matter.
Cells that the page folds are folded here too. The cards of claims are MyST: `pip install jupyterlab-myst` shows them as
boxes when you run them again.

{macros}"""


@cache
def authors(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Key of a paper -> who wrote it and when, as a text names them."""
    from pybtex.database import parse_file

    found = {}
    if bibliography.is_file():
        for key, entry in parse_file(str(bibliography)).entries.items():
            people = entry.persons.get("author") or entry.persons.get("editor") or []
            names = [" ".join([*person.prelast_names, *person.last_names]).strip("{}") for person in people]
            who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
            found[key] = (who or key, entry.fields.get("year", ""))
    return found


@cache
def titles(root: Path) -> tuple[dict[str, str], dict[Path, str]]:
    """The titles of labels, and of pages, all over the book."""
    labels, pages = {}, {}
    for path in (root / name for name in Book(root).sources()):
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        labels.update((match["label"], match["title"].strip()) for match in LABEL.finditer(text))
        heading = re.search(r"^# +(.+)$", text, re.MULTILINE)
        pages[path] = heading[1].strip() if heading else path.name
    return labels, pages


class Plain:
    """MyST of one chapter turned into the Markdown of notebooks; it numbers what the chapter's references name."""

    def __init__(self, chapter: Chapter, cells: list[Any], values: dict[str, Any] | None = None) -> None:
        self.chapter = chapter
        self.values = values or {}
        self.numbers: dict[str, str] = {}
        self.names: dict[str, str] = {}
        figures = (figure_of(cell).get("name") for cell in cells)
        for number, name in enumerate((name for name in figures if name), 1):
            self.numbers[name] = f"Figure {number}"
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for number, match in enumerate(EQUATION.finditer(prose), 1):
            self.numbers[match["label"]] = str(number)
        for match in STATEMENT.finditer(prose):
            kind, title = match["kind"].capitalize(), match["title"].strip()
            self.names[match["label"]] = f"{kind} ({title})" if title else kind

    def __call__(self, text: str) -> str:
        return self._blocks(text.splitlines())

    def _blocks(self, lines: list[str]) -> str:
        done: list[str] = []
        plain: list[str] = []

        def flush() -> None:
            if plain:
                done.append(self._inline("\n".join(plain)))
                plain.clear()

        at = 0
        while at < len(lines):
            opened = OPEN.match(lines[at])
            end = closing(lines, at, opened["fence"]) if opened else None
            if end is None:
                plain.append(lines[at])
                at += 1
                continue
            body = lines[at + 1 : end]
            while body and OPTION.match(body[0]):
                body.pop(0)
            flush()
            done.append(self._block(opened["name"], opened["title"], body, "\n".join(lines[at : end + 1])))
            at = end + 1
        flush()
        return "\n".join(done)

    def _block(self, name: str, title: str, body: list[str], as_written: str) -> str:
        title = self._inline(title)
        inside = self._blocks(body).strip()
        kind = name.removeprefix("prf:").removesuffix("-start").capitalize()
        if name in ("exercise-end", "solution-end"):
            return ""
        if name == "exercise-start":
            return f"**Exercise. {title}**\n" if title else "**Exercise.**\n"
        if name == "solution-start":
            return "**Solution.**\n"
        if name in ("admonition", "dropdown"):
            return "\n".join(f"> {line}".rstrip() for line in f"**{title}**\n\n{inside}".splitlines())
        if name == "raw":  # HTML of the page, whose scripts a notebook does not have
            return "> *Here the page of this chapter has a part to try out.*"
        if name == "prf:proof":
            return f"*Proof.* {inside} ∎"
        if name.startswith("prf:"):
            return f"**{kind} ({title}).** {inside}" if title else f"**{kind}.** {inside}"
        return as_written

    def _inline(self, text: str) -> str:
        parts, last = [], 0
        for code in CODE.finditer(text):
            # A role is written with backquotes too: what stands in braces before them says which it is.
            if text[: code.start()].endswith("}"):
                continue
            parts += [self._prose(text[last : code.start()]), code[0]]
            last = code.end()
        return "".join([*parts, self._prose(text[last:])])

    def _prose(self, text: str) -> str:
        text = BARE_LABEL.sub("", text)
        text = EQUATION.sub(lambda match: f"{match['body']}\\tag{{{self.numbers.get(match['label'], '')}}}$$", text)
        text = GLUED.sub(self._glued, text)
        text = ROLE.sub(lambda match: self._role(match["name"], match["what"]), text)
        text = re.sub(r'<a href="(?!https?:)[^"]*">(.*?)</a>', r"\1", text)
        return LINK.sub(self._link, text)

    def _glued(self, match: re.Match[str]) -> str:
        """The number that a cell gave, as the page shows it; its name where nothing was executed."""
        if match["name"] not in self.values:
            return f"*{match['name']}*"
        value = self.values[match["name"]]
        return f"**{value:{match['format'] or ''}}**"

    def _role(self, name: str, what: str) -> str:
        if name.startswith("cite:"):
            known = authors(self.chapter.root / "book" / "references.bib")
            papers = [known.get(key.strip()) for key in what.split(",")]
            if None in papers:
                return what
            if name == "cite:t":
                return ", ".join(f"{who} ({year})" for who, year in papers)
            return "(" + "; ".join(f"{who}, {year}" for who, year in papers) + ")"
        if name == "eq":
            return f"({self.numbers[what]})" if what in self.numbers else what
        return self.numbers.get(what) or self.names.get(what) or f"*{what}*"

    def _link(self, match: re.Match[str]) -> str:
        labels, pages = titles(self.chapter.root)
        page = (self.chapter.source.parent / match["where"]).resolve()
        title = labels.get(match["where"]) or pages.get(page)
        return (match["text"] or f"*{title}*") if title else match[0]


def glued(cells: list[Any]) -> dict[str, Any]:
    """What the cells of an executed notebook have given a name, for the prose: numbers, or texts."""
    found = {}
    for output in (output for cell in cells if cell.cell_type == "code" for output in cell.outputs):
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        text = output.get("data", {}).get(f"{GLUE_PREFIX}text/plain")
        if name is not None and text is not None:
            try:
                found[name] = literal_eval(text)
            except (ValueError, SyntaxError):
                found[name] = text
    return found


def closing(lines: list[str], at: int, fence: str) -> int | None:
    """The line that closes the block opened at line `at`."""
    inner: list[str] = []
    for number in range(at + 1, len(lines)):
        line = lines[number].strip()
        opened = OPEN.match(lines[number])
        if opened:
            inner.append(opened["fence"])
        elif set(line) == {fence[0]} and len(line) >= len(inner[-1] if inner else fence):
            if not inner:
                return number
            inner.pop()
    return None


def figure_of(cell: Any) -> dict[str, Any]:
    return cell.metadata.get("mystnb", {}).get("figure", {})


def macros(root: Path) -> str:
    """The abbreviations of `_config.yml` as definitions that MathJax reads in a cell."""
    import yaml

    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    known = config["sphinx"]["config"].get("mathjax3_config", {}).get("tex", {}).get("macros", {})
    lines = []
    for name, meaning in known.items():
        body, count = meaning if isinstance(meaning, list) else (meaning, 0)
        lines.append(rf"\newcommand{{\{name}}}{f'[{count}]' if count else ''}{{{body}}}")
    return "$" + "".join(lines) + "$" if lines else ""


def install(repository: str) -> str:
    """How one gets the package with all that chapters need."""
    if repository:
        return f"pip install 'prunequant[book] @ git+{repository}'"
    wheel = f"prunequant-{prunequant.__version__}-py3-none-any.whl"
    return f"pip install '.[book]'   # in a copy of the repository, or: pip install './{wheel}[book]'"


def is_executed(chapter: Chapter) -> bool:
    """Whether the last execution is one of the code that stands in the chapter now (the library may have changed)."""
    import nbformat

    if not chapter.executed.is_file():
        return False
    ours, theirs = (
        [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        for notebook in (chapter.read(), nbformat.read(chapter.executed, as_version=4))
    )
    return ours == theirs


def take_away(chapter: Chapter, repository: str = "", outputs: Path | None = None) -> Any:
    """The executed chapter as a notebook for readers; its code cells and their outputs are those of the execution.

    `outputs` names another notebook to take them from, cell by cell; the last execution is the default.
    """
    import nbformat

    notebook = chapter.read()
    executed = nbformat.read(outputs or chapter.executed, as_version=4)
    plain = Plain(chapter, notebook.cells, glued(executed.cells))
    note = NOTE.format(install=install(repository), macros=macros(chapter.root)).rstrip()
    cells = [nbformat.v4.new_markdown_cell(note, id="note")]
    done = iter([cell for cell in executed.cells if cell.cell_type == "code"])
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cells.append(nbformat.v4.new_markdown_cell(plain(cell.source), id=cell.id))
            continue
        if cell.cell_type != "code":
            continue
        result = next(done)
        outputs = [nbformat.from_dict(output) for output in result.outputs]
        for output in outputs:
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = plain(output["data"]["text/markdown"])
        folded = {"hide-input", "remove-input", "remove-cell"} & set(tags(cell))
        metadata = {"tags": tags(cell)} if tags(cell) else {}
        cells.append(
            nbformat.v4.new_code_cell(
                cell.source,
                id=cell.id,
                execution_count=result.execution_count,
                outputs=outputs,
                metadata={**metadata, **({"jupyter": {"source_hidden": True}} if folded else {})},
            )
        )
        caption = figure_of(cell).get("caption")
        if caption:
            number = plain.numbers.get(figure_of(cell).get("name"), "Figure")
            said = f"**{number}.** {plain(caption.strip())}"
            cells.append(nbformat.v4.new_markdown_cell(said, id=f"{cell.id}-caption"))
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"}
    nbformat.validate(made)
    return made
