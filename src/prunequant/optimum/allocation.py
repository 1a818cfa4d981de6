"""One size for a whole layer, shared out among its neurons: exactly, by dynamic programming.

The error of a layer is the sum of its neurons' errors, and nothing couples them but the size that they share. So given
the least error of every neuron at every size (weights kept, or bits), the layer's optimum is a knapsack of small whole
numbers. Kuzmin et al. 2023 solve each neuron for itself; the sum of these is an optimum of the layer only where every
neuron gets the same size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import integer, integers, numbers

MOST_CELLS = 1 << 28  # of the table: neurons × (budget + 1)


def allocate(errors: ArrayLike, sizes: ArrayLike, budget: int) -> NDArray[np.int64]:
    """The option of each neuron for which the sum of errors is least and the sum of sizes within the budget.

    Parameters
    ----------
    errors : (neurons, options), finite: the least error of a neuron under each option
    sizes : (options,) or (neurons, options), integers in [0, 2^40]: what an option takes
    budget : integer in [0, 2^40], at least the sum of the smallest sizes; it may not be used up

    Returns
    -------
    (neurons,) int64: the chosen options; of equal sums the one whose last neurons take the earliest options

    Raises
    ------
    TypeError : errors that are no real numbers, sizes or a budget that are no integers
    ValueError : shapes that do not agree, a size out of range, a budget too small for any choice, or a table of more
        than 2^28 cells

    Notes
    -----
    O(neurons · options · budget), after sizes and budget are divided by their greatest common divisor. Exact up to the
    rounding of sums. Twin: tests/naive/optimum.py.

    Examples
    --------
    >>> allocate([[9.0, 4.0, 0.0], [8.0, 1.0, 0.5]], sizes=[0, 1, 2], budget=3)
    array([2, 1])
    """
    errors = numbers(errors, "errors").astype(np.float64)
    if errors.ndim != 2 or errors.size == 0:
        raise ValueError(f"errors has shape {errors.shape}: it must be (neurons, options), not empty")
    sizes = integers(sizes, "sizes")
    if sizes.shape not in (errors.shape, errors.shape[1:]):
        raise ValueError(f"sizes has shape {sizes.shape}: it must be {errors.shape[1:]} or {errors.shape}")
    if sizes.min() < 0 or sizes.max() > 1 << 40:
        raise ValueError(f"sizes holds {sizes.min()} … {sizes.max()}: they must lie in [0, 2^40]")
    sizes = np.broadcast_to(sizes.astype(np.int64), errors.shape)
    budget = integer(budget, "budget", 0, 1 << 40)
    least = int(sizes.min(axis=1).sum())
    if least > budget:
        raise ValueError(f"budget is {budget}: the smallest sizes of all neurons take {least}")
    unit = max(int(np.gcd.reduce(sizes, axis=None)), 1)
    sizes, room = sizes // unit, min(budget // unit, int((sizes // unit).max(axis=1).sum()))
    neurons, options = errors.shape
    if neurons * (room + 1) > MOST_CELLS:
        raise ValueError(f"budget is {budget}: a table of {neurons} × {room + 1:,} cells is too large")
    best, chosen = np.zeros(room + 1), np.empty((neurons, room + 1), np.int64)  # best[t]: least error within size t
    for j in range(neurons):
        reached = np.full(room + 1, np.inf)
        for option in range(options):
            size = int(sizes[j, option])
            if size > room:
                continue
            value = best[: room + 1 - size] + errors[j, option]
            better = np.flatnonzero(value < reached[size:]) + size
            reached[better], chosen[j, better] = value[better - size], option
        best = reached
    out, left = np.empty(neurons, np.int64), room
    for j in range(neurons - 1, -1, -1):
        out[j] = chosen[j, left]
        left -= int(sizes[j, out[j]])
    return out
