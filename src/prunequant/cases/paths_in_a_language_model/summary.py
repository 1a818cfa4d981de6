"""What the page and the claim on *paths-in-a-language-model* read from its rows; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prunequant.statistics import paired


def chosen(
    rows: Sequence[Mapping], method: str, bits: int | None = None, calibration: str | None = None
) -> list[Mapping]:
    """The rows of one method, by seed."""
    matching = [
        row
        for row in rows
        if row["method"] == method
        and bits in (None, row["bits"])
        and (calibration is None or row["calibration"] == calibration)
    ]
    return sorted(matching, key=lambda row: row["seed"])


def losses(rows: Sequence[Mapping], method: str, bits: int, calibration: str = "text") -> NDArray[np.float64]:
    """(seeds, windows): cross-entropy per token of every evaluation window."""
    matching = chosen(rows, method, bits, calibration)
    if not matching:
        raise ValueError(f"no row of {method!r} at {bits} bits, calibrated on {calibration!r}")
    return np.array([row["losses"] for row in matching])


def compared(rows: Sequence[Mapping], method: str, other: str, bits: int, calibration: str = "text") -> dict:
    """Loss of `method` minus that of `other`, paired over seeds (at least two), and over windows by their sign."""
    ours, theirs = losses(rows, method, bits, calibration), losses(rows, other, bits)
    if ours.shape != theirs.shape:
        raise ValueError(f"{method} has {ours.shape} losses but {other} {theirs.shape}: the same seeds and windows")
    difference = paired(ours.mean(axis=1) - theirs.mean(axis=1))
    return {
        "mean": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "seeds": difference.seeds,
        "seeds_lower": difference.seeds - difference.positive,
        "windows_lower": int(np.sum((ours - theirs).mean(axis=0) < 0)),
        "windows": ours.shape[1],
    }


def depth(rows: Sequence[Mapping], method: str, bits: int, column: str, calibration: str = "text") -> NDArray:
    """(seeds, blocks): the mean of a column over the layers of each block."""
    out = []
    for row in chosen(rows, method, bits, calibration):
        blocks = np.array([int(name.split(".")[1]) for name in row["layers"]["layer"]])
        values = np.array(row["layers"][column], dtype=float)
        out.append([values[blocks == b].mean() for b in range(blocks.max() + 1)])
    return np.array(out)


def coverage(rows: Sequence[Mapping], bits: int, part: str = "above") -> dict:
    """Over all seeds: how many layers and neurons have an error above their bound, and how near they come to it.

    `part` "above" counts against the whole certificate, "above_alone" against the part in probability only.
    """
    layers = [row["layers"] for row in chosen(rows, "coins", bits)]
    above = np.array([lay[part] for lay in layers])
    return {
        "runs": len(layers),
        "layers": int(above.size),
        "layers_covered": int(np.sum(above == 0)),
        "neurons": int(np.sum([lay["neurons"] for lay in layers])),
        "neurons_above": int(above.sum()),
        "closest": float(np.max([lay["closest"] for lay in layers])),
        "slack": float(np.median([lay["slack"] for lay in layers])),
        "slack_least": float(np.min([lay["slack"] for lay in layers])),
        "slack_most": float(np.max([lay["slack"] for lay in layers])),
        "known": float(np.median([lay["known"] for lay in layers])),
        "beyond": float(np.mean([lay["beyond"] for lay in layers])),
    }


def summarise(settings: Mapping, rows: list[dict]) -> dict:
    """Losses and perplexities by method, differences to nearest rounding, errors by depth, coverage."""
    seeds = 1 + max(row["seed"] for row in rows)
    dense = chosen(rows, "dense")[0]
    out: dict = {"dense": {"loss": dense["loss"], "perplexity": float(np.exp(dense["loss"]))}, "methods": []}
    for bits, methods in ((int(b), m) for b, m in settings["methods"].items()):
        kinds = [("no zero", "none"), *((m, "text") for m in methods)]
        kinds += [("path", "noise")] if bits in settings["noise_bits"] else []
        out["methods"] += [_entry(rows, method, bits, calibration, seeds) for method, calibration in kinds]
    out["coverage"] = {bits: coverage(rows, int(bits)) for bits, m in settings["methods"].items() if "coins" in m}
    return out


def _entry(rows: list[dict], method: str, bits: int, calibration: str, seeds: int) -> dict:
    each = losses(rows, method, bits, calibration).mean(axis=1)
    entry = {
        "method": method,
        "bits": bits,
        "calibration": calibration,
        "loss": float(each.mean()),
        "perplexity": float(np.exp(each.mean())),
        "perplexities": [float(np.exp(v)) for v in each],
    }
    if calibration == "none":
        return entry
    if method != "nearest" and seeds > 1:
        entry["against_nearest"] = compared(rows, method, "nearest", bits, calibration)
    for column in ("error", "held_error", "own", "held_own"):
        entry[column] = depth(rows, method, bits, column, calibration).mean(axis=0).tolist()
    name = "beyond" if method == "coins" else "saturation"
    entry[name] = float(depth(rows, method, bits, name, calibration).mean())
    return entry
