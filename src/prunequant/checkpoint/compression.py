"""Write a smaller file of a model: every matrix by its scheme, everything else as it was, nothing in silence."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from prunequant import arguments
from prunequant.checkpoint import compressed_tensors, gguf_writing
from prunequant.checkpoint.calibration import Calibration
from prunequant.checkpoint.coders import Progress, code_all, not_finite
from prunequant.checkpoint.coding import Coded
from prunequant.checkpoint.compressed_tensors import CompressedTensorsWriter
from prunequant.checkpoint.gguf_writing import GGUFWriter
from prunequant.checkpoint.layout import LayoutWriter
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.methods import CALIBRATED, Settings
from prunequant.checkpoint.opening import Model, open_model
from prunequant.checkpoint.outcome import Compressed, Left, Row
from prunequant.checkpoint.reporting import report
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.sharding import thread_count
from prunequant.checkpoint.sizing import Predict, plan_file

TARGETS = ("prunequant", "compressed-tensors", "gguf")
GROUPS = {"prunequant": 128, "compressed-tensors": 128, "gguf": 32}  # values that share a scale, in a plan for a file
NOT_NAMED = "the plan does not name it"


class Writer(Protocol):
    """A kind of file, made before any work: what cannot be written is an error then, and the size is known."""

    predicted_bytes: int
    left: tuple[Left, ...]
    notes: tuple[str, ...]

    @property
    def schemes(self) -> Mapping[str, Scheme]:
        """Of the matrices that it holds."""
        ...

    def settings(self, matrix: Matrix, settings: Settings) -> Settings:
        """The settings that this file asks for."""
        ...

    def write(self, out: Path, coded: Iterator[tuple[Matrix, Coded, Row]]) -> list[Row]:
        """Write all of it, beside, and rename it; the rows with their stored bytes."""
        ...


@dataclass(frozen=True)
class Job:
    """Which matrices by which scheme, in the order of the file; what is left, and why."""

    schemes: Mapping[str, Scheme]
    left: Mapping[str, str]
    asked: bool  # whether the matrices were named one by one, so that one that does not fit is an error


def compress(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    plan: Mapping[str, str] | None = None,
    scheme: str | None = None,
    budget: float | None = None,
    megabytes: float | None = None,
    to: str = "prunequant",
    settings: Settings | None = None,
    calibrate: str | os.PathLike | Callable[[Model], str | os.PathLike] | None = None,
    transposed: Collection[str] = (),
    progress: Progress | None = None,
    executor: Executor | None = None,
    threads: int | None = None,
) -> Compressed:
    """Compress the matrices of a model file and write a file that others load.

    Parameters
    ----------
    path : what `open_model` reads.
    out : the file to write, or for "compressed-tensors" the folder: it must not be there, or be empty.
    plan : the name of a scheme for the name of a matrix; what it does not name is left alone. Or
    scheme : one for all matrices that it fits, embeddings apart. Or
    budget : bits a weight, masks and scales counted, over the matrices that the file can hold so: the plan of
        `allocate`, which is never worse than the best one scheme for all. Or
    megabytes : 10^6 bytes that the file may have in all, headers included, planned likewise.
    to : "prunequant" (`layout`: every scheme, every bit once), "compressed-tensors" (a folder that transformers and
        vLLM load; from a folder of the same kind), "gguf" (blocks of 32 that llama.cpp loads).
    settings : the method, and what belongs to it.
    calibrate : an .npz file with an array for each matrix, by its name: inputs (samples, columns), or with ".gram"
        after the name their Gram matrix (columns, columns). A matrix that it does not have is rounded to nearest. Or
        a function of the open model that makes such a file and says where: it is called when all else was checked.
    transposed : names of tensors whose first axis is the input, as for `open_model`.
    progress : called with (matrices done, matrices in all, name).
    executor : of processes or a cluster, to code the matrices one by one: `experiments.processes(jobs)`, or a Dask
        client's `get_executor()`. Every process opens `path` and `calibrate` by itself, so that each must find them
        under the same paths; `out` is written here. The file is the same to the last byte.
    threads : that code matrices in this process, 1 to 1024, as many as numba has unless given; not used with an
        executor. The file is the same to the last byte.

    Returns
    -------
    Compressed

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind; a plan that names no matrix, a scheme that does not fit it or
        that the file does not have (all of them named before any work); a result that is all zero.
    OSError : the file could not be written; what was there before is untouched.

    Notes
    -----
    A matrix for each thread and one more are in memory, with their codes; with an executor the codes of half a billion
    weights may be. The file is written beside and renamed, so that whenever this ends, by an error or a kill, there is
    a whole file or none.
    """
    arguments.choice(to, "to", TARGETS)
    settings = Settings() if settings is None else settings
    arguments.instance(settings, "settings", Settings, "a Settings")
    target = arguments.path(out, "out", file=True)
    if progress is not None:
        arguments.function(progress, "progress", "a function of two numbers and a name")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor is {arguments.shown(executor)}: it must be a concurrent.futures executor")
    count = thread_count(threads)
    if sum(x is not None for x in (plan, scheme, budget, megabytes)) != 1:
        raise ValueError("give one of four: a plan, a scheme, a budget of bits a weight, or megabytes")
    by_budget = plan is None and scheme is None
    turned = tuple(arguments.several(transposed, "transposed", "names of tensors, a sequence of strings"))
    if to == "gguf" and turned:
        raise ValueError("transposed is given: blocks of GGUF lie along the last axis of what is stored")
    with open_model(path, turned) as model:
        if by_budget:
            plan, without, text = planned(model, path, to, settings, budget, megabytes, executor, count)
        job = _job(model, plan, scheme, executor)
        if by_budget:
            job = replace(job, left={**job.left, **without})
        if settings.method in CALIBRATED and calibrate is None:
            raise ValueError(f"method is '{settings.method}', which looks at the inputs: give a file to calibrate with")
        if calibrate is not None and not callable(calibrate):
            Calibration(calibrate, model)  # refused before any work
        writer = _writer(to, path, model, job, settings)
        if target.exists() and os.path.samefile(target, path):
            raise ValueError(f"out is {target}, the model itself: give another name")
        notes: list[str] = [*writer.notes, *([text] if by_budget else [])]
        inputs = None
        if calibrate is not None:
            inputs = Calibration(calibrate(model) if callable(calibrate) else calibrate, model).path
        with closing(code_all(model, writer, settings, inputs, notes, progress, executor, count)) as coded:
            rows = writer.write(target, coded)
        return Compressed(
            target,
            to,
            tuple(rows),
            writer.left,
            writer.predicted_bytes,
            _size(target),
            sum(model.bytes.values()),
            tuple(notes),
        )


def planned(
    model: Model,
    path: str | os.PathLike,
    to: str,
    settings: Settings,
    budget: float | None = None,
    megabytes: float | None = None,
    executor: Executor | None = None,
    threads: int | None = None,
) -> tuple[dict[str, str], dict[str, str], str]:
    """The plan that loses least within a budget among what a kind of file holds; what is left, and why; in words.

    Raises
    ------
    ValueError : grids with a zero point, for which no plan is made, or a budget outside of what plans can take.
    """
    if not settings.symmetric:
        raise ValueError("budget is planned for symmetric grids: with zero points give a scheme, or a plan")
    document, left = holdable(report(model, group=GROUPS[to], threads=threads, executor=executor).to_json(), model, to)
    plan = plan_file(document, predictor(model, path, to, settings, left), budget, megabytes=megabytes)
    text = f"the plan keeps {plan.snr:.2f} dB at {plan.bits_per_weight:.3f} bits a weight"
    if plan.uniform is not None:
        text += f"; {plan.uniform.scheme} for every matrix, the best of one scheme, {plan.uniform.snr:.2f} dB"
    return dict(plan.tensors), left, text


def predictor(
    model: Model, path: str | os.PathLike, to: str, settings: Settings, left: Mapping[str, str] | None = None
) -> Predict:
    """The bytes of the file that `compress` writes by a plan; `left` says why a matrix has none."""
    given = {u.name: u.reason for u in model.untreated}

    def predict(plan: Mapping[str, str]) -> int:
        chosen = {m.name: Scheme.named(plan[m.name]) for m in model.matrices if m.name in plan}
        others = {m.name: NOT_NAMED for m in model.matrices if m.name not in plan}
        return _writer(
            to, path, model, Job(chosen, {**given, **others, **(left or {})}, True), settings
        ).predicted_bytes

    return predict


def holdable(document: dict[str, Any], model: Model, to: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The document of a report with the schemes that a kind of file holds, and the matrices that it holds by none, as
    untreated there and with the reason.

    Raises
    ------
    ValueError : no matrix is left.
    """
    matrices, left = {m.name: m for m in model.matrices}, {}
    document = {**document, "matrices": [dict(row) for row in document["matrices"]]}
    for row in document["matrices"]:
        matrix = matrices[row["name"]]
        why = {s["name"]: _problem(to, matrix, Scheme.named(s["name"])) for s in row["schemes"]}
        row["schemes"] = [_in_file(to, matrix, s) for s in row["schemes"] if not why[s["name"]]]
        row["pruning"] = row["pruning"] if to == "prunequant" else []  # of which plans make schemes with a bitmap
        if not row["schemes"]:
            left[matrix.name] = next(iter(why.values()), "no scheme fits it")
    apart = [
        {"name": row["name"], "shape": row["shape"], "dtype": row["dtype"], "nbytes": row["stored_bytes"],
         "reason": left[row["name"]]}
        for row in document["matrices"] if not row["schemes"]
    ]  # fmt: skip
    document["untreated"] = [*document["untreated"], *apart]
    document["matrices"] = [row for row in document["matrices"] if row["schemes"]]
    if not document["matrices"]:
        raise ValueError(
            "no matrix is to be compressed within this budget: " + "; ".join(f"{n}: {why}" for n, why in left.items())
        )
    return document, left


