"""The case *pareto*: what a compressed language model loses, what it stores, and how long its layers take.

One model, its linear layers in one scheme after the other. The loss is that of the model run with the scheme's own
kernels (CSR with the dense product of the same pruned matrix, which differs by rounding alone). The latency is that of
all linear layers of the blocks, one after another, in the scheme's kernel: one token, and a whole prompt. Attention,
norms, embedding and output matrix are the same in every scheme and are not timed. The bytes are those really stored.

Seed s stands for window s of the text and for one pass of timings: losses are paired over windows, times are ratios
within a round.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunequant.cases.pareto.frontier import nondominated
from prunequant.cases.runner import Case, Run
from prunequant.models import corpus, smollm2
from prunequant.statistics import paired_bootstrap
from prunequant.timing.clock import Stopwatch, captured, fastest, interleave, median_ratio, quartiles, state
from prunequant.timing.kernels import Kernel, Unavailable, prepare
from prunequant.timing.schemes import scheme, stored_bytes

SAME_LOSS = {"fp32-packed": "fp32", "bf16-packed": "bf16"}  # the same numbers, stored in another order
COSTS = ("bytes", "decode", "prefill")
SPREAD_TOKENS = 256  # tokens of a window in which the spread of the inputs is measured
QUANTIZED = ("int8", "int8-fbgemm", "int8-weight", "int4-weight", "int4-weight-32")

PRESETS = {
    "ci": {
        "seeds": 2,
        "model": "random",
        "windows": 2,
        "schemes": ["fp32", "bf16", *QUANTIZED, "2:4-csr", "csr-30", "csr-50", "csr-90"],
        "baseline": ["fp32"],
        "prompt": 16,
        "rounds": 1,
    },
    "cpu": {
        "seeds": 8,
        "model": "smollm2",
        "windows": 8,
        "schemes": [
            *("fp32", "fp32-packed", "bf16", "bf16-packed"),
            *QUANTIZED,
            *("2:4-csr", "csr-30", "csr-50", "csr-90"),
        ],
        "baseline": ["fp32", "fp32-packed"],
        "prompt": 256,
        "rounds": 5,
    },
    "gpu": {
        "seeds": 16,
        "model": "smollm2",
        "windows": 16,
        "schemes": [
            *("fp32", "bf16", "int8", "int8-weight", "int4-weight", "int4-weight-32", "fp8"),
            *("2:4-bf16", "2:4-int8", "2:4-fp8", "csr-50", "csr-90"),
        ],
        "baseline": ["bf16"],
        "prompt": 2048,
        "rounds": 11,
    },
}


@dataclass(frozen=True)
class Stack:
    """All linear layers of a model in one scheme: what is timed and what is stored."""

    layers: tuple[tuple[Kernel, Kernel], ...]  # packed for one token, packed for a prompt; the same for most
    bytes: int
    change: float  # ‖W′ − W‖/‖W‖ over all layers

    def call(self, inputs: Mapping[tuple, Tensor], which: int) -> Callable[[], None]:
        """A function that runs every layer once on the prepared inputs."""
        work = [(pair[which], inputs[self._key(pair[which])]) for pair in self.layers]

        def run() -> None:
            for kernel, x in work:
                kernel.run(x)

        return run

    @staticmethod
    def _key(kernel: Kernel) -> tuple:
        return kernel.weights.shape[1], kernel.dtype, kernel.transposed


class Through(nn.Module):
    """A linear layer computed by a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def stack(name: str, model: smollm2.Llama, prompt: int) -> Stack:
    """All linear layers of a model stored as a scheme does.

    Raises
    ------
    Unavailable : one of the layers cannot be stored or multiplied so.
    """
    layers, total, moved, size = [], 0, 0.0, 0.0
    for layer in smollm2.linears(model).values():
        weight = layer.weight.detach()
        one = prepare(name, weight)
        many = prepare(name, weight, prompt) if name.endswith("packed") else one
        total += one.bytes
        moved += float((one.weights - weight).double().square().sum())
        size += float(weight.double().square().sum())
        light = torch.empty(weight.shape, device="meta")  # the shape alone: the values would fill the memory
        layers.append((replace(one, weights=light, exact=None), replace(many, weights=light, exact=None)))
    return Stack(tuple(layers), total, (moved / size) ** 0.5)


