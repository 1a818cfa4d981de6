"""The small networks behind the trained-model studies, and what the studies return."""

import numpy as np
import pytest

from prunequant.formats import MX, Integer
from prunequant.interplay.levels import cross_entropy, forward
from prunequant.models.perceptron import Perceptron, curves, digits, gradients, start, train
from prunequant.studies import orders as studies


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    model = Perceptron(
        [rng.standard_normal((6, 4)), rng.standard_normal((3, 6))], [rng.standard_normal(6), np.zeros(3)]
    )
    x, labels = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    to_weights, to_biases = gradients(model, x, np.eye(3)[labels])
    for values, slopes in (
        (model.weights[0], to_weights[0]),
        (model.weights[1], to_weights[1]),
        (model.biases[0], to_biases[0]),
    ):
        for place in ((0,) * values.ndim, (1,) * values.ndim):
            kept, h = values[place], 1e-6
            values[place] = kept + h
            up = cross_entropy(forward(model.weights, model.biases, x)[-1], labels)
            values[place] = kept - h
            down = cross_entropy(forward(model.weights, model.biases, x)[-1], labels)
            values[place] = kept
            assert slopes[place] == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-8)


def test_data_are_split_and_seeded():
    a, b = digits(0), digits(1)
    assert len(a.train) == 1200 and len(a.test) == 597 and a.classes == 10
    assert not np.array_equal(a.test_labels, b.test_labels)
    c = curves(3, 500, 100)
    assert c.train.shape == (500, 40) and abs(float(c.train.mean())) < 0.1
    np.testing.assert_array_equal(c.train, curves(3, 500, 100).train)


def test_training_learns_and_repeats_for_a_seed():
    data = digits(0)
    first = train(start(data, (32,), 0), data, 150, seed=0)
    again = train(start(data, (32,), 0), data, 150, seed=0)
    np.testing.assert_array_equal(first.weights[0], again.weights[0])
    assert first.accuracy(data.test, data.test_labels) > 0.9
    assert first.loss(data.test, data.test_labels) < 0.4


def test_training_through_a_mask_lets_pruned_weights_learn():
    from prunequant.interplay import apply_orders

    data = digits(1)
    dense = train(start(data, (32,), 1), data, 150, seed=1)

    def compress(weights):
        return [apply_orders(w, MX("fp4_e2m1"), "2:4", ("sq",)).compressed["sq"] for w in weights]

    tuned = train(dense, data, 60, seed=2, rate=2e-3, compress=compress)
    before = dense.with_weights(compress(dense.weights)).loss(data.test, data.test_labels)
    after = tuned.with_weights(compress(tuned.weights)).loss(data.test, data.test_labels)
    assert after < before
    pruned = compress(dense.weights)[0] == 0
    assert np.any(tuned.weights[0][pruned] != dense.weights[0][pruned])
    taught = train(dense, data, 20, seed=2, teacher=dense)
    assert taught.accuracy(data.test, data.test_labels) > 0.9


@pytest.fixture(scope="module")
def rows():
    return [
        studies.order_effect("digits", seed, formats=("INT8", "MXFP4"), patterns=("0.75", "2:4")) for seed in range(3)
    ]


def test_a_study_returns_every_kind_and_its_orders_agree_where_they_must(rows):
    for row in rows:
        assert row["accuracy"] > 0.9
        for kind in ("s", "q", "sq", "joint", "qs first", "qs last", "qs random", "qs magnitude"):
            assert row[f"2:4 MXFP4 {kind}"] > 0
        assert row["2:4 MXFP4 qs magnitude"] == row["2:4 MXFP4 sq"] == row["2:4 MXFP4 joint"]
        assert row["2:4 INT8 s"] == row["2:4 MXFP4 s"]


def test_cells_pair_the_seeds_and_correct_their_number(rows):
    found = studies.cells(rows)
    assert len(found) == 2 * 2 * 4
    one = next(c for c in found if (c.pattern, c.format, c.ties) == ("0.75", "MXFP4", "first"))
    assert one.delta.mean == pytest.approx(np.mean([r["0.75 MXFP4 qs first"] - r["0.75 MXFP4 sq"] for r in rows]))
    assert one.p_holm >= one.delta.p
    expected = np.mean([r["0.75 MXFP4 s"] + r["0.75 MXFP4 q"] - r["dense"] for r in rows])
    assert one.excess.value == pytest.approx(expected)
    same = next(c for c in found if (c.pattern, c.format, c.ties) == ("2:4", "MXFP4", "magnitude"))
    assert same.delta.mean == 0 and same.p_holm == 1
    with pytest.raises(ValueError, match="at least two"):
        studies.cells(rows[:1])
    with pytest.raises(ValueError, match="digits"):
        studies.trained("letters", 0)


def test_the_other_studies_return_what_they_name():
    ranks = studies.ranking("digits", 0, formats=("INT8", "MXFP4"))
    assert 0.9 < ranks["MXFP4 tau"] < ranks["INT8 tau"] <= 1
    assert ranks["MXFP4 moved first"] > ranks["INT8 moved first"] > 0
    parts = studies.structured("digits", 0, formats=("MXFP4",))
    assert parts["neurons MXFP4 s"] > parts["0.5 MXFP4 s"]
    low = studies.low_rank("digits", 0, formats=("INT8",), rank=64)
    assert low["INT8 l"] < studies.low_rank("digits", 0, formats=("INT8",), rank=4)["INT8 l"]
    assert low["INT8 lsq"] > low["INT8 l"] > 0


def test_the_character_model_is_compressed_and_restored():
    import torch

    from prunequant.studies import characters as language

    torch.set_num_threads(1)
    model = language.build(0)
    before = language.loss(model, windows=8)
    weights = [layer.weight.detach().numpy().copy() for layer in language.linears(model)]
    assert len(weights) == 8 and before == pytest.approx(np.log(len(language.CHARACTERS)), rel=0.15)
    coarse = [Integer(2).quantize(w) for w in weights]
    assert language.loss(model, coarse, windows=8) != before
    assert language.loss(model, windows=8) == before
    kept = [w.copy() for w in weights]
    language.fit(model, 0, 2, size=4, compress=lambda w: np.zeros_like(w))
    after = [layer.weight.detach().numpy() for layer in language.linears(model)]
    assert all(np.any(a != b) and np.any(a != 0) for a, b in zip(after, kept))
