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

from prunequant.arguments import integer
from prunequant.tickets import arithmetic as exact

MAX_ENTRY = 2**20
MAX_BYTES = 2**30


def counting_bound(sizes: Sequence[int], levels: Sequence[int]) -> float:
    """Σ n log2(2K_t + 1) − 1 over matrices with n weights of K_t levels: prunable weights that any source needs.

    sizes, levels : sequences of integers, equally long, in [0, 2^62] and [1, 2^62]

    Examples
    --------
    >>> round(counting_bound([4], [1]), 3)
    5.34
    """
    counts = [integer(n, f"sizes[{i}]", 0, 2**62) for i, n in enumerate(exact.several(sizes, "sizes"))]
    grids = [integer(k, f"levels[{i}]", 1, 2**62) for i, k in enumerate(exact.several(levels, "levels"))]
    if len(counts) != len(grids):
        raise ValueError(f"sizes has {len(counts)} entries and levels {len(grids)}: one of each a matrix is needed")
    return sum(n * log2(2 * k + 1) for n, k in zip(counts, grids)) - 1


def _entries(x, name: str) -> NDArray[np.int64]:
    array = exact.integers(x, name)
    if exact.largest(array) > MAX_ENTRY:
        raise ValueError(f"{name} holds values beyond 2^20 in magnitude")
    return array.astype(np.int64)


def representable_weights(u: NDArray[np.int64], v: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """A one-dimensional source, all pairs of masks: {(slope for x > 0, slope for x < 0): number of mask pairs}.

    u, v : (n,) integers up to 2^20, n ≤ 12; the function of masks r, s is Σ s_k v_k max(r_k u_k x, 0), and 4^n mask
        pairs are counted. A weight w is represented when both slopes are w·K²/K_t. A mask on u alone adds no function:
        r_k = 0 does what s_k = 0 does.

    Examples
    --------
    >>> representable_weights(np.array([1, -1]), np.array([2, 2]))[(2, -2)]
    1
    """
    u, v = _entries(u, "u"), _entries(v, "v")
    if u.shape != v.shape or u.ndim != 1 or u.size > 12:
        raise ValueError(f"u and v have shapes {u.shape} and {v.shape}: two equal vectors of at most 12 are needed")
    reached = {(0, 0): 1}
    for a, b in zip(u.tolist(), v.tolist()):
        item = (a * b, 0) if a > 0 else (0, a * b)
        after: dict[tuple[int, int], int] = {}
        for (plus, minus), number in reached.items():
            after[(plus, minus)] = after.get((plus, minus), 0) + 3 * number
            moved = (plus + item[0], minus + item[1])
            after[moved] = after.get(moved, 0) + number
        reached = after
    return reached


def brute_force_weights(u: NDArray[np.int64], v: NDArray[np.int64]) -> set[tuple[int, int]]:
    """The same set of slope pairs, by running all 4^n masked networks on x = 1 and x = −1; the literal definition."""
    u, v = _entries(u, "u"), _entries(v, "v")
    n = u.size
    if n > 10:
        raise ValueError(f"u has {n} entries: 4^n networks are run, at most 10 are allowed")
    if u.ndim != 1 or u.shape != v.shape:
        raise ValueError(f"u and v have shapes {u.shape} and {v.shape}: two equal vectors are needed")
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    slopes: set[tuple[int, int]] = set()
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
    2^(h(d + o)) masks. Grows with the number of functions; meant for d, o ≤ 2 and few units. A ValueError where
    a step would pass 1 GiB.
    """
    u, v, probes = (_entries(a, name) for a, name in ((u, "u"), (v, "v"), (probes, "probes")))
    if u.ndim != 2 or v.ndim != 2 or u.shape[0] != v.shape[1] or probes.ndim != 2 or probes.shape[1] != u.shape[1]:
        raise ValueError(f"u {u.shape}, v {v.shape}, probes {probes.shape}: (h, d), (o, h), (P, d) are needed")
    if not len(v) or not len(probes):
        raise ValueError(f"v has {len(v)} rows and probes {len(probes)}: at least one output and one point are needed")
    d, o = u.shape[1], v.shape[0]
    if 2 ** min(d + o, 64) * max(probes.shape[0] * o, 1) * 8 > MAX_BYTES:
        raise ValueError(f"u has {d} columns and v {o} rows: the functions of one unit pass {MAX_BYTES} bytes")
    reached = np.zeros((1, probes.shape[0] * o), np.int64)
    choices = (np.arange(2**o)[:, None] >> np.arange(o)) & 1
    for row, out in zip(u, v.T):
        parts = []
        for mask in range(2**d):
            hidden = np.maximum(probes @ (row * ((mask >> np.arange(d)) & 1)), 0)
            parts.append((hidden[None, :, None] * (choices * out)[:, None, :]).reshape(len(choices), -1))
        unit = np.unique(np.concatenate(parts), axis=0)
        if len(reached) * unit.nbytes > MAX_BYTES:
            raise ValueError(f"u has {len(u)} units: their functions pass {MAX_BYTES} bytes")
        reached = np.unique((reached[:, None] + unit[None]).reshape(-1, reached.shape[1]), axis=0)
    return reached


def reached_targets(
    functions: NDArray[np.int64], probes: NDArray[np.int64], outputs: int, source: int, target: int
) -> int:
    """How many of the (2K_t + 1)^(d·o) linear targets are among the functions (compared on the probes).

    outputs : int in [1, 16]; source : int in [1, 2^15 − 1]; target : int in [1, 2^20] that divides source²; at most
        2^22 targets
    """
    functions, probes = exact.integers(functions, "functions"), _entries(probes, "probes")
    outputs, source = integer(outputs, "outputs", 1, 16), integer(source, "source", 1, 2**15 - 1)
    target = integer(target, "target", 1, 2**20)
    if functions.ndim != 2 or probes.ndim != 2 or functions.shape[1] != probes.shape[0] * outputs or not probes.size:
        raise ValueError(
            f"functions has shape {functions.shape} and probes {probes.shape}: (F, P·{outputs}) and (P, d) are needed"
        )
    if source**2 % target or (2 * target + 1) ** (probes.shape[1] * outputs) > 2**22:
        raise ValueError(f"target is {target}: it must divide source² = {source**2} and give at most 2^22 targets")
    factor = source**2 // target
    d = probes.shape[1]
    grid = np.stack(np.meshgrid(*[np.arange(-target, target + 1)] * (d * outputs), indexing="ij"), -1)
    maps = grid.reshape(-1, outputs, d) * factor
    values = np.einsum("pd,tod->tpo", probes, maps).reshape(len(maps), -1)
    if functions.dtype == object:  # no target is beyond int64
        functions = functions[[exact.largest(row) < 2**63 for row in functions]].astype(np.int64)
    known = {row.tobytes() for row in np.ascontiguousarray(functions)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(values))


def least_parameters(levels: int, trials: int = 200, seed: int = 0, largest: int = 128) -> int:
    """Fewest parameters (2 a unit) of a one-dimensional source that reaches all weights with rate ≥ ½, x signed.

    levels : int in [1, 32]; trials : int in [1, 2^14]; seed : int in [0, 2^64 − 1]; largest : units tried, an int in
        [1, 2^10]

    Examples
    --------
    >>> least_parameters(1) >= counting_bound([1], [1])
    True
    """
    levels, trials = integer(levels, "levels", 1, 32), integer(trials, "trials", 1, 2**14)
    seed, largest = integer(seed, "seed", 0, 2**64 - 1), integer(largest, "largest", 1, 2**10)
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