def losses(name: str, model: smollm2.Llama, layers: Stack, windows: np.ndarray, truth: Tensor | None) -> np.ndarray:
    """Mean cross-entropy per token of each window (nats) with the linear layers in a scheme; the model is restored.

    `truth` None: the next token of the text; else probabilities (windows, time, vocabulary) to be met.
    """
    original = dict(smollm2.linears(model))
    slow = scheme(name).kind == "pruning" and name[:3] in ("csr", "2:4") and name != "2:4-bf16"
    try:
        for (path, linear), (_, kernel) in zip(original.items(), layers.layers):
            if slow:
                weight = prepare(name, linear.weight.detach()).weights
                kernel = replace(prepare("fp32", weight), weights=weight)
            block, part = path.rsplit(".", 1)
            setattr(model.get_submodule(block), part, Through(kernel))
        if truth is None:
            return corpus.cross_entropies(model, windows, device=_device(model))
        return _against(model, windows, truth)
    finally:
        for path, linear in original.items():
            block, part = path.rsplit(".", 1)
            setattr(model.get_submodule(block), part, linear)


def _device(model: nn.Module) -> str:
    return str(model.embedding.weight.device)


@torch.inference_mode()
def _against(model: smollm2.Llama, windows: np.ndarray, truth: Tensor) -> np.ndarray:
    logits = model(torch.from_numpy(windows).to(truth.device))
    return -(truth * F.log_softmax(logits.double(), -1)).sum(-1).mean(-1).cpu().numpy()


