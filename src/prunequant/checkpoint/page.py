"""A report as one HTML file that a person reads: pictures first, then every number.

Nothing is loaded from anywhere: style, script and charts stand in the file, and its policy forbids the rest. It follows
the reader's light or dark setting, fits a phone, and reads without its script, which only sorts the table.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from prunequant import arguments

from .allocation import Allocation, Pareto, allocate, document_of, pareto, untreated_bytes
from .charts import FAMILIES, Plot, key, shape, tiles
from .schemes import Scheme

MOST_TILES = 300
LEAST_TILE = 0.0005  # of the map
MOST_PANELS = 4
MOST_CARE = 6
USUAL = 4.25  # bits a weight of a plan, where nobody names a budget
WINS = {
    "quantization": "quantization loses least",
    "pruning": "pruning loses least",
    "both": "both together lose least",
    "none": "nothing fits",
}


def page(report: Any, plan: Allocation | None = None) -> str:
    """One self-contained page of HTML.

    Parameters
    ----------
    report : a `Report`, its JSON document, or the path of that
    plan : of this model, to be shown in the curve and the table; one for 4.25 bits a weight, or the report's budget
        next to that, unless given

    Raises
    ------
    ValueError : no report, or a plan of another model.

    Examples
    --------
    >>> document = {"schema": 1, "model": {"path": "empty"}, "matrices": [], "untreated": []}
    >>> page(document).startswith("<!doctype html>")
    True
    """
    document = document_of(report)
    rows = document["matrices"]
    budgets = sorted({choice["bits"] for row in rows for choice in row.get("budgets", ())})
    chosen = min(budgets, key=lambda b: (abs(b - USUAL), b), default=USUAL)
    if plan is not None:
        arguments.instance(plan, "plan", Allocation, "an Allocation, as `allocate` gives it, or None").check(rows)
    elif rows:
        try:
            plan = allocate(document, chosen)
        except ValueError:  # the schemes that were judged do not reach this budget
            plan = None
    title = str(document["model"].get("path", "a model"))
    body = [_head(document, title, chosen, plan)]
    if rows:
        body += [
            _map(document, chosen),
            _winners(rows, budgets),
            _care(rows, chosen),
            _curve(pareto(document), plan, rows),
        ]
    body += [_untreated(document)]
    if rows:
        body.append(_table(rows, chosen, plan))
    body.append(_foot(document))
    style, script = (files(__package__).joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    policy += "; base-uri 'none'; form-action 'none'"
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: prune or quantize?</title>\n<style>\n{style}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{script}</script>\n</body></html>\n"
    )
    # A name may hold half of a surrogate pair, which no encoding has.
    return html.encode("utf-8", "xmlcharrefreplace").decode("utf-8")


def _head(document: Mapping, title: str, bits: float, plan: Allocation | None) -> str:
    rows, model = document["matrices"], document["model"]
    weights = sum(row["weights"] for row in rows)
    stored = sum(row["stored_bytes"] for row in rows)
    outside = sum(map(untreated_bytes, document["untreated"]))
    about = [str(model.get("format", "")), _count(model["tensors"], "tensor") if "tensors" in model else ""]
    share = stored / (stored + outside) if stored + outside else 0.0
    cells = [
        ("stored", _size(stored + outside), f"{share:.1%} of it in {_count(len(rows), 'matrix', 'matrices')}"),
        ("weights", _short(weights), "tied ones once"),
    ]
    if plan is not None:
        cells.append(("plan", f"{plan.megabytes:.4g} MB", f"{plan.bits_per_weight:.2f} bits a weight, {_db(plan.snr)}"))
        if plan.uniform is not None:
            cells.append((f"all {plan.uniform.scheme}", _db(plan.uniform.snr), "the best of one scheme at that budget"))
    figures = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for what, value, more in cells
    )
    return (
        f'<h1>{escape(title)}</h1>\n<p class="sub">{escape(" · ".join(filter(None, about)))}</p>\n'
        f'<p class="lead">{escape(_verdict(rows, bits))}</p>\n<dl class="figures">{figures}</dl>'
    )


def _verdict(rows: Sequence[Mapping], bits: float) -> str:
    """The answer in two sentences."""
    won = dict.fromkeys(FAMILIES, 0)
    weights = sum(row["weights"] for row in rows)
    margins = []
    for row in rows:
        choice = _choice(row, bits)
        won[(choice or {}).get("winner") or "none"] += row["weights"]
        if choice and choice.get("margin") is not None:
            margins.append(choice["margin"])
    if not weights:
        return "This file has no matrix that could be pruned or quantized."
    family = max(won, key=lambda f: won[f])
    if family == "none":
        return f"No scheme that was judged fits into {bits:g} bits a weight."
    does = {"quantization": "quantization loses", "pruning": "pruning loses", "both": "the two together lose"}[family]
    share = _percent(won[family] / weights)
    text = f"At {bits:g} bits a weight {does} least in matrices that hold {share} of the weights."
    if margins:
        middle = statistics.median(margins)
        ahead = "quantization" if middle >= 0 else "pruning"
        text += f" In the median matrix {ahead} is {abs(middle):.1f} dB ahead of the other at the same stored size."
    return text


def _map(document: Mapping, bits: float) -> str:
    """Every tensor as an area, coloured by what wins."""
    parts = [
        (row["stored_bytes"], row["name"], (_choice(row, bits) or {}).get("winner") or "none", _shape_of(row))
        for row in document["matrices"]
    ]
    parts += [(untreated_bytes(u), u["name"], "none", f"not treated: {u['reason']}") for u in document["untreated"]]
    parts = _together([part for part in parts if part[0] > 0])
    if not parts:
        return ""
    total = sum(part[0] for part in parts)
    drawn = []
    for tile, (size, name, family, more) in zip(tiles([part[0] for part in parts]), parts):
        text = ""
        if tile.width > 9 and tile.height > 7:
            text = f'<text x="8" y="19">{escape(_tail(name, tile.width))}</text>'
            text += f'<text x="8" y="36" class="sm">{_percent(size / total)}</text>' if tile.height > 11 else ""
        tip = f"{name}\n{more}\n{_size(size)}, {_percent(size / total)}\n{WINS[family] if family != 'none' else ''}"
        drawn.append(
            f'<svg x="{tile.left:.3f}%" y="{tile.top:.3f}%" width="{tile.width:.3f}%" height="{tile.height:.3f}%">'
            f"<title>{escape(tip.strip())}</title>"
            f'<rect width="100%" height="100%" class="{FAMILIES[family]}"/>{text}</svg>'
        )
    words = f"Map of {_size(total)}: the largest is {parts[0][1]} with {_percent(parts[0][0] / total)}."
    there = {part[2] for part in parts}
    entries = [(shape(f, 6), WINS[f] if f != "none" else "not treated") for f in FAMILIES if f in there]
    return (
        f"<h2>Where the bytes are</h2>\n<p>Each area is a tensor, as large as its share of {_size(total)}. "
        f"Its colour says what loses least at {bits:g} bits a weight.</p>\n"
        f'<figure><div class="map"><svg role="img"><title>{escape(words)}</title>{"".join(drawn)}</svg></div>'
        f"{key(entries)}</figure>"
    )


def _together(parts: Sequence[tuple[int, str, str, str]]) -> list[tuple[int, str, str, str]]:
    """Parts of a map, largest first; what would be a speck is one part with all others of its colour."""
    total = sum(part[0] for part in parts)
    parts = sorted(parts, key=lambda part: (-part[0], part[1]))
    shown = [part for part in parts[:MOST_TILES] if part[0] >= LEAST_TILE * total]
    for family in FAMILIES:
        specks = [part for part in parts[len(shown) :] if part[2] == family]
        if len(specks) == 1:
            shown.append(specks[0])
        elif specks:
            size = sum(part[0] for part in specks)
            shown.append((size, f"{len(specks)} small tensors", family, f"the largest is {specks[0][1]}"))
    return sorted(shown, key=lambda part: (-part[0], part[1]))


def _winners(rows: Sequence[Mapping], budgets: Sequence[float]) -> str:
    """Pruning against quantization at equal bits, a mark a matrix, a panel a budget."""
    points: dict[float, list] = {}
    for bits in budgets:
        for row in rows:
            choice = _choice(row, bits)
            if choice and choice["quantization"] and choice["pruning"]:
                pair = _snr(choice["quantization"]), _snr(choice["pruning"])
                if all(map(math.isfinite, pair)):
                    points.setdefault(bits, []).append((*pair, row, choice))
    if not points:
        return ""
    shown = list(points)[:: max(1, -(-len(points) // MOST_PANELS))]
    largest = max(row["weights"] for row in rows)
    panels = []
    for bits in shown:
        here = points[bits]
        values = [v for q, p, _, _ in here for v in (q, p)]
        span = max(max(values) - min(values), 6.0)
        ends = (min(values) - 0.06 * span, max(values) + 0.06 * span)
        under = sum(q >= p for q, p, _, _ in here)
        words = f"At {bits:g} bits quantization keeps more signal in {under} of {len(here)} matrices."
        plot = Plot(ends, ends, "SNR of the best quantization, dB", "SNR of pruning, dB", words)
        plot.line((ends[0], ends[0]), (ends[1], ends[1]), "even")
        for q, p, row, choice in sorted(here, key=lambda point: -point[2]["weights"]):
            radius = 3.2 + 6 * math.sqrt(row["weights"] / largest)
            title = (
                f"{row['name']}\n{choice['quantization']['name']}: {q:.2f} dB\n{choice['pruning']['name']}: {p:.2f} dB"
            )
            plot.mark(q, p, shape(choice.get("winner") or "none", radius), title)
        many = escape(f"{under} of {len(here)} below the line")
        panels.append(f"<div><h3>{bits:g} bits <span>· {many}</span></h3>{plot.html()}</div>")
    there = {choice.get("winner") or "none" for bits in shown for *_, choice in points[bits]}
    entries = [(shape(f, 6), WINS[f]) for f in FAMILIES if f in there]
    entries.append(('<path d="M-8 8 8-8" class="even"/>', "equal"))
    return (
        "<h2>What wins where</h2>\n<p>Each mark is a matrix, stored in the same number of bits either way, masks and "
        "scales charged. Below the dashed line quantization keeps more of the signal, above it pruning does.</p>\n"
        f'{key(entries)}<div class="panels">{"".join(panels)}</div>'
    )


def _care(rows: Sequence[Mapping], bits: float) -> str:
    """The few matrices that differ from the rest, with the reason."""
    finite = [v for v in (_best(_choice(row, bits)) for row in rows) if v is not None and math.isfinite(v)]
    if not finite:
        return ""
    middle = statistics.median(finite)
    weights = sum(row["weights"] for row in rows)
    candidates = []
    for i, row in enumerate(rows):
        reasons = sorted(_reasons(row, bits, middle), reverse=True)
        if reasons:
            candidates.append((-reasons[0][0] * math.sqrt(row["weights"] / weights), i, row, reasons))
    if not candidates:
        return (
            "<h2>Matrices that deserve care</h2>\n<p>None stands out: at this size no matrix loses 1.5 dB more than "
            "the median, in none does pruning win, and none has a few rows that dominate it.</p>"
        )
    cards = []
    for _, _, row, reasons in sorted(candidates)[:MOST_CARE]:
        cards.append(
            f'<li><span class="name">{escape(row["name"])}</span><span class="hint">{escape(_shape_of(row))}, '
            f"{_percent(row['weights'] / weights)} of the weights, kurtosis {_number(row.get('kurtosis')) or 'none'}"
            f"</span>{''.join(f'<p>{escape(text)}</p>' for _, text in reasons[:2])}</li>"
        )
    more = f" of {len(candidates)}" if len(candidates) > MOST_CARE else ""
    return (
        f"<h2>Matrices that deserve care</h2>\n<p>The {len(cards)}{more} that differ most from the others at {bits:g} "
        f'bits a weight, large ones first.</p>\n<ul class="care">{"".join(cards)}</ul>'
    )


def _reasons(row: Mapping, bits: float, middle: float) -> Iterator[tuple[float, str]]:
    """Why a matrix is unlike the others, each with the dB that it is about."""
    choice = _choice(row, bits)
    best = _best(choice)
    if choice and choice.get("winner") in ("pruning", "both") and choice["quantization"]:
        other, usual = choice[choice["winner"]], choice["quantization"]
        ahead = _snr(other) - _snr(usual)
        if ahead > 0.1:
            yield ahead, f"{other['name']} keeps {ahead:.1f} dB more than {usual['name']} in the same bits."
    if best is not None and middle - best > 1.5:
        below = middle - best
        yield below, f"Loses more than most: {best:.1f} dB at {bits:g} bits, {below:.1f} dB below the median matrix."
    int4_snr = {e["name"]: _snr(e) for e in row["schemes"] if e["name"] in ("INT4 tensor", "INT4 channel")}
    if len(int4_snr) == 2 and all(map(math.isfinite, int4_snr.values())):
        gain = int4_snr["INT4 channel"] - int4_snr["INT4 tensor"]
        if gain > 6:
            yield gain, f"A few rows dominate: INT4 channel keeps {gain:.1f} dB more than INT4 tensor."
    order = row.get("order")
    if order and order.get("cost") is not None and order["cost"] > 1:
        yield order["cost"], f"For 2:4 with INT4, {order['better']}: the other order loses {order['cost']:.1f} dB more."


def _curve(curve: Pareto, plan: Allocation | None, rows: Sequence[Mapping]) -> str:
    """The best plans at every size, one scheme for all beside them, and the budget."""
    most = max(8.75, plan.bits_per_weight + 0.75 if plan else 0)
    points = [(b, s) for b, s in zip(curve.bits_per_weight, curve.snr) if b <= most and math.isfinite(s)]
    uniform = [u for u in curve.uniform if u.bits_per_weight <= most and math.isfinite(u.snr)]
    if len(points) < 2:
        return ""
    x = (points[0][0], max([points[-1][0], *(u.bits_per_weight for u in uniform)]))
    values = [s for _, s in points] + [u.snr for u in uniform]
    pad = 0.04 * (x[1] - x[0])
    plot = Plot(
        (x[0] - pad, x[1] + pad),
        (min(values) - 1.5, max(values) + 1.5),
        "bits a weight, masks and scales included",
        "SNR of all matrices, dB",
        f"The curve of best plans, from {points[0][0]:.2f} bits with {points[0][1]:.1f} dB to {points[-1][0]:.2f} bits "
        f"with {points[-1][1]:.1f} dB; {len(uniform)} plans of one scheme lie on or below it.",
        height=400,
    )
    if plan is not None:
        asked = plan.budget.get("bits_per_weight", plan.bits_per_weight)
        plot.line((asked, plot.y[0]), (asked, plot.y[1]), "budget")
    plot.curve(points, "a scheme for each matrix")
    placed: list[tuple[float, float]] = []
    best = plan.uniform.scheme if plan is not None and plan.uniform is not None else None
    for u in sorted(uniform, key=lambda u: (u.scheme != best, -u.snr)):
        place = plot.at(u.bits_per_weight, u.snr)
        beaten = any(v.bits <= u.bits and v.snr >= u.snr and v is not u for v in uniform)
        free = all(abs(place[0] - a) > 17 or abs(place[1] - b) > 4.5 for a, b in placed)
        if free and not beaten:
            placed.append(place)
        title = f"all {u.scheme}\n{u.bits_per_weight:.3f} bits a weight\n{u.snr:.2f} dB"
        label = u.scheme if free and not beaten else ""
        plot.mark(u.bits_per_weight, u.snr, '<circle r="4" class="uniform"/>', title, label, minor=True)
    if plan is not None and math.isfinite(plan.snr):
        star = '<path d="M0-8 8 0 0 8-8 0z" class="plan"/>'
        title = f"the plan\n{plan.bits_per_weight:.3f} bits a weight\n{plan.snr:.2f} dB"
        plot.mark(plan.bits_per_weight, plan.snr, star, title)
    entries = [
        ('<path d="M-8 4Q-2-4 8-5" class="curve"/>', "a scheme for each matrix"),
        ('<circle r="4.5" class="uniform"/>', "one scheme for all"),
    ]
    if plan is not None:
        entries.append(('<path d="M0-7 7 0 0 7-7 0z" class="plan"/>', "the plan"))
        entries.append(('<path d="M0-8V8" class="budget"/>', "its budget"))
    return (
        "<h2>What a size costs</h2>\n<p>The curve joins the best plans at every size: no choice of the judged schemes, "
        "matrix by matrix, lies above it. Rings are what one scheme for all matrices gives.</p>\n"
        f"{_planned(plan, rows)}<figure>{plot.html()}{key(entries)}"
        "<figcaption>The SNR is that of the mean relative error of the matrices, each weighted by how many weights it "
        "holds. It measures weights, not answers of the model.</figcaption></figure>"
    )


def _planned(plan: Allocation | None, rows: Sequence[Mapping]) -> str:
    """The plan in a sentence: how far above the uniform one, and what it uses."""
    if plan is None:
        return ""
    weights: dict[str, int] = {}
    for row in rows:
        scheme = plan.tensors[row["name"]]
        weights[scheme] = weights.get(scheme, 0) + row["weights"]
    used = sorted(weights.items(), key=lambda item: -item[1])
    parts = [f"{scheme} for {_percent(n / plan.weights)}" for scheme, n in used[:4]]
    text = f"The plan at {plan.bits_per_weight:.2f} bits a weight keeps {_db(plan.snr)}"
    if plan.uniform is not None:
        same = plan.uniform
        text += f"; {same.scheme} for all keeps {_db(same.snr)} in {same.bits_per_weight:.2f} bits"
    text += f". It stores the weights as {', '.join(parts)}" + (" and others." if len(used) > 4 else ".")
    return f"<p>{escape(text)}</p>\n"


def _untreated(document: Mapping) -> str:
    left = sorted(document["untreated"], key=lambda u: -untreated_bytes(u))
    stored = sum(row["stored_bytes"] for row in document["matrices"])
    outside = sum(map(untreated_bytes, left))
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in document.get("notes", ()))
    notes = f"<ul>{notes}</ul>" if notes else ""
    if not left:
        return f"<h2>Not treated</h2>\n<p>Nothing: every tensor of the file is a matrix above.</p>{notes}"
    share = outside / (stored + outside) if stored + outside else 0.0
    rows = "".join(
        f'<tr><td class="name">{_breakable(escape(u["name"]))}</td><td class="why">{escape(u["reason"])}</td>'
        f"<td>{_dimensions(u['shape'])}</td><td>{escape(str(u['dtype']))}</td><td>{_size(untreated_bytes(u))}</td></tr>"
        for u in left
    )
    return (
        f"<h2>Not treated</h2>\n<p>{_count(len(left), 'tensor')} with {_size(outside)}, {_percent(share)} of the "
        f"bytes, stay as they are stored, and every size above in MB counts them.</p>\n"
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * (1 - share):.3f}%"></i>'
        f'<i style="width:{100 * share:.3f}%"></i></div>\n'
        f"<details{' open' if len(left) <= 8 else ''}><summary>Each of them, and why</summary>"
        '<div class="wide tall" tabindex="0" role="region" aria-label="Tensors that are not treated"><table><thead><tr>'
        '<th class="l">tensor</th><th class="l">why</th><th>shape</th><th>dtype</th><th>size</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>{notes}"
    )


def _table(rows: Sequence[Mapping], bits: float, plan: Allocation | None) -> str:
    total = sum(row["stored_bytes"] for row in rows)
    heads = ["in the plan"] if plan else []
    heads += ["quantization, dB", "by", "pruning, dB", "margin, dB", "kurtosis", "zeros", "share", "size", "shape"]
    heads += ["kind", "dtype"]
    left = {"kind", "by", "in the plan"}
    head = '<th class="l">matrix</th>' + "".join(f"<th{' class=l' if h in left else ''}>{h}</th>" for h in heads)
    lines = []
    for row in rows:
        choice = _choice(row, bits) or {}
        q, p = choice.get("quantization"), choice.get("pruning")
        family = FAMILIES[choice.get("winner") or "none"]
        zeros = row["zeros"] / row["weights"] if row.get("zeros") is not None else None
        cells = [
            (_snr(q) if q else None, _db(_snr(q), "") if q else "", ""),
            (q["name"] if q else None, escape(q["name"]) if q else "", "l"),
            (_snr(p) if p else None, _db(_snr(p), "") if p else "", ""),
            (choice.get("margin"), _number(choice.get("margin"), 1), ""),
            (row.get("kurtosis"), _number(row.get("kurtosis")), ""),
            (zeros, "" if zeros is None else _percent(zeros), ""),
            (row["stored_bytes"], _percent(row["stored_bytes"] / total) if total else "", ""),
            (row["stored_bytes"], _size(row["stored_bytes"]), ""),
            (row["weights"], _dimensions(row["shape"]), ""),
            (row["kind"], escape(row["kind"]), "l"),
            (row["dtype"], escape(str(row["dtype"])), ""),
        ]
        if plan:
            scheme = plan.tensors[row["name"]]
            size = Scheme.named(scheme).stored_bits(row["rows"], row["columns"]) / row["weights"]
            cells.insert(0, (size, escape(scheme), "l"))
        name = escape(row["name"])
        also = f"<br><small>also {_breakable(escape(', '.join(row['aliases'])))}</small>" if row.get("aliases") else ""
        line = f'<td class="name" data-v="{name}"><i class="dot {family}"></i>{_breakable(name)}{also}</td>'
        for value, text, css_class in cells:
            plain = "" if value is None else escape(str(1e9 if value == math.inf else value))
            line += f'<td data-v="{plain}"{" class=l" if css_class else ""}>{text}</td>'
        lines.append(f"<tr>{line}</tr>")
    return (
        f"<h2>Every matrix</h2>\n<p>Signal-to-noise ratios at {bits:g} bits a weight: the best quantization within "
        "that size, and pruning to it. The margin is their difference.</p>\n"
        '<div class="wide tall" tabindex="0" role="region" aria-label="Every matrix"><table data-sort><thead>'
        f"<tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _foot(document: Mapping) -> str:
    provenance = document.get("provenance") or {}
    when = provenance.get("date", "")
    package = (provenance.get("versions") or {}).get("prunequant", "")
    by = " ".join(filter(None, ("Made by prunequant", str(package), f"on {when}" if when else "")))
    return (
        f"<footer>{escape(by)}. Sizes are of what is stored: values, scales, masks. SNR is Σ x² over the squared error "
        "of the weights, in decibels. MB are 10⁶ bytes.</footer>"
    )


def _choice(row: Mapping, bits: float) -> Mapping | None:
    return next((choice for choice in row.get("budgets", ()) if choice["bits"] == bits), None)


def _snr(loss: Mapping) -> float:
    return math.inf if loss.get("lossless") or loss["snr"] is None else float(loss["snr"])


def _best(choice: Mapping | None) -> float | None:
    snrs = [_snr(choice[family]) for family in ("quantization", "pruning", "both") if choice[family]] if choice else []
    return max(snrs, default=None)


def _shape_of(row: Mapping) -> str:
    return f"{_dimensions(row['shape'])} {row['dtype']}, {row['kind']}"


def _dimensions(shape: Sequence[int]) -> str:
    return " × ".join(str(int(n)) for n in shape) or "scalar"


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}" if count < 999.5 * scale else f"{count / scale:.0f} {unit}"
    return f"{count} B"


def _short(count: int) -> str:
    for unit, scale in (("billion", 1e9), ("million", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:,}"


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _percent(share: float) -> str:
    if share in (0, 1) or 0.1 <= share <= 0.995:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def _db(snr: float, unit: str = " dB") -> str:
    return "lossless" if math.isinf(snr) else f"{snr:.1f}{unit}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _breakable(name: str) -> str:
    """An escaped name, which a line may break after its dots, slashes and low lines."""
    return re.sub(r"([._/]+)(?=.)", r"\1<wbr>", name)


def _tail(name: str, width: float) -> str:
    """The end of a name, as much of it as a tile is wide: beginnings are alike, and so is a last ".weight"."""
    name, room = name.removesuffix(".weight"), max(6, int(width * 1.3))
    return name if len(name) <= room else "…" + name[-room + 1 :].lstrip("._/")
