"""Look at a compressed file again: is every byte what was written, and is what it says of itself so?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.checkpoint.opening import open_model
from prunequant.checkpoint.outcome import decibels
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.stored import Problem, Problems, Stored, open_stored

ERRORS_AGREE = 1e-4  # relatively: sums of squares in another order
DECIBELS_AGREE = 1e-3


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
    stored = open_stored(arguments.path(path, "path"))
    try:
        return _check(stored, source, transposed)
    finally:
        stored.close()


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
    stored = open_stored(arguments.path(path, "path"))
    try:
        for name in stored.said["matrices"]:
            if problem := next(_of_a_matrix(stored, name), None):
                raise stored.error(problem)
            yield name, stored.decode(name)
    finally:
        stored.close()


def _of_a_matrix(stored: Stored, name: str) -> Problems:
    """What is wrong with a matrix: what is said of it, else kinds and sizes of its tensors, else what is in them."""
    problems = list(stored.words(name)) or list(_sizes(stored, name)) or list(stored.contradictions(name))
    yield from problems


def _sizes(stored: Stored, name: str) -> Problems:
    total, wrong = 0, False
    for part in stored.parts(name):
        tensor = stored.tensors.get(part.name)
        if tensor is None:
            yield part.name, "the file has no such tensor"
        elif (tensor.dtype, tensor.shape) != (part.dtype, part.shape):
            what = f"it is {tensor.dtype} of shape {list(tensor.shape)}"
            yield part.name, f"{what}: its matrix takes {part.dtype} of {list(part.shape)}"
        else:
            total += tensor.nbytes
            continue
        wrong = True
    said = stored.said["matrices"][name]["stored_bytes"]
    if not wrong and total != said:
        yield name, f"its tensors have {total} bytes, {said} are said"


def _check(stored: Stored, against: Path | None, transposed: Collection[str]) -> Verified:
    said = stored.said
    problems: list[Problem] = list(stored.about_the_file())
    sound: list[str] = []
    for name in said["matrices"]:
        faults = list(_of_a_matrix(stored, name))
        problems += faults
        sound += [] if faults else [name]
    good = 0
    for name, digest in said["sha256"].items():
        if name not in stored.tensors:
            problems.append((name, "the file has no such tensor"))
        elif hashlib.sha256(stored.data(name).data).hexdigest() != digest:
            problems.append((name, "its bytes are not those that were written"))
        else:
            good += 1
    if not any(any(stored.words(name)) for name in said["matrices"]):
        problems += _strangers(stored)
    decoded = 0
    for name in sound:
        problems += _of_values(name, said["matrices"][name], stored.decode(name))
        decoded += 1
    compared = _compare(stored, sound, against, transposed, problems) if against is not None else 0
    texts = dict.fromkeys(str(stored.error(problem)) for problem in problems)
    return Verified(said["target"], good, decoded, compared, tuple(texts))


def _strangers(stored: Stored) -> Problems:
    """Tensors that nothing is said of, and those that are said to be there and are not."""
    mine = {part.name for name in stored.said["matrices"] for part in stored.parts(name)}
    for name in sorted(stored.tensors):
        if name not in mine | stored.unnamed():
            yield name, "a tensor that was not written"
        elif name not in stored.said["sha256"]:
            yield name, "it has no checksum"
    for name in sorted(stored.unnamed() - set(stored.tensors)):
        yield name, "the file has no such tensor"
    if len(stored.said["left"]) != len(stored.unnamed()):
        yield "left", f"{len(stored.said['left'])} tensors are said to be as they were, {len(stored.unnamed())} are"


def _of_values(name: str, words: dict[str, Any], values: NDArray) -> Problems:
    if not np.all(np.isfinite(values)):
        yield name, "it decodes to values that are not finite"
    zeros = int(np.count_nonzero(values == 0))
    if zeros != words["zeros_after"]:
        yield name, f"{zeros} weights are zero, {words['zeros_after']} were"
    pattern = Scheme.named(words["scheme"]).pattern
    if isinstance(pattern, tuple):
        most = int(np.count_nonzero(values.reshape(-1, pattern[1]), axis=1).max(initial=0))
        if most > pattern[0]:
            yield name, f"{most} of {pattern[1]} neighbours are not zero, {pattern[0]} may be"


def _compare(
    stored: Stored,
    sound: Collection[str],
    against: Path,
    transposed: Collection[str],
    problems: list[Problem],
) -> int:
    compared = 0
    with open_model(against, transposed) as model:
        matrices = {m.name: m for m in model.matrices}
        reordered = stored.said["target"] == "gguf" and model.format != "GGUF"
        for name in sound:
            matrix = matrices.get(name)
            if matrix is None:
                problems.append((name, "the model it is compared with has no such matrix"))
                continue
            if reordered and name.endswith(("q_proj.weight", "k_proj.weight")):
                continue  # its rows lie in the order of GGUF
            values = stored.decode(name)
            if values.size != matrix.weights:
                what = f"{matrix.rows} × {matrix.columns}"
                problems.append((name, f"the model it is compared with has it as {what}"))
                continue
            problems += _errors(name, stored.said["matrices"][name], matrix.read(0, matrix.rows), values)
            compared += 1
    return compared


def _errors(name: str, words: dict[str, Any], source: NDArray, values: NDArray) -> Problems:
    """Recorded errors that are none of a matrix and its source."""
    error = float(np.sum((source - values.reshape(source.shape)).astype(np.float64) ** 2))
    if not abs(error - words["error"]) <= ERRORS_AGREE * max(error, words["error"]):
        yield name, f"its error is {error:.6g}, {words['error']:.6g} was recorded"
        return
    snr = decibels(float(np.sum(source.astype(np.float64) ** 2)), error)
    if snr != words["snr"] and not abs(snr - words["snr"]) <= DECIBELS_AGREE:
        yield name, f"its SNR is {snr:.4f} dB, {words['snr']:.4f} was recorded"
    zeros = int(np.count_nonzero(source == 0))
    if zeros != words["zeros_before"]:
        yield name, f"{zeros} weights of its source are zero, {words['zeros_before']} were"
