"""A layer, its rule and its rounding are checked when they are made, once; everything behind them relies on it."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from prunequant.path_following import Grid, OneBit, certificates, compress, gram, layer, prepare, result, triangle
from prunequant.path_following.layer import Layer, Rounding, Rule
from prunequant.path_following.operators import uniforms
from prunequant.path_following.triangle import compress_layer, triangular_rounding


def arrays(samples=23, features=41, neurons=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(features, neurons)), rng.normal(size=(samples, features))


def test_every_array_is_looked_through_once(monkeypatch):
    looked = []
    plain = layer.checked_matrix

    def watched(name, array, dtype=None):
        looked.append(name)
        return plain(name, array, dtype)

    for module in (layer, certificates, result, triangle):
        monkeypatch.setattr(module, "checked_matrix", watched)
    w, x = arrays()
    found = compress(w, x, Grid(0.25), quantized_inputs=0.9 * x)
    assert np.all(found.error <= found.certificate) and found.known_error().shape == (23, 5)
    prepared = prepare(w, x)
    prepared.round(Grid(0.25)), prepared.round(Grid(0.5)).certificate
    assert looked == ["weights", "inputs", "quantized_inputs", "weights", "inputs"]


def test_a_layer_is_what_prepared_and_result_hold():
    w, x = arrays()
    prepared = prepare(w, x, scaling=2, damping=0)
    found = prepared.round(Grid(0.25), seed=3)
    assert found.layer is prepared.layer and found.layer.rule == Rule("path", 2.0, None, 0.0)
    assert (found.feedback, found.scaling, prepared.damping) == ("path", 2.0, 0.0)
    again = compress_layer(Layer(w, x, rule=Rule(scaling=2)), Rounding(Grid(0.25), seed=3))
    assert np.array_equal(again.weights, found.weights)
    assert np.array_equal(compress(w, x, Grid(0.25), scaling=2, seed=3).weights, found.weights)


def test_what_was_checked_cannot_be_changed():
    w, x = arrays()
    for thing, name in ((Rule(), "scaling"), (Rounding(Grid(0.5)), "seed"), (Layer(w, x), "weights")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, 1)


def test_numbers_are_plain_and_arrays_of_one_dtype_whatever_was_given():
    w, x = arrays()
    rule = Rule("optq", np.int8(2), np.uint8(3), np.float32(0.5))
    assert [type(value) for value in (rule.scaling, rule.alignment, rule.damping)] == [float, int, float]
    made = Layer(w.astype(np.float16), x, x.astype(np.float32))
    assert {array.dtype for array in (made.weights, made.inputs, made.inputs_seen)} == {np.dtype(np.float32)}
    assert made.half == np.float16 and (made.features, made.neurons, made.samples) == (41, 5, 23)
    assert (made.passes, Layer(w, x).passes, Layer(w, x, x, Rule("optq")).passes) == (1, 0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w, x: Rule("greedy"), "feedback is 'greedy'"),
        (lambda w, x: Rule(scaling=0.5), "scaling is 0.5"),
        (lambda w, x: Rule(alignment="all"), "alignment is 'all'"),
        (lambda w, x: Rule(damping=-1), "damping is -1"),
        (lambda w, x: Layer(w, x.T), "weights has shape .* but inputs has shape"),
        (lambda w, x: Layer(w, x, x[:3]), "the same samples and features"),
        (lambda w, x: Layer(w, x, rule=Rule(alignment=2)), "no quantized_inputs to align to"),
        (lambda w, x: Layer(w * np.nan, x), "weights holds nan"),
        (lambda w, x: Rounding(Grid(0.5), seed=-1), "seed is -1"),
        (lambda w, x: Rounding(Grid(0.5), stream=2**32), "stream is 4294967296"),
        (lambda w, x: Rounding(Grid(0.5), failure=0.0), "failure is 0.0"),
        (lambda w, x: Rounding(OneBit(0.5)).sizes(Layer(w, x)), "OneBit.* is too small"),
        (lambda w, x: Rounding(Grid(np.ones(3))).sizes(Layer(w, x)), "3 sizes but there are 5 neurons"),
        (lambda w, x: compress(w, x, Grid(0.5)).known_error([23]), "rows is .* from 0 below 23"),
        (lambda w, x: triangular_rounding(w, np.eye(3), np.ones(41), Grid(0.5)), r"they must be \(41, 41\)"),
    ],
)
def test_a_fault_is_named_when_the_thing_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make(*arrays())


@pytest.mark.parametrize("feedback", ["path", "optq"])
def test_the_triangular_rounding_with_a_factor_of_ours_is_compress(feedback):
    w, x = arrays(samples=60)
    parts = gram.feedback_factor(x, feedback, 1.5, 0.01)
    found = triangular_rounding(w, *parts, Grid(0.25), seed=2**40, stream=7)
    expected = compress(w, x, Grid(0.25), feedback, 1.5, damping=0.01, seed=2**40, stream=7).weights
    assert np.array_equal(found, expected)


def test_the_uniforms_are_the_draws_of_a_stochastic_grid():
    w, x = arrays()
    found = compress(w, x, Grid(0.25), "none", seed=2**63 + 5, stream=3).weights
    low = np.floor(w / 0.25)
    assert np.array_equal(found, 0.25 * (low + (uniforms(*w.shape, 2**63 + 5, 3) < w / 0.25 - low)))
