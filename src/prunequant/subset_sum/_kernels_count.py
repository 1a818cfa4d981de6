"""How many subsets have each sum: a table, or the join of two sorted halves where there are few subsets."""

import numpy as np
from numba import njit

from ._kernels_reach import unimodal

ONE = np.uint64(1)
ZERO = np.uint64(0)
CHUNK = 1 << 15  # targets whose numbers stay in the cache while the halves are joined


@njit(cache=True, nogil=True)
def count_window(sizes, count, total, low, high, table, capacity, checked):
    """Numbers of subsets of sizes[:count] by sum, right inside [low, high]: (start in table, whether a cell wrapped).

    The band of useful sums is as in `_kernels_reach.reach_window`, and so are the two halves of the table.
    """
    left = total
    reached = np.int64(0)
    src = ZERO
    dst = np.uint64(capacity)
    table[src] = 1
    last = ZERO
    wrapped = False
    for k in range(count):
        size = np.uint64(sizes[k])
        left -= sizes[k]
        reached += sizes[k]
        stop = np.uint64(min(high, reached)) + ONE
        first = np.uint64(max(low - left, 0))
        for s in range(last + ONE, stop):
            table[src + s] = 0
        for s in range(first, min(size, stop)):
            table[dst + s] = table[src + s]
        back = src - size
        if checked:
            for s in range(max(first, size), stop):
                value = table[src + s] + table[back + s]
                wrapped |= value < table[src + s]
                table[dst + s] = value
        else:
            for s in range(max(first, size), stop):
                table[dst + s] = table[src + s] + table[back + s]
        last = stop - ONE
        src, dst = dst, src
    return src, wrapped


@njit(cache=True, nogil=True)
def count_rows(x, low, high, table, checked, out, overflow, start, stop):
    """out[i, t - low] = number of subsets of row i with sum t; overflow[i] tells that a number passes 2**64 - 1."""
    columns = x.shape[1]
    width = high - low + 1
    capacity = table.shape[0] // 2
    sizes = np.empty(columns, np.int64)
    ordered = np.empty(columns, np.int64)
    for i in range(start, stop):
        count = 0
        total = 0
        negative = 0
        for j in range(columns):
            size = abs(x[i, j])
            sizes[count] = size
            count += size != 0
            total += size
            negative += size if x[i, j] < 0 else 0
        zeros = columns - count
        overflow[i] = False
        first = max(low + negative, 0)
        last = min(high + negative, total)
        if first > last:
            for j in range(width):
                out[i, j] = ZERO
            continue
        mirrored = total - first < last
        a = total - last if mirrored else first
        b = total - first if mirrored else last
        unimodal(sizes, count, ordered)
        src, wrapped = count_window(sizes, count, total, a, b, table, capacity, checked)
        place = first - negative - low
        for j in range(place):
            out[i, j] = ZERO
        for j in range(place + last - first + 1, width):
            out[i, j] = ZERO
        for s in range(last - first + 1):
            sum_ = b - s if mirrored else a + s
            value = np.uint64(table[src + np.uint64(sum_)])
            if value != ZERO and zeros > 0 and (zeros > 63 or (value << np.uint64(zeros)) >> np.uint64(zeros) != value):
                wrapped = True
            out[i, place + s] = value << np.uint64(zeros & 63)
        overflow[i] = wrapped


@njit(cache=True, nogil=True)
def sorted_sums(items, first, last, sums, spare):
    """All sums of items[first:last] in rising order, by merging; returns their number."""
    sums[0] = 0
    size = 1
    for k in range(first, last):
        value = items[k]
        a = 0
        b = 0
        for s in range(2 * size):
            if b >= size or (a < size and sums[a] <= sums[b] + value):
                spare[s] = sums[a]
                a += 1
            else:
                spare[s] = sums[b] + value
                b += 1
        size *= 2
        for s in range(size):
            sums[s] = spare[s]
    return size


@njit(cache=True, nogil=True)
def join_rows(x, low, high, out, start, stop):
    """`count_rows` by joining: for each sum of one half, the stretch of sums of the other that land in the window."""
    columns = x.shape[1]
    half = columns // 2
    capacity = 1 << (columns - half)
    left = np.empty(capacity, np.int64)
    right = np.empty(capacity, np.int64)
    spare = np.empty(capacity, np.int64)
    place = np.empty(capacity, np.int64)
    width = high - low + 1
    for i in range(start, stop):
        row = np.uint64(i)
        for t in range(np.uint64(width)):
            out[row, t] = ZERO
        size_a = sorted_sums(x[i], 0, half, left, spare)
        size_b = sorted_sums(x[i], half, columns, right, spare)
        begin = size_b
        for k in range(size_a):
            while begin > 0 and left[k] + right[begin - 1] >= low:
                begin -= 1
            place[k] = begin
        for chunk in range(0, width, CHUNK):
            end = min(chunk + CHUNK, width)
            for k in range(size_a):
                base = left[k] - low
                j = np.uint64(place[k])
                while j < np.uint64(size_b) and right[j] + base < end:
                    out[row, np.uint64(right[j] + base)] += ONE
                    j += ONE
                place[k] = np.int64(j)


def warm() -> None:
    """Compile every kernel, the table for both of its widths."""
    x = np.array([[3, -5, 7]], dtype=np.int64)
    out = np.zeros((1, 5), dtype=np.uint64)
    for dtype in (np.uint32, np.uint64):
        count_rows(x, -2, 2, np.zeros(64, dtype=dtype), False, out, np.zeros(1, dtype=bool), 0, 1)
    join_rows(x, -2, 2, out, 0, 1)
