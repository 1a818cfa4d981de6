"""Codes as dense bits: what a file or a memory bus holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack(codes: NDArray, bits: int) -> NDArray[np.uint8]:
    """The low `bits` bits of each code, one after another, most significant first; the last byte padded with zeros.

    >>> pack(np.array([1, -1, 2], dtype=np.int8), 4)
    array([31, 32], dtype=uint8)
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits is {bits}: give an integer from 1 to 16")
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise TypeError(f"codes has dtype {codes.dtype}: give integers")
    low, high = -(1 << (bits - 1)), (1 << bits) - 1
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ValueError(f"codes lie in [{codes.min()}, {codes.max()}]: {bits} bits hold [{low}, {high}]")
    planes = (codes.astype(np.int64).reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8).ravel())


def unpack(packed: NDArray[np.uint8], bits: int, count: int, *, signed: bool = False) -> NDArray:
    """The first `count` codes of `pack`: uint16, or int16 read as two's complement when signed.

    >>> unpack(np.array([31, 32], dtype=np.uint8), 4, 3, signed=True)
    array([ 1, -1,  2], dtype=int16)
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits is {bits}: give an integer from 1 to 16")
    packed = np.asarray(packed, dtype=np.uint8)
    if packed.size * 8 < count * bits:
        raise ValueError(f"packed holds {packed.size} bytes: {count} codes of {bits} bits need {-(-count * bits // 8)}")
    planes = np.unpackbits(packed, count=count * bits).reshape(count, bits).astype(np.int64)
    codes = planes @ (1 << np.arange(bits - 1, -1, -1))
    if signed:
        return (codes - ((codes >> (bits - 1)) << bits)).astype(np.int16)
    return codes.astype(np.uint16)
