"""Are two networks' representations the same up to a rotation and a scale? Linear centred kernel alignment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from prunequant.arguments import instance, numbers, several
from prunequant.finetune.sizes import check_names


def linear_cka(x: ArrayLike | torch.Tensor, y: ArrayLike | torch.Tensor) -> float:
    """‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) of two centred sets of features, in [0, 1].

    Parameters
    ----------
    x, y : (samples, …) tensors or arrays, the same samples in the same order; further axes are flattened. At least two
        samples.

    Returns
    -------
    1 when one is a rotation (or reflection) and a scaling of the other, 0 when no linear feature of one correlates with
    one of the other; nan where one is constant.

    Notes
    -----
    Computed in float64 through whichever of the features' and the samples' Gram matrices is smaller. With few samples
    and many features independent noise has a large CKA: compare with shuffled samples. Kornblith et al. 2019, eq. 3-4.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(linear_cka(x, 3 * x @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])), 6)
    1.0
    >>> round(linear_cka([[1.0], [-1.0], [0.0]], [[1.0], [0.0], [-1.0]]), 6)  # one feature: the squared correlation
    0.25
    """
    x, y = _centred(x, "x"), _centred(y, "y")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} samples and y has {len(y)}: give the same samples")
    if x.shape[1] + y.shape[1] > 2 * len(x):
        k, l = x @ x.T, y @ y.T  # centred columns make these the centred Gram matrices
        top, bottom = (k * l).sum(), k.norm() * l.norm()
    else:
        top, bottom = (y.T @ x).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return float(top / bottom) if bottom > 0 else float("nan")


def _centred(x, name: str) -> torch.Tensor:
    if not isinstance(x, torch.Tensor):
        x = torch.from_numpy(numbers(x, name, finite=False).astype(np.float64))
    elif x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {x.dtype}: it must hold real numbers")
    x = x.detach().double()
    if x.dim() < 1 or len(x) < 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: give at least two samples along the first axis")
    x = x.reshape(len(x), -1)
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} holds NaN or infinity: every value must be finite")
    return x - x.mean(0)


@torch.no_grad()
def features(
    model: nn.Module, layers: Iterable[str], inputs: torch.Tensor | Iterable[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Outputs of the named layers, (samples, features) each on the CPU; the model runs in evaluation mode.

    `inputs` is a tensor or a sequence of batches.
    """
    names, modules = check_names(model, layers), dict(model.named_modules())
    if not isinstance(inputs, torch.Tensor):
        inputs = list(several(inputs, "inputs", "a tensor, or a sequence of batches"))
        for number, batch in enumerate(inputs):
            instance(batch, f"inputs[{number}]", torch.Tensor, "a tensor")
    out: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def keep(name):
        def hook(module, given, result):
            result = result[0] if isinstance(result, tuple) else result
            out[name].append(result.detach().float().reshape(len(result), -1).cpu())

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    modes = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        model.eval()
        for batch in [inputs] if isinstance(inputs, torch.Tensor) else inputs:
            model(batch.to(device))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    for name, parts in out.items():
        if not parts:
            raise ValueError(f"inputs gave the layer {name} nothing to work on: give at least one batch")
    return {name: torch.cat(parts) for name, parts in out.items()}


def compare(
    model_a: nn.Module,
    model_b: nn.Module,
    layers: Iterable[str],
    inputs: torch.Tensor | Sequence[torch.Tensor],
) -> dict[str, float]:
    """Linear CKA between the same layers of two models on the same inputs, by layer.

    >>> from prunequant.finetune.training import seed_everything
    >>> seed_everything(0)
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> {name: round(value, 6) for name, value in compare(model, model, ["0", "2"], torch.randn(8, 3)).items()}
    {'0': 1.0, '2': 1.0}
    """
    for name, model in (("model_a", model_a), ("model_b", model_b)):
        instance(model, name, nn.Module, "a torch module")
    layers = check_names(model_a, layers)
    a, b = features(model_a, layers, inputs), features(model_b, layers, inputs)
    return {name: linear_cka(a[name], b[name]) for name in layers}
