"""Reading files of our own layout by their description and their bytes alone."""

import numpy as np
from safetensors import safe_open

from prunequant.checkpoint.layout import restore
from prunequant.checkpoint.outcome import read_document
from prunequant.checkpoint.schemes import Scheme


def read_back(path, name, symmetric=True):
    """A matrix of our own layout, by its description and its bytes alone."""
    with safe_open(path, "np") as file:
        said = read_document(file.metadata()["prunequant"])
        words = said["matrices"][name]
        scheme = Scheme.named(words["scheme"])
        return restore(
            name,
            scheme,
            words["rows"],
            words["columns"],
            lambda t: file.get_tensor(t).reshape(-1).view(np.uint8),
            symmetric,
        )
