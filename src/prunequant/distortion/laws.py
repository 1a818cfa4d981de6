"""Laws of weights: density, distribution and truncated moments, in closed form where one exists.

Every law here is centred; all but `Empirical` are symmetric about zero. Two half-line integrals carry everything
that the exact signal-to-noise ratios need:

* ``inner(k, t)`` = ∫_0^t x^k p(x) dx, the part near zero (what pruning destroys, for k = 2);
* ``upper(k, t)`` = ∫_t^∞ x^k p(x) dx, the part beyond t (what a rounding threshold separates, for k = 0, 1);

and ``lower(k, t)`` = ∫_{-∞}^{-t} |x|^k p(x) dx, which equals ``upper`` for a symmetric law. Each is computed from
the form that does not cancel on its side. ``inner_by_quadrature`` does the same by Gauss-Legendre panels: it is
the fallback where no closed form exists and the oracle of the tests where one does.

Signal-to-noise ratios do not depend on the scale of a law, so each law has one fixed scale (given in its docstring).

Points are finite numbers up to `FAR` in size, or infinite; `order` is an integer from 0 to 4 (to 2 where no more is
given). Anything else is refused by name, with a TypeError or a ValueError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments

FAR = 1e75  # finite points beyond it are refused: their fourth powers leave the range of floats
MAX_DRAWS = 1 << 26  # numbers that one call of `sample` draws, half a GiB
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_NODES = 0.5 * (_NODES + 1.0)
_WEIGHTS = 0.5 * _WEIGHTS
_PANELS = 32
_FLAT = 1e-300  # below it powers lose digits, and then vanish


def panels(function, low, high, count: int = _PANELS) -> np.ndarray:
    """∫ function over [low, high] by 24-point Gauss-Legendre on `count` equal panels; low and high broadcast."""
    low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    edges = np.arange(count)[:, None] + _NODES  # (count, 24) in panel units
    x = low[..., None, None] + (high - low)[..., None, None] * edges / count
    return (high - low) / count * np.sum(function(x) * _WEIGHTS, axis=(-2, -1))


def check_order(order: int, largest: int = 4) -> int:
    return arguments.integer(order, "order", 0, largest)


def line(x, name: str = "x") -> np.ndarray:
    """Points of the real line as float64: finite up to `FAR` in size, or infinite."""
    x = (
        np.asarray(x)
        if isinstance(x, float)
        else arguments.numbers(x, name, finite=False).astype(np.float64, copy=False)
    )
    size = np.abs(x)
    if not np.all((size <= FAR) | (size == math.inf)):
        raise ValueError(f"{name} holds NaN, or finite numbers above {FAR:g} in size: give numbers, or infinities")
    return x


def half_line(t, name: str = "t") -> np.ndarray:
    """Points t ≥ 0 as float64, infinity allowed."""
    t = line(t, name)
    if not np.all(t >= 0):
        raise ValueError(f"{name} holds negative numbers: it must hold numbers from 0 on")
    return t


def probabilities(p, name: str = "probability") -> np.ndarray:
    """Probabilities as float64."""
    p = (
        np.asarray(p)
        if isinstance(p, float)
        else arguments.numbers(p, name, finite=False).astype(np.float64, copy=False)
    )
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"{name} holds NaN, or numbers outside [0, 1]: it must hold numbers in [0, 1]")
    return p


def check_interval(order, low, high) -> tuple[int, np.ndarray, np.ndarray]:
    """The order (0, 1, 2) and the ends, broadcast, of a truncated moment."""
    order, low, high = check_order(order, 2), line(low, "low"), line(high, "high")
    try:
        low, high = np.broadcast_arrays(low, high)
    except ValueError:
        raise ValueError(f"low has shape {low.shape} and high {high.shape}: they do not broadcast") from None
    if np.any(low > high):
        raise ValueError("low is above high somewhere: every interval must have low ≤ high")
    return order, low, high


def check_draws(size, rng) -> int | tuple[int, ...]:
    """The shape of a sample, of at most `MAX_DRAWS` numbers, from a checked generator."""
    arguments.instance(rng, "rng", np.random.Generator, "a generator, such as np.random.default_rng(0)")
    lengths = size if isinstance(size, tuple | list) else (size,)
    lengths = tuple(arguments.integer(n, "size", 0, MAX_DRAWS) for n in lengths)
    if math.prod(lengths) > MAX_DRAWS:
        raise ValueError(f"size is {arguments.shown(size)}: at most {MAX_DRAWS} numbers are drawn at once")
    return lengths


class Law:
    """A symmetric law with mean zero. Sub-classes give `density`, `inner`, `upper`, `magnitude_quantile`."""

    symmetric = True

    @property
    def support(self) -> float:
        """The largest |x|."""
        return math.inf

    @property
    def at_zero(self) -> float:
        """P(X = 0)."""
        return 0.0

    @property
    def sharp(self) -> bool:
        """Whether the law ends so steeply that errors over the scale have a minimum a cell (`snr._optimum`)."""
        return math.isfinite(self.support)

    def density(self, x: ArrayLike) -> NDArray | float:
        """p(x), vectorised."""
        raise NotImplementedError

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        """∫_0^t x^order p(x) dx for t ≥ 0, vectorised."""
        return self.inner_by_quadrature(order, t)

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        """∫_t^∞ x^order p(x) dx for t ≥ 0, vectorised."""
        raise NotImplementedError

    def lower(self, order: int, t: ArrayLike) -> NDArray | float:
        """∫_{-∞}^{-t} |x|^order p(x) dx for t ≥ 0, vectorised."""
        return self.upper(order, t)

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        """The τ with P(|X| ≤ τ) = probability, vectorised."""
        raise NotImplementedError

    def inner_by_quadrature(self, order: int, t: ArrayLike) -> NDArray[np.float64]:
        """`inner` by Gauss-Legendre panels on [0, t]: slower, independent of the closed forms; t must be finite."""
        order, t = check_order(order), np.minimum(half_line(t), self.support)
        if np.any(np.isinf(t)):
            raise ValueError("t holds infinity: of a law without a largest value the quadrature needs a finite end")
        return panels(lambda x: x**order * self.density(x), np.zeros_like(t), t)

    def cdf(self, x: ArrayLike) -> NDArray | float:
        """P(X ≤ x), vectorised."""
        x = line(x)
        tail = self.upper(0, np.abs(x))
        return np.where(x < 0, tail, 1.0 - tail)

    def quantile(self, probability: ArrayLike) -> NDArray | float:
        """The x with P(X ≤ x) = probability, vectorised."""
        p = probabilities(probability)
        return np.sign(p - 0.5) * self.magnitude_quantile(np.abs(2.0 * p - 1.0))

    def truncated_moment(self, order: int, low: ArrayLike, high: ArrayLike) -> NDArray | float:
        """∫_low^high x^order p(x) dx for order 0, 1, 2, vectorised; low ≤ high, infinities allowed."""
        order, low, high = check_interval(order, low, high)
        sign = (-1.0) ** order
        if order == 2:
            signed = [np.sign(t) * self.inner(2, np.abs(t)) for t in (low, high)]
            return signed[1] - signed[0]
        near, far = np.minimum(abs(low), abs(high)), np.maximum(abs(low), abs(high))
        one_side = self.upper(order, near) - self.upper(order, far)
        straddles = (low < 0) & (high > 0)
        across = self.inner(order, np.abs(high)) + sign * self.inner(order, np.abs(low))
        return np.where(straddles, across, np.where(high <= 0, sign, 1.0) * one_side)

    def sample(self, size: int | tuple[int, ...], rng: np.random.Generator) -> NDArray:
        """Independent draws by inversion: `size` an integer or a shape, `rng` a NumPy Generator."""
        size = check_draws(size, rng)
        return np.asarray(self.quantile(rng.random(size)))

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
        """E X⁴ / (E X²)², 3 for a Gaussian (not the excess); infinite where the fourth moment is, its limit there."""
        if math.isinf(self.fourth_moment):
            return math.inf
        return self.fourth_moment / self.second_moment**2


@dataclass(frozen=True)
class GeneralizedNormal(Law):
    """p(x) ∝ exp(−|x|^beta): Laplace at beta = 1, Gaussian at 2, uniform as beta → ∞.

    Parameters
    ----------
    beta : float from 0.1 on. Below, the tails of a law hold its energy so far out (at 0.05, 10^10 medians) that floats
        do not hold its moments. Every larger one is allowed: at 10^17 the law is `Uniform` to the last digit.

    Notes
    -----
    Moments are incomplete gamma functions at z = t^beta. Where z leaves the range of floats below, e^(−z) is 1 and the
    density flat: the moment over [0, t] is then t^(k+1)/(k+1) times the density at 0, with a relative error below z.

    Examples
    --------
    >>> round(GeneralizedNormal(1.0).kurtosis, 6), round(GeneralizedNormal(2.0).kurtosis, 6)
    (6.0, 3.0)
    >>> round(GeneralizedNormal(1e9).kurtosis, 6)  # uniform
    1.8
    """

    beta: float

    def __post_init__(self):
        object.__setattr__(self, "beta", arguments.real(self.beta, "beta", 0.1))

    @property
    def sharp(self) -> bool:
        return self.beta > 16

    def density(self, x: ArrayLike) -> NDArray | float:
        with np.errstate(over="ignore", under="ignore"):
            return self._at_zero * np.exp(-(np.abs(line(x)) ** self.beta))

    @cached_property
    def _at_zero(self):
        if self.beta > 1e3:  # Γ(1/β)/β = Γ(1 + 1/β), which does not overflow
            return 0.5 / scipy.special.gamma(1 + 1 / self.beta)
        return self.beta / (2 * scipy.special.gamma(1 / self.beta))

    def _full(self, order):
        if self.beta > 1e3:
            return (
                0.5 / (order + 1) * math.exp(math.lgamma(1 + (order + 1) / self.beta) - math.lgamma(1 + 1 / self.beta))
            )
        return 0.5 * math.exp(math.lgamma((order + 1) / self.beta) - math.lgamma(1 / self.beta))

    def _power(self, t):
        """t^beta, and where it is so small that the density is flat up to t."""
        with np.errstate(over="ignore", under="ignore"):
            z = t**self.beta
        return z, z < _FLAT

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        z, flat = self._power(t)
        part = self._full(order) * scipy.special.gammainc((order + 1) / self.beta, z)
        if np.any(flat):
            near = np.where(flat, t, 0.0) ** (order + 1)
            part = np.where(flat, self._at_zero * near / (order + 1), part)
        return part

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        z, flat = self._power(t)
        part = self._full(order) * scipy.special.gammaincc((order + 1) / self.beta, z)
        if np.any(flat):  # 1 − t^(k+1)/Γ(1 + (k+1)/β), without cancellation where t is near 1
            a = (order + 1) / self.beta
            with np.errstate(divide="ignore"):
                exponent = (order + 1) * np.log(np.where(flat, t, 0.0)) - math.lgamma(1 + a)
            part = np.where(flat, -self._full(order) * np.expm1(exponent), part)
        return part

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        p = probabilities(probability)
        z = scipy.special.gammaincinv(1 / self.beta, p)
        return np.where(z < _FLAT, 0.5 * p / self._at_zero, z ** (1 / self.beta))


@dataclass(frozen=True)
class Gaussian(Law):
    """The normal law of mean 0 and variance 1."""

    def density(self, x: ArrayLike) -> NDArray | float:
        return np.exp(-0.5 * np.square(line(x))) / math.sqrt(2 * math.pi)

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        half = (order + 1) / 2
        full = 2.0 ** (order / 2) * math.gamma(half) / (2 * math.sqrt(math.pi))
        return full * scipy.special.gammainc(half, 0.5 * np.square(t))

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        if order == 0:
            return scipy.special.ndtr(-t)
        if order == 1:
            return self.density(t)
        half = (order + 1) / 2
        full = 2.0 ** (order / 2) * math.gamma(half) / (2 * math.sqrt(math.pi))
        return full * scipy.special.gammaincc(half, 0.5 * t * t)

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        return math.sqrt(2) * scipy.special.erfinv(probabilities(probability))


@dataclass(frozen=True)
class Laplace(Law):
    """p(x) = exp(−|x|)/2, variance 2."""

    def density(self, x: ArrayLike) -> NDArray | float:
        return 0.5 * np.exp(-np.abs(line(x)))

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        return 0.5 * math.factorial(order) * scipy.special.gammainc(order + 1, t)

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        if order == 0:
            return 0.5 * np.exp(-t)
        if order == 1:
            return 0.5 * (1 + np.minimum(t, 1e3)) * np.exp(-t)
        return 0.5 * math.factorial(order) * scipy.special.gammaincc(order + 1, t)

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        with np.errstate(divide="ignore"):  # infinite at 1
            return -np.log1p(-probabilities(probability))


@dataclass(frozen=True)
class Uniform(Law):
    """The uniform law on [−1, 1], variance 1/3."""

    support = 1.0

    def density(self, x: ArrayLike) -> NDArray | float:
        return np.where(np.abs(line(x)) <= 1, 0.5, 0.0)

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        return np.minimum(t, 1.0) ** (order + 1) / (2 * (order + 1))

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        return (1.0 - np.minimum(t, 1.0) ** (order + 1)) / (2 * (order + 1))

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        return probabilities(probability) + 0.0


@dataclass(frozen=True)
class Logistic(Law):
    """p(x) = sech²(x/2)/4, variance π²/3."""

    def density(self, x: ArrayLike) -> NDArray | float:
        return 0.25 / np.cosh(0.5 * np.minimum(np.abs(line(x)), 700.0)) ** 2

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order), half_line(t)
        if order == 0:
            return 0.5 * np.tanh(0.5 * t)
        if order > 2:
            full = scipy.special.gamma(order + 1) * (1 - 2.0 ** (1 - order)) * scipy.special.zeta(order)
            return np.where(np.isinf(t), full, self.inner_by_quadrature(order, np.minimum(t, 80.0)))
        full = math.log(2.0) if order == 1 else math.pi**2 / 6
        near = self.inner_by_quadrature(order, np.minimum(t, 1.0))  # the closed form cancels near zero
        return np.where(t < 1.0, near, full - self.upper(order, t))

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        order, t = check_order(order, 2), half_line(t)
        if order == 0:
            return scipy.special.expit(-t)
        x: NDArray | np.float64 = np.minimum(t, 1e300)
        decay = np.log1p(np.exp(-x))
        first = x * scipy.special.expit(-x) + decay
        if order == 1:
            return first
        # by parts twice: t² S + 2 t log(1 + e^-t) − 2 Li2(−e^-t)
        tail = scipy.special.expit(-x)
        square = np.where(tail > 0, np.minimum(x, 1e3) ** 2 * tail, 0.0)
        return square + 2 * np.minimum(x, 1e3) * decay - 2 * scipy.special.spence(1.0 + np.exp(-x))

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        with np.errstate(divide="ignore"):  # infinite at 1
            return 2.0 * np.arctanh(probabilities(probability))
