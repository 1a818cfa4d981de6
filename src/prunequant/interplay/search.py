"""The smallest vector that breaks a statement: all small integer vectors first, then random ones made simple."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.formats import Format
from prunequant.interplay.orders import MAX_SEED, Orders, apply_orders, check_format, check_norm

STATEMENTS = {
    "sq<=sum": ("sq", "sum", "prune, then quantize, adds nothing beyond the sum of both errors"),
    "qs<=sum": ("qs", "sum", "quantize, then prune, adds nothing beyond the sum of both errors"),
    "sq<=qs": ("sq", "qs", "prune, then quantize, is never worse than the other order"),
    "qs<=sq": ("qs", "sq", "quantize, then prune, is never worse than the other order"),
    "joint<=sq": ("joint", "sq", "the joint mask is never worse than prune, then quantize"),
    "joint<=qs": ("joint", "qs", "the joint mask is never worse than quantize, then prune"),
}
MAX_LENGTH, MAX_RADIUS = 64, 256
MAX_VALUES = 1 << 26  # trials × values of one tensor: some ten seconds
TOLERANCE = 1e-9  # relative: rounding of the norms


@dataclass(frozen=True)
class Counterexample:
    """A tensor for which `statement` is false: its left side, `left`, exceeds its right side."""

    x: NDArray[np.float64]
    statement: str
    norm: float
    left: float
    right: float
    orders: Orders

    @property
    def excess(self) -> float:
        return self.left - self.right

    def __str__(self) -> str:
        values = " ".join(f"{v:g}" for v in self.x.ravel())
        p = "∞" if self.norm == np.inf else f"{self.norm:g}"
        return f"x = ({values}): {self.left:.6g} > {self.right:.6g} in L{p}, against '{STATEMENTS[self.statement][2]}'"


def integer_vectors(radius: int, length: int, at_most: int = 1 << 20) -> Iterator[NDArray[np.float64]]:
    """All integer vectors with entries in [-radius, radius], in lexicographic order, in batches of at most so many."""
    radius = arguments.integer(radius, "radius", 0, MAX_RADIUS)
    length = arguments.integer(length, "length", 1, MAX_LENGTH)
    at_most = arguments.integer(at_most, "at_most", 1, 1 << 22)
    if (2 * radius + 1) ** length > 2**62:
        raise ValueError(f"length is {length}: there are above 2^62 vectors with entries up to {radius}")
    side = 2 * radius + 1
    total = side**length
    weights = side ** np.arange(length - 1, -1, -1)
    for start in range(0, total, at_most):
        index = np.arange(start, min(start + at_most, total))
        yield (index[:, None] // weights % side - radius).astype(np.float64)


def violations(orders: Orders, statement: str, p: float) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Left side, right side, and where the left is larger by more than rounding, for each tensor of a batch."""
    statement = arguments.choice(statement, "statement", STATEMENTS)
    left, right = (orders.error(which, p) for which in STATEMENTS[statement][:2])
    return left, right, left > right + TOLERANCE * np.maximum(right, 1)


