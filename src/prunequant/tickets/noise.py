"""Rounding inside a pair: how much noise a ticket lets through, and the quietest ticket of all.

If the hidden activations u·x are rounded to steps γ_h, an output moves by Σ_kept v·e with errors e of variance γ_h²/12
(nearest, fractions spread evenly) or γ_h²/6 (stochastic). With independent errors the output variance is (that) ·
Σ_kept v²; nearest rounding of units that share an input is correlated (`correlated_variance`). Each of the many
subsets with the right sum is a ticket; the one with least Σ v² is found by dynamic programming over the sums.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, flag, instance, integer, real
from prunequant.subset_sum import MAX_TABLE_BYTES
from prunequant.threads import run_rows
from prunequant.tickets import _kernels_law as laws
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import source
from prunequant.tickets.carve import Carving, Pruned, Recipe, SubsetSums, carve, carve_by, prune

MODES = {"nearest": 12.0, "stochastic": 6.0}


def predicted_variance(energy: float, hidden_step: float, mode: str = "nearest") -> float:
    """Output variance γ_h²/12 · Σ v² (nearest) or γ_h²/6 · Σ v² (stochastic), in the unit of γ_h times that of v."""
    mode = choice(mode, "mode", MODES)
    hidden_step, energy = real(hidden_step, "hidden_step", 0, 1e100), real(energy, "energy", 0, 1e100)
    return hidden_step**2 / MODES[mode] * float(energy)


def correlated_variance(layer: Pruned, hidden_step: float) -> NDArray[np.float64]:
    """Output variance of nearest rounding, row by row, where the units of a row share one evenly spread input.

    With g = gcd(u, u') the errors of round(u·x) and round(u'·x) have covariance γ_h²/12 · c(u, u'), where c =
    g²/(u u') if u/g and u'/g are both odd and −g²/(2 u u') otherwise (the Fourier series of the shifted
    sawtooth), so the variance is γ_h²/12 · Σ_kk' v_k v_k' c(u_k, u_k'); Σ v² is its diagonal. For a matrix with
    one column, over non-negative inputs.
    """
    instance(layer, "layer", Pruned, "a Pruned layer, as carve.prune returns it")
    hidden_step = real(hidden_step, "hidden_step", 0, 1e100)
    used = layer.u.ravel() > 0
    u = layer.u.ravel()[used]
    common = np.gcd.outer(u, u)
    both_odd = (np.add.outer(u, u) // common) % 2 == 0
    gram = common**2 / np.multiply.outer(u, u) * np.where(both_odd, 1.0, -0.5)
    v = layer.v[:, used].astype(np.float64)
    return hidden_step**2 / 12 * np.einsum("rk,kl,rl->r", v, gram, v)


class Noise(NamedTuple):
    """Variance of an output in units of γ²: measured, from Σ v² alone, and with the correlations of a shared input.

    ``differing``: fraction of outputs that differ once rounded to γ. For stochastic rounding errors are
    independent and the two predictions are one.
    """

    measured: float
    predicted: float
    correlated: float
    differing: float


def interior_rounding(
    source_levels: int = 16,
    coarseness: float = 1.0,
    weights: int = 300,
    samples: int = 400,
    seed: int = 0,
    mode: str = "nearest",
    resolution: int = 2**16,
    quiet: bool = False,
    units: int = 60,
) -> Noise:
    """Single weights whose hidden activations are rounded too: the control of the exact construction.

    Inputs are random multiples of 1/resolution in (0, 1], weights 1..K in steps of 1/K, outputs are rounded to γ
    = 1/K, and every hidden activation is rounded to γ_h = ``coarseness``·γ (0: not at all; exactness then is
    complete). Blocks are three sub-blocks of ``units``; ``quiet`` takes the quietest ticket of each weight in
    place of the first one found.

    Parameters
    ----------
    source_levels : int in [1, 2^15 − 1]
    coarseness : float in [0, 2^20]
    weights : int in [1, 2^12]
    samples : int ≥ 1, samples·(weights + 3·units) at most 2^27
    seed : int in [0, 2^64 − 1]
    mode : "nearest" or "stochastic"
    resolution : int in [1, 2^20]
    quiet : bool
    units : int in [1, 64]

    Examples
    --------
    >>> interior_rounding(coarseness=0, weights=20, samples=20).differing
    0.0
    """
    mode, quiet = choice(mode, "mode", MODES), flag(quiet, "quiet")
    k = integer(source_levels, "source_levels", 1, source.MAX_HALF_RANGE)
    weights, samples = integer(weights, "weights", 1, 2**12), integer(samples, "samples", 1, 2**20)
    seed, resolution = integer(seed, "seed", 0, 2**64 - 1), integer(resolution, "resolution", 1, 2**20)
    units, coarseness = integer(units, "units", 1, 64), real(coarseness, "coarseness", 0, 2**20)
    if samples * (3 * units + weights) > 2**27:
        raise ValueError(f"samples is {samples} and weights is {weights}: samples·(weights + 3·units) is at most 2^27")
    rng = np.random.default_rng(np.random.SeedSequence((seed, 1)))
    target = rng.integers(1, k + 1, (weights, 1))
    recipe = Recipe(0, "relu", k, k, (units,) * 3, False)
    layer = prune((quietest if quiet else carve)(target, recipe, seed), seed)
    x = rng.integers(1, resolution + 1, (samples, 1))
    hidden = np.maximum(x * layer.u, 0)  # in units of 1/(K·resolution)
    divisor = max(1, round(coarseness * resolution))
    if mode == "stochastic":
        rounded = (hidden + rng.integers(0, divisor, hidden.shape)) // divisor * divisor
    else:
        rounded = (2 * hidden + divisor) // (2 * divisor) * divisor
    true, noisy = exact.matmul(hidden, layer.v.T), exact.matmul(rounded, layer.v.T)
    gamma = k * resolution  # sums are in units of 1/(K²·resolution)
    differing = np.mean((2 * true + gamma) // (2 * gamma) != (2 * noisy + gamma) // (2 * gamma))
    step = divisor / gamma if divisor > 1 else 0.0
    plain = predicted_variance(float(np.square(layer.v).sum(axis=1).mean()), step, mode)
    shared = float(correlated_variance(layer, step).mean()) if mode == "nearest" else plain
    return Noise(float(np.square((noisy - true) / gamma).mean()), plain, shared, float(differing))


def quietest(target: NDArray[np.int64], recipe: Recipe, seed: int, cost: str = "noise") -> Carving:
    """Of all tickets within a sub-block, the one with least Σ v² for every weight (``cost="size"``: fewest weights).

    Same arguments, source and exactness as `carve`; O(units · range of the sums) a weight. Raises `TicketNotFound`,
    and ValueError where the sums of one weight span more than 1 GiB of table.

    Examples
    --------
    >>> from prunequant.tickets.carve import kept_totals
    >>> target = np.array([[3, -5, 7]])
    >>> recipe = Recipe(0, "relu", 7, 7, (64, 64), False)
    >>> loud, quiet = carve(target, recipe, 1), quietest(target, recipe, 1)
    >>> bool((kept_totals(quiet, 1).energy <= kept_totals(loud, 1).energy).all())
    True
    """
    cost = choice(cost, "cost", ("noise", "size"))

    def cheapest_subset(sums: SubsetSums) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        items = sums.items
        span = int(np.abs(items).sum(axis=1).max()) + 1
        if span * (items.shape[1] + 8) > MAX_TABLE_BYTES:
            raise ValueError(
                f"recipe has source step 1/{recipe.source}: the sums of one weight span {span} values, their table "
                f"over {items.shape[1]} units passes {MAX_TABLE_BYTES} bytes"
            )
        v = items // np.where(sums.factor == 0, 1, sums.factor)
        costs = np.square(v).astype(np.float64) if cost == "noise" else np.ones(items.shape)
        masks, least = np.zeros(len(items), np.uint64), np.empty(len(items))
        search = partial(laws.cheapest_subsets, items, sums.lengths, costs, sums.goals, masks, least)
        run_rows(search, len(items), 16)
        return np.isfinite(least), masks

    return carve_by(cheapest_subset, target, recipe, seed)
