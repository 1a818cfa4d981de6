"""Masks by sorting plain Python lists."""

from __future__ import annotations

import numpy as np


def keep_largest(score: list[float], keep: int, ties: str = "first", original: list[float] | None = None) -> list[bool]:
    """Which of the scores are kept: sort by score, then by the tie rule."""

    def rank(i: int) -> tuple:
        if ties == "last":
            return (-score[i], -i)
        if ties == "magnitude":
            return (-score[i], -abs(original[i]), i)
        return (-score[i], i)

    kept = set(sorted(range(len(score)), key=rank)[:keep])
    return [i in kept for i in range(len(score))]


def n_m(x: np.ndarray, n: int, m: int, ties: str = "first", original: np.ndarray | None = None) -> np.ndarray:
    """N:M along the last axis of a matrix, group by group."""
    mask = np.zeros(x.shape, dtype=bool)
    for row in range(x.shape[0]):
        for start in range(0, x.shape[1], m):
            part = slice(start, start + m)
            values = None if original is None else original[row, part].tolist()
            mask[row, part] = keep_largest(np.abs(x[row, part]).tolist(), n, ties, values)
    return mask
