"""Limit laws of the number of solutions, and the predictions they make. Not bounds: see `growth` for what is proved.

Derivations: the chapters tickets/moments and tickets/failure-probability.

The formulas make sense between integers. Here n is a number in [1e-9, 2**20], M a number in [1, 1e150], t any finite
number, a failure probability a number in (0, 1); anything else is a TypeError or a ValueError.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

from prunequant.arguments import choice, flag, real, shown

from .._validate import number

LEAST_SAMPLES, MAX_SAMPLES, MAX_BOUND = 1e-9, 2.0**20, 1e150
MAX_WINDOW = 1000  # 2**1000 is a float
_GRID = 4001
_NEVER = -40.0  # ln of a probability that no float near 1 can tell from 0


def _check(n, bound) -> tuple[float, float]:
    return number(n, "n", LEAST_SAMPLES, MAX_SAMPLES), number(bound, "bound", 1, MAX_BOUND)


def _probability(failure) -> float:
    return real(failure, "failure", 0, 1, open_low=True, open_high=True)


def _scale(n, bound, target) -> tuple[float, float]:
    """(ln μ, τ) with μ = 2^{n+1}/√(2πnσ²), τ = 2t/(σ√n)."""
    n, bound = _check(n, bound)
    target = real(target, "target")
    deviation = math.sqrt(n * bound * (bound + 1) / 3)
    log_mean = (n + 1) * math.log(2) - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return log_mean, max(min(2 * target / deviation, 1e100), -1e100)


def mixture_poisson_failure(n: float, bound: float, target: float, log: bool = False) -> float:
    """P(no subset of n samples uniform on {-M..M} sums to t) ≈ E_G exp(-μ e^{-(G-τ)²/2}), G standard normal.

    Given G = Λ/(σ√n) the number of solutions is nearly Poisson with mean μ e^{-(G-τ)²/2}: the sums spread around
    Λ/2, and a target far from there is rarely met. Its first two moments are those of `moments`. Evaluated in
    logarithms, so that it stays right far below the smallest double (``log=True``). Within a few percent near the
    threshold, low by up to 2-5 times deep in the tail.

    Parameters
    ----------
    n : number of samples, in [1e-9, 2**20]
    bound, target : M, in [1, 1e150], and t
    log : return the natural logarithm

    Examples
    --------
    >>> round(mixture_poisson_failure(12, 256, 128), 4)
    0.0896
    >>> round(mixture_poisson_failure(4000, 256, 0, log=True) / math.log(2))
    -3993
    """
    (log_mean, tau), log = _scale(n, bound, target), flag(log, "log")
    if log_mean - tau**2 / 4 < _NEVER:  # P(a solution) <= E[Z] = μ e^{-τ²/4}/√2
        return 0.0 if log else 1.0
    edge = math.sqrt(max(2 * log_mean, 0.0))
    # the integrand lives where G is typical, or just outside |G - τ| = edge, where the mean falls to about 1
    pieces = []
    for centre, width in ((0.0, 12.0), (tau + edge, 12.0), (tau - edge, 12.0)):
        pieces.append((centre - width, centre + width))
    pieces.sort()
    merged = [pieces[0]]
    for low, high in pieces[1:]:
        if low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    terms = []
    for low, high in merged:
        points = int((high - low) * max(_GRID / 24, 8 * (edge + abs(tau) + 4))) + 1
        g = np.linspace(low, high, points)
        exponent = np.minimum(log_mean - (g - tau) ** 2 / 2, 700.0)
        terms.append(-(g**2) / 2 - np.exp(exponent) + math.log((high - low) / (points - 1)))
    value = float(logsumexp(np.concatenate(terms))) - 0.5 * math.log(2 * math.pi)
    value = min(value, 0.0)
    return value if log else math.exp(value)


def mixture_poisson_tail(n: float, bound: float, target: float) -> float:
    """The leading form of `mixture_poisson_failure` for μ → ∞: e^{-τ²/2} cosh(τ√(2 ln μ)) / (μ √(π ln μ)).

    One bit a sample, up to logarithms: what fails is not Poisson luck but a sum Λ so large that t lies outside the
    bulk. Cut off at 1, which the form passes close to the threshold.

    Raises
    ------
    TypeError, ValueError : arguments outside the above; n at or below the threshold

    Examples
    --------
    >>> mixture_poisson_tail(40, 256, 0) / mixture_poisson_failure(40, 256, 0) < 1.1
    True
    """
    log_mean, tau = _scale(n, bound, target)
    if log_mean <= 0:
        raise ValueError(f"n is {float(n)}: the tail form needs n above the threshold, where μ > 1")
    shift = tau * math.sqrt(2 * log_mean)
    log_cosh = abs(shift) + math.log1p(math.exp(-2 * abs(shift))) - math.log(2)
    return math.exp(min(-(tau**2) / 2 + log_cosh - log_mean - 0.5 * math.log(math.pi * log_mean), 0.0))


def poisson_failure(n: float, bound: float, target: float) -> float:
    """exp(-E[Z]) with the Gaussian E[Z]: the failure were Λ not random, far too small above the threshold."""
    log_mean, tau = _scale(n, bound, target)
    return math.exp(-math.exp(min(log_mean - tau**2 / 4 - 0.5 * math.log(2), 700.0)))


def random_target_failure(n: float, bound: float) -> float:
    """`mixture_poisson_failure` averaged over t uniform in [-M, M] (Gauss-Legendre, 24 points on [0, M])."""
    n, bound = _check(n, bound)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    mean = float(
        sum(
            w / 2 * mixture_poisson_failure(n, bound, bound * (1 + node) / 2)
            for node, w in zip(nodes, weights, strict=True)
        )
    )
    return min(mean, 1.0)


def all_targets_misses(n: float, bound: float, reach: float | None = None) -> float:
    """Expected number of targets |t| <= reach (default M) that are missed, by the mixture law.

    Above the threshold it bounds the probability that any is missed, were the law exact; misses come in crowds, so that
    probability is smaller.

    reach : number in [0, 1e150]
    """
    n, bound = _check(n, bound)
    reach = bound if reach is None else number(reach, "reach", 0, MAX_BOUND)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    mean = sum(
        w / 2 * mixture_poisson_failure(n, bound, reach * (1 + node) / 2)
        for node, w in zip(nodes, weights, strict=True)
    )
    return float((2 * reach + 1) * mean)


def samples_needed(bound: float, failure: float, target: float | str = 0) -> float:
    """The real n at which the mixture law predicts this failure probability, for a fixed target or ``"random"``.

    Raises
    ------
    TypeError, ValueError : arguments outside the above; no n up to 2**20 is enough, or any n is

    Examples
    --------
    >>> [round(samples_needed(2**16, p), 1) for p in (0.5, 0.1, 0.01, 0.001)]
    [17.7, 19.9, 22.7, 25.7]
    """
    failure = _probability(failure)
    _, bound = _check(1, bound)
    if isinstance(target, str):
        choice(target, "target", ("random",))
    else:
        target = real(target, "target")

    def excess(n: float) -> float:
        if isinstance(target, str):
            return math.log(max(random_target_failure(n, bound), math.ulp(0.0))) - math.log(failure)
        return mixture_poisson_failure(n, bound, target, log=True) - math.log(failure)

    high = math.log2(bound) + 4.0
    while excess(high) > 0:
        high *= 1.5
        if high > MAX_SAMPLES:
            raise ValueError(f"target is {shown(target)} and bound is {bound}: 2**20 samples and more would be needed")
    low = high
    while excess(low) < 0 and low > 1e-3:
        low /= 1.5
    if excess(low) < 0:
        raise ValueError(f"bound is {bound} and failure is {failure}: any number of samples does")
    return float(brentq(excess, low, high, xtol=1e-9))


def critical_kappa(bound: float, target: float | str = 0, failure: float = 0.5) -> float:
    """κ = log2(M)/n at the n where the failure probability is `failure`: below 1 at every size that can be run.

    Examples
    --------
    >>> [round(critical_kappa(2.0**m), 3) for m in (8, 16, 32, 64)]
    [0.87, 0.906, 0.937, 0.961]
    """
    needed = samples_needed(bound, failure, target)
    return math.log2(number(bound, "bound")) / needed


def critical_density(window: float) -> float:
    """ρ = √(3/2π) 2^{-λ}: the mean number of perfect partitions at `window_kappa`(n, λ), up to swapping the sides.

    window : λ, a number in [-1000, 1000]
    """
    window = real(window, "window", -MAX_WINDOW, MAX_WINDOW)
    return math.sqrt(3 / (2 * math.pi)) * 2.0 ** (-window)


def window_kappa(n: float, window: float) -> float:
    """κ_n = 1 - log2(n)/(2n) + λ/n, the critical window of Borgs, Chayes & Pittel 2001; λ in [-1000, 1000]."""
    n, window = number(n, "n", LEAST_SAMPLES, MAX_SAMPLES), real(window, "window", -MAX_WINDOW, MAX_WINDOW)
    return 1 - math.log2(n) / (2 * n) + window / n


def critical_window(window: float) -> float:
    """The limit of P(perfect partition) at κ_n = `window_kappa`(n, λ): 1 - e^{-ρ}(1 + e^{-ρ})/2.

    Λ is even or odd with equal probability; Poisson(ρ) partitions of discrepancy 0, Poisson(2ρ) of discrepancy 1.

    Examples
    --------
    >>> round(critical_window(0.0), 4)
    0.6239
    """
    rho = critical_density(window)
    return 1 - 0.5 * math.exp(-rho) - 0.5 * math.exp(-2 * rho)


def perfect_partition_probability(n: float, bound: float) -> float:
    """P(some signs give discrepancy Λ mod 2), X uniform on {1..M}: `critical_window` with ρ = 2ⁿ/√(2πn E X²)."""
    n, bound = _check(n, bound)
    log_rho = n * math.log(2) - 0.5 * math.log(2 * math.pi * n * (bound + 1) * (2 * bound + 1) / 6)
    rho = math.exp(min(log_rho, 700.0))
    return 1 - 0.5 * math.exp(-rho) - 0.5 * math.exp(-2 * rho)
