"""Matrices as codes, and with a part of them set to zero: in torch, on any device, as the kernels want them."""

from __future__ import annotations

import torch
from torch import Tensor

from prunequant.arguments import instance, integer, real
from prunequant.timing.schemes import kept_weights


def _matrix(weight: Tensor, multiple: int = 1) -> Tensor:
    """A matrix of floats whose rows have a multiple of so many values, or an error that says what it is."""
    wanted = "a matrix of floats" + (f", each row a multiple of {multiple} values" if multiple > 1 else "")
    instance(weight, "weight", Tensor, wanted)
    if weight.dim() != 2 or not weight.is_floating_point() or weight.shape[1] % multiple or not weight.numel():
        raise ValueError(f"weight is {tuple(weight.shape)} {weight.dtype}: it must be {wanted}")
    return weight


def row_codes(weight: Tensor, top: float) -> tuple[Tensor, Tensor]:
    """weight / scale with one scale per row, largest magnitude / top, and the scales (n, 1); zero rows get scale 1."""
    weight, top = _matrix(weight), real(top, "top", 0, open_low=True)
    scale = weight.abs().amax(1, keepdim=True) / top
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return weight / scale, scale


def two_of_four(weight: Tensor) -> Tensor:
    """The matrix with the two smaller magnitudes of every four neighbours set to zero."""
    return weight * two_of_four_mask(weight)


def two_of_four_mask(weight: Tensor) -> Tensor:
    """True for the two larger magnitudes of every four neighbours of a row."""
    groups = _matrix(weight, 4).reshape(-1, 4)
    keep = torch.zeros_like(groups, dtype=torch.bool)
    return keep.scatter_(1, groups.abs().topk(2, dim=1).indices, True).reshape(weight.shape)


def magnitude_mask(weight: Tensor, name: str) -> Tensor:
    """True for the largest magnitudes, exactly as many as `linear_schemes.kept_weights` says.

    Of equal magnitudes at the threshold the first are kept.
    """
    count = kept_weights(name, *_matrix(weight).shape)
    size = weight.flatten().abs()
    if count == size.numel():
        return torch.ones_like(weight, dtype=torch.bool)
    least = size.kthvalue(size.numel() - count + 1).values
    keep = size > least
    tied = (size == least).nonzero().flatten()
    keep[tied[: count - int(keep.sum())]] = True
    return keep.reshape(weight.shape)


def four_bit_codes(weight: Tensor, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes 0..15 (n, k) int32 with bfloat16 scales and offsets (k/group, n, 2), and the matrix they stand for.

    value = (code − 8)·scale + offset; the scale spans the least and the largest of its group, as Q4_1 does.
    """
    group = integer(group, "group", 1)
    n, k = _matrix(weight, group).shape
    blocks = weight.reshape(n, k // group, group)
    low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    scale = ((high - low) / 15).clamp_min(1e-30).bfloat16().float()
    offset = (low + 8 * scale).bfloat16().float()
    codes = ((blocks - offset) / scale).round().clamp(-8, 7)
    values = (codes * scale + offset).reshape(n, k)
    pairs = torch.cat([scale, offset], -1).transpose(0, 1).contiguous().bfloat16()
    return (codes + 8).to(torch.int32).reshape(n, k), pairs, values
