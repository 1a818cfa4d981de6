"""Carved matrices on disk: the masks and a header, never a weight of the source, which its seed brings back.

A safetensors file. Metadata: ``format``, ``version``, a JSON ``header`` and ``sha256`` over the header and every
tensor. Tensors: for each carved matrix ``NAME.words`` (byte planes of the 64-bit masks, deflated) and
``NAME.tries`` (deflated), both uint8. The high byte planes are almost all zero, so a mask costs about as many
bits as units were searched.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import integer, shown
from prunequant.arguments import path as file_path
from prunequant.records import beside
from prunequant.tickets.carve import MISSING, Carving, Recipe

FORMAT, VERSION = "prunequant-ticket", "1"
GENERATOR = "philox4x32-10, rejection to {-K..K}"


WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError, zlib.error)


class TicketFileError(ValueError):
    """A file that is no ticket, of another version, or damaged; names the file and the place."""


def pack(carving: Carving) -> dict[str, NDArray[np.uint8]]:
    """The two tensors of a carving."""
    planes = np.ascontiguousarray(carving.words.astype("<u8").reshape(-1, 1).view(np.uint8).T)
    return {
        "words": np.frombuffer(zlib.compress(planes.tobytes(), 6), np.uint8),
        "tries": np.frombuffer(zlib.compress(carving.tries.tobytes(), 6), np.uint8),
    }


def unpack(recipe: Recipe, shape: tuple[int, ...], words: NDArray, tries: NDArray) -> Carving:
    """The carving of two tensors; sizes that do not fit the shape are an error."""
    rows, columns, halves = (integer(side, "shape", 1, 2**31) for side in shape)
    shape, count = (rows, columns, halves), rows * columns * halves
    raw, attempts = _inflated(words, 8 * count), _inflated(tries, count)
    if len(raw) != 8 * count or len(attempts) != count:
        raise ValueError(f"holds {len(raw) // 8} masks and {len(attempts)} tries for shape {shape}")
    planes = np.frombuffer(raw, np.uint8).reshape(8, count)
    masks = np.ascontiguousarray(planes.T).view("<u8").astype(np.uint64).reshape(shape)
    chosen = np.frombuffer(attempts, np.uint8).reshape(shape)
    if shape[2] != len(recipe.halves) or (chosen >= min(MISSING, len(recipe.blocks))).any():
        raise ValueError("points to a sub-block that the plan does not have")
    return Carving(recipe, masks, chosen)


def _inflated(tensor: NDArray, size: int) -> bytes:
    """What a tensor holds, as far as ``size`` bytes and a little more: a small file cannot fill the memory."""
    if tensor.dtype != np.uint8:
        raise ValueError(f"holds a tensor of dtype {tensor.dtype}, uint8 is needed")
    inflater = zlib.decompressobj()
    data = inflater.decompress(tensor.tobytes(), min(size + 8, 2**62))
    if not inflater.eof and len(data) <= size:
        raise ValueError("holds a tensor that ends too early")
    return data


def write(path, header: Mapping, carvings: Mapping[str, Carving]) -> int:
    """Write carved matrices with a JSON header, beside the path first and then in its place; returns the bytes."""
    from safetensors.numpy import save_file

    path = file_path(path, "path", file=True)
    tensors, listed = {}, {}
    for name, carving in carvings.items():
        listed[name] = {"recipe": asdict(carving.recipe), "shape": list(carving.words.shape)}
        for part, tensor in pack(carving).items():
            tensors[f"{name}.{part}"] = tensor
    text = json.dumps({**header, "generator": GENERATOR, "matrices": listed}, sort_keys=True)
    metadata = {"format": FORMAT, "version": VERSION, "header": text, "sha256": _checksum(text, tensors)}
    with beside(path) as place:
        save_file(tensors, place, metadata)
    return path.stat().st_size


def read(path) -> tuple[dict, dict[str, Carving]]:
    """Header and carved matrices of a file, after its checksum has been compared; raises `TicketFileError`."""
    from safetensors import SafetensorError, safe_open

    path = file_path(path, "path", file=True)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such ticket file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, MemoryError, *WRONG) as error:  # a dtype that NumPy lacks is an AttributeError
        raise TicketFileError(f"{path}: not a readable safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise TicketFileError(f"{path}: format is {metadata.get('format')!r}, {FORMAT!r} is needed")
    if metadata.get("version") != VERSION:
        raise TicketFileError(f"{path}: version is {metadata.get('version')!r}, this library reads {VERSION!r}")
    text = metadata.get("header", "")
    if metadata.get("sha256") != _checksum(text, tensors):
        raise TicketFileError(f"{path}: damaged, its contents do not have the checksum in its header")
    try:
        header = json.loads(text)
        generator, matrices = header["generator"], dict(header["matrices"])
    except WRONG as error:
        raise TicketFileError(f"{path}: its header is not that of a ticket ({error!r})") from None
    if generator != GENERATOR:
        raise TicketFileError(f"{path}: its source came from {shown(generator)}, not {GENERATOR!r}")
    carvings = {}
    for name, entry in matrices.items():
        try:
            recipe = Recipe(**entry["recipe"])
            carvings[name] = unpack(recipe, entry["shape"], tensors[f"{name}.words"], tensors[f"{name}.tries"])
        except WRONG as error:
            missing = isinstance(error, KeyError)
            raise TicketFileError(f"{path}: matrix {name}: {f'{error} is missing' if missing else error}") from None
    return header, carvings


def _checksum(text: str, tensors: Mapping[str, NDArray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
