"""Scales of quantized weights as a grid: which rows and which columns share one, read for the rows at hand only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint import values
from prunequant.checkpoint.files import Tensor, shown_name

BLOCK = 128  # rows and columns of a block of fp8 that shares a scale, where no settings say otherwise


class Unjoinable(ValueError):
    """Codes and scales do not fit together; the text says how."""


def shared_by(length: int, count: int, wanted: int, what: str) -> int:
    """How many neighbours share a scale, when `count` scales cover `length` values."""
    if count == length:
        return 1
    if count == 1:
        return length
    for size in (wanted, BLOCK):
        if size > 0 and -(-length // size) == count:
            return size
    if count and length % count == 0:
        return length // count
    raise Unjoinable(f"{count} scales do not cover {length} {what} evenly")


def grid_of(tensor: Tensor, shape: tuple[int, ...], config: dict[str, Any]) -> tuple[int, int, int, int]:
    """(rows of scales for each matrix, columns of scales, rows that share one, columns that share one)."""
    *stack, outputs, inputs = shape
    if tensor.encoding.integer and tensor.dtype not in ("U8", "I8"):
        raise Unjoinable(f"scales {shown_name(tensor.name)} are {tensor.dtype}, not floats")
    scale_shape = tensor.shape
    if tensor.size == 1:
        scale_shape = (*(1 for _ in stack), 1, 1) if math.prod(stack) == 1 else ()
    elif len(scale_shape) == len(shape) - 1 and scale_shape[-1:] == (outputs,):
        scale_shape = (*scale_shape, 1)
    elif len(scale_shape) == 1 and stack and scale_shape == (stack[0],):
        scale_shape = (stack[0], 1, 1)
    if tensor.size == 1 and not scale_shape:
        return 0, 1, outputs, inputs
    if len(scale_shape) != len(shape) or list(scale_shape[:-2]) != stack or 0 in scale_shape:
        raise Unjoinable(f"scales of shape {list(tensor.shape)} do not fit a weight of shape {list(shape)}")
    blocks = config.get("weight_block_size")
    pair = blocks if isinstance(blocks, list) and len(blocks) == 2 and all(_positive(n) for n in blocks) else [0, 0]
    group = setting(config, "group_size")
    across = shared_by(inputs, scale_shape[-1], pair[1] or group, "columns")
    return scale_shape[-2], scale_shape[-1], shared_by(outputs, scale_shape[-2], pair[0], "rows"), across


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def setting(config: dict[str, Any], key: str) -> int:
    """A positive number of the settings, theirs or that of the weights of their only group; 0 when there is none."""
    if _positive(config.get(key)):
        return config[key]
    groups = config.get("config_groups")
    if isinstance(groups, dict):
        weights = [g["weights"] for g in groups.values() if isinstance(g, dict) and isinstance(g.get("weights"), dict)]
        declared = {w[key] for w in weights if _positive(w.get(key))}
        if len(declared) == 1:
            return declared.pop()
    return 0


def powers_of_two(tensor: Tensor) -> Tensor:
    """Bytes that are exponents, read as E8M0."""
    return replace(tensor, encoding=values.ENCODINGS["F8_E8M0"]) if tensor.dtype == "U8" else tensor


def multiplier(tensor: Tensor, shape: tuple[int, ...], config: dict[str, Any]) -> Callable[[NDArray, int, int], None]:
    """A function that multiplies rows first … stop - 1, in place, with their scales."""
    tensor = powers_of_two(tensor)
    each, wide, down, across = grid_of(tensor, shape, config)
    outputs, inputs = shape[-2:]

    def multiply(rows: NDArray, first: int, stop: int) -> None:
        spread(rows, grid_of_rows(tensor, each, wide, down, outputs, first, stop), across, inputs, np.multiply)

    return multiply


def grid_of_rows(tensor: Tensor, each: int, wide: int, down: int, outputs: int, first: int, stop: int) -> NDArray:
    """Scales of rows, (stop - first, wide) or (1, wide)."""
    if each == 0:  # one for all
        return tensor.read(0, 1).astype(np.float32).reshape(1, 1)
    at = np.arange(first, stop)
    lines = at // outputs * each + at % outputs // down
    low, high = int(lines[0]), int(lines[-1]) + 1
    return tensor.read(low * wide, high * wide).astype(np.float32).reshape(-1, wide)[lines - low]


def spread(rows: NDArray, grid: NDArray, across: int, inputs: int, operation: np.ufunc) -> None:
    """rows = operation(rows, grid), each column of the grid for `across` columns of the rows, in place."""
    if grid.shape[1] * across == inputs:
        blocks = rows.reshape(len(rows), grid.shape[1], across)
        operation(blocks, grid[:, :, None], out=blocks)
    else:
        operation(rows, np.repeat(grid, across, axis=1)[:, :inputs], out=rows)
