"""Logistic regression on the images that the converged networks are trained on: what a network must beat.

Its penalty is chosen on part 5 of the images, of which the seeds 0 to 4 see nothing; each of these then has a part of
its own. The page book/cases/lsq-against-pruning shows the record.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np

from prunequant import arguments
from prunequant.models import images
from prunequant.studies.runner import At, Given, Study

SEED = 5  # the part that chooses


def linear_unit(c: float, seed: int, *, data: str = ".") -> dict:
    """Test loss in nats and accuracy of a linear classifier of one part; `c` is the inverse of its penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    part = images.fashion_part(seed, data)
    train, test = (x.reshape(len(x), -1).astype(np.float64) for x in (part.train, part.test))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fitted = LogisticRegression(C=c, max_iter=2000).fit(train, part.train_labels)
    given = fitted.predict_proba(test)
    right = float(np.mean(fitted.classes_[given.argmax(1)] == part.test_labels))
    return {"loss": float(log_loss(part.test_labels, given)), "accuracy": right}


def make(at: At, data: Path, seeds: int, penalties: tuple[float, ...]) -> dict:
    """The search on part 5, and a row for every seed with what was best there."""
    arguments.integer(seeds, "seeds", 1, SEED)
    unit = partial(linear_unit, data=str(data))
    search = at.sweep(unit, [{"c": c} for c in penalties], [SEED], name="logistic_baseline")
    best = min(search, key=lambda row: row["loss"])["c"]
    if best in (min(penalties), max(penalties)):
        raise ValueError(f"penalties: the best, {best:g}, is the smallest or the largest of those tried; try others")
    rows = at.sweep(unit, [{"c": best}], range(seeds), name="logistic_baseline")
    return {"search": search, "rows": rows}


STUDIES = {
    "logistic-baseline": Study(
        "logistic-baseline",
        "logistic regression on the images of the converged networks",
        ("logistic_baseline.json",),
        make,
        5,
        {
            "data": Given("the folder with 0.json … 9.json of the package fashion-mnist 1.1.0"),
            "seeds": 5,
            "penalties": (0.01, 0.03, 0.1, 0.3, 1.0),
        },
        needs=("sklearn",),
        threads=1,
    )
}
