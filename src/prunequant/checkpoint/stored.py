"""A compressed file that is open: what it says of itself, the tensors it must have then, and what is wrong in them.

Every kind of file answers the same questions. A problem is a pair: the name of the tensor, or of the matrix or the
setting that the file speaks of, and what is wrong.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunequant import formats
from prunequant.checkpoint import compressed_tensors, gguf_reader, gguf_writing, layout
from prunequant.checkpoint.coding import LEAST_SCALE, SCALE_DTYPES, Codes
from prunequant.checkpoint.files import Contents, ModelFileError, Tensor
from prunequant.checkpoint.matrices import KINDS
from prunequant.checkpoint.methods import METHODS
from prunequant.checkpoint.outcome import NotDescribed, read_document
from prunequant.checkpoint.safetensors_file import read_single
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.values import encoding
from prunequant.checkpoint.writing import Entry
from prunequant.extras import need

Problem: TypeAlias = tuple[str, str]
Problems: TypeAlias = Iterator[Problem]
ROUNDED = 1e-3  # dB: single precision
_E8M0_NAN = 255
_E4M3_NAN = 0x7F  # codes from here on stand for no number, or for a negative one


class Stored(ABC):
    """What all kinds of compressed files have in common.

    Parameters
    ----------
    path : of the file with the weights
    contents : of that file, open
    said : what it says of itself, by `outcome.read_document`
    """

    def __init__(self, path: Path, contents: Contents, said: dict[str, Any]) -> None:
        self.path, self.contents, self.said = path, contents, said
        self.tensors: Mapping[str, Tensor] = contents.tensors

    def close(self) -> None:
        """Close the file."""
        self.contents.close()

    def error(self, problem: Problem) -> ModelFileError:
        """A problem with the name of the file."""
        return ModelFileError(self.path, problem[1], problem[0])

    def data(self, tensor: str) -> NDArray[np.uint8]:
        """The bytes of a tensor."""
        return np.concatenate([np.empty(0, np.uint8), *self.tensors[tensor].pieces()])

    def scheme(self, name: str) -> Scheme:
        """Of a matrix whose words were found to be right."""
        return Scheme.named(self.said["matrices"][name]["scheme"])

    def shape(self, name: str) -> tuple[int, int]:
        """Rows and columns of a matrix."""
        words = self.said["matrices"][name]
        return words["rows"], words["columns"]

    def words(self, name: str) -> Problems:
        """What is said of a matrix and cannot be."""
        words = self.said["matrices"][name]
        rows, columns = words["rows"], words["columns"]
        try:
            why = Scheme.named(words["scheme"]).problem(rows, columns)
        except ValueError as error:
            why = str(error)
        if why:
            yield name, why
            return
        if words["method"] not in METHODS:
            yield name, f"method is {words['method']!r}: it must be one of {', '.join(METHODS)}"
        for key in ("zeros_before", "zeros_after", "clamped"):
            if not 0 <= words[key] <= rows * columns:
                yield name, f"{key} is {words[key]} of {rows * columns} weights"
        if not 0 <= words["error"] < math.inf:
            yield name, f"error is {words['error']}: it must be a finite sum of squares"
        if math.isnan(words["snr"]):
            yield name, "snr is no number"
        certified = words["certified_snr"]
        if not math.isnan(certified):
            if words["method"] != "path":
                yield name, f"certified_snr is {certified}, which {words['method']} does not give"
            elif math.isnan(words["output_snr"]):
                yield name, f"certified_snr is {certified} dB, of an output_snr that was not measured"
            elif certified > (measured := words["output_snr"]) + ROUNDED:
                yield name, f"certified_snr is {certified} dB, more than the {measured} dB that were measured"
        if words["keeps_zero"] != self.keeps_zero(name):
            yield name, f"keeps_zero is {words['keeps_zero']}, which this grid contradicts"

    def keeps_zero(self, name: str) -> bool:
        """Whether the grid of a matrix has a code for zero."""
        return True

    def about_the_file(self) -> Problems:
        """What is wrong with the file as a whole."""
        return iter(())

    def unnamed(self) -> set[str]:
        """The tensors that belong to no matrix, as they were copied."""
        return set(self.said["left"])

    @abstractmethod
    def parts(self, name: str) -> list[Entry]:
        """The tensors that a matrix is stored in."""

    @abstractmethod
    def decode(self, name: str) -> NDArray[np.float32]:
        """(rows, columns), as a reader of the file computes with."""

    @abstractmethod
    def contradictions(self, name: str) -> Problems:
        """What is wrong in the bytes of the tensors of a matrix, whose sizes are right."""


def open_stored(path: Path) -> Stored:
    """The compressed file of a path, or in the folder of a path.

    Raises
    ------
    ModelFileError : a damaged file, or one that says of itself what no file of its kind does.
    ValueError : no file that `compress` wrote.
    MissingExtra : a GGUF file, without the package gguf.
    """
    weights = path / compressed_tensors.WEIGHTS if path.is_dir() else path
    try:
        with weights.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise ModelFileError(weights, f"it cannot be opened ({error.strerror or error})") from None
    key = gguf_writing.DESCRIPTION if is_gguf else "prunequant"
    contents = gguf_reader.read(weights, whole=key) if is_gguf else read_single(weights)
    try:
        text = contents.metadata.get(key)
        if not isinstance(text, str):
            raise ValueError(
                f"path is {weights}, which says nothing of how it was compressed: `compress` did not write it"
            )
        try:
            said = read_document(text)
        except NotDescribed as error:
            raise ModelFileError(weights, f"its description is damaged: {error.problem}", error.tensor) from None
        kind = _KINDS_OF_FILES.get(said["target"])
        if kind is None or (kind is _GGUF) != is_gguf:
            raise ModelFileError(weights, f"its description is of a file of kind {said['target']!r:.40}")
        return kind(weights, contents, said)
    except BaseException:
        contents.close()
        raise


class _Own(Stored):
    """Our own layout, see `layout`."""

    def __init__(self, path: Path, contents: Contents, said: dict[str, Any]) -> None:
        super().__init__(path, contents, said)
        for key in ("tensors", "raw"):
            if not isinstance(said.get(key), dict):
                raise ModelFileError(path, f"its description is damaged: {key} must be an object")

    def about_the_file(self) -> Problems:
        for name in sorted(set(self.said["matrices"]) ^ set(self.said["tensors"])):
            yield name, "its shape is said and no scheme of it, or its scheme and no shape"
        for name, words in self.said["raw"].items():
            whole = isinstance(words, list) and len(words) == 2 and isinstance(words[0], str) and _sizes(words[1])
            if not whole or name not in self.tensors:
                yield name, f"its bytes are those of {words!r:.60}: give a dtype and a shape of a tensor of this file"
            elif (known := encoding(words[0])) and known.nbytes(math.prod(words[1])) != self.tensors[name].nbytes:
                yield name, f"shape {words[1]} of {words[0]} does not take its {self.tensors[name].nbytes} bytes"

    def words(self, name: str) -> Problems:
        yield from super().words(name)
        rows, columns = self.shape(name)
        said = self.said["tensors"].get(name)
        if not isinstance(said, dict) or set(said) != {"shape", "kind", "experts", "aliases"}:
            yield name, "its shape, kind, experts and aliases must be said"
            return
        shape, kind, experts, aliases = (said[key] for key in ("shape", "kind", "experts", "aliases"))
        if not _sizes(shape) or math.prod(shape) != rows * columns:
            yield name, f"shape {shape!r:.60} is not that of {rows} × {columns} weights"
        if kind not in KINDS:
            yield name, f"kind is {kind!r:.40}: it must be one of {', '.join(KINDS)}"
        if type(experts) is not int or experts < 1 or rows % experts:
            yield name, f"its {rows} rows are no {experts!r:.40} experts"
        if not isinstance(aliases, list) or not all(isinstance(other, str) for other in aliases):
            yield name, "aliases must be names of tensors"
        elif there := [other for other in aliases if other in self.tensors]:
            yield name, f"it is tied to {there[0]}, which the file stores once more"

    def parts(self, name: str) -> list[Entry]:
        return layout.entries(name, self.scheme(name), *self.shape(name), self.said["symmetric"])

    def decode(self, name: str) -> NDArray[np.float32]:
        scheme, symmetric = self.scheme(name), self.said["symmetric"]
        return layout.restore(name, scheme, *self.shape(name), self.data, symmetric).decode()

    def contradictions(self, name: str) -> Problems:
        scheme, (rows, columns) = self.scheme(name), self.shape(name)
        count = layout.kept_count(scheme, rows, columns)
        yield from self._mask(name, scheme, rows, columns)
        if scheme.format == "FP16":
            values = self.data(f"{name}.values").view("<f2")
            yield from _counted(f"{name}.values", ~np.isfinite(values), "values are not finite")
            return
        yield from self._padding(f"{name}.codes", count, scheme.value_bits)
        if scheme.bits is not None:
            scales = self.data(f"{name}.scales").view("<f2")
            yield from _not_positive(f"{name}.scales", scales)
            yield from _clamped(name, self.said["matrices"][name]["clamped"], scales, "F16")
            if not self.said["symmetric"]:
                yield from self._padding(f"{name}.zeros", scheme.scales(rows, columns), scheme.bits)
            return
        fmt = formats.named(scheme.format or "")
        codes = layout.unpacked(self.data(f"{name}.codes"), fmt.element_bits, count, False)
        wrong = f"codes are none of {scheme.format}"
        yield from _counted(f"{name}.codes", ~_legal(scheme.format or "")[codes], wrong)
        kind = self.tensors[f"{name}.scales"].dtype
        yield from _format_scales(f"{name}.scales", self.data(f"{name}.scales"), kind, fmt.tensor_bits > 0)
        if fmt.tensor_bits:
            yield from _not_positive(f"{name}.extra", self.data(f"{name}.extra").view("<f4"))

    def _padding(self, tensor: str, count: int, bits: int) -> Problems:
        over = -count * bits % 8
        if over and self.data(tensor)[-1] & ((1 << over) - 1):
            yield tensor, f"the last {over} bits, which hold no code, are not zero"

    def _mask(self, name: str, scheme: Scheme, rows: int, columns: int) -> Problems:
        if scheme.pattern is None:
            return
        if isinstance(scheme.pattern, tuple):
            tensor, count, bits = f"{name}.places", layout.kept_count(scheme, rows, columns), layout.place_bits(scheme)
        else:
            tensor, count, bits = f"{name}.mask", rows * columns, 1
        yield from self._padding(tensor, count, bits)
        try:
            layout.mask_of(name, scheme, rows, columns, self.data)
        except ValueError as error:
            yield tensor, str(error).removeprefix(f"{name}: ")


class _Packed(Stored):
    """A folder of compressed-tensors, see `compressed_tensors`."""

    def __init__(self, path: Path, contents: Contents, said: dict[str, Any]) -> None:
        super().__init__(path, contents, said)
        try:
            read = json.loads((path.parent / compressed_tensors.CONFIG).read_text(encoding="utf-8"))
            self.config = read if isinstance(read, dict) else {}
        except (OSError, ValueError, RecursionError):
            self.config = {}
        brain = "bfloat16" in (self.config.get("dtype"), self.config.get("torch_dtype"))
        self.scale = "BF16" if brain else "F16"

    def about_the_file(self) -> Problems:
        if self.contents.metadata.get("format") != "pt":
            yield "__metadata__", "format must be 'pt', or transformers does not load the file"
        settings = self.config.get(compressed_tensors.SETTINGS)
        if not isinstance(settings, dict):
            yield compressed_tensors.CONFIG, f"it cannot be read, or has no {compressed_tensors.SETTINGS}"
            return
        try:
            schemes = {name: self.scheme(name) for name in self.said["matrices"]}
            wanted = compressed_tensors.quantization_config(schemes, self.said["symmetric"])
        except ValueError:
            return  # a scheme that is none is named with its matrix
        layers = _layers(settings)
        for module, arguments in _layers(wanted).items():
            if layers.pop(module, None) != arguments:
                yield f"{module}.weight", f"{compressed_tensors.CONFIG} says something else of it, or nothing"
        for module in layers:
            yield module, f"{compressed_tensors.CONFIG} speaks of packed weights, which are not there"
        for key in ("quant_method", "format", "quantization_status", "ignore"):
            if settings.get(key) != wanted[key]:
                yield compressed_tensors.CONFIG, f"{key} is {settings.get(key)!r:.40}: it must be {wanted[key]!r}"

    def words(self, name: str) -> Problems:
        yield from super().words(name)
        try:
            scheme = self.scheme(name)
        except ValueError:
            return
        group = scheme.granularity if isinstance(scheme.granularity, int) else 1
        whole = not self.shape(name)[1] % group and (self.said["symmetric"] or scheme.granularity != "tensor")
        if scheme.bits is None or not name.endswith(".weight") or not whole:
            yield name, f"{scheme.name}: pack-quantized holds integers of linear layers, in whole groups"

    def parts(self, name: str) -> list[Entry]:
        return compressed_tensors.entries(
            name, self.scheme(name), *self.shape(name), self.said["symmetric"], self.scale
        )

    def _scales(self, module: str) -> NDArray[np.float32]:
        scale = self.tensors[f"{module}.weight_scale"]
        values = self.data(scale.name).view(SCALE_DTYPES[scale.dtype]).astype(np.float32)
        return values.reshape(scale.shape[0], -1)

    def decode(self, name: str) -> NDArray[np.float32]:
        module, (rows, columns), bits = name.removesuffix(".weight"), self.shape(name), self.scheme(name).bits or 8
        scales = self._scales(module)
        packed = self.data(f"{module}.weight_packed").view("<i4").reshape(rows, -1)
        codes = compressed_tensors.unpack_words(packed, bits, columns)
        zeros = None
        if not self.said["symmetric"]:
            words = self.data(f"{module}.weight_zero_point").view("<i4").reshape(-1, scales.shape[1])
            zeros = compressed_tensors.unpack_words(np.ascontiguousarray(words.T), bits, rows).T
        return Codes(codes, scales, bits, -(-columns // scales.shape[1]), zeros).decode()

    def contradictions(self, name: str) -> Problems:
        module, (rows, columns), bits = name.removesuffix(".weight"), self.shape(name), self.scheme(name).bits or 8
        shape = self.data(f"{module}.weight_shape").view("<i8").tolist()
        if shape != [rows, columns]:
            yield f"{module}.weight_shape", f"it says {shape}, of a matrix of {[rows, columns]}"
        scales = self._scales(module)
        yield from _not_positive(f"{module}.weight_scale", scales)
        yield from _clamped(name, self.said["matrices"][name]["clamped"], scales, self.scale)
        lines = {f"{module}.weight_packed": (columns, (rows, -1))}
        if not self.said["symmetric"]:
            lines[f"{module}.weight_zero_point"] = (rows, (-1, scales.shape[1]))
        for tensor, (count, form) in lines.items():
            words = self.data(tensor).view("<u4").reshape(form)
            last = words[:, -1] if form[1] == -1 else words[-1]
            used = count * bits - 32 * (-(-count * bits // 32) - 1)
            if used < 32 and np.any(last >> np.uint32(used)):
                yield tensor, f"the last {32 - used} bits of its words, which hold no code, are not zero"


class _GGUF(Stored):
    """A GGUF file, see `gguf_writing`."""

    def __init__(self, path: Path, contents: Contents, said: dict[str, Any]) -> None:
        super().__init__(path, contents, said)
        names = said.get("names")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ModelFileError(path, "its description is damaged: names must be a text for each matrix")

    def about_the_file(self) -> Problems:
        places = sorted((t.place[1:], t.name) for t in self.tensors.values() if t.place)
        file = self.contents.files[0]
        ends = [*((stop, name) for (_, stop), name in places)]
        starts = [*(start for (start, _), _ in places[1:]), file.size]
        for (stop, name), start in zip(ends, starts):
            if start - stop >= gguf_writing.ALIGNMENT:
                yield name, f"{start - stop} bytes after it belong to no tensor"
            elif file.array(stop, start).any():
                yield name, "the bytes after it, which pad it, are not zero"
        if places and file.size % gguf_writing.ALIGNMENT != places[0][0][0] % gguf_writing.ALIGNMENT:
            yield ends[-1][1], "the file ends before its padding does"
        kinds = [self.kind(name) for name in self.said["matrices"]]
        most = gguf_writing.FILE_TYPES.get(max(kinds, key=kinds.count, default=""))
        for key, wanted in (("general.quantization_version", 2), ("general.file_type", most)):
            if self.contents.metadata.get(key) != wanted and wanted is not None:
                yield key, f"it is {self.contents.metadata.get(key)!r:.40}: it must be {wanted}"

    def unnamed(self) -> set[str]:
        return set(self.said["sha256"]) - set(self.said["names"].values())

    def kind(self, name: str) -> str:
        """The type of GGUF that holds the scheme of a matrix; empty when there is none."""
        try:
            return gguf_writing.type_of(self.scheme(name), self.said["symmetric"])
        except ValueError:
            return ""

    def keeps_zero(self, name: str) -> bool:
        return self.kind(name) != "Q4_1"

    def words(self, name: str) -> Problems:
        yield from super().words(name)
        tensor = self.tensors.get(self.said["names"].get(name, ""))
        if not self.kind(name) or self.shape(name)[1] % self._block(self.kind(name))[0]:
            yield name, f"{self.said['matrices'][name]['scheme']!r:.40} is no type of GGUF for its rows"
        elif tensor is None:
            yield name, f"the file has no tensor {self.said['names'].get(name, name)!r:.120}"
        elif (math.prod(tensor.shape[:-1]), tensor.shape[-1] if tensor.shape else 0) != self.shape(name):
            rows, columns = self.shape(name)
            yield tensor.name, f"shape {tensor.shape} is not that of {rows} × {columns} weights"

    def _block(self, kind: str) -> tuple[int, int]:
        """Values and bytes of a block."""
        gguf = need("gguf")
        return gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]

    def parts(self, name: str) -> list[Entry]:
        tensor = self.tensors[self.said["names"][name]]
        return [Entry(tensor.name, self.kind(name), tensor.shape)]

    def decode(self, name: str) -> NDArray[np.float32]:
        tensor = self.tensors[self.said["names"][name]]
        return tensor.read(0, tensor.size).reshape(self.shape(name))

    def contradictions(self, name: str) -> Problems:
        tensor, kind = self.said["names"][name], self.kind(name)
        blocks = self.data(tensor).reshape(-1, self._block(kind)[1])
        if kind == "MXFP4":
            yield from _format_scales(tensor, blocks[:, 0], "U8", False)
        elif kind == "NVFP4":
            yield from _format_scales(tensor, blocks[:, :4], "U8", True)
        else:
            scales = np.ascontiguousarray(blocks[:, :2]).view("<f2")
            zero = scales == 0 if kind == "Q4_0" else scales <= 0  # of Q4_0 a scale may have either sign
            yield from _counted(tensor, ~np.isfinite(scales) | zero, "block scales are not finite, or no scales")
        if kind == "Q4_1":
            minima = np.ascontiguousarray(blocks[:, 2:4]).view("<f2")
            yield from _counted(tensor, ~np.isfinite(minima), "minima of blocks are not finite")


_KINDS_OF_FILES: dict[str, type[Stored]] = {"prunequant": _Own, "compressed-tensors": _Packed, "gguf": _GGUF}


def _sizes(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 64


def _layers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a quantization_config says of the weights of each module, whatever it is."""
    groups = settings.get("config_groups")
    by_module: dict[str, Any] = {}
    for group in groups.values() if isinstance(groups, dict) else ():
        targets = group.get("targets") if isinstance(group, dict) else None
        for module in targets if isinstance(targets, list) else ():
            by_module[str(module)] = {key: group.get(key) for key in ("weights", "format")}
    return by_module


