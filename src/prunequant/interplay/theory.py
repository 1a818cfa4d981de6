"""Which theorem applies to which format, pattern and axis, and the bounds of those theorems.

The hypotheses, in the names used everywhere:

* keeps_zero, odd, monotone, max_scaled: properties of the format (`prunequant.formats`).
* deterministic: rounding is a function of the value.
* scale_preserved: after pruning, every block still holds a value of its largest magnitude, or is zero.
* one_scale: all values that compete for a place in the mask share one scale.
* by_magnitude: the mask ranks |x| (or |q(x)|) and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prunequant import arguments
from prunequant.formats import Format
from prunequant.formats.base import ROUNDINGS
from prunequant.interplay.orders import apply_orders, check_format, check_norm, norm
from prunequant.sparsity import parse_pattern

_SUM = ("keeps_zero", "max_scaled", "scale_preserved", "deterministic")
THEOREMS = {
    "sum": (
        "prune, then quantize, adds nothing beyond the sum (theorem 3.5), and its error is that of the pruned part "
        "beside that of the kept part",
        (*_SUM, "by_magnitude"),
    ),
    "bound": (
        "quantize, then prune, stays within the sum and the quantization error of |P| values (theorem 3.7)",
        ("by_magnitude",),
    ),
    "half_step": (
        "... where that error is at most |P|^(1/p) δ/2",
        ("by_magnitude", "nearest", "unsaturated"),
    ),
    "order": (
        "prune, then quantize, is never worse than the other order, in any norm, and equal to it when ties go to the "
        "larger original (the tie theorem)",
        (*_SUM, "by_magnitude", "odd", "monotone", "one_scale"),
    ),
    "joint": ("the joint mask is at least as good as both orders in L2", _SUM),
}


@dataclass(frozen=True)
class Hypotheses:
    """What holds of a format, a pattern and their axes; `reasons` says why a hypothesis fails."""

    holds: dict[str, bool]
    reasons: dict[str, str]

    def applies(self, theorem: str) -> bool:
        """Whether every hypothesis of a theorem ("sum", "bound", "half_step", "order", "joint") holds."""
        return not self.missing(theorem)

    def missing(self, theorem: str) -> tuple[str, ...]:
        """The hypotheses of a theorem that fail here."""
        theorem = arguments.choice(theorem, "theorem", THEOREMS)
        return tuple(h for h in THEOREMS[theorem][1] if not self.holds[h])

    def rows(self) -> list[tuple[str, str, str]]:
        """(theorem, "applies" or "not promised", why not) for every theorem."""
        out = []
        for name, (statement, _) in THEOREMS.items():
            missing = self.missing(name)
            why = "; ".join(f"{h}: {self.reasons[h]}" for h in missing)
            out.append((statement, "not promised" if missing else "applies", why))
        return out

    def _repr_markdown_(self) -> str:
        rows = "\n".join(f"| {a} | {b} | {c} |" for a, b, c in self.rows())
        return f"| statement | here | why not |\n|---|---|---|\n{rows}"


def _same_axis(axis: int | None, scale_axis: int, ndim: int) -> bool:
    return (-1 if axis is None else axis) % ndim == scale_axis % ndim


def hypotheses(
    fmt: Format,
    pattern: str | float,
    axis: int | None = None,
    *,
    scale_axis: int = -1,
    ndim: int = 2,
    saliency: bool = False,
    rounding: str = "even",
    offset: int = 0,
) -> Hypotheses:
    """Which hypotheses hold, and so which theorems apply, for a format and a pattern on their axes.

    Parameters
    ----------
    fmt, pattern, axis, scale_axis, rounding : as in `compare`; the axes in [-ndim, ndim).
    ndim : axes of the tensor, 1 to 64, for the comparison of axis and scale_axis.
    saliency : the mask ranks something else than magnitudes (Wanda, SparseGPT).
    offset : how many values (0 to 2^31) the blocks start before the groups of "N:M"; groups straddle blocks if neither
        divides.

    Examples
    --------
    >>> from prunequant.formats import HBFP, MX
    >>> hypotheses(MX("fp4_e2m1"), "2:4").applies("order")
    True
    >>> hypotheses(HBFP(6), 0.5).missing("order")
    ('one_scale',)
    >>> hypotheses(HBFP(6), "2:4", axis=0).missing("sum")
    ('scale_preserved',)
    """
    fmt, parsed = check_format(fmt), parse_pattern(pattern)
    ndim = arguments.integer(ndim, "ndim", 1, 64)
    axis = None if axis is None else arguments.integer(axis, "axis", -ndim, ndim - 1)
    scale_axis = arguments.integer(scale_axis, "scale_axis", -ndim, ndim - 1)
    saliency = arguments.flag(saliency, "saliency")
    rounding = arguments.choice(rounding, "rounding", ROUNDINGS)
    offset = arguments.integer(offset, "offset", 0, 2**31)
    block = fmt.block_size  # None: the row, 0: the tensor
    along = _same_axis(axis, scale_axis, ndim)
    reasons = {}

    def state(name: str, value: bool, reason: str) -> None:
        holds[name] = bool(value)
        if not value:
            reasons[name] = reason

    holds: dict[str, bool] = {}
    name = type(fmt).__name__
    state("keeps_zero", fmt.keeps_zero, f"{name} has no exact zero")
    state("odd", fmt.odd, "the levels are not symmetric, or the scale looks at signs")
    state("monotone", fmt.monotone, f"{name} may give a larger value a smaller level")
    state("max_scaled", fmt.max_scaled, "the scale looks at more than the largest magnitude of the block")
    state("unsaturated", not fmt.saturates, "the largest value of a block may lie beyond the last level")
    state("nearest", rounding == "even", "stochastic rounding errs by up to a whole step")
    state("deterministic", rounding == "even", "stochastic rounding draws anew")
    state("by_magnitude", not saliency, "the mask ranks a saliency, not magnitudes")
    if isinstance(parsed, float):
        preserved = axis is None or block == 0 or along
        why = "lines of one axis are ranked but scales run along another"
        single = block == 0 or (axis is not None and block is None and along)
        why_single = "values under different scales compete for one place"
    else:
        group = parsed[1]
        nested = block in (0, None) or (offset % group == 0 and block % group == 0)
        inside = block not in (0, None) and offset % block == 0 and group % block == 0
        preserved = block == 0 or (along and (nested or inside)) or parsed[0] == group
        why = "groups and blocks run along different axes"
        if along:
            why = f"groups of {group} and blocks of {block} overlap in part"
        single = block == 0 or (along and nested)
        why_single = why if not along or not (nested or inside) else "a group spans several blocks"
    state("scale_preserved", preserved and not saliency, "the largest value may be pruned" if saliency else why)
    state("one_scale", single, why_single)
    if fmt.tensor_scaled and saliency:
        state("max_scaled", False, "the tensor scale changes when the tensor's largest value is pruned")
    return Hypotheses(holds, reasons)


def _one_tensor(where: dict) -> dict:
    """Keywords of `apply_orders` for a single tensor."""
    known = ("ties", "axis", "scale_axis", "saliency", "rounding", "seed")
    for name in where:
        if name not in known:
            raise TypeError(f"{name} is no argument here: give some of {', '.join(known)}")
    return where


def pythagorean(x: ArrayLike, fmt: Format, pattern: str | float, p: float = 2.0, **where: Any) -> tuple[float, float]:
    """The error of "prune, then quantize" and the norm of its two parts, the pruned values and the errors of the kept.

    p : of the norm, 1 to infinity. where : ties, axis, scale_axis, saliency, rounding, seed, as in `compare`.

    Under theorem 3.5's hypotheses the two are equal: (‖x_P‖_p^p + ‖(x - q(x))_K‖_p^p)^(1/p).

    >>> from prunequant.formats import Integer
    >>> both, parts = pythagorean([7.0, 3.4, 1.6, 0.0], Integer(4), "2:4")
    >>> round(both, 6), round(parts, 6)
    (1.649242, 1.649242)
    """
    p, where = check_norm(p, "p"), _one_tensor(where)
    orders = apply_orders(x, fmt, pattern, ("sq",), **where)
    parts = np.where(orders.masks["sq"], orders.x - orders.quantized, orders.x)
    return float(orders.error("sq", p)), float(norm(parts, p))


def excess_bound(x: ArrayLike, fmt: Format, pattern: str | float, p: float = 2.0, **where: Any) -> tuple[float, float]:
    """What "quantize, then prune" may have over the sum (theorem 3.7): (‖(x - q(x))_P‖_p, |P|^(1/p)·δ/2).

    P are the values that pruning alone would drop. The first bound holds for every format and mask by magnitude; the
    second, with δ the widest step of those values' blocks, needs rounding to nearest without saturation.

    >>> from prunequant.formats import Integer
    >>> exact, bound = excess_bound([2.51, 3.0, 7.0, 0.0], Integer(4), "1:2", 1)
    >>> round(exact, 6), bound
    (0.49, 1.0)
    """
    p, where = check_norm(p, "p"), _one_tensor(where)
    orders = apply_orders(x, fmt, pattern, ("sq",), **where)
    pruned = ~orders.masks["sq"]
    exact = float(norm(np.where(pruned, orders.x - orders.quantized, 0), p))
    step = fmt.step(orders.x, where.get("scale_axis", -1))
    return exact, float(norm(np.where(pruned, step / 2, 0), p))
