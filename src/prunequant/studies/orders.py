"""Experiments on small trained networks: one seed a call, plain numbers out, to be swept over seeds and paired.

Every function is a work unit in the sense of `prunequant.experiments.sweep`: a pure function of its parameters and a
seed that returns a flat mapping of losses. `cells` turns the rows of many seeds into paired differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prunequant import arguments
from prunequant.formats import Format, named, names
from prunequant.interplay.orders import apply_orders, check_format
from prunequant.interplay.thresholds import Threshold, threshold
from prunequant.models.perceptron import Data, Perceptron, curves, digits, start, train
from prunequant.sparsity import channels, parse_pattern
from prunequant.statistics import Paired, holm, paired

FORMATS = ("INT8", "INT4", "HBFP6", "HBFP4", "MXFP8", "MXFP6", "MXFP4")  # those studied, unless others are asked for
PATTERNS = ("0.5", "0.75", "2:4")
TASKS = {"digits": (digits, (128, 128), 400), "curves": (curves, (128, 128), 800)}
RANDOM_DRAWS = 8
MAX_STEPS = 100_000  # of one training run


def check_grid(
    seed: int, formats: Sequence[str], patterns: Sequence[str | float] = ()
) -> tuple[int, tuple[str, ...], tuple[str | float, ...]]:
    """The seed (0 to 2^32 - 1), the names of formats and the patterns of a study, before anything is trained."""
    seed = arguments.integer(seed, "seed", 0, 2**32 - 1)
    for name, given in (("formats", formats), ("patterns", patterns)):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(f"{name} is {arguments.shown(given)}: it must be a sequence of strings")
    formats, patterns = tuple(arguments.choice(name, "format", names()) for name in formats), tuple(patterns)
    for pattern in patterns:
        parse_pattern(pattern)
    return seed, formats, patterns


def trained(task: str, seed: int) -> tuple[Data, Perceptron]:
    """The data and the trained dense perceptron of a task ("digits" or "curves") under a seed; remembered."""
    return _trained(arguments.choice(task, "task", TASKS), arguments.integer(seed, "seed", 0, 2**32 - 1))


@lru_cache(maxsize=64)
def _trained(task: str, seed: int) -> tuple[Data, Perceptron]:
    make, hidden, steps = TASKS[task]
    data = make(seed)
    return data, train(start(data, hidden, seed), data, steps, seed=seed)


def variants(weights: Sequence[NDArray], fmt: Format, pattern: str | float) -> dict[str, list[list[NDArray]]]:
    """Every way to compress the layers: by name, a list of equally good versions (several draws for random ties)."""
    fmt = check_format(fmt)
    out: dict[str, list[list[NDArray]]] = {}
    first = [apply_orders(w, fmt, pattern) for w in weights]
    out["s"] = [[m.pruned for m in first]]
    out["q"] = [[m.quantized for m in first]]
    out["sq"] = [[m.compressed["sq"] for m in first]]
    out["joint"] = [[m.compressed["joint"] for m in first]]
    out["qs first"] = [[m.compressed["qs"] for m in first]]
    for ties, draws in (("last", 1), ("random", RANDOM_DRAWS), ("magnitude", 1)):
        out[f"qs {ties}"] = [
            [
                apply_orders(w, fmt, pattern, ("qs",), ties, seed=100 * draw + layer).compressed["qs"]
                for layer, w in enumerate(weights)
            ]
            for draw in range(draws)
        ]
    return out


def order_effect(
    task: str = "digits",
    seed: int = 0,
    *,
    formats: Sequence[str] = FORMATS,
    patterns: Sequence[str | float] = PATTERNS,
    activations: bool = False,
) -> dict[str, float]:
    """Test losses of one trained network under every compression.

    Returns
    -------
    {"dense": loss, "accuracy": of the dense network, "PATTERN FORMAT KIND": loss}, with KIND "s", "q", "sq", "joint"
    and "qs TIES"; random ties are the mean over 8 draws.

    Parameters
    ----------
    activations : also quantize the inputs of every layer with the format (not for "s").
    """
    seed, formats, patterns = check_grid(seed, formats, patterns)
    activations = arguments.flag(activations, "activations")
    data, model = trained(task, seed)
    x, y = data.test, data.test_labels
    out = {"dense": model.loss(x, y), "accuracy": model.accuracy(x, y)}
    for pattern in patterns:
        for name in formats:
            fmt = named(name)
            for kind, versions in variants(model.weights, fmt, pattern).items():
                input_format = fmt if activations and kind != "s" else None
                losses = [model.with_weights(w).loss(x, y, input_format) for w in versions]
                out[f"{pattern} {name} {kind}"] = float(np.mean(losses))
    return out


def fine_tuned(
    task: str = "digits",
    seed: int = 0,
    *,
    formats: Sequence[str] = ("INT8", "HBFP6", "HBFP4", "MXFP4"),
    patterns: Sequence[str | float] = ("0.5", "2:4"),
    steps: int = 100,
    distil: bool = False,
) -> dict[str, float]:
    """Test losses after the same number of steps through each compression, from the same dense network and batches.

    Kinds: "sq", "qs first", "qs random", "qs magnitude" (both orders in the loop, masks taken anew in every step), and
    "sq one shot" (trained pruned in full precision, then quantized once). With `distil` the dense network's
    probabilities make half of the targets.
    """
    seed, formats, patterns = check_grid(seed, formats, patterns)
    steps, distil = arguments.integer(steps, "steps", 1, MAX_STEPS), arguments.flag(distil, "distil")
    data, model = trained(task, seed)
    x, y = data.test, data.test_labels
    teacher = model if distil else None
    out = {"dense": model.loss(x, y)}

    def tune(compress) -> Perceptron:
        return train(model, data, steps, seed=seed + 1000, rate=2e-3, compress=compress, teacher=teacher)

    for pattern in patterns:
        pruned = tune(lambda ws, pattern=pattern: [apply_orders(w, named("INT8"), pattern, ()).pruned for w in ws])
        for name in formats:
            fmt = named(name)

            def compress(weights, order, ties, fmt=fmt, pattern=pattern):
                return [apply_orders(w, fmt, pattern, (order,), ties).compressed[order] for w in weights]

            shot = pruned.with_weights(compress(pruned.weights, "sq", "first"))
            out[f"{pattern} {name} sq one shot"] = shot.loss(x, y)
            for kind, order, ties in (
                ("sq", "sq", "first"),
                ("qs first", "qs", "first"),
                ("qs random", "qs", "random"),
                ("qs magnitude", "qs", "magnitude"),
            ):
                tuned = tune(lambda ws, order=order, ties=ties: compress(ws, order, ties))
                out[f"{pattern} {name} {kind}"] = tuned.with_weights(compress(tuned.weights, order, ties)).loss(x, y)
    return out


def ranking(
    task: str = "digits", seed: int = 0, *, formats: Sequence[str] = FORMATS, pattern: str | float = "0.5"
) -> dict[str, float]:
    """How much of the ranking of |w| each order leaves, over all layers of a trained network.

    "FORMAT tau": Kendall's tau-b between |w| and |q(w)| (1: the ranking is kept where q does not tie), the mean over
    layers. "FORMAT tied": the share of values that share their |q| with another value of their layer. "FORMAT moved
    TIES": the share of places where the mask of "quantize, then prune" differs from that of |w|. "Prune, then quantize"
    ranks |w| itself: nothing is tied or moved.
    """
    seed, formats, _ = check_grid(seed, formats, (pattern,))
    _, model = trained(task, seed)
    out = {}
    for name in formats:
        tau, tied = [], []
        moved: dict[str, list[float]] = {"first": [], "random": [], "magnitude": []}
        for w in model.weights:
            q = np.abs(named(name).quantize(w)).ravel()
            tau.append(float(stats.kendalltau(np.abs(w).ravel(), q).statistic))
            _, inverse, counts = np.unique(q, return_inverse=True, return_counts=True)
            tied.append(float(np.mean(counts[inverse] > 1)))
            for ties in moved:
                orders = apply_orders(w, named(name), pattern, ("sq", "qs"), ties)
                moved[ties].append(float(np.mean(orders.masks["sq"] != orders.masks["qs"])))
        out[f"{name} tau"], out[f"{name} tied"] = float(np.mean(tau)), float(np.mean(tied))
        out.update({f"{name} moved {ties}": float(np.mean(values)) for ties, values in moved.items()})
    return out


def structured(
    task: str = "digits", seed: int = 0, *, formats: Sequence[str] = ("INT8", "INT4", "HBFP4", "MXFP4")
) -> dict[str, float]:
    """Half of the weights pruned as single weights, 2:4, 4:8, or whole neurons, each in both orders.

    Keys "STRUCTURE FORMAT KIND" with KIND "s", "q", "sq", "qs"; ties at random (8 draws), where there are any.
    Neurons: the output rows of hidden layers of smallest norm, the last layer left dense.
    """
    seed, formats, _ = check_grid(seed, formats)
    data, model = trained(task, seed)
    x, y = data.test, data.test_labels
    out = {"dense": model.loss(x, y)}
    for name in formats:
        fmt = named(name)
        for structure in ("0.5", "2:4", "4:8"):
            versions = variants(model.weights, fmt, structure)
            for kind, key in (("s", "s"), ("q", "q"), ("sq", "sq"), ("qs", "qs random")):
                losses = [model.with_weights(w).loss(x, y) for w in versions[key]]
                out[f"{structure} {name} {kind}"] = float(np.mean(losses))

        def without_neurons(weights, by):
            hidden = [np.where(channels(r, 0.5, 0), w, np.float32(0)) for w, r in zip(weights[:-1], by[:-1])]
            return [*hidden, weights[-1]]

        def loss_of(weights):
            return model.with_weights(weights).loss(x, y)

        q = [fmt.quantize(w) for w in model.weights]
        s = without_neurons(model.weights, model.weights)
        out[f"neurons {name} s"], out[f"neurons {name} q"] = loss_of(s), loss_of(q)
        out[f"neurons {name} sq"] = loss_of([fmt.quantize(w) for w in s])
        out[f"neurons {name} qs"] = loss_of(without_neurons(q, q))
    return out


def low_rank(
    task: str = "digits",
    seed: int = 0,
    *,
    rank: int = 32,
    formats: Sequence[str] = ("INT8", "HBFP4", "MXFP4"),
    pattern: str | float = "2:4",
) -> dict[str, float]:
    """Hidden matrices replaced by two factors of a given rank, then pruned and quantized in both orders.

    Keys "FORMAT KIND": "l" (low rank alone), "s", "q" (alone, on the dense matrices), "ls", "lq", and all three, "lsq"
    and "lqs". The factors share the singular values evenly.
    """
    seed, formats, _ = check_grid(seed, formats, (pattern,))
    rank = arguments.integer(rank, "rank", 1, 1024)
    data, model = trained(task, seed)
    x, y = data.test, data.test_labels
    factors = []
    for w in model.weights[:-1]:
        u, size, v = np.linalg.svd(w.astype(np.float64), full_matrices=False)
        root = np.sqrt(size[:rank])
        factors.append(((u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32)))

    def loss(pairs) -> float:
        products = [a.astype(np.float64) @ b for a, b in pairs]
        return model.with_weights([*products, model.weights[-1]]).loss(x, y)

    def dense_loss(kind: str, fmt: Format) -> float:
        orders = [apply_orders(w, fmt, pattern, ()) for w in model.weights[:-1]]
        hidden = [m.pruned if kind == "s" else m.quantized for m in orders]
        return model.with_weights([*hidden, model.weights[-1]]).loss(x, y)

    out = {"dense": model.loss(x, y)}
    for name in formats:
        fmt = named(name)
        out[f"{name} l"] = loss(factors)
        out[f"{name} s"], out[f"{name} q"] = dense_loss("s", fmt), dense_loss("q", fmt)
        orders = [[apply_orders(f, fmt, pattern, ("sq", "qs")) for f in pair] for pair in factors]
        out[f"{name} ls"] = loss([[m.pruned for m in pair] for pair in orders])
        out[f"{name} lq"] = loss([[m.quantized for m in pair] for pair in orders])
        out[f"{name} lsq"] = loss([[m.compressed["sq"] for m in pair] for pair in orders])
        out[f"{name} lqs"] = loss([[m.compressed["qs"] for m in pair] for pair in orders])
    return out


@dataclass(frozen=True)
class Cell:
    """One pattern and format over many seeds.

    delta : loss of "quantize, then prune" minus loss of "prune, then quantize" under one tie rule, paired.
    excess : the threshold of "prune, then quantize". p_holm : delta's p-value corrected over all cells given.
    """

    pattern: str
    format: str
    ties: str
    delta: Paired
    excess: Threshold
    p_holm: float


def cells(
    rows: Iterable[Mapping[str, float]], ties: Sequence[str] = ("first", "last", "random", "magnitude")
) -> list[Cell]:
    """Paired order effects and thresholds of every (pattern, format, tie rule) in rows of `order_effect`.

    rows : one mapping a seed, at least two. p-values are corrected together by Holm's rule.
    """
    rows = list(rows)
    for row in rows:
        arguments.instance(row, "a row", Mapping, "a mapping of losses, as `order_effect` returns it")
    if len(rows) < 2:
        raise ValueError(f"rows holds {len(rows)} seeds: an interval needs at least two")
    names = [key.rsplit(" ", 1)[0] for key in rows[0] if key.endswith(" sq")]
    column = {
        key: np.array([row[key] for row in rows], dtype=float) for key in rows[0] if isinstance(rows[0][key], float)
    }
    compared = []
    for name in names:
        pattern, fmt = name.split(" ", 1)
        parts = [column["dense"], column[f"{name} s"], column[f"{name} q"], column[f"{name} sq"]]
        for rule in ties:
            delta = paired(column[f"{name} qs {rule}"] - column[f"{name} sq"])
            compared.append((pattern, fmt, rule, delta, threshold(*parts)))
    corrected = holm([f[3].p for f in compared])
    return [Cell(*f, float(p)) for f, p in zip(compared, corrected)]
