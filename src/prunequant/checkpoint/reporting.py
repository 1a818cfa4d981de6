"""A report on a model: what every matrix loses under every scheme, what wins at which size, what was not treated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numba

from prunequant import arguments, records
from prunequant.checkpoint import judging
from prunequant.checkpoint.judging import FAMILIES, Choice, Coded, Judged, Loss, NotFinite, Order, Pruning, Settings
from prunequant.checkpoint.matrices import Matrix, Untreated
from prunequant.checkpoint.opening import Model, open_model
from prunequant.distortion.accounting import binary_entropy

if TYPE_CHECKING:
    from prunequant.checkpoint.allocation import Allocation

VERSION = 1
SCHEMA = "report.schema.json"  # beside this module
MAX_THREADS = 1024


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
            "matrices": [_matrix_json(m) for m in self.matrices],
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
                tuple(_matrix(m) for m in report["matrices"]),
                tuple(Untreated(**{**u, "shape": tuple(u["shape"])}) for u in report["untreated"]),
                tuple(report["notes"]),
                report["provenance"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no report: {type(error).__name__}, {error}") from None


def _ratio(snr: float) -> dict[str, Any]:
    return {"snr": None, "lossless": True} if snr == math.inf else {"snr": snr}


def _snr(value: Mapping[str, Any]) -> float:
    return math.inf if value.get("lossless") else float(value["snr"])


def _loss_json(loss: Loss | None) -> dict[str, Any] | None:
    return None if loss is None else {"name": loss.name, "bits_per_weight": loss.bits_per_weight, **_ratio(loss.snr)}


def _loss(value: Mapping[str, Any] | None) -> Loss | None:
    return None if value is None else Loss(value["name"], value["bits_per_weight"], _snr(value))


_ORDERS = ("prune_first", "quantize_first", "by_weights", "joint")


def _matrix_json(m: Judged) -> dict[str, Any]:
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


def _matrix(row: Mapping[str, Any]) -> Judged:
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


def judge_all(
    matrices: Sequence[Matrix],
    settings: Settings,
    threads: int | None = None,
    told: Callable[[str, int], None] | None = None,
) -> tuple[list[Judged], list[Untreated]]:
    """Every matrix judged, in order; those that hold NaN or infinity are untreated.

    Parameters
    ----------
    matrices : of an open model, or of arrays
    settings : by `Settings.checked`
    threads : that share the blocks of a matrix; as many as numba has unless given. No number depends on it.
    told : called with the name of a matrix and how many of its weights have been read again, in all twice each
    """
    count = arguments.integer(numba.get_num_threads() if threads is None else threads, "threads", 1, MAX_THREADS)
    judged, untreated = [], []
    # Kernels of the formats are parallel by themselves: here every thread has blocks of its own.
    with ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,)) as executor:
        for matrix in matrices:
            step = None if told is None else (lambda n, name=matrix.name: told(name, n))
            try:
                judged.append(judging.judge(matrix, settings, executor, count, step))
            except NotFinite as error:
                untreated.append(Untreated(matrix.name, matrix.shape, matrix.dtype, matrix.nbytes, f"it holds {error}"))
                if told is not None:
                    told(matrix.name, 2 * matrix.weights)
    return judged, untreated


def report(
    model: str | os.PathLike | Model,
    budgets: Sequence[float] = judging.BUDGETS,
    *,
    group: int = 128,
    mask: str = "bitmap",
    entropy: bool = False,
    scales: str = "searched",
    threads: int | None = None,
    told: Callable[[str, int], None] | None = None,
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
    told : called with a name and a number of weights, twice the weights of the model in all, perhaps from threads

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
    if told is not None and not callable(told):
        raise TypeError(f"told is {arguments.shown(told)}: it must be a function of a name and a number, or None")
    if not isinstance(model, Model):
        with open_model(arguments.path(model, "model")) as opened:
            return _reported(opened, settings, threads, told)
    return _reported(model, settings, threads, told)


def _reported(model: Model, settings: Settings, threads: int | None, told: Callable[[str, int], None] | None) -> Report:
    judged, broken = judge_all(model.matrices, settings, threads, told)
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
