"""A part of a file as something to read from front to back, and zip archives read through it.

Every length that a file states is compared with what the file has before memory is asked for: a damaged length costs
an error, not gigabytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from prunequant.checkpoint.files import File, ModelFileError

_WINDOW = 1 << 18
_LONGEST_LINE = 1 << 16


class Stream(io.RawIOBase):
    """Bytes start … stop - 1 of a file; `read` gives at most what is there."""

    def __init__(self, file: File, start: int = 0, stop: int | None = None) -> None:
        super().__init__()
        self.file, self.start, self.stop = file, start, file.size if stop is None else stop
        self._at = start
        self._window, self._window_start = b"", start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self.start

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (self.start, self._at, self.stop)[whence]
        if base + offset < self.start:
            raise OSError("before the beginning")
        self._at = base + offset
        return self.tell()

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        left = max(self.stop - self._at, 0)
        size = left if size is None or size < 0 else min(size, left)
        if size > _WINDOW:
            data = self.file.read(self._at, self._at + size)
        else:
            skip = self._at - self._window_start
            if not 0 <= skip <= len(self._window) - size:
                self._window_start, skip = self._at, 0
                self._window = self.file.read(self._at, min(self._at + _WINDOW, self.stop))
            data = self._window[skip : skip + size]
        self._at += size
        return data

    def readline(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        line = self.read(_LONGEST_LINE)
        end = line.find(b"\n") + 1 or len(line)
        self._at -= len(line) - end
        return line[:end]

    def take(self, size: int) -> bytes:
        """Exactly so many bytes.

        Raises
        ------
        ModelFileError : they are not there.
        """
        if size > self.stop - self._at:
            raise ModelFileError(
                self.file.path, f"it is cut off: {size} bytes are wanted at {self._at} of {self.file.size}"
            )
        return self.read(size)


ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
    IndexError, KeyError, OverflowError, TypeError, AttributeError,
)  # fmt: skip


class Archive:
    """A zip archive: its entries by name, and where the bytes of those lie that are stored as they are.

    Raises
    ------
    ModelFileError : no zip archive, or one that contradicts itself.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(Stream(file))
            entries = self._zip.infolist()
        except ModelFileError:
            raise
        except ZIP_ERRORS as error:
            raise self._damaged(error) from None
        self.entries = {entry.filename: entry for entry in entries}
        if len(self.entries) < len(entries):
            names = [entry.filename for entry in entries]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelFileError(file.path, "this name stands twice in the archive", twice)
        for entry in entries:
            if entry.flag_bits & 1:
                raise ModelFileError(file.path, "it is encrypted", entry.filename)
            if entry.header_offset + 30 + entry.compress_size > file.size:
                raise ModelFileError(
                    file.path, f"its {entry.compress_size} bytes are not all in the file", entry.filename
                )
        if sum(entry.compress_size for entry in entries) > file.size:
            raise ModelFileError(file.path, "the entries of the archive overlap")

    def _damaged(self, error: Exception) -> ModelFileError:
        words = " ".join(str(error).split())[:120] or type(error).__name__
        return ModelFileError(self.file.path, f"it is no zip archive, or a damaged one ({words})")

    def stored(self, name: str) -> bool:
        """Whether the bytes of an entry lie there as they are."""
        entry = self.entries[name]
        return entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size

    def place(self, name: str) -> tuple[int, int]:
        """Where the bytes of a stored entry begin and end.

        Raises
        ------
        ModelFileError : it is compressed, or lies outside the file.
        """
        entry = self.entries[name]
        if not self.stored(name):
            raise ModelFileError(self.file.path, "it is compressed, which this format does not allow", name)
        start = entry.header_offset
        if not 0 <= start <= self.file.size - 30 or self.file.read(start, start + 4) != b"PK\3\4":
            raise ModelFileError(self.file.path, "its place in the archive is wrong", name)
        start += 30 + sum(struct.unpack("<HH", self.file.read(start + 26, start + 30)))
        if start + entry.file_size > self.file.size:
            raise ModelFileError(self.file.path, f"its {entry.file_size} bytes are not all in the file", name)
        return start, start + entry.file_size

    def unpacked(self, name: str) -> io.BufferedIOBase:
        """An entry as a stream from its beginning; reading it may raise `ZIP_ERRORS`."""
        try:
            return self._zip.open(self.entries[name])  # type: ignore[return-value]
        except ModelFileError:
            raise
        except ZIP_ERRORS as error:
            raise self._damaged(error) from None
