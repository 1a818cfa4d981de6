"""The law of given numbers: exact figures for a weight tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments

from .laws import Law, check_draws, check_interval, check_order, half_line, line, probabilities

LEAST, MOST = 1e-75, 1e75  # the largest magnitude lies between them, so that fourth powers are floats


def _sides(values: np.ndarray) -> tuple:
    """Of the positive and of the negative numbers: ascending magnitudes, and suffix sums of their powers 0, 1, 2."""
    sides = []
    for magnitudes in (np.sort(values[values > 0]), np.sort(-values[values < 0])):
        sums = [np.concatenate(([0.0], np.cumsum(magnitudes[::-1] ** k)))[::-1] for k in (0, 1, 2)]
        sides.append((magnitudes, sums))
    return tuple(sides)


def _quantile(x: np.ndarray, p: np.ndarray):
    """The smallest number with at least the share p of all at or below it; p of any shape."""
    return np.quantile(x, p.reshape(-1), method="inverted_cdf").reshape(p.shape)[()]


@dataclass(frozen=True, eq=False)
class Empirical(Law):
    """The law that draws one of the given numbers at random: exact figures for a tensor.

    Parameters
    ----------
    x : array of finite numbers, any shape, not all zero, the largest magnitude in [1e-75, 1e75]; it is copied, and not
        assumed symmetric. Numbers equal to zero are an atom of their own: `inner`, `upper` and `lower` leave them out.

    Examples
    --------
    >>> law = Empirical([3.0, -1.0, 0.0, 2.0])
    >>> float(law.inner(1, 2.5)), float(law.upper(0, 2.5)), float(law.lower(2, 0.5)), law.at_zero
    (0.5, 0.25, 0.25, 0.25)
    """

    x: np.ndarray
    symmetric = False
    _sides: tuple = field(init=False, repr=False)

    def __post_init__(self):
        given = arguments.numbers(self.x, "x", finite=False)
        values = given.astype(np.float64).ravel()
        if values.size == 0 or not np.all(np.isfinite(values)) or not np.any(values):
            raise ValueError(f"x has shape {given.shape}: it must hold finite numbers, not all of them zero")
        largest = float(np.max(np.abs(values)))
        if not LEAST <= largest <= MOST:
            raise ValueError(
                f"x has a largest magnitude of {largest:g}: it must lie in [{LEAST:g}, {MOST:g}]; give x in another "
                "unit, no signal-to-noise ratio depends on it"
            )
        object.__setattr__(self, "x", values)
        object.__setattr__(self, "_sides", _sides(values))

    @property
    def support(self) -> float:
        return float(np.max(np.abs(self.x)))

    def density(self, x: ArrayLike) -> NDArray | float:
        raise TypeError("an Empirical law has atoms and no density: use cdf, upper, lower or inner")

    def _beyond(self, side, order, t):
        order, t = check_order(order, 2), half_line(t)
        magnitudes, sums = self._sides[side]
        return sums[order][np.searchsorted(magnitudes, t, side="right")] / self.x.size

    @cached_property
    def at_zero(self) -> float:
        return float(np.count_nonzero(self.x == 0) / self.x.size)

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        """Σ x^order over the numbers in (0, t], over their count: what `upper` leaves of the positive side."""
        order, t = check_order(order), half_line(t)
        magnitudes, _ = self._sides[0]
        sums = np.concatenate(([0.0], np.cumsum(magnitudes**order)))
        return sums[np.searchsorted(magnitudes, t, side="right")] / self.x.size

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        return self._beyond(0, order, t)

    def lower(self, order: int, t: ArrayLike) -> NDArray | float:
        return self._beyond(1, order, t)

    def cdf(self, x: ArrayLike) -> NDArray | float:
        return np.searchsorted(np.sort(self.x), line(x), side="right") / self.x.size

    def quantile(self, probability: ArrayLike) -> NDArray[np.float64]:
        return _quantile(self.x, probabilities(probability))

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray[np.float64]:
        return _quantile(np.abs(self.x), probabilities(probability))

    def truncated_moment(self, order: int, low: ArrayLike, high: ArrayLike) -> NDArray | float:
        """Σ x^order over the numbers in (low, high], over their count, vectorised."""
        order, low, high = check_interval(order, low, high)
        moments = np.empty(low.shape)
        for at in np.ndindex(low.shape):
            inside = self.x[(self.x > low[at]) & (self.x <= high[at])]
            moments[at] = np.sum(inside**order) / self.x.size
        return moments if moments.ndim else float(moments)

    def sample(self, size: int | tuple[int, ...], rng: np.random.Generator) -> NDArray:
        size = check_draws(size, rng)
        return rng.choice(self.x, size)

    @cached_property
    def second_moment(self) -> float:
        return float(np.mean(self.x**2))

    @cached_property
    def fourth_moment(self) -> float:
        return float(np.mean(self.x**4))

    @cached_property
    def kurtosis(self) -> float:
        """E (X − μ)⁴ / (E (X − μ)²)² about the mean μ of the numbers; nan when they are all equal."""
        centred = self.x - self.x.mean()
        centred = np.ldexp(centred, -math.frexp(self.support)[1])  # the unit cancels, and no power underflows
        spread = float(np.mean(centred**2))
        return float(np.mean(centred**4) / spread**2) if spread else math.nan


def survivors(law: Empirical, pruned: int, keep_negative: bool) -> Empirical:
    """The law of the numbers that are left when `pruned` of least magnitude are taken out; they keep their weight 1/n.

    Of several numbers at the threshold as many go as are asked for, those of one sign first: the positive ones, or the
    negative ones.
    """
    magnitudes = np.abs(law.x)
    threshold = np.partition(magnitudes, pruned - 1)[pruned - 1] if pruned else -1.0
    keep = magnitudes > threshold
    tied = np.flatnonzero(magnitudes == threshold)
    tied = tied[np.argsort((law.x[tied] < 0) != keep_negative, kind="stable")]
    keep[tied[: law.x.size - pruned - np.count_nonzero(keep)]] = True
    left = object.__new__(Empirical)
    object.__setattr__(left, "x", law.x)
    values = law.x[keep]
    object.__setattr__(left, "kept", values)  # what `snr` fits the scale to
    object.__setattr__(left, "_sides", _sides(values))
    object.__setattr__(left, "at_zero", float(np.count_nonzero(values == 0) / law.x.size))
    return left
