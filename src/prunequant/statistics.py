"""Confidence intervals of probabilities, differences that are paired over seeds, and corrections for many of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from prunequant import arguments


class Interval(NamedTuple):
    """A two-sided confidence interval; both ends in the unit of the estimate."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return self.low <= cast(float, value) <= self.high  # a tuple is asked for any object, an interval for numbers


MAX_TRIALS = 2**53  # counts above are no longer exact in the floats that the quantiles are computed with

MAX_CONFIDENCE = 1 - 2.0**-52  # closer to 1, the level (1 + confidence)/2 of the quantile is 1


def _confidence(confidence: float) -> float:
    return arguments.real(confidence, "confidence", 0, MAX_CONFIDENCE, open_low=True)


def _proportion(successes: int, trials: int, confidence: float, method: str) -> Interval:
    trials, successes = arguments.integer(trials, "trials", 1, MAX_TRIALS), arguments.integer(successes, "successes", 0)
    if successes > trials:
        raise ValueError(f"successes is {arguments.shown(successes)} but trials is {trials}: it must be in [0, trials]")
    result = stats.binomtest(successes, trials).proportion_ci(_confidence(confidence), method=method)
    return Interval(float(result.low), float(result.high))


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of a success probability (Wilson 1927): good coverage near 0 and 1.

    Parameters
    ----------
    successes, trials : integers, 0 <= successes <= trials, 1 <= trials <= 2**53.
    confidence : above 0, up to 1 - 2**-52.

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind, or outside its range.

    Examples
    --------
    >>> low, high = wilson(0, 100)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.037)
    """
    return _proportion(successes, trials, confidence, "wilson")


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a success probability: coverage is never below `confidence`.

    This is the one to certify with: its upper end is a bound, not an approximation. Parameters and errors are those of
    `wilson`.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 100)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.0362)
    """
    return _proportion(successes, trials, confidence, "exact")


