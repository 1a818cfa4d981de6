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
Prune(K, c=1)              0, ±K and everything beyond                    K            K
Prune(K, c), c < 1         0, ±[cK, K] and everything beyond cK           K            K
PruneThenQuantize(K, δ)    0 and grid points of size ≥ about K            δ⌈K/δ⌉       δ⌈K/δ⌉
=========================  =============================================  ===========  ==================

With ``stochastic=False`` the nearest value is taken (ties to even; pruning becomes a hard threshold): no longer
unbiased, so no bound in probability applies. Sizes may be one number or one a neuron, each in [1e-150, 1e150].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import flag, instance, integer, numbers, real
from . import _kernels
from .checks import LARGEST, LEAST, check_seed, check_stream

MAX_LEVELS = 2**24
_MAX_VALUES = 2**27
_SNAP = 1e-9  # K/δ this near an integer, relatively, is that integer

Coded: TypeAlias = tuple[int, bool, NDArray, NDArray, int]  # kind, stochastic, two sizes a neuron, levels


def _positive(name: str, value, where: str) -> float | NDArray:
    """A number in [1e-150, 1e150], or a read-only vector of them."""
    if not isinstance(value, list | tuple) and np.ndim(value) == 0:
        return real(value, f"{where}: {name}", LEAST, LARGEST)
    array = numbers(value, f"{where}: {name}", finite=False)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{where}: {name} has shape {array.shape}: one number, or one for each neuron")
    array = array.astype(np.float64)
    if not (array.min() >= LEAST and array.max() <= LARGEST):
        bad = int(np.argmin((array >= LEAST) & (array <= LARGEST)))
        raise ValueError(f"{where}: {name} is {array[bad]} at {bad}: it must be finite numbers in [{LEAST}, {LARGEST}]")
    array.setflags(write=False)
    return array


def _weights(x) -> NDArray:
    """Numbers of at most 1e150 in size, as float64."""
    x = numbers(x, "x").astype(np.float64, copy=False)
    if x.size and max(-x.min(), x.max()) > LARGEST:
        raise ValueError(f"x holds values beyond {LARGEST:g} in size: their multiples of a step may leave float64")
    return x


def writable(array: NDArray) -> NDArray:
    """The array, copied if it is read-only: to numba that is another type, and a compilation of seconds."""
    return array if array.flags.writeable else array.copy()


def _plain(value) -> float | NDArray:
    """A Python float where there is one number."""
    return float(value) if np.ndim(value) == 0 else value


