"""Masks by magnitude, N:M, channel and joint gain, with the tie rule said.

A mask keeps the values of largest score (True) and prunes the rest. What happens between *equal* scores decides
everything in the interplay of pruning and quantization, so the rule has a name:

* "first": the lowest index is kept; * "last": the highest; * "random": drawn by a seeded hash of the index;
* "magnitude": the larger `original` magnitude is kept (then the lowest index).

Every function takes torch tensors too and then returns a tensor of the same bits, on the CPU; `keep_largest`,
`magnitude` and `n_m` on the device where the tensor is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from importlib import import_module
from inspect import signature

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats.base import all_finite, as_values, check_axis, check_seed, uniform32
from prunequant.sparsity.select import SMALL, keep_from_kth

TIES = ("first", "last", "random", "magnitude")
MAX_GROUP = 2**31
_PATTERN = "'N:M' (N of M kept) or a sparsity in [0, 1], such as '2:4', '0.5' or 0.5"


def parse_pattern(pattern: str | float) -> tuple[int, int] | float:
    """A pattern of pruning, in every way that one is written: "N:M" as (N kept, M); a sparsity as a float.

    Parameters
    ----------
    pattern : "N:M", 0 <= N <= M, 1 <= M <= 2**31; or a sparsity in [0, 1], as a number or as its text ("0.5").

    Raises
    ------
    TypeError : neither a string nor a number.
    ValueError : another string, or a number outside [0, 1].

    >>> parse_pattern("2:4"), parse_pattern("0.5"), parse_pattern(0.5)
    ((2, 4), 0.5, 0.5)
    """
    try:
        if isinstance(pattern, str) and ":" in pattern:
            n, m = (int(part) for part in pattern.split(":"))
        else:
            return arguments.real(float(pattern) if isinstance(pattern, str) else pattern, "pattern", 0, 1)
    except (TypeError, ValueError) as error:
        raise type(error)(f"pattern is {arguments.shown(pattern)}: it must be {_PATTERN}") from None
    return check_n_m(n, m)


def _tensors_too(function: Callable) -> Callable:
    """The function, and for a torch tensor in its first place what it gives in torch; torch is not imported here."""
    first = next(iter(signature(function).parameters))

    @wraps(function)
    def public(*args, **given):
        if arguments.is_tensor(args[0] if args else given.get(first)):
            _torch = import_module("prunequant.sparsity._torch")  # stands on this module; loaded for a tensor

            return _torch.call(function, args or (given.pop(first),), given)
        return function(*args, **given)

    return public


def pruned_count(sparsity: float, count: int) -> int:
    """floor(sparsity * count), with the sparsity read as the decimal it was written as (0.29 of 100 is 29).

    Parameters
    ----------
    sparsity : the fraction of pruned values, in [0, 1].
    count : 0 to 2**63 - 1.

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind, or outside its range.

    >>> pruned_count(0.29, 100)
    29
    """
    sparsity, count = arguments.real(sparsity, "sparsity", 0, 1), arguments.integer(count, "count", 0, 2**63 - 1)
    return math.floor(Fraction(sparsity).limit_denominator(10**9) * count)


def check_n_m(n: int, m: int) -> tuple[int, int]:
    n, m = arguments.integer(n, "n"), arguments.integer(m, "m")
    if not 0 <= n <= m or not 1 <= m <= MAX_GROUP:
        given = f"{arguments.shown(n)}:{arguments.shown(m)}"
        raise ValueError(f"n:m is {given}: n values of every m are kept, 0 <= n <= m and 1 <= m <= {MAX_GROUP}")
    return n, m


def _tie_key(shape: tuple[int, ...], ties: str, original: ArrayLike | None, seed: int) -> NDArray | None:
    """What breaks ties: larger is kept, then the lowest index. None for the pure index rules."""
    arguments.choice(ties, "ties", TIES)
    seed = check_seed(seed)
    if original is not None:
        original = _scores(original, "original")
        if original.shape != shape:
            raise ValueError(f"original has shape {original.shape} but the scores have shape {shape}")
    if ties == "random":
        return uniform32(np.arange(math.prod(shape), dtype=np.uint64), seed).reshape(shape)
    if ties == "magnitude":
        if original is None:
            raise ValueError("ties='magnitude' needs original: the values before quantization")
        return np.abs(original)
    return None


def _scores(x: ArrayLike, name: str) -> NDArray:
    x = as_values(x, name)
    if x.ndim == 0:
        raise ValueError(f"{name} is a single number: it must be an array with at least one axis")
    if not all_finite(x):
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


@_tensors_too
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
    pattern : as in `parse_pattern`: "N:M" (N of each M consecutive values along `axis` kept; M must divide that axis)
        or a sparsity f (the floor(f·count) smallest pruned).
    ties : "first", "last", "random" or "magnitude" (needs `original`); see the module.
    axis : for "N:M" the axis of the groups (default the last); for a sparsity, None ranks the whole array and an axis
        ranks each line along it by itself.
    original, seed : for ties "magnitude" (finite, the shape of the scores) and "random" (0 to 2**128 - 1).

    Returns
    -------
    bool array like score, True where kept.

    Raises
    ------
    TypeError : an argument of the wrong kind.
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
    if group and length % group:
        raise ValueError(f"axis {axis} has length {length}, which groups of {group} do not divide (pattern {pattern})")
    if score.size == 0:
        return np.ones(score.shape, dtype=bool)
    if key is not None:
        key = np.moveaxis(key, axis, -1).reshape(-1, group)
    mask = _keep_in_rows(moved.reshape(-1, group), keep, ties, key)
    return np.moveaxis(mask.reshape(moved.shape), -1, axis)


@_tensors_too
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
        raise TypeError(f"sparsity is {sparsity!r}: it must be a fraction in [0, 1] (n_m takes N of M)")
    sparsity = arguments.real(sparsity, "sparsity", 0, 1)
    return _select(_scores(x, "x"), sparsity, ties, axis, original, seed, magnitudes=True)


@_tensors_too
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

    0 <= n <= m <= 2**31, and m must divide the axis. The other parameters and the errors are those of `keep_largest`.

    >>> n_m([1.0, -4.0, 3.0, 2.0, 0.0, 0.0, 5.0, 0.0], 2, 4)
    array([False,  True,  True, False,  True, False,  True, False])
    """
    n, m = check_n_m(n, m)
    x = _scores(x, "x")
    return _select(x, f"{n}:{m}", ties, check_axis(axis, x.ndim), original, seed, magnitudes=True)


