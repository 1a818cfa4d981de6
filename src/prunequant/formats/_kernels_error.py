"""float32 kernel of the integer formats' rounding errors: several widths, the values read once."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from prunequant.formats._kernels import _RUN
from prunequant.parallel import one_at_a_time


# Sums only: reassociation lets the compiler add in vector lanes. A run of 1024 squares is added in float32 and the
# runs in float64, so the relative error of a sum stays below 1e-6.
@njit(cache=True, fastmath={"reassoc", "contract"})
def _square_run(x, start, stop, scale, inverse, low, high):
    total = np.float32(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        error = x[i] - scale * min(max(np.rint(x[i] * inverse), low), high)
        total += error * error
    return total


@one_at_a_time
@njit(cache=True, parallel=True)
def integer_squared_errors(x, scales, lows, highs, sums):
    """Sum of squared rounding errors of x for several (scale, range), x read once: (runs, widths) partial sums."""
    for run in prange(sums.shape[0]):
        start = run * _RUN
        stop = min(start + _RUN, x.size)
        for width in range(scales.size):
            scale = scales[width]
            inverse = np.float32(1) / scale
            total = 0.0
            for piece in range(start, stop, 1024):
                total += _square_run(x, piece, min(piece + 1024, stop), scale, inverse, lows[width], highs[width])
            sums[run, width] = total


def warm() -> None:
    """Compile the kernel, on a handful of values."""
    x, two, minus = np.linspace(-1, 1, 8, dtype=np.float32), np.full(2, 1, np.float32), np.full(2, -1, np.float32)
    x.flags.writeable = two.flags.writeable = minus.flags.writeable = False  # the types that `base.flat` makes
    integer_squared_errors(x, two, minus, two, np.zeros((1, 2)))
