"""Rounding that follows the path: quantize and prune a layer while its output error is pulled back at every step.

`compress` runs memoryless rounding, GPFQ/SPFQ and OPTQ as one triangular rounding with any of five operators;
`certificate` bounds the output error from the inputs alone; `theory` and `convex_order` hold the closed forms behind
it. The papers: Zhang and Saab, arXiv 2412.18184, and what it builds on.
"""

from . import _kernels, _kernels_codes, convex_order, theory
from .baselines import sparsegpt
from .certificates import certificate, energy_certificate, influence, sample_bounds
from .coded import Choice, CodedLayer, CodeGrid, round_to_codes
from .convolution import compress_convolution, unfold
from .operators import FiniteGrid, Grid, OneBit, Operator, Prune, PruneThenQuantize
from .result import Result
from .triangle import Prepared, compress, prepare, size_for_sparsity

__all__ = [
    "Choice",
    "CodeGrid",
    "CodedLayer",
    "FiniteGrid",
    "Grid",
    "OneBit",
    "Operator",
    "Prepared",
    "Prune",
    "PruneThenQuantize",
    "Result",
    "certificate",
    "compress",
    "compress_convolution",
    "convex_order",
    "energy_certificate",
    "influence",
    "prepare",
    "round_to_codes",
    "sample_bounds",
    "size_for_sparsity",
    "sparsegpt",
    "theory",
    "unfold",
    "warm",
]


def warm() -> None:
    """Compile the kernels."""
    _kernels.warm()
    _kernels_codes.warm()
