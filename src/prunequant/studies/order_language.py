"""Both orders on a small character model, half of the seeds fine-tuned.

The page book/interplay/trained-models shows the record.
"""

from __future__ import annotations

from dataclasses import asdict

from prunequant.statistics import holm, paired
from prunequant.studies import characters as language
from prunequant.studies import orders as studies
from prunequant.studies.order_effect import cell
from prunequant.studies.runner import At, Study

TUNE = 40


def plain_unit(steps: int, seed: int) -> dict:
    return language.order_effect(seed, steps=steps)


def tuned_unit(steps: int, tune: int, seed: int) -> dict:
    return language.order_effect(seed, steps=steps, formats=("HBFP6", "MXFP4", "INT4"), patterns=("2:4",), tune=tune)


def make(at: At, seeds: int, steps: int) -> dict:
    """Means and paired differences over seeds 0 … seeds − 1, and over half of them after fine-tuning."""
    rows = at.sweep(plain_unit, [{"steps": steps}], range(seeds), name="order_language: plain")
    fewer = range(max(2, seeds // 2))
    tuned = at.sweep(tuned_unit, [{"steps": steps, "tune": TUNE}], fewer, name="order_language: tuned")
    names = sorted({k.rsplit(" ", 1)[0] for k in tuned[0] if k.startswith("tuned") and k.endswith(" sq")})
    pairs = [
        (f"{n} {k}", paired([r[f"{n} {k}"] - r[f"{n} sq"] for r in tuned]))
        for n in names
        for k in ("qs first", "qs magnitude")
    ]
    corrected = holm([d.p for _, d in pairs])
    means = {k: sum(r[k] for r in rows) / len(rows) for k in rows[0] if isinstance(rows[0][k], float)}
    return {
        "provenance": {"text_sha256": language.text()[1]},
        "seeds": len(rows),
        "means": means,
        "cells": [cell(c) for c in studies.cells(rows)],
        "tuned_seeds": len(tuned),
        "tuned": [{"name": n, **asdict(d), "p_holm": float(p)} for (n, d), p in zip(pairs, corrected)],
        "tuned_means": {k: sum(r[k] for r in tuned) / len(tuned) for k in tuned[0] if k.startswith("tuned")},
    }


STUDIES = {
    "order-language": Study(
        "order-language",
        "both orders on a small character model",
        ("order_language.json",),
        make,
        10,
        {"seeds": 8, "steps": 400},
        needs=("torch",),
        threads=1,
    )
}
