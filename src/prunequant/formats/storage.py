"""Codes as dense bits: what a file or a memory bus holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments


def pack(codes: NDArray, bits: int) -> NDArray[np.uint8]:
    """The low `bits` bits of each code, one after another, most significant first; the last byte padded with zeros.

    Parameters
    ----------
    codes : array of integers in [-2**(bits - 1), 2**bits - 1].
    bits : 1 to 16.

    Raises
    ------
    TypeError : codes or bits that are no integers.
    ValueError : bits out of range, or codes that they do not hold.

    >>> pack(np.array([1, -1, 2], dtype=np.int8), 4)
    array([31, 32], dtype=uint8)
    """
    bits = arguments.integer(bits, "bits", 1, 16)
    codes = arguments.integers(codes, "codes")
    low, high = -(1 << (bits - 1)), (1 << bits) - 1
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ValueError(f"codes lie in [{codes.min()}, {codes.max()}]: {bits} bits hold [{low}, {high}]")
    planes = (codes.astype(np.int64).reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8).ravel())


def unpack(packed: NDArray[np.uint8], bits: int, count: int, *, signed: bool = False) -> NDArray:
    """The first `count` codes of `pack`: uint16, or int16 read as two's complement when signed.

    Parameters
    ----------
    packed : array of bytes, integers in [0, 255].
    bits : 1 to 16.
    count : codes to read, from 0 to as many as `packed` holds.
    signed : True or False.

    Raises
    ------
    TypeError : an argument of the wrong kind.
    ValueError : bits or bytes out of range, or more codes than `packed` holds.

    >>> unpack(np.array([31, 32], dtype=np.uint8), 4, 3, signed=True)
    array([ 1, -1,  2], dtype=int16)
    """
    bits, count = arguments.integer(bits, "bits", 1, 16), arguments.integer(count, "count", 0)
    signed = arguments.flag(signed, "signed")
    packed = arguments.integers(packed, "packed")
    if packed.size and not (0 <= packed.min() and packed.max() <= 255):
        raise ValueError(f"packed holds integers in [{packed.min()}, {packed.max()}]: it must hold bytes, [0, 255]")
    packed = packed.reshape(-1).astype(np.uint8)
    if packed.size * 8 < count * bits:
        capacity = f"packed holds {packed.size * 8 // bits} codes of {bits} bits"
        raise ValueError(f"{capacity} in {packed.size} bytes, but count is {arguments.shown(count)}")
    planes = np.unpackbits(packed, count=count * bits).reshape(count, bits).astype(np.int64)
    codes = planes @ (1 << np.arange(bits - 1, -1, -1))
    if signed:
        return (codes - ((codes >> (bits - 1)) << bits)).astype(np.int16)
    return codes.astype(np.uint16)
