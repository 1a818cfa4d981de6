"""An ImageNet network inside a random one: every weight of the integer EfficientNet-Lite0 found by masks alone.

Each layer is a random pair, regenerated from the seed and pruned: hidden channels u·x, ReLU, kept weights of V.
The integer biases are found too: a bias is written in the digits −7..7 of base 15, and digit d is the weight of
an input that carries 15^d. Layers are carved one after the other, so memory holds one layer's items and
everybody's masks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import flag, integer
from prunequant.models.integer_efficientnet import (
    IntegerNetwork,
    Layer,
    float_forward,
    prepared_photographs,
    quantize,
    read_model,
)
from prunequant.tickets import certificate, files
from prunequant.tickets.arithmetic import integers, largest
from prunequant.tickets.carve import Carving, carve
from prunequant.tickets.source import check_seed
from prunequant.tickets.structured import Pair, matrix, recipe_for

KIND = "efficientnet-lite0"
Progress = Callable[[str, int, int], None]


def digits(bias: NDArray[np.int64], levels: int) -> NDArray[np.int64]:
    """Balanced digits of integers in base 2·levels + 1: (O, D) with bias = Σ_d digit_d · base^d, |digit| ≤ levels.

    Examples
    --------
    >>> digits(np.array([8, -100]), 7).tolist()
    [[-7, 1], [5, -7]]
    """
    levels = integer(levels, "levels", 1, 2**15 - 1)
    rest = integers(bias, "bias")
    if rest.ndim != 1 or largest(rest) > 2**62:
        raise ValueError(f"bias has shape {rest.shape} and values up to {largest(rest)}: (O,) up to 2^62 is needed")
    base, rest = 2 * levels + 1, rest.astype(np.int64)
    out: list[NDArray[np.int64]] = []
    while not out or rest.any():
        digit = (rest + levels) % base - levels
        out.append(digit)
        rest = (rest - digit) // base
    return np.stack(out, axis=1)


@dataclass(frozen=True, eq=False)
class LayerTicket:
    """The two pairs of a layer: kernel, and bias digits on constant inputs."""

    kernel: Pair
    bias: Pair

    def sums(self, layer: Layer, x: NDArray[np.int64], pads: int | tuple) -> tuple[NDArray[np.int64], int]:
        """factor·(W∗x + bias), computed by the pruned pairs; and the factor."""
        base = 2 * self.bias.carving.recipe.target + 1
        constants = base ** np.arange(self.bias.carving.columns, dtype=np.int64)
        offset = self.bias.forward(constants[None, :, None, None])
        return self.kernel.forward(x, layer.place.stride, pads) + offset, self.kernel.factor


def carve_layer(layer: Layer, index: int, levels: int, share: float, seed: int) -> tuple[LayerTicket, float]:
    """Find one layer: its ticket, and the certified failure probability of its subset sums (``share`` a weight)."""
    parts, certified = [], 0.0
    target_bias = digits(layer.bias, levels)
    for offset, kernel, signed in ((0, layer.weight, layer.place.signed), (1, target_bias[:, :, None, None], False)):
        depthwise = layer.place.depthwise and offset == 0
        w = matrix(kernel, depthwise)
        recipe = recipe_for(w, levels, levels, share * w.size, layer=2 * index + offset, signed=signed)
        missed = certificate.block_failure(recipe.law, recipe.blocks)
        certified += float(missed[np.abs(w)].sum()) * len(recipe.halves)
        parts.append(Pair(carve(w, recipe, seed), seed, kernel.shape, depthwise))
    return LayerTicket(*parts), certified


def find_network(
    network: IntegerNetwork, seed: int, failure: float = 0.01, progress: Progress | None = None, only: str | None = None
) -> tuple[dict[str, LayerTicket], list[dict]]:
    """Tickets of all layers (or of the one named ``only``), and a row of figures for each."""
    tickets, rows = {}, []
    total = network.parameters + sum(l.bias.size * 8 for l in network.layers)
    for index, layer in enumerate(network.layers):
        if only is not None and layer.place.name != only:
            continue
        start = time.perf_counter()
        ticket, certified = carve_layer(layer, index, network.levels, failure / total, seed)
        tickets[layer.place.name] = ticket
        pairs = (ticket.kernel, ticket.bias)
        rows.append(
            {
                "layer": layer.place.name,
                "weights": int(layer.weight.size),
                "biases": int(layer.bias.size),
                "subset_sums": int(sum(p.carving.words.size for p in pairs)),
                "block": list(ticket.kernel.carving.recipe.blocks),
                "certified_failure": certified,
                "source_parameters": int(sum(p.parameters for p in pairs)),
                "kept": int(sum(p.kept for p in pairs)),
                "seconds": round(time.perf_counter() - start, 3),
            }
        )
        if progress is not None:
            progress(layer.place.name, index + 1, len(network.layers))
    return tickets, rows


def run(network: IntegerNetwork, tickets: dict[str, LayerTicket], images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer logits of the pruned random network: the target lends geometry and requantization, not one weight."""
    return network.forward(images, lambda layer, x, pads: tickets[layer.place.name].sums(layer, x, pads))


