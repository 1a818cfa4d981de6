"""Execute chapters, a few at a time, and hand what they printed to the book's builder.

Two ways to execute: under nbval, when the chapter has a reference to be compared with, and with nbclient, when an
author refreshes it or has not made one yet. Both leave the full outputs in `_build/executed/` and a record beside them:

    {"key": ..., "how": "validated" | "differs" | "executed", "reference": ..., "seconds": ..., "cells": ...,
     "numbers": {"exact": ..., "stable": ..., "sensitive": ...}, "tolerances": {cell: share used}, "differences": [...]}

An execution whose key (the cells, the library, the data) still holds is not repeated.
"""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import run_environment
from chapters import Book, Chapter, text_only, write_notebook

from prunequant.records import write_text
from prunequant.tolerance import Tolerance

TOOLS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Outcome:
    """How the execution of one chapter went; `problem` is empty when nothing is wrong with it."""

    chapter: Chapter
    how: str
    seconds: float
    cells: int
    problem: str = ""


def environment(root: Path) -> dict[str, str]:
    """What a kernel sees: the variables of `tools/run.env`, nobody's personal set-up, and what the caller has set."""
    own = {
        "IPYTHONDIR": str(root / "_build" / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    return {**run_environment.variables(), **os.environ, **own}


def _run(root: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    noise = ("[IPKernelApp] WARNING", "Kernel is running over TCP")
    lines = [line for line in done.stdout.splitlines() if not any(word in line for word in noise)]
    return done.returncode, "\n".join(lines)


def by_nbval(book: Book, chapter: Chapter) -> Outcome:
    """Execute and compare with the reference."""
    problems = chapter.out_of_step()
    if problems:
        return Outcome(chapter, "out of step", 0.0, 0, "\n".join(problems))
    key, reference = chapter.key(book), chapter.reference_key()
    verdict_file = chapter.executed.with_suffix(".verdict")
    for path in (verdict_file, chapter.record):
        path.unlink(missing_ok=True)
    what = [str(book.root), chapter.name, book.build, *(["--away"] if book.away else [])]
    status, said = _run(book.root, str(TOOLS / "run_nbval.py"), *what)
    try:
        verdict = json.loads(verdict_file.read_text(encoding="utf-8"))
    except OSError:
        return Outcome(chapter, "stopped", 0.0, 0, said)
    verdict_file.unlink()
    seconds, cells = verdict["seconds"], verdict["cells"]
    if not verdict["complete"]:
        return Outcome(chapter, "raises", seconds, cells, said)
    how = "validated" if status == 0 else "differs"
    more = {name: verdict[name] for name in ("numbers", "tolerances", "differences")}
    _remember(chapter, key, how, reference, seconds, cells, **more)
    problem = "\n".join(verdict["differences"]) or said
    return Outcome(chapter, how, seconds, cells, "" if status == 0 else problem)


def by_nbclient(book: Book, chapter: Chapter) -> Outcome:
    """Execute, comparing with nothing."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    key, notebook = chapter.key(book), chapter.read()
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    start = time.perf_counter()
    os.environ.update(environment(book.root))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(chapter.source.parent)}},
    )
    chapter.record.unlink(missing_ok=True)
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return Outcome(chapter, "raises", time.perf_counter() - start, cells, f"{chapter.name}\n{error}")
    seconds = round(time.perf_counter() - start, 2)
    write_notebook(chapter.executed, notebook)
    _remember(chapter, key, "executed", chapter.reference_key(), seconds, cells)
    return Outcome(chapter, "executed", seconds, cells)


def refresh(book: Book, chapter: Chapter) -> Outcome:
    """Execute and write the reference anew: the deliberate act of an author, reviewed as a diff."""
    import nbformat

    outcome = by_nbclient(book, chapter)
    if not outcome.problem:
        write_notebook(chapter.reference, text_only(nbformat.read(chapter.executed, as_version=4)))
    return outcome


def execute(book: Book, chapter: Chapter) -> Outcome:
    """Execute so that the book can be built: compare when there is a reference in step, else just run."""
    return by_nbclient(book, chapter) if chapter.out_of_step() else by_nbval(book, chapter)


def _remember(chapter: Chapter, key: str, how: str, reference: str, seconds: float, cells: int, **more: object) -> None:
    state = {"key": key, "how": how, "reference": reference, "seconds": seconds, "cells": cells, **more}
    write_text(chapter.record, json.dumps(state) + "\n")


def is_fresh(book: Book, chapter: Chapter) -> bool:
    """Executed since anything it depends on changed."""
    return chapter.state().get("key") == chapter.key(book)


def is_validated(book: Book, chapter: Chapter) -> bool:
    """Executed, and found equal to the reference that stands there now."""
    state = chapter.state()
    same = state.get("reference") == chapter.reference_key() and state.get("how") == "validated"
    return same and is_fresh(book, chapter)


def run_all(
    book: Book,
    chapters: Sequence[Chapter],
    act: Callable[[Book, Chapter], Outcome],
    jobs: int,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Act on the chapters, `jobs` at a time, the longest first, with a line for each as it ends."""
    if not chapters:
        return []
    _ = book.dependencies  # once, before the threads ask for it
    order = sorted(chapters, key=lambda chapter: -chapter.state().get("seconds", 1e9))
    width = max(len(chapter.name) for chapter in chapters)
    outcomes: list[Outcome] = []

    def one(chapter: Chapter) -> Outcome:
        if act is by_nbval or jobs == 1:
            return act(book, chapter)
        # nbclient in its own process: chapters do not share an event loop or an environment
        return _in_process(book, chapter, act)

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        for future in [pool.submit(one, chapter) for chapter in order]:
            outcome = future.result()
            outcomes.append(outcome)
            say(
                f"  [{len(outcomes):2d}/{len(chapters)}] {outcome.chapter.name:{width}s}  {outcome.how:11s}"
                f" {outcome.cells:3d} cells {outcome.seconds:6.1f} s"
            )
    return outcomes


def _in_process(book: Book, chapter: Chapter, act: Callable[[Book, Chapter], Outcome]) -> Outcome:
    status, said = _run(book.root, str(TOOLS / "execute.py"), act.__name__, str(book.root), chapter.name, book.build)
    try:
        how, seconds, cells, problem = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        return Outcome(chapter, "stopped", 0.0, 0, f"{chapter.name}: ended with status {status}\n{said}")
    return Outcome(chapter, how, seconds, cells, problem)


def tolerance_note(cell: Any) -> Any:
    """What the page says below a cell whose numbers are compared within a tolerance."""
    import nbformat

    words = Tolerance.read(cell.metadata["tolerance"]).text()
    note = f'<p class="pq-tolerance">These numbers are {html.escape(words)}.</p>'
    return nbformat.v4.new_output("display_data", data={"text/html": note, "text/plain": words})


def hand_over(book: Book, chapters: Sequence[Chapter], cache: Path) -> list[Chapter]:
    """Put the executed chapters into jupyter-cache, where the builder looks before it executes; those that were new.

    The cache knows a chapter by its cells alone. An execution made stale by a change in the library is replaced here.
    """
    import nbformat
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    known_file = cache / "handed-over.json"
    try:
        known = json.loads(known_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    new = []
    for chapter in chapters:
        state = chapter.state()
        mark = [state.get("key"), chapter.executed.stat().st_mtime_ns if state else 0]
        if not state or known.get(chapter.name) == mark:
            continue
        notebook = chapter.read()
        # What a kernel would have said of itself; the builder colours the code by it.
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"}
        outputs = [cell for cell in nbformat.read(chapter.executed, as_version=4).cells if cell.cell_type == "code"]
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        if len(cells) != len(outputs):
            raise SystemExit(f"{chapter.name}: its cells have changed since it was executed; make validate executes it")
        for cell, done in zip(cells, outputs):
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
            if "tolerance" in cell.metadata:
                cell.outputs = [*cell.outputs, tolerance_note(cell)]
        get_cache(str(cache)).cache_notebook_bundle(
            CacheBundleIn(notebook, str(chapter.source), data={"execution_seconds": state["seconds"]}),
            check_validity=False,
            overwrite=True,
        )
        known[chapter.name] = mark
        new.append(chapter)
    if new:
        write_text(known_file, json.dumps(known))
    return new


if __name__ == "__main__":
    actions = {"by_nbclient": by_nbclient, "refresh": refresh, "execute": execute}
    here = Book(Path(sys.argv[2]), sys.argv[4])
    result = actions[sys.argv[1]](here, here.chapter(sys.argv[3]))
    print(json.dumps([result.how, result.seconds, result.cells, result.problem]))
