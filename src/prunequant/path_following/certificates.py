"""Certificates: how wrong the outputs of a layer can be, computed from its inputs alone.

Every error-feedback rounding obeys (I + M) e = r with e = w − q and r_t = v_t − T(v_t), so the output error is
u = A r with A = X (I + M)⁻¹. Given the past, r_t has mean zero and lives in an interval of length ω, the operator's
width. Two consequences, both valid for any weights:

* Hoeffding's lemma at every step: P(|u_i| ≥ a) ≤ 2 exp(−2a²/(ω²‖A_i‖²)), and E‖u‖² ≤ (ω²/4)‖A‖²_F;
* convex order with the sharp constant: u_i ≤cx N(0, (π/8)ω²‖A_i‖²), whose best tail is the Gaussian's expected
  shortfall (`theory.shortfall`).

Nearest rounding has no randomness to average over: what remains is the worst case |u_i| ≤ (ω/2)‖A_i‖₁.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike, NDArray

from ..arguments import choice
from . import theory
from .checks import check_failure, checked_matrix
from .gram import unit_lower
from .layer import Rule
from .operators import Operator, check_operator

_ROWS = 4096


def influence(inputs: ArrayLike, scaling: float = 1.0, feedback: str = "path", damping: float | None = None) -> NDArray:
    """A = X (I + M)⁻¹, (samples, features) float64: how each rounding error reaches each sample.

    Notes
    -----
    One triangular solve, samples × features² operations. A Aᵀ ⪯ C²/(2C − 1) · max_t‖X_t‖² I for path feedback.
    """
    return influence_of(Rule(feedback, scaling, damping=damping), checked_matrix("inputs", inputs))


def influence_of(rule: Rule, inputs: NDArray, rows: NDArray | slice = slice(None)) -> NDArray:
    """`influence` on some of the samples, of a layer that was checked: `inputs` is what its rounded weights see."""
    chosen = inputs[rows]
    if rule.feedback == "none":
        return chosen.astype(np.float64)
    lower = unit_lower(*rule.factor(inputs))
    out = np.empty(chosen.shape)
    for i in range(0, len(chosen), _ROWS):
        part = chosen[i : i + _ROWS].T.astype(np.float64)
        out[i : i + _ROWS] = scipy.linalg.solve_triangular(
            lower, part, trans="T", lower=True, unit_diagonal=True, check_finite=False
        ).T
    return out


def sample_bounds(
    inputs: ArrayLike,
    operator: Operator,
    scaling: float = 1.0,
    failure: float = 0.01,
    feedback: str = "path",
    damping: float | None = None,
    tail: str = "best",
) -> NDArray:
    """Bounds a_i ≥ |u_i| on each sample, all at once with probability 1 − failure for one neuron.

    Returns
    -------
    (samples,) or, when the operator has one size a neuron, (samples, neurons), float64.
    """
    failure = check_failure(failure)
    choice(tail, "tail", theory.TAILS), check_operator(operator)
    return bounds_of(influence(inputs, scaling, feedback, damping), operator, failure, tail)


def bounds_of(a: NDArray, operator: Operator, failure: float, tail: str = "best") -> NDArray:
    """`sample_bounds` from the influence A of the rounding errors on these samples."""
    if operator.mean_zero:
        per_width = np.linalg.norm(a, axis=1) * theory.tail_constant(failure / len(a), tail)
    else:
        per_width = np.abs(a).sum(axis=1) / 2
    return np.multiply.outer(per_width, operator.width)


def certificate(
    inputs: ArrayLike,
    operator: Operator,
    scaling: float = 1.0,
    failure: float = 0.01,
    feedback: str = "path",
    damping: float | None = None,
    tail: str = "best",
) -> float | NDArray:
    """A bound on the largest output error over these samples, for any weights, per neuron.

    Parameters
    ----------
    inputs : (samples, features); those the compressed layer sees.
    operator : stochastic: the bound holds with probability at least 1 − failure. Nearest: it always holds, and
        `failure` plays no role.
    scaling, feedback, damping : as given to `compress`.
    failure : for one neuron over all its samples; divide by the number of neurons for a whole layer.
    tail : "hoeffding" (ω²/4, exponential), "gaussian" (π/8 ω², convex order) or the smaller of both.

    Returns
    -------
    float, or (neurons,) when the operator has one size a neuron: max over samples of `sample_bounds`.

    Notes
    -----
    Operators with an end (`FiniteGrid`, `OneBit`) are covered as long as nothing is clipped: the event "no clipping
    and an error above the bound" has probability at most `failure`. `Result.certificate` is infinite for a neuron
    that was clipped. Errors of float32 arithmetic itself, some 1e-6 of the outputs, are not included.

    Examples
    --------
    >>> from prunequant.path_following import Grid, certificate
    >>> round(certificate(np.eye(3), Grid(0.1), failure=0.01), 4)
    0.1788
    """
    bounds = sample_bounds(inputs, operator, scaling, failure, feedback, damping, tail)
    largest = bounds.max(axis=0)
    return float(largest) if np.ndim(largest) == 0 else largest


def energy_certificate(
    inputs: ArrayLike, operator: Operator, scaling: float = 1.0, feedback: str = "path", damping: float | None = None
) -> float | NDArray:
    """A bound on the root-mean-square output error, √(E‖u‖²/samples), for any weights, per neuron.

    (ω/2)‖A‖_F/√samples for stochastic operators; for nearest rounding the worst case, (ω/2) times the
    root-mean-square of ‖A_i‖₁.
    """
    check_operator(operator)
    a = influence(inputs, scaling, feedback, damping)
    if operator.mean_zero:
        size = np.linalg.norm(a) / np.sqrt(len(a))
    else:
        size = np.sqrt(np.mean(np.abs(a).sum(axis=1) ** 2))
    out = np.multiply(size / 2, operator.width)
    return float(out) if np.ndim(out) == 0 else out
