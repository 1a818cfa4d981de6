"""How numbers lie in a file: an `Encoding` says how many bytes hold how many values, and decodes them.

    F64 F32 F16 BF16          floats, little-endian
    F8_E4M3 F8_E5M2 F8_E8M0   one byte each; E8M0 is a power of two, as scales are
    F4                        E2M1, two a byte, the first in the lower half
    I8 … U64, BOOL            integers

Everything decodes to float32, which holds all of the narrow formats exactly; float64 and integers of 32 bits and more
decode to float64. What is done with float64 values beyond float32 is decided where they are judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Encoding:
    """Bytes of a file as numbers.

    Parameters
    ----------
    name : as files call it, "BF16"
    block, size : so many values lie in so many bytes
    decode : (n · size,) uint8 → (n · block,) float32 or float64
    integer : it holds whole numbers, which are no weights by themselves
    """

    name: str
    block: int
    size: int
    decode: Callable[[NDArray[np.uint8]], NDArray]
    integer: bool = False

    def nbytes(self, count: int) -> int:
        """Bytes of so many values; those of a block that is not full count too."""
        return -(-count // self.block) * self.size


def _plain(name: str, kind: str, wide: str) -> Encoding:
    stored, target = np.dtype(kind), np.dtype(wide)

    def decode(raw: NDArray[np.uint8]) -> NDArray:
        return raw.view(stored).astype(target, copy=False)

    return Encoding(name, 1, stored.itemsize, decode, stored.kind in "iub")


def _brain(raw: NDArray[np.uint8]) -> NDArray:
    wide = raw.view("<u2").astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


@cache
def _table(dtype: type) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):  # signalling NaN
        return np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)


def _narrow(name: str, dtype: type) -> Encoding:
    return Encoding(name, 1, 1, lambda raw: _table(dtype)[raw])


@cache
def _pairs() -> NDArray[np.float32]:
    code = np.arange(256, dtype=np.uint8)
    halves = np.stack([code & 15, code >> 4], 1)  # (256, 2)
    return halves.view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def fp4_pairs(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(…,) bytes as (…, 2) values of E2M1, the lower half of a byte first.

    Examples
    --------
    >>> fp4_pairs(np.array([0xA7], np.uint8))
    array([[ 6., -1.]], dtype=float32)
    """
    return _pairs()[raw]


ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        _plain("F64", "<f8", "f8"),
        _plain("F32", "<f4", "f4"),
        _plain("F16", "<f2", "f4"),
        Encoding("BF16", 1, 2, _brain),
        _narrow("F8_E4M3", ml_dtypes.float8_e4m3fn),
        _narrow("F8_E5M2", ml_dtypes.float8_e5m2),
        _narrow("F8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz),
        _narrow("F8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz),
        _narrow("F8_E8M0", ml_dtypes.float8_e8m0fnu),
        Encoding("F4", 2, 1, lambda raw: fp4_pairs(raw).reshape(-1)),
        _plain("BOOL", "?", "f4"),
        _plain("I8", "i1", "f4"),
        _plain("U8", "u1", "f4"),
        _plain("I16", "<i2", "f4"),
        _plain("U16", "<u2", "f4"),
        _plain("I32", "<i4", "f8"),
        _plain("U32", "<u4", "f8"),
        _plain("I64", "<i8", "f8"),
        _plain("U64", "<u8", "f8"),
    )
}
# dtypes whose sizes are known and whose values are not read: (values, bytes) of a block
UNREAD = {"C64": (1, 8), "C128": (1, 16), "F6_E2M3": (4, 3), "F6_E3M2": (4, 3)}


def unread(name: str, block: int, size: int) -> Encoding:
    """An encoding that is counted, never decoded; `readable` tells."""
    return Encoding(name, block, size, _refuse)


def _refuse(raw: NDArray[np.uint8]) -> NDArray:
    raise ValueError("values of this dtype are not read")


def readable(encoding: Encoding) -> bool:
    """Whether its values can be decoded."""
    return encoding.decode is not _refuse


def encoding(name: str) -> Encoding | None:
    """The encoding of a dtype by the name that safetensors gives it; None when there is none.

    Examples
    --------
    >>> encoding("BF16").decode(np.array([0x80, 0x3F], np.uint8))
    array([1.], dtype=float32)
    """
    if name in UNREAD:
        return unread(name, *UNREAD[name])
    return ENCODINGS.get(name)
