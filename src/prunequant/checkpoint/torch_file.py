"""PyTorch files, `.pth`, `.pt`, `.bin`, without torch: tensors are described by a pickle and lie beside it as bytes.

    zip archive     NAME/data.pkl describes, NAME/data/KEY are the storages, uncompressed
    older           five pickles (magic number, version, system, description, keys), then for each key its length
                    and its bytes

The pickle is read as data (`pickles`): nothing in it runs. Checkpoints hold a model beside an optimizer and other
things; of a dict with a key such as "state_dict" or "model" that one is the model, and the rest is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prunequant.checkpoint import pickles, values
from prunequant.checkpoint.files import Contents, File, ModelFileError, Tensor, strided
from prunequant.checkpoint.safetensors_file import is_text, settings
from prunequant.checkpoint.streams import Archive, Stream

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "ComplexDoubleStorage": "C128", "UntypedStorage": "U8",
    "QInt8Storage": "I8", "QUInt8Storage": "U8", "QInt32Storage": "I32",
}  # fmt: skip
_DTYPES = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "int64": "I64", "long": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "complex64": "C64", "complex128": "C128",
}  # fmt: skip
# In a checkpoint with several of them the first one is the model.
CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params")
_REBUILT = tuple(f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3"))
_WRAPPED = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_LARGEST_PICKLE = 1 << 28


class _Storages:
    """Where storages lie: by key, their bytes start … stop - 1 of the file."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.places: dict[str, tuple[int, int]] = {}
        self.dtypes: dict[str, str] = {}

    def of(self, stored: object, name: str) -> tuple[str, tuple[int, int]]:
        """The dtype and place of what a persistent id names."""

        def wrong(problem: str) -> ModelFileError:
            return ModelFileError(self.file.path, problem, name)

        key = stored.key if isinstance(stored, pickles.Stored) else None
        if not isinstance(key, tuple) or len(key) < 5 or key[0] not in ("storage", b"storage"):
            raise wrong("it names no storage")
        kind, place = key[1], str(key[2])
        storage = kind.name.rpartition(".")[2] if isinstance(kind, pickles.Named) else ""
        if storage not in _STORAGES:
            raise wrong(f"its storage is a {storage or 'thing without a name'}, which is not known")
        if place not in self.places:
            raise wrong(f"the file has no storage {place!r:.60}")
        if len(key) > 5 and key[5] is not None:
            raise wrong("its storage is a view of another one, which only files from before 2018 have")
        return _STORAGES[storage], self.places[place]


def read(path: Path) -> Contents:
    """The contents of a PyTorch file.

    Raises
    ------
    ModelFileError : not such a file, a damaged one, or one whose pickle may run code.
    """
    contents = Contents("PyTorch")
    try:
        file = contents.open(path)
        archive = file.size >= 4 and file.read(0, 4) == b"PK\3\4"
        root, storages = _zipped(file) if archive else _older(file)
        _tensors(contents, storages, root)
        contents.config = settings(path.parent, contents.notes)
    except BaseException:
        contents.close()
        raise
    return contents


def _zipped(file: File) -> tuple[Any, _Storages]:
    archive = Archive(file)
    pickled = [name for name in archive.entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1:
        raise ModelFileError(file.path, "this zip archive is no PyTorch file: it must have one NAME/data.pkl")
    prefix = pickled[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in archive.entries:
        raise ModelFileError(file.path, "this is a TorchScript program: save the state_dict of the module")
    if f"{prefix}byteorder" in archive.entries:
        start, stop = archive.place(f"{prefix}byteorder")
        if file.read(start, min(stop, start + 16)) != b"little":
            raise ModelFileError(file.path, "its numbers are not little-endian")
    storages = _Storages(file)
    for name in archive.entries:
        if name.startswith(f"{prefix}data/"):
            storages.places[name.removeprefix(f"{prefix}data/")] = archive.place(name)
    start, stop = archive.place(pickled[0])
    if stop - start > _LARGEST_PICKLE:
        raise ModelFileError(file.path, f"a pickle of {stop - start} bytes is too large: at most {_LARGEST_PICKLE}")
    return pickles.load(Stream(file, start, stop), "its pickle"), storages


def _older(file: File) -> tuple[Any, _Storages]:
    stream = Stream(file)
    if pickles.load(stream, "its beginning") != _MAGIC:
        raise ModelFileError(file.path, "this is no PyTorch file: it lacks the number at the beginning")
    pickles.load(stream, "its version")
    system = pickles.load(stream, "its description of the system")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ModelFileError(file.path, "its numbers are not little-endian")
    root = pickles.load(stream, "its pickle")
    keys = pickles.load(stream, "its list of storages")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise ModelFileError(file.path, "its list of storages is damaged")
    storages = _Storages(file)
    sizes = {
        str(s.key[2]): s.key for _, s in _walk(root, pickles.Stored) if isinstance(s.key, tuple) and len(s.key) > 4
    }
    for key in keys:
        length = int.from_bytes(stream.take(8), "little", signed=True)
        kind = sizes[key][1] if key in sizes else None
        storage = kind.name.rpartition(".")[2] if isinstance(kind, pickles.Named) else ""
        encoding = values.encoding(_STORAGES.get(storage, ""))
        if encoding is None:
            raise ModelFileError(file.path, f"storage {key!r:.60} belongs to no tensor, so that its size is not known")
        start, stop = stream.tell(), stream.tell() + length * encoding.size
        if length < 0 or stop > file.size:
            raise ModelFileError(file.path, f"it is cut off: storage {key!r:.60} has {length} values")
        storages.places[key] = (start, stop)
        stream.seek(stop)
    return root, storages


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), child) for key, child in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), child) for number, child in enumerate(value))
    elif isinstance(value, pickles.Called):
        for number, child in enumerate((*value.args, *value.state)):
            yield (str(number), child)
    elif isinstance(value, pickles.Stored):
        yield ("", value.key)