def paired_mean(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, Interval]:
    """Mean of paired differences (one a seed) and its Student interval.

    Parameters
    ----------
    differences : (seeds,) float — a minus b, both measured under the same seed; at least two, finite.
    confidence : above 0, up to 1 - 2**-52.

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind, shape or range.

    Examples
    --------
    >>> mean, interval = paired_mean([1.0, 2.0, 3.0])
    >>> mean, [round(end, 3) for end in interval]
    (2.0, [-0.484, 4.484])
    """
    values = arguments.numbers(differences, "differences").astype(np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"differences has shape {values.shape}: it must be a vector of at least two differences")
    confidence = _confidence(confidence)
    exponent = int(np.frexp(np.abs(values).max())[1])  # no square of a value in units of 2**exponent leaves the range
    values = np.ldexp(values, -exponent)
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    mean, low, high = (float(np.ldexp(end, exponent)) for end in (mean, mean - half, mean + half))
    return mean, Interval(low, high)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values corrected for their number by Holm's step-down rule, in the order given.

    Rejecting those at most alpha keeps the probability of any false rejection at most alpha, whatever their
    dependence (Holm 1979).

    >>> holm([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    p = arguments.numbers(p_values, "p_values").astype(np.float64)
    if p.ndim != 1 or np.any((p < 0) | (p > 1)):
        raise ValueError("p_values must be a list of numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1)
    return out


@dataclass(frozen=True)
class Paired:
    """A mean difference over seeds with its Student interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float
    positive: int
    seeds: int

    @property
    def verdict(self) -> str:
        """ "above" or "below" when the interval excludes 0, else "undecided"."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        half = (self.high - self.low) / 2
        return f"{self.mean:+.4f} ± {half:.4f} (p = {self.p:.2g}, {self.positive} of {self.seeds} positive)"


def one_a_seed(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """One number a seed as float64, (seeds,), at least two; `name` is what an error calls them.

    >>> one_a_seed([1, 2.5], "loss")
    array([1. , 2.5])
    """
    a = _listed(values, name)
    if a.size < 2:
        raise ValueError(f"{name} has shape {a.shape}: give one number a seed, at least two")
    return a


def _listed(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """A list of numbers whose squares are floats."""
    a = arguments.numbers(values, name).astype(np.float64)
    if a.ndim != 1 or a.size == 0:
        raise ValueError(f"{name} has shape {a.shape}: give a list of numbers, one a seed")
    if np.max(np.abs(a)) > 1e150:
        raise ValueError(f"{name} reaches to {np.max(np.abs(a)):g}: its squares leave the range of floats")
    return a


def paired(differences: ArrayLike, confidence: float = 0.95) -> Paired:
    """Mean, interval, p-value and count of positive ones of paired differences, one a seed, at least two.

    >>> str(paired([1.0, 2.0, 3.0]))
    '+2.0000 ± 2.4841 (p = 0.074, 3 of 3 positive)'
    """
    d = one_a_seed(differences, "differences")
    confidence = arguments.real(confidence, "confidence", 0, 1, open_low=True, open_high=True)
    mean, interval = paired_mean(d, confidence)
    spread = d.std(ddof=1)
    if spread > 0:
        p = float(2 * stats.t.sf(abs(mean) / (spread / np.sqrt(d.size)), d.size - 1))
    else:
        p = 1.0 if mean == 0 else 0.0
    return Paired(mean, interval.low, interval.high, p, int(np.count_nonzero(d > 0)), d.size)


def paired_resplits(differences: ArrayLike, test_share: float, confidence: float = 0.95) -> Paired:
    """`paired` for differences over repeated random splits of the same data into training and test.

    Such differences are not independent: two splits share most of their training data, so the variance of the mean
    does not fall as 1/n. Nadeau and Bengio (2003, "Inference for the generalization error", equation 9) replace
    1/n by 1/n + n_test/n_train in the variance; everything else is Student's.

    Parameters
    ----------
    differences : (splits,) one a split, at least two.
    test_share : n_test/n_train, above 0, up to 1e6.
    confidence : of the interval.

    Examples
    --------
    >>> str(paired_resplits([1.0, 2.0, 3.0], 1 / 5))
    '+2.0000 ± 3.1422 (p = 0.11, 3 of 3 positive)'
    """
    share = arguments.real(test_share, "test_share", 0, 1e6, open_low=True)
    plain = paired(differences, confidence)
    widen = float(np.sqrt(1 + plain.seeds * share))
    half = widen * (plain.high - plain.low) / 2
    d = one_a_seed(differences, "differences")
    error = float(d.std(ddof=1)) / np.sqrt(d.size)
    p = float(2 * stats.t.sf(abs(plain.mean) / (widen * error), d.size - 1)) if error > 0 else plain.p
    return Paired(plain.mean, plain.mean - half, plain.mean + half, p, plain.positive, plain.seeds)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of a − b over pairs and its 95 % percentile interval under resampling of the pairs.

    Parameters
    ----------
    a, b : (n,) measurements of the same n things (windows of text) under two treatments; of one, a point.
    draws : int in [2, 10^6]; seed : int in [0, 2^64 − 1]

    Returns
    -------
    (mean, low, high); `scipy.stats.bootstrap`, percentile method (Efron and Tibshirani 1993, chapter 13).

    Examples
    --------
    >>> paired_bootstrap([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    (1.0, 1.0, 1.0)
    """
    draws, seed = arguments.integer(draws, "draws", 2, 10**6), arguments.integer(seed, "seed", 0, 2**64 - 1)
    first, second = _listed(a, "a"), _listed(b, "b")
    if first.shape != second.shape:
        raise ValueError(f"a has shape {first.shape}, b {second.shape}: give one number each for the same things")
    difference = first - second
    if difference.size == 1:
        return (float(difference[0]),) * 3
    # "random_state" is what releases before SciPy 1.15 call it, and later ones still take
    interval = stats.bootstrap(
        (difference,), np.mean, n_resamples=draws, method="percentile", random_state=np.random.default_rng(seed)
    ).confidence_interval
    return float(difference.mean()), float(interval.low), float(interval.high)
