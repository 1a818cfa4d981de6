"""Exact least-squares scale: branch and bound over the scale, sweep of the last few events.

As the scale s falls, magnitude x passes to its j-th level at s = x/(j − ½ + o) (o = ½ without a zero level). Keep
A = Σ q², B = Σ q x. The error at s is S − 2 s B + s² A, the best for these q is S − B²/A at s = B/A. On an interval
[s1, s2] let A2, B2 belong to s2 and A1, B1 to s1. Each event k inside lowers the parabola of s2 by s w_k (s_k − s)
for s below s_k, which for s2 ≤ 2 s1 is largest at s1, where these sum to 2 s1 (B1 − B2) − s1² (A1 − A2). So

    error(s) ≥ min over the interval of [S − 2 s B2 + s² A2]  −  [2 s1 (B1 − B2) − s1² (A1 − A2)],

a bound whose looseness falls with the square of the interval: halving leaves few intervals, and one with few events is
swept exactly. Short groups quantize all their numbers at each scale (no sort at all); long ones are sorted once, and
then each scale costs one binary search a level.
"""

import numpy as np
from numba import njit

_SWEEP = 6  # events swept at once
_STACK = 256


@njit(cache=True)
def _push(stack, top, low, high, low_square, low_cross, square, cross):
    """One interval [low, high]: A and B at its low end, A and B at its high end."""
    stack[top, 0] = low
    stack[top, 1] = high
    stack[top, 2] = low_square
    stack[top, 3] = low_cross
    stack[top, 4] = square
    stack[top, 5] = cross
    return top + 1


@njit(cache=True)
def _bound(low, high, low_square, low_cross, square, cross, total):
    """Lower bound of the error over the interval."""
    s = high
    if square > 0.0:
        s = min(max(cross / square, low), high)
    if high <= 2.0 * low:
        gain = 2.0 * low * (low_cross - cross) - low * low * (low_square - square)
    else:
        gain = high * (high - low) * (low_square - square)
    return total - 2.0 * s * cross + s * s * square - gain


@njit(cache=True)
def _sweep(value, weight, count, square, cross, total, best, best_scale):
    """Visit the collected events by falling scale; (square, cross) is the state before the first."""
    for i in range(1, count):
        v, w = value[i], weight[i]
        k = i - 1
        while k >= 0 and value[k] < v:
            value[k + 1] = value[k]
            weight[k + 1] = weight[k]
            k -= 1
        value[k + 1] = v
        weight[k + 1] = w
    for i in range(count + 1):
        if i > 0:
            square += weight[i - 1]
            cross += 0.5 * weight[i - 1] * value[i - 1]
        if square > 0.0:
            error = total - cross * cross / square
            if error < best:
                best = error
                best_scale = cross / square
    return best, best_scale


@njit(cache=True)
def _rank(x, first, last, value):
    """Number of x[first:last] (ascending) that are < value, plus first."""
    while first < last:
        middle = (first + last) >> 1
        if x[middle] < value:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True)
def _side_state(x, first, last, suffix, levels, offset, scale):
    """A and B at this scale of one side: x[first:last] ascending, suffix sums of x."""
    square, cross = 0.0, 0.0
    if offset > 0.0:
        square += 0.25 * (last - first)
        cross += 0.5 * (suffix[first] - suffix[last])
    for j in range(1, levels + 1):
        step = j - 0.5 + offset
        at = _rank(x, first, last, step * scale)
        if at == last:
            break
        square += 2.0 * step * (last - at)
        cross += suffix[at] - suffix[last]
    return square, cross


@njit(cache=True)
def _side_events(x, first, last, levels, offset, low, high, at, value, weight):
    """Append the events with low ≤ s < high of one side; stops above _SWEEP of them."""
    for j in range(1, levels + 1):
        step = j - 0.5 + offset
        i = _rank(x, first, last, step * low)
        if i == last:
            break
        stop = _rank(x, first, last, step * high)
        if at + stop - i > _SWEEP:
            return _SWEEP + 1
        while i < stop:
            value[at] = x[i] / step
            weight[at] = 2.0 * step
            at += 1
            i += 1
    return at


@njit(cache=True, nogil=True)
def best_scale_sorted(x, split, suffix, total, up, down, offset):
    """Best scale of one long group.

    x (n,) : magnitudes, the `split` positive numbers first (ascending), then the negative ones (ascending).
    suffix (n + 1,) : suffix[i] = Σ x[i:]. total : Σ x². up, down : jumps on each side. offset : 0, or ½ without a zero.
    """
    n = x.size
    stack = np.empty((_STACK, 6))
    value, weight = np.empty(_SWEEP + 1), np.empty(_SWEEP + 1)
    largest = max(x[split - 1] if split > 0 else 0.0, x[n - 1] if split < n else 0.0)
    best, best_scale = total * (1.0 + 1e-12), 1.0
    unit = largest / max(up, down, 1)
    cuts = np.empty(20)
    cuts[0] = 0.0
    cuts[19] = 2.0 * largest * (1.0 + 1e-12)  # no event lies above
    for k in range(18):
        cuts[k + 1] = unit * (0.15 + 0.06 * k)
    low_square, low_cross, top = 0.0, 0.0, 0
    for k in range(20):
        a, b = _side_state(x, 0, split, suffix, up, offset, cuts[k])
        c, d = _side_state(x, split, n, suffix, down, offset, cuts[k])
        if k > 0:
            top = _push(stack, top, cuts[k - 1], cuts[k], low_square, low_cross, a + c, b + d)
            if a + c > 0.0 and total - (b + d) ** 2 / (a + c) < best:
                best = total - (b + d) ** 2 / (a + c)
                best_scale = (b + d) / (a + c)
        low_square, low_cross = a + c, b + d
    while top > 0:
        top -= 1
        low, high = stack[top, 0], stack[top, 1]
        low_square, low_cross, square, cross = stack[top, 2], stack[top, 3], stack[top, 4], stack[top, 5]
        if _bound(low, high, low_square, low_cross, square, cross, total) >= best:
            continue
        count = _side_events(x, 0, split, up, offset, low, high, 0, value, weight)
        if count <= _SWEEP:
            count = _side_events(x, split, n, down, offset, low, high, count, value, weight)
        if count <= _SWEEP:
            best, best_scale = _sweep(value, weight, count, square, cross, total, best, best_scale)
            continue
        middle = 0.5 * (low + high)
        a, b = _side_state(x, 0, split, suffix, up, offset, middle)
        c, d = _side_state(x, split, n, suffix, down, offset, middle)
        if a + c > 0.0 and total - (b + d) ** 2 / (a + c) < best:
            best = total - (b + d) ** 2 / (a + c)
            best_scale = (b + d) / (a + c)
        if high - low > 1e-15 * high:  # else: equal magnitudes, whose events are one event, visited from both ends
            top = _push(stack, top, low, middle, low_square, low_cross, a + c, b + d)
            top = _push(stack, top, middle, high, a + c, b + d, square, cross)
    return best_scale


