"""How the codes of one matrix are found: rounding to nearest, or with inputs at hand, and the masks of pruned schemes.

nearest      every weight to its nearest code; the mask keeps the largest, or for integers what loses least (joint)
wanda        the mask by |weight| · size of its input, row by row; then to nearest
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments, sparsity
from prunequant.checkpoint.coding import GRIDS, SCALE_DTYPES, Coded, Codes, Shifted, encode, integer_codes, spread
from prunequant.checkpoint.schemes import Scheme
from prunequant.path_following import Choice, CodeGrid, round_to_codes
from prunequant.path_following.coded import path_energy_bound

METHODS = ("nearest", "wanda", "path", "optq", "sparsegpt")
CALIBRATED = METHODS[1:]
MENDING = ("path", "optq", "sparsegpt")
MASKS = ("joint", "magnitude")
_ROUNDS = 3  # times that the joint mask and the scales are fitted to each other


@dataclass(frozen=True)
class Settings:
    """How matrices are coded.

    Parameters
    ----------
    method : one of `METHODS`; those in `CALIBRATED` need a Gram matrix.
    grid : of integers, as `coding.nearest` has it: "symmetric", or "zero point", where every group has a code of its
        own for zero ("signed" and "minimum" are for GGUF, which asks for them).
    scale_dtype : "F16" or "BF16", what a scale is stored in.
    unit_scale : NVFP4 without the scale of the whole tensor, as GGUF has it.
    mask : "joint" or "magnitude": how `nearest` chooses what it prunes. Joint is for integers, by the error that is
        left when what is kept is rounded; number formats take the magnitude.
    keep_zeros : what is zero stays zero, whatever the method.
    by_activation : path and optq take the inputs of most energy first ("act-order"); groups stay as they are stored.
    damping : share of the mean energy of the inputs that is added to each, in [0, 1e9].

    Raises
    ------
    TypeError, ValueError : an argument of the wrong kind, or none of those allowed.
    """

    method: str = "nearest"
    grid: str = "symmetric"
    scale_dtype: str = "F16"
    unit_scale: bool = False
    mask: str = "joint"
    keep_zeros: bool = True
    by_activation: bool = True
    damping: float = 0.01

    def __post_init__(self) -> None:
        arguments.choice(self.method, "method", METHODS)
        arguments.choice(self.scale_dtype, "scale_dtype", SCALE_DTYPES)
        arguments.choice(self.mask, "mask", MASKS)
        arguments.choice(self.grid, "grid", GRIDS)
        arguments.flag(self.keep_zeros, "keep_zeros")
        arguments.flag(self.unit_scale, "unit_scale")
        arguments.flag(self.by_activation, "by_activation")
        arguments.real(self.damping, "damping", 0, 1e9)

    @property
    def symmetric(self) -> bool:
        """Whether the grid lies about zero."""
        return self.grid in ("symmetric", "signed")


def code_matrix(
    weights: NDArray,
    scheme: Scheme,
    settings: Settings | None = None,
    gram: NDArray | None = None,
    name: str = "weights",
) -> Coded:
    """One matrix by a scheme and a method.

    Parameters
    ----------
    weights : (rows, columns) finite numbers, a row an output.
    scheme : that fits the shape.
    gram : (columns, columns), Σ x xᵀ of the inputs that the columns multiply; for methods in `CALIBRATED`.
    name : for errors.

    Returns
    -------
    Codes, Blocks or Halves of `coding`: with `decode()` and the mask that is stored.

    Raises
    ------
    ValueError : weights that are not finite, a scheme that does not fit, no Gram matrix or one of another shape, scales
        that 16 bits do not hold, a result that is all zero where the weights are not.

    Examples
    --------
    >>> w = np.array([[4.0, 0.1, -2.0, 0.2]])
    >>> code_matrix(w, Scheme.named("2:4 INT4 channel")).decode().round(2).tolist()
    [[4.0, 0.0, -2.0, 0.0]]
    """
    settings = Settings() if settings is None else settings
    w = np.ascontiguousarray(arguments.numbers(weights, name), dtype=np.float32)
    if w.ndim != 2 or w.size == 0:
        raise ValueError(f"{name} has shape {w.shape}: it must be a matrix")
    if why := scheme.problem(*w.shape):
        raise ValueError(f"{name}: {scheme.name} does not fit {w.shape[0]} × {w.shape[1]}: {why}")
    if settings.method in CALIBRATED:
        gram = _checked_gram(gram, w.shape[1], settings.method, name)
    coded = _coded(w, scheme, settings, gram, name)
    check_result(w, coded, scheme, name)
    return coded


def _checked_gram(gram: NDArray | None, columns: int, method: str, name: str) -> NDArray:
    if gram is None:
        raise ValueError(f"{name}: the method {method} looks at the inputs: give their Gram matrix")
    gram = arguments.numbers(gram, f"the Gram matrix of {name}").astype(np.float64, copy=False)
    if gram.shape != (columns, columns):
        raise ValueError(f"the Gram matrix of {name} has shape {gram.shape}: it must be ({columns}, {columns})")
    return gram


def method_used(scheme: Scheme, method: str) -> str:
    """What a method comes to under a scheme: a block of a number format is rounded to nearest, whoever asks.

    Examples
    --------
    >>> [method_used(Scheme.named(name), "path") for name in ("INT4 g32", "MXFP4", "2:4 FP16")]
    ['path', 'nearest', 'path']
    >>> method_used(Scheme.named("INT4 g32"), "wanda")  # which chooses what is pruned, and here nothing is
    'nearest'
    """
    if method in MENDING and _mends(scheme):
        return method
    return "nearest" if scheme.pattern is None or method not in CALIBRATED else "wanda"


def _coded(w: NDArray, scheme: Scheme, settings: Settings, gram: NDArray | None, name: str) -> Coded:
    if gram is not None and method_used(scheme, settings.method) in MENDING:
        return _mended(w, scheme, settings, gram, name)
    options: dict[str, Any] = {"grid": settings.grid, "scale_dtype": settings.scale_dtype, "name": name,
                               "unit_scale": settings.unit_scale}  # fmt: skip
    if scheme.pattern is None:
        return encode(w, scheme, **options)
    if settings.method in CALIBRATED and gram is not None:
        return encode(w, scheme, mask=_wanda(w, scheme, gram), **options)
    mask = largest(np.abs(w), scheme)
    if settings.mask == "magnitude" or scheme.bits is None:
        return encode(w, scheme, mask=mask, **options)
    best = encode(w, scheme, mask=mask, **options)
    least = _error(w, best)
    for _ in range(_ROUNDS):
        # the codes that every weight would have under the scales found for those that are kept
        stored = best.decode() if mask is None else _unmasked(w, best)
        mask = largest(sparsity.gain(w, stored), scheme)
        trial = encode(w, scheme, mask=mask, **options)
        error = _error(w, trial)
        if not error < least:
            break
        best, least = trial, error
    return best


def _wanda(w: NDArray, scheme: Scheme, gram: NDArray) -> NDArray[np.bool_]:
    return by_rows(np.abs(w) * np.sqrt(np.maximum(np.diagonal(gram), 0)).astype(np.float32), scheme)


def _mended(w: NDArray, scheme: Scheme, settings: Settings, gram: NDArray, name: str) -> Coded:
    """Path following, OPTQ and SparseGPT: `path_following.round_to_codes` with the scales of round-to-nearest."""
    stored = None if scheme.pattern is None else _wanda(w, scheme, gram)
    if settings.method == "sparsegpt" and scheme.pattern is not None:
        chosen = round_to_codes(w.T, gram, None, mask=_choice(scheme, *w.shape), damping=settings.damping)
        stored = np.ascontiguousarray(chosen.mask.T) if chosen.mask is not None else stored
    start = encode(w, scheme, mask=stored, grid=settings.grid, scale_dtype=settings.scale_dtype, name=name)
    mask = stored
    if settings.keep_zeros and not w.all():
        mask = w != 0 if mask is None else mask & (w != 0)
    grid = None
    if isinstance(start, Codes | Shifted):
        group = np.arange(w.shape[1]) // start.group
        scales = np.broadcast_to(start.scales, (len(w), start.scales.shape[1])).T
        grid = CodeGrid(scales, *_code_range(start), group if len(scales) > 1 else None, _zeros(start))
    rounded = round_to_codes(
        w.T, gram, grid, "path" if settings.method == "path" else "optq", mask=None if mask is None else mask.T,
        damping=settings.damping, by_activation=settings.by_activation,
    )  # fmt: skip
    if isinstance(start, Codes | Shifted) and rounded.codes is not None:
        return replace(start, codes=np.ascontiguousarray(rounded.codes.T).astype(start.codes.dtype))
    return encode(np.ascontiguousarray(rounded.values.T), scheme, mask=stored, name=name)


def certified_error(w: NDArray, coded: Coded, scheme: Scheme, settings: Settings, gram: NDArray | None) -> float:
    """A bound on the squared error of all outputs, summed over the samples of a Gram matrix, by path following.

    Parameters
    ----------
    w : (rows, columns), the weights that `code_matrix` made `coded` of by the same scheme, settings and Gram matrix.

    Returns
    -------
    float : NaN where the codes were found in another way, which guarantees nothing. See
        `path_following.coded.path_energy_bound`.
    """
    if gram is None or method_used(scheme, settings.method) != "path":
        return float("nan")
    half = np.zeros(w.shape)
    if isinstance(coded, Codes | Shifted):
        half += spread(np.abs(coded.scales) / 2, coded.group, w.shape[1])
    if coded.mask is not None:
        half[~coded.mask] = 0
    if settings.keep_zeros:
        half[w == 0] = 0
    bounds = path_energy_bound(
        w.T, coded.decode().T, gram, half.T, damping=settings.damping, by_activation=settings.by_activation
    )
    return float(bounds.sum())


def _mends(scheme: Scheme) -> bool:
    """Whether a weight's error can be mended by those after it: formats of blocks are rounded to nearest."""
    return scheme.bits is not None or (scheme.format == "FP16" and scheme.pattern is not None)


