"""Pruning while training: the sparsity grows along a cubic, the smallest weights go, and what is gone stays gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from prunequant.arguments import booleans, instance, integer, real
from prunequant.finetune.sizes import check_layers, dense_weight
from prunequant.finetune.training import Hook
from prunequant.sparsity import keep_largest


def cubic(step: int, start: int, steps: int, final: float, initial: float = 0.0) -> float:
    """Sparsity at a step: final + (initial − final)·(1 − (step − start)/steps)³, held before and after.

    Zhu and Gupta 2017, equation 1.

    Examples
    --------
    >>> [round(cubic(step, 10, 40, 0.75), 4) for step in (0, 10, 20, 30, 50, 90)]
    [0.0, 0.0, 0.4336, 0.6562, 0.75, 0.75]
    """
    step, start, steps = integer(step, "step"), integer(start, "start"), integer(steps, "steps", 1)
    final, initial = real(final, "final", 0, 1), real(initial, "initial", 0, 1)
    if step >= start + steps:
        return final
    share = min(max((step - start) / steps, 0.0), 1.0)
    return final + (initial - final) * (1 - share) ** 3


def check_masks(model: nn.Module, masks: Mapping) -> dict[str, torch.Tensor]:
    """Masks as bool tensors on the device of their weights."""
    out = {}
    instance(masks, "masks", Mapping, "a mapping from the name of a layer to its mask")
    if not masks:
        raise ValueError("masks is empty: give one layer's at least")
    for name in check_layers(model, list(masks)):
        weight, mask = dense_weight(model.get_submodule(name)), masks[name]
        if not isinstance(mask, torch.Tensor):
            mask = torch.from_numpy(booleans(mask, f"masks[{name!r}]").copy())
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise ValueError(
                f"masks[{name!r}] has dtype {mask.dtype} and shape {tuple(mask.shape)}: "
                f"give bool of the shape of the weight, {tuple(weight.shape)}"
            )
        out[name] = mask.to(weight.device).clone()
    return out


class _Masked(Hook):
    """Weights of some layers under masks (True is kept), zeroed after every step."""

    def __init__(self, model: nn.Module, masks: dict[str, torch.Tensor]):
        self.model, self.masks = model, masks

    @torch.no_grad()
    def apply(self) -> None:
        """Zero what is pruned."""
        for name, mask in self.masks.items():
            weight = dense_weight(self.model.get_submodule(name))
            if mask.device != weight.device:
                mask = self.masks[name] = mask.to(weight.device)
            weight.masked_fill_(~mask, 0)

    def after_step(self, step: int, steps: int) -> None:
        self.apply()

    def densities(self) -> dict[str, float]:
        """Share of weights kept, by layer."""
        return {name: int(mask.sum()) / mask.numel() for name, mask in self.masks.items()}

    def state_dict(self) -> dict:
        return {"masks": {name: mask.cpu() for name, mask in self.masks.items()}}

    def load_state_dict(self, state: dict) -> None:
        for name, mask in state["masks"].items():
            self.masks[name] = mask.to(dense_weight(self.model.get_submodule(name)).device)
        self.apply()


class FixedMask(_Masked):
    """A hook that keeps given weights at zero.

    Parameters
    ----------
    model : the model; the masks are applied at once.
    masks : by layer, bool tensors or arrays of the weight's shape, True where kept.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
    >>> hook = FixedMask(model, {"0": torch.tensor([[True, False]])})
    >>> hook.densities(), model[0].weight[0, 1].item()
    ({'0': 0.5}, 0.0)
    """

    def __init__(self, model: nn.Module, masks: Mapping) -> None:
        super().__init__(model, check_masks(model, masks))
        self.apply()

    def configuration(self) -> dict:
        return {"layers": list(self.masks), "kept": [int(mask.sum()) for mask in self.masks.values()]}


class GradualPruner(_Masked):
    """A hook that prunes the smallest weights of each layer along the cubic, and never lets one back.

    Parameters
    ----------
    model, layers : the model, and the names of its layers to prune (None: every linear layer and convolution).
    final : sparsity in the end, for every layer or by layer; exactly floor(final·count) weights are pruned.
    start, end : steps at which the ramp begins and ends; from `end` on the masks are fixed.
    every : steps between two prunings on the way (one more takes place at `end`).

    Notes
    -----
    Magnitudes within each layer, ties keep the lowest index. Zhu and Gupta 2017; Kuzmin et al. 2023 use every = 50
    and end after three quarters of the training.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(10, 10))
    >>> pruner = GradualPruner(model, None, 0.75, start=0, end=4, every=2)
    >>> for step in range(6):
    ...     pruner.before_forward(step, 6)
    >>> pruner.densities(), int((model[0].weight == 0).sum())
    ({'0': 0.25}, 75)
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | None,
        final: float | Mapping[str, float],
        start: int,
        end: int,
        every: int = 50,
    ) -> None:
        names = check_layers(model, list(final) if layers is None and isinstance(final, Mapping) else layers)
        if isinstance(final, Mapping):
            if absent := [name for name in names if name not in final]:
                raise ValueError(f"final has no sparsity for {', '.join(absent[:8])}: give one for each of layers")
            self.final = {name: real(final[name], f"final of layer {name!r}", 0, 1) for name in names}
        else:
            self.final = dict.fromkeys(names, real(final, "final", 0, 1))
        start, every = integer(start, "start", 0), integer(every, "every", 1)
        end = integer(end, "end", start + 1)
        self.start, self.end, self.every = start, end, every
        weights = {name: dense_weight(model.get_submodule(name)) for name in names}
        super().__init__(model, {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()})

    def configuration(self) -> dict:
        return {"final": self.final, "start": self.start, "end": self.end, "every": self.every}

    def before_forward(self, step: int, steps: int) -> None:
        if self.end >= steps:
            raise ValueError(f"end is {self.end} in a run of {steps} steps: give one below, or the ramp is cut")
        if self.start <= step <= self.end and ((step - self.start) % self.every == 0 or step == self.end):
            self.prune(step)

    @torch.no_grad()
    def prune(self, step: int) -> None:
        """New masks for this step of the ramp, inside the old ones."""
        for name, final in self.final.items():
            weight = dense_weight(self.model.get_submodule(name))
            sparsity = cubic(step, self.start, self.end - self.start, final)
            mask = self.masks[name].to(weight.device)
            # Pruned weights are 0 already; below them only a kept weight of exactly 0 could be taken in their place.
            score = torch.where(mask, weight.abs(), -torch.ones_like(weight))
            self.masks[name] = keep_largest(score, sparsity)
        self.apply()
