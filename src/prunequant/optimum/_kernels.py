"""Kernels of integer least squares: the order of decoding, depth-first sphere decoding in a box, local search."""

import numpy as np
from numba import njit


@njit(cache=True)
def blast_order(inverse):
    """V-BLAST order from the inverse Gram matrix (overwritten): out[n-1] is decided first.

    The coordinate decided next is the one whose row has the largest diagonal, r_kk² = 1/H_ii among those left;
    fixing it removes it from the Gram matrix, which updates the inverse by one outer product.
    """
    n = inverse.shape[0]
    order = np.empty(n, np.int64)
    left = np.ones(n, np.bool_)
    for position in range(n - 1, -1, -1):
        chosen = -1
        for i in range(n):
            if left[i] and (chosen < 0 or inverse[i, i] < inverse[chosen, chosen]):
                chosen = i
        order[position] = chosen
        left[chosen] = False
        pivot = inverse[chosen, chosen]
        for i in range(n):
            if left[i]:
                factor = inverse[i, chosen] / pivot
                for j in range(n):
                    if left[j]:
                        inverse[i, j] -= factor * inverse[chosen, j]
    return order


@njit(cache=True, nogil=True)
def decode(r, z, low, high, tail, ones, node_limit, best, out):
    """min ‖r (q − z)‖² over integers low ≤ q ≤ high, depth first in Schnorr-Euchner order.

    r (n, n) upper triangular, coordinate n−1 decided first. z (n,) real. tail (n,) : tail[k], a lower bound of what the
    coordinates below k will cost whatever is decided before (zeros if nothing is known). ones : −1, or the number of
    coordinates that must be 1 when the box is {0, 1}. best : value to beat; out (n,) is overwritten only by
    something better. Returns (value, lower bound, nodes); the bound equals the value when the tree was exhausted.

    s[k, j] = Σ_{l ≥ j} r[k, l] (z_l − q_l) is kept between visits; stale[k] is the largest j whose entry is out of
    date. Where r[k, k] = 0 the row costs s[k, k+1]² whatever q_k is: a cost of the levels decided before.
    """
    n = z.size
    s = np.zeros((n, n + 1))
    stale = np.full(n + 1, n - 1)
    centre = np.zeros(n)
    above = np.zeros(n + 1)  # cost of the levels decided before, and of this row where its pivot is zero
    q = np.zeros(n, np.int64)
    error = np.zeros(n)  # z - q
    down = np.zeros(n, np.int64)
    up = np.zeros(n, np.int64)
    least = low.copy()
    most = high.copy()
    used = np.zeros(n + 1, np.int64)
    nodes = 0
    k = n - 1
    entering = True
    while True:
        if entering:
            diagonal = r[k, k]
            c = z[k]
            if diagonal > 0.0:
                c += s[k, k + 1] / diagonal
            else:
                above[k] += s[k, k + 1] * s[k, k + 1]
            centre[k] = c
            if ones >= 0:
                left = ones - used[k + 1]
                least[k] = 1 if left == k + 1 else 0
                most[k] = 0 if left == 0 else 1
            start = np.int64(np.rint(min(max(c, least[k]), most[k])))
            q[k] = start
            down[k], up[k] = start - 1, start + 1
        step = r[k, k] * (q[k] - centre[k])
        cost = above[k] + step * step
        hopeful = cost + tail[k] < best
        nodes += 1
        if hopeful and nodes > node_limit:
            bound = cost + tail[k]
            for j in range(k + 1, n):
                distance = np.inf
                if down[j] >= least[j]:
                    distance = abs(centre[j] - down[j])
                if up[j] <= most[j]:
                    distance = min(distance, abs(up[j] - centre[j]))
                if distance < np.inf:
                    bound = min(bound, above[j] + (r[j, j] * distance) ** 2 + tail[j])
            return best, min(bound, best), nodes
        if hopeful:
            error[k] = z[k] - q[k]
            if k > 0:
                used[k] = used[k + 1] + q[k] if ones >= 0 else 0
                below = k - 1
                above[below] = cost
                for j in range(stale[below], below, -1):
                    s[below, j] = s[below, j + 1] + r[below, j] * error[j]
                if below > 0:
                    stale[below - 1] = max(stale[below - 1], stale[below])
                stale[below] = k
                k = below
                entering = True
                continue
            best = cost
            out[:] = q
        # next sibling: this level's later candidates cost more, so a cut sends us up
        while True:
            k += 1
            if k == n:
                return best, best, nodes
            has_down = down[k] >= least[k]
            has_up = up[k] <= most[k]
            if has_down and (not has_up or centre[k] - down[k] <= up[k] - centre[k]):
                q[k] = down[k]
                down[k] -= 1
                break
            if has_up:
                q[k] = up[k]
                up[k] += 1
                break
        if k > 0:
            stale[k - 1] = max(stale[k - 1], k)
        entering = False


