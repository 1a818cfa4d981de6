"""Columns of a Llama's matrices scaled before they are rounded, and unscaled in what comes before: the idea of AWQ.

    W x = (W diag(s)) (x / s)

Column j is multiplied by s_j, large where inputs are large, so that what they meet is rounded with a smaller error.
x / s costs nothing: the weights of a norm are divided by s, or the rows of `up` for the columns of `down`. The scales
are s_j = (root mean square of input j)^a, and a search takes the exponent a whose outputs are off the least when the
scaled weights are rounded to nearest. The published method (Lin et al., arXiv 2306.00978) has the mean of |x_j| in
place of the root mean square, which is what a Gram matrix has, and clips weights as well.

The columns of `o` stay: each value head serves several query heads here, so that its rows cannot take what each of them
would divide by.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments, records
from prunequant.checkpoint.methods import Settings, code_matrix
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.writing import Entry, SafetensorsWriter
from prunequant.models.smollm2 import Llama

EXPONENTS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
LEAST = 1e-4  # of the largest input: a smaller one, or none, counts as this


class Shared(NamedTuple):
    """Matrices with the same inputs, and what takes the inverse of their scales: a norm, or a matrix by its rows."""

    before: str
    matrices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found: the exponent, (columns,) scales, squared output errors with them and without any."""

    exponent: float
    scales: NDArray[np.float64] = field(repr=False)
    error: float
    unscaled_error: float


def column_scales(sizes: ArrayLike, exponent: float) -> NDArray[np.float64]:
    """sizes^exponent over √(largest · smallest), so that scales lie about 1.

    Parameters
    ----------
    sizes : (columns,) how large the inputs are, at least 0; those below 10⁻⁴ of the largest count as that.
    exponent : from 0, no scaling, to 1.

    Raises
    ------
    TypeError, ValueError : sizes that are no numbers, negative, or no vector; an exponent out of its range.

    Examples
    --------
    >>> column_scales([1.0, 16.0], 0.5).tolist(), column_scales([1.0, 16.0], 0).tolist()
    ([0.5, 2.0], [1.0, 1.0])
    """
    x = arguments.numbers(sizes, "sizes").astype(np.float64)
    exponent = arguments.real(exponent, "exponent", 0, 1)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"sizes has shape {x.shape}: it must be a vector, of at least one number")
    if x.min() < 0:
        raise ValueError(f"sizes holds {x.min():g}: no input is smaller than 0")
    if x.max() == 0:
        return np.ones(len(x))
    powers = np.maximum(x / x.max(), LEAST) ** exponent
    return powers / np.sqrt(powers.max() * powers.min())


def output_error(weights: ArrayLike, values: ArrayLike, gram: ArrayLike) -> float:
    """Σ over the inputs x of |W x − V x|², from their Gram matrix: tr(E G Eᵀ), E = W − V.

    Parameters
    ----------
    weights, values : (rows, columns) W and V.
    gram : (columns, columns) Σ x xᵀ.

    Raises
    ------
    TypeError, ValueError : arrays that hold no finite numbers or do not belong together.

    Notes
    -----
    In float32, as the weights are; the sum of all products in float64.

    Examples
    --------
    >>> output_error([[1.0, 2.0]], [[1.0, 1.0]], np.diag([1.0, 9.0]))
    9.0
    """
    w, v, g = (arguments.numbers(x, n) for x, n in ((weights, "weights"), (values, "values"), (gram, "gram")))
    if w.ndim != 2 or w.shape != v.shape or g.shape != (w.shape[1], w.shape[1]):
        raise ValueError(f"weights, values and gram have shapes {w.shape}, {v.shape} and {g.shape}")
    unit = float(np.max(np.abs(g), initial=0.0)) or 1.0
    lost = np.subtract(w, v, dtype=np.float32)
    return unit * float(np.sum((lost @ (g / unit).astype(np.float32)) * lost, dtype=np.float64))


