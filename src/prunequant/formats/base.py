"""What every number format can do, and the layout of values in blocks.

A format replaces each value by one of a finite set of numbers, `q(x)_i = s_b * rho(x_i / s_b)`: `rho` rounds to the
levels of the format and the scale `s_b` belongs to the block b that holds i. Blocks run along one axis. All the
theorems of the interplay of pruning and quantization speak of four properties, which each format states of itself:

* `keeps_zero`: rho(0) = 0;
* `odd`: rho(-t) = -rho(t), and the scale does not look at signs;
* `monotone`: a larger value never gets a smaller level (rounding to nearest);
* `max_scaled`: the scale is a function of the largest magnitude of the block and of nothing else.

Three more say what else a scale does: `saturates`, that a block's largest magnitude may lie beyond the last level by
more than half a step; `tensor_scaled`, that a block's scale also looks at the largest magnitude of the whole array;
`takes_scale`, that `quantize` may be given the scale.
Other rooms ask these properties, and `with_block` and `row_by_row` for a relative of the format, never for its class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, is_dataclass, replace
from functools import lru_cache
from importlib import import_module
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats import _kernels

ROUNDINGS = ("even", "stochastic")
MAX_BLOCK = 2**31  # values that may share a scale; a longer block than the row is the row
MAX_SEED = 2**128 - 1
_SMALL = 1 << 18  # values up to which NumPy is as fast as a kernel


@dataclass(frozen=True)
class Encoded:
    """The integers a format stores: one code a value, the scales, and what is needed to read them again.

    Attributes
    ----------
    codes : integer array in the layout of the values — one code a value (unpacked; `pack` makes the bits dense).
    scales : array, one entry a block in the order of the blocks — floats, or the bit patterns of E8M0 / E4M3 scales.
    extra : what else a format needs (an array of zero points, the tensor scale of NVFP4).
    axis, dtype : the axis the blocks run along, and the dtype of the decoded values.
    """

    codes: NDArray
    scales: NDArray
    axis: int
    dtype: np.dtype
    extra: dict[str, NDArray | np.float32] = field(default_factory=dict)


Stored: TypeAlias = tuple[NDArray, NDArray, dict[str, NDArray | np.float32]]  # codes, scales, extra: see `Encoded`


@dataclass(frozen=True)
class Blocks:
    """An array seen as rows of blocks: the block axis moved last, all other axes flattened into rows."""

    rows: NDArray  # (rows, length), C-contiguous
    block: int  # values in a block; the last block of a row may be shorter
    shape: tuple[int, ...]
    axis: int

    @property
    def per_row(self) -> int:
        return -(-self.rows.shape[1] // self.block)

    def reduce(self, function: np.ufunc, values: NDArray | None = None) -> NDArray:
        """`function.reduceat` over each block: (rows, blocks a row)."""
        values = self.rows if values is None else values
        if values.size == 0:
            return np.zeros((values.shape[0], self.per_row), values.dtype)
        return function.reduceat(values, np.arange(0, values.shape[1], self.block), axis=1)

    def spread(self, per_block: NDArray) -> NDArray:
        """One number a block, (rows, blocks a row), repeated for each value: (rows, length), or broadcastable."""
        if per_block.shape[1] == 1:
            return per_block
        return np.repeat(per_block, self.block, axis=1)[:, : self.rows.shape[1]]

    def restore(self, rows: NDArray) -> NDArray:
        """Rows back in the shape and axis order of the array they came from."""
        moved = self.shape[: self.axis] + self.shape[self.axis + 1 :] + (self.shape[self.axis],)
        return np.moveaxis(rows.reshape(moved), -1, self.axis)


def as_values(x: ArrayLike, name: str = "x") -> NDArray:
    """x as a float32 or float64 array: both kept, half precisions widened to float32, integers to float64.

    Whether every value is finite is left to the kernels, which see it on their way.
    """
    array = arguments.numbers(x, name, finite=False)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    if array.dtype.itemsize <= 2:  # float16, bfloat16 and narrower
        return array.astype(np.float32)
    native = array.dtype.newbyteorder("=")
    if native in (np.float32, np.float64):
        return array.astype(native)
    raise TypeError(f"{name} has dtype {array.dtype}: it must be float64 or narrower")


def flat(x: NDArray) -> NDArray:
    """x as the one kind of array that kernels are compiled for: flat, contiguous, aligned and read-only."""
    view = np.require(x, requirements=("C", "A")).reshape(-1).view()
    view.flags.writeable = False
    return view


def check_axis(axis: int, ndim: int) -> int:
    """The axis as a number in [0, ndim)."""
    if ndim == 0:
        raise ValueError("x is a single number: it must be an array with at least one axis")
    return arguments.integer(axis, "axis", -ndim, ndim - 1) % ndim


def check_seed(seed: int) -> int:
    """The seed as a Python int, from 0 to 2**128 - 1."""
    return arguments.integer(seed, "seed", 0, MAX_SEED)


def check_finite(largest: NDArray | np.floating | float, name: str = "x") -> None:
    """Refuse NaN and infinities, seen through the largest magnitudes of the blocks."""
    if not np.all(np.isfinite(largest)):
        raise ValueError(f"{name} holds NaN or infinity: every value must be finite")


def all_finite(x: NDArray) -> bool:
    """Whether no value is NaN or infinity; a large float32 array is read once, by its bit patterns."""
    if x.dtype != np.float32 or x.size <= _SMALL:
        return bool(np.all(np.isfinite(x)))
    bits = np.empty(1, np.int32)
    _kernels.largest_bits(flat(x), x.size, x.size, bits)
    return bool(bits[0] < 0x7F800000)


def to_blocks(x: NDArray, block: int | None, axis: int) -> Blocks:
    """The rows of blocks of x along an axis; block None means one block a row, 0 one block for the whole array."""
    axis = check_axis(axis, x.ndim)
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    rows = rows.reshape(1, -1) if block == 0 else rows.reshape(prod(rows.shape[:-1]), x.shape[axis])
    length = max(rows.shape[1], 1)
    return Blocks(rows, min(block or length, length), x.shape, axis)


def check_block(block: int) -> int:
    """The values that share a scale as a Python int, from 1 to 2**31."""
    return arguments.integer(block, "block", 1, MAX_BLOCK)


def block_largest(blocks: Blocks, limit: float = 2.0**127) -> NDArray:
    """Largest magnitude of each block, refused when not finite or not below the limit."""
    rows = blocks.rows
    if rows.dtype == np.float32:
        bits = np.zeros((rows.shape[0], blocks.per_row), np.int32)
        if rows.size:
            _kernels.largest_bits(flat(rows), rows.shape[1], blocks.block, bits.reshape(-1))
        largest = bits.view(np.float32)
    else:
        largest = blocks.reduce(np.maximum, np.abs(rows))
    check_finite(largest)
    if np.any(largest.astype(np.float64) >= limit):
        raise _too_large(limit)
    return largest


def _too_large(limit: float) -> ValueError:
    return ValueError(f"x holds magnitudes of {limit:g} or more: too large for the scales of this format")


def check_largest_bits(bits: int) -> None:
    """Refuse x by the largest bit pattern that a float32 kernel saw: from 2^127 up to NaN.

    The pattern alone decides: x itself may have been written over.
    """
    check_finite(np.int32(bits).view(np.float32))
    if bits >= 0x7F000000:
        raise _too_large(2.0**127)


def check_codes(codes: NDArray, low: int, high: int) -> NDArray:
    """Codes, all of them in [low, high]."""
    if codes.size and not (low <= codes.min() and codes.max() <= high):
        raise ValueError(f"codes lie in [{codes.min()}, {codes.max()}]: they must lie in [{low}, {high}]")
    return codes


def uniform32(index: NDArray, seed: int) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1) on a grid of 2**-24, one for each (index, seed), by a keyed 32-bit mix.

    Stateless: the number depends on the index and the seed alone, never on threads or chunks. The same mix stands in
    `_kernels.uniform32`. Indices are taken modulo 2**32.
    """
    key0, key1 = seed_keys(seed)
    h = arguments.integers(index, "index").astype(np.uint32) ^ key0
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = h ^ key1
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    h = h ^ (h >> np.uint32(16))
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def seed_keys(seed: int) -> tuple[np.uint32, np.uint32]:
    """Two 32-bit keys from a seed, by NumPy's SeedSequence."""
    return _keys(check_seed(seed))


