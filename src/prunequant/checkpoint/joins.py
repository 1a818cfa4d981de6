"""Weights that are stored as codes and scales: joined to numbers before anything is judged.

    fp8, int8     X, X_scale or X_scale_inv (one, one a row, one a group, blocks of 128 × 128); X_zero_point
    NVFP4         pairs of E2M1 with an E4M3 scale for 16 values and one scale in all
    packed        X_packed, X_scale, X_shape, X_zero_point: the integers of compressed-tensors in words of 32 bits
    GPTQ          qweight, qzeros, scales, g_idx: words along the input; zero points less one (v1) or as they are (v2)
    AWQ           qweight, qzeros, scales: words along the output, in the order 0 2 4 6 1 3 5 7
    MXFP4         X_blocks, X_scales: pairs of E2M1 with a power of two for each block

All of them are a grid of scales over the rows and columns of codes: value = (code - zero point) · scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint import values
from prunequant.checkpoint.files import Contents, Tensor, shown_name
from prunequant.checkpoint.scales import (
    Unjoinable,
    grid_of,
    grid_of_rows,
    multiplier,
    powers_of_two,
    setting,
    shared_by,
    spread,
)

_FP8 = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_FLOATS = ("F64", "F32", "F16", "BF16")
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # output j of a word lies in its bits 4·AWQ_ORDER[j] …

Rows = Callable[[int, int], NDArray]


@dataclass
class Joined:
    """A weight made of several tensors.

    weight : the tensor of the codes
    parts : all of them, the codes first
    shape : of the weight that they make, (…, outputs, inputs)
    read : rows first … stop - 1 of all its matrices one below the other
    """

    weight: Tensor
    parts: tuple[Tensor, ...]
    shape: tuple[int, ...]
    dtype: str
    read: Rows


@dataclass
class Joins:
    """What was joined; what could not be, by the name of its codes; and what belongs to either."""

    joined: list[Joined] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def used(self) -> set[str]:
        return {part.name for join in self.joined for part in join.parts}


def join(contents: Contents) -> Joins:
    """All weights of a model that are stored as codes and scales."""
    joins = Joins()
    tensors = contents.tensors
    conventions: dict[str, int] = {}
    for name, tensor in tensors.items():
        for matches, make in _RULES:
            if not matches(tensors, name, tensor):
                continue
            try:
                weight = make(contents, name, conventions)
                if unread := [part for part in weight.parts if not values.readable(part.encoding)]:
                    raise Unjoinable(f"values of {unread[0].dtype} ({shown_name(unread[0].name)}) are not read")
                joins.joined.append(weight)
            except Unjoinable as problem:
                joins.failed[name] = str(problem)
            break
    for convention, count in conventions.items():
        joins.notes.append(f"{convention} ({count} {'matrix' if count == 1 else 'matrices'})")
    return joins


# --- codes -----------------------------------------------------------------------------------------------------------


def unpack(words: NDArray[np.uint32], bits: int, count: int, *, dense: bool = True) -> NDArray[np.uint32]:
    """(n, w) words of 32 bits as (n, count) codes of `bits`, the lowest bits first.

    dense : one after the other, across the border of words; else as many whole ones as a word holds

    Examples
    --------
    >>> unpack(np.array([[0x87654321]], np.uint32), 4, 8)
    array([[1, 2, 3, 4, 5, 6, 7, 8]], dtype=uint32)
    """
    at = np.arange(count)
    if dense:
        first, shift = at * bits // 32, (at * bits % 32).astype(np.uint32)
    else:
        first, shift = at // (32 // bits), (at % (32 // bits) * bits).astype(np.uint32)
    out = words[:, first] >> shift
    split = np.flatnonzero(shift + bits > 32)  # the upper bits lie in the next word
    if dense and len(split):
        out[:, split] |= words[:, first[split] + 1] << (32 - shift[split])
    out &= np.uint32((1 << bits) - 1)
    return out


def _words(tensor: Tensor, start: int, stop: int) -> NDArray[np.uint32]:
    return tensor.fetch(start * 4, stop * 4).view("<u4").astype(np.uint32, copy=False)


def _upright(tensor: Tensor, first: int, stop: int) -> NDArray[np.uint32]:
    """Columns first … stop - 1 of (n, m) words as (stop - first, n)."""
    lines, width = tensor.shape
    out = np.empty((stop - first, lines), np.uint32)
    step = max((1 << 20) // width, 1)
    if 8 * (stop - first) >= width:
        for start in range(0, lines, step):
            end = min(start + step, lines)
            out[:, start:end] = _words(tensor, start * width, end * width).reshape(-1, width)[:, first:stop].T
    else:
        for line in range(lines):
            out[:, line] = _words(tensor, line * width + first, line * width + stop)
    return out


@lru_cache(maxsize=4)
def _array(tensor: Tensor) -> NDArray:
    """A small tensor as a whole: zero points and scales of the matrix that is being read."""
    return tensor.read(0, tensor.size).reshape(tensor.shape)


@lru_cache(maxsize=4)
def _array_of_words(tensor: Tensor) -> NDArray[np.uint32]:
    return _words(tensor, 0, tensor.size).reshape(tensor.shape)


# --- the ways that codes are stored ----------------------------------------------------------------------------------


def _companion(tensors: dict[str, Tensor], name: str, *ends: str) -> Tensor | None:
    return next((tensors[name + end] for end in ends if name + end in tensors), None)


def _is_scaled(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    known = tensor.dtype in _FP8 or tensor.dtype in ("I8", "U8", "F4")
    return known and len(tensor.shape) in (2, 3) and _scale_of(tensors, name) is not None


def _scale_of(tensors: dict[str, Tensor], name: str) -> Tensor | None:
    scale = _companion(tensors, name, "_scale_inv", "_scale", ".scale")
    if scale is None and name.endswith(".weight"):
        scale = _companion(tensors, name.removesuffix("weight"), "scale_weight", "SCB")
    return scale if scale is not None and (scale.encoding.integer is False or scale.dtype == "U8") else None


def _scaled(contents: Contents, name: str, conventions: dict[str, int]) -> Joined:
    tensors, config = contents.tensors, contents.config
    weight, scale = tensors[name], _scale_of(tensors, name)
    assert scale is not None
    second = _companion(tensors, name, "_scale_2")
    pairs = weight.dtype == "U8" and scale.dtype in ("F8_E4M3", "F8_E8M0", "U8")
    if weight.dtype == "U8" and not pairs:
        raise Unjoinable("bytes with a scale, and nothing says whether they are integers or pairs of 4-bit floats")
    shape = (*weight.shape[:-1], weight.shape[-1] * 2) if pairs else weight.shape
    parts = [weight, scale]
    zero = _companion(tensors, name, "_zero_point")
    if zero is not None and zero.dtype not in ("I8", "U8", *_FP8, *_FLOATS):
        raise Unjoinable(f"zero points {shown_name(zero.name)} are {zero.dtype}")
    multiply = [multiplier(scale, shape, config)]
    if second is not None:
        multiply.append(multiplier(second, shape, config))
        parts.append(second)
    if scale.name.endswith(".SCB"):
        multiply.append(lambda rows, first, stop: np.divide(rows, 127, out=rows))
    subtract = None
    if zero is not None:
        grid = grid_of(zero, shape, config)
        subtract = (zero, grid)
        parts.append(zero)
    return Joined(weight, tuple(parts), shape, weight.dtype, _reader(weight, shape, pairs, subtract, multiply))


def _reader(weight: Tensor, shape: tuple[int, ...], pairs: bool, subtract: Any, multiply: list) -> Rows:
    outputs, inputs = shape[-2:]

    def read(first: int, stop: int) -> NDArray:
        if first >= stop:
            return np.empty((0, inputs), np.float32)
        if pairs:
            raw = weight.fetch(first * inputs // 2, stop * inputs // 2)
            rows = values.fp4_pairs(raw).reshape(stop - first, inputs)
        else:
            rows = np.array(weight.read(first * inputs, stop * inputs), np.float32).reshape(stop - first, inputs)
        if subtract is not None:
            tensor, (each, wide, down, across) = subtract
            spread(rows, grid_of_rows(tensor, each, wide, down, outputs, first, stop), across, inputs, np.subtract)
        for step in multiply:
            step(rows, first, stop)
        return rows

    return read


def _is_packed(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name.endswith("_packed") and _companion(tensors, name.removesuffix("_packed"), "_scale") is not None


def _packed(contents: Contents, name: str, conventions: dict[str, int]) -> Joined:
    tensors, base = contents.tensors, name.removesuffix("_packed")
    weight, scale, size = tensors[name], tensors[f"{base}_scale"], _companion(tensors, base, "_shape")
    overall = _companion(tensors, base, "_global_scale")
    if weight.dtype == "U8" and len(weight.shape) in (2, 3):  # pairs of FP4
        shape = (*weight.shape[:-1], weight.shape[-1] * 2)
        steps = [multiplier(scale, shape, contents.config)]
        if overall is not None:
            if overall.size != 1 or overall.encoding.integer:
                raise Unjoinable(f"the scale in all, {shown_name(overall.name)}, is no single number")
            steps.append(lambda rows, first, stop: _divided(rows, overall))
        parts = (weight, scale, *((overall,) if overall is not None else ()))
        return Joined(weight, parts, shape, "FP4 pairs", _reader(weight, shape, True, None, steps))
    if weight.dtype != "I32" or len(weight.shape) != 2 or size is None:
        raise Unjoinable("packed codes are words of 32 bits in a matrix, with a _shape beside them")
    if size.dtype not in ("I64", "I32") or size.shape != (2,):
        raise Unjoinable(f"{shown_name(size.name)} must hold two integers")
    rows, columns = (int(n) for n in size.read(0, 2))
    if rows != weight.shape[0] or not 0 < columns <= 32 * weight.shape[1]:
        raise Unjoinable(f"a weight of {rows} × {columns} does not lie in {list(weight.shape)} words")
    bits, dense = _width(weight.shape[1], columns, setting(contents.config, "num_bits"))
    shape = (rows, columns)
    grid = grid_of(scale, shape, contents.config)
    zero = _companion(tensors, base, "_zero_point")
    order = _companion(tensors, base, "_g_idx")
    if order is not None:
        raise Unjoinable("columns in an order of their own (_g_idx) are not joined")
    if zero is not None and (zero.dtype, zero.shape) != ("I32", (-(-rows * bits // 32), grid[1])):
        raise Unjoinable(f"zero points {zero.dtype} of shape {list(zero.shape)} do not fit {rows} rows of {bits} bits")
    multiply = multiplier(scale, shape, contents.config)

    def read(first: int, stop: int) -> NDArray:
        words = _words(weight, first * weight.shape[1], stop * weight.shape[1]).reshape(stop - first, weight.shape[1])
        weights = unpack(words, bits, columns, dense=dense).astype(np.float32)
        if first >= stop:
            return weights
        weights -= 1 << (bits - 1)
        if zero is not None:
            points = unpack(_array_of_words(zero).T, bits, rows)[:, first:stop].T.astype(np.float32)
            spread(weights, points - (1 << (bits - 1)), grid[3], columns, np.subtract)
        multiply(weights, first, stop)
        return weights

    parts = (weight, scale, size, *((zero,) if zero is not None else ()))
    what = f"compressed-tensors: {bits}-bit integers, {'with' if zero is not None else 'without'} zero points"
    conventions[what] = conventions.get(what, 0) + 1
    return Joined(weight, parts, shape, f"INT{bits}", read)


def _divided(rows: NDArray, by: Tensor) -> None:
    np.divide(rows, by.read(0, 1).astype(np.float32), out=rows)


def _width(words: int, columns: int, wanted: int) -> tuple[int, bool]:
    """Bits of a code, and whether codes cross the borders of words, from how many words hold a row."""
    for bits in (wanted, 4, 8, 2, 3, 5, 6, 7, 1):
        if not 0 < bits <= 8:
            continue
        if -(-columns * bits // 32) == words:
            return bits, True
        if -(-columns // (32 // bits)) == words:
            return bits, False
    raise Unjoinable(f"{columns} codes of no width from 1 to 8 bits take {words} words")


def _is_gptq(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    base = name.removesuffix("qweight")
    return name.rpartition(".")[2] == "qweight" and f"{base}scales" in tensors


def _gptq(contents: Contents, name: str, conventions: dict[str, int]) -> Joined:
    tensors, base = contents.tensors, name.removesuffix("qweight")
    weight, scales, zeros = tensors[name], tensors[f"{base}scales"], tensors.get(f"{base}qzeros")
    order = tensors.get(f"{base}g_idx")
    if weight.dtype != "I32" or len(weight.shape) != 2 or len(scales.shape) != 2 or scales.dtype not in _FLOATS:
        raise Unjoinable("qweight must be words of 32 bits and scales floats, both with two axes")
    if 0 in weight.shape or 0 in scales.shape:
        raise Unjoinable("it is empty")
    groups, outputs = scales.shape
    if zeros is not None and (zeros.dtype != "I32" or len(zeros.shape) != 2 or zeros.shape[0] != groups):
        raise Unjoinable("qzeros must be words of 32 bits, a row for each row of scales")
    if weight.shape[1] != outputs:
        return _awq(contents, name, conventions)
    inputs = order.size if order is not None else 0
    bits = setting(contents.config, "bits")
    if not inputs:
        bits = bits or 4
        inputs = weight.shape[0] * 32 // bits
    elif weight.shape[0] * 32 != inputs * bits:
        bits = weight.shape[0] * 32 // inputs
    if not 2 <= bits <= 8 or weight.shape[0] * 32 != inputs * bits:
        raise Unjoinable(f"{weight.shape[0]} words do not hold {inputs} inputs in codes of 2 to 8 bits")
    if zeros is not None and zeros.shape[1] != -(-outputs * bits // 32):
        raise Unjoinable(f"qzeros of shape {list(zeros.shape)} do not hold {outputs} codes of {bits} bits")
    group = _groups(order, inputs, groups, setting(contents.config, "group_size"))
    later, known = _is_v2(contents.config, zeros, bits)
    middle = 1 << (bits - 1)

    def read(first: int, stop: int) -> NDArray:
        weights = unpack(_upright(weight, first, stop), bits, inputs).astype(np.float32)
        if zeros is None:
            weights -= middle
        else:
            codes = unpack(_array_of_words(zeros), bits, outputs)[:, first:stop]
            points = (codes if later else (codes + 1) & ((1 << bits) - 1)).astype(np.float32)
            weights -= points.T[:, group]
        weights *= _array(scales)[:, first:stop].astype(np.float32).T[:, group]
        return weights

    version = "v2: zero points as they are" if later else "v1: zero points stored less one"
    what = (
        f"GPTQ, {bits} bits, convention {version} ({known})" if zeros is not None else f"GPTQ, {bits} bits, symmetric"
    )
    conventions[what] = conventions.get(what, 0) + 1
    parts = tuple(part for part in (weight, scales, zeros, order) if part is not None)
    return Joined(weight, parts, (outputs, inputs), f"INT{bits}", read)


def _groups(order: Tensor | None, inputs: int, groups: int, wanted: int) -> NDArray[np.intp]:
    """The group of each input."""
    if order is None:
        return np.arange(inputs) // shared_by(inputs, groups, wanted, "inputs")
    if order.dtype not in ("I32", "I64") or order.shape != (inputs,):
        raise Unjoinable("g_idx must hold a group for each input")
    group_of = order.read(0, inputs).astype(np.int64)
    if group_of.size and not 0 <= group_of.min() <= group_of.max() < groups:
        raise Unjoinable(f"g_idx names group {int(group_of.max())} of {groups}")
    return group_of.astype(np.intp)


def _is_v2(config: dict[str, Any], zeros: Tensor | None, bits: int) -> tuple[bool, str]:
    """Whether zero points are stored as they are, and who says so."""
    version = config.get("checkpoint_format")
    if version in ("gptq_v2", "gptq"):
        return version == "gptq_v2", "says checkpoint_format"
    if zeros is not None:
        first = unpack(_words(zeros, 0, min(zeros.size, 64)).reshape(1, -1), bits, min(zeros.size, 64) * 32 // bits)
        if first.size and (first == 1 << (bits - 1)).all():
            return True, "nothing says so, but all that were looked at are the middle code"
    return False, "nothing says so: it is the usual one"


def _awq(contents: Contents, name: str, conventions: dict[str, int]) -> Joined:
    base = name.removesuffix("qweight")
    weight, scales = contents.tensors[name], contents.tensors[f"{base}scales"]
    zeros = contents.tensors.get(f"{base}qzeros")
    (inputs, words), (groups, outputs) = weight.shape, scales.shape
    if zeros is None or words * 8 != outputs or zeros.shape != (groups, words):
        raise Unjoinable("neither GPTQ, words along the input, nor AWQ, 4 bits along the output")
    group = _groups(None, inputs, groups, setting(contents.config, "group_size"))

    def codes(lines: NDArray[np.uint32], first: int, stop: int) -> NDArray:
        """(words, n) as rows of outputs."""
        unpacked = unpack(lines.reshape(-1, 1), 4, 8)[:, AWQ_ORDER]  # (words · n, 8)
        unpacked = unpacked.reshape(*lines.shape, 8).swapaxes(1, 2).reshape(-1, lines.shape[1])
        return unpacked[first % 8 : first % 8 + stop - first].astype(np.float32)

    def read(first: int, stop: int) -> NDArray:
        low, high = first // 8, -(-stop // 8)
        unpacked = codes(_upright(weight, low, high), first, stop)
        points = codes(np.ascontiguousarray(_array_of_words(zeros)[:, low:high].T), first, stop)
        unpacked -= points[:, group]
        unpacked *= _array(scales)[:, first:stop].astype(np.float32).T[:, group]
        return unpacked

    what = "AWQ, 4 bits, zero points as they are"
    conventions[what] = conventions.get(what, 0) + 1
    return Joined(weight, (weight, scales, zeros), (outputs, inputs), "INT4", read)


def _is_micro(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in tensors


def _micro(contents: Contents, name: str, conventions: dict[str, int]) -> Joined:
    blocks = contents.tensors[name]
    scales = contents.tensors[f"{name.removesuffix('_blocks')}_scales"]
    if (blocks.dtype, scales.dtype) not in (("U8", "U8"), ("U8", "F8_E8M0")) or len(blocks.shape) not in (3, 4):
        raise Unjoinable("blocks and scales must be bytes, (…, outputs, blocks, bytes) and (…, outputs, blocks)")
    if scales.shape != blocks.shape[:-1] or 0 in blocks.shape:
        raise Unjoinable(f"scales of shape {list(scales.shape)} do not fit blocks of shape {list(blocks.shape)}")
    *stack, outputs, count, width = blocks.shape
    inputs = count * width * 2
    powers = powers_of_two(scales)

    def read(first: int, stop: int) -> NDArray:
        raw = blocks.fetch(first * count * width, stop * count * width)
        weights = values.fp4_pairs(raw).reshape(-1, width * 2)
        weights *= powers.read(first * count, stop * count)[:, None]
        return weights.reshape(stop - first, inputs)

    return Joined(blocks, (blocks, scales), (*stack, outputs, inputs), "MXFP4", read)


def _is_bitsandbytes(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return f"{name}.absmax" in tensors or f"{name}.quant_map" in tensors


def _bitsandbytes(contents: Contents, name: str, conventions: dict[str, int]) -> Joined:
    raise Unjoinable("4-bit codes of bitsandbytes are not joined with their scales")


_RULES = (
    (_is_bitsandbytes, _bitsandbytes),
    (_is_gptq, _gptq),
    (_is_packed, _packed),
    (_is_micro, _micro),
    (_is_scaled, _scaled),
)


def belongs_to(name: str, failed: dict[str, str]) -> str:
    """The codes that could not be joined and that a tensor is a scale of, by its name; empty when there are none."""
    for codes in failed:
        base = codes
        for end in ("qweight", "_packed", "_blocks"):
            base = base.removesuffix(end)
        if name != codes and base and name.startswith(base):
            return codes
    return ""
