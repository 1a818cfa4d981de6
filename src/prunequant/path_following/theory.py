"""Closed forms of the path-following theory: what is promised before anything is computed.

Arguments. Counts go up to 2**62, sizes up to 1e150, scalings are in [1, 1e100], failures in [1e-280, 1); anything else
is a ValueError or a TypeError.

Symbols. M: the operator's `parameter`, ω its `width`, C ≥ 1 the scaling, m samples, N features, ε the allowed
failure probability, ‖X_t‖ the norm of feature t over the samples, ρ the largest ratio of two such norms.
The statements are those of Zhang and Saab, arXiv 2412.18184 (Theorem 4.2, Lemma 4.3, Propositions 1 to 3), in our
words and proved in the book; C²/(2C − 1), the forms called "sharp", those from Hoeffding's lemma, finite alphabets of
more than three values, ceilings and certificates are the book's own.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike, NDArray

from ..arguments import choice, flag, integer, numbers, real
from .checks import LARGEST, LEAST, check_failure, check_scaling, checked_matrix

TAILS = ("best", "hoeffding", "gaussian")
_MAX_COUNT = 2**62
_LEAST_TAIL = 1e-300
LEAST_ROOM = 1e-9
PAPER_CONSTANT = np.pi / 2  # |X| ≤ M, mean zero: X ≤cx N(0, (π/2) M²)
SHARP_CONSTANT = np.pi / 8  # support of length ω, mean zero: X ≤cx N(0, (π/8) ω²), best possible
HOEFFDING_CONSTANT = 1 / 4  # the same support: variance proxy ω²/4 in the moment generating function


def density(z: ArrayLike) -> NDArray:
    """φ(z), the standard Gaussian density."""
    z = numbers(z, "z", finite=False).astype(np.float64, copy=False)
    if np.any(np.isnan(z)):
        raise ValueError("z holds NaN: give numbers, or infinities")
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi)


def _size(value: float, name: str) -> float:
    return real(value, name, 0, LARGEST)


def _positive(value: float, name: str) -> float:
    return real(value, name, LEAST, LARGEST)


def _count(value: int, name: str, least: int = 1) -> int:
    return integer(value, name, least, _MAX_COUNT)


def _ratio(value: float) -> float:
    return real(value, "ratio", 1, LARGEST)


def scaling_factor(scaling: float, exact: bool = False) -> float:
    """C, the factor of the paper's form, or the smaller C²/(2C − 1) that the proof gives."""
    scaling, exact = check_scaling(scaling), flag(exact, "exact")
    return scaling**2 / (2 * scaling - 1) if exact else float(scaling)


def domination_variance(parameter: float, scaling: float, column_norm: float, exact: bool = True) -> float:
    """σ² with u_t ≤cx N(0, σ²I): (π/2) M² C²/(2C−1) max‖X_t‖² (with C in place of C²/(2C−1) if not `exact`).

    Examples
    --------
    >>> round(domination_variance(1.0, 1.0, 1.0), 4)
    1.5708
    """
    parameter, column_norm = _size(parameter, "parameter"), _size(column_norm, "column_norm")
    return PAPER_CONSTANT * parameter**2 * scaling_factor(scaling, exact) * column_norm**2


def exponent(features: int, samples: int, failure: float, neurons: int = 1) -> float:
    """The p for which √2 · m · neurons · N^(−p) is the failure probability; at least two features."""
    features, samples, neurons = _count(features, "features", 2), _count(samples, "samples"), _count(neurons, "neurons")
    failure = check_failure(failure)
    return float(np.log(np.sqrt(2) * samples * neurons / failure) / np.log(features))


def error_bound(
    parameter: float,
    scaling: float,
    column_norm: float,
    samples: int,
    failure: float,
    neurons: int = 1,
    exact: bool = False,
) -> float:
    """‖Xw − Xq‖∞ ≤ M √(2πC p log N) max‖X_t‖ with probability 1 − √2 m N^(−p), p chosen for this failure.

    One formula for all operators: quantization M = δ, pruning M = K, both M = δ⌈K/δ⌉. N drops out: only
    p log N = log(√2 m/ε) enters.

    Examples
    --------
    >>> round(error_bound(1.0, 1.0, 1.0, samples=64, failure=0.01), 3)
    7.566
    """
    variance = domination_variance(parameter, scaling, column_norm, exact)
    samples, neurons, failure = _count(samples, "samples"), _count(neurons, "neurons"), check_failure(failure)
    return float(2 * np.sqrt(variance * np.log(np.sqrt(2) * samples * neurons / failure)))


