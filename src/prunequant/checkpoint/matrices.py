"""The matrices of a model file, whatever the file: the one view on weights that everything above reads.

A `Matrix` is what multiplies an input: (rows, columns), one row an output, the columns along the input, so that a
group of values that share a scale lies within a row. Stacked experts are the rows of one matrix after another. What is
no such matrix is `Untreated`, with its reason: nothing in a file is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import NDArray

KINDS = ("linear", "linear, transposed", "convolution", "depthwise convolution", "experts", "embedding")


@dataclass(frozen=True, eq=False)
class Matrix:
    """Weights that multiply an input.

    Parameters
    ----------
    name : of the first tensor that holds them
    shape : of that tensor, as stored
    kind : one of `KINDS`
    dtype : of the tensor, as its file calls it ("BF16", "F8_E4M3", "Q4_1" …)
    rows, columns : outputs (of all experts together) and inputs
    nbytes : stored in the file, scales that belong to it included, once
    read : read(first, stop) gives rows first … stop - 1 as (stop - first, columns) float32, decoded and scaled
    experts : how many matrices lie one after another, 1 for most
    aliases : names of other tensors with the same content, tied to this one and stored once more or not at all
    parts : names of the tensors that it was joined of, such as weight and scale
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str
    rows: int
    columns: int
    nbytes: int
    read: Callable[[int, int], NDArray]
    experts: int = 1
    aliases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class Untreated:
    """A tensor that no matrix is made of, and why."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    reason: str
