"""Safetensors: the header read and checked by us, because bfloat16, fp8, E8M0 and FP4 have no NumPy dtype.

    8 bytes      length of the header, little-endian
    header       JSON: {"name": {"dtype": …, "shape": […], "data_offsets": [start, stop]}, "__metadata__": {…}}
    data         one tensor after the other, no gap, to the end of the file

A folder holds one such file, or several and `model.safetensors.index.json`, which says where each tensor is: the index
is trusted, and what disagrees with it is said.
"""

from __future__ import annotations

import json
import struct
from functools import partial
from pathlib import Path
from typing import Any

from prunequant.checkpoint import values
from prunequant.checkpoint.files import Contents, File, ModelFileError, Tensor, shown_name

LARGEST_HEADER = 100_000_000
LARGEST_JSON = 64_000_000
INDEX = ".safetensors.index.json"
SUFFIX = ".safetensors"


class _Repeated(ValueError):
    """A key that stands twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Repeated(f"the key {shown_name(twice)} stands twice")
    return unique


def parse_json(raw: bytes, path: Path, what: str) -> dict[str, Any]:
    """A JSON object of an untrusted file, in which no key stands twice.

    Raises
    ------
    ModelFileError : no JSON, no object, a key twice, nested too deeply.
    """
    try:
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except _Repeated as error:
        raise ModelFileError(path, f"{what} is damaged: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(path, f"{what} is no JSON ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(parsed, dict):
        raise ModelFileError(path, f"{what} is a {type(parsed).__name__}: it must be a JSON object")
    return parsed


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(name: str) -> bool:
    """Whether it can be written in UTF-8: JSON allows halves of characters."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _entry(file: File, name: str, entry: object, data: int) -> Tensor:
    def wrong(problem: str) -> ModelFileError:
        return ModelFileError(file.path, problem, name)

    if not is_text(name):
        raise wrong("its name is no text")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise wrong("its entry in the header must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    encoding = values.encoding(dtype) if isinstance(dtype, str) else None
    if not isinstance(shape, list) or not all(_whole(n) for n in shape) or len(shape) > 64:
        raise wrong("its shape must be a list of whole numbers, at most 64")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_whole(n) for n in offsets):
        raise wrong("its data_offsets must be two whole numbers")
    start, stop = offsets
    if start > stop or data + stop > file.size:
        raise wrong(f"its bytes {start} to {stop} are not among the {file.size - data} of the file's data")
    if encoding is None:
        encoding = values.unread(str(dtype), 1, 1)
    else:
        count = 1
        for n in shape:
            count *= n
        if count % encoding.block or encoding.nbytes(count) != stop - start:
            raise wrong(f"shape {shape} of {dtype} takes {encoding.nbytes(count)} bytes, its offsets {stop - start}")
    shown = dtype if isinstance(dtype, str) and len(dtype) <= 40 and is_text(dtype) else shown_name(str(dtype))
    return Tensor(
        name, tuple(shape), shown, stop - start, file.path.name, encoding, partial(_fetch, file, data + start),
        (str(file.path), data + start, data + stop),
    )  # fmt: skip


def _fetch(file: File, origin: int, start: int, stop: int):
    return file.array(origin + start, origin + stop)


def header(file: File) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file as JSON has it, and where the data begin.

    Raises
    ------
    ModelFileError : the file is shorter than it says, the header longer than 100 MB or no JSON object.
    """
    if file.size < 8:
        raise ModelFileError(file.path, f"{file.size} bytes are no safetensors file: its header has a length of 8")
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > LARGEST_HEADER:
        size = f"its header would have {length} bytes, of at most {LARGEST_HEADER}"
        raise ModelFileError(file.path, f"it is no safetensors file, or damaged: {size}")
    if length > file.size - 8:
        raise ModelFileError(file.path, f"it is cut off: a header of {length} bytes in a file of {file.size}")
    return parse_json(file.read(8, 8 + length), file.path, "its header"), 8 + length


def read_file(contents: Contents, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of one file, everything checked.

    Raises
    ------
    ModelFileError : anything that the format does not allow.
    """
    file = contents.open(path)
    entries, data = header(file)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError(path, "__metadata__ must hold strings")
    tensors = {name: _entry(file, name, entry, data) for name, entry in entries.items()}
    places = sorted((t.place[1:], t.name) for t in tensors.values() if t.place)
    edge, before = data, ""
    for (start, stop), name in places:
        if start != edge:
            what = "overlaps" if start < edge else "leaves a gap after"
            raise ModelFileError(path, f"it {what} {shown_name(before) if before else 'the header'}", name)
        edge, before = stop, name
    if edge != file.size:
        raise ModelFileError(path, f"{file.size - edge} bytes at its end belong to no tensor")
    return tensors, metadata


