"""The claim: one statement of one paper, a function that measures it, and controls that must fail.

A claim that cannot fail proves nothing, so one without a control never agrees; and a verdict that the measurement
contradicts is reported as a contradiction, whichever of the two we liked better.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from prunequant.tolerance import Tolerance

from .chapters import chapter_of, index, test_of

PAPERS = {
    "kumar2025": "Kumar and Natale 2025, arXiv 2508.11020",
    "zhang2025": "Zhang and Saab 2025, arXiv 2412.18184",
    "kuzmin2023": "Kuzmin et al. 2023, arXiv 2307.02973",
    "harma2025": "Harma et al. 2024, arXiv 2405.20935",
    "ours": "this book",
}
WORDINGS = {
    "quoted": "in the paper's words",
    "paraphrased": "in our words, after the paper's text",
    "restored": "in our words, after the paper's text; a display formula that our copy lost is restored from its proof",
    "reconstructed": "reconstructed without the paper's text",
    "ours": "new here",
}


class Verdict(StrEnum):
    """What we found, not what we hoped."""

    HOLDS = "holds"
    LOOSE = "loose"
    CONDITIONAL = "conditional"
    FAILS_AS_STATED = "fails as stated"
    OPEN = "open"


Size = TypeVar("Size")  # of whatever kind the three are


class Budget(StrEnum):
    """How much work a check may do: QUICK about two CPU seconds, BOOK a chapter's share, FULL minutes to hours."""

    # A StrEnum, because the oldest typer that the floors admit compares an option's default with its words.

    QUICK = "quick"
    BOOK = "book"
    FULL = "full"

    def pick(self, quick: Size, book: Size, full: Size) -> Size:
        """The one of three sizes that this budget allows."""
        return {Budget.QUICK: quick, Budget.BOOK: book, Budget.FULL: full}[self]


@dataclass(frozen=True)
class Source:
    """Where a statement stands, and whose words it is in: a key of `WORDINGS`."""

    paper: str
    place: str
    wording: str = "reconstructed"

    def __post_init__(self) -> None:
        if self.paper not in PAPERS:
            raise ValueError(f"paper is {self.paper!r}: known papers are {', '.join(PAPERS)}")
        if self.wording not in WORDINGS:
            raise ValueError(f"wording is {self.wording!r}: one of {', '.join(WORDINGS)}")


@dataclass(frozen=True)
class Change:
    """That a claim was judged otherwise before, or bore another id: the verdict then, the reason, the id then."""

    was: Verdict | None  # None: the statement was not among the claims
    why: str
    formerly: str = ""

    def __post_init__(self) -> None:
        if not self.why.strip():
            raise ValueError("a change of a verdict without a reason")


@dataclass(frozen=True)
class Figure:
    """One measured number with its name, unit and, where it is an estimate, its confidence interval.

    It is compared with its record as printed, exactly; a sensitive one (training behind it, a count over thresholds of
    floats) carries a tolerance with its reason.
    """

    name: str
    value: float | int | str
    unit: str = ""
    interval: tuple[float, float] | None = None
    digits: int = 3
    tolerance: Tolerance | None = None

    def text(self) -> str:
        """The number as printed everywhere: `digits` significant digits, its interval, its unit."""
        out = format_number(self.value, self.digits)
        if self.interval is not None:
            low, high = (format_number(end, self.digits) for end in self.interval)
            out += f" [{low}, {high}]"
        return f"{out} {self.unit}".rstrip()


