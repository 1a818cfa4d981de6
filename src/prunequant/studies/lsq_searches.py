"""What the presets *converged* of the case *lsq-against-pruning* are trained with, found on images that no record has.

On part 5 of the images, of which the seeds 0 to 4 see nothing, in this order: the learning rate of the dense network;
that of every compressed one, and of the dense one trained on, at both lengths; the rate of the learned steps, and the
share of a run in which pruning goes on. Where the best of a list stands at its end, the list goes on, so that no choice
is the edge of what was tried. The presets hold what was best.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from prunequant import arguments
from prunequant.cases.lsq_against_pruning.presets import PRESETS
from prunequant.cases.runner import Run
from prunequant.studies.runner import At, Given, Study
from prunequant.threads import using

MODELS = ("vit", "resnet")
SEED = 5
PARAMETERS = ("method", "mask", "bits", "length", "dense_rate", "rate", "step_rate", "ramp")
WIDER = 3.0  # the ratio by which a list goes on
MOST = 3  # times


def converged_unit(
    model: str,
    method: str,
    mask: str,
    bits: int,
    length: int,
    dense_rate: float,
    rate: float,
    step_rate: float,
    ramp: float,
    seed: int,
    *,
    data: str = ".",
    folder: str = ".",
) -> dict:
    """Loss and accuracy of one network on images that nothing was fitted to; dense networks are kept in the folder."""
    from prunequant.cases.lsq_against_pruning import case

    settings = copy.deepcopy({**PRESETS[f"converged_{model}"], "watch": [1.0], "inputs": 50})
    rates = {method: {str(bits): rate}}
    settings["models"][model] |= {"rate": dense_rate, "fine_rate": rates, "long_rate": rates}
    settings["models"][model] |= {"step_rate": step_rate, "ramp": ramp}
    unit = {"model": model, "method": method, "mask": mask, "bits": bits, "length": length}
    place = Path(folder) / f"dense-rate-{dense_rate:g}"
    place.mkdir(exist_ok=True)
    with using(torch=1):
        measured = case.run_unit(settings, unit, seed, Run("cpu", Path(data), place, lambda *progress: None))
    return {"loss": measured["loss"], "accuracy": measured["accuracy"]}


def best(rows: Iterable[Mapping], value: str) -> float:
    """The value of the row of least loss."""
    return min(rows, key=lambda row: row["loss"])[value]


def beyond(rows: Sequence[Mapping], value: str) -> float | None:
    """The next value to try, when the best of those tried is the smallest or the largest; None when it lies inside.

    Examples
    --------
    >>> beyond([{"rate": 0.1, "loss": 2.0}, {"rate": 0.3, "loss": 1.0}], "rate")
    0.9
    >>> beyond([{"rate": r, "loss": abs(r - 0.3)} for r in (0.1, 0.3, 0.9)], "rate")
    """
    tried, chosen = [row[value] for row in rows], best(rows, value)
    if min(tried) < chosen < max(tried):
        return None
    return float(f"{chosen * WIDER if chosen == max(tried) else chosen / WIDER:.2g}")


def make(
    at: At,
    data: Path,
    model: str,
    dense_rates: tuple,
    rates: tuple,
    pruning_rates: tuple,
    short_bits: tuple,
    long_bits: tuple,
    step_rates: tuple,
    ramps: tuple,
) -> dict:
    """Rows in the order in which they were asked for."""
    arguments.choice(model, "model", MODELS)
    unit = partial(converged_unit, data=str(data), folder=str(at.scratch))
    usual = {"model": model, "mask": "none", "bits": 16, "length": 1, "step_rate": 0.1, "ramp": 0.75}
    rows: dict[tuple, dict] = {}

    def measure(asked: Iterable[Mapping]) -> list[dict]:
        asked = list(asked)
        done = at.sweep(unit, asked, [SEED], name="lsq_searches")
        found = [{p: row[p] for p in (*PARAMETERS, "loss", "accuracy")} for row in done]
        rows.update({tuple(row[p] for p in PARAMETERS): row for row in found})
        return found

    def search(cells: Sequence[Mapping], value: str, tried: Mapping[str, Sequence[float]]) -> list[list[dict]]:
        """The rows of each cell for every value of its method's list, and beyond an end where the best stands there."""
        found: list[list[dict]] = [[] for _ in cells]
        todo = [list(tried[cell["method"]]) for cell in cells]
        for _ in range(1 + MOST):
            asked = [{**cell, value: v} for cell, each in zip(cells, todo) for v in each]
            done = iter(measure(asked) if asked else ())
            for mine, each in zip(found, todo):
                mine += [next(done) for _ in each]
            further = [beyond(mine, value) if each else None for mine, each in zip(found, todo)]
            todo = [[] if v is None else [v] for v in further]
        return found

    at.log("the dense network")
    (dense,) = search([{**usual, "method": "dense", "rate": 0.0}], "dense_rate", {"dense": dense_rates})
    usual["dense_rate"] = best(dense, "dense_rate")
    kinds = {"lsq": "none", "pruning": "free"}
    lists = {"tuned": rates, "lsq": rates, "pruning": pruning_rates}
    chosen = {}
    for length, widths in ((1, short_bits), (3, long_bits)):
        at.log(f"learning rates, {length} times the steps")
        cells = [{**usual, "method": "tuned", "length": length}]
        cells += [
            {**usual, "method": k, "mask": m, "bits": b, "length": length} for k, m in kinds.items() for b in widths
        ]
        for cell, found in zip(cells, search(cells, "rate", lists)):
            chosen[cell["method"], cell["bits"], length] = {**cell, "rate": best(found, "rate")}
    at.log("the rate of the steps, and the ramp of pruning")
    search([chosen["lsq", bits, 1] for bits in short_bits], "step_rate", {"lsq": step_rates})
    measure({**chosen["pruning", bits, 1], "ramp": share} for bits in short_bits for share in ramps)
    return {"seed": SEED, "model": model, "rows": list(rows.values())}


def _study(model: str, title: str) -> Study:
    package = "the folder with 0.json … 9.json of the package fashion-mnist 1.1.0"
    return Study(
        f"lsq-rates-converged-{model}",
        title,
        (f"lsq_rates_converged_{model}.json",),
        make,
        45,
        {
            "data": Given(package),
            "model": model,
            "dense_rates": (1e-3, 2e-3, 4e-3),
            "rates": (3e-4, 1e-3, 3e-3),
            "pruning_rates": (1e-3, 3e-3, 1e-2),
            "short_bits": (2, 3, 4, 8),
            "long_bits": (2, 3, 4),
            "step_rates": (0.03, 0.1, 0.3),
            "ramps": (0.25, 0.5, 0.75, 0.9),
        },
        needs=("torch",),
        threads=1,
    )


STUDIES = {
    study.name: study
    for study in (
        _study("vit", "learning rates and schedules of the transformer trained out"),
        _study("resnet", "the same for the residual network"),
    )
}
