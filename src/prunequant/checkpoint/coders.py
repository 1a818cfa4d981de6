"""Who codes the matrices of a model that is compressed: threads here, or processes anywhere.

Every such process opens the model, and the inputs, by itself (see `sharding`); what travels back are the codes, and the
row of what became of the matrix. They are handed on in the order of the file, whoever was done first, so that the
file is written from front to back by one process, and is the same to the last byte.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from prunequant import experiments
from prunequant.checkpoint.calibration import Calibration
from prunequant.checkpoint.coding import Coded, Codes, Shifted
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.methods import CALIBRATED, Settings, certified_error, code_matrix, method_used
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.outcome import Row, decibels
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.sharding import inputs_here, matrix_here, place_of, place_of_inputs

IN_FLIGHT = 1 << 29  # weights that are coded elsewhere, or wait here to be written, a byte or two each
_ROWS = 1 << 20  # values looked at together for NaN
Progress = Callable[[int, int, str], None]


class Plan(Protocol):
    """What a writer of files says of the matrices that it holds, see `compression.Writer`."""

    @property
    def schemes(self) -> Mapping[str, Scheme]: ...

    def settings(self, matrix: Matrix, settings: Settings) -> Settings: ...


def code_all(
    model: Model,
    plan: Plan,
    settings: Settings,
    calibrate: Path | None,
    notes: list[str],
    progress: Progress | None = None,
    executor: Executor | None = None,
    threads: int = 1,
) -> Generator[tuple[Matrix, Coded, Row], None, None]:
    """Every matrix of a plan, coded, with its row, in the order of the plan.

    Parameters
    ----------
    model : open here
    calibrate : the .npz file of inputs
    notes : what is to be said of a matrix is added to them
    progress : called with (matrices done, matrices in all, name)
    executor : of processes or a cluster, which find the files under the same paths; a Dask cluster gives the matrix of
        a worker that died to another
    threads : of this process where no executor is given; each has a matrix of its own, and no number depends on how
        many there are

    Raises
    ------
    ModelFileError : a path that leads a process elsewhere to another file, or to none.
    ValueError : what `code_matrix` refuses, with the name of the matrix.
    """
    matrices = {m.name: m for m in model.matrices}
    total = len(plan.schemes)
    results = _here(model, plan, settings, calibrate, threads)
    if executor is not None:
        results = _elsewhere(model, plan, settings, calibrate, executor)
    for done, name in enumerate(plan.schemes):
        if progress is not None:
            progress(done, total, name)
        coded, row, note = next(results)
        if note:
            notes.append(note)
        yield matrices[name], coded, row
    if progress is not None:
        progress(total, total, "")


def _here(
    model: Model, plan: Plan, settings: Settings, calibrate: Path | None, threads: int
) -> Iterator[tuple[Coded, Row, str]]:
    inputs = None if calibrate is None else Calibration(calibrate, model)
    matrices = {m.name: m for m in model.matrices}
    # Kernels of the formats are parallel by themselves: here every thread has a matrix of its own.
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        pending = deque[Future]()
        try:
            for name, scheme in plan.schemes.items():
                if len(pending) > threads:  # so that few matrices are in memory, and no thread waits for the writer
                    yield pending.popleft().result()
                one = plan.settings(matrices[name], settings)
                pending.append(pool.submit(code, matrices[name], scheme, one, inputs))
            while pending:
                yield pending.popleft().result()
        finally:  # as in `_elsewhere`
            for future in pending:
                future.cancel()


def _elsewhere(
    model: Model, plan: Plan, settings: Settings, calibrate: Path | None, executor: Executor
) -> Iterator[tuple[Coded, Row, str]]:
    matrices = {m.name: m for m in model.matrices}
    inputs = None if calibrate is None else place_of_inputs(calibrate)
    waiting, pending = deque(plan.schemes), deque[tuple[str, Future]]()
    flying = 0
    try:
        while waiting or pending:
            while waiting and (not pending or flying + matrices[waiting[0]].weights <= IN_FLIGHT):
                name = waiting.popleft()
                unit = {
                    **place_of(model), "name": name, "scheme": plan.schemes[name].name,
                    "settings": vars(plan.settings(matrices[name], settings)), "inputs": inputs,
                }  # fmt: skip
                pending.append((name, executor.submit(code_one, **unit)))
                flying += matrices[name].weights
            name, future = pending.popleft()
            yield future.result()
            flying -= matrices[name].weights
    finally:  # an error, or Ctrl-C: else the executor would work off what nobody wants
        for _, future in pending:
            future.cancel()


def code_one(
    path: str,
    stamp: Sequence,
    transposed: Sequence[str],
    name: str,
    scheme: str,
    settings: dict[str, Any],
    inputs: tuple[str, Sequence] | None,
) -> tuple[Coded, Row, str]:
    """Code one matrix of a file that this process opens by itself."""
    matrix = matrix_here(path, stamp, transposed, name)
    read = None
    if inputs is not None:
        read = inputs_here(inputs, path, stamp, transposed)
    return code(matrix, Scheme.named(scheme), Settings(**settings), read)


def code(matrix: Matrix, scheme: Scheme, settings: Settings, inputs: Calibration | None) -> tuple[Coded, Row, str]:
    """One matrix: its codes, its row, and what is to be said of it."""
    w = matrix.read(0, matrix.rows)
    gram = inputs.gram(matrix) if inputs is not None else None
    note = ""
    if gram is None and settings.method in CALIBRATED:
        note = f"{matrix.name}: no inputs to calibrate with, rounded to nearest"
        settings = replace(settings, method="nearest")
    coded = code_matrix(w, scheme, settings, gram, matrix.name)
    return coded, judged(matrix, w, coded, scheme, settings, gram), note


def judged(matrix: Matrix, w: NDArray, coded: Coded, scheme: Scheme, settings: Settings, gram: NDArray | None) -> Row:
    """The row of a matrix whose codes were found; its stored bytes are for the writer to say."""
    decoded = coded.decode()
    lost = (w - decoded).astype(np.float64)
    error = float(np.sum(lost * lost))
    output = certified = math.nan
    if gram is not None:
        output = decibels(_energy(w, gram), _energy(lost, gram))
        bound = certified_error(w, coded, scheme, settings, gram)
        certified = bound if math.isnan(bound) else decibels(_energy(w, gram), bound)
    return Row(
        name=matrix.name,
        scheme=scheme.name,
        method=method_used(scheme, settings.method),
        rows=matrix.rows,
        columns=matrix.columns,
        stored_bytes=0,
        snr=decibels(float(np.sum(w.astype(np.float64) ** 2)), error),
        error=error,
        output_snr=output,
        zeros_before=int(np.count_nonzero(w == 0)),
        zeros_after=int(np.count_nonzero(decoded == 0)),
        keeps_zero=not isinstance(coded, Shifted),
        clamped=coded.clamped if isinstance(coded, Codes) else 0,
        certified_snr=certified,
    )


def _energy(w: NDArray, gram: NDArray) -> float:
    return float(np.sum((w @ gram) * w))


def not_finite(model: Model, names: Collection[str], executor: Executor | None = None) -> dict[str, int]:
    """The first row that holds NaN or infinity, of those matrices that have one."""
    if executor is None:
        first_places = {m.name: _first_not_finite(m) for m in model.matrices if m.name in names}
    else:
        units = [{**place_of(model), "name": name} for name in names]
        first_places = {row["name"]: row["row"] for row in experiments.sweep(not_finite_one, units, executor=executor)}
    return {name: row for name in names if (row := first_places[name]) is not None}


def not_finite_one(path: str, stamp: Sequence, transposed: Sequence[str], name: str, seed: int) -> dict[str, Any]:
    """The same of one matrix, in another process; a unit of a sweep."""
    return {"row": _first_not_finite(matrix_here(path, stamp, transposed, name))}


def _first_not_finite(matrix: Matrix) -> int | None:
    step = max(1, _ROWS // matrix.columns)
    for first in range(0, matrix.rows, step):
        values = matrix.read(first, min(first + step, matrix.rows))
        if not np.all(np.isfinite(values)):
            return first + int(np.argmin(np.isfinite(values).all(axis=1)))
    return None
