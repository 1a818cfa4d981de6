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
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class StudentT(Law):
    """Student's t with `nu` degrees of freedom, conditioned on |x| ≤ `clip` if one is given.

    Parameters
    ----------
    nu : float > 0
    clip : float > 0 or None
        The law of X given |X| ≤ clip. Without it the variance is infinite for nu ≤ 2 and the fourth moment for nu ≤ 4.

    Notes
    -----
    With x = √nu sinh v, ∫ x^k f ∝ ∫ sinh^k v cosh^(−nu) v dv: smooth for every nu, where the textbook primitive is
    singular at nu = 1 and 2. Closed forms: `upper` for k = 0, 1 always; `inner` for k < nu by the incomplete
    beta function. Elsewhere (k = 2 and nu ≤ 2, which needs a clip) Gauss-Legendre in v.

    Examples
    --------
    >>> round(StudentT(5.0).kurtosis, 6), round(StudentT(2.0, clip=100.0).kurtosis, 1)
    (9.0, 159.7)
    """

    nu: float
    clip: float | None = None

    def __post_init__(self):
        if not (self.nu > 0 and math.isfinite(self.nu)):
            raise ValueError(f"nu is {self.nu}: it must be a positive finite number")
        if self.clip is not None and not (self.clip > 0 and math.isfinite(self.clip)):
            raise ValueError(f"clip is {self.clip}: it must be a positive finite number, or None")

    @property
    def support(self):
        return math.inf if self.clip is None else float(self.clip)

    @cached_property
    def _peak(self):
        nu = self.nu
        return math.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(nu * math.pi)

    @cached_property
    def _mass(self):
        """P(|X| ≤ clip) of the unconditioned law."""
        return 1.0 if self.clip is None else 1.0 - 2.0 * float(special.stdtr(self.nu, -self.clip))

    def density(self, x):
        x = np.asarray(x, float)
        inside = np.abs(x) <= self.support
        return np.where(inside, self._peak / self._mass * (1 + x * x / self.nu) ** (-(self.nu + 1) / 2), 0.0)

    def inner(self, order, t):
        nu = self.nu
        t = np.minimum(np.asarray(t, float), self.support)
        if self.clip is None and order >= nu:  # an infinite moment: finite at every finite t
            return np.where(np.isinf(t), np.inf, self._inner_raw(order, np.where(np.isinf(t), 1.0, t)))
        return self._inner_raw(order, t)

    def _inner_raw(self, order, t):
        nu, front = self.nu, self._peak / self._mass
        if order < nu:
            a, b = (order + 1) / 2, (nu - order) / 2
            with np.errstate(invalid="ignore"):
                u = np.where(np.isinf(t), 1.0, t * t / (nu + t * t))
            return front * 0.5 * nu ** ((order + 1) / 2) * special.beta(a, b) * special.betainc(a, b, u)
        return self._by_sinh(order, t)

    def _by_sinh(self, order, t):
        nu = self.nu
        root = math.sqrt(nu)
        top = np.arcsinh(t / root)

        def integrand(v):
            return np.sinh(v) ** order * np.cosh(v) ** (-nu)

        return self._peak / self._mass * root ** (order + 1) * panels(integrand, np.zeros_like(top), top)

    def upper(self, order, t):
        nu = self.nu
        t = np.minimum(np.asarray(t, float), self.support)
        if order == 0:
            beyond = 0.0 if self.clip is None else special.stdtr(nu, -self.clip)
            return (special.stdtr(nu, -t) - beyond) / self._mass
        if order == 1:  # ∝ ∫ sinh v cosh^(−nu) v dv, an elementary primitive with the limit at nu = 1
            if self.clip is None and nu <= 1:
                return np.full_like(t, np.inf)
            start = 0.5 * np.log1p(t * t / nu)
            power = np.exp(-(nu - 1) * start)
            if self.clip is not None:
                width = 0.5 * math.log1p(self.clip**2 / nu) - start
                power = power * (width if nu == 1 else -np.expm1(-(nu - 1) * width) / (nu - 1))
            else:
                power = power / (nu - 1)
            return self._peak / self._mass * nu * power
        return 0.5 * self.second_moment - self.inner(2, t)

    def magnitude_quantile(self, probability):
        p = np.asarray(probability, float)
        guess = special.stdtrit(self.nu, 0.5 + 0.5 * np.minimum(p, 1.0) * self._mass)
        return np.minimum(guess, self.support)


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
