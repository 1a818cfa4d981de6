"""The layerwise problem: weights, the Gram matrix of their inputs, and what a solver returns.

Numbers of any size a float holds are taken: where a gram or weights lie far from 1, the solvers see them in other units
(powers of two, so that nothing is rounded by it), and errors are given back in the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.arguments import choice, integer, numbers
from prunequant.distortion.grids import integer_range

NODE_LIMIT = 10_000_000
MOST_NODES = 2**62  # the counter's range; what a search takes is up to the caller
LARGEST = 1e300  # of weights and scales: levels and refitted values stay finite
MOST_STEPS = 2.0**52  # |w|/scale: beyond it neighbouring integers are one float
GRIDS = ("twos_complement", "narrow")
_PLAIN = 200  # numbers up to 2**±200 are left as they are


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found, for one neuron (weights (n,)) or for several (weights (n, neurons)).

    Attributes
    ----------
    values : like weights: the compressed weights
    error : float or (neurons,): (values − w)ᵀ gram (values − w), computed from `values`
    lower_bound : float or (neurons,): no admissible values have a smaller error (0 where nothing better is known)
    proved : bool or (neurons,): the error is the optimum
    nodes : int or (neurons,): visited nodes of the search tree, 0 for heuristics

    Notes
    -----
    Bound and proof hold up to rounding, about features · 2e-16 · (Σ_i √gram_ii |values_i − w_i|)²: where errors of
    single features are large and cancel in the output, what is left of them is known to that and no better.
    """

    values: np.ndarray
    error: float | np.ndarray
    lower_bound: float | np.ndarray
    proved: bool | np.ndarray
    nodes: int | np.ndarray = 0

    def snr(self, weights: ArrayLike, gram: ArrayLike) -> NDArray | float:
        """wᵀ gram w over the error, in dB, neuron by neuron; infinite where there is no error.

        Raises
        ------
        ValueError : weights of another shape than `values`, or a gram that does not fit them
        """
        problem = Problem(weights, gram)
        if np.shape(weights) != np.shape(self.values):
            raise ValueError(f"weights has shape {np.shape(weights)}: it must be {np.shape(self.values)}, as values")
        power = squared_norm(problem.weights, problem.gram)
        error, shift = np.atleast_1d(self.error), 0
        if problem.exponent:  # either may leave the range of floats in the units of the other
            error, shift = np.frexp(error)
        with np.errstate(divide="ignore", over="ignore"):
            out = 10 * np.log10(np.divide(power, error, out=np.full(error.shape, np.inf), where=error > 0))
        out += 10 * math.log10(2) * (problem.exponent - shift)
        return out[0] if problem.one else out


def squared_norm(x: np.ndarray, gram: np.ndarray):
    """xᵀ gram x for every column of x (never negative)."""
    return np.maximum(np.sum(x * (gram @ x), axis=0), 0.0)


def _exponent(largest: float) -> int:
    """An even power of two near `largest`, or 0 where that is a common size."""
    exponent = math.frexp(largest)[1] if largest > 0 else 0
    return 0 if abs(exponent) <= _PLAIN else exponent // 2 * 2


def _float64(x, name: str) -> np.ndarray:
    array = numbers(x, name)
    with np.errstate(over="ignore"):
        out = array.astype(np.float64)
    if not np.all(np.isfinite(out)):
        raise ValueError(f"{name} holds numbers beyond the range of float64: divide it by a constant")
    return out


class Problem:
    """Checked weights and Gram matrix of a call, in the solvers' units.

    Attributes
    ----------
    plain : (features, neurons) float64: the weights as given
    weights : (features, neurons) float64: plain · 2^-weight_exponent
    gram : (features, features) float64, symmetric: as given · 2^-gram_exponent
    one : the weights were given as (features,)
    shape : shape of the weights as given
    """

    def __init__(self, weights, gram, size: float = 0.0):
        """size : the largest number besides the weights that is measured in their units (levels)."""
        weights, gram = _float64(weights, "weights"), _float64(gram, "gram")
        if weights.ndim not in (1, 2) or weights.size == 0:
            raise ValueError(
                f"weights has shape {weights.shape}: it must be (features,) or (features, neurons), not empty"
            )
        n = weights.shape[0]
        if gram.shape != (n, n):
            raise ValueError(
                f"weights has shape {weights.shape} but gram has shape {gram.shape}: gram must be ({n}, {n}), "
                "inputs.T @ inputs over the same features"
            )
        largest = float(np.max(np.abs(weights)))
        if largest > LARGEST:
            raise ValueError(f"weights reach {largest:.3g}: they must lie within ±{LARGEST:g}")
        self.gram_exponent = _exponent(float(np.max(np.abs(gram))))
        gram = np.ldexp(gram, -self.gram_exponent) if self.gram_exponent else gram
        scale = np.max(np.abs(gram))
        skew = np.max(np.abs(gram - gram.T))
        if skew > 1e-6 * scale:
            raise ValueError(
                "gram is not symmetric: entries differ from their transposes by up to "
                f"{skew / scale:.3g} of the largest entry"
            )
        self.gram = 0.5 * (gram + gram.T)
        self.one, self.shape = weights.ndim == 1, weights.shape
        self.plain = weights.reshape(n, -1)
        self.measure(size)

    def measure(self, size: float) -> None:
        """Choose the units of the weights, given the largest level too; refuse where an error would overflow."""
        self.weight_exponent = _exponent(max(float(np.max(np.abs(self.plain))), size))
        self.weights = self.to_units(self.plain)
        reach = np.abs(self.weights).max(axis=1) + (self.to_units(size) if size else 0.0)
        most = float(np.sqrt(np.maximum(np.diag(self.gram), 0.0)) @ reach)
        if most > 0 and 2 * math.log2(most) + self.gram_exponent + 2 * self.weight_exponent > 1023:
            raise ValueError(
                f"gram reaches {np.ldexp(np.max(np.abs(self.gram)), self.gram_exponent):.3g} and weights or levels "
                f"{max(float(np.max(np.abs(self.plain))), size):.3g}: an error could pass the largest float; divide "
                "gram, or weights and scale, by a constant"
            )

    def to_units(self, x):
        """Weights or levels in the solvers' units."""
        return np.ldexp(x, -self.weight_exponent) if self.weight_exponent else x

    def from_units(self, x):
        """Weights in the caller's units."""
        return np.ldexp(x, self.weight_exponent) if self.weight_exponent else x

    @property
    def exponent(self) -> int:
        """The power of two by which an error in the caller's units is larger than in the solvers'."""
        return self.gram_exponent + 2 * self.weight_exponent

    def error(self, value):
        """An error, or a bound of one, in the caller's units (0 below the smallest float)."""
        return np.ldexp(value, self.exponent) if self.exponent else value

    def collect(self, columns: list[tuple]) -> Solution:
        """A Solution from (values in the caller's units, lower bound or None when proved, nodes) of each neuron."""
        values = np.stack([c[0] for c in columns], axis=1)
        error = squared_norm(self.to_units(values) - self.weights, self.gram)
        proved = np.array([c[1] is None for c in columns])
        bound = np.array([e if c[1] is None else min(max(c[1], 0.0), e) for e, c in zip(error, columns)])
        nodes = np.array([c[2] for c in columns])
        error, bound = self.error(error), self.error(bound)
        if self.one:
            return Solution(values[:, 0], float(error[0]), float(bound[0]), bool(proved[0]), int(nodes[0]))
        return Solution(values, error, bound, proved, nodes)


