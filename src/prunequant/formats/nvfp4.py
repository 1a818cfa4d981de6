"""NVFP4: four-bit floats under two levels of scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    flat,
    seed_keys,
    to_blocks,
)
from prunequant.formats.elements import ELEMENTS


@dataclass(frozen=True)
class NVFP4(Format):
    """NVFP4: fp4_e2m1 elements, an fp8_e4m3 scale for every 16, and one float32 scale for the tensor.

    Parameters
    ----------
    block : 16 in the format's definition, 1 to 2**31; the last block of a row may be shorter.
    tensor_scale : the second-level scale g, a normal float32 number (2**-126 to 3.4e38); None takes a/(448·6) from the
        largest magnitude of the tensor, and 2**-126 where that is less.

    Notes
    -----
    The block scale is c = e4m3(min((a_b/6)/g, 448)) and values are c·g·e2m1(x/(c·g)), computed in the dtype of x with
    g in float32. A block so far below the tensor's largest that c rounds to 0 is stored as zeros. Without a given
    tensor_scale a block's scale also looks at the tensor's largest magnitude, which magnitude pruning never removes.

    >>> NVFP4().bits_per_value()
    4.5
    """

    block: int = 16
    tensor_scale: float | None = None
    saturates = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", check_block(self.block))
        if self.tensor_scale is not None:
            scale = arguments.real(self.tensor_scale, "tensor_scale", 2.0**-126, float(np.finfo(np.float32).max))
            object.__setattr__(self, "tensor_scale", scale)

    _element = ELEMENTS["fp4_e2m1"]
    _scale_element = ELEMENTS["fp8_e4m3"]
    element_bits = 4
    scale_bits = 8
    tensor_bits = 32

    @property
    def tensor_scaled(self) -> bool:
        return self.tensor_scale is None

    def row_by_row(self, largest: float) -> NVFP4:
        super().row_by_row(largest)
        return replace(self, tensor_scale=largest / (448 * 6)) if self.tensor_scaled else self

    @property
    def levels(self) -> NDArray[np.float64]:
        return self._element.levels

    @property
    def block_size(self) -> int:
        return self.block

    def _scale_parts(self, blocks: Blocks) -> tuple[np.float32, NDArray]:
        largest = block_largest(blocks)
        dtype = blocks.rows.dtype.type
        if self.tensor_scale is None:
            whole = np.float32(np.max(largest, initial=0)) / np.float32(448 * 6)
        else:
            whole = np.float32(self.tensor_scale)
        whole = max(whole, np.finfo(np.float32).smallest_normal)
        with np.errstate(over="ignore"):  # under a small tensor_scale: then c is the largest e4m3
            ratio = np.minimum((largest / dtype(6)) / dtype(whole), dtype(448))
        return whole, self._scale_element.round(ratio)

    def scales(self, x: ArrayLike, axis: int = -1) -> NDArray:
        blocks = to_blocks(as_values(x), self.block, axis)
        whole, scale = self._scale_parts(blocks)
        return scale * blocks.rows.dtype.type(whole)

    def _define(self, blocks, rounding, seed):
        whole, scale = self._scale_parts(blocks)
        total = blocks.spread(scale * blocks.rows.dtype.type(whole))
        with np.errstate(over="ignore"):
            t = np.divide(blocks.rows, total, out=np.zeros_like(blocks.rows), where=total > 0)
        return whole, scale, total, self._element.round(np.clip(t, -8, 8), rounding, seed)

    def _quantize_rows(self, blocks, rounding, seed, out):
        if blocks.rows.dtype == np.float32:
            whole, scale = self._scale_parts(blocks)
            total = scale * whole
            _kernels.scaled_e2m1(
                flat(blocks.rows),
                flat(total),
                blocks.rows.shape[1],
                blocks.block,
                rounding == "stochastic",
                *seed_keys(seed),
                out.reshape(-1),
            )
            return out
        _, _, total, values = self._define(blocks, rounding, seed)
        np.multiply(values, total, out=out)
        return out

    def _encode_rows(self, blocks: Blocks, rounding: str, seed: int) -> Stored:
        whole, scale, _, values = self._define(blocks, rounding, seed)
        extra: dict[str, NDArray | np.float32] = {"tensor_scale": np.float32(whole)}
        return self._element.to_codes(values), self._scale_element.to_codes(scale), extra

    def _decode_rows(self, blocks: Blocks, encoded: Encoded) -> NDArray:
        scale = self._scale_element.from_codes(encoded.scales, encoded.dtype)
        total = scale * np.asarray(encoded.extra["tensor_scale"]).astype(encoded.dtype)
        return self._element.from_codes(blocks.rows, encoded.dtype) * blocks.spread(total)
