"""What `compress` returns: the compressed layer, and its errors and certificates when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .certificates import sample_bounds
from .gram import checked_matrix
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
    """

    weights: NDArray
    saturation: NDArray
    operator: Operator
    feedback: str
    scaling: float
    failure: float
    _original: NDArray = field(repr=False)
    _aligned: NDArray | None = field(repr=False)
    _inputs: NDArray = field(repr=False)
    _quantized_inputs: NDArray | None = field(repr=False)
    _damping: float = field(repr=False, default=0.0)
    _exact: NDArray | None = field(repr=False, default=None)  # the weights before they were rounded to half precision

    @property
    def error(self) -> NDArray:
        """(neurons,): largest |Xw − X̃q| over the samples, float64."""
        return self._measured[0]

    @property
    def relative_error(self) -> float:
        """‖XW − X̃Q‖_F / ‖XW‖_F; 0 if both vanish, infinite if the original output alone does."""
        wrong, right = float(self._measured[1].sum()), float(self._measured[2].sum())
        return float(np.sqrt(wrong / right)) if right > 0 else (0.0 if wrong == 0 else np.inf)

    @property
    def rms_error(self) -> NDArray:
        """(neurons,): root-mean-square of Xw − X̃q over the samples."""
        return np.sqrt(self._measured[1] / len(self._inputs))

    @property
    def sparsity(self) -> float:
        """Share of compressed weights that are exactly zero."""
        return 1 - np.count_nonzero(self._values) / self._values.size

    @cached_property
    def certificate(self) -> NDArray:
        """(neurons,): bound on `error`, in probability ≥ 1 − failure a neuron (always, for nearest rounding).

        With changed inputs the known alignment error is added sample by sample, and so is what rounding the weights to
        half precision did. Infinite for a neuron that was clipped: "not clipped, and yet above the bound" then has
        probability at most `failure`.
        """
        x = self._inputs if self._quantized_inputs is None else self._quantized_inputs
        bounds = sample_bounds(x, self.operator, self.scaling, self.failure, self.feedback, self._damping)
        bounds = bounds if bounds.ndim == 2 else bounds[:, None]
        if self._quantized_inputs is None and self._exact is None:
            largest = np.broadcast_to(bounds.max(axis=0), (self._original.shape[1],)).copy()
        else:
            largest = np.zeros(self._original.shape[1])
            for i in range(0, len(x), _ROWS):
                rows = slice(i, i + _ROWS)
                known = np.zeros((len(x[rows]), self._original.shape[1]))
                if self._quantized_inputs is not None:
                    known += self._inputs[rows].astype(np.float64) @ self._original
                    known -= x[rows].astype(np.float64) @ self._aligned
                if self._exact is not None:
                    known += x[rows].astype(np.float64) @ (self._exact.astype(np.float64) - self._values)
                largest = np.maximum(largest, (np.abs(known) + bounds[rows]).max(axis=0))
        largest[np.asarray(self.saturation) > 0] = np.inf
        return largest

    def held_out_error(self, inputs: ArrayLike, quantized_inputs: ArrayLike | None = None) -> float:
        """The relative error on other samples, (samples, features); 0 and infinite as for `relative_error`."""
        x = checked_matrix("inputs", inputs, np.float64)
        y = x if quantized_inputs is None else checked_matrix("quantized_inputs", quantized_inputs, x.dtype)
        features = len(self._original)
        if x.shape[1] != features or x.shape != y.shape:
            raise ValueError(
                f"inputs has shape {x.shape} and quantized_inputs {y.shape}: they must be (samples, {features})"
            )
        right = x @ self._original
        wrong, size = float(np.linalg.norm(right - y @ self._values.astype(np.float64))), float(np.linalg.norm(right))
        return wrong / size if size > 0 else (0.0 if wrong == 0 else np.inf)

    @property
    def _values(self) -> NDArray:
        return as_array(self.weights)

    @cached_property
    def _measured(self) -> tuple[NDArray, NDArray, NDArray]:
        """Largest error, sum of squared errors and of squared outputs, each one a neuron."""
        x = self._inputs
        y = x if self._quantized_inputs is None else self._quantized_inputs
        original, values = self._original.astype(np.float64), self._values.astype(np.float64)
        largest, wrong, right = (np.zeros(original.shape[1]) for _ in range(3))
        for i in range(0, len(x), _ROWS):
            output = x[i : i + _ROWS].astype(np.float64) @ original
            right += np.sum(output**2, axis=0)
            output -= y[i : i + _ROWS].astype(np.float64) @ values
            wrong += np.sum(output**2, axis=0)
            largest = np.maximum(largest, np.abs(output).max(axis=0))
        return largest, wrong, right