def _counted(tensor: str, wrong: NDArray[np.bool_], what: str) -> Problems:
    if count := int(np.count_nonzero(wrong)):
        yield tensor, f"{count} {what}"


def _not_positive(tensor: str, scales: NDArray) -> Problems:
    yield from _counted(tensor, ~(np.isfinite(scales) & (scales > 0)), "scales are not finite and positive")


def _clamped(name: str, clamped: int, scales: NDArray, dtype: str) -> Problems:
    least = int(np.count_nonzero(scales == LEAST_SCALE[dtype]))
    if clamped > least:
        yield name, f"{clamped} groups are said to have the least scale of {dtype}, {least} have"


def _format_scales(tensor: str, raw: NDArray[np.uint8], dtype: str, fractions: bool) -> Problems:
    """The scales of a format's blocks: floats; or bytes, powers of two, or with `fractions` numbers of E4M3."""
    if dtype == "F32":
        yield from _not_positive(tensor, raw.view("<f4"))
    elif fractions:
        yield from _counted(tensor, raw >= _E4M3_NAN, "scales are negative, or no number of E4M3")
    else:
        yield from _counted(tensor, raw == _E8M0_NAN, "scales are no number of E8M0")


@cache
def _legal(name: str) -> NDArray[np.bool_]:
    """(2^bits,) which codes of a format stand for a level of it."""
    fmt = formats.named(name)
    ones = np.ones((1, 1), np.float32)
    one, unit = fmt.encode(ones), float(fmt.scales(ones).item())
    levels = fmt.levels.astype(np.float32)
    legal = np.zeros(1 << fmt.element_bits, bool)
    for code in range(legal.size):
        coded = formats.Encoded(np.array([[code]], one.codes.dtype), one.scales, 1, one.dtype, one.extra)
        try:
            value = fmt.decode(coded).item() / unit
        except ValueError:
            continue
        legal[code] = np.any(np.isclose(levels, value, rtol=1e-5, atol=1e-9))
    return legal