@dataclass(frozen=True, eq=False)
class Operator:
    """What all operators share: their checks, their law, how a weight is rounded; use one of the five below."""

    @property
    def stochastic(self) -> bool:
        """Whether the value is drawn, or the nearest one taken: a field of each of the five."""
        raise NotImplementedError

    def _check(self, *sizes: str) -> None:
        """Make the named fields positive numbers and `stochastic` a flag."""
        for name in sizes:
            object.__setattr__(self, name, _positive(name, getattr(self, name), type(self).__name__))
        object.__setattr__(self, "stochastic", flag(self.stochastic, f"{type(self).__name__}: stochastic"))

    @property
    def parameter(self) -> float | NDArray:
        """Largest |T(x) − x| over the domain: the M of the papers."""
        raise NotImplementedError

    @property
    def width(self) -> float | NDArray:
        """Largest length of the support of x − T(x) given x; for nearest rounding, of x − T(x) over all x."""
        raise NotImplementedError

    @property
    def mean_zero(self) -> bool:
        """Whether E[T(x)] = x, up to 2⁻²⁴ of the width (the resolution of one uniform draw)."""
        return self.stochastic

    @property
    def domain(self) -> float | NDArray:
        """Largest |x| that the operator takes without clipping."""
        return np.inf

    def part(self, start: int, stop: int) -> Operator:
        """The same operator for neurons start … stop − 1 alone; both from 0 on."""
        start = integer(start, "start", 0, 2**62)
        stop = integer(stop, "stop", start, 2**62)
        sizes = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: value[start:stop] for name, value in sizes.items() if np.ndim(value)})

    def spread(self, x: ArrayLike) -> NDArray:
        """Variance of T(x) given x: the noise that unbiased rounding adds at x (0 for nearest)."""
        values, probabilities = self.law(x)
        mean = np.sum(values * probabilities, axis=-1)
        return np.sum((values - mean[..., None]) ** 2 * probabilities, axis=-1)

    def law(self, x: ArrayLike) -> tuple[NDArray, NDArray]:
        """Values (…, k) and probabilities (…, k) of T(x), exactly; sizes must be single numbers."""
        for field in fields(self):
            if np.ndim(getattr(self, field.name)):
                raise ValueError(f"{type(self).__name__}.law: {field.name} is one a neuron, give one number")
        x = _weights(x)
        if not self.stochastic:
            return self(x)[..., None], np.ones((*x.shape, 1))
        return self._law(x)

    def __call__(self, x: ArrayLike, seed: int = 0) -> NDArray:
        """T(x) of every entry of x, each with its own randomness, as float64; a second axis is neurons.

        `seed` is an integer in [0, 2**64).

        Examples
        --------
        >>> from prunequant.path_following import Grid
        >>> Grid(0.5, stochastic=False)(np.array([0.2, 0.3, -1.9]))
        array([ 0. ,  0.5, -2. ])
        """
        x, key = _weights(x), _kernels.key(check_seed(seed))
        if x.size == 0:
            return x.copy()
        matrix = x.reshape(x.shape[0] if x.ndim > 1 else 1, -1)
        out = np.empty_like(matrix)
        clipped = np.zeros(matrix.shape[1], np.int64)
        zeros = np.zeros((matrix.shape[0], 1), np.float64)
        _kernels.triangular_rounding(
            writable(np.ascontiguousarray(matrix)),
            np.zeros((1, 1)),
            zeros[:, 0].copy(),
            *self._coded(matrix.shape[1], np.float64),
            *key,
            0,
            4,
            out,
            clipped,
        )
        return out.reshape(x.shape)

    def _law(self, x: NDArray) -> tuple[NDArray, NDArray]:
        raise NotImplementedError

    def _code(self) -> tuple[int, float | NDArray, float | NDArray, int]:
        raise NotImplementedError

    def _coded(self, neurons: int, dtype) -> Coded:
        """Kind, stochastic, first and second size (one a neuron), levels: what the kernel takes."""
        kind, first, second, levels = self._code()
        sizes = []
        for size in (first, second):
            with np.errstate(over="ignore"):
                size = np.asarray(size).astype(dtype)
            if size.ndim and size.size != neurons:
                raise ValueError(f"{self!r} has {size.size} sizes but there are {neurons} neurons: one each")
            sizes.append(writable(np.ascontiguousarray(np.broadcast_to(size, (neurons,)))))
        fits = np.isfinite(sizes[0]) & np.isfinite(sizes[1]) & (sizes[0] > np.finfo(dtype).tiny)
        if dtype == np.float32 and not np.all(fits):
            raise ValueError(f"{self!r}: a size is outside the range of float32, use float64 weights")
        return kind, self.stochastic, sizes[0], sizes[1], levels


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
    """Keep what is at least cK; below, draw a survivor uniformly from [cK, K], with the sign of x, or take zero.

    A survivor has probability 2|x|/((1 + c)K), which makes the mean right whatever c is. At c = 1 it is K itself, with
    probability |x|/K.

    Parameters
    ----------
    size : K > 0, one number or one a neuron.
    stochastic : draw; otherwise the hard threshold x·1{|x| ≥ cK}.
    c : in (0, 1], where the survivors begin; c = 1 leaves the most zeros.

    Notes
    -----
    The family of Zhang and Saab, arXiv 2412.18184, section 6; at |x| = cK itself, where theirs draws, x stays. One
    uniform a weight serves twice: whether it survives and, if so, where. No value moves by more than K.

    Examples
    --------
    >>> Prune(1.0).law(-0.25)
    (array([ 0., -1.]), array([0.75, 0.25]))
    >>> drawn = Prune(1.0, c=0.5)(np.full(1000, 0.25))
    >>> bool(np.all((drawn == 0) | (drawn >= 0.5) & (drawn < 1))), round(float(np.mean(drawn == 0)), 1)
    (True, 0.7)
    """

    size: float | NDArray
    stochastic: bool = True
    c: float = 1.0

    def __post_init__(self) -> None:
        self._check("size")
        object.__setattr__(self, "c", real(self.c, "Prune: c", 0, 1, open_low=True))

    @property
    def parameter(self) -> NDArray | float:
        return self.size if self.stochastic else self.c * self.size

    @property
    def width(self) -> NDArray | float:
        return self.size if self.stochastic else 2 * self.c * self.size

    def _code(self):
        return _kernels.PRUNE, self.size, self.c, 0

    def spread(self, x: ArrayLike) -> NDArray:
        """Variance of T(x) given x: 2|x|K(1 + c + c²)/(3(1 + c)) − x² below cK, and 0 from there on."""
        if np.ndim(self.size):
            raise ValueError("Prune.spread: size is one a neuron, give one number")
        size = np.abs(_weights(x))
        c = self.c
        drawn = 2 * size * self.size * (1 + c + c**2) / (3 * (1 + c)) - size**2
        return np.where((size < c * self.size) & self.stochastic, drawn, 0.0)

    def _law(self, x):
        if self.c < 1:
            raise ValueError(
                f"Prune.law: c is {self.c}: survivors lie anywhere in [cK, K], finitely many values need c = 1"
            )
        kept = np.abs(x) >= self.size
        up = np.where(kept, 1.0, np.abs(x) / self.size)
        return np.stack([np.zeros_like(x), np.where(kept, x, np.copysign(self.size, x))], -1), np.stack(
            [1 - up, up], -1
        )


