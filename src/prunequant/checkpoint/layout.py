"""Our own layout of a compressed model: one safetensors file that stores every bit of a scheme once.

For a matrix NAME, its values in the order of its rows and of them only those that are kept:

    NAME.codes    U8    codes of b bits one after another, the most significant bit first (two's complement, or the
                        codes of a number format)
    NAME.values   F16   in place of codes for the scheme FP16
    NAME.scales   F16   (rows, groups) of integers; a format's own scales: U8, or F32
    NAME.zeros    U8    codes of zero, b bits each, for a grid that is not symmetric
    NAME.extra    F32   the scale of the whole tensor that NVFP4 has
    NAME.places   U8    n:m — the place of every kept value among its m, ⌈log2 m⌉ bits each
    NAME.mask     U8    a share — one bit a weight, 1 where it is kept

Everything else stands under its own name, as it was. The header's metadata has one text, "prunequant": JSON with the
scheme, method, error and counts of zeros of every matrix, its certificate where path following gives one, what was left
alone and why, and the SHA-256 of every tensor. The page of the library on `checkpoint` describes it field by field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunequant import formats, records
from prunequant.checkpoint.coding import Blocks, Coded, Codes, Halves, group_of, spread
from prunequant.checkpoint.files import ModelFileError, Tensor
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.outcome import Left, Row, document
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.writing import SIZES, Entry, SafetensorsWriter, file_size
from prunequant.sparsity import pruned_count

_PIECE = 1 << 20  # codes packed at a time, a multiple of 8


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of so many codes one after another."""
    return -(-count * bits // 8)


def packed(codes: NDArray, bits: int) -> Iterator[NDArray[np.uint8]]:
    """`formats.pack` by pieces, so that no more memory is needed than the codes have."""
    flat = codes.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        yield formats.pack(flat[start : start + _PIECE], bits)


def unpacked(data: NDArray[np.uint8], bits: int, count: int, signed: bool) -> NDArray:
    """`formats.unpack` by pieces: int8 or uint8 codes."""
    out = np.empty(count, np.int8 if signed else np.uint8)
    for start in range(0, count, _PIECE):
        stop = min(start + _PIECE, count)
        part = data[start * bits // 8 : packed_bytes(stop, bits)]
        out[start:stop] = formats.unpack(part, bits, stop - start, signed=signed)
    return out


def kept_count(scheme: Scheme, rows: int, columns: int) -> int:
    """How many values are stored."""
    if isinstance(scheme.pattern, tuple):
        return rows * columns // scheme.pattern[1] * scheme.pattern[0]
    return rows * columns - (pruned_count(scheme.pattern, rows * columns) if scheme.pattern else 0)


def entries(name: str, scheme: Scheme, rows: int, columns: int, symmetric: bool = True) -> list[Entry]:
    """The tensors that a matrix is stored in.

    Examples
    --------
    >>> [(e.name, e.shape) for e in entries("w", Scheme.named("2:4 INT4 g8"), 4, 16)]
    [('w.codes', (16,)), ('w.scales', (4, 2)), ('w.places', (8,))]
    """
    count = kept_count(scheme, rows, columns)
    if scheme.format == "FP16":
        listed = [Entry(f"{name}.values", "F16", (count,))]
    elif scheme.bits is not None:
        listed = [Entry(f"{name}.codes", "U8", (packed_bytes(count, scheme.bits),))]
        groups = scheme.scales(rows, columns)
        shape = (1, 1) if scheme.granularity == "tensor" else (rows, groups // rows)
        listed.append(Entry(f"{name}.scales", "F16", shape))
        if not symmetric:
            listed.append(Entry(f"{name}.zeros", "U8", (packed_bytes(groups, scheme.bits),)))
    else:
        fmt = formats.named(scheme.format or "")
        listed = [Entry(f"{name}.codes", "U8", (packed_bytes(count, fmt.element_bits),))]
        blocks = -(-columns // (fmt.block_size or columns))
        listed.append(Entry(f"{name}.scales", {8: "U8", 32: "F32"}[fmt.scale_bits], (rows, blocks)))
        if fmt.tensor_bits:
            listed.append(Entry(f"{name}.extra", "F32", (1,)))
    if isinstance(scheme.pattern, tuple):
        listed.append(Entry(f"{name}.places", "U8", (packed_bytes(count, place_bits(scheme)),)))
    elif scheme.pattern:
        listed.append(Entry(f"{name}.mask", "U8", (packed_bytes(rows * columns, 1),)))
    return listed


def place_bits(scheme: Scheme) -> int:
    """Bits of a kept value's place among its neighbours."""
    return math.ceil(math.log2(scheme.pattern[1])) if isinstance(scheme.pattern, tuple) else 0


def contents(name: str, coded: Coded, scheme: Scheme) -> Iterator[tuple[str, Iterator[NDArray] | NDArray]]:
    """What is written into each of `entries`."""
    mask = coded.mask

    def stored(values: NDArray) -> NDArray:
        return values.reshape(-1) if mask is None else values[mask]

    if isinstance(coded, Halves):
        yield f"{name}.values", stored(coded.values)
    elif isinstance(coded, Codes):
        yield f"{name}.codes", packed(stored(coded.codes), coded.bits)
        yield f"{name}.scales", coded.scales.astype(np.float16)
        if coded.zeros is not None:
            yield f"{name}.zeros", packed(coded.zeros, coded.bits)
    elif isinstance(coded, Blocks):
        yield f"{name}.codes", packed(stored(coded.encoded.codes), coded.format.element_bits)
        yield f"{name}.scales", np.ascontiguousarray(coded.encoded.scales)
        if coded.format.tensor_bits:
            yield f"{name}.extra", np.array([*coded.encoded.extra.values()], np.float32).reshape(1)
    if isinstance(scheme.pattern, tuple) and mask is not None:
        m = scheme.pattern[1]
        yield f"{name}.places", packed(np.nonzero(mask.reshape(-1, m))[1].astype(np.uint8 if m <= 256 else np.uint16),
                                       place_bits(scheme))  # fmt: skip
    elif mask is not None:
        yield f"{name}.mask", packed(mask.astype(np.uint8), 1)


def restore(
    name: str,
    scheme: Scheme,
    rows: int,
    columns: int,
    data: Callable[[str], NDArray[np.uint8]],
    symmetric: bool = True,
) -> Coded:
    """What `contents` wrote, from the bytes of its tensors.

    Parameters
    ----------
    data : the bytes of a tensor by its name.

    Raises
    ------
    ValueError : places or a mask that do not keep as many values as the scheme says.
    """
    mask = mask_of(name, scheme, rows, columns, data)
    count = kept_count(scheme, rows, columns)

    def whole(values: NDArray, dtype: np.dtype) -> NDArray:
        if mask is None:
            return values.astype(dtype, copy=False).reshape(rows, columns)
        full = np.zeros((rows, columns), dtype)
        full[mask] = values
        return full

    if scheme.format == "FP16":
        return Halves(whole(data(f"{name}.values").view("<f2"), np.dtype(np.float16)), mask)
    if scheme.bits is not None:
        zeros = None
        codes = whole(unpacked(data(f"{name}.codes"), scheme.bits, count, symmetric), np.dtype(np.int8))
        shape = (1, 1) if scheme.granularity == "tensor" else (rows, scheme.scales(rows, columns) // rows)
        scales = data(f"{name}.scales").view("<f2").astype(np.float32).reshape(shape)
        if not symmetric:
            zeros = unpacked(data(f"{name}.zeros"), scheme.bits, math.prod(shape), False).reshape(shape)
            codes = codes.view(np.uint8)
            if mask is not None:
                codes[~mask] = np.broadcast_to(spread(zeros, group_of(scheme, columns), columns), mask.shape)[~mask]
        return Codes(codes, scales, scheme.bits, group_of(scheme, columns), zeros, mask)
    fmt = formats.named(scheme.format or "")
    codes = whole(unpacked(data(f"{name}.codes"), fmt.element_bits, count, False), np.dtype(np.uint8))
    kind = np.dtype(np.uint8) if fmt.scale_bits == 8 else np.dtype("<f4")
    scales = data(f"{name}.scales").view(kind).reshape(rows, -1)
    extra: dict[str, NDArray | np.float32] = {}
    if fmt.tensor_bits:
        extra["tensor_scale"] = np.float32(data(f"{name}.extra").view("<f4")[0])
    return Blocks(formats.Encoded(codes, scales, 1, np.dtype(np.float32), extra), fmt, mask)


def mask_of(
    name: str, scheme: Scheme, rows: int, columns: int, data: Callable[[str], NDArray[np.uint8]]
) -> NDArray[np.bool_] | None:
    """(rows, columns) which weights are stored, None for all; arguments and errors are those of `restore`."""
    if isinstance(scheme.pattern, tuple):
        n, m = scheme.pattern
        count = kept_count(scheme, rows, columns)
        places = formats.unpack(data(f"{name}.places"), place_bits(scheme), count).astype(np.int64).reshape(-1, n)
        if np.any(places >= m) or np.any(np.diff(places, axis=1) <= 0):
            raise ValueError(f"{name}: the places are not {n} different ones of {m} in their order")
        mask = np.zeros((len(places), m), bool)
        np.put_along_axis(mask, places, True, axis=1)
        return mask.reshape(rows, columns)
    if not scheme.pattern:
        return None
    mask = np.unpackbits(data(f"{name}.mask"), count=rows * columns).astype(bool).reshape(rows, columns)
    if np.count_nonzero(mask) != kept_count(scheme, rows, columns):
        raise ValueError(f"{name}: the mask keeps {np.count_nonzero(mask)} values, not as many as {scheme.name}")
    return mask


def sources(matrix: Matrix) -> tuple[str, ...]:
    """The tensors of the model's file that a matrix takes the place of."""
    return tuple(dict.fromkeys((matrix.name, *matrix.parts, *matrix.aliases)))


def untouched(model: Model, schemes: Mapping[str, Scheme]) -> list[Tensor]:
    """The tensors that are copied as they are: all that no compressed matrix takes the place of."""
    taken = {name for m in model.matrices if m.name in schemes for name in sources(m)}
    return [t for t in model.tensors if t.name not in taken]


def copied(tensor: Tensor) -> Entry:
    """The entry of a tensor that is copied: its dtype where safetensors has it, else its bytes."""
    if tensor.encoding.block == 1 and SIZES.get(tensor.encoding.name) == tensor.encoding.size:
        return Entry(tensor.name, tensor.encoding.name, tensor.shape)
    return Entry(tensor.name, "U8", (tensor.encoding.nbytes(tensor.size),))


class LayoutWriter:
    """The writer of this layout; see `compression.Writer`."""

    def __init__(
        self, model: Model, schemes: Mapping[str, Scheme], left: Mapping[str, str], settings: Settings
    ) -> None:
        self.schemes, self._settings = schemes, settings
        self._matrices = {m.name: m for m in model.matrices if m.name in schemes}
        self._copied = untouched(model, schemes)
        self.left = tuple(Left(t.name, t.dtype, t.shape, t.nbytes, left.get(t.name, "no matrix")) for t in self._copied)
        self.notes: tuple[str, ...] = ()
        self._entries: list[Entry] = []
        self._stored: dict[str, int] = {}
        for name, scheme in schemes.items():
            matrix = self._matrices[name]
            mine = entries(name, scheme, matrix.rows, matrix.columns, settings.symmetric)
            self._stored[name] = sum(e.nbytes for e in mine)
            self._entries += mine
        if both := sorted({e.name for e in self._entries} & {t.name for t in self._copied}):
            raise ModelFileError(
                model.path, f"it has {', '.join(both[:3])}, as compressed files do: it is one, or holds one"
            )
        self._entries += [copied(t) for t in self._copied]
        rows = [
            Row(n, s.name, settings.method, m.rows, m.columns, self._stored[n], 0.0, 0.0, 0.0, 0, 0, True)
            for (n, s), m in zip(schemes.items(), (self._matrices[n] for n in schemes))
        ]
        self._said = self._document(rows, {e.name: "" for e in self._entries})
        self.predicted_bytes = file_size(self._entries, {"prunequant": self._said})

    def settings(self, matrix: Matrix, settings: Settings) -> Settings:
        """Half-precision scales, which the layout has."""
        return replace(settings, scale_dtype="F16")

    def _document(self, rows: list[Row], checksums: Mapping[str, str]) -> str:
        shapes = {n: {"shape": m.shape, "kind": m.kind, "experts": m.experts, "aliases": m.aliases}
                  for n, m in self._matrices.items()}  # fmt: skip
        return document(
            rows, self.left, checksums, self._settings.method == "path", target="prunequant",
            symmetric=self._settings.symmetric, tensors=shapes,
            raw={t.name: (t.dtype, t.shape) for t in self._copied if copied(t).dtype != t.dtype},
        )  # fmt: skip

    def write(self, out: Path, coded: Iterator[tuple[Matrix, Coded, Row]]) -> list[Row]:
        """Write the file, beside, and rename it; the rows with their stored bytes."""
        rows = []
        with records.beside(out) as place, place.open("wb") as file:
            writer = SafetensorsWriter(file, self._entries, {"prunequant": self._said})
            for matrix, codes, row in coded:
                scheme = self.schemes[matrix.name]
                for name, pieces in contents(matrix.name, codes, scheme):
                    writer.write(name, pieces)
                rows.append(replace(row, stored_bytes=self._stored[matrix.name]))
            for tensor in self._copied:
                writer.write(tensor.name, tensor.pieces())
            writer.finish({"prunequant": self._document(rows, writer.checksums)})
            file.flush()
        return rows