def _in_file(to: str, matrix: Matrix, judged: dict[str, Any]) -> dict[str, Any]:
    """A scheme of a report with the bits that it takes in a kind of file: what has no masks stores zeros."""
    if to == "prunequant":
        return judged
    kind = compressed_tensors if to == "compressed-tensors" else gguf_writing
    bits = 8 * kind.stored_bytes(matrix.rows, matrix.columns, Scheme.named(judged["name"]))
    return {**judged, "stored_bits": bits, "bits_per_weight": bits / matrix.weights}


def _problem(to: str, matrix: Matrix, scheme: Scheme) -> str:
    """Why a kind of file does not hold a matrix so; empty when it does."""
    if to == "prunequant":
        return scheme.problem(matrix.rows, matrix.columns)
    return (compressed_tensors if to == "compressed-tensors" else gguf_writing).problem(matrix, scheme, True)


def _writer(to: str, path: str | os.PathLike, model: Model, job: Job, settings: Settings) -> Writer:
    if to == "prunequant":
        return LayoutWriter(model, job.schemes, job.left, settings)
    if to == "compressed-tensors":
        return CompressedTensorsWriter(Path(path), model, job.schemes, job.left, settings, job.asked)
    return GGUFWriter(Path(path), model, job.schemes, job.left, settings, job.asked)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


