"""Masks: which values are kept. True is kept, False is pruned."""

from prunequant.sparsity.masks import channels, gain, joint, keep_largest, magnitude, n_m, parse_pattern, pruned_count
from prunequant.sparsity.select import kth_largest_magnitude
from prunequant.sparsity.two_of_four import prune_2_4

__all__ = [
    "channels",
    "gain",
    "joint",
    "keep_largest",
    "kth_largest_magnitude",
    "magnitude",
    "n_m",
    "parse_pattern",
    "prune_2_4",
    "pruned_count",
]
