"""Every small vector, every format, every norm: how often each statement about the two orders is false.

`prunequant record order-audit` counts them all, prints the table and writes every count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunequant import arguments
from prunequant.formats import Format, named
from prunequant.interplay.orders import apply_orders, check_format, check_norm
from prunequant.interplay.search import MAX_RADIUS, STATEMENTS, integer_vectors
from prunequant.sparsity.masks import TIES

FORMATS: Mapping[str, Format] = {
    name: named(name)
    for name in (
        "INT3 narrow",
        "INT4 narrow",
        "INT3 two's complement",
        "INT4 two's complement",
        "HBFP4",
        "MXFP4 E2M1",
        "MXFP6 E2M3",
        "NVFP4",
        "NF4",
        "INT4 zero-point",
        "INT4 gptq",
    )
}
IN_BLOCKS = ("INT3 narrow", "INT4 narrow", "HBFP4", "HBFP6", "MXFP4 E2M1")  # those of `--block`
COLUMNS = (
    ("sq<=sum", "first"),
    ("sq<=qs", "first"),
    ("qs<=sq", "first"),
    ("qs<=sum", "first"),
    ("sq<=qs", "magnitude"),
    ("qs<=sq", "magnitude"),
)


MAX_VECTORS = 1 << 22


@dataclass(frozen=True)
class Share:
    """Of `vectors` vectors, `violations` break a statement, the worst by `worst`; `smallest` is one of them.

    Smallest: of least largest entry, then of least sum of magnitudes, then the first in lexicographic order, which is
    the vector that `counterexample` finds. None where nothing breaks the statement.
    """

    format: str
    statement: str
    ties: str
    norm: float
    vectors: int
    violations: int
    worst: float
    smallest: tuple[int, ...] | None = None

    @property
    def share(self) -> float:
        return self.violations / self.vectors


def audit(
    formats: Mapping[str, Format] = FORMATS,
    pattern: str | float = "2:4",
    *,
    radius: int = 12,
    length: int = 4,
    norms: tuple[float, ...] = (1.0, 2.0, 3.0, np.inf),
    columns: tuple[tuple[str, str], ...] = COLUMNS,
) -> list[Share]:
    """Count violations over all non-zero integer vectors with entries in [-radius, radius].

    Parameters
    ----------
    formats : by the name shown. Each vector is its own tensor; NVFP4 gets the tensor scale of `radius`.
    pattern : as in `compare`, over the vector.
    radius, length : 1 to 256, and 1 to 16; at most four million vectors in all.
    norms : p of the L_p norms, 1 to infinity.
    columns : pairs (statement, ties), statements as in `counterexample`; those about "joint" are not counted here.

    Returns
    -------
    One Share for each format, column and norm. With the defaults: 390,624 vectors, 11 formats, 24 cells each.
    """
    arguments.instance(formats, "formats", Mapping, "a mapping from names to formats")
    formats = {name: check_format(fmt, f"formats[{name!r}]") for name, fmt in formats.items()}
    radius, length = arguments.integer(radius, "radius", 1, MAX_RADIUS), arguments.integer(length, "length", 1, 16)
    if (2 * radius + 1) ** length > MAX_VECTORS:
        raise ValueError(f"radius is {radius} and length {length}: above {MAX_VECTORS:,} vectors")
    norms = tuple(check_norm(p, "norms") for p in norms)
    counted = [name for name, (left, *_) in STATEMENTS.items() if left != "joint"]
    for statement, rule in columns:
        arguments.choice(statement, "statement", counted)
        arguments.choice(rule, "ties", TIES)
    out = []
    for name, fmt in formats.items():
        own = fmt.row_by_row(radius)
        counts: dict[tuple[str, str, float], tuple[int, float, tuple[int, ...] | None]] = {}
        total = 0
        for batch in integer_vectors(radius, length, 1 << 17):
            batch = batch[np.any(batch != 0, axis=1)]
            total += len(batch)
            for ties in dict.fromkeys(ties for _, ties in columns):
                orders = apply_orders(batch, own, pattern, ("sq", "qs"), ties, batch=1)
                for p in norms:
                    errors = {which: orders.error(which, p) for which in ("s", "q", "sq", "qs")}
                    errors["sum"] = errors["s"] + errors["q"]
                    for statement, rule in columns:
                        if rule != ties:
                            continue
                        a, b = (errors[which] for which in STATEMENTS[statement][:2])
                        bad = a > b + 1e-9 * np.maximum(b, 1)
                        broken, worst, smallest = counts.get((statement, ties, p), (0, 0.0, None))
                        if np.any(bad):
                            broken += int(np.count_nonzero(bad))
                            worst = max(worst, float(np.max(a - b, where=bad, initial=0.0)))
                            smallest = _smaller(smallest, batch[bad])
                        counts[statement, ties, p] = broken, worst, smallest
        out += [Share(name, *key, total, *cell) for key, cell in counts.items()]
    return out


def _smaller(known: tuple[int, ...] | None, vectors: np.ndarray) -> tuple[int, ...]:
    """The smallest of an integer vector (or None) and the rows of an array, in the order of `Share`."""
    size = np.abs(vectors)
    largest, total = size.max(axis=1), size.sum(axis=1)
    best = vectors[np.argmin(largest * (vectors.shape[1] + 1.0) * largest.max() + total)]
    best = tuple(int(v) for v in best)
    if known is None:
        return best
    return min(known, best, key=lambda v: (max(map(abs, v)), sum(map(abs, v)), v))


def table(shares: list[Share]) -> str:
    """The shares as a Markdown table: a row a format, a column a statement, the norms side by side."""
    columns = list(dict.fromkeys((s.statement, s.ties) for s in shares))
    norms = sorted({s.norm for s in shares})
    label = "/".join("L∞" if p == np.inf else f"L{p:g}" for p in norms)
    lines = [
        f"| format ({label}) | " + " | ".join(f"{a} ({b})" for a, b in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    cells = {(s.format, s.statement, s.ties, s.norm): s.share for s in shares}
    for name in dict.fromkeys(s.format for s in shares):
        texts = []
        for column in columns:
            values = [cells[(name, *column, p)] for p in norms]
            texts.append(
                "0" if not any(values) else "/".join("0" if v == 0 else f"{v:.3f}".lstrip("0") for v in values)
            )
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)
