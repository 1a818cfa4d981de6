"""A safetensors file written piece by piece: its size is known before the first byte, its header is filled in last.

The format is eight bytes with the length of the header, the header (JSON, padded with spaces), then the tensors. What
the header says of the tensors (checksums, errors) is known only when all are written, so such a text has one width
whatever it says, and the space for it is left free.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
ALIGNMENT = 8
DIGEST = 64  # hexadecimal digits of a SHA-256
NUMBER = 17  # characters of `fixed`


@dataclass(frozen=True)
class Entry:
    """One tensor of a safetensors file: its name, dtype (a key of `SIZES`) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


def fixed(value: float) -> str:
    """A number as a text of `NUMBER` characters, ten digits of it: what it says does not move what comes after.

    Examples
    --------
    >>> fixed(21.5), float(fixed(-1e-120)), fixed(float("inf"))
    ('+2.150000000e+01 ', -1e-120, '+inf             ')
    """
    return f"{value:+.9e}".ljust(NUMBER)


def counted(value: int) -> str:
    """A count as a text of `NUMBER` characters.

    Examples
    --------
    >>> counted(12)
    '12               '
    """
    return str(value).ljust(NUMBER)


def header(entries: Iterable[Entry], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """The bytes in front of the tensors, and where each of these begins in the file.

    Wide dtypes come first, so that every tensor begins at a multiple of its own width.

    Raises
    ------
    ValueError : two tensors of one name, a dtype that the format does not have.
    """
    listed: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    order = list(entries)
    for entry in order:
        if entry.dtype not in SIZES:
            raise ValueError(f"{entry.name} has dtype {entry.dtype}: safetensors has {', '.join(SIZES)}")
    places, at = {}, 0
    for entry in sorted(order, key=lambda e: -SIZES[e.dtype]):
        if entry.name in places:
            raise ValueError(f"two tensors are called {entry.name}: the names in a file must differ")
        listed[entry.name] = {
            "dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, at + entry.nbytes],
        }  # fmt: skip
        places[entry.name] = at
        at += entry.nbytes
    text = json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {name: start + place for name, place in places.items()}


def file_size(entries: Iterable[Entry], metadata: Mapping[str, str]) -> int:
    """Bytes of the file in all."""
    entries = list(entries)
    return len(header(entries, metadata)[0]) + sum(e.nbytes for e in entries)


class SafetensorsWriter:
    """Writes the tensors of a file in any order, each once and whole, and its header at the end.

    Parameters
    ----------
    file : open for writing in binary, seekable, empty.
    entries : all tensors of the file.
    metadata : texts of the header's `__metadata__`, of the length that they will have in the end.
    """

    def __init__(self, file: IO[bytes], entries: Iterable[Entry], metadata: Mapping[str, str]) -> None:
        self._file = file
        self._entries = {e.name: e for e in entries}
        head, self._places = header(self._entries.values(), metadata)
        self._start = len(head)
        self.checksums: dict[str, str] = {}
        self.size = self._start + sum(e.nbytes for e in self._entries.values())
        file.truncate(self.size)

    def write(self, name: str, pieces: NDArray | bytes | Iterable[NDArray | bytes]) -> None:
        """Write one tensor, given whole or piece by piece.

        Raises
        ------
        ValueError : not as many bytes as the entry says, a tensor that is none of the entries or was written before.
        """
        entry = self._entries.get(name)
        if entry is None or name in self.checksums:
            raise ValueError(f"{name} " + ("is no tensor of this file" if entry is None else "was written before"))
        digest, count = hashlib.sha256(), 0
        self._file.seek(self._places[name])
        for piece in [pieces] if isinstance(pieces, np.ndarray | bytes) else pieces:
            raw = np.frombuffer(piece, np.uint8) if isinstance(piece, bytes) else np.ascontiguousarray(piece)
            data = raw.reshape(-1).view(np.uint8).data
            count += len(data)
            if count > entry.nbytes:
                break
            digest.update(data)
            self._file.write(data)
        if count != entry.nbytes:
            raise ValueError(f"{name} has {count} bytes or more: {entry.dtype} {entry.shape} are {entry.nbytes}")
        self.checksums[name] = digest.hexdigest()

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write the header; the file is whole from here on.

        Raises
        ------
        ValueError : a tensor was not written, or the texts have another length than promised.
        """
        absent = [name for name in self._entries if name not in self.checksums]
        if absent:
            raise ValueError(f"{len(absent)} tensors were not written, the first is {absent[0]}")
        head, _ = header(self._entries.values(), metadata)
        if len(head) != self._start:
            raise ValueError(f"the header has {len(head)} bytes, {self._start} were promised")
        self._file.seek(0)
        self._file.write(head)
