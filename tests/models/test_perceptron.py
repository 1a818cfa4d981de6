"""A trained network is the same one on every processor: what the last bit does to it is measured, not hoped."""

import numpy as np
import pytest

from prunequant.formats import MX
from prunequant.models.perceptron import Perceptron, digits, gradients, start, train


def last_bits(model, size, seed=7):
    """The same model with every parameter moved by about one unit in the last place, as another machine would."""
    rng = np.random.default_rng(seed)

    def moved(values):
        return [v * (1 + size * rng.choice([-1.0, 1.0], v.shape)) for v in values]

    return Perceptron(moved(model.weights), moved(model.biases))


@pytest.mark.parametrize("compress", [None, lambda weights: [MX("fp4_e2m1").quantize(w) for w in weights]])
def test_a_difference_in_the_last_bit_stays_far_below_every_printed_digit(compress):
    data = digits(0)
    model = start(data, (128, 128), 0)
    exact = Perceptron([w.astype(float) for w in model.weights], [b.astype(float) for b in model.biases])
    one = train(exact, data, 120, compress=compress)
    other = train(last_bits(exact, 2**-52), data, 120, compress=compress)
    gap = max(np.abs(a.astype(float) - b).max() for a, b in zip(one.weights, other.weights))
    assert gap < 1e-6  # one unit in the last place of float32, where a rounding fell on the other side
    assert one.loss(data.test, data.test_labels) == pytest.approx(other.loss(data.test, data.test_labels), rel=1e-6)


def test_a_difference_in_the_last_bit_of_single_precision_makes_another_network():
    """The control: the same training, begun 2^-23 apart, which is what products in single precision would bring."""
    data = digits(0)
    model = start(data, (128, 128), 0)
    one = train(model, data, 400)
    other = train(last_bits(model, 2**-23), data, 400)
    gap = max(np.abs(a - b).max() for a, b in zip(one.weights, other.weights))
    assert gap > 1e-4


def test_gradients_are_computed_in_double_precision_whatever_the_weights_are_stored_in():
    data = digits(0)
    model = start(data, (16,), 0)
    assert model.weights[0].dtype == np.float32
    gw, gb = gradients(model, data.train[:8], np.eye(10)[data.train_labels[:8]])
    assert all(g.dtype == np.float64 for g in [*gw, *gb])
