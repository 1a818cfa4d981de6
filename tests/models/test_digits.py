"""The splits of the digits, against the lines that made them before they had names."""

import numpy as np
import pytest

from prunequant.models import digits, images

sklearn = pytest.importorskip("sklearn.datasets")


def by_hand(split, seed):
    x, y = sklearn.load_digits(return_X_y=True)
    if split == "half":
        from sklearn.model_selection import train_test_split

        first, second, _, _ = train_test_split(x, y, test_size=0.5, random_state=seed, stratify=y)
        return first, second
    if split == "last-500":
        x = x[np.random.default_rng(seed).permutation(len(x))]
        return x[:-500], x[-500:]
    if split == "last-597":
        x = x[np.random.default_rng([seed, 1]).permutation(len(x))]
        return x[:1200], x[1200:]
    held = images.digits(seed)
    return held.train.reshape(-1, 64) * 16, held.test.reshape(-1, 64) * 16


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("split", digits.SPLITS)
def test_a_split_is_the_one_written_out(split, seed):
    found, (train, test) = digits.load(split, seed), by_hand(split, seed)
    assert np.array_equal(found.train, train) and np.array_equal(found.test, test)


@pytest.mark.parametrize("split", digits.SPLITS)
def test_every_image_is_in_one_part_with_its_label(split):
    found, (x, y) = digits.load(split, 1), digits.whole()
    both = [tuple(row) for row in np.column_stack((found.train, found.train_labels))]
    both += [tuple(row) for row in np.column_stack((found.test, found.test_labels))]
    assert sorted(both) == sorted(tuple(row) for row in np.column_stack((x, y)))


def test_sixty_a_class_are_held_out():
    assert np.array_equal(np.bincount(digits.load("60-a-class", 2).test_labels), np.full(10, 60))


@pytest.mark.parametrize(
    ("split", "seed", "name"), [("third", 0, "split"), ("half", 2**32, "seed"), ("half", -1, "seed")]
)
def test_what_is_none_is_refused_by_name(split, seed, name):
    with pytest.raises(ValueError, match=f"^{name} is"):
        digits.load(split, seed)
