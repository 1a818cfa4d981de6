"""The weight laws and the kinds of inputs that the studies compare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, integer
from prunequant.models import digits
from prunequant.path_following.checks import check_seed

LAWS = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-np.sqrt(3), np.sqrt(3), shape),
    "laplace": lambda rng, shape: rng.laplace(0, np.sqrt(0.5), shape),
    "student-t 3": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "one in ten": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.1) * np.sqrt(10),
    "signs": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "orthogonal": lambda rng, shape: (
        np.linalg.qr(rng.standard_normal((shape[0], shape[0])))[0][:, : shape[1]] * np.sqrt(shape[0])
    ),
}
DATA = ("white", "correlated", "relu", "outliers", "digits")


def data(kind: str, samples: int, features: int, seed: int = 0) -> NDArray:
    """Inputs (samples, features) of one of five kinds.

    "white": independent Gaussian. "correlated": covariance with eigenvalues k^(−1) in a random basis. "relu": positive
    part of a Gaussian. "outliers": one channel in a hundred (at least one) twenty times larger. "digits": what a
    random ReLU layer makes of scikit-learn's images, so real and rank-deficient (64 pixels). From 2 to 4096 features,
    at most 2**26 values.
    """
    choice(kind, "kind", DATA)
    features, seed = integer(features, "features", 2, 4096), check_seed(seed)
    samples = integer(samples, "samples", 1, 2**26 // features)
    rng = np.random.default_rng(np.random.SeedSequence((seed, DATA.index(kind))))
    x = rng.standard_normal((samples, features))
    if kind == "correlated":
        basis = np.linalg.qr(rng.standard_normal((features, features)))[0]
        return (x * np.sqrt(features / np.arange(1, features + 1) / np.log(features))) @ basis.T
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "outliers":
        x[:, rng.permutation(features)[: max(1, features // 100)]] *= 20
    if kind == "digits":
        pixels = digits.whole()[0] / digits.PIXELS
        chosen = pixels[rng.choice(len(pixels), samples, replace=samples > len(pixels))]
        return np.maximum(chosen @ rng.standard_normal((64, features)) / 8, 0)
    return x
