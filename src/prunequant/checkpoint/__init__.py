"""Model files: what is in them, which compression loses less at the bits really stored, and a smaller file of it."""

from prunequant.checkpoint.allocation import Allocation, Pareto, Uniform, allocate, pareto
from prunequant.checkpoint.compression import compress
from prunequant.checkpoint.files import ModelFileError
from prunequant.checkpoint.matrices import Matrix, Untreated
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.opening import Model, open_model
from prunequant.checkpoint.outcome import Compressed
from prunequant.checkpoint.reporting import Report, report
from prunequant.checkpoint.schemes import Scheme

__all__ = [
    "Allocation",
    "Compressed",
    "Matrix",
    "Model",
    "ModelFileError",
    "Pareto",
    "Report",
    "Scheme",
    "Settings",
    "Uniform",
    "Untreated",
    "allocate",
    "compress",
    "open_model",
    "pareto",
    "report",
]
