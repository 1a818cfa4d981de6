"""Number formats one value at a time, in exact rational arithmetic: slow, and plain to read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def nearest(t: Fraction, grid: list[Fraction]) -> Fraction:
    """The nearest element of an increasing grid; of two equally near, the one at an even place from zero."""
    zero = grid.index(Fraction(0))
    return min(grid, key=lambda level: (abs(level - t), (grid.index(level) - zero) % 2))


def small_float_grid(exponent_bits: int, mantissa_bits: int, bias: int, largest: float) -> list[Fraction]:
    """All values of a small float, read from its bit patterns."""
    values = set()
    for exponent in range(2**exponent_bits):
        for mantissa in range(2**mantissa_bits):
            if exponent == 0:
                value = Fraction(mantissa, 2**mantissa_bits) * Fraction(2) ** (1 - bias)
            else:
                value = (1 + Fraction(mantissa, 2**mantissa_bits)) * Fraction(2) ** (exponent - bias)
            if value <= Fraction(largest):
                values |= {value, -value}
    return sorted(values)


def floor_log2(a: Fraction) -> int:
    """The largest k with 2^k <= a."""
    k = 0
    while Fraction(2) ** (k + 1) <= a:
        k += 1
    while Fraction(2) ** k > a:
        k -= 1
    return k


def mx(block: list[float], grid: list[Fraction], rule: str = "floor") -> list[float]:
    """One block of a microscaling format with the given element values."""
    exact = [Fraction(v) for v in block]
    largest, top = max(abs(v) for v in exact), grid[-1]
    if largest == 0:
        return [0.0] * len(block)
    k = floor_log2(largest) - floor_log2(top)
    if rule == "rceil" and largest > top * Fraction(2) ** k:
        k += 1
    scale = Fraction(2) ** min(max(k, -127), 127)
    return [float(nearest(v / scale, grid) * scale) for v in exact]


def hbfp(block: list[float], bits: int) -> list[float]:
    """One block of block floating point."""
    exact = [Fraction(v) for v in block]
    largest = max(abs(v) for v in exact)
    if largest == 0:
        return [0.0] * len(block)
    e = floor_log2(largest)
    e += largest > Fraction(2) ** e
    scale = Fraction(2) ** (e - bits + 1)
    top = 2 ** (bits - 1) - 1
    return [float(nearest(v / scale, [Fraction(i) for i in range(-top, top + 1)]) * scale) for v in exact]


def integer(block: list[float], bits: int, grid: str, dtype: type) -> list:
    """One block of integers with a scale, in Python's own order of operations and the given float type."""
    top = 2 ** (bits - 1)
    x = [dtype(v) for v in block]
    least, most = min(0, *x), max(0, *x)
    largest = max(most, -least)
    zero = 0
    if largest == 0:
        return [dtype(0)] * len(x)
    if grid == "narrow":
        scale, low, high = largest / dtype(top - 1), 1 - top, top - 1
    elif grid == "twos_complement":
        scale, low, high = largest / dtype(top - 0.5), -top, top - 1
    elif grid == "zero_point":
        scale = (dtype(most) - dtype(least)) / dtype(2 * top - 1)
        zero, low, high = round(float(-least / scale)), 0, 2 * top - 1
    else:
        if least < 0:
            scale = (largest + largest) / dtype(2 * top - 1)
        else:
            scale = largest / dtype(2 * top - 1)
        zero, low, high = top, 0, 2 * top - 1
    codes = [min(max(round(float(v / scale)) + zero, low), high) for v in x]
    return [scale * dtype(code - zero) for code in codes]


def nvfp4(x: np.ndarray, block: int = 16) -> np.ndarray:
    """A float32 matrix in NVFP4, its two roundings by searching the grids."""
    e2m1 = [float(v) for v in small_float_grid(2, 1, 1, 6.0)]
    e4m3 = small_float_grid(4, 3, 7, 448.0)
    whole = np.float32(np.abs(x).max()) / np.float32(2688)
    out = np.zeros_like(x)
    for row in range(x.shape[0]):
        for start in range(0, x.shape[1], block):
            part = x[row, start : start + block]
            ratio = (np.abs(part).max() / np.float32(6)) / whole
            scale = np.float32(float(nearest(Fraction(float(ratio)), e4m3))) * whole
            for i, v in enumerate(part):
                if scale > 0:
                    t = Fraction(float(v / scale))
                    out[row, start + i] = np.float32(float(nearest(t, [Fraction(g) for g in e2m1]))) * scale
    return out


def nf4(block: list[float], levels: list[float]) -> list:
    """One block of float32: each value over the largest magnitude to the nearest level, halfway to the lower one."""
    x = [np.float32(v) for v in block]
    largest = max(abs(v) for v in x) or np.float32(1)
    grid = [Fraction(float(level)) for level in levels]
    near = (min(grid, key=lambda level: (abs(level - Fraction(float(v / largest))), level)) for v in x)
    return [np.float32(float(level)) * largest for level in near]


def _mx_grid(fmt) -> list[Fraction]:
    if fmt.element == "int8":
        return [Fraction(i, 64) for i in range(-127, 128)]
    largest = {"fp4_e2m1": 6.0, "fp6_e2m3": 7.5, "fp6_e3m2": 28.0, "fp8_e4m3": 448.0, "fp8_e5m2": 57344.0}[fmt.element]
    exponent, mantissa = int(fmt.element[-3]), int(fmt.element[-1])
    return small_float_grid(exponent, mantissa, 2 ** (exponent - 1) - 1, largest)


# One block of each family of formats, by the name of its class.
BLOCK = {
    "Integer": lambda block, fmt: integer(block, fmt.bits, fmt.grid, np.float32),
    "HBFP": lambda block, fmt: hbfp([float(v) for v in block], fmt.bits),
    "MX": lambda block, fmt: mx([float(v) for v in block], _mx_grid(fmt), fmt.scale_rule),
    "NF4": lambda block, fmt: nf4(block, fmt.levels.astype(np.float32)),
}


def matrix(x: np.ndarray, fmt) -> np.ndarray:
    """A float32 matrix in a format with blocks of so many values, by the twin of its family."""
    if type(fmt).__name__ == "NVFP4":  # the one whose blocks look at the whole matrix
        return nvfp4(x, fmt.block)
    out, size = np.zeros_like(x), fmt.block_size
    for row in range(x.shape[0]):
        for start in range(0, x.shape[1], size):
            out[row, start : start + size] = BLOCK[type(fmt).__name__](x[row, start : start + size], fmt)
    return out
