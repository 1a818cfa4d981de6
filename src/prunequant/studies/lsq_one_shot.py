"""What compression does to the representations before any fine-tuning, for the networks of *lsq-against-pruning*.

The record of that case watches every network while it is fine-tuned. It cannot say where a pruned one began: its
weights go gradually. This study trains the dense networks of that record again, compresses each once, at the same
stored size, and compares the layers with the dense network's, as the record does at the end. The page
book/cases/lsq-against-pruning puts the two side by side.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

from prunequant.cases.lsq_against_pruning.presets import PRESETS
from prunequant.cases.runner import Run
from prunequant.experiments import grid
from prunequant.studies.runner import At, Study
from prunequant.threads import using

PRESET = "cpu"
METHODS = {"lsq": "none", "pruning": "free"}  # and the mask's name in the rows of the case


def one_shot_unit(model: str, bits: tuple, seed: int, folder: str = ".") -> dict:
    """Dense loss of one network, and by method and bits its one-shot state: loss, CKA and output SNR by layer.

    Batch normalisation is estimated anew after the compression, as in the record's final states.
    """
    from prunequant.cases.lsq_against_pruning import case
    from prunequant.cases.lsq_against_pruning.similarity import DenseReference, evaluate
    from prunequant.finetune import batch_norm, pruning
    from prunequant.models import small

    settings: dict[str, Any] = {**PRESETS[PRESET]}
    run = Run("cpu", None, Path(folder), lambda *progress: None)
    with using(torch=1):
        images = case.task(settings, seed, run)
        dense = case.dense(settings, model, seed, run, images)
        names = small.layers(dense)
        inner = [n not in small.eight_bit(dense) for n in names]
        reference = DenseReference(dense, names, inner, images, settings["inputs"], "cpu")
        states = []
        for method, mask in METHODS.items():
            for b in bits:
                changed = copy.deepcopy(dense)
                if method == "lsq":
                    case.quantized(changed, b)
                else:
                    pruning.GradualPruner(changed, names, case.sparsities(changed, b, mask), 0, 1, 1).prune(1)
                    case.half(changed, names)
                few = case.statistics_batches(settings, images, seed, run)
                batch_norm.reestimate(changed, few, settings["reestimate"])
                likeness = reference.compare(changed)
                state = {"method": method, "mask": mask, "bits": b, "loss": evaluate(changed, images, "cpu")[0]}
                states.append({**state, **{name: likeness[name] for name in ("cka", "output_snr")}})
        return {"loss": evaluate(dense, images, "cpu")[0], "inner": inner, "states": states}


def make(at: At, seeds: int, models: tuple, bits: tuple) -> dict:
    """One row for each network, seed, method and size, in the form of the rows of the case."""
    units = grid(model=models, bits=[list(bits)])
    swept = at.sweep(partial(one_shot_unit, folder=str(at.scratch)), units, range(seeds), name="lsq_one_shot")
    rows = []
    for one in swept:
        about = {name: one[name] for name in ("model", "seed", "inner")}
        rows.append({**about, "method": "dense", "mask": "none", "bits": 16, "loss": one["loss"]})
        rows += [{**about, **state} for state in one["states"]]
    return {"preset": PRESET, "rows": rows}


STUDIES = {
    "lsq-one-shot": Study(
        "lsq-one-shot",
        "representations of two small networks, compressed once and not fine-tuned",
        ("lsq_one_shot.json",),
        make,
        5,
        {"seeds": 5, "models": ("vit", "resnet"), "bits": (2, 3, 4, 8)},
        needs=("torch",),
        threads=1,
    )
}
