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
from prunequant.statistics import Paired, holm, paired, paired_resplits

VALUE_BITS, SCALE_BITS = 16, 32  # of a kept weight, and of a layer's learned step
QUANTIZED = {"method": "lsq", "mask": "none"}
TEST_SHARE = 1000 / 5000  # test images to training images of "fashion-small", which every seed splits anew


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
            both = {**plain, "method": "both", "mask": "free", "length": length}
            out += [
                {**both, "bits": int(b), "sparsity": s} for b, all_of in cells.get("both", {}).items() for s in all_of
            ]
    return out


def _kind(mask: str) -> dict:
    return dict(QUANTIZED) if mask == "lsq" else {"method": "pruning", "mask": mask}


def fine_rate(chosen: Mapping, unit: Mapping) -> float:
    """The learning rate of a compressed network; a longer run may have its own, and "both" has that of LSQ.

    >>> rates = {"lsq": {"2": 0.001}, "pruning": {"2": 0.01}}
    >>> fine_rate({"fine_rate": rates}, {"method": "both", "bits": 2, "length": 3})
    0.001
    """
    rates = chosen["fine_rate"] if unit["length"] == 1 else chosen.get("long_rate", chosen["fine_rate"])
    return rates["lsq" if unit["method"] == "both" else unit["method"]][str(unit["bits"])]


def stored_by_layer(left: int, count: int, mask: str) -> float:
    """Bits of a pruned layer: its kept weights at 16 bits, and the mask.

    >>> stored_by_layer(250, 1000, "free"), stored_by_layer(250, 1000, "bitmap")
    (4000.0, 5000.0)
    """
    return count * stored_bits(left / count, VALUE_BITS, mask)


def stored_both(row: Mapping, mask: str) -> float:
    """Bits of a network that is quantized and pruned: `bits` for each weight that is not zero, the mask, and the steps.

    The layers at 8 bits are stored whole. "free" does not charge the mask (the paper's figure 5), "entropy" and
    "bitmap" charge the cheaper of it and of storing zeros as codes.

    >>> row = {"inner": [True], "weights": [1000], "kept": [500], "bits": 4}
    >>> stored_both(row, "free"), stored_both(row, "entropy"), stored_both({**row, "kept": [990]}, "entropy")
    (2032.0, 3032.0, 4032.0)
    """
    total = 0.0
    for inner, count, kept in zip(row["inner"], row["weights"], row["kept"]):
        codes = float(count * (row["bits"] if inner else max(8, row["bits"])))
        total += SCALE_BITS + (min(codes, count * stored_bits(kept / count, row["bits"], mask)) if inner else codes)
    return total


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
    by_seed = {r["seed"]: r for r in rows if all(r[k] == v for k, v in cell.items())}
    count = sum(all(r[k] == v for k, v in cell.items()) for r in rows)
    if not by_seed or count != len(by_seed):
        raise ValueError(f"{count} rows of {len(by_seed)} seeds with {cell}: one a seed is needed")
    pick = value if callable(value) else lambda row: np.mean(np.asarray(row[value])[_inner(row, value)])
    return np.array([pick(by_seed[seed]) for seed in sorted(by_seed)], float)


def cells(rows: Sequence[Mapping], **given: Any) -> list[dict]:
    """The different parameter sets among the rows that agree with `given`, in order of appearance."""
    names = ("model", "method", "mask", "bits", "length", "sparsity")
    wanted = (r for r in rows if all(r[k] == v for k, v in given.items()))
    return [dict(key) for key in dict.fromkeys(tuple((n, r[n]) for n in names if n in r) for r in wanted)]


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


def _corrected(differences: list[tuple[dict, Paired]]) -> list[dict]:
    adjusted: list[float] = holm([d.p for _, d in differences]).tolist() if differences else []
    return [{**about, **asdict(d), "p_holm": float(p)} for (about, d), p in zip(differences, adjusted)]


def comparisons(rows: Sequence[Mapping], value: str) -> list[dict]:
    """Quantization against pruning in every cell at equal size and equal steps; positive: quantization is better.

    Each with its mean over seeds, 95 % interval, p-value and the p-value corrected by Holm's rule over this list.
    """
    differences = []
    for cell in cells(rows, method="pruning"):
        cell = {k: v for k, v in cell.items() if k != "method"}
        twin = {k: v for k, v in cell.items() if k != "mask"}
        if cells(rows, **twin, **QUANTIZED):
            differences.append((cell, paired(ahead(rows, value, **cell))))
    return _corrected(differences)


def longer(rows: Sequence[Mapping], value: str) -> list[dict]:
    """By how much more pruning gains from longer training than quantization does; positive: pruning gains more."""
    differences = []
    for cell in cells(rows, method="pruning"):
        if cell["length"] == 1:
            continue
        where = {k: cell[k] for k in ("model", "bits")}
        q = gain(rows, value, cell["length"], **where, **QUANTIZED)
        p = gain(rows, value, cell["length"], **where, method="pruning", mask=cell["mask"])
        differences.append(({**where, "mask": cell["mask"], "length": cell["length"]}, paired(p - q)))
    return _corrected(differences)


