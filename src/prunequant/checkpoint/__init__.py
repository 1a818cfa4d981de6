"""Model files: what is in them, which compression loses less at the bits really stored, and a smaller file of it."""

from prunequant.checkpoint.allocation import Allocation, Pareto, Uniform, allocate, pareto
from prunequant.checkpoint.schemes import Scheme

__all__ = ["Allocation", "Pareto", "Scheme", "Uniform", "allocate", "pareto"]
