"""Slow, obvious twins of prunequant.tickets: Python integers, dictionaries, and every subset tried."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product


def philox(counter, key):
    """Philox4x32-10 in Python integers."""
    mask = 2**32 - 1
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def source_weight(seed, layer, matrix, half_range, index, attempt=0):
    """Weight number ``index`` of a source matrix: one lane of a block, redrawn past the last whole multiple."""
    size = 2 * half_range + 1
    block, lane = divmod(index, 4)
    while True:
        counter = (block % 2**32, block >> 32, matrix + (attempt << 8), layer)
        r = philox(counter, (seed % 2**32, seed >> 32))[lane]
        if r < 2**32 // size * size:
            return r % size - half_range
        attempt += 1


def subset(items, target):
    """Positions of the smallest subset with this sum, or None."""
    for size in range(len(items) + 1):
        for chosen in combinations(range(len(items)), size):
            if sum(items[i] for i in chosen) == target:
                return chosen
    return None


def round_half_up(x, divisor):
    """⌊x/divisor + ½⌋."""
    value = Fraction(x, divisor) + Fraction(1, 2)
    return value.numerator // value.denominator


def forward(weights, x, divisors, constants):
    """One sample through the target, one Python integer at a time."""
    for l, w in enumerate(weights):
        x = list(x) + ([constants[l]] if constants[l] else [])
        z = [sum(int(a) * int(b) for a, b in zip(row, x)) for row in w]
        if divisors[l]:
            z = [round_half_up(v, divisors[l]) for v in z]
        x = [max(v, 0) for v in z] if l + 1 < len(weights) else z
    return x


def pruned_forward(layers, x, scales):
    """One sample through dense masked pairs [(U, V), ...], ReLU in each, rounding by ``scales`` after it (0: none)."""
    for l, (u, v) in enumerate(layers):
        hidden = [max(sum(int(a) * int(b) for a, b in zip(row, x)), 0) for row in u]
        z = [sum(int(a) * h for a, h in zip(row, hidden)) for row in v]
        if scales[l]:
            z = [round_half_up(value, scales[l]) for value in z]
        x = [max(value, 0) for value in z] if l + 1 < len(layers) else z
    return x


def failure_probability(kind, half_range, factor, weight, units):
    """Exact probability that weight·factor is no subset sum of the items of ``units`` units: every block enumerated."""
    values = range(-half_range, half_range + 1)
    if kind == "uniform":
        items = [(v, 1) for v in values]
    else:
        items = [((max(u, 0) if kind == "relu" else u) * v, 1) for u in values for v in values]
    missed = 0
    for block in product([x for x, _ in items], repeat=units):
        sums = {0}
        for x in block:
            sums |= {s + x for s in sums}
        missed += weight * factor not in sums
    return Fraction(missed, len(items) ** units)


def convolve(x, kernel, stride, pad):
    """Cross-correlation of one image (I, H, W) in nested loops."""
    outputs, inputs, size = len(kernel), len(kernel[0]), len(kernel[0][0])
    height, width = len(x[0]), len(x[0][0])

    def at(c, i, j):
        return int(x[c][i][j]) if 0 <= i < height and 0 <= j < width else 0

    rows = range(-pad, height + pad - size + 1, stride)
    cols = range(-pad, width + pad - size + 1, stride)
    taps = list(product(range(inputs), range(size), range(size)))
    return [
        [[sum(int(kernel[o][c][a][b]) * at(c, i + a, j + b) for c, a, b in taps) for j in cols] for i in rows]
        for o in range(outputs)
    ]
