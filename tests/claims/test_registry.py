"""Every registered claim: well formed, with a chapter and a control."""

import json
import re
from pathlib import Path

import pytest

from prunequant import claims
from prunequant.claims.chapters import PARTS
from prunequant.claims.core import WORDINGS, Verdict

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = list(claims.registry())


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_claim_has_a_control_and_a_chapter_that_shows_it(claim_id):
    claim = claims.registry()[claim_id]
    assert claim.controls, "no control, no claim"
    page = ROOT / "book" / f"{claim.chapter}.md"
    assert page.exists(), f"{claim.check.__module__} holds {claim_id}, but there is no chapter {claim.chapter}"
    shown = re.findall(r"(?:show|check)\(\s*\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    assert claim_id in shown, f"{claim.chapter} does not show {claim_id}"


def test_the_registry_holds_what_reading_the_modules_lists_under_each_ones_own_name():
    assert [claim.id for claim in claims.registry().values()] == CLAIMS


def test_every_chapter_with_claims_has_its_test_and_every_such_test_measures_the_claims_of_its_chapter():
    here = ROOT / "tests" / "claims"
    wanted = {ROOT / claim.test for claim in claims.registry().values()}
    assert {path for part in PARTS for path in (here / part).glob("*.py")} == wanted
    for path in wanted:
        assert "claims_of(__file__)" in path.read_text() and "as_recorded(claim_id)" in path.read_text(), path


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_the_card_leads_to_the_check_and_to_the_test_of_the_chapter(claim_id):
    claim = claims.registry()[claim_id]
    links = re.findall(r'href="(?:\.\./)+source/([^"#]+)\.html', claims.show(claim_id).markdown)
    part, chapter = claim.chapter.replace("-", "_").split("/")
    assert links == [f"src/prunequant/claims/{part}/{chapter}.py", f"tests/claims/{part}/test_{chapter}.py"]
    assert all((ROOT / link).is_file() for link in links)


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_dollar_signs_of_the_statement_are_balanced(claim_id):
    claim = claims.registry()[claim_id]
    for text in (claim.statement, claim.truth, claim.difference, claim.remark, claim.sanity):
        assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_a_reconstructed_or_own_statement_says_so_on_its_card(claim_id):
    claim = claims.registry()[claim_id]
    card = claims.show(claim_id).markdown
    assert WORDINGS[claim.source.wording] in card
    if claim.source.paper == "ours":
        assert claim.source.wording == "ours"


def test_verdicts_other_than_holds_say_what_they_carry():
    for claim in claims.registry().values():
        if claim.verdict is Verdict.LOOSE:
            assert claim.factor > 1
        if claim.verdict is Verdict.CONDITIONAL:
            assert claim.condition


FIRST = json.loads(Path(__file__).with_name("first_verdicts.json").read_text(encoding="utf-8"))


def test_every_change_since_the_first_ledger_is_said_on_its_card():
    """The first ledger's verdicts lead, through the changes that the claims tell, to those of today."""
    told = {}
    moved = {change.formerly for claim in claims.registry().values() for change in claim.changes if change.formerly}
    for claim in claims.registry().values():
        began = claim.changes[0] if claim.changes else None
        new = began is not None and began.was is None and not began.formerly
        if new and claim.id in moved:  # a new statement under an id that an older one has left
            continue
        first = (began.formerly or claim.id) if began else claim.id
        told[first] = claim
        if began is None or new:
            assert (claim.id in FIRST) == (began is None), f"{claim.id} is new: Change(None, why)"
            assert began is not None or FIRST[claim.id] == claim.verdict, f"{claim.id}: verdict changed, not said"
        elif began.was is not None:
            assert FIRST[first] == began.was, f"{claim.id}: it was {FIRST[first]}, not {began.was}"
    gone = set(FIRST) - set(told)
    assert not gone, f"claims that are gone, and no claim says that it was one of them: {gone}"


def test_every_row_of_the_ledger_says_what_its_filter_asks_and_what_its_controls_showed():
    record = {row["id"]: row for row in json.loads((ROOT / "book" / "results" / "ledger.json").read_text("utf-8"))}
    for claim in claims.registry().values():
        row = claims.table([claim.id], record).markdown.splitlines()[-1]
        for name in ("part", "paper", "verdict", "wording"):
            assert f'data-{name}="' in row, claim.id
        assert row.count("<br>") == len(claim.controls), claim.id
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, f"{claim.id}: a bar in a cell"


def test_the_tally_counts_every_claim_once_and_the_papers_apart_from_ours():
    text = claims.tally().plain.splitlines()
    totals = {line.split(":")[0]: int(line.split(": ")[1].split()[0]) for line in text[:-1]}
    assert totals["the four papers"] + totals["this book"] == len(claims.registry())
    ours = sum(claim.source.paper == "ours" for claim in claims.registry().values())
    assert totals["this book"] == ours


# Where the text of a paper was not at hand: Harma et al., see the page about the papers.
WITHOUT_TEXT = {"harma2025"}


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_a_claim_is_worded_judged_and_controlled_in_full(claim_id):
    claim = claims.registry()[claim_id]
    source = claim.source
    if source.paper != "ours":
        assert (source.wording == "reconstructed") == (source.paper in WITHOUT_TEXT), "whose words are these?"
        if claim.verdict in (Verdict.CONDITIONAL, Verdict.FAILS_AS_STATED):
            assert claim.truth, "what is true instead?"
    if claim.verdict is Verdict.LOOSE:
        assert claim.ceiling, "loose by how much at most?"
    if claim.verdict is Verdict.FAILS_AS_STATED:
        assert claim.confirmations, "what shows that the measurement can hold?"
    else:
        assert all(claim.breaks.get(name) for name in claim.controls), "which condition does each control break?"


def test_every_condition_has_a_name_and_is_met_or_broken_as_the_verdict_says():
    record = {row["id"]: row for row in json.loads((ROOT / "book" / "results" / "ledger.json").read_text("utf-8"))}
    for claim in claims.registry().values():
        conditions = record[claim.id]["conditions"]
        assert conditions and all(conditions.values()) == (claim.verdict is not Verdict.FAILS_AS_STATED), claim.id


@pytest.mark.parametrize("page", ["index", "practice/so-what-should-i-do"])
def test_a_claim_named_on_another_page_leads_to_its_card_and_says_its_verdict(page):
    for claim in claims.registry().values():
        link = claims.link(claim.id, page)
        (target,) = re.findall(r'href="([^"#]+)#', link)
        assert (ROOT / "book" / page).parent.joinpath(target).resolve() == ROOT / "book" / f"{claim.chapter}.html"
        assert f'#claim-{re.sub("[._]", "-", claim.id)}"' in link and f'title="{claim.verdict.value}"' in link
