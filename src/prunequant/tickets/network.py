"""The target: a network with quantized weights, evaluated in integers.

A weight w ∈ {k δ_t : |k δ_t| ≤ 1} is held as the integer k ∈ {−K_t..K_t}, K_t = 1/δ_t. An activation is an
integer number of steps γ. Layer l computes z = W x exactly; where ``divisors[l]`` is g > 0 the sum is brought
back to the activation grid by ⌊z/g + ½⌋ (this is [·]_γ with γ_out = g δ_t γ_in), where it is 0 nothing is rounded
and the scale of the integers grows by K_t. ReLU follows every layer but the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.tickets import _arithmetic as exact


@dataclass(frozen=True, eq=False)
class Network:
    """A quantized multilayer perceptron: integer weights, ReLU, integer rounding after a layer.

    Parameters
    ----------
    weights : sequence of (out, in) integer arrays, entries in −levels..levels
    levels : int or one a layer; K_t = 1/δ_t
    divisors : None (no rounding anywhere), or one a layer: g ≥ 1 rounds ⌊z/g + ½⌋, 0 leaves the sum as it is
    constants : None, or one a layer: c > 0 appends a coordinate that always carries c to the layer's input, so
        that the last column of its weights is a bias (bias = weight · c in units of the sum); 0 appends none

    Examples
    --------
    >>> net = Network([[[3, -2], [1, 4]], [[2, -1]]], levels=4)
    >>> net.forward([[1, 1], [0, 2]])
    array([[-3],
           [-8]])
    """

    weights: Sequence[NDArray]
    levels: int | Sequence[int]
    divisors: Sequence[int] | None = None
    constants: Sequence[int] | None = None

    def __post_init__(self) -> None:
        weights = tuple(exact.integers(w, f"weights[{i}]") for i, w in enumerate(self.weights))
        if not weights:
            raise ValueError("weights is empty: a network has at least one layer")
        levels = (self.levels,) * len(weights) if np.isscalar(self.levels) else tuple(self.levels)
        divisors = (0,) * len(weights) if self.divisors is None else tuple(int(g) for g in self.divisors)
        constants = (0,) * len(weights) if self.constants is None else tuple(int(c) for c in self.constants)
        for name, values in (("levels", levels), ("divisors", divisors), ("constants", constants)):
            if len(values) != len(weights):
                raise ValueError(f"{name} has {len(values)} entries for {len(weights)} layers")
        for l, (w, k) in enumerate(zip(weights, levels)):
            if w.ndim != 2 or not w.size:
                raise ValueError(f"weights[{l}] has shape {w.shape}: (out, in) is needed")
            if int(k) != k or k < 1:
                raise ValueError(f"levels of layer {l} is {k}: a positive integer 1/δ_t is needed")
            if exact.largest(w) > k:
                raise ValueError(f"weights[{l}] reaches {exact.largest(w)}, off the grid: |w| ≤ {k} is allowed")
            if divisors[l] < 0 or constants[l] < 0:
                raise ValueError(f"layer {l}: divisors and constants must not be negative")
            if l and w.shape[1] != weights[l - 1].shape[0] + bool(constants[l]):
                raise ValueError(
                    f"weights[{l}] has {w.shape[1]} inputs, but layer {l - 1} has {weights[l - 1].shape[0]} outputs"
                    + (" and a constant is appended" if constants[l] else "")
                )
            w.setflags(write=False)
        for name, value in (("weights", weights), ("divisors", divisors), ("constants", constants)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "levels", tuple(int(k) for k in levels))

    @property
    def depth(self) -> int:
        """Number of layers ℓ."""
        return len(self.weights)

    @property
    def shape(self) -> tuple[int, ...]:
        """Layer widths, constants not counted."""
        return (self.weights[0].shape[1] - bool(self.constants[0]), *(w.shape[0] for w in self.weights))

    @property
    def parameters(self) -> int:
        """Number of weights N_t, biases included."""
        return sum(w.size for w in self.weights)

    def inputs(self, x: ArrayLike) -> NDArray:
        """Check a batch of inputs (N, d) of integers."""
        x = exact.integers(x, "inputs")
        if x.ndim != 2 or x.shape[1] != self.shape[0]:
            raise ValueError(f"inputs has shape {x.shape}: (samples, {self.shape[0]}) is needed")
        return x

    def forward(self, x: ArrayLike) -> NDArray:
        """The outputs (N, out), exact integers; one row a sample."""
        x = self.inputs(x)
        for l, w in enumerate(self.weights):
            x = exact.matmul(append(x, self.constants[l]), w.T)
            if self.divisors[l]:
                x = exact.round_half_up(x, self.divisors[l])
            if l + 1 < self.depth:
                x = exact.relu(x)
        return x


def append(x: NDArray, constant: int, copies: int = 1) -> NDArray:
    """x (N, d) with ``copies`` columns that carry the constant (none when it is 0)."""
    if not constant:
        return x
    column = np.full((x.shape[0], copies), constant, dtype=object if constant >= 2**63 else x.dtype)
    return np.concatenate([x, column], axis=1)


def random_network(shape: Sequence[int], levels: int, seed: int, divisors: Sequence[int] | None = None) -> Network:
    """A network with weights uniform on {−levels..levels}.

    Examples
    --------
    >>> random_network((3, 2), 4, seed=0).shape
    (3, 2)
    """
    rng = np.random.default_rng(seed)
    pairs = zip(shape[1:], shape[:-1])
    return Network([rng.integers(-levels, levels + 1, pair) for pair in pairs], levels, divisors)
