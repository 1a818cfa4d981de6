"""NF4: four bits whose levels are Gaussian quantiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.formats import _kernels
from prunequant.formats.base import (
    Blocks,
    Encoded,
    Format,
    Stored,
    as_values,
    block_largest,
    check_block,
    check_codes,
    check_largest_bits,
    flat,
    to_blocks,
    uniform32,
)

# The 16 quantiles of a standard Gaussian scaled to [-1, 1], zero among them: Dettmers et al. 2023 (QLoRA), appendix E.
NF4_LEVELS = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)  # fmt: skip


@dataclass(frozen=True)
class NF4(Format):
    """NF4: 16 Gaussian quantiles times the largest magnitude of a block. Zero is a level; the grid is not odd.

    A value goes to the nearest level (halfway: to the lower one). Scales are stored in 32 bits. Rounding is to
    nearest only: levels at uneven distances leave "stochastic" to be defined by the distances, which is done.
    `block` is an integer from 1 to 2**31; the last block of a row may be shorter.

    >>> NF4().quantize([1.0, 0.5, -0.5, 0.0]).round(4)
    array([ 1.    ,  0.4407, -0.5251,  0.    ])
    """

    block: int = 64
    odd = False
    element_bits = 4
    scale_bits = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", check_block(self.block))

    @property
    def levels(self) -> NDArray[np.float64]:
        return NF4_LEVELS.copy()

    @property
    def block_size(self) -> int:
        return self.block

    def scales(self, x: ArrayLike, axis: int = -1) -> NDArray:
        largest = block_largest(to_blocks(as_values(x), self.block, axis))
        return np.where(largest > 0, largest, largest.dtype.type(1))

    def _define(self, blocks, rounding, seed):
        largest = block_largest(blocks)
        scale = np.where(largest > 0, largest, largest.dtype.type(1))
        levels = NF4_LEVELS.astype(blocks.rows.dtype)
        t = blocks.rows / blocks.spread(scale)
        if rounding == "even":
            codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, t, side="left")
        else:
            below = np.clip(np.searchsorted(levels, t, side="right") - 1, 0, 14)
            uniform = uniform32(np.arange(t.size, dtype=np.uint64).reshape(t.shape), seed)
            codes = below + (uniform * (levels[below + 1] - levels[below]) < t - levels[below])
        return scale, codes.astype(np.uint8)

    def _quantize_rows(self, blocks, rounding, seed, out):
        if blocks.rows.dtype == np.float32 and rounding == "even":
            levels = NF4_LEVELS.astype(np.float32)
            thresholds = (levels[1:] + levels[:-1]) / 2
            shape = (blocks.rows.shape[1], blocks.block)
            bits = _kernels.nearest_level(flat(blocks.rows), *shape, thresholds, levels, out.reshape(-1))
            check_largest_bits(bits)
            return out
        scale, codes = self._define(blocks, rounding, seed)
        np.multiply(NF4_LEVELS.astype(blocks.rows.dtype)[codes], blocks.spread(scale), out=out)
        return out

    def _encode_rows(self, blocks: Blocks, rounding: str, seed: int) -> Stored:
        scale, codes = self._define(blocks, rounding, seed)
        return codes, scale, {}

    def _decode_rows(self, blocks: Blocks, encoded: Encoded) -> NDArray:
        codes = check_codes(blocks.rows, 0, 15)
        return NF4_LEVELS.astype(encoded.dtype)[codes] * blocks.spread(encoded.scales)
