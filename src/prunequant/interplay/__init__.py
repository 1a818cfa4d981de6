"""The interplay of pruning and quantization: their order, the theorems about it, and where those stop to hold."""

from prunequant.interplay.levels import DotProducts, Levels, decompose, dot_products
from prunequant.interplay.orders import Comparison, Orders, apply_orders, compare
from prunequant.interplay.search import Counterexample, counterexample
from prunequant.interplay.theory import Hypotheses, excess_bound, hypotheses, pythagorean
from prunequant.interplay.thresholds import Threshold, threshold

__all__ = [
    "Comparison",
    "Counterexample",
    "DotProducts",
    "Hypotheses",
    "Levels",
    "Orders",
    "Threshold",
    "apply_orders",
    "compare",
    "counterexample",
    "decompose",
    "dot_products",
    "excess_bound",
    "hypotheses",
    "pythagorean",
    "threshold",
]
