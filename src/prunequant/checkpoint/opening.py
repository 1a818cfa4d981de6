"""`open_model`: any file or folder of weights as one `Model`."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from prunequant import arguments
from prunequant.checkpoint import gguf_reader, npz_file, onnx_file, safetensors_file, structure, torch_file
from prunequant.checkpoint.files import Contents, File, ModelFileError, Tensor, model_path
from prunequant.checkpoint.matrices import Matrix, Untreated
from prunequant.checkpoint.streams import Archive


@dataclass(eq=False)
class Model:
    """A model file that is open: what is in it, to be read in pieces. Made by `open_model`; a context manager.

    Parameters
    ----------
    path, format : where it lies; "safetensors", "PyTorch", "npz", "GGUF" or "ONNX"
    tensors : everything that the file calls a tensor
    matrices : what is judged; every other tensor is a part of one, tied to one, or untreated
    untreated : what is not, each with its reason
    notes : what a person should know of the file, a sentence each
    metadata : what the file says of itself
    bytes : how the bytes of all files are shared out: "matrices", "untreated", "copies" (of tied tensors) and
        "headers" (and padding, settings, text); they add up to the size of the files
    transposed : as `open_model` was asked
    """

    path: Path
    format: str
    tensors: tuple[Tensor, ...]
    matrices: tuple[Matrix, ...]
    untreated: tuple[Untreated, ...]
    notes: tuple[str, ...]
    metadata: dict[str, Any]
    bytes: dict[str, int]
    _contents: Contents
    transposed: tuple[str, ...] = ()

    def close(self) -> None:
        """Close the files; what is read after that is an error."""
        self._contents.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_OTHERS = (".pth", ".pt", ".bin", ".npz", ".gguf", ".onnx")  # read when they are alone in a folder


def open_model(path: str | os.PathLike, transposed: Collection[str] = ()) -> Model:
    """Open a model file, or a folder of them, and say what is in it. No weight is read but to find tied tensors.

    Parameters
    ----------
    path : a safetensors file, a folder of them (with or without an index), a PyTorch file, an .npz, GGUF or ONNX
        file, or a folder with one of these
    transposed : names of tensors whose first axis is the input, with * and ? as in file names: "*.c_fc.weight".
        GPT-2's Conv1D layers are found without it.

    Raises
    ------
    ModelFileError : a file that is missing, damaged, or would run code; says the file, and the tensor if there is one
    TypeError : no path

    Notes
    -----
    Costs the headers, and a few kilobytes for each of several tensors of equal shape. Files are recognized by what is
    in them, never by their names alone. Nothing that a file names is imported, called or opened, but the shards that
    an index names beside itself.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save_file({"layer.weight": np.eye(4, 8, dtype=np.float16), "layer.bias": np.zeros(4, np.float16)}, path)
    >>> with open_model(path) as model:
    ...     for matrix in model.matrices:
    ...         print(matrix.name, matrix.rows, matrix.columns, matrix.dtype, matrix.read(0, 1))
    ...     print(model.untreated[0].name, "-", model.untreated[0].reason)
    layer.weight 4 8 F16 [[1. 0. 0. 0. 0. 0. 0. 0.]]
    layer.bias - a vector: kept as it is
    """
    file = model_path(path)
    patterns = tuple(arguments.several(transposed, "transposed", "names of tensors, a sequence of strings"))
    for pattern in patterns:
        arguments.instance(pattern, "transposed", str, "names of tensors, a sequence of strings")
    contents = _read(file)
    try:
        matrices, untreated, notes, copies = structure.build(contents, patterns)
    except BaseException:
        contents.close()
        raise
    used = {"matrices": sum(m.nbytes for m in matrices), "untreated": sum(u.nbytes for u in untreated)}
    used["copies"] = copies
    used["headers"] = contents.file_bytes - sum(used.values())
    notes.append(f"{used['headers']} bytes are headers, padding and settings")
    return Model(
        file, contents.format, tuple(contents.tensors.values()), tuple(matrices), tuple(untreated), tuple(notes),
        contents.metadata, used, contents, patterns,
    )  # fmt: skip


def _read(path: Path) -> Contents:
    if path.is_dir():
        try:
            others = sorted(other for other in path.iterdir() if other.suffix in _OTHERS and other.is_file())
        except OSError as error:
            raise ModelFileError(path, f"the folder cannot be read ({error.strerror})") from None
        if len(others) != 1 or any(path.glob("*.safetensors*")):
            return safetensors_file.read_folder(path)
        path = others[0]
    file = File(path)
    try:
        head = file.read(0, min(16, file.size))
        if not head:
            raise ModelFileError(path, "it is empty")
        zipped = head[:4] == b"PK\3\4"
        torch_zip = zipped and _holds_pickle(file)
    finally:
        file.close()
    if zipped:
        return torch_file.read(path) if torch_zip else npz_file.read(path)
    if head[:4] == b"GGUF":
        return gguf_reader.read(path)
    if head[:6] == b"\x93NUMPY":
        return npz_file.read(path)
    if head[:2] == b"\x80\x02" and path.suffix != safetensors_file.SUFFIX:
        return torch_file.read(path)
    if path.suffix == ".onnx":
        return onnx_file.read(path)
    return safetensors_file.read_single(path)


def _holds_pickle(file: File) -> bool:
    return any(name.endswith("data.pkl") for name in Archive(file).entries)