def levels_needed(
    largest_weight: float, step: float, ratio: float, features: int, samples: int, scaling: float, failure: float
) -> int:
    """The K of a grid {kδ, |k| ≤ K} that is never left: K ≥ ‖w‖∞/δ + ρ√(2π p log N/(2C−1)).

    The failure √2 (m + N) N^(−p) covers both the error bound and every one of the N steps.
    """
    largest_weight, step, ratio = _size(largest_weight, "largest_weight"), _positive(step, "step"), _ratio(ratio)
    features, samples = _count(features, "features"), _count(samples, "samples")
    scaling, failure = check_scaling(scaling), check_failure(failure)
    log = np.log(np.sqrt(2) * (samples + features) / failure)
    return int(np.ceil(largest_weight / step + ratio * np.sqrt(2 * np.pi * log / (2 * scaling - 1))))


def levels_needed_sharp(
    largest_weight: float, step: float, ratio: float, features: int, scaling: float, failure: float
) -> int:
    """The same K from Hoeffding's lemma: ‖w‖∞/δ + ρ√(log(2N/ε)/(2(2C−1))); failure covers the N steps alone."""
    largest_weight, step, ratio = _size(largest_weight, "largest_weight"), _positive(step, "step"), _ratio(ratio)
    features, scaling, failure = _count(features, "features"), check_scaling(scaling), check_failure(failure)
    return int(
        np.ceil(largest_weight / step + ratio * np.sqrt(np.log(2 * features / failure) / (2 * (2 * scaling - 1))))
    )


def scaling_for_room(room: float, features: int, ratio: float, failure: float) -> float:
    """The paper's C = 2π (ρ/room)² log(√2N/ε), at least 1: no correction of the N steps exceeds room · M.

    `room` in (0, 1]: what is left between weights and last value, as a share of the operator's M. Two values, M = 4K
    and room K: ¼, so 32π (Proposition 1); three values, M = 2K and room K: ½, so 8π (Proposition 3).

    Examples
    --------
    >>> [round(scaling_for_room(0.25, n, 1.0, 0.005)) for n in (64, 256, 1024, 8192)]
    [986, 1125, 1264, 1473]
    """
    room = real(room, "room", LEAST_ROOM, 1)
    features, ratio, failure = _count(features, "features"), _ratio(ratio), check_failure(failure)
    return float(max(1.0, 2 * np.pi * (ratio / room) ** 2 * np.log(np.sqrt(2) * features / failure)))


def one_bit_scaling(features: int, ratio: float, failure: float) -> float:
    """C = ½(1 + 8ρ² log(2N/ε)): with K = 2‖w‖∞ no corrected weight leaves [−K, K], except with probability ε.

    Examples
    --------
    >>> round(one_bit_scaling(1024, 1.0, 0.01), 1)
    49.4
    """
    features, ratio, failure = _count(features, "features"), _ratio(ratio), check_failure(failure)
    return float(0.5 * (1 + 8 * ratio**2 * np.log(2 * features / failure)))


def one_bit_bound(size: float, scaling: float, column_norm: float, samples: int, failure: float) -> float:
    """K C/√(2C−1) max‖X_t‖ √(2 log(2m/ε)): the error of two values ±K. N enters through C alone, as √log N."""
    size, column_norm = _size(size, "size"), _size(column_norm, "column_norm")
    scaling, samples, failure = check_scaling(scaling), _count(samples, "samples"), check_failure(failure)
    return float(size * scaling / np.sqrt(2 * scaling - 1) * column_norm * np.sqrt(2 * np.log(2 * samples / failure)))


def sparsity_ceiling(scaling: float, c: float = 1.0) -> float:
    """The share of zeros that `Prune(K, c=c)` with feedback tends to, however large K is made: 1 − 1/(πC) at c = 1.

    1 − 4(1 + c + c²)/(3(1 + c)² πC) in general, c in (0, 1]: least zeros for small c, most at c = 1. A heuristic, for
    many more features than samples and columns of about one length.

    Examples
    --------
    >>> [round(sparsity_ceiling(scaling), 3) for scaling in (1, 2, 4, 8)], round(sparsity_ceiling(1, c=0.5), 3)
    ([0.682, 0.841, 0.92, 0.96], 0.67)
    """
    scaling, c = check_scaling(scaling), real(c, "c", 0, 1, open_low=True)
    return float(1 - 4 * (1 + c + c**2) / (3 * (1 + c) ** 2 * np.pi * scaling))


