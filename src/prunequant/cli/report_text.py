"""A report in the terminal: first in words, then a line for every matrix, then what was not treated."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .common import tell

if TYPE_CHECKING:
    from ..checkpoint import Report
    from ..checkpoint.judging import Choice, Judged

WORDS = {"quantization": "quantize", "pruning": "prune", "both": "both", None: "none fits"}
COLOURS = {"quantization": "cyan", "pruning": "yellow", "both": "magenta", None: "red"}
SHORT = {
    "linear": "linear",
    "linear, transposed": "linear T",
    "convolution": "conv",
    "depthwise convolution": "depthw.",
    "experts": "experts",
    "embedding": "embed.",
}
CARE = 3  # matrices named for each reason
LOW, HEAVY = 15.0, 10.0  # dB and kurtosis from which on a matrix deserves a word
_NARROW = 100


def print_report(report: Report, budget: float, terminal: Console) -> None:
    """Print a report, its table at one of its budgets."""
    at = report.settings.budgets.index(budget)
    for line in summary(report, at):
        tell(terminal, line)
    if report.matrices:
        terminal.print()
        terminal.print(_table(report, at, terminal.width))
    lines = untreated(report)
    if lines:
        terminal.print()
    for line in (*lines, *(f"note: {note}" for note in report.notes)):
        tell(terminal, line)


def summary(report: Report, at: int) -> list[str]:
    """What a person reads first: bytes, who wins where, what deserves care, the order of the two."""
    model, totals = report.model, report.totals
    rest = totals["untreated_bytes"]
    lines = [
        f"{model['path']} ({model['format']}): {size(model['stored_bytes'])}, {totals['weights']:,} weights in "
        f"{totals['matrices']} matrices take {size(totals['matrix_bytes'])}; {totals['untreated']} tensors, "
        f"{size(rest)} or {rest / max(model['stored_bytes'], 1):.1%} of the bytes, are not judged and are listed below."
    ]
    if not report.matrices:
        return [*lines, "There is nothing to judge in it."]
    for row in totals["winners"]:
        parts = [f"{WORDS[f]} {row[f]:.1%}" for f in ("quantization", "pruning", "both") if row[f]]
        parts += [f"no scheme fits {row['none']:.1%}"] if row["none"] else []
        lines.append(f"Loses least at {row['bits']:g} bits a weight, by share of the weights: {', '.join(parts)}.")
    sparse = totals["sparse"]
    lines.append(
        f"{totals['zeros'] / totals['weights']:.1%} of the weights are zero already. With 16-bit values that is "
        f"{size(sparse['dense'])} stored densely, {size(sparse['bitmap'])} with a bitmap, {size(sparse['entropy'])} "
        f"with the least mask; pruned to 2:4 it would be {size(sparse['2:4'])}."
    )
    return [*lines, *_order(report.matrices), *care(report, at)]


def size(count: float) -> str:
    """Bytes as a person says them.

    Examples
    --------
    >>> size(18_435_968), size(512)
    ('18.4 MB', '512 bytes')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"


def _order(matrices: Sequence[Judged]) -> list[str]:
    orders = [m.order for m in matrices if m.order is not None and m.order.cost is not None]
    if not orders:
        return []
    first = sum(o.prune_first >= o.quantize_first for o in orders)
    gap = median(o.prune_first - o.quantize_first for o in orders)
    ties = median(o.by_weights - o.quantize_first for o in orders)
    joint = median(o.joint - o.quantize_first for o in orders)
    return [
        f"2:4 together with INT4 channel: to prune first loses less in {first} of {len(orders)} matrices, in the "
        f"middle by {gap:.2f} dB. Whoever quantizes first gains {ties:.2f} dB by breaking ties among equal integers by "
        f"the stored weights, {joint:.2f} dB by the joint mask."
    ]


