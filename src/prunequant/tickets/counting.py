"""The lower bound, and what small sources can really represent.

Kumar & Natale 2025, Theorem 3 (read as parameters, Ω(d² log 1/δ)): p prunable weights have 2^p masks. If a random
source reaches each of the N targets with probability ½, then N/2 ≤ E[targets reached] ≤ 2^p, so p ≥ log2 N − 1.
Masks overcount: many give the same function, and most functions are no linear map. The enumerations here count
functions, not masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import numpy as np
from numpy.typing import NDArray


def counting_bound(sizes: Sequence[int], levels: Sequence[int]) -> float:
    """Σ n log2(2K_t + 1) − 1 over matrices with n weights of K_t levels: prunable weights that any source needs.

    Examples
    --------
    >>> round(counting_bound([4], [1]), 3)
    5.34
    """
    return sum(n * log2(2 * k + 1) for n, k in zip(sizes, levels)) - 1


def representable_weights(u: NDArray[np.int64], v: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """A one-dimensional source, all pairs of masks: {(slope for x > 0, slope for x < 0): number of mask pairs}.

    u, v : (n,) integers, n ≤ 12; the function of masks r, s is Σ s_k v_k max(r_k u_k x, 0), and 4^n mask pairs
        are counted. A weight w is represented when both slopes are w·K²/K_t. A mask on u alone adds no function:
        r_k = 0 does what s_k = 0 does.

    Examples
    --------
    >>> representable_weights(np.array([1, -1]), np.array([2, 2]))[(2, -2)]
    1
    """
    u, v = np.asarray(u, np.int64), np.asarray(v, np.int64)
    if u.shape != v.shape or u.ndim != 1 or u.size > 12:
        raise ValueError(f"u and v have shapes {u.shape} and {v.shape}: two equal vectors of at most 12 are needed")
    found = {(0, 0): 1}
    for a, b in zip(u.tolist(), v.tolist()):
        item = (a * b, 0) if a > 0 else (0, a * b)
        after: dict[tuple[int, int], int] = {}
        for (plus, minus), number in found.items():
            after[(plus, minus)] = after.get((plus, minus), 0) + 3 * number
            moved = (plus + item[0], minus + item[1])
            after[moved] = after.get(moved, 0) + number
        found = after
    return found


def brute_force_weights(u: NDArray[np.int64], v: NDArray[np.int64]) -> set[tuple[int, int]]:
    """The same set of slope pairs, by running all 4^n masked networks on x = 1 and x = −1; the literal definition."""
    u, v = np.asarray(u, np.int64), np.asarray(v, np.int64)
    n = u.size
    if n > 10:
        raise ValueError(f"u has {n} entries: 4^n networks are run, at most 10 are allowed")
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    slopes = set()
    for first in bits:
        right, left = (x * (bits * v * np.maximum(first * u * x, 0)).sum(axis=1) for x in (1, -1))
        slopes.update(zip(right.tolist(), left.tolist()))
    return slopes


def distinct_functions(u: NDArray[np.int64], v: NDArray[np.int64], probes: NDArray[np.int64]) -> NDArray[np.int64]:
    """All functions that masks make of a two-layer source, as their outputs on probe points.

    Parameters
    ----------
    u : (h, d) first matrix; v : (o, h) second matrix; probes : (P, d) integer inputs

    Returns
    -------
    (F, P·o) int64, one row a function (distinct on the probes), in lexicographic order

    Notes
    -----
    A sumset, unit by unit, over the distinct contributions of each unit (2^d masks on u times 2^o on v), not over
    2^(h(d + o)) masks. Grows with the number of functions; meant for d, o ≤ 2 and few units.
    """
    u, v, probes = (np.asarray(a, np.int64) for a in (u, v, probes))
    if u.ndim != 2 or v.ndim != 2 or u.shape[0] != v.shape[1] or probes.ndim != 2 or probes.shape[1] != u.shape[1]:
        raise ValueError(f"u {u.shape}, v {v.shape}, probes {probes.shape}: (h, d), (o, h), (P, d) are needed")
    d, o = u.shape[1], v.shape[0]
    reached = np.zeros((1, probes.shape[0] * o), np.int64)
    choices = (np.arange(2**o)[:, None] >> np.arange(o)) & 1
    for row, out in zip(u, v.T):
        parts = []
        for mask in range(2**d):
            hidden = np.maximum(probes @ (row * ((mask >> np.arange(d)) & 1)), 0)
            parts.append((hidden[None, :, None] * (choices * out)[:, None, :]).reshape(len(choices), -1))
        unit = np.unique(np.concatenate(parts), axis=0)
        reached = np.unique((reached[:, None] + unit[None]).reshape(-1, reached.shape[1]), axis=0)
    return reached


def reached_targets(
    functions: NDArray[np.int64], probes: NDArray[np.int64], outputs: int, source: int, target: int
) -> int:
    """How many of the (2K_t + 1)^(d·o) linear targets are among the functions (compared on the probes)."""
    factor = source**2 // target
    d = probes.shape[1]
    grid = np.stack(np.meshgrid(*[np.arange(-target, target + 1)] * (d * outputs), indexing="ij"), -1)
    maps = grid.reshape(-1, outputs, d) * factor
    values = np.einsum("pd,tod->tpo", probes, maps).reshape(len(maps), -1)
    known = {row.tobytes() for row in functions}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(values))


def least_parameters(levels: int, trials: int = 200, seed: int = 0, largest: int = 128) -> int:
    """Fewest parameters (2 a unit) of a one-dimensional source that reaches all weights with rate ≥ ½, x signed.

    Examples
    --------
    >>> least_parameters(1) >= counting_bound([1], [1])
    True
    """
    needed = np.zeros(trials, np.int64)
    goals = np.arange(-levels, levels + 1) * levels
    for trial in range(trials):
        rng = np.random.default_rng(np.random.SeedSequence((seed, trial)))
        sums = {1: {0}, -1: {0}}
        for unit in range(1, largest + 1):  # noqa: B007
            a, b = (int(x) for x in rng.integers(-levels, levels + 1, 2))
            sign = 1 if a > 0 else -1
            sums[sign] |= {s + a * b for s in sums[sign]}
            if all(int(g) in sums[s] for g in goals for s in (1, -1)):
                break
        needed[trial] = 2 * unit
    return int(np.sort(needed)[(trials - 1) // 2])
