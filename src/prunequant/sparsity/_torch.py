"""The masks of `prunequant.sparsity` on torch tensors, on the device where they are; the same bits as there."""

from __future__ import annotations

import math

import numpy as np
import torch

from prunequant import threads
from prunequant.arguments import choice, integer
from prunequant.formats.base import uniform32
from prunequant.sparsity import keep_largest as keep_largest_numpy
from prunequant.sparsity import parse_pattern, pruned_count
from prunequant.sparsity.masks import TIES


def keep_largest(
    score: torch.Tensor,
    pattern: str | float,
    ties: str = "first",
    *,
    original: torch.Tensor | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """Bool mask of the largest scores: N of every M along the last axis, or all but a fraction of the whole tensor.

    Parameters and errors are those of `prunequant.sparsity.keep_largest`. On a CPU that function does the work;
    elsewhere a stable sort on the device.

    Examples
    --------
    >>> keep_largest(torch.tensor([3.0, 1.0, 1.0, 1.0]), "2:4", "last")
    tensor([ True, False, False,  True])
    """
    score, seed = score.detach(), integer(seed, "seed", 0)
    if score.device.type == "cpu":
        given = None if original is None else _array(original)
        with threads.using():
            mask = keep_largest_numpy(_array(score), pattern, ties, original=given, seed=seed)
        return torch.from_numpy(mask.copy())
    return keep_largest_sorted(score, pattern, ties, original=original, seed=seed)


def keep_largest_sorted(score, pattern, ties="first", *, original=None, seed=0) -> torch.Tensor:
    """`keep_largest` by stable sorts in torch, for any device."""
    choice(ties, "ties", TIES)
    seed = integer(seed, "seed", 0)
    if ties == "magnitude" and (original is None or original.shape != score.shape):
        raise ValueError("ties='magnitude' needs original, of the shape of the scores: the values before quantization")
    if not torch.isfinite(score).all():
        raise ValueError("score holds NaN or infinity: every value must be finite")
    parsed, count = parse_pattern(pattern), score.numel()
    if isinstance(parsed, float):
        keep, group = count - pruned_count(parsed, count), count
    else:
        keep, group = parsed
        if score.shape[-1] % group:
            raise ValueError(f"the last axis has length {score.shape[-1]}, which groups of {group} do not divide")
    if count == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    rows = score.reshape(-1, group)
    if ties == "last":
        rows = rows.flip(1)
    key = None
    if ties == "random":
        draws = uniform32(np.arange(math.prod(score.shape), dtype=np.uint64), seed)
        key = torch.from_numpy(draws).to(score.device).reshape(-1, group)
    elif ties == "magnitude":
        key = original.detach().abs().reshape(-1, group)
    if key is None:
        order = torch.sort(rows, dim=1, descending=True, stable=True).indices
    else:
        by_key = torch.sort(key, dim=1, descending=True, stable=True).indices
        by_score = torch.sort(rows.gather(1, by_key), dim=1, descending=True, stable=True).indices
        order = by_key.gather(1, by_score)
    mask = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order[:, :keep], True)
    return (mask.flip(1) if ties == "last" else mask).reshape(score.shape)


def _array(x: torch.Tensor) -> np.ndarray:
    x = x.detach()
    return (x if x.dtype in (torch.float32, torch.float64) else x.float()).contiguous().numpy()
