"""What path following is compared with: the one-shot pruning of SparseGPT."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import instance, integer, real
from .checks import MAX_DAMPING, checked_matrix
from .gram import damped, gram, power_of_two
from .operators import Operator


def sparsegpt(
    weights: ArrayLike,
    inputs: ArrayLike,
    sparsity: float,
    rounding: Operator | None = None,
    damping: float = 0.01,
    block: int = 128,
) -> NDArray:
    """SparseGPT (Frantar and Alistarh, arXiv 2301.00774): choose a mask block by block, mend with OPTQ's updates.

    Parameters
    ----------
    weights : (features, neurons); inputs : (samples, features).
    sparsity : in [0, 1), of every block of `block` features, by w²/[H⁻¹]² of the already mended weights.
    rounding : an operator that also rounds what survives, with ``stochastic=False``; None prunes alone.
    damping : share, in [0, 1e9], of the mean diagonal of the Gram matrix that is added to it.
    block : features whose mask is chosen together, from 1 on.

    Returns
    -------
    (features, neurons) float64 array. A plain NumPy loop: a baseline to compare with, not a fast kernel.

    Raises
    ------
    ValueError, TypeError : shapes that do not match, an argument out of its range, a singular Gram matrix.
    """
    sparsity, block = real(sparsity, "sparsity", 0, 1, open_high=True), integer(block, "block", 1)
    damping = real(damping, "damping", 0, MAX_DAMPING)
    if rounding is not None and instance(rounding, "rounding", Operator, "an operator or None").stochastic:
        raise ValueError(f"rounding is {rounding!r}: it must be an operator with stochastic=False")
    w = checked_matrix("weights", weights, np.float64).copy()
    x = checked_matrix("inputs", inputs, np.float64)
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"weights has shape {w.shape} but inputs {x.shape}: inputs must be (samples, {w.shape[0]})")
    try:
        inverse = np.linalg.inv(damped(gram(x * power_of_two(x)), damping))
        upper = np.linalg.cholesky(inverse).T  # H⁻¹ = UᵀU, the factor of the paper's code
    except np.linalg.LinAlgError:
        raise ValueError("inputs are singular and damping is too small: raise damping") from None
    features = len(w)
    for start in range(0, features, block):
        stop = min(start + block, features)
        scores = (w[start:stop] / np.diagonal(upper)[start:stop, None]) ** 2
        pruned = np.zeros(scores.shape, bool)
        order = np.argsort(scores, axis=None, kind="stable")
        pruned.flat[order[: round(sparsity * scores.size)]] = True
        for t in range(start, stop):
            rounded = w[t]
            if rounding is not None:
                rounded = rounding(rounded[None])[0]
            value = np.where(pruned[t - start], 0.0, rounded)
            error = (w[t] - value) / upper[t, t]
            w[t + 1 :] -= np.outer(upper[t, t + 1 :], error)
            w[t] = value
    return w
