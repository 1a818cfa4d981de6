"""The one matrix everything needs, and the three feedback factors that make methods of one kernel."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import DTypeLike, NDArray

_CHUNK = 8192  # samples a float32 product may sum before it is added up in float64


def power_of_two(*matrices: NDArray) -> float:
    """An exact scale that brings the largest entry near 1 when squares could leave the range, else 1."""
    size = max(float(max(abs(m.min()), abs(m.max()))) for m in matrices)
    return 1.0 if size == 0 or 1e-6 < size < 1e6 else float(2.0 ** -max(float(np.round(np.log2(size))), -1000.0))


def gram(x: NDArray, y: NDArray | None = None) -> NDArray:
    """xᵀx, or xᵀy: float64 sums of float32 products over chunks of samples."""
    y = x if y is None else y
    if x.dtype == np.float64 or x.shape[0] <= _CHUNK:
        return x.T @ y
    total = np.zeros((x.shape[1], y.shape[1]))
    for i in range(0, x.shape[0], _CHUNK):
        total += x[i : i + _CHUNK].T @ y[i : i + _CHUNK]
    return total


def live_columns(diagonal: NDArray, dtype) -> NDArray:
    """Which features carry signal: norms above machine precision relative to the largest."""
    eps = np.finfo(dtype).eps
    return diagonal > (eps * eps) * max(diagonal.max(), 0)


def reversed_cholesky(h: NDArray) -> tuple[NDArray, NDArray]:
    """Unit lower L and D > 0 with h = Lᵀ diag(D) L.

    The errors of OPTQ after feature t can only be mended by features after t; so the factor that belongs to it is the
    Cholesky factor of the features in reversed order, and no inverse is needed.

    Raises
    ------
    ValueError : h is singular.
    """
    try:
        lower = np.linalg.cholesky(h[::-1, ::-1])
        pivots = np.diagonal(lower)[::-1] ** 2
        singular = bool(np.any(pivots <= len(h) * np.finfo(h.dtype).eps * np.diagonal(h)))
    except np.linalg.LinAlgError:
        singular = True
    if singular:
        raise ValueError(
            "inputs are singular (linearly dependent or constant-zero features) and damping is too small:"
            " raise damping, or use feedback='path', which needs no inverse"
        )
    return np.ascontiguousarray((lower / np.diagonal(lower)).T[::-1, ::-1]), pivots


def damped(g: NDArray, damping: float) -> NDArray:
    """g with `damping` × its mean diagonal added to the diagonal, in float64; dead features get that alone."""
    g = np.array(g, dtype=np.float64)
    diagonal = np.diagonal(g).copy()
    ridge = damping * max(float(diagonal.mean()), np.finfo(np.float64).tiny)
    np.fill_diagonal(g, np.where(diagonal > 0, diagonal + ridge, diagonal + max(ridge, 1.0)))
    return g


def feedback_factor(
    inputs: NDArray, feedback: str, scaling: float = 1.0, damping: float = 0.0
) -> tuple[NDArray, NDArray]:
    """(factor, gain): the correction of feature t is gain[t] · Σ_{s<t} factor[t, s] (w_s − q_s).

    Parameters
    ----------
    inputs : (samples, features), checked.
    feedback : "none"; "path": factor XᵀX, gain 1/(C(‖X_t‖² + λ)), no correction where a column vanishes; "optq": L
        and 1/C.
    damping : λ as a share of the mean ‖X_t‖², as if each feature had one sample more of its own, of size √λ.

    Notes
    -----
    One SYRK. The strict lower triangle alone is used later, so the path factor is the Gram matrix itself.
    """
    features = inputs.shape[1]
    if feedback == "none":
        return np.zeros((1, 1), inputs.dtype), np.zeros(features, inputs.dtype)
    scale = power_of_two(inputs)
    g = gram(inputs if scale == 1 else inputs * inputs.dtype.type(scale))
    factor, gain, _ = gram_factor(g, feedback, scaling, damping, inputs.dtype)
    return np.ascontiguousarray(factor, dtype=inputs.dtype), gain.astype(inputs.dtype)


def gram_factor(
    g: NDArray, feedback: str, scaling: float = 1.0, damping: float = 0.0, dtype: DTypeLike = np.float64
) -> tuple[NDArray, NDArray, NDArray]:
    """(factor, gain) of `feedback_factor` from the Gram matrix, and what a change of a feature alone costs at the end.

    The last, (features,), is the diagonal D of H = LᵀDL for "optq": the output error that is left of a unit change of
    feature t when all features after it mend it. For the others it is the diagonal of the Gram matrix. `dtype` is
    that of the inputs: columns that it does not tell from zero get no correction.
    """
    diagonal = np.diagonal(g)
    if feedback == "none":
        return np.zeros((1, 1)), np.zeros(len(g)), diagonal.copy()
    if feedback == "optq":
        lower, pivots = reversed_cholesky(damped(g, damping))
        return lower, np.full(len(g), 1 / scaling), pivots
    live = live_columns(diagonal, dtype)
    gain = np.divide(1.0, scaling * (diagonal + damping * diagonal.mean()), out=np.zeros(len(g)), where=live)
    return g, gain, diagonal.copy()


def unit_lower(factor: NDArray, gain: NDArray) -> NDArray:
    """I + diag(gain) tril(factor, −1) in float64: the map from e = w − q to r = v − T(v)."""
    features = gain.size
    if factor.shape[0] != features:
        return np.eye(features)
    lower = np.tril(factor.astype(np.float64), -1) * gain.astype(np.float64)[:, None]
    np.fill_diagonal(lower, 1.0)
    return lower


def align(
    weights: NDArray, inputs: NDArray, quantized_inputs: NDArray, order: int | str, damping: float = 0.0
) -> NDArray:
    """Weights w̃ for the changed inputs X̃ such that X̃w̃ ≈ Xw.

    Parameters
    ----------
    weights : (features, neurons); inputs, quantized_inputs : (samples, features).
    order : r ≥ 0, or "least-squares". Order 0 returns the weights. Order 1 is one pass over the features, which is
        the triangular solve tril(H)w̃ = tril(B)w with H = X̃ᵀX̃, B = X̃ᵀX; each further pass is one Gauss-Seidel
        sweep on Hw̃ = Bw. "least-squares" is their limit nearest to w: w + X̃⁺(X − X̃)w.
    damping : λ, a share of the mean of H's diagonal, added to the diagonals of H and B: pulls towards w where the
        samples say little.

    Returns
    -------
    (features, neurons) float64; a feature whose changed column vanishes keeps its weight.

    Notes
    -----
    One product and r triangular solves instead of r · features rank-one updates. The passes are those of SPFQ (Zhang
    and Saab, arXiv 2309.10975); that they are a solve and then sweeps is derived in the book.
    """
    if order == 0:
        return weights.astype(np.float64)
    scale = power_of_two(inputs, quantized_inputs)
    x = inputs.astype(np.float64, copy=False) * scale
    y = quantized_inputs.astype(np.float64, copy=False) * scale
    w = weights.astype(np.float64, copy=False)
    if order == "least-squares" and damping == 0:
        return w + np.linalg.lstsq(y, (x - y) @ w, rcond=None)[0]
    h, b = y.T @ y, y.T @ x
    diagonal = np.diagonal(h).copy()
    dead = ~live_columns(diagonal, np.float64)
    ridge = damping * diagonal.mean()
    h[np.diag_indices_from(h)] += ridge
    b[np.diag_indices_from(b)] += ridge
    if isinstance(order, str):
        return w + np.linalg.lstsq(h, (b - h) @ w, rcond=None)[0]
    h[dead] = 0
    h[:, dead] = 0
    h[dead, dead] = 1
    lower = np.tril(h)
    first = np.tril(b) @ w
    first[dead] = w[dead]
    aligned = scipy.linalg.solve_triangular(lower, first, lower=True, check_finite=False)
    if order > 1:
        target = b @ w
        target[dead] = w[dead]
        upper = np.triu(h, 1)
        for _ in range(order - 1):
            aligned = scipy.linalg.solve_triangular(lower, target - upper @ aligned, lower=True, check_finite=False)
    return aligned
