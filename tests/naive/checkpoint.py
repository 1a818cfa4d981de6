"""What a matrix loses under each scheme, in plain NumPy: whole arrays, one candidate scale after another."""

from __future__ import annotations

import numpy as np

from prunequant import formats
from prunequant.checkpoint.schemes import CANDIDATES, WORSE


def half(x):
    """Positive float32 numbers to 11 significant bits, the nearest, ties to even."""
    u = np.asarray(x, np.float32).view(np.uint32)
    return ((u + np.uint32(0xFFF) + ((u >> np.uint32(13)) & np.uint32(1))) & ~np.uint32(0x1FFF)).view(np.float32)


def rounded(x, scale, bits):
    """The integers of x (groups, n) under a scale a group, and the error of each group."""
    top = np.float32(2 ** (bits - 1))
    q = np.clip(np.rint(x * (np.float32(1) / scale)[:, None]), -top, top - 1)
    return q, np.square(x - scale[:, None] * q, dtype=np.float32).sum(1, dtype=np.float64)


def least_scale(exponent):
    """The least normal number of half precision, in units of 2^exponent."""
    return np.float32(2.0 ** min(-14 - exponent, 126))


def searched(x, bits, exponent=0):
    """(error, scale) of each group of x (groups, n) float32: the candidates, then a step of least squares."""
    floor = least_scale(exponent)
    largest = np.abs(x).max(1)
    held = largest > 0
    best, scale = np.full(len(x), np.inf), np.ones(len(x), np.float32)
    searching = held.copy()
    for ratio in CANDIDATES[bits]:
        s = np.where(held, half(np.float32(ratio) * largest * np.float32(2.0 ** (1 - bits))), np.float32(1))
        s = np.maximum(s, floor)
        _, error = rounded(x, s, bits)
        better = searching & (error < best)
        best[better], scale[better] = error[better], s[better]
        searching &= ~(error > WORSE * best)
    q, _ = rounded(x, scale, bits)
    square, cross = (q * q).sum(1, dtype=np.float64), (q * x).sum(1, dtype=np.float64)
    s = np.where(cross > 0, np.maximum(half(cross / np.maximum(square, 1)), floor), scale)
    _, error = rounded(x, s, bits)
    better = held & (error < best)
    best[better], scale[better] = error[better], s[better]
    return np.where(held, best, 0.0), scale


def grouped(x, group, bits, exponent=0):
    """Σ error of integers with a scale for every `group` values of a row, the last group perhaps shorter; infinite
    where half precision does not hold a scale."""
    columns = x.shape[1]
    ends = range(0, columns, min(group, columns))
    found = [searched(np.ascontiguousarray(x[:, a : a + group]), bits, exponent) for a in ends]
    held = [np.abs(x[:, a : a + group]).max(1) > 0 for a in ends]  # a group of zeros has a scale of 1
    most = max(np.where(some, scale, 0).max() for some, (_, scale) in zip(held, found))
    return np.inf if np.ldexp(float(most), exponent) > 65504 else sum(error.sum() for error, _ in found)


def one_scale(x, bits, exponent=0):
    """Σ error of integers with one scale in all: a fine list from twice the usual one down, left as `searched` does."""
    first = 2 * float(np.abs(x).max()) / 2 ** (bits - 1)
    flat, best, at = x.reshape(1, -1), np.inf, 0.0
    for step in range(320):
        s = np.maximum(half(np.float32([first * 2.0 ** (-step / 32)])), least_scale(exponent))
        _, error = rounded(flat, s, bits)
        if error[0] > WORSE * best:
            break
        if error[0] < best:
            best, at = error[0], float(s[0])
    return np.inf if np.ldexp(at, exponent) > 65504 else best


def largest_of(x, n, m, tie=None):
    """Which n of every m neighbours stay: the largest magnitudes, of equals those of larger `tie`, then the first."""
    size = np.abs(x).reshape(-1, m)
    tie = np.zeros_like(size) if tie is None else np.abs(tie).reshape(-1, m)
    place = np.broadcast_to(np.arange(m), size.shape)
    order = np.lexsort((place, -tie, -size), axis=1)
    keep = np.zeros(size.shape, bool)
    np.put_along_axis(keep, order[:, :n], True, axis=1)
    return keep.reshape(x.shape)


def smallest(x, gone):
    """Σ x² of the `gone` smallest magnitudes."""
    return np.sort(np.square(x, dtype=np.float64).ravel())[:gone].sum()


def without_half(x):
    """x without the smaller half: whole bins of the upper 16 bits of |x|, of the last bin a share by place."""
    place = (np.abs(x).view(np.uint32) >> 16).ravel()
    number = x.size // 2
    boundary = np.sort(place)[number - 1] if number else -1
    inside = place == boundary
    share = (number - np.sum(place < boundary)) / max(inside.sum(), 1)
    golden = (np.arange(x.size, dtype=np.uint64) * np.uint64(0x9E3779B9)) & np.uint64(0xFFFFFFFF)
    gone = (place < boundary) | (inside & (golden < np.uint64(round(share * 2**32))))
    return np.where(gone.reshape(x.shape), np.float32(0), x)