@njit(cache=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _state(x, cap, offset, scale):
    """A and B at this scale by quantizing every magnitude; the sums may be reordered, which lets them vectorise."""
    square, cross = 0.0, 0.0
    inverse = 1.0 / scale
    shift = 0.5 - offset
    for i in range(x.size):
        q = min(np.floor(x[i] * inverse + shift), cap[i]) + offset
        square += q * q
        cross += q * x[i]
    return square, cross


@njit(cache=True)
def _events(x, cap, offset, low, high, value, weight):
    """The events between two scales; stops above _SWEEP of them."""
    at = 0
    below, above = 1.0 / low, 1.0 / high
    shift = 0.5 - offset
    for i in range(x.size):
        last = min(np.floor(x[i] * below + shift), cap[i])
        j = min(np.floor(x[i] * above + shift), cap[i])
        if at + last - j > _SWEEP:
            return _SWEEP + 1
        while j < last:
            j += 1.0
            step = j - shift
            value[at] = x[i] / step
            weight[at] = 2.0 * step
            at += 1
    return at


@njit(cache=True, nogil=True)
def best_scales_short(rows, up, down, offset, out):
    """Best scale of every row (groups, n) of signed numbers; a row of zeros gets 1."""
    groups, n = rows.shape
    stack = np.empty((_STACK, 6))
    value, weight = np.empty(_SWEEP + 1), np.empty(_SWEEP + 1)
    x, cap = np.empty(n), np.empty(n)
    factors = np.array([0.3, 0.5, 0.65, 0.75, 0.85, 0.95, 1.05, 1.15])
    for g in range(groups):
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(rows[g, i]))
        if largest == 0.0:
            out[g] = 1.0
            continue
        total, least = 0.0, 1.0
        for i in range(n):  # in units of the largest no group can over- or underflow
            x[i] = abs(rows[g, i]) / largest
            cap[i] = up if rows[g, i] > 0.0 else down
            total += x[i] * x[i]
            if x[i] > 0.0:
                least = min(least, x[i])
        unit = 1.0 / max(up, down, 1)
        best, best_scale = total * (1.0 + 1e-12), 1.0
        low = max(least / (max(up, down) + 1.0), 1e-300)  # below this every number sits at its outermost level
        low_square, low_cross = _state(x, cap, offset, low)
        top = 0
        for k in range(factors.size + 1):
            high = 2.0 * (1.0 + 1e-12) if k == factors.size else factors[k] * unit
            if high <= low:
                continue
            square, cross = _state(x, cap, offset, high)
            top = _push(stack, top, low, high, low_square, low_cross, square, cross)
            if square > 0.0 and total - cross * cross / square < best:
                best = total - cross * cross / square
                best_scale = cross / square
            low, low_square, low_cross = high, square, cross
        while top > 0:
            top -= 1
            low, high = stack[top, 0], stack[top, 1]
            low_square, low_cross, square, cross = stack[top, 2], stack[top, 3], stack[top, 4], stack[top, 5]
            if _bound(low, high, low_square, low_cross, square, cross, total) >= best:
                continue
            count = _events(x, cap, offset, low, high, value, weight)
            if count <= _SWEEP:
                best, best_scale = _sweep(value, weight, count, square, cross, total, best, best_scale)
                continue
            middle = 0.5 * (low + high)
            middle_square, middle_cross = _state(x, cap, offset, middle)
            if middle_square > 0.0 and total - middle_cross**2 / middle_square < best:
                best = total - middle_cross**2 / middle_square
                best_scale = middle_cross / middle_square
            if high - low > 1e-15 * high:
                top = _push(stack, top, low, middle, low_square, low_cross, middle_square, middle_cross)
                top = _push(stack, top, middle, high, middle_square, middle_cross, square, cross)
        out[g] = best_scale * largest


def warm() -> None:
    """Compile the kernels."""
    x, suffix = np.array([1.0, 2.0]), np.array([3.0, 2.0, 0.0])
    best_scale_sorted(x, 1, suffix, 5.0, 1, 2, 0.0)
    best_scales_short(np.array([[1.0, -2.0]]), 1, 2, 0.0, np.empty(1))