def _job(model: Model, plan: Mapping[str, str] | None, scheme: str | None, executor: Executor | None = None) -> Job:
    matrices = {m.name: m for m in model.matrices}
    left = {u.name: u.reason for u in model.untreated}
    if plan is not None:
        arguments.instance(plan, "plan", Mapping, "schemes by the names of matrices")
        unknown = [name for name in plan if name not in matrices]
        if unknown:
            raise ValueError(f"plan names {_listed(unknown)}: the model has no such matrix")
        chosen = {name: Scheme.named(plan[name]) for name in matrices if name in plan}
        wrong = {name: s.problem(matrices[name].rows, matrices[name].columns) for name, s in chosen.items()}
        if any(wrong.values()):
            raise ValueError("the plan does not fit: " + "; ".join(f"{n}: {why}" for n, why in wrong.items() if why))
        left.update({name: NOT_NAMED for name in matrices if name not in plan})
    else:
        one = Scheme.named("" if scheme is None else scheme)
        chosen = {}
        for name, matrix in matrices.items():
            why = one.problem(matrix.rows, matrix.columns)
            if matrix.kind == "embedding":
                why = "an embedding: name it in a plan to compress it"
            left.update({name: why} if why else {})
            chosen.update({} if why else {name: one})
    for name, row in not_finite(model, chosen, executor).items():
        if plan is not None:
            raise ValueError(f"the plan names {name}, which holds NaN or infinity, first in row {row}")
        left[name] = f"it holds NaN or infinity, first in row {row}"
        del chosen[name]
    if not chosen:
        raise ValueError(
            "no matrix is to be compressed by this plan or scheme: "
            + "; ".join(f"{n}: {why}" for n, why in left.items())
        )
    return Job(chosen, left, plan is not None)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
