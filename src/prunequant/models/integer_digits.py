"""A small trained network to find: scikit-learn's 8 × 8 digits, quantized weights, integer activations.

Training is scikit-learn's multilayer perceptron on the CPU, in seconds. Then everything becomes an integer:
pixels are 0..16 already; each layer's weights and bias share one scale and are rounded to {−K_t..K_t}; the hidden
sums are brought back to 0..``activation`` by one integer division. A bias is the weight of an input that always
carries ``constants[l]``.

What training finds depends on how the linear algebra library rounds, so on the machine. `shipped_digits` is one such
network, trained once, kept as integers with its test images and a checksum: the same everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import integer
from prunequant.distortion import best_step
from prunequant.extras import need
from prunequant.models.digits import PIXELS
from prunequant.models.digits import load as load_split
from prunequant.records import write_text
from prunequant.tickets import arithmetic as exact
from prunequant.tickets.network import Network, append
from prunequant.tickets.plan import inverse, step

SHIPPED = "digits.json"
IMAGES = "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998, CC BY 4.0), as in scikit-learn"


@dataclass(frozen=True, eq=False)
class Digits:
    """A trained and quantized classifier of digits, its test images, and its accuracy before and after quantization.

    network : Network with integer weights; inputs are pixels 0..16
    images, labels : the test set, (N, 64) int64 and (N,) int64
    float_accuracy, accuracy : fraction of test images classified rightly, float weights and integer network
    """

    network: Network
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    float_accuracy: float
    accuracy: float


def train_digits(
    seed: int = 0, hidden: int = 32, target_step: Fraction | float | None = None, activation: int = 63
) -> Digits:
    """Train 64 → hidden → 10 on half of the digits and quantize it.

    Parameters
    ----------
    seed : of the split and of the training, an int in [0, 2^32 − 1]
    hidden : hidden units, an int in [1, 2^12]
    target_step : δ_t, default 1/7 (4 bits, levels −7..7)
    activation : an int in [1, 2^31], the largest hidden activation seen in training, in steps γ

    Returns
    -------
    Digits

    Notes
    -----
    Deterministic for a seed and a build of the linear algebra library; a few seconds. The scale of a layer
    minimises the squared rounding error, exactly.
    """
    need("sklearn")
    from sklearn.neural_network import MLPClassifier

    seed, hidden = integer(seed, "seed", 0, 2**32 - 1), integer(hidden, "hidden", 1, 2**12)
    activation = integer(activation, "activation", 1, 2**31)
    levels = inverse(step(4) if target_step is None else target_step, "target_step")
    split = load_split("half", seed)
    train_x, test_x = split.train, split.test
    model = MLPClassifier((hidden,), alpha=3e-2, max_iter=1000, random_state=seed, tol=1e-4, learning_rate_init=3e-3)
    model.fit(train_x / PIXELS, split.train_labels)
    network = quantize(model.coefs_, model.intercepts_, train_x, 1 / PIXELS, levels, activation)
    predicted = network.forward(test_x).argmax(axis=1)
    return Digits(
        network=network,
        images=test_x,
        labels=split.test_labels,
        float_accuracy=float(model.score(test_x / PIXELS, split.test_labels)),
        accuracy=float((predicted == split.test_labels).mean()),
    )


def quantize(
    coefficients: list[NDArray],
    intercepts: list[NDArray],
    inputs: NDArray[np.int64],
    unit: float,
    levels: int,
    activation: int,
) -> Network:
    """An integer network from float weights (in, out) and biases, calibrated on integer inputs worth ``unit`` each.

    The last layer is not rounded, so its outputs are exact sums.
    """
    weights, divisors, constants = [], [], []
    x = inputs
    for l, (w, b) in enumerate(zip(coefficients, intercepts)):
        scale = best_step(w, 2 * levels + 1)
        constant = max(1, int(np.ceil(np.abs(b).max() / (levels * scale * unit))))
        bias = np.clip(np.rint(b / (scale * unit * constant)), -levels, levels)
        whole = np.clip(np.rint(w / scale), -levels, levels)
        whole = np.concatenate([whole, bias[None]]).T.astype(np.int64)
        sums = exact.matmul(append(x, constant), whole.T)
        last = l + 1 == len(coefficients)
        divisor = 0 if last else max(1, round(int(sums.max()) / activation))
        weights.append(whole)
        divisors.append(divisor)
        constants.append(constant)
        if not last:
            x = exact.relu(exact.round_half_up(sums, divisor))
            unit = unit * float(scale) * divisor
    return Network(weights, levels, divisors, constants)


def shipped_digits() -> Digits:
    """`train_digits()` with its defaults, as trained once and kept with the library: no training, no data set.

    Use it wherever a number is printed or compared. 2,410 integers from −7 to 7, the 899 test images, and both
    accuracies; written by `record_digits`.

    Raises
    ------
    ValueError : the file does not have the checksum that it carries

    Examples
    --------
    >>> digits = shipped_digits()
    >>> digits.network.shape, digits.network.parameters, digits.images.shape
    ((64, 32, 10), 2410, (899, 64))
    """
    shipped = resources.files(__package__) / SHIPPED
    return _parsed(shipped.read_text(encoding="utf-8"), str(shipped))


def read_digits(path: str | PathLike) -> Digits:
    """Read what `record_digits` wrote, after its checksum has been compared."""
    return _parsed(Path(path).read_text(encoding="utf-8"), os.fspath(path))


def _parsed(text: str, path: str) -> Digits:
    record = json.loads(text)
    if record.pop("sha256", None) != _checksum(record):
        raise ValueError(f"{path}: damaged, its contents do not have the checksum that it carries")
    labels = np.array(record["labels"], np.int64)
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(record["images"])), np.uint8)
    return Digits(
        Network(record["weights"], record["levels"], record["divisors"], record["constants"]),
        pixels.astype(np.int64).reshape(labels.size, -1),
        labels,
        record["float_accuracy"],
        record["accuracy"],
    )


def record_digits(path: str | PathLike, seed: int = 0) -> Digits:
    """Train, quantize, and write network, test images, labels and accuracies to one JSON file with a checksum.

    The shipped file is ``record_digits("src/prunequant/models/digits.json")``.
    """
    digits = train_digits(seed)
    network = digits.network
    pixels = zlib.compress(digits.images.astype(np.uint8).tobytes(), 9)
    record = {
        "version": 1,
        "command": f"prunequant.models.integer_digits.record_digits(path, seed={seed})",
        "images_from": IMAGES,
        "float_accuracy": digits.float_accuracy,
        "accuracy": digits.accuracy,
        "levels": list(network.levels),
        "divisors": list(network.divisors),
        "constants": list(network.constants),
        "weights": [w.tolist() for w in network.weights],
        "labels": digits.labels.tolist(),
        "images": base64.b64encode(pixels).decode("ascii"),
    }
    text = json.dumps({**record, "sha256": _checksum(record)}, separators=(",", ":"))
    write_text(path, text + "\n")
    return digits


def _checksum(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
