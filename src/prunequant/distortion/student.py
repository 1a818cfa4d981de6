"""Student's law, truncated or not: the family with which tails of any weight are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from .laws import Law, panels


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
