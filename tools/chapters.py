"""The chapters of the book: sources, references, and the keys that say whether an execution is still good.

A chapter `tickets/subset-sums` has a source `book/tickets/subset-sums.md` (a MyST notebook), a reference
`book/reference/tickets/subset-sums.ipynb` (the outputs that are compared, text only) and, once executed, a full copy
under `_build/executed/` with a small record of how it went.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunequant.records import write_text
from prunequant.tolerance import Tolerance

ROOT = Path(__file__).resolve().parents[1]

# What an executed chapter may depend on besides its own cells.
DEPENDENCIES = ("src", "book/data", "book/results", "requirements.txt")

CELL = re.compile(r"^(?P<fence>`{3,}|~{3,})\{code-cell\}.*?^(?P=fence)[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Book:
    """A tree with `_toc.yml`, `book/` and a folder of what is made from them (the tests make small ones)."""

    root: Path = ROOT
    build: str = "_build"
    away: bool = False  # executed as the notebooks to take away, each in an empty folder

    def chapter(self, name: str) -> Chapter:
        """The chapter called `name`: its path under `book/`, with or without the suffix."""
        name = name.removeprefix("book/").removesuffix(".md").strip("/")
        chapter = Chapter(self.root, name, self.build)
        if not chapter.source.is_file():
            raise SystemExit(f"No chapter {name}: {chapter.source} does not exist")
        return chapter

    def toc(self) -> list[str]:
        """The pages of `_toc.yml`, in reading order, as paths from the root without suffix."""
        import yaml

        pages: list[str] = []

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                pages.extend(str(node[key]) for key in ("root", "file") if key in node)
                for key in ("parts", "chapters", "sections", "entries", "subtrees"):
                    walk(node.get(key))
            elif isinstance(node, list):
                for item in node:
                    walk(item)

        walk(yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8")))
        return pages

    def chapters(self) -> list[Chapter]:
        """The notebooks among the pages of `_toc.yml`."""
        found = []
        for page in self.toc():
            chapter = Chapter(self.root, page.removeprefix("book/"), self.build)
            if chapter.source.is_file() and chapter.is_notebook:
                found.append(chapter)
        return found

    def sources(self) -> list[str]:
        """Every page under `book/`, listed or not; what lies beside data, assets and an editor's copies is no page."""
        pages = (path.relative_to(self.root) for path in sorted((self.root / "book").rglob("*.md")))
        pages = (page for page in pages if not any(part.startswith(".") for part in page.parts))
        return [page.as_posix().removesuffix(".md") for page in pages if page.parts[1] not in ("_static", "data")]

    @cached_property
    def dependencies(self) -> str:
        """A hash of everything a chapter may read: the library, the data, the records, the pins."""
        return hash_tree(self.root, DEPENDENCIES)


