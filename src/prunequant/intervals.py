"""Confidence intervals for the probabilities and paired differences that the claims report."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from prunequant import arguments


class Interval(NamedTuple):
    """A two-sided confidence interval; both ends in the unit of the estimate."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return self.low <= value <= self.high


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