@dataclass(frozen=True, eq=False)
class PruneThenQuantize(Operator):
    """`Prune(size)` and then `Grid(step)`: unbiased by the tower rule.

    If K is a multiple of δ the survivors of size K are grid points already, and both together cost no more than the
    dearer of the two; otherwise M and the width grow to the next multiple, δ⌈K/δ⌉. With δ = 2K, the case of Zhang and
    Saab (arXiv 2412.18184, Proposition 3), M = 2K and the law is that of `Grid(2K)`.

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
        return _plain(self.step * np.ceil(self._ratio))

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


def check_operator(operator: Operator) -> Operator:
    """An operator of this package."""
    return instance(operator, "operator", Operator, "one of Grid, FiniteGrid, OneBit, Prune, PruneThenQuantize")


def uniforms(features: int, neurons: int, seed: int = 0, stream: int = 0) -> NDArray[np.float32]:
    """(features, neurons): the draws in [0, 1), with 24 bits each, by which `compress` rounds.

    A stochastic `Grid` goes up where the draw is below the fraction v/δ − ⌊v/δ⌋.

    Examples
    --------
    >>> bool(np.all(uniforms(3, 5, seed=1) == uniforms(3, 9, seed=1)[:, :5]))  # whatever stands beside a neuron
    True
    """
    features, neurons = integer(features, "features", 1, _MAX_VALUES), integer(neurons, "neurons", 1, _MAX_VALUES)
    key, stream = _kernels.key(check_seed(seed)), check_stream(stream)
    out = np.empty((features, -(-neurons // 4) * 4), np.float32)
    for step in range(features):
        _kernels.uniforms(0, step, stream, *key, out[step])
    return out[:, :neurons]
