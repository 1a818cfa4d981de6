"""What of a torch module can be compressed, weight by weight, and what becomes of every other parameter, with a reason.

A weight is known by its key (`layers.Site.key`): it is one, however many layers share it and however often they run.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from prunequant.models import layers


@dataclass(frozen=True)
class LeftAlone:
    """A tensor that was not compressed, or the part of it that was not: its bytes, their share of all, and why."""

    name: str
    shape: tuple[int, ...]
    why: str
    nbytes: int
    share: float


class Inventory:
    """The weights of a module that multiply inputs, and why others are left alone.

    Parameters
    ----------
    model : its parameters have values.
    buffers : count the buffers that are stored with it, too.

    Attributes
    ----------
    sites : the layers, a list of `layers.Site`.
    key : of the weight of each layer, by the layer's name.
    parameters : names of the parameters that a weight is, or is computed from, by its key.
    left : why a weight is left alone, by its key; whoever compresses adds to it.

    Raises
    ------
    ValueError : a parameter without values.
    """

    def __init__(self, model: nn.Module, buffers: bool = False) -> None:
        for name, tensor in model.named_parameters():
            if isinstance(tensor, nn.parameter.UninitializedParameter):
                raise ValueError(f"parameter {name} has no values yet: run the model once")
        self.model = model
        self.sites = layers.sites(model)
        self.key = {site.name: site.key for site in self.sites}
        self.parameters: dict[tuple, tuple[str, ...]] = {}
        self.left: dict[tuple, str] = {}
        self._every = layers.parameters(model)
        self._buffers = layers.buffers(model) if buffers else {}
        stored = [tensor for tensor, _ in self._every.values()] + [*self._buffers.values()]
        self._total = sum(tensor.nbytes for tensor in stored)
        for site in self.sites:
            self.parameters.setdefault(site.key, tuple(layers.behind(model, site)))
            if others := layers.other_uses(model, site, self.sites):
                self.left[site.key] = f"also used as {', '.join(others)}"
            if why := _unfit(site):
                self.left[site.key] = why

    @property
    def open(self) -> list[layers.Site]:
        """The layers whose weights nothing was said against."""
        return [site for site in self.sites if site.key not in self.left]

    @property
    def leaders(self) -> list[layers.Site]:
        """Of these the first layer of every weight."""
        return [*{site.key: site for site in reversed(self.open)}.values()][::-1]

    def copied(self, copy: nn.Module) -> list[layers.Site]:
        """The same layers in a copy, whose weights are made plain parameters."""
        layers.settle(copy)
        return layers.sites(copy)

    def left_alone(self, done: set[str]) -> tuple[LeftAlone, ...]:
        """Everything that was not `done`, which are names of parameters, in the order of the module's parameters."""
        entries: dict[str, list[LeftAlone]] = {name: [] for name in self._every}
        listed = set()
        for site in self.sites:
            if site.key in self.left and site.key not in listed:
                listed.add(site.key)
                for name in self.parameters[site.key]:
                    tensor = self._every[name][0]
                    part = tensor if site.computed else tensor[site.rows]
                    entries[name].append(self._entry(name, part, f"{site.name}: {self.left[site.key]}"))
        for name, (tensor, names) in self._every.items():
            if name not in done and not entries[name]:
                also = f" (also {', '.join(names[1:])})" if len(names) > 1 else ""
                entries[name].append(self._entry(name, tensor, layers.why(self.model, name, tensor) + also))
        listed_entries = [entry for listed in entries.values() for entry in listed]
        return (*listed_entries, *(self._entry(name, tensor, "a buffer") for name, tensor in self._buffers.items()))

    def _entry(self, name: str, tensor: Tensor, why: str) -> LeftAlone:
        return LeftAlone(name, tuple(tensor.shape), why, tensor.nbytes, tensor.nbytes / self._total)


def _unfit(site: layers.Site) -> str:
    """Why the weight of a layer cannot be written; empty when it can."""
    if site.computed and not site.folds:
        return "the weight is computed in every forward pass: make it a plain floating-point parameter first"
    if not site.weight.is_floating_point():
        return f"the weight is of dtype {site.weight.dtype}: make it a plain floating-point parameter first"
    return ""
