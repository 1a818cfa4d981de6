"""Real layers for the checks of Part III: weights of EfficientNet-Lite0 and the Gram matrices of their inputs.

The inputs are what the network sees on scikit-learn's two photographs: patches of the activations before a
convolution, padded and strided as the network does it. A depthwise convolution has one Gram matrix a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from prunequant.distortion import Empirical
from prunequant.extras import need
from prunequant.models import efficientnet, photographs

PATCHES = 4000
RIDGE = 1e-9  # of the mean diagonal: patches of flat sky make some depthwise Gram matrices nearly singular

LAYERS = {
    "stem 3x3x3": "_conv_stem",
    "depthwise 3x3": "_blocks.0._depthwise_conv",
    "project 32": "_blocks.0._project_conv",
    "expand 16": "_blocks.1._expand_conv",
    "project 96": "_blocks.1._project_conv",
    "expand 24": "_blocks.2._expand_conv",
    "depthwise 5x5": "_blocks.3._depthwise_conv",
    "expand 40": "_blocks.4._expand_conv",
}


@dataclass(frozen=True, eq=False)
class RealLayer:
    """weights (n, channels); grams inputs.T @ inputs / patches: (n, n), or (channels, n, n) for a depthwise layer."""

    name: str
    weights: np.ndarray
    grams: np.ndarray

    def channel(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n,) and Gram matrix (n, n) of output channel j."""
        return self.weights[:, j], self.grams if self.grams.ndim == 2 else self.grams[j]

    def channels(self, count: int) -> list[int]:
        """`count` channels spread over the layer, dead ones (output power below 1e-4 of the largest) left out."""
        power = np.array([w @ g @ w for w, g in map(self.channel, range(self.weights.shape[1]))])
        alive = np.flatnonzero(power > 1e-4 * power.max())
        return [int(alive[i]) for i in np.unique(np.linspace(0, len(alive) - 1, count).astype(int))]


@lru_cache(maxsize=1)
def tensors() -> dict[str, np.ndarray]:
    """The weight tensors of EfficientNet-Lite0 (convolutions and the classifier) by name, float32."""
    need("torch")
    import torch

    state = torch.load(efficientnet.weights_path(), map_location="cpu", weights_only=True)
    return {k: v.numpy() for k, v in state.items() if v.ndim >= 2}


@lru_cache(maxsize=1)
def laws() -> dict[str, Empirical]:
    """The law of each of these tensors, by name: what several claims measure on, sorted once."""
    return {name: Empirical(weights) for name, weights in tensors().items()}


@lru_cache(maxsize=16)
def layer(name: str, crops: int = 1) -> RealLayer:
    """One of `LAYERS`, its inputs taken from `crops` crops of each photograph (1: the centre)."""
    if name not in LAYERS:
        raise ValueError(f"name is {name!r}: it must be one of {', '.join(LAYERS)}")
    need("torch")
    import torch
    from torch.nn import functional as F

    model, images = _model(), _images(crops)
    module = model.get_submodule(LAYERS[name])

    class _Reached(Exception):
        pass

    inputs_of_layer = []

    def stop(_, inputs):
        inputs_of_layer.append(inputs[0])
        raise _Reached

    handle = module.register_forward_pre_hook(stop)
    with torch.no_grad():
        try:
            model(images)
        except _Reached:
            pass
        finally:
            handle.remove()
        x = inputs_of_layer[0]
        kernel, stride = module.kernel_size[0], module.stride[0]
        high, wide = (efficientnet.same_padding(side, kernel, stride) for side in x.shape[-2:])
        patches = F.unfold(F.pad(x, (*wide, *high)), kernel, stride=stride)  # (images, inputs·kernel², places)
        patches = patches.permute(0, 2, 1).reshape(-1, patches.shape[1]).double().numpy()
    pick = np.random.default_rng(0).permutation(len(patches))[:PATCHES]
    patches = patches[pick]
    weights = module.weight.detach().double().numpy()
    weights = weights.reshape(weights.shape[0], -1).T.copy()  # (n, channels)
    n = weights.shape[0]
    if module.groups == 1:
        return RealLayer(name, weights, _gram(patches))
    parts = patches.reshape(len(patches), -1, n)
    return RealLayer(name, weights, np.stack([_gram(parts[:, j]) for j in range(parts.shape[1])]))


def _gram(patches: np.ndarray) -> np.ndarray:
    gram = patches.T @ patches / len(patches)
    return gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))


@lru_cache(maxsize=1)
def _model():
    return efficientnet.load_efficientnet_lite0()


@lru_cache(maxsize=4)
def _images(crops: int):
    need("torch")
    import torch

    pictures = photographs.load()
    if crops == 1:
        return torch.cat([efficientnet.preprocess(pictures[name]) for name in ("china", "flower")])
    return torch.cat([efficientnet.crops(pictures[name], crops) for name in ("china", "flower")])
