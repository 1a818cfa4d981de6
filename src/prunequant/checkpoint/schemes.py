"""How the weights of one matrix may be stored, by a name that the report, the plan and the command line share.

    INT4 channel          4-bit integers in two's complement, one scale a row
    INT4 g128             one scale for every 128 values of a row (the last group may be shorter)
    INT4 tensor           one scale in all
    MXFP4, NVFP4, NF4     a format of `prunequant.formats`, its blocks along the row
    FP16                  16-bit floats: nothing is lost that counts here
    2:4 FP16              of four values the largest two, as 16-bit floats
    2:4 INT4 g128         the same two as integers
    75% FP16              three quarters pruned, the smallest of the whole matrix, with a bitmap

Every name has one size in bits, to the last bit: values, scales, masks. Integer scales are 16-bit floats. A file that
stores only what is kept is read by few programs: the answers of the book say which (practice/so-what-should-i-do). Ours
are read back by `prunequant.checkpoint`; written as compressed-tensors or GGUF a pruned matrix is dense, with zeros.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from prunequant import arguments, formats
from prunequant.sparsity import pruned_count

SCALE_BITS = 16
LARGEST_SIDE = 2**40  # of a matrix
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
GROUPS = (16, 32, 64, 128, 256)
# The scales that are tried for integers of b bits, as multiples of a / 2^(b−1), a the largest magnitude of the group,
# each rounded to half precision. Judging goes down the list and stops at the first whose error is more than WORSE times
# the least so far (on its way down the error may rise and fall again, by less than that). Of the scale of least error,
# the first of equals, one step of least squares, s = Σ x q / Σ q², in half precision too, stays if its error is less.
# No scale is below 2^-14, the least of half precision with all its digits.
# Lost against the exact best scale (`distortion.best_scale`), errors of many groups added, the worst of Gaussian,
# Laplace and t(3) values, in dB at 2, 3, 4, 8 bits: rows of 1536 .01, .02, .02, .20; groups of 128 .01, .02, .04,
# .58; of 32 .01, .03, .05, 1.1 (so few an exact search fits one by one). tests/checkpoint/test_schemes.py measures it.
_FIRST = {2: 2.0, 3: 1.34, 4: 1.3, 5: 1.3, 6: 1.3, 7: 1.27, 8: 1.22}
_PER_OCTAVE = {2: 4, 3: 6, 4: 10, 5: 12, 6: 16, 7: 16, 8: 16}
_HOW_MANY = {2: 24, 3: 22, 4: 22, 5: 16, 6: 12, 7: 9, 8: 7}
CANDIDATES: Mapping[int, tuple[float, ...]] = {
    b: tuple(_FIRST[b] * 2.0 ** (-j / _PER_OCTAVE[b]) for j in range(_HOW_MANY[b])) for b in WIDTHS
}
WORSE = 2.0
_NAME = re.compile(
    r"(?:(?P<n>\d{1,4}):(?P<m>\d{1,4}) |(?P<percent>\d{1,2}(?:\.\d{1,4})?)% )?"
    r"(?:INT(?P<bits>\d) (?P<granularity>tensor|channel|g(?P<group>\d{1,6}))|(?P<format>[A-Z0-9]+(?: [A-Z0-9]+)?))"
)
_BLOCKED = ("MXFP4", "MXFP6", "MXFP8", "MXINT8", "NVFP4", "NF4")


@dataclass(frozen=True)
class Scheme:
    """One way to store a matrix; made by `Scheme.named`.

    bits : of an integer; None when the values are floats or of a format
    granularity : "tensor", "channel", or how many values of a row share a scale; None when the format says it
    format : "FP16" or a name in `prunequant.formats`; None for integers
    pattern : (n, m), of m neighbours n are kept; the share that is pruned; or None
    """

    name: str
    bits: int | None = None
    granularity: str | int | None = None
    format: str | None = None
    pattern: tuple[int, int] | float | None = None

    @staticmethod
    def named(name: str) -> Scheme:
        """The scheme of a name.

        Raises
        ------
        TypeError : a name that is no string.
        ValueError : a name that is none.

        Examples
        --------
        >>> Scheme.named("2:4 INT4 g128")
        Scheme(name='2:4 INT4 g128', bits=4, granularity=128, format=None, pattern=(2, 4))
        >>> Scheme.named("MXFP4").stored_bits(1024, 1024) / 1024**2
        4.25
        """
        if not isinstance(name, str):
            raise TypeError(f"scheme is {arguments.shown(name)}: it must be a name such as 'INT4 g128'")
        return _named(name)

    @property
    def pruned(self) -> float:
        """The share of the weights that is set to zero."""
        if isinstance(self.pattern, tuple):
            return 1 - self.pattern[0] / self.pattern[1]
        return self.pattern or 0.0

    @property
    def value_bits(self) -> int:
        """Bits of one value, its share of a scale apart."""
        if self.bits is not None:
            return self.bits
        return 16 if self.format == "FP16" else formats.named(self.format or "").element_bits

    def problem(self, rows: int, columns: int) -> str:
        """Why a matrix of this shape cannot be stored so; empty when it can."""
        rows, columns = _checked(rows, columns)
        if isinstance(self.pattern, tuple) and columns % self.pattern[1]:
            return f"rows of {columns} values are no whole number of groups of {self.pattern[1]}"
        return ""

    def scales(self, rows: int, columns: int) -> int:
        """How many integer scales are stored."""
        rows, columns = _checked(rows, columns)
        if self.bits is None:
            return 0
        if isinstance(self.granularity, int):
            return rows * -(-columns // self.granularity)
        return rows if self.granularity == "channel" else 1

    def stored_bits(self, rows: int, columns: int) -> int:
        """Bits in all: the values that are kept, scales, and the mask.

        A pattern n:m stores ⌈log2 m⌉ bits for the place of every kept value, a share one bit a weight. A format's
        blocks are those of the whole row.

        Raises
        ------
        ValueError : a shape that the scheme does not fit, see `problem`.

        Examples
        --------
        >>> [Scheme.named(s).stored_bits(64, 256) / 64 / 256 for s in ("INT4 channel", "2:4 FP16", "75% FP16")]
        [4.0625, 9.0, 5.0]
        """
        rows, columns = _checked(rows, columns)
        if why := self.problem(rows, columns):
            raise ValueError(f"{self.name} does not fit {rows} × {columns}: {why}")
        count = rows * columns
        kept, mask = count, 0
        if isinstance(self.pattern, tuple):
            kept = count // self.pattern[1] * self.pattern[0]
            mask = kept * math.ceil(math.log2(self.pattern[1]))
        elif self.pattern:
            kept, mask = count - pruned_count(self.pattern, count), count
        if self.bits is not None or self.format == "FP16":
            return kept * self.value_bits + self.scales(rows, columns) * SCALE_BITS + mask
        fmt = formats.named(self.format or "")
        blocks = rows * -(-columns // (fmt.block_size or columns))
        return kept * fmt.element_bits + blocks * fmt.scale_bits + fmt.tensor_bits + mask


def _checked(rows: int, columns: int) -> tuple[int, int]:
    return arguments.integer(rows, "rows", 1, LARGEST_SIDE), arguments.integer(columns, "columns", 1, LARGEST_SIDE)


@cache
def _named(name: str) -> Scheme:
    matched = _NAME.fullmatch(name)
    what = f"scheme is {arguments.shown(name)}: no name of one; "
    if re.fullmatch(r"(.* )?INT\d", name):
        raise ValueError(what + f"say what shares a scale: '{name} channel', '{name} g128' or '{name} tensor'")
    if matched is None:
        raise ValueError(
            what + "it must be a name such as 'INT4 g128', 'INT8 channel', '2:4 FP16', '75% FP16', 'MXFP4'"
        )
    pattern: tuple[int, int] | float | None = None
    if matched["n"]:
        pattern = (int(matched["n"]), int(matched["m"]))
        if not 0 < pattern[0] < pattern[1] <= 1024:
            raise ValueError(what + "of m neighbours, m at most 1024, at least one and not all are kept")
    elif matched["percent"]:
        pattern = float(matched["percent"]) / 100
        if pattern == 0:
            raise ValueError(what + "a share that is pruned lies above 0%")
    if matched["format"]:
        known = ("FP16", *_BLOCKED)
        if matched["format"] not in known:
            raise ValueError(what + f"a format is one of {', '.join(known)}")
        return Scheme(name, format=matched["format"], pattern=pattern)
    bits = int(matched["bits"])
    if bits not in WIDTHS:
        raise ValueError(what + f"integers have {WIDTHS[0]} to {WIDTHS[-1]} bits")
    granularity = int(matched["group"]) if matched["group"] else matched["granularity"]
    if granularity == 0:
        raise ValueError(what + "a group holds at least one value")
    return Scheme(name, bits, granularity, None, pattern)
