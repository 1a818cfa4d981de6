"""The rounding operators: what a weight may become, how the choice is drawn, and how far it can move.

A stochastic operator T is *unbiased*, E[T(x)] = x, and moves a weight by at most its `parameter` M; these two facts
are all that the error bounds use (Zhang and Saab, arXiv 2412.18184: a stochastic operator with parameter M). The
sharper bounds of this library use the `width`: the length of an interval that holds x − T(x), given x.

=========================  =============================================  ===========  ==================
operator (stochastic)      values                                         parameter M  width
=========================  =============================================  ===========  ==================
Grid(δ)                    δℤ                                             δ            δ
FiniteGrid(δ, n)           n points, symmetric around 0                   δ            δ
OneBit(K)                  −K, K                                          2K           2K
Prune(K)                   0, ±K and everything beyond                    K            K
PruneThenQuantize(K, δ)    0 and grid points of size ≥ about K            K + δ, or    δ⌈K/δ⌉
                                                                          max(K, δ) if K ∈ δℤ
=========================  =============================================  ===========  ==================

With ``stochastic=False`` the nearest value is taken (ties to even; pruning becomes a hard threshold): no longer
unbiased, so no bound in probability applies. Sizes may be one number or one a neuron, each in [1e-150, 1e150].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from . import _kernels
from .operator import _SNAP, Operator, _plain

MAX_LEVELS = 2**24
_MAX_VALUES = 2**27


@dataclass(frozen=True, eq=False)
class Grid(Operator):
    """The infinite grid δℤ: down or up to a neighbour, with the probability that makes the mean right.

    Parameters
    ----------
    step : δ > 0, one number or one a neuron.
    stochastic : draw; otherwise the nearest point, ties to the even one.

    Examples
    --------
    >>> Grid(0.25).law(0.1)
    (array([0.  , 0.25]), array([0.6, 0.4]))
    """

    step: float | NDArray
    stochastic: bool = True

    def __post_init__(self) -> None:
        self._check("step")

    @property
    def parameter(self) -> NDArray | float:
        return self.step if self.stochastic else self.step / 2

    @property
    def width(self) -> NDArray | float:
        return self.step

    def _code(self):
        return _kernels.GRID, self.step, 1.0, 0

    def _law(self, x):
        low = np.floor(x / self.step)
        up = x / self.step - low
        return self.step * np.stack([low, low + 1], -1), np.stack([1 - up, up], -1)


@dataclass(frozen=True, eq=False)
class FiniteGrid(Operator):
    """`levels` points a step apart, symmetric around zero; beyond the last point a weight is clipped and counted.

    Parameters
    ----------
    step : δ > 0, one number or one a neuron.
    levels : from 2 to 2**24, all exact in float32. An odd number 2K + 1 gives kδ with |k| ≤ K (zero is a value), an
        even number (k + ½)δ (b bits "mid-rise" have 2**b levels).
    stochastic : draw between the two neighbours; otherwise the nearest point.

    Examples
    --------
    >>> FiniteGrid(0.5, 5).values, FiniteGrid(1.0, 4).values
    (array([-1. , -0.5,  0. ,  0.5,  1. ]), array([-1.5, -0.5,  0.5,  1.5]))
    """

    step: float | NDArray
    levels: int
    stochastic: bool = True

    def __post_init__(self) -> None:
        self._check("step")
        object.__setattr__(self, "levels", integer(self.levels, "FiniteGrid: levels", 2, MAX_LEVELS))

    @property
    def values(self) -> NDArray:
        """The points, ascending; (levels,) or (levels, neurons)."""
        if self.levels * np.size(self.step) > _MAX_VALUES:
            raise ValueError(f"{self.levels} levels of {np.size(self.step)} neurons: more than {_MAX_VALUES} values")
        return np.multiply.outer(np.arange(self.levels) - (self.levels - 1) / 2, self.step)

    @property
    def parameter(self) -> NDArray | float:
        return self.step if self.stochastic else self.step / 2

    @property
    def width(self) -> NDArray | float:
        return self.step

    @property
    def domain(self) -> NDArray | float:
        edge = (self.levels - 1) / 2 * self.step
        return edge if self.stochastic else edge + self.step / 2

    def _code(self):
        return _kernels.FINITE, self.step, 1.0, self.levels

    def _law(self, x):
        offset = 0.5 if self.levels % 2 == 0 else 0.0
        place = np.clip(x / self.step - offset, -(self.levels // 2), (self.levels - 1) // 2)
        low = np.floor(place)
        up = place - low
        return self.step * (np.stack([low, low + 1], -1) + offset), np.stack([1 - up, up], -1)


@dataclass(frozen=True, eq=False)
class OneBit(Operator):
    """Two values, −K and K; K with probability (1 + x/K)/2. Weights must lie inside [−K, K].

    Parameters
    ----------
    size : K > 0, one number or one a neuron. A corrected weight beyond it is clipped and counted as saturated.
    stochastic : draw; otherwise the sign (that of 0 is +).

    Examples
    --------
    >>> OneBit(2.0).law(1.0)
    (array([-2.,  2.]), array([0.25, 0.75]))
    """

    size: float | NDArray
    stochastic: bool = True

    def __post_init__(self) -> None:
        self._check("size")

    @property
    def parameter(self) -> NDArray | float:
        return 2 * self.size if self.stochastic else self.size

    @property
    def width(self) -> NDArray | float:
        return 2 * self.size

    @property
    def domain(self) -> NDArray | float:
        return self.size if self.stochastic else 2 * self.size

    def _code(self):
        return _kernels.FINITE, 2 * self.size, 1.0, 2

    def _law(self, x):
        up = (1 + np.clip(x / self.size, -1, 1)) / 2
        return np.stack(np.broadcast_arrays(-self.size, self.size + 0 * x), -1), np.stack([1 - up, up], -1)


@dataclass(frozen=True, eq=False)
class Prune(Operator):
    """Keep what is at least K; below, become K·sign(x) with probability |x|/K and otherwise zero.

    Parameters
    ----------
    size : K > 0, one number or one a neuron.
    stochastic : draw; otherwise the hard threshold x·1{|x| ≥ K}.

    Examples
    --------
    >>> Prune(1.0).law(-0.25)
    (array([ 0., -1.]), array([0.75, 0.25]))
    """

    size: float | NDArray
    stochastic: bool = True

    def __post_init__(self) -> None:
        self._check("size")

    @property
    def parameter(self) -> NDArray | float:
        return self.size

    @property
    def width(self) -> NDArray | float:
        return self.size if self.stochastic else 2 * self.size

    def _code(self):
        return _kernels.PRUNE, self.size, 1.0, 0

    def _law(self, x):
        kept = np.abs(x) >= self.size
        up = np.where(kept, 1.0, np.abs(x) / self.size)
        return np.stack([np.zeros_like(x), np.where(kept, x, np.copysign(self.size, x))], -1), np.stack(
            [1 - up, up], -1
        )


@dataclass(frozen=True, eq=False)
class PruneThenQuantize(Operator):
    """`Prune(size)` and then `Grid(step)`: unbiased by the tower rule.

    If K is a multiple of δ the survivors of size K are grid points already, and both together cost no more than the
    dearer of the two; otherwise the width grows to the next multiple.

    Parameters
    ----------
    size, step : K > 0 and δ > 0, each one number or one a neuron.
    stochastic : draw; otherwise the hard threshold and then the nearest grid point.

    Examples
    --------
    >>> PruneThenQuantize(1.0, 0.5).width, PruneThenQuantize(1.2, 0.5).width, PruneThenQuantize(1.0, 0.5).on_grid
    (1.0, 1.5, True)
    """

    size: float | NDArray
    step: float | NDArray
    stochastic: bool = True

    def __post_init__(self) -> None:
        self._check("size", "step")
        if np.ndim(self.size) and np.ndim(self.step) and np.shape(self.size) != np.shape(self.step):
            raise ValueError(
                f"PruneThenQuantize: {np.size(self.size)} sizes but {np.size(self.step)} steps: one each a neuron"
            )

    @property
    def _ratio(self):
        ratio = np.divide(self.size, self.step)
        whole = np.rint(ratio)
        return np.where(np.abs(ratio - whole) <= _SNAP * ratio, whole, ratio)[()]

    @property
    def on_grid(self) -> bool:
        """Whether every size is a multiple of its step."""
        return bool(np.all(self._ratio == np.rint(self._ratio)))

    @property
    def parameter(self) -> NDArray | float:
        if not self.stochastic:
            return _plain(np.maximum(self.size, self.step / 2))
        whole = self._ratio == np.rint(self._ratio)
        return _plain(np.where(whole, np.maximum(self.size, self.step), np.add(self.size, self.step)))

    @property
    def width(self) -> NDArray | float:
        if not self.stochastic:
            return 2 * self.parameter
        return _plain(self.step * np.ceil(self._ratio))

    def _code(self):
        return _kernels.JOINT, self.step, self._ratio, 0

    def _law(self, x):
        place, ratio = np.abs(x) / self.step, self._ratio
        inside = place < ratio
        keep = np.where(inside, place / ratio, 1.0)
        target = np.where(inside, ratio, place)
        up = target - np.floor(target)
        values = np.stack([np.zeros_like(x), np.floor(target), np.floor(target) + 1], -1)
        return (
            np.copysign(values * self.step, x[..., None]),
            np.stack([1 - keep, keep * (1 - up), keep * up], -1),
        )
