"""One layer and the rule by which it is rounded, checked once: whoever holds a `Layer` need not look at it again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import shown
from .checks import (
    check_alignment,
    check_damping,
    check_failure,
    check_feedback,
    check_scaling,
    check_seed,
    check_stream,
    checked_matrix,
)
from .gram import feedback_factor
from .operators import Coded, OneBit, Operator, check_operator
from .tensors import half_of, is_tensor


@dataclass(frozen=True, init=False)
class Rule:
    """How the errors of earlier features are corrected by later ones; the arguments of `compress` of these names.

    Examples
    --------
    >>> Rule("optq")
    Rule(feedback='optq', scaling=1.0, alignment=None, damping=0.01)
    """

    feedback: str
    scaling: float
    alignment: int | str | None
    damping: float

    def __init__(
        self,
        feedback: str = "path",
        scaling: float = 1.0,
        alignment: int | str | None = None,
        damping: float | None = None,
    ) -> None:
        checked = {
            "feedback": check_feedback(feedback),
            "scaling": check_scaling(scaling),
            "alignment": None if alignment is None else check_alignment(alignment),
            "damping": check_damping(damping, feedback),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def unaligned(self) -> Rule:
        """The same rule for a layer without quantized inputs."""
        return replace(self, alignment=None)

    def factor(self, inputs: NDArray) -> tuple[NDArray, NDArray]:
        """(factor, gain) of `gram.feedback_factor` for the inputs that the rounded weights see."""
        return feedback_factor(inputs, self.feedback, self.scaling, self.damping)


@dataclass(frozen=True, eq=False, init=False)
class Layer:
    """A layer as it is computed with, and the rule: what `compress` is given, in one dtype, finite and of one shape.

    Attributes
    ----------
    weights : (features, neurons), float32 or float64.
    inputs : (samples, features), of that dtype.
    quantized_inputs : the same samples through the compressed layers below, or None.
    rule : a `Rule`.
    given : the weights as they were given, whose kind, device and dtype the result has.

    Raises
    ------
    ValueError, TypeError : arrays that are no finite matrices of real numbers, shapes that do not match, an alignment
        without quantized inputs.
    """

    weights: NDArray = field(repr=False)
    inputs: NDArray = field(repr=False)
    quantized_inputs: NDArray | None = field(repr=False)
    rule: Rule
    given: object = field(init=False, repr=False)

    def __init__(
        self,
        weights: ArrayLike,
        inputs: ArrayLike,
        quantized_inputs: ArrayLike | None = None,
        rule: Rule | None = None,
    ) -> None:
        rule = Rule() if rule is None else rule
        w = checked_matrix("weights", weights)
        x = checked_matrix("inputs", inputs, w.dtype)
        if x.shape[1] != w.shape[0]:
            raise ValueError(
                f"weights has shape {w.shape} but inputs has shape {x.shape}: inputs must be (samples, {w.shape[0]})"
            )
        y = None
        if quantized_inputs is not None:
            y = checked_matrix("quantized_inputs", quantized_inputs, w.dtype)
            if y.shape != x.shape:
                raise ValueError(
                    f"inputs has shape {x.shape} but quantized_inputs {y.shape}: the same samples and features"
                )
        elif rule.alignment not in (None, 0):
            raise ValueError(f"alignment is {shown(rule.alignment)} but there are no quantized_inputs to align to")
        fields = {"weights": w, "inputs": x, "quantized_inputs": y, "rule": rule, "given": weights}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def features(self) -> int:
        """Rows of the weights."""
        return self.weights.shape[0]

    @property
    def neurons(self) -> int:
        """Columns of the weights."""
        return self.weights.shape[1]

    @property
    def samples(self) -> int:
        """Rows of the inputs."""
        return self.inputs.shape[0]

    @property
    def inputs_seen(self) -> NDArray:
        """(samples, features): the inputs that the compressed weights will see."""
        return self.inputs if self.quantized_inputs is None else self.quantized_inputs

    @property
    def passes(self) -> int | str:
        """Passes of data alignment, or "least-squares": one for "path" and changed inputs, unless told otherwise."""
        if self.quantized_inputs is None:
            return 0
        if self.rule.alignment is None:
            return 1 if self.rule.feedback == "path" else 0
        return self.rule.alignment

    @property
    def half(self) -> np.dtype | None:
        """The dtype of the weights as given where it is narrower than float32, else None."""
        return half_of(self.given)

    @property
    def elsewhere(self) -> bool:
        """Whether the weights were given on an accelerator."""
        return is_tensor(self.given) and self.given.device.type != "cpu"


@dataclass(frozen=True, eq=False)
class Rounding:
    """One rounding of a layer: by which operator, with which random numbers; the arguments of `compress`."""

    operator: Operator
    seed: int = 0
    stream: int = 0
    failure: float = 0.01

    def __post_init__(self) -> None:
        check_operator(self.operator)
        checked = {
            "seed": check_seed(self.seed),
            "stream": check_stream(self.stream),
            "failure": check_failure(self.failure),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def group(self, number: int, neurons: int) -> Rounding:
        """The rounding of group `number` of a convolution, `neurons` filters each, with a stream of its own."""
        operator = self.operator.part(number * neurons, (number + 1) * neurons)
        return replace(self, operator=operator, stream=number)

    def sizes(self, layer: Layer) -> Coded:
        """What the kernel takes of the operator for this layer.

        Raises
        ------
        ValueError : sizes that are not one a neuron or leave its dtype, two values that do not enclose its weights.
        """
        operator = self.operator
        if isinstance(operator, OneBit):
            largest = np.abs(layer.weights).max(axis=0)
            if np.any(largest > operator.domain):
                raise ValueError(
                    f"OneBit(size={np.max(operator.size):g}, stochastic={operator.stochastic}) is too small: it takes"
                    f" weights up to {np.min(operator.domain):g}, the largest is {largest.max():g}"
                )
        return operator._coded(layer.neurons, layer.weights.dtype)