@torch.inference_mode()
def input_spread(model: smollm2.Llama, tokens: np.ndarray) -> list[float]:
    """By linear layer: the largest input of a window over the median token's largest, one number per layer."""
    spreads, hooks = [], []
    for layer in smollm2.linears(model).values():
        hooks.append(layer.register_forward_hook(lambda module, given, out: spreads.append(_spread(given[0]))))
    try:
        model(torch.from_numpy(tokens[None]).to(_device(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return spreads


def _spread(x: Tensor) -> float:
    by_token = x.flatten(0, -2).abs().amax(1)
    return float(by_token.max() / by_token.median())


@dataclass(frozen=True)
class Bench:
    """Everything that the rows of one run share: kernels, prepared inputs, and losses of all windows."""

    stacks: dict[str, Stack]
    losses: dict[str, list[float]]
    spread: list[list[float]]  # by window, by layer
    calls: tuple[dict, dict]  # one token, a prompt
    eager: tuple[str, ...]  # on a GPU: schemes whose layers could not be launched as one graph
    missing: dict[str, str]


def _give_back() -> None:
    """Freed memory back to the system, where the C library can: storing a model leaves gigabytes of it."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


@lru_cache(maxsize=1)
def _bench(model_name: str, schemes: tuple[str, ...], windows: int, prompt: int, device: str, data, progress) -> Bench:
    if model_name == "random":
        model = smollm2.random().to(device)
        text = np.random.default_rng(0).integers(0, model.config.vocabulary, (windows, 64))
        with torch.inference_mode():
            truth = model(torch.from_numpy(text).to(device)).double().softmax(-1)
    else:
        model, truth = smollm2.load().to(device), None
        text = corpus.windows(windows, data)
    spread = [input_spread(model, window[:SPREAD_TOKENS]) for window in text]
    stacks: dict[str, Stack] = {}
    by_scheme: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    for step, name in enumerate(schemes):
        progress(f"{name}: storing, loss", step, len(schemes))
        try:
            stacks[name] = stack(name, model, prompt)
        except Unavailable as reason:
            missing[name] = str(reason)
            continue
        _give_back()
        same = SAME_LOSS.get(name)
        by_scheme[name] = by_scheme[same] if same in by_scheme else list(losses(name, model, stacks[name], text, truth))
    generator = torch.Generator().manual_seed(0)
    calls, eager = [], set()
    for which, batch in enumerate((1, prompt)):
        inputs: dict[tuple, Tensor] = {}
        for scheme_stack in stacks.values():
            for pair in scheme_stack.layers:
                key = Stack._key(pair[which])
                if key not in inputs:
                    x = torch.randn(batch, key[0], generator=generator).to(device)
                    inputs[key] = pair[which].inputs(x)
        thunks: dict[str, Callable[[], object]] = {
            name: scheme_stack.call(inputs, which) for name, scheme_stack in stacks.items()
        }
        if device != "cpu":
            graphs = {name: captured(call) for name, call in thunks.items()}
            thunks = {name: call for name, (call, _) in graphs.items()}
            eager |= {name for name, (_, whole) in graphs.items() if not whole}
        calls.append(thunks)
    one, many = calls
    return Bench(stacks, by_scheme, spread, (one, many), tuple(sorted(eager)), missing)


def units(settings: Mapping) -> list[dict]:
    """One unit: all schemes take turns in it."""
    return [{"model": settings["model"]}]


def run(settings: Mapping, unit: Mapping, seed: int, run: Run) -> dict:
    """The losses of window `seed` and one pass of timings of every scheme."""
    if seed >= settings["windows"]:
        raise ValueError(f"seed {seed} has no window: the settings have {settings['windows']}")
    bench = _bench(
        settings["model"],
        tuple(settings["schemes"]),
        settings["windows"],
        settings["prompt"],
        run.device,
        run.data,
        run.progress,
    )
    watch = Stopwatch(run.device, sweep=4)  # the weights of all layers together are more than the caches hold
    rows: dict[str, dict] = {name: {"unavailable": reason} for name, reason in bench.missing.items()}
    for name, scheme_stack in bench.stacks.items():
        rows[name] = {
            "loss": float(bench.losses[name][seed]),
            "bytes": scheme_stack.bytes,
            "change": _short(scheme_stack.change, 2),
        }
    baseline = tuple(settings["baseline"])
    for what, calls, rounds in zip(("decode", "prefill"), bench.calls, (settings["rounds"], 1)):
        run.progress(f"timing: {what}", seed, settings["windows"])
        seconds = interleave(calls, watch, rounds=rounds, hot=False)
        base = fastest(seconds, baseline, "cold")
        for name, times in seconds.items():
            rows[name][what] = [_short(1e3 * t) for t in quartiles(times["cold"])]
            rows[name][f"{what}_ratio"] = _short(median_ratio(times["cold"], base))
    spread = [_short(v) for v in quartiles(bench.spread[seed])]
    about = {"spread": [*spread, _short(max(bench.spread[seed]))], "eager": list(bench.eager)}
    return {"schemes": rows, **about, **state(run.device)}


def _short(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def summarise(settings: Mapping, rows: list[dict]) -> dict:
    """By scheme: loss and its paired interval, bytes, median times; the nondominated sets, together and by cost."""
    present = [s for s in settings["schemes"] if "loss" in rows[0]["schemes"][s]]
    dense = [row["schemes"][present[0]]["loss"] for row in rows]
    table = []
    for name in present:
        of_scheme = [row["schemes"][name] for row in rows]
        mean, low, high = paired_bootstrap([f["loss"] for f in of_scheme], dense)
        entry = {"scheme": name, "loss": float(np.mean([f["loss"] for f in of_scheme])), "added": mean}
        entry |= {
            "added_low": low,
            "added_high": high,
            "bytes": of_scheme[0]["bytes"],
            "change": of_scheme[0]["change"],
        }
        for what in ("decode", "prefill"):
            entry[what] = _short(statistics.median(f[what][1] for f in of_scheme))
            ratios = [f[f"{what}_ratio"] for f in of_scheme]
            entry |= {f"{what}_ratio": _short(statistics.median(ratios)), f"{what}_range": [min(ratios), max(ratios)]}
        table.append(entry)
    return {
        "table": table,
        "frontier": {
            "all": nondominated({e["scheme"]: (e["loss"], *(e[c] for c in COSTS)) for e in table}),
            **{cost: nondominated({e["scheme"]: (e["loss"], e[cost]) for e in table}) for cost in COSTS},
        },
        "spread": [statistics.median(column) for column in zip(*(row["spread"] for row in rows))],
        "unavailable": {s: r["unavailable"] for s, r in rows[0]["schemes"].items() if "unavailable" in r},
    }


def model_bytes(name: str, shapes: list[tuple[int, int]]) -> int:
    """Bytes of all linear layers in a scheme, by the formulas of `linear_schemes`."""
    return sum(stored_bytes(name, *shape) for shape in shapes)


CASE = Case(
    name="pareto",
    title="Loss, bytes and time of one model",
    presets=PRESETS,
    units=units,
    run=run,
    summarise=summarise,
    timed=True,
)
