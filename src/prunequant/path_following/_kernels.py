"""One compiled kernel for every sequential rounding with error feedback.

    v_t = w_t + g_t Σ_{s<t} F_ts (w_s − q_s),   q_t = T(v_t)

for all neurons at once. F is any matrix of which only the strict lower triangle is read, g its row scale: with
F = XᵀX and g_t = 1/(C‖X_t‖²) this is path following (the walk u_t never appears), with F = L from H = LᵀDL and g = 1
it is OPTQ, with g = 0 it is memoryless rounding.

Layout. One parallel loop over chunks of neurons; each worker runs the whole recursion on its own slab of tiles
(TILE neurons wide), so there is no barrier between blocks of rows and no library call inside. The panel product
takes two rows and eight columns of F at a time: eight loads of errors feed sixteen multiply-adds. The sum over s runs
in groups of eight from s = 0 up, whatever the chunk, so the result depends neither on threads nor on chunks.
`fastmath={"contract"}` on the two products alone: a·b + c may be rounded once; nothing is reordered.
"""

import numpy as np
from numba import njit, prange

from prunequant.parallel import one_at_a_time

from ..random import philox4x32

TILE = 64
BLOCK = 64
GRID, FINITE, PRUNE, JOINT = 0, 1, 2, 3

_LOW_32 = 0xFFFFFFFF
_UNIT = np.float32(2.0**-24)


def key(seed: int) -> tuple[np.uint64, np.uint64]:
    """The two 32-bit words of a seed of up to 64 bits, as Philox takes them."""
    return np.uint64(seed & _LOW_32), np.uint64((seed >> 32) & _LOW_32)