def factor(gram: np.ndarray) -> np.ndarray:
    """A matrix m with mᵀm = gram: Cholesky, or by eigenvalues when singular; an error when it is not positive.

    The eigenvalues are those of the gram with its diagonal brought near 1 (by powers of two), so that what is rounded
    is small against each feature's own power, however much larger another's.
    """
    try:
        return np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(gram)
    if values[0] < -1e-8 * max(values[-1], 0.0) or values[-1] < 0:
        raise ValueError(
            f"gram is not positive semidefinite: its smallest eigenvalue is {values[0] / np.max(np.abs(gram)):.3g} "
            f"times its largest entry, its largest eigenvalue {values[-1] / np.max(np.abs(gram)):.3g} times; use "
            "inputs.T @ inputs"
        )
    power = np.diag(gram)
    size = np.where(power > 0, np.exp2(np.round(0.5 * np.log2(power, where=power > 0, out=np.zeros(len(power))))), 1.0)
    even, basis = np.linalg.eigh(gram / size / size[:, None])
    if even[0] < -1e-8 * even[-1]:  # entries of a weak feature that its power does not allow: keep the plain ones
        even, basis, size = values, vectors, np.ones(len(gram))
    return np.sqrt(np.maximum(even, 0.0))[:, None] * basis.T * size


def inverse(gram: np.ndarray) -> np.ndarray:
    """Inverse of a positive definite gram, or an error that tells how to make it so."""
    factor(gram)  # says if it is not even semidefinite
    values = np.linalg.eigvalsh(gram)
    if values[0] <= 1e-13 * values[-1]:
        raise ValueError(
            f"gram is singular (its eigenvalues, over the largest: {values[0] / (values[-1] or 1.0):.3g} to 1), so its "
            "inverse does not exist; add a ridge, for example gram + 1e-9 * np.trace(gram) / n * np.eye(n)"
        )
    solved = np.linalg.inv(gram)
    return 0.5 * (solved + solved.T)


def check_scale(scale, weights: np.ndarray) -> np.ndarray:
    """The scale broadcast to the weights: one number, one a neuron, or one an entry."""
    scale = _float64(scale, "scale")
    try:
        full = np.broadcast_to(scale, weights.shape)
    except ValueError:
        raise ValueError(
            f"scale has shape {scale.shape}: it must be one number or broadcast to the weights' shape {weights.shape}"
        ) from None
    for bad in (full.min(), full.max()):
        if not 0 < bad <= LARGEST:
            raise ValueError(f"scale is {bad}: every scale must be positive and at most {LARGEST:g}")
    return full


def in_steps(weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """w/scale, or an error where a scale is so small that integers are no longer told apart."""
    with np.errstate(over="ignore"):
        z = weights / scale
    if np.max(np.abs(z)) > MOST_STEPS:
        worst = np.unravel_index(np.argmax(np.abs(z)), z.shape)
        raise ValueError(
            f"scale is {scale[worst]:.3g} for a weight of {weights[worst]:.3g}: a weight must lie within 2**52 steps"
        )
    return z


def check_node_limit(node_limit) -> int:
    return integer(node_limit, "node_limit", 1, MOST_NODES)


def box(z: np.ndarray, bits: int, grid: str, rounding: str) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest admissible integer of every weight z = w/scale."""
    choice(rounding, "rounding", ("any", "floor_ceil"))
    low, high = integer_range(bits, grid)
    if rounding == "any":
        return np.full(z.shape, low), np.full(z.shape, high)
    down = np.clip(np.floor(z), low, high).astype(np.int64)
    return down, np.clip(np.ceil(z), low, high).astype(np.int64)


def each_neuron(solve: Callable[[int], tuple], neurons: int) -> list[tuple]:
    """solve(j) for every neuron, on threads (the kernels release the lock); the order of results is the neurons'."""
    threads = min(numba.get_num_threads(), neurons)
    if threads <= 1:
        return [solve(j) for j in range(neurons)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(solve, range(neurons)))
