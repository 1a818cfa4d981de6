"""One compression, four levels: the tensor, the dot product, the layer, the loss.

A statement at one level says little about the next: these functions measure all of them on the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats import Format
from prunequant.interplay.orders import apply_orders, check_format, check_tensor, norm


@dataclass(frozen=True)
class DotProducts:
    """Signed errors of many dot products <x, w>: with pruned weights, with both sides quantized, with both.

    s, q, sq, qs : <x, w> minus <x, s(w)>, <q(x), q(w)>, <q(x), q(s(w))>, <q(x), s(q(w))>.
    interaction : the quantization errors of the products that pruning drops, sum over P of x w - q(x) q(w).
    """

    s: NDArray
    q: NDArray
    sq: NDArray
    qs: NDArray
    interaction: NDArray

    def rms(self, which: str) -> float:
        """Root mean square of one of the errors, "s", "q", "sq" or "qs"."""
        arguments.choice(which, "which", ("s", "q", "sq", "qs", "interaction"))
        return float(np.sqrt(np.mean(np.square(getattr(self, which)))))

    def exceeds(self, which: str) -> float:
        """Share of the dot products whose error "sq" or "qs" is larger than |s| + |q|."""
        arguments.choice(which, "which", ("sq", "qs"))
        total = np.abs(self.s) + np.abs(self.q)
        return float(np.mean(np.abs(getattr(self, which)) > total * (1 + 1e-12) + 1e-300))

    @property
    def qs_better(self) -> float:
        """Share of the dot products where "quantize, then prune" is the closer one."""
        return float(np.mean(np.abs(self.qs) < np.abs(self.sq) * (1 - 1e-12)))

    @property
    def qs_worse(self) -> float:
        """Share of the dot products where "prune, then quantize" is the closer one."""
        return float(np.mean(np.abs(self.qs) > np.abs(self.sq) * (1 + 1e-12)))


def dot_products(
    x: ArrayLike,
    w: ArrayLike,
    fmt: Format,
    pattern: str | float,
    ties: str = "first",
    *,
    activations: Format | None = None,
) -> DotProducts:
    """Errors of the dot products of the rows of x with the rows of w, one by one.

    Parameters
    ----------
    x, w : (trials, n) — each row of w is a tensor of its own, pruned and quantized along its n values.
    fmt : of the weights, and of the activations x unless `activations` is given.
    pattern, ties : as in `compare`.

    Notes
    -----
    Where the scales survive pruning, sq = q + s - interaction exactly (Harma et al. 2025, theorem 3.9 in our form).

    Examples
    --------
    >>> from prunequant.formats import Integer
    >>> d = dot_products([[0.0, 1, 1, 0]], [[7, 3.4, 1.6, 0]], Integer(4), "2:4")
    >>> d.s.round(12), d.q.round(12), d.sq.round(12)
    (array([1.6]), array([0.]), array([2.]))
    """
    x, w = check_tensor(x), check_tensor(w, "w")
    fmt = check_format(fmt)
    activations = fmt if activations is None else check_format(activations, "activations")
    if x.ndim != 2 or x.shape != w.shape:
        raise ValueError(f"x has shape {x.shape} and w {w.shape}: give two matrices of the same shape (trials, n)")
    if not np.all(np.isfinite(w)):
        raise ValueError("w holds NaN or infinity: every value must be finite")
    orders = apply_orders(w, fmt, pattern, ("sq", "qs"), ties, batch=1, axis=-1)
    qx = activations.quantize(x)
    exact = (x * w).sum(axis=1)
    remainder = x * w - qx * orders.quantized
    return DotProducts(
        s=exact - (x * orders.pruned).sum(axis=1),
        q=remainder.sum(axis=1),
        sq=exact - (qx * orders.compressed["sq"]).sum(axis=1),
        qs=exact - (qx * orders.compressed["qs"]).sum(axis=1),
        interaction=np.where(orders.masks["sq"], 0, remainder).sum(axis=1),
    )


@dataclass(frozen=True)
class LayerErrors:
    """Relative L2 errors of one layer under one kind of compression ("s", "q", "sq", "qs", "joint").

    weights : of the weight matrix. output : of the layer's output on the dense model's inputs. carried : of its output
    when every earlier layer is compressed too; absolute : the same, not divided by the norm of the dense output. Where
    that norm is 0 a relative error is 0 if there is none, else infinite.
    """

    layer: int
    kind: str
    weights: float
    output: float
    carried: float
    absolute: float


@dataclass(frozen=True)
class Levels:
    """Errors by layer and kind, and the loss of the dense model and of each kind."""

    layers: list[LayerErrors]
    loss: dict[str, float]

    @property
    def excess(self) -> dict[str, float]:
        """Loss of each order minus the threshold S + Q - dense."""
        expected = self.loss["s"] + self.loss["q"] - self.loss["dense"]
        return {kind: self.loss[kind] - expected for kind in ("sq", "qs", "joint")}


def cross_entropy(logits: NDArray, labels: NDArray) -> float:
    """Mean cross-entropy in nats of logits (samples, classes) against class numbers."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def forward(weights: Sequence[NDArray], biases: Sequence[NDArray], inputs: NDArray, activations: Format | None = None):
    """Outputs of every layer of a perceptron with rectified hidden layers; weights (out, in)."""
    outputs, h = [], inputs
    for i, (w, b) in enumerate(zip(weights, biases)):
        h = h if activations is None else activations.quantize(h)
        z = h @ w.T + b
        outputs.append(z)
        h = np.maximum(z, 0) if i + 1 < len(weights) else z
    return outputs


