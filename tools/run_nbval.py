"""Execute one chapter under nbval and keep its fresh outputs.

    python tools/run_nbval.py ROOT CHAPTER [BUILD [--away]]

nbval runs every cell of the reference, compares what it prints with what the reference holds, and forgets the outputs.
The plugin below keeps them, figures included, so that the book's builder need not execute the chapter a second time.
A cell may declare a tolerance (see `prunequant.tolerance`): a number within it is then taken for the reference's own
before nbval compares; everything else is exact. How much of each tolerance a run used is kept in the verdict.
The kernel runs in the chapter's folder, as the builder's does; nbval alone would start it beside the reference.
With `--away` what is run is the notebook that readers take away, alone in a folder outside the repository. The kernel
is that of this Python, or the one that PRUNEQUANT_KERNEL names.
It reads nbval's items (`test_outputs`, `cell_num`) and names its kernel class, which is why nbval is pinned.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import nbval.plugin
import pytest
from chapters import Book, Chapter, is_image, tags, write_notebook
from notebooks import take_away

from prunequant.records import write_text
from prunequant.tolerance import NUMBER, Tolerance, compare, is_whole

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")


def texts(output: Any) -> Iterator[tuple[dict, str]]:
    """Where the texts of one output stand: (mapping, key)."""
    if output["output_type"] == "stream":
        yield output, "text"
    for kind, text in output.get("data", {}).items():
        if isinstance(text, str) and not is_image(kind):
            yield output["data"], kind


class Numbers:
    """The comparison of one cell's texts, number by number, before nbval compares them whole."""

    def __init__(self, item: Any, fix: str) -> None:
        self.item, self.fix = item, fix
        declared = item.cell.metadata.get("tolerance")
        self.tolerance = Tolerance.read(declared) if declared else None
        self.used = 0.0
        self.difference = ""
        self.compared = 0  # numbers in the reference
        self._whole: Callable[..., bool] = item.compare_outputs
        item.compare_outputs = self.compare_outputs

    @property
    def kind(self) -> str:
        """What its numbers are: sensitive where a tolerance is declared, exact where all are whole, else stable."""
        if self.tolerance is not None:
            return "sensitive"
        found = [number for output in self.item.cell.outputs for where, key in texts(output)
                 for number in NUMBER.findall(where[key])]  # fmt: skip
        return "exact" if all(map(is_whole, found)) else "stable"

    def compare_outputs(self, test: list, ref: list, skip_compare: Any = None) -> bool:
        test = copy.deepcopy(test)
        self.compared = sum(len(NUMBER.findall(where[key])) for output in ref for where, key in texts(output))
        for ours, theirs in zip(test, ref):
            places = {key: where for where, key in texts(theirs)}
            for where, key in texts(ours):
                if key in (skip_compare or self.item.parent.skip_compare) or key not in places:
                    continue
                mine, kept = self.item.sanitize(where[key]), self.item.sanitize(places[key][key])
                found = compare(mine, kept, self.tolerance)
                self.used = max(self.used, found.used)
                if found.equal:
                    where[key] = places[key][key]
                elif not self.difference:
                    self.difference = self._told(found.difference, mine, kept)
        return self._whole(test, ref, skip_compare)

    def _told(self, difference: str, mine: str, kept: str) -> str:
        number = difference.removeprefix("line ").partition(" ")[0].rstrip(":")
        lines = [f"cell {self.item.cell_num}, {difference}"]
        for name, text in (("reference", kept), ("this run", mine)):
            row = text.splitlines()[int(number) - 1 : int(number)] if number.isdigit() else []
            lines += [f"  {name:9s} | {line}" for line in row]
        lines.append(f"  {self.tolerance.text() if self.tolerance else 'no tolerance is declared for this cell'}")
        lines.append(f"  Meant to change?  {self.fix}, then read git diff.  Another processor?  See CONTRIBUTING.md.")
        return "\n".join(lines)


