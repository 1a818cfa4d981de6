"""Images: splits are balanced and disjoint, files are checked before they are used, nothing is fetched unasked."""

import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from prunequant.models import digits
from prunequant.models import images as data

SHIPPED = Path(__file__).resolve().parents[2] / "book" / "data"


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(arrays(np.uint8, array_shapes(max_dims=3, max_side=5)))
def test_an_idx_file_is_read_back(array):
    assert np.array_equal(data.read_idx(idx(array)), array)


@given(st.binary(max_size=40))
def test_noise_is_read_as_idx_only_where_it_is_idx(content):
    try:
        array = data.read_idx(content)
    except ValueError as error:
        assert "idx" in str(error)
    else:
        assert idx(array) == content


@given(arrays(np.uint8, array_shapes(max_dims=3, max_side=4)), st.data())
def test_a_cut_or_changed_header_is_never_read_as_another_array(array, chosen):
    content = idx(array)
    end = chosen.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ValueError, match="idx data"):
        data.read_idx(content[:end])
    with pytest.raises(ValueError, match="idx data"):
        data.read_idx(content + b"\0")
    huge = content[:4] + b"\xff" * (4 * array.ndim) + content[4 + 4 * array.ndim :]
    with pytest.raises(ValueError, match="needs"):
        data.read_idx(huge)


def test_an_element_type_other_than_bytes_is_named():
    with pytest.raises(ValueError, match="0x0d"):
        data.read_idx(bytes([0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0]))


def test_a_gzip_file_that_is_cut_off_or_no_gzip_names_the_file(tmp_path):
    whole = gzip.compress(idx(np.arange(200, dtype=np.uint8)))
    good, cut, other = (tmp_path / n for n in ("good.gz", "cut.gz", "other.gz"))
    good.write_bytes(whole)
    cut.write_bytes(whole[:-9])
    other.write_bytes(b"<html>")
    assert data.read_idx_file(good).sum() == 199 * 100
    for path in (cut, other):
        with pytest.raises(ValueError, match=path.name):
            data.read_idx_file(path)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(data.LARGEST + 5), 1))
    with pytest.raises(ValueError, match="larger than any file"):
        data.read_idx_file(path)


def official(folder, monkeypatch, count):
    """The four files with empty pictures, and their md5 sums in place of the published ones."""
    sums = {}
    for part, n in zip(("train", "t10k"), count):
        for name, array in (
            (f"{part}-images-idx3-ubyte.gz", np.zeros((n, 28, 28), np.uint8)),
            (f"{part}-labels-idx1-ubyte.gz", (np.arange(n) % 10).astype(np.uint8)),
        ):
            content = gzip.compress(idx(array), 1)
            (folder / name).write_bytes(content)
            sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(data, "MD5", sums)


def test_the_full_set_keeps_the_official_split(tmp_path, monkeypatch):
    official(tmp_path, monkeypatch, (60, 10))
    monkeypatch.setattr(data, "COUNTS", (60, 10))
    found = data.fashion_mnist(tmp_path)
    assert found.train.shape == (60, 1, 28, 28) and found.test.shape == (10, 1, 28, 28)
    assert found.train.dtype == np.float32 and found.test_labels.dtype == np.int64


def test_a_set_of_another_size_is_refused(tmp_path, monkeypatch):
    official(tmp_path, monkeypatch, (50, 10))
    with pytest.raises(ValueError, match="expected 60000"):
        data.fashion_mnist(tmp_path)


def test_a_missing_file_is_not_fetched_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(data.urllib.request, "urlopen", lambda *a, **k: pytest.fail("fetched"))
    with pytest.raises(FileNotFoundError, match="fetch=True"):
        data.fashion_mnist(tmp_path)


def test_another_file_under_an_official_name_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((1, 28, 28), np.uint8))))
    with pytest.raises(ValueError, match="md5"):
        data.fashion_mnist(tmp_path)


def test_what_arrives_wrong_is_not_kept_and_what_arrives_right_is(tmp_path, monkeypatch):
    content, name = b"labels", "t10k-labels-idx1-ubyte.gz"
    source = tmp_path / "server"
    source.mkdir()
    (source / name).write_bytes(content)
    kept = tmp_path / "kept"
    with pytest.raises(ValueError, match="what arrived"):
        data.fetch_official(kept, name, source.as_uri() + "/")
    assert list(kept.iterdir()) == []
    monkeypatch.setitem(data.MD5, name, hashlib.md5(content).hexdigest())
    assert data.fetch_official(kept, name, source.as_uri() + "/").read_bytes() == content
    with pytest.raises(ValueError, match="one of"):
        data.fetch_official(kept, "other.gz")


def test_the_small_set_is_balanced_whole_and_without_doubles():
    found = data.fashion_small(data=SHIPPED)
    assert found.train.shape == (5000, 1, 28, 28) and found.test.shape == (1000, 1, 28, 28)
    assert (np.bincount(found.train_labels) == 500).all() and (np.bincount(found.test_labels) == 100).all()
    both = np.concatenate([found.train, found.test])
    assert len({image.tobytes() for image in both}) == 6000
    assert both.min() == 0 and both.max() == 1


@pytest.mark.parametrize("load", [data.digits, lambda seed: data.fashion_small(seed, SHIPPED)])
def test_every_seed_splits_the_same_images_anew(load):
    one, same, two = load(1), load(1), load(2)
    assert np.array_equal(one.train, same.train) and not np.array_equal(one.test, two.test)
    pixels = [sorted(i.tobytes() for i in np.concatenate([x.train, x.test])) for x in (one, two)]
    assert pixels[0] == pixels[1]
    assert len(set(np.bincount(one.test_labels))) == 1


