"""What a model's matrices see: inputs or their Gram matrices, from an .npz file."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments, records
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.opening import Model
from prunequant.checkpoint.streams import ZIP_ERRORS

GRAM = ".gram"
ROUNDING = 1e-3  # of the largest sum of squares: what sums in narrow floats may be off by


def write_inputs(path: str | os.PathLike, arrays: Mapping[str, NDArray]) -> None:
    """Write inputs, or Gram matrices, as the .npz file that `Calibration` reads: whole, or not at all.

    Parameters
    ----------
    path : of the file, under this name, whatever its suffix
    arrays : by NAME or NAME.gram, as `Calibration` takes them: integers or floats of any width. A dtype that is not
        NumPy's own, such as bfloat16, is written as float32, because a .npz file forgets it.

    Raises
    ------
    TypeError, ValueError : names that are no texts, arrays that hold no real numbers or NaN or infinity.
    OSError : the file could not be written; what was there before is untouched.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "grams.npz"
    >>> write_inputs(path, {"layer.weight.gram": np.eye(2)})
    >>> np.load(path)["layer.weight.gram"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    arguments.instance(arrays, "arrays", Mapping, "arrays by their names")
    named: dict[str, NDArray] = {}
    for name, array in arrays.items():
        arguments.instance(name, "a name among arrays", str, "a string")
        numbers = arguments.numbers(array, f"array {name}")
        named[name] = numbers.astype(np.float32) if numbers.dtype.kind == "V" else numbers
    with records.beside(path) as place, place.open("wb") as out:
        np.savez(out, **named)  # type: ignore[arg-type]  # numbers alone: nothing is pickled


class Calibration:
    """An .npz file with an array for a matrix: NAME, its inputs (samples, columns), or NAME.gram, (columns, columns).

    Raises
    ------
    ValueError : no .npz file, or arrays that belong to no matrix of the model, or of another width.
    """

    def __init__(self, path: str | os.PathLike, model: Model) -> None:
        self.path = arguments.path(path, "calibrate", file=True)
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                self._names = set(archive.files)
        except ZIP_ERRORS as error:
            raise ValueError(f"calibrate is {self.path}: it is no .npz file that can be read ({error})") from None
        known = {m.name for m in model.matrices}
        strange = [name for name in self._names if name.removesuffix(GRAM) not in known]
        if strange:
            raise ValueError(
                f"{self.path} has arrays for {', '.join(sorted(strange)[:8])}: the model has no such matrix"
            )

    def gram(self, matrix: Matrix) -> NDArray[np.float64] | None:
        """(columns, columns), or None where the file has nothing for the matrix.

        Raises
        ------
        ValueError : damaged; another shape, values that are not finite, a Gram matrix that cannot be one.
        """
        for name in (matrix.name + GRAM, matrix.name):
            if name not in self._names:
                continue
            where = f"{self.path}: array {name}"
            try:
                with np.load(self.path, allow_pickle=False) as archive:
                    array = archive[name]
            except ZIP_ERRORS as error:
                raise ValueError(f"{where} cannot be read ({error})") from None
            array = arguments.numbers(array, where).astype(np.float64, copy=False)
            if array.ndim != 2 or array.shape[1] != matrix.columns:
                raise ValueError(f"{where} has shape {array.shape}: its rows must have {matrix.columns} values")
            if not name.endswith(GRAM):
                return _products(array, where)
            if why := _no_gram(array):
                raise ValueError(f"{where} is no Gram matrix: {why}")
            return array
        return None


def _products(inputs: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Σ v vᵀ of inputs, (columns, columns)."""
    with np.errstate(over="ignore", invalid="ignore"):
        gram = inputs.T @ inputs
    if not np.all(np.isfinite(gram)):
        raise ValueError(f"{where} holds values up to {np.abs(inputs).max():.3g}, whose squares float64 does not hold")
    return gram


def _no_gram(gram: NDArray[np.float64]) -> str:
    """Why a matrix is none of inputs; empty when it may be one."""
    if len(gram) != gram.shape[1]:
        return f"it has shape {gram.shape}, and is not square"
    sizes = np.diagonal(gram)
    if sizes.min(initial=0) < 0:
        return f"{sizes.min():.3g} stands on its diagonal, where sums of squares do"
    # |Σ v w|² ≤ Σ v² Σ w², up to the rounding of sums in float32
    away = np.abs(gram - gram.T).max(initial=0)
    if away > ROUNDING * sizes.max(initial=0):
        return f"it is not symmetric, by {away:.3g}"
    roots = np.sqrt(sizes)  # of each, whose product neither overflows nor underflows
    bound = np.outer(roots, roots)
    if np.any(np.abs(gram) > bound + ROUNDING * sizes.max(initial=0)):
        return "a product of two inputs exceeds both of their squares"
    return ""
