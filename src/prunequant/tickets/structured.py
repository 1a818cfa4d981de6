"""Tickets for layers with structure: convolutions, depthwise convolutions, maps without a ReLU.

A convolution with kernel (O, I, k, k) is carved like a matrix: U is a 1×1 convolution, pruned to m hidden
channels for each input channel; V is a k×k convolution, and every kernel weight is one subset sum, however many
places it is used in. Depthwise: each channel's hidden channels feed that channel only. A map without ReLU
(attention projections) needs no split by the sign of the input: one subset sum over units of both signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import flag, integer, real
from prunequant.threads import run_rows
from prunequant.tickets import _kernels as kernels
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import certificate, source
from prunequant.tickets.carve import Carving, Recipe, carve, effective, kept_totals, masks_by_block, units

BAND = 2**24  # entries of the windows of a convolution that are multiplied at once
MAX_PADDED = 2**27  # values, 1 GiB


def matrix(kernel: NDArray[np.int64], depthwise: bool = False) -> NDArray[np.int64]:
    """The matrix to carve for a kernel: (O, I, k, k) → (O·k·k, I); depthwise (C, 1, k, k) → (k·k, C)."""
    kernel = exact.integers(kernel, "kernel")
    if kernel.ndim != 4 or not kernel.size:
        raise ValueError(f"kernel has shape {kernel.shape}: (O, I, k, k) is needed, no side of it 0")
    if flag(depthwise, "depthwise"):
        return np.ascontiguousarray(kernel.reshape(kernel.shape[0], -1).T)
    return np.ascontiguousarray(kernel.transpose(0, 2, 3, 1).reshape(-1, kernel.shape[1]))


def convolve(
    x: NDArray[np.int64], kernel: NDArray[np.int64], stride: int = 1, padding: int | tuple = 0, depthwise: bool = False
) -> NDArray[np.int64]:
    """Cross-correlation in exact integers: x (N, I, H, W), kernel (O, I, k, k) or depthwise (C, 1, k, k).

    ``stride`` is an integer in [1, 2^16], ``padding`` one in [0, 2^8] for all sides, or ((top, bottom), (left,
    right)). Arrays are of integers of any type. Exact: depthwise sums that may pass 2⁶³ are a ValueError, others
    become Python integers.

    Examples
    --------
    >>> convolve(np.arange(9).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2), np.int64)).tolist()
    [[[[8, 12], [20, 24]]]]
    """
    x, kernel = pad(x, padding), exact.integers(kernel, "kernel")
    stride, depthwise = integer(stride, "stride", 1, 2**16), flag(depthwise, "depthwise")
    if kernel.ndim != 4 or not kernel.size or kernel.shape[2] != kernel.shape[3]:
        raise ValueError(f"kernel has shape {kernel.shape}: (O, I, k, k) is needed, (C, 1, k, k) when depthwise")
    size, inputs = kernel.shape[-1], kernel.shape[0] if depthwise else kernel.shape[1]
    if x.shape[1] != inputs or min(x.shape[2:]) < size or (depthwise and kernel.shape[1] != 1):
        raise ValueError(
            f"x is padded to {x.shape} and kernel has shape {kernel.shape}: they do not fit, depthwise={depthwise}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    n, channels, height, width = windows.shape[:4]
    if depthwise:
        if exact.largest(x) * int(np.abs(kernel.astype(object)).sum(axis=(1, 2, 3)).max()) >= 2**63:
            raise ValueError(f"x reaches {exact.largest(x)}: a sum of this convolution may pass 2^63")
        windows, kernel = windows.astype(np.int64, copy=False), kernel.astype(np.int64, copy=False)
        out = np.zeros((n, channels, height, width), np.int64)
        for dy in range(size):
            for dx in range(size):
                out += windows[..., dy, dx] * kernel[None, :, 0, dy, dx, None, None]
        return out
    windows, columns = windows.transpose(0, 2, 3, 1, 4, 5), kernel.reshape(kernel.shape[0], -1).T
    if windows.size <= BAND:
        out = exact.matmul(windows.reshape(n * height * width, channels * size * size), columns)
    else:  # in bands of rows, so that the windows are never all in memory
        rows = max(1, BAND // (width * channels * size * size))
        bands = [image[top : top + rows] for image in windows for top in range(0, height, rows)]
        out = np.concatenate([exact.matmul(b.reshape(-1, channels * size * size), columns) for b in bands])
    return np.ascontiguousarray(out.reshape(n, height, width, kernel.shape[0]).transpose(0, 3, 1, 2))


def pad(x: NDArray, padding: int | Sequence[Sequence[int]]) -> NDArray:
    """Zeros around the last two axes of integers x (N, C, H, W).

    ``padding`` is in [0, 2^8] on all sides, or ((top, bottom), (left, right)).
    """
    x = exact.integers(x, "x")
    if x.ndim != 4:
        raise ValueError(f"x has shape {x.shape}: (N, C, H, W) is needed")
    given = exact.several(padding, "padding") if exact.is_several(padding) else ((padding, padding), (padding, padding))
    sides = tuple(tuple(integer(p, "padding", 0, 2**8) for p in exact.several(side, "padding")) for side in given)
    if tuple(map(len, sides)) != (2, 2):
        raise ValueError(f"padding is {padding}: one number, or ((top, bottom), (left, right)), is needed")
    if x.shape[0] * x.shape[1] * (x.shape[2] + sum(sides[0])) * (x.shape[3] + sum(sides[1])) > MAX_PADDED:
        raise ValueError(f"padding is {padding} on x of shape {x.shape}: at most {MAX_PADDED} values are made")
    return np.pad(x, ((0, 0), (0, 0), *sides))


@dataclass(frozen=True, eq=False)
class Pair:
    """The ticket of one structured layer: masks over a random pair (U, V).

    ``forward`` runs hidden channels, ReLU (unless ``linear``) and masked V, and returns ``factor`` times the
    target's sums.
    """

    carving: Carving
    seed: int
    shape: tuple[int, int, int, int]
    depthwise: bool = False

    @property
    def linear(self) -> bool:
        """Whether the hidden channels pass without a ReLU."""
        return self.carving.recipe.kind == "linear"

    @property
    def factor(self) -> int:
        """Output units in one unit of the target's sum: K²/K_t."""
        return self.carving.recipe.factor

    @property
    def parameters(self) -> int:
        """Weights of the unpruned pair: U is dense between channels, V as dense as the target."""
        width, columns = self.carving.recipe.width, self.carving.columns
        first = width * columns * (1 if self.depthwise else columns)
        return first + self.carving.rows * columns * width

    @property
    def kept(self) -> int:
        """Kept entries of V."""
        return int(kept_totals(self.carving, self.seed).number.sum())

    def kernel(self) -> NDArray[np.int64]:
        """The target's kernel, read off the masks."""
        w = effective(self.carving, self.seed)
        o, i, k, _ = self.shape
        if self.depthwise:
            return np.ascontiguousarray(w.T.reshape(self.shape))
        return np.ascontiguousarray(w.reshape(o, k, k, i).transpose(0, 3, 1, 2))

    def forward(self, x: ArrayLike, stride: int = 1, padding: int | tuple = 0) -> NDArray[np.int64]:
        """Raw sums (N, O, H', W') of the pruned pair on integer inputs (N, I, H, W)."""
        x = exact.integers(x, "x")
        if x.ndim != 4 or x.shape[1] != self.carving.columns:
            raise ValueError(f"x has shape {x.shape}: (N, {self.carving.columns}, H, W) is needed")
        recipe = self.carving.recipe
        if recipe.halves == (1,) and x.size and x.min() < 0:
            raise ValueError("x has negative entries, but the pair was carved for non-negative inputs")
        taps = self.shape[2] ** 2
        terms = recipe.width * taps * (1 if self.depthwise else self.carving.columns)
        if exact.largest(x) * recipe.source**2 * terms >= 2**63:
            raise ValueError(f"x reaches {exact.largest(x)}: a sum may pass 2^63")
        x = pad(x.astype(np.int64), padding)
        size, stride = self.shape[2], integer(stride, "stride", 1, 2**16)
        if min(x.shape[2:]) < size:
            raise ValueError(f"x is padded to {x.shape[2:]}: at least {size} by {size} is needed")
        height, width = ((s - size) // stride + 1 for s in x.shape[2:])
        out = np.zeros((x.shape[0], self.shape[0], height, width), np.int64)
        for jobs in _jobs(self):
            for image, result in zip(x, out):
                arguments = (*jobs[:6], stride, *jobs[6:], np.ascontiguousarray(image), result)
                run_rows(partial(kernels.convolve_kept, *arguments), self.shape[0], 4)
        return out


def _jobs(pair: Pair):
    """Arguments of the kernel, one set for each half and sub-block, sorted by output channel (without the stride)."""
    carving, recipe = pair.carving, pair.carving.recipe
    u = units(recipe, pair.seed, carving.columns)
    size = pair.shape[2]
    for _, offset, width, fit, rows, cols, words in masks_by_block(carving, u):
        channel = cols if pair.depthwise else rows // size**2
        order = np.argsort(channel, kind="stable")
        starts = np.searchsorted(channel[order], np.arange(pair.shape[0] + 1)).astype(np.int64)
        yield (
            source.check_seed(pair.seed), recipe.layer, recipe.source, carving.columns, recipe.width, size,
            pair.depthwise, not pair.linear, offset, width, fit.position, fit.weight, rows[order], cols[order],
            words[order], starts,
        )  # fmt: skip


def recipe_for(
    weights: NDArray[np.int64],
    target: int,
    source_levels: int,
    failure: float,
    *,
    layer: int = 0,
    kind: str = "relu",
    signed: bool = True,
    reach: int | None = None,
) -> Recipe:
    """The smallest recipe whose certified failure over these very weights is at most ``failure``, in (0, 1)."""
    failure = real(failure, "failure", 0, 1, open_low=True, open_high=True)
    signed = flag(signed, "signed")
    source_levels = integer(source_levels, "source_levels", 1, source.MAX_HALF_RANGE)
    of = certificate.law(kind, source_levels, target, reach)
    if of.reach > certificate.MAX_LIVE_REACH:
        raise ValueError(f"reach is {of.reach}: at most 2^18, up to which failures are measured")
    weights = exact.integers(weights, "weights")
    if exact.largest(weights) > of.reach:
        raise ValueError(f"weights reach {exact.largest(weights)}, off the grid: |w| ≤ {of.reach} is allowed")
    weights = weights.astype(np.int64)
    halves = 2 if kind == "relu" and signed else 1
    counts = np.bincount(np.abs(weights).ravel(), minlength=of.reach + 1) * halves
    blocks = certificate.choose_blocks(of, log(failure), counts)
    return Recipe(layer, kind, source_levels, target, blocks, signed, reach)


def find_pair(
    kernel: ArrayLike,
    target: int,
    source_levels: int | None = None,
    failure: float = 0.01,
    seed: int = 0,
    *,
    layer: int = 0,
    signed: bool = True,
    depthwise: bool = False,
    linear: bool = False,
) -> Pair:
    """Find a convolution (a matrix is one with k = 1) inside a random pair.

    Parameters
    ----------
    kernel : (O, I, k, k) or (O, I) integers in −target..target; (C, 1, k, k) when depthwise
    target, source_levels : K_t = 1/δ_t, an int ≥ 1 that divides K², and K = 1/δ_in (default K_t), an int in [1, 8191]
    failure : certified failure probability of this layer, a float in (0, 1)
    seed, layer : name the source, ints in [0, 2^64 − 1] and [0, 2^32 − 1]
    signed : inputs may be negative (two subset sums a weight)
    linear : no ReLU between U and V; one subset sum a weight, whatever the sign of the input

    Raises
    ------
    TicketNotFound : no ticket with this seed
    TypeError, ValueError : off-grid weights, indivisible steps, wrong shape, anything that is not as above

    Examples
    --------
    >>> pair = find_pair([[2, -3]], 4, failure=1e-6, linear=True)
    >>> pair.kernel().ravel().tolist()
    [2, -3]
    """
    kernel, seed = exact.integers(kernel, "kernel"), int(source.check_seed(seed))
    target = integer(target, "target", 1, source.MAX_HALF_RANGE**2)
    source_levels = target if source_levels is None else source_levels
    levels = integer(source_levels, "source_levels", 1, source.MAX_HALF_RANGE)
    depthwise, linear = flag(depthwise, "depthwise"), flag(linear, "linear")
    if kernel.ndim == 2:
        kernel = kernel[:, :, None, None]
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] or (depthwise and kernel.shape[1] != 1):
        raise ValueError(f"kernel has shape {kernel.shape}: (O, I, k, k) is needed, (C, 1, k, k) when depthwise")
    if exact.largest(kernel) > target:
        raise ValueError(f"kernel reaches {exact.largest(kernel)}, off the grid: |w| ≤ target = {target} is allowed")
    w = matrix(kernel, depthwise)
    recipe = recipe_for(w, target, levels, failure, layer=layer, kind="linear" if linear else "relu", signed=signed)
    return Pair(carve(w, recipe, seed), seed, kernel.shape, depthwise)
