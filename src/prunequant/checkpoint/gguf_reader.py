"""GGUF files: the header read by us, the blocks of values decoded by the package `gguf`.

    "GGUF", version, number of tensors and of settings
    settings      name, type, value; strings and arrays with a length before them
    tensors       name, sizes from the innermost, type, offset
    data          each tensor at a multiple of the alignment

The reader of the package believes every length that a file states; this one compares it with the size of the file. The
rows of query and key projections are permuted in this format, which changes nothing that a report says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint import values
from prunequant.checkpoint.files import Contents, File, ModelFileError, Tensor, shown_name
from prunequant.checkpoint.streams import Stream
from prunequant.checkpoint.values import Encoding
from prunequant.extras import need

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_WINDOW = 1 << 18
_LONGEST = 1000  # characters of a setting that are remembered
_PLAIN = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}


class _Header(Stream):
    longest = _LONGEST  # of the setting that is being read

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def skip(self, size: int) -> None:
        if size > self.stop - self.start - self.tell():
            raise ModelFileError(self.file.path, f"it is cut off: {size} bytes are wanted at {self.tell()}")
        self.seek(size, 1)

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def setting(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            size = self.number("<Q")
            if size <= self.longest:
                return self.take(size).decode("utf-8", "replace")
            self.skip(size)
            return f"{size} bytes of text"
        if kind != _ARRAY or depth > 4:
            raise ModelFileError(self.file.path, f"a setting of type {kind} is not known")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[inner]))
        elif inner == _STRING:
            self.skip_texts(count)
        else:
            for _ in range(count):  # each takes eight bytes or more of the file, so that this ends
                self.setting(inner, depth + 1)
        return f"{count} values"

    def skip_texts(self, count: int) -> None:
        """Pass over so many strings: vocabularies have a hundred thousand, so they are looked at a window at a time."""
        at = base = self.tell()
        window = b""
        for _ in range(count):
            if at + 8 > base + len(window):
                self.seek(at)
                window, base = self.read(_WINDOW), at
                if len(window) < 8:
                    break
            at += 8 + int.from_bytes(window[at - base : at - base + 8], "little")
        else:
            if at <= self.stop:
                self.seek(at)
                return
        raise ModelFileError(self.file.path, f"it is cut off: its strings go on to byte {at} of {self.file.size}")


def read(path: Path, whole: str = "") -> Contents:
    """The contents of a GGUF file; of long texts among its settings the length alone, but of the one called `whole`.

    Raises
    ------
    ModelFileError : no such file, or a damaged one.
    MissingExtra : the package `gguf` is not installed.
    """
    need("gguf")
    contents = Contents("GGUF")
    try:
        file = contents.open(path)
        header = _Header(file)
        if header.take(4) != b"GGUF":
            raise ModelFileError(path, "this is no GGUF file")
        version = header.number("<I")
        if version not in (2, 3):
            big = version & 0xFFFF == 0
            raise ModelFileError(path, "its numbers are big-endian" if big else f"its version {version} is not known")
        tensors, settings = header.number("<Q"), header.number("<Q")
        for _ in range(settings):
            name = header.text()
            header.longest = file.size if whole and name == whole else _LONGEST
            contents.metadata[name[:_LONGEST]] = header.setting(header.number("<I"))
        _tensors(contents, header, tensors)
    except BaseException:
        contents.close()
        raise
    if contents.metadata.get("split.count", 1) not in (0, 1):
        contents.notes.append(
            f"one of {contents.metadata['split.count']} parts: the others are models of their own here"
        )
    return contents


def _tensors(contents: Contents, header: _Header, count: int) -> None:
    file = header.file
    rows: list[tuple[str, tuple[int, ...], int, int]] = []
    names: set[str] = set()
    for _ in range(count):
        try:
            name = header.take(header.number("<Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise ModelFileError(file.path, "the name of a tensor is no text") from None
        axes = header.number("<I")
        if axes > 4:
            raise ModelFileError(file.path, f"{axes} axes are more than the 4 of this format", name)
        shape = tuple(header.number("<Q") for _ in range(axes))[::-1]
        kind, offset = header.number("<I"), header.number("<Q")
        if name in names:
            raise ModelFileError(file.path, "two tensors have this name", name)
        names.add(name)
        rows.append((name, shape, kind, offset))
    alignment = contents.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or not 0 < alignment <= 1 << 20:
        raise ModelFileError(file.path, f"an alignment of {alignment!r:.40} bytes is none")
    data = -(-header.tell() // alignment) * alignment
    offsets = sorted({offset for *_, offset in rows} | {max(file.size - data, 0)})
    following = dict(pairwise(offsets))
    edge, before = 0, ""
    for name, shape, kind, offset in sorted(rows, key=lambda row: row[3]):
        encoding = _encoding(kind)
        values_count = 1
        for n in shape:
            values_count *= n
        if encoding is None:
            nbytes = following.get(offset, 0)
            nbytes = nbytes and nbytes - offset
            encoding, dtype = values.unread(f"type {kind}", 1, 1), f"type {kind}"
        else:
            dtype = encoding.name
            if shape and shape[-1] % encoding.block:
                raise ModelFileError(file.path, f"rows of {shape[-1]} are no whole blocks of {dtype}", name)
            nbytes = encoding.nbytes(values_count)
        if offset % alignment or data + offset + nbytes > file.size:
            raise ModelFileError(file.path, f"its {nbytes} bytes at {offset} are not in the file's data", name)
        if offset < edge and nbytes:
            raise ModelFileError(file.path, f"it overlaps {shown_name(before)}", name)
        edge, before = max(edge, offset + nbytes), name
        origin = data + offset
        contents.tensors[name] = Tensor(
            name, shape, dtype, nbytes, file.path.name, encoding, partial(_fetch, file, origin),
            (str(file.path), origin, origin + nbytes),
        )  # fmt: skip
    contents.tensors = {name: contents.tensors[name] for name, *_ in rows}


def _fetch(file: File, origin: int, start: int, stop: int) -> NDArray[np.uint8]:
    return file.array(origin + start, origin + stop)


def _encoding(kind: int) -> Encoding | None:
    gguf = need("gguf")
    try:
        ggml_type = gguf.GGMLQuantizationType(kind)
        block, size = gguf.GGML_QUANT_SIZES[ggml_type]
    except (ValueError, KeyError):
        return None
    if ggml_type.name in _PLAIN:
        return values.encoding(ggml_type.name)
    return Encoding(ggml_type.name, block, size, _FAST.get(ggml_type.name) or partial(_blocks, ggml_type, size))


def _blocks(kind: Any, size: int, raw: NDArray[np.uint8]) -> NDArray:
    from gguf import quants

    try:
        return quants.dequantize(raw.reshape(-1, size), kind).reshape(-1)
    except NotImplementedError:
        raise ValueError(f"the package gguf does not decode {kind.name}") from None


def _halves(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 16) bytes as (n, 32) codes: all lower halves, then all upper ones."""
    out = np.empty((len(codes), 32), np.float32)
    np.bitwise_and(codes, 15, out=out[:, :16], casting="unsafe")
    np.right_shift(codes, 4, out=out[:, 16:], casting="unsafe")
    return out


def _scaled(raw: NDArray[np.uint8], size: int, at: int) -> NDArray[np.float32]:
    """(n, 1) the 16-bit float at a place of each block."""
    return np.ascontiguousarray(raw.reshape(-1, size)[:, at : at + 2]).view("<f2").astype(np.float32)


def _q4_0(raw: NDArray[np.uint8]) -> NDArray:
    out = _halves(raw.reshape(-1, 18)[:, 2:])
    out -= 8
    out *= _scaled(raw, 18, 0)
    return out.reshape(-1)


def _q4_1(raw: NDArray[np.uint8]) -> NDArray:
    out = _halves(raw.reshape(-1, 20)[:, 4:])
    out *= _scaled(raw, 20, 0)
    out += _scaled(raw, 20, 2)
    return out.reshape(-1)


def _q8_0(raw: NDArray[np.uint8]) -> NDArray:
    out = raw.reshape(-1, 34)[:, 2:].view(np.int8).astype(np.float32)
    out *= _scaled(raw, 34, 0)
    return out.reshape(-1)


# The usual ones, several times faster than by the package and the same to the bit: the tests compare them.
_FAST: dict[str, Callable[[NDArray[np.uint8]], NDArray]] = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
