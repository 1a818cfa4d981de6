"""What became of a model: a row for every matrix that was compressed, a line for every tensor that was not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunequant.checkpoint.writing import DIGEST, counted, fixed

VERSION = 1
METHOD = 12  # characters of the name of a method


@dataclass(frozen=True)
class Row:
    """What became of one matrix.

    Parameters
    ----------
    name, scheme, method : of the matrix
    rows, columns : its shape as a matrix
    stored_bytes : in the new file
    snr : dB, energy of the weights against that of what is lost; infinite when nothing is
    error : Σ (w − ŵ)², which `verify` computes again from the source
    output_snr : dB, the same of what the matrix gives for the calibration inputs; NaN without them
    zeros_before, zeros_after : how many weights are zero
    keeps_zero : whether the scheme has a code for zero
    clamped : groups whose scale was raised to the least that 16 bits hold in full
    """

    name: str
    scheme: str
    method: str
    rows: int
    columns: int
    stored_bytes: int
    snr: float
    error: float
    output_snr: float
    zeros_before: int
    zeros_after: int
    keeps_zero: bool
    clamped: int = 0

    @property
    def weights(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class Left:
    """A tensor that is in the new file as it was, and why."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    reason: str


@dataclass(frozen=True)
class Compressed:
    """A written file: `rows` of what was compressed, `left` of what was not, its size as predicted and as it is.

    The bytes of a folder are those of all its files; `source_bytes` are of the files of weights alone.
    """

    path: Path
    target: str
    rows: tuple[Row, ...]
    left: tuple[Left, ...]
    predicted_bytes: int
    bytes: int
    source_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def bits_per_weight(self) -> float:
        """Of the compressed matrices, everything that belongs to them counted."""
        weights = sum(row.weights for row in self.rows)
        return 8 * sum(row.stored_bytes for row in self.rows) / weights if weights else math.nan

    def to_json(self) -> dict[str, Any]:
        """For a file: numbers that JSON has no form for are texts."""
        rows = [{k: (str(v) if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(r).items()}
                for r in self.rows]  # fmt: skip
        return {
            "schema": 1, "file": self.path.name, "target": self.target, "bytes": self.bytes,
            "predicted_bytes": self.predicted_bytes, "source_bytes": self.source_bytes,
            "bits_per_weight": self.bits_per_weight, "matrices": rows, "left": [asdict(x) for x in self.left],
            "notes": list(self.notes),
        }  # fmt: skip


def document(rows: Iterable[Row], left: Iterable[Left], checksums: Mapping[str, str], **more: Any) -> str:
    """What a compressed file says of itself, as JSON whose length depends on names alone, never on numbers.

    Examples
    --------
    >>> row = Row("w", "INT4 channel", "nearest", 2, 4, 8, 20.0, 0.1, math.nan, 0, 1, True)
    >>> len(document([row], [], {"w.codes": "0" * 64})) == len(document([unknown(row)], [], {"w.codes": ""}))
    True
    """
    matrices = {}
    for row in rows:
        words = asdict(row)
        for name, value in words.items():
            if name in ("snr", "error", "output_snr"):
                words[name] = fixed(value)
            elif name in ("zeros_before", "zeros_after", "clamped"):
                words[name] = counted(value)
            elif name == "method":  # a matrix without inputs is rounded to nearest after all
                words[name] = value.ljust(METHOD)
        matrices[words.pop("name")] = words
    digests = {name: digest.ljust(DIGEST) for name, digest in checksums.items()}
    said = {"version": VERSION, **more, "matrices": matrices, "left": {x.name: x.reason for x in left},
            "sha256": digests}  # fmt: skip
    return json.dumps(said, separators=(",", ":"))


def unknown(row: Row) -> Row:
    """The same row before anything was computed."""
    return Row(row.name, row.scheme, row.method, row.rows, row.columns, row.stored_bytes, 0.0, 0.0, 0.0, 0, 0,
               row.keeps_zero)  # fmt: skip


def read_document(text: str) -> dict[str, Any]:
    """The document again, its numbers as numbers.

    Raises
    ------
    ValueError : no such document, or one of another version.
    """
    try:
        said = json.loads(text)
        matrices, sums = said["matrices"], said["sha256"]
        if said["version"] != VERSION:
            raise ValueError(f"version {said['version']}")
        for words in matrices.values():
            words.update({k: float(words[k]) for k in ("snr", "error", "output_snr")})
            words.update({k: int(words[k]) for k in ("zeros_before", "zeros_after", "clamped")})
            words["method"] = words["method"].strip()
        said["sha256"] = {str(name): str(digest).strip() for name, digest in sums.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no description of a compressed model of version {VERSION}: {error}") from None
    return said
