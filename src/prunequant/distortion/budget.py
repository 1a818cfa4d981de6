"""Which wins at equal size: crossovers of pruning and quantization, and the best split of one budget between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import ArrayLike

from prunequant import arguments

from .accounting import VALUE_BITS, equal_size_keep, mask_bits, mask_pattern
from .grids import check_bits, make_grid
from .laws import GeneralizedNormal, Law
from .snr import check_law, joint, pruning_snr, quantization, quantization_snr
from .student import StudentT

MASKS = ("free", "bitmap", "entropy", "same_nonzeros")


def equal_size_sparsity(law: Law, bits: float, mask: str = "free", grid: str | ArrayLike = "twos_complement") -> float:
    """Sparsity at which pruned 16-bit weights take `bits` bits a weight.

    mask : "free", "bitmap", "entropy" (see `prunequant.distortion.accounting`), or "same_nonzeros": the quantized
    tensor is charged for its non-zero values only, (1 − zeros)·bits/16, and pruning must reach that share, no mask.
    bits : an integer in [2, 15] for "same_nonzeros", else a number in (0, 16) that leaves a share above 1e-16.
    """
    check_law(law)
    if arguments.choice(mask, "mask", MASKS) == "same_nonzeros":
        return 1.0 - (1.0 - quantization(law, check_bits(bits), grid).zeros) * bits / VALUE_BITS
    bits = arguments.real(bits, "bits", 0, VALUE_BITS, open_low=True, open_high=True)
    return _pruned(equal_size_keep(bits, mask), bits, "bits")


def _pruned(keep: float, size: float, name: str) -> float:
    """1 - keep, or an error that names the size which leaves nothing to keep."""
    if 1.0 - keep == 1.0:
        raise ValueError(f"{name} is {size}: it keeps a share of {keep:.3g}, which no float tells from 0")
    return 1.0 - keep


def advantage(law: Law, bits: int, mask: str = "free", grid: str | ArrayLike = "twos_complement") -> float:
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
    """t(nu) on [−T, T], T from 0.1 to `widest`, which lies above 0.1 and at most at 1e8."""
    nu, widest = arguments.real(nu, "nu", 0.1, 1e9), arguments.real(widest, "widest", 0.1, 1e8, open_low=True)
    return Family(f"t({nu:g}) on [-T, T], T varied", lambda clip: StudentT(nu, clip), 0.1, widest)


def student_on(clip: float | None, heaviest: float = 1.0) -> Family:
    """t(nu) on [−clip, clip] (the whole line for None), nu from 200 down to `heaviest` (4.001 on the line).

    clip : in [1e-3, 1e9], or None. heaviest : in [0.2, 200).
    """
    heaviest = arguments.real(heaviest, "heaviest", 0.2, 200, open_high=True)
    clip = None if clip is None else arguments.real(clip, "clip", 1e-3, 1e9)
    if clip is None:
        return Family("t(nu), nu > 4", lambda nu: StudentT(nu), 200.0, max(heaviest, 4.001))
    return Family(f"t(nu) on [-{clip:g}, {clip:g}]", lambda nu: StudentT(nu, clip), 200.0, heaviest)


def generalized_normal(heaviest: float = 0.25) -> Family:
    """exp(−|x|^beta), beta from 8 down to `heaviest`, which lies in [0.15, 8)."""
    heaviest = arguments.real(heaviest, "heaviest", 0.15, 8, open_high=True)
    return Family("generalized normal", GeneralizedNormal, 8.0, heaviest)


def crossover(
    family: Family, bits: int, mask: str = "free", grid: str | ArrayLike = "twos_complement", points: int = 24
) -> Crossover | None:
    """The mildest law of a family for which pruning reaches quantization at equal size, or None.

    Scans `points` parameters (2 … 256) on a logarithmic grid from mild to wild for the first change of sign, then
    Brent's method. The other parameters are those of `advantage`. Each of the points takes the time of
    `quantization`: seconds in all at 7 bits, minutes from 12 on.

    Examples
    --------
    >>> round(crossover(clipped_student(2.0), 2).kurtosis, 2)
    8.87
    >>> crossover(student_on(None), 2) is None
    True
    """
    arguments.instance(family, "family", Family, "a family of laws, such as clipped_student(2.0)")
    points, bits = arguments.integer(points, "points", 2, 256), arguments.integer(bits, "bits", 2, VALUE_BITS - 1)
    arguments.choice(mask, "mask", MASKS)
    make_grid(bits, grid)

    def gain(log_parameter: float) -> float:
        return advantage(family.law(float(np.exp(log_parameter))), bits, mask, grid)

    before, gain_before = None, -1.0
    for at in np.linspace(np.log(family.mild), np.log(family.wild), points):
        here = gain(at)
        if here >= 0:
            if before is None:
                root = at
            else:
                root = scipy.optimize.brentq(gain, before, at, xtol=1e-9) if gain_before < 0 else before
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
    grid: str | ArrayLike = "twos_complement",
) -> list[Split]:
    """Every split of `budget` bits a weight between sparsity and bits, best first.

    For each width b the share kept is the one that fills the budget, keep·b + mask(keep) = budget; b ≤ budget keeps
    all and needs no mask; 16 is pruning alone. A mask of pattern "n:m" fixes the share to n/m: only widths that fit
    the budget are listed. bits : integers in [2, 16], each listed once.

    Examples
    --------
    >>> from prunequant.distortion import Gaussian
    >>> best = splits(Gaussian(), 4)[0]
    >>> best.bits, best.keep
    (4, 1.0)
    """
    check_law(law)
    budget = arguments.real(budget, "budget", 0, VALUE_BITS, open_low=True, open_high=True)
    pattern = mask_pattern(mask)
    arguments.several(bits, "bits", "several widths, such as range(2, 9)")
    widths = [arguments.integer(width, "bits", 2, VALUE_BITS) for width in bits]
    candidates = []
    for width in dict.fromkeys((*widths, VALUE_BITS)):
        if width <= budget:
            keep = 1.0
        elif pattern is not None:
            keep = pattern[0] / pattern[1]
            if keep * width + mask_bits(keep, mask) > budget + 1e-12:
                continue
        else:
            try:
                keep = equal_size_keep(budget, mask, width)
            except ValueError:  # the mask alone is larger than the budget
                continue
        if width == VALUE_BITS:
            sparsity = _pruned(keep, budget, "budget")
            candidates.append(Split(width, keep, pruning_snr(law, sparsity), mask_bits(keep, mask), float("nan")))
        else:
            both = joint(law, _pruned(keep, budget, "budget"), width, grid)
            candidates.append(Split(width, keep, both.snr, mask_bits(keep, mask), both.scale))
    return sorted(candidates, key=lambda split: -split.snr)
