"""Masks by magnitude, N:M, channel and joint gain, with the tie rule said.

A mask keeps the values of largest score (True) and prunes the rest. What happens between *equal* scores decides
everything in the interplay of pruning and quantization, so the rule has a name:

* "first": the lowest index is kept; * "last": the highest; * "random": drawn by a seeded hash of the index;
* "magnitude": the larger `original` magnitude is kept (then the lowest index).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.formats._kernels import largest_bits
from prunequant.formats.base import as_values, check_axis, uniform32
from prunequant.sparsity.select import SMALL, keep_from_kth

TIES = ("first", "last", "random", "magnitude")


def parse_pattern(pattern: str | float) -> tuple[int, int] | float:
    """ "N:M" as (N kept, M); a sparsity as a float.

    >>> parse_pattern("2:4"), parse_pattern(0.5)
    ((2, 4), 0.5)
    """
    if isinstance(pattern, str):
        try:
            n, m = (int(part) for part in pattern.split(":"))
        except ValueError:
            raise ValueError(f"pattern is {pattern!r}: give 'N:M' (N of M kept) or a sparsity in [0, 1]") from None
        return _check_n_m(n, m)
    if isinstance(pattern, (int, float, np.floating, np.integer)) and 0 <= pattern <= 1:
        return float(pattern)
    raise ValueError(f"pattern is {pattern!r}: give 'N:M' (N of M kept) or a sparsity in [0, 1]")


def pruned_count(sparsity: float, count: int) -> int:
    """floor(sparsity * count), with the sparsity read as the decimal it was written as (0.29 of 100 is 29)."""
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is {sparsity}: give a fraction of pruned values in [0, 1]")
    return math.floor(Fraction(float(sparsity)).limit_denominator(10**9) * count)


def _check_n_m(n: int, m: int) -> tuple[int, int]:
    for name, value in (("n", n), ("m", m)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}: give an integer")
    if not 0 <= n <= m or m < 1:
        raise ValueError(f"n:m is {n}:{m}: give 0 <= n <= m, n values kept of every m")
    return int(n), int(m)


def _tie_key(shape: tuple[int, ...], ties: str, original: ArrayLike | None, seed: int) -> NDArray | None:
    """What breaks ties: larger is kept, then the lowest index. None for the pure index rules."""
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}: give one of {', '.join(TIES)}")
    if ties == "random":
        return uniform32(np.arange(math.prod(shape), dtype=np.uint64), seed).reshape(shape)
    if ties == "magnitude":
        if original is None:
            raise ValueError("ties='magnitude' needs original: the values before quantization")
        original = as_values(original, "original")
        if original.shape != shape:
            raise ValueError(f"original has shape {original.shape} but the scores have shape {shape}")
        return np.abs(original)
    return None


def _scores(x: ArrayLike, name: str) -> NDArray:
    x = as_values(x, name)
    if x.ndim == 0:
        raise ValueError(f"{name} is a single number: give an array with at least one axis")
    if x.dtype == np.float32 and x.size > SMALL:
        bits = np.empty(1, np.int32)
        largest_bits(np.ascontiguousarray(x).reshape(-1), x.size, x.size, bits)
        finite = bits[0] < 0x7F800000
    else:
        finite = np.all(np.isfinite(x))
    if not finite:
        raise ValueError(f"{name} holds NaN or infinity: every value must be finite")
    return x


def _keep_in_rows(score: NDArray, keep: int, ties: str, key: NDArray | None) -> NDArray[np.bool_]:
    """Mask of the `keep` largest of each row: by counting wins in short rows, by a stable sort in others."""
    if ties == "last":
        return _keep_in_rows(score[:, ::-1], keep, "first", None)[:, ::-1]
    width = score.shape[1]
    if width <= 8:
        wins = np.zeros(score.shape, np.int8)
        for i in range(width):
            for j in range(i + 1, width):
                first = score[:, i] >= score[:, j]
                if key is not None:
                    first &= (score[:, i] > score[:, j]) | (key[:, i] >= key[:, j])
                wins[:, i] += first
                wins[:, j] += ~first
        return wins >= width - keep
    order = np.argsort(-score, axis=1, kind="stable") if key is None else np.lexsort((-key, -score), axis=1)
    mask = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(mask, order[:, :keep], True, axis=1)
    return mask


def _keep_in_vector(score: NDArray, keep: int, ties: str, key: NDArray | None, magnitudes: bool) -> NDArray[np.bool_]:
    """Mask of the `keep` largest of one long vector: exact selection, then the rule among those at the threshold."""
    count = score.size
    if keep <= 0 or keep >= count:
        return np.full(count, keep > 0)
    if score.dtype == np.float32 and count > SMALL and magnitudes:
        mask, equal, wanted = keep_from_kth(score, keep)
        mask[equal] = False
    else:
        score = np.abs(score) if magnitudes else score
        threshold = np.partition(score, count - keep)[count - keep]
        mask = score > threshold
        wanted = keep - int(np.count_nonzero(mask))
        equal = np.flatnonzero(score == threshold)
    if key is not None:
        equal = equal[np.argsort(-key[equal], kind="stable")]
    mask[equal[equal.size - wanted :] if ties == "last" else equal[:wanted]] = True
    return mask


def keep_largest(
    score: ArrayLike,
    pattern: str | float,
    ties: str = "first",
    *,
    axis: int | None = None,
    original: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Mask of the largest scores: N of every M along an axis, or all but a fraction.

    Parameters
    ----------
    score : array, any saliency (|w|, |w| times an activation norm, a gain). Larger is kept.
    pattern : "N:M" (N of each M consecutive values along `axis` kept; M must divide that axis) or a sparsity f
        (the floor(f·count) smallest pruned).
    ties : "first", "last", "random" or "magnitude" (needs `original`); see the module.
    axis : for "N:M" the axis of the groups (default the last); for a sparsity, None ranks the whole array and an axis
        ranks each line along it by itself.
    original, seed : for ties "magnitude" and "random".

    Returns
    -------
    bool array like score, True where kept.

    Raises
    ------
    ValueError : a bad pattern, axis or tie rule, scores that are not finite, a length that M does not divide.

    Notes
    -----
    O(count) for a sparsity over the whole array (exact selection), O(count log M) for N:M.

    Examples
    --------
    >>> keep_largest([3.0, 1.0, 1.0, 1.0], 0.5)
    array([ True,  True, False, False])
    >>> keep_largest([3.0, 1.0, 1.0, 1.0], "2:4", ties="last")
    array([ True, False, False,  True])
    """
    return _select(_scores(score, "score"), pattern, ties, axis, original, seed, magnitudes=False)


