"""What a matrix's outputs lose under every scheme, given the Gram matrix of the inputs that its columns multiply.

The error of stored values y of weights x is tr(E G Eᵀ) / tr(X G Xᵀ), E = x − y: the mean squared error of the outputs
over their mean square, on the inputs whose Gram matrix is G = Σ v vᵀ. With G a multiple of the identity it is the
relative error of the weights. So a matrix whose inputs nobody knows is judged by its weights, as if they were white:
the same currency, and it is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from prunequant import arguments, experiments
from prunequant.checkpoint import allocation, judging
from prunequant.checkpoint.calibration import Calibration
from prunequant.checkpoint.judging import Bench, Settings, Spread
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.sharding import inputs_here, matrix_here, place_of, place_of_inputs, thread_count

BLOCK = 1 << 19  # values that are multiplied by a Gram matrix at a time, at least one row
NO_INPUTS, NO_OUTPUTS = "the file has no inputs for it", "its outputs are zero for these inputs"

Found: TypeAlias = tuple[dict[str, float] | None, str]  # the errors of a matrix by scheme, or why there are none


@dataclass(frozen=True)
class OutputErrors:
    """Relative output errors by matrix and scheme, for `allocate`.

    errors : of the matrices whose inputs are known
    by_weights : of the others, which stay with the errors of their weights, why
    """

    errors: Mapping[str, Mapping[str, float]]
    by_weights: Mapping[str, str]


def output_errors(
    model: Model,
    report: Any,
    calibration: Calibration,
    schemes: Sequence[str] | None = None,
    threads: int | None = None,
    weights_measured: Callable[[str, int], None] | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> OutputErrors:
    """The relative output error of every matrix under every scheme that a report judged.

    Parameters
    ----------
    model : open
    report : of this model, as `allocate` takes it
    calibration : inputs of its matrices
    schemes : names or patterns, as for `allocate`: the others are not measured
    threads : 1 to 1024, as many as numba has unless given; they share the rows of a matrix
    weights_measured : called with a name and a number of weights, for each scheme of each matrix its weights in all
    executor : of processes or a cluster, which find the model and the inputs under the same paths, and take a matrix
        each: the same numbers. Then `threads` and `weights_measured` are not used, and
    progress : is called with matrices done and in all.

    Raises
    ------
    ValueError : a report of another model, or settings that it lacks; a file of inputs that is damaged
    ModelFileError : a path that leads a process elsewhere to another file, or to none.

    Notes
    -----
    Every scheme costs two operations for each weight and column, in float32: for the linear layers of SmolLM2-135M
    with 45 schemes some minutes of a processor. The Gram matrix of one matrix is in memory, and a few blocks of rows.
    """
    count = thread_count(threads)
    document = allocation.document_of(report)
    options = allocation.sizes_of(document, schemes)
    matrices = {m.name: m for m in model.matrices}
    if strange := [name for name in options if name not in matrices]:
        raise ValueError(f"the report is of another model: this one has no matrix {arguments.shown(strange[0])}")
    settings = settings_of(document)
    if executor is not None:
        by_matrix = _elsewhere(model, options, settings, calibration, executor, progress)
    else:
        by_matrix = _here(matrices, options, settings, calibration, count, weights_measured)
    errors = {name: found for name, (found, _) in by_matrix.items() if found is not None}
    return OutputErrors(errors, {name: why for name, (_, why) in by_matrix.items() if name not in errors})


def _here(
    matrices: Mapping[str, Matrix],
    options: Mapping[str, Iterable[str]],
    settings: Settings,
    calibration: Calibration,
    threads: int,
    weights_measured: Callable[[str, int], None] | None = None,
) -> dict[str, Found]:
    """What every matrix loses under its schemes, one after the other."""
    by_matrix: dict[str, Found] = {}
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as executor:
        for name, schemes in options.items():
            names = list(schemes)
            gram = calibration.gram(matrices[name])
            if gram is not None:
                step = None if weights_measured is None else partial(weights_measured, name)
                errors = relative_errors(matrices[name], gram, names, settings, executor.map, step)
                by_matrix[name] = errors, NO_OUTPUTS if errors is None else ""
            else:
                by_matrix[name] = None, NO_INPUTS
                if weights_measured is not None:
                    weights_measured(name, matrices[name].weights * len(names))
    return by_matrix


def _elsewhere(
    model: Model,
    options: Mapping[str, Iterable[str]],
    settings: Settings,
    calibration: Calibration,
    executor: Executor,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Found]:
    weights = {m.name: m.weights for m in model.matrices}
    asked = {**vars(settings), "budgets": list(settings.budgets)}
    place = {**place_of(model), "inputs": list(place_of_inputs(calibration.path)), "settings": asked}
    largest = sorted(options, key=lambda name: -weights[name])  # the last to end is then a small one
    units = [{**place, "name": name, "schemes": list(options[name])} for name in largest]
    rows = experiments.sweep(errors_of_one, units, executor=executor, progress=progress)
    by_name = {row["name"]: (row["errors"], row["why"]) for row in rows}
    return {name: by_name[name] for name in options}


def errors_of_one(
    path: str,
    stamp: Sequence,
    transposed: Sequence[str],
    inputs: Sequence,
    settings: dict[str, Any],
    name: str,
    schemes: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The same of one matrix, by one thread of a process that opens the files by itself; a unit of a sweep."""
    matrix = matrix_here(path, stamp, transposed, name)
    calibration = inputs_here((inputs[0], inputs[1]), path, stamp, transposed)
    asked = Settings(**{**settings, "budgets": tuple(settings["budgets"])})
    errors, why = _here({name: matrix}, {name: schemes}, asked, calibration, threads=1)[name]
    return {"errors": errors, "why": why}