def _walk(root: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """Everything of a kind with a path of names to it; every container is entered once, so that none can explode."""
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, kind):
            yield path, value
        if isinstance(value, dict | list | tuple | pickles.Called | pickles.Stored):
            if id(value) in seen:
                continue
            seen.add(id(value))
            children = [(f"{path}.{name}" if path else name, child) for name, child in _children(value)]
            todo.extend(reversed(children))


def _named_tensors(root: Any) -> Iterator[tuple[str, pickles.Called]]:
    """Tensors with their names in order; one that two names hold comes twice."""
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, pickles.Called) and value.name in _WRAPPED and value.args:
            value = value.args[0]
        if isinstance(value, pickles.Called) and (value.name in _REBUILT or "_rebuild_" in value.name):
            yield path or "tensor", value
        elif isinstance(value, dict | list | tuple | pickles.Called):
            if id(value) in seen or len(path) > 4096:
                continue
            seen.add(id(value))
            todo.extend(reversed([(f"{path}.{name}" if path else name, child) for name, child in _children(value)]))


def _container(root: Any) -> str | None:
    """The key under which a checkpoint keeps its model; None when the whole is the model."""
    if not isinstance(root, dict):
        return None
    for key in CONTAINERS:
        inner = root.get(key)
        if isinstance(inner, dict) and next(_named_tensors(inner), None) is not None:
            return key
    return None


def _tensors(contents: Contents, storages: _Storages, root: Any) -> None:
    key = _container(root)
    model = root if key is None else root[key]
    inner = _container(model) if key is not None else None  # {"model": {"state_dict": …}}
    model, key = (model[inner], f"{key}.{inner}") if inner is not None else (model, key)
    _add(contents, storages, model, "")
    if key is not None:
        contents.notes.append(f"the tensors under {key!r} are the model")
        inside = {id(tensor) for _, tensor in _named_tensors(model)}
        _add(
            contents, storages, root, f"it is not under {key!r}: state of an optimizer, an average, or the like", inside
        )
    named = {str(s.key[2]) for _, s in _walk(root, pickles.Stored) if isinstance(s.key, tuple) and len(s.key) > 4}
    for place, (start, stop) in storages.places.items():
        if place not in named:
            contents.untreated.append((f"storage {place}", (), "", stop - start, "no tensor of the file names it"))


def _add(
    contents: Contents, storages: _Storages, root: Any, reason: str, without: frozenset | set = frozenset()
) -> None:
    for name, called in _named_tensors(root):
        if id(called) in without:
            continue
        if not is_text(name):
            raise ModelFileError(storages.file.path, "its name is no text", name)
        if name in contents.tensors and not reason:
            raise ModelFileError(storages.file.path, "two tensors have this name", name)
        tensor = _tensor(storages, name, called)
        if isinstance(tensor, str) or reason:
            why = tensor if isinstance(tensor, str) else reason
            shape, dtype = ((), "") if isinstance(tensor, str) else (tensor.shape, tensor.dtype)
            nbytes = 0 if isinstance(tensor, str) else tensor.nbytes
            contents.untreated.append((name, shape, dtype, nbytes, why))
        else:
            contents.tensors[name] = tensor


def _sizes(value: object) -> tuple[int, ...] | None:
    if isinstance(value, pickles.Called) and value.name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if not isinstance(value, tuple | list) or len(value) > 64:
        return None
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in value)
    return tuple(value) if whole else None


def _tensor(storages: _Storages, name: str, called: pickles.Called) -> Tensor | str:
    """The tensor, or why it is none that is read."""

    def wrong(problem: str) -> ModelFileError:
        return ModelFileError(storages.file.path, problem, name)

    if called.name not in _REBUILT:
        return f"a tensor of another kind ({called.name.rpartition('.')[2].removeprefix('_rebuild_')})"
    if len(called.args) < 4:
        raise wrong("its description is damaged")
    storage, offset, shape, strides = called.args[:4]
    dtype, (begin, end) = storages.of(storage, name)
    shape, strides, where = _sizes(shape), _sizes(strides), _sizes((offset,))
    if shape is None or strides is None or where is None or len(shape) != len(strides):
        raise wrong("its sizes and strides must be whole numbers, as many of one as of the other")
    if called.name.endswith("_v3"):
        named = called.args[6] if len(called.args) > 6 else None
        known = _DTYPES.get(named.name.removeprefix("torch.")) if isinstance(named, pickles.Named) else None
        if known is None:
            return f"its dtype {named.name if isinstance(named, pickles.Named) else ''} is not known"
        dtype = known
    encoding = values.encoding(dtype)
    assert encoding is not None
    count, span = 1, 1
    for n, step in zip(shape, strides, strict=True):
        count *= n
        span += (n - 1) * step
    size = encoding.size
    if count and begin + (where[0] + span) * size > end:
        raise wrong(
            f"shape {list(shape)}, strides {list(strides)} from {where[0]} leave its storage of {end - begin} bytes"
        )
    origin = begin + where[0] * size
    if count > span:
        return f"it repeats the {span} values of its storage (shape {list(shape)}, strides {list(strides)})"
    fetch: Callable = strided(storages.file, origin, size, shape, strides)
    if not count:
        fetch = partial(storages.file.array)
    place = (str(storages.file.path), origin, origin + (span if count else 0) * size)
    return Tensor(name, shape, dtype, count * size, storages.file.path.name, encoding, fetch, place)
