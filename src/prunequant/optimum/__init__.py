"""Exact layerwise optima and certified bounds: quantization as integer least squares, pruning as best subset."""

from . import _kernels, _subsets
from .allocation import allocate
from .bounds import certified_bound, dual_gap_decibel, layer_bound, sdp_bound
from .problem import NODE_LIMIT, Solution
from .prune import best_pruning, magnitude_pruning, obs_pruning, refitted
from .quantize import babai, best_quantization, nearest

__all__ = [
    "NODE_LIMIT",
    "Solution",
    "allocate",
    "babai",
    "best_pruning",
    "best_quantization",
    "certified_bound",
    "dual_gap_decibel",
    "layer_bound",
    "magnitude_pruning",
    "nearest",
    "obs_pruning",
    "refitted",
    "sdp_bound",
    "warm",
]


def warm() -> None:
    """Compile the kernels."""
    _kernels.warm()
    _subsets.warm()
