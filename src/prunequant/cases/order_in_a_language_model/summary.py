"""What the rows of the case *order-in-a-language-model* say: orders and thresholds, paired over windows or seeds.

Every cell of a row is a list of cross-entropies, one per evaluation window, in nats per token. Two cells are compared
on the same windows only. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunequant.statistics import holm, paired

KINDS = ("d", "s", "q", "sq", "qs", "joint")
# What is compared beside the kinds of one protocol: quantized while it was trained, or only at the end.
PROTOCOLS = (("qs", "s then q"), ("qs a", "s then qa"), ("sq", "s then q"))


def cells(rows: Sequence[Mapping], part: str, seed: int | None = None) -> dict[tuple, dict[int, NDArray]]:
    """{(pattern, format, kind): {seed: losses per window}} of one part; "" where a kind has no pattern or format.

    Kinds: "d" (dense), "s", "q", "sq", "qs", "joint", and "qs magnitude" (ties to the larger original weight).
    """
    out: dict[tuple, dict[int, NDArray]] = {}
    for row in rows:
        if row["part"] != part or (seed is not None and row["seed"] != seed):
            continue
        for kind, losses in row.get("losses", {}).items():
            pattern = "" if kind in ("d", "q") else row["pattern"]
            fmt = "" if kind in ("d", "s") else row["format"]
            out.setdefault((pattern, fmt, kind), {})[row["seed"]] = np.asarray(losses, dtype=np.float64)
    return out


def jackknife(statistic: Callable[..., float], *columns: ArrayLike) -> NDArray[np.float64]:
    """Pseudo-values n·θ − (n−1)·θ₍ᵢ₎ of a statistic of paired columns, one per place left out.

    Their mean and Student interval are an estimate and an interval of θ (Tukey 1958).

    >>> jackknife(lambda a: float(np.mean(a)), [1.0, 2.0, 6.0]).round(6)
    array([1., 2., 6.])
    """
    vectors = [np.asarray(c, dtype=np.float64) for c in columns]
    n = len(vectors[0])
    if n < 2 or any(v.shape != (n,) for v in vectors):
        raise ValueError(f"columns have shapes {[v.shape for v in vectors]}: give vectors of one length, at least 2")
    whole = statistic(*vectors)
    left = np.array([statistic(*(np.delete(v, i) for v in vectors)) for i in range(n)])
    return n * whole - (n - 1) * left


def perplexity_excess(d: NDArray, s: NDArray, q: NDArray, both: NDArray) -> float:
    """Perplexity of `both` minus (perplexity of s + that of q − that of d), from losses per window."""
    return float(np.exp(both.mean()) - np.exp(s.mean()) - np.exp(q.mean()) + np.exp(d.mean()))


def over_windows(losses: Mapping[tuple, Mapping[int, NDArray]], patterns: Sequence[str]) -> list[dict]:
    """One entry per pattern and format of one model: losses, and differences paired over the windows.

    The dense and the quantized model may have been read on more windows than a pattern was: those that the pattern
    lacks are left out, every second one.
    """
    out = []
    for pattern in patterns:
        for fmt in [f for p, f, kind in losses if p == pattern and kind == "sq"]:
            kinds = {
                k: next(iter(v.values())) for (p, f, k), v in losses.items() if p in ("", pattern) and f in ("", fmt)
            }
            size = len(kinds["sq"])
            kinds = {k: v[:: len(v) // size] for k, v in kinds.items()}
            d, s, q, sq = (kinds[k] for k in ("d", "s", "q", "sq"))
            entry = {
                "pattern": pattern,
                "format": fmt,
                "windows": size,
                "nats": {k: float(v.mean()) for k, v in kinds.items()},
                "excess": asdict(paired(sq - (s + q - d))),
                "excess_perplexity": perplexity_excess(d, s, q, sq),
                "excess_perplexity_interval": asdict(paired(jackknife(perplexity_excess, d, s, q, sq))),
            }
            for kind in ("qs", "qs magnitude", "joint"):
                if kind in kinds:
                    entry[f"{kind} minus sq"] = asdict(paired(kinds[kind] - sq))
            out.append(entry)
    return corrected(out)


def over_seeds(losses: Mapping[tuple, Mapping[int, NDArray]], patterns: Sequence[str]) -> list[dict]:
    """One entry per pattern and format: mean losses, and differences paired over the seeds that have every part."""
    out = []
    for pattern in patterns:
        for fmt in [f for p, f, kind in losses if p == pattern and kind == "sq"]:
            kinds = {k: v for (p, f, k), v in losses.items() if p in ("", pattern) and f in ("", fmt)}
            need = [k for k in ("sq", "qs") if k in kinds]
            seeds = sorted(set.intersection(*(set(kinds[k]) for k in need)))
            if len(seeds) < 2:
                continue
            mean = {k: np.array([v[i].mean() for i in seeds]) for k, v in kinds.items() if set(seeds) <= set(v)}
            entry = {"pattern": pattern, "format": fmt, "seeds": len(seeds),
                     "windows": len(kinds["sq"][seeds[0]]),
                     "nats": {k: float(v.mean()) for k, v in mean.items()}}  # fmt: skip
            for kind in ("qs", "qs magnitude", "joint"):
                if kind in mean:
                    entry[f"{kind} minus sq"] = asdict(paired(mean[kind] - mean["sq"]))
            for one, other in PROTOCOLS:
                if {one, other} <= set(mean):
                    entry[f"{one} minus {other}"] = asdict(paired(mean[one] - mean[other]))
            if {"d", "s", "q"} <= set(mean):
                d, s, q, sq = (mean[k] for k in ("d", "s", "q", "sq"))
                entry["excess"] = asdict(paired(sq - (s + q - d)))
                entry["excess_perplexity_interval"] = asdict(paired(np.exp(sq) - np.exp(s) - np.exp(q) + np.exp(d)))
            out.append(entry)
    return corrected(out)


def corrected(entries: list[dict]) -> list[dict]:
    """Add Holm's p-value to every comparison; the family is all entries' comparisons of the same name."""
    names = ["qs minus sq", "qs magnitude minus sq", "joint minus sq", "excess", "excess_perplexity_interval"]
    names += [f"{one} minus {other}" for one, other in PROTOCOLS]
    for name in names:
        those = [e[name] for e in entries if name in e]
        for comparison, p in zip(those, holm([c["p"] for c in those]) if those else ()):
            comparison["p_holm"] = float(p)
    return entries


def summarise(settings: Mapping, rows: Sequence[Mapping]) -> dict:
    """The record's summary: "shipped" and "destroyed" over windows, "seeds" and "tuned" over seeds, and the grid."""
    shipped, seeds, tuned = (cells(rows, part) for part in ("shipped", "seeds", "tuned"))
    return {
        "shipped": over_windows(shipped, settings["patterns"]),
        "destroyed": over_windows(shipped, settings["destroyed"]),
        "seeds": over_seeds(seeds, settings["seed_patterns"]),
        "tuned": over_seeds(tuned, list(settings["tuned"])),
        "grid": grid(rows),
    }


def grid(rows: Sequence[Mapping]) -> dict:
    """Ties and errors by format: on the shipped weights, and the mean over seeds of the weights without the grid."""
    out = {}
    for base in ("shipped", "dithered"):
        by_row = [row["grid"][base] for row in rows if row["part"] == "grid" and base in row.get("grid", {})]
        if by_row:
            out[base] = {f: {k: float(np.mean([h[f][k] for h in by_row])) for k in by_row[0][f]} for f in by_row[0]}
    return out
