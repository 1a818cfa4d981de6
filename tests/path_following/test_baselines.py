"""SparseGPT as a comparison."""

import numpy as np
import pytest

from naive import path_following as naive
from prunequant.path_following import Grid, compress, sparsegpt
from prunequant.sparsity import magnitude


def layer(samples=200, features=48, neurons=12):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(features, features))
    return rng.normal(size=(features, neurons)), rng.normal(size=(samples, features)) @ mixing


def test_sparsegpt_without_pruning_is_textbook_optq():
    w, x = layer()
    expected = naive.optq(w, x, lambda v, u: naive.grid(v, u, 0.25, False))
    assert np.array_equal(sparsegpt(w, x, 0.0, rounding=Grid(0.25, False)), expected)


def test_sparsegpt_beats_magnitude_on_correlated_inputs():
    w, x = layer()
    for sparsity in (0.5, 0.75):
        found = sparsegpt(w, x, sparsity, block=16)
        assert np.mean(found == 0) == pytest.approx(sparsity)
        assert np.linalg.norm(x @ (w - found)) < 0.9 * np.linalg.norm(x @ (w - np.where(magnitude(w, sparsity), w, 0)))


def test_after_a_pruned_weight_the_rest_is_the_least_squares_mend():
    w, x = layer(features=6, neurons=1)
    found = sparsegpt(w, x, 1 / 6, damping=0.0, block=6)
    zero = int(np.flatnonzero(found[:, 0] == 0)[0])
    later = x[:, zero + 1 :]
    mend = np.linalg.lstsq(later, x[:, zero] * w[zero, 0], rcond=None)[0]
    assert np.allclose(found[zero + 1 :, 0], w[zero + 1 :, 0] + mend)


def test_pruning_all_but_nothing_and_bad_arguments_are_refused():
    w, x = layer()
    with pytest.raises(ValueError, match="sparsity is 1"):
        sparsegpt(w, x, 1.0)
    with pytest.raises(ValueError, match="inputs must be"):
        sparsegpt(w, x[:, 1:], 0.5)
    for block in (0, -1):
        with pytest.raises(ValueError, match=f"block is {block}: it must be an integer from 1 on"):
            sparsegpt(w, x, 0.5, block=block)
    with pytest.raises(ValueError, match="must be an operator with stochastic=False"):
        sparsegpt(w, x, 0.5, rounding=Grid(0.5))
    with pytest.raises(TypeError, match="rounding is 'x'"):
        sparsegpt(w, x, 0.5, rounding="x")
    with pytest.raises(TypeError, match="damping is None"):
        sparsegpt(w, x, 0.5, damping=None)
    with pytest.raises(ValueError, match="inputs are singular"):
        sparsegpt(w, np.repeat(x[:, :1], 48, axis=1), 0.5, damping=0.0)
    assert np.array_equal(sparsegpt(w, x, 0.5, block=np.int8(100)), sparsegpt(w, x, 0.5, block=10**6))
    assert np.array_equal(sparsegpt(w, x * 2.0**240, 0.5), sparsegpt(w, x, 0.5))
    assert np.array_equal(compress(w, x, Grid(0.5, False), "none").weights, Grid(0.5, False)(w))
