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
import re

import numpy as np
from scipy.optimize import brentq

VALUE_BITS = 16  # FP16, the paper's baseline


def binary_entropy(p):
    """H2(p) in bits, vectorised.

    >>> float(binary_entropy(0.5)), round(float(binary_entropy(0.25)), 4)
    (1.0, 0.8113)
    """
    p = np.asarray(p, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        h = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    return np.where((p <= 0) | (p >= 1), 0.0, h)


def mask_bits(keep: float, mask: str = "bitmap") -> float:
    """Bits a weight of a mask that keeps the share `keep`; 0 when everything is kept.

    >>> mask_bits(0.25, "bitmap"), round(mask_bits(0.25, "entropy"), 4), mask_bits(0.5, "2:4")
    (1.0, 0.8113, 1.0)
    """
    if not 0.0 <= keep <= 1.0:
        raise ValueError(f"keep is {keep}: it must lie in [0, 1]")
    if mask == "free" or keep == 1.0:
        return 0.0
    if mask == "bitmap":
        return 1.0
    if mask == "entropy":
        return float(binary_entropy(keep))
    match = re.fullmatch(r"(\d+):(\d+)", str(mask))
    if not match or not 0 < int(match[1]) < int(match[2]):
        raise ValueError(f'mask is {mask!r}: it must be "free", "bitmap", "entropy" or a pattern such as "2:4"')
    n, m = int(match[1]), int(match[2])
    if abs(keep - n / m) > 1e-12:
        raise ValueError(f"keep is {keep} but the pattern {mask} keeps {n / m}")
    return n * math.ceil(math.log2(m)) / m


def stored_bits(keep: float, value_bits: float = VALUE_BITS, mask: str = "bitmap") -> float:
    """Bits a weight in all: the kept values and the mask.

    >>> stored_bits(0.25, 16, "free"), stored_bits(0.25, 16, "bitmap")
    (4.0, 5.0)
    """
    return keep * value_bits + mask_bits(keep, mask)


def equal_size_keep(bits: float, mask: str = "free", value_bits: float = VALUE_BITS) -> float:
    """Share of weights that pruning may keep to store exactly `bits` bits a weight.

    With "entropy" the solution of keep·value_bits + H2(keep) = bits below bits/value_bits.

    Raises
    ------
    ValueError : the mask alone is larger than the budget, or the budget exceeds the dense size.

    Examples
    --------
    >>> equal_size_keep(4), equal_size_keep(4, "bitmap"), round(equal_size_keep(4, "entropy"), 4)
    (0.25, 0.1875, 0.2043)
    """
    if not 0 < bits < value_bits:
        raise ValueError(f"bits is {bits}: it must be above 0 and below value_bits = {value_bits}")
    if mask == "free":
        return bits / value_bits
    if mask == "bitmap":
        if bits <= 1:
            raise ValueError(f"bits is {bits}: a bitmap alone takes 1 bit a weight")
        return (bits - 1) / value_bits
    if mask == "entropy":
        excess = lambda k: k * value_bits + float(binary_entropy(k)) - bits  # noqa: E731
        return float(brentq(excess, 0.0, bits / value_bits, xtol=1e-15))
    raise ValueError(f'mask is {mask!r}: it must be "free", "bitmap" or "entropy"')


def mask_overhead(bits: int, mask: str = "bitmap", of: str = "compressed") -> float:
    """Size of the mask as a share of the compressed size, or of the dense one (`of="dense"`).

    `bits` is the compressed size without the mask, so that 1 − bits/16 of the weights are pruned.

    >>> mask_overhead(4, of="dense"), mask_overhead(4), mask_overhead(2), round(mask_overhead(4, "entropy"), 3)
    (0.0625, 0.25, 0.5, 0.203)
    """
    if of not in ("compressed", "dense"):
        raise ValueError(f'of is {of!r}: it must be "compressed" or "dense"')
    mask_size = mask_bits(equal_size_keep(bits), mask)
    return mask_size / (bits if of == "compressed" else VALUE_BITS)
