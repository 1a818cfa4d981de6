"""Laws of weights: density, distribution and truncated moments, in closed form where one exists.

Every law here is centred; all but `Empirical` are symmetric about zero. Two half-line integrals carry everything
that the exact signal-to-noise ratios need:

* ``inner(k, t)`` = ∫_0^t x^k p(x) dx, the part near zero (what pruning destroys, for k = 2);
* ``upper(k, t)`` = ∫_t^∞ x^k p(x) dx, the part beyond t (what a rounding threshold separates, for k = 0, 1);

and ``lower(k, t)`` = ∫_{-∞}^{-t} |x|^k p(x) dx, which equals ``upper`` for a symmetric law. Each is computed from
the form that does not cancel on its side. ``inner_by_quadrature`` does the same by Gauss-Legendre panels: it is
the fallback where no closed form exists and the oracle of the tests where one does.

Signal-to-noise ratios do not depend on the scale of a law, so each law has one fixed scale (given in its docstring).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_NODES = 0.5 * (_NODES + 1.0)
_WEIGHTS = 0.5 * _WEIGHTS
_PANELS = 32


def panels(function, low, high, count: int = _PANELS) -> np.ndarray:
    """∫ function over [low, high] by 24-point Gauss-Legendre on `count` equal panels; low and high broadcast."""
    low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    edges = np.arange(count)[:, None] + _NODES  # (count, 24) in panel units
    x = low[..., None, None] + (high - low)[..., None, None] * edges / count
    return (high - low) / count * np.sum(function(x) * _WEIGHTS, axis=(-2, -1))


class Law:
    """A symmetric law with mean zero. Sub-classes give `density`, `inner`, `upper`, `magnitude_quantile`."""

    symmetric = True
    support = math.inf  # largest |x|

    def density(self, x):
        """p(x), vectorised."""
        raise NotImplementedError

    def inner(self, order: int, t):
        """∫_0^t x^order p(x) dx for t ≥ 0, vectorised."""
        return self.inner_by_quadrature(order, t)

    def upper(self, order: int, t):
        """∫_t^∞ x^order p(x) dx for t ≥ 0, vectorised."""
        raise NotImplementedError

    def lower(self, order: int, t):
        """∫_{-∞}^{-t} |x|^order p(x) dx for t ≥ 0, vectorised."""
        return self.upper(order, t)

    def magnitude_quantile(self, probability):
        """The τ with P(|X| ≤ τ) = probability, vectorised."""
        raise NotImplementedError

    def inner_by_quadrature(self, order: int, t):
        """`inner` by Gauss-Legendre panels on [0, t]: slower, independent of the closed forms."""
        t = np.minimum(np.asarray(t, float), self.support)
        return panels(lambda x: x**order * self.density(x), np.zeros_like(t), t)

    def cdf(self, x):
        """P(X ≤ x), vectorised."""
        x = np.asarray(x, float)
        tail = self.upper(0, np.abs(x))
        return np.where(x < 0, tail, 1.0 - tail)

    def quantile(self, probability):
        """The x with P(X ≤ x) = probability, vectorised."""
        p = np.asarray(probability, float)
        return np.sign(p - 0.5) * self.magnitude_quantile(np.abs(2.0 * p - 1.0))

    def truncated_moment(self, order: int, low, high):
        """∫_low^high x^order p(x) dx for order 0, 1, 2, vectorised; low ≤ high, infinities allowed."""
        low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
        sign = (-1.0) ** order
        if order == 2:
            signed = [np.sign(t) * self.inner(2, np.abs(t)) for t in (low, high)]
            return signed[1] - signed[0]
        near, far = np.minimum(abs(low), abs(high)), np.maximum(abs(low), abs(high))
        one_side = self.upper(order, near) - self.upper(order, far)
        straddles = (low < 0) & (high > 0)
        across = self.inner(order, np.abs(high)) + sign * self.inner(order, np.abs(low))
        return np.where(straddles, across, np.where(high <= 0, sign, 1.0) * one_side)

    def sample(self, size, rng: np.random.Generator):
        """Independent draws by inversion."""
        return self.quantile(rng.random(size))

    @cached_property
    def second_moment(self) -> float:
        """E X² (infinite where it does not exist)."""
        return 2.0 * float(self.inner(2, self.support))

    @cached_property
    def fourth_moment(self) -> float:
        """E X⁴ (infinite where it does not exist)."""
        return 2.0 * float(self.inner(4, self.support))

    @property
    def kurtosis(self) -> float:
        """E X⁴ / (E X²)², 3 for a Gaussian (not the excess)."""
        return self.fourth_moment / self.second_moment**2


@dataclass(frozen=True)
class GeneralizedNormal(Law):
    """p(x) ∝ exp(−|x|^beta): Laplace at beta = 1, Gaussian at 2, uniform as beta → ∞.

    Parameters
    ----------
    beta : float > 0

    Examples
    --------
    >>> round(GeneralizedNormal(1.0).kurtosis, 6), round(GeneralizedNormal(2.0).kurtosis, 6)
    (6.0, 3.0)
    """

    beta: float

    def __post_init__(self):
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is {self.beta}: it must be a positive finite number")

    def density(self, x):
        return self.beta / (2 * special.gamma(1 / self.beta)) * np.exp(-(np.abs(x) ** self.beta))

    def _full(self, order):
        return 0.5 * math.exp(math.lgamma((order + 1) / self.beta) - math.lgamma(1 / self.beta))

    def inner(self, order, t):
        return self._full(order) * special.gammainc((order + 1) / self.beta, np.asarray(t, float) ** self.beta)

    def upper(self, order, t):
        return self._full(order) * special.gammaincc((order + 1) / self.beta, np.asarray(t, float) ** self.beta)

    def magnitude_quantile(self, probability):
        return special.gammaincinv(1 / self.beta, probability) ** (1 / self.beta)


@dataclass(frozen=True)
class Gaussian(Law):
    """The normal law of mean 0 and variance 1."""

    def density(self, x):
        return np.exp(-0.5 * np.square(x)) / math.sqrt(2 * math.pi)

    def inner(self, order, t):
        half = (order + 1) / 2
        full = 2.0 ** (order / 2) * math.gamma(half) / (2 * math.sqrt(math.pi))
        return full * special.gammainc(half, 0.5 * np.square(np.asarray(t, float)))

    def upper(self, order, t):
        t = np.asarray(t, float)
        if order == 0:
            return special.ndtr(-t)
        if order == 1:
            return self.density(t)
        half = (order + 1) / 2
        full = 2.0 ** (order / 2) * math.gamma(half) / (2 * math.sqrt(math.pi))
        return full * special.gammaincc(half, 0.5 * t * t)

    def magnitude_quantile(self, probability):
        return math.sqrt(2) * special.erfinv(probability)


@dataclass(frozen=True)
class Laplace(Law):
    """p(x) = exp(−|x|)/2, variance 2."""

    def density(self, x):
        return 0.5 * np.exp(-np.abs(x))

    def inner(self, order, t):
        return 0.5 * math.factorial(order) * special.gammainc(order + 1, t)

    def upper(self, order, t):
        t = np.asarray(t, float)
        if order == 0:
            return 0.5 * np.exp(-t)
        if order == 1:
            return 0.5 * (1 + np.minimum(t, 1e3)) * np.exp(-t)
        return 0.5 * math.factorial(order) * special.gammaincc(order + 1, t)

    def magnitude_quantile(self, probability):
        return -np.log1p(-np.asarray(probability, float))


@dataclass(frozen=True)
class Uniform(Law):
    """The uniform law on [−1, 1], variance 1/3."""

    support = 1.0

    def density(self, x):
        return np.where(np.abs(x) <= 1, 0.5, 0.0)

    def inner(self, order, t):
        return np.minimum(t, 1.0) ** (order + 1) / (2 * (order + 1))

    def upper(self, order, t):
        return (1.0 - np.minimum(t, 1.0) ** (order + 1)) / (2 * (order + 1))

    def magnitude_quantile(self, probability):
        return np.asarray(probability, float) + 0.0


@dataclass(frozen=True)
class Logistic(Law):
    """p(x) = sech²(x/2)/4, variance π²/3."""

    def density(self, x):
        return 0.25 / np.cosh(0.5 * np.minimum(np.abs(x), 700.0)) ** 2

    def inner(self, order, t):
        t = np.asarray(t, float)
        if order == 0:
            return 0.5 * np.tanh(0.5 * t)
        if order > 2:
            full = special.gamma(order + 1) * (1 - 2.0 ** (1 - order)) * special.zeta(order)
            return np.where(np.isinf(t), full, self.inner_by_quadrature(order, np.minimum(t, 80.0)))
        full = math.log(2.0) if order == 1 else math.pi**2 / 6
        near = self.inner_by_quadrature(order, np.minimum(t, 1.0))  # the closed form cancels near zero
        return np.where(t < 1.0, near, full - self.upper(order, t))

    def upper(self, order, t):
        t = np.asarray(t, float)
        if order == 0:
            return special.expit(-t)
        t = np.minimum(t, 1e300)
        decay = np.log1p(np.exp(-t))
        first = t * special.expit(-t) + decay
        if order == 1:
            return first
        if order == 2:  # by parts twice: t² S + 2 t log(1 + e^-t) − 2 Li2(−e^-t)
            tail = special.expit(-t)
            square = np.where(tail > 0, np.minimum(t, 1e3) ** 2 * tail, 0.0)
            return square + 2 * np.minimum(t, 1e3) * decay - 2 * special.spence(1.0 + np.exp(-t))
        raise ValueError(f"order is {order}: the upper moments of the logistic law are given for 0, 1, 2")

    def magnitude_quantile(self, probability):
        return 2.0 * np.arctanh(probability)
