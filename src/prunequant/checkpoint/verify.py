"""Look at a compressed file again: is every byte what was written, and is what it says of itself so?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.checkpoint.coding import SCALE_DTYPES, Blocks, Codes, Halves
from prunequant.checkpoint.compressed_tensors import WEIGHTS, unpack_words
from prunequant.checkpoint.files import File, Tensor
from prunequant.checkpoint.gguf_writing import DESCRIPTION
from prunequant.checkpoint.layout import restore
from prunequant.checkpoint.opening import open_model
from prunequant.checkpoint.outcome import read_document
from prunequant.checkpoint.safetensors_file import read_single
from prunequant.checkpoint.schemes import Scheme
from prunequant.extras import need

ERRORS_AGREE = 1e-4  # relatively: sums of squares in another order


@dataclass(frozen=True)
class Verified:
    """What was looked at: the kind of file, how many checksums agree, matrices decoded and compared; what is wrong."""

    target: str
    checksums: int
    matrices: int
    compared: int
    problems: tuple[str, ...]


def verify_file(
    path: str | os.PathLike, against: str | os.PathLike | None = None, transposed: Collection[str] = ()
) -> Verified:
    """Check a file that `compress` wrote: checksums, masks, scales, zeros, and errors where there is a source.

    Parameters
    ----------
    path : the file, or the folder of compressed-tensors.
    against : the model that it was made of: every recorded error is computed again.
    transposed : names of its tensors whose first axis is the input, as they were given to `compress`.

    Raises
    ------
    ModelFileError : a damaged file.
    ValueError : no file that `compress` wrote.
    """
    source = None if against is None else arguments.path(against, "against")
    contents = _opened(path)
    try:
        return _check(contents, source, transposed)
    finally:
        contents.close()


def stored_matrices(path: str | os.PathLike) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The matrices that `compress` coded into a file, one at a time: name, and (rows, columns) as the file decodes.

    Rows of a GGUF file that was made of a Llama's folder come in the order that GGUF has them.

    Raises
    ------
    ModelFileError : a damaged file.
    ValueError : no file that `compress` wrote.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> from prunequant.checkpoint import compress
    >>> folder = Path(tempfile.mkdtemp())
    >>> save_file({"w": np.array([[7, -8], [-8, 0]], np.float32)}, folder / "model.safetensors")
    >>> _ = compress(folder / "model.safetensors", folder / "small.safetensors", scheme="INT4 channel")
    >>> [(name, values.tolist()) for name, values in stored_matrices(folder / "small.safetensors")]
    [('w', [[7.0, -8.0], [-8.0, 0.0]])]
    """
    contents = _opened(path)
    try:
        for name in contents.said["matrices"]:
            yield name, contents.decode(name)[0]
    finally:
        contents.close()


def _opened(path: str | os.PathLike) -> _Stored:
    target = arguments.path(path, "path")
    weights = target / WEIGHTS if target.is_dir() else target
    with weights.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    return _gguf(weights) if is_gguf else _safetensors(weights)


@dataclass(eq=False)
class _Stored:
    """A compressed file that is open: what it says, and the bytes of its tensors by name."""

    said: dict[str, Any]
    data: Callable[[str], NDArray[np.uint8]]
    names: set[str]
    decode: Callable[[str], tuple[NDArray, list[str]]]
    close: Callable[[], None]


def _safetensors(path: Path) -> _Stored:
    contents = read_single(path)
    text = contents.metadata.get("prunequant")
    if not isinstance(text, str):
        contents.close()
        raise ValueError(f"path is {path}, which says nothing of how it was compressed: `compress` did not write it")
    said, tensors = read_document(text), contents.tensors

    def data(name: str) -> NDArray[np.uint8]:
        return np.concatenate([np.empty(0, np.uint8), *tensors[name].pieces()])

    decode = (
        _packed_decoder(said, tensors, data) if said["target"] == "compressed-tensors" else _own_decoder(said, data)
    )
    return _Stored(said, data, set(tensors), decode, contents.close)


def _own_decoder(said: dict[str, Any], data: Callable[[str], NDArray]) -> Callable[[str], tuple[NDArray, list[str]]]:
    def decode(name: str) -> tuple[NDArray, list[str]]:
        words = said["matrices"][name]
        scheme = Scheme.named(words["scheme"])
        coded = restore(name, scheme, words["rows"], words["columns"], data, said["symmetric"])
        if isinstance(coded, Codes):
            return coded.decode(), _wrong_scales(name, coded.scales)
        if isinstance(coded, Halves):
            return coded.decode(), []
        assert isinstance(coded, Blocks)
        return coded.decode(), []

    return decode