@lru_cache(maxsize=256)
def _keys(seed: int) -> tuple[np.uint32, np.uint32]:
    key0, key1 = np.random.SeedSequence(seed).generate_state(2)
    return key0, key1


def round_units(t: NDArray, rounding: str, seed: int) -> NDArray:
    """t rounded to integers: half to even, or stochastically (up with a probability equal to the fraction)."""
    if rounding == "even":
        return np.rint(t)
    floor = np.floor(t)
    uniform = uniform32(np.arange(t.size, dtype=np.uint64).reshape(t.shape), seed)
    return floor + (uniform < t - floor)


class Format(ABC):
    """The common face of all number formats; see the module's docstring for the four properties."""

    @property
    def keeps_zero(self) -> bool:
        """Zero is a level."""
        return True

    @property
    def odd(self) -> bool:
        """rho(-t) = -rho(t), and the scale does not look at signs."""
        return True

    @property
    def monotone(self) -> bool:
        """A larger value never gets a smaller level."""
        return True

    @property
    def max_scaled(self) -> bool:
        """The scale is a function of the largest magnitude of the block alone."""
        return True

    @property
    def saturates(self) -> bool:
        """A block's largest magnitude may lie beyond the last level by more than half a step."""
        return False

    @property
    def tensor_scaled(self) -> bool:
        """A block's scale also looks at the largest magnitude of the whole array."""
        return False

    @property
    def takes_scale(self) -> bool:
        """`quantize` may be given the scale."""
        return False

    @property
    @abstractmethod
    def levels(self) -> NDArray[np.float64]:
        """All element values at scale 1, increasing."""

    @property
    @abstractmethod
    def element_bits(self) -> int:
        """Bits of one code."""

    @property
    @abstractmethod
    def block_size(self) -> int | None:
        """Values that share a scale along the axis; None: the whole row, 0: the whole array."""

    @property
    @abstractmethod
    def scale_bits(self) -> int:
        """Bits of one scale (with its zero point, where there is one)."""

    @property
    def tensor_bits(self) -> int:
        """Bits stored once for the whole array."""
        return 0

    def with_block(self, block: int) -> Format:
        """The same format with a scale for every `block` values, 1 to 2**31."""
        if not is_dataclass(self):
            raise TypeError(f"{self} is no dataclass with a field `block`: its class must define with_block")
        return replace(self, block=block)

    def row_by_row(self, largest: float) -> Format:
        """The format for a batch of small tensors, one a row: no scale is shared by two rows.

        What would look at the whole array sees `largest`, the largest magnitude that a row may hold. The format itself,
        unless it is `tensor_scaled` or has one scale for the whole array.
        """
        arguments.real(largest, "largest", 0, open_low=True)
        return self

    @abstractmethod
    def _quantize_rows(self, blocks: Blocks, rounding: str, seed: int, out: NDArray) -> NDArray:
        """The values of the rows, written into `out`; a format that `takes_scale` has one argument more for it."""

    def _given(self, blocks: Blocks, scale: ArrayLike):
        """A scale that was given, as `_quantize_rows` takes it."""
        wanted = "only Integer with grid 'narrow' or 'twos_complement' can be given one"
        raise ValueError(f"scale is given but {self} takes its scales from the data: {wanted}")

    @abstractmethod
    def scales(self, x: ArrayLike, axis: int = -1) -> NDArray:
        """The scale of every block, (rows, blocks a row): what `step` and the codes are multiplied with."""

    @abstractmethod
    def _encode_rows(self, blocks: Blocks, rounding: str, seed: int) -> Stored:
        """Codes in the layout of the rows, one scale a block, and what else is stored."""

    @abstractmethod
    def _decode_rows(self, blocks: Blocks, encoded: Encoded) -> NDArray:
        """Values in the layout of the rows of codes."""

    def encode(self, x: ArrayLike, axis: int = -1, *, rounding: str = "even", seed: int = 0) -> Encoded:
        """The codes and scales that are stored; `decode` gives back exactly what `quantize` returns.

        Parameters and errors are those of `quantize`.
        """
        x = as_values(x)
        arguments.choice(rounding, "rounding", ROUNDINGS)
        blocks = to_blocks(x, self.block_size, axis)
        codes, scales, extra = self._encode_rows(blocks, rounding, check_seed(seed))
        return Encoded(blocks.restore(codes), scales, blocks.axis, x.dtype, extra)

    def decode(self, encoded: Encoded) -> NDArray:
        """The values that the stored codes and scales stand for.

        Raises
        ------
        TypeError : not an `Encoded`, or codes that are no integers.
        ValueError : codes that the format does not have, or not one scale a block.
        """
        arguments.instance(encoded, "encoded", Encoded, "what encode() returns")
        blocks = to_blocks(arguments.integers(encoded.codes, "codes"), self.block_size, encoded.axis)
        scales = (blocks.rows.shape[0], blocks.per_row)
        if np.shape(encoded.scales) != scales:
            raise ValueError(f"scales has shape {np.shape(encoded.scales)}: it must be one a block, {scales}")
        return blocks.restore(self._decode_rows(blocks, encoded))

    def quantize(
        self,
        x: ArrayLike,
        axis: int = -1,
        *,
        rounding: str = "even",
        seed: int = 0,
        scale: ArrayLike | None = None,
        out: NDArray | None = None,
    ) -> NDArray:
        """x with every value replaced by its nearest number of the format.

        Parameters
        ----------
        x : array of real numbers, at least one axis. float32 and float64 keep their dtype (and are computed in it);
            half precisions become float32, integers float64. Or a torch tensor: the result is a tensor of the same
            numbers on its device, without a gradient. A tensor that is not on the CPU must be rounded to "even" with
            scales from the data, by `Integer` (the grids that take a scale), `HBFP` or `MX`.
        axis : the axis the blocks run along. A last block may be shorter than the others: as if padded with zeros.
        rounding : "even" (to nearest, ties to the even code) or "stochastic" (unbiased inside the range).
        seed : of the stochastic rounding, 0 to 2**128 - 1; the draw of a value depends on its position and the seed
            alone.
        scale : for a format that `takes_scale` (`Integer`, grids "narrow" and "twos_complement") — the scale itself, a
            positive number or one a block, (rows, blocks a row); None takes the scale from the largest magnitude.
        out : array like the result to write into, C-contiguous with the blocks along its last axis. It may be x
            itself, but not overlap it otherwise. Not with a tensor.

        Returns
        -------
        array or tensor like x; `out` if it was given.

        Raises
        ------
        TypeError : x does not hold real numbers (bool, complex, masked data), or an argument of the wrong kind.
        ValueError : NaN or infinity in x (`out` is then undefined), magnitudes too large for the scales (from 2**127;
            for `Integer` in float64 from 2**1023), a bad axis, rounding, seed, scale or out.
        """
        if arguments.is_tensor(x):
            _torch = import_module(
                "prunequant.formats._torch"
            )  # stands on this module, and is loaded for a tensor only

            return _torch.quantize(x, self, axis, rounding=rounding, seed=seed, scale=scale, out=out)
        x = as_values(x)
        arguments.choice(rounding, "rounding", ROUNDINGS)
        seed = check_seed(seed)
        blocks = to_blocks(x, self.block_size, axis)
        given = () if scale is None else (self._given(blocks, scale),)
        if out is not None:
            arguments.output(out, "out", x.shape, x.dtype, x)
            if blocks.axis != x.ndim - 1:
                raise ValueError(f"axis is {axis} but out is given: the blocks must run along the last axis")
            if x.size:
                self._quantize_rows(blocks, rounding, seed, out.reshape(blocks.rows.shape), *given)
            return out
        if x.size == 0:
            return x.copy()
        return blocks.restore(self._quantize_rows(blocks, rounding, seed, np.empty_like(blocks.rows), *given))

    def step(self, x: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
        """The widest gap between neighbouring levels in each value's block, in the layout of x."""
        x = as_values(x)
        blocks = to_blocks(x, self.block_size, axis)
        gap = float(np.max(np.diff(self.levels)))
        per_value = blocks.spread(gap * np.asarray(self.scales(x, axis), dtype=np.float64))
        return blocks.restore(np.broadcast_to(per_value, blocks.rows.shape))

    def bits_per_value(self, shape: tuple[int, ...] | None = None, axis: int = -1) -> float:
        """Bits stored for one value of an array of this shape, scales included.

        Without a shape: the limit for long rows (exact for block formats whose block divides the row). Each axis of
        the shape is an integer from 1 to 2**63 - 1.
        """
        axis = arguments.integer(axis, "axis")
        if shape is None:
            return self.element_bits + (self.scale_bits / self.block_size if self.block_size else 0.0)
        try:
            given = tuple(shape)
        except TypeError:
            raise TypeError(f"shape is {arguments.shown(shape)}: it must be a tuple of integers from 1 on") from None
        shape = tuple(arguments.integer(n, f"shape[{i}]", 1, 2**63 - 1) for i, n in enumerate(given))
        if not shape:
            raise ValueError("shape is (): it must have at least one axis")
        length, count = shape[check_axis(axis, len(shape))], prod(shape)
        if self.block_size == 0:
            blocks = 1
        else:
            blocks = count // length * -(-length // (self.block_size or length))
        return self.element_bits + (blocks * self.scale_bits + self.tensor_bits) / count
