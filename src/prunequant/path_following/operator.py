"""What every rounding operator shares: its checks, its law, and how a weight is rounded by it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import flag, integer, numbers, real
from . import _kernels

LEAST, LARGEST = 1e-150, 1e150  # sizes; their squares and ratios stay in float64
_SNAP = 1e-9  # K/δ this near an integer, relatively, is that integer


def _positive(name: str, value, where: str) -> float | NDArray:
    """A number in [1e-150, 1e150], or a read-only vector of them."""
    if np.ndim(value) == 0:
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


def check_seed(seed: int) -> int:
    """An integer of 64 bits."""
    return integer(seed, "seed", 0, 2**64 - 1)


def writable(array: NDArray) -> NDArray:
    """The array, copied if it is read-only: to numba that is another type, and a compilation of seconds."""
    return array if array.flags.writeable else array.copy()


def _plain(value) -> float | NDArray:
    """A Python float where there is one number."""
    return float(value) if np.ndim(value) == 0 else value


@dataclass(frozen=True, eq=False)
class Operator:
    """What all operators share; use one of the five below."""

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

    def _code(self) -> tuple[int, float | NDArray, float | NDArray, int]:
        raise NotImplementedError

    def _coded(self, neurons: int, dtype) -> tuple[int, bool, NDArray, NDArray, int]:
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
