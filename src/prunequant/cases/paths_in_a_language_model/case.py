"""The case *paths-in-a-language-model*: one-shot rounding of SmolLM2-135M, with and without following the path.

Every linear layer of the decoder (210) gets one step per row, so that its largest weight is the last grid point, and
2**bits − 1 values with zero among them; embedding, norms and activations stay as they are. The layers are compressed in
the order in which they run, each from what the layers already compressed hand on (`block_by_block`).

    nearest   every weight alone; needs no text, so it is run once and its row is the same for every seed
    path      nearest rounding along the path: GPFQ
    coins     stochastic rounding along the path on a grid without end: SPFQ, with a certificate per neuron
    aligned   as path, but the weights are first moved towards the original's outputs, in one pass (not in preset cpu)
    optq      OPTQ

A seed is a draw of calibration text (and of coins). The preset `ci` replaces the model by a small Llama over bytes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from prunequant.cases.order_in_a_language_model.case import byte_model, byte_windows
from prunequant.cases.paths_in_a_language_model.summary import summarise
from prunequant.cases.runner import Case, Run
from prunequant.models import block_by_block, corpus, smollm2
from prunequant.models.block_by_block import Group, Method, Rows
from prunequant.records import write_text

METHODS = {
    "nearest": Method("none"),
    "path": Method("path"),
    "coins": Method("path", stochastic=True, finite=False),
    "aligned": Method("path", alignment=1),
    "optq": Method("optq"),
}
PLAIN = ("dense", "nearest", "no zero")  # nothing drawn: one row for all seeds

_CPU = {
    "model": "smollm2",
    "seeds": 5,
    "methods": {"4": ("nearest", "path", "coins", "optq"), "3": ("nearest", "path", "coins", "optq")},  # by bits
    "noise_bits": (4,),  # where "path" is also calibrated on random tokens
    "windows": 4,  # calibration windows of `length` tokens
    "length": 512,
    "measured": 128,  # calibration tokens, and held-out ones, that carry errors and certificates
    "evaluate": 8,
    "at_once": 1,  # evaluation windows per forward pass
    "failure": 1e-3,  # of all certificates of the model together
    "steps": 120,  # of training, for the model "bytes"
}
PRESETS = {
    "ci": {
        **_CPU,
        "model": "bytes",
        "seeds": 3,
        "methods": {"3": ("nearest", "path", "coins", "aligned", "optq")},
        "noise_bits": (3,),
        "windows": 8,
        "length": 128,
        "evaluate": 32,
        "at_once": 32,
    },
    "cpu": _CPU,
    "gpu": {
        **_CPU,
        "seeds": 10,
        "methods": {b: ("nearest", "path", "coins", "aligned", "optq") for b in ("4", "3")},
        "noise_bits": (4, 3),
        "windows": 16,
        "measured": 512,
        "evaluate": 16,
        "at_once": 16,
    },
}


def units(settings: Mapping) -> list[dict]:
    """The model as it is; then every method at every number of bits; then the same with random tokens."""
    unknown = {m for methods in settings["methods"].values() for m in methods} - set(METHODS)
    if unknown:
        raise ValueError(f"no method {', '.join(sorted(unknown))}; the methods are {', '.join(METHODS)}")
    out = [{"method": "dense", "bits": 32, "calibration": "none"}]
    for bits, methods in settings["methods"].items():
        out.append({"method": "no zero", "bits": int(bits), "calibration": "none"})
        out += [{"method": m, "bits": int(bits), "calibration": "text"} for m in methods]
    out += [{"method": "path", "bits": bits, "calibration": "noise"} for bits in settings["noise_bits"]]
    return out


def relevant(settings: Mapping, unit: Mapping) -> dict:
    """All but the lists of units."""
    return {name: value for name, value in settings.items() if name not in ("methods", "noise_bits")}


@dataclass(frozen=True, eq=False)
class _Base:
    """The model on its device, the weights of its layers as shipped, the evaluation windows."""

    model: torch.nn.Module
    weights: Mapping[str, NDArray]
    windows: NDArray


@lru_cache(maxsize=1)
def _base(model: str, steps: int, evaluate: int, device: str) -> _Base:
    if model == "bytes":
        trained = copy.deepcopy(byte_model(0, steps)[0])
        windows = byte_windows(evaluate)
    elif model == "smollm2":
        trained, windows = smollm2.load(), corpus.windows(evaluate)
    else:
        raise ValueError(f"model is {model!r}: give smollm2 or bytes")
    trained = trained.to(device).eval()
    return _Base(trained, smollm2.weights(trained), windows)


def base(settings: Mapping, device: str = "cpu") -> _Base:
    """The model with its shipped weights; the same object for every call with the same settings."""
    shared = _base(settings["model"], settings["steps"], settings["evaluate"], device)
    smollm2.set_weights(shared.model, shared.weights)
    return shared


def calibration(settings: Mapping, seed: int, kind: str = "text") -> NDArray[np.int64]:
    """(windows + 1 or more, length) token ids: what the methods see, and last what only measures.

    `kind` is "text", windows of the training part drawn by the seed, or "noise", tokens drawn uniformly. The windows
    that measure are always held-out text: the fifth of the held-out part, which is no evaluation window.
    """
    shape = (settings["windows"], settings["length"])
    rng = np.random.default_rng([seed, 13])
    if settings["model"] == "bytes":
        train, held_out = (np.frombuffer(corpus.text(p).encode(), np.uint8).astype(np.int64) for p in corpus.PARTS)
        vocabulary = 128
    else:
        train, held_out, vocabulary = corpus.tokens("train"), corpus.tokens("heldout"), smollm2.Config().vocabulary
    if kind == "noise":
        tokens = rng.integers(0, vocabulary, shape)
    elif kind == "text":
        start = rng.integers(0, len(train) - shape[1], shape[0])
        tokens = train[start[:, None] + np.arange(shape[1])]
    else:
        raise ValueError(f"kind is {kind!r}: give text or noise")
    return np.concatenate([tokens, held_out[4 * shape[1] : 5 * shape[1]][None]])


_LAST_INPUTS: dict[str, tuple] = {}  # inputs of the original for the last seed: hundreds of megabytes, so only one


def _inputs(settings: Mapping, seed: int, kind: str, device: str) -> tuple[torch.Tensor, list[Group]]:
    key = json.dumps([dict(settings), seed, kind, device], sort_keys=True)
    if key not in _LAST_INPUTS:
        _LAST_INPUTS.clear()
        shared = base(settings, device)
        tokens = torch.from_numpy(calibration(settings, seed, kind)).to(device)
        groups = block_by_block.record_groups(smollm2.linears(shared.model), lambda: shared.model.features(tokens))
        _LAST_INPUTS[key] = tokens, groups
    return _LAST_INPUTS[key]


def no_zero(weights: NDArray, bits: int) -> NDArray:
    """Every row rounded to 2**bits points half a step from zero, the outermost at its largest weight.

    >>> no_zero(np.array([[0.1, -1.5]]), 2)
    array([[ 0.5, -1.5]])
    """
    half = 2 ** (bits - 1)
    step = np.abs(weights).max(axis=1, keepdims=True) / (half - 0.5)
    step[step == 0] = 1
    return ((np.clip(np.floor(weights / step), -half, half - 1) + 0.5) * step).astype(weights.dtype)


def run(settings: Mapping, unit: Mapping, seed: int, at: Run) -> dict:
    """Compress the whole model by one method and read the evaluation windows."""
    method, bits = unit["method"], unit["bits"]
    checkpoint = at.scratch / f"{method.replace(' ', '-')}-{bits}.json"
    if method in PLAIN and checkpoint.exists():
        return json.loads(checkpoint.read_text(encoding="utf-8"))
    shared = base(settings, at.device)
    row: dict = {}
    if method == "no zero":
        smollm2.set_weights(shared.model, {n: no_zero(w, bits) for n, w in shared.weights.items()})
    elif method != "dense":
        tokens, groups = _inputs(settings, seed, unit["calibration"], at.device)
        smollm2.set_weights(shared.model, shared.weights)
        rows = Rows.choose(settings["windows"] * settings["length"], settings["length"], settings["measured"])
        report = block_by_block.compress_in_order(
            smollm2.linears(shared.model), groups, lambda: shared.model.features(tokens), rows, METHODS[method], bits,
            {n: block_by_block.row_steps(w, bits) for n, w in shared.weights.items()},
            seed=seed, failure=settings["failure"], progress=at.progress,
        )  # fmt: skip
        row["layers"] = _columns(report)
    losses = corpus.cross_entropies(shared.model, shared.windows, size=settings["at_once"], device=at.device)
    smollm2.set_weights(shared.model, shared.weights)
    row = {"loss": float(losses.mean()), "losses": [round(float(v), 6) for v in losses], **row}
    if method in PLAIN:
        write_text(checkpoint, json.dumps(row))
    return row


def _columns(report: list[dict]) -> dict[str, list]:
    """A list of rows as one list per column; numbers to five digits."""

    def short(value):
        return float(f"{value:.5g}") if isinstance(value, float) else value

    names = list(report[0])
    return {name: [short(row[name]) for row in report] for name in names}


CASE = Case(
    name="paths-in-a-language-model",
    title="Following the path in a language model",
    presets=PRESETS,
    units=units,
    run=run,
    summarise=summarise,
    relevant=relevant,
)
