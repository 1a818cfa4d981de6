"""What path following is compared with: magnitude pruning, and the one-shot pruning of SparseGPT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .gram import check_damping, checked_matrix, damped, gram


def magnitude(weights, sparsity: float) -> NDArray:
    """Zero the smallest |w| of the whole matrix, first come first pruned among equals.

    Examples
    --------
    >>> magnitude(np.array([[1.0, -3.0], [0.5, 2.0]]), 0.5)
    array([[ 0., -3.],
           [ 0.,  2.]])
    """
    weights = checked_matrix("weights", weights)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is {sparsity}: a number in [0, 1]")
    out = weights.copy()
    order = np.argsort(np.abs(out), axis=None, kind="stable")
    out.flat[order[: round(sparsity * out.size)]] = 0
    return out


def sparsegpt(weights, inputs, sparsity: float, rounding=None, damping: float = 0.01, block: int = 128) -> NDArray:
    """SparseGPT (Frantar and Alistarh, arXiv 2301.00774): choose a mask block by block, mend with OPTQ's updates.

    Parameters
    ----------
    weights : (features, neurons); inputs : (samples, features).
    sparsity : of every block of `block` features, by w²/[H⁻¹]² of the already mended weights.
    rounding : an operator (nearest) that also rounds what survives; None prunes alone.

    Returns
    -------
    (features, neurons) float64. A plain NumPy loop: a baseline to compare with, not a fast kernel.
    """
    w = checked_matrix("weights", weights, np.float64).copy()
    x = checked_matrix("inputs", inputs, np.float64)
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"weights has shape {w.shape} but inputs {x.shape}: inputs must be (samples, {w.shape[0]})")
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}: a number in [0, 1)")
    inverse = np.linalg.inv(damped(gram(x), check_damping(damping, "optq")))
    upper = np.linalg.cholesky(inverse).T  # H⁻¹ = UᵀU, the factor of the paper's code
    features = len(w)
    for start in range(0, features, block):
        stop = min(start + block, features)
        scores = (w[start:stop] / np.diagonal(upper)[start:stop, None]) ** 2
        pruned = np.zeros(scores.shape, bool)
        order = np.argsort(scores, axis=None, kind="stable")
        pruned.flat[order[: round(sparsity * scores.size)]] = True
        for t in range(start, stop):
            kept = w[t]
            if rounding is not None:
                kept = rounding(kept[None])[0]
            value = np.where(pruned[t - start], 0.0, kept)
            error = (w[t] - value) / upper[t, t]
            w[t + 1 :] -= np.outer(upper[t, t + 1 :], error)
            w[t] = value
    return w
