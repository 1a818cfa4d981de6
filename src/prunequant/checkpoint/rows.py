"""The row of a matrix in the JSON of a report, there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prunequant.checkpoint.judging import FAMILIES, Choice, Coded, Judged, Loss, Order, Pruning


def _ratio(snr: float) -> dict[str, Any]:
    return {"snr": None, "lossless": True} if snr == math.inf else {"snr": snr}


def _snr(value: Mapping[str, Any]) -> float:
    return math.inf if value.get("lossless") else float(value["snr"])


def _loss_json(loss: Loss | None) -> dict[str, Any] | None:
    return None if loss is None else {"name": loss.name, "bits_per_weight": loss.bits_per_weight, **_ratio(loss.snr)}


def _loss(value: Mapping[str, Any] | None) -> Loss | None:
    return None if value is None else Loss(value["name"], value["bits_per_weight"], _snr(value))


_ORDERS = ("prune_first", "quantize_first", "by_weights", "joint")


def matrix_to_json(m: Judged) -> dict[str, Any]:
    """The row of a matrix in the JSON of a report."""
    plain = ("name", "kind", "dtype", "rows", "columns", "experts", "weights", "stored_bytes", "largest", "power")
    row = {key: getattr(m, key) for key in plain}
    row |= {"shape": list(m.shape), "aliases": list(m.aliases), "parts": list(m.parts)}
    row |= {"kurtosis": m.kurtosis, "zeros": m.zeros, "schemes": [_loss_json(s) for s in m.schemes]}
    row["pruning"] = [
        {"mask": p.mask, "bits_per_weight": p.bits_per_weight, "share_kept": p.share_kept, **_ratio(p.snr)}
        for p in m.pruning
    ]
    row["budgets"] = [
        {"bits": c.bits, "winner": c.winner, **{f: _loss_json(getattr(c, f)) for f in FAMILIES}, "margin": c.margin}
        for c in m.budgets
    ]
    row["order"] = (
        None
        if m.order is None
        else {
            "better": m.order.better,
            "cost": m.order.cost,
            "zeros": m.order.zeros,
            **{key: _ratio(getattr(m.order, key)) for key in _ORDERS},
        }
    )
    row["entropy"] = [
        {
            "name": c.name,
            "bits_per_weight": c.bits_per_weight,
            **_ratio(c.snr),
            "share_kept": c.share_kept,
            "pruning": None if c.pruning is None else _ratio(c.pruning),
        }
        for c in m.entropy
    ]
    return row | {"notes": list(m.notes)}


def matrix_from_json(row: Mapping[str, Any]) -> Judged:
    """What `matrix_to_json` gave; KeyError and TypeError where it is no such row."""
    order = row["order"]
    return Judged(
        row["name"],
        tuple(row["shape"]),
        row["kind"],
        row["dtype"],
        row["rows"],
        row["columns"],
        row["experts"],
        row["stored_bytes"],
        tuple(row["aliases"]),
        tuple(row["parts"]),
        row["largest"],
        row["power"],
        row["kurtosis"],
        row["zeros"],
        tuple(Loss(s["name"], s["bits_per_weight"], _snr(s)) for s in row["schemes"]),
        tuple(Pruning(p["mask"], p["bits_per_weight"], p["share_kept"], _snr(p)) for p in row["pruning"]),
        tuple(Choice(c["bits"], *(_loss(c[f]) for f in FAMILIES)) for c in row["budgets"]),
        order and Order(**{key: _snr(order[key]) for key in _ORDERS}, zeros=order["zeros"]),
        tuple(
            Coded(c["name"], c["bits_per_weight"], _snr(c), c["share_kept"], c["pruning"] and _snr(c["pruning"]))
            for c in row["entropy"]
        ),
        tuple(row["notes"]),
    )
