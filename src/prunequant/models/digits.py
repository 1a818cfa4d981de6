"""scikit-learn's 1,797 handwritten digits, 8 × 8 pixels from 0 to 16, and the splits that the book uses, by name.

UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998, CC BY 4.0), installed with scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import choice, integer, integers
from prunequant.extras import need

PIXELS = 16  # the largest value of a pixel
MAX_SEED = 2**64 - 1
SPLITS = ("half", "last-500", "last-597", "60-a-class")


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test images, (n, 64) int64 pixels from 0 to 16, and their labels, (n,) int64 from 0 to 9."""

    train: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    test: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def whole() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All images, (1797, 64) pixels from 0 to 16, and their labels, in the order of the data set.

    Examples
    --------
    >>> images, labels = whole()
    >>> images.shape, int(images.max()), labels[:4]
    ((1797, 64), 16, array([0, 1, 2, 3]))
    """
    need("sklearn")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.int64), labels.astype(np.int64)


def load(split: str, seed: int = 0) -> Split:
    """The digits, divided for training and test.

    Parameters
    ----------
    split : how they are divided
        "half"        half of them for the test, equally many of each class (Part I: the shipped ticket's target)
        "last-500"    shuffled, the last 500 for the test (Part II: networks that are compressed layer by layer)
        "last-597"    shuffled by another stream, the last 597 for the test (Part IV: the order of the two)
        "60-a-class"  60 of each class for the test, so that the classes weigh alike (Part V: the case studies)
    seed : of the shuffle, an int in [0, 2^64 − 1]; in [0, 2^32 − 1] for "half"

    Raises
    ------
    ValueError, TypeError : an unknown split, a seed out of its range
    prunequant.extras.MissingExtra : scikit-learn is not installed

    Examples
    --------
    >>> [(len(s.train), len(s.test)) for s in map(load, SPLITS)]
    [(898, 899), (1297, 500), (1200, 597), (1197, 600)]
    """
    split = choice(split, "split", SPLITS)
    seed = integer(seed, "seed", 0, 2**32 - 1 if split == "half" else MAX_SEED)
    images, labels = whole()
    if split == "half":
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(np.arange(len(labels)), test_size=0.5, random_state=seed, stratify=labels)
    elif split == "60-a-class":
        train, test = by_class(labels, 60, seed)
    else:
        count = int(split.removeprefix("last-"))
        order = np.random.default_rng(seed if split == "last-500" else [seed, 1]).permutation(len(labels))
        train, test = order[:-count], order[-count:]
    return Split(images[train], labels[train], images[test], labels[test])


def by_class(labels: NDArray, test: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of a training and a test part with `test` images of each class, drawn with the seed.

    Raises
    ------
    TypeError, ValueError : labels that are no row of integers; a class has no image left to train on.

    Examples
    --------
    >>> train, test = by_class(np.array([0, 0, 0, 1, 1, 1]), 1, 0)
    >>> len(train), len(test)
    (4, 2)
    """
    labels, test, seed = integers(labels, "labels"), integer(test, "test", 1), integer(seed, "seed", 0, 2**64 - 1)
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}: it must be (images,)")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1797]))
    order = rng.permutation(len(labels))
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        if not test < len(members):
            raise ValueError(f"test is {test}: class {label} has {len(members)} images, give 1 to {len(members) - 1}")
        chosen[members[:test]] = True
    return order[~chosen[order]], order[chosen[order]]
