"""Every claim of the book: its statement, the function that measures it, the controls that must fail, the verdict.

`registry()` maps an id to its `Claim`; in a chapter `show(id)` prints the statement and `check(id)` measures it and its
controls. The claims of the chapter book/PART/CHAPTER.md stand in the module PART/CHAPTER.py here; what several chapters
measure with stands in `prunequant.studies`.
"""

from .core import Budget, Claim, Evidence, Figure, Outcome, Registry, Source, Verdict, claim, registry
from .render import check, show, table
from .run import drift, kinds, run, run_all, to_record

__all__ = [
    "Budget",
    "Claim",
    "Evidence",
    "Figure",
    "Outcome",
    "Registry",
    "Source",
    "Verdict",
    "check",
    "claim",
    "drift",
    "kinds",
    "registry",
    "run",
    "run_all",
    "show",
    "table",
    "to_record",
]
