"""NumPy archives, `.npz`, and single arrays, `.npy`, without unpickling and without holding an array in memory.

    zip archive     NAME.npy for each array, as it is or deflated
    NAME.npy        a header (dtype, order of the axes, shape), then the values

Deflated arrays can only be read from the front: reading rows in order costs one pass, going back starts again.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint import values
from prunequant.checkpoint.files import Contents, File, ModelFileError, Tensor, strided
from prunequant.checkpoint.streams import ZIP_ERRORS, Archive, Stream

_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL", "c8": "C64", "c16": "C128",
}  # fmt: skip
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE = 1 << 20


def read(path: Path) -> Contents:
    """The contents of an archive, or of one array.

    Raises
    ------
    ModelFileError : no such file, or a damaged one.
    """
    contents = Contents("npz")
    try:
        file = contents.open(path)
        if file.read(0, min(6, file.size)) == b"\x93NUMPY":
            _add(contents, path.stem, _header(file, Stream(file), path.stem), file, (0, file.size), None)
            return contents
        archive = Archive(file)
        for name in archive.entries:
            if name.endswith("/"):
                continue
            if not name.endswith(".npy"):
                contents.notes.append(f"{name!r:.120} in the archive is no array: not read")
                continue
            short = name.removesuffix(".npy")
            if archive.stored(name):
                start, stop = archive.place(name)
                _add(contents, short, _header(file, Stream(file, start, stop), short), file, (start, stop), None)
            else:
                with archive.unpacked(name) as stream:
                    head = _header(file, stream, short)
                _add(contents, short, head, file, (0, 0), _Deflated(archive, name, head[3]))
    except BaseException:
        contents.close()
        raise
    return contents


def _header(file: File, stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether the first axis comes first, dtype, and the length of the header."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ModelFileError(file.path, f"its version {version} is not known", name)
        shape, columns_first, dtype = _HEADERS[version](stream)
    except ModelFileError:
        raise
    except (*ZIP_ERRORS, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        words = " ".join(str(error).split())[:120]
        raise ModelFileError(file.path, f"its header is damaged ({words})", name) from None
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in shape)
    if not whole or len(shape) > 64:
        raise ModelFileError(file.path, f"its shape {shape!r:.80} must be whole numbers", name)
    return tuple(shape), bool(columns_first), dtype, stream.tell()


class _Deflated:
    """Values of a deflated array: read forwards, from the front again when earlier ones are wanted."""

    def __init__(self, archive: Archive, name: str, skip: int) -> None:
        self.archive, self.name, self.skip = archive, name, skip
        self.nbytes = archive.entries[name].file_size - skip
        self.stored = archive.entries[name].compress_size
        self._lock = threading.Lock()
        self._stream: Any = None
        self._at = 0

    def fetch(self, start: int, stop: int) -> NDArray[np.uint8]:
        with self._lock:
            try:
                if self._stream is None or start + self.skip < self._at:
                    self._stream, self._at = self.archive.unpacked(self.name), 0
                while self._at < start + self.skip:
                    self._take(min(start + self.skip - self._at, _PIECE))
                parts = []
                left = stop - start
                while left:
                    parts.append(self._take(min(left, _PIECE)))
                    left -= len(parts[-1])
            except ModelFileError:
                raise
            except ZIP_ERRORS as error:
                self._stream = None
                words = " ".join(str(error).split())[:120]
                raise ModelFileError(self.archive.file.path, f"its bytes are damaged ({words})", self.name) from None
        return np.frombuffer(b"".join(parts), np.uint8)

    def _take(self, size: int) -> bytes:
        part = self._stream.read(size)
        if not part:
            raise ModelFileError(self.archive.file.path, "it is shorter than it says", self.name)
        self._at += len(part)
        return part


def _add(
    contents: Contents,
    name: str,
    header: tuple[tuple[int, ...], bool, np.dtype, int],
    file: File,
    place: tuple[int, int],
    deflated: _Deflated | None,
) -> None:
    shape, columns_first, dtype, skip = header
    known = _DTYPES.get(dtype.str[1:], "") if dtype.names is None and dtype.subdtype is None else ""
    nbytes = deflated.nbytes if deflated else place[1] - place[0] - skip
    stored = deflated.stored if deflated else nbytes
    if not known or dtype.str[0] == ">":
        what = "its numbers are big-endian" if dtype.str[0] == ">" else f"its dtype {dtype!s:.60} holds no numbers"
        if dtype.hasobject:
            what = "it holds Python objects, which are never unpickled"
        contents.untreated.append((name, shape, f"{dtype!s:.40}", stored, what))
        return
    encoding = values.encoding(known)
    assert encoding is not None
    count = 1
    for n in shape:
        count *= n
    if count * encoding.size != nbytes:
        raise ModelFileError(
            file.path, f"shape {list(shape)} of {dtype} takes {count * encoding.size} bytes, and it has {nbytes}", name
        )
    if deflated is not None:
        if columns_first and sum(n > 1 for n in shape) > 1:
            what = "compressed with its first axis running fastest, it cannot be read in pieces: save it in C order"
            contents.untreated.append((name, shape, known, stored, what))
            return
        contents.tensors[name] = Tensor(name, shape, known, stored, file.path.name, encoding, deflated.fetch)
        return
    origin = place[0] + skip
    fetch: Any = partial(_fetch, file, origin)
    if columns_first and count:
        strides = [1]
        for n in shape[:-1]:
            strides.append(strides[-1] * n)
        fetch = strided(file, origin, encoding.size, shape, tuple(strides[: len(shape)]))
    contents.tensors[name] = Tensor(
        name, shape, known, nbytes, file.path.name, encoding, fetch, (str(file.path), origin, origin + nbytes)
    )


def _fetch(file: File, origin: int, start: int, stop: int) -> NDArray[np.uint8]:
    return file.array(origin + start, origin + stop)
