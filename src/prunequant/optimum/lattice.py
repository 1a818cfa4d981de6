"""The lattice of a layer: in which order its weights are decided, and the triangle rᵀr = gram of that order."""

from __future__ import annotations

from typing import cast

import numpy as np

from prunequant.arguments import choice, integers

from . import _kernels
from .problem import factor

ORDERS = ("blast", "given", "diagonal")


def elimination_order(gram: np.ndarray, order) -> np.ndarray:
    """A permutation whose last entry is rounded first."""
    n = gram.shape[0]
    if isinstance(order, str):
        if order == "given":  # OPTQ as published: the first feature first
            return np.arange(n)[::-1]
        if order == "diagonal":  # OPTQ's act-order: the largest input power first
            return np.argsort(np.diag(gram), kind="stable")
        ridge = 1e-12 * max(np.trace(gram) / n, 1e-300)
        for _ in range(5):
            try:
                return _kernels.blast_order(np.linalg.inv(gram + ridge * np.eye(n)))
            except (np.linalg.LinAlgError, ZeroDivisionError):  # `factor` refuses what is not semidefinite
                ridge *= 1e3
        return np.arange(n)
    return order[::-1]


def check_order(order, n: int):
    """A name of ORDERS, or a permutation of the n features as int64."""
    if isinstance(order, str):
        return choice(order, "order", ORDERS)
    given = integers(order, "order")
    if given.shape != (n,) or sorted(given.tolist()) != list(range(n)):
        raise ValueError(f"order has shape {given.shape}: it must be a permutation of 0 … {n - 1}")
    return given.astype(np.int64)


def triangle(gram: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Upper triangular r with rᵀr = gram[permutation][:, permutation] and a non-negative diagonal."""
    m = factor(gram[np.ix_(permutation, permutation)])
    if np.any(np.tril(m, -1)):
        m = cast(np.ndarray, np.linalg.qr(m, mode="r"))  # NumPy's stubs promise a q in every mode
        m = m * np.where(np.diag(m) < 0, -1.0, 1.0)[:, None]
    m = np.ascontiguousarray(m)
    # A pivot lost beside its row is a zero: the centre, a sum of the row over it, would pass the largest float.
    np.fill_diagonal(m, np.where(np.diag(m) < 1e-250 * np.max(np.abs(m), axis=1), 0.0, np.diag(m)))
    return m


def rounding_triangle(r: np.ndarray) -> np.ndarray:
    """r with the pivots that are zero up to rounding set to zero: what they ask of their integer is noise.

    Nearest plane follows a pivot however small, and would send the integer of a duplicated input to the end of the
    grid. `decode` takes r as it is: there a small pivot only decides the order of trial.
    """
    diagonal = np.diag(r)
    lost = np.square(diagonal) <= 4 * len(r) * np.finfo(float).eps * np.sum(np.square(r), axis=0)
    if not np.any(lost):
        return r
    r = r.copy()
    np.fill_diagonal(r, np.where(lost, 0.0, diagonal))
    return r


def tail_costs(r: np.ndarray, z: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """tail[k]: what the coordinates below k cost at least, whatever the others are.

    The centre of coordinate k stays within Σ_j |r_kj| max|z_j − q_j| / r_kk of z_k: with weakly correlated inputs,
    or weights far outside the grid, that keeps it away from every admissible integer.
    """
    diagonal = np.diag(r)
    widest = np.maximum(np.abs(z - low), np.abs(z - high))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = np.where(diagonal > 0, (np.abs(np.triu(r, 1)) @ widest) / diagonal, np.inf)
    near = np.clip(np.rint(z), low, high)
    outside = np.maximum(np.maximum(low - z, z - high), 0.0)
    distance = np.where(reach < 0.5, np.abs(z - near) - reach, outside - reach)
    cost = np.square(diagonal * np.maximum(np.where(np.isfinite(distance), distance, 0.0), 0.0))
    return np.concatenate(([0.0], np.cumsum(cost)[:-1])) * (1 - 1e-9)
