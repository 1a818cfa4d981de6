"""Small floating-point numbers: the elements of the microscaling formats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments
from prunequant.formats.base import ROUNDINGS, as_values, check_codes, check_seed, round_units


@dataclass(frozen=True)
class Element:
    """A sign, `exponent_bits` and `mantissa_bits`; or, with no exponent bits, an integer in units of 2**-mantissa_bits.

    Casts saturate at `largest`; subnormal numbers are kept. Source: OCP Microscaling Formats specification 1.0, §5.3.

    Parameters
    ----------
    exponent_bits, mantissa_bits : from 0, together at most 7.
    bias : -64 to 64, taken off the exponent field.
    largest : the largest number of the format, positive and below 2**127.

    >>> ELEMENTS["fp4_e2m1"].levels[7:]
    array([0. , 0.5, 1. , 1.5, 2. , 3. , 4. , 6. ])
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    largest: float

    def __post_init__(self) -> None:
        for name, low, high in (("exponent_bits", 0, 7), ("mantissa_bits", 0, 7), ("bias", -64, 64)):
            object.__setattr__(self, name, arguments.integer(getattr(self, name), name, low, high))
        if self.exponent_bits + self.mantissa_bits > 7:
            raise ValueError(
                f"exponent_bits is {self.exponent_bits} and mantissa_bits is {self.mantissa_bits}: "
                "together they must be at most 7, a byte with the sign"
            )
        largest = arguments.real(self.largest, "largest", 0, 2.0**127, open_low=True, open_high=True)
        object.__setattr__(self, "largest", largest)

    @property
    def bits(self) -> int:
        return 8 if self.integer else 1 + self.exponent_bits + self.mantissa_bits

    @property
    def integer(self) -> bool:
        return self.exponent_bits == 0

    @property
    def least_exponent(self) -> int:
        """Exponent of the smallest normal number, which is also the one all subnormal numbers are scaled with."""
        return 0 if self.integer else 1 - self.bias

    @property
    def largest_exponent(self) -> int:
        return int(np.frexp(self.largest)[1]) - 1

    @cached_property
    def magnitudes(self) -> NDArray[np.float64]:
        """Non-negative values in the order of their bit patterns, which is increasing."""
        if self.integer:
            return np.arange(128, dtype=np.float64) * 2.0**-self.mantissa_bits
        code = np.arange(2 ** (self.bits - 1))
        exponent, mantissa = code >> self.mantissa_bits, code & (2**self.mantissa_bits - 1)
        fraction = mantissa * 2.0**-self.mantissa_bits + (exponent > 0)
        values = np.ldexp(fraction, np.maximum(exponent, 1) - self.bias)
        return values[values <= self.largest]

    @property
    def levels(self) -> NDArray[np.float64]:
        return np.concatenate([-self.magnitudes[:0:-1], self.magnitudes])

    def round(self, t: NDArray, rounding: str = "even", seed: int = 0) -> NDArray:
        """t on the grid of this element: to nearest with ties to even mantissas, or stochastically; saturating."""
        t = as_values(t, "t")
        arguments.choice(rounding, "rounding", ROUNDINGS)
        seed = check_seed(seed)
        exponent = np.maximum(np.frexp(t)[1] - 1, self.least_exponent)
        if self.integer:
            exponent = np.zeros_like(exponent)
        step = np.ldexp(t.dtype.type(1), exponent - self.mantissa_bits)
        values = np.clip(round_units(t / step, rounding, seed) * step, -self.largest, self.largest)
        return values + 0 if self.integer else values  # integers have one zero, floats keep its sign

    def to_codes(self, values: NDArray) -> NDArray[np.uint8]:
        """Bit patterns of values that lie on the grid; integers as two's complement.

        Raises
        ------
        ValueError : a value that is no level.
        """
        values = as_values(values, "values")
        index = np.searchsorted(self.magnitudes, np.abs(values))
        if np.any(self.magnitudes[np.minimum(index, self.magnitudes.size - 1)] != np.abs(values)):
            raise ValueError("values holds numbers that are no levels of this element: round them first")
        if self.integer:
            return np.where(values < 0, -index, index).astype(np.int8).view(np.uint8)
        return (index | (np.signbit(values).astype(np.int64) << (self.bits - 1))).astype(np.uint8)

    def from_codes(self, codes: NDArray[np.uint8], dtype: np.dtype) -> NDArray:
        """Values of bit patterns.

        Raises
        ------
        ValueError : a code that is no bit pattern of this element, or one that stands for no number.
        """
        try:
            dtype = np.dtype(dtype)
        except TypeError as error:
            raise TypeError(f"dtype is {arguments.shown(dtype)}: it must be a NumPy dtype ({error})") from None
        codes = check_codes(arguments.integers(codes, "codes"), 0, 2**self.bits - 1).astype(np.uint8)
        if self.integer:
            return (codes.view(np.int8) * 2.0**-self.mantissa_bits).astype(dtype)
        sign = 1 << (self.bits - 1)
        check_codes(codes & (sign - 1), 0, self.magnitudes.size - 1)
        values = self.magnitudes[codes & (sign - 1)]
        return np.where(codes & sign, -values, values).astype(dtype)


ELEMENTS = {
    "fp4_e2m1": Element(2, 1, 1, 6.0),
    "fp6_e2m3": Element(2, 3, 1, 7.5),
    "fp6_e3m2": Element(3, 2, 3, 28.0),
    "fp8_e4m3": Element(4, 3, 7, 448.0),
    "fp8_e5m2": Element(5, 2, 15, 57344.0),
    "int8": Element(0, 6, 0, 127 / 64),
}
