"""The masks of `prunequant.sparsity` for torch tensors: the same bits as there, on the device where the tensor is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from prunequant import threads
from prunequant.arguments import choice, real
from prunequant.formats.base import check_axis, check_seed, uniform32
from prunequant.sparsity.masks import TIES, check_n_m, parse_pattern, pruned_count


def call(function: Callable, args: tuple, given: dict):
    """A mask function of a tensor in its first place: on a CPU by the function itself, elsewhere by its form in torch.

    Raises
    ------
    TypeError : a tensor on another device, and no form of the function there.
    """
    device = args[0].device
    if device.type != "cpu":
        if function.__name__ not in _ON_DEVICE:
            raise TypeError(f"{function.__name__} has no form for tensors on {device}: move them to the CPU")
        return _ON_DEVICE[function.__name__](*args, **given)
    with threads.using():
        result = function(*map(_array, args), **{name: _array(value) for name, value in given.items()})
    return torch.from_numpy(result.copy())


def keep_largest(score, pattern, ties="first", *, axis=None, original=None, seed=0) -> torch.Tensor:
    """`prunequant.sparsity.keep_largest` by stable sorts in torch, for any device.

    >>> keep_largest(torch.tensor([3.0, 1.0, 1.0, 1.0]), "2:4", "last")
    tensor([ True, False, False,  True])
    """
    choice(ties, "ties", TIES)
    score, seed = score.detach(), check_seed(seed)
    if score.dim() == 0:
        raise ValueError("score is a single number: it must be a tensor with at least one axis")
    if original is not None:
        original = torch.as_tensor(original, device=score.device)
    if ties == "magnitude" and (original is None or original.shape != score.shape):
        raise ValueError("ties='magnitude' needs original, of the shape of the scores: the values before quantization")
    if not torch.isfinite(score).all():
        raise ValueError("score holds NaN or infinity: every value must be finite")
    parsed = parse_pattern(pattern)
    whole = isinstance(parsed, float) and axis is None  # one ranking of all values
    axis = check_axis(-1 if axis is None else axis, score.dim())
    length = score.numel() if whole else score.shape[axis]
    keep, group = (length - pruned_count(parsed, length), length) if isinstance(parsed, float) else parsed
    if group and length % group:
        raise ValueError(f"axis {axis} has length {length}, which groups of {group} do not divide")
    if score.numel() == 0:
        return torch.ones_like(score, dtype=torch.bool)

    def lines(x: torch.Tensor) -> torch.Tensor:
        return (x if whole else x.movedim(axis, -1)).reshape(-1, group)

    rows = lines(score)
    if ties == "last":
        rows = rows.flip(1)
    key = None
    if ties == "random":
        draws = uniform32(np.arange(math.prod(score.shape), dtype=np.uint64), seed)
        key = lines(torch.from_numpy(draws).to(score.device).reshape(score.shape))
    elif ties == "magnitude":
        key = lines(original.detach().abs())
    if key is None:
        order = torch.sort(rows, dim=1, descending=True, stable=True).indices
    else:
        by_key = torch.sort(key, dim=1, descending=True, stable=True).indices
        by_score = torch.sort(rows.gather(1, by_key), dim=1, descending=True, stable=True).indices
        order = by_key.gather(1, by_score)
    mask = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order[:, :keep], True)
    mask = mask.flip(1) if ties == "last" else mask
    return mask.reshape(score.shape) if whole else mask.reshape(score.movedim(axis, -1).shape).movedim(-1, axis)


def _magnitude(x, sparsity, ties="first", *, axis=None, original=None, seed=0) -> torch.Tensor:
    sparsity = real(sparsity, "sparsity", 0, 1)
    return keep_largest(x.detach().abs(), sparsity, ties, axis=axis, original=original, seed=seed)


def _n_m(x, n, m, ties="first", *, axis=-1, original=None, seed=0) -> torch.Tensor:
    n, m = check_n_m(n, m)
    return keep_largest(x.detach().abs(), f"{n}:{m}", ties, axis=axis, original=original, seed=seed)


_ON_DEVICE: dict[str, Callable[..., torch.Tensor]] = {
    "keep_largest": keep_largest,
    "magnitude": _magnitude,
    "n_m": _n_m,
}


def _array(x):
    """A tensor as an array, half precision widened; anything else as it is."""
    if not isinstance(x, torch.Tensor):
        return x
    x = x.detach().cpu()
    half = x.is_floating_point() and x.dtype not in (torch.float32, torch.float64)
    return (x.float() if half else x).contiguous().numpy()
