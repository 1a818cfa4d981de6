"""How claims and evidence look: MyST Markdown for the book, plain text for the terminal and for comparison by nbval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from .core import PAPERS, Budget, Claim, Evidence, Outcome, Verdict, registry
from .run import run

BADGES = {
    Verdict.HOLDS: ("holds", "✓ holds"),
    Verdict.LOOSE: ("loose", "≈ loose"),
    Verdict.CONDITIONAL: ("conditional", "◐ conditional"),
    Verdict.FAILS_AS_STATED: ("fails", "✗ fails as stated"),
    Verdict.OPEN: ("open", "? open"),
}
_WORDING = {
    "quoted": "quoted",
    "reconstructed": "reconstructed: the wording is ours",
    "ours": "new here",
}


class Rendered:
    """Something a notebook shows: Markdown where it is understood, plain text elsewhere."""

    def __init__(self, markdown: str, plain: str) -> None:
        self.markdown, self.plain = markdown, plain

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/markdown": self.markdown, "text/plain": self.plain}

    def __repr__(self) -> str:
        return self.plain


def badge(verdict: Verdict) -> str:
    """The verdict as a coloured word; the sign before it carries the meaning without the colour."""
    css, text = BADGES[verdict]
    return f'<span class="pq-badge pq-{css}">{text}</span>'


def source_line(claim: Claim) -> str:
    """Where the statement stands and whose words it is in."""
    source = claim.source
    who = "This book" if source.paper == "ours" else f"{{cite:t}}`{source.paper}`"
    return f"{who}, {source.place} ({_WORDING[source.wording]})"


def verdict_line(claim: Claim) -> str:
    """The verdict with what it carries: the factor, or the missing hypothesis."""
    extra = ""
    if claim.verdict is Verdict.LOOSE:
        extra = f" (by {claim.factor:g} × or more)"
    elif claim.condition:
        extra = f" (needs: {claim.condition})"
    return f"{badge(claim.verdict)}{extra}"


def show(claim_id: str, page: str | None = None) -> Rendered:
    """The statement of a claim as a card: what it says, who says it, what we found.

    Parameters
    ----------
    claim_id : an id of `registry()`.
    page : the page that shows it, below book/ and without suffix; the claim's own chapter unless said.
    """
    claim = registry()[claim_id]
    lines = [
        f":::{{admonition}} {claim.title}",
        f":class: pq-claim pq-card-{BADGES[claim.verdict][0]}",
        "",
        claim.statement.strip(),
        "",
        f"{source_line(claim)} · `{claim.id}`",
        "",
        f"{verdict_line(claim)}\n\n{claim.remark.strip()}",
    ]
    lines += ["", _code_links(claim, page or claim.chapter)]
    lines.append(":::")
    plain = f"{claim.title}\n{claim.statement.strip()}\n[{claim.id}] {BADGES[claim.verdict][1]}: {claim.remark.strip()}"
    return Rendered("\n".join(lines) + "\n", plain)


def _code_links(claim: Claim, page: str) -> str:
    up = "../" * (len(PurePosixPath("book", page).parts) - 1)
    file, _ = claim.where()
    parts = [
        f'<a href="{up}source/src/{file}.html#{claim.id}">the check and its control</a>',
        f'<a href="{up}source/{claim.test}.html">its test</a>',
    ]
    if page != claim.chapter:
        parts.insert(0, f'<a href="{up}book/{claim.chapter}.html">the proof</a>')
    parts.append(f"<code>prunequant verify {claim.id}</code>")
    return f'<span class="pq-links">{" · ".join(parts)}</span>'


def evidence_table(evidence: Evidence) -> str:
    """Markdown table of one measurement."""
    notes = {figure.name: f" ({figure.tolerance.text()})" for figure in evidence.all_figures if figure.tolerance}
    rows = "\n".join(f"| {_cell(name)} | {_cell(text + notes.get(name, ''))} |" for name, text in evidence.rows())
    return f"| quantity | value |\n|:--|:--|\n{rows}"


def _cell(text: str) -> str:
    """Text that a table's cell can hold: no line break and no bar, in formulas as in words."""
    parts = re.split(r"(\$[^$]*\$)", text.replace("\n", " "))
    return "".join(p.replace("|", "\\vert ") if p.startswith("$") else p.replace("|", "&#124;") for p in parts)