@njit(cache=True, nogil=True)
def babai(r, z, low, high, out):
    """The first leaf of `decode`: round each coordinate to the nearest level given those decided before."""
    n = z.size
    for k in range(n - 1, -1, -1):
        c = z[k]
        if r[k, k] > 0.0:
            total = 0.0
            for j in range(k + 1, n):
                total += r[k, j] * (z[j] - out[j])
            c += total / r[k, k]
        out[k] = np.int64(np.rint(min(max(c, low[k]), high[k])))


@njit(cache=True, nogil=True)
def improve(gram, z, low, high, pairs, q):
    """1-opt to a local optimum, then ±1 pairs (2-opt) until neither helps. q (n,) int64 in place; returns rounds."""
    n = z.size
    gradient = np.zeros(n)
    for i in range(n):
        for j in range(n):
            gradient[i] += gram[i, j] * (q[j] - z[j])
    rounds = 0
    tiny = 0.0
    for i in range(n):
        tiny = max(tiny, 1e-12 * gram[i, i])
    while True:
        rounds += 1
        gain, first, second, move_first, move_second = -tiny, -1, -1, 0, 0
        for i in range(n):
            if gram[i, i] <= 0.0:
                continue
            target = np.rint(min(max(q[i] - gradient[i] / gram[i, i], low[i]), high[i]))
            move = np.int64(target) - q[i]
            change = 2.0 * move * gradient[i] + move * move * gram[i, i]
            if change < gain:
                gain, first, second, move_first, move_second = change, i, -1, move, 0
        if first < 0 and pairs:
            for i in range(n):
                for a in (-1, 1):
                    if q[i] + a < low[i] or q[i] + a > high[i]:
                        continue
                    alone = 2.0 * a * gradient[i] + gram[i, i]
                    for j in range(i):
                        # the better sign for j given a, from the sign of its part of the change
                        b = -1 if gradient[j] + a * gram[i, j] > 0.0 else 1
                        change = alone + 2.0 * b * gradient[j] + gram[j, j] + 2.0 * a * b * gram[i, j]
                        if change < gain and low[j] <= q[j] + b <= high[j]:
                            gain, first, second, move_first, move_second = change, i, j, a, b
        if first < 0:
            return rounds
        q[first] += move_first
        for i in range(n):
            gradient[i] += move_first * gram[i, first]
        if second >= 0:
            q[second] += move_second
            for i in range(n):
                gradient[i] += move_second * gram[i, second]


@njit(cache=True, nogil=True)
def swap(cost, gone):
    """Swap search for min zᵀ cost z over 0/1 vectors with a fixed number of ones. gone (n,) int64 in place."""
    n = gone.size
    gradient = np.zeros(n)
    for i in range(n):
        for j in range(n):
            gradient[i] += cost[i, j] * gone[j]
    scale = 0.0
    for i in range(n):
        scale = max(scale, abs(cost[i, i]))
    while True:
        gain, first, second = -1e-12 * scale, -1, -1
        for i in range(n):
            if gone[i] == 0:
                continue
            for j in range(n):
                if gone[j] == 1:
                    continue
                change = 2.0 * (gradient[j] - gradient[i]) + cost[i, i] + cost[j, j] - 2.0 * cost[i, j]
                if change < gain:
                    gain, first, second = change, i, j
        if first < 0:
            return
        gone[first], gone[second] = 0, 1
        for i in range(n):
            gradient[i] += cost[i, second] - cost[i, first]


def warm():
    """Compile the kernels."""
    eye, z = np.eye(2), np.zeros(2)
    low, high, q = np.full(2, -1), np.full(2, 1), np.zeros(2, np.int64)
    blast_order(eye.copy())
    decode(eye, z, low, high, z, -1, 10, 1.0, q)
    babai(eye, z, low, high, q)
    improve(eye, z, low, high, True, q)
    swap(eye, np.array([0, 1]))