def _check_network(weights: list[NDArray], biases: list[NDArray], inputs: NDArray, labels: NDArray) -> None:
    """The shapes of a perceptron and its data fit together."""
    if not weights or any(w.ndim != 2 for w in weights):
        raise ValueError(f"weights has shapes {[w.shape for w in weights]}: it must hold matrices (out, in)")
    if len(weights) != len(biases):
        raise ValueError(f"biases has {len(biases)} entries for the {len(weights)} of weights: one vector each")
    width = inputs.shape[1] if inputs.ndim == 2 and len(inputs) else None
    if width is None:
        raise ValueError(f"inputs has shape {inputs.shape}: it must be (samples, in), at least one sample")
    for layer, (w, b) in enumerate(zip(weights, biases)):
        if w.shape[1] != width or b.shape != (w.shape[0],):
            raise ValueError(f"layer {layer} has weights {w.shape} and biases {b.shape}: it must take {width} inputs")
        width = w.shape[0]
    if labels.shape != (len(inputs),) or labels.min() < 0 or labels.max() >= width:
        raise ValueError(
            f"labels has shape {labels.shape}: it must be one class in [0, {width}) for each of the samples"
        )


def _relative(error: NDArray | float, size: NDArray | float) -> float:
    return float(error / size) if size else (np.inf if error else 0.0)


def decompose(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    inputs: ArrayLike,
    labels: ArrayLike,
    fmt: Format,
    pattern: str | float,
    ties: str = "first",
    *,
    activations: Format | None = None,
) -> Levels:
    """The errors of a perceptron compressed in both orders, at the tensor, the layer and the loss.

    Parameters
    ----------
    weights : matrices (out, in) of the layers, biases (out,); hidden layers are rectified.
    inputs : (samples, in); labels : (samples,) class numbers.
    fmt, pattern, ties : as in `compare`; blocks and groups run along the inputs of each layer.
    activations : a format for the inputs of each layer, or None to keep them.
    """
    fmt = check_format(fmt)
    activations = None if activations is None else check_format(activations, "activations")
    for name, given in (("weights", weights), ("biases", biases)):
        arguments.instance(given, name, Sequence, "a list of arrays, one a layer")
    matrices = [check_tensor(arguments.numbers(w, "weights"), "weights") for w in weights]
    offsets = [arguments.numbers(b, "biases") for b in biases]
    inputs, labels = arguments.numbers(inputs, "inputs"), arguments.integers(labels, "labels")
    inputs = check_tensor(inputs, "inputs")
    _check_network(matrices, offsets, inputs, labels)
    labels = labels.astype(np.int64)
    orders = [apply_orders(w, fmt, pattern, ties=ties) for w in matrices]
    sets = {
        "s": [m.pruned for m in orders],
        "q": [m.quantized for m in orders],
        **{order: [m.compressed[order] for m in orders] for order in ("sq", "qs", "joint")},
    }
    dense = forward(matrices, offsets, inputs)
    loss = {"dense": cross_entropy(dense[-1], labels)}
    layers = []
    for kind, compressed in sets.items():
        quantizer = activations if kind != "s" else None
        carried = forward(compressed, offsets, inputs, quantizer)
        loss[kind] = cross_entropy(carried[-1], labels)
        for i, (w, c) in enumerate(zip(matrices, compressed)):
            h = inputs if i == 0 else np.maximum(dense[i - 1], 0)
            alone = (h if quantizer is None else quantizer.quantize(h)) @ c.T + offsets[i]
            size = float(norm(dense[i], 2))
            layers.append(
                LayerErrors(
                    layer=i,
                    kind=kind,
                    weights=_relative(norm(w - c, 2), norm(w, 2)),
                    output=_relative(float(norm(dense[i] - alone, 2)), size),
                    carried=_relative(float(norm(dense[i] - carried[i], 2)), size),
                    absolute=float(norm(dense[i] - carried[i], 2)),
                )
            )
    return Levels(layers, loss)
