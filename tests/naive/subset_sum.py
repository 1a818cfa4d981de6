"""Slow and obvious twins of prunequant.subset_sum: sets, enumeration and unbounded integers."""

from itertools import product


def all_sums(x):
    """Every subset sum, as a set."""
    sums = {0}
    for value in x:
        sums |= {s + int(value) for s in sums}
    return sums


def counts(x):
    """Subset sum -> number of subsets, by enumeration of all masks."""
    table = {}
    for mask in product((0, 1), repeat=len(x)):
        total = sum(int(v) for v, bit in zip(x, mask) if bit)
        table[total] = table.get(total, 0) + 1
    return table


def reachable(x, low, high):
    sums = all_sums(x)
    return [t in sums for t in range(low, high + 1)]


def reach_big_int(x):
    """Reachable sums of magnitudes as the bits of one unbounded integer, and the shift of the origin."""
    bits, origin = 1, 0
    for value in x:
        bits |= bits << abs(int(value))
        origin += max(-int(value), 0)
    return bits, origin


def first_prefix(x, targets):
    """The smallest k such that every target is a sum of some of x[:k]; len(x) + 1 when there is none."""
    for k in range(len(x) + 1):
        if set(targets) <= all_sums(x[:k]):
            return k
    return len(x) + 1


def karmarkar_karp(x, target):
    """Whether repeated differencing of |x| and |sum(x) - 2 target| ends at 0."""
    numbers = [abs(int(v)) for v in x] + [abs(sum(int(v) for v in x) - 2 * target)]
    while len(numbers) > 1:
        numbers.sort()
        largest, second = numbers.pop(), numbers.pop()
        numbers.append(largest - second)
    return numbers[0] == 0
