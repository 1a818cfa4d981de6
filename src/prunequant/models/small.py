"""A small vision transformer and a small residual network in plain torch, and what is compressed in a network.

The two are the usual constructions at the size of the task: He et al. 2016 in the form for small images (a 3×3 stem,
three stages, widths doubling), and Dosovitskiy et al. 2021 (patches, pre-norm blocks, mean pooling).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm, added to their input (through a 1×1 convolution where shapes differ)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:  # (batch, inputs, h, w)
        y = F.relu(self.norm1(self.conv1(x)))  # (batch, outputs, ⌈h / stride⌉, ⌈w / stride⌉)
        y = self.norm2(self.conv2(y))  # the same
        # the way round has the same shape by now
        return F.relu(y + (x if self.short is None else self.short(x)))


class SmallResNet(nn.Module):
    """Images (batch, channels, h, w) → logits: a stem, three stages of `blocks` blocks, the last two at stride 2.

    Parameters
    ----------
    width : channels of the stem and of the first stage; the next stages have twice and four times as many.
    blocks : residual blocks a stage; 1 is ResNet-8, 3 is ResNet-20.
    stride : of the stem; 2 quarters the cost.
    """

    def __init__(self, width: int = 16, blocks: int = 1, stride: int = 1, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        residuals, inputs = [], width
        for stage in range(3):
            outputs = width << stage
            for block in range(blocks):
                residuals.append(Residual(inputs, outputs, 2 if stage and block == 0 else 1))
                inputs = outputs
        self.blocks = nn.ModuleList(residuals)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, h, w)
        x = F.relu(self.norm(self.stem(x)))  # (batch, width, ⌈h / stride⌉, ⌈w / stride⌉)
        for block in self.blocks:
            x = block(x)  # stage s = 0, 1, 2: (batch, width · 2ˢ, sides halved s times, rounded up)
        return self.head(x.mean((2, 3)))  # (batch, 4 · width) → (batch, classes)


class Transformer(nn.Module):
    """One pre-norm block: attention over the patches, then two linear layers for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, patches, width)
        batch, patches, width = x.shape
        # (batch, patches, 3 · width) → (batch, patches, 3, heads, width / heads)
        qkv = self.qkv(self.norm1(x)).view(batch, patches, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, patches, width / heads)
        # (batch, heads, patches, width / heads) → (batch, patches, width)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, patches, width)
        x = x + self.out(mixed)  # (batch, patches, width)
        # (batch, patches, 4 · width) between, (batch, patches, width) out
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SmallViT(nn.Module):
    """Images (batch, channels, size, size) → logits: patches, a learned position for each, `depth` blocks, the mean.

    Raises
    ------
    ValueError : the patch does not divide the image, or the heads do not divide the width.
    """

    def __init__(
        self,
        size: int,
        patch: int,
        width: int = 48,
        depth: int = 3,
        heads: int = 3,
        classes: int = 10,
        channels: int = 1,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"patch is {patch}: it must divide the image size {size}")
        if width % heads:
            raise ValueError(f"heads is {heads}: it must divide the width {width}")
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        self.blocks = nn.ModuleList(Transformer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:  # (batch, channels, size, size)
        # (batch, width, size / patch, size / patch) → (batch, patches, width) with patches = (size / patch)²
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)  # (batch, patches, width)
        return self.head(self.norm(x).mean(1))  # (batch, width) → (batch, classes)


class Transferred(nn.Module):
    """A network for colour images of another size behind a resize: (batch, 1, h, w) in [0, 1] → logits.

    Grey becomes three equal channels, the input (x − 127)/128 with x = 255 · pixel, as EfficientNet-Lite0 expects.
    """

    def __init__(self, body: nn.Module, size: int) -> None:
        super().__init__()
        self.body, self.size = body.to(memory_format=torch.channels_last), size

    def forward(self, x: Tensor) -> Tensor:  # (batch, 1, h, w)
        x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)  # (batch, 1, size, size)
        x = ((255 * x - 127) / 128).expand(-1, 3, -1, -1)  # (batch, 3, size, size)
        return self.body(x.contiguous(memory_format=torch.channels_last))  # (batch, classes)


def transferred_efficientnet(size: int, classes: int = 10, momentum: float = 0.1) -> Transferred:
    """EfficientNet-Lite0 with its ImageNet weights, a new last layer, and batch norms that follow quickly.

    The checkpoint's momentum of .01 suits long training: in a short one the running statistics lag behind.
    """
    from prunequant.models.efficientnet import load_efficientnet_lite0

    body = load_efficientnet_lite0()
    body._fc = nn.Linear(body._fc.in_features, classes)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    return Transferred(body, size)


def build(settings: Mapping, size: int) -> nn.Module:
    """A network from plain settings: {"kind": "vit" | "resnet" | "efficientnet", ...its parameters}, in training mode.

    Raises
    ------
    ValueError : a kind that is not known.
    """
    given = {k: v for k, v in settings.items() if k != "kind"}
    kind = settings.get("kind")
    if kind == "vit":
        return SmallViT(size, **given)
    if kind == "resnet":
        return SmallResNet(**given)
    if kind == "efficientnet":
        return transferred_efficientnet(**given).train()
    raise ValueError(f'kind is {kind!r}: it must be "vit", "resnet" or "efficientnet"')


def layers(model: nn.Module) -> list[str]:
    """Names of the layers whose weights are compressed, all convolutions and linear layers, in order of the network.

    >>> layers(SmallResNet(blocks=1))[:3], len(layers(SmallResNet(blocks=1)))
    (['stem', 'blocks.0.conv1', 'blocks.0.conv2'], 10)
    """
    return [name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def eight_bit(model: nn.Module) -> tuple[str, ...]:
    """Layers that stay at 8 bits while the others get fewer: the first, the last, and the depthwise filters."""
    names = layers(model)
    deep = [n for n in names if getattr(model.get_submodule(n), "groups", 1) > 1]
    return tuple(dict.fromkeys((names[0], *deep, names[-1])))