def _candidates(shape: tuple[int, ...], radius: int, trials: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Integer tensors shell by shell up to `radius` (while a shell has at most a million), then random ones."""
    length = prod(shape)
    for r in range(1, radius + 1):
        if (2 * r + 1) ** length > 1 << 21:
            break
        for batch in integer_vectors(r, length):
            shell = batch[np.abs(batch).max(axis=1) == r]
            if shell.size:
                yield shell[np.argsort(np.abs(shell).sum(axis=1), kind="stable")].reshape(-1, *shape)
    rng = np.random.default_rng(seed)
    for k, start in enumerate(range(0, trials, 50_000)):
        size = (min(50_000, trials - start), *shape)
        if k % 2:
            yield rng.standard_t(3, size) if k // 2 % 2 else rng.standard_normal(size)
        else:  # whole numbers, many of them zero: on the levels of a format more often than chance
            yield (rng.integers(-radius, radius + 1, size) * (rng.random(size) < 0.7)).astype(np.float64)


def _checked_shape(shape: tuple[int, ...] | int) -> tuple[int, ...]:
    """A shape of at most `MAX_LENGTH` values, none of its axes empty."""
    given = shape if isinstance(shape, tuple | list) else (shape,)
    lengths = tuple(arguments.integer(n, "shape", 1, MAX_LENGTH) for n in given)
    if not lengths or prod(lengths) > MAX_LENGTH:
        raise ValueError(
            f"shape is {arguments.shown(shape)}: give positive lengths, at most {MAX_LENGTH} values in all"
        )
    return lengths


def counterexample(
    fmt: Format,
    pattern: str | float,
    statement: str = "sq<=qs",
    norm: float = 2.0,
    ties: str = "first",
    *,
    shape: tuple[int, ...] | int = 4,
    axis: int | None = None,
    scale_axis: int = -1,
    rounding: str = "even",
    radius: int = 12,
    trials: int = 400_000,
    seed: int = 0,
) -> Counterexample | None:
    """A small tensor that breaks a statement, or None when none was found.

    Parameters
    ----------
    fmt, pattern, ties, rounding : as in `compare`.
    statement : "sq<=sum", "qs<=sum", "sq<=qs", "qs<=sq", "joint<=sq" or "joint<=qs" ("sq": prune, then quantize).
    norm : p of the L_p norm, 1 to infinity.
    shape : of the tensor sought, at most 64 values; axis, scale_axis : as in `compare`, of that shape.
    radius : 1 to 256; every integer tensor with entries up to it is tried, smallest first (while there are below two
        million); then `trials` random ones, half of them integers; what is found is rounded to as few digits as still
        break it. trials times the values of one tensor may reach 2^26.

    Returns
    -------
    Counterexample of the smallest largest entry, then of the smallest sum of magnitudes; or None. None after the
    exhaustive part is a proof for those integers and evidence beyond.

    Examples
    --------
    >>> from prunequant.formats import Integer
    >>> print(counterexample(Integer(3), "1:2", "qs<=sq", norm=1))
    x = (-4 0 -2 -3): 3.66667 > 2.33333 in L1, against 'quantize, then prune, is never worse than the other order'
    >>> counterexample(Integer(4), "2:4", "sq<=qs", radius=6, trials=0) is None
    True
    """
    fmt, statement = check_format(fmt), arguments.choice(statement, "statement", STATEMENTS)
    norm, shape = check_norm(norm), _checked_shape(shape)
    if axis is not None:
        axis = arguments.integer(axis, "axis", -len(shape), len(shape) - 1)
    scale_axis = arguments.integer(scale_axis, "scale_axis", -len(shape), len(shape) - 1)
    radius = arguments.integer(radius, "radius", 1, MAX_RADIUS)
    trials = arguments.integer(trials, "trials", 0, MAX_VALUES // prod(shape))
    seed = arguments.integer(seed, "seed", 0, MAX_SEED)
    axis = axis - len(shape) if axis is not None and axis >= 0 else axis
    scale_axis = scale_axis - len(shape) if scale_axis >= 0 else scale_axis
    own = fmt.row_by_row(radius)
    if fmt.block_size == 0 and len(shape) > 1:
        raise ValueError("granularity 'tensor' has no batch form for matrices: give shape a single length")
    needed = tuple(k for k in ("sq", "qs", "joint") if k in STATEMENTS[statement][:2])

    def compressed(batch: NDArray) -> Orders:
        return apply_orders(
            batch, own, pattern, needed, ties,
            axis=axis, scale_axis=scale_axis, rounding=rounding, seed=seed, batch=1,
        )  # fmt: skip

    for batch in _candidates(shape, radius, trials, seed):
        bad = violations(compressed(batch), statement, norm)[2]
        if np.any(bad):
            x = batch[np.argmax(bad)]
            if rounding == "even":
                x = _simplest(x, compressed, statement, norm)
            orders = compressed(x[None])
            left, right, _ = violations(orders, statement, norm)
            return Counterexample(x, statement, norm, float(left[0]), float(right[0]), orders)
    return None


def _simplest(x: NDArray, compressed: Callable[[NDArray], Orders], statement: str, p: float) -> NDArray:
    """x rounded to the fewest decimals, then with as many zeros, as still break the statement."""

    def breaks(y: NDArray) -> bool:
        return bool(violations(compressed(y[None]), statement, p)[2][0])

    for digits in range(6):
        if breaks(np.round(x, digits)):
            x = np.round(x, digits)
            break
    for i in np.ndindex(x.shape):
        y = x.copy()
        y[i] = 0
        if breaks(y):
            x = y
    return x + 0