@_tensors_too
def gain(x: ArrayLike, quantized: ArrayLike, norm: float = 2.0) -> NDArray:
    """What keeping a value saves: |x|^p - |x - q|^p, the loss when pruned minus the loss when stored as q.

    For p = 2 this is |q|(2|x| - |q|) for a q on the side of x.

    Parameters
    ----------
    x, quantized : arrays of one shape, finite.
    norm : p, 1 <= p < inf.

    Returns
    -------
    array like x, computed in the dtype of x, where small p-th powers may be 0.

    Raises
    ------
    TypeError, ValueError : arrays or a norm of the wrong kind, shape or range; a p-th power that overflows.

    >>> gain([3.0, 1.4, 1.39], [3.0, 1.0, 1.39])
    array([9.    , 1.8   , 1.9321])
    """
    x, quantized = _scores(x, "x"), _scores(quantized, "quantized")
    if x.shape != quantized.shape:
        raise ValueError(f"quantized has shape {quantized.shape} but x has shape {x.shape}: they must be the same")
    norm = arguments.real(norm, "norm", 1)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        saved = quantized * (2 * x - quantized) if norm == 2 else np.abs(x) ** norm - np.abs(x - quantized) ** norm
    if not np.all(np.isfinite(saved)):
        raise ValueError(f"x and quantized are too large for norm {norm:g} in {x.dtype}: their powers overflow")
    return saved


@_tensors_too
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
    x, quantized = _usual(_scores(x, "x"), _scores(quantized, "quantized"))
    return keep_largest(gain(x, quantized, norm), pattern, ties, axis=axis, original=x, seed=seed)


def _usual(x: NDArray, quantized: NDArray) -> tuple[NDArray, NDArray]:
    """Both in units of a power of two, where their powers would leave the range of their dtype; else as they are."""
    largest = max(float(np.max(np.abs(v), initial=0)) for v in (x, quantized))
    low, high = (2.0**-40, 2.0**40) if np.float32 in (x.dtype, quantized.dtype) else (2.0**-400, 2.0**400)
    if largest == 0 or low <= largest <= high:
        return x, quantized
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(x, -exponent), np.ldexp(quantized, -exponent)


@_tensors_too
def channels(
    x: ArrayLike, sparsity: float, axis: int = 0, *, norm: float = 2.0, ties: str = "first"
) -> NDArray[np.bool_]:
    """Mask that prunes whole channels: the floor(sparsity·channels) slices along `axis` of smallest L_p norm.

    Parameters
    ----------
    x : array of real numbers, finite.
    sparsity : the fraction of pruned channels, in [0, 1].
    axis : the axis of the channels.
    norm : p, 1 <= p <= inf.
    ties : "first" or "last".

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind or outside its range; NaN or infinity in x.

    >>> channels([[1.0, 1.0], [0.0, 3.0]], 0.5)
    array([[False, False],
           [ True,  True]])
    """
    x = _scores(x, "x")
    axis = check_axis(axis, x.ndim)
    norm = arguments.real(norm, "norm", 1, infinite=True)
    sparsity = arguments.real(sparsity, "sparsity", 0, 1)
    lines = np.moveaxis(x, axis, 0).reshape(x.shape[axis], x.size // max(x.shape[axis], 1))
    keep = keep_largest(_norms(lines, norm), sparsity, ties)
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.broadcast_to(keep.reshape(shape), x.shape).copy()


def _norms(lines: NDArray, norm: float) -> NDArray:
    """The L_p norm of each line, its largest magnitude (or the power of two below it) taken out before the powers."""
    if lines.shape[1] == 0:
        return np.zeros(lines.shape[0])
    largest = np.max(np.abs(lines), axis=1, keepdims=True)
    if norm in (1, 2, math.inf):
        exponent = np.frexp(largest)[1]
        return np.ldexp(np.linalg.norm(np.ldexp(lines, -exponent), ord=norm, axis=1), exponent[:, 0])
    unit = np.where(largest > 0, largest, largest.dtype.type(1))
    return np.linalg.norm(lines / unit, ord=norm, axis=1) * unit[:, 0]
