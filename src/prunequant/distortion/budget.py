"""Which wins at equal size: crossovers of pruning and quantization, and the best split of one budget between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from .accounting import VALUE_BITS, equal_size_keep, mask_bits
from .laws import GeneralizedNormal, Law
from .snr import check_law, joint, pruning_snr, quantization, quantization_snr
from .student import StudentT

MASKS = ("free", "bitmap", "entropy", "same_nonzeros")


def equal_size_sparsity(law: Law, bits: int, mask: str = "free", grid="twos_complement") -> float:
    """Sparsity at which pruned 16-bit weights take `bits` bits a weight.

    mask : "free", "bitmap", "entropy" (see `prunequant.distortion.accounting`), or "same_nonzeros": the quantized
    tensor is charged for its non-zero values only, (1 − zeros)·bits/16, and pruning must reach that share, no mask.
    """
    if mask == "same_nonzeros":
        return 1.0 - (1.0 - quantization(law, bits, grid).zeros) * bits / VALUE_BITS
    if mask not in MASKS:
        raise ValueError(f"mask is {mask!r}: it must be one of {MASKS}")
    return 1.0 - equal_size_keep(bits, mask)


def advantage(law: Law, bits: int, mask: str = "free", grid="twos_complement") -> float:
    """SNR of pruning minus SNR of quantization at equal size, in dB: positive where pruning wins.

    >>> from prunequant.distortion import Gaussian
    >>> round(advantage(Gaussian(), 4), 2)
    -13.67
    """
    return pruning_snr(law, equal_size_sparsity(law, bits, mask, grid)) - quantization_snr(law, bits, grid)


@dataclass(frozen=True)
class Crossover:
    """Where pruning starts to win in a family of laws ordered by kurtosis."""

    parameter: float
    kurtosis: float
    snr: float


@dataclass(frozen=True)
class Family:
    """A one-parameter family of laws whose kurtosis rises from parameter `mild` to `wild`."""

    name: str
    law: Callable[[float], Law]
    mild: float
    wild: float


def clipped_student(nu: float, widest: float = 1e6) -> Family:
    """t(nu) on [−T, T], T from 0.1 to `widest`."""
    return Family(f"t({nu:g}) on [-T, T], T varied", lambda clip: StudentT(nu, clip), 0.1, widest)


def student_on(clip: float | None, heaviest: float = 1.0) -> Family:
    """t(nu) on [−clip, clip] (the whole line for None), nu from 200 down to `heaviest` (4.001 on the line)."""
    if clip is None:
        return Family("t(nu), nu > 4", lambda nu: StudentT(nu), 200.0, max(heaviest, 4.001))
    return Family(f"t(nu) on [-{clip:g}, {clip:g}]", lambda nu: StudentT(nu, clip), 200.0, heaviest)


def generalized_normal(heaviest: float = 0.25) -> Family:
    """exp(−|x|^beta), beta from 8 down to `heaviest`."""
    return Family("generalized normal", GeneralizedNormal, 8.0, heaviest)


def crossover(
    family: Family, bits: int, mask: str = "free", grid="twos_complement", points: int = 24
) -> Crossover | None:
    """The mildest law of a family for which pruning reaches quantization at equal size, or None.

    Scans `points` parameters on a logarithmic grid from mild to wild for the first change of sign, then Brent's method.

    Examples
    --------
    >>> round(crossover(clipped_student(2.0), 2).kurtosis, 2)
    8.87
    >>> crossover(student_on(None), 2) is None
    True
    """
    if points < 2:
        raise ValueError(f"points is {points}: at least 2 are needed")

    def gain(log_parameter: float) -> float:
        return advantage(family.law(float(np.exp(log_parameter))), bits, mask, grid)

    before, gain_before = None, -1.0
    for at in np.linspace(np.log(family.mild), np.log(family.wild), points):
        here = gain(at)
        if here >= 0:
            if before is None:
                root = at
            else:
                root = brentq(gain, before, at, xtol=1e-9) if gain_before < 0 else before
            law = family.law(float(np.exp(root)))
            return Crossover(float(np.exp(root)), law.kurtosis, quantization_snr(law, bits, grid))
        before, gain_before = at, here
    return None


@dataclass(frozen=True)
class Split:
    """One way to spend a budget: keep a share of the weights at `bits` bits each (16: not quantized), mask charged."""

    bits: int
    keep: float
    snr: float
    mask_bits: float
    scale: float


def splits(
    law: Law,
    budget: float,
    mask: str = "entropy",
    bits: Iterable[int] = range(2, 9),
    grid="twos_complement",
) -> list[Split]:
    """Every split of `budget` bits a weight between sparsity and bits, best first.

    For each width b the share kept is the one that fills the budget, keep·b + mask(keep) = budget; b ≤ budget keeps
    all and needs no mask; 16 is pruning alone. A mask of pattern "n:m" fixes the share to n/m: only widths that fit
    the budget are listed.

    Examples
    --------
    >>> from prunequant.distortion import Gaussian
    >>> best = splits(Gaussian(), 4)[0]
    >>> best.bits, best.keep
    (4, 1.0)
    """
    check_law(law)
    if not 0 < budget < VALUE_BITS:
        raise ValueError(f"budget is {budget}: it must be above 0 and below {VALUE_BITS} bits a weight")
    found = []
    for width in (*bits, VALUE_BITS):
        if width <= budget:
            keep = 1.0
        elif ":" in mask:
            n, m = map(int, mask.split(":"))
            keep = n / m
            if keep * width + mask_bits(keep, mask) > budget + 1e-12:
                continue
        else:
            try:
                keep = equal_size_keep(budget, mask, width)
            except ValueError:  # the mask alone is larger than the budget
                continue
        if width == VALUE_BITS:
            found.append(Split(width, keep, pruning_snr(law, 1 - keep), mask_bits(keep, mask), float("nan")))
        else:
            both = joint(law, 1 - keep, width, grid)
            found.append(Split(width, keep, both.snr, mask_bits(keep, mask), both.scale))
    return sorted(found, key=lambda split: -split.snr)
