"""Model files: what is in them, which compression loses less at the bits really stored, and a smaller file of it."""

from prunequant.checkpoint.files import ModelFileError
from prunequant.checkpoint.matrices import Matrix, Untreated
from prunequant.checkpoint.opening import Model, open_model
from prunequant.checkpoint.schemes import Scheme

__all__ = ["Matrix", "Model", "ModelFileError", "Scheme", "Untreated", "open_model"]
