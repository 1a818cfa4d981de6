"""Carving one target matrix out of the source: one subset sum for each weight (two for a signed input).

The columns of the target matrix are its inputs, the rows everything that has a source row of its own: an output, an
output at one tap of a kernel, a copy of an output. Sub-blocks are tried in turn; a mask is one 64-bit word over the
usable units of the sub-block that succeeded, and every word is checked against freshly regenerated source weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import flag, instance, integer
from prunequant.subset_sum import solve_words
from prunequant.threads import run_rows
from prunequant.tickets import _kernels as kernels
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import source
from prunequant.tickets.certificate import MAX_BLOCKS, MAX_UNITS, Law, law

CHUNK = 1 << 17
MISSING = 255


class TicketNotFound(RuntimeError):
    """Some weights are no subset sum of their blocks: ``failures`` says {layer: how many}, out of ``subset_sums``."""

    def __init__(self, failures: dict[int, int], subset_sums: int) -> None:
        self.failures, self.subset_sums = dict(failures), int(subset_sums)
        where = ", ".join(f"{count} in layer {layer}" for layer, count in self.failures.items() if count)
        super().__init__(
            f"no ticket with this seed: {sum(self.failures.values())} of {subset_sums} subset sums have no solution "
            f"({where}); take another seed or a plan with larger blocks"
        )


@dataclass(frozen=True)
class Recipe:
    """How one target matrix is carved: source layer, law of its items, sub-blocks, signed inputs or not.

    layer : int in [0, 2^32 − 1]
    kind, source, target, reach : the law of the items, see `certificate.law`
    blocks : 1 to 254 integers in [1, 64]
    signed : bool
    """

    layer: int
    kind: str
    source: int
    target: int
    blocks: tuple[int, ...]
    signed: bool = False
    reach: int | None = None

    def __post_init__(self) -> None:
        of = law(self.kind, self.source, self.target, self.reach)  # indivisible steps are an error before any work
        blocks = tuple(
            integer(m, f"blocks[{i}]", 1, MAX_UNITS) for i, m in enumerate(exact.several(self.blocks, "blocks"))
        )
        if not 1 <= len(blocks) <= MAX_BLOCKS:
            raise ValueError(f"blocks has {len(blocks)} entries: 1 to {MAX_BLOCKS} sub-blocks are allowed")
        fields = {"layer": source.check_layer(self.layer), "kind": of.kind, "source": of.source, "target": of.target}
        fields |= {"blocks": blocks, "signed": flag(self.signed, "signed")}
        fields |= {"reach": None if self.reach is None else of.reach}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def law(self) -> Law:
        """The law of the items of one block."""
        return law(self.kind, self.source, self.target, self.reach)

    @property
    def factor(self) -> int:
        """Sum units in one target unit."""
        return self.law.factor

    @property
    def width(self) -> int:
        """Units an input coordinate."""
        return sum(self.blocks)

    @property
    def halves(self) -> tuple[int, ...]:
        """Signs of u with a subset sum of their own: (1, −1) for a signed input behind a ReLU, (0,) both at once."""
        if self.kind != "relu":
            return (0,)
        return (1, -1) if self.signed else (1,)


class Units(NamedTuple):
    """Usable units of a sub-block: position, item factor, source weight u (columns, most), how many (columns,)."""

    position: NDArray[np.int64]
    factor: NDArray[np.int64]
    weight: NDArray[np.int64]
    number: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Carving:
    """Masks of one target matrix: words (rows, columns, halves) uint64 over the usable units of sub-block ``tries``."""

    recipe: Recipe
    words: NDArray[np.uint64]
    tries: NDArray[np.uint8]

    @property
    def rows(self) -> int:
        return self.words.shape[0]

    @property
    def columns(self) -> int:
        return self.words.shape[1]


def units(recipe: Recipe, seed: int, columns: int) -> NDArray[np.int64]:
    """u of every unit (columns, width); ones where the items are the source weights themselves."""
    if recipe.kind == "uniform":
        return np.ones((columns, recipe.width), np.int64)
    return source.blocks(seed, recipe.layer, recipe.source, columns, recipe.width)


def _given_units(u: NDArray[np.int64] | None, recipe: Recipe, seed: int, columns: int) -> NDArray[np.int64]:
    if u is None:
        return units(recipe, seed, columns)
    u = exact.within(u, "u", recipe.source, f"({columns}, {recipe.width})", 2)
    if u.shape != (columns, recipe.width):
        raise ValueError(f"u has shape {u.shape}: ({columns}, {recipe.width}) is needed")
    return u


def usable(u: NDArray[np.int64], half: int) -> Units:
    """The units of a sub-block (columns, size) with the sign that this half needs, packed to the left."""
    fits = u != 0 if half == 0 else u * half > 0
    count = fits.sum(axis=1).astype(np.int64)
    most = max(1, int(count.max()))
    position = np.argsort(~fits, axis=1, kind="stable")[:, :most].astype(np.int64)
    weight = np.take_along_axis(u, position, axis=1)
    factor = weight if half == 0 else np.abs(weight)
    return Units(np.ascontiguousarray(position), np.ascontiguousarray(factor), np.ascontiguousarray(weight), count)


def sub_blocks(recipe: Recipe, u: NDArray[np.int64]):
    """(try, offset, size, u of the sub-block) in the order in which they are tried."""
    offset = 0
    for attempt, size in enumerate(recipe.blocks):
        yield attempt, offset, size, u[:, offset : offset + size]
        offset += size


def check_target(target: NDArray[np.int64], recipe: Recipe) -> NDArray[np.int64]:
    """A matrix as int64 that a recipe may be asked for."""
    instance(recipe, "recipe", Recipe, "a Recipe")
    target = exact.integers(target, "target")
    if target.ndim != 2 or not target.size:
        raise ValueError(f"target has shape {target.shape}: (rows, columns) is needed, neither 0")
    if exact.largest(target) > recipe.law.reach:
        raise ValueError(
            f"a target weight is {exact.largest(target)}, off the grid: |w| ≤ {recipe.law.reach} is allowed"
        )
    return target.astype(np.int64)


class SubsetSums(NamedTuple):
    """What one sub-block is asked for: a subset of each row's items that adds up to the row's goal."""

    items: NDArray[np.int64]  # (sums, most): products of a unit and a weight, of which a row has `lengths`
    lengths: NDArray[np.int64]  # (sums,)
    factor: NDArray[np.int64]  # (sums, most): the unit in each product
    goals: NDArray[np.int64]  # (sums,)


def carve(target: NDArray[np.int64], recipe: Recipe, seed: int, u: NDArray[np.int64] | None = None) -> Carving:
    """Masks for every entry of the integer matrix ``target`` (rows, columns); raises `TicketNotFound`.

    target : (rows, columns) integers of any type, at most the recipe's reach in magnitude; no side is 0
    recipe : Recipe
    seed : int in [0, 2^64 − 1]
    u : the units of the recipe (columns, width), where they are at hand

    Time is a few microseconds a weight; memory beyond the masks is bounded by the chunk, whatever the size of the
    source.
    """

    def first_subset(sums: SubsetSums) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        solutions = solve_words(sums.items, sums.goals, sums.lengths)
        return solutions.found, solutions.words

    return carve_by(first_subset, target, recipe, seed, u)


def carve_by(
    solve: Callable[[SubsetSums], tuple[NDArray[np.bool_], NDArray[np.uint64]]],
    target: NDArray[np.int64],
    recipe: Recipe,
    seed: int,
    u: NDArray[np.int64] | None = None,
) -> Carving:
    """As `carve`, by any rule: `solve` gives for every subset sum whether it was solved, and its mask as a word."""
    key = source.check_seed(seed)
    target = check_target(target, recipe)
    rows, columns = target.shape
    u = _given_units(u, recipe, seed, columns)
    words = np.zeros((rows, columns, len(recipe.halves)), np.uint64)
    tries = np.full(words.shape, MISSING, np.uint8)
    for h, half in enumerate(recipe.halves):
        goal = target * (recipe.factor * (-1 if half < 0 else 1))
        tries[..., h][goal == 0] = 0
        for attempt, offset, size, part in sub_blocks(recipe, u):
            open_rows, open_cols = np.nonzero(tries[..., h] == MISSING)
            if not open_rows.size:
                break
            fit = usable(part, half)
            for first in range(0, open_rows.size, CHUNK):
                r, c = open_rows[first : first + CHUNK], open_cols[first : first + CHUNK]
                items = np.empty((r.size, fit.position.shape[1]), np.int64)
                lengths = fit.number[c]
                gather = partial(
                    kernels.gather_items, key, recipe.layer, recipe.source, columns, recipe.width, offset, size,
                    fit.position, fit.factor, r, c, lengths, items,
                )  # fmt: skip
                run_rows(gather, r.size, 256)
                solved, masks = solve(SubsetSums(items, lengths, fit.factor[c], goal[r, c]))
                done = np.flatnonzero(solved)
                words[r[done], c[done], h] = masks[done]
                tries[r[done], c[done], h] = attempt
    missed = int((tries == MISSING).sum())
    if missed:
        raise TicketNotFound({recipe.layer: missed}, words.size)
    carving = Carving(recipe, words, tries)
    if not np.array_equal(effective(carving, seed, u), target):
        raise AssertionError("a mask does not sum to its weight")  # a defect, not bad luck
    return carving


class KeptTotals(NamedTuple):
    """What the masks keep: sums (rows, columns, halves), number of V weights, and Σ v² of them, same shape."""

    sums: NDArray[np.int64]
    number: NDArray[np.int64]
    energy: NDArray[np.int64]


def masks_by_block(
    carving: Carving, u: NDArray[np.int64]
) -> Iterator[tuple[int, int, int, Units, NDArray[np.intp], NDArray[np.intp], NDArray[np.uint64]]]:
    """(half's number, offset, size, usable units, rows, columns, words) of the masks of each half and sub-block."""
    recipe = carving.recipe
    for h, half in enumerate(recipe.halves):
        for attempt, offset, size, part in sub_blocks(recipe, u):
            r, c = np.nonzero((carving.tries[..., h] == attempt) & (carving.words[..., h] != 0))
            if r.size:
                yield h, offset, size, usable(part, half), r, c, carving.words[r, c, h]


def kept_totals(carving: Carving, seed: int, u: NDArray[np.int64] | None = None) -> KeptTotals:
    """Regenerate the source and add up what every mask keeps, in exact integers."""
    instance(carving, "carving", Carving, "a Carving, as carve returns it")
    recipe, key = carving.recipe, source.check_seed(seed)
    u = _given_units(u, recipe, seed, carving.columns)
    result = KeptTotals(*(np.zeros(carving.words.shape, np.int64) for _ in range(3)))
    for h, offset, size, fit, r, c, words in masks_by_block(carving, u):
        sums, number, energy = (np.empty(r.size, np.int64) for _ in range(3))
        add_up = partial(
            kernels.kept_sums, key, recipe.layer, recipe.source, carving.columns, recipe.width, offset, size,
            fit.position, fit.factor, r, c, words, sums, number, energy,
        )  # fmt: skip
        run_rows(add_up, r.size, 256)
        for whole, piece in zip(result, (sums, number, energy)):
            whole[r, c, h] = piece
    return result


def effective(carving: Carving, seed: int, u: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The target matrix that the masks stand for, or a matrix off by one where a sum is not on its grid."""
    sums = kept_totals(carving, seed, u).sums
    values, rest = np.divmod(sums[..., 0], carving.recipe.factor)
    if len(carving.recipe.halves) == 2:
        rest = rest | (sums[..., 1] + sums[..., 0])
    return values + (rest != 0) * (2 * carving.recipe.law.reach + 1)


class Pruned(NamedTuple):
    """The pruned source: u (columns, width) and V (rows, columns·width), zeros where pruned, with their masks."""

    u: NDArray[np.int64]
    v: NDArray[np.int64]
    u_mask: NDArray[np.bool_]
    v_mask: NDArray[np.bool_]


def prune(carving: Carving, seed: int) -> Pruned:
    """Materialise the pruned matrices of one layer (dense: for networks that fit in memory)."""
    instance(carving, "carving", Carving, "a Carving, as carve returns it")
    recipe, key = carving.recipe, source.check_seed(seed)
    u = units(recipe, seed, carving.columns)
    shape = (carving.rows, carving.columns * recipe.width)
    v, v_mask = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for _, offset, size, fit, r, c, words in masks_by_block(carving, u):
        kernels.spread_masks(
            key, recipe.layer, recipe.source, carving.columns, recipe.width, offset, size, fit.position, r, c,
            words, v_mask, v, 0, r.size,
        )  # fmt: skip
    u_mask = np.asarray(v_mask.any(axis=0)).reshape(u.shape)
    return Pruned(u * u_mask, v, u_mask, v_mask)


def with_layer(recipe: Recipe, layer: int) -> Recipe:
    """The same recipe for another layer of the source."""
    return replace(recipe, layer=layer)
