"""Logistic regression as a baseline: what it is fitted to, what it is judged on, and a penalty that is no edge."""

import numpy as np
import pytest

from prunequant.models.images import Images
from prunequant.studies import logistic_baseline, runner

pytest.importorskip("sklearn")


def blobs(seed):
    """Two classes, at −1 and 1 in every pixel, and noise: 200 images to fit and 100 to judge."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 300)
    x = ((2 * labels - 1)[:, None, None, None] + rng.normal(0, 6, (300, 1, 4, 4))).astype(np.float32)
    return Images(x[:200], labels[:200], x[200:], labels[200:])


@pytest.fixture
def parts(monkeypatch):
    asked = []

    def part(seed, folder):
        asked.append(seed)
        return blobs(seed)

    monkeypatch.setattr(logistic_baseline.images, "fashion_part", part)
    return asked


def test_loss_and_accuracy_are_those_of_test_images_that_it_was_not_fitted_to(parts):
    found, part = logistic_baseline.linear_unit(0.1, 3), blobs(3)
    from sklearn.linear_model import LogisticRegression

    x, y = part.train.reshape(200, -1).astype(float), part.train_labels
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(x, y)
    right = fitted.predict_proba(part.test.reshape(100, -1).astype(float))[np.arange(100), part.test_labels]
    assert found["loss"] == pytest.approx(-np.log(right).mean())
    assert found["accuracy"] == pytest.approx(np.mean(right > 0.5)) and 0.6 < found["accuracy"] < 1


def test_the_penalty_is_chosen_on_images_that_no_seed_sees_and_is_no_edge(parts, tmp_path):
    record = runner.run_study("logistic-baseline", {"data": tmp_path, "seeds": 3, "penalties": (1e-6, 1e-3, 1e-2, 1e3)})
    assert [row["seed"] for row in record["rows"]] == [0, 1, 2] and {row["seed"] for row in record["search"]} == {5}
    best = min(record["search"], key=lambda row: row["loss"])["c"]
    assert {row["c"] for row in record["rows"]} == {best} and best in (1e-3, 1e-2)
    with pytest.raises(ValueError, match=r"seeds is 6: it must be an integer in \[1, 5\]"):  # part 5 chose the penalty
        runner.run_study("logistic-baseline", {"data": tmp_path, "seeds": 6})
    with pytest.raises(ValueError, match="is the smallest or the largest of those tried"):
        runner.run_study("logistic-baseline", {"data": tmp_path, "seeds": 1, "penalties": (1e2, 1e3)})
