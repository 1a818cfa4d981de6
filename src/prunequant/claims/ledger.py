"""The ledger: every claim in one table that a reader can filter, and how many there are of each kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape

from .chapters import PARTS
from .core import PAPERS, Claim, Verdict, registry
from .render import Rendered, anchor, badge, cell

KINDS = (
    "section",
    "definition",
    "lemma",
    "proposition",
    "theorem",
    "corollary",
    "equation",
    "figure",
    "table",
    "appendix",
)
_PLACE = re.compile(rf"({'|'.join(KINDS)})s? (\d+(?:\.\d+)?|[A-Z]\b)", re.IGNORECASE)


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """Claims by paper, ours last, and within a paper by their place: sections, then lemmas, theorems, corollaries."""
    papers = list(PAPERS)

    def place(claim: Claim) -> tuple[int, int, int, int]:
        places = [(KINDS.index(kind.lower()), number) for kind, number in _PLACE.findall(claim.source.place)]
        # "Section 6 and Proposition 2" is a proposition.
        kind, number = next((pair for pair in places if pair[0]), places[0] if places else (len(KINDS), "0"))
        major, _, minor = number.partition(".")
        return papers.index(claim.source.paper), kind, int(major) if major.isdigit() else ord(major), int(minor or 0)

    return sorted(claims, key=place)


def table(
    ids: Iterable[str] | None = None, record: Mapping[str, dict] | None = None, prefix: str = "", up: str = ""
) -> Rendered:
    """The ledger: verdict, statement, what was found, the figure that matters, what each control showed.

    Parameters
    ----------
    ids : claims in order, all when None.
    record : id → row of `prunequant verify --json`, for figures and controls; without it the remark stands alone.
    prefix : path from the page to the chapters (for the links), e.g. "" for book/ledger.
    up : path from the page to the site's root, e.g. "../".
    """
    known = registry()
    head = "| verdict | claim | what we found | first figure |\n|:--|:--|:--|:--|"
    rows, plain = [], []
    for claim_id in known if ids is None else ids:
        claim = known[claim_id]
        row = (record or {}).get(claim_id, {})
        rows.append(f"| {_mark(claim)}{badge(claim.verdict)} | {_named(claim, prefix, up)} | "
                    f"{cell(claim.remark.strip())} | {_figure(row)}{_controls(row)} |")  # fmt: skip
        plain.append(f"{claim.id:34} {claim.verdict.value:16} {claim.title}")
    return Rendered("\n".join([head, *rows]) + "\n", "\n".join(plain))


def _mark(claim: Claim) -> str:
    """What the filter of the page reads, and where links to the row arrive."""
    about = {
        "part": claim.chapter.split("/")[0],
        "paper": PAPERS[claim.source.paper].split(",")[0],
        "verdict": claim.verdict.value,
        "wording": claim.source.wording,
    }
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in about.items())
    return f'<span class="pq-row" id="{anchor(claim.id, "row")}" {data}></span>'


def _named(claim: Claim, prefix: str, up: str) -> str:
    file, _ = claim.where()
    paper = PAPERS[claim.source.paper].split(",")[0]
    page = f"{prefix}{claim.chapter}.html"
    links = (
        f'<a href="{page}#{anchor(claim.id)}">card and proof</a> · '
        f'<a href="{up}source/src/{file}.html#{claim.id}">check</a> · '
        f'<a href="{up}source/{claim.test}.html">test</a>'
    )
    return f"**{cell(claim.title)}** ({cell(paper)}, {cell(claim.source.place)}) `{claim.id}` · {links}"


def _figure(row: Mapping) -> str:
    if "evidence" not in row:
        return ""
    name, text = row["evidence"][0]
    slack = "".join(f"; slack {t}" for n, t in row["evidence"] if n == "slack")
    return f"{cell(name)}: {cell(text)}{slack}"


def _controls(row: Mapping) -> str:
    """A folded line a control: what it broke, or its first figure."""
    controls = row.get("controls", {})
    if not controls:
        return ""
    lines = []
    for name, control in controls.items():
        broken = [what for what, met in control.get("conditions", {}).items() if not met]
        first, text = control["evidence"][0]
        shown = f"not: {'; '.join(broken)}" if broken else f"{first}: {text}"
        lines.append(f"<br>{cell(name)} <em>({cell(shown)})</em>")
    count = f"{len(controls)} control{'s' if len(controls) > 1 else ''} fail{'' if len(controls) > 1 else 's'}"
    return f'<details class="pq-controls"><summary>{count}</summary>{"".join(lines)}</details>'


def tally() -> Rendered:
    """How many claims have each verdict, paper by paper, the papers' own apart from ours."""
    known = list(registry().values())
    verdicts = [verdict for verdict in Verdict if any(claim.verdict is verdict for claim in known)]
    count = Counter((claim.source.paper, claim.verdict) for claim in known)
    head = ["claims of", *(badge(verdict) for verdict in verdicts), "all"]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    groups: list[tuple[str, tuple[str, ...]]] = [
        (name.split(",")[0], (paper,)) for paper, name in PAPERS.items() if paper != "ours"
    ]
    groups += [("**the four papers**", tuple(p for p in PAPERS if p != "ours")), ("**this book**", ("ours",))]
    plain = []
    for name, papers in groups:
        numbers = [sum(count[paper, verdict] for paper in papers) for verdict in verdicts]
        lines.append([name, *(str(number or "") for number in numbers), str(sum(numbers))])
        said = ", ".join(f"{number} {verdict.value}" for verdict, number in zip(verdicts, numbers) if number)
        plain.append(f"{name.strip('*')}: {sum(numbers)} ({said})")
    controls = sum(len(claim.controls) for claim in known)
    plain.append(f"{len(known)} claims with {controls} controls")
    return Rendered("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n", "\n".join(plain))


def changes() -> Rendered:
    """Every claim that was judged otherwise before, or bore another id, or came later: what changed, and why."""
    lines = ["| claim | before | now | why |", "|:--|:--|:--|:--|"]
    plain = []
    for part in PARTS:
        for claim in (c for c in registry().values() if c.chapter.startswith(f"{part}/")):
            for change in claim.changes:
                before = str(change.was) if change.was else "not among the claims"
                before += f", as `{change.formerly}`" if change.formerly else ""
                link = f'<a href="{claim.chapter}.html#{anchor(claim.id)}"><code>{claim.id}</code></a>'
                lines.append(f"| {link} | {before} | {badge(claim.verdict)} | {cell(change.why.strip())} |")
                plain.append(f"{claim.id}: {before} → {claim.verdict.value}: {change.why.strip()}")
    return Rendered("\n".join(lines) + "\n", "\n".join(plain) or "nothing changed")
