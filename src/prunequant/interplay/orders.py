"""Prune then quantize, quantize then prune, or both at once: the same tensor, three ways.

Write s for pruning and q for quantization. "sq" is q(s(x)): prune first. "qs" is s(q(x)): the mask is taken from the
quantized values, whose many ties a rule must break. "joint" keeps, for the fixed quantized values, those that save the
most squared error. Harma et al. 2025, Definitions 3.1-3.4 (reconstructed).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats import Format
from prunequant.formats.base import ROUNDINGS, as_values
from prunequant.sparsity import gain, keep_largest, parse_pattern
from prunequant.sparsity.masks import TIES

ORDERS = ("sq", "qs", "joint")
NORMS = (1.0, 2.0, np.inf)
MAX_SEED = 2**64 - 1


def check_format(fmt: Format, name: str = "fmt") -> Format:
    """The format itself, or a TypeError that names one."""
    return arguments.instance(fmt, name, Format, "a format, such as formats.Integer(4)")


def check_tensor(x: ArrayLike, name: str = "x") -> NDArray:
    """Real numbers as float32 or float64; NaN and infinities are left to the format, which sees every value anyway."""
    return as_values(arguments.numbers(x, name, finite=False), name)


def check_norm(p: float, name: str = "norm") -> float:
    """p of an L_p norm."""
    return arguments.real(p, name, 1, np.inf, infinite=True)


def norm(values: NDArray, p: float, axes: tuple[int, ...] | None = None) -> NDArray:
    """‖values‖_p over the given axes, the last ones (all of them unless told), 1 <= p <= inf."""
    p, size = check_norm(p), np.abs(values)
    if p == np.inf:
        return size.max(axis=axes, initial=0.0)
    if p == 1:
        return size.sum(axis=axes)
    with np.errstate(over="ignore", under="ignore"):
        if p == 2:
            norms = np.sqrt(np.square(size).sum(axis=axes))
        else:
            norms = np.power(np.power(size, p).sum(axis=axes), 1 / p)
    reach = np.finfo(size.dtype)  # between these ends the powers of the largest value keep their digits
    in_range = (norms > float(reach.tiny) ** (0.9 / p)) & (norms < float(reach.max) ** (0.9 / p))
    if np.all(in_range):
        return norms
    if norms.ndim == 0:
        return _scaled_norm(size.reshape(1, -1), p)[0]
    outside = ~in_range
    norms[outside] = _scaled_norm(size[outside].reshape(np.count_nonzero(outside), -1), p)  # axes are the last ones
    return norms


def _scaled_norm(rows: NDArray, p: float) -> NDArray:
    """The norms of rows whose powers leave the range of floats, in units of the largest value of each."""
    largest = rows.max(axis=1, initial=0.0, keepdims=True).astype(np.float64)
    unit = np.where(largest > 0, largest, 1.0)
    with np.errstate(under="ignore"):
        return (np.power(np.power(rows / unit, p).sum(axis=1), 1 / p) * unit[:, 0]).astype(rows.dtype)


@dataclass(frozen=True)
class Orders:
    """Everything the theorems compare, for one tensor or a batch of them.

    x, pruned = s(x), quantized = q(x), and the compressed tensors sq = q(s(x)), qs = s(q(x)), joint; `masks` holds
    the mask of each order, True where kept. `batch` leading axes number independent tensors.
    """

    x: NDArray
    pruned: NDArray
    quantized: NDArray
    compressed: dict[str, NDArray]
    masks: dict[str, NDArray]
    batch: int = 0

    def error(self, which: str, p: float = 2.0) -> NDArray:
        """‖x - f(x)‖_p, one a tensor; `which` is "s", "q", "sum" (of those two), or one of the orders made."""
        axes = tuple(range(self.batch, self.x.ndim))
        by_order = {"s": self.pruned, "q": self.quantized, **self.compressed}
        which, p = arguments.choice(which, "which", ("sum", *by_order)), check_norm(p, "p")
        if which == "sum":
            return self.error("s", p) + self.error("q", p)
        return norm(self.x - by_order[which], p, axes)


@dataclass(frozen=True)
class Comparison:
    """One compressed tensor beside what pruning alone and quantization alone would have done.

    Attributes
    ----------
    values : the compressed tensor; mask : True where kept; order, ties : how it was made.
    errors : {p: {"s", "q", "sum", "both", "extra"}} for p = 1, 2, inf — the norm of the error of pruning alone, of
        quantization alone, their sum, of both, and what "both" has over the sum (negative: below it).
    """

    values: NDArray
    mask: NDArray[np.bool_]
    order: str
    ties: str
    errors: dict[float, dict[str, float]] = field(repr=False)

    def relative(self, which: str = "both", p: float = 2.0) -> float:
        """An error over the norm of x (nan for an x of zeros)."""
        p = arguments.real(p, "p", 1, np.inf, infinite=True)
        if p not in self.errors:
            raise ValueError(f"p is {p}: it must be one of {', '.join(f'{known:g}' for known in self.errors)}")
        which = arguments.choice(which, "which", _SHOWN)
        scale = self.errors[p]["x"]
        return self.errors[p][which] / scale if scale else float("nan")

    def _repr_markdown_(self) -> str:
        rows = [f"| L{'∞' if p == np.inf else int(p)} | " + " | ".join(f"{e[k]:.4g}" for k in _SHOWN) + " |"
                for p, e in self.errors.items()]  # fmt: skip
        head = "| norm | pruned | quantized | sum | both | both − sum |\n|---|---|---|---|---|---|\n"
        return head + "\n".join(rows)


_SHOWN = ("s", "q", "sum", "both", "extra")


def apply_orders(
    x: ArrayLike,
    fmt: Format,
    pattern: str | float,
    orders: tuple[str, ...] = ORDERS,
    ties: str = "first",
    *,
    axis: int | None = None,
    scale_axis: int = -1,
    saliency: ArrayLike | None = None,
    rounding: str = "even",
    seed: int = 0,
    batch: int = 0,
) -> Orders:
    """x pruned, quantized, and both in the given orders.

    Parameters
    ----------
    x : array of real numbers, at least one axis; its first `batch` axes number independent tensors (then `axis` and
        `scale_axis` count from the end).
    fmt : a number format; pattern : "N:M" or a sparsity; ties : see `prunequant.sparsity`.
    axis : of the pruning: of the groups of "N:M" (last unless told), or of the lines that a sparsity ranks (None: the
        whole tensor).
    scale_axis : the axis that the blocks of the format run along.
    saliency : factors of |x| in the score, of a shape that broadcasts to x (Wanda: the norms of the inputs).
    rounding, seed : of the format, and of ties "random"; seeds in [0, 2^64).
    """
    x = check_tensor(x)
    if x.ndim == 0:
        raise ValueError("x is a single number: give an array with at least one axis")
    fmt, parsed = check_format(fmt), parse_pattern(pattern)
    arguments.several(orders, "orders", f"a tuple of some of {', '.join(ORDERS)}")
    orders = tuple(arguments.choice(order, f"orders[{i}]", ORDERS) for i, order in enumerate(orders))
    ties = arguments.choice(ties, "ties", TIES)
    rounding = arguments.choice(rounding, "rounding", ROUNDINGS)
    axis = None if axis is None else arguments.integer(axis, "axis", -x.ndim, x.ndim - 1)
    scale_axis = arguments.integer(scale_axis, "scale_axis", -x.ndim, x.ndim - 1) % x.ndim
    seed = arguments.integer(seed, "seed", 0, MAX_SEED)
    batch = arguments.integer(batch, "batch", 0, x.ndim - 1)
    flat = batch and axis is None and isinstance(parsed, float)
    factor = 1
    if saliency is not None:
        factor = np.abs(as_values(arguments.numbers(saliency, "saliency"), "saliency"))
        ends = zip(reversed(factor.shape), reversed(x.shape))
        if factor.ndim > x.ndim or any(size not in (1, wanted) for size, wanted in ends):
            raise ValueError(f"saliency has shape {factor.shape}: it must broadcast to the shape {x.shape} of x")

    def select(score: NDArray, original: NDArray) -> NDArray[np.bool_]:
        rule = dict(ties=ties, original=original, seed=seed)
        if not flat:
            return keep_largest(score, pattern, axis=axis, **rule)
        rule["original"] = original.reshape(*x.shape[:batch], -1)
        return keep_largest(score.reshape(*x.shape[:batch], -1), pattern, axis=-1, **rule).reshape(x.shape)

    def quantize(values: NDArray) -> NDArray:
        return fmt.quantize(values, scale_axis, rounding=rounding, seed=seed)

    zero = x.dtype.type(0)
    with np.errstate(over="ignore", invalid="ignore"):
        magnitude = np.abs(x) * factor
    if not np.all(np.isfinite(magnitude)):
        if not np.all(np.isfinite(x)):
            raise ValueError("x holds NaN or infinity: every value must be finite")
        raise ValueError("saliency is too large for x: their products overflow")
    keep = select(magnitude, magnitude)
    pruned = np.where(keep, x, zero)
    quantized = quantize(x)
    compressed, masks = {}, {}
    for order in orders:
        if order == "sq":
            masks[order], compressed[order] = keep, quantize(pruned)
            continue
        if order == "qs":
            masks[order] = select(np.abs(quantized) * factor, magnitude)
        else:
            masks[order] = select(gain(x, quantized), magnitude)
        compressed[order] = np.where(masks[order], quantized, zero)
    return Orders(x, pruned, quantized, compressed, masks, batch)


def compare(
    x: ArrayLike,
    fmt: Format,
    pattern: str | float,
    order: str = "sq",
    ties: str = "first",
    *,
    axis: int | None = None,
    scale_axis: int = -1,
    saliency: ArrayLike | None = None,
    rounding: str = "even",
    seed: int = 0,
) -> Comparison:
    """Compress one tensor in one order and measure it against pruning and quantization alone.

    Parameters
    ----------
    x : array of real numbers.
    fmt : a format of `prunequant.formats`.
    pattern : "N:M" (N of every M kept along `axis`) or a sparsity (the fraction pruned of the whole tensor, or of each
        line along `axis`).
    order : "sq" (prune, then quantize), "qs" (quantize, then prune) or "joint" (quantize, then keep what saves the
        most squared error).
    ties : what breaks ties of the mask: "first", "last", "random" or "magnitude" (of the values before quantization).
    axis, scale_axis, saliency, rounding, seed : see `apply_orders`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError, TypeError : the errors of the format and of the mask, and unknown orders or ties.

    Examples
    --------
    >>> from prunequant.formats import Integer
    >>> x = [2.51, 3.0, 7.0, 0.0]
    >>> compare(x, Integer(4), "1:2", "qs").values  # 2.51 and 3 both become 3, and the first is kept
    array([3., 0., 7., 0.])
    >>> round(compare(x, Integer(4), "1:2", "qs").errors[1]["extra"], 2)
    0.49
    """
    order = arguments.choice(order, "order", ORDERS)
    orders = apply_orders(
        x, fmt, pattern, (order,), ties,
        axis=axis, scale_axis=scale_axis, saliency=saliency, rounding=rounding, seed=seed,
    )  # fmt: skip
    errors = {}
    for p in NORMS:
        e = {which: float(orders.error(which, p)) for which in ("s", "q", "sum")}
        e["both"] = float(orders.error(order, p))
        e["extra"] = e["both"] - e["sum"]
        e["x"] = float(norm(orders.x, p))
        errors[p] = e
    return Comparison(orders.compressed[order], orders.masks[order], order, ties, errors)
