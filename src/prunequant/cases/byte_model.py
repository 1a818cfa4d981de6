"""A small Llama over the bytes of the shipped text, trained in a second: what live pages and tests compress.

It stands in for SmolLM2, whose module it is at another size; `studies.characters` is a decoder of another kind,
measured for itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from prunequant.finetune import training
from prunequant.models import corpus, smollm2


def byte_windows(count: int, length: int = 128) -> NDArray[np.int64]:
    """Evaluation windows over the bytes of the held-out text, evenly spread: (count, length)."""
    text = np.frombuffer(corpus.raw("heldout"), np.uint8).astype(np.int64)
    start = np.linspace(0, len(text) - length, count).astype(int)
    return text[start[:, None] + np.arange(length)]


@lru_cache(maxsize=8)
def byte_model(seed: int, steps: int) -> tuple[smollm2.Llama, dict[str, NDArray[np.float32]]]:
    """A Llama of two blocks and width 64 over bytes, trained for so many steps, and the weights of its layers."""
    model = smollm2.random(smollm2.Config.tiny(vocabulary=128), seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.01)
    training.fit(
        model, lambda step: byte_batch(step, (16, 64), seed), steps=steps, loss=next_token, optimiser=optimiser,
        schedule=training.cosine(optimiser, steps, warmup=min(10, steps - 1)), seed=seed,
    )  # fmt: skip
    return model, smollm2.weights(model)


def byte_batch(step: int, batch: tuple[int, int], seed: int) -> tuple[torch.Tensor]:
    """Training windows of one step, (size, length) bytes: a pure function of seed and step."""
    train = np.frombuffer(corpus.raw("train"), np.uint8)
    size, length = batch
    start = np.random.default_rng([seed, 7, step]).integers(0, len(train) - length, size)
    return (torch.from_numpy(train[start[:, None] + np.arange(length)].astype(np.int64)),)


def next_token(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of every token after the first of its window."""
    return F.cross_entropy(model(x)[:, :-1].float().flatten(0, 1), x[:, 1:].flatten())