def _packed_decoder(
    said: dict[str, Any], tensors: dict[str, Tensor], data: Callable[[str], NDArray]
) -> Callable[[str], tuple[NDArray, list[str]]]:
    def decode(name: str) -> tuple[NDArray, list[str]]:
        words, module = said["matrices"][name], name.removesuffix(".weight")
        scheme, rows, columns = Scheme.named(words["scheme"]), words["rows"], words["columns"]
        bits = scheme.bits or 8
        scale = tensors[f"{module}.weight_scale"]
        scales = data(scale.name).view(SCALE_DTYPES[scale.dtype]).astype(np.float32).reshape(scale.shape[0], -1)
        packed = data(f"{module}.weight_packed").view("<i4").reshape(rows, -1)
        codes = unpack_words(packed, bits, columns)
        zeros = None
        if not said["symmetric"]:
            words_ = data(f"{module}.weight_zero_point").view("<i4").reshape(-1, scales.shape[1])
            zeros = unpack_words(np.ascontiguousarray(words_.T), bits, rows).T
        coded = Codes(codes, scales, bits, -(-columns // scales.shape[1]), zeros)
        return coded.decode(), _wrong_scales(name, scales)

    return decode


def _gguf(path: Path) -> _Stored:
    gguf = need("gguf")
    try:
        reader = gguf.GGUFReader(path)
        field = reader.fields.get(DESCRIPTION)
        text = None if field is None else field.contents()
    except Exception as error:  # the reader of a damaged file fails in many ways, each of them here
        raise ValueError(f"{path} is no GGUF file that can be read: {type(error).__name__}: {error}") from None
    if not isinstance(text, str):
        raise ValueError(f"path is {path}, which says nothing of how it was compressed: `compress` did not write it")
    said = read_document(text)
    tensors = {t.name: t for t in reader.tensors}
    file = File(path)

    def data(name: str) -> NDArray[np.uint8]:
        t = tensors[name]
        return file.array(int(t.data_offset), int(t.data_offset + t.n_bytes))

    def decode(name: str) -> tuple[NDArray, list[str]]:
        t = tensors[said["names"][name]]
        return np.asarray(gguf.quants.dequantize(t.data, t.tensor_type), np.float32), []

    return _Stored(said, data, set(tensors), decode, file.close)


def _wrong_scales(name: str, scales: NDArray) -> list[str]:
    wrong = np.count_nonzero(~(np.isfinite(scales) & (scales > 0)))
    return [f"{name}: {wrong} scales are not finite and positive"] if wrong else []


def _check(stored: _Stored, against: str | os.PathLike | None, transposed: Collection[str]) -> Verified:
    said, problems, good = stored.said, [], 0
    for name, digest in said["sha256"].items():
        if name not in stored.names:
            problems.append(f"{name}: the file has no such tensor")
        elif hashlib.sha256(stored.data(name).data).hexdigest() != digest:
            problems.append(f"{name}: its bytes are not those that were written")
        else:
            good += 1
    problems += [f"{name}: a tensor that was not written" for name in sorted(stored.names - set(said["sha256"]))]
    decoded = 0
    for name, words in said["matrices"].items():
        try:
            values, wrong = stored.decode(name)
        except (ValueError, KeyError) as error:
            problems.append(f"{name}: it cannot be decoded ({error})")
            continue
        decoded += 1
        problems += wrong + _wrong_values(name, words, values, said["target"] == "gguf")
    compared = _compare(stored, against, transposed, problems) if against is not None else 0
    return Verified(said["target"], good, decoded, compared, tuple(problems))


def _wrong_values(name: str, words: dict[str, Any], values: NDArray, reordered: bool) -> list[str]:
    wrong = []
    if not np.all(np.isfinite(values)):
        wrong.append(f"{name}: it decodes to values that are not finite")
    zeros = int(np.count_nonzero(values == 0))
    if zeros != words["zeros_after"]:
        wrong.append(f"{name}: {zeros} weights are zero, {words['zeros_after']} were")
    pattern = Scheme.named(words["scheme"]).pattern
    if isinstance(pattern, tuple):
        most = int(np.count_nonzero(values.reshape(-1, pattern[1]), axis=1).max(initial=0))
        if most > pattern[0]:
            wrong.append(f"{name}: {most} of {pattern[1]} neighbours are not zero, {pattern[0]} may be")
    return wrong


def _compare(stored: _Stored, against: str | os.PathLike, transposed: Collection[str], problems: list[str]) -> int:
    compared = 0
    with open_model(against, transposed) as model:
        matrices = {m.name: m for m in model.matrices}
        reordered = stored.said["target"] == "gguf" and model.format != "GGUF"
        for name, words in stored.said["matrices"].items():
            if name not in matrices:
                problems.append(f"{name}: the model it is compared with has no such matrix")
                continue
            if reordered and name.endswith(("q_proj.weight", "k_proj.weight")):
                continue  # its rows lie in the order of GGUF
            values, matrix = stored.decode(name)[0], matrices[name]
            if values.size != matrix.weights:
                problems.append(f"{name}: the model it is compared with has it as {matrix.rows} × {matrix.columns}")
                continue
            source = matrix.read(0, matrix.rows)
            error = float(np.sum((source - values.reshape(source.shape)).astype(np.float64) ** 2))
            if not abs(error - words["error"]) <= ERRORS_AGREE * max(error, words["error"]):
                problems.append(f"{name}: its error is {error:.6g}, {words['error']:.6g} was recorded")
            compared += 1
    return compared