class Keep:
    """A pytest plugin: figures are not compared, numbers by their tolerance, outputs are kept."""

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.items: list = []
        self.numbers: list[Numbers] = []
        self.failed: list[int] = []
        self.start = time.perf_counter()

    def pytest_collection_modifyitems(self, items: list) -> None:
        self.items = items
        self.numbers = [Numbers(item, f"make refresh CHAPTER={self.chapter.name}") for item in items]
        for item in items:
            # References hold text only. A figure kept by glue carries a prefix that nbval does not know.
            more = IMAGES + tuple(f"application/papermill.record/{kind}" for kind in IMAGES)
            item.parent.skip_compare = tuple(dict.fromkeys((*item.parent.skip_compare, *more)))

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(int(report.nodeid.rsplit(" ", 1)[1]))

    def pytest_sessionfinish(self, session, exitstatus) -> None:
        notebook = self.chapter.read()
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        raised = []
        for item in self.items:
            cell, outputs = cells[item.cell_num], item.test_outputs
            if outputs is None:  # the kernel died or the run was cut short
                raised.append(item.cell_num)
                continue
            error = any(output.output_type == "error" for output in outputs)
            if error and "raises-exception" not in tags(cell):
                raised.append(item.cell_num)
            cell.outputs = [nbformat.from_dict(output) for output in outputs]
            cell.execution_count = item.cell_num + 1
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output["execution_count"] = cell.execution_count
        complete = len(self.items) == len(cells) and not raised
        if complete:
            write_notebook(self.chapter.executed, notebook)
        verdict = {
            "complete": complete,
            "cells": len(cells),
            "raised": raised,
            "differs": sorted(set(self.failed) - set(raised)),
            "differences": [numbers.difference for numbers in self.numbers if numbers.difference],
            "numbers": {
                kind: sum(numbers.compared for numbers in self.numbers if numbers.kind == kind)
                for kind in ("exact", "stable", "sensitive")
            },
            "tolerances": {
                str(numbers.item.cell_num): round(numbers.used, 4) for numbers in self.numbers if numbers.tolerance
            },
            "seconds": round(time.perf_counter() - self.start, 2),
        }
        write_text(self.chapter.executed.with_suffix(".verdict"), json.dumps(verdict))


def kernels_start_in(folder: Path) -> None:
    """Make nbval's kernels start in `folder`."""

    class Kernel(nbval.plugin.RunningKernel):
        def __init__(self, kernel_name: str, cwd: str | None = None, **more) -> None:
            super().__init__(kernel_name, cwd=str(folder), **more)

    nbval.plugin.RunningKernel = Kernel


def to_take_away(chapter: Chapter, folder: Path) -> Path:
    """The notebook that readers take away, put into a folder, with what the reference holds to be compared with."""
    reference = nbformat.read(chapter.reference, as_version=4)
    notebook = take_away(chapter, outputs=chapter.reference)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, kept in zip(code, reference.cells, strict=True):
        cell.outputs = kept.outputs  # the notebook's own are rewritten for readers
        cell.metadata.update({key: kept.metadata[key] for key in ("tolerance",) if key in kept.metadata})
    path = folder / f"{chapter.source.stem}.ipynb"
    write_notebook(path, notebook)
    return path


def main(root: str, name: str, build: str = "_build", *how: str) -> int:
    chapter = Book(Path(root), build).chapter(name)
    if "--away" not in how:
        return compare_with(chapter, chapter.reference, Path(root), chapter.source.parent)
    with TemporaryDirectory(prefix="prunequant-") as folder:
        return compare_with(chapter, to_take_away(chapter, Path(folder)), Path(folder), Path(folder))


def compare_with(chapter: Chapter, notebook: Path, root: Path, folder: Path) -> int:
    """Run nbval on a notebook of the chapter, with its kernel in `folder`; pytest's exit status."""
    kernels_start_in(folder)
    kernel = os.environ.get("PRUNEQUANT_KERNEL")
    # An emulated processor is slow, and so are threads that nobody limited on a busy machine.
    patience = 10 if kernel or root == folder else 1
    arguments = [
        str(notebook),
        "--nbval",
        f"--nbval-kernel-name={kernel}" if kernel else "--nbval-current-env",
        f"--nbval-cell-timeout={300 * patience}",
        f"--nbval-kernel-startup-timeout={60 * patience}",
        f"--nbval-sanitize-with={ROOT / 'tools' / 'nbval.cfg'}",
        f"--rootdir={root}",
        "-qq",
        "--color=no",
        "--tb=short",
        "--override-ini=addopts=",
        "-pno:cacheprovider",
        "-pno:xdist",
        "-Wignore",
    ]
    return int(pytest.main(arguments, plugins=[Keep(chapter)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
