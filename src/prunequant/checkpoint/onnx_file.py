"""ONNX: the initializers of a graph, by the package `onnx`; the nodes that use them say which axis is the input.

    MatMul, Gemm              the second operand is (in, out), unless Gemm turns it
    Conv, ConvTranspose       (out, in, kernel …), (in, out, kernel …)

Values lie in the file itself, which is then held in memory as a whole (at most 2 GB by its format), or in files beside
it: those are read in pieces, and only where they lie in the same folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint import values
from prunequant.checkpoint.files import Contents, File, ModelFileError, Tensor, shown_name
from prunequant.checkpoint.safetensors_file import is_text
from prunequant.extras import need

_DTYPES = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32",
    13: "U64", 14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ",
    23: "F4", 24: "F8_E8M0",
}  # fmt: skip
_LISTS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_QUANTIZED = {"DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "MatMulNBits"}
_LARGEST = 1 << 31


def read(path: Path) -> Contents:
    """The contents of an ONNX file.

    Raises
    ------
    ModelFileError : no such file, a damaged one, or values outside of its folder.
    MissingExtra : the package `onnx` is not installed.
    """
    onnx = need("onnx")
    contents = Contents("ONNX")
    try:
        file = contents.open(path)
        if file.size >= _LARGEST:
            raise ModelFileError(path, f"{file.size} bytes are more than the 2 GB of this format")
        try:
            model = onnx.ModelProto.FromString(file.read(0, file.size))
        except Exception as error:  # protobuf has errors of its own
            raise ModelFileError(path, f"it is no ONNX file, or a damaged one ({str(error)[:100]})") from None
        if not model.HasField("graph"):
            raise ModelFileError(path, "it is no ONNX file: it holds no graph")
        contents.metadata.update(producer=model.producer_name[:1000], opset=[o.version for o in model.opset_import][:8])
        axes = _axes(model.graph)
        beside: dict[str, File] = {}
        for tensor in model.graph.initializer:
            if not isinstance(tensor.name, str) or not is_text(tensor.name):
                raise ModelFileError(path, "its name is no text", repr(tensor.name))
            if tensor.name in contents.tensors:
                raise ModelFileError(path, "two initializers have this name", tensor.name)
            _add(contents, file, tensor, axes.get(tensor.name, ""), beside)
        _others(contents, model.graph)
    except BaseException:
        contents.close()
        raise
    return contents


def _axes(graph: Any) -> dict[str, str]:
    """What the nodes say of the axes of their weights."""
    axes: dict[str, str] = {}
    for node in graph.node:
        if len(node.input) < 2:
            continue
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if node.op_type in ("MatMul", "ConvTranspose") or (node.op_type == "Gemm" and not turned):
            axes[node.input[1]] = "transposed"
        elif node.op_type == "Gather":
            axes.setdefault(node.input[0], "embedding")
    return axes


def _others(contents: Contents, graph: Any) -> None:
    """What holds values and is no initializer of the graph: listed, not read."""
    quantized = sum(node.op_type in _QUANTIZED for node in graph.node)
    if quantized:
        contents.notes.append(f"{quantized} nodes use integers with scales, which are not joined in this format")
    for place, tensor in _inner(graph, 0):
        shape = tuple(tensor.dims)
        dtype = _DTYPES.get(tensor.data_type, f"type {tensor.data_type}")
        contents.untreated.append((place, shape, dtype, tensor.ByteSize(), "inside a node of the graph"))


def _inner(graph: Any, depth: int) -> Iterator[tuple[str, Any]]:
    for number, node in enumerate(graph.node):
        for attribute in node.attribute:
            name = f"{node.name or node.op_type} {number}.{attribute.name}"
            tensors = [attribute.t] if attribute.HasField("t") else []
            yield from ((name, tensor) for tensor in (*tensors, *attribute.tensors))
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from ((f"{name}.{tensor.name}", tensor) for tensor in inner.initializer)
                if depth < 20:
                    yield from ((f"{name}.{place}", tensor) for place, tensor in _inner(inner, depth + 1))


def _add(contents: Contents, file: File, tensor: Any, axes: str, beside: dict[str, File]) -> None:
    name, shape = tensor.name, tuple(tensor.dims)
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None:
        reason = "text" if tensor.data_type == 8 else f"values of type {tensor.data_type} are not read"
        contents.untreated.append((name, shape, f"type {tensor.data_type}", _stored(tensor), reason))
        return
    encoding = values.encoding(dtype)
    assert encoding is not None
    if any(n < 0 for n in shape):
        raise ModelFileError(file.path, f"its shape {list(shape)} has a negative number", name)
    count = 1
    for n in shape:
        count *= n
    wanted = encoding.nbytes(count)
    if tensor.data_location == 1:
        source, start, length = _external(contents, file, tensor, beside, wanted)
        if length != wanted:
            raise ModelFileError(file.path, f"shape {list(shape)} of {dtype} takes {wanted} bytes, not {length}", name)
        fetch: Any = partial(_fetch, source, start)
        place = (str(source.path), start, start + length)
        nbytes = wanted
    else:
        raw, place = _inline(tensor, dtype), None
        nbytes = _stored(tensor)
        if len(raw) != wanted:
            raise ModelFileError(
                file.path, f"shape {list(shape)} of {dtype} takes {wanted} bytes, not {len(raw)}", name
            )
        fetch = partial(_piece, np.frombuffer(raw, np.uint8))
    contents.tensors[name] = Tensor(name, shape, dtype, nbytes, file.path.name, encoding, fetch, place, axes)


def _stored(tensor: Any) -> int:
    return len(tensor.raw_data) or max(tensor.ByteSize() - len(tensor.name.encode("utf-8")), 0)


def _inline(tensor: Any, dtype: str) -> bytes:
    """The bytes of values that the file holds itself, whichever of its fields holds them."""
    if tensor.raw_data or not any(len(getattr(tensor, key)) for key in _LISTS):
        return tensor.raw_data
    key = next(key for key in _LISTS if len(getattr(tensor, key)))
    numbers = np.array(getattr(tensor, key), "f8" if "float" in key or "double" in key else "O")
    kinds = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U64": "<u8", "U32": "<u4", "I32": "<i4", "I16": "<i2",
             "U16": "<u2", "I8": "i1", "U8": "u1", "BOOL": "u1", "F16": "<u2", "BF16": "<u2"}  # fmt: skip
    kind = np.dtype(kinds.get(dtype, "u1"))
    with np.errstate(all="ignore"):
        if kind.kind == "f":
            return numbers.astype(kind).tobytes()
        bits = 8 * kind.itemsize
        return np.array([int(n) % (1 << bits) for n in numbers], f"<u{kind.itemsize}").tobytes()


def _external(
    contents: Contents, file: File, tensor: Any, beside: dict[str, File], wanted: int
) -> tuple[File, int, int]:
    """The file of values that lie beside, where they begin, how many bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = str(entries.get("location", ""))
    folder = file.path.parent
    path = folder / location
    outside = not location or "\0" in location or "\\" in location or os.path.isabs(location)
    if outside or ".." in Path(location).parts or not _within(path, folder):
        raise ModelFileError(file.path, f"its values lie in {shown_name(location)}, outside of the folder", tensor.name)
    try:
        start = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(wanted)))
    except ValueError:
        raise ModelFileError(file.path, "offset and length of its values must be whole numbers", tensor.name) from None
    if location not in beside:
        beside[location] = contents.open(path)
    source = beside[location]
    if start < 0 or length < 0 or start + length > source.size:
        what = f"its bytes {start} to {start + length} are not in {shown_name(location)}, {source.size} bytes long"
        raise ModelFileError(file.path, what, tensor.name)
    return source, start, length


def _within(path: Path, folder: Path) -> bool:
    """Whether a path stays in a folder, links followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def _fetch(source: File, origin: int, start: int, stop: int) -> NDArray[np.uint8]:
    return source.array(origin + start, origin + stop)


def _piece(raw: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.uint8]:
    return raw[start:stop]
