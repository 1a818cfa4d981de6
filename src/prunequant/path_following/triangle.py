"""Compress one layer: memoryless, path-following and OPTQ rounding are one triangular rounding with three factors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import _kernels
from .certificates import sample_bounds
from .gram import (
    FEEDBACKS,
    align,
    check_damping,
    check_failure,
    check_order,
    check_scaling,
    checked_matrix,
    feedback_factor,
)
from .operators import OneBit, Operator

_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Result:
    """A compressed layer. `error` and `certificate` are computed when first asked for, and kept.

    Attributes
    ----------
    weights : (features, neurons): the compressed weights, in the dtype and of the kind (array or tensor) given.
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
    _damping: float = field(repr=False, default=0.01)

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

        With changed inputs the known alignment error is added sample by sample. Infinite for a neuron that was
        clipped: "not clipped, and yet above the bound" then has probability at most `failure`.
        """
        x = self._inputs if self._quantized_inputs is None else self._quantized_inputs
        bounds = sample_bounds(x, self.operator, self.scaling, self.failure, self.feedback, self._damping)
        bounds = bounds if bounds.ndim == 2 else bounds[:, None]
        if self._quantized_inputs is None:
            largest = np.broadcast_to(bounds.max(axis=0), (self._original.shape[1],)).copy()
        else:
            largest = np.zeros(self._original.shape[1])
            for i in range(0, len(x), _ROWS):
                rows = slice(i, i + _ROWS)
                known = self._inputs[rows].astype(np.float64) @ self._original
                known -= x[rows].astype(np.float64) @ self._aligned
                largest = np.maximum(largest, (np.abs(known) + bounds[rows]).max(axis=0))
        largest[np.asarray(self.saturation) > 0] = np.inf
        return largest

    def held_out_error(self, inputs, quantized_inputs=None) -> float:
        """The relative error on other samples."""
        x = checked_matrix("inputs", _as_array(inputs), np.float64)
        y = x if quantized_inputs is None else checked_matrix("quantized_inputs", _as_array(quantized_inputs), x.dtype)
        right = x @ self._original
        return float(np.linalg.norm(right - y @ self._values.astype(np.float64)) / np.linalg.norm(right))

    @property
    def _values(self) -> NDArray:
        return _as_array(self.weights)

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


def compress(
    weights,
    inputs,
    operator: Operator,
    feedback: str = "path",
    scaling: float = 1.0,
    quantized_inputs=None,
    seed: int = 0,
    alignment: int | str | None = None,
    damping: float = 0.01,
    failure: float = 0.01,
    stream: int = 0,
) -> Result:
    """Round the weights of a layer one feature after the other, each correcting the output error made so far.

    Parameters
    ----------
    weights : (features, neurons), NumPy array or torch tensor. float32 stays float32, anything else is done in
        float64.
    inputs : (samples, features): calibration inputs of the layer. Fewer samples than features, dependent features
        and zero features are fine.
    operator : one of `operators`.
    feedback : "none" (memoryless), "path" (GPFQ with a nearest operator, SPFQ with a stochastic one) or "optq".
    scaling : C ≥ 1 divides the correction; 1 corrects fully, large C forgets the past.
    quantized_inputs : (samples, features): the same samples seen through the already compressed layers below; the
        aim is then X̃q ≈ Xw.
    seed : integer in [0, 2**64). The draw of a weight is a function of (seed, stream, feature, neuron) alone: same
        output for any number of threads.
    alignment : passes r of data alignment before rounding, or "least-squares"; by default 1 for "path" (one pass and
        nearest rounding is GPFQ for changed inputs) and 0 otherwise. Only with quantized_inputs.
    damping : "optq" alone: share of the mean diagonal added to the Gram matrix.
    failure : for `Result.certificate`, per neuron.
    stream : separates independent uses of one seed, such as the groups of a convolution.

    Returns
    -------
    Result

    Raises
    ------
    ValueError, TypeError : shapes that do not match, values that are not finite, scaling < 1, one-bit values that do
        not enclose the weights, a singular Gram matrix with "optq" and no damping.

    Notes
    -----
    v_t = w_t + ⟨X̃_t, u_{t−1}⟩/(C‖X̃_t‖²), q_t = T(v_t), u_t = u_{t−1} + (w_t − q_t)X̃_t is run in its Gram form
    v = w + M(w − q) with M strictly lower triangular: samples·features² operations once (SYRK), then
    features²·neurons in one blocked kernel. Zhang, Zhou and Saab (GPFQ); Zhang and Saab, arXiv 2309.10975 (SPFQ) and
    2412.18184 (operator, C); Frantar et al., arXiv 2210.17323 (OPTQ). Twins: tests/naive/path_following.py.

    Examples
    --------
    >>> from prunequant.path_following import Grid, compress
    >>> x = np.array([[1.0, 1.0], [0.0, 1e-3]])
    >>> w = np.array([[0.4], [0.4]])
    >>> compress(w, x, Grid(1.0, stochastic=False), feedback="none").weights.ravel()
    array([0., 0.])
    >>> compress(w, x, Grid(1.0, stochastic=False)).weights.ravel()  # the second weight mends the first
    array([0., 1.])
    """
    if _is_tensor(weights) and weights.device.type != "cpu":
        from ._torch import compress_tensors

        return compress_tensors(
            weights, inputs, operator, feedback, scaling, quantized_inputs, seed, alignment, damping, failure, stream
        )
    w, x, y, order = checked_arguments(weights, inputs, operator, feedback, quantized_inputs, alignment)
    scaling, damping, failure = check_scaling(scaling), check_damping(damping), check_failure(failure)
    key0, key1 = _kernels.key(check_seed(seed))
    aligned = None if y is None else align(w, x, y, order)
    start = w if aligned is None else aligned.astype(w.dtype)
    start = np.ascontiguousarray(start)
    factor, gain = feedback_factor(x if y is None else y, feedback, scaling, damping)
    out, clipped = np.empty_like(start), np.zeros(w.shape[1], np.int64)
    _kernels.triangular_rounding(
        start,
        factor,
        gain,
        *operator._coded(w.shape[1], w.dtype),
        key0,
        key1,
        stream,
        _kernels.TILE,
        out,
        clipped,
    )
    check_output(out)
    return Result(
        weights=_like(out, weights),
        saturation=_like(clipped / w.shape[0], weights),
        operator=operator,
        feedback=feedback,
        scaling=scaling,
        failure=failure,
        _original=w,
        _aligned=aligned,
        _inputs=x,
        _quantized_inputs=y,
        _damping=damping,
    )


def checked_arguments(weights, inputs, operator, feedback, quantized_inputs, alignment):
    """(weights, inputs, quantized inputs or None, order) as checked arrays of one dtype."""
    if not isinstance(operator, Operator):
        raise TypeError(f"operator is {operator!r}: one of Grid, FiniteGrid, OneBit, Prune, PruneThenQuantize")
    if feedback not in FEEDBACKS:
        raise ValueError(f"feedback is {feedback!r}: one of {', '.join(FEEDBACKS)}")
    w = checked_matrix("weights", _as_array(weights))
    x = checked_matrix("inputs", _as_array(inputs), w.dtype)
    if x.shape[1] != w.shape[0]:
        raise ValueError(
            f"weights has shape {w.shape} but inputs has shape {x.shape}: inputs must be (samples, {w.shape[0]})"
        )
    order, y = 0, None
    if quantized_inputs is not None:
        y = checked_matrix("quantized_inputs", _as_array(quantized_inputs), w.dtype)
        if y.shape != x.shape:
            raise ValueError(
                f"inputs has shape {x.shape} but quantized_inputs {y.shape}: the same samples and features"
            )
        order = check_order((1 if feedback == "path" else 0) if alignment is None else alignment)
    elif alignment not in (None, 0):
        raise ValueError(f"alignment is {alignment!r} but there are no quantized_inputs to align to")
    if isinstance(operator, OneBit):
        largest = np.abs(w).max(axis=0)
        if np.any(largest > operator.domain):
            raise ValueError(
                f"OneBit(size={np.max(operator.size):g}, stochastic={operator.stochastic}) is too small: it takes"
                f" weights up to {np.min(operator.domain):g}, the largest is {largest.max():g}"
            )
    return w, x, y, order


def check_seed(seed: int) -> int:
    """An integer of 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed!r}: an integer from 0 to 2**64 − 1")
    return int(seed)


