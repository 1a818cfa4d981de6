"""Student's law, truncated or not: the family with which tails of any weight are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments

from .laws import Law, check_order, half_line, line, panels, probabilities

_LARGE = 1e3  # degrees of freedom from which differences of logarithms of Γ cancel
_SMALL = 0.1  # clips below which P(|X| ≤ clip) is not taken from the difference of two values near ½


def _half_step(y: float) -> float:
    """Γ(y + ½)/Γ(y) for large y, to the last digit from 500 on."""
    u = 1 / y
    return math.sqrt(y) * (1 - u / 8 + u**2 / 128 + 5 * u**3 / 1024 - 21 * u**4 / 32768)


@dataclass(frozen=True)
class StudentT(Law):
    """Student's t with `nu` degrees of freedom, conditioned on |x| ≤ `clip` if one is given.

    Parameters
    ----------
    nu : float in [0.1, 1e9]. Beyond, the law is `Gaussian` to nine digits.
    clip : float in [1e-3, 1e9], or None
        The law of X given |X| ≤ clip. Without it the variance is infinite for nu ≤ 2 and the fourth moment for nu ≤ 4.

    Notes
    -----
    With x = √nu sinh v, ∫ x^k f ∝ ∫ sinh^k v cosh^(−nu) v dv: smooth for every nu, where the textbook primitive is
    singular at nu = 1 and 2. Closed forms: `upper` for k = 0, 1 always; `inner` for k < nu by the incomplete
    beta function, except far out in heavy tails. Elsewhere (k = 2 and nu ≤ 2, which needs a clip) Gauss-Legendre in v.

    Examples
    --------
    >>> round(StudentT(5.0).kurtosis, 6), round(StudentT(2.0, clip=100.0).kurtosis, 1)
    (9.0, 159.7)
    """

    nu: float
    clip: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "nu", arguments.real(self.nu, "nu", 0.1, 1e9))
        if self.clip is not None:
            object.__setattr__(self, "clip", arguments.real(self.clip, "clip", 1e-3, 1e9))

    @property
    def support(self) -> float:
        return math.inf if self.clip is None else float(self.clip)

    @cached_property
    def _peak(self):
        nu = self.nu
        if nu > _LARGE:
            return _half_step(nu / 2) / math.sqrt(nu * math.pi)
        return math.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(nu * math.pi)

    @cached_property
    def _mass(self):
        """P(|X| ≤ clip) of the unconditioned law."""
        if self._narrow:
            return float(scipy.special.betainc(0.5, self.nu / 2, self.clip**2 / (self.nu + self.clip**2)))
        return 1.0 if self.clip is None else 1.0 - 2.0 * float(scipy.special.stdtr(self.nu, -self.clip))

    @property
    def _narrow(self):
        return self.clip is not None and self.clip < _SMALL

    def density(self, x: ArrayLike) -> NDArray | float:
        x = line(x)
        inside = np.abs(x) <= self.support
        return np.where(inside, self._peak / self._mass * (1 + x * x / self.nu) ** (-(self.nu + 1) / 2), 0.0)

    def inner(self, order: int, t: ArrayLike) -> NDArray | float:
        nu, order = self.nu, check_order(order)
        t = np.minimum(half_line(t), self.support)
        if self.clip is None and order >= nu:  # an infinite moment: finite at every finite t
            return np.where(np.isinf(t), np.inf, self._inner_raw(order, np.where(np.isinf(t), 1.0, t)))
        return self._inner_raw(order, t)

    def _inner_raw(self, order, t):
        nu = self.nu
        if order >= nu:
            return self._by_sinh(order, t)
        a, b = (order + 1) / 2, (nu - order) / 2
        finite = np.where(np.isinf(t), 1.0, t)
        u = np.where(np.isinf(t), 1.0, finite * finite / (nu + finite * finite))
        part = self._half_moment(order) * scipy.special.betainc(a, b, u)
        far = (finite > 1e4 * math.sqrt(nu)) & ~np.isinf(t)
        if b < 1.5 and np.any(far):  # 1 − u has lost its digits, and the moment still grows
            part = np.where(far, self._by_sinh(order, np.where(far, finite, 0.0)), part)
        return part

    def _half_moment(self, order):
        """∫_0^∞ x^order of the unconditioned law, over the mass within the clip; order < nu."""
        nu = self.nu
        if nu > _LARGE:
            ratio = 1.0 if order % 2 == 0 else 1 / _half_step((nu - 1) / 2)  # Γ((ν−k)/2)/Γ(ν/2), step by step
            for k in range(2 + order % 2, order + 1, 2):
                ratio /= (nu - k) / 2
            return 0.5 / self._mass * nu ** (order / 2) * math.gamma((order + 1) / 2) / math.sqrt(math.pi) * ratio
        front = self._peak / self._mass
        return front * 0.5 * nu ** ((order + 1) / 2) * scipy.special.beta((order + 1) / 2, (nu - order) / 2)

    def _by_sinh(self, order, t):
        nu = self.nu
        root = math.sqrt(nu)
        top = np.arcsinh(t / root)

        def integrand(v):
            return np.sinh(v) ** order * np.cosh(v) ** (-nu)

        return self._peak / self._mass * root ** (order + 1) * panels(integrand, np.zeros_like(top), top)

    def upper(self, order: int, t: ArrayLike) -> NDArray | float:
        nu, order = self.nu, check_order(order, 2)
        x: NDArray | np.float64 = np.minimum(half_line(t), self.support)
        if order == 0 and self._narrow:
            return 0.5 - self._inner_raw(0, x)
        if order == 0:
            beyond = 0.0 if self.clip is None else scipy.special.stdtr(nu, -self.clip)
            return (scipy.special.stdtr(nu, -x) - beyond) / self._mass
        if order == 1:  # ∝ ∫ sinh v cosh^(−nu) v dv, an elementary primitive with the limit at nu = 1
            if self.clip is None and nu <= 1:
                return np.full_like(x, np.inf)
            start = 0.5 * np.log1p(x * x / nu)
            power = np.exp(-(nu - 1) * start)
            if self.clip is not None:
                width = 0.5 * math.log1p(self.clip**2 / nu) - start
                power = power * (width if nu == 1 else -np.expm1(-(nu - 1) * width) / (nu - 1))
            else:
                power = power / (nu - 1)
            return self._peak / self._mass * nu * power
        return 0.5 * self.second_moment - self.inner(2, x)

    def magnitude_quantile(self, probability: ArrayLike) -> NDArray | float:
        p = probabilities(probability)
        if self._narrow:
            u = scipy.special.betaincinv(0.5, self.nu / 2, p * self._mass)
            return np.minimum(np.sqrt(self.nu * u / (1 - u)), self.support)
        guess = scipy.special.stdtrit(self.nu, 0.5 + 0.5 * np.minimum(p, 1.0) * self._mass)
        return np.minimum(guess, self.support)
