"""Compress one layer: memoryless, path-following and OPTQ rounding are one triangular rounding with three factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import flag, function, integer, real
from . import _kernels
from .checks import LEAST, check_output, check_seed, check_stream, checked_matrix
from .gram import align
from .layer import Layer, Rounding, Rule
from .operators import Coded, Operator, Prune, check_operator, writable
from .result import Result
from .tensors import like, rounded_to

MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class Prepared:
    """A layer with its Gram matrix, factor and alignment done: what is left is one triangular rounding an operator.

    Made by `prepare`; use it to try many operators, sizes or seeds on the same weights and inputs.

    Attributes
    ----------
    layer : the `Layer`: weights, inputs and rule, checked.
    aligned : (features, neurons) float64: the weights after data alignment; None without quantized inputs.
    start : (features, neurons): the weights that are rounded, in the dtype of the layer.
    factor, gain : the correction of feature t is gain[t] · Σ_{s<t} factor[t, s] (w_s − q_s).
    """

    layer: Layer
    aligned: NDArray | None = field(repr=False)
    start: NDArray = field(repr=False)
    factor: NDArray = field(repr=False)
    gain: NDArray = field(repr=False)

    @property
    def feedback(self) -> str:
        """As given to `prepare`."""
        return self.layer.rule.feedback

    @property
    def scaling(self) -> float:
        """As given to `prepare`."""
        return self.layer.rule.scaling

    @property
    def damping(self) -> float:
        """As given to `prepare`, or its default."""
        return self.layer.rule.damping

    def round(self, operator: Operator, seed: int = 0, stream: int = 0, failure: float = 0.01) -> Result:
        """Round with this operator; see `compress` for the arguments and errors."""
        rounding = Rounding(operator, seed, stream, failure)
        return self._round(rounding, rounding.sizes(self.layer))

    def _round(self, rounding: Rounding, sizes: Coded) -> Result:
        layer = self.layer
        out, clipped = _rounded(self.start, self.factor, self.gain, sizes, rounding.seed, rounding.stream)
        values = rounded_to(out, layer.half)
        return Result(
            weights=like(values, layer.given),
            saturation=like(clipped / layer.features, layer.given),
            operator=rounding.operator,
            failure=rounding.failure,
            layer=layer,
            aligned=self.aligned,
            exact=None if values is out else out,
        )


def _rounded(
    weights: NDArray, factor: NDArray, gain: NDArray, sizes: Coded, seed: int, stream: int
) -> tuple[NDArray, NDArray]:
    """(values, clipped steps a neuron) of one triangular rounding of what was checked."""
    out, clipped = np.empty_like(weights), np.zeros(weights.shape[1], np.int64)
    (kind, stochastic, first, second, levels), (key0, key1) = sizes, _kernels.key(seed)
    _kernels.triangular_rounding(
        weights, factor, gain, kind, stochastic, first, second, levels, key0, key1, stream, _kernels.TILE, out, clipped
    )
    check_output(out)
    return out, clipped


def triangular_rounding(weights, factor, gain, operator: Operator, seed: int = 0, stream: int = 0) -> NDArray:
    """The one rounding behind `compress`, for any feedback: v = w + diag(gain) tril(factor, −1) (w − q), q_t = T(v_t).

    Parameters
    ----------
    weights : (features, neurons).
    factor : (features, features), of which only the strict lower triangle is read.
    gain : (features,), the scale of each row of the factor.
    operator, seed, stream : as for `compress`.

    Examples
    --------
    >>> from prunequant.path_following import Grid
    >>> triangular_rounding([[0.4], [0.4]], [[0.0, 0.0], [1.0, 0.0]], [1.0, 1.0], Grid(1.0, False)).ravel()
    array([0., 1.])
    """
    seed, stream = check_seed(seed), check_stream(stream)
    w = checked_matrix("weights", weights)
    factor = checked_matrix("factor", factor, w.dtype)
    gain = checked_matrix("gain", np.reshape(gain, (1, -1)), w.dtype)[0]
    if factor.shape != (len(w), len(w)) or gain.shape != (len(w),):
        raise ValueError(
            f"weights has shape {w.shape} but factor {factor.shape} and gain {gain.shape}:"
            f" they must be ({len(w)}, {len(w)}) and ({len(w)},)"
        )
    sizes = check_operator(operator)._coded(w.shape[1], w.dtype)
    w, factor, gain = (writable(np.ascontiguousarray(part)) for part in (w, factor, gain))
    return _rounded(w, factor, gain, sizes, seed, stream)[0]


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
    return prepared(Layer(weights, inputs, quantized_inputs, Rule(feedback, scaling, alignment, damping)))


def prepared(layer: Layer) -> Prepared:
    """`prepare` for a layer that was checked."""
    aligned = None
    if layer.quantized_inputs is not None:
        aligned = align(layer.weights, layer.inputs, layer.quantized_inputs, layer.passes, layer.rule.damping)
    factor, gain = layer.rule.factor(layer.inputs_seen)
    start = layer.weights if aligned is None else aligned.astype(layer.weights.dtype)
    return Prepared(layer, aligned, writable(np.ascontiguousarray(start)), factor, gain)


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
    layer = Layer(weights, inputs, quantized_inputs, Rule(feedback, scaling, alignment, damping))
    return compress_layer(layer, Rounding(operator, seed, stream, failure))


def compress_layer(layer: Layer, rounding: Rounding) -> Result:
    """`compress` for a layer and a rounding that were checked."""
    sizes = rounding.sizes(layer)  # all checks come before any work
    if layer.elsewhere:
        from ._torch import compress_tensors

        return compress_tensors(layer, rounding, sizes)
    return prepared(layer)._round(rounding, sizes)


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
    ValueError : weights that are all zero or below 1e-150, or a share not reached at 64 times the largest weight.
        Unbiased pruning has a ceiling, about 1 − 1/(π·scaling) with many more features than samples, see
        `theory.sparsity_ceiling`.
    """
    sparsity, stochastic = (
        real(sparsity, "sparsity", 0, 1, open_low=True, open_high=True),
        flag(stochastic, "stochastic"),
    )
    steps, seed = integer(steps, "steps", 0, MAX_STEPS), check_seed(seed)
    if operator is not None:
        function(operator, "operator", "a function of the size K, or None")
    make = operator or (lambda size: Prune(size, stochastic))
    layer = prepare(weights, inputs, **options)
    low, high = 0.0, float(np.abs(layer.layer.weights).max())
    if high < LEAST:
        what = "are all zero" if high == 0 else f"reach {high:.3g} in size"
        raise ValueError(f"weights {what}: sizes from {LEAST:g} on can be found")
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
