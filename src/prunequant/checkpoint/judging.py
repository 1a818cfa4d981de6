"""What one matrix loses under every scheme, measured at the bits that are really stored.

Two readings, block by block of rows, so that memory does not depend on the matrix:

1. a histogram of the upper halves of all bit patterns, with exact sums inside each bin: from it the largest magnitude,
   the zeros, the kurtosis, what pruning to any share loses (the boundary bin taken in proportion), and the one scale of
   a whole tensor;
2. every block of rows under every scheme, while it is in cache.

The signal-to-noise ratio of a scheme is 10 log10(Σ x² / Σ (x − y)²) over the whole matrix, in dB. How scales are
searched is said at `schemes.CANDIDATES`. All of it is computed in units of a power of two near the largest magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunequant import arguments, formats
from prunequant.checkpoint import _kernels
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.schemes import CANDIDATES, WORSE, Scheme
from prunequant.distortion import best_scale, equal_size_keep
from prunequant.sparsity import pruned_count

Spread = Callable[..., Iterable[Any]]  # `map`, or that of an executor

WIDTHS = (2, 3, 4, 8)
FORMATS = ("MXFP4", "MXFP6", "MXFP8", "NVFP4", "NF4")
SHARES = (0.5, 0.75, 0.875)  # pruned to FP16 whatever the budget
MASKS = ("bitmap", "free", "entropy")
BUDGETS = (2.25, 3.25, 4.25, 8.25)
SCALES = ("searched", "exact")
FAMILIES = ("quantization", "pruning", "both")
BLOCK = 1 << 16  # values that are read and measured at a time, at least one row
# Scales that half precision holds with all its digits: what is smaller is raised to the first, as `coding` does when it
# stores them; a scheme that needs a larger one than the second is none for the matrix.
HALF_RANGE = (2.0**-14, 65504.0)
_NEIGHBOURS = {(2, 4): _kernels.prune_2_of_4, (4, 8): _kernels.prune_4_of_8}
_FINER = 32  # scales of a whole tensor to an octave, tried on its histogram
_OCTAVES = 10


class NotFinite(ValueError):
    """A matrix holds NaN or infinity; the message names the first place."""


@dataclass(frozen=True)
class Settings:
    """What is asked of every matrix; made by `Settings.checked`."""

    budgets: tuple[float, ...] = BUDGETS
    group: int = 128
    mask: str = "bitmap"
    entropy: bool = False
    scales: str = "searched"

    @staticmethod
    def checked(budgets: Sequence[float], group: int, mask: str, entropy: bool, scales: str) -> Settings:
        """The settings, each refused by name where it is none."""
        numbers = tuple(
            arguments.real(b, f"budgets[{i}]", 0, 16, open_low=True, open_high=True)
            for i, b in enumerate(arguments.several(budgets, "budgets", "a sequence of bits a weight"))
        )
        if not numbers:
            raise ValueError("budgets is empty: give at least one, in bits a weight, such as 4.25")
        return Settings(
            tuple(sorted(set(numbers))),
            arguments.integer(group, "group", 2, 1 << 20),
            arguments.choice(mask, "mask", MASKS),
            arguments.flag(entropy, "entropy"),
            arguments.choice(scales, "scales", SCALES),
        )

    @property
    def schemes(self) -> tuple[str, ...]:
        """The names of all schemes that are judged."""
        group = f"g{self.group}"
        integers = [f"INT{b} {g}" for b in WIDTHS for g in ("tensor", "channel", group)]
        shares = [f"{100 * share:g}% FP16" for share in SHARES]
        both = [f"{p} INT4 {g}" for p in ("2:4", "50%") for g in ("channel", group)]
        return (*integers, *FORMATS, "2:4 FP16", "4:8 FP16", *shares, *both)


@dataclass(frozen=True)
class Loss:
    """A scheme, the bits that it stores for a weight, and its signal-to-noise ratio in dB, infinite if lossless."""

    name: str
    bits_per_weight: float
    snr: float

    @property
    def family(self) -> str:
        """ "quantization", "pruning" or "both"."""
        scheme = Scheme.named(self.name)
        if scheme.pattern is None:
            return "quantization"
        return "pruning" if scheme.format == "FP16" else "both"


@dataclass(frozen=True)
class Pruning:
    """Pruning to 16-bit values at so many bits a weight, the mask charged as said; share_kept of the weights stay."""

    mask: str
    bits_per_weight: float
    share_kept: float
    snr: float


@dataclass(frozen=True)
class Choice:
    """The best of each family at a budget, None where none fits; margin = quantization − pruning in dB."""

    bits: float
    quantization: Loss | None
    pruning: Loss | None
    both: Loss | None

    @property
    def winner(self) -> str | None:
        """The family with the highest signal-to-noise ratio; of equals the first, None where nothing fits."""
        there = [(getattr(self, f).snr, -i, f) for i, f in enumerate(FAMILIES) if getattr(self, f) is not None]
        return max(there)[2] if there else None

    @property
    def margin(self) -> float | None:
        """dB that quantization is ahead of pruning; None where one of them is missing, or loses nothing."""
        if self.quantization is None or self.pruning is None:
            return None
        return _finite(self.quantization.snr - self.pruning.snr)


@dataclass(frozen=True)
class Order:
    """2:4 and 4-bit integers, one scale a row, in every order: dB each.

    prune_first : then quantized; quantize_first : then pruned, ties among equal integers by place; by_weights : ties by
    the stored weights; joint : what saves the most error stays. zeros : of the integers, unpruned.
    """

    prune_first: float
    quantize_first: float
    by_weights: float
    joint: float
    zeros: int

    @property
    def better(self) -> str:
        """Which of pruning first and quantizing first loses less."""
        return "prune first" if self.prune_first >= self.quantize_first else "quantize first"

    @property
    def cost(self) -> float | None:
        """dB that the other order loses beside the better one; None where one of them loses nothing."""
        return _finite(abs(self.prune_first - self.quantize_first))


@dataclass(frozen=True)
class Coded:
    """Integers entropy-coded, and pruning with an entropy-coded mask at the same bits a weight."""

    name: str
    bits_per_weight: float
    snr: float
    share_kept: float | None
    pruning: float | None


@dataclass(frozen=True)
class Judged:
    """What a report knows of one matrix. power : Σ x², so that a loss in dB is an error again."""

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str
    rows: int
    columns: int
    experts: int
    stored_bytes: int
    aliases: tuple[str, ...]
    parts: tuple[str, ...]
    largest: float
    power: float
    kurtosis: float | None
    zeros: int
    schemes: tuple[Loss, ...]
    pruning: tuple[Pruning, ...]
    budgets: tuple[Choice, ...]
    order: Order | None = None
    entropy: tuple[Coded, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        return self.rows * self.columns


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def decibels(power: float, error: float) -> float:
    """10 log10(power / error); infinite where nothing is lost."""
    return math.inf if error <= 0 or power <= 0 else 10 * math.log10(power / error)


@dataclass(frozen=True)
class Census:
    """The histogram of a matrix: occupied bins, by falling pattern, and what they say. Units as `exponent` says."""

    exponent: int  # the largest magnitude lies in [2^exponent, 2^(exponent + 1))
    largest: float
    zeros: int
    places: NDArray[np.int64]  # the upper half of the bit pattern, of occupied bins
    numbers: NDArray[np.int64]
    means: NDArray[np.float64]
    spreads: NDArray[np.float64]  # variance inside the bin

    @cached_property
    def total(self) -> int:
        return int(self.numbers.sum())

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """Σ x² of each bin."""
        return self.numbers * (self.means**2 + self.spreads)

    @cached_property
    def power(self) -> float:
        return float(self.squares.sum())

    def kurtosis(self) -> float | None:
        """Fourth central moment over the squared second one, 3 for a Gaussian; None where all values are one.

        From the bins: good to 1e-4, to 1e-3 where the mean lies a hundred standard deviations from 0.
        """
        mean = float(self.numbers @ self.means) / self.total
        away = (self.means - mean) ** 2
        second = float(self.numbers @ (away + self.spreads)) / self.total
        # inside a bin values are spread evenly, whose fourth moment is 9/5 of the squared second
        fourth = float(self.numbers @ (away**2 + 6 * away * self.spreads + 1.8 * self.spreads**2)) / self.total
        return fourth / second**2 if second > 0 else None

    @cached_property
    def magnitudes(self) -> tuple[NDArray, NDArray, NDArray]:
        """Bins of |x|, ascending: place, count, Σ x²."""
        order = np.argsort(self.places & 0x7FFF, kind="stable")
        places, first = np.unique((self.places & 0x7FFF)[order], return_index=True)
        return places, np.add.reduceat(self.numbers[order], first), np.add.reduceat(self.squares[order], first)

    @cached_property
    def lost(self) -> tuple[NDArray, NDArray]:
        """How many magnitudes lie below the end of each bin, and their Σ x²."""
        _, numbers, squares = self.magnitudes
        return np.append(0, np.cumsum(numbers)), np.append(0.0, np.cumsum(squares))

    def pruned(self, gone: float) -> float:
        """Σ x² of the `gone` smallest, a number of values that need not be whole."""
        return float(np.interp(gone, *self.lost))

    def boundary(self, gone: int) -> tuple[np.float32, np.float32, int]:
        """Where the bin of |x| begins and ends that holds the last of the `gone` smallest, and the share of it that
        goes, times 2^32; in the unit of blocks."""
        places, numbers, _ = self.magnitudes
        ends = np.cumsum(numbers)
        at = int(np.searchsorted(ends, gone))
        edges = (places[at] + np.arange(2)).astype(np.uint32) << np.uint32(16)
        low, high = np.ldexp(edges.view(np.float32), -self.exponent)
        return low, high, round((gone - int(ends[at] - numbers[at])) / int(numbers[at]) * 2**32)

    def tensor_scale(self, bits: int) -> float:
        """The scale of least error for all values, of a fine list, estimated on the bins; in half precision."""
        first = 2 * math.ldexp(self.largest, -self.exponent) / 2 ** (bits - 1)
        tried = _halves((first * 2.0 ** (-np.arange(_FINER * _OCTAVES) / _FINER)).astype(np.float32))
        tried = np.maximum(tried, least_scale(self.exponent))
        inside = float(self.numbers @ self.spreads)
        return float(_kernels.binned_scale(self.means, self.numbers, inside, tried, 2.0 ** (bits - 1), WORSE))


def least_scale(exponent: int) -> np.float32:
    """The least scale that is stored, in units of 2^exponent; one that leaves nothing where that is too large."""
    return np.float32(2.0 ** min(math.frexp(HALF_RANGE[0])[1] - 1 - exponent, 126))


def _halves(x: NDArray | np.float32) -> NDArray[np.float32]:
    """Positive float32 numbers to 11 significant bits, the nearest, ties to even."""
    u = np.asarray(x, np.float32).view(np.uint32)
    return ((u + np.uint32(0xFFF) + ((u >> np.uint32(13)) & np.uint32(1))) & ~np.uint32(0x1FFF)).view(np.float32)


def blocks(matrix: Matrix) -> list[tuple[int, int]]:
    """Rows first … stop − 1 of each block, in their order; they do not depend on threads."""
    rows = max(1, BLOCK // matrix.columns)
    return [(first, min(first + rows, matrix.rows)) for first in range(0, matrix.rows, rows)]


def _rows(matrix: Matrix, first: int, stop: int) -> NDArray[np.float32]:
    block = np.ascontiguousarray(matrix.read(first, stop), dtype=np.float32)
    if block.shape != (stop - first, matrix.columns):
        raise ValueError(f"{matrix.name}: rows {first} to {stop} came as an array of shape {block.shape}")
    return block


def census(
    matrix: Matrix, spread: Spread = map, tasks: int = 1, weights_read: Callable[[int], None] | None = None
) -> Census:
    """The histogram of a matrix, in so many parts that `spread` gives to whom it will.

    Raises
    ------
    NotFinite : the matrix holds NaN or infinity.
    """
    pieces = blocks(matrix)

    def counted(part: Sequence[tuple[int, int]]) -> tuple[NDArray, int, int]:
        histogram, largest, zeros = np.zeros((_kernels.BINS, 3), np.int64), 0, 0
        for first, stop in part:
            x = _rows(matrix, first, stop)
            most, none = _kernels.count(x.reshape(-1), histogram)
            if most >= 0x7F800000:
                row, column = (int(i[0]) for i in np.nonzero(~np.isfinite(x)))
                raise NotFinite(f"{x[row, column]} in row {first + row}, column {column}")
            largest, zeros = max(largest, int(most)), zeros + int(none)
            if weights_read is not None:
                weights_read((stop - first) * matrix.columns)
        occupied = np.flatnonzero(histogram[:, 0])
        return np.column_stack((occupied, histogram[occupied])), largest, zeros

    tasks = max(1, min(tasks, len(pieces)))
    share = [pieces[len(pieces) * k // tasks : len(pieces) * (k + 1) // tasks] for k in range(tasks)]
    parts = list(spread(counted, share))
    whole = np.zeros((_kernels.BINS, 3), np.int64)
    for part, _, _ in parts:
        whole[part[:, 0]] += part[:, 1:]
    pattern = max(most for _, most, _ in parts)
    return _census(whole, pattern, sum(none for _, _, none in parts))


def _census(histogram: NDArray[np.int64], pattern: int, zeros: int) -> Census:
    largest = float(np.int32(pattern).view(np.float32))
    exponent = math.frexp(largest)[1] - 1 if largest else 0
    places = np.flatnonzero(histogram[:, 0])
    numbers, low, squares = (histogram[places, i].astype(np.float64) for i in range(3))
    base = (places.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    step = np.ldexp(np.where(places & 0x8000, -1.0, 1.0), np.maximum((places >> 7) & 0xFF, 1) - 150 - exponent)
    inside = low / numbers
    means = np.ldexp(base, -exponent) + step * inside
    spreads = step**2 * np.maximum(squares / numbers - inside**2, 0)
    return Census(exponent, largest, zeros, places, histogram[places, 0], means, spreads)


@dataclass
class _Sums:
    """What one block of rows loses: errors by name, the ends of the scales, orders, codes."""

    errors: dict[str, float] = field(default_factory=dict)
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    order: NDArray[np.float64] | None = None
    zeros: int = 0
    codes: dict[str, NDArray[np.int64]] = field(default_factory=dict)


class _Block:
    """The measurements of one block of rows, in units of the matrix; `sums` holds them."""

    def __init__(self, x: NDArray[np.float32], settings: Settings, floor: np.float32) -> None:
        self.x, self.settings, self.floor, self.sums = x, settings, floor, _Sums()

    def tensor(self, bits: int, scale: np.float32) -> None:
        """One scale for the whole matrix."""
        name, low, high = f"INT{bits} tensor", np.float32(-(2 ** (bits - 1))), np.float32(2 ** (bits - 1) - 1)
        self.sums.errors[name] = _kernels.one_scale(self.x, scale, low, high)
        self.sums.scales[name] = float(scale), float(scale)
        if self.settings.entropy:
            self.sums.codes[name] = np.zeros(1 << bits, np.int64)
            _kernels.code_counts(
                self.x.reshape(1, -1), self.x.size, np.full(1, scale), low, high, self.sums.codes[name]
            )

    def integers(self, name: str, x: NDArray[np.float32], bits: int, group: int, lost: float = 0.0) -> NDArray:
        """Scales of groups of x, and their error under `name`; `lost` is that of what was pruned before."""
        rows, columns = x.shape
        group = min(group, columns)
        scales = np.empty(rows * -(-columns // group), np.float32)
        errors = np.empty(scales.size)
        low, high = np.float32(-(2 ** (bits - 1))), np.float32(2 ** (bits - 1) - 1)
        if self.settings.scales == "exact":
            scales[:] = _exact(x, bits, group)
            scales[scales > 0] = np.maximum(scales[scales > 0], self.floor)
            _kernels.errors_at(x, group, scales, low, high, errors)
        else:
            _kernels.searched(x, group, ratios(bits), low, high, WORSE, self.floor, scales, errors)
        self.sums.errors[name] = lost + float(errors.sum())
        positive = scales[scales > 0]
        if positive.size:
            self.sums.scales[name] = float(positive.min()), float(positive.max())
        if self.settings.entropy and x is self.x:
            self.sums.codes[name] = np.zeros(1 << bits, np.int64)
            _kernels.code_counts(x, group, scales, low, high, self.sums.codes[name])
        return scales


@cache
def ratios(bits: int) -> NDArray[np.float32]:
    """The candidates of a width as multiples of the largest magnitude."""
    return np.array(CANDIDATES[bits], np.float32) * np.float32(2.0 ** (1 - bits))


def _exact(x: NDArray[np.float32], bits: int, group: int) -> NDArray[np.float32]:
    """The exact best scales of the groups of x, row by row, in half precision; 0 for what `NOTHING` says."""
    columns = x.shape[1]
    whole = columns - columns % group
    parts = [part for part in (x[:, :whole].reshape(x.shape[0], -1, group), x[:, None, whole:]) if part.size]
    in_parts = []
    for part in parts:
        scales = np.zeros(part.shape[:2], np.float32)
        not_zero = np.abs(part).max(axis=2) >= _kernels.NOTHING
        if not_zero.any():
            scales[not_zero] = _halves(
                np.asarray(best_scale(part[not_zero].astype(np.float64), bits, axis=1), np.float32)
            )
        in_parts.append(scales)
    return np.concatenate(in_parts, axis=1).reshape(-1)


class Bench:
    """One matrix on the bench: what its census says once, and the measurement of a block of its rows."""

    def __init__(self, matrix: Matrix, counted: Census, settings: Settings) -> None:
        self.matrix, self.counted, self.settings = matrix, counted, settings
        self.floor = least_scale(counted.exponent)
        self.tensor_scales = {bits: np.float32(counted.tensor_scale(bits)) for bits in WIDTHS}
        self.boundary = counted.boundary(pruned_count(0.5, counted.total))
        self.formats = {name: formats.named(name) for name in FORMATS}
        for name, fmt in self.formats.items():
            if fmt.tensor_scaled:
                self.formats[name] = fmt.row_by_row(math.ldexp(counted.largest, -counted.exponent))

    def rows(self, first: int, stop: int) -> NDArray[np.float32]:
        """Rows first … stop − 1 in the unit of the matrix, (stop − first, columns)."""
        x = _rows(self.matrix, first, stop)
        if -self.counted.exponent in range(-126, 128):  # a product by a power of two is faster, and the same
            return x * np.float32(2.0**-self.counted.exponent)
        return np.ldexp(x, -self.counted.exponent)

    def lost(self, x: NDArray[np.float32], first: int, scheme: Scheme) -> NDArray[np.float32]:
        """x − y, (rows, columns), for what `rows` gave from row `first` on and the values y that a scheme stores.

        Its sum of squares is what `measure` counts. Of a share that is pruned the last bin of the histogram goes by
        the place of its values, where `measure` takes a part of its squares.
        """
        kept = x if scheme.pattern is None else self._pruned(x, first, scheme.pattern)
        if scheme.bits is None:
            fmt = scheme.format or ""
            return x - (kept if fmt == "FP16" else self.formats.get(fmt, formats.named(fmt)).quantize(kept))
        low, high = np.float32(-(2 ** (scheme.bits - 1))), np.float32(2 ** (scheme.bits - 1) - 1)
        group = min(scheme.granularity, x.shape[1]) if isinstance(scheme.granularity, int) else x.shape[1]
        if scheme.granularity == "tensor":
            scales = np.full(len(x), self.counted.tensor_scale(scheme.bits), np.float32)
        else:
            scales = _Block(kept, self.settings, self.floor).integers("", kept, scheme.bits, group)
        rest = np.empty_like(x)
        _kernels.remainders(kept, group, scales, low, high, rest)
        return rest if kept is x else (x - kept) + rest

    def _pruned(self, x: NDArray[np.float32], first: int, pattern: tuple[int, int] | float) -> NDArray[np.float32]:
        out = np.empty_like(x)
        if isinstance(pattern, float):
            ends = self.counted.boundary(pruned_count(pattern, self.counted.total))
            _kernels.prune_below(x.reshape(-1), first * x.shape[1], *ends, out.reshape(-1))
        elif pattern in _NEIGHBOURS:
            _NEIGHBOURS[pattern](x.reshape(-1), out.reshape(-1))
        else:
            raise ValueError(
                f"{pattern[0]}:{pattern[1]} is not judged: {', '.join(f'{n}:{m}' for n, m in _NEIGHBOURS)} are"
            )
        return out

    def measure(self, first: int, stop: int) -> _Sums:
        """Rows first … stop − 1 under every scheme."""
        x = self.rows(first, stop)
        block = _Block(x, self.settings, self.floor)
        sums, columns, group = block.sums, self.matrix.columns, self.settings.group
        rows = {}
        for bits in WIDTHS:
            block.tensor(bits, self.tensor_scales[bits])
            rows[bits] = block.integers(f"INT{bits} channel", x, bits, columns)
            block.integers(f"INT{bits} g{group}", x, bits, group)
        for name, fmt in self.formats.items():
            sums.errors[name] = _kernels.squared_difference(x.reshape(-1), fmt.quantize(x).reshape(-1))
        out = np.empty_like(x)
        if columns % 8 == 0:
            _kernels.prune_4_of_8(x.reshape(-1), out.reshape(-1))
            sums.errors["4:8 FP16"] = _kernels.squared_difference(x.reshape(-1), out.reshape(-1))
        if columns % 4 == 0:
            _kernels.prune_2_of_4(x.reshape(-1), out.reshape(-1))
            lost = sums.errors["2:4 FP16"] = _kernels.squared_difference(x.reshape(-1), out.reshape(-1))
            block.integers("2:4 INT4 channel", out, 4, columns, lost)
            block.integers(f"2:4 INT4 g{group}", out, 4, group, lost)
            sums.order = np.zeros(3)
            sums.zeros = int(_kernels.orders(x, rows[4], np.float32(-8), np.float32(7), sums.order))
        _kernels.prune_below(x.reshape(-1), first * columns, *self.boundary, out.reshape(-1))
        lost = _kernels.squared_difference(x.reshape(-1), out.reshape(-1))
        block.integers("50% INT4 channel", out, 4, columns, lost)
        block.integers(f"50% INT4 g{group}", out, 4, group, lost)
        return sums


def judge(
    matrix: Matrix,
    settings: Settings,
    spread: Spread = map,
    tasks: int = 1,
    weights_read: Callable[[int], None] | None = None,
) -> Judged:
    """What one matrix loses under every scheme.

    Parameters
    ----------
    matrix : see `matrices.Matrix`; read twice, in blocks of about 2^16 values
    settings : by `Settings.checked`
    spread : `map`, or the one of an executor whose threads share out the blocks; tasks : how many these are
    weights_read : called with how many values have been read again, twice the weights in all

    Raises
    ------
    NotFinite : NaN or infinity, with its first place.

    Notes
    -----
    Cost: about 100 ns a weight and thread; memory: a few blocks a thread, and 1.5 MB a thread for the histogram.
    """
    counted = census(matrix, spread, tasks, weights_read)
    notes: list[str] = []
    if counted.largest == 0:
        notes.append("all weights are zero: nothing is lost by any scheme, and nothing need be stored")
        parts: list[_Sums] = []
        if weights_read is not None:
            weights_read(matrix.weights)
    else:
        bench = Bench(matrix, counted, settings)

        def measured(ends: tuple[int, int]) -> _Sums:
            sums = bench.measure(*ends)
            if weights_read is not None:
                weights_read((ends[1] - ends[0]) * matrix.columns)
            return sums

        parts = list(spread(measured, blocks(matrix)))
    return _verdict(matrix, counted, settings, parts, notes)


def _verdict(matrix: Matrix, counted: Census, settings: Settings, parts: list[_Sums], notes: list[str]) -> Judged:
    """Sums of blocks, added in their order, as losses in dB and bits."""
    power = counted.power
    refused: dict[str, list[str]] = {}
    schemes, raised = [], []
    for name in settings.schemes:
        scheme = Scheme.named(name)
        if why := scheme.problem(matrix.rows, matrix.columns):
            refused.setdefault(why, []).append(name)
            continue
        if scheme.format == "FP16" and isinstance(scheme.pattern, float):
            error = counted.pruned(pruned_count(scheme.pattern, counted.total))
        else:
            error = math.fsum(sums.errors[name] for sums in parts)
        bits = scheme.stored_bits(matrix.rows, matrix.columns)
        ends = [sums.scales[name] for sums in parts if name in sums.scales]
        least, most = (
            (math.ldexp(end(e[i] for e in ends), counted.exponent) for i, end in ((0, min), (1, max)))
            if (ends)
            else (1.0, 1.0)
        )
        if why := _unstored(scheme, counted, most):
            refused.setdefault(why, []).append(name)
            continue
        if ends and least <= HALF_RANGE[0]:
            raised.append(name)
        schemes.append(Loss(name, bits / matrix.weights, decibels(power, error)))
    if raised:
        notes.append(f"{', '.join(raised)}: the smallest scales are raised to the least of half precision, 2^-14")
    notes += [f"{', '.join(names)}: {why}" for why, names in refused.items()]
    pruning = _pruning(counted, settings, {s.bits_per_weight for s in schemes if s.family == "quantization"})
    if settings.group < matrix.columns and matrix.columns % settings.group:
        rest = matrix.columns % settings.group
        notes.append(f"groups of {settings.group} do not divide {matrix.columns} columns: the last holds {rest}")
    elif settings.group > matrix.columns:
        notes.append(f"rows are shorter than a group of {settings.group}: one group a row")
    order = None
    if parts and parts[0].order is not None and any(s.name == "2:4 INT4 channel" for s in schemes):
        after = [math.fsum(errors) for errors in zip(*(sums.order for sums in parts if sums.order is not None))]
        first = decibels(power, math.fsum(sums.errors["2:4 INT4 channel"] for sums in parts))
        by_place, by_weights, joint = (decibels(power, error) for error in after)
        order = Order(first, by_place, by_weights, joint, sum(sums.zeros for sums in parts))
    return Judged(
        matrix.name,
        matrix.shape,
        matrix.kind,
        matrix.dtype,
        matrix.rows,
        matrix.columns,
        matrix.experts,
        matrix.nbytes,
        matrix.aliases,
        matrix.parts,
        counted.largest,
        math.ldexp(power, 2 * counted.exponent),
        counted.kurtosis(),
        counted.zeros,
        tuple(schemes),
        pruning,
        tuple(_choice(bits, tuple(schemes), counted, settings) for bits in settings.budgets),
        order,
        tuple(_coded(matrix, counted, schemes, parts)) if settings.entropy else (),
        tuple(notes),
    )


def _unstored(scheme: Scheme, counted: Census, most: float) -> str:
    """Why the scales of a matrix, the largest of them given, cannot be stored; empty when they can."""
    if scheme.bits is None or counted.largest == 0:
        return ""
    if most > HALF_RANGE[1]:
        return "a scale is larger than half precision holds"
    if counted.largest <= HALF_RANGE[0] / 2:
        return "every weight would be zero: half precision holds no scale that is small enough"
    return ""


@cache
def _share_kept(bits: float, mask: str) -> float | None:
    """What pruning may keep to store so many bits a weight; None where the mask alone is larger, or 1 and more."""
    try:
        return equal_size_keep(bits, mask)
    except ValueError:
        return None


def _pruning(counted: Census, settings: Settings, sizes: set[float]) -> tuple[Pruning, ...]:
    """Pruning at the stored bits of every quantizer, and at the budgets with every mask."""
    wanted = [(bits, settings.mask) for bits in sizes]
    wanted += [(bits, mask) for bits in settings.budgets for mask in MASKS]
    rows = []
    for bits, mask in sorted(set(wanted), key=lambda w: (w[0], MASKS.index(w[1]))):
        kept = _share_kept(bits, mask)
        if kept is not None:
            snr = decibels(counted.power, counted.pruned((1 - kept) * counted.total))
            rows.append(Pruning(mask, bits, kept, snr))
    return tuple(rows)


def _choice(bits: float, schemes: tuple[Loss, ...], counted: Census, settings: Settings) -> Choice:
    """The best of each family within a budget; of equals that which stores fewer bits."""
    fitting = [s for s in schemes if s.bits_per_weight <= bits * (1 + 1e-12)]
    kept = _share_kept(bits, settings.mask)
    if kept is not None:
        percent = min(math.ceil((1 - kept) * 1e6) / 1e4, 99.9999)
        snr = decibels(counted.power, counted.pruned((1 - kept) * counted.total))
        fitting.append(Loss(f"{percent:.10g}% FP16", bits, snr))
    best: dict[str, Loss | None] = dict.fromkeys(FAMILIES)
    for loss in sorted(fitting, key=lambda s: (-s.snr, s.bits_per_weight)):
        if best[loss.family] is None:
            best[loss.family] = loss
    return Choice(bits, best["quantization"], best["pruning"], best["both"])


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share @ np.log2(share)))


def _coded(matrix: Matrix, counted: Census, schemes: list[Loss], parts: list[_Sums]) -> list[Coded]:
    """Both sides entropy-coded at the same rate: integers, and the mask of what pruning keeps."""
    rows = []
    for loss in schemes:
        counts = [sums.codes[loss.name] for sums in parts if loss.name in sums.codes]
        if not counts:
            continue
        scheme = Scheme.named(loss.name)
        overhead = loss.bits_per_weight - (scheme.bits or 0)
        rate = _entropy(np.sum(counts, axis=0)) + overhead
        kept = _share_kept(rate, "entropy") if rate > 0 else None
        snr = None if kept is None else decibels(counted.power, counted.pruned((1 - kept) * counted.total))
        rows.append(Coded(loss.name, rate, loss.snr, kept, snr))
    return rows
