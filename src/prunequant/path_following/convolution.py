"""Convolutions as matrices: every patch a sample, every filter a neuron."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ..arguments import integer, numbers, shown
from .checks import check_rows, checked_matrix
from .layer import Layer, Rounding, Rule
from .operators import Operator
from .result import Result
from .tensors import as_array, like
from .triangle import compress_layer

MAX_EXTENT = 2**20  # of a kernel, stride, dilation or padding
_MAX_VALUES = 2**22  # of a padded batch of images that were small before


def _two(name: str, value, wanted: str) -> tuple:
    """One thing twice, or the two of a sequence."""
    if not (isinstance(value, tuple | list) or np.ndim(value) == 1):
        return value, value
    pair = tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} is {shown(value)}: it must be {wanted}")
    return pair


def _pair(name: str, value) -> tuple[int, int]:
    first, second = _two(name, value, f"an integer in [1, {MAX_EXTENT}], or two")
    return integer(first, name, 1, MAX_EXTENT), integer(second, name, 1, MAX_EXTENT)


def _pads(padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) from a number, (rows, columns) or both ends of both."""
    wanted = f"an integer in [0, {MAX_EXTENT}], (rows, columns) or ((top, bottom), (left, right))"
    rows, columns = (_two("padding", p, wanted) for p in _two("padding", padding, wanted))
    top, bottom, left, right = (integer(p, "padding", 0, MAX_EXTENT) for p in (*rows, *columns))
    return (top, bottom), (left, right)


def unfold(
    x: ArrayLike,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    rows: ArrayLike | None = None,
) -> NDArray:
    """The patches that a convolution sees, as the inputs of a linear layer.

    Parameters
    ----------
    x : (batch, channels, height, width), array or tensor.
    kernel, stride, dilation : one number or (rows, columns), each in [1, 2**20].
    padding : zeros around: a number, (rows, columns), or ((top, bottom), (left, right)) for uneven "same" padding.
    groups : channels are cut into so many groups, each with filters of its own.
    rows : which of the batch · positions samples to take, integers; all by default. Only these are copied.

    Returns
    -------
    (groups, samples, channels/groups · kernel rows · kernel columns), features in the order of
    ``weight.reshape(filters, -1)``.

    Raises
    ------
    ValueError, TypeError : not four axes, channels not divisible by groups, a kernel larger than the padded image,
        padding that makes more than 2**22 values of few, a row that is not there.

    Examples
    --------
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> unfold(x, 2, stride=2)[0]
    array([[ 0.,  1.,  4.,  5.],
           [ 2.,  3.,  6.,  7.],
           [ 8.,  9., 12., 13.],
           [10., 11., 14., 15.]])
    """
    return _unfold(x, "x", kernel, stride, padding, dilation, groups, rows)


def _unfold(x, name: str, kernel, stride, padding, dilation, groups, rows=None) -> NDArray:
    x = numbers(as_array(x), name)
    if x.ndim != 4:
        raise ValueError(f"{name} has shape {x.shape}: (batch, channels, height, width) is needed")
    (kh, kw), (sh, sw), (dh, dw) = _pair("kernel", kernel), _pair("stride", stride), _pair("dilation", dilation)
    groups, pads = integer(groups, "groups", 1), _pads(padding)
    if x.shape[1] % groups:
        raise ValueError(f"groups is {groups}: {name} has {x.shape[1]} channels, which it must divide")
    high, wide = x.shape[2] + sum(pads[0]), x.shape[3] + sum(pads[1])
    if x.shape[0] * x.shape[1] * high * wide > max(_MAX_VALUES, 4 * x.size):
        raise ValueError(
            f"padding is {shown(padding)}: {name} of shape {x.shape} would have more than {_MAX_VALUES} values"
        )
    x = np.pad(x, ((0, 0), (0, 0), *pads))
    if (kh - 1) * dh >= x.shape[2] or (kw - 1) * dw >= x.shape[3]:
        raise ValueError(f"kernel {kh}×{kw} with dilation {dh}, {dw} does not fit into {x.shape[2]}×{x.shape[3]}")
    windows = sliding_window_view(x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]  # batch, channel, row, column, kernel row, kernel column
    batch, _, height, width = windows.shape[:4]
    count = batch * height * width
    features = x.shape[1] // groups * kh * kw
    rows = check_rows(rows, count).astype(np.int64)
    image, i, j = np.unravel_index(rows, (batch, height, width))
    windows = windows.transpose(0, 2, 3, 1, 4, 5)[image, i, j]  # sample, channel, kernel row, kernel column
    return windows.reshape(len(rows), groups, features).transpose(1, 0, 2)


