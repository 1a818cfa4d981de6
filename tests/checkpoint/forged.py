"""Compressed files that were changed and whose checksums were made to agree again: what only a look inside finds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from prunequant.checkpoint import gguf_reader
from prunequant.checkpoint.gguf_writing import DESCRIPTION
from prunequant.checkpoint.writing import Entry, header


@dataclass
class Piece:
    """A tensor of a safetensors file."""

    dtype: str
    shape: list
    data: bytearray

    def view(self, dtype):
        """Its values, to be written into."""
        return np.frombuffer(self.data, dtype)


def forge(path, change):
    """Give a safetensors file what `change(said, tensors, metadata)` makes of it."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:start])
    metadata = head.pop("__metadata__")
    tensors = {}
    for name, entry in head.items():
        low, high = entry["data_offsets"]
        tensors[name] = Piece(entry["dtype"], entry["shape"], bytearray(raw[start + low : start + high]))
    said = json.loads(metadata["prunequant"])
    change(said, tensors, metadata)
    for name in set(said["sha256"]) & set(tensors):
        said["sha256"][name] = hashlib.sha256(tensors[name].data).hexdigest()
    metadata["prunequant"] = json.dumps(said)
    entries = [Entry(name, t.dtype, tuple(t.shape)) for name, t in tensors.items()]
    head, places = header(entries, metadata)
    out = bytearray(head)
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        assert len(out) == place or not tensors[name].data
        out += tensors[name].data
    path.write_bytes(out)


def forge_gguf(path, name, change):
    """Change the bytes of a tensor of a GGUF file, in place, by `change(array of bytes)`."""
    contents = gguf_reader.read(path, whole=DESCRIPTION)
    _, start, stop = contents.tensors[name].place
    contents.close()
    raw = bytearray(path.read_bytes())
    before = hashlib.sha256(raw[start:stop]).hexdigest().encode()
    change(np.frombuffer(raw, np.uint8, stop - start, start))
    after = hashlib.sha256(raw[start:stop]).hexdigest().encode()
    path.write_bytes(raw.replace(before, after))
