"""Experiments that must fail, and the ones that show by how much a hypothesis matters.

Each takes its parameters, is deterministic for a seed, and returns figures; the claims and the chapters judge them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from prunequant.arguments import instance, integer, real
from prunequant.subset_sum import solve_words
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import certificate
from prunequant.tickets.carve import TicketNotFound
from prunequant.tickets.network import Network
from prunequant.tickets.plan import Plan, inverse, plan
from prunequant.tickets.ticket import find


class Undersized(NamedTuple):
    """Unsolved subset sums over seeds: mean measured, mean predicted, how many there are, seeds without a ticket."""

    measured: float
    predicted: float
    subset_sums: int
    seeds: int
    without_ticket: int
    standard_error: float


def undersized(target: Network, plan: Plan, seeds: Sequence[int]) -> Undersized:
    """Run `find` with a plan that may be too small and compare the failures with the measured rates.

    The expectation holds whatever the dependence between weights; the spread does not (shared units make failures
    cluster), so the standard error is the one between seeds, nan for one.
    """
    instance(target, "target", Network, "a Network")
    instance(plan, "plan", Plan, "a Plan, as plan returns it")
    seeds = [integer(s, f"seeds[{i}]", 0, 2**64 - 1) for i, s in enumerate(exact.several(seeds, "seeds"))]
    if not seeds:
        raise ValueError("seeds is empty: at least one is needed")
    counts = []
    for seed in seeds:
        try:
            find(target, plan, seed)
            counts.append(0)
        except TicketNotFound as error:
            counts.append(sum(error.failures.values()))
    missed = np.array(counts)
    deviation = float(missed.std(ddof=1) / np.sqrt(len(missed))) if len(missed) > 1 else float("nan")
    predicted = sum(plan.expected_failures(target))
    return Undersized(
        float(missed.mean()), predicted, sum(plan.subset_sums), len(missed), int((missed > 0).sum()), deviation
    )


def single_weight_success(source: int, target: int, units: int, trials: int = 20_000, seed: int = 0) -> float:
    """Fraction of random blocks of ``units`` hidden units in which a uniformly drawn weight w ≠ 0 is found (one half).

    The first experiment of Lemma 5; with 2n = 4·log2(1/δ) units, at threshold, it mostly fails.

    source, target, units, trials, seed : as in `certificate.law` and `certificate.count_failures`
    """
    of = certificate.law("relu", source, target)
    failures = certificate.count_failures(of, trials, seed, units)[:, -1]
    return float(1 - failures.mean() / integer(trials, "trials"))


class Width(NamedTuple):
    """Least units an input at which the wanted fraction of layers is found; the fraction at each size tried."""

    units: int
    sizes: tuple[int, ...]
    success: tuple[float, ...]


def least_width(
    d: int, levels: int, wanted: float = 0.9, layers: int = 100, seed: int = 0, grid: int = 2, largest: int = 110
) -> Width:
    """The least width at which more than ``wanted`` of random d×d layers are found inside random pairs.

    Every layer has a source of its own, whose first units make the smaller sources; inputs are signed, so a layer
    is 2d² subset sums. Sizes grow in steps of ``grid``. Compare with C·d·log2(1/δ) and with the additive law 2
    log2(1/δ) + const.

    d : int in [1, 64]; levels : int in [1, 2^15 − 1]; wanted : float in [0, 1]; layers : int in [1, 2^10];
        seed : int in [0, 2^64 − 1]; grid, largest : ints in [1, 2^10], d²·layers·largest at most 2^22

    Examples
    --------
    >>> bool(least_width(2, 3, layers=20).units > 2 * np.log2(3))
    True
    """
    d, levels = integer(d, "d", 1, 64), integer(levels, "levels", 1, 2**15 - 1)
    layers, seed = integer(layers, "layers", 1, 2**10), integer(seed, "seed", 0, 2**64 - 1)
    grid, largest = integer(grid, "grid", 1, 2**10), integer(largest, "largest", 1, 2**10)
    wanted = real(wanted, "wanted", 0, 1)
    if d * d * layers * largest > 2**22:
        raise ValueError(f"d is {d}, layers is {layers} and largest is {largest}: d²·layers·largest is at most 2^22")
    draws = [np.random.default_rng(np.random.SeedSequence((seed, layer))) for layer in range(layers)]
    goals, items, positions = [], [], []
    for rng in draws:
        w = rng.integers(-levels, levels + 1, (d, d))
        u = rng.integers(-levels, levels + 1, (d, largest))
        v = rng.integers(-levels, levels + 1, (d, d, largest))
        for sign in (1, -1):
            order = np.argsort(u * sign <= 0, axis=1, kind="stable")[:, : certificate.MAX_UNITS]
            fits = np.take_along_axis(u * sign > 0, order, axis=1)
            x = np.take_along_axis(v, order[None], axis=2) * (np.take_along_axis(np.abs(u), order, axis=1) * fits)
            goals.append((w * levels * sign).ravel())
            items.append(x.reshape(d * d, -1))
            positions.append(np.where(fits, order, largest)[None].repeat(d, 0).reshape(d * d, -1))
    goal, x, position = np.concatenate(goals), np.concatenate(items), np.concatenate(positions)
    least = np.full(goal.size, largest + 1)
    least[goal == 0] = 0
    sizes, success = [], []
    for units in range(max(2, int(2 * np.log2(levels))), largest + 1, grid):
        open_ = np.flatnonzero(least > largest)
        solved = solve_words(x[open_], goal[open_], (position[open_] < units).sum(axis=1)).found
        least[open_[solved]] = units
        sizes.append(units)
        success.append(float((least.reshape(layers, -1).max(axis=1) <= units).mean()))
        if success[-1] > wanted:
            return Width(units, tuple(sizes), tuple(success))
    raise ValueError(f"no block of up to {largest} units finds {wanted:.0%} of the layers at step 1/{levels}")


class Budget(NamedTuple):
    """Two ways to spend the same hidden units over layers of different precision: certified failures of each."""

    by_layer: Plan
    uniform: Plan


def layerwise_budget(
    shape: Sequence[int], steps: Sequence, failure: float = 0.01, signed_inputs: bool = True
) -> Budget:
    """Blocks chosen layer by layer for mixed precision, and one size for all layers at the same number of units."""
    steps = [Fraction(1, inverse(s, f"steps[{i}]")) for i, s in enumerate(exact.several(steps, "steps"))]
    layers = len(exact.several(shape, "shape")) - 1
    if len(steps) != layers:
        raise ValueError(f"steps has {len(steps)} entries for the {layers} layers of shape")
    chosen = plan(shape, steps, steps, failure, signed_inputs)
    columns = np.array(chosen.columns)
    total = int(sum(c * sum(b) for c, b in zip(columns, chosen.blocks)))
    size = total // int(columns.sum())
    pieces = -(-size // certificate.MAX_UNITS)
    same = tuple(size // pieces + (i < size % pieces) for i in range(pieces))
    return Budget(chosen, chosen.with_blocks([same] * len(columns)))