def check_output(out: NDArray) -> None:
    """Overflow is an error, never a NaN handed on."""
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise ValueError(
            f"the corrected weights left the range of {out.dtype}: bring weights and inputs nearer to 1 or use float64"
        )


def size_for_sparsity(
    weights, inputs, sparsity: float, stochastic: bool = False, steps: int = 30, **options
) -> tuple[float, Result]:
    """The pruning size K that leaves this share of zeros, by bisection, and the compressed layer.

    Parameters
    ----------
    sparsity : in (0, 1).
    stochastic : draw, or hard threshold.
    options : passed to `compress` (feedback, scaling, seed, …); `operator` may be a function K → operator, for
        pruning and quantization together.

    Raises
    ------
    ValueError : not reached at 64 times the largest weight. Unbiased pruning has a ceiling, about 1 − 1/(π·scaling)
        with many more features than samples, see `theory.sparsity_ceiling`.
    """
    from .operators import Prune

    if not 0 < sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}: a number strictly between 0 and 1")
    make = options.pop("operator", lambda size: Prune(size, stochastic))
    largest = float(np.abs(_as_array(weights)).max())
    low, high = 0.0, largest
    for _ in range(7):
        result = compress(weights, inputs, make(high), **options)
        if result.sparsity >= sparsity:
            break
        low, high = high, 2 * high
    else:
        raise ValueError(
            f"sparsity {sparsity} is out of reach: K = {high / 2:.3g} leaves only {result.sparsity:.3f} zeros"
        )
    for _ in range(steps):
        middle = (low + high) / 2
        trial = compress(weights, inputs, make(middle), **options)
        if trial.sparsity >= sparsity:
            high, result = middle, trial
        else:
            low = middle
    return high, result


def _is_tensor(x) -> bool:
    return type(x).__module__.split(".")[0] == "torch"


def _as_array(x) -> NDArray:
    """A NumPy view of an array or a CPU tensor (half precision widened to float32)."""
    if not _is_tensor(x):
        return np.asarray(x)
    import torch

    x = x.detach().cpu()
    return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).numpy()


def _like(array: NDArray, original):
    """The array as what the caller gave: a tensor for a tensor."""
    if not _is_tensor(original):
        return array
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(original.device)
