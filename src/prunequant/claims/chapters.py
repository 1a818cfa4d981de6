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
PARTS = ("tickets", "paths", "versus", "interplay", "cases")  # folders of chapters, here as in the book
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
    found: dict[str, str] = {}
    paths = [path for path in folder.rglob("*.py") if "__pycache__" not in path.parts]
    order = {part: number for number, part in enumerate(PARTS)}
    for path in sorted(paths, key=lambda p: (order.get(p.parent.name, len(PARTS)), p)):
        name, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
        ids, declared = _NAMED.findall(text), len(_DECLARED.findall(text))
        chapter = len(path.relative_to(folder).parts) == 2 and path.parent.name in order and path.stem != "__init__"
        if chapter and not declared:
            raise ValueError(f"claims/{name} declares no claim: what chapters share stands in claims/shared")
        if declared and not chapter:
            raise ValueError(f"claims/{name} declares a claim: it must stand in claims/PART/CHAPTER.py")
        if len(ids) < declared:
            raise ValueError(f'claims/{name}: a declaration begins @claim(id="paper.place", a plain string')
        module = f"{PACKAGE}.{name.removesuffix('.py').replace('/', '.')}"
        for claim_id in ids:
            if claim_id in found:
                raise ValueError(f"claim {claim_id!r} stands twice: in {found[claim_id]} and in {module}")
            found[claim_id] = module
    return found


@lru_cache(maxsize=1)
def index() -> Mapping[str, str]:
    """The module of each claim of the project, by id; read once."""
    return MappingProxyType(read_index(Path(__file__).resolve().parent))
