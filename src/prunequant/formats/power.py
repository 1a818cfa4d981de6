"""Formats whose blocks share a power of two: block floating point and OCP microscaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats import _kernels
from prunequant.formats.base import (
    Blocks,
    Encoded,
    Format,
    Stored,
    as_values,
    block_largest,
    check_block,
    check_largest_bits,
    flat,
    round_units,
    seed_keys,
    to_blocks,
)
from prunequant.formats.elements import ELEMENTS, Element


def _floor_log2(x: NDArray) -> tuple[NDArray, NDArray]:
    """floor(log2 x) and the mantissa in [1, 2), exactly, through the bits; 0 gives a large negative exponent."""
    mantissa, exponent = np.frexp(x)
    return np.where(x > 0, exponent - 1, -10_000), 2 * mantissa


class _PowerOfTwoScaled(Format):
    """Blocks with a power-of-two scale and a fixed element: the shared half of HBFP and MX."""

    block: int

    @property
    def saturates(self) -> bool:
        return True

    @property
    def _element(self) -> Element:
        raise NotImplementedError

    def _exponents(self, largest: NDArray) -> NDArray:
        raise NotImplementedError

    def _kernel(self, rows, block, rounding, seed, out) -> float:
        raise NotImplementedError

    @property
    def levels(self) -> NDArray[np.float64]:
        return self._element.levels

    @property
    def element_bits(self) -> int:
        return self._element.bits

    @property
    def block_size(self) -> int:
        return self.block

    @property
    def scale_bits(self) -> int:
        return 8

    def exponents(self, x: ArrayLike, axis: int = -1) -> NDArray[np.int64]:
        """The shared exponent of every block, (rows, blocks a row)."""
        blocks = to_blocks(as_values(x), self.block, axis)
        return self._exponents(block_largest(blocks))

    def scales(self, x: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
        return np.ldexp(1.0, self.exponents(x, axis))

    def _define(self, blocks: Blocks, rounding: str, seed: int) -> tuple[NDArray, NDArray]:
        """Shared exponents and element values: the definition of the format, in NumPy."""
        exponent = self._exponents(block_largest(blocks))
        t = np.ldexp(blocks.rows, -blocks.spread(exponent))
        return exponent, self._element.round(t, rounding, seed)

    def _quantize_rows(self, blocks, rounding, seed, out):
        if blocks.rows.dtype == np.float32:
            bits = self._kernel(blocks, rounding == "stochastic", seed_keys(seed), out)
            check_largest_bits(bits)
            return out
        exponent, values = self._define(blocks, rounding, seed)
        out[...] = np.ldexp(values, blocks.spread(exponent))
        return out

    def _encode_rows(self, blocks: Blocks, rounding: str, seed: int) -> Stored:
        exponent, values = self._define(blocks, rounding, seed)
        return self._element.to_codes(values), (exponent + 127).astype(np.uint8), {}

    def _decode_rows(self, blocks: Blocks, encoded: Encoded) -> NDArray:
        exponent = blocks.spread(np.asarray(encoded.scales).astype(np.int64) - 127)
        return np.ldexp(self._element.from_codes(blocks.rows, encoded.dtype), exponent)


@dataclass(frozen=True)
class MX(_PowerOfTwoScaled):
    """OCP microscaling: blocks of small floats (or 8-bit integers) under a power-of-two scale.

    Parameters
    ----------
    element : "fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2" or "int8".
    block : values that share a scale, 32 in the specification, 1 to 2**31; the last block of a row may be shorter.
    scale_rule : "floor", the specification's: 2^(floor(log2 a) - e_max) for the largest magnitude a, under which a
        value in the top part of the binade saturates; or "rceil": the smallest power of two under which none does.

    Notes
    -----
    The scale is an E8M0 number, 2^-127 … 2^127; a block of zeros stores 2^-127. Elements round half to even and
    saturate; the sign of a zero is kept by the floating elements. "int8" counts in units of 2^-6 and leaves the code
    -128 unused, so it is odd. OCP Microscaling Formats 1.0, §5-6; Harma et al. 2025 call fp8_e4m3 "MXFP8" and
    fp6_e2m3 "MXFP6".

    Examples
    --------
    >>> MX("fp4_e2m1").quantize([12.0, 2.6, -0.4, 0.6])
    array([12.,  3., -0.,  1.])
    >>> MX("fp6_e2m3").bits_per_value()
    6.25
    """

    element: str
    block: int = 32
    scale_rule: str = "floor"

    def __post_init__(self) -> None:
        object.__setattr__(self, "element", arguments.choice(self.element, "element", ELEMENTS))
        object.__setattr__(self, "block", check_block(self.block))
        object.__setattr__(self, "scale_rule", arguments.choice(self.scale_rule, "scale_rule", ("floor", "rceil")))

    @property
    def _element(self) -> Element:
        return ELEMENTS[self.element]

    @property
    def saturates(self) -> bool:
        return self.scale_rule == "floor"

    def _exponents(self, largest):
        exponent, mantissa = _floor_log2(largest)
        exponent = exponent - self._element.largest_exponent
        if self.scale_rule == "rceil":
            exponent = exponent + (mantissa > 2 * np.frexp(self._element.largest)[0])
        return np.clip(exponent, -127, 127)

    def _kernel(self, blocks, stochastic, keys, out):
        element = self._element
        top = np.float32(2 * np.frexp(element.largest)[0]).view(np.int32) & 0x7FFFFF
        above = np.int32(top if self.scale_rule == "rceil" else 0x7FFFFF)
        shift = np.int32(element.largest_exponent)
        shape = (blocks.rows.shape[1], blocks.block)
        if element.integer:
            return _kernels.shared_integer(
                flat(blocks.rows),
                *shape,
                shift,
                above,
                np.int32(-127),
                np.int32(6),
                np.float32(127),
                stochastic,
                *keys,
                out.reshape(-1),
            )
        return _kernels.shared_float(
            flat(blocks.rows),
            *shape,
            shift,
            above,
            np.int32(element.least_exponent),
            np.int32(element.mantissa_bits),
            np.float32(element.largest),
            stochastic,
            *keys,
            out.reshape(-1),
        )


@dataclass(frozen=True)
class HBFP(_PowerOfTwoScaled):
    """Hybrid block floating point: `bits`-bit sign and magnitude integers under a power-of-two scale.

    Parameters
    ----------
    bits : 3 to 16, the sign included: bits - 1 bits of magnitude.
    block : values that share an exponent, 64 unless told, 1 to 2**31; the last block of a row may be shorter.

    Notes
    -----
    With e = ceil(log2 a) for the largest magnitude a, the step is 2^(e-bits+1) and values are clipped at 2^e less one
    step: an a that is a power of two is clipped (1.0 in 8 bits becomes 0.9921875). The exponent of the step is kept
    in [-126, 127], so steps below 2^-126 do not exist. Harma et al. 2025 (reconstructed from their published code
    with deterministic rounding, without its constant 1e-8 in the logarithm).

    Examples
    --------
    >>> HBFP(4).quantize([6.5, 3.4, -1.6, 0.4])
    array([ 6.,  3., -2.,  0.])
    >>> HBFP(8).quantize([1.0])
    array([0.9921875])
    """

    bits: int
    block: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", arguments.integer(self.bits, "bits", 3, 16))
        object.__setattr__(self, "block", check_block(self.block))

    @property
    def levels(self) -> NDArray[np.float64]:
        top = 2 ** (self.bits - 1) - 1
        return np.arange(-top, top + 1, dtype=np.float64)

    @property
    def element_bits(self) -> int:
        return self.bits

    def _exponents(self, largest):
        exponent, mantissa = _floor_log2(largest)
        return np.clip(exponent + (mantissa > 1) - (self.bits - 1), -126, 127)

    def _define(self, blocks, rounding, seed):
        exponent = self._exponents(block_largest(blocks))
        units = round_units(np.ldexp(blocks.rows, -blocks.spread(exponent)), rounding, seed)
        top = 2 ** (self.bits - 1) - 1
        return exponent, np.clip(units, -top, top) + 0  # adding 0 makes every zero a positive one

    def _kernel(self, blocks, stochastic, keys, out):
        magnitude = self.bits - 1
        return _kernels.shared_integer(
            flat(blocks.rows),
            blocks.rows.shape[1],
            blocks.block,
            np.int32(magnitude),
            np.int32(0),
            np.int32(-126),
            np.int32(0),
            np.float32(2**magnitude - 1),
            stochastic,
            *keys,
            out.reshape(-1),
        )

    def _encode_rows(self, blocks: Blocks, rounding: str, seed: int) -> Stored:
        exponent, units = self._define(blocks, rounding, seed)
        return units.astype(np.int8 if self.bits <= 8 else np.int16), (exponent + 127).astype(np.uint8), {}

    def _decode_rows(self, blocks: Blocks, encoded: Encoded) -> NDArray:
        exponent = blocks.spread(np.asarray(encoded.scales).astype(np.int64) - 127)
        return np.ldexp(blocks.rows.astype(encoded.dtype), exponent)
