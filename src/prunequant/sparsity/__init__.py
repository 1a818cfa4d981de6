"""Masks: which values are kept. True is kept, False is pruned."""

from prunequant.sparsity.masks import channels, joint, keep_largest, magnitude, n_m, parse_pattern

__all__ = ["channels", "joint", "keep_largest", "magnitude", "n_m", "parse_pattern"]