def best_exponent(
    matrices: Sequence[ArrayLike],
    gram: ArrayLike,
    scheme: str | Scheme,
    settings: Settings | None = None,
    exponents: Iterable[float] = EXPONENTS,
) -> Found:
    """The exponent whose scaled weights, rounded to nearest, leave the least error of all outputs together.

    Parameters
    ----------
    matrices : (rows, columns) each, which have the same inputs.
    gram : (columns, columns) of these inputs, Σ x xᵀ.
    scheme : by which they are stored.
    settings : of the grid; the method is rounding to nearest, whatever it says.
    exponents : that are tried, from 0 to 1; 0 always is, and the smallest of equally good ones is taken.

    Raises
    ------
    TypeError, ValueError : arguments of the wrong kind, out of range, or that do not belong together.

    Notes
    -----
    For each exponent the matrices are rounded once and multiplied by the Gram matrix once. Lin et al. (2024),
    section 3.2. Twin: tests/models/test_column_scaling.py.

    Examples
    --------
    >>> w = np.random.default_rng(0).standard_normal((16, 32))
    >>> found = best_exponent([w], np.diag([400.0, *[1.0] * 31]), "INT3 g32")
    >>> found.exponent, bool(found.error < found.unscaled_error / 3)
    (0.25, True)
    """
    g = arguments.numbers(gram, "gram").astype(np.float64, copy=False)
    each = [
        np.asarray(arguments.numbers(w, "a matrix"), np.float32)
        for w in arguments.several(matrices, "matrices", "arrays")
    ]
    if not each or any(w.ndim != 2 for w in each):
        shapes = ", ".join(str(w.shape) for w in each[:3]) or "nothing"
        raise ValueError(f"matrices holds {shapes}: give at least one matrix, (rows, columns) each, in a list")
    for w in each:
        if g.shape != (w.shape[1], w.shape[1]):
            raise ValueError(f"gram has shape {g.shape}: a matrix of shape {w.shape} needs {(w.shape[1],) * 2}")
    kind = scheme if isinstance(scheme, Scheme) else Scheme.named(scheme)
    grid = Settings() if settings is None else arguments.instance(settings, "settings", Settings, "a Settings")
    to_nearest = Settings(grid=grid.grid, scale_dtype=grid.scale_dtype, mask=grid.mask, unit_scale=grid.unit_scale)
    tried = sorted({0.0, *(arguments.real(a, "an exponent", 0, 1) for a in exponents)})
    sizes = np.sqrt(np.maximum(np.diagonal(g), 0))
    errors, all_scales = [], [column_scales(sizes, exponent) for exponent in tried]
    for scales in all_scales:
        s = scales.astype(np.float32)
        errors.append(sum(output_error(w, code_matrix(w * s, kind, to_nearest).decode() / s, g) for w in each))
    best = int(np.argmin(errors))
    return Found(tried[best], all_scales[best], errors[best], errors[0])


def shared_inputs(model: Llama) -> dict[str, Shared]:
    """The matrices of a Llama whose columns can be scaled, by "blocks.0.attention", "blocks.0.mlp", "blocks.0.down".

    Examples
    --------
    >>> from prunequant.models import smollm2
    >>> shared_inputs(smollm2.random())["blocks.1.down"]
    Shared(before='blocks.1.up', matrices=('blocks.1.down',))
    """
    arguments.instance(model, "model", Llama, "a Llama of smollm2")
    found = {}
    for number in range(len(model.blocks)):
        b = f"blocks.{number}"
        found[f"{b}.attention"] = Shared(f"{b}.norm_attention", (f"{b}.q", f"{b}.k", f"{b}.v"))
        found[f"{b}.mlp"] = Shared(f"{b}.norm_mlp", (f"{b}.gate", f"{b}.up"))
        found[f"{b}.down"] = Shared(f"{b}.up", (f"{b}.down",))
    return found


def search(
    model: Llama,
    grams: Mapping[str, ArrayLike],
    scheme: str | Scheme,
    settings: Settings | None = None,
    exponents: Iterable[float] = EXPONENTS,
) -> dict[str, Found]:
    """`best_exponent` for all that `shared_inputs` names; the model is not changed.

    Parameters
    ----------
    grams : by the name of a layer, "blocks.0.q": of matrices with the same inputs that of the first is read.

    Raises
    ------
    TypeError, ValueError : no Gram matrix of a layer that needs one, or as `best_exponent`.
    """
    arguments.instance(model, "model", Llama, "a Llama of smollm2")
    arguments.instance(grams, "grams", Mapping, "Gram matrices by the names of layers")
    shared, tried = shared_inputs(model), tuple(exponents)
    if absent := [s.matrices[0] for s in shared.values() if s.matrices[0] not in grams]:
        raise ValueError(f"grams lacks {absent[0]}: the search needs the inputs of {len(shared)} layers")
    weight = {
        name: model.get_submodule(name).weight.detach().cpu().numpy() for s in shared.values() for name in s.matrices
    }
    return {
        name: best_exponent([weight[m] for m in s.matrices], grams[s.matrices[0]], scheme, settings, tried)
        for name, s in shared.items()
    }


