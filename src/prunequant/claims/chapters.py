"""Which module holds which claim, and which chapter a module belongs to: found by reading, nothing is imported.

The claims of the chapter `book/PART/CHAPTER.md` stand in `prunequant/claims/PART/CHAPTER.py`, with underscores for
hyphens, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

PACKAGE = "prunequant.claims"
# Folders of chapters, here as in the book.
PARTS = ("tickets", "paths", "versus", "interplay", "cases", "practice", "since")
_CHAPTER = re.compile(rf"({'|'.join(PARTS)})/[a-z0-9]+(-[a-z0-9]+)*")
_DECLARED = re.compile(r"^@claim\(", re.MULTILINE)
_NAMED = re.compile(r'^@claim\(\s*id="([^"\\]+)",', re.MULTILINE)


def chapter_of(module: str) -> str:
    """The chapter whose claims a module holds, below book/ and without suffix.

    Raises
    ------
    ValueError : it is no module of a part.

    Examples
    --------
    >>> chapter_of("prunequant.claims.tickets.subset_sums")
    'tickets/subset-sums'
    """
    part, _, chapter = module.removeprefix(f"{PACKAGE}.").partition(".")
    if not module.startswith(f"{PACKAGE}.") or part not in PARTS or not chapter or "." in chapter:
        raise ValueError(
            f"module is {module!r}: a claim stands in {PACKAGE}.PART.CHAPTER with PART one of {', '.join(PARTS)}"
        )
    return f"{part}/{chapter.replace('_', '-')}"


def test_of(chapter: str) -> str:
    """The test file of a chapter's claims, relative to the root of the project.

    Examples
    --------
    >>> test_of("tickets/subset-sums")
    'tests/claims/tickets/test_subset_sums.py'
    """
    part, _, name = chapter.partition("/")
    return f"tests/claims/{part}/test_{name.replace('-', '_')}.py"


def files(name: str) -> dict[str, str]:
    """The files of the project that change when a claim is added or changed, and what to do with each.

    Parameters
    ----------
    name : the id of a claim, or a chapter, such as "tickets/subset-sums", that a new one is meant for.

    Returns
    -------
    path from the root of the project → what stands there, or the command that writes it; in the order of the work.

    Raises
    ------
    ValueError : neither a known claim nor the name of a chapter.

    Examples
    --------
    >>> list(files("kumar2025.lemma2"))[:2]
    ['src/prunequant/claims/tickets/subset_sums.py', 'tests/claims/tickets/test_subset_sums.py']
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}: it must be the id of a claim or a chapter, such as 'tickets/subset-sums'")
    chapter = chapter_of(index()[name]) if name in index() else name
    if not _CHAPTER.fullmatch(chapter):
        raise ValueError(
            f"no claim and no chapter {name!r}: a chapter is PART/NAME with PART one of {', '.join(PARTS)}; "
            f"known claims: {', '.join(index())}"
        )
    # the table of all claims, three pages that count them, and the answers that rest on them, with their verdicts
    pages = ("ledger", "index", "about-the-papers", "checked", "practice/so-what-should-i-do")
    return {
        f"src/prunequant/claims/{chapter.replace('-', '_')}.py": "the claim: statement, check, controls, verdict",
        test_of(chapter): "measures the chapter's claims; tests what they measure with",
        f"book/{chapter}.md": "claims.show, the proof, claims.check",
        "book/results/ledger.json": "make ledger",
        f"book/reference/{chapter}.ipynb": f"make refresh CHAPTER={chapter}",
        **{f"book/reference/{page}.ipynb": f"make refresh CHAPTER={page}" for page in pages},
    }


def read_index(folder: Path) -> dict[str, str]:
    """The module of each claim, by id, in the order of parts, chapters and lines.

    Parameters
    ----------
    folder : where the package of claims lies; every module below it is read.

    Raises
    ------
    ValueError : a module of a part declares no claim, a module elsewhere does, a declaration does not begin with its
        id as a plain string, or an id stands twice. Nothing is skipped.
    """
    modules: dict[str, str] = {}
    paths = [path for path in folder.rglob("*.py") if "__pycache__" not in path.parts]
    order = {part: number for number, part in enumerate(PARTS)}
    for path in sorted(paths, key=lambda p: (order.get(p.parent.name, len(PARTS)), p)):
        name, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
        ids, declared = _NAMED.findall(text), len(_DECLARED.findall(text))
        chapter = len(path.relative_to(folder).parts) == 2 and path.parent.name in order and path.stem != "__init__"
        if chapter and not declared:
            raise ValueError(f"claims/{name} declares no claim: what two share stands in the earlier one")
        if declared and not chapter:
            raise ValueError(f"claims/{name} declares a claim: it must stand in claims/PART/CHAPTER.py")
        if len(ids) < declared:
            raise ValueError(f'claims/{name}: a declaration begins @claim(id="paper.place", a plain string')
        module = f"{PACKAGE}.{name.removesuffix('.py').replace('/', '.')}"
        for claim_id in ids:
            if claim_id in modules:
                raise ValueError(f"claim {claim_id!r} stands twice: in {modules[claim_id]} and in {module}")
            modules[claim_id] = module
    return modules


@lru_cache(maxsize=1)
def index() -> Mapping[str, str]:
    """The module of each claim of the project, by id; read once."""
    return MappingProxyType(read_index(Path(__file__).resolve().parent))
