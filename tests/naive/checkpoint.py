"""What a matrix loses under each scheme, in plain NumPy: whole arrays, one candidate scale after another."""

from __future__ import annotations

import numpy as np

from prunequant.checkpoint.schemes import CANDIDATES, WORSE


def half(x):
    """Positive float32 numbers to 11 significant bits, the nearest, ties to even."""
    u = np.asarray(x, np.float32).view(np.uint32)
    return ((u + np.uint32(0xFFF) + ((u >> np.uint32(13)) & np.uint32(1))) & ~np.uint32(0x1FFF)).view(np.float32)


def rounded(x, scale, bits):
    """The integers of x (groups, n) under a scale a group, and the error of each group."""
    top = np.float32(2 ** (bits - 1))
    q = np.clip(np.rint(x * (np.float32(1) / scale)[:, None]), -top, top - 1)
    return q, np.square(x - scale[:, None] * q, dtype=np.float32).sum(1, dtype=np.float64)


def searched(x, bits):
    """(error, scale) of each group of x (groups, n) float32: the candidates, then a step of least squares."""
    largest = np.abs(x).max(1)
    held = largest > 0
    best, scale = np.full(len(x), np.inf), np.ones(len(x), np.float32)
    searching = held.copy()
    for ratio in CANDIDATES[bits]:
        s = np.where(held, half(np.float32(ratio) * largest * np.float32(2.0 ** (1 - bits))), np.float32(1))
        _, error = rounded(x, s, bits)
        better = searching & (error < best)
        best[better], scale[better] = error[better], s[better]
        searching &= ~(error > WORSE * best)
    q, _ = rounded(x, scale, bits)
    square, cross = (q * q).sum(1, dtype=np.float64), (q * x).sum(1, dtype=np.float64)
    s = np.where(cross > 0, half(cross / np.maximum(square, 1)), scale)
    _, error = rounded(x, s, bits)
    better = held & (error < best)
    best[better], scale[better] = error[better], s[better]
    return np.where(held, best, 0.0), scale
