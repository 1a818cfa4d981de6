"""GGUF: every type that the package `gguf` decodes, and headers whose lengths are wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from checkpoint import made
from prunequant.checkpoint import ModelFileError, open_model

gguf = pytest.importorskip("gguf")
from gguf import quants  # noqa: E402

RNG = np.random.default_rng(7)
KINDS = gguf.GGMLQuantizationType
DECODED = [kind for kind in KINDS if kind in quants._type_traits and kind.name not in ("F32", "F16")]


def written(path, tensors, settings=()):
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in settings:
        writer.add_array(name, value)
    for name, raw, kind in tensors:
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks(kind, rows, count):
    """Random bytes of so many blocks a row, their 16-bit scales among them harmless."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    raw = RNG.integers(0, 256, (rows, count * size), dtype=np.uint8)
    raw.reshape(-1)[1::2] &= 0x3F  # no infinite 16-bit float, wherever it begins
    raw.reshape(-1)[::2] &= 0x3F
    return raw


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.name)
def test_every_type_of_blocks_is_decoded_as_the_package_does(tmp_path, kind):
    raw = blocks(kind, 6, 3)
    with np.errstate(all="ignore"):
        expected = quants.dequantize(raw, kind)
    with open_model(written(tmp_path / "m.gguf", [("blk.0.attn_q.weight", raw, kind)])) as model:
        made.accounted(model)
        (matrix,) = model.matrices
        assert (matrix.rows, matrix.columns) == expected.shape and matrix.dtype == kind.name
        assert matrix.nbytes == raw.nbytes and np.array_equal(made.whole(matrix), expected, equal_nan=True)
        assert np.array_equal(matrix.read(2, 5), expected[2:5], equal_nan=True)
        tensor = model.tensors[0]
        assert np.array_equal(tensor.read(5, 18), expected.reshape(-1)[5:18], equal_nan=True)


def test_plain_types_embeddings_experts_and_vectors_of_gguf_are_named(tmp_path):
    x, stack = RNG.standard_normal((4, 8)).astype(np.float32), RNG.standard_normal((2, 4, 8)).astype(np.float16)
    tensors = [
        ("token_embd.weight", x, None), ("blk.0.ffn_up_exps.weight", stack, None),
        ("output_norm.weight", np.ones(8, np.float32), None),
    ]  # fmt: skip
    words = [("tokenizer.ggml.tokens", ["a", "bc"]), ("numbers", [1, 2, 3])]
    model, found = made.opened(written(tmp_path / "m.gguf", tensors, words))
    kinds = {name: (m.kind, m.rows, m.columns, m.experts) for name, m in made.by_name(model).items()}
    assert kinds == {
        "token_embd.weight": ("embedding", 4, 8, 1),
        "blk.0.ffn_up_exps.weight": ("experts", 8, 8, 2),
    }
    assert np.array_equal(found["token_embd.weight"], x) and model.format == "GGUF"
    assert np.array_equal(found["blk.0.ffn_up_exps.weight"], stack.reshape(8, 8))
    assert made.reasons(model) == {"output_norm.weight": "a vector: kept as it is"}
    assert model.metadata["general.architecture"] == "llama" and model.metadata["numbers"] == "3 values"


def text(x):
    return struct.pack("<Q", len(x)) + x


def header(settings=b"", tensors=b"", *, counts=(0, 0), magic=b"GGUF", version=3, data=b""):
    raw = magic + struct.pack("<IQQ", version, *counts) + settings + tensors
    return raw + bytes(-len(raw) % 32) + data


def tensor(name=b"w", shape=(32, 2), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@pytest.mark.parametrize(
    "raw, words",
    [
        (header(version=1), "version 1"),
        (header(version=3 << 24), "big-endian"),
        (header(counts=(1 << 60, 0)), "cut off"),
        (header(counts=(0, 1 << 60)), "cut off"),
        (header(struct.pack("<Q", 1 << 62), counts=(0, 1)), "cut off"),
        (header(text(b"a") + struct.pack("<I", 99), counts=(0, 1)), "type 99"),
        (header(text(b"a") + struct.pack("<IIQ", 9, 0, 1 << 62), counts=(0, 1)), "cut off"),
        (header(text(b"a") + struct.pack("<IIQ", 9, 8, 1 << 62), counts=(0, 1)), "cut off"),
        (header(text(b"a") + struct.pack("<IIQ", 9, 9, 5) * 9, counts=(0, 1)), "not known|cut off"),
        (header(tensors=tensor(shape=(1,) * 5), counts=(1, 0)), "5 axes"),
        (header(tensors=tensor(b"\xff"), counts=(1, 0)), "no text"),
        (header(tensors=tensor(shape=(33, 2), kind=2), counts=(1, 0)), "no whole blocks of Q4_0"),
        (header(tensors=tensor(), counts=(1, 0)), "not in the file's data"),
        (header(tensors=tensor(offset=1 << 63), counts=(1, 0)), "not in the file's data"),
        (header(tensors=tensor(offset=8), counts=(1, 0), data=bytes(300)), "not in the file's data"),
        (header(tensors=tensor() * 2, counts=(2, 0), data=bytes(256)), "two tensors have this name"),
        (header(tensors=tensor() + tensor(b"v"), counts=(2, 0), data=bytes(256)), "overlaps 'w'"),
    ],
)
def test_a_header_of_gguf_that_does_not_fit_its_file_is_refused(tmp_path, raw, words):
    (tmp_path / "m.gguf").write_bytes(raw)
    with pytest.raises(ModelFileError, match=words):
        open_model(tmp_path / "m.gguf")


def test_a_type_of_the_future_is_listed_with_its_bytes(tmp_path):
    rows = tensor(b"new", kind=999) + tensor(b"w", offset=96)
    (tmp_path / "m.gguf").write_bytes(header(tensors=rows, counts=(2, 0), data=bytes(96 + 256)))
    model, found = made.opened(tmp_path / "m.gguf")
    assert list(found) == ["w"] and made.reasons(model) == {"new": "values of type 999 are not read"}
    assert model.bytes["untreated"] == 96
