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
    certified_snr : dB, what path following guarantees of `output_snr`, see `methods.certified_error`; NaN for others
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
    certified_snr: float = math.nan

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


def document(
    rows: Iterable[Row], left: Iterable[Left], checksums: Mapping[str, str], certified: bool = False, **more: Any
) -> str:
    """What a compressed file says of itself, as JSON whose length depends on names alone, never on numbers.

    With `certified` it says `certified_snr` of every matrix.

    Examples
    --------
    >>> row = Row("w", "INT4 channel", "nearest", 2, 4, 8, 20.0, 0.1, math.nan, 0, 1, True)
    >>> len(document([row], [], {"w.codes": "0" * 64})) == len(document([unknown(row)], [], {"w.codes": ""}))
    True
    """
    matrices = {}
    for row in rows:
        words = asdict(row)
        if not certified:
            del words["certified_snr"]
        for name, value in words.items():
            if name in _FLOATS:
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


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), infinite where nothing is lost."""
    if noise <= 0:
        return float("inf")
    return float(10 * math.log10(signal / noise)) if signal > 0 else float("-inf")


def unknown(row: Row) -> Row:
    """The same row before anything was computed."""
    return Row(row.name, row.scheme, row.method, row.rows, row.columns, row.stored_bytes, 0.0, 0.0, 0.0, 0, 0,
               row.keeps_zero)  # fmt: skip


_FLOATS = ("snr", "error", "output_snr", "certified_snr")


class NotDescribed(ValueError):
    """A text that describes no compressed model; `tensor` is the matrix of which it says what cannot be."""

    def __init__(self, problem: str, tensor: str = "") -> None:
        self.problem, self.tensor = problem, tensor
        matrix = f"matrix {tensor!r}: " if tensor else ""
        super().__init__(f"this is no description of a compressed model of version {VERSION}: {matrix}{problem}")


def read_document(text: str) -> dict[str, Any]:
    """The document again, its numbers as numbers: everything that `document` writes is there, and of its kind.

    Raises
    ------
    NotDescribed : no such document, or one of another version (a ValueError).
    """
    try:
        said = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise NotDescribed(" ".join(str(error).split())[:120]) from None
    if not isinstance(said, dict) or said.get("version") != VERSION or isinstance(said["version"], bool):
        raise NotDescribed(f"version {said.get('version')!r:.40}" if isinstance(said, dict) else "no JSON object")
    for key, kind in _PARTS.items():
        if type(said.get(key)) is not kind:
            raise NotDescribed(f"{key} must be {_KINDS[kind]}")
    for key in ("left", "sha256"):
        for name, value in said[key].items():
            if type(value) is not str:
                raise NotDescribed(f"{key} must be a text for each tensor", name)
    said["matrices"] = {name: _read_row(name, words) for name, words in said["matrices"].items()}
    said["sha256"] = {name: digest.strip() for name, digest in said["sha256"].items()}
    return said


_PARTS = {"target": str, "symmetric": bool, "matrices": dict, "left": dict, "sha256": dict}
_ROW = {
    "scheme": str, "method": str, "rows": int, "columns": int, "stored_bytes": int, "keeps_zero": bool,
    "snr": float, "error": float, "output_snr": float, "zeros_before": int, "zeros_after": int, "clamped": int,
    "certified_snr": float,
}  # fmt: skip
_TEXTS = {name: float if name in _FLOATS else int for name in list(_ROW)[6:]}
_KINDS = {str: "a text", bool: "true or false", dict: "an object", int: "a whole number", float: "a number"}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r:.120} stands twice")
    return mapping


def _read_row(name: str, words: Any) -> dict[str, Any]:
    if not isinstance(words, dict) or set(words) | {"certified_snr"} != set(_ROW):
        raise NotDescribed(f"it must have {', '.join(_ROW)}", name)
    words = {"certified_snr": str(math.nan), **words}  # only path following has one
    read = dict(words)
    for key, kind in _TEXTS.items():
        try:
            read[key] = kind(words[key]) if isinstance(words[key], str) else None
        except ValueError:
            read[key] = None
    if wrong := next((key for key, kind in _ROW.items() if type(read[key]) is not kind), None):
        raise NotDescribed(f"{wrong} is {words[wrong]!r:.40}: it must be {_KINDS[_ROW[wrong]]}", name)
    read["method"] = read["method"].strip()
    return read
