r"""Learned step size quantization: the weights and the spacing of their grid are trained together.

The forward pass sees s·round(clip(w/s, −2^(b−1), 2^(b−1)−1)) with a learned step s; the backward pass lets the gradient
of every weight inside the range through and gives the step

    ∂ŵ/∂s = round(w/s) − w/s inside the range,    the end of the range outside,

times 1/√(n·Q_P) with n weights sharing the step and Q_P = 2^(b−1)−1, which makes the relative updates of steps and
weights alike. Esser et al. 2020, equations 1-3 and §2.2; the exact least-squares start is ours.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from prunequant import threads
from prunequant.arguments import choice, flag, integer, real
from prunequant.distortion import best_scale
from prunequant.finetune.sizes import SCALE_BITS, check_layers, dense_weight
from prunequant.models.layers import remove_parametrizations

PER = ("tensor", "row")
UNQUANTIZED = 16  # bits from which a layer keeps its weights as they are
_LEAST = 1e-30


class _Round(torch.autograd.Function):
    """s·round(clip(w/s)) with the gradients of the module's docstring; s broadcasts to w."""

    @staticmethod
    def forward(ctx, w, s, low, high, factor):
        t = w / s
        level = t.clamp(low, high).round()
        ctx.save_for_backward(t, level, s)
        ctx.range, ctx.factor = (low, high), factor
        return level * s

    @staticmethod
    def backward(ctx, grad):
        t, level, s = ctx.saved_tensors
        low, high = ctx.range
        inside = (t > low) & (t < high)
        slope = torch.where(inside, level - t, level)
        shared = tuple(i for i in range(s.dim()) if s.shape[i] == 1)
        step = (grad * slope).sum(dim=shared, keepdim=True) * ctx.factor
        return grad * inside, step, None, None, None


class LSQWeight(nn.Module):
    """The parametrization of one weight: a learned step for the tensor or for each row."""

    def __init__(self, weight: torch.Tensor, bits: int, per: str) -> None:
        super().__init__()
        self.bits, self.low, self.high = bits, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        values = weight.detach().to("cpu", torch.float64).numpy()
        rows = values.reshape(len(values), -1) if per == "row" else values.reshape(1, -1)
        with threads.using():
            scale = np.asarray(best_scale(rows, bits, axis=-1)).reshape(-1, *[1] * (weight.dim() - 1))
        self.step = nn.Parameter(torch.from_numpy(scale).to(weight.device, weight.dtype))
        self.factor = (rows.shape[1] * self.high) ** -0.5

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        # a step that training drives through zero stays a positive number
        return _Round.apply(w, self.step.abs().clamp_min(_LEAST), self.low, self.high, self.factor)


class LSQ:
    """The quantized layers of a model; made by `attach`.

    Attributes
    ----------
    bits_by_layer : bits of every layer given to `attach`, those of 16 and more left as they are.
    """

    def __init__(self, model: nn.Module, bits_by_layer: dict[str, int]) -> None:
        self.model, self.bits_by_layer = model, bits_by_layer

    def _modules(self):
        for name, bits in self.bits_by_layer.items():
            if bits < UNQUANTIZED:
                yield name, self.model.get_submodule(name)

    def steps(self) -> list[nn.Parameter]:
        """The learned steps: give them their own rate, without weight decay."""
        return [_quantizer(module).step for _, module in self._modules()]

    def groups(self, step_rate: float = 1e-5, **settings: float) -> list[dict]:
        """Parameter groups for one optimiser: all other parameters with the settings, the steps with their rate."""
        step_rate, steps = real(step_rate, "step_rate", 0), self.steps()
        own = {id(step) for step in steps}
        others = [p for p in self.model.parameters() if id(p) not in own]
        return [{"params": others, **settings}, {"params": steps, "lr": step_rate, "weight_decay": 0.0}]

    def bits(self) -> float:
        """Stored bits of the layers given to `attach`: their weights, and 32 for each step."""
        weights = sum(
            dense_weight(self.model.get_submodule(name)).numel() * bits for name, bits in self.bits_by_layer.items()
        )
        return float(weights + SCALE_BITS * sum(step.numel() for step in self.steps()))

    def levels(self) -> dict[str, torch.Tensor]:
        """The integers that the layers store now."""
        with torch.no_grad():
            return {
                name: (module.weight / _quantizer(module).step.abs().clamp_min(_LEAST)).round().to(torch.int16)
                for name, module in self._modules()
            }

    def remove(self, quantized: bool = True) -> None:
        """Plain weights again: the quantized ones, or the dense ones behind them."""
        quantized = flag(quantized, "quantized")
        for _, module in self._modules():
            remove_parametrizations(module, "weight", leave_parametrized=quantized)


def attach(
    model: nn.Module,
    bits: int,
    *,
    layers: Iterable[str] | None = None,
    first_last: int | None = 8,
    per: str = "tensor",
) -> LSQ:
    """Quantize the weights of layers with learned steps, in place.

    Parameters
    ----------
    model : the model; its weights become parametrized (`torch.nn.utils.parametrize`), biases stay.
    bits : 2 to 12.
    layers : names of layers, in the order of the network; by default every linear layer and convolution.
    first_last : bits of the first and of the last of these layers; None for `bits` as well, 16 or more to leave them
        as they are. Kuzmin et al. 2023 and Esser et al. 2020 keep them at 8 bits: they count in `bits()`.
    per : "tensor" (one step a layer) or "row" (one an output).

    Returns
    -------
    LSQ

    Raises
    ------
    ValueError, TypeError : bits, per or a layer that is not there, a layer that is parametrized already.

    Notes
    -----
    The first step is the exact minimiser of Σ(w − s·q)² (`prunequant.distortion.best_scale`).

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> handle = attach(model, 2)
    >>> handle.bits_by_layer, handle.bits()  # 16·8 + 16·2 + 8·8 bits, and three steps of 32
    ({'0': 8, '2': 2, '4': 8}, 320.0)
    >>> len(model[2].weight.unique()) <= 4
    True
    """
    layers = check_layers(model, layers)
    bits, per = integer(bits, "bits", 2, 12), choice(per, "per", PER)
    if first_last is not None:
        first_last = integer(first_last, "first_last", 2)
        if first_last < UNQUANTIZED:
            integer(first_last, "first_last", 2, 12)
    ends = {layers[0], layers[-1]} if first_last is not None else set()
    bits_by_layer = {name: bits if first_last is None or name not in ends else first_last for name in layers}
    for name in layers:
        if parametrize.is_parametrized(model.get_submodule(name), "weight"):
            raise ValueError(f"layers holds {name!r}, whose weight is parametrized already: remove that first")
        if not torch.isfinite(model.get_submodule(name).weight).all():
            raise ValueError(f"layer {name!r} has weights that are not finite")
    for name, own in bits_by_layer.items():
        if own < UNQUANTIZED:
            module = model.get_submodule(name)
            parametrize.register_parametrization(module, "weight", LSQWeight(module.weight, own, per))
    return LSQ(model, bits_by_layer)


def _quantizer(module: nn.Module) -> LSQWeight:
    return next(each for each in module.parametrizations.weight if isinstance(each, LSQWeight))
