"""Model files: what is in them, which compression loses less at the bits really stored, and a smaller file of it."""

from prunequant.checkpoint.allocation import Allocation, Pareto, Uniform, allocate, pareto
from prunequant.checkpoint.files import ModelFileError
from prunequant.checkpoint.matrices import Matrix, Untreated
from prunequant.checkpoint.opening import Model, open_model
from prunequant.checkpoint.reporting import Report, report
from prunequant.checkpoint.schemes import Scheme

__all__ = [
    "Allocation",
    "Matrix",
    "Model",
    "ModelFileError",
    "Pareto",
    "Report",
    "Scheme",
    "Uniform",
    "Untreated",
    "allocate",
    "open_model",
    "pareto",
    "report",
]