def _evidence(outcome: Outcome) -> Evidence:
    """What the check measured, or a ValueError where nothing was."""
    if outcome.evidence is None:
        raise ValueError(f"claim {outcome.claim.id} was not measured: {outcome.skipped or outcome.error}")
    return outcome.evidence


def outcome_markdown(outcome: Outcome) -> str:
    """The check's table, then one line a control, then what speaks against the verdict, if anything."""
    measured = _evidence(outcome)
    state = "held" if measured.holds else "did not hold"
    parts = [
        f"**Check of `{outcome.claim.id}`**: the statement {state}.",
        "",
        evidence_table(measured),
        "",
    ]
    for name, evidence in outcome.controls.items():
        word = "**held, but must fail**" if evidence.holds else "fails, as it must"
        told = "; ".join(f"{n}: {t}" for n, t in evidence.rows()[:3])
        parts += [f"*Control, {name}:* {word} ({told}).", ""]
    parts += [f"**Contradiction:** {problem}." for problem in outcome.problems]
    return "\n".join(parts).rstrip() + "\n"


def outcome_plain(outcome: Outcome) -> str:
    """The same for a terminal."""
    measured = _evidence(outcome)
    lines = [f"{outcome.claim.id}: {'held' if measured.holds else 'did not hold'}"]
    lines += [f"  {name}: {text}" for name, text in measured.rows()]
    lines += [f"  control, {n}: {'HELD' if e.holds else 'fails, as it must'}" for n, e in outcome.controls.items()]
    lines += [f"  contradiction: {problem}" for problem in outcome.problems]
    return "\n".join(lines)


def check(claim_id: str, budget: Budget = Budget.BOOK) -> Rendered:
    """Measure a claim and its controls now, and show what came out.

    Raises
    ------
    AssertionError : evidence and verdict contradict each other, or a control held: a chapter with a wrong verdict must
        not build.
    """
    outcome = run(claim_id, budget)
    if not outcome.agrees:
        raise AssertionError(outcome_plain(outcome))
    return Rendered(outcome_markdown(outcome), outcome_plain(outcome))


def table(
    ids: Iterable[str] | None = None, record: Mapping[str, dict] | None = None, prefix: str = "", up: str = ""
) -> Rendered:
    """The ledger: paper, statement, verdict, key figure, links to proof, check and test.

    Parameters
    ----------
    ids : claims in order, all when None.
    record : id → row of `prunequant verify --json`, for the key figure; without it the column shows the remark only.
    prefix : path from the page to the chapters (for the links), e.g. "" for book/ledger.
    up : path from the page to the site's root, e.g. "../".
    """
    known = registry()
    head = "| verdict | claim | what we found | first figure |\n|:--|:--|:--|:--|"
    rows, plain = [], []
    for claim_id in known if ids is None else ids:
        claim = known[claim_id]
        figure = ""
        if record and "evidence" in record.get(claim_id, {}):
            name, text = record[claim_id]["evidence"][0]
            figure = f"{_cell(name)}: {_cell(text)}"
            figure += "".join(f"; slack {t}" for n, t in record[claim_id]["evidence"] if n == "slack")
        file, _ = claim.where()
        links = (
            f'<a href="{prefix}{claim.chapter}.html">proof</a> · '
            f'<a href="{up}source/src/{file}.html#{claim.id}">check</a> · '
            f'<a href="{up}source/{claim.test}.html">test</a>'
        )
        paper = PAPERS[claim.source.paper].split(",")[0]
        rows.append(
            f"| {badge(claim.verdict)} | **{_cell(claim.title)}** ({_cell(paper)}, {_cell(claim.source.place)}) "
            f"`{claim.id}` · {links} | {_cell(claim.remark.strip())} | {figure} |"
        )
        plain.append(f"{claim.id:34} {claim.verdict.value:16} {claim.title}")
    return Rendered("\n".join([head, *rows]) + "\n", "\n".join(plain))
