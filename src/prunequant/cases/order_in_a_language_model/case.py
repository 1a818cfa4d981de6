"""The case *order-in-a-language-model*: pruning and quantizing SmolLM2-135M in either order, before and after training.

Only the weights of the 210 linear layers are compressed; embedding, norms and activations stay as they are. Parts:

    shipped   the weights as published, one-shot: every format and sparsity, both orders, the joint mask. One model,
              so its intervals are over evaluation windows; seed 0 only, other seeds have an empty row.
    seeds     one-shot again on weights freed from their Q4_1 grid by noise, one draw per seed
    grid      how often magnitudes tie, with the grid and without
    tuned     the weights of `seeds` after training through the compression: the same steps and batches for all

Among what is trained, three kinds are another protocol: "s then q" is trained through the mask alone and quantized once
at the end, "s then qa" the same with the inputs of its layers quantized too, and "qs a" is trained through weights and
inputs that are both quantized.

The presets `trained` and those for a GPU hold the last part alone, which takes longer than the others together.
`ci` replaces the model by a small Llama over bytes, trained on the spot, one per seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from prunequant import threads
from prunequant.cases.byte_model import byte_batch, byte_model, byte_windows, next_token
from prunequant.cases.order_in_a_language_model.summary import summarise
from prunequant.cases.runner import Case, Run
from prunequant.experiments import alone
from prunequant.finetune import straight_through, training
from prunequant.finetune.training import Hook
from prunequant.formats import Format, named, names
from prunequant.interplay.orders import apply_orders
from prunequant.models import corpus, smollm2
from prunequant.records import beside
from prunequant.sparsity import keep_largest

SEVEN = ("INT8", "INT4", "HBFP8", "HBFP6", "MXFP8", "MXFP6", "MXFP4")
FOUR = ("INT8", "INT4", "HBFP6", "MXFP4")
FIVE = ("INT4", "MXFP4", "HBFP6", "INT8", "HBFP8")

_CPU = {
    "model": "smollm2",
    "seeds": 5,
    "formats": SEVEN,
    "patterns": ("0.1", "0.2", "0.3"),
    "joint_patterns": ("0.3",),
    "destroyed": ("0.5", "2:4"),
    "destroyed_formats": ("INT8", "INT4", "MXFP4"),
    "main": "0.3",  # the pattern with all windows and both tie rules
    "windows": 8,
    "few": 4,  # windows of the other patterns
    "shares": 5,  # a seed reads every fifth of sixteen windows, from its own number on; 0: all 133 of the text
    "seed_patterns": ("0.3",),
    "seed_formats": FOUR,
    "tie_formats": ("INT4", "MXFP4"),  # also with ties to the larger original weight
    "tuned": {},  # what is trained: pattern → formats
    "tuned_thresholds": ("0.5", "2:4"),  # where pruning alone is trained too
    "tuned_joint": (),  # formats that are trained through the joint mask, too
    "afterwards": (),  # formats that a network trained through its mask alone is quantized to at the end
    "inputs": (),  # those of them in which the inputs of its layers are quantized too
    "steps": 16,
    "batch": (1, 512),
    "rate": 1.5e-3,
    "recover": 0,  # dense training steps before, to heal the noise
    "amp": False,
    "at_once": 2,  # evaluation windows per forward pass
}
_TRAINED_ALONE = {
    **_CPU,
    "formats": (),
    "patterns": (),
    "joint_patterns": (),
    "destroyed": (),
    "seed_patterns": (),
    "seed_formats": (),
}
# Sizes that a GPU lent for a quarter of an hour makes: `gpu` and `gpu_groups` in half of it, `gpu_formats` in ten
# minutes with twelve processes side by side.
_GPU = {
    **_TRAINED_ALONE,
    "seeds": 4,
    "tie_formats": (),
    "shares": 0,
    "steps": 100,
    "batch": (8, 512),
    "rate": 1e-4,
    "recover": 200,
    "amp": True,
    "at_once": 16,
}
PRESETS = {
    "ci": {
        **_CPU,
        "model": "bytes",
        "seeds": 3,
        "formats": (),
        "patterns": (),
        "joint_patterns": (),
        "destroyed": (),
        "seed_patterns": ("0.75",),
        "seed_formats": ("INT8", "INT4", "MXFP4"),
        "tuned": {"2:4": ("MXFP4",)},
        "few": 8,
        "steps": 10,
        "batch": (8, 64),
        "rate": 1e-3,
        "recover": 80,
        "at_once": 8,
    },
    "cpu": _CPU,
    "trained": {
        **_TRAINED_ALONE,
        "tie_formats": ("MXFP4",),
        "tuned": {"0.5": ("MXFP4", "INT4"), "2:4": ("MXFP4",)},
        "tuned_joint": ("MXFP4", "INT4"),
        "amp": True,
    },
    "gpu": {**_GPU, "tuned": {"0.5": ("HBFP8",)}, "afterwards": ("HBFP8",), "inputs": ("HBFP8",)},
    "gpu_groups": {**_GPU, "seeds": 3, "tuned": {"2:4": ("MXFP4",)}},  # one cell of the next, run on another day
    "gpu_formats": {
        **_GPU,
        "tie_formats": FIVE,
        "tuned": {"0.5": FIVE, "2:4": FOUR},
        "seeds": 3,
    },
}


def units(settings: Mapping) -> list[dict]:
    """All work units: one per part, pattern and format; those without a format are shared by all formats."""
    absent = ("afterwards", "inputs", "tuned_joint")  # from the first records
    afterwards, inputs, joint = (settings.get(name, ()) for name in absent)
    lists = ("formats", "destroyed_formats", "seed_formats", "tie_formats")
    asked = {f for n in lists for f in settings[n]} | {*afterwards, *inputs, *joint}
    unknown = asked.union(*settings["tuned"].values()) - set(names())
    if unknown:
        raise ValueError(f"no format {', '.join(sorted(unknown))}; the formats are {', '.join(names())}")
    out = []
    shipped = [(p, settings["formats"]) for p in settings["patterns"]]
    shipped += [(p, settings["destroyed_formats"]) for p in settings["destroyed"]]
    for pattern, formats in shipped:
        out += [{"part": "shipped", "pattern": pattern, "format": f} for f in ("", *formats)]
    if settings["model"] == "smollm2" and settings["seed_patterns"]:
        out.append({"part": "grid", "pattern": "2:4", "format": ""})
    for pattern in settings["seed_patterns"]:
        out += [{"part": "seeds", "pattern": pattern, "format": f} for f in ("", *settings["seed_formats"])]
    if settings["tuned"]:
        out.append({"part": "tuned", "pattern": "", "format": "", "kind": "d"})
        every = dict.fromkeys(f for formats in settings["tuned"].values() for f in formats)
        out += [{"part": "tuned", "pattern": "", "format": f, "kind": "q"} for f in every]
        for p, formats in settings["tuned"].items():
            if p in settings["tuned_thresholds"]:
                out.append({"part": "tuned", "pattern": p, "format": "", "kind": "s"})
            for f in formats:
                kinds: tuple[str, ...] = ("sq", "qs", "qs magnitude") if f in settings["tie_formats"] else ("sq", "qs")
                if f in joint:
                    kinds += ("joint",)
                if f in afterwards:
                    kinds += ("s then q", *(("s then qa", "qs a") if f in inputs else ()))
                out += [{"part": "tuned", "pattern": p, "format": f, "kind": k} for k in kinds]
    return out


TRAINING = ("steps", "batch", "rate", "recover", "amp")


def relevant(settings: Mapping, unit: Mapping) -> dict:
    """The settings that the part of a unit reads: a trained row no list of formats, a one-shot row no training."""
    if unit["part"] == "tuned":
        return {name: settings[name] for name in ("model", *TRAINING, "few", "shares", "at_once")}
    base = ("recover",) if settings["model"] == "bytes" else ()
    unread = {*TRAINING, *(name for name in settings if name.startswith("tuned")), "afterwards", "inputs"} - {*base}
    return {name: value for name, value in settings.items() if name not in unread}


def run(settings: Mapping, unit: Mapping, seed: int, at: Run) -> dict:
    """One work unit: {"losses": {kind: cross-entropy per window}, "error": {kind: relative error of the weights}}."""
    if unit["part"] == "grid":
        return {"grid": _grid(seed)}
    if unit["part"] == "tuned":
        return _tuned(settings, unit, seed, at)
    if unit["part"] == "shipped" and seed:
        return {}
    model, dense = base(settings, unit["part"], seed, at.device)
    rows = _windows(settings, unit, seed)
    pattern, fmt = unit["pattern"], unit["format"]
    kinds = _kinds(settings, unit)
    losses, errors = {}, {}
    for done, kind in enumerate(kinds):
        at.progress(f"{unit['part']} {pattern} {fmt} {kind}", done, len(kinds))
        weights = compressed(dense, fmt, pattern, kind)
        smollm2.set_weights(model, weights)
        entropies = corpus.cross_entropies(model, rows, size=settings["at_once"], device=at.device)
        losses[kind], errors[kind] = [float(x) for x in entropies], _error(dense, weights)
    return {"losses": losses, "error": errors}


def _kinds(settings: Mapping, unit: Mapping) -> list[str]:
    """What one unit measures; the dense and the quantized model once per part, with the main pattern."""
    pattern, fmt, part = unit["pattern"], unit["format"], unit["part"]
    first = pattern == settings["main"] if part == "shipped" else pattern == settings["seed_patterns"][0]
    if not fmt:
        return ["d", "s"] if first else ["s"]
    kinds = ["q"] if first else []
    kinds += ["sq", "qs"]
    if part == "shipped" and pattern in settings["joint_patterns"]:
        kinds.append("joint")
    if fmt in settings["tie_formats"] and (part == "seeds" or pattern == settings["main"]):
        kinds.append("qs magnitude")
    return kinds


def _windows(settings: Mapping, unit: Mapping, seed: int) -> NDArray[np.int64]:
    """What a unit is read on: fixed windows for the shipped model, else every seed its own part of the sixteen."""
    if settings["model"] == "bytes":
        return byte_windows(settings["few"])
    if unit["part"] == "shipped":
        return corpus.windows(settings["windows" if unit["pattern"] == settings["main"] else "few"])
    if not settings["shares"]:
        return corpus.every_window()
    return corpus.windows(16)[seed % settings["shares"] :: settings["shares"]]


def compressed(dense: Mapping[str, NDArray], fmt: str, pattern: str, kind: str) -> dict[str, NDArray]:
    """The weights of every layer, compressed once: kind "d", "s", "q", "sq", "qs", "qs magnitude" or "joint"."""
    if kind == "d":
        return dict(dense)
    if kind == "s":
        return {n: w * keep_largest(np.abs(w), pattern) for n, w in dense.items()}
    f = named(fmt)
    if kind == "q":
        return {n: f.quantize(w) for n, w in dense.items()}
    order, _, ties = kind.partition(" ")
    with threads.using(kernels=1 if sum(w.size for w in dense.values()) < 1e6 else None):
        return {n: apply_orders(w, f, pattern, (order,), ties or "first").compressed[order] for n, w in dense.items()}


def _error(dense: Mapping[str, NDArray], changed: Mapping[str, NDArray]) -> float:
    """‖made − dense‖ over ‖dense‖, over all layers together."""
    lost = sum(float(np.square(changed[n] - w).sum(dtype=np.float64)) for n, w in dense.items())
    return (lost / sum(float(np.square(w).sum(dtype=np.float64)) for w in dense.values())) ** 0.5


# the weights everything starts from


@lru_cache(maxsize=1)
def _shipped():
    model = smollm2.load()
    return model, smollm2.weights(model)


@lru_cache(maxsize=1)
def _dithered(seed: int) -> dict[str, NDArray]:
    spacing, rng = smollm2.grid(), np.random.default_rng([seed, 11])
    return {n: w + spacing[n] * (rng.random(w.shape, np.float32) - np.float32(0.5)) for n, w in _shipped()[1].items()}


def base(
    settings: Mapping, part: str, seed: int, device: str = "cpu"
) -> tuple[smollm2.Llama, dict[str, NDArray[np.float32]]]:
    """A model to write weights into, and the dense weights of the linear layers that a part compresses.

    "shipped": as published. "seeds": each weight moved uniformly within the cell of the Q4_1 grid that it stands for,
    x + d·u with u in (−½, ½), which no longer ties; for the byte model, a model trained from the seed.
    """
    if settings["model"] == "bytes":
        model, weights = byte_model(seed, settings["recover"])
        return model.to(device), weights
    model, weights = _shipped()
    return model.to(device), weights if part == "shipped" else _dithered(seed)


def _grid(seed: int) -> dict:
    """Share of groups of four whose second and third magnitude tie, and the relative error, of every fifth layer."""
    bases = {"dithered": _dithered(seed)} | ({"shipped": _shipped()[1]} if seed == 0 else {})
    out: dict = {}
    for name, weights in bases.items():
        few = {n: w for i, (n, w) in enumerate(weights.items()) if i % 5 == 0}
        out[name] = {"FP32": {"ties": boundary_ties(few.values()), "error": 0.0}}
        for fmt in SEVEN:
            quantized = {n: named(fmt).quantize(w) for n, w in few.items()}
            out[name][fmt] = {"ties": boundary_ties(quantized.values()), "error": _error(few, quantized)}
    return out


def boundary_ties(weights: Iterable[NDArray]) -> float:
    """Share of the groups of four consecutive weights whose second and third largest magnitude are equal.

    >>> boundary_ties([np.array([[1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]])])
    0.5
    """
    tied = groups = 0
    for w in weights:
        ordered = np.sort(np.abs(w).reshape(-1, 4), axis=1)
        tied += int(np.count_nonzero(ordered[:, 1] == ordered[:, 2]))
        groups += len(ordered)
    return tied / groups


# training through the compression


def _batches(settings: Mapping, seed: int):
    if settings["model"] == "bytes":
        return lambda step: byte_batch(step, settings["batch"], seed + 1000)
    size, length = settings["batch"]
    return lambda step: (torch.from_numpy(corpus.batch(step, size=size, length=length, seed=seed)),)


def fine_tune(
    model: smollm2.Llama,
    settings: Mapping,
    seed: int,
    at: Run,
    *,
    steps: int,
    name: str,
    hooks: Sequence[Hook] = (),
    extra: dict | None = None,
) -> list:
    """Train layers and norms, not the embedding: AdamW, cosine rate, gradients clipped to 1."""
    model.embedding.weight.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings["rate"], betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return training.fit(
        model, _batches(settings, seed), steps=steps, loss=next_token, optimiser=optimiser,
        schedule=training.cosine(optimiser, steps, warmup=max(1, steps // 8) if steps > 1 else 0, final=0.1),
        seed=seed, device=at.device, amp=settings["amp"], hooks=hooks, clip=1.0, configuration=extra,
        checkpoint=at.scratch / f"{name}.pt" if steps >= 100 else None, every=100,
        progress=lambda done, total: at.progress(name, done, total),
    )  # fmt: skip


_HEALED: dict[tuple, smollm2.Llama] = {}  # of the last seed: half a gigabyte


def _recovered(settings: Mapping, seed: int, at: Run) -> smollm2.Llama:
    """A fresh model with the dense weights of `seeds`, healed by dense training where the settings say so."""
    model, weights = base(settings, "seeds", seed, at.device)
    if settings["model"] == "bytes" or not settings["recover"]:
        return smollm2.set_weights(copy.deepcopy(model), weights)
    wanted = seed, at.device, str(at.scratch), *(str(settings[name]) for name in TRAINING if name != "steps")
    if wanted not in _HEALED:
        _HEALED.clear()

        def train() -> smollm2.Llama:
            healed = smollm2.set_weights(copy.deepcopy(model), weights)
            fine_tune(healed, settings, seed + 500, at, steps=settings["recover"], name=f"recovered-{seed}")
            return healed

        _HEALED[wanted] = _kept(f"healed-{seed}", model, train, at)
    return copy.deepcopy(_HEALED[wanted])


def _kept(name: str, like: smollm2.Llama, train: Callable[[], smollm2.Llama], at: Run) -> smollm2.Llama:
    """A model that is trained once and then read from the scratch folder."""
    place = at.scratch / f"{name}.pt"
    with alone(at.scratch / f"{name}.lock"):
        if not place.is_file():
            trained = train()
            with beside(place) as unfinished:
                torch.save(trained.state_dict(), unfinished)
            return trained
    found = copy.deepcopy(like)
    found.load_state_dict(torch.load(place, map_location=at.device, weights_only=True))
    return found


def _tuned(settings: Mapping, unit: Mapping, seed: int, at: Run) -> dict:
    """Train through one compression (fixed mask, gradients to kept weights) and read the compressed model."""
    with threads.using(kernels=1 if settings["model"] == "bytes" else None):
        if unit["kind"].startswith("s then"):
            return _quantized_afterwards(settings, unit, seed, at)
        return _train_and_read(settings, unit, seed, at)


def _train_and_read(settings: Mapping, unit: Mapping, seed: int, at: Run) -> dict:
    kind, fmt = unit["kind"], unit["format"]
    model, losses = _trained_through(settings, unit, seed, at)
    if kind == "s":  # what is quantized afterwards
        _kept(_file(unit, seed), model, lambda: model, at)
    with quantized_inputs(model, named(fmt) if kind == "qs a" else None):
        entropies = _read(model, settings, unit, seed, at)
    return {"losses": {kind: entropies}, "training": [round(float(x), 4) for x in losses]}


def _file(unit: Mapping, seed: int) -> str:
    return "-".join(["tuned", str(seed), *unit["kind"].split(), unit["format"], unit["pattern"].replace(":", "of")])


def _read(model: smollm2.Llama, settings: Mapping, unit: Mapping, seed: int, at: Run) -> list[float]:
    rows = _windows(settings, unit, seed)
    return [float(x) for x in corpus.cross_entropies(model, rows, size=settings["at_once"], device=at.device)]


def _trained_through(settings: Mapping, unit: Mapping, seed: int, at: Run) -> tuple[smollm2.Llama, list]:
    """The compressed model of a unit after training, with plain weights, and the loss of every step."""
    kind, fmt, pattern = unit["kind"], unit["format"], unit["pattern"]
    order, _, more = kind.partition(" ")
    inputs = more == "a"
    model = _recovered(settings, seed, at)
    name = _file(unit, seed) + "-run"
    hooks = []
    if kind != "d":
        compression = straight_through.attach(
            model, list(smollm2.linears(model)), named(fmt) if fmt else None, pattern or None, order,
            ties="first" if inputs else more or "first", gradient="dense" if kind == "q" else "kept",
        )  # fmt: skip
        hooks.append(compression)
    one_checkpoint = alone(at.scratch / f"{name}.lock")
    with quantized_inputs(model, named(fmt) if inputs else None), one_checkpoint:
        losses = fine_tune(model, settings, seed, at, steps=settings["steps"], name=name, hooks=hooks, extra=dict(unit))
        (at.scratch / f"{name}.pt").unlink(missing_ok=True)
    if hooks:
        hooks[0].remove()
    return model, losses


def _quantized_afterwards(settings: Mapping, unit: Mapping, seed: int, at: Run) -> dict:
    """What was trained through its mask alone, quantized once: every row of weights, and the inputs if asked."""
    pruned = {**unit, "kind": "s", "format": ""}
    like, _ = base(settings, "seeds", seed, at.device)
    model = _kept(_file(pruned, seed), like, lambda: _trained_through(settings, pruned, seed, at)[0], at)
    fmt = named(unit["format"])
    with torch.no_grad():
        for layer in smollm2.linears(model).values():
            layer.weight.copy_(fmt.quantize(layer.weight.detach()))
    with quantized_inputs(model, fmt if unit["kind"] == "s then qa" else None):
        return {"losses": {unit["kind"]: _read(model, settings, unit, seed, at)}}


@contextmanager
def quantized_inputs(model: smollm2.Llama, fmt: Format | None) -> Iterator[None]:
    """Inside the block every linear layer sees its inputs quantized, token by token; the gradient passes unchanged."""
    handles = [] if fmt is None else [
        layer.register_forward_pre_hook(partial(_straight, fmt)) for layer in smollm2.linears(model).values()
    ]  # fmt: skip
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _straight(fmt: Format, module: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    quantized: torch.Tensor = fmt.quantize(given[0])
    return (given[0] + (quantized.to(given[0].dtype) - given[0]).detach(),)


CASE = Case(
    "order-in-a-language-model", "The order in a language model", PRESETS, units, run, summarise, relevant, apart=True
)