def save(path: str | PathLike, tickets: dict[str, LayerTicket], seed: int) -> int:
    """Write all masks to one file; returns its size in bytes."""
    parts = {f"{name}.{part}": getattr(t, part) for name, t in tickets.items() for part in ("kernel", "bias")}
    shapes = {name: [list(pair.shape), pair.depthwise] for name, pair in parts.items()}
    return files.write(
        path, {"kind": KIND, "seed": seed, "shapes": shapes}, {name: pair.carving for name, pair in parts.items()}
    )


def load(path: str | PathLike) -> dict[str, LayerTicket]:
    """Read the tickets of all layers back; raises `files.TicketFileError` for a damaged file."""
    header, carvings = files.read(path)
    if header.get("kind") != KIND:
        raise files.TicketFileError(f"{path}: holds a ticket of kind {header.get('kind')!r}, {KIND!r} is needed")
    try:
        seed = int(check_seed(header["seed"]))
        pairs = {name: _pair(carving, seed, *header["shapes"][name]) for name, carving in carvings.items()}
        names = dict.fromkeys(name.rsplit(".", 1)[0] for name in pairs)
        return {name: LayerTicket(pairs[f"{name}.kernel"], pairs[f"{name}.bias"]) for name in names}
    except files.WRONG as error:
        raise files.TicketFileError(f"{path}: its header does not describe its masks ({error!r})") from None


def _pair(carving: Carving, seed: int, shape: list[int], depthwise: bool) -> Pair:
    o, i, k, across = (integer(side, "shape", 1, 2**31) for side in shape)
    rows, columns = (k * k, o) if flag(depthwise, "depthwise") else (o * k * k, i)
    if (carving.rows, carving.columns) != (rows, columns) or across != k or (depthwise and i != 1):
        given = (o, i, k, across)
        raise ValueError(f"masks of {carving.rows} by {carving.columns} weights for a kernel of shape {given}")
    return Pair(carving, seed, (o, i, k, across), depthwise)


def recover_efficientnet(
    out: str | PathLike, seed: int = 0, progress: Progress | None = None, failure: float = 0.01
) -> dict:
    """Find EfficientNet-Lite0 inside a random network, write the ticket, read it back, run it, say what happened.

    Parameters
    ----------
    out : path of the ticket file (tens of megabytes)
    seed : of the random source
    progress : called with (layer, done, all) after each layer
    failure : certified failure probability of the whole

    Returns
    -------
    dict, the record: figures a layer, totals, seconds, and whether all logits are equal as integers

    Raises
    ------
    TicketNotFound : a layer has no ticket with this seed; nothing is written
    """
    clock = {}
    start = time.perf_counter()
    state = read_model()
    images, names = prepared_photographs()
    network = quantize(state, prepared_photographs(flips=True)[0])
    logits = network.forward(images)
    clock["quantize"] = time.perf_counter() - start
    start = time.perf_counter()
    find_network(network, seed, failure, only="classifier")
    clock["classifier"] = time.perf_counter() - start
    start = time.perf_counter()
    tickets, rows = find_network(network, seed, failure, progress)
    clock["network"] = time.perf_counter() - start
    start = time.perf_counter()
    size = save(out, tickets, seed)
    again = load(out)
    clock["write_and_read"] = time.perf_counter() - start
    start = time.perf_counter()
    ours = run(network, again, images)
    clock["run"] = time.perf_counter() - start
    same = [bool(np.array_equal(again[l.place.name].kernel.kernel(), l.weight)) for l in network.layers]
    for _, wanted in float_forward(state, images):
        reference = wanted[:, :, 0, 0]
    totals = {k: sum(r[k] for r in rows) for k in ("weights", "biases", "subset_sums", "source_parameters", "kept")}
    return {
        "name": "ticket_efficientnet",
        "levels": network.levels,
        "seed": seed,
        **totals,
        "certified_failure": sum(r["certified_failure"] for r in rows),
        "confidence": certificate.CONFIDENCE,
        "file_bytes": size,
        "seconds": {k: round(v, 2) for k, v in clock.items()},
        "layers_equal": sum(same),
        "layers_in_all": len(same),
        "logits_compared": int(ours.size),
        "logits_differing": int(np.count_nonzero(ours != logits)),
        "photographs": [_photograph(*each) for each in zip(names, ours, logits, reference)],
        "layers": rows,
    }


def _photograph(name: str, ours: NDArray, target: NDArray, reference: NDArray) -> dict:
    """The five best classes of the pruned source: its logits, the target's, and the float network's five."""
    best = np.argsort(-ours, kind="stable")[:5]
    return {
        "name": name,
        "top5_integer": best.tolist(),
        "logits_ticket": ours[best].tolist(),
        "logits_target": target[best].tolist(),
        "top5_float": np.argsort(-reference, kind="stable")[:5].tolist(),
        "logits_float": np.round(reference[best], 3).tolist(),
        "correlation_with_float": round(float(np.corrcoef(ours, reference)[0, 1]), 4),
    }