def _checked(model: Llama, scales: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """The scales as arrays, of as many columns as the matrices have that share them, all positive."""
    shared, checked = shared_inputs(model), {}
    arguments.instance(scales, "scales", Mapping, "scales by names of `shared_inputs`")
    for name, values in scales.items():
        if name not in shared:
            raise ValueError(f"scales names {arguments.shown(name)}: the names are {', '.join(list(shared)[:3])} …")
        s = arguments.numbers(values, f"scales of {name}").astype(np.float64)
        columns = model.get_submodule(shared[name].matrices[0]).in_features
        if s.shape != (columns,):
            raise ValueError(f"scales of {name} have shape {s.shape}: it must be ({columns},)")
        if s.min() <= 0:
            raise ValueError(f"scales of {name} hold {s.min():g}: they must be positive")
        checked[name] = s
    return checked


def scaled(model: Llama, scales: Mapping[str, ArrayLike]) -> Llama:
    """A copy of the model with scaled columns, that computes the same up to rounding.

    Parameters
    ----------
    scales : (columns,) positive numbers by a name of `shared_inputs`; what is not named stays.

    Raises
    ------
    TypeError, ValueError : a name that is none, scales of another length or not positive.

    Examples
    --------
    >>> from prunequant.models import smollm2
    >>> model, tokens = smollm2.random(), torch.arange(4)[None]
    >>> other = scaled(model, {"blocks.0.mlp": np.linspace(0.5, 2, 64)})
    >>> bool(torch.allclose(model(tokens), other(tokens), atol=1e-5))
    True
    """
    shared, checked = shared_inputs(model), _checked(model, scales)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, values in checked.items():
            s = torch.from_numpy(values)
            before = other.get_submodule(shared[name].before).weight
            along = s.to(before.device).reshape(-1, *[1] * (before.ndim - 1))
            before.copy_(before.double() / along)
            for matrix in shared[name].matrices:
                weight = other.get_submodule(matrix).weight
                weight.copy_(weight.double() * s.to(weight.device))
    return other


def scaled_grams(model: Llama, grams: Mapping[str, NDArray], scales: Mapping[str, ArrayLike]) -> dict[str, NDArray]:
    """The Gram matrices of the inputs of `scaled(model, scales)`: G_ij / (s_i s_j); of the other layers as they are.

    Raises
    ------
    TypeError, ValueError : scales as in `scaled`, a Gram matrix of another shape.
    """
    arguments.instance(grams, "grams", Mapping, "Gram matrices by the names of layers")
    shared, checked = shared_inputs(model), _checked(model, scales)
    of_layer = {m: values for name, values in checked.items() for m in shared[name].matrices}
    found = dict(grams)
    for name in found.keys() & of_layer.keys():
        gram, s = arguments.numbers(found[name], f"the Gram matrix of {name}"), of_layer[name]
        if gram.shape != (len(s), len(s)):
            raise ValueError(f"the Gram matrix of {name} has shape {gram.shape}: it must be {(len(s),) * 2}")
        found[name] = (gram / np.outer(s, s)).astype(gram.dtype)
    return found


def write(model: Llama, path: str | os.PathLike) -> None:
    """The model's tensors as a safetensors file in float32 that `checkpoint.compress` reads, whole or not at all.

    Names are those of `model.state_dict()`: "blocks.0.q.weight", "embedding.weight", "norm.weight".

    Raises
    ------
    OSError : the file could not be written; what was there before is untouched.
    """
    arguments.instance(model, "model", Llama, "a Llama of smollm2")
    tensors = {name: t.detach().float().cpu().numpy() for name, t in model.state_dict().items()}
    with records.beside(path) as place, place.open("wb") as out:
        file = SafetensorsWriter(out, [Entry(name, "F32", t.shape) for name, t in tensors.items()], {})
        for name, tensor in tensors.items():
            file.write(name, tensor)
        file.finish({})
