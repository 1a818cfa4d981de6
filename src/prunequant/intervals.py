"""Confidence intervals for the probabilities and paired differences that the claims report."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


class Interval(NamedTuple):
    """A two-sided confidence interval; both ends in the unit of the estimate."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return self.low <= value <= self.high


def _check_counts(successes: int, trials: int, confidence: float) -> None:
    if trials < 1:
        raise ValueError(f"trials is {trials}: a probability needs at least one trial")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes is {successes} but trials is {trials}: need 0 <= successes <= trials")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: need a number strictly between 0 and 1, such as 0.99")


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of a success probability (Wilson 1927): good coverage near 0 and 1.

    Examples
    --------
    >>> low, high = wilson(0, 100)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.037)
    """
    _check_counts(successes, trials, confidence)
    result = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return Interval(float(result.low), float(result.high))


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a success probability: coverage is never below `confidence`.

    This is the one to certify with: its upper end is a bound, not an approximation.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 100)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.0362)
    """
    _check_counts(successes, trials, confidence)
    result = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="exact")
    return Interval(float(result.low), float(result.high))


def paired_mean(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, Interval]:
    """Mean of paired differences (one a seed) and its Student interval.

    Parameters
    ----------
    differences : (seeds,) float — a minus b, both measured under the same seed; at least two.

    Examples
    --------
    >>> mean, interval = paired_mean([1.0, 2.0, 3.0])
    >>> mean, [round(end, 3) for end in interval]
    (2.0, [-0.484, 4.484])
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"differences has shape {values.shape}: need a vector of at least two paired differences")
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return mean, Interval(mean - half, mean + half)
