"""Training through a compression: the forward pass sees pruned and quantized weights, the gradient the dense ones.

With a mask M and a quantizer Q the layers see, for a dense weight w,

    "s"      M⊙w              M from |w|
    "q"      Q(w)
    "sq"     Q(M⊙w)           M from |w|: prune first
    "qs"     M⊙Q(w)           M from |Q(w)|: quantize first
    "joint"  M⊙Q(w)           M from the squared error that keeping a weight saves

and the gradient with respect to what they see is given to w unchanged. The numbers are those of
`prunequant.interplay.apply_orders`. Harma et al. 2025, Definitions 3.1-3.4 (reconstructed).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import parametrize

from prunequant import threads
from prunequant.arguments import choice, flag, instance, integer, several
from prunequant.finetune.sizes import check_layers
from prunequant.finetune.training import Hook
from prunequant.formats import Format
from prunequant.interplay import apply_orders
from prunequant.models.layers import remove_parametrizations
from prunequant.sparsity import keep_largest, parse_pattern
from prunequant.sparsity.masks import TIES

ORDERS = ("s", "q", "sq", "qs", "joint")
GRADIENTS = ("dense", "kept")
_MAX_SEED = 2**63  # layer i takes seed + i


def to_rows(weight: torch.Tensor) -> torch.Tensor:
    """A weight as (outputs, inputs) rows, the reduction axis last; filters with their input channels fastest."""
    instance(weight, "weight", torch.Tensor, "a tensor")
    if weight.dim() <= 2:
        return weight
    return weight.movedim(1, -1).reshape(len(weight), -1)


def from_rows(rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The inverse of `to_rows`."""
    instance(rows, "rows", torch.Tensor, "a tensor")
    shape = torch.Size(integer(size, f"shape[{i}]", 0) for i, size in enumerate(several(shape, "shape")))
    if math.prod(shape) != rows.numel():
        raise ValueError(f"shape is {tuple(shape)}: rows hold {rows.numel()} numbers")
    if len(shape) <= 2:
        return rows.reshape(shape)
    return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


class _Straight(torch.autograd.Function):
    """The compressed weight forward; backward the gradient as it is, or only where a mask keeps."""

    @staticmethod
    def forward(ctx, weight, compressed, mask):
        ctx.mask = mask
        return compressed.clone()

    @staticmethod
    def backward(ctx, grad):
        return (grad if ctx.mask is None else grad * ctx.mask), None, None