def _code_range(start: Codes | Shifted) -> tuple[int, int]:
    top = 1 << (start.bits - 1)
    return (0, 2 * top - 1) if start.codes.dtype == np.uint8 else (-top, top - 1)


def _zeros(start: Codes | Shifted) -> NDArray | None:
    """(groups, rows): the code of zero, which for a minimum is any number."""
    if isinstance(start, Shifted):
        return (-start.minima / start.scales).T
    return None if start.zeros is None else start.zeros.T.astype(np.float32)


def _choice(scheme: Scheme, rows: int, columns: int) -> Choice:
    """What SparseGPT keeps of neighbours: n of m; or a share of every 64 columns of a row, to the last weight."""
    if isinstance(scheme.pattern, tuple):
        if scheme.pattern[1] not in (2, 4, 8, 16, 32, 64):
            raise ValueError(f"{scheme.name}: sparsegpt chooses among 2, 4, 8, 16, 32 or 64 neighbours")
        return Choice(scheme.pattern[1], scheme.pattern[0])
    pruned = sparsity.pruned_count(float(scheme.pattern or 0.0), rows * columns)
    quota = np.diff(pruned * np.arange(rows + 1) // rows)
    edges = np.append(np.arange(0, columns, 64), columns)
    return Choice(64, np.diff(edges)[:, None] - np.diff(quota * edges[:, None] // columns, axis=0))


def _unmasked(w: NDArray, coded: Coded) -> NDArray:
    if not isinstance(coded, Codes):
        return coded.decode()
    codes = integer_codes(w, coded.scales, coded.group, coded.bits, coded.zeros)
    return Codes(codes, coded.scales, coded.bits, coded.group, coded.zeros).decode()


def _error(w: NDArray, coded: Coded) -> float:
    return float(np.sum((w - coded.decode()).astype(np.float64) ** 2))


def largest(score: NDArray, scheme: Scheme) -> NDArray[np.bool_]:
    """The mask of a scheme's pattern that keeps the largest scores, of the whole matrix for a share."""
    if isinstance(scheme.pattern, tuple):
        return sparsity.keep_largest(score, f"{scheme.pattern[0]}:{scheme.pattern[1]}", axis=1)
    return sparsity.keep_largest(score, float(scheme.pattern or 0.0))


def by_rows(score: NDArray, scheme: Scheme) -> NDArray[np.bool_]:
    """The same, but a share is taken of every row; rows differ by one where it does not divide."""
    if isinstance(scheme.pattern, tuple):
        return largest(score, scheme)
    rows, columns = score.shape
    pruned = sparsity.pruned_count(float(scheme.pattern or 0.0), score.size)
    quota = np.diff(pruned * np.arange(rows + 1) // rows)
    order = np.argsort(score, axis=1, kind="stable")
    mask = np.empty(score.shape, bool)
    np.put_along_axis(mask, order, np.arange(columns) >= quota[:, None], axis=1)
    return mask


def check_result(weights: NDArray, coded: Coded, scheme: Scheme, name: str) -> None:
    """What no method may do: leave zeros alone of a matrix that was not, or a mask that is not the scheme's.

    Raises
    ------
    ValueError : it did.
    """
    decoded = coded.decode()
    if not decoded.any() and weights.any():
        raise ValueError(
            f"{name} would be all zero by {scheme.name}: its weights are below what the scales of this scheme hold, or"
            " too few are kept"
        )
    if isinstance(scheme.pattern, tuple):
        groups = np.count_nonzero(decoded.reshape(-1, scheme.pattern[1]), axis=1)
        if groups.max() > scheme.pattern[0]:
            raise ValueError(f"{name} has a group of {scheme.pattern[1]} with {groups.max()} values: {scheme.name}")
