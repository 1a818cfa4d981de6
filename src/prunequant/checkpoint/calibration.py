"""What a model's matrices see: inputs or their Gram matrices, from an .npz file."""

from __future__ import annotations

import os
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.opening import Model

GRAM = ".gram"


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
        except (OSError, ValueError, AttributeError, TypeError, EOFError, BadZipFile) as error:
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
        ValueError : another shape, or values that are not finite.
        """
        for name in (matrix.name + GRAM, matrix.name):
            if name not in self._names:
                continue
            with np.load(self.path, allow_pickle=False) as archive:
                array = arguments.numbers(archive[name], f"{name} of {self.path.name}").astype(np.float64, copy=False)
            if array.ndim != 2 or array.shape[1] != matrix.columns:
                raise ValueError(
                    f"{name} of {self.path} has shape {array.shape}: its rows must have {matrix.columns} values"
                )
            return array if name.endswith(GRAM) else array.T @ array
        return None
