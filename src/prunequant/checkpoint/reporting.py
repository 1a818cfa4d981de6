"""A report on a model: what every matrix loses under every scheme, what wins at which size, what was not treated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prunequant import arguments, records
from prunequant.checkpoint import judging
from prunequant.checkpoint.judging import FAMILIES, Judged, Settings
from prunequant.checkpoint.matrices import Untreated
from prunequant.checkpoint.opening import Model, open_model
from prunequant.checkpoint.rows import matrix_from_json, matrix_to_json
from prunequant.checkpoint.sharding import judge_all, judge_all_elsewhere
from prunequant.distortion.accounting import binary_entropy

if TYPE_CHECKING:
    from prunequant.checkpoint.allocation import Allocation

VERSION = 1
SCHEMA = "report.schema.json"  # beside this module


@dataclass(frozen=True)
class Report:
    """What is known of a model; made by `report`, written and read as JSON.

    Parameters
    ----------
    model : {"path" (the name alone), "format", "tensors", "stored_bytes", "bytes"}
    settings : what was asked
    matrices : in the order of the file
    untreated : what is no matrix, or holds NaN or infinity, each with its reason
    notes : on the file as a whole
    provenance : with what it was made
    """

    model: Mapping[str, Any]
    settings: Settings
    matrices: tuple[Judged, ...]
    untreated: tuple[Untreated, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def totals(self) -> dict[str, Any]:
        """Weights and bytes in all, and the share of the weights that each family wins at every budget.

        "sparse" is what the file's zeros would save: bytes of all matrices with 16-bit values, dense, with a bitmap,
        and with the least that a mask of independent entries takes; and what 2:4 would take.
        """
        weights = sum(m.weights for m in self.matrices)
        winners = []
        for i, bits in enumerate(self.settings.budgets):
            share = dict.fromkeys((*FAMILIES, "none"), 0)
            for m in self.matrices:
                share[m.budgets[i].winner or "none"] += m.weights
            winners.append({"bits": bits, **{f: n / weights for f, n in share.items() if weights}})
        zeros = sum(m.zeros for m in self.matrices)
        mask = sum(m.weights * float(binary_entropy(m.zeros / m.weights)) for m in self.matrices)
        return {
            "weights": weights,
            "zeros": zeros,
            "matrices": len(self.matrices),
            "matrix_bytes": sum(m.stored_bytes for m in self.matrices),
            "untreated": len(self.untreated),
            "untreated_bytes": sum(u.nbytes for u in self.untreated),
            "winners": winners,
            "sparse": {
                "dense": 2 * weights,
                "bitmap": 2 * (weights - zeros) + math.ceil(weights / 8),
                "entropy": 2 * (weights - zeros) + math.ceil(mask / 8),
                "2:4": math.ceil(9 * weights / 8),
            },
        }

    @cached_property
    def document(self) -> dict[str, Any]:
        """`to_json`, made once."""
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `report.schema.json` says; a ratio that is infinite is null beside "lossless": true."""
        return {
            "schema": VERSION,
            "model": dict(self.model),
            "settings": {**vars(self.settings), "budgets": list(self.settings.budgets)},
            "totals": self.totals,
            "matrices": [matrix_to_json(m) for m in self.matrices],
            "untreated": [{**vars(u), "shape": list(u.shape)} for u in self.untreated],
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def to_html(self, plan: Allocation | None = None) -> str:
        """One self-contained page for a browser: pictures first, then every number; with a plan of this model."""
        from prunequant.checkpoint.page import page  # it knows plans, which are made of reports

        return page(self.document, plan)

    @staticmethod
    def from_json(report: Mapping[str, Any]) -> Report:
        """The report that `to_json` gave.

        Raises
        ------
        ValueError : not one, or of another version
        """
        version = report.get("schema") if isinstance(report, Mapping) else None
        if version != VERSION:
            raise ValueError(f"the report has schema {arguments.shown(version)}: one of version {VERSION} is wanted")
        try:
            return Report(
                report["model"],
                Settings(**{**report["settings"], "budgets": tuple(report["settings"]["budgets"])}),
                tuple(matrix_from_json(m) for m in report["matrices"]),
                tuple(Untreated(**{**u, "shape": tuple(u["shape"])}) for u in report["untreated"]),
                tuple(report["notes"]),
                report["provenance"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no report: {type(error).__name__}, {error}") from None


def report(
    model: str | os.PathLike | Model,
    budgets: Sequence[float] = judging.BUDGETS,
    *,
    group: int = 128,
    mask: str = "bitmap",
    entropy: bool = False,
    scales: str = "searched",
    threads: int | None = None,
    weights_read: Callable[[str, int], None] | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Which loses less, fewer bits or fewer weights, for every matrix of a model, at the bits really stored.

    Parameters
    ----------
    model : the path of a model file or folder (see `open_model`), or a model that is open
    budgets : bits a weight in (0, 16), at which the best of each family is named
    group : 2 to 2^20 values that share a scale, where one is shared by a group
    mask : what pruning is charged for its mask: "bitmap" (1 bit a weight), "entropy" (the least), "free" (nothing)
    entropy : entropy-code the integers too, and compare with pruning at that rate
    scales : "searched", see `schemes.CANDIDATES`, or "exact", the least error over all scales, slow
    threads : 1 to 1024; no number depends on it
    weights_read : called with a name and a number of weights that were read, in all twice the weights of the model,
        perhaps from threads
    executor : of processes or a cluster, to judge the matrices one by one, a thread each, see `experiments.sweep`;
        `threads` and `weights_read` are of no use then. Every process opens the path by itself. No number depends on
        it.
    progress : called with matrices done and in all, where there is an executor

    Returns
    -------
    Report

    Raises
    ------
    ModelFileError : a file that is missing, damaged, or would run code
    TypeError, ValueError : an argument of the wrong kind or out of range, before any work

    Notes
    -----
    Every weight is read twice, about 100 ns of a processor's time for each; memory does not grow with the file.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from safetensors.numpy import save_file
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save_file({"layer.weight": np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)}, path)
    >>> found = report(path, budgets=[4.25])
    >>> best = found.matrices[0].budgets[0]
    >>> best.winner, best.quantization.name, f"{best.margin:.1f} dB"
    ('quantization', 'INT4 g128', '15.4 dB')
    """
    settings = Settings.checked(budgets, group, mask, entropy, scales)
    for name, function in (("weights_read", weights_read), ("progress", progress)):
        if function is not None:
            arguments.function(function, name, "a function, or None")
    source = model if isinstance(model, Model) else arguments.path(model, "model")
    with nullcontext(source) if isinstance(source, Model) else open_model(source) as opened:
        if executor is None:
            return _reported(opened, settings, *judge_all(opened.matrices, settings, threads, weights_read))
        return _reported(opened, settings, *judge_all_elsewhere(opened, settings, executor, progress))


def _reported(model: Model, settings: Settings, judged: list[Judged], broken: list[Untreated]) -> Report:
    about = {
        "path": model.path.name,
        "format": model.format,
        "tensors": len(model.tensors),
        "stored_bytes": sum(model.bytes.values()),
        "bytes": dict(model.bytes),
    }
    return Report(
        about,
        settings,
        tuple(judged),
        (*model.untreated, *broken),
        model.notes,
        records.provenance("prunequant report"),
    )
