"""The 6,000 images of clothes that ship with the book, from the published files: the same bytes every time.

The folder holds 0.json … 9.json of the package fashion-mnist 1.1.0 (its folder src/clothes). Rows that are empty and
images that occur more than once, in whatever class, are dropped; of the rest 500 training and 100 test images of each
class are drawn with a fixed seed. What is made is compared with the checksum that the library asks for.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from prunequant.models.images import FASHION_6000, SMALL, occurring_once, read_package
from prunequant.studies.runner import At, Given, Study

SEED, TRAIN, TEST = 20230722, 500, 100


def subset(by_class: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Class-balanced and shuffled: train, train_labels, test, test_labels."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    parts: dict[str, list] = {"train": [], "test": []}
    for label, images in enumerate(occurring_once(by_class)):
        drawn = images[rng.permutation(len(images))[: TRAIN + TEST]]
        parts["train"].append((drawn[:TRAIN], label))
        parts["test"].append((drawn[TRAIN:], label))
    out = {}
    for name, groups in parts.items():
        images = np.concatenate([g for g, _ in groups])
        labels = np.concatenate([np.full(len(g), label, np.uint8) for g, label in groups])
        order = rng.permutation(len(labels))
        out[name], out[f"{name}_labels"] = images[order], labels[order]
    return out


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """An npz whose bytes depend on nothing but the arrays: no dates, one compression level."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, array, version=(1, 0))
    return whole.getvalue()


def make(at: At, folder: Path) -> dict[str, bytes]:
    """The one file by its name."""
    data = packed(subset(read_package(folder)))
    digest = hashlib.sha256(data).hexdigest()
    at.log(f"{len(data)} bytes, SHA-256 {digest}")
    if digest != FASHION_6000:
        raise ValueError(f"{folder}: what it gives has SHA-256 {digest}, {FASHION_6000} is needed")
    return {SMALL: data}


STUDIES = {
    "fashion-mnist-6000": Study(
        "fashion-mnist-6000",
        "6,000 images of Fashion-MNIST",
        (SMALL,),
        make,
        1,
        {"folder": Given("the folder with 0.json … 9.json of the package fashion-mnist 1.1.0")},
    )
}