@dataclass(frozen=True)
class Chapter:
    """One page of the book that is executed."""

    root: Path
    name: str
    build: str = "_build"

    @property
    def source(self) -> Path:
        return self.root / "book" / f"{self.name}.md"

    @property
    def reference(self) -> Path:
        return self.root / "book" / "reference" / f"{self.name}.ipynb"

    @property
    def executed(self) -> Path:
        return self.root / self.build / "executed" / f"{self.name}.ipynb"

    @property
    def record(self) -> Path:
        return self.executed.with_suffix(".json")

    @property
    def is_notebook(self) -> bool:
        front = FRONT.match(self.source.read_text(encoding="utf-8"))
        return bool(front) and ("mystnb" in front[1] or "format_name: myst" in front[1])

    def read(self) -> Any:
        """The source as a notebook, read as the book's builder reads it; no outputs."""
        from myst_nb.core.read import read_myst_markdown_notebook

        notebook = read_myst_markdown_notebook(
            self.source.read_text(encoding="utf-8"), add_source_map=True, path=str(self.source)
        )
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"c{number:03d}"
        return notebook

    def source_key(self) -> str:
        """A hash of the code cells and the front matter: prose may change without a new execution."""
        text = self.source.read_text(encoding="utf-8")
        cells = [match[0] for match in CELL.finditer(text)]
        if len(cells) != text.count("{code-cell}"):  # fenced in a way the pattern does not know: take it all
            cells = [text]
        front = FRONT.match(text)
        return digest(front[1] if front else "", *cells)

    def key(self, book: Book) -> str:
        """What an execution depends on; equal keys mean that it need not be repeated."""
        return digest(self.source_key(), book.dependencies)

    def reference_key(self) -> str:
        """A hash of what the outputs are compared with, and of how."""
        rules = [(ROOT / "tools" / name).read_text(encoding="utf-8") for name in ("nbval.cfg", "run_nbval.py")]
        return digest(self.reference.read_text(encoding="utf-8"), *rules) if self.reference.is_file() else ""

    def state(self) -> dict[str, Any]:
        """The record of the last execution, or an empty one."""
        try:
            state = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if self.executed.is_file() else {}

    def out_of_step(self) -> list[str]:
        """Where source and reference differ; empty when nbval may be trusted with the pair.

        nbval compares nothing in a cell without an execution count, so a reference that was never executed would pass
        whatever the chapter prints: hence the counts are checked here.
        """
        import nbformat

        fix = f"make refresh CHAPTER={self.name}"
        if not self.reference.is_file():
            return [f"{self.name}: no reference outputs yet: {fix}"]
        try:
            reference = nbformat.read(self.reference, as_version=4)
        except Exception as error:
            return [f"{self.name}: the reference cannot be read ({error}): {fix}"]
        problems = []
        ours = [(cell.source, kept_metadata(cell)) for cell in self.read().cells if cell.cell_type == "code"]
        code = [cell for cell in reference.cells if cell.cell_type == "code"]
        theirs = [(cell.source, kept_metadata(cell)) for cell in code]
        if len(ours) != len(theirs):
            problems.append(f"{self.name}: {len(ours)} code cells in the source, {len(theirs)} in the reference: {fix}")
        for number, (mine, kept) in enumerate(zip(ours, theirs)):
            if mine != kept:
                problems.append(f"{self.name}: code cell {number} of the source is not the reference's: {fix}")
                break
        counts = [cell.execution_count for cell in code]
        if not all(type(count) is int for count in counts):
            problems.append(f"{self.name}: the reference has cells that were never executed (null counts): {fix}")
        if any(kind.startswith("image/") for cell in code for kind in kinds(cell)):
            problems.append(f"{self.name}: the reference holds images, it should hold text only: {fix}")
        return problems


def tags(cell: Any) -> list[str]:
    return sorted(cell.metadata.get("tags", []))


def kept_metadata(cell: Any) -> dict[str, Any]:
    """What a reference keeps of a cell's metadata: all that says how the cell is compared."""
    kept: dict[str, Any] = {"tags": tags(cell)} if tags(cell) else {}
    if "tolerance" in cell.metadata:
        kept["tolerance"] = Tolerance.read(cell.metadata["tolerance"]).fields()
    return kept


def kinds(cell: Any) -> list[str]:
    return [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]


def is_image(kind: str) -> bool:
    """Also of a figure kept by glue, whose type carries a prefix."""
    return "image/" in kind


def text_only(executed: Any) -> Any:
    """The reference made from an executed notebook: code cells with their text outputs, stable ids and counts."""
    import nbformat

    cells = []
    for number, cell in enumerate(cell for cell in executed.cells if cell.cell_type == "code"):
        outputs = []
        for output in cell.outputs:
            output = nbformat.from_dict(json.loads(json.dumps(output)))
            if "data" in output:
                output["data"] = {kind: value for kind, value in output["data"].items() if not is_image(kind)}
                output["metadata"] = {}
                if not output["data"]:
                    continue
            if "execution_count" in output:
                output["execution_count"] = number + 1
            before = outputs[-1] if outputs else {}
            if output["output_type"] == "stream" == before.get("output_type") and output["name"] == before["name"]:
                before["text"] += output["text"]  # where a kernel cuts a stream depends on its mood
                continue
            outputs.append(output)
        cells.append(
            nbformat.v4.new_code_cell(
                cell.source,
                id=f"c{number:03d}",
                execution_count=number + 1,
                outputs=outputs,
                metadata=kept_metadata(cell),
            )
        )
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def write_notebook(path: Path, notebook: Any) -> None:
    import nbformat

    write_text(path, nbformat.writes(notebook, version=4) + "\n")


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def hash_tree(root: Path, names: tuple[str, ...]) -> str:
    """A hash of the names and contents of files and folders under `root`; what does not exist counts as empty."""
    sha = hashlib.sha256()
    for name in names:
        top = root / name
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top] * top.is_file()
        for path in files:
            relative = path.relative_to(root)
            if any(part == "__pycache__" or part.endswith(".egg-info") for part in relative.parts):
                continue
            sha.update(relative.as_posix().encode() + b"\0")
            sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:24]