def settings_of(document: Mapping[str, Any]) -> Settings:
    """What a report was asked for."""
    given = document.get("settings", {})
    try:
        return Settings.checked(given["budgets"], given["group"], given["mask"], given["entropy"], given["scales"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the report has no settings that can be used: {error}") from None


def relative_errors(
    matrix: Matrix,
    gram: NDArray[np.float64],
    names: Iterable[str],
    settings: Settings,
    spread: Spread = map,
    weights_measured: Callable[[int], None] | None = None,
) -> dict[str, float] | None:
    """tr(E G Eᵀ) / tr(X G Xᵀ) by the names of schemes; None where the outputs are zero.

    Parameters
    ----------
    gram : (columns, columns), positive semidefinite
    weights_measured : called with a number of weights, those of the matrix for each scheme in all
    """
    chosen = [Scheme.named(name) for name in names]
    counted = judging.census(matrix, spread)
    bench = Bench(matrix, counted, settings)
    unit = float(np.max(np.abs(np.diagonal(gram)), initial=0.0))
    if counted.largest == 0 or unit <= 0:
        if weights_measured is not None:
            weights_measured(matrix.weights * len(chosen))
        return None
    g = (gram / unit).astype(np.float32)

    def energy(x: NDArray[np.float32]) -> float:
        return float(np.sum((x @ g).ravel() * x.ravel(), dtype=np.float64))

    def measured(ends: tuple[int, int]) -> list[float]:
        x = bench.rows(*ends)
        sums = [energy(x)]
        for scheme in chosen:
            sums.append(energy(bench.lost(x, ends[0], scheme)))
            if weights_measured is not None:
                weights_measured(x.size)
        return sums

    step = max(1, BLOCK // matrix.columns)
    blocks = [(first, min(first + step, matrix.rows)) for first in range(0, matrix.rows, step)]
    power, *lost = (math.fsum(sums) for sums in zip(*spread(measured, blocks)))
    if not power > 0:
        return None
    return {scheme.name: max(error, 0.0) / power for scheme, error in zip(chosen, lost)}
