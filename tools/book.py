"""The book's pipeline, step by step. The Makefile calls it; `python tools/book.py --help` lists the steps.

refresh   execute chapters and write their reference outputs anew
sync      source and reference say the same code, and the reference was executed
validate  execute under nbval and compare every printed output
execute   execute what changed, so that the pages can be built (a differing output is shown, not an error)
build     hand the executed chapters to jupyter-book and build the pages, every warning an error
page      one chapter alone
address   print where the pages are
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import execute as run
import sourcepages
from chapters import ROOT, Book, Chapter, hash_tree

from prunequant.experiments import alone
from prunequant.records import write_text

TOOLS = Path(__file__).resolve().parent

# What the pages are made of; the executed chapters are added by their keys.
INPUTS = ("_config.yml", "_toc.yml", "book", "requirements.txt", "src", *(
    f"tools/{name}.py" for name in ("downloads", "notebooks", "library", "public")
))  # fmt: skip


def chosen(book: Book, names: list[str]) -> list[Chapter]:
    return [book.chapter(name) for name in names] or book.chapters()


def report(outcomes: list[run.Outcome], verb: str, started: float, skipped: int = 0) -> list[run.Outcome]:
    """Print the problems in full and one closing line; the outcomes that have a problem."""
    bad = [outcome for outcome in outcomes if outcome.problem]
    for outcome in bad:
        print(f"\n--- {outcome.chapter.name}: {outcome.how} " + "-" * 40)
        print(outcome.problem)
    cells = sum(outcome.cells for outcome in outcomes)
    unchanged = f", {skipped} unchanged" if skipped else ""
    failed = f", {len(bad)} FAILED" if bad else ""
    seconds = time.perf_counter() - started
    print(f"== {len(outcomes)} chapters {verb}{unchanged}{failed}, {cells} cells, in {seconds:.1f} s ==")
    return bad


def refresh(book: Book, names: list[str], jobs: int) -> int:
    start = time.perf_counter()
    outcomes = run.run_all(book, chosen(book, names), run.refresh, jobs)
    bad = report(outcomes, "refreshed", start)
    if not bad:
        print("Read the difference before you commit it:   git diff book/reference")
    return 1 if bad else 0


def sync(book: Book, names: list[str]) -> int:
    problems = [problem for chapter in chosen(book, names) for problem in chapter.out_of_step()]
    if not names:
        known = {chapter.reference for chapter in book.chapters()}
        orphans = sorted(set((book.root / "book" / "reference").rglob("*.ipynb")) - known)
        problems += [f"{path.relative_to(book.root)}: a reference without a chapter in _toc.yml" for path in orphans]
    print("\n".join(problems) or "Source and reference agree in every chapter")
    return 1 if problems else 0


def validate(book: Book, names: list[str], jobs: int) -> int:
    start = time.perf_counter()
    if sync(book, names):
        return 1
    chapters = chosen(book, names)
    stale = [chapter for chapter in chapters if not run.is_validated(book, chapter)]
    outcomes = run.run_all(book, stale, run.by_nbval, jobs)
    bad = report(outcomes, "validated", start, len(chapters) - len(stale))
    counts = [chapter.state().get("numbers", {}) for chapter in chapters]
    said = (f"{sum(count.get(kind, 0) for count in counts):,} {kind}" for kind in ("exact", "stable", "sensitive"))
    print(f"Numbers compared: {', '.join(said)}")
    return 1 if bad else 0


def execute(book: Book, names: list[str], jobs: int) -> int:
    start = time.perf_counter()
    chapters = chosen(book, names)
    stale = [chapter for chapter in chapters if not run.is_fresh(book, chapter)]
    outcomes = run.run_all(book, stale, run.execute, jobs)
    bad = report(outcomes, "executed", start, len(chapters) - len(stale))
    differing = [outcome for outcome in bad if outcome.how == "differs"]
    if differing:
        print("The book is built with the outputs of this machine; `make test` asks that they equal the references.")
    return 1 if len(bad) > len(differing) else 0


def jupyter_book(root: Path, *arguments: str) -> int:
    # The tools stand first on the path: a book elsewhere, as the tests make them, has no folder of them.
    start = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(root), *arguments]
    # Its standard output only praises; warnings and errors come on the other stream.
    quiet = subprocess.DEVNULL
    return subprocess.run(command, cwd=root, env=run.environment(root), stdout=quiet, check=False).returncode


def hand_over(book: Book, chapters: list[Chapter], out: Path) -> list[Chapter]:
    """Give the builder in a folder the executed chapters; those that were new are read again, source changed or not."""
    new = run.hand_over(book, chapters, out / ".jupyter_cache")
    for chapter in new:
        (out / ".doctrees" / "book" / f"{chapter.name}.doctree").unlink(missing_ok=True)
    return new


def build(book: Book) -> int:
    """Build the pages, unless nothing they are made of changed since they were last built without a warning."""
    out = book.root / "_build"
    stamp = out / "stamps" / "build.json"
    with alone(out / "stamps" / "build.lock"):  # the builder's cache is a database file
        chapters = book.chapters()
        made_of = {
            "inputs": hash_tree(book.root, INPUTS),
            "executed": {chapter.name: chapter.state() for chapter in chapters},
        }
        pages = out / "html" / "index.html"
        if pages.is_file() and stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == made_of:
            source_pages(book, out)
            print("The pages are up to date")
            return 0
        stamp.unlink(missing_ok=True)
        start = time.perf_counter()
        new = hand_over(book, chapters, out)
        print(f"Handed {len(new)} executed chapters to the builder", flush=True)
        status = jupyter_book(book.root, "--quiet", "-n", "-W", "--keep-going")
        if status:
            # Sphinx warns of a page only when it reads it: forget what it read, or the next build would pass silently.
            shutil.rmtree(out / ".doctrees", ignore_errors=True)
            print("The build has warnings or errors, shown above: each counts as a failure")
            return 1
        source_pages(book, out)
        write_text(stamp, json.dumps(made_of))
        print(f"== pages built in {time.perf_counter() - start:.1f} s ==")
        return 0


def source_pages(book: Book, out: Path) -> None:
    """The pages of source code that claims lead to, when a module changed or the pages are new."""
    stamp, now = out / "html" / "source" / ".made-of", hash_tree(book.root, ("src", "tests", "tools/sourcepages.py"))
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != now:
        shutil.rmtree(out / "html" / "source", ignore_errors=True)
        sourcepages.write_all(book.root, out / "html")
        write_text(stamp, now)


def page(book: Book, name: str) -> int:
    """One chapter as a book of its own: fast, and beside the real one, so that nobody's build is disturbed."""
    chapter = book.chapter(name)
    if not run.is_fresh(book, chapter):
        outcomes = run.run_all(book, [chapter], run.execute, 1)
        if any(outcome.problem and outcome.how != "differs" for outcome in outcomes):
            report(outcomes, "executed", time.perf_counter())
            return 1
        for outcome in outcomes:
            print(outcome.problem)
    top = book.root / "_build" / "pages" / chapter.name.replace("/", "-")
    top.mkdir(parents=True, exist_ok=True)
    toc = top / "toc.yml"
    lists = "chapters: [{file: book/references}]\n" if (book.root / "book" / "references.md").is_file() else ""
    write_text(toc, f"format: jb-book\nroot: book/{chapter.name}\n{lists}")
    with alone(top / "lock"):
        hand_over(book, [chapter], top / "_build")
        # Links to other chapters lead nowhere here: warnings are shown, and are not errors.
        status = jupyter_book(book.root, "--quiet", "--toc", str(toc), "--path-output", str(top))
    source_pages(book, top / "_build")
    shown = top / "_build" / "html" / "book" / f"{chapter.name}.html"
    print(shown.as_uri())
    return status


