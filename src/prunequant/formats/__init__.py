"""Number formats: integers with a scale, block floating point, microscaling, and what each does to a value."""

from prunequant.formats.base import Encoded, Format
from prunequant.formats.elements import ELEMENTS, Element
from prunequant.formats.integer import Integer
from prunequant.formats.nf4 import NF4
from prunequant.formats.nvfp4 import NVFP4
from prunequant.formats.power import HBFP, MX
from prunequant.formats.snr import integer_snr, integer_squared_errors
from prunequant.formats.storage import pack, unpack

__all__ = [
    "ELEMENTS",
    "HBFP",
    "MX",
    "NF4",
    "NVFP4",
    "Element",
    "Encoded",
    "Format",
    "Integer",
    "integer_snr",
    "integer_squared_errors",
    "pack",
    "unpack",
]
