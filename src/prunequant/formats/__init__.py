"""Number formats: integers with a scale, block floating point, microscaling, and what each does to a value."""

from prunequant.formats.base import Encoded, Format
from prunequant.formats.integer import Integer

__all__ = ["Encoded", "Format", "Integer"]
