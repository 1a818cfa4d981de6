"""What the arguments of this room may be, and its results: one check each, which names the argument."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arguments import choice, integer, integers, numbers, real, shown
from .tensors import as_array, is_half

LEAST, LARGEST = 1e-150, 1e150  # sizes; their squares and ratios stay in float64
FEEDBACKS = ("none", "path", "optq")
MAX_SCALING = 1e100  # beyond, C² and C‖X_t‖² leave float64
MAX_DAMPING = 1e9
LARGEST_ENTRY = 1e75
MAX_PASSES = 1000  # of alignment: "least-squares" is their limit
LEAST_FAILURE = 1e-280  # shared among samples and neurons it must stay a float64
MAX_STREAM = 2**32 - 1


def checked_matrix(name: str, array, dtype=None) -> NDArray:
    """A finite 2-D float32 or float64 array; narrower floats become float32, all other real types float64.

    Entries are at most 1e75 in size.
    """
    array = numbers(as_array(array), name, finite=False)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}: it must be a matrix")
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: it is empty")
    if dtype is None:
        dtype = np.float32 if array.dtype == np.float32 or is_half(array.dtype) else np.float64
    with np.errstate(over="ignore"):
        out = array.astype(dtype, copy=False)
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        bad = tuple(map(int, np.argwhere(~np.isfinite(out))[0]))
        raise ValueError(f"{name} holds {array[bad]} at {bad}: every value must be finite, in {out.dtype}")
    if max(-float(out.min()), float(out.max())) > LARGEST_ENTRY:
        raise ValueError(f"{name} holds values beyond {LARGEST_ENTRY:g} in size: squares of outputs leave float64")
    return out


def check_scaling(scaling: float) -> float:
    """C in [1, 1e100]; 1 corrects fully."""
    return real(scaling, "scaling", 1, MAX_SCALING)


def check_failure(failure: float) -> float:
    """A probability below 1."""
    return real(failure, "failure", LEAST_FAILURE, 1, open_high=True)


def check_feedback(feedback: str) -> str:
    """One of FEEDBACKS."""
    return choice(feedback, "feedback", FEEDBACKS)


def check_damping(damping: float | None, feedback: str) -> float:
    """A share of at least 0; by default 0.01 for "optq", which needs an inverse, and 0 otherwise."""
    if damping is None:
        return 0.01 if feedback == "optq" else 0.0
    return real(damping, "damping", 0, MAX_DAMPING)


def check_alignment(alignment) -> int | str:
    """A number of passes in [0, 1000], or "least-squares"."""
    if isinstance(alignment, str):
        if alignment != "least-squares":
            raise ValueError(f"alignment is {shown(alignment)}: it must be a number of passes or 'least-squares'")
        return alignment
    return integer(alignment, "alignment", 0, MAX_PASSES)


def check_seed(seed: int) -> int:
    """An integer of 64 bits."""
    return integer(seed, "seed", 0, 2**64 - 1)


def check_stream(stream: int) -> int:
    """An integer of 32 bits, a word of the counter."""
    return integer(stream, "stream", 0, MAX_STREAM)


def check_rows(rows, count: int) -> NDArray:
    """Numbers of samples, of which there are `count`; all of them by default."""
    rows = np.arange(count) if rows is None else integers(rows, "rows")
    if rows.ndim != 1 or (rows.size and not (rows.min() >= 0 and rows.max() < count)):
        raise ValueError(f"rows is {shown(rows)}: it must hold numbers of samples, from 0 below {count}")
    return rows


def check_output(out: NDArray) -> None:
    """Overflow is an error, never a NaN handed on."""
    if not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise ValueError(
            f"the corrected weights left the range of {out.dtype}: bring weights and inputs nearer to 1 or use float64"
        )
