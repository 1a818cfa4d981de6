"""The triangular rounding of `_kernels` to codes: scales (and zeros) of groups of features, a mask, a choice of one.

For feature t of group h and one neuron, with v_t as there,

    k = clip(rint(v/s_h + z_h), low, high),   q = s_h (k − z_h);   q = 0 where the mask prunes;   q = v without codes.

Where `keep` is given, the mask is chosen on the way: before the first of every `width` features the values v of all of
them, mended by all features before these, are scored by v² · importance, and the largest stay.
"""

import numpy as np
from numba import njit, prange

from prunequant.parallel import one_at_a_time

from ._kernels import BLOCK, TILE, _one_row, _panel

NO_CODES, ROUNDED = 0, 1


@njit(cache=True, error_model="numpy")
def _choose(scores, lanes, width, keep, mask, first, start):
    """mask[first + i, start + j] for the keep[j] largest of scores[i, j], i < width; of equals the first."""
    for j in range(lanes):
        for i in range(width):
            better = 0
            for k in range(width):
                if scores[k * TILE + j] > scores[i * TILE + j] or (
                    k < i and scores[k * TILE + j] == scores[i * TILE + j]
                ):
                    better += 1
            mask[first + i, start + j] = 1 if better < keep[j] else 0


@njit(cache=True, nogil=True, error_model="numpy")
def _tile(
    weights, factor, gain, rounded, scales, zeros, group, low, high, mask, width, keep, importance, start, out, codes
):
    features, neurons = weights.shape
    dtype = weights.dtype
    lanes = min(TILE, neurons - start)
    errors = np.zeros((features + 7) // 8 * 8 * TILE, dtype)
    sums = np.empty((BLOCK + 1) * TILE, dtype)
    trial = np.empty(TILE, dtype)
    scores = np.empty(BLOCK * TILE, dtype)
    masked = mask.shape[0] == features
    for top in range(0, features, BLOCK):
        rows = min(BLOCK, features - top)
        sums[:] = 0
        for left in range(0, top, BLOCK):
            _panel(sums, factor, errors, gain, top, rows, left)
        for r in range(rows):
            t = top + r
            if width > 0 and r % width == 0:
                many = min(width, features - t)
                for i in range(many):
                    u = t + i
                    trial[:] = sums[(r + i) * TILE : (r + i + 1) * TILE]
                    _one_row(trial, factor, errors, u, top, u)
                    for j in range(lanes):
                        v = weights[u, start + j] + gain[u] * trial[j]
                        scores[i * TILE + j] = v * v * importance[u]
                        errors[u * TILE + j] = weights[u, start + j] - v  # as if it stayed as it is; written over below
                _choose(scores, lanes, many, keep[t // width, start : start + lanes], mask, t, start)
            row = sums[r * TILE : (r + 1) * TILE]
            if gain[t] != 0:
                _one_row(row, factor, errors, t, top, t)
            h = group[t]
            e = errors[t * TILE : (t + 1) * TILE]
            for j in range(lanes):
                n = start + j
                v = weights[t, n] + gain[t] * row[j]
                q = v
                if rounded == ROUNDED:
                    s, z = scales[h, n], zeros[h, n]
                    k = np.rint(v / s + z)
                    k = low if k < low else k
                    k = high if k > high else k
                    if masked and mask[t, n] == 0:
                        k = np.rint(z)
                    codes[t, n] = np.int16(k)
                    q = s * (k - z)
                if masked and mask[t, n] == 0:
                    q = dtype.type(0)
                out[t, n] = q
                e[j] = weights[t, n] - q


@one_at_a_time
@njit(cache=True, parallel=True, error_model="numpy")
def round_codes(
    weights, factor, gain, rounded, scales, zeros, group, low, high, mask, width, keep, importance, out, codes
):
    """Fill out (features, neurons) and codes of that shape; see the module.

    weights, out : (features, neurons) C-contiguous; factor : (features, features), or (1, 1) when all gains are 0;
    gain, importance : (features,); scales, zeros : (groups, neurons); group : (features,) int64; mask : uint8, of the
    shape of the weights, read, or with width > 0 written, or (1, 1) for none; keep : (⌈features / width⌉, neurons)
    int64; low, high : of the dtype of the weights. width : 0, or a divisor of 64.
    """
    tiles = (weights.shape[1] + TILE - 1) // TILE
    for i in prange(tiles):
        _tile(
            weights, factor, gain, rounded, scales, zeros, group, low, high, mask, width, keep, importance, i * TILE,
            out, codes,
        )  # fmt: skip


def warm() -> None:
    """Compile the kernel."""
    w = np.ones((4, 3), np.float32)
    one = np.ones((1, 3), np.float32)
    round_codes(
        w, np.eye(4, dtype=np.float32), w[:, 0].copy(), ROUNDED, one, 0 * one, np.zeros(4, np.int64), np.float32(-8),
        np.float32(7), np.ones((4, 3), np.uint8), 4, np.ones((1, 3), np.int64), w[:, 0].copy(), np.empty_like(w),
        np.empty((4, 3), np.int16),
    )  # fmt: skip
