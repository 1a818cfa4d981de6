"""Claims of this book on layers with structure, and on an ImageNet network inside a random one."""

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from prunequant import tickets
from prunequant.extras import need
from prunequant.models import integer_efficientnet as efficientnet
from prunequant.studies import imagenet_ticket as efficientnet_ticket
from prunequant.tickets import blocks, structured
from prunequant.tickets.carve import prune

from .core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 1712
LEVELS = 7
# kernel size, stride, padding, depthwise, signed inputs
CONVOLUTIONS = (
    (3, 1, 1, False, False),
    (3, 2, 1, False, True),
    (1, 1, 0, False, True),
    (5, 1, 2, True, False),
    (3, 2, 1, True, True),
)


def torch_convolution(x: np.ndarray, kernel: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """torch.nn.functional.conv2d on int64."""
    need("torch")
    import torch

    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in (x, kernel))
    return torch.nn.functional.conv2d(*tensors, stride=stride, padding=padding, groups=groups).numpy()


def torch_attention(block: blocks.Attention, x: np.ndarray) -> np.ndarray:
    """The attention block written in torch: int64 products, softmax in float64, its weights rounded to 1/levels."""
    need("torch")
    import torch

    tokens = torch.from_numpy(x)
    query, key, value = (tokens @ torch.from_numpy(w).T for w in block.matrices[:3])
    mixed = []
    for q, k, v in zip(*(m.chunk(block.heads, dim=1) for m in (query, key, value))):
        share = torch.softmax(block.temperature * (q @ k.T).double(), dim=1)
        mixed.append(torch.round(share * block.levels).long() @ v)
    return (torch.cat(mixed, dim=1) @ torch.from_numpy(block.output).T).numpy()


def torch_residual(weights: np.ndarray, x: np.ndarray, divisor: int) -> np.ndarray:
    """relu(⌊(Wx + K_t·x)/g + ½⌋) in torch's int64; 1 in the skip is K_t in units of the sum."""
    need("torch")
    import torch

    tokens = torch.from_numpy(x)
    sums = torch.nn.functional.linear(tokens, torch.from_numpy(weights)) + LEVELS * tokens
    return torch.relu(torch.div(2 * sums + divisor, 2 * divisor, rounding_mode="floor")).numpy()


def convolutions(channels: int, size: int) -> tuple[int, int]:
    """Outputs of pruned random pairs that differ from torch's convolution, and outputs compared."""
    rng, wrong, compared = np.random.default_rng(SEED), 0, 0
    for seed, (k, stride, padding, depthwise, signed) in enumerate(CONVOLUTIONS):
        kernel = rng.integers(-LEVELS, LEVELS + 1, (channels, 1 if depthwise else channels, k, k))
        x = rng.integers(-99 if signed else 0, 100, (2, channels, size, size + 1))
        pair = tickets.find_pair(kernel, LEVELS, failure=1e-4, seed=seed, signed=signed, depthwise=depthwise)
        theirs = torch_convolution(x, kernel, stride, padding, channels if depthwise else 1)
        wrong += int((pair.forward(x, stride, padding) != pair.factor * theirs).sum())
        compared += theirs.size
    return wrong, compared


def attention_example(width: int, tokens: int, seed: int = SEED) -> tuple[blocks.Attention, np.ndarray]:
    """A random integer attention block with four heads, and tokens with entries of both signs."""
    rng = np.random.default_rng(seed)
    matrices = [rng.integers(-LEVELS, LEVELS + 1, (width, width)) for _ in range(4)]
    block = blocks.Attention(*matrices, heads=4, temperature=20 / width / (30 * LEVELS) ** 2)
    return block, rng.integers(-30, 31, (tokens, width))