def address(book: Book) -> int:
    index = book.root / "_build" / "html" / "index.html"
    print(f"\nThe book is ready. Open\n\n    {index.as_uri()}\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = ("refresh", "sync", "validate", "execute", "build", "page", "address")
    parser.add_argument("step", choices=steps)
    parser.add_argument("chapters", nargs="*", help="for instance tickets/subset-sums; all of them when none is named")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS", "2")), help="chapters at a time")
    parser.add_argument("--build", help="folder of executed chapters, for runs under another profile (_build)")
    parser.add_argument(
        "--away", action="store_true", help="validate the notebooks to take away, each in an empty folder (_build/away)"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args()
    if given.away and given.step != "validate":
        parser.error("--away goes with validate")
    book = Book(given.root.resolve(), given.build or ("_build/away" if given.away else "_build"), given.away)
    match given.step:
        case "refresh" | "validate" | "execute":
            return {"refresh": refresh, "validate": validate, "execute": execute}[given.step](
                book, given.chapters, given.jobs
            )
        case "sync":
            return sync(book, given.chapters)
        case "page":
            if len(given.chapters) != 1:
                parser.error("page takes one chapter: make page CHAPTER=tickets/subset-sums")
            return page(book, given.chapters[0])
        case "build":
            return build(book)
    return address(book)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