def compress_convolution(
    weight: ArrayLike,
    inputs: ArrayLike,
    operator: Operator,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    quantized_inputs: ArrayLike | None = None,
    feedback: str = "path",
    scaling: float = 1.0,
    seed: int = 0,
    alignment: int | str | None = None,
    damping: float | None = None,
    failure: float = 0.01,
) -> tuple[NDArray, list[Result]]:
    """Compress the filters of a convolution on the patches they really see.

    Parameters
    ----------
    weight : (filters, channels/groups, kernel rows, kernel columns).
    inputs, quantized_inputs : images (batch, channels, height, width).
    operator : one operator; if it has one size a neuron, one for each filter.
    others : stride, padding, dilation and groups as for `unfold`, the rest as for `compress`.

    Returns
    -------
    (weight of the same shape, one `Result` a group). Each group is a layer of its own, with `stream` its number.
    """
    rounding, rule = Rounding(operator, seed, failure=failure), Rule(feedback, scaling, alignment, damping)
    w, groups = numbers(as_array(weight), "weight"), integer(groups, "groups", 1)
    if w.ndim != 4 or w.size == 0 or w.shape[0] % groups:
        raise ValueError(f"weight has shape {w.shape} with {groups} groups: (filters, channels/groups, rows, columns)")
    checked_matrix("weight", w.reshape(len(w), -1))
    shape = dict(kernel=w.shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups)
    x = _unfold(inputs, "inputs", **shape)
    if x.shape[2] != w[0].size:
        raise ValueError(
            f"weight has shape {w.shape} but inputs {tuple(np.shape(inputs))} with {groups} groups give patches of"
            f" {x.shape[2]} numbers, not {w[0].size}"
        )
    if not x.shape[1]:
        raise ValueError(f"inputs has shape {tuple(np.shape(inputs))}: at least one image is needed")
    y = None if quantized_inputs is None else _unfold(quantized_inputs, "quantized_inputs", **shape)
    values, results = compress_groups(w.reshape(groups, w.shape[0] // groups, -1), x, rounding, rule, y)
    return like(values.reshape(w.shape), weight), results


def positions(shape, kernel, stride=1, padding=0, dilation=1) -> int:
    """How many patches images of this shape (batch, channels, height, width) have: batch · output height · width."""
    sizes = [
        (size + sum(pads) - d * (k - 1) - 1) // s + 1
        for size, pads, d, k, s in zip(
            shape[2:],
            _pads(padding),
            _pair("dilation", dilation),
            _pair("kernel", kernel),
            _pair("stride", stride),
            strict=True,
        )
    ]
    return shape[0] * sizes[0] * sizes[1]


def compress_groups(rows: NDArray, x: NDArray, rounding: Rounding, rule: Rule, y: NDArray | None = None):
    """Groups of filters (groups, filters, features) on their patches (groups, samples, features).

    Returns their weights, of the same shape, and one `Result` a group. `rounding` is that of all filters.
    """
    out, results = [], []
    for g in range(len(rows)):
        layer = Layer(rows[g].T, x[g], None if y is None else y[g], rule)
        result = compress_layer(layer, rounding.group(g, rows.shape[1]))
        out.append(result.weights.T)
        results.append(result)
    return np.stack(out), results
