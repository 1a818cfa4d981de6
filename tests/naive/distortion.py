"""Slow and obvious twins of `prunequant.distortion`."""

import itertools

import numpy as np
from scipy import integrate


def levels(bits, grid):
    half = 2 ** (bits - 1)
    return {
        "twos_complement": np.arange(-half, half) * 1.0,
        "narrow": np.arange(1 - half, half) * 1.0,
        "mid_rise": np.arange(-half, half) + 0.5,
    }[grid]


def quantization_error(law, table, scale, tail=None):
    """E (X − Q)² cell by cell with adaptive quadrature; `tail` cuts the outer cells of an unbounded law."""
    edges = [-tail, *(0.5 * (table[1:] + table[:-1]) * scale), tail]
    total = 0.0
    for level, low, high in zip(table, edges[:-1], edges[1:]):
        low, high = max(low, -tail), min(high, tail)
        if low < high:
            parts = np.linspace(low, high, 9)
            for a, b in itertools.pairwise(parts):
                total += integrate.quad(
                    lambda x, v=level * scale: (x - v) ** 2 * float(law.density(x)), a, b, epsabs=1e-15, limit=200
                )[0]
    return total


def rounding_error(x, scale, table):
    return float(np.sum((x - scale * table[np.argmin(np.abs(x[:, None] - scale * table), axis=1)]) ** 2))


def symmetric(count):
    """So many levels, one apart, on both sides of zero: 0, ±1 … or ±½, ±3/2 …"""
    return np.arange(count) - (count - 1) / 2


def scanned_step(x, table, fractions):
    """The step of least error among fractions of the one at which the largest number is the last level: no optimum."""
    steps = np.abs(x).max() / table[-1] * fractions
    return float(steps[np.argmin([rounding_error(x, step, table) for step in steps])])


def best_scale_error(x, bits, grid):
    """Least Σ (x − s q)² over all scales."""
    return least_error(x, levels(bits, grid))


def least_error(x, table):
    """The same for any levels: between two neighbouring events no number changes its level."""
    thresholds = 0.5 * (table[1:] + table[:-1])
    with np.errstate(divide="ignore"):
        events = np.unique((x[:, None] / thresholds[thresholds != 0]).ravel())
    events = events[events > 0]
    if events.size == 0:
        events = np.array([1.0])
    between = np.concatenate(([events[0] / 2], 0.5 * (events[1:] + events[:-1]), [events[-1] * 2]))
    best = float(x @ x)
    for s in between:
        q = table[np.argmin(np.abs(x[:, None] - s * table), axis=1)]
        if q @ q > 0:
            best = min(best, float(x @ x - (q @ x) ** 2 / (q @ q)) if q @ x > 0 else best)
    return best