def care(report: Report, at: int) -> list[str]:
    """The few matrices that deserve care at a budget, each with the reason."""
    bits = report.settings.budgets[at]
    scored = [(m, _best(m.budgets[at])) for m in report.matrices]
    lines = []
    low = sorted(((snr, m) for m, snr in scored if snr is not None and snr < LOW), key=lambda pair: pair[0])
    if low:
        some = [f"{m.name} {snr:.1f} dB{_needs(m, at)}" for snr, m in low[:CARE]]
        lines.append(f"Below {LOW:g} dB at {bits:g} bits, {_count(low)}: {_listed(some, low)}.")
    heavy = sorted(((m.kurtosis, m) for m, _ in scored if m.kurtosis and m.kurtosis > HEAVY), key=lambda p: -p[0])
    if heavy:
        some = [f"{m.name} {kurtosis:.0f}" for kurtosis, m in heavy[:CARE]]
        lines.append(f"Heavy tails, kurtosis above {HEAVY:g}, {_count(heavy)}: {_listed(some, heavy)}.")
    winners = [m.budgets[at].winner for m in report.matrices]
    crowd = max(set(winners), key=winners.count)
    others = [(_lead(m.budgets[at], crowd), m) for m in report.matrices if m.budgets[at].winner not in (crowd, None)]
    others.sort(key=lambda pair: -pair[0])
    if others:
        some = [f"{m.name} {WORDS[m.budgets[at].winner]} by {lead:.1f} dB" for lead, m in others[:CARE]]
        lines.append(f"Against the crowd ({WORDS[crowd]}), {_count(others)}: {_listed(some, others)}.")
    return [f"Care: {line[0].lower()}{line[1:]}" for line in lines]


def _count(matrices: Sequence) -> str:
    return f"{len(matrices)} matri{'x' if len(matrices) == 1 else 'ces'}"


def _listed(some: Sequence[str], whole: Sequence) -> str:
    return ", ".join(some) + (", …" if len(whole) > len(some) else "")


def _best(choice: Choice) -> float | None:
    return getattr(choice, choice.winner).snr if choice.winner else None


def _lead(choice: Choice, crowd: str | None) -> float:
    """dB by which the winner is ahead of the best that the crowd chose."""
    other = getattr(choice, crowd) if crowd else None
    best = _best(choice)
    return float("inf") if other is None or best is None else best - other.snr


def _needs(m: Judged, at: int) -> str:
    """The first larger budget at which a matrix is no longer low."""
    for choice in m.budgets[at + 1 :]:
        best = _best(choice)
        if best is not None and best >= LOW:
            return f" ({best:.1f} at {choice.bits:g} bits)"
    return ""


def shortened(name: str, width: int) -> str:
    """A name with its middle left out, so that it takes so many places at most.

    Examples
    --------
    >>> shortened("model.layers.0.self_attn.q_proj.weight", 24)
    'model.layers…proj.weight'
    """
    if len(name) <= width:
        return name
    left = width // 2
    return f"{name[:left]}…{name[len(name) - (width - 1 - left) :]}"


def _number(count: int) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return str(count)


def _decibel(snr: float | None) -> str:
    return "–" if snr is None else "exact" if snr == float("inf") else f"{snr:.1f}"


def _table(report: Report, at: int, width: int) -> Table:
    bits = report.settings.budgets[at]
    wide = width >= _NARROW
    table = Table(
        box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", title=f"at {bits:g} bits a weight, dB",
        title_justify="left", title_style="bold",
    )  # fmt: skip
    columns = ["tensor", "kind", "weights", "kurt.", "quant.", "prune", "both", "winner", "margin"]
    for name in (*columns, "stored as") if wide else columns:
        left = name in ("tensor", "kind", "winner", "stored as")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    room = max(width - (84 if wide else 60), 12)
    for m in report.matrices:
        choice = m.budgets[at]
        cells: list[str | Text] = [
            Text(shortened(m.name, room)),
            SHORT.get(m.kind, m.kind),
            _number(m.weights),
            "–" if m.kurtosis is None else f"{min(m.kurtosis, 9999):.1f}" if m.kurtosis < 1000 else f"{m.kurtosis:.0f}",
            *(_decibel(loss.snr if loss else None) for loss in (choice.quantization, choice.pruning, choice.both)),
            Text(WORDS[choice.winner], style=COLOURS[choice.winner]),
            "–" if choice.margin is None else f"{choice.margin:+.1f}",
        ]
        table.add_row(*cells, *([getattr(choice, choice.winner).name if choice.winner else ""] if wide else []))
    return table


def untreated(report: Report) -> list[str]:
    """What was not judged: for every reason how many tensors, their share of the bytes, the first of them."""
    groups: dict[str, list] = {}
    for one in report.untreated:
        groups.setdefault(one.reason, []).append(one)
    whole = max(report.model["stored_bytes"], 1)
    lines = []
    for reason, some in sorted(groups.items(), key=lambda item: -sum(u.nbytes for u in item[1])):
        count = sum(u.nbytes for u in some)
        names = ", ".join(u.name for u in some[:CARE]) + (", …" if len(some) > CARE else "")
        tensors = f"{len(some)} tensor{'s' if len(some) > 1 else ''}"
        lines.append(f"not judged, {reason}: {tensors}, {size(count)}, {count / whole:.2%} of the bytes: {names}")
    return lines
