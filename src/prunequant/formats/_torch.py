"""The formats of `prunequant.formats` in torch: the same numbers, bit for bit, on any device.

Scales are made from bit patterns and divisors are tensors on the device: a GPU may replace the division by a plain
number by a product with its reciprocal, and an `exp2` need not be exact.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from prunequant import threads
from prunequant.arguments import choice, instance
from prunequant.formats.base import ROUNDINGS, Format, check_axis, check_seed
from prunequant.formats.integer import Integer
from prunequant.formats.power import HBFP, MX

_FLOATS = (torch.float32, torch.float64)


def quantize(
    x: torch.Tensor,
    fmt: Format,
    axis: int = -1,
    *,
    rounding: str = "even",
    seed: int = 0,
    scale=None,
    out=None,
    fast: bool = True,
) -> torch.Tensor:
    """`fmt.quantize` of a tensor: what it does when it is given one.

    Parameters
    ----------
    x : at least one axis, any device. float32 and float64 keep their dtype; half precisions become float32, integers
        float64.
    fmt, axis, rounding, seed, scale : as in `Format.quantize`.
    out : None; a tensor is always a new one.
    fast : on a CPU let the compiled kernels of `prunequant.formats` do it; without, or elsewhere, torch does, for
        `Integer` with grid "narrow" or "twos_complement", `HBFP` and `MX`, rounding "even" and no scale given.

    Returns
    -------
    A new tensor like x, without a gradient.

    Raises
    ------
    TypeError : a format or a dtype without an implementation here.
    ValueError : NaN or infinity, or magnitudes too large for the scales, as in `Format.quantize`.

    Examples
    --------
    >>> quantize(torch.tensor([7.0, 3.4, 1.6, -0.2]), Integer(4), fast=False)
    tensor([7., 3., 2., 0.])
    """
    x = instance(x, "x", torch.Tensor, "a tensor of real numbers").detach()
    instance(fmt, "fmt", Format, "a format of prunequant.formats")
    if x.dtype == torch.bool or x.is_complex():
        raise TypeError(f"x has dtype {x.dtype}: it must hold real numbers")
    if out is not None:
        raise TypeError("out is given but x is a torch tensor: it must be None, the result is a new tensor")
    x = x if x.dtype in _FLOATS else x.float() if x.is_floating_point() else x.double()
    if fast and x.device.type == "cpu":
        with threads.using():
            quantized = fmt.quantize(x.contiguous().numpy(), axis, rounding=rounding, seed=seed, scale=scale)
        return torch.from_numpy(np.ascontiguousarray(quantized))
    choice(rounding, "rounding", ROUNDINGS), check_seed(seed)
    axis = check_axis(axis, x.dim())
    if rounding != "even" or scale is not None:
        name = "rounding" if rounding != "even" else "scale"
        raise ValueError(f"{name} is given for a tensor on {x.device}: only on a CPU may it be other than the default")
    if x.numel() == 0:
        return x.clone()
    return _in_torch(x.movedim(axis, -1), fmt).movedim(-1, axis)


def _in_torch(x: torch.Tensor, fmt: Format) -> torch.Tensor:
    """The blocks along the last axis, to nearest, wherever the tensor lies."""
    if isinstance(fmt, Integer) and fmt.max_scaled:
        rule, limit = partial(_integer, fmt=fmt), 2.0 ** (127 if x.dtype == torch.float32 else 1023)
    elif isinstance(fmt, (HBFP, MX)):
        rule, limit = partial(_shared, fmt=fmt), 2.0**127
    else:
        raise TypeError(f"{fmt} has no torch implementation: give Integer (narrow or twos_complement), HBFP or MX")
    rows = x.reshape(1, -1) if fmt.block_size == 0 else x.reshape(-1, x.shape[-1])
    length = rows.shape[1]
    block = min(fmt.block_size or length, length)
    padding = -length % block
    if padding:
        rows = torch.nn.functional.pad(rows, (0, padding))
    blocks = rows.reshape(rows.shape[0], -1, block)
    largest = blocks.abs().amax(-1, keepdim=True)
    worst = float(largest.max())
    if not worst < limit:  # NaN too
        if worst == float("inf") or worst != worst:
            raise ValueError("x holds NaN or infinity: every value must be finite")
        raise ValueError(f"x holds magnitudes of {limit:g} or more: too large for the scales of this format")
    out = rule(blocks, largest).reshape(rows.shape)
    return out[:, :length].reshape(x.shape)


def _integer(blocks: torch.Tensor, largest: torch.Tensor, fmt: Integer) -> torch.Tensor:
    low, high = fmt.code_range
    tiny = float(np.finfo(np.float32 if blocks.dtype == torch.float32 else np.float64).smallest_subnormal)
    scale = (largest / largest.new_full((1,), fmt.divisor)).clamp_min(tiny)
    scale = torch.where(largest > 0, scale, torch.ones_like(scale))
    return scale * (blocks / scale).round().clamp(low, high) + 0


def _shared(blocks: torch.Tensor, largest: torch.Tensor, fmt: HBFP | MX) -> torch.Tensor:
    """Blocks under a power of two: x·2^−k to the elements of the format, times 2^k."""
    bits = largest.double().view(torch.int64)  # every float32 is a normal float64
    exponent, fraction = (bits >> 52) - 1023, bits & ((1 << 52) - 1)
    dtype = blocks.dtype
    if isinstance(fmt, HBFP):
        k = (exponent + (fraction > 0) - (fmt.bits - 1)).clamp(-126, 127)
        top = 2 ** (fmt.bits - 1) - 1
        return ((blocks * _power(-k, dtype)).round().clamp(-top, top) + 0) * _power(k, dtype)
    element = fmt._element
    k = exponent - element.largest_exponent
    if fmt.scale_rule == "rceil":
        k = k + (fraction > int(np.float64(element.largest).view(np.int64)) & ((1 << 52) - 1))
    k = k.clamp(-127, 127)
    t, scale = blocks * _power(-k, dtype), _power(k, dtype)
    if element.integer:
        step = 2.0**-element.mantissa_bits
        return ((t * 2.0**element.mantissa_bits).round().clamp(-127, 127) + 0) * step * scale
    e = _exponent(t).clamp_min(element.least_exponent) - element.mantissa_bits
    rounded = (t * _power(-e, dtype)).round() * _power(e, dtype)
    return rounded.clamp(-element.largest, element.largest) * scale


def _exponent(x: torch.Tensor) -> torch.Tensor:
    """floor(log2 |x|) of normal numbers, the least exponent or below for all others."""
    if x.dtype == torch.float32:
        return ((x.view(torch.int32) >> 23) & 0xFF) - 127
    return ((x.view(torch.int64) >> 52) & 0x7FF) - 1023


def _power(k: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """2^k exactly, for whole k in [−127, 127]."""
    wide = ((k.to(torch.int64) + 1023) << 52).view(torch.float64)
    return wide.to(dtype)  # 2^−127 is a subnormal float32, and exact
