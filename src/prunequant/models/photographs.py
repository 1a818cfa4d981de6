"""scikit-learn's two photographs, the only images of the world that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunequant.extras import need


def load() -> dict[str, NDArray[np.uint8]]:
    """The two, by name: "china" (a temple) and "flower", each (427, 640, 3).

    Raises
    ------
    prunequant.extras.MissingExtra : scikit-learn or Pillow is not installed

    Examples
    --------
    >>> {name: image.shape for name, image in load().items()}
    {'china': (427, 640, 3), 'flower': (427, 640, 3)}
    """
    need("sklearn")
    need("PIL")
    from sklearn.datasets import load_sample_images

    data = load_sample_images()
    return {Path(name).stem: image for name, image in zip(data.filenames, data.images)}
