"""Kernels of best-subset pruning with refit: OBS with swaps, and leaps and bounds on the inverse Gram matrix.

Pruning the set Q and refitting the rest costs w_Qᵀ (H_QQ)⁻¹ w_Q with H the inverse Gram matrix, so only the entries
of H and w on the candidates matter. Pruning j costs δ_j = w_j²/H_jj and leaves w − H_·j w_j/H_jj and H − H_·j
H_j·/H_jj.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def _leaps_bound(h, delta, order, count, r):
    """Lower bound of the cost of pruning r of the candidates order[:count], whose delta ascends along order.

    At least the r-th smallest δ, because the cost of a set is at least that of each member. Also, with D = diag H, at
    least (Σ of the r smallest δ)/ρ for ρ ≥ the largest eigenvalue of D^-½ H_QQ D^-½ over all Q of r candidates: here ρ
    is the largest row sum of the r largest entries in magnitude, a Gershgorin bound.
    """
    bound = delta[order[r - 1]]
    total = 0.0
    for i in range(r):
        total += delta[order[i]]
    if total <= bound:
        return bound
    worst = 1.0
    row = np.empty(count)
    for a in range(count):
        i = order[a]
        for b in range(count):
            j = order[b]
            row[b] = abs(h[i, j]) / np.sqrt(h[i, i] * h[j, j]) if a != b else 0.0
        if r < count:
            row.sort()
        s = 1.0
        for b in range(count - r + 1, count):
            s += row[b]
        worst = max(worst, s)
        if total <= bound * worst:
            return bound
    return max(bound, total / worst)


@njit(cache=True, nogil=True)
def best_subset(inverse, weights, r, node_limit, best, out):
    """The r weights whose pruning, with refit, costs least. best : cost to beat; out (r,) is overwritten if beaten.

    At a node the candidates are sorted by δ; child i prunes the i-th and keeps all candidates after it for good, so it
    chooses its other members among those before: its cost is at least δ_i, and i ≥ r. Children come by rising bound and
    the first that cannot win ends the node. Returns (cost, lower bound, nodes).
    """
    n = weights.size
    h = np.zeros((r + 1, n, n))
    w = np.zeros((r + 1, n))
    ids = np.zeros((r + 1, n), np.int64)
    count = np.zeros(r + 1, np.int64)
    delta = np.zeros((r + 1, n))
    order = np.zeros((r + 1, n), np.int64)
    child = np.zeros(r + 1, np.int64)
    cost = np.zeros(r + 1)
    floor = np.zeros(r + 1)  # bound of the node as a whole
    chosen = np.zeros(r + 1, np.int64)
    h[0] = inverse
    w[0] = weights
    ids[0] = np.arange(n)
    count[0] = n
    nodes = 0
    d = 0
    entering = True
    while True:
        if entering:
            nodes += 1
            m = count[d]
            for i in range(m):
                pivot = h[d, i, i]
                delta[d, i] = w[d, i] * w[d, i] / pivot if pivot > 0.0 else np.inf
                k = i - 1
                while k >= 0 and delta[d, order[d, k]] > delta[d, i]:
                    order[d, k + 1] = order[d, k]
                    k -= 1
                order[d, k + 1] = i
            child[d] = r - d - 1
            floor[d] = cost[d]
            if r - d > 1:
                floor[d] = cost[d] + _leaps_bound(h[d], delta[d], order[d], m, r - d)
                if floor[d] >= best:
                    child[d] = m  # nothing to visit here
        i = child[d]
        if i < count[d] and nodes > node_limit:
            bound = best
            for level in range(d + 1):
                j = child[level]
                if j < count[level]:
                    bound = min(bound, max(floor[level], cost[level] + delta[level, order[level, j]]))
            return best, bound, nodes
        if i < count[d] and cost[d] + delta[d, order[d, i]] < best:
            pick = order[d, i]
            chosen[d] = ids[d, pick]
            if d == r - 1:
                best = cost[d] + delta[d, pick]
                out[:] = chosen[:r]
            else:
                child[d] += 1
                pivot = h[d, pick, pick]
                ratio = w[d, pick] / pivot
                for a in range(i):
                    from_a = order[d, a]
                    ids[d + 1, a] = ids[d, from_a]
                    w[d + 1, a] = w[d, from_a] - h[d, from_a, pick] * ratio
                    factor = h[d, from_a, pick] / pivot
                    for b in range(a + 1):
                        from_b = order[d, b]
                        value = h[d, from_a, from_b] - factor * h[d, from_b, pick]
                        h[d + 1, a, b] = value
                        h[d + 1, b, a] = value
                count[d + 1] = i
                cost[d + 1] = cost[d] + delta[d, pick]
                d += 1
                entering = True
                continue
        d -= 1
        if d < 0:
            return best, best, nodes
        entering = False


@njit(cache=True, nogil=True)
def obs(inverse, weights, r, gone):
    """Optimal Brain Surgeon: r times prune the least w_j²/H_jj and refit. inverse, weights are overwritten."""
    n = weights.size
    gone[:] = False
    for _ in range(r):
        pick, least = -1, np.inf
        for i in range(n):
            if gone[i]:
                continue
            cost = weights[i] * weights[i] / inverse[i, i] if inverse[i, i] > 0.0 else np.inf  # rounding may leave ≤ 0
            if pick < 0 or cost < least:
                pick, least = i, cost
        pivot = inverse[pick, pick]
        if pivot > 0.0:
            ratio = weights[pick] / pivot
            column = inverse[:, pick].copy()
            for i in range(n):
                weights[i] -= column[i] * ratio
                for j in range(n):
                    inverse[i, j] -= column[i] * column[j] / pivot
        weights[pick] = 0.0
        gone[pick] = True
        inverse[pick, :] = 0.0
        inverse[:, pick] = 0.0
        inverse[pick, pick] = 1.0


@njit(cache=True, nogil=True)
def obs_swaps(gram, weights, gone, most):
    """Exchange a pruned weight for a kept one while the refitted error falls, at most `most` times; gone in place."""
    target = gram @ weights
    size = weights @ target
    for _ in range(most):
        kept = np.flatnonzero(~gone)
        pruned = np.flatnonzero(gone)
        k = kept.size
        block = np.empty((k, k))
        for a in range(k):
            for b in range(k):
                block[a, b] = gram[kept[a], kept[b]]
        inverse = np.linalg.inv(block)
        fit = inverse @ target[kept]
        best, best_in, best_out = -1e-11 * size, -1, -1
        for i in pruned:
            column = np.empty(k)
            for a in range(k):
                column[a] = gram[kept[a], i]
            u = inverse @ column
            schur = gram[i, i] - column @ u
            if schur <= 0.0:
                continue
            t = (target[i] - column @ fit) / schur
            for a in range(k):
                value = fit[a] - u[a] * t
                change = value * value / (inverse[a, a] + u[a] * u[a] / schur) - t * t * schur
                if change < best:
                    best, best_in, best_out = change, i, kept[a]
        if best_in < 0:
            return
        gone[best_in] = False
        gone[best_out] = True


def warm():
    """Compile the kernels."""
    gram, weights = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([1.0, 2.0, 3.0])
    gone = np.zeros(3, np.bool_)
    best_subset(np.linalg.inv(gram), weights, 2, 10, np.inf, np.zeros(2, np.int64))
    obs(np.linalg.inv(gram), weights.copy(), 1, gone)
    obs_swaps(gram, weights, gone, 3)