def read_single(path: Path) -> Contents:
    """The contents of one safetensors file."""
    contents = Contents("safetensors")
    try:
        contents.tensors, metadata = read_file(contents, path)
        contents.metadata.update(metadata)
        contents.config = settings(path.parent, contents.notes)
    except BaseException:
        contents.close()
        raise
    return contents


def settings(folder: Path, notes: list[str]) -> dict[str, Any]:
    """What config.json and quantize_config.json of a folder say, as data: nothing that they name is looked for.

    A file that cannot be read is said in a note: the weights can be read without it.
    """
    merged: dict[str, Any] = {}
    for name in ("config.json", "quantize_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            file = File(path)
            try:
                if file.size > LARGEST_JSON:
                    raise ModelFileError(path, f"{file.size} bytes are too many for settings")
                read = parse_json(file.read(0, file.size), path, "it")
            finally:
                file.close()
        except ModelFileError as error:
            notes.append(f"{name} is not used: {error.problem}")
            continue
        if name == "config.json":
            inner = read.get("quantization_config")
            merged.update(inner if isinstance(inner, dict) else {})
        else:
            merged.update(read)
    return merged


def read_folder(folder: Path) -> Contents:
    """A folder of safetensors: by its index where there is one, else every file in it.

    Raises
    ------
    ModelFileError : no safetensors in it, two indexes, an index or a file of it that is damaged, a shard that is
        missing, a tensor in two files without an index.
    """
    contents = Contents("safetensors")
    try:
        indexes = sorted(folder.glob(f"*{INDEX}"))
        if len(indexes) > 1:
            names = ", ".join(path.name for path in indexes)
            raise ModelFileError(folder, f"it has several indexes ({names}): name the files that belong together")
        shards = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
        if not indexes and not shards:
            raise ModelFileError(folder, "there is no safetensors file in this folder")
        if indexes:
            _indexed(contents, indexes[0], shards)
        else:
            _every(contents, shards)
        contents.config = settings(folder, contents.notes)
    except BaseException:
        contents.close()
        raise
    return contents


def _every(contents: Contents, shards: list[Path]) -> None:
    for path in shards:
        tensors, metadata = read_file(contents, path)
        contents.metadata.update(metadata)
        for name in tensors:
            if name in contents.tensors:
                other = contents.tensors[name].file
                raise ModelFileError(path, f"it is in {other} too, and no index says which one counts", name)
        contents.tensors.update(tensors)
    if len(shards) > 1:
        contents.notes.append(f"no index: all {len(shards)} safetensors files of the folder were read")


def _indexed(contents: Contents, index: Path, shards: list[Path]) -> None:
    file = contents.open(index)
    if file.size > LARGEST_JSON:
        raise ModelFileError(index, f"an index of {file.size} bytes is too large: at most {LARGEST_JSON}")
    read = parse_json(file.read(0, file.size), index, "the index")
    places = read.get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ModelFileError(index, "weight_map must name a file for each tensor")
    metadata = read.get("metadata")
    contents.metadata.update(metadata if isinstance(metadata, dict) else {})
    by_shard: dict[str, dict[str, Tensor]] = {}
    for shard in sorted(set(places.values())):
        if (
            Path(shard).name != shard
            or "\\" in shard
            or shard in ("", "..", ".")
            or "\0" in shard
            or not is_text(shard)
        ):
            raise ModelFileError(index, f"the shard {shown_name(shard)} is no name of a file beside the index")
        path = index.parent / shard
        if not path.is_file():
            missing = next(name for name, place in places.items() if place == shard)
            raise ModelFileError(index, f"the shard {shown_name(shard)} is missing", missing)
        by_shard[shard], more = read_file(contents, path)
        contents.metadata.update(more)
    for name, shard in places.items():
        if name not in by_shard[shard]:
            others = [other for other, tensors in by_shard.items() if name in tensors]
            where = f"it is in {others[0]}" if others else "no shard holds it"
            contents.notes.append(f"the index places {shown_name(name)} in {shard}, which does not hold it: {where}")
            if others:
                contents.tensors[name] = by_shard[others[0]][name]
            continue
        contents.tensors[name] = by_shard[shard][name]
    for shard, tensors in by_shard.items():
        for name, tensor in tensors.items():
            if contents.tensors.get(name) is not tensor:
                reason = "the index does not name it" if name not in places else "the index takes it from another shard"
                contents.untreated.append((f"{name} in {shard}", tensor.shape, tensor.dtype, tensor.nbytes, reason))
    for path in shards:
        if path.name not in by_shard:
            contents.notes.append(f"{path.name} ({path.stat().st_size} bytes) is in no entry of the index: not read")
