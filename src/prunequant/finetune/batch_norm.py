"""Fresh statistics for batch normalisation, after the weights before it have changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunequant.arguments import function, instance, integer
from prunequant.finetune.training import parts

MAX_BATCHES = 1 << 20


def reestimate(
    model: nn.Module, batches: Callable[[int], tuple], count: int, *, forward: Callable | None = None
) -> nn.Module:
    """Set the running mean and variance of every batch-norm layer to those of all values of `count` batches.

    Parameters
    ----------
    model : changed in place; its mode is left as it was. Dropout is off during the passes.
    batches : function of the step that returns a tuple of tensors; steps 0 … count − 1 are used.
    count : number of batches, in [1, 2**20].
    forward : forward(model, *batch); by default the model is called with the first tensor of the batch.

    Notes
    -----
    In these passes each layer normalises with the statistics of its batch, as in training. What is stored is the mean
    and the unbiased variance of all its inputs together (not the mean of the batches' variances), summed in float64.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(1))
    >>> _ = reestimate(model, lambda step: (torch.tensor([[1.0], [3.0]]) + 4 * step,), 2)
    >>> model[0].running_mean.item(), round(model[0].running_var.item(), 4)  # of 1, 3, 5, 7
    (4.0, 6.6667)
    """
    instance(model, "model", nn.Module, "a torch module")
    function(batches, "batches", "a function of the step")
    if forward is not None:
        function(forward, "forward", "a function of model and batch, or None")
    count = integer(count, "count", 1, MAX_BATCHES)
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return model
    moments: dict[nn.Module, tuple] = {}

    def watch(module, inputs):
        x = inputs[0].detach().double()
        x = x.movedim(1, 0).flatten(1) if x.dim() > 1 else x[None]
        n, mean = x.shape[1], x.mean(1)
        squares = (x - mean[:, None]).square().sum(1)
        if module in moments:  # Chan, Golub and LeVeque 1983: two sets of values merged
            before, old, sum_old = moments[module]
            gap, total = mean - old, before + n
            mean = old + gap * (n / total)
            squares, n = sum_old + squares + gap.square() * (before * n / total), total
        moments[module] = (n, mean, squares)

    modes = {module: module.training for module in model.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    try:
        model.eval()
        for layer in layers:
            layer.training, layer.momentum = True, 0.0
        with torch.no_grad():
            for step in range(count):
                batch = [part.to(device) for part in parts(batches(step), step)]
                model(batch[0]) if forward is None else forward(model, *batch)
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            layer.momentum = momenta[layer]
        for module, mode in modes.items():
            module.training = mode
    for layer in layers:
        if layer in moments:
            n, mean, squares = moments[layer]
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(squares / max(n - 1, 1))
            layer.num_batches_tracked.fill_(count)
    return model
