"""GGUF files, which llama.cpp and transformers load: blocks of 32 values under scales of least squared error.

    INT4 g32   Q4_0    a half-precision scale, which may be negative, and 32 codes of 4 bits: 4.5 bits a weight
               Q4_1    with settings that are not symmetric: a scale and a minimum, 5 bits. Zero is no code of it
    INT8 g32   Q8_0    a scale and 32 codes of 8 bits: 8.5 bits
    MXFP4      MXFP4   4.25 bits
    NVFP4      NVFP4   blocks of 16, without the scale of the whole tensor: 4.5 bits

From a GGUF file every piece of metadata and every other tensor is copied as its bytes are. From a folder of a Llama the
metadata is that of its config.json; the rows of the query and key projections change their order, as GGUF has them.
The header is written by us, since its size is promised before any work and what it says of errors is filled in last;
the package `gguf` reads, and says which types there are.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import records
from prunequant.checkpoint.coding import Blocks, Coded, Codes, Shifted
from prunequant.checkpoint.files import Tensor
from prunequant.checkpoint.layout import sources, untouched
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.outcome import Left, Row, document
from prunequant.checkpoint.schemes import Scheme
from prunequant.extras import need

BLOCK = 32
ALIGNMENT = 32
DESCRIPTION = "prunequant.description"
_TYPES = {("INT4 g32", True): "Q4_0", ("INT4 g32", False): "Q4_1", ("INT8 g32", True): "Q8_0"}
FILE_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "MXFP4": 38, "NVFP4": 39}
_PLAIN = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
_ATTENTION = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


@dataclass(frozen=True)
class Stored:
    """One tensor of the file: its name there, its sizes (the last first, as GGUF has them), type and bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    nbytes: int


def type_of(scheme: Scheme, symmetric: bool) -> str:
    """The type of GGUF that holds a scheme; empty when there is none.

    Examples
    --------
    >>> type_of(Scheme.named("INT4 g32"), True), type_of(Scheme.named("2:4 INT8 g32"), True)
    ('Q4_0', 'Q8_0')
    """
    if scheme.format in ("MXFP4", "NVFP4"):
        return scheme.format
    return _TYPES.get((f"INT{scheme.bits} g{scheme.granularity}", symmetric), "")


def problem(matrix: Matrix, scheme: Scheme, symmetric: bool) -> str:
    """Why GGUF cannot hold a matrix so; empty when it can."""
    ggml_type = type_of(scheme, symmetric)
    if not ggml_type:
        return f"{scheme.name}{'' if symmetric else ', not symmetric,'} is no type of GGUF that is written here"
    if matrix.columns % (64 if ggml_type == "NVFP4" else BLOCK):
        return f"blocks of {64 if ggml_type == 'NVFP4' else BLOCK} do not divide its rows of {matrix.columns}"
    if matrix.kind not in ("linear", "embedding", "experts"):
        return f"{matrix.kind}: blocks lie along the last axis of what is stored"
    if ggml_type == "Q4_1" and scheme.pattern is not None:
        return "Q4_1 has no code for zero: what is pruned would not stay so"
    return ""


