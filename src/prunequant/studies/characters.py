"""The order of pruning and quantization on a small language model: two transformer blocks over characters.

A decoder with learned places, biases and layer norms, measured for itself: `cases.byte_model` is a Llama over bytes,
trained for a second to stand in for SmolLM2 on live pages.

The text is the source of `scipy.stats` as installed: the same for the same pinned version, and its hash is part of
every result. torch is imported where it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.extras import need
from prunequant.formats import named
from prunequant.interplay.orders import apply_orders
from prunequant.studies.orders import MAX_STEPS, RANDOM_DRAWS, check_grid, variants

if TYPE_CHECKING:
    from torch import Tensor, nn

CONTEXT = 32
WIDTH = 64
CHARACTERS = [chr(c) for c in (10, *range(32, 127))]


@lru_cache(maxsize=1)
def text() -> tuple[NDArray[np.int64], str]:
    """The corpus as numbers of newline and printable ASCII, others dropped, and the first half of its SHA-256."""
    folder = Path(scipy.__file__).parent / "stats"
    whole = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    number = {c: i for i, c in enumerate(CHARACTERS)}
    kept = [number[c] for c in whole if c in number]
    return np.array(kept, dtype=np.int64), hashlib.sha256(whole.encode()).hexdigest()[:32]


def build(seed: int) -> nn.Module:
    """A decoder of two blocks, width 64, four heads: 116 thousand parameters."""
    need("torch")
    import torch
    from torch import nn

    torch.manual_seed(seed)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            b, t, d = x.shape
            q, k, v = self.qkv(self.before(x)).view(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
            return x + self.down(nn.functional.gelu(self.up(self.between(x))))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.place = nn.Embedding(len(CHARACTERS), WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.ModuleList([Block(), Block()])
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(CHARACTERS))

        def forward(self, index):
            x = self.token(index) + self.place.weight[: index.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return Decoder()


def linears(model: nn.Module) -> list:
    """The linear layers of the blocks: those that are compressed. Embeddings and head stay."""
    return [layer for block in model.blocks for layer in (block.qkv, block.out, block.up, block.down)]


def batches(seed: int, steps: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches (inputs, targets) from the first nine tenths of the text."""
    need("torch")
    import torch

    data, _ = text()
    part = data[: len(data) * 9 // 10]
    generator = np.random.default_rng([seed, 5])
    for _ in range(steps):
        start = generator.integers(0, len(part) - CONTEXT - 1, size)
        window = torch.from_numpy(part[start[:, None] + np.arange(CONTEXT + 1)])
        yield window[:, :-1], window[:, 1:]


def fit(
    model: nn.Module,
    seed: int,
    steps: int,
    *,
    rate: float = 3e-3,
    size: int = 64,
    compress: Callable[[NDArray], NDArray] | None = None,
) -> nn.Module:
    """AdamW with a cosine rate; with `compress` (array to array) the forward pass sees compressed linear layers."""
    need("torch")
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    layers = linears(model)
    for x, y in batches(seed, steps, size):
        dense = [layer.weight.detach().clone() for layer in layers]
        if compress is not None:
            with torch.no_grad():
                for layer in layers:
                    layer.weight.copy_(torch.from_numpy(compress(layer.weight.numpy())))
        loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimiser.zero_grad()
        loss.backward()
        if compress is not None:
            with torch.no_grad():  # straight-through: the step moves the dense weights
                for layer, weight in zip(layers, dense):
                    layer.weight.copy_(weight)
        optimiser.step()
        schedule.step()
    return model


def loss(model: nn.Module, weights: Sequence[NDArray] | None = None, windows: int = 512) -> float:
    """Cross-entropy a character, in nats, on fixed windows of the last tenth of the text; maybe with other weights."""
    need("torch")
    import torch

    data, _ = text()
    part = data[len(data) * 9 // 10 :]
    start = np.linspace(0, len(part) - CONTEXT - 2, windows).astype(int)
    window = torch.from_numpy(part[start[:, None] + np.arange(CONTEXT + 1)])
    layers = linears(model)
    dense = [layer.weight.detach().clone() for layer in layers]
    with torch.no_grad():
        if weights is not None:
            for layer, w in zip(layers, weights):
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(w)))
        out = torch.nn.functional.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        for layer, weight in zip(layers, dense):
            layer.weight.copy_(weight)
    return float(out)


def order_effect(
    seed: int = 0,
    *,
    steps: int = 400,
    formats: Sequence[str] = ("INT8", "INT4", "HBFP6", "HBFP4", "MXFP4"),
    patterns: Sequence[str | float] = ("0.5", "2:4"),
    tune: int = 0,
) -> dict[str, float]:
    """Losses of one trained character model under every compression, in the keys of `studies.order_effect`.

    With `tune` > 0 also "tuned PATTERN FORMAT KIND": the losses after so many steps through "sq", "qs first" and
    "qs magnitude", from the same dense model and on the same batches.
    """
    need("torch")
    import torch

    seed, formats, patterns = check_grid(seed, formats, patterns)
    steps = arguments.integer(steps, "steps", 1, MAX_STEPS)
    tune = arguments.integer(tune, "tune", 0, MAX_STEPS)
    model = fit(build(seed), seed, steps)
    weights = [layer.weight.detach().numpy().copy() for layer in linears(model)]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    out = {"dense": loss(model)}
    for pattern in patterns:
        for name in formats:
            for kind, versions in variants(weights, named(name), pattern).items():
                half = versions[: max(1, RANDOM_DRAWS // 2)]
                out[f"{pattern} {name} {kind}"] = float(np.mean([loss(model, w) for w in half]))
            for kind, order, ties in (
                ("sq", "sq", "first"),
                ("qs first", "qs", "first"),
                ("qs magnitude", "qs", "magnitude"),
            ):
                if not tune:
                    break

                def compress(w, order=order, ties=ties, name=name, pattern=pattern):
                    return apply_orders(w, named(name), pattern, (order,), ties).compressed[order]

                model.load_state_dict(state)
                torch.manual_seed(seed)
                fit(model, seed + 1000, tune, rate=5e-4, compress=compress)
                final = [compress(layer.weight.detach().numpy()) for layer in linears(model)]
                out[f"tuned {pattern} {name} {kind}"] = loss(model, final)
            model.load_state_dict(state)
    return out