def test_a_damaged_or_missing_small_set_is_named(tmp_path, monkeypatch):
    whole = (SHIPPED / data.SMALL).read_bytes()
    (tmp_path / data.SMALL).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged"):
        data.fashion_small(data=tmp_path)
    with pytest.raises(FileNotFoundError, match=data.SMALL):
        data.fashion_small(data=tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    assert data.find_small() == SHIPPED / data.SMALL, "found from any folder"
    monkeypatch.setenv("PRUNEQUANT_RECORDS", str(tmp_path))
    assert data.find_small() == tmp_path / data.SMALL


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="class 1 has 2"):
        digits.by_class(np.array([0, 0, 0, 1, 1]), 2, 0)


def classes(seed=0, count=30, side=28):
    return [np.random.default_rng([seed, k]).integers(0, 256, (count, side, side), np.uint8) for k in range(10)]


def whole_images(part):
    pixels = np.concatenate([part.train, part.test])
    return {(np.rint(255 * x).astype(np.uint8)).tobytes() for x in pixels}


def test_parts_are_balanced_have_no_image_in_common_and_are_the_same_every_time():
    by_class = classes()
    parts = [data.part_of(by_class, part, 7, 3) for part in range(3)]
    for part in parts:
        assert part.train.shape == (70, 1, 28, 28) and part.test.shape == (30, 1, 28, 28)
        assert np.array_equal(np.bincount(part.train_labels), [7] * 10)
        assert np.array_equal(np.bincount(part.test_labels), [3] * 10)
        assert len(set(part.train_labels[:10].tolist())) > 3  # shuffled
        for x, label in zip(part.train[:5, 0], part.train_labels):
            assert any(np.array_equal(np.rint(255 * x), image) for image in by_class[label])
    sets = [whole_images(part) for part in parts]
    assert len(set.union(*sets)) == 300 and all(len(s) == 100 for s in sets)
    again = data.part_of(by_class, 1, np.uint8(7), 3)
    assert np.array_equal(again.train, parts[1].train) and np.array_equal(again.test_labels, parts[1].test_labels)


def test_a_part_beyond_the_last_image_is_refused():
    with pytest.raises(ValueError, match="part is 3: class 0 has 30 images, 40 are needed"):
        data.part_of(classes(), 3, 7, 3)
    for wrong in (-1, 6, 1.5):
        with pytest.raises((TypeError, ValueError), match="part"):
            data.fashion_part(wrong, "nowhere")


def write_package(folder, by_class):
    for label, images in enumerate(by_class):
        rows = [*images.reshape(len(images), -1).tolist(), []]  # the published files end with an empty row
        (folder / f"{label}.json").write_text(json.dumps({"data": rows}))


def test_a_package_is_read_as_it_was_written_and_its_doubles_are_left_out(tmp_path, monkeypatch):
    by_class = classes(count=4)
    by_class[3][0] = by_class[7][1]
    write_package(tmp_path, by_class)
    read = data.read_package(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(read, by_class, strict=True))
    once = data.occurring_once(read)
    assert [len(images) for images in once] == [4, 4, 4, 3, 4, 4, 4, 3, 4, 4]
    with pytest.raises(ValueError, match="its images have sha256"):
        data.fashion_part(0, tmp_path)
    digest = hashlib.sha256(b"".join(images.tobytes() for images in once)).hexdigest()
    for name, value in (("SINGLE", digest), ("PART_TRAIN", 2), ("PART_TEST", 1)):
        monkeypatch.setattr(data, name, value)
    first = data.fashion_part(0, tmp_path)
    assert first.train.shape == (20, 1, 28, 28)
    data._single.cache_clear()
    for path in tmp_path.glob("*.json"):  # what was left beside them is enough
        path.unlink()
    assert np.array_equal(data.fashion_part(0, tmp_path).train, first.train)
    data._single.cache_clear()
    kept = tmp_path / data.KEPT
    whole = kept.read_bytes()
    for damaged in (b"", whole[:1000], b"no archive"):
        kept.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"occurring-once\.npz: damaged"):
            data.fashion_part(0, tmp_path)
    once[0][0] += 1
    np.savez_compressed(kept, *once)
    with pytest.raises(ValueError, match=r"occurring-once\.npz: its images have sha256"):
        data.fashion_part(0, tmp_path)
    data._single.cache_clear()


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tmp_path, monkeypatch):
    by_class = classes(count=3)
    write_package(tmp_path, by_class)
    digest = hashlib.sha256(b"".join(images.tobytes() for images in by_class)).hexdigest()
    for name, value in (("SINGLE", digest), ("PART_TRAIN", 2), ("PART_TEST", 1)):
        monkeypatch.setattr(data, name, value)

    def refuse(path):
        raise PermissionError(13, "not allowed")

    monkeypatch.setattr(data.records, "beside", refuse)
    assert data.fashion_part(0, tmp_path).train.shape == (20, 1, 28, 28)
    assert not (tmp_path / data.KEPT).exists()
    data._single.cache_clear()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"data": 5}', '{"data": [[1], 5]}', json.dumps({"data": [[300] * 784]})]
)
def test_a_package_with_a_file_that_is_missing_or_another_is_refused_by_its_name(content, tmp_path):
    write_package(tmp_path, classes(count=1))
    (tmp_path / "6.json").write_text(content)
    with pytest.raises(ValueError, match=r"6.json: damaged or another file"):
        data.read_package(tmp_path)
    (tmp_path / "6.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"6.json: not there"):
        data.read_package(tmp_path)
