"""Karmarkar-Karp differencing with the mask: a heap of differences, then two colours on the tree of comparisons."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def sift_down(keys, nodes, place, size):
    """Restore the max-heap order below `place`."""
    key = keys[place]
    node = nodes[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] > keys[child]:
            child += 1
        if keys[child] <= key:
            break
        keys[place] = keys[child]
        nodes[place] = nodes[child]
        place = child
    keys[place] = key
    nodes[place] = node


@njit(cache=True, nogil=True)
def difference_rows(x, lengths, targets, masks, found, start, stop):
    """masks[i] with x[i]·masks[i] = targets[i] where differencing ends at 0, else found[i] = False.

    Signs s with sum s_i x_i = Λ - 2t, Λ = sum x: the subset is {i : s_i = -1}. The numbers differenced are the
    |x_i| and |Λ - 2t|; joining the two largest a >= b puts them on opposite sides, so the sides are read off the
    tree backwards. Returns how many masks do not sum to their target, so 0.
    """
    columns = x.shape[1]
    keys = np.empty(columns + 1, np.int64)
    nodes = np.empty(columns + 1, np.int64)
    winner = np.empty(columns + 1, np.int64)
    loser = np.empty(columns + 1, np.int64)
    side = np.empty(columns + 1, np.int8)
    wrong = 0
    for i in range(start, stop):
        count = lengths[i]
        total = 0
        for j in range(count):
            total += x[i, j]
            keys[j] = abs(x[i, j])
            nodes[j] = j
        rest = total - 2 * targets[i]
        keys[count] = abs(rest)
        nodes[count] = count
        size = count + 1
        for place in range(size // 2 - 1, -1, -1):
            sift_down(keys, nodes, place, size)
        edges = 0
        while size > 1:
            key = keys[0]
            node = nodes[0]
            size -= 1
            keys[0] = keys[size]
            nodes[0] = nodes[size]
            sift_down(keys, nodes, 0, size)
            winner[edges] = node
            loser[edges] = nodes[0]
            edges += 1
            keys[0] = key - keys[0]
            nodes[0] = node
            sift_down(keys, nodes, 0, size)
        found[i] = keys[0] == 0
        for j in range(columns):
            masks[i, j] = False
        if not found[i]:
            continue
        side[nodes[0]] = 1
        for e in range(edges - 1, -1, -1):
            side[loser[e]] = -side[winner[e]]
        # sum over i of side_i |x_i| = -side_count |rest|: turn it so that the right side is +rest
        turn = -side[count] if rest >= 0 else side[count]
        check = 0
        for j in range(count):
            sign = side[j] * turn if x[i, j] >= 0 else -side[j] * turn
            if sign < 0:
                masks[i, j] = True
                check += x[i, j]
        wrong += check != targets[i]
    return wrong


def warm() -> None:
    """Compile the kernel for the one type it is used with."""
    x = np.array([[3, -5, 7]], dtype=np.int64)
    difference_rows(x, np.array([3]), np.array([2]), np.zeros((1, 3), dtype=bool), np.zeros(1, dtype=bool), 0, 1)