def _select(score, pattern, ties, axis, original, seed, magnitudes: bool) -> NDArray[np.bool_]:
    """`keep_largest` of checked scores, or of their magnitudes."""
    parsed = parse_pattern(pattern)
    key = _tie_key(score.shape, ties, original, seed)
    if isinstance(parsed, float) and axis is None:
        keep = score.size - pruned_count(parsed, score.size)
        flat = None if key is None else key.ravel()
        return _keep_in_vector(score.ravel(), keep, ties, flat, magnitudes).reshape(score.shape)
    axis = check_axis(-1 if axis is None else axis, score.ndim)
    moved = np.moveaxis(np.abs(score) if magnitudes else score, axis, -1)
    length = moved.shape[-1]
    keep, group = (length - pruned_count(parsed, length), length) if isinstance(parsed, float) else parsed
    if group == 0 or length % group:
        raise ValueError(f"axis {axis} has length {length}, which groups of {group} do not divide")
    if key is not None:
        key = np.moveaxis(key, axis, -1).reshape(-1, group)
    mask = _keep_in_rows(moved.reshape(-1, group), keep, ties, key)
    return np.moveaxis(mask.reshape(moved.shape), -1, axis)


def magnitude(
    x: ArrayLike,
    sparsity: float,
    ties: str = "first",
    *,
    axis: int | None = None,
    original: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Mask that prunes the floor(sparsity·count) values of smallest magnitude.

    `axis=None` ranks the whole array (layer-wise pruning); an axis ranks each line along it by itself. The other
    parameters and the errors are those of `keep_largest`. Harma et al. 2025, Definition 3.2 (reconstructed).

    >>> magnitude([0.1, -3.0, 2.0, -0.2], 0.5)
    array([False,  True,  True, False])
    """
    if isinstance(sparsity, str):
        raise TypeError(f"sparsity is {sparsity!r}: give a fraction in [0, 1] (n_m takes N of M)")
    return _select(_scores(x, "x"), sparsity, ties, axis, original, seed, magnitudes=True)


def n_m(
    x: ArrayLike,
    n: int,
    m: int,
    ties: str = "first",
    *,
    axis: int = -1,
    original: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Mask that keeps the n largest magnitudes of every m consecutive values along an axis.

    m must divide the axis. The other parameters and the errors are those of `keep_largest`.

    >>> n_m([1.0, -4.0, 3.0, 2.0, 0.0, 0.0, 5.0, 0.0], 2, 4)
    array([False,  True,  True, False,  True, False,  True, False])
    """
    n, m = _check_n_m(n, m)
    return _select(_scores(x, "x"), f"{n}:{m}", ties, axis, original, seed, magnitudes=True)


def gain(x: ArrayLike, quantized: ArrayLike, norm: float = 2.0) -> NDArray:
    """What keeping a value saves: |x|^p - |x - q|^p, the loss when pruned minus the loss when stored as q.

    For p = 2 this is |q|(2|x| - |q|) for a q on the side of x.

    >>> gain([3.0, 1.4, 1.39], [3.0, 1.0, 1.39])
    array([9.    , 1.8   , 1.9321])
    """
    x, quantized = _scores(x, "x"), _scores(quantized, "quantized")
    if x.shape != quantized.shape:
        raise ValueError(f"quantized has shape {quantized.shape} but x has shape {x.shape}: they must be the same")
    if not 1 <= norm < math.inf:
        raise ValueError(f"norm is {norm}: give 1 <= norm < inf (the largest error has no gain a value)")
    if norm == 2:
        return quantized * (2 * x - quantized)
    return np.abs(x) ** norm - np.abs(x - quantized) ** norm


def joint(
    x: ArrayLike,
    quantized: ArrayLike,
    pattern: str | float,
    ties: str = "magnitude",
    *,
    norm: float = 2.0,
    axis: int | None = None,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """The mask of least error for values stored as `quantized`: keep the largest gains.

    For a fixed quantized tensor no mask of the same pattern leaves a smaller ‖x - mask·quantized‖_p, because the p-th
    power of that error is ‖x‖^p minus the gains kept. Parameters as in `keep_largest`; `norm` is p.

    >>> x = np.array([3.0, 1.4, 1.39, 0.0])
    >>> joint(x, np.array([3.0, 1.0, 1.39, 0.0]), 0.5)
    array([ True, False,  True, False])
    """
    return keep_largest(gain(x, quantized, norm), pattern, ties, axis=axis, original=x, seed=seed)


def channels(
    x: ArrayLike, sparsity: float, axis: int = 0, *, norm: float = 2.0, ties: str = "first"
) -> NDArray[np.bool_]:
    """Mask that prunes whole channels: the floor(sparsity·channels) slices along `axis` of smallest L_p norm.

    >>> channels([[1.0, 1.0], [0.0, 3.0]], 0.5)
    array([[False, False],
           [ True,  True]])
    """
    x = _scores(x, "x")
    axis = check_axis(axis, x.ndim)
    if not 1 <= norm:
        raise ValueError(f"norm is {norm}: give 1 <= norm <= inf")
    lines = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    keep = keep_largest(np.linalg.norm(lines, ord=norm, axis=1), sparsity, ties)
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.broadcast_to(keep.reshape(shape), x.shape).copy()
