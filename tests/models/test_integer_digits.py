import json
from pathlib import Path

import numpy as np
import pytest

from naive import distortion as naive
from prunequant.models import integer_digits as digits
from prunequant.models.integer_digits import shipped_digits


@pytest.fixture(scope="module")
def shipped():
    return shipped_digits()


def test_the_shipped_network_reads_its_images_as_well_as_its_record_says(shipped):
    predicted = shipped.network.forward(shipped.images).argmax(axis=1)
    assert (predicted == shipped.labels).mean() == shipped.accuracy
    assert shipped.network.shape == (64, 32, 10) and shipped.network.levels == (7, 7)
    assert 0.93 < shipped.accuracy < 1 and 0.94 < shipped.float_accuracy < 1


def test_the_shipped_images_are_scikit_learns_test_half(shipped):
    sklearn = pytest.importorskip("sklearn.datasets")
    pixels, labels = sklearn.load_digits(return_X_y=True)
    known = {(row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(pixels, labels)}
    ours = [(row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(shipped.images, shipped.labels)]
    assert len(ours) == len(set(ours)) == 899 and set(ours) <= known


def test_the_integers_of_a_layer_are_those_of_the_best_of_all_scales():
    rng = np.random.default_rng(3)
    for trial, levels in enumerate((1, 3, 5, 7) * 5):
        w = rng.standard_t(4, (6, 5)) * 10.0 ** rng.integers(-3, 3)
        network = digits.quantize([w], [np.zeros(5)], rng.integers(0, 17, (20, 6)), 1 / 16, levels, 63)
        q = network.weights[0][:, :-1].T.ravel()
        assert np.abs(q).max() == levels
        left = w.ravel() @ w.ravel() - (w.ravel() @ q) ** 2 / (q @ q)
        best = naive.least_error(w.ravel(), naive.symmetric(2 * levels + 1))
        assert left <= best + 1e-12 * (w.ravel() @ w.ravel()), (trial, levels)


def test_what_is_recorded_is_read_back_and_a_changed_weight_is_refused(tmp_path):
    pytest.importorskip("sklearn")
    path = tmp_path / "digits.json"
    trained, back = digits.record_digits(path), digits.read_digits(path)
    for a, b in zip(trained.network.weights, back.network.weights):
        assert np.array_equal(a, b)
    assert (back.network.divisors, back.network.constants) == (trained.network.divisors, trained.network.constants)
    assert np.array_equal(back.images, trained.images) and np.array_equal(back.labels, trained.labels)
    assert (back.accuracy, back.float_accuracy) == (trained.accuracy, trained.float_accuracy)
    record = json.loads(path.read_text())
    record["weights"][0][3][5] += 1
    Path(path).write_text(json.dumps(record))
    with pytest.raises(ValueError, match="damaged"):
        digits.read_digits(path)