def pruned_share(size: float, scaling: float, deviation: float = 1.0) -> float:
    """Share of zeros that unbiased pruning with feedback leaves in Gaussian weights, for any K; a heuristic.

    With many more features than samples a corrected weight is nearly Gaussian, its variance s² the fixed point of
    s² = deviation² + E[K|v| − v²; |v| < K]/(2C − 1). The share of zeros is then 1 − E min(|v|/K, 1). As K grows it
    tends to `sparsity_ceiling`, up to 0.0004 at C = 1, where a few corrected weights lie beyond K; as C grows, to the
    share of memoryless pruning.

    Examples
    --------
    >>> round(pruned_share(2.0, 1.0), 3), round(pruned_share(2.0, 8.0), 3), round(pruned_share(1e4, 1.0), 3)
    (0.526, 0.602, 0.681)
    """
    size, deviation = _positive(size, "size"), _positive(deviation, "deviation")
    scaling = check_scaling(scaling)

    def excess(s: float) -> float:
        """The right side of the fixed point less the left."""
        k = size / s
        absolute = 2 * s * (density(0.0) - density(k))
        square = s**2 * (1 - 2 * scipy.special.ndtr(-k) - 2 * k * density(k))
        return deviation**2 + (size * absolute - square) / (2 * scaling - 1) - s**2

    s = scipy.optimize.brentq(
        excess, deviation, 2 * (deviation + size), xtol=1e-14 * deviation, rtol=1e-12, maxiter=2000
    )
    k = size / s
    return float(1 - 2 * (density(0.0) - density(k)) / k - 2 * scipy.special.ndtr(-k))


def scaling_for_sparsity(sparsity: float) -> float:
    """The least C whose ceiling reaches this sparsity, 1/(π(1 − s)), at least 1."""
    sparsity = real(sparsity, "sparsity", 0, 1, open_high=True)
    return float(max(1.0, 1 / (np.pi * (1 - sparsity))))


def shortfall(probability: float) -> float:
    """φ(z_p)/p, the mean of a standard Gaussian above its upper p-quantile.

    If X ≤cx N(0, σ²) then P(X ≥ σ · shortfall(p)) ≤ p, and no smaller constant serves all such X.

    Examples
    --------
    >>> round(shortfall(0.005), 4)
    2.8919
    """
    probability = real(probability, "probability", _LEAST_TAIL, 1)
    return float(density(scipy.special.ndtri(probability)) / probability)


def tail_constant(failure: float, tail: str = "best") -> float:
    """a with P(|u| ≥ a ω ‖A_i‖) ≤ failure, two-sided: Hoeffding √(log(2/ε)/2), Gaussian √(π/8) φ(z)/p at p = ε/2.

    `failure` in [2e-300, 1].
    """
    failure, tail = real(failure, "failure", 2 * _LEAST_TAIL, 1), choice(tail, "tail", TAILS)
    hoeffding = float(np.sqrt(np.log(2 / failure) / 2))
    gaussian = float(np.sqrt(SHARP_CONSTANT)) * shortfall(failure / 2)
    return {"hoeffding": hoeffding, "gaussian": gaussian, "best": min(hoeffding, gaussian)}[tail]


def column_norms(inputs: ArrayLike) -> tuple[float, float]:
    """(max_t‖X_t‖, ρ = max/min over the features that are not zero) of inputs (samples, features)."""
    norms = np.linalg.norm(checked_matrix("inputs", inputs, np.float64), axis=0)
    norms = norms[norms > 0]
    if norms.size == 0:
        return 0.0, 1.0
    return float(norms.max()), float(norms.max() / norms.min())


def mean_square_error(step: float, stochastic: bool = True) -> float:
    """E r² of one rounding when the fractional part is uniform: δ²/6 stochastic, δ²/12 nearest."""
    return _size(step, "step") ** 2 / (6 if flag(stochastic, "stochastic") else 12)


def two_point_scale(probability: ArrayLike, width: float = 1.0) -> NDArray | float:
    """Least σ with X ≤cx N(0, σ²) for the two-point law with P(top) = p in (0, 1): ω p(1−p)/φ(z_p).

    Its maximum over p is ω√(π/8), at p = ½: the sharp width constant.

    Examples
    --------
    >>> round(float(two_point_scale(0.5)) ** 2 * 8 / np.pi, 12)
    1.0
    """
    p, width = numbers(probability, "probability").astype(np.float64, copy=False), _size(width, "width")
    if not np.all((p > 0) & (p < 1)):
        raise ValueError("probability holds values outside (0, 1): each must lie strictly between 0 and 1")
    return width * p * (1 - p) / density(scipy.special.ndtri(p))
