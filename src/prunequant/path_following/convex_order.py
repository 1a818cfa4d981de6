"""Convex order, decided exactly: stop-loss functions of discrete and Gaussian laws.

X ≤cx Y means E f(X) ≤ E f(Y) for every convex f; for equal means that is the comparison of the stop-loss functions
π_X(a) = E(X − a)₊ at every a. A discrete law's π is a broken line, the maximum of finitely many straight lines; a
Gaussian's is smooth and convex. Hence "discrete below Gaussian" is finitely many tangency conditions, one a line, and
the least Gaussian has a closed form. No grid and no sampling is involved.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike, NDArray

from ..arguments import numbers, real
from .checks import LARGEST
from .theory import density


def checked_law(values: ArrayLike, probabilities: ArrayLike, prefix: str = "") -> tuple[NDArray, NDArray]:
    """Values ascending, up to 1e150 in size, probabilities summing to one, both (k,) float64; mass zero dropped."""
    values = numbers(values, f"{prefix}values", finite=False).astype(np.float64, copy=False)
    probabilities = numbers(probabilities, f"{prefix}probabilities", finite=False).astype(np.float64, copy=False)
    if values.ndim != 1 or values.shape != probabilities.shape or values.size == 0:
        raise ValueError(
            f"{prefix}values has shape {values.shape} but {prefix}probabilities {probabilities.shape}: "
            "two vectors of one length are needed"
        )
    if not np.all(np.isfinite(values)) or np.any(probabilities < 0) or not np.all(np.isfinite(probabilities)):
        raise ValueError(f"{prefix}values must be finite and {prefix}probabilities finite and at least 0")
    if np.max(np.abs(values)) > LARGEST:
        raise ValueError(f"{prefix}values reach {np.max(np.abs(values)):.3g}: they must lie within ±{LARGEST:g}")
    if abs(probabilities.sum() - 1) > 1e-9:
        raise ValueError(f"{prefix}probabilities sum to {probabilities.sum()}: 1 is needed")
    order = np.argsort(values, kind="stable")
    kept = probabilities[order] > 0
    return values[order][kept], probabilities[order][kept]


def stop_loss(values: ArrayLike, probabilities: ArrayLike, at: ArrayLike) -> NDArray:
    """π_X(a) = E(X − a)₊ of a discrete law at every a of `at`.

    Examples
    --------
    >>> stop_loss([-1, 1], [0.5, 0.5], [0.0, 1.0, -1.0])
    array([0.5, 0. , 1. ])
    """
    values, probabilities = checked_law(values, probabilities)
    at = numbers(at, "at").astype(np.float64, copy=False)
    return np.sum(np.maximum(values - at[..., None], 0) * probabilities, axis=-1)


def check_sigma(sigma: float) -> float:
    return real(sigma, "sigma", 0, LARGEST)


def stop_loss_gaussian(sigma: float, at: ArrayLike, mean: float = 0.0) -> NDArray:
    """E(G − a)₊ of G ~ N(mean, σ²): σφ(z) − (a − mean)Φ(−z), z = (a − mean)/σ.

    Examples
    --------
    >>> round(float(stop_loss_gaussian(1.0, 0.0)), 6)  # 1/√(2π)
    0.398942
    """
    sigma, mean = check_sigma(sigma), real(mean, "mean", -LARGEST, LARGEST)
    distance = numbers(at, "at").astype(np.float64, copy=False) - mean
    if sigma == 0:
        return np.maximum(-distance, 0.0)
    with np.errstate(over="ignore"):
        z = np.clip(distance / sigma, -1e3, 1e3)  # beyond, the Gaussian is its limit
    return sigma * density(z) - distance * scipy.special.ndtr(-z)


def least_gaussian(values: ArrayLike, probabilities: ArrayLike) -> float:
    """The smallest σ with X ≤cx N(E X, σ²), exactly.

    Each line c − s·a of π_X (s = P(X > a), c = E[X; X > a]) touches the Gaussian's stop-loss function when
    σ φ(z_s) = c with P(G > z_s) = s; the largest such σ over the lines is the answer.

    Examples
    --------
    >>> round(least_gaussian([-1, 1], [0.5, 0.5]) ** 2, 6)  # π/2
    1.570796
    """
    values, probabilities = checked_law(values, probabilities)
    if values.size == 1:
        return 0.0
    centred = values - np.sum(values * probabilities)
    above = np.cumsum((centred * probabilities)[::-1])[::-1][1:]  # E[X; X > a] on each inner piece
    share = np.cumsum(probabilities[::-1])[::-1][1:]
    inner = (share > 0) & (share < 1)
    return float(np.max(above[inner] / density(scipy.special.ndtri(share[inner]))))


def gap_to_gaussian(values: ArrayLike, probabilities: ArrayLike, sigma: float) -> tuple[float, float]:
    """(min over a of π_G(a) − π_X(a), the a where it is attained) with G ~ N(E X, σ²); negative: not dominated.

    Exact: on each straight piece of π_X the difference is convex, with its minimum where P(G > a) equals the slope or
    at an end of the piece.
    """
    (values, probabilities), sigma = checked_law(values, probabilities), check_sigma(sigma)
    mean = float(np.sum(values * probabilities))
    share = np.cumsum(probabilities[::-1])[::-1]  # P(X > a) on the piece ending at values[i]
    touch = mean + sigma * -scipy.special.ndtri(np.clip(share[1:], 1e-300, 1 - 1e-16))
    points = np.concatenate([values, np.clip(touch, values[:-1], values[1:])])
    gaps = stop_loss_gaussian(sigma, points, mean) - stop_loss(values, probabilities, points)
    best = int(np.argmin(gaps))
    return float(gaps[best]), float(points[best])


def is_below_gaussian(values: ArrayLike, probabilities: ArrayLike, sigma: float, tolerance: float = 1e-12) -> bool:
    """Whether X ≤cx N(E X, σ²), by the closed form; `tolerance` is relative, for rounding of the last bits."""
    sigma, tolerance = check_sigma(sigma), real(tolerance, "tolerance", 0, 1)
    return least_gaussian(values, probabilities) <= sigma * (1 + tolerance)


def is_below(
    values: ArrayLike,
    probabilities: ArrayLike,
    other_values: ArrayLike,
    other_probabilities: ArrayLike,
    tolerance: float = 1e-12,
) -> bool:
    """Whether one discrete law is below another in convex order: equal means, stop-loss below at every knot."""
    x, p = checked_law(values, probabilities)
    y, q = checked_law(other_values, other_probabilities, "other_")
    tolerance = real(tolerance, "tolerance", 0, 1)
    size = max(np.abs(x).max(), np.abs(y).max(), np.finfo(np.float64).tiny)
    if abs(np.sum(x * p) - np.sum(y * q)) > tolerance * size:
        return False
    knots = np.concatenate([x, y])
    return bool(np.all(stop_loss(x, p, knots) <= stop_loss(y, q, knots) + tolerance * size))


def convolve(
    values: ArrayLike, probabilities: ArrayLike, other_values: ArrayLike, other_probabilities: ArrayLike
) -> tuple[NDArray, NDArray]:
    """The law of an independent sum, equal values merged."""
    x, p = checked_law(values, probabilities)
    y, q = checked_law(other_values, other_probabilities, "other_")
    sums, where = np.unique(np.round(np.add.outer(x, y).ravel(), 12), return_inverse=True)
    return sums, np.bincount(where, weights=np.multiply.outer(p, q).ravel())
