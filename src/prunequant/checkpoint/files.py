"""Files of weights, read in pieces, and the one error for all that can be wrong with them.

A file is read by place and length, never mapped: memory then holds the pieces that are being looked at and nothing
else, and a file that becomes shorter under our hands is an error rather than a dead process. A `Tensor` is what a
file says of one array; `Contents` is what a reader of a format hands on.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.checkpoint.values import Encoding

PIECE = 1 << 22  # bytes read at once where a whole tensor is looked at
_SPAN = 1 << 24  # bytes read at once for a piece of a tensor whose axes lie in another order


class ModelFileError(ValueError):
    """A model file that cannot be read; says the file, the tensor where there is one, and what is wrong."""

    def __init__(self, file: str | os.PathLike, problem: str, tensor: str = "") -> None:
        self.file, self.problem, self.tensor = str(file), problem, tensor
        super().__init__(f"{self.file}: {f'tensor {shown_name(tensor)}: ' if tensor else ''}{problem}")

    def __reduce__(self):
        return ModelFileError, (self.file, self.problem, self.tensor)


def shown_name(name: str) -> str:
    """The name of a tensor as a message shows it: on one line, and never longer than one.

    Examples
    --------
    >>> shown_name("layers.0.weight"), shown_name("two\\nlines")
    ("'layers.0.weight'", "'two\\\\nlines'")
    """
    text = repr(name)
    return text if len(text) <= 140 else f"{text[:100]}…{text[-30:]}"


class File:
    """A file opened for reading by pieces, from any number of threads.

    Raises
    ------
    ModelFileError : no file, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1
        self._lock = threading.Lock()
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ModelFileError(path, "this is no file")
            self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self.size = os.fstat(self._handle).st_size
        except (OSError, ValueError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(path, f"it cannot be opened ({_words(error)})") from None

    def read(self, start: int, stop: int) -> bytes:
        """Bytes start … stop - 1.

        Raises
        ------
        ModelFileError : the file does not have them, or no longer, or it is closed.
        """
        if not 0 <= start <= stop <= self.size:
            raise ModelFileError(self.path, f"bytes {start} to {stop} are wanted of a file of {self.size}")
        parts = []
        while start < stop:
            part = self._piece(start, min(stop - start, 1 << 30))
            if not part:
                raise ModelFileError(self.path, f"it ends at byte {start}: it was {self.size} bytes long when opened")
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def array(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The same as an array."""
        return np.frombuffer(self.read(start, stop), np.uint8)

    def _piece(self, start: int, length: int) -> bytes:
        if self._handle < 0:
            raise ModelFileError(self.path, "it is closed: read while the model is open")
        try:
            if hasattr(os, "pread"):
                return os.pread(self._handle, length, start)
            with self._lock:
                os.lseek(self._handle, start, os.SEEK_SET)
                return os.read(self._handle, length)
        except OSError as error:
            raise ModelFileError(self.path, f"it cannot be read ({_words(error)})") from None

    def close(self) -> None:
        """Close it; a second time does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):
                os.close(handle)

    def __del__(self) -> None:
        self.close()


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array of a file, read in pieces.

    Parameters
    ----------
    name, shape : as its file has them
    dtype : as its file calls it
    nbytes : its values take so many bytes there (compressed ones: as compressed)
    file : the name of the file alone
    encoding : how bytes become values
    fetch : fetch(start, stop) gives bytes of the values one after another in the order of the last axis first
    place : where the bytes lie, (file, start, stop), perhaps with gaps; None when they are compressed
    axes : what the file itself says of the axes: "transposed", when the first one is the input; "embedding"
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    file: str
    encoding: Encoding
    fetch: Callable[[int, int], NDArray[np.uint8]]
    place: tuple[str, int, int] | None = None
    axes: str = ""

    @property
    def size(self) -> int:
        """How many values."""
        count = 1
        for n in self.shape:
            count *= n
        return count

    def read(self, start: int, stop: int) -> NDArray:
        """Values start … stop - 1 of the flattened tensor, float32 (float64 from float64 and wide integers).

        Raises
        ------
        ModelFileError : its file does not give them.
        """
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"values {start} to {stop} are wanted of {self.size} in {shown_name(self.name)}")
        block, size = self.encoding.block, self.encoding.size
        first, last = start // block, -(-stop // block)
        raw = self.fetch(first * size, last * size)
        if raw.size != (last - first) * size:
            raise ModelFileError(self.file, "it does not have the bytes of all values", self.name)
        with np.errstate(all="ignore"):  # NaN and infinity are found where a matrix is judged
            return self.encoding.decode(raw)[start - first * block : stop - first * block]

    def rows(self, first: int, stop: int) -> NDArray:
        """Rows first … stop - 1 of a tensor as a matrix: its first axis against all others."""
        width = self.size // self.shape[0]
        return self.read(first * width, stop * width).reshape(stop - first, width)

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """All its bytes, some megabytes at a time."""
        total = self.encoding.nbytes(self.size)
        for start in range(0, total, PIECE):
            yield self.fetch(start, min(start + PIECE, total))

    def digest(self) -> bytes:
        """A hash of all its bytes."""
        state = hashlib.blake2b(digest_size=16)
        for piece in self.pieces():
            state.update(np.ascontiguousarray(piece).data)
        return state.digest()

    def sample(self) -> bytes:
        """A hash of its first, middle and last bytes: different for nearly all that are not equal."""
        total = self.encoding.nbytes(self.size)
        state = hashlib.blake2b(digest_size=16)
        for start in sorted({0, max(total // 2 - 2048, 0), max(total - 4096, 0)}):
            state.update(np.ascontiguousarray(self.fetch(start, min(start + 4096, total))).data)
        return state.digest()


@dataclass
class Contents:
    """What a reader found: tensors and what must be said of the file.

    Parameters
    ----------
    format : "safetensors", "PyTorch", "npz", "GGUF" or "ONNX"
    tensors : by name
    file_bytes : of all files together
    notes : what a person should know, a sentence each
    metadata : words and numbers that the file says of itself
    config : settings that lie beside it (config.json and the like), for the scales of quantized tensors
    untreated : what cannot even be a tensor here: (name, shape, dtype, bytes, reason)
    files : to be closed
    """

    format: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    file_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    untreated: list[tuple[str, tuple[int, ...], str, int, str]] = field(default_factory=list)
    files: list[File] = field(default_factory=list)

    def open(self, path: Path) -> File:
        """A file that is closed with the rest, its size counted."""
        file = File(path)
        self.files.append(file)
        self.file_bytes += file.size
        return file

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()


def strided(
    file: File,
    origin: int,
    itemsize: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> Callable[[int, int], NDArray[np.uint8]]:
    """`Tensor.fetch` of an array whose axes lie in another order: strides in values, `origin` in bytes.

    What is read at once is everything between the first and the last byte, where that is a few megabytes or little
    more than is wanted, else runs along the axis whose neighbours lie side by side.
    """
    dims = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    shape, strides = tuple(n for n, _ in dims), tuple(s for _, s in dims)
    expected = 1
    contiguous = True
    for n, s in reversed(dims):
        contiguous &= s == expected
        expected *= n
    total = expected

    def straight(start: int, stop: int) -> NDArray[np.uint8]:
        return file.array(origin + start, origin + stop)

    if contiguous or not total:
        return straight
    fastest = strides.index(min(strides))
    inner = total // shape[0]

    def fetch(start: int, stop: int) -> NDArray[np.uint8]:
        if start >= stop:
            return np.empty(0, np.uint8)
        first, last = start // itemsize // inner, -(-stop // (itemsize * inner))
        block = (last - first, *shape[1:])
        low, skip = first * strides[0], start - first * inner * itemsize
        reach = 1 + sum((n - 1) * s for n, s in zip(block, strides, strict=True))
        if reach * itemsize <= max(_SPAN, 2 * prod(block) * itemsize):
            raw = file.array(origin + low * itemsize, origin + (low + reach) * itemsize)
            steps = (*(s * itemsize for s in strides), 1)
            gathered = np.lib.stride_tricks.as_strided(raw, (*block, itemsize), steps, writeable=False)
            return gathered.reshape(-1)[skip : skip + stop - start]
        out = np.empty((*block, itemsize), np.uint8)
        others = [axis for axis in range(len(shape)) if axis != fastest]
        moved = np.moveaxis(out, fastest, -2)  # the run and the bytes of a value come last
        for index in np.ndindex(*(block[axis] for axis in others)):
            place = low + sum(i * strides[axis] for i, axis in zip(index, others, strict=True))
            values = block[fastest]
            span = (values - 1) * strides[fastest] + 1
            raw = file.array(origin + place * itemsize, origin + (place + span) * itemsize).reshape(span, itemsize)
            moved[index] = raw[:: strides[fastest]]
        return out.reshape(-1)[skip : skip + stop - start]

    return fetch


def model_path(path: str | os.PathLike) -> Path:
    """The path of a model, a file or a folder that is there."""
    checked = arguments.path(path, "path")
    try:
        there = checked.exists()
    except (OSError, ValueError) as error:
        raise ModelFileError(checked, f"it cannot be opened ({_words(error)})") from None
    if not there:
        raise ModelFileError(checked, "no such file or folder")
    return checked
