"""What the rows of the case *lsq-against-pruning* say: equal size, paired contrasts, representations. No torch here.

The claims and the chapter read a record through these functions, so that every verdict is computed from raw rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from prunequant.distortion import equal_size_keep, stored_bits
from prunequant.statistics import Paired, holm, paired

VALUE_BITS, SCALE_BITS = 16, 32  # of a kept weight, and of a layer's learned step
QUANTIZED = {"method": "lsq", "mask": "none"}


def keep(count: int, bits: int, mask: str) -> int:
    """How many 16-bit weights fit, with their mask, into `count` b-bit weights and one 32-bit step; at least one.

    >>> keep(1000, 4, "free"), keep(1000, 4, "bitmap"), keep(1000, 4, "entropy")
    (252, 189, 206)
    """
    if bits < 2 or count < 1:
        raise ValueError(f"count is {count} and bits is {bits}: give at least 1 weight and 2 bits")
    share = equal_size_keep(min(bits + SCALE_BITS / count, VALUE_BITS), mask, VALUE_BITS)
    return min(max(1, math.floor(count * share + 1e-9)), count)


def unit_list(settings: Mapping) -> list[dict]:
    """The work units of a seed: for every network the references, then each compression at each length."""
    out = []
    for name, chosen in settings["models"].items():
        plain = {"model": name, "bits": VALUE_BITS, "mask": "none", "length": 1}
        out += [{**plain, "method": m} for m in chosen["references"]]
        for length, cells in chosen["lengths"]:
            if "tuned" in cells:
                out.append({**plain, "method": "tuned", "length": length})
            for mask in ("lsq", "free", "bitmap", "entropy"):
                out += [{**plain, **_kind(mask), "bits": bits, "length": length} for bits in cells.get(mask, ())]
    return out


def _kind(mask: str) -> dict:
    return dict(QUANTIZED) if mask == "lsq" else {"method": "pruning", "mask": mask}


def stored_by_layer(kept: int, count: int, mask: str) -> float:
    """Bits of a pruned layer: its kept weights at 16 bits, and the mask.

    >>> stored_by_layer(250, 1000, "free"), stored_by_layer(250, 1000, "bitmap")
    (4000.0, 5000.0)
    """
    return count * stored_bits(kept / count, VALUE_BITS, mask)


def _inner(row: Mapping, value: str):
    """Which layers an average is over: those that get b bits. A single number is its own average."""
    return np.array(row["inner"], bool) if isinstance(row[value], list) else ...


def column(rows: Sequence[Mapping], value: str | Callable[[Mapping], float], **cell: Any) -> np.ndarray:
    """One number a seed, ordered by seed, of the rows whose parameters are `cell`; lists are averaged over
    the layers that get b bits (not over those at 8).

    Raises
    ------
    ValueError : no such row, or two of one seed.
    """
    found = {r["seed"]: r for r in rows if all(r[k] == v for k, v in cell.items())}
    count = sum(all(r[k] == v for k, v in cell.items()) for r in rows)
    if not found or count != len(found):
        raise ValueError(f"{count} rows of {len(found)} seeds with {cell}: one a seed is needed")
    pick = value if callable(value) else lambda row: np.mean(np.asarray(row[value])[_inner(row, value)])
    return np.array([pick(found[seed]) for seed in sorted(found)], float)


def cells(rows: Sequence[Mapping], **given: Any) -> list[dict]:
    """The different parameter sets among the rows that agree with `given`, in order of appearance."""
    names = ("model", "method", "mask", "bits", "length")
    seen = dict.fromkeys(tuple(r[n] for n in names) for r in rows if all(r[k] == v for k, v in given.items()))
    return [dict(zip(names, key)) for key in seen]


# value → +1 if more of it is better, −1 if less
BETTER = {"accuracy": 1, "loss": -1, "cka": 1, "weight_snr": 1, "output_snr": 1}


def ahead(
    rows: Sequence[Mapping], value: str, *, pruned: Mapping = {}, quantized: Mapping = {}, shift: int = 0, **cell: Any
) -> np.ndarray:
    """By how much quantization is better than pruning in `value`, one number a seed.

    Parameters
    ----------
    cell : model, bits, length and the pruned network's mask.
    pruned, quantized : replaces single parameters of one side: unequal size or unequal steps, for controls.
    shift : pairs each seed with the one so many places on: for the control without pairing.
    """
    p = {**cell, "method": "pruning", **pruned}
    q = {**{k: v for k, v in cell.items() if k != "mask"}, **QUANTIZED, **quantized}
    return BETTER[value] * (column(rows, value, **q) - np.roll(column(rows, value, **p), shift))


def gain(rows: Sequence[Mapping], value: str, long: int, **cell: Any) -> np.ndarray:
    """What `long` times the steps improve `value` by, one number a seed."""
    short = {**cell, "length": 1}
    return BETTER[value] * (column(rows, value, **{**cell, "length": long}) - column(rows, value, **short))


def _corrected(found: list[tuple[dict, Paired]]) -> list[dict]:
    adjusted: list[float] = holm([d.p for _, d in found]).tolist() if found else []
    return [{**about, **asdict(d), "p_holm": float(p)} for (about, d), p in zip(found, adjusted)]


def comparisons(rows: Sequence[Mapping], value: str) -> list[dict]:
    """Quantization against pruning in every cell at equal size and equal steps; positive: quantization is better.

    Each with its mean over seeds, 95 % interval, p-value and the p-value corrected by Holm's rule over this list.
    """
    found = []
    for cell in cells(rows, method="pruning"):
        cell = {k: v for k, v in cell.items() if k != "method"}
        twin = {k: v for k, v in cell.items() if k != "mask"}
        if cells(rows, **twin, **QUANTIZED):
            found.append((cell, paired(ahead(rows, value, **cell))))
    return _corrected(found)


def longer(rows: Sequence[Mapping], value: str) -> list[dict]:
    """By how much more pruning gains from longer training than quantization does; positive: pruning gains more."""
    found = []
    for cell in cells(rows, method="pruning"):
        if cell["length"] == 1:
            continue
        where = {k: cell[k] for k in ("model", "bits")}
        q = gain(rows, value, cell["length"], **where, **QUANTIZED)
        p = gain(rows, value, cell["length"], **where, method="pruning", mask=cell["mask"])
        found.append(({**where, "mask": cell["mask"], "length": cell["length"]}, paired(p - q)))
    return _corrected(found)


def summarise(settings: Mapping, rows: Sequence[Mapping]) -> dict:
    """Means of every cell and, with two seeds or more, the paired comparisons that page and claims show."""
    values = ("loss", "accuracy", "bits_per_weight", "cka", "weight_snr", "output_snr")
    means = [{**c, **{v: float(np.mean(column(rows, v, **c))) for v in values}} for c in cells(rows)]
    out: dict = {"means": means}
    if len({r["seed"] for r in rows}) > 1:
        out["ahead"] = {v: comparisons(rows, v) for v in BETTER}
        out["longer"] = {v: longer(rows, v) for v in ("accuracy", "loss")}
    return out
