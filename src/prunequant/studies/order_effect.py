"""The small trained-model studies of both orders, over many seeds.

The page book/interplay/trained-models shows the record.
"""

from __future__ import annotations

from dataclasses import asdict

from prunequant.experiments import grid
from prunequant.statistics import holm, paired
from prunequant.studies import orders as studies
from prunequant.studies.runner import At, Study


def order_unit(task: str, activations: bool, seed: int) -> dict:
    return studies.order_effect(task, seed, activations=activations)


def tuned_unit(task: str, distil: bool, seed: int) -> dict:
    return studies.fine_tuned(task, seed, distil=distil)


def other_unit(study: str, task: str, seed: int) -> dict:
    return getattr(studies, study)(task, seed)


def cell(c: studies.Cell) -> dict:
    return {
        "pattern": c.pattern,
        "format": c.format,
        "ties": c.ties,
        "delta": asdict(c.delta),
        "p_holm": c.p_holm,
        "threshold": c.excess.value,
        "excess": asdict(c.excess.excess),
    }


def means(rows: list[dict]) -> dict:
    keys = [k for k, v in rows[0].items() if isinstance(v, float)]
    return {k: sum(row[k] for row in rows) / len(rows) for k in keys}


def differences(rows: list[dict], pairs: list[tuple[str, str, str]]) -> list[dict]:
    """Paired differences of named columns, corrected together."""
    comparisons = [(name, paired([row[a] - row[b] for row in rows])) for name, a, b in pairs]
    corrected = holm([d.p for _, d in comparisons])
    return [{"name": n, **asdict(d), "p_holm": float(p)} for (n, d), p in zip(comparisons, corrected)]


def _orders(at: At, seeds: range) -> list[dict]:
    losses = []
    for setting in grid(task=["digits", "curves"], activations=[False, True]):
        rows = at.sweep(order_unit, [setting], seeds, name="order_effect: order")
        cells = [cell(c) for c in studies.cells(rows)]
        losses.append({**setting, "seeds": len(rows), "means": means(rows), "cells": cells})
    return losses


def _tuned(at: At, seeds: range) -> list[dict]:
    losses, kinds = [], ("qs first", "qs random", "qs magnitude", "sq one shot")
    for setting in grid(task=["digits", "curves"], distil=[False, True]):
        rows = at.sweep(tuned_unit, [setting], seeds, name="order_effect: tuned")
        names = sorted({k.rsplit(" sq", 1)[0] for k in rows[0] if k.endswith(" sq")})
        pairs = [(f"{n} {k}", f"{n} {k}", f"{n} sq") for n in names for k in kinds]
        losses.append({**setting, "seeds": len(rows), "means": means(rows), "differences": differences(rows, pairs)})
    return losses


def _others(at: At, seeds: range, fewer: range) -> list[dict]:
    losses = []
    for setting in grid(study=["ranking", "structured", "low_rank"], task=["digits", "curves"]):
        chosen = seeds if setting["study"] != "ranking" else fewer
        rows = at.sweep(other_unit, [setting], chosen, name="order_effect: other")
        suffix = {"structured": (" qs", " sq"), "low_rank": (" lqs", " lsq")}.get(setting["study"])
        pairs = []
        if suffix:
            names = sorted(k.removesuffix(suffix[1]) for k in rows[0] if k.endswith(suffix[1]))
            pairs = [(n, n + suffix[0], n + suffix[1]) for n in names]
        compared = differences(rows, pairs) if pairs else []
        losses.append({**setting, "seeds": len(rows), "means": means(rows), "differences": compared})
    return losses


def make(at: At, seeds: int) -> dict:
    """Paired differences over seeds 0 … seeds − 1; the dear studies run on half of them."""
    every, fewer = range(seeds), range(max(2, seeds // 2))
    return {"orders": _orders(at, every), "fine_tuned": _tuned(at, fewer), "others": _others(at, every, fewer)}


STUDIES = {
    "order-effect": Study(
        "order-effect",
        "both orders on small trained networks",
        ("order_effect.json",),
        make,
        20,
        {"seeds": 40},
        needs=("sklearn",),
        threads=1,
        version=2,  # trained in float64
    )
}
