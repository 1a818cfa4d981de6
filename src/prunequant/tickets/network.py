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

from prunequant import arguments
from prunequant.tickets import arithmetic as exact

MAX_LEVELS = 2**62


@dataclass(frozen=True, eq=False, init=False)
class Network:
    """A quantized multilayer perceptron: integer weights, ReLU, integer rounding after a layer.

    Parameters
    ----------
    weights : sequence of (out, in) integer arrays, entries in −levels..levels
    levels : int in [1, 2^62], or one a layer; K_t = 1/δ_t
    divisors : None (no rounding anywhere), or one a layer, in [0, 2^62]: g ≥ 1 rounds ⌊z/g + ½⌋, 0 leaves the sum as it
        is
    constants : None, or one a layer, in [0, 2^62]: c > 0 appends a coordinate that always carries c to the layer's
        input, so that the last column of its weights is a bias (bias = weight · c in units of the sum); 0 appends none

    The weights are copied; the copies cannot be written to.

    Raises
    ------
    TypeError, ValueError : anything that is not as above, by name

    Examples
    --------
    >>> net = Network([[[3, -2], [1, 4]], [[2, -1]]], levels=4)
    >>> net.forward([[1, 1], [0, 2]])
    array([[-3],
           [-8]])
    """

    weights: tuple[NDArray, ...]
    levels: tuple[int, ...]
    divisors: tuple[int, ...]
    constants: tuple[int, ...]

    def __init__(
        self,
        weights: Sequence[ArrayLike],
        levels: int | Sequence[int],
        divisors: Sequence[int] | None = None,
        constants: Sequence[int] | None = None,
    ) -> None:
        listed = exact.several(weights, "weights")
        if not listed:
            raise ValueError("weights is empty: a network has at least one layer")
        matrices = tuple(exact.integers(w, f"weights[{i}]") for i, w in enumerate(listed))
        none = (0,) * len(matrices)
        grids = _one_a_layer(levels, "levels", 1, len(matrices))
        divide_by = none if divisors is None else _one_a_layer(divisors, "divisors", 0, len(matrices))
        appended = none if constants is None else _one_a_layer(constants, "constants", 0, len(matrices))
        for l, (w, k) in enumerate(zip(matrices, grids)):
            if w.ndim != 2 or not w.size:
                raise ValueError(f"weights[{l}] has shape {w.shape}: (out, in) is needed")
            if exact.largest(w) > k:
                raise ValueError(f"weights[{l}] reaches {exact.largest(w)}, off the grid: |w| ≤ {k} is allowed")
            if l and w.shape[1] != matrices[l - 1].shape[0] + bool(appended[l]):
                raise ValueError(
                    f"weights[{l}] has {w.shape[1]} inputs, but layer {l - 1} has {matrices[l - 1].shape[0]} outputs"
                    + (" and a constant is appended" if appended[l] else " and constants appends none")
                )
            w.setflags(write=False)
        fields = {"weights": matrices, "levels": grids, "divisors": divide_by, "constants": appended}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

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
        x = exact.integers(x, "x")
        if x.ndim != 2 or x.shape[1] != self.shape[0]:
            raise ValueError(f"x has shape {x.shape}: (samples, {self.shape[0]}) is needed")
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


def _one_a_layer(values, name: str, least: int, layers: int) -> tuple[int, ...]:
    listed = exact.several(values, name) if name != "levels" or exact.is_several(values) else (values,) * layers
    if len(listed) != layers:
        raise ValueError(f"{name} has {len(listed)} entries for the {layers} layers of weights")
    return tuple(arguments.integer(v, f"{name}[{l}]", least, MAX_LEVELS) for l, v in enumerate(listed))


def append(x: NDArray, constant: int, copies: int = 1) -> NDArray:
    """x (N, d) with ``copies`` columns that carry the constant (none when it is 0)."""
    if not constant:
        return x
    column = np.full((x.shape[0], copies), constant, dtype=object if constant >= 2**63 else x.dtype)
    return np.concatenate([x, column], axis=1)


def random_network(shape: Sequence[int], levels: int, seed: int, divisors: Sequence[int] | None = None) -> Network:
    """A network with weights uniform on {−levels..levels}.

    shape : layer widths, each in [1, 2^31], at most 2^27 weights in all; levels : int in [1, 2^62];
        seed : int in [0, 2^64 − 1]; divisors : as in `Network`

    Examples
    --------
    >>> random_network((3, 2), 4, seed=0).shape
    (3, 2)
    """
    widths = tuple(arguments.integer(d, f"shape[{i}]", 1, 2**31) for i, d in enumerate(exact.several(shape, "shape")))
    levels = arguments.integer(levels, "levels", 1, MAX_LEVELS)
    rng = np.random.default_rng(arguments.integer(seed, "seed", 0, 2**64 - 1))
    pairs = list(zip(widths[1:], widths[:-1]))
    if not pairs or sum(o * i for o, i in pairs) > 2**27:
        raise ValueError(f"shape is {widths}: two widths or more, and at most 2^27 weights, are needed")
    return Network([rng.integers(-levels, levels + 1, pair) for pair in pairs], levels, divisors)
