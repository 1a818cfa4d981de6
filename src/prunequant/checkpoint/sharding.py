"""Who judges the matrices of a model: threads here, or processes anywhere, a unit of a sweep for each matrix.

Every such process opens the file by itself, so that a name travels one way and a row of the report the other. The path
must lead to the same file on every machine: its size is compared before anything is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numba

from prunequant import arguments, experiments
from prunequant.checkpoint import judging
from prunequant.checkpoint.calibration import Calibration
from prunequant.checkpoint.files import ModelFileError
from prunequant.checkpoint.judging import Judged, NotFinite, Settings, Spread
from prunequant.checkpoint.matrices import Matrix, Untreated
from prunequant.checkpoint.opening import Model, open_model
from prunequant.checkpoint.rows import matrix_from_json, matrix_to_json

MAX_THREADS = 1024
LARGE = 4  # a matrix is large when it holds a quarter of a thread's share of the weights


def judge_all(
    matrices: Sequence[Matrix],
    settings: Settings,
    threads: int | None = None,
    weights_read: Callable[[str, int], None] | None = None,
) -> tuple[list[Judged], list[Untreated]]:
    """Every matrix judged, in order; those that hold NaN or infinity are untreated.

    Parameters
    ----------
    matrices : of an open model, or of arrays
    settings : by `Settings.checked`
    threads : as many as numba has unless given; no number depends on it. They share the blocks of a matrix that is
        much of the model, and take one each of the others.
    weights_read : called with the name of a matrix and how many of its weights have been read again, in all twice each
    """
    count = thread_count(threads)
    fair = sum(matrix.weights for matrix in matrices) / (LARGE * count)
    order = sorted(range(len(matrices)), key=lambda i: -matrices[i].weights)  # the last to end is then a small one

    def judge(number: int, spread: Spread = map, tasks: int = 1) -> Judged | Untreated:
        matrix = matrices[number]
        step = None if weights_read is None else partial(weights_read, matrix.name)
        try:
            return judging.judge(matrix, settings, spread, tasks, step)
        except NotFinite as error:
            if weights_read is not None:
                weights_read(matrix.name, 2 * matrix.weights)
            return Untreated(matrix.name, matrix.shape, matrix.dtype, matrix.nbytes, f"it holds {error}")

    # Kernels of the formats are parallel by themselves: here every thread has blocks, or matrices, of its own.
    with ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,)) as executor:
        large = [i for i in order if count > 1 and matrices[i].weights > fair]
        judged = {i: judge(i, executor.map, count) for i in large}
        small = [i for i in order if i not in judged]
        judged |= zip(small, executor.map(judge, small))
    rows = [judged[i] for i in range(len(matrices))]
    return [r for r in rows if isinstance(r, Judged)], [r for r in rows if isinstance(r, Untreated)]


def judge_all_elsewhere(
    model: Model,
    settings: Settings,
    executor: Executor,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Judged], list[Untreated]]:
    """As `judge_all`: the same numbers in the same order, whoever judged which matrix.

    Parameters
    ----------
    model : open here, for its names
    settings : by `Settings.checked`
    executor : see `experiments.sweep`; a Dask cluster gives the matrices of a worker that died to another
    progress : called with matrices done and in all

    Raises
    ------
    ModelFileError : the path leads a worker to another file, or to none.
    """
    largest = sorted(model.matrices, key=lambda m: -m.weights)  # the last to end is then a small one
    asked = {**vars(settings), "budgets": list(settings.budgets)}
    units = [{**place_of(model), "settings": asked, "name": m.name} for m in largest]
    rows = experiments.sweep(judge_one, units, executor=executor, progress=progress)
    by_name = {row["name"]: row for row in rows}
    judged, untreated = [], []
    for matrix in model.matrices:
        row = by_name[matrix.name]
        if row["judged"] is not None:
            judged.append(matrix_from_json(row["judged"]))
        else:
            untreated.append(Untreated(matrix.name, matrix.shape, matrix.dtype, matrix.nbytes, row["reason"]))
    return judged, untreated


def judge_one(
    path: str, stamp: Sequence, transposed: Sequence[str], settings: dict[str, Any], name: str, seed: int
) -> dict[str, Any]:
    """The row of one matrix, judged in this process by one thread; a unit of a sweep."""
    matrix = matrix_here(path, stamp, transposed, name)
    asked = Settings(**{**settings, "budgets": tuple(settings["budgets"])})
    judged, untreated = judge_all([matrix], asked, threads=1)
    if untreated:
        return {"judged": None, "reason": untreated[0].reason}
    return {"judged": matrix_to_json(judged[0])}


def thread_count(threads: int | None) -> int:
    """Threads of this process, 1 to 1024: as many as numba has unless given."""
    return arguments.integer(numba.get_num_threads() if threads is None else threads, "threads", 1, MAX_THREADS)


def place_of(model: Model) -> dict[str, Any]:
    """What a process elsewhere needs to find the same model: the first arguments of `matrix_here`."""
    return {
        "path": str(model.path.resolve()), "stamp": sizes(model.path), "transposed": list(model.transposed),
    }  # fmt: skip


def place_of_inputs(path: Path) -> tuple[str, list[list]]:
    """What a process elsewhere needs to find the same inputs: the first argument of `inputs_here`."""
    return str(path.resolve()), sizes(path)


def inputs_here(place: tuple[str, Sequence], path: str, stamp: Sequence, transposed: Sequence[str]) -> Calibration:
    """The inputs of a model that another process has open, for this one to read.

    Raises
    ------
    ModelFileError : one of the two paths leads to another file, or to none.
    """
    return _inputs(place[0], same_file(*place), path, tuple(map(tuple, stamp)), tuple(transposed))


@lru_cache(maxsize=1)
def _inputs(path: str, changed: int, model: str, stamp: tuple, transposed: tuple[str, ...]) -> Calibration:
    """The inputs, which know the names of the model's matrices: looked up once, not once a matrix."""
    return Calibration(path, model_here(model, [list(file) for file in stamp], transposed))


def sizes(path: Path) -> list[list]:
    """Names and sizes of the files of a model: what a worker must find in the same place."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size] for file in files]


def same_file(path: str, stamp: Sequence) -> int:
    """When the file, or folder, was changed last, which this process finds as the one that asks for work has it.

    Raises
    ------
    ModelFileError : there is none, or it has another size.
    """
    place = Path(path)
    if not place.exists():
        raise ModelFileError(place, "there is no such file on this machine; all workers need it under the same path")
    if sizes(place) != stamp:
        raise ModelFileError(place, "it has another size on this machine, or was changed")
    return place.stat().st_mtime_ns


def matrix_here(path: str, stamp: Sequence, transposed: Sequence[str], name: str) -> Matrix:
    """A matrix of a model that another process has open, read by this one.

    Raises
    ------
    ModelFileError : the path leads to another file, or to none.
    """
    matrix = _opened(path, tuple(transposed), same_file(path, stamp))[1].get(name)
    if matrix is None:
        raise ModelFileError(path, "it holds other tensors here", name)
    return matrix


def model_here(path: str, stamp: Sequence, transposed: Sequence[str]) -> Model:
    """The whole of it; not to be closed."""
    return _opened(path, tuple(transposed), same_file(path, stamp))[0]


@lru_cache(maxsize=1)
def _opened(path: str, transposed: tuple[str, ...], changed: int) -> tuple[Model, dict[str, Matrix]]:
    """A model that stays open in this process, its matrices by name: its header is read once, not once a matrix."""
    model = open_model(path, transposed)
    return model, {matrix.name: matrix for matrix in model.matrices}
