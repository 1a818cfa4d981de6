"""What a matrix's outputs lose under every scheme, given the Gram matrix of the inputs that its columns multiply.

The error of stored values y of weights x is tr(E G Eᵀ) / tr(X G Xᵀ), E = x − y: the mean squared error of the outputs
over their mean square, on the inputs whose Gram matrix is G = Σ v vᵀ. With G a multiple of the identity it is the
relative error of the weights. So a matrix whose inputs nobody knows is judged by its weights, as if they were white:
the same currency, and it is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.checkpoint import allocation, judging
from prunequant.checkpoint.calibration import Calibration
from prunequant.checkpoint.judging import Bench, Settings, Spread
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.sharding import MAX_THREADS

BLOCK = 1 << 19  # values that are multiplied by a Gram matrix at a time, at least one row
NO_INPUTS, NO_OUTPUTS = "the file has no inputs for it", "its outputs are zero for these inputs"


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

    Raises
    ------
    ValueError : a report of another model, or settings that it lacks; a file of inputs that is damaged

    Notes
    -----
    Every scheme costs two operations for each weight and column, in float32: for the linear layers of SmolLM2-135M
    with 45 schemes some minutes of a processor. The Gram matrix of one matrix is in memory, and a few blocks of rows.
    """
    count = arguments.integer(numba.get_num_threads() if threads is None else threads, "threads", 1, MAX_THREADS)
    document = allocation.document_of(report)
    options = allocation.sizes_of(document, schemes)
    matrices = {m.name: m for m in model.matrices}
    if strange := [name for name in options if name not in matrices]:
        raise ValueError(f"the report is of another model: this one has no matrix {arguments.shown(strange[0])}")
    settings = settings_of(document)
    errors, by_weights = {}, {}
    with ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,)) as executor:
        for name, names in options.items():
            gram = calibration.gram(matrices[name])
            of_matrix = None
            if gram is not None:
                step = None if weights_measured is None else partial(weights_measured, name)
                of_matrix = relative_errors(matrices[name], gram, names, settings, executor.map, step)
            elif weights_measured is not None:
                weights_measured(name, matrices[name].weights * len(names))
            if of_matrix is None:
                by_weights[name] = NO_INPUTS if gram is None else NO_OUTPUTS
            else:
                errors[name] = of_matrix
    return OutputErrors(errors, by_weights)


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
