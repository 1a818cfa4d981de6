"""Compress one layer: memoryless, path-following and OPTQ rounding are one triangular rounding with three factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import flag, integer, real, shown
from . import _kernels, certificates
from .gram import (
    align,
    check_damping,
    check_failure,
    check_feedback,
    check_order,
    check_scaling,
    checked_matrix,
    feedback_factor,
)
from .operator import check_seed, writable
from .operators import OneBit, Operator, Prune
from .result import Result
from .tensors import half_of, is_tensor, like, rounded_to

MAX_STREAM = 2**32 - 1
MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class Prepared:
    """A layer with its Gram matrix, factor and alignment done: what is left is one triangular rounding an operator.

    Made by `prepare`; use it to try many operators, sizes or seeds on the same weights and inputs.
    """

    feedback: str
    scaling: float
    damping: float
    _given: object = field(repr=False)
    _half: np.dtype | None = field(repr=False)
    _weights: NDArray = field(repr=False)
    _inputs: NDArray = field(repr=False)
    _quantized_inputs: NDArray | None = field(repr=False)
    _aligned: NDArray | None = field(repr=False)
    _start: NDArray = field(repr=False)
    _factor: NDArray = field(repr=False)
    _gain: NDArray = field(repr=False)

    def round(self, operator: Operator, seed: int = 0, stream: int = 0, failure: float = 0.01) -> Result:
        """Round with this operator; see `compress` for the arguments and errors."""
        check_operator(operator, self._weights)
        failure, stream = check_failure(failure), check_stream(stream)
        key0, key1 = _kernels.key(check_seed(seed))
        features, neurons = self._start.shape
        out, clipped = np.empty_like(self._start), np.zeros(neurons, np.int64)
        _kernels.triangular_rounding(
            self._start,
            self._factor,
            self._gain,
            *operator._coded(neurons, self._start.dtype),
            key0,
            key1,
            stream,
            _kernels.TILE,
            out,
            clipped,
        )
        check_output(out)
        rounded = rounded_to(out, self._half)
        return Result(
            weights=like(rounded, self._given),
            saturation=like(clipped / features, self._given),
            operator=operator,
            feedback=self.feedback,
            scaling=self.scaling,
            failure=failure,
            _original=self._weights,
            _aligned=self._aligned,
            _inputs=self._inputs,
            _quantized_inputs=self._quantized_inputs,
            _damping=self.damping,
            _exact=None if rounded is out else out,
        )


def prepare(
    weights: ArrayLike,
    inputs: ArrayLike,
    feedback: str = "path",
    scaling: float = 1.0,
    quantized_inputs: ArrayLike | None = None,
    alignment: int | str | None = None,
    damping: float | None = None,
) -> Prepared:
    """Everything in `compress` that does not depend on the operator, once for many of them.

    Examples
    --------
    >>> from prunequant.path_following import Grid, prepare
    >>> layer = prepare(np.array([[0.4], [0.4]]), np.array([[1.0, 1.0], [0.0, 1e-3]]))
    >>> [layer.round(Grid(step, stochastic=False)).weights.ravel().tolist() for step in (1.0, 0.5)]
    [[0.0, 1.0], [0.5, 0.5]]
    """
    w, x, y, order = checked_arguments(weights, inputs, feedback, quantized_inputs, alignment)
    scaling, damping = check_scaling(scaling), check_damping(damping, feedback)
    aligned = None if y is None else align(w, x, y, order, damping)
    factor, gain = feedback_factor(x if y is None else y, feedback, scaling, damping)
    return Prepared(
        feedback=feedback,
        scaling=scaling,
        damping=damping,
        _given=weights,
        _half=half_of(weights),
        _weights=w,
        _inputs=x,
        _quantized_inputs=y,
        _aligned=aligned,
        _start=writable(np.ascontiguousarray(w if aligned is None else aligned.astype(w.dtype))),
        _factor=factor,
        _gain=gain,
    )


def compress(
    weights: ArrayLike,
    inputs: ArrayLike,
    operator: Operator,
    feedback: str = "path",
    scaling: float = 1.0,
    quantized_inputs: ArrayLike | None = None,
    seed: int = 0,
    alignment: int | str | None = None,
    damping: float | None = None,
    failure: float = 0.01,
    stream: int = 0,
) -> Result:
    """Round the weights of a layer one feature after the other, each correcting the output error made so far.

    Parameters
    ----------
    weights : (features, neurons), NumPy array or torch tensor. float32 is done in float32, and so are narrower floats
        (float16, bfloat16); anything else is done in float64.
    inputs : (samples, features): calibration inputs of the layer. Fewer samples than features, dependent features
        and zero features are fine.
    operator : one of `operators`.
    feedback : "none" (memoryless), "path" (GPFQ with a nearest operator, SPFQ with a stochastic one) or "optq".
    scaling : C in [1, 1e100] divides the correction; 1 corrects fully, large C forgets the past.
    quantized_inputs : (samples, features): the same samples seen through the already compressed layers below; the
        aim is then X̃q ≈ Xw.
    seed : integer in [0, 2**64). The draw of a weight is a function of (seed, stream, feature, neuron) alone: same
        output for any number of threads.
    alignment : passes r in [0, 1000] of data alignment before rounding, or their limit "least-squares"; by default 1
        for "path" (one pass and nearest rounding is GPFQ for changed inputs) and 0 otherwise. Only with
        quantized_inputs.
    damping : share, in [0, 1e9], of the mean ‖X_t‖² added to every ‖X_t‖², as if each feature had one more sample of
        its own. By default 0.01 for "optq", which needs an inverse, and 0 for "path", which does not; but with an
        infinite grid a feature that is almost zero on these samples may be given a huge weight to mend what the others
        broke, and 0.01 prevents that. The certificate knows the damping.
    failure : for `Result.certificate`, per neuron, in [1e-280, 1).
    stream : integer in [0, 2**32): separates independent uses of one seed, such as the groups of a convolution.

    Returns
    -------
    Result

    Raises
    ------
    ValueError, TypeError : shapes that do not match, values that are not finite, an argument out of its range, one-bit
        values that do not enclose the weights, a singular Gram matrix with "optq" and no damping, results beyond the
        range of the dtype of the weights.

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
    if is_tensor(weights) and weights.device.type != "cpu":
        from ._torch import compress_tensors

        return compress_tensors(
            weights, inputs, operator, feedback, scaling, quantized_inputs, seed, alignment, damping, failure, stream
        )
    w = checked_matrix("weights", weights)
    check_operator(operator, w)
    operator._coded(w.shape[1], w.dtype)
    check_seed(seed), check_failure(failure), check_stream(stream)  # all checks come before any work
    layer = prepare(weights, inputs, feedback, scaling, quantized_inputs, alignment, damping)
    return layer.round(operator, seed, stream, failure)


