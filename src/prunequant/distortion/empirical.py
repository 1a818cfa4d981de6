"""The law of given numbers: exact figures for a weight tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .laws import Law


@dataclass(frozen=True, eq=False)
class Empirical(Law):
    """The law that draws one of the given numbers at random: exact figures for a tensor.

    Parameters
    ----------
    x : array of finite numbers, any shape, not all zero; it is not assumed symmetric.
    """

    x: np.ndarray
    symmetric = False
    _sides: tuple = field(init=False, repr=False)

    def __post_init__(self):
        values = np.asarray(self.x, float).ravel()
        if values.size == 0 or not np.all(np.isfinite(values)) or not np.any(values):
            raise ValueError(f"x has shape {np.shape(self.x)}: it must hold finite numbers, not all of them zero")
        object.__setattr__(self, "x", values)
        sides = []
        for magnitudes in (np.sort(values[values > 0]), np.sort(-values[values < 0])):
            sums = [np.concatenate(([0.0], np.cumsum(magnitudes[::-1] ** k)))[::-1] for k in (0, 1, 2)]
            sides.append((magnitudes, sums))
        object.__setattr__(self, "_sides", tuple(sides))

    @property
    def support(self):
        return float(np.max(np.abs(self.x)))

    def density(self, x):
        raise TypeError("an Empirical law has atoms and no density: use cdf, upper, lower or inner")

    def _beyond(self, side, order, t):
        magnitudes, sums = self._sides[side]
        return sums[order][np.searchsorted(magnitudes, t, side="right")] / self.x.size

    def upper(self, order, t):
        return self._beyond(0, order, t)

    def lower(self, order, t):
        return self._beyond(1, order, t)

    def cdf(self, x):
        x = np.asarray(x, float)
        return np.searchsorted(np.sort(self.x), x, side="right") / self.x.size

    def quantile(self, probability):
        return np.quantile(self.x, probability, method="inverted_cdf")

    def magnitude_quantile(self, probability):
        return np.quantile(np.abs(self.x), probability, method="inverted_cdf")

    def truncated_moment(self, order, low, high):
        inside = self.x[(self.x > low) & (self.x <= high)]
        return float(np.sum(inside**order) / self.x.size)

    def sample(self, size, rng):
        return rng.choice(self.x, size)

    @cached_property
    def second_moment(self):
        return float(np.mean(self.x**2))

    @property
    def kurtosis(self):
        centred = self.x - self.x.mean()
        return float(np.mean(centred**4) / np.mean(centred**2) ** 2)
