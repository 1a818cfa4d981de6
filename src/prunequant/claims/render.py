"""How claims and evidence look: MyST Markdown for the book, plain text for the terminal and for comparison by nbval."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from . import proofs
from .core import WORDINGS, Budget, Claim, Evidence, Outcome, Verdict, registry
from .run import run

BADGES = {
    Verdict.HOLDS: ("holds", "✓ holds"),
    Verdict.LOOSE: ("loose", "≈ loose"),
    Verdict.CONDITIONAL: ("conditional", "◐ conditional"),
    Verdict.FAILS_AS_STATED: ("fails", "✗ fails as stated"),
    Verdict.OPEN: ("open", "? open"),
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
    return f"{who}, {source.place} ({WORDINGS[source.wording]})"


def verdict_line(claim: Claim) -> str:
    """The verdict with what it carries: the factor, or the missing hypothesis."""
    extra = ""
    if claim.verdict is Verdict.LOOSE:
        extra = (
            f" (by {claim.factor:g} to {claim.ceiling:g} ×)" if claim.ceiling else f" (by {claim.factor:g} × or more)"
        )
    elif claim.condition:
        extra = f" (needs: {claim.condition})"
    return f"{badge(claim.verdict)}{extra}"


def statement_lines(claim: Claim) -> list[str]:
    """The statement; where it is not true as it stands, also what is, and how the two differ."""
    if not claim.truth:
        return [claim.statement.strip()]
    whose = "This book asked" if claim.source.paper == "ours" else "The paper states"
    said = ((whose, claim.statement), ("What is true", claim.truth), ("The difference", claim.difference))
    return [line for name, text in said for line in (f"**{name}.** {text.strip()}", "")][:-1]


def change_lines(claim: Claim) -> list[str]:
    """Earlier verdicts and ids of a claim, each with the reason for the change."""
    lines = []
    for change in claim.changes:
        before = f"judged *{change.was}* before" if change.was else "added"
        name = f", as `{change.formerly}`" if change.formerly else ""
        lines.append(f"*Changed* ({before}{name}): {change.why.strip()}")
    return lines


def show(claim_id: str, page: str | None = None) -> Rendered:
    """The statement of a claim as a card: what it says, who says it, what we found.

    Parameters
    ----------
    claim_id : an id of `registry()`.
    page : the page that shows it, below book/ and without suffix; the claim's own chapter unless said.
    """
    claim = registry()[claim_id]
    sanity = f"*A sanity check:* {claim.sanity.strip()}" if claim.sanity else ""
    parts = [
        f"{source_line(claim)} · `{claim.id}`",
        f"{verdict_line(claim)}\n\n{claim.remark.strip()}",
        sanity,
        proofs.line(claim.id),
        *change_lines(claim),
        _code_links(claim, page or claim.chapter),
    ]
    lines = [
        f":::{{admonition}} {claim.title}",
        f":class: pq-claim pq-card-{BADGES[claim.verdict][0]}",
        # A page that only borrows the card gives it no name: a name stands once in the book.
        *([f":name: {anchor(claim.id)}"] if (page or claim.chapter) == claim.chapter else []),
        "",
        *statement_lines(claim),
    ]
    lines += [line for part in parts if part for line in ("", part)]
    lines.append(":::")
    said = "\n".join(line for line in statement_lines(claim) if line)
    plain = f"{claim.title}\n{said}\n[{claim.id}] {BADGES[claim.verdict][1]}: {claim.remark.strip()}"
    return Rendered("\n".join(lines) + "\n", plain)


def anchor(claim_id: str, of: str = "claim") -> str:
    """The id of a claim's card, of its check's output ("check") or of its row in the ledger ("row") on their pages.

    Examples
    --------
    >>> anchor("kumar2025.lemma2"), anchor("kumar2025.lemma2", "row")
    ('claim-kumar2025-lemma2', 'row-kumar2025-lemma2')
    """
    return f"{of}-{re.sub(r'[^a-z0-9]+', '-', claim_id.lower())}"


def link(claim_id: str, page: str) -> str:
    """A claim in a table of another page: the sign of its verdict, and its id, which leads to its card.

    Parameters
    ----------
    claim_id : an id of `registry()`.
    page : the page that names it, below book/ and without suffix, such as "index" or "practice/your-own-model".

    Examples
    --------
    >>> link("kumar2025.lemma2", "index")
    '<a href="tickets/subset-sums.html#claim-kumar2025-lemma2" title="holds">✓ <code>kumar2025.lemma2</code></a>'
    """
    claim = registry()[claim_id]
    up = "../" * (len(PurePosixPath("book", page).parts) - 2)
    place = f"{up}{claim.chapter}.html#{anchor(claim_id)}"
    sign, _, verdict = BADGES[claim.verdict][1].partition(" ")
    return f'<a href="{place}" title="{verdict}">{sign} <code>{claim_id}</code></a>'


def _code_links(claim: Claim, page: str) -> str:
    up = "../" * (len(PurePosixPath("book", page).parts) - 1)
    file, _ = claim.where()
    source = f"{up}source/src/{file}.html"
    own = page == claim.chapter
    parts = [
        f'<a href="{up}book/{claim.chapter}.html#{anchor(claim.id)}">the proof</a>' if not own else "",
        f'<a href="#{anchor(claim.id, "check")}">what it gave</a>' if own else "",
        f'<a href="{source}#{claim.id}">the check and its control</a>',
        f'<a href="{up}source/{claim.test}.html">its test</a>',
        f'<a href="{up}book/ledger.html#{anchor(claim.id, "row")}">its row in the ledger</a>',
        f"<code>prunequant verify {claim.id}</code>",
    ]
    return f'<span class="pq-links">{" · ".join(filter(None, parts))}</span>'


def evidence_table(evidence: Evidence) -> str:
    """Markdown table of one measurement."""
    notes = {figure.name: f" ({figure.tolerance.text()})" for figure in evidence.all_figures if figure.tolerance}
    rows = "\n".join(f"| {cell(name)} | {cell(text + notes.get(name, ''))} |" for name, text in evidence.rows())
    return f"| quantity | value |\n|:--|:--|\n{rows}"


def cell(text: str) -> str:
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
    card = f'<a href="#{anchor(outcome.claim.id)}"><code>{outcome.claim.id}</code></a>'
    parts = [
        f'<span id="{anchor(outcome.claim.id, "check")}"></span>**Check of {card}**: the statement {state}.',
        "",
        evidence_table(measured),
        "",
    ]
    parts += [f"{'✓' if met else '✗'} {name}  " for name, met in measured.conditions.items()]
    parts += [""] if measured.conditions else []
    for name, evidence in outcome.controls.items():
        word = "**held, but must fail**" if evidence.holds else "fails, as it must"
        at = f": not *{'*, *'.join(evidence.broken)}*" if evidence.broken else ""
        figures = "; ".join(f"{n}: {t}" for n, t in evidence.rows()[:3])
        parts += [f"*Control, {name}:* {word}{at} ({figures}).", ""]
    for name, evidence in outcome.confirmations.items():
        word = "holds, as it must" if evidence.holds else "**did not hold**"
        figures = "; ".join(f"{n}: {t}" for n, t in evidence.rows()[:3])
        parts += [f"*Confirmation, {name}:* {word} ({figures}).", ""]
    parts += [f"**Contradiction:** {problem}." for problem in outcome.problems]
    return "\n".join(parts).rstrip() + "\n"


def outcome_plain(outcome: Outcome) -> str:
    """The same for a terminal."""
    measured = _evidence(outcome)
    lines = [f"{outcome.claim.id}: {'held' if measured.holds else 'did not hold'}"]
    lines += [f"  {name}: {text}" for name, text in measured.rows()]
    lines += [f"  {'met' if met else 'NOT MET'}: {name}" for name, met in measured.conditions.items()]
    for name, evidence in outcome.controls.items():
        at = f", in: {'; '.join(evidence.broken)}" if evidence.broken else ""
        lines.append(f"  control, {name}: {'HELD' if evidence.holds else 'fails, as it must'}{at}")
    for name, evidence in outcome.confirmations.items():
        lines.append(f"  confirmation, {name}: {'holds, as it must' if evidence.holds else 'DID NOT HOLD'}")
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