@njit(cache=True, error_model="numpy")
def uniforms(neuron, step, stream, key0, key1, out):
    """out[j] = a uniform in [0, 1) with 24 bits for neuron + j at this step; neuron and len(out) multiples of 4."""
    for b in range(out.size // 4):
        w0, w1, w2, w3 = philox4x32(neuron // 4 + b, step, stream, 0, key0, key1)
        out[4 * b] = np.float32(w0 >> np.uint32(8)) * _UNIT
        out[4 * b + 1] = np.float32(w1 >> np.uint32(8)) * _UNIT
        out[4 * b + 2] = np.float32(w2 >> np.uint32(8)) * _UNIT
        out[4 * b + 3] = np.float32(w3 >> np.uint32(8)) * _UNIT


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _two_rows(sums, factor, errors, row, first, last):
    """sums[0:2] += factor[row:row+2, first:last] @ errors[first:last], last − first a multiple of 8."""
    for s in range(first, last, 8):
        a0, a1, a2, a3 = factor[row, s], factor[row, s + 1], factor[row, s + 2], factor[row, s + 3]
        a4, a5, a6, a7 = factor[row, s + 4], factor[row, s + 5], factor[row, s + 6], factor[row, s + 7]
        b0, b1, b2, b3 = factor[row + 1, s], factor[row + 1, s + 1], factor[row + 1, s + 2], factor[row + 1, s + 3]
        b4, b5, b6, b7 = factor[row + 1, s + 4], factor[row + 1, s + 5], factor[row + 1, s + 6], factor[row + 1, s + 7]
        e = errors[s * TILE : (s + 8) * TILE]
        for j in range(TILE):
            e0, e1, e2, e3 = e[j], e[TILE + j], e[2 * TILE + j], e[3 * TILE + j]
            e4, e5, e6, e7 = e[4 * TILE + j], e[5 * TILE + j], e[6 * TILE + j], e[7 * TILE + j]
            x = sums[j] + a0 * e0 + a1 * e1 + a2 * e2 + a3 * e3 + a4 * e4 + a5 * e5 + a6 * e6 + a7 * e7
            y = sums[TILE + j] + b0 * e0 + b1 * e1 + b2 * e2 + b3 * e3 + b4 * e4 + b5 * e5 + b6 * e6 + b7 * e7
            sums[j] = x
            sums[TILE + j] = y


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _one_row(sums, factor, errors, row, first, last):
    """sums += factor[row, first:last] @ errors[first:last]; the last group may be short."""
    zero = errors.dtype.type(0)
    for s in range(first, last, 8):
        a0 = factor[row, s]
        a1 = factor[row, s + 1] if s + 1 < last else zero
        a2 = factor[row, s + 2] if s + 2 < last else zero
        a3 = factor[row, s + 3] if s + 3 < last else zero
        a4 = factor[row, s + 4] if s + 4 < last else zero
        a5 = factor[row, s + 5] if s + 5 < last else zero
        a6 = factor[row, s + 6] if s + 6 < last else zero
        a7 = factor[row, s + 7] if s + 7 < last else zero
        e = errors[s * TILE : (s + 8) * TILE]  # rows past `last` are still zero
        for j in range(TILE):
            e0, e1, e2, e3 = e[j], e[TILE + j], e[2 * TILE + j], e[3 * TILE + j]
            e4, e5, e6, e7 = e[4 * TILE + j], e[5 * TILE + j], e[6 * TILE + j], e[7 * TILE + j]
            sums[j] = sums[j] + a0 * e0 + a1 * e1 + a2 * e2 + a3 * e3 + a4 * e4 + a5 * e5 + a6 * e6 + a7 * e7


@njit(cache=True, error_model="numpy")
def round_row(kind, stochastic, v, draws, first, second, levels, q, clipped):
    """q = T(v) for one row of neurons; `clipped` counts values outside the operator's domain."""
    one, half = v.dtype.type(1), v.dtype.type(0.5)
    zero = v.dtype.type(0)
    n = v.size
    if kind == GRID:
        if stochastic:
            for j in range(n):
                z = v[j] / first[j]
                low = np.floor(z)
                q[j] = first[j] * (low + (one if draws[j] < z - low else zero))
        else:
            for j in range(n):
                q[j] = first[j] * np.rint(v[j] / first[j])
    elif kind == FINITE:
        offset = half if levels % 2 == 0 else zero
        bottom = v.dtype.type(-(levels // 2))
        top = v.dtype.type((levels - 1) // 2)
        slack = zero if stochastic else half
        for j in range(n):
            z = v[j] / first[j] - offset
            clipped[j] += 1 if (z < bottom - slack) or (z > top + slack) else 0
            if stochastic:
                low = np.floor(z)
                k = low + (one if draws[j] < z - low else zero)
            else:
                k = np.rint(z)
            k = bottom if k < bottom else k
            k = top if k > top else k
            q[j] = first[j] * (k + offset)
    elif kind == PRUNE:
        for j in range(n):
            size = abs(v[j])
            c = second[j]
            if not size < c * first[j]:
                q[j] = v[j]
                continue
            draw = draws[j] if stochastic else one
            place = draw * ((one + c) * half * first[j])  # uniform below (1 + c)K/2, and below |v| for a survivor
            if stochastic and place < size:
                q[j] = np.copysign(first[j] * (c + (one - c) * (place / size)), v[j])
            else:
                q[j] = zero
    else:
        for j in range(n):
            z = abs(v[j]) / first[j]
            ratio = second[j]
            inside = z < ratio
            if stochastic:
                keep = z / ratio if inside else one
                target = ratio if inside else z
                low = np.floor(target)
                k = low + (one if draws[j] < keep * (target - low) else zero)
                k = k if draws[j] < keep else zero
            else:
                k = zero if inside else np.rint(z)
            q[j] = np.copysign(first[j] * k, v[j]) if k != zero else zero


@njit(cache=True, error_model="numpy")
def _panel(sums, factor, errors, gain, top, rows, left):
    """Add the contribution of rows left..left+BLOCK of the errors to a block of sums."""
    r = 0
    while r < rows:
        t = top + r
        if gain[t] == 0:
            r += 1
        elif r + 1 < rows and gain[t + 1] != 0:
            _two_rows(sums[r * TILE : (r + 2) * TILE], factor, errors, t, left, left + BLOCK)
            r += 2
        else:
            _one_row(sums[r * TILE : (r + 1) * TILE], factor, errors, t, left, left + BLOCK)
            r += 1


@njit(cache=True, nogil=True, error_model="numpy")
def round_chunk(
    weights, factor, gain, kind, stochastic, first, second, levels, key0, key1, stream, begin, end, out, clipped
):
    """The whole recursion for neurons begin … end − 1, on this thread; `begin` a multiple of 4. See below."""
    features = weights.shape[0]
    dtype = weights.dtype
    padded = (features + 7) // 8 * 8
    errors = np.zeros(padded * TILE, dtype)
    sums = np.empty((BLOCK + 1) * TILE, dtype)
    v = np.zeros(TILE, dtype)
    q = np.zeros(TILE, dtype)
    a = np.ones(TILE, dtype)
    b = np.ones(TILE, dtype)
    draws = np.zeros(TILE, np.float32)
    count = np.zeros(TILE, np.int64)
    for start in range(begin, end, TILE):
        lanes = min(TILE, end - start)
        errors[:] = 0
        count[:] = 0
        v[:] = 0
        a[:lanes] = first[start : start + lanes]
        b[:lanes] = second[start : start + lanes]
        for top in range(0, features, BLOCK):
            rows = min(BLOCK, features - top)
            sums[:] = 0
            for left in range(0, top, BLOCK):
                _panel(sums, factor, errors, gain, top, rows, left)
            for r in range(rows):
                t = top + r
                row = sums[r * TILE : (r + 1) * TILE]
                g = gain[t]
                if g != 0:
                    _one_row(row, factor, errors, t, top, t)
                for j in range(lanes):
                    v[j] = weights[t, start + j] + g * row[j]
                if stochastic:
                    uniforms(start, t, stream, key0, key1, draws)
                round_row(kind, stochastic, v, draws, a, b, levels, q, count)
                e = errors[t * TILE : (t + 1) * TILE]
                for j in range(lanes):
                    out[t, start + j] = q[j]
                    e[j] = weights[t, start + j] - q[j]
        clipped[start : start + lanes] = count[:lanes]


@one_at_a_time
@njit(cache=True, parallel=True, error_model="numpy")
def round_chunks(
    weights, factor, gain, kind, stochastic, first, second, levels, key0, key1, stream, chunk, out, clipped
):
    """All neurons, `chunk` of them (a multiple of 4) a task; see `triangular_rounding`."""
    neurons = weights.shape[1]
    for task in prange((neurons + chunk - 1) // chunk):
        round_chunk(
            weights, factor, gain, kind, stochastic, first, second, levels, key0, key1, stream,
            task * chunk, min(neurons, (task + 1) * chunk), out, clipped,
        )  # fmt: skip


def triangular_rounding(
    weights, factor, gain, kind, stochastic, first, second, levels, key0, key1, stream, chunk, out, clipped
):
    """Fill out (features, neurons) and clipped (neurons,); `chunk` neurons (a multiple of 4) a task.

    weights, out : (features, neurons) C-contiguous; factor : (features, features), or (1, 1) when all gains are 0;
    gain : (features,); first, second : (neurons,). All of one dtype, float32 or float64. A single chunk, such as one
    filter of a depthwise convolution, runs on the calling thread: waking the others would cost more than the work.
    """
    shared = (weights, factor, gain, kind, stochastic, first, second, levels, key0, key1, stream)
    if weights.shape[1] <= chunk:
        round_chunk(*shared, 0, weights.shape[1], out, clipped)
    else:
        round_chunks(*shared, chunk, out, clipped)


def warm() -> None:
    """Compile the kernels for both dtypes."""
    for dtype in (np.float32, np.float64):
        weights, factor = np.ones((2, 8), dtype), np.eye(2, dtype=dtype)
        sizes = np.ones(8, dtype)
        for chunk in (4, 8):
            triangular_rounding(
                weights, factor, sizes[:2].copy(), GRID, True, sizes, sizes, 0, *key(0), 0, chunk,
                np.empty_like(weights), np.zeros(8, np.int64),
            )  # fmt: skip
