"""Quantization grids as chains of thresholds, the one form in which every exact error is computed.

A grid is a set of levels l_j times a scale s. Rounding to the nearest level is a walk from zero outwards: on each side
the value jumps by l_j − l_{j−1} when |x| passes s (l_{j−1} + l_j)/2. A grid without zero (mid-rise) makes its first
jump at |x| = 0. With this, for any law,

    E[X Q] = Σ_j (l_j − l_{j−1}) ∫_{s t_j}^∞ x p(x) dx,     E[Q²] = Σ_j (l_j² − l_{j−1}²) P(X > s t_j)

and E (X − sQ)² = E X² − 2 s E[X Q] + s² E[Q²], where rounding and clipping are both inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prunequant import arguments

MAX_LEVELS = 1 << 16
GRIDS = ("twos_complement", "narrow", "mid_rise")


@dataclass(frozen=True, eq=False)
class Chain:
    """One side of a grid: thresholds t_j, jumps of the level, jumps of its square, and the outermost level."""

    thresholds: np.ndarray
    jumps: np.ndarray
    square_jumps: np.ndarray
    top: float


@dataclass(frozen=True, eq=False)
class Grid:
    """The two sides of a grid, and whether zero is a level."""

    positive: Chain
    negative: Chain
    has_zero: bool

    @property
    def top(self) -> float:
        return max(self.positive.top, self.negative.top)

    @property
    def levels(self) -> np.ndarray:
        """All levels, ascending."""
        up, down = np.cumsum(self.positive.jumps), -np.cumsum(self.negative.jumps)[::-1]
        return np.concatenate((down, [0.0] if self.has_zero else [], up))


def check_bits(bits: object, largest: int = 16) -> int:
    return arguments.integer(bits, "bits", 2, largest)


def integer_range(bits: int, grid: str = "twos_complement") -> tuple[int, int]:
    """Lowest and highest integer level of a `bits`-bit grid ("twos_complement" or "narrow").

    >>> integer_range(4), integer_range(4, "narrow")
    ((-8, 7), (-7, 7))
    """
    half = 1 << (check_bits(bits) - 1)
    grid = arguments.choice(grid, "grid", ("twos_complement", "narrow"))
    return (-half if grid == "twos_complement" else 1 - half), half - 1


def _chain(magnitudes: np.ndarray, has_zero: bool) -> Chain:
    before = np.concatenate(([0.0], magnitudes[:-1]))
    thresholds = 0.5 * (before + magnitudes)
    if not has_zero and thresholds.size:
        thresholds[0] = 0.0
    top = float(magnitudes[-1]) if magnitudes.size else 0.0
    return Chain(thresholds, magnitudes - before, magnitudes**2 - before**2, top)


def make_grid(bits: int | None = None, grid: str | ArrayLike = "twos_complement") -> Grid:
    """The grid named ("twos_complement" −2^(b−1)…2^(b−1)−1, "narrow" ±(2^(b−1)−1), "mid_rise" ±½, ±3/2…±(2^b−1)/2),
    or the one whose levels are given as an array (a code book; `bits` is then not used): 2 to 65,536 finite levels, the
    largest magnitude in [1e-6, 1e6], with a level 0 or symmetric next to 0.

    Examples
    --------
    >>> make_grid(2).levels, make_grid(2, "mid_rise").levels
    (array([-2., -1.,  0.,  1.]), array([-1.5, -0.5,  0.5,  1.5]))
    """
    if isinstance(grid, str):
        if grid == "mid_rise":
            magnitudes = np.arange(1 << (check_bits(bits) - 1)) + 0.5
            return Grid(_chain(magnitudes, False), _chain(magnitudes, False), False)
        if grid not in GRIDS:
            raise ValueError(f"grid is {grid!r}: it must be one of {GRIDS} or an array of levels")
        low, high = integer_range(check_bits(bits), grid)
        return Grid(_chain(np.arange(1.0, high + 1), True), _chain(np.arange(1.0, 1 - low), True), True)
    if grid is None or isinstance(grid, bytes | bool):
        raise TypeError(f"grid is {arguments.shown(grid)}: it must be one of {GRIDS} or an array of levels")
    given = arguments.numbers(grid, "grid")
    levels = np.unique(given.astype(np.float64))  # also merges −0 and +0
    if given.ndim != 1 or not 2 <= levels.size <= MAX_LEVELS:
        raise ValueError(f"grid has shape {given.shape}: a code book is a 1-D array of 2 to {MAX_LEVELS} finite levels")
    if not 1e-6 <= np.max(np.abs(levels)) <= 1e6:
        raise ValueError(
            f"grid reaches to {np.max(np.abs(levels)):g}: it must reach to 1e-6 … 1e6; the scale takes up the unit"
        )
    up, down = levels[levels > 0], -levels[levels < 0][::-1]
    has_zero = bool(np.any(levels == 0))
    if not has_zero and not (up.size and down.size and up[0] == down[0]):
        raise ValueError("grid has no level 0 and is not symmetric next to 0: add 0 or ± the smallest level")
    return Grid(_chain(up, has_zero), _chain(down, has_zero), has_zero)
