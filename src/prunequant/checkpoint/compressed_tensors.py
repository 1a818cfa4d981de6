"""Folders in the format "compressed-tensors", pack-quantized: what transformers and vLLM load.

From a folder with config.json and safetensors files. Of a linear layer MODULE are stored

    MODULE.weight_packed       I32   (rows, ⌈columns · bits / 32⌉) codes plus 2^(bits − 1), the first in the lowest bits
    MODULE.weight_scale        F16 or BF16, as the model: (rows, groups), (rows, 1), or (1,) for one in all
    MODULE.weight_zero_point   I32   (⌈rows · bits / 32⌉, groups), packed along the rows; for asymmetric grids
    MODULE.weight_shape        I64   (2,)

and config.json says which layers have which bits. Codes of zero are written for what is pruned: the format has no mask,
so a pruned layer is as large as one that is not.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant.checkpoint.coding import SCALE_DTYPES, Coded, Codes
from prunequant.checkpoint.layout import copied, sources, untouched
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.outcome import Left, Row, document
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.writing import Entry, SafetensorsWriter, file_size

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SETTINGS = "quantization_config"
_BESIDE = (".json", ".txt", ".model", ".jinja", ".md")  # what else a folder needs: tokenizer and settings
_INDEX = ".index.json"
_number = itertools.count()


def pack_words(codes: NDArray[np.int8], bits: int) -> NDArray[np.int32]:
    """(rows, n) codes as (rows, ⌈n · bits / 32⌉) words: each plus 2^(bits − 1), one after another from the lowest bit.

    Examples
    --------
    >>> hex(pack_words(np.array([[-8, -7, 7]], np.int8), 4)[0, 0])
    '0xf10'
    """
    rows, count = codes.shape
    words = -(-count * bits // 32)
    out = np.empty((rows, words), "<i4")
    step = max(1, (1 << 20) // max(count, 1))
    for first in range(0, rows, step):
        part = (codes[first : first + step].astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
        planes = np.unpackbits(part[:, :, None], axis=2, bitorder="little", count=bits).reshape(len(part), -1)
        padded = np.zeros((len(part), words * 32), np.uint8)
        padded[:, : planes.shape[1]] = planes
        out[first : first + step] = np.packbits(padded, axis=1, bitorder="little").view("<i4")
    return out


def unpack_words(words: NDArray[np.int32], bits: int, count: int) -> NDArray[np.int8]:
    """The codes of `pack_words` again.

    Examples
    --------
    >>> unpack_words(np.array([[0xF10]], np.int32), 4, 3)
    array([[-8, -7,  7]], dtype=int8)
    """
    raw = np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8).reshape(len(words), -1)
    out = np.empty((len(words), count), np.int8)
    step = max(1, (1 << 20) // max(count, 1))
    for first in range(0, len(words), step):
        planes = np.unpackbits(raw[first : first + step], axis=1, bitorder="little", count=count * bits)
        values = planes.reshape(len(planes), count, bits) @ (1 << np.arange(bits))
        out[first : first + step] = values - (1 << (bits - 1))
    return out


def arguments_of(scheme: Scheme, symmetric: bool) -> dict[str, Any]:
    """What the format says of the weights of a layer."""
    group = scheme.granularity if isinstance(scheme.granularity, int) else None
    strategy = "group" if group else scheme.granularity
    return {
        "num_bits": scheme.bits, "type": "int", "symmetric": symmetric, "strategy": strategy, "group_size": group,
        "dynamic": False, "actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {},
    }  # fmt: skip


def quantization_config(schemes: Mapping[str, Scheme], symmetric: bool) -> dict[str, Any]:
    """What config.json says of the layers, by the names of their weights; layers of the same kind are one group."""
    groups: dict[str, dict[str, Any]] = {}
    for name, scheme in schemes.items():
        said = arguments_of(scheme, symmetric)
        new: dict[str, Any] = {"targets": [], "weights": said, "format": "pack-quantized"}
        new |= {"input_activations": None, "output_activations": None}
        group = groups.setdefault(json.dumps(said), new)
        group["targets"].append(name.removesuffix(".weight"))
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "global_compression_ratio": None, "kv_cache_scheme": None, "ignore": [],
        "config_groups": {f"group_{i}": group for i, group in enumerate(groups.values())},
    }  # fmt: skip


def entries(name: str, scheme: Scheme, rows: int, columns: int, symmetric: bool, scale: str) -> list[Entry]:
    """The tensors that a matrix is stored in; `scale` is the dtype of its scales.

    Examples
    --------
    >>> [(e.name, e.shape) for e in entries("up.weight", Scheme.named("INT4 g32"), 4, 64, True, "F16")]
    [('up.weight_packed', (4, 8)), ('up.weight_scale', (4, 2)), ('up.weight_shape', (2,))]
    """
    module, bits = name.removesuffix(".weight"), scheme.bits or 8
    each = scheme.scales(rows, columns) // rows
    listed = [
        Entry(f"{module}.weight_packed", "I32", (rows, -(-columns * bits // 32))),
        Entry(f"{module}.weight_scale", scale, (1,) if scheme.granularity == "tensor" else (rows, each)),
        Entry(f"{module}.weight_shape", "I64", (2,)),
    ]
    if not symmetric:
        listed.append(Entry(f"{module}.weight_zero_point", "I32", (-(-rows * bits // 32), each)))
    return listed


def problem(matrix: Matrix, scheme: Scheme, symmetric: bool) -> str:
    """Why the format cannot hold a matrix so; empty when it can."""
    if matrix.kind == "embedding":
        return "an embedding: the format packs linear layers"
    if matrix.kind != "linear" or not matrix.name.endswith(".weight"):
        return f"{matrix.kind}: transformers reads packed weights of linear layers, called NAME.weight, alone"
    if matrix.aliases:
        return f"tied to {', '.join(matrix.aliases)}: the format packs neither"
    if len(sources(matrix)) > 1:
        return "it is quantized already: give the model it was made of"
    if scheme.bits is None:
        return f"{scheme.name}: pack-quantized holds integers"
    if isinstance(scheme.granularity, int) and matrix.columns % scheme.granularity:
        return f"groups of {scheme.granularity} do not divide its rows of {matrix.columns}"
    if not symmetric and scheme.granularity == "tensor":
        return "one zero point in all: the format packs one a row or group"
    return ""


def stored_bytes(rows: int, columns: int, scheme: Scheme) -> int:
    """What a matrix takes in the file on a symmetric grid: codes in words of 32 bits, scales, and its shape."""
    return 4 * rows * -(-columns * (scheme.bits or 8) // 32) + 2 * scheme.scales(rows, columns) + 16


class CompressedTensorsWriter:
    """The writer of such a folder; see `compression.Writer`.

    Raises
    ------
    ValueError : no config.json beside the model, or matrices that were asked for and that the format cannot hold; all
        of them are named.
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
        self._folder = path if path.is_dir() else path.parent
        self._config = _config(self._folder)
        self._scale = "BF16" if "bfloat16" in (self._config.get("dtype"), self._config.get("torch_dtype")) else "F16"
        matrices = {m.name: m for m in model.matrices}
        wrong = {n: why for n, s in schemes.items() if (why := problem(matrices[n], s, settings.symmetric))}
        grouped = {n: why for n, why in wrong.items() if "do not divide" in why}
        if wrong and (asked or grouped or len(wrong) == len(schemes)):
            raise ValueError(
                "compressed-tensors cannot hold what is asked for: "
                + "; ".join(f"{n}: {why}" for n, why in (grouped or wrong).items())
            )
        self.schemes = {n: s for n, s in schemes.items() if n not in wrong}
        self._matrices = {n: matrices[n] for n in self.schemes}
        self._settings = settings
        reasons = {**left, **wrong}
        self._copied = untouched(model, self.schemes)
        self.left = tuple(
            Left(t.name, t.dtype, t.shape, t.nbytes, reasons.get(t.name, "no matrix")) for t in self._copied
        )
        self.notes = _notes(self.schemes)
        self._entries: list[Entry] = []
        self._stored: dict[str, int] = {}
        for name, scheme in self.schemes.items():
            matrix = matrices[name]
            mine = entries(name, scheme, matrix.rows, matrix.columns, settings.symmetric, self._scale)
            self._stored[name] = sum(e.nbytes for e in mine)
            self._entries += mine
        self._entries += [copied(t) for t in self._copied]
        rows = [
            Row(n, self.schemes[n].name, settings.method, m.rows, m.columns, self._stored[n], 0.0, 0.0, 0.0, 0, 0, True)
            for n, m in self._matrices.items()
        ]
        self._said = self._metadata(rows, {e.name: "" for e in self._entries})
        self._others = self._other_files()
        self.predicted_bytes = file_size(self._entries, self._said) + sum(
            len(data) if isinstance(data, bytes) else data.stat().st_size for data in self._others.values()
        )

    def settings(self, matrix: Matrix, settings: Settings) -> Settings:
        """Scales in the dtype of the model: a reader computes in it."""
        return replace(settings, scale_dtype=self._scale)

    def _metadata(self, rows: list[Row], checksums: Mapping[str, str]) -> dict[str, str]:
        said = document(rows, self.left, checksums, target="compressed-tensors", symmetric=self._settings.symmetric)
        return {"format": "pt", "prunequant": said}

    def _other_files(self) -> dict[str, bytes | Path]:
        """The files beside the weights: config.json with what was done, the rest as it is."""
        config = {key: value for key, value in self._config.items() if key != SETTINGS}
        config[SETTINGS] = quantization_config(self.schemes, self._settings.symmetric)
        files: dict[str, bytes | Path] = {CONFIG: (json.dumps(config, indent=2) + "\n").encode()}
        for path in sorted(self._folder.iterdir()):
            if path.suffix in _BESIDE and path.name != CONFIG and not path.name.endswith(_INDEX) and path.is_file():
                files[path.name] = path
        return files

    def write(self, out: Path, coded: Iterator[tuple[Matrix, Coded, Row]]) -> list[Row]:
        """Write the folder beside, and rename it; the rows with their stored bytes.

        Raises
        ------
        FileExistsError : a folder that is not empty, or a file, lies at `out`.
        """
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(f"{out} is there and not empty: give the name of a new folder")
        place = out.with_name(f".{os.getpid()}-{next(_number)}.folder.part")
        out.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir()
        try:
            rows = self._write_weights(place / WEIGHTS, coded)
            for name, data in self._others.items():
                (place / name).write_bytes(data if isinstance(data, bytes) else data.read_bytes())
            for path in [*place.iterdir()]:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                out.rmdir()  # an empty folder
            os.replace(place, out)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return rows

    def _write_weights(self, path: Path, coded: Iterator[tuple[Matrix, Coded, Row]]) -> list[Row]:
        rows = []
        with path.open("wb") as file:
            writer = SafetensorsWriter(file, self._entries, self._said)
            for matrix, codes, row in coded:
                for name, data in self._contents(matrix, codes):
                    writer.write(name, data)
                rows.append(replace(row, stored_bytes=self._stored[matrix.name]))
            for tensor in self._copied:
                writer.write(tensor.name, tensor.pieces())
            writer.finish(self._metadata(rows, writer.checksums))
        return rows

    def _contents(self, matrix: Matrix, coded: Coded) -> Iterator[tuple[str, NDArray]]:
        if not isinstance(coded, Codes):
            raise TypeError(f"{matrix.name} was coded as {type(coded).__name__}: this format holds integers")
        module = matrix.name.removesuffix(".weight")
        middle = 1 << (coded.bits - 1)
        codes = coded.codes if coded.zeros is None else (coded.codes.astype(np.int16) - middle).astype(np.int8)
        yield f"{module}.weight_packed", pack_words(codes, coded.bits)
        yield f"{module}.weight_scale", coded.scales.astype(SCALE_DTYPES[self._scale])
        yield f"{module}.weight_shape", np.array([matrix.rows, matrix.columns], "<i8")
        if coded.zeros is not None:
            zeros = (coded.zeros.astype(np.int16) - middle).astype(np.int8)
            yield f"{module}.weight_zero_point", np.ascontiguousarray(pack_words(zeros.T, coded.bits).T)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} has no {CONFIG}: compressed-tensors is written from a folder as transformers saves it; a GGUF"
            " file becomes one by from_pretrained(folder, gguf_file=name).save_pretrained(...)"
        ) from None
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is damaged or no JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} holds no settings: it must be a JSON object")
    if SETTINGS in config:
        raise ValueError(f"{folder / CONFIG} has a quantization_config: give the model that this one was made of")
    return config


def _notes(schemes: Mapping[str, Scheme]) -> tuple[str, ...]:
    if any(s.pattern is not None for s in schemes.values()):
        return (
            "pack-quantized stores a code for every weight, zeros too: a pruned matrix takes the bytes of one that is"
            " not; the kernels for sparse 2:4 files were taken out of vLLM in 2026",
        )
    return ()