def blocks_of(coded: Coded, kind: str) -> NDArray[np.uint8]:
    """The bytes of a coded matrix in a type of GGUF, (rows, bytes a row).

    Examples
    --------
    >>> from prunequant.checkpoint.coding import nearest
    >>> blocks_of(nearest(np.ones((1, 32)), Scheme.named("INT4 g32")), "Q4_0").shape
    (1, 18)
    """
    if isinstance(coded, Blocks):
        return _floats(coded, kind)
    if not isinstance(coded, Codes | Shifted):
        raise TypeError(f"coded is a {type(coded).__name__}: {kind} holds codes")
    rows = coded.codes.shape[0]
    scales = coded.scales.astype("<f2").reshape(-1, 1).view(np.uint8)
    codes = coded.codes.reshape(-1, BLOCK)
    parts = [scales]
    if isinstance(coded, Shifted):
        parts.append(coded.minima.astype("<f2").reshape(-1, 1).view(np.uint8))
    if kind == "Q8_0":
        parts.append(codes.view(np.uint8))
    else:
        low = codes.astype(np.uint8) if isinstance(coded, Shifted) else (codes + np.int8(8)).astype(np.uint8)
        parts.append(low[:, : BLOCK // 2] | (low[:, BLOCK // 2 :] << np.uint8(4)))
    return np.concatenate(parts, axis=1).reshape(rows, -1)


def _floats(coded: Blocks, kind: str) -> NDArray[np.uint8]:
    codes, scales = coded.encoded.codes.astype(np.uint8), np.asarray(coded.encoded.scales)
    rows = len(codes)
    if kind == "MXFP4":
        half = codes.reshape(-1, 2, BLOCK // 2)
        return np.concatenate([scales.reshape(-1, 1), half[:, 0] | (half[:, 1] << np.uint8(4))], axis=1).reshape(
            rows, -1
        )
    quarter = codes.reshape(-1, 4, 2, 8)
    packed = (quarter[:, :, 0] | (quarter[:, :, 1] << np.uint8(4))).reshape(-1, BLOCK)
    return np.concatenate([scales.reshape(-1, 4), packed], axis=1).reshape(rows, -1)


def stored_bytes(rows: int, columns: int, scheme: Scheme, symmetric: bool = True) -> int:
    """What a matrix takes in the file, padding apart."""
    gguf = need("gguf")
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_of(scheme, symmetric)]]
    return rows * (columns // values) * size


class GGUFWriter:
    """The writer of such a file; see `compression.Writer`.

    Raises
    ------
    ValueError : a source that is neither GGUF nor a Llama's folder; matrices that were asked for and that the format
        cannot hold, all of them named.
    MissingExtra : the package gguf is not installed.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        schemes: Mapping[str, Scheme],
        left: Mapping[str, str],
        settings: Settings,
        asked: bool,
    ) -> None:
        self._gguf = need("gguf")
        matrices = {m.name: m for m in model.matrices}
        wrong = {n: why for n, s in schemes.items() if (why := problem(matrices[n], s, settings.symmetric))}
        if wrong and (asked or len(wrong) == len(schemes)):
            raise ValueError(
                "GGUF cannot hold what is asked for: " + "; ".join(f"{n}: {why}" for n, why in wrong.items())
            )
        self.schemes = {n: s for n, s in schemes.items() if n not in wrong}
        self._settings = settings
        self._source = _FromGGUF(path, self._gguf) if model.format == "GGUF" else _FromLlama(path, self._gguf)
        kinds = {n: type_of(s, settings.symmetric) for n, s in self.schemes.items()}
        self._kinds = kinds
        self._copied = untouched(model, self.schemes)
        reasons = {**left, **wrong}
        self.left = tuple(
            Left(t.name, t.dtype, t.shape, t.nbytes, reasons.get(t.name, "no matrix")) for t in self._copied
        )
        self.notes = self._source.notes
        self._tensors: dict[str, Stored] = {}
        for tensor in model.tensors:  # in the order of the source
            if tensor.name in kinds:
                matrix, kind = matrices[tensor.name], kinds[tensor.name]
                scheme = self.schemes[tensor.name]
                nbytes = stored_bytes(matrix.rows, matrix.columns, scheme, settings.symmetric)
                self._tensors[tensor.name] = Stored(self._source.name(tensor.name), tensor.shape, kind, nbytes)
            elif any(t.name == tensor.name for t in self._copied):
                self._tensors[tensor.name] = self._source.stored(tensor)
        tied = [n for n in self.schemes if len(sources(matrices[n])) > 1]
        if tied:
            raise ValueError(
                f"{', '.join(tied)} hold the same as other tensors of the file: GGUF is not written of such"
            )
        rows = [
            Row(n, s.name, settings.method, matrices[n].rows, matrices[n].columns, self._tensors[n].nbytes,
                0.0, 0.0, 0.0, 0, 0, kinds[n] != "Q4_1")
            for n, s in self.schemes.items()
        ]  # fmt: skip
        self._fields = self._source.fields(max(kinds.values(), key=list(kinds.values()).count))
        self._sums = {s.name: "" for s in self._tensors.values()}
        self._start = len(self._header(self._document(rows, self._sums)))
        self.predicted_bytes = self._start + sum(padded(s.nbytes) for s in self._tensors.values())
        self._rows = rows

    def settings(self, matrix: Matrix, settings: Settings) -> Settings:
        """Half-precision scales of either sign, or with a minimum."""
        grid = "signed" if self._kinds[matrix.name] == "Q4_0" else settings.grid if settings.symmetric else "minimum"
        return replace(settings, scale_dtype="F16", unit_scale=True, grid=grid)

    def _document(self, rows: list[Row], checksums: Mapping[str, str]) -> str:
        return document(rows, self.left, checksums, target="gguf", symmetric=self._settings.symmetric,
                        names={n: self._tensors[n].name for n in self.schemes})  # fmt: skip

    def _header(self, said: str) -> bytes:
        """Everything in front of the tensors, padded."""
        types = self._gguf.GGMLQuantizationType
        fields = [*self._fields, packed_text(DESCRIPTION, said)]
        out = struct.pack("<4sIQQ", b"GGUF", 3, len(self._tensors), len(fields)) + b"".join(fields)
        at = 0
        for stored in self._tensors.values():
            name = stored.name.encode()
            out += struct.pack("<Q", len(name)) + name
            out += struct.pack(f"<I{len(stored.shape)}Q", len(stored.shape), *reversed(stored.shape))
            out += struct.pack("<IQ", types[stored.type], at)
            at += padded(stored.nbytes)
        return out + bytes(-len(out) % ALIGNMENT)

    def write(self, out: Path, coded: Iterator[tuple[Matrix, Coded, Row]]) -> list[Row]:
        """Write the file, beside, and rename it; the rows with their stored bytes."""
        places, at = {}, self._start
        for name, stored in self._tensors.items():
            places[name] = at
            at += padded(stored.nbytes)
        rows, sums = [], dict(self._sums)
        with records.beside(out) as place, place.open("wb") as file:
            file.truncate(self.predicted_bytes)

            def put(name: str, pieces: Iterator[NDArray]) -> None:
                digest, count = hashlib.sha256(), 0
                file.seek(places[name])
                for piece in pieces:
                    data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
                    digest.update(data)
                    file.write(data)
                    count += len(data)
                if count != self._tensors[name].nbytes:
                    raise ValueError(f"{name} has {count} bytes: {self._tensors[name].nbytes} were promised")
                sums[self._tensors[name].name] = digest.hexdigest()

            for matrix, codes, row in coded:
                data = blocks_of(codes, self._kinds[matrix.name])
                put(matrix.name, iter([data[self._source.order(matrix)]]))
                rows.append(replace(row, stored_bytes=data.nbytes))
            for tensor in self._copied:
                put(tensor.name, self._source.pieces(tensor))
            file.seek(0)
            head = self._header(self._document(rows, sums))
            if len(head) != self._start:
                raise ValueError(f"the header has {len(head)} bytes, {self._start} were promised")
            file.write(head)
        return rows


def padded(count: int) -> int:
    """Up to the next multiple of the alignment."""
    return -(-count // ALIGNMENT) * ALIGNMENT


def packed_text(key: str, text: str) -> bytes:
    """A field of GGUF that is a text."""
    name, data = key.encode(), text.encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, len(data)) + data


def packed_number(key: str, value: int | float) -> bytes:
    """A field of GGUF that is a 32-bit number: an integer from 0 on, or a float."""
    name = key.encode()
    tail = struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
    return struct.pack("<Q", len(name)) + name + tail


class _FromGGUF:
    """Everything is copied but the fields that say how the file was quantized."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, gguf: Any) -> None:
        self._reader = gguf.GGUFReader(path)
        if self._reader.byte_order != "I" or self._reader.alignment != ALIGNMENT:
            raise ValueError(
                f"{path} is in big-endian order, or aligned to other than {ALIGNMENT} bytes: not rewritten"
            )
        self._raw = np.memmap(path, mode="r", dtype=np.uint8)

    def fields(self, kind: str) -> list[bytes]:
        replaced = {DESCRIPTION: b"", "general.file_type": packed_number("general.file_type", FILE_TYPES[kind])}
        replaced["general.quantization_version"] = packed_number("general.quantization_version", 2)
        raw_fields = []
        for name, field in self._reader.fields.items():
            if name.startswith("GGUF.") or name in replaced:
                continue
            size = sum(part.nbytes for part in field.parts)
            raw_fields.append(self._raw[field.offset : field.offset + size].tobytes())
        return raw_fields + [data for data in replaced.values() if data]

    def name(self, name: str) -> str:
        return name

    def order(self, matrix: Matrix) -> slice | NDArray:
        return slice(None)

    def stored(self, tensor: Tensor) -> Stored:
        return Stored(tensor.name, tensor.shape, tensor.dtype, tensor.nbytes)

    def pieces(self, tensor: Tensor) -> Iterator[NDArray]:
        return tensor.pieces()


class _FromLlama:
    """A folder of a Llama: names, order of rows and metadata as GGUF has them."""

    def __init__(self, path: Path, gguf: Any) -> None:
        folder = path if path.is_dir() else path.parent
        try:
            self._config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} has no readable config.json ({error}): GGUF is written from GGUF or a Llama's"
                             " folder") from None  # fmt: skip
        if not isinstance(self._config, dict) or self._config.get("model_type") != "llama":
            kind = self._config.get("model_type") if isinstance(self._config, dict) else None
            raise ValueError(
                f"{folder} holds a model of type {kind!r}: GGUF is written from GGUF or a Llama's folder; convert it"
                " with llama.cpp's convert_hf_to_gguf.py to F16 first, and compress that file"
            )
        self._names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, self._config["num_hidden_layers"])
        self.notes = (
            "the GGUF file has no tokenizer: for llama.cpp convert the folder with its convert_hf_to_gguf.py to F16"
            " first, and compress that file",
        )

    def fields(self, kind: str) -> list[bytes]:
        c = self._config
        heads = int(c["num_attention_heads"])
        rope = c.get("rope_parameters") or {}
        numbers: dict[str, int | float] = {
            "llama.context_length": int(c["max_position_embeddings"]),
            "llama.embedding_length": int(c["hidden_size"]),
            "llama.block_count": int(c["num_hidden_layers"]),
            "llama.feed_forward_length": int(c["intermediate_size"]),
            "llama.attention.head_count": heads,
            "llama.attention.head_count_kv": int(c.get("num_key_value_heads") or heads),
            "llama.attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]),
            "llama.rope.freq_base": float(rope.get("rope_theta", c.get("rope_theta", 10000.0))),
            "llama.rope.dimension_count": int(c.get("head_dim") or c["hidden_size"] // heads),
            "llama.vocab_size": int(c["vocab_size"]),
            "general.file_type": FILE_TYPES[kind],
            "general.quantization_version": 2,
        }
        text = [packed_text("general.architecture", "llama"), packed_text("general.name", "llama")]
        return text + [packed_number(key, value) for key, value in numbers.items()]

    def name(self, name: str) -> str:
        gguf_name = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if gguf_name is None:
            raise ValueError(f"{name} is no tensor that a Llama's GGUF file has a name for")
        return gguf_name

    def order(self, matrix: Matrix) -> slice | NDArray:
        """The two coordinates of a rotary pair become neighbours: (heads, 2, half) rows as (heads, half, 2)."""
        layer = matrix.name.removesuffix(".weight").rpartition(".")[2]
        if layer not in _ATTENTION:
            return slice(None)
        heads = int(self._config.get(_ATTENTION[layer]) or self._config["num_attention_heads"])
        return np.arange(matrix.rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)

    def stored(self, tensor: Tensor) -> Stored:
        if len(tensor.shape) == 1:
            return Stored(self.name(tensor.name), tensor.shape, "F32", 4 * tensor.size)
        if tensor.dtype not in _PLAIN or self.permuted(tensor):
            return Stored(self.name(tensor.name), tensor.shape, "F32", 4 * tensor.size)
        return Stored(self.name(tensor.name), tensor.shape, tensor.dtype, tensor.nbytes)

    def permuted(self, tensor: Tensor) -> bool:
        return tensor.name.removesuffix(".weight").rpartition(".")[2] in _ATTENTION

    def pieces(self, tensor: Tensor) -> Iterator[NDArray]:
        if self.stored(tensor).type == tensor.dtype and len(tensor.shape) > 1:
            yield from tensor.pieces()
            return
        values = tensor.read(0, tensor.size).astype("<f4").reshape(tensor.shape)
        if self.permuted(tensor):
            heads = int(self._config[_ATTENTION[tensor.name.removesuffix(".weight").rpartition(".")[2]]])
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2)
        yield values
