"""A layer rounded to the codes of a file: scales of groups, zero points, masks, in any order of the features.

What `compress` does with one step a neuron, this does with what compressed files store. It needs the Gram matrix of the
inputs alone, not the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import booleans, choice, flag, instance, integer, integers, numbers, real
from . import _kernels_codes
from .checks import FEEDBACKS, LARGEST_ENTRY, MAX_DAMPING, check_output, checked_matrix
from .gram import gram_factor, unit_lower

_WIDTHS = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class CodeGrid:
    """The values of a layer: s (k − z) for codes k in low … high, with a scale and a zero for each group and neuron.

    Parameters
    ----------
    scales : (groups, neurons), not zero; a negative one turns the grid round.
    low, high : the codes.
    group : (features,) the group of each feature; None when there is one.
    zeros : (groups, neurons), or None for 0.
    """

    scales: NDArray = field(repr=False)
    low: int
    high: int
    group: NDArray | None = field(default=None, repr=False)
    zeros: NDArray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Choice:
    """A mask that is chosen on the way, as SparseGPT does: of every `width` features of a neuron `keep` stay.

    Those stay whose loss would cost most when all features after them mend it.

    Parameters
    ----------
    width : 2, 4, … 64.
    keep : one number, or (⌈features / width⌉, neurons) of them.
    """

    width: int
    keep: int | NDArray


@dataclass(frozen=True, eq=False)
class CodedLayer:
    """`values` (features, neurons), their `codes` (None without a grid) and the `mask` (None when all stay)."""

    values: NDArray = field(repr=False)
    codes: NDArray | None = field(repr=False)
    mask: NDArray | None = field(repr=False)


def round_to_codes(
    weights: ArrayLike,
    gram: ArrayLike,
    grid: CodeGrid | None,
    feedback: str = "optq",
    *,
    mask: ArrayLike | Choice | None = None,
    damping: float | None = None,
    by_activation: bool = False,
) -> CodedLayer:
    """Round the weights of a layer to codes, one feature after the other, each mending the output error made so far.

    Parameters
    ----------
    weights : (features, neurons), finite.
    gram : (features, features), Σ x xᵀ of the inputs: symmetric, no negative diagonal.
    grid : the values; None keeps them as they are mended, for pruning alone.
    feedback : "none", "path" or "optq", as for `compress`.
    mask : (features, neurons) of what stays; for "optq" a `Choice`; or None. What it prunes is zero.
    damping : share of the mean of the Gram matrix's diagonal that is added to it; by default 0.01.
    by_activation : take the features in the order of their energy, the largest first ("act-order"); groups and masks
        stay with their features. Not with a `Choice`, whose neighbours would no longer be neighbours.

    Returns
    -------
    CodedLayer

    Raises
    ------
    TypeError, ValueError : shapes that do not match, an argument out of its range, a Gram matrix that is singular where
        "optq" is given no damping.

    Notes
    -----
    features³/3 + features² · neurons operations, in float32. OPTQ: Frantar et al., arXiv 2210.17323; the choice of
    masks: Frantar and Alistarh, arXiv 2301.00774, row by row. Twin: tests/naive/path_following.py.

    Examples
    --------
    >>> w = np.array([[0.4], [0.4]])
    >>> grid = CodeGrid(np.ones((1, 1)), -8, 7)
    >>> round_to_codes(w, [[1.0, 1.0], [1.0, 1.0]], grid, "path").codes.ravel()
    array([0, 1], dtype=int16)
    """
    w = checked_matrix("weights", weights, np.float32)
    g = checked_gram(gram, len(w))
    choice(feedback, "feedback", FEEDBACKS)
    by_activation = flag(by_activation, "by_activation")
    damping = 0.01 if damping is None else real(damping, "damping", 0, MAX_DAMPING)
    if isinstance(mask, Choice) and (by_activation or feedback != "optq"):
        raise ValueError("mask is a Choice, made among neighbours: it needs feedback='optq' and not by_activation")
    order = np.argsort(-np.diagonal(g), kind="stable") if by_activation else np.arange(len(w))
    scales, zeros, group = _checked_grid(grid, *w.shape)
    chosen, width, keep = _checked_mask(mask, *w.shape)
    factor, gain, pivots = gram_factor(g[np.ix_(order, order)], feedback, damping=damping)
    values, codes = np.empty_like(w), np.empty(w.shape, np.int16)
    drawn = np.ascontiguousarray(chosen[order]) if chosen.shape == w.shape else chosen
    single = np.float32
    _kernels_codes.round_codes(
        np.ascontiguousarray(w[order]), np.ascontiguousarray(factor, dtype=single), gain.astype(single),
        _kernels_codes.NO_CODES if grid is None else _kernels_codes.ROUNDED,
        scales, zeros, group[order], single(0 if grid is None else grid.low), single(0 if grid is None else grid.high),
        drawn, width, keep, pivots.astype(single), values, codes,
    )  # fmt: skip
    check_output(values)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    kept = None if mask is None else drawn[back].astype(bool)
    return CodedLayer(values[back], None if grid is None else codes[back], kept)


def path_energy_bound(
    weights: ArrayLike,
    values: ArrayLike,
    gram: ArrayLike,
    half_steps: ArrayLike,
    *,
    damping: float | None = None,
    by_activation: bool = False,
) -> NDArray[np.float64]:
    """A certificate of path following: a bound on each neuron's squared output error, summed over the samples.

    Parameters
    ----------
    weights, values : (features, neurons), before and after `round_to_codes` with feedback "path".
    gram, damping, by_activation : as they were given to it.
    half_steps : (features, neurons), half the distance of neighbouring values, 0 where a weight was to be zero.

    Returns
    -------
    (neurons,) float64: Σ_t max(half step, |r_t|)² (‖X_t‖² + λ), where r_t is what rounding feature t changed.

    Raises
    ------
    TypeError, ValueError : arrays that do not belong together, no Gram matrix, a negative half step.

    Notes
    -----
    What is handed on is orthogonal to X_t: ‖u_t‖² = ‖P u_{t−1}‖² + r_t² ‖X_t‖². Where no code was clipped and nothing
    pruned, |r_t| is at most half a step, and the bound is known before any weight is: it depends on the inputs and the
    steps alone. Elsewhere it counts what was found. Errors of float32 arithmetic itself are not included. Cost:
    features² · neurons. Twin: tests/naive/path_following.py.

    Examples
    --------
    >>> w, half = np.array([[0.4], [0.4]]), np.full((2, 1), 0.5)
    >>> path_energy_bound(w, [[0.0], [1.0]], np.ones((2, 2)), half, damping=0)
    array([0.5])
    """
    w, q = (np.asarray(numbers(x, name), np.float64) for x, name in ((weights, "weights"), (values, "values")))
    half = np.asarray(numbers(half_steps, "half_steps"), np.float64)
    damping = 0.01 if damping is None else real(damping, "damping", 0, MAX_DAMPING)
    if w.ndim != 2 or not w.size or not w.shape == q.shape == half.shape:
        shapes = f"{w.shape}, {q.shape} and {half.shape}"
        raise ValueError(f"weights, values and half_steps have shapes {shapes}: all must be (features, neurons)")
    if np.any(half < 0):
        raise ValueError("half_steps holds negative numbers: each must be at least 0")
    g = _symmetric(gram, len(w))
    diagonal = np.diagonal(g)
    order = np.argsort(-diagonal, kind="stable") if flag(by_activation, "by_activation") else np.arange(len(w))
    factor, gain, _ = gram_factor(g[np.ix_(order, order)], "path", damping=damping)
    residual = np.abs(unit_lower(factor, gain) @ (w - q)[order])
    energies = diagonal[order] + damping * diagonal.mean()
    return energies @ np.maximum(half[order], residual) ** 2


def checked_gram(gram: ArrayLike, features: int) -> NDArray[np.float64]:
    """A Gram matrix in float64, its scale a power of two away from the ends of single precision."""
    g = _symmetric(gram, features)
    size = float(np.max(np.abs(g), initial=0))
    return np.ldexp(g, -np.frexp(size)[1]) if size > 0 else g


def _symmetric(gram: ArrayLike, features: int) -> NDArray[np.float64]:
    """A Gram matrix in float64, in the scale in which it was given."""
    g = numbers(gram, "gram").astype(np.float64, copy=False)
    if g.shape != (features, features):
        raise ValueError(f"gram has shape {g.shape}: it must be ({features}, {features})")
    diagonal = np.diagonal(g)
    size = float(np.max(np.abs(g), initial=0))
    if (
        size > LARGEST_ENTRY**2
        or np.any(diagonal < 0)
        or not np.allclose(g, g.T, rtol=1e-6, atol=1e-9 * max(size, 1e-300))
    ):
        raise ValueError("gram is no Gram matrix: it must be symmetric, its diagonal from 0 on")
    return g


def _checked_grid(grid: CodeGrid | None, features: int, neurons: int) -> tuple[NDArray, NDArray, NDArray]:
    if grid is None:
        return np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32), np.zeros(features, np.int64)
    instance(grid, "grid", CodeGrid, "a CodeGrid, or None")
    scales = checked_matrix("grid.scales", grid.scales, np.float32)
    group = np.zeros(features, np.int64) if grid.group is None else integers(grid.group, "grid.group").astype(np.int64)
    integer(grid.low, "grid.low", -(2**15), 2**15 - 1), integer(grid.high, "grid.high", grid.low, 2**15 - 1)
    if scales.shape[1] != neurons or not np.all(scales):
        raise ValueError(f"grid.scales has shape {scales.shape}: it must be (groups, {neurons}), without a zero")
    if group.shape != (features,) or group.min() < 0 or group.max() >= len(scales):
        raise ValueError(f"grid.group must name one of {len(scales)} groups for each of {features} features")
    zeros = np.zeros_like(scales) if grid.zeros is None else checked_matrix("grid.zeros", grid.zeros, np.float32)
    if zeros.shape != scales.shape:
        raise ValueError(f"grid.zeros has shape {zeros.shape} but grid.scales {scales.shape}")
    return np.ascontiguousarray(scales), np.ascontiguousarray(zeros), group


def _checked_mask(mask: ArrayLike | Choice | None, features: int, neurons: int) -> tuple[NDArray, int, NDArray]:
    none = np.zeros((1, neurons), np.int64)
    if mask is None:
        return np.ones((1, 1), np.uint8), 0, none
    if isinstance(mask, Choice):
        if integer(mask.width, "mask.width", 2) not in _WIDTHS:
            raise ValueError(f"mask.width is {mask.width}: it must be one of {', '.join(map(str, _WIDTHS))}")
        keep = np.broadcast_to(integers(mask.keep, "mask.keep"), (-(-features // mask.width), neurons))
        return np.ones((features, neurons), np.uint8), mask.width, np.ascontiguousarray(keep, dtype=np.int64)
    checked = booleans(mask, "mask")
    if checked.shape != (features, neurons):
        raise ValueError(f"mask has shape {checked.shape}: it must be that of the weights, ({features}, {neurons})")
    return checked.astype(np.uint8), 0, none
