"""Every claim of the book: its statement, the function that measures it, the controls that must fail, the verdict.

`registry()` maps an id to its `Claim`; in a chapter `show(id)` prints the statement and `check(id)` measures it and its
controls. The claims of the chapter book/PART/CHAPTER.md stand in the module PART/CHAPTER.py here; what several chapters
measure with stands in `prunequant.studies`.
"""

from .core import Budget, Change, Claim, Evidence, Figure, Outcome, Registry, Source, Verdict, claim, registry
from .ledger import changes, in_order, table, tally
from .render import Rendered, check, link, show
from .run import drift, kinds, run, run_all, to_record

__all__ = [
    "Budget",
    "Change",
    "Claim",
    "Evidence",
    "Figure",
    "Outcome",
    "Registry",
    "Rendered",
    "Source",
    "Verdict",
    "changes",
    "check",
    "claim",
    "drift",
    "in_order",
    "kinds",
    "link",
    "registry",
    "run",
    "run_all",
    "show",
    "table",
    "tally",
    "to_record",
]
