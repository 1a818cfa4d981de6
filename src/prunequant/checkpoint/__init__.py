"""Model files: what is in them, which compression loses less at the bits really stored, and a smaller file of it."""

from prunequant.checkpoint.schemes import Scheme

__all__ = ["Scheme"]