def format_number(value: float | int | str, digits: int = 3) -> str:
    """A number at a fixed count of significant digits; integers whole, in groups of three; words as they are.

    Examples
    --------
    >>> format_number(0.00012345), format_number(1234567), format_number(19.2584, 4)
    ('0.000123', '1,234,567', '19.26')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(float(value))
    if not 1e-4 <= size < 1e6:
        return f"{float(value):.{digits - 1}e}"
    return f"{float(value):#.{digits}g}".rstrip(".")


@dataclass(frozen=True)
class Evidence:
    """What one run of a check measured.

    `holds` says whether the statement, as worded in the registry, held in this run. It is given as a mapping, each
    thing that must be so in words → whether it was, and is true when all of them were; what a control must break is
    named by these words. A check of one thing may give a plain truth value. `slack` is the factor between bound (or
    prediction) and measurement, at least 1 when the bound is respected; `counterexample` is the smallest one found, in
    words.

    Examples
    --------
    >>> evidence = Evidence({"the sums agree": True, "none is negative": False}, (Figure("sums", 12),))
    >>> evidence.holds, evidence.broken
    (False, ('none is negative',))
    """

    holds: bool | Mapping[str, bool]
    figures: tuple[Figure, ...]
    bound: Figure | None = None
    slack: float | None = None
    trials: int | None = None
    seed: int | None = None
    counterexample: str = ""
    note: str = ""
    conditions: Mapping[str, bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.holds, Mapping):
            if not self.holds:
                raise ValueError("evidence with an empty list of conditions: it could not fail")
            object.__setattr__(self, "conditions", {name: bool(met) for name, met in self.holds.items()})
            object.__setattr__(self, "holds", all(self.conditions.values()))
        object.__setattr__(self, "holds", bool(self.holds))
        object.__setattr__(self, "figures", tuple(self.figures))
        if not self.figures:
            raise ValueError("evidence without a figure: a check must report what it measured")

    @property
    def broken(self) -> tuple[str, ...]:
        """The conditions that were not met."""
        return tuple(name for name, met in self.conditions.items() if not met)

    @property
    def all_figures(self) -> tuple[Figure, ...]:
        """Every figure, the bound last."""
        return self.figures if self.bound is None else (*self.figures, self.bound)

    def rows(self) -> list[tuple[str, str]]:
        """Name and text of everything measured, in the order shown to a reader."""
        rows = [(f.name, f.text()) for f in self.figures]
        if self.bound is not None:
            rows.append((self.bound.name, self.bound.text()))
        if self.slack is not None:
            rows.append(("slack", f"{format_number(self.slack)} ×"))
        if self.trials is not None:
            rows.append(("trials", format_number(self.trials)))
        if self.seed is not None:
            rows.append(("seed", str(self.seed)))
        if self.counterexample:
            rows.append(("counterexample", self.counterexample))
        if self.note:
            rows.append(("note", self.note))
        return rows


Check = Callable[[Budget], Evidence]


@dataclass(frozen=True)
class Claim:
    """A statement with its check, its controls and the verdict that its evidence must support.

    Parameters
    ----------
    id, title : `paper.place`, and a line that says it in words.
    statement : what is judged; where the source is a paper, what the paper states, without a hypothesis of ours.
    source : where it stands, and whose words these are.
    chapter : the page that proves it.
    verdict, remark : what we found.
    check : the measurement.
    truth, difference : what is true, and how that differs, where the statement is not true as it stands.
    factor, ceiling : with LOOSE, between which the slack of the bound lies.
    condition : with CONDITIONAL, the hypothesis that is missing, in a few words.
    sanity : why the check can only catch a crash, for a statement that is an identity or has a large factor to spare.
    controls : the same measurement with a hypothesis removed or a constant changed; it must not hold.
    breaks : for each control, the conditions that it must break, these and no others.
    confirmations : with FAILS_AS_STATED, the same measurement of what is true instead; it must hold.
    changes : earlier verdicts and ids, the oldest first.
    """

    id: str
    title: str
    statement: str
    source: Source
    chapter: str
    verdict: Verdict
    remark: str
    check: Check
    truth: str = ""
    difference: str = ""
    factor: float | None = None
    ceiling: float | None = None
    condition: str = ""
    sanity: str = ""
    controls: dict[str, Check] = field(default_factory=dict)
    breaks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    confirmations: dict[str, Check] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "title", "statement", "chapter", "remark"):
            if not getattr(self, name).strip():
                raise ValueError(f"claim {self.id or '?'}: {name} is empty")
        paper, _, place = self.id.partition(".")
        if not place or paper not in (*PAPERS, "cases"):
            raise ValueError(f"id is {self.id!r}: write paper.place with paper one of {', '.join(PAPERS)}, cases")
        if self.verdict is Verdict.LOOSE and self.factor is None:
            raise ValueError(f"claim {self.id}: a LOOSE verdict carries its factor (factor=…, the least slack)")
        if self.verdict is Verdict.CONDITIONAL and not self.condition:
            raise ValueError(f"claim {self.id}: a CONDITIONAL verdict names the missing hypothesis (condition=…)")
        if self.ceiling is not None and not (self.factor is not None and self.factor < self.ceiling):
            raise ValueError(f"claim {self.id}: ceiling is {self.ceiling}: it must be above the factor, {self.factor}")
        if bool(self.truth.strip()) != bool(self.difference.strip()):
            raise ValueError(f"claim {self.id}: truth and difference are said together, or neither")

    def control(self, name: str, breaks: str | Sequence[str] = ()) -> Callable[[Check], Check]:
        """Register the same measurement with a hypothesis removed or a constant changed: it must not hold.

        Parameters
        ----------
        name : what was changed, in words.
        breaks : the condition (or conditions) of its evidence that it must break; the others must still be met.
        """

        def register(function: Check) -> Check:
            self._add(self.controls, name, function)
            self.breaks[name] = (breaks,) if isinstance(breaks, str) else tuple(breaks)
            return function

        return register

    def confirmation(self, name: str) -> Callable[[Check], Check]:
        """Register the same measurement of what is true in place of a statement that fails: it must hold."""

        def register(function: Check) -> Check:
            self._add(self.confirmations, name, function)
            return function

        return register

    def _add(self, there: dict[str, Check], name: str, function: Check) -> None:
        if name in self.controls or name in self.confirmations:
            raise ValueError(f"claim {self.id} already has a control named {name!r}")
        there[name] = function

    def disagreement(self, evidence: Evidence) -> str | None:
        """Why this evidence contradicts the verdict, or None when the two agree."""
        if self.verdict is Verdict.OPEN:
            return None if evidence.holds else "the verdict is 'open', but what can be measured of it did not hold"
        if self.verdict is Verdict.FAILS_AS_STATED:
            if evidence.holds:
                return "the verdict is 'fails as stated' but the statement held"
            return None if evidence.counterexample else "the statement failed but no counterexample was reported"
        if not evidence.holds:
            return f"the verdict is '{self.verdict}' but the statement did not hold"
        if self.verdict is Verdict.LOOSE:
            if evidence.slack is None:
                return "the verdict is 'loose' but no slack was measured"
            if self.factor is not None and evidence.slack < self.factor:
                return f"loose by {self.factor:g} × was claimed but the slack is {evidence.slack:.3g} ×"
            if self.ceiling is not None and not evidence.slack <= self.ceiling:
                return f"loose by at most {self.ceiling:g} × was claimed but the slack is {evidence.slack:.3g} ×"
        return None

    @property
    def test(self) -> str:
        """The test file of its chapter, relative to the root of the project."""
        return test_of(self.chapter)

    def where(self, function: Check | None = None) -> tuple[str, int]:
        """Module file (relative to the source root) and first line of the check, or of a control."""
        function = inspect.unwrap(function or self.check)
        line = inspect.getsourcelines(function)[1]
        path = Path(inspect.getsourcefile(function) or inspect.getfile(function)).resolve()
        root = Path(__file__).resolve().parents[2]
        return (path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name), line


class Registry(Mapping[str, Claim]):
    """Claims by id; what is listed and not yet there is imported when it is asked for, one module at a time.

    Parameters
    ----------
    modules : the module that holds each claim, by id, see `chapters.index`; without it only `add` fills it.

    Notes
    -----
    Ids, their number and their order need no import; the values do.
    """

    def __init__(self, modules: Mapping[str, str] | None = None) -> None:
        self._modules = modules
        self._claims: dict[str, Claim] = {}

    def __getitem__(self, key: str) -> Claim:
        if key not in self._claims and self._modules is not None and key in self._modules:
            import_module(self._modules[key])
        if key not in self._claims:
            raise KeyError(f"no claim {key!r}; known claims: {', '.join(sorted(self)) or 'none'}")
        return self._claims[key]

    def __contains__(self, key: object) -> bool:
        return key in (self._claims if self._modules is None else self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._claims if self._modules is None else self._modules)

    def __len__(self) -> int:
        return len(self._claims if self._modules is None else self._modules)

    def add(self, claim: Claim) -> None:
        """Add a claim; the same id twice is an error, and so is one that is not listed for its module."""
        if claim.id in self._claims:
            raise ValueError(f"claim {claim.id!r} is registered twice")
        module = claim.check.__module__
        if self._modules is not None and self._modules.get(claim.id) != module:
            raise ValueError(f'claim {claim.id!r} of {module} is not found by reading it: begin with @claim(id="…"')
        self._claims[claim.id] = claim


@lru_cache(maxsize=1)
def registry() -> Registry:
    """Every claim of the project, in the order of parts and chapters; to ask for one imports its module alone."""
    return Registry(index())


def claim(*, into: Registry | None = None, **fields: Any) -> Callable[[Check], Claim]:
    """Decorator: turn a check `(budget) -> Evidence` into a registered `Claim` (see `Claim` for the fields).

    The decorated name becomes the claim, so that `@name.control("…")` adds a control below it. The chapter is not
    among the fields: it follows from the module.
    """

    def register(check: Check) -> Claim:
        declared = Claim(check=check, chapter=chapter_of(check.__module__), **fields)
        (registry() if into is None else into).add(declared)
        return declared

    return register


@dataclass(frozen=True)
class Outcome:
    """A claim with what its check and its controls measured, and what, if anything, speaks against the verdict.

    `evidence` is None where nothing was measured: `skipped` says what the check needs and did not find, `error` what
    it raised.
    """

    claim: Claim
    budget: Budget
    evidence: Evidence | None
    controls: dict[str, Evidence]
    seconds: float = 0.0
    skipped: str = ""
    error: str = ""
    confirmations: dict[str, Evidence] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """Empty when evidence, verdict and controls agree, and when the claim could not be measured here."""
        if self.error:
            return (f"the check raised {self.error}",)
        if self.evidence is None:
            return ()
        faults = []
        reason = self.claim.disagreement(self.evidence)
        if reason:
            faults.append(reason)
        if not self.controls:
            faults.append("the claim has no control")
        for name, evidence in self.controls.items():
            if evidence.holds:
                faults.append(f"the control '{name}' held, but must fail")
            elif (wanted := self.claim.breaks.get(name, ())) and set(evidence.broken) != set(wanted):
                broken = " and ".join(evidence.broken) or "none that is named"
                faults.append(f"the control '{name}' must break: {' and '.join(wanted)}; it broke: {broken}")
        if self.claim.verdict is Verdict.FAILS_AS_STATED and not self.confirmations:
            faults.append("the statement fails, and no confirmation shows that the measurement can hold")
        faults += [f"the confirmation '{n}' did not hold" for n, e in self.confirmations.items() if not e.holds]
        return tuple(faults)

    @property
    def agrees(self) -> bool:
        """Whether the verdict stands after this run; never where nothing was measured."""
        return self.evidence is not None and not self.problems

    def without_time(self) -> Outcome:
        """The same outcome without its wall time, for comparison."""
        return replace(self, seconds=0.0)
