"""Arrays and torch tensors of any real dtype: in as an array, out as what came, also in half precision."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from prunequant.arguments import is_tensor

_BITS = {"bfloat16": "int16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}  # not known to NumPy itself


def is_half(dtype) -> bool:
    """Whether a dtype is a float narrower than float32: float16, bfloat16, float8."""
    dtype = np.dtype(dtype)
    return dtype.itemsize < 4 and (dtype.kind == "f" or (dtype.kind == "V" and dtype.type is not np.void))


def as_array(x):
    """A tensor as an array of its own dtype, a view if it lies on the CPU; anything else as it is."""
    if not is_tensor(x):
        return x
    torch = sys.modules["torch"]
    x = x.detach().cpu()
    name = str(x.dtype).removeprefix("torch.")
    if name not in _BITS:
        return x.numpy()
    return x.contiguous().view(getattr(torch, _BITS[name])).numpy().view(getattr(ml_dtypes, name))


def like(array: NDArray, original):
    """The array as what the caller gave: a tensor for a tensor."""
    if not is_tensor(original):
        return array
    torch = sys.modules["torch"]
    array = np.ascontiguousarray(array)
    name = array.dtype.name
    if name in _BITS:
        bits = torch.from_numpy(array.view(_BITS[name]))
        return bits.view(getattr(torch, name)).to(original.device)
    return torch.from_numpy(array).to(original.device)


def half_of(weights) -> np.dtype | None:
    """The dtype of weights narrower than float32, to which the result is rounded in the end; else None."""
    dtype = np.asarray(as_array(weights)).dtype
    return dtype if is_half(dtype) else None


def rounded_to(values: NDArray, dtype) -> NDArray:
    """The values in a dtype narrower than float32; unchanged for any other.

    Raises
    ------
    ValueError : a value beyond the range of the dtype.
    """
    if dtype is None or not is_half(dtype):
        return values
    with np.errstate(over="ignore"):
        out = values.astype(dtype)
    if not np.all(np.isfinite(out)):
        raise ValueError(f"the compressed weights leave the range of {np.dtype(dtype)}: give float32 weights")
    return out
