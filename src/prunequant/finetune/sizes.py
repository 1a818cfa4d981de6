"""What a compressed network stores, in bits: weights, masks, scales, and everything that was left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from prunequant.arguments import instance, integer, real, several
from prunequant.distortion.accounting import VALUE_BITS, equal_size_keep, mask_bits, mask_pattern

SCALE_BITS = 32
MAX_SCALES = 1 << 40


def weight_layers(model: nn.Module) -> list[str]:
    """Names of the layers whose weight is a matrix or a filter (linear, convolution), in the model's order.

    >>> weight_layers(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)))
    ['0', '2']
    """
    instance(model, "model", nn.Module, "a torch module")
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def check_names(model: nn.Module, layers: Iterable[str]) -> list[str]:
    """Names of modules that the model has.

    Raises
    ------
    TypeError, ValueError : no module, no sequence of strings, a name that the model does not have.
    """
    modules = dict(instance(model, "model", nn.Module, "a torch module").named_modules())
    names = list(several(layers, "layers", "a sequence of names of layers"))
    for number, name in enumerate(names):
        if instance(name, f"layers[{number}]", str, "the name of a layer") not in modules:
            raise ValueError(f"layers holds {name!r}: the model has no such layer")
    return names


def check_layers(model: nn.Module, layers: Iterable[str] | None) -> list[str]:
    """Names of layers of the model that have a weight; None for all of `weight_layers`."""
    names = weight_layers(model) if layers is None else check_names(model, layers)
    modules = dict(model.named_modules())
    for name in names:
        if not isinstance(getattr(modules[name], "weight", None), torch.Tensor):
            raise ValueError(f"layers holds {name!r}: the model has no such layer with a weight")
    if not names:
        raise ValueError("layers is empty: name at least one")
    if len(set(names)) < len(names):
        raise ValueError("layers names a layer twice")
    return names


def dense_weight(module: nn.Module) -> nn.Parameter:
    """The parameter that is trained: the weight, or what stands behind it where it is parametrized."""
    instance(module, "module", nn.Module, "a torch module with a weight")
    if parametrize.is_parametrized(module, "weight"):
        return module.parametrizations.weight.original
    return instance(getattr(module, "weight", None), "the weight of module", torch.Tensor, "a tensor")


def densities(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, float]:
    """Share of weights that are not zero, as the forward pass sees them, by layer.

    >>> layer = nn.Linear(2, 2)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    >>> densities(nn.Sequential(layer))
    {'0': 0.75}
    """
    with torch.no_grad():
        weights = {name: model.get_submodule(name).weight for name in check_layers(model, layers)}
        return {name: int(torch.count_nonzero(w)) / w.numel() for name, w in weights.items()}


def account(
    model: nn.Module,
    bits_by_layer: Mapping[str, float] | None = None,
    density_by_layer: Mapping[str, float] | None = None,
    mask: str = "entropy",
    *,
    value_bits: float = VALUE_BITS,
    scales_by_layer: Mapping[str, int] | None = None,
    scale_bits: float = SCALE_BITS,
) -> dict[str, float]:
    """Bits stored, by kind: "weights" (kept values of the layers named), "masks", "scales", "rest" and their "total".

    Parameters
    ----------
    model : any module; tensors that two layers share are counted once.
    bits_by_layer : bits of a kept weight, by layer; layers that are not named keep `value_bits`.
    density_by_layer : share of weights kept, by layer (default 1).
    mask : "entropy" (H2(density) bits a weight), "bitmap" (1), "free" (0) or a pattern "2:4"; a layer of density 1
        stores none.
    value_bits : bits of every number that is not quantized: biases, norms, embeddings, running statistics.
    scales_by_layer : number of scales, by layer; by default the learned steps of `lsq`, else one for each layer stored
        in less than `value_bits`.

    Raises
    ------
    TypeError, ValueError : a layer the model does not have, a density outside [0, 1], bits of a weight outside (0, 64],
        an unknown mask.

    Examples
    --------
    >>> account(nn.Sequential(nn.Linear(8, 4)), {"0": 4}, {"0": 0.5}, "bitmap")
    {'weights': 64.0, 'masks': 32.0, 'scales': 32.0, 'rest': 64.0, 'total': 192.0}
    """
    instance(model, "model", nn.Module, "a torch module")
    bits_by_layer = _by_layer(bits_by_layer, "bits_by_layer", 0, 64, open_low=True)
    density_by_layer = _by_layer(density_by_layer, "density_by_layer", 0, 1)
    scales_by_layer = _counts(scales_by_layer)
    value_bits = real(value_bits, "value_bits", 0, 64, open_low=True)
    scale_bits = real(scale_bits, "scale_bits", 0, 64)
    mask_pattern(mask)
    named = list(dict.fromkeys((*bits_by_layer, *density_by_layer)))
    weights = masks = scales = 0.0
    seen: set[int] = set()
    for name in check_layers(model, named) if named else []:
        module = model.get_submodule(name)
        dense = dense_weight(module)
        if id(dense) in seen:
            continue
        seen.add(id(dense))
        bits, density = bits_by_layer.get(name, value_bits), density_by_layer.get(name, 1.0)
        weights += dense.numel() * density * bits
        masks += dense.numel() * mask_bits(density, mask)
        learned = _steps(module)
        seen.update(id(step) for step in learned)
        count = sum(step.numel() for step in learned) or int(bits < value_bits)
        scales += scales_by_layer.get(name, count) * scale_bits
    rest = sum(t.numel() for t in _stored(model) if id(t) not in seen) * float(value_bits)
    return {
        "weights": weights, "masks": masks, "scales": float(scales), "rest": rest,
        "total": weights + masks + scales + rest,
    }  # fmt: skip


def stored_bits(
    model: nn.Module,
    bits_by_layer: Mapping[str, float] | None = None,
    density_by_layer: Mapping[str, float] | None = None,
    mask: str = "entropy",
    **options: Any,
) -> float:
    """All bits stored: the total of `account`, which documents the parameters.

    >>> stored_bits(nn.Sequential(nn.Linear(8, 4)))  # 32 weights and 4 biases of 16 bits
    576.0
    """
    return account(model, bits_by_layer, density_by_layer, mask, **options)["total"]


def equal_size_density(
    model: nn.Module,
    total_bits: float,
    layers: Iterable[str] | None = None,
    mask: str = "entropy",
    *,
    bits_by_layer: Mapping[str, float] | None = None,
    value_bits: float = VALUE_BITS,
) -> float:
    """The density, the same in all the given layers, at which the model stores this many bits.

    The kept weights of these layers have `value_bits`; `bits_by_layer` are those of the other layers (a first and a
    last layer at 8 bits, say). `mask` is "entropy", "bitmap" or "free".

    Raises
    ------
    ValueError : no density does it: the rest of the model alone is larger, or the dense model is smaller.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 4))
    >>> equal_size_density(model, stored_bits(model, {"0": 4}), mask="free")
    0.3125
    """
    layers = check_layers(model, layers)
    total_bits = real(total_bits, "total_bits", 0)
    others = {name: bits for name, bits in _mapping(bits_by_layer, "bits_by_layer").items() if name not in layers}
    value_bits = real(value_bits, "value_bits", 0, 64, open_low=True)
    fixed = account(model, {**others, **dict.fromkeys(layers, value_bits)}, value_bits=value_bits)["total"]
    count = sum({id(w): w.numel() for w in (dense_weight(model.get_submodule(n)) for n in layers)}.values())
    fixed -= count * value_bits
    each = (total_bits - fixed) / count
    if not 0 < each < value_bits:
        raise ValueError(
            f"total_bits is {total_bits}: these layers can store from {fixed:.0f} (nothing kept) "
            f"up to {fixed + count * value_bits:.0f} (everything kept)"
        )
    return equal_size_keep(each, mask, value_bits)


def _mapping(given: Mapping | None, name: str) -> dict:
    return dict(instance({} if given is None else given, name, Mapping, "a mapping by layer, or None"))


def _by_layer(
    given: Mapping[str, float] | None, name: str, low: float, high: float, open_low: bool = False
) -> dict[str, float]:
    found = _mapping(given, name)
    return {at: real(value, f"{name}[{at!r}]", low, high, open_low=open_low) for at, value in found.items()}


def _counts(given: Mapping[str, int] | None) -> dict[str, int]:
    found = _mapping(given, "scales_by_layer")
    return {at: integer(value, f"scales_by_layer[{at!r}]", 0, MAX_SCALES) for at, value in found.items()}


def _steps(module: nn.Module) -> list[nn.Parameter]:
    """Learned steps of a parametrized weight."""
    if not parametrize.is_parametrized(module, "weight"):
        return []
    return [
        each.step for each in module.parametrizations.weight if isinstance(getattr(each, "step", None), nn.Parameter)
    ]


def _stored(model: nn.Module) -> list[torch.Tensor]:
    """Floating-point tensors that a file of the model holds, each once; masks are counted with their layers."""
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return list({id(t): t for t in tensors}.values())
