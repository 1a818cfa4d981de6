"""Execute one chapter under nbval and keep its fresh outputs.

    python tools/run_nbval.py ROOT CHAPTER

nbval runs every cell of the reference, compares what it prints with what the reference holds, and forgets the outputs.
The plugin below keeps them, figures included, so that the book's builder need not execute the chapter a second time.
The kernel runs in the chapter's folder, as the builder's does; nbval alone would start it beside the reference.
It reads nbval's items (`test_outputs`, `cell_num`) and names its kernel class, which is why nbval is pinned.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nbformat
import nbval.plugin
import pytest
from chapters import Book, Chapter, tags, write_notebook, write_text

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("image/png", "image/jpeg", "image/svg+xml", "image/gif")


class Keep:
    """A pytest plugin: figures are not compared, outputs are kept."""

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.items: list = []
        self.failed: list[int] = []
        self.start = time.perf_counter()

    def pytest_collection_modifyitems(self, items: list) -> None:
        self.items = items
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
            "seconds": round(time.perf_counter() - self.start, 2),
        }
        write_text(self.chapter.executed.with_suffix(".verdict"), json.dumps(verdict))


def kernels_start_in(folder: Path) -> None:
    """Make nbval's kernels start in `folder`."""

    class Kernel(nbval.plugin.RunningKernel):
        def __init__(self, kernel_name: str, cwd: str | None = None, **more) -> None:
            super().__init__(kernel_name, cwd=str(folder), **more)

    nbval.plugin.RunningKernel = Kernel


def main(root: str, name: str) -> int:
    chapter = Book(Path(root)).chapter(name)
    kernels_start_in(chapter.source.parent)
    arguments = [
        str(chapter.reference),
        "--nbval",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
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
