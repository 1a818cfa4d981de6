"""What is really stored: bits per weight of a mask and of the values it keeps.

The comparison of Kuzmin et al. 2023 sets b-bit quantization against a sparsity of 1 − b/16, the mask not charged.
The mask kinds here:

* ``"free"``: not charged (the paper's convention);
* ``"bitmap"``: one bit a weight;
* ``"entropy"``: H2(keep) bits a weight, the least for a mask of independent entries (an arithmetic coder attains it);
* ``"n:m"``, e.g. ``"2:4"``: n positions of ⌈log2 m⌉ bits in each group of m, as the hardware stores them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant import arguments
from prunequant.sparsity import parse_pattern

from .laws import probabilities

MAX_GROUP = 1024  # the longest m of a pattern n:m
VALUE_BITS = 16  # FP16, the paper's baseline


def binary_entropy(p: ArrayLike) -> NDArray | float:
    """H2(p) in bits for p in [0, 1], vectorised.

    >>> float(binary_entropy(0.5)), round(float(binary_entropy(0.25)), 4)
    (1.0, 0.8113)
    """
    p = probabilities(p, "p")
    with np.errstate(divide="ignore", invalid="ignore"):
        h = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    return np.where((p <= 0) | (p >= 1), 0.0, h)


def mask_bits(keep: float, mask: str = "bitmap") -> float:
    """Bits a weight of a mask that keeps the share `keep`; 0 when everything is kept.

    >>> mask_bits(0.25, "bitmap"), round(mask_bits(0.25, "entropy"), 4), mask_bits(0.5, "2:4")
    (1.0, 0.8113, 1.0)
    """
    keep = arguments.real(keep, "keep", 0, 1)
    pattern = mask_pattern(mask)
    if mask == "free" or keep == 1.0:
        return 0.0
    if mask == "bitmap":
        return 1.0
    if pattern is None:  # "entropy"
        return float(binary_entropy(keep))
    n, m = pattern
    if abs(keep - n / m) > 1e-12:
        raise ValueError(f"keep is {keep} but the pattern {mask} keeps {n / m}")
    return n * math.ceil(math.log2(m)) / m


def mask_pattern(mask: str) -> tuple[int, int] | None:
    """(n, m) of a mask kind "n:m", None for the other kinds; an error for anything else."""
    wanted = f'"free", "bitmap", "entropy" or a pattern such as "2:4" (n below m, m up to {MAX_GROUP})'
    if not isinstance(mask, str):
        raise TypeError(f"mask is {arguments.shown(mask)}: it must be {wanted}")
    if mask in ("free", "bitmap", "entropy"):
        return None
    try:
        pattern = parse_pattern(mask)
    except ValueError:
        pattern = None
    if not isinstance(pattern, tuple) or not 0 < pattern[0] < pattern[1] <= MAX_GROUP:
        raise ValueError(f"mask is {arguments.shown(mask)}: it must be {wanted}")
    return pattern


def stored_bits(keep: float, value_bits: float = VALUE_BITS, mask: str = "bitmap") -> float:
    """Bits a weight in all: the kept values, of up to 64 bits each, and the mask.

    >>> stored_bits(0.25, 16, "free"), stored_bits(0.25, 16, "bitmap")
    (4.0, 5.0)
    """
    keep, value_bits = arguments.real(keep, "keep", 0, 1), arguments.real(value_bits, "value_bits", 0, 64)
    return keep * value_bits + mask_bits(keep, mask)


def equal_size_keep(bits: float, mask: str = "free", value_bits: float = VALUE_BITS) -> float:
    """Share of weights that pruning may keep to store exactly `bits` bits a weight.

    bits : above 0 and below value_bits, which is at most 64. mask : "free", "bitmap" or "entropy".

    With "entropy" the solution of keep·value_bits + H2(keep) = bits below bits/value_bits.

    Raises
    ------
    ValueError : the mask alone is larger than the budget, or the budget exceeds the dense size.

    Examples
    --------
    >>> equal_size_keep(4), equal_size_keep(4, "bitmap"), round(equal_size_keep(4, "entropy"), 4)
    (0.25, 0.1875, 0.2043)
    """
    value_bits = arguments.real(value_bits, "value_bits", 0, 64, open_low=True)
    bits = arguments.real(bits, "bits", 0, value_bits, open_low=True, open_high=True)
    mask = arguments.choice(mask, "mask", ("free", "bitmap", "entropy"))
    if mask == "free":
        return bits / value_bits
    if mask == "bitmap":
        if bits <= 1:
            raise ValueError(f"bits is {bits}: a bitmap alone takes 1 bit a weight")
        return (bits - 1) / value_bits
    return _entropy_coded_keep(bits, value_bits)


def _entropy_coded_keep(bits: float, value_bits: float) -> float:
    """The least root of keep·value_bits + H2(keep) = bits, by Newton's method.

    The left side is concave, so that from below its root every step ends below it again, and the steps only ever go up:
    they end when a step no longer changes the number. Every report asks for some of these: SciPy's optimizers, which
    have a solver too, take longer to load than all else that a report of a small file does.
    """
    keep = bits / value_bits
    while keep * value_bits + float(binary_entropy(keep)) >= bits:
        keep /= 2
    while keep > 0:
        lacking = bits - keep * value_bits - float(binary_entropy(keep))
        further = keep + lacking / (value_bits + math.log2((1 - keep) / keep))
        if not keep < further:
            break
        keep = further
    return keep


def mask_overhead(bits: float, mask: str = "bitmap", of: str = "compressed") -> float:
    """Size of the mask as a share of the compressed size, or of the dense one (`of="dense"`).

    `bits` is the compressed size without the mask, so that 1 − bits/16 of the weights are pruned.

    >>> mask_overhead(4, of="dense"), mask_overhead(4), mask_overhead(2), round(mask_overhead(4, "entropy"), 3)
    (0.0625, 0.25, 0.5, 0.203)
    """
    of = arguments.choice(of, "of", ("compressed", "dense"))
    bits = arguments.real(bits, "bits", 0, VALUE_BITS, open_low=True, open_high=True)
    mask_size = mask_bits(equal_size_keep(bits), mask)
    return mask_size / (bits if of == "compressed" else VALUE_BITS)
