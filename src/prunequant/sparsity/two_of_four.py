"""2:4 pruning at the speed of memory: the values themselves, not their mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.formats.base import as_values, check_axis
from prunequant.sparsity import _kernels
from prunequant.sparsity.masks import n_m
from prunequant.sparsity.select import bits_of, refuse_beyond


def prune_2_4(x: ArrayLike, axis: int = -1, *, out: NDArray | None = None) -> NDArray:
    """x with the two smallest magnitudes of every four along an axis set to 0; the earlier of two equal ones is kept.

    The same values as `x * n_m(x, 2, 4)`. float32 goes through memory once.

    Parameters
    ----------
    x : array of real numbers, finite; 4 must divide its axis.
    out : array like x to write into, C-contiguous. It may be x itself, but not overlap it otherwise.

    Raises
    ------
    TypeError, ValueError : x, axis or out of the wrong kind, shape or range; NaN or infinity (`out` is then undefined).

    >>> prune_2_4([1.0, -4.0, 3.0, 2.0])
    array([ 0., -4.,  3.,  0.])
    """
    x = as_values(x)
    axis = check_axis(axis, x.ndim)
    if x.shape[axis] % 4:
        raise ValueError(f"axis {axis} has length {x.shape[axis]}, which groups of 4 do not divide")
    if out is not None:
        arguments.output(out, "out", x.shape, x.dtype, x)
    if x.dtype != np.float32 or axis != x.ndim - 1:
        pruned = np.where(n_m(x, 2, 4, axis=axis), x, x.dtype.type(0))
        if out is None:
            return pruned
        out[...] = pruned
        return out
    out = np.empty(x.shape, np.float32) if out is None else out
    refuse_beyond(_kernels.two_of_four(bits_of(x), out.reshape(-1).view(np.int32)))
    return out
