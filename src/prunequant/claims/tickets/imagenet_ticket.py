"""The claim that an ImageNet network lies inside a random one."""

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from prunequant import tickets
from prunequant.models import integer_efficientnet as efficientnet
from prunequant.studies import imagenet_ticket as efficientnet_ticket
from prunequant.tickets import structured

from ..core import Budget, Evidence, Figure, Source, Verdict, claim
from .structured_tickets import torch_convolution

SEED = 1712
LEVELS = 7


@lru_cache(maxsize=1)
def float_tensors() -> dict[str, np.ndarray]:
    """The trained network's tensors, read once."""
    return efficientnet.read_model()


@lru_cache(maxsize=4)
def real_slice(block: int, classes: int) -> dict[str, tuple[efficientnet.Place, np.ndarray]]:
    """Integer kernels of one block of EfficientNet-Lite0, and of `classes` rows of its classifier."""
    chosen = {}
    for place in efficientnet.architecture():
        if place.name.startswith(f"block{block}.") or place.name == "classifier":
            whole, _ = efficientnet.whole_weights(float_tensors(), place, LEVELS)
            if place.name == "classifier":
                whole = whole[:: len(whole) // classes]
            chosen[place.name] = place, whole
    return chosen


def slice_pairs(block: int, classes: int) -> dict[str, tickets.Pair]:
    """Pairs found for the kernels of `real_slice`, each with a certified failure of at most 1e-4."""
    return {
        name: tickets.find_pair(whole, LEVELS, failure=1e-4, signed=place.signed, depthwise=place.depthwise)
        for name, (place, whole) in real_slice(block, classes).items()
    }


def compare_slice(pairs: dict[str, tickets.Pair], block: int, classes: int, side: int = 8) -> tuple[int, int, int]:
    """Weights and outputs that differ (from torch's convolution, on random 8-bit activations); outputs compared."""
    rng, weights, wrong, compared = np.random.default_rng(SEED), 0, 0, 0
    for name, (place, whole) in real_slice(block, classes).items():
        pair, channels = pairs[name], len(whole) if place.depthwise else whole.shape[1]
        extent = 1 if name == "classifier" else side
        x = rng.integers(-128 if place.signed else 0, 256, (1, channels, extent, extent))
        theirs = torch_convolution(x, whole, place.stride, whole.shape[2] // 2, channels if place.depthwise else 1)
        ours = pair.forward(x, place.stride, whole.shape[2] // 2)
        weights += int((pair.kernel() != whole).sum())
        wrong += int((ours != pair.factor * theirs).sum())
        compared += ours.size
    return weights, wrong, compared


WEIGHTS = "every weight is found and equal"
OUTPUTS = "every output compared is equal"
FOUND = "every subset sum has a solution"


def _whole_network() -> Evidence:
    with tempfile.TemporaryDirectory() as folder:
        record = efficientnet_ticket.recover_efficientnet(Path(folder) / "ticket", seed=0)
    figures = (
        Figure("weights found", record["weights"]),
        Figure("logits that differ", record["logits_differing"]),
        Figure("logits compared", record["logits_compared"]),
        Figure("certified failure probability", record["certified_failure"], digits=2),
    )
    holds = {
        WEIGHTS: record["layers_equal"] == record["layers_in_all"],
        OUTPUTS: record["logits_differing"] == 0,
        "the certified failure is at most 1 %": record["certified_failure"] <= 0.01,
    }
    return Evidence(holds, figures, seed=0)


@claim(
    id="ours.imagenet_ticket",
    title="An ImageNet network inside a random one",
    statement=r"""Quantize the 4,608,992 weights of EfficientNet-Lite0 to integers from $-7$ to $7$. Every one of
them, and every one of its 22,008 integer biases, is found inside random pairs of layers with weights from $-7$ to
$7$, by masks alone, with certified failure probability at most 1 %. From the pixels to the 1,000 logits the pruned
random network computes the same integers as the quantized network.""",
    source=Source("ours", "measured", "ours"),
    verdict=Verdict.HOLDS,
    remark="2,000 of 2,000 logits equal, in the recorded run. The everyday check takes one block and a part of the "
    "classifier; the full check repeats the whole.",
)
def imagenet_ticket(budget: Budget) -> Evidence:
    """One block and some rows of the classifier, weights and outputs against torch; FULL: the whole network."""
    if budget is Budget.FULL:
        return _whole_network()
    block, classes = budget.pick((4, 50), (4, 200), ())
    pairs = slice_pairs(block, classes)
    weights, wrong, compared = compare_slice(pairs, block, classes)
    figures = (
        Figure("weights wanted, block 4 and a part of the classifier", sum(p.kernel().size for p in pairs.values())),
        Figure("weights that differ", weights),
        Figure("outputs that differ from torch's convolution", wrong),
        Figure("outputs compared", compared),
    )
    return Evidence({WEIGHTS: weights == 0, OUTPUTS: wrong == 0}, figures, seed=0)


@imagenet_ticket.control("one bit of one mask flipped", breaks=(WEIGHTS, OUTPUTS))
def _(budget: Budget) -> Evidence:
    pairs = slice_pairs(4, 50)
    pair = pairs["block4.project"]
    words = pair.carving.words.copy()
    words[0, 0, 0] ^= np.uint64(1)
    pairs["block4.project"] = replace(pair, carving=replace(pair.carving, words=words))
    weights, wrong, compared = compare_slice(pairs, 4, 50)
    figures = (
        Figure("weights that differ", weights),
        Figure("outputs that differ from torch's convolution", wrong),
        Figure("outputs compared", compared),
    )
    return Evidence({WEIGHTS: weights == 0, OUTPUTS: wrong == 0}, figures, seed=0)


@imagenet_ticket.control("blocks of 24 units per input", breaks=FOUND)
def _(budget: Budget) -> Evidence:
    _, whole = real_slice(4, 50)["block4.expand"]
    matrix, missed = structured.matrix(whole), 0
    recipe = replace(structured.recipe_for(matrix, LEVELS, LEVELS, 1e-4, signed=True), blocks=(24,))
    try:
        tickets.carve(matrix, recipe, 0)
    except tickets.TicketNotFound as error:
        missed = sum(error.failures.values())
    figures = (Figure("subset sums without a solution", missed), Figure("subset sums", 2 * matrix.size))
    return Evidence({FOUND: missed == 0}, figures, seed=0)
