"""Files for the tests of readers, written by hand where a library would refuse."""

from __future__ import annotations

import json
import struct

import numpy as np

from prunequant.checkpoint import open_model


def safetensors(entries, metadata=None, *, header=None, tail=b"", length=None):
    """Bytes of a file: entries are (name, dtype, shape, bytes); `header` replaces the JSON text."""
    table, data = {}, b""
    if metadata is not None:
        table["__metadata__"] = metadata
    for name, dtype, shape, raw in entries:
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(table).encode() if header is None else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data + tail


def write(path, entries, **more):
    path.write_bytes(safetensors(entries, **more))
    return path


def f32(name, x):
    x = np.asarray(x, "<f4")
    return (name, "F32", x.shape, x.tobytes())


def i32(name, x):
    x = np.ascontiguousarray(x).astype("<i4")
    return (name, "I32", x.shape, x.tobytes())


def whole(matrix):
    return matrix.read(0, matrix.rows)


def by_name(model):
    return {matrix.name: matrix for matrix in model.matrices}


def reasons(model):
    return {tensor.name: tensor.reason for tensor in model.untreated}


def opened(path, **options):
    """A model that is read once and closed: everything in memory, small files only."""
    with open_model(path, **options) as model:
        accounted(model)
        return model, {matrix.name: whole(matrix) for matrix in model.matrices}


def accounted(model):
    """Every byte is a matrix's, an untreated tensor's, a copy's or a header's; every tensor has a place."""
    files = sum(file.size for file in model._contents.files)
    assert sum(model.bytes.values()) == files and min(model.bytes.values()) >= 0, model.bytes
    assert model.bytes["matrices"] == sum(m.nbytes for m in model.matrices)
    assert model.bytes["untreated"] == sum(u.nbytes for u in model.untreated)
    named = [name for m in model.matrices for name in (m.parts or (m.name,))]
    named += [name for m in model.matrices for name in m.aliases] + [u.name for u in model.untreated]
    missing = {tensor.name for tensor in model.tensors} - set(named)
    assert not missing, f"passed over in silence: {missing}"