def summarise(settings: Mapping, rows: Sequence[Mapping]) -> dict:
    """Means of every cell and, with two seeds or more, the paired comparisons that page and claims show."""
    values = ("loss", "accuracy", "bits_per_weight", "cka", "weight_snr", "output_snr")
    means = [{**c, **{v: float(np.mean(column(rows, v, **c))) for v in values}} for c in cells(rows)]
    out: dict = {"means": means}
    if len({r["seed"] for r in rows}) > 1:
        out["ahead"] = {v: comparisons(rows, v) for v in BETTER}
        out["longer"] = {v: longer(rows, v) for v in ("accuracy", "loss")}
    return out


# ---- what the claims on these rows take for granted ----------------------------------------------------------------


def above(differences: Sequence[np.ndarray], level: float = 0.05) -> tuple[list[bool], list[Paired]]:
    """Which mean differences are positive after the corrections for shared splits and for many, and all of them.

    The seeds split one pool of images anew, so the variance is Nadeau and Bengio's (`paired_resplits`); the p-values
    are Holm's over the list.
    """
    over_seeds = [paired_resplits(d, TEST_SHARE) for d in differences]
    return [d.mean > 0 and p < level for d, p in zip(over_seeds, holm([d.p for d in over_seeds]))], over_seeds


def _of(rows: Sequence[Mapping], cell: Mapping) -> list[Mapping]:
    return sorted((r for r in rows if all(r[k] == v for k, v in cell.items())), key=lambda r: r["seed"])


def _stored(row: Mapping) -> float:
    """Bits of all weights of a row, counted anew: from its kept weights, or from its widths and steps."""
    widths = [row["bits"] if inner else max(8, row["bits"]) for inner in row["inner"]]
    if row["method"] == "pruning":
        return sum(stored_by_layer(k, n, row["mask"]) for k, n in zip(row["kept"], row["weights"]))
    scales = SCALE_BITS * len(widths) if row["method"] == "lsq" else 0
    return scales + sum(b * n for b, n in zip(widths, row["weights"]))


def same_size(p: Mapping, q: Mapping) -> bool:
    """Whether a pruned network fills the room of its quantized twin, by the rows' own counts and counted anew."""
    total, layers = sum(q["weights"]), len(q["weights"])
    counted = all(math.isclose(_stored(r), r["bits_per_weight"] * total, rel_tol=1e-9) for r in (p, q))
    return counted and p["weights"] == q["weights"] and 0 <= _stored(q) - _stored(p) < VALUE_BITS * layers


def taken_for_granted(
    rows: Sequence[Mapping],
    settings: Mapping,
    pairs: Sequence[tuple[Mapping, Mapping]],
    searched: Sequence[Sequence[Mapping]],
    originals: Sequence[Mapping],
) -> dict[str, bool]:
    """The hypotheses of every comparison of a pruned with a quantized network, each computed from the rows.

    Parameters
    ----------
    rows, settings : of the record.
    pairs : the cells (as in `column`) of the pruned and of the quantized network.
    searched : rows of the searches for learning rates; a later search stands for an earlier one where both looked.
    originals : rows among which the dense networks are, that all compressed ones start from.

    Returns
    -------
    The same mapping from words to whether it is so, for every record: what a claim's evidence puts beside its own.
    """
    sides = [(_of(rows, p), _of(rows, q)) for p, q in pairs]
    twins = [(p, q) for ps, qs in sides for p, q in zip(ps, qs)]
    every = [r for pair in twins for r in pair]
    losses = [tuple(r["loss"] for r in side) for pair in sides for side in pair]
    best: dict[tuple, float] = {}
    for search in searched:
        tried: dict[tuple, list] = {}
        for r in search:
            key = (r["model"], r["method"], r["bits"], r["length"])
            tried.setdefault(key, []).append((r["loss"], r["rate"]))
        best.update({key: min(each)[1] for key, each in tried.items()})
    dense = {(r["model"], r["seed"]): r["loss"] for r in originals if r["method"] == "dense"}
    asked = [r for r in every if r["method"] in ("lsq", "pruning")] if best else []
    due = {(r["model"], r["length"]): settings["models"][r["model"]]["steps"] * r["length"] for r in every}
    return {
        "both have the same five seeds or more, no two alike": all(
            [r["seed"] for r in ps] == [r["seed"] for r in qs] and len({r["seed"] for r in ps}) == len(ps) >= 5
            for ps, qs in sides
        )
        and all(len(set(each)) == len(each) for each in losses),
        "both are stored in as many bits, counted anew": all(same_size(p, q) for p, q in twins),
        "both are trained for as many steps": all(
            p["steps"] == q["steps"] == due[q["model"], q["length"]] == r["watch"][-1]["step"]
            for p, q in twins
            for r in (p, q)
        ),
        "each pruned network starts as the dense one of its seed": all(
            p["watch"][0]["step"] == 0 and p["watch"][0]["loss"] == dense.get((p["model"], p["seed"]), math.nan)
            for p, _ in twins
        ),
        "every loss is finite": all(np.isfinite(r["loss"]) for r in every),
        "each has the learning rate that its own search found best": all(
            fine_rate(settings["models"][r["model"]], r)
            == best.get((r["model"], r["method"], r["bits"], r["length"]), math.nan)
            for r in asked
        ),
    }
