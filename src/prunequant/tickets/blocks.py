"""Tickets for residual and attention blocks, in integers from end to end.

Residual, depth 2ℓ: the skip goes round the pair and is added to sums that are K²/K_t times the target's, so it is
multiplied by that number. Residual, depth ℓ+1: there is nothing to go round; the skip must come through the
copies, that is, the layer's matrix becomes W + K_t·I, whose diagonal may reach 2K_t. Attention: the four
projections are linear tickets; queries and keys meet in integers, and the softmax of equal integers is equal. Its
weights are rounded to steps of 1/``levels`` so that the block stays in integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import flag, instance, integer, real
from prunequant.tickets import arithmetic as exact
from prunequant.tickets.carve import Recipe, carve, prune
from prunequant.tickets.structured import Pair, find_pair, recipe_for


def residual(weights: NDArray[np.int64], x: NDArray[np.int64], levels: int, divisor: int) -> NDArray[np.int64]:
    """The target's block: max(⌊(W x + K_t x)/g + ½⌋, 0) on rows x (N, d); 1 in the skip is K_t in units of the sum.

    weights : (d, d), x : (N, d) integers of any type; levels, divisor : ints in [1, 2^31]
    """
    weights, x, levels, divisor = _residual(weights, x, levels, divisor)
    sums = exact.matmul(x, weights.T) + exact.scale(x, levels)
    return exact.relu(exact.round_half_up(sums, divisor))


def _residual(weights, x, levels, divisor):
    weights, x = exact.integers(weights, "weights"), exact.integers(x, "x")
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or x.ndim != 2 or x.shape[1] != len(weights):
        raise ValueError(f"weights has shape {weights.shape} and x {x.shape}: (d, d) and (N, d) are needed")
    return weights, x, integer(levels, "levels", 1, 2**31), integer(divisor, "divisor", 1, 2**31)


def _nothing(d: int) -> NDArray[np.int64]:
    """In the place of the weights, where masks hold them."""
    return np.zeros((d, d), np.int64)


def residual_ticket(pair: Pair, x: NDArray[np.int64], levels: int, divisor: int) -> NDArray[np.int64]:
    """The same block with W replaced by a ticket of depth 2: the skip is scaled to the ticket's units."""
    instance(pair, "pair", Pair, "a Pair, as find_pair returns it")
    _, x, levels, divisor = _residual(_nothing(pair.carving.columns), x, levels, divisor)
    sums = pair.forward(x[:, :, None, None])[:, :, 0, 0] + exact.scale(x, levels * pair.factor)
    return exact.relu(exact.round_half_up(sums, divisor * pair.factor))


