"""How alike two networks are: linear CKA and signal-to-noise ratio by layer, also while one of them trains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prunequant.finetune import cka
from prunequant.finetune.training import Hook
from prunequant.models.images import Images


@torch.no_grad()
def evaluate(model: nn.Module, images: Images, device: str, size: int = 500) -> tuple[float, float]:
    """Loss in nats and accuracy on the test images, with the network in evaluation mode."""
    before = model.training
    model.eval()
    loss, right = 0.0, 0
    for start in range(0, len(images.test_labels), size):
        x = torch.from_numpy(images.test[start : start + size]).to(device)
        y = torch.from_numpy(images.test_labels[start : start + size]).to(device)
        z = model(x).float()
        loss += F.cross_entropy(z, y, reduction="sum").item()
        right += (z.argmax(1) == y).sum().item()
    model.train(before)
    return loss / len(images.test_labels), right / len(images.test_labels)


@torch.no_grad()
def activations(model: nn.Module, names: list[str], inputs: torch.Tensor) -> list:
    """Output of each named layer, (images, features), in evaluation mode."""
    outputs: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(n).register_forward_hook(
            lambda module, given, out, n=n: outputs.__setitem__(n, out.flatten(1).float())
        )
        for n in names
    ]
    before = model.training
    model.eval()
    try:
        model(inputs)
    finally:
        model.train(before)
        for hook in hooks:
            hook.remove()
    return [outputs[n] for n in names]


def decibels(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Signal-to-noise ratio of `other` against `reference` in dB, at most 200."""
    noise = float(((reference - other) ** 2).sum())
    power = float((reference**2).sum())
    return 10 * float(np.log10(power / noise)) if noise > 1e-20 * power else 200.0


class DenseReference(Hook):
    """Compares a network with the dense one it started from: layer outputs on fixed images, and weights.

    Also a hook of `training.fit`: it compares at `points` of the training and keeps the means over the `inner` layers.
    """

    def __init__(
        self, dense: nn.Module, names: list[str], inner: list[bool], images: Images, count: int, device: str
    ) -> None:
        self.inner = inner
        self.names, self.device, self.images = names, device, images
        self.inputs = torch.from_numpy(images.test[:count]).to(device)
        self.outputs = activations(dense, names, self.inputs)
        self.weights = [dense.get_submodule(n).weight.detach().clone() for n in names]
        self.points: dict[int, None] = {}
        self.trajectory: list[dict] = []
        self.model: nn.Module | None = None

    def compare(self, model: nn.Module) -> dict[str, list[float]]:
        """By layer: linear CKA of its outputs, their SNR and that of its weights (dB)."""
        outputs = activations(model, self.names, self.inputs)
        weights = [model.get_submodule(n).weight.detach() for n in self.names]
        return {
            "cka": [round(cka.linear_cka(a, b), 6) for a, b in zip(self.outputs, outputs)],
            "output_snr": [round(decibels(a, b), 4) for a, b in zip(self.outputs, outputs)],
            "weight_snr": [round(decibels(a, b), 4) for a, b in zip(self.weights, weights)],
        }

    def watch(self, model: nn.Module, points: list[int]) -> DenseReference:
        """Compare now, and whenever one of these counts of steps is done."""
        self.model, self.points, self.trajectory = model, dict.fromkeys(points), []
        self.note(0)
        return self

    def note(self, done: int) -> None:
        means = {k: float(np.mean(np.array(v)[self.inner])) for k, v in self.compare(self.model).items()}
        loss, accuracy = evaluate(self.model, self.images, self.device)
        self.trajectory.append({"step": done, "loss": loss, "accuracy": accuracy, **means})

    def after_step(self, step: int, steps: int) -> None:
        if step + 1 in self.points:
            self.note(step + 1)

    def configuration(self) -> dict:
        return {"points": list(self.points), "layers": self.names}

    def state_dict(self) -> dict:
        return {"trajectory": self.trajectory}

    def load_state_dict(self, state: Mapping) -> None:
        self.trajectory = list(state["trajectory"])
