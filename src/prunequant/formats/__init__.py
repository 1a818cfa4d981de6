"""Number formats: integers with a scale, block floating point, microscaling, and what each does to a value.

`TABLE` holds every format that this project speaks of, under the one name that it has everywhere; `named` looks it up.
"""

from collections.abc import Mapping
from types import MappingProxyType

from prunequant import arguments
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
    "TABLE",
    "Element",
    "Encoded",
    "Format",
    "Integer",
    "integer_snr",
    "integer_squared_errors",
    "named",
    "names",
    "pack",
    "unpack",
]

TABLE: Mapping[str, Format] = MappingProxyType(
    {
        "INT3": Integer(3, granularity="row"),
        "INT4": Integer(4, granularity="row"),
        "INT8": Integer(8, granularity="row"),
        "INT3 two's complement": Integer(3, "twos_complement", "row"),
        "INT4 two's complement": Integer(4, "twos_complement", "row"),
        "INT4 zero-point": Integer(4, "zero_point", "row"),
        "INT4 gptq": Integer(4, "gptq", "row"),
        "HBFP4": HBFP(4),
        "HBFP6": HBFP(6),
        "HBFP8": HBFP(8),
        "MXFP4": MX("fp4_e2m1"),
        "MXFP6": MX("fp6_e2m3"),
        "MXFP6 E3M2": MX("fp6_e3m2"),
        "MXFP8": MX("fp8_e4m3"),
        "MXFP8 E5M2": MX("fp8_e5m2"),
        "MXINT8": MX("int8"),
        "NVFP4": NVFP4(),
        "NF4": NF4(),
    }
)
# The same formats with a default spelled out, for a list in which it is the difference.
_IN_FULL = {
    "INT3 narrow": "INT3",
    "INT4 narrow": "INT4",
    "INT4 row": "INT4",
    "INT8 row": "INT8",
    "MXFP4 E2M1": "MXFP4",
    "MXFP6 E2M3": "MXFP6",
    "MXFP8 E4M3": "MXFP8",
}


def names() -> tuple[str, ...]:
    """The names of all formats, in the order of `TABLE`.

    >>> names()[:3]
    ('INT3', 'INT4', 'INT8')
    """
    return tuple(TABLE)


def named(name: str, block: int | None = None) -> Format:
    """The format of a name, everywhere the same.

    Parameters
    ----------
    name : one of `names()`; or the same with a default spelled out ("INT4 narrow", "INT4 row", "MXFP4 E2M1",
        "MXFP6 E2M3", "MXFP8 E4M3").
    block : values that share a scale, 1 to 2**31; None for the format's own: the row for integers, 64 for HBFP and NF4,
        32 for MX, 16 for NVFP4.

    Raises
    ------
    TypeError : a name that is no string, a block that is no integer.
    ValueError : no such name, or a block out of range.

    Examples
    --------
    >>> named("MXFP4")
    MX(element='fp4_e2m1', block=32, scale_rule='floor')
    >>> named("INT4", block=64).bits_per_value()
    4.5
    """
    known = _IN_FULL.get(name, name) if isinstance(name, str) else name
    fmt = TABLE[arguments.choice(known, "name", TABLE)]
    return fmt if block is None else fmt.with_block(block)
