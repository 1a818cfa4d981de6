"""Integers with a scale: narrow, two's complement, zero-point, per tensor, row or group."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats import _kernels
from prunequant.formats.base import (
    MAX_BLOCK,
    Blocks,
    Encoded,
    Format,
    Stored,
    as_values,
    block_largest,
    check_largest_bits,
    flat,
    round_units,
    seed_keys,
    to_blocks,
)

FUSED_BLOCK = 1 << 16  # values in a block up to which its largest magnitude is found while it is in cache
GRIDS = ("narrow", "twos_complement", "zero_point", "gptq")


@dataclass(frozen=True)
class Integer(Format):
    """b-bit integers times a scale.

    Parameters
    ----------
    bits : 2 to 16.
    grid : which integers, and the scale s taken from a block with largest magnitude a:

        * "narrow": -(2^(b-1)-1) … 2^(b-1)-1, s = a/(2^(b-1)-1). Odd.
        * "twos_complement": -2^(b-1) … 2^(b-1)-1, s = 2a/(2^b-1). One more level below than above: not odd.
        * "zero_point": 0 … 2^b-1 shifted by a whole zero point, s = (max(x,0)-min(x,0))/(2^b-1): the scale sees
          both ends.
        * "gptq": the "symmetric" code of a widely copied quantizer. s = 2a/(2^b-1) with zero point 2^(b-1); but a block
          without a negative value gets s = a/(2^b-1) with the same zero point, and so clips above the middle. Kept as
          a specimen: it breaks what the theorems need.
    granularity : "tensor" (one scale), "row" (one a row along the axis) or an integer g from 1 to 2**31 (one for g
        consecutive values; the last group of a row may be shorter).
    scale_dtype_bits : bits stored for a scale, 0 to 64, 32 unless told; a zero point adds b bits.

    Raises
    ------
    TypeError, ValueError : a parameter of the wrong kind, or outside its range.

    Notes
    -----
    A block of zeros gets scale 1. Rounding is half to even, values beyond the ends are clipped; magnitudes of half
    the largest float and more are refused. The code of a value x is clip(rint(x / s)), computed in the dtype of x, so
    a result is the number that NumPy or torch gives for that formula.
    Harma et al. 2025, Definition 3.1 (reconstructed); Kuzmin et al. 2023, §2.

    Examples
    --------
    >>> Integer(4).quantize([7.0, 3.4, 1.6, -0.2])
    array([7., 3., 2., 0.])
    >>> Integer(3, grid="twos_complement").levels
    array([-4., -3., -2., -1.,  0.,  1.,  2.,  3.])
    >>> Integer(4, granularity=64).bits_per_value()
    4.5
    """

    bits: int
    grid: str = "narrow"
    granularity: str | int = "tensor"
    scale_dtype_bits: int = 32

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the class is frozen
        set_(self, "bits", arguments.integer(self.bits, "bits", 2, 16))
        set_(self, "grid", arguments.choice(self.grid, "grid", GRIDS))
        set_(self, "granularity", _granularity(self.granularity))
        set_(self, "scale_dtype_bits", arguments.integer(self.scale_dtype_bits, "scale_dtype_bits", 0, 64))

    @property
    def odd(self) -> bool:
        return self.grid == "narrow"

    @property
    def max_scaled(self) -> bool:
        return self.grid in ("narrow", "twos_complement")

    @property
    def saturates(self) -> bool:
        return self.grid == "gptq"

    @property
    def takes_scale(self) -> bool:
        return self.max_scaled

    def with_block(self, block: int) -> Integer:
        return replace(self, granularity=arguments.integer(block, "block", 1, MAX_BLOCK))

    def row_by_row(self, largest: float) -> Integer:
        super().row_by_row(largest)
        return replace(self, granularity="row") if self.granularity == "tensor" else self

    @property
    def element_bits(self) -> int:
        return self.bits

    @property
    def block_size(self) -> int | None:
        if isinstance(self.granularity, str):
            return 0 if self.granularity == "tensor" else None
        return self.granularity

    @property
    def scale_bits(self) -> int:
        return self.scale_dtype_bits + (self.bits if self.grid == "zero_point" else 0)

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest integer that multiplies the scale (zero points not yet taken off)."""
        top = 2 ** (self.bits - 1)
        if self.grid == "narrow":
            return 1 - top, top - 1
        if self.grid == "zero_point":
            return 0, 2 * top - 1
        return -top, top - 1

    @property
    def levels(self) -> NDArray[np.float64]:
        low, high = self.code_range
        return np.arange(low, high + 1, dtype=np.float64)

    @property
    def divisor(self) -> float:
        """The largest magnitude of a block over its scale, for the grids scaled by it."""
        return 2.0 ** (self.bits - 1) - (1.0 if self.grid == "narrow" else 0.5)

    def parameters(self, blocks: Blocks) -> tuple[NDArray, NDArray, NDArray]:
        """Scale, lowest and highest multiple of it for each block, (rows, blocks a row) each."""
        rows = blocks.rows
        tiny = np.finfo(rows.dtype).smallest_subnormal
        low, high = self.code_range
        largest = block_largest(blocks, _limit(rows.dtype))
        if self.max_scaled:
            scale = largest / rows.dtype.type(self.divisor)
            lows, highs = np.full_like(scale, low), np.full_like(scale, high)
        else:
            least = np.minimum(blocks.reduce(np.minimum), 0)
            most = np.maximum(blocks.reduce(np.maximum), 0)
            if self.grid == "gptq":
                most = largest
                least = np.where(least < 0, -largest, least)
            scale = (most - least) / rows.dtype.type(2**self.bits - 1)
            safe = np.where(scale > 0, scale, 1)
            zero = np.rint(-least / safe) if self.grid == "zero_point" else np.full_like(scale, 2.0 ** (self.bits - 1))
            lows, highs = -zero, 2**self.bits - 1 - zero
        scale = np.where(largest > 0, np.maximum(scale, tiny), rows.dtype.type(1))
        return scale, lows.astype(rows.dtype), highs.astype(rows.dtype)

    def scales(self, x: ArrayLike, axis: int = -1) -> NDArray:
        blocks = to_blocks(as_values(x), self.block_size, axis)
        return self.parameters(blocks)[0]

    def _given(self, blocks: Blocks, scale: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
        if not self.takes_scale:
            return super()._given(blocks, scale)
        dtype = blocks.rows.dtype
        shape = (blocks.rows.shape[0], blocks.per_row)
        with np.errstate(over="ignore", under="ignore"):
            scale = arguments.numbers(scale, "scale").astype(dtype)  # a copy: `out` may share its memory
        if scale.ndim and scale.shape != shape:
            raise ValueError(f"scale has shape {scale.shape}: give one number or one a block, {shape}")
        if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
            raise ValueError("scale must be positive and finite (in the dtype of x)")
        low, high = self.code_range
        scale = np.broadcast_to(scale, shape)
        return scale, np.full(shape, low, dtype), np.full(shape, high, dtype)

    def _define(self, blocks: Blocks, parameters, rounding: str, seed: int) -> NDArray:
        """Multiples of the scale: the definition of the format, in NumPy."""
        scale, low, high = (blocks.spread(p) for p in parameters)
        with np.errstate(over="ignore"):
            return np.clip(round_units(blocks.rows / scale, rounding, seed), low, high)

    def _quantize_rows(self, blocks, rounding, seed, out, given=None):
        rows = blocks.rows
        if rows.dtype == np.float32:
            return self._quantize_fast(blocks, rounding == "stochastic", seed, out, given)
        parameters = given or self.parameters(blocks)
        if given:
            block_largest(blocks, _limit(rows.dtype))
        np.multiply(blocks.spread(parameters[0]), self._define(blocks, parameters, rounding, seed), out=out)
        np.add(out, 0, out=out)  # makes every zero a positive one
        return out

    def _quantize_fast(self, blocks, stochastic, seed, out, given):
        """The same numbers by the float32 kernels: one pass where the scale is given or a block fits the cache."""
        x, y, length = flat(blocks.rows), out.reshape(-1), blocks.rows.shape[1]
        keys = seed_keys(seed)
        if given is None and self.max_scaled and blocks.block <= FUSED_BLOCK:
            low, high = (np.float32(code) for code in self.code_range)
            divisor = np.float32(self.divisor)
            bits = _kernels.integer_blocks(x, length, blocks.block, divisor, low, high, stochastic, *keys, y)
        else:
            parameters = given or self.parameters(blocks)
            scales, lows, highs = (flat(p) for p in parameters)
            if scales.size == 1:
                bits = _kernels.integer_one_scale(x, scales[0], lows[0], highs[0], stochastic, *keys, y)
            else:
                bits = _kernels.integer_scales(x, length, blocks.block, scales, lows, highs, stochastic, *keys, y)
        check_largest_bits(bits)
        return out

    def _encode_rows(self, blocks: Blocks, rounding: str, seed: int) -> Stored:
        scale, low, _ = parameters = self.parameters(blocks)
        units = self._define(blocks, parameters, rounding, seed)
        extra: dict[str, NDArray | np.float32] = {}
        if self.grid not in ("narrow", "twos_complement"):
            extra["zero_point"] = (-low).astype(np.int32)
        dtype = np.int8 if self.bits <= 8 and not extra else np.int32
        codes = (units + blocks.spread(-low) if extra else units).astype(dtype)
        return codes, scale, extra

    def _decode_rows(self, blocks: Blocks, encoded: Encoded) -> NDArray:
        units = blocks.rows
        if encoded.extra:
            units = units - blocks.spread(np.asarray(encoded.extra["zero_point"]))
        return blocks.spread(encoded.scales) * units.astype(encoded.dtype) + 0


def _granularity(value: str | int) -> str | int:
    if isinstance(value, str) and value in ("tensor", "row"):
        return str(value)
    try:
        return arguments.integer(value, "granularity", 1, MAX_BLOCK)
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(value, str) else type(error)
        wanted = f"'tensor', 'row' or a group size, an integer in [1, {MAX_BLOCK}]"
        raise kind(f"granularity is {arguments.shown(value)}: it must be {wanted}") from None


def _limit(dtype) -> float:
    """Half the range of a float type: below it no scale times code overflows."""
    return 2.0 ** (np.finfo(dtype).maxexp - 1)