def residual_example(width: int, samples: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Random weights, non-negative inputs, and a divisor that brings the sums back to their size."""
    rng = np.random.default_rng(SEED + 1)
    return rng.integers(-LEVELS, LEVELS + 1, (width, width)), rng.integers(0, 41, (samples, width)), 11


@claim(
    id="ours.structured_tickets",
    title="Convolutions, skips and attention have exact tickets too",
    statement=r"""The following layers of step $\delta_t$ are found inside random pairs of layers of their own kind by
masks alone, and equal in every output integer: a **convolution** (also strided, padded, depthwise), with one subset sum
per kernel weight and sign of the input, however often the weight is used; the four maps of an **attention** block, with
one subset sum per weight; a **residual** block $\relu([Wx+x]_\gamma)$, at depth $2\ell$ with the skip led round the
pair, at depth $\ell+1$ with the target matrix $W+I$ for the copies.""",
    source=Source("ours", "open question 1", "ours"),
    chapter="tickets/structured-tickets",
    verdict=Verdict.HOLDS,
    remark="All equal to PyTorch's own layers in 64-bit integers. Structure makes tickets cheaper: weights that are "
    "shared, and maps without a rectifier, need fewer subset sums.",
)
def structured_tickets(budget: Budget) -> Evidence:
    """Convolutions, attention and residual blocks, carved out of random pairs, against torch in int64."""
    wrong, compared = convolutions(budget.pick(6, 8, 48), budget.pick(10, 12, 40))
    block, tokens = attention_example(budget.pick(16, 24, 128), budget.pick(12, 16, 200))
    attended = tickets.blocks.find_attention(block, LEVELS, seed=1, failure=1e-3).forward(tokens)
    attention = int((attended != torch_attention(block, tokens)).sum())
    w, x, divisor = residual_example(budget.pick(16, 24, 200), budget.pick(40, 200, 2_000))
    wanted = torch_residual(w, x, divisor)
    pair = tickets.find_pair(w, LEVELS, failure=1e-3, seed=2, signed=False)
    shallow = blocks.find_shallow_residual(w, LEVELS, seed=3, failure=1e-3)
    around = int((blocks.residual_ticket(pair, x, LEVELS, divisor) != wanted).sum())
    through = int((shallow.forward(x, divisor) != wanted).sum())
    figures = (
        Figure("convolutions: outputs that differ from torch", wrong),
        Figure("of", compared, "outputs of five layers"),
        Figure("attention: outputs that differ", attention),
        Figure("of", attended.size),
        Figure("residual, depth 2ℓ: outputs that differ", around),
        Figure("residual, depth ℓ+1: outputs that differ", through),
        Figure("of", wanted.size),
    )
    return Evidence(wrong + attention + around + through == 0, figures, seed=SEED)


@structured_tickets.control("depth ℓ+1, the skip is not given to the copies")
def _(budget: Budget) -> Evidence:
    w, x, divisor = residual_example(budget.pick(16, 24, 200), budget.pick(40, 200, 2_000))
    without = blocks.find_shallow_residual(w, LEVELS, seed=3, failure=1e-3, skip=False)
    wrong = float((without.forward(x, divisor) != torch_residual(w, x, divisor)).mean())
    return Evidence(wrong == 0, (Figure("share of outputs that differ", wrong, digits=2),), seed=SEED)


@structured_tickets.control("attention's tickets, with a rectifier left inside the pairs")
def _(budget: Budget) -> Evidence:
    block, tokens = attention_example(budget.pick(16, 24, 128), budget.pick(12, 16, 200))
    ticket = blocks.find_attention(block, LEVELS, seed=1, failure=1e-3)

    def rectified(pair: tickets.Pair, x: np.ndarray) -> np.ndarray:
        layer = prune(pair.carving, pair.seed)
        hidden = np.maximum(x[:, :, None] * layer.u[None], 0).reshape(len(x), -1)
        return hidden @ layer.v.T // pair.factor

    out = block.mix(tokens, [lambda t, p=p: rectified(p, t) for p in ticket.pairs])
    wrong = float((out != torch_attention(block, tokens)).mean())
    return Evidence(wrong == 0, (Figure("share of outputs that differ", wrong, digits=2),), seed=SEED)


# --- EfficientNet-Lite0 -------------------------------------------------------------------------------------------


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


def _whole_network() -> Evidence:
    with tempfile.TemporaryDirectory() as folder:
        record = efficientnet_ticket.recover_efficientnet(Path(folder) / "ticket", seed=0)
    figures = (
        Figure("weights found", record["weights"]),
        Figure("logits that differ", record["logits_differing"]),
        Figure("logits compared", record["logits_compared"]),
        Figure("certified failure probability", record["certified_failure"], digits=2),
    )
    held = record["logits_differing"] == 0 and record["layers_equal"] == record["layers_in_all"]
    return Evidence(held, figures, seed=0)


@claim(
    id="ours.imagenet_ticket",
    title="An ImageNet network inside a random one",
    statement=r"""Quantize the 4,608,992 weights of EfficientNet-Lite0 to integers from $-7$ to $7$. Every one of them,
and every one of its 22,008 integer biases, is found inside random pairs of layers with weights from $-7$ to $7$, by
masks alone, with certified failure probability at most 1 %. From the pixels to the 1,000 logits the pruned random
network computes the same integers as the quantized network.""",
    source=Source("ours", "measured", "ours"),
    chapter="tickets/imagenet-ticket",
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
    return Evidence(weights + wrong == 0, figures, seed=0)


@imagenet_ticket.control("one bit of one mask flipped")
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
    return Evidence(weights + wrong == 0, figures, seed=0)


@imagenet_ticket.control("blocks of 24 units per input")
def _(budget: Budget) -> Evidence:
    _, whole = real_slice(4, 50)["block4.expand"]
    matrix, missed = structured.matrix(whole), 0
    recipe = replace(structured.recipe_for(matrix, LEVELS, LEVELS, 1e-4, signed=True), blocks=(24,))
    try:
        tickets.carve(matrix, recipe, 0)
    except tickets.TicketNotFound as error:
        missed = sum(error.failures.values())
    figures = (Figure("subset sums without a solution", missed), Figure("subset sums", 2 * matrix.size))
    return Evidence(missed == 0, figures, seed=0)