class Compressed(nn.Module):
    """The parametrization of one weight; its mask is a buffer, and so part of the model's state."""

    def __init__(
        self,
        weight: torch.Tensor,
        fmt: Format | None,
        pattern: str | float | None,
        order: str,
        ties: str,
        gradient: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.fmt, self.pattern, self.order, self.ties = fmt, pattern, order, ties
        self.gradient, self.seed = gradient, seed
        self.register_buffer("mask", self.choose(weight) if order != "q" else None)

    @torch.no_grad()
    def choose(self, weight: torch.Tensor) -> torch.Tensor:
        """The mask that this order takes from this dense weight, in the weight's shape."""
        rows = to_rows(instance(weight, "weight", torch.Tensor, "a tensor").detach())
        if self.order in ("s", "sq"):
            score = rows.abs()
        else:
            quantized: torch.Tensor = _needed_format(self.fmt, self.order).quantize(rows)
            wide = rows.to(quantized.dtype)
            score = quantized.abs() if self.order == "qs" else quantized * (2 * wide - quantized)
        mask = keep_largest(score, self.pattern, self.ties, original=rows.abs(), seed=self.seed)
        return from_rows(mask, weight.shape).contiguous()

    @torch.no_grad()
    def compress(self, weight: torch.Tensor) -> torch.Tensor:
        """What the forward pass sees, for the mask held now."""
        instance(weight, "weight", torch.Tensor, "a tensor")
        if self.order in ("s", "sq"):
            weight = weight.masked_fill(~self.mask, 0)
        if self.order == "s":
            return weight
        quantized = from_rows(_needed_format(self.fmt, self.order).quantize(to_rows(weight)), weight.shape).to(
            weight.dtype
        )
        return quantized.masked_fill(~self.mask, 0) if self.order in ("qs", "joint") else quantized

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        kept = self.mask if self.gradient == "kept" else None
        return _Straight.apply(weight, self.compress(weight.detach()), kept)


class StraightThrough(Hook):
    """The compressed layers of a model, and the hook that refreshes their masks; made by `attach`."""

    def __init__(self, model: nn.Module, layers: list[str], refresh: int | None) -> None:
        self.model, self.layers, self.refresh = model, layers, refresh

    def _modules(self):
        for name in self.layers:
            module = self.model.get_submodule(name)
            yield name, module, next(p for p in module.parametrizations.weight if isinstance(p, Compressed))

    def before_forward(self, step: int, steps: int) -> None:
        if self.refresh is not None and step % self.refresh == 0:
            self.update()

    def update(self) -> None:
        """Choose every mask anew from the dense weights as they are."""
        for _, module, compressed in self._modules():
            if compressed.mask is not None:
                compressed.mask.copy_(compressed.choose(module.parametrizations.weight.original))

    def masks(self) -> dict[str, torch.Tensor]:
        """The masks, by layer (none for the order "q")."""
        return {name: compressed.mask for name, _, compressed in self._modules() if compressed.mask is not None}

    def configuration(self) -> dict:
        _, _, first = next(self._modules())
        return {
            "layers": self.layers, "format": repr(first.fmt), "pattern": first.pattern, "order": first.order,
            "ties": first.ties, "gradient": first.gradient, "refresh": self.refresh,
        }  # fmt: skip

    def remove(self, compressed: bool = True) -> None:
        """Plain weights again: the compressed ones, or the dense ones behind them."""
        compressed = flag(compressed, "compressed")
        for _, module, _ in list(self._modules()):
            remove_parametrizations(module, "weight", leave_parametrized=compressed)


def attach(
    model: nn.Module,
    layers: Iterable[str] | None,
    fmt: Format | None,
    pattern: str | float | None,
    order: str,
    *,
    ties: str = "first",
    refresh: int | None = None,
    gradient: str = "dense",
    seed: int = 0,
) -> StraightThrough:
    """Let the forward pass see compressed weights, in place, and the gradient the dense ones.

    Parameters
    ----------
    model, layers : the model, and the names of its layers (None: every linear layer and convolution).
    fmt : a format (`Integer` narrow or two's complement, `HBFP`, `MX`; on a CPU any); None for the order "s". Blocks
        run along each row of inputs, filters with their input channels fastest.
    pattern : "N:M" along the rows or a sparsity of the whole layer; None for the order "q".
    order : "s", "q", "sq", "qs" or "joint".
    ties : see `prunequant.sparsity`.
    refresh : steps between two choices of the masks, when the handle is given to `training.fit` as a hook; None keeps
        those of the weights at hand.
    gradient : "dense", to every weight as it is; or "kept", to the weights under the mask alone, so that pruned
        weights stay what they were (under "qs" and a fixed mask they could else grow unseen and stretch the scales).
    seed : of ties "random", in [0, 2**63]; layer i takes seed + i.

    Returns
    -------
    StraightThrough

    Raises
    ------
    ValueError, TypeError : a bad argument, or weights the format or the pattern does not take.

    Examples
    --------
    >>> from prunequant.formats import Integer
    >>> model = nn.Sequential(nn.Linear(4, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.tensor([[2.51, 3.0, 7.0, 0.0]]))
    >>> handle = attach(model, None, Integer(4), "1:2", "qs")
    >>> model[0].weight.tolist(), handle.masks()["0"].tolist()
    ([[3.0, 0.0, 7.0, 0.0]], [[True, False, True, False]])
    """
    layers = check_layers(model, layers)
    pattern = _check(fmt, pattern, order, ties)
    refresh = None if refresh is None else integer(refresh, "refresh", 1)
    gradient, seed = choice(gradient, "gradient", GRADIENTS), integer(seed, "seed", 0, _MAX_SEED)
    for name in layers:
        if parametrize.is_parametrized(model.get_submodule(name), "weight"):
            raise ValueError(f"layers holds {name!r}, whose weight is parametrized already: remove that first")
    compressions = [
        Compressed(model.get_submodule(name).weight, fmt, pattern, order, ties, gradient, seed + i)
        for i, name in enumerate(layers)
    ]
    for name, compressed in zip(layers, compressions):
        parametrize.register_parametrization(model.get_submodule(name), "weight", compressed)
    return StraightThrough(model, layers, refresh)


@torch.no_grad()
def weights(
    model: nn.Module,
    layers: Iterable[str] | None,
    fmt: Format | None,
    pattern: str | float | None,
    order: str,
    ties: str = "first",
    *,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """The weights of layers compressed once, without training: {"layer.weight": tensor}.

    The parameters are those of `attach`; the model is not changed (``model.load_state_dict(…, strict=False)`` does
    that). Computed on the CPU by `prunequant.interplay.apply_orders`.

    >>> from prunequant.formats import Integer
    >>> model = nn.Sequential(nn.Linear(4, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.tensor([[2.51, 3.0, 7.0, 0.0]]))
    >>> weights(model, None, Integer(4), "1:2", "sq")
    {'0.weight': tensor([[0., 3., 7., 0.]])}
    """
    layers = check_layers(model, layers)
    pattern = _check(fmt, pattern, order, ties)
    seed, out = integer(seed, "seed", 0, _MAX_SEED), {}
    for i, name in enumerate(layers):
        weight = model.get_submodule(name).weight.detach()
        rows = to_rows(weight).cpu()
        rows = rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
        if order == "q":
            quantized = _needed_format(fmt, order).quantize(rows)
        elif order == "s":
            quantized = rows * keep_largest(rows.abs(), pattern, ties, original=rows.abs(), seed=seed + i)
        else:
            with threads.using():
                both = apply_orders(
                    rows.contiguous().numpy(), _needed_format(fmt, order), _needed_pattern(pattern, order), (order,),
                    ties, seed=seed + i,
                )  # fmt: skip
            quantized = torch.from_numpy(both.compressed[order].copy())
        out[f"{name}.weight"] = from_rows(quantized, weight.shape).contiguous().to(weight.device, weight.dtype)
    return out


def _check(fmt, pattern, order, ties) -> str | float | None:
    """The pattern, a sparsity as a number: however it was written, the configuration of the training is the same."""
    choice(order, "order", ORDERS), choice(ties, "ties", TIES)
    if order != "s":
        _needed_format(fmt, order)
    if order != "q":
        parsed = parse_pattern(_needed_pattern(pattern, order))
        return parsed if isinstance(parsed, float) else pattern
    return pattern


def _needed_format(fmt: Format | None, order: str) -> Format:
    return instance(fmt, "fmt", Format, f"a format of prunequant.formats, for the order {order!r}")


def _needed_pattern(pattern: str | float | None, order: str) -> str | float:
    if pattern is None:
        raise ValueError(f"pattern is None: the order {order!r} needs 'N:M' or a sparsity")
    return pattern
