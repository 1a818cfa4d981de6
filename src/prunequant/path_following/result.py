"""What `compress` returns: the compressed layer, and its errors and certificates when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .certificates import bounds_of, influence_of
from .checks import check_rows, checked_matrix
from .layer import Layer
from .operators import Operator
from .tensors import as_array

_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Result:
    """A compressed layer. `error` and `certificate` are computed when first asked for, and kept.

    Attributes
    ----------
    weights : (features, neurons): the compressed weights, of the kind (array or tensor) and in the floating-point dtype
        given (float64 where integers were given). Narrower than float32, they are computed in float32 and rounded once
        more in the end: `error` is that of the weights as they are, and `certificate` counts this last rounding.
    saturation : (neurons,): share of the steps whose corrected weight lay outside the operator's domain.
    operator, failure : as given.
    layer : the `Layer` that was compressed: weights, inputs and rule as they were computed with.
    aligned : (features, neurons) float64: the weights after data alignment; None without quantized inputs.
    exact : (features, neurons): the weights before they were rounded to half precision; None where they were not.
    """

    weights: NDArray
    saturation: NDArray
    operator: Operator
    failure: float
    layer: Layer
    aligned: NDArray | None = field(repr=False, default=None)
    exact: NDArray | None = field(repr=False, default=None)

    @property
    def feedback(self) -> str:
        """As given to `compress`."""
        return self.layer.rule.feedback

    @property
    def scaling(self) -> float:
        """As given to `compress`."""
        return self.layer.rule.scaling

    @property
    def values(self) -> NDArray:
        """(features, neurons): the compressed weights as an array, also where a tensor was given."""
        return as_array(self.weights)

    @property
    def error(self) -> NDArray:
        """(neurons,): largest |Xw − X̃q| over the samples, float64."""
        return self._measured[0]

    @property
    def squared_error(self) -> NDArray:
        """(neurons,): Σ (Xw − X̃q)² over the samples."""
        return self._measured[1]

    @property
    def squared_output(self) -> NDArray:
        """(neurons,): Σ (Xw)² over the samples."""
        return self._measured[2]

    @property
    def relative_error(self) -> float:
        """‖XW − X̃Q‖_F / ‖XW‖_F; 0 if both vanish, infinite if the original output alone does."""
        wrong, right = float(self.squared_error.sum()), float(self.squared_output.sum())
        return float(np.sqrt(wrong / right)) if right > 0 else (0.0 if wrong == 0 else np.inf)

    @property
    def rms_error(self) -> NDArray:
        """(neurons,): root-mean-square of Xw − X̃q over the samples."""
        return np.sqrt(self.squared_error / self.layer.samples)

    @property
    def sparsity(self) -> float:
        """Share of compressed weights that are exactly zero."""
        return 1 - np.count_nonzero(self.values) / self.values.size

    @cached_property
    def certificate(self) -> NDArray:
        """(neurons,): bound on `error`, in probability ≥ 1 − failure a neuron (always, for nearest rounding).

        With changed inputs the known alignment error is added sample by sample, and so is what rounding the weights to
        half precision did. Infinite for a neuron that was clipped: "not clipped, and yet above the bound" then has
        probability at most `failure`.
        """
        inputs, neurons = self.layer.inputs_seen, self.layer.neurons
        bounds = bounds_of(influence_of(self.layer.rule, inputs), self.operator, self.failure)
        bounds = bounds if bounds.ndim == 2 else bounds[:, None]
        if self.aligned is None and self.exact is None:
            largest = np.broadcast_to(bounds.max(axis=0), (neurons,)).copy()
        else:
            largest = np.zeros(neurons)
            for i in range(0, len(inputs), _ROWS):
                rows = slice(i, i + _ROWS)
                largest = np.maximum(largest, (np.abs(self._known(rows)) + bounds[rows]).max(axis=0))
        largest[np.asarray(self.saturation) > 0] = np.inf
        return largest

    def known_error(self, rows: ArrayLike | None = None) -> NDArray:
        """(samples, neurons): the part of Xw − X̃q that no draw decides, on these samples (integers; all by default).

        Xw − X̃w̃, which alignment leaves, and what rounding the weights to half precision in the end added.
        """
        return self._known(check_rows(rows, self.layer.samples))

    def _known(self, rows: NDArray | slice) -> NDArray:
        inputs = self.layer.inputs_seen[rows].astype(np.float64)
        known = np.zeros((len(inputs), self.layer.neurons))
        if self.aligned is not None:
            known += self.layer.inputs[rows].astype(np.float64) @ self.layer.weights
            known -= inputs @ self.aligned
        if self.exact is not None:
            known += inputs @ (self.exact.astype(np.float64) - self.values)
        return known

    def held_out_error(self, inputs: ArrayLike, quantized_inputs: ArrayLike | None = None) -> float:
        """The relative error on other samples, (samples, features); 0 and infinite as for `relative_error`."""
        x = checked_matrix("inputs", inputs, np.float64)
        y = x if quantized_inputs is None else checked_matrix("quantized_inputs", quantized_inputs, x.dtype)
        features = self.layer.features
        if x.shape[1] != features or x.shape != y.shape:
            raise ValueError(
                f"inputs has shape {x.shape} and quantized_inputs {y.shape}: they must be (samples, {features})"
            )
        right = x @ self.layer.weights
        wrong, size = float(np.linalg.norm(right - y @ self.values.astype(np.float64))), float(np.linalg.norm(right))
        return wrong / size if size > 0 else (0.0 if wrong == 0 else np.inf)

    @cached_property
    def _measured(self) -> tuple[NDArray, NDArray, NDArray]:
        """Largest error, sum of squared errors and of squared outputs, each one a neuron."""
        x, y = self.layer.inputs, self.layer.inputs_seen
        original, values = self.layer.weights.astype(np.float64), self.values.astype(np.float64)
        largest, wrong, right = (np.zeros(original.shape[1]) for _ in range(3))
        for i in range(0, len(x), _ROWS):
            output = x[i : i + _ROWS].astype(np.float64) @ original
            right += np.sum(output**2, axis=0)
            output -= y[i : i + _ROWS].astype(np.float64) @ values
            wrong += np.sum(output**2, axis=0)
            largest = np.maximum(largest, np.abs(output).max(axis=0))
        return largest, wrong, right
