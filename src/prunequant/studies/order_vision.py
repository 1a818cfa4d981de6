"""Both orders on a small vision transformer and a small residual network, trained out on images of their own.

Without training: every format and pattern, the two orders under three rules for ties, the joint mask, and an order
chosen for each layer by the error of its outputs on training images. With training: masks taken anew in every step
against masks of the first step, which is where two studies of this book differed. The page
book/interplay/trained-models shows the record.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from prunequant.cases.lsq_against_pruning import case
from prunequant.cases.lsq_against_pruning.presets import PRESETS
from prunequant.cases.lsq_against_pruning.similarity import evaluate
from prunequant.cases.runner import Run
from prunequant.experiments import grid
from prunequant.finetune import batch_norm, straight_through, training
from prunequant.formats import named
from prunequant.models import input_grams
from prunequant.models import small as networks
from prunequant.models.images import Images
from prunequant.statistics import holm, paired
from prunequant.studies import orders
from prunequant.studies.order_effect import cell, differences, means
from prunequant.studies.runner import At, Given, Study
from prunequant.threads import using

MODELS = ("vit", "resnet")
FORMATS = ("INT8", "HBFP8", "MXFP8", "HBFP6", "INT4", "HBFP4", "MXFP4")
PATTERNS = ("0.5", "0.75", "2:4")
TUNED_FORMATS, TUNED_PATTERNS = ("INT4", "MXFP4"), ("0.5", "2:4")
RULES = ("first", "random", "magnitude")
DRAWS = 4  # of random ties
CALIBRATION = 500  # training images that layers are measured on
MASKS = {"anew": 1, "frozen": None}  # steps between two choices of the masks


class _Trained(NamedTuple):
    """The dense network of a seed and what belongs to it."""

    settings: Mapping
    images: Images
    network: nn.Module
    layers: list[str]  # that are compressed: not the first, whose inputs groups of four do not divide, nor the last
    fresh: Callable[[int], tuple]  # the batches that statistics of batch norm are estimated from


def _trained(model: str, seed: int, data: str, folder: str) -> _Trained:
    settings = PRESETS[f"converged_{model}"]
    run = Run("cpu", Path(data), Path(folder), lambda *progress: None)
    images = case.task(settings, seed, run)
    network = case.dense(settings, model, seed, run, images)
    ends = networks.eight_bit(network)
    layers = [name for name in networks.layers(network) if name not in ends]
    return _Trained(settings, images, network, layers, case.statistics_batches(settings, images, seed, run))


def output_error(lost: torch.Tensor, gram: np.ndarray) -> float:
    """What a layer's outputs lose on the inputs of a Gram matrix: the squared norm, `lost` the change of the weights.

    >>> output_error(torch.tensor([[1.0, 2.0]]), np.eye(2))
    5.0
    """
    rows = lost.flatten(1).double().numpy()
    return float(np.sum((rows @ gram) * rows))


def order_unit(
    model: str,
    seed: int,
    *,
    formats: Sequence[str] = FORMATS,
    patterns: Sequence[str] = PATTERNS,
    data: str = ".",
    folder: str = ".",
) -> dict:
    """Test losses by "PATTERN FORMAT KIND", and in how many layers quantizing first was chosen.

    Kinds: "s", "q", "sq", "joint", "qs TIES", and "adaptive TIES": in each layer the order whose outputs err less on
    training images of the dense network. Statistics of batch norm are estimated anew for every network.
    """
    with using(torch=1):
        settings, images, network, layers, fresh = _trained(model, seed, data, folder)
        grams = input_grams(network, [torch.from_numpy(images.train[:CALIBRATION])])
        original = {name: tensor.clone() for name, tensor in network.state_dict().items()}

        def loss(weights: Mapping) -> float:
            network.load_state_dict({**original, **weights})
            if weights:
                batch_norm.reestimate(network, fresh, settings["reestimate"])
            return evaluate(network, images, "cpu")[0]

        def compressed(order: str, ties: str = "first", draw: int = 0) -> Mapping:
            network.load_state_dict(original)
            return straight_through.weights(network, layers, fmt, pattern, order, ties, seed=1000 * draw)

        def error(weights: Mapping, name: str) -> float:
            return output_error(original[name] - weights[name], grams[f"{name}.gram"])

        out = {"dense": loss({}), "accuracy": evaluate(network, images, "cpu")[1]}
        for pattern, spelled in ((p, f) for p in patterns for f in formats):
            fmt, key = named(spelled), f"{pattern} {spelled}"
            first = compressed("sq")
            out |= {f"{key} {kind}": loss(compressed(kind)) for kind in ("s", "q", "joint")}
            out[f"{key} sq"] = loss(first)
            for ties in RULES:
                fixed, adaptive, changed = [], [], []
                for draw in range(DRAWS if ties == "random" else 1):
                    second = compressed("qs", ties, draw)
                    better = [n for n in second if error(second, n) < error(first, n)]
                    fixed.append(loss(second))
                    adaptive.append(loss({**first, **{n: second[n] for n in better}}))
                    changed.append(len(better))
                out[f"{key} qs {ties}"], out[f"{key} adaptive {ties}"] = float(np.mean(fixed)), float(np.mean(adaptive))
                out[f"{key} changed {ties}"] = float(np.mean(changed))
        return out


def tuned_unit(
    model: str,
    seed: int,
    *,
    steps: int,
    rate: float,
    formats: Sequence[str] = TUNED_FORMATS,
    patterns: Sequence[str] = TUNED_PATTERNS,
    data: str = ".",
    folder: str = ".",
) -> dict:
    """Test losses after training through each compression: "MASKS PATTERN FORMAT KIND", masks "anew" or "frozen"."""
    with using(torch=1):
        settings, images, dense, layers, fresh = _trained(model, seed, data, folder)
        feed = case.batches(images, settings["batch"], seed + 500, settings["shift"], settings["flip"], "cpu")
        out = {"dense": evaluate(dense, images, "cpu")[0]}
        kinds = [("sq", "sq", "first"), *((f"qs {ties}", "qs", ties) for ties in RULES)]
        for masks, pattern, spelled in ((m, p, f) for m in MASKS for p in patterns for f in formats):
            for kind, order, ties in kinds:
                network = copy.deepcopy(dense).train()
                handle = straight_through.attach(
                    network, layers, named(spelled), pattern, order, ties=ties, refresh=MASKS[masks], seed=seed
                )
                optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=settings["decay"])
                training.fit(
                    network, feed, steps=steps, loss=case.cross_entropy, optimiser=optimiser,
                    schedule=training.cosine(optimiser, steps, warmup=min(20, steps // 5)), seed=seed, hooks=[handle],
                )  # fmt: skip
                if MASKS[masks] is not None:
                    handle.update()
                handle.remove()
                batch_norm.reestimate(network, fresh, settings["reestimate"])
                out[f"{masks} {pattern} {spelled} {kind}"] = evaluate(network, images, "cpu")[0]
        return out


def _tuned_differences(rows: list[dict]) -> list[dict]:
    """Q→S minus S→Q under each protocol, and the difference of the two differences, corrected together."""
    names = [key.removesuffix(" sq") for key in rows[0] if key.endswith(" sq")]
    pairs = [(f"{n} qs {ties}", f"{n} qs {ties}", f"{n} sq") for n in names for ties in RULES]
    return differences(rows, pairs)


def _protocols(rows: list[dict]) -> list[dict]:
    """By how much more quantizing first loses where masks are frozen."""
    cells = [key.removeprefix("frozen ").removesuffix(" sq") for key in rows[0] if key.startswith("frozen ")
             and key.endswith(" sq")]  # fmt: skip
    found = []
    for name, ties in ((c, t) for c in cells for t in RULES):

        def lead(row: Mapping, masks: str, name=name, ties=ties) -> float:
            return row[f"{masks} {name} qs {ties}"] - row[f"{masks} {name} sq"]

        found.append((f"{name} qs {ties}", paired([lead(r, "frozen") - lead(r, "anew") for r in rows])))
    corrected = holm([d.p for _, d in found])
    return [{"name": n, **asdict(d), "p_holm": float(p)} for (n, d), p in zip(found, corrected)]


def make(at: At, data: Path, seeds: int, steps: int, rate: float) -> dict:
    """Means and paired differences over seeds 0 … seeds − 1 of both networks."""
    files = str(data), str(at.scratch)
    models = grid(model=list(MODELS))
    asked = [{**setting, "steps": steps, "rate": rate} for setting in models]
    measured = at.sweep(
        partial(order_unit, data=files[0], folder=files[1]), models, range(seeds), name="order_vision: plain"
    )
    trained = at.sweep(
        partial(tuned_unit, data=files[0], folder=files[1]), asked, range(seeds), name="order_vision: tuned"
    )
    plain, tuned = [], []
    for model in MODELS:
        rows = [row for row in measured if row["model"] == model]
        pairs = [
            (f"{name} {ties} against {fixed}", f"{name} adaptive {ties}", f"{name} {fixed}")
            for name in (key.removesuffix(" sq") for key in rows[0] if key.endswith(" sq"))
            for ties in RULES
            for fixed in ("sq", f"qs {ties}")
        ]
        cells = [cell(c) for c in orders.cells(rows, RULES)]
        about = {"model": model, "seeds": len(rows)}
        plain.append({**about, "means": means(rows), "cells": cells, "adaptive": differences(rows, pairs)})
        rows = [row for row in trained if row["model"] == model]
        tuned.append({
            **about, "means": means(rows), "differences": _tuned_differences(rows), "protocols": _protocols(rows)
        })  # fmt: skip
    return {"steps": steps, "rate": rate, "orders": plain, "fine_tuned": tuned}


STUDIES = {
    "order-vision": Study(
        "order-vision",
        "both orders on a small transformer and a residual network",
        ("order_vision.json",),
        make,
        90,
        {
            "data": Given("the folder with 0.json … 9.json of the package fashion-mnist 1.1.0"),
            "seeds": 5,
            "steps": 150,
            "rate": 1e-3,
        },
        needs=("torch",),
        threads=1,
    )
}