def checked_arguments(weights, inputs, feedback, quantized_inputs, alignment):
    """(weights, inputs, quantized inputs or None, order) as checked arrays of one dtype."""
    check_feedback(feedback)
    w = checked_matrix("weights", weights)
    x = checked_matrix("inputs", inputs, w.dtype)
    if x.shape[1] != w.shape[0]:
        raise ValueError(
            f"weights has shape {w.shape} but inputs has shape {x.shape}: inputs must be (samples, {w.shape[0]})"
        )
    order, y = 0, None
    if quantized_inputs is not None:
        y = checked_matrix("quantized_inputs", quantized_inputs, w.dtype)
        if y.shape != x.shape:
            raise ValueError(
                f"inputs has shape {x.shape} but quantized_inputs {y.shape}: the same samples and features"
            )
        order = check_order((1 if feedback == "path" else 0) if alignment is None else alignment)
    elif alignment is not None and check_order(alignment) != 0:
        raise ValueError(f"alignment is {shown(alignment)} but there are no quantized_inputs to align to")
    return w, x, y, order


def check_operator(operator: Operator, weights: NDArray) -> None:
    """An operator of this package, and values that enclose the weights if there are only two of them."""
    certificates.check_operator(operator)
    if isinstance(operator, OneBit):
        largest = np.abs(weights).max(axis=0)
        if np.any(largest > operator.domain):
            raise ValueError(
                f"OneBit(size={np.max(operator.size):g}, stochastic={operator.stochastic}) is too small: it takes"
                f" weights up to {np.min(operator.domain):g}, the largest is {largest.max():g}"
            )


def check_stream(stream: int) -> int:
    """An integer of 32 bits, a word of the counter."""
    return integer(stream, "stream", 0, MAX_STREAM)


def check_output(out: NDArray) -> None:
    """Overflow is an error, never a NaN handed on."""
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise ValueError(
            f"the corrected weights left the range of {out.dtype}: bring weights and inputs nearer to 1 or use float64"
        )


def size_for_sparsity(
    weights: ArrayLike,
    inputs: ArrayLike,
    sparsity: float,
    stochastic: bool = False,
    steps: int = 30,
    seed: int = 0,
    operator: Callable[[float], Operator] | None = None,
    **options: Any,
) -> tuple[float, Result]:
    """The pruning size K that leaves this share of zeros, by bisection, and the compressed layer.

    Parameters
    ----------
    sparsity : in (0, 1).
    stochastic : draw, or hard threshold.
    steps : halvings of the interval for K, in [0, 100]; they end early where no number is left in between.
    operator : K → operator; by default `Prune`. For pruning and quantization together.
    options : passed to `prepare` (feedback, scaling, …).

    Raises
    ------
    ValueError : weights that are all zero, or a share not reached at 64 times the largest weight. Unbiased pruning has
        a ceiling, about 1 − 1/(π·scaling) with many more features than samples, see `theory.sparsity_ceiling`.
    """
    sparsity, stochastic = (
        real(sparsity, "sparsity", 0, 1, open_low=True, open_high=True),
        flag(stochastic, "stochastic"),
    )
    steps, seed = integer(steps, "steps", 0, MAX_STEPS), check_seed(seed)
    if operator is not None and not callable(operator):
        raise TypeError(f"operator is {shown(operator)}: it must be a function of the size K, or None")
    make = operator or (lambda size: Prune(size, stochastic))
    layer = prepare(weights, inputs, **options)
    low, high = 0.0, float(np.abs(layer._weights).max())
    if high == 0:
        raise ValueError("weights are all zero: there is no size to find")
    for _ in range(7):
        result = layer.round(make(high), seed)
        if result.sparsity >= sparsity:
            break
        low, high = high, 2 * high
    else:
        raise ValueError(
            f"sparsity {sparsity} is out of reach: K = {high / 2:.3g} leaves only {result.sparsity:.3f} zeros"
        )
    for _ in range(steps):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        trial = layer.round(make(middle), seed)
        if trial.sparsity >= sparsity:
            high, result = middle, trial
        else:
            low = middle
    return high, result