def errors(x, group=128, exponent=0):
    """Σ (x − y)² of every scheme for x (rows, columns) float32, and of the orders of 2:4 and INT4 channel.

    The weights are x · 2^exponent; a scheme whose scales half precision does not hold is absent.
    """
    columns = x.shape[1]
    found = {}
    for bits in (2, 3, 4, 8):
        found[f"INT{bits} tensor"] = one_scale(x, bits, exponent)
        found[f"INT{bits} channel"] = grouped(x, columns, bits, exponent)
        found[f"INT{bits} g{group}"] = grouped(x, group, bits, exponent)
    for name in ("MXFP4", "MXFP6", "MXFP8", "NVFP4", "NF4"):
        found[name] = np.square(x.astype(np.float64) - formats.named(name).quantize(x.astype(np.float64))).sum()
    for share in (0.5, 0.75, 0.875):
        found[f"{100 * share:g}% FP16"] = smallest(x, int(share * x.size))
    pruned = {"50%": without_half(x)}
    for n, m in ((2, 4), (4, 8)):
        if columns % m == 0:
            pruned[f"{n}:{m}"] = np.where(largest_of(x, n, m), x, np.float32(0))
            found[f"{n}:{m} FP16"] = np.square(x - pruned[f"{n}:{m}"], dtype=np.float64).sum()
    for name in ("50%", "2:4"):
        if name in pruned:
            lost = np.square(x - pruned[name], dtype=np.float64).sum()
            found[f"{name} INT4 channel"] = lost + grouped(pruned[name], columns, 4, exponent)
            found[f"{name} INT4 g{group}"] = lost + grouped(pruned[name], group, 4, exponent)
    if "2:4" in pruned:
        _, scale = searched(x, 4, exponent)
        q, _ = rounded(x, scale, 4)
        away = np.square(x.astype(np.float64) - scale[:, None] * q)
        nothing = np.square(x, dtype=np.float64)
        for name, keep in (
            ("quantize_first", largest_of(q, 2, 4)),
            ("by_weights", largest_of(q, 2, 4, x)),
            ("joint", largest_of(np.maximum(nothing - away, 0) + 1e-300, 2, 4)),
        ):
            found[name] = np.where(keep, away, nothing).sum()
    nothing = 0 < np.abs(x).max() <= least_scale(exponent) / 2
    absent = {name for name, error in found.items() if not np.isfinite(error) or (nothing and "INT" in name)}
    if "2:4 INT4 channel" in absent:
        absent |= {"quantize_first", "by_weights", "joint"}
    return {name: error for name, error in found.items() if name not in absent}


def kurtosis(x):
    """Fourth central moment over the squared variance."""
    away = x.astype(np.float64) - x.mean(dtype=np.float64)
    return np.mean(away**4) / np.mean(away**2) ** 2


def stored(x, name, group):
    """The values y that a scheme stores for x (rows, columns) float32."""
    pattern, _, rest = name.partition(" ") if name[0].isdigit() else ("", "", name)
    if pattern == "50%":
        kept = without_half(x)
    elif pattern:
        n, m = (int(part) for part in pattern.split(":"))
        kept = np.where(largest_of(x, n, m), x, np.float32(0))
    else:
        kept = x
    if rest == "FP16":
        return kept
    if not rest.startswith("INT"):
        return formats.named(rest).quantize(x.astype(np.float64))
    bits, granularity = int(rest[3]), rest[5:]
    if granularity == "tensor":
        first = 2 * float(np.abs(x).max()) / 2 ** (bits - 1)
        tried = half(np.float32(first * 2.0 ** (-np.arange(320) / 32)))
        lost = [rounded(x.reshape(1, -1), s[None], bits)[1][0] for s in tried]
        s = tried[int(np.argmin(lost))]
        return (s * rounded(x.reshape(1, -1), s[None], bits)[0]).reshape(x.shape)
    width = group if granularity == f"g{group}" else x.shape[1]
    parts = []
    for first in range(0, x.shape[1], min(width, x.shape[1])):
        part = np.ascontiguousarray(kept[:, first : first + width])
        _, scale = searched(part, bits)
        parts.append(scale[:, None] * rounded(part, scale, bits)[0])
    return np.concatenate(parts, axis=1)


def output_errors(x, gram, group=128):
    """tr(E G Eᵀ) / tr(X G Xᵀ) of every scheme whose stored values are said here, in float64."""
    power = np.trace(x @ gram @ x.T.astype(np.float64))
    found = {}
    for name in errors(x, group):
        if not name.endswith("% FP16") and name not in ("quantize_first", "by_weights", "joint"):
            lost = x.astype(np.float64) - stored(x, name, group)
            found[name] = np.trace(lost @ gram @ lost.T) / power
    return found
