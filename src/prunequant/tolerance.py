"""How two printed outputs are compared: word by word, and number by number where a tolerance is declared.

Without a tolerance equal means equal, character by character. A tolerance is for a *sensitive* number alone: one that
comes from training, or from counts over thresholds of floats, where the last bit of a processor decides. It is
declared beside the number (in the metadata of a chapter's cell, or in a claim's `Figure`) with its reason in words, and
the largest share of it that a run used is reported, so that a tolerance far wider than needed is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from prunequant import arguments

NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from its reference, and why.

    Attributes
    ----------
    reason : in words, for the reader
    relative, absolute : for a number with a decimal point or an exponent: |number − reference| may be
        absolute + relative · |reference|
    counts : for a whole number: how many it may be off; 0 keeps whole numbers exact

    Examples
    --------
    >>> Tolerance("a network trained here", absolute=0.002).text()
    'compared within ±0.002: a network trained here'
    """

    reason: str
    relative: float = 0.0
    absolute: float = 0.0
    counts: int = 0

    def __post_init__(self) -> None:
        if not arguments.instance(self.reason, "reason", str, "a reason in words").strip():
            raise ValueError("reason is empty: a tolerance says why it is there")
        object.__setattr__(self, "relative", arguments.real(self.relative, "relative", 0, 1))
        object.__setattr__(self, "absolute", arguments.real(self.absolute, "absolute", 0))
        object.__setattr__(self, "counts", arguments.integer(self.counts, "counts", 0))
        if not (self.relative or self.absolute or self.counts):
            raise ValueError("relative, absolute and counts are all 0: an exact comparison needs no tolerance")

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Tolerance:
        """From the fields of a cell's metadata or of a record; an unknown field is an error."""
        arguments.instance(fields, "fields", Mapping, "a mapping of the names of a tolerance's fields to their values")
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown or "reason" not in fields:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"fields holds {', '.join(map(str, fields))}: give reason and some of {known}")
        return cls(**fields)

    def fields(self) -> dict[str, Any]:
        """What `read` takes: the reason and whatever is not zero."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if getattr(self, name)}

    def allowed(self, reference: str) -> float:
        """The largest deviation from a reference number, given as printed."""
        if _is_whole(reference, "reference"):
            return float(self.counts)
        return self.absolute + self.relative * abs(_value(reference, "reference"))

    def text(self) -> str:
        """For the reader: the size, then the reason."""
        parts = [f"±{self.absolute:g}"] * bool(self.absolute) + [f"±{100 * self.relative:g} %"] * bool(self.relative)
        parts += [f"±{self.counts} in a count"] * bool(self.counts)
        return f"compared within {' and '.join(parts)}: {self.reason}"


@dataclass(frozen=True)
class Comparison:
    """The outcome: equal or not, the largest share of the tolerance used, and the first difference in words."""

    equal: bool
    used: float = 0.0
    difference: str = ""


def value(number: str) -> float:
    """The value of a number as printed: thousands in groups, a minus of either kind.

    Examples
    --------
    >>> value("−1,234.5"), value("1.2e-05")
    (-1234.5, 1.2e-05)
    """
    return _value(number, "number")


def _value(number: str, name: str) -> float:
    if not NUMBER.fullmatch(arguments.instance(number, name, str, "a number as printed")):
        raise ValueError(f"{name} is {arguments.shown(number)}: it must be a number as printed, such as '1,234.5'")
    return float(number.replace(",", "").replace("−", "-"))


def is_whole(number: str) -> bool:
    """Whether a number is printed without a decimal point and without an exponent.

    Examples
    --------
    >>> is_whole("1,969"), is_whole("2.0")
    (True, False)
    """
    return _is_whole(number, "number")


def _is_whole(number: str, name: str) -> bool:
    text = arguments.instance(number, name, str, "a number as printed")
    return text.lstrip("+-−").replace(",", "").isdigit()


def compare(text: str, reference: str, tolerance: Tolerance | None = None) -> Comparison:
    """Compare a printed text with its reference.

    With a tolerance the words must be the same and each number near its reference; the blanks that align a column may
    differ.

    Examples
    --------
    >>> near = Tolerance("a network trained here", absolute=0.01)
    >>> compare("loss 0.198 at step 4", "loss 0.195 at step 4", near)
    Comparison(equal=True, used=0.3, difference='')
    >>> compare("loss 0.195 at step 5", "loss 0.195 at step 4", near).difference
    'line 1: 5 against 4 in the reference, where 0 is allowed'
    """
    arguments.instance(text, "text", str, "a printed text")
    arguments.instance(reference, "reference", str, "a printed text")
    if tolerance is not None:
        arguments.instance(tolerance, "tolerance", Tolerance, "a Tolerance, or None")
    if text == reference:
        return Comparison(True)
    used = 0.0
    for number, (ours, theirs) in enumerate(zip_longest(text.splitlines(), reference.splitlines()), start=1):
        if ours == theirs:
            continue
        if ours is None or theirs is None:
            gone = "is missing" if ours is None else "is not in the reference"
            return Comparison(False, used, f"line {number} {gone}: {(ours or theirs or '').strip()}")
        if tolerance is None:
            return Comparison(False, used, f"line {number} differs, and its comparison is exact")
        if _words(ours) != _words(theirs):
            return Comparison(False, used, f"line {number}: the words differ")
        for here, there in zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True):
            if here == there:
                continue
            gap, allowed = abs(value(here) - value(there)), tolerance.allowed(there)
            share = round(gap / allowed, 6) if allowed else float("inf")
            used = max(used, share)
            if share > 1:
                far = f"{here} against {there} in the reference, where {allowed:g} is allowed"
                return Comparison(False, used, f"line {number}: {far}")
    return Comparison(True, used)


def _words(line: str) -> list[str]:
    """What stands between the numbers of a line, each stretch of blanks (and of a table's rule) as one."""
    return re.sub(r"[ \t]+|-{2,}|─{2,}", " ", NUMBER.sub("#", line)).replace("# ", "#").replace(" #", "#").split("#")
