"""Small perceptrons in NumPy: enough to see what compression does to a loss, in seconds and without a framework.

Weights are stored in float32, everything is computed in float64 and seeded. Training multiplies a difference in the
last bit by a few hundred (measured: `tests/models/test_perceptron.py`), and matrix products differ in the last
bit between processors: in float32 two machines would end with different networks, in float64 they end with the same
one to about 13 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.formats import Format
from prunequant.interplay.levels import cross_entropy, forward
from prunequant.models.digits import PIXELS
from prunequant.models.digits import load as load_digits

MAX_SEED = 2**64 - 1
Compress = Callable[[list[NDArray]], list[NDArray]]


@dataclass(frozen=True)
class Data:
    """A classification task: training and test inputs (samples, features) float64, labels as class numbers."""

    train: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float64]
    test_labels: NDArray[np.int64]

    @property
    def classes(self) -> int:
        return int(self.train_labels.max()) + 1


@dataclass(frozen=True)
class Perceptron:
    """Weights (out, in) and biases of a perceptron with rectified hidden layers."""

    weights: Sequence[NDArray[np.floating]]
    biases: Sequence[NDArray[np.floating]]

    def loss(self, inputs: NDArray, labels: NDArray, activations: Format | None = None) -> float:
        """Mean cross-entropy in nats."""
        return cross_entropy(forward(self.weights, self.biases, inputs, activations)[-1], labels)

    def accuracy(self, inputs: NDArray, labels: NDArray) -> float:
        """Share of right answers."""
        return float(np.mean(forward(self.weights, self.biases, inputs)[-1].argmax(axis=1) == labels))

    def with_weights(self, weights: Sequence[NDArray]) -> Perceptron:
        """The same biases under other weights."""
        return replace(self, weights=list(weights))


def digits(seed: int = 0) -> Data:
    """The 1,797 handwritten digits of scikit-learn (8 × 8, scaled to [0, 1]), split 1,200 to 597 by the seed."""
    split = load_digits("last-597", seed)
    return Data(split.train / PIXELS, split.train_labels, split.test / PIXELS, split.test_labels)


def curves(seed: int = 0, train: int = 4000, test: int = 2000, noise: float = 0.5) -> Data:
    """Ten classes of one-dimensional curves of 40 samples, generated: shifted, scaled, sheared and noisy templates.

    A task in the manner of MNIST-1D (Greydanus and Kobak 2024) that is made here, in any amount: each class is a
    fixed smooth curve; an example is it stretched in height, moved, tilted, with smooth and with white noise added.
    """
    seed, noise = arguments.integer(seed, "seed", 0, MAX_SEED), arguments.real(noise, "noise", 0, 1e6)
    train, test = (arguments.integer(n, name, 1, 200_000) for n, name in ((train, "train"), (test, "test")))
    shapes = np.random.default_rng(1212).standard_normal((10, 12))
    generator = np.random.default_rng([seed, 2])
    count = train + test
    labels = generator.integers(0, 10, count)
    places = np.arange(40) / 39
    shift, tilt = generator.uniform(-0.25, 0.25, count), generator.uniform(-0.75, 0.75, count)
    at = np.clip((places[None] - 0.15 - shift[:, None]) / 0.7, 0, 1) * 11
    left = np.minimum(at.astype(int), 10)
    template = shapes[labels]
    rows = np.arange(count)[:, None]
    values = template[rows, left] * (left + 1 - at) + template[rows, left + 1] * (at - left)
    values = values * generator.uniform(0.6, 1.4, (count, 1)) + tilt[:, None] * (places - 0.5)
    smooth = np.cumsum(generator.standard_normal((count, 40)), axis=1) / np.sqrt(40)
    values = values + noise * smooth + noise * generator.standard_normal((count, 40))
    values = (values - values.mean()) / values.std()
    return Data(values[:train], labels[:train], values[train:], labels[train:])


def start(data: Data, hidden: Sequence[int], seed: int) -> Perceptron:
    """Random weights and biases, uniform on ±1/√inputs (the default of torch.nn.Linear)."""
    hidden = [arguments.integer(n, "hidden", 1, 8192) for n in hidden]
    seed = arguments.integer(seed, "seed", 0, MAX_SEED)
    sizes = [data.train.shape[1], *hidden, data.classes]
    generator = np.random.default_rng([seed, 3])
    weights, biases = [], []
    for a, b in pairwise(sizes):
        weights.append((generator.uniform(-1, 1, (b, a)) / np.sqrt(a)).astype(np.float32))
        biases.append((generator.uniform(-1, 1, b) / np.sqrt(a)).astype(np.float32))
    return Perceptron(weights, biases)


def gradients(model: Perceptron, x: NDArray, targets: NDArray) -> tuple[list[NDArray], list[NDArray]]:
    """Gradients of the mean cross-entropy against target probabilities (samples, classes), for weights and biases.

    In the precision of the inputs: float64 inputs give float64 gradients, whatever the weights are stored in.
    """
    outputs = forward(model.weights, model.biases, x)
    logits = outputs[-1] - outputs[-1].max(axis=1, keepdims=True)
    p = np.exp(logits)
    delta = (p / p.sum(axis=1, keepdims=True) - targets) / len(x)
    to_weights, to_biases = [], []
    for i in range(len(outputs) - 1, -1, -1):
        h = x if i == 0 else np.maximum(outputs[i - 1], 0)
        to_weights.append(delta.T @ h)
        to_biases.append(delta.sum(axis=0))
        if i:
            delta = (delta @ model.weights[i]) * (outputs[i - 1] > 0)
    return to_weights[::-1], to_biases[::-1]


def train(
    model: Perceptron,
    data: Data,
    steps: int,
    *,
    seed: int = 0,
    rate: float = 1e-2,
    batch: int = 128,
    decay: float = 1e-2,
    compress: Compress | None = None,
    teacher: Perceptron | None = None,
) -> Perceptron:
    """AdamW with a cosine rate (Loshchilov and Hutter 2019), optionally through a compression.

    Parameters
    ----------
    compress : weights to compressed weights, applied anew before every step; its gradient is taken as the identity, so
        that pruned weights keep learning (straight-through). It is given float32. The dense weights are returned,
        rounded to float32.
    teacher : if given, the targets are half the labels, half this model's probabilities (distillation).
    """
    steps, batch = arguments.integer(steps, "steps", 0, 1_000_000), arguments.integer(batch, "batch", 1, 1_000_000)
    seed = arguments.integer(seed, "seed", 0, MAX_SEED)
    rate, decay = arguments.real(rate, "rate", 0), arguments.real(decay, "decay", 0)
    generator = np.random.default_rng([seed, 4])
    weights, biases = [w.astype(np.float64) for w in model.weights], [b.astype(np.float64) for b in model.biases]
    flat = [*weights, *biases]
    first, second = [np.zeros_like(v) for v in flat], [np.zeros_like(v) for v in flat]
    one_hot = np.eye(data.classes)
    for step in range(1, steps + 1):
        index = generator.integers(0, len(data.train), batch)
        x, targets = data.train[index], one_hot[data.train_labels[index]]
        if teacher is not None:
            z = forward(teacher.weights, teacher.biases, x)[-1]
            p = np.exp(z - z.max(axis=1, keepdims=True))
            targets = (targets + p / p.sum(axis=1, keepdims=True)) / 2
        forward_weights = weights if compress is None else compress([w.astype(np.float32) for w in weights])
        gw, gb = gradients(Perceptron(forward_weights, biases), x, targets)
        now = rate * 0.5 * (1 + np.cos(np.pi * (step - 1) / steps))
        for k, g in enumerate([*gw, *gb]):
            first[k] += 0.1 * (g - first[k])
            second[k] += 0.001 * (g * g - second[k])
            update = first[k] / (1 - 0.9**step)
            update /= np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8
            if k < len(weights):
                flat[k] -= now * decay * flat[k]
            flat[k] -= now * update
    return Perceptron([w.astype(np.float32) for w in weights], [b.astype(np.float32) for b in biases])