@dataclass(frozen=True, eq=False)
class ShallowResidual:
    """A residual layer over copied inputs: V (d, d·ρ) masked so that the copies' sums are W + K_t·I."""

    values: NDArray[np.int64]
    copies: int
    factor: int

    def forward(self, x: NDArray[np.int64], divisor: int) -> NDArray[np.int64]:
        """Rows x (N, d) ≥ 0 are handed over in ``copies`` equal copies each; no path goes round the layer."""
        _, x, _, divisor = _residual(_nothing(self.values.shape[1] // self.copies), x, 1, divisor)
        sums = exact.matmul(np.repeat(x, self.copies, axis=1), self.values.T)
        return exact.relu(exact.round_half_up(sums, divisor * self.factor))


def find_shallow_residual(
    weights: NDArray[np.int64], levels: int, seed: int, failure: float = 0.01, skip: bool = True
) -> ShallowResidual:
    """Carve W + K_t·I out of fresh weights on copies; ``skip=False`` leaves the identity out (the control).

    weights : (d, d) integers up to ``levels``; levels : int in [1, 2^15 − 1]; seed : int in [0, 2^64 − 1];
        failure : float in (0, 1)
    """
    levels = integer(levels, "levels", 1, 2**15 - 1)
    weights = exact.within(weights, "weights", levels, "(d, d)", 2)
    if weights.shape[0] != weights.shape[1]:
        raise ValueError(f"weights has shape {weights.shape}: (d, d) is needed, the skip adds the input to the output")
    goal = weights + levels * np.eye(len(weights), dtype=np.int64) * flag(skip, "skip")
    recipe: Recipe = recipe_for(goal, levels, levels, failure, kind="uniform", signed=False, reach=2 * levels)
    return ShallowResidual(prune(carve(goal, recipe, seed), seed).v, recipe.width, recipe.factor)


def _map(matrix: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
    return exact.matmul(x, matrix.T)


@dataclass(frozen=True, eq=False)
class Attention:
    """Integer multi-head self-attention: four (d, d) integer matrices on rows of tokens (N, d).

    Queries, keys and values are exact sums; scores are q·k; weights round(softmax(temperature·score)·levels); the
    mix of the values goes through the output matrix. All integers.

    heads : int ≥ 1 that divides d; temperature : float in [0, 1e9]; levels : int in [1, 2^31]
    """

    query: NDArray[np.int64]
    key: NDArray[np.int64]
    value: NDArray[np.int64]
    output: NDArray[np.int64]
    heads: int
    temperature: float
    levels: int = 255

    def __post_init__(self) -> None:
        matrices = {n: exact.integers(getattr(self, n), n) for n in ("query", "key", "value", "output")}
        shape = matrices["query"].shape
        for name, w in matrices.items():
            if w.ndim != 2 or not w.size or w.shape != (shape[0], shape[0]):
                raise ValueError(f"{name} has shape {w.shape}: four matrices (d, d) are needed")
        heads = integer(self.heads, "heads", 1, shape[0])
        if shape[0] % heads:
            raise ValueError(f"heads is {heads}: it must divide {shape[0]}")
        temperature = real(self.temperature, "temperature", 0, 1e9)
        levels = integer(self.levels, "levels", 1, 2**31)
        for name, value in {**matrices, "heads": heads, "temperature": temperature, "levels": levels}.items():
            object.__setattr__(self, name, value)

    @property
    def matrices(self) -> tuple[NDArray[np.int64], ...]:
        """Query, key, value, output."""
        return self.query, self.key, self.value, self.output

    def forward(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens (N, d) to tokens (N, d)."""
        x = exact.integers(x, "x")
        return self.mix(x, [partial(_map, w) for w in self.matrices])

    def mix(
        self, x: NDArray[np.int64], maps: Sequence[Callable[[NDArray[np.int64]], NDArray[np.int64]]]
    ) -> NDArray[np.int64]:
        """The block with its four maps given as functions on (N, d) integers, N from 1 on."""
        x, maps = exact.integers(x, "x"), exact.several(maps, "maps")
        if len(maps) != 4 or not all(map(callable, maps)):
            raise TypeError(f"maps has {len(maps)} entries: four functions are needed, query, key, value, output")
        if x.ndim != 2 or not len(x) or x.shape[1] != len(self.query):
            raise ValueError(f"x has shape {x.shape}: (N, {len(self.query)}) is needed, at least one token")
        q, k, v = (f(x) for f in maps[:3])
        d = q.shape[1] // self.heads
        mixed = []
        for h in range(self.heads):
            part = slice(h * d, (h + 1) * d)
            scores = exact.matmul(q[:, part], k[:, part].T)
            weights = np.exp(self.temperature * (scores - scores.max(axis=1, keepdims=True)).astype(np.float64))
            weights = np.rint(weights / weights.sum(axis=1, keepdims=True) * self.levels).astype(np.int64)
            mixed.append(exact.matmul(weights, v[:, part]))
        return maps[3](np.concatenate(mixed, axis=1))


@dataclass(frozen=True, eq=False)
class AttentionTicket:
    """Four linear tickets in place of the four matrices of an `Attention` block."""

    block: Attention
    pairs: tuple[Pair, ...]

    def forward(self, x: ArrayLike) -> NDArray[np.int64]:
        """Tokens (N, d) to tokens (N, d); every map divides its raw sums by its factor, which leaves no remainder."""
        return self.block.mix(exact.integers(x, "x"), [partial(_exact_map, pair) for pair in self.pairs])


def _exact_map(pair: Pair, x: NDArray[np.int64]) -> NDArray[np.int64]:
    values, rest = exact.divide(pair.forward(x[:, :, None, None])[:, :, 0, 0], pair.factor)
    if rest.any():
        raise AssertionError("a linear ticket's sum is not a multiple of its factor")
    return values


def find_attention(block: Attention, levels: int, seed: int, failure: float = 0.01) -> AttentionTicket:
    """Linear tickets for query, key, value and output: one subset sum a weight, no split by sign."""
    instance(block, "block", Attention, "an Attention block")
    levels = integer(levels, "levels", 1, 2**15 - 1)
    for name, w in zip(("query", "key", "value", "output"), block.matrices):
        if exact.largest(w) > levels:
            raise ValueError(f"{name} of the block reaches {exact.largest(w)}, off the grid: |w| ≤ levels = {levels}")
    share = real(failure, "failure", 0, 1, open_low=True, open_high=True) / 4
    pairs = [find_pair(w, levels, failure=share, seed=seed, layer=l, linear=True) for l, w in enumerate(block.matrices)]
    return AttentionTicket(block, tuple(pairs))
