"""The registry itself: it can contradict us, and it refuses what cannot be judged."""

import json

import pytest
from typer.testing import CliRunner

from prunequant.claims.core import (
    Budget,
    Change,
    Claim,
    Evidence,
    Figure,
    Outcome,
    Registry,
    Source,
    Verdict,
    claim,
    format_number,
)
from prunequant.claims.render import change_lines, outcome_markdown, statement_lines

FIELDS = dict(
    title="A title",
    statement="$1 + 1 = 2$",
    source=Source("ours", "somewhere", "ours"),
    remark="remark",
)
CHAPTER = "tickets/subset-sums"
MODULE = "prunequant.claims.tickets.subset_sums"


def evidence(holds=True, **more):
    return Evidence(holds=holds, figures=(Figure("figure", 1.0),), **more)


def made(verdict=Verdict.HOLDS, **more):
    return Claim(id="ours.test", verdict=verdict, check=lambda budget: evidence(), chapter=CHAPTER, **FIELDS, **more)


def check_in(module):
    """A check as if it stood in that module."""

    def check(budget):
        return evidence()

    check.__module__ = module
    return check


def outcome(a_claim, found, controls=None):
    return Outcome(a_claim, Budget.QUICK, found, {"broken": evidence(False)} if controls is None else controls)


def test_evidence_that_agrees_has_no_problem():
    assert outcome(made(), evidence()).agrees


def test_a_claim_without_a_control_never_agrees():
    assert "no control" in outcome(made(), evidence(), {}).problems[0]


def test_a_control_that_holds_is_a_contradiction():
    assert "must fail" in outcome(made(), evidence(), {"too kind": evidence(True)}).problems[0]


def test_a_statement_that_does_not_hold_contradicts_its_verdict():
    assert not outcome(made(), evidence(False)).agrees


@pytest.mark.parametrize(("slack", "agrees"), [(None, False), (1.5, False), (3.0, True)])
def test_loose_needs_the_slack_it_claims(slack, agrees):
    assert outcome(made(Verdict.LOOSE, factor=2), evidence(slack=slack)).agrees is agrees


def test_fails_as_stated_needs_a_counterexample_and_a_failure():
    failing = made(Verdict.FAILS_AS_STATED)
    assert not outcome(failing, evidence(True)).agrees
    assert not outcome(failing, evidence(False)).agrees
    assert failing.disagreement(evidence(False, counterexample="x = (1, 2)")) is None


def test_fails_as_stated_needs_a_measurement_that_can_hold():
    failing = made(Verdict.FAILS_AS_STATED)
    found = evidence(False, counterexample="x = (1, 2)")
    controls = {"broken": evidence(False)}
    alone = Outcome(failing, Budget.QUICK, found, controls)
    assert "no confirmation" in alone.problems[0]
    assert Outcome(failing, Budget.QUICK, found, controls, confirmations={"roles exchanged": evidence()}).agrees
    still = Outcome(failing, Budget.QUICK, found, controls, confirmations={"roles exchanged": evidence(False)})
    assert "did not hold" in still.problems[0]


def test_an_open_claim_whose_measured_sentences_fail_is_a_contradiction():
    assert outcome(made(Verdict.OPEN), evidence()).agrees
    assert "open" in outcome(made(Verdict.OPEN), evidence(False)).problems[0]


@pytest.mark.parametrize(
    ("slack", "agrees"), [(1.5, False), (3.0, True), (9.0, True), (9.5, False), (float("inf"), False)]
)
def test_a_loose_bound_has_a_ceiling_as_well_as_a_floor(slack, agrees):
    assert outcome(made(Verdict.LOOSE, factor=2, ceiling=9), evidence(slack=slack)).agrees is agrees


def test_a_control_must_break_what_it_names_and_nothing_else():
    def with_control(**conditions):
        subject = made()
        subject.control("the bound halved", breaks="the bound holds")(lambda budget: None)
        return Outcome(subject, Budget.QUICK, evidence(), {"the bound halved": evidence(conditions)})

    good = {"the bound holds": False, "the samples are distinct": True}
    assert with_control(**good).agrees
    assert "must break: the bound holds" in with_control(**{**good, "the samples are distinct": False}).problems[0]
    wrong = with_control(**{"the bound holds": True, "the samples are distinct": False})
    assert "it broke: the samples are distinct" in wrong.problems[0]


def test_evidence_holds_when_every_condition_is_met():
    assert evidence({"a": True, "b": True}).holds
    assert evidence({"a": True, "b": False}).broken == ("b",)
    with pytest.raises(ValueError, match="could not fail"):
        evidence({})


def test_a_repaired_statement_stands_beside_the_one_that_is_judged():
    both = dict(truth="$1 + 1 = 2$ for integers", difference="the paper does not say integers")
    assert statement_lines(made(**both))[0].startswith("**This book asked.** $1 + 1 = 2$")
    assert len([line for line in statement_lines(made(**both)) if line]) == 3
    with pytest.raises(ValueError, match="together"):
        made(truth="only half")


def test_a_change_of_a_verdict_needs_a_reason():
    with pytest.raises(ValueError, match="reason"):
        Change(Verdict.HOLDS, " ")
    changed = made(changes=(Change(Verdict.LOOSE, "the slack was not measured", "ours.old"),))
    assert "judged *loose* before, as `ours.old`" in change_lines(changed)[0]


def test_a_verdict_must_carry_what_it_names():
    with pytest.raises(ValueError, match="factor"):
        made(Verdict.LOOSE)
    with pytest.raises(ValueError, match="missing hypothesis"):
        made(Verdict.CONDITIONAL)


def test_unknown_papers_wordings_and_ids_are_refused():
    with pytest.raises(ValueError, match="known papers"):
        Source("nobody2020", "Theorem 1")
    with pytest.raises(ValueError, match="wording"):
        Source("ours", "here", "guessed")
    with pytest.raises(ValueError, match=r"paper\.place"):
        Claim(id="lemma2", verdict=Verdict.HOLDS, check=lambda b: evidence(), chapter=CHAPTER, **FIELDS)


def test_an_id_cannot_be_registered_twice():
    own = Registry()
    decorate = claim(into=own, id="ours.twice", verdict=Verdict.HOLDS, **FIELDS)
    decorate(check_in(MODULE))
    with pytest.raises(ValueError, match="twice"):
        decorate(check_in(MODULE))
    with pytest.raises(KeyError, match=r"known claims: ours\.twice"):
        own["ours.other"]


def test_the_chapter_follows_from_the_module_and_cannot_be_said_otherwise():
    made = claim(into=Registry(), id="ours.test", verdict=Verdict.HOLDS, **FIELDS)(check_in(MODULE))
    assert made.chapter == CHAPTER
    with pytest.raises(TypeError, match="chapter"):
        claim(into=Registry(), id="ours.test", verdict=Verdict.HOLDS, chapter=CHAPTER, **FIELDS)(check_in(MODULE))


@pytest.mark.parametrize(
    "module",
    ["prunequant.claims.core", "prunequant.claims.shared.x", "prunequant.claims.tickets",
     "prunequant.claims.tickets.a.b", "prunequant.tickets.plan", "tickets.subset_sums"],
)  # fmt: skip
def test_a_claim_outside_the_chapters_is_refused(module):
    with pytest.raises(ValueError, match=r"stands in prunequant\.claims\.PART\.CHAPTER"):
        claim(into=Registry(), id="ours.test", verdict=Verdict.HOLDS, **FIELDS)(check_in(module))


def test_a_claim_that_is_not_listed_for_its_module_is_refused():
    for listed in ({}, {"ours.test": "prunequant.claims.tickets.moments"}):
        with pytest.raises(ValueError, match="not found by reading"):
            claim(into=Registry(listed), id="ours.test", verdict=Verdict.HOLDS, **FIELDS)(check_in(MODULE))


def test_evidence_must_report_a_figure():
    with pytest.raises(ValueError, match="without a figure"):
        Evidence(holds=True, figures=())


def test_a_contradiction_is_printed_where_the_reader_looks():
    text = outcome_markdown(outcome(made(), evidence(False)))
    assert "did not hold" in text and "Contradiction" in text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (5, 3, "5"),
        (1234567, 3, "1,234,567"),
        (0.5, 3, "0.500"),
        (19.2584, 4, "19.26"),
        (3e-9, 3, "3.00e-09"),
        ("a", 3, "a"),
    ],
)
def test_numbers_are_printed_at_fixed_significant_digits(value, digits, text):
    assert format_number(value, digits) == text


def test_verify_exits_nonzero_when_a_checked_function_is_sabotaged(monkeypatch, tmp_path):
    """Mutate the function that a claim measures: the same command that was green must go red."""
    import prunequant.claims.tickets.subset_sums as module
    from prunequant import subset_sum
    from prunequant.cli import app

    runner = CliRunner()
    record = tmp_path / "record.json"
    good = runner.invoke(app, ["verify", "kumar2025.lemma2", "--json", str(record)])
    assert good.exit_code == 0, good.output
    assert json.loads(record.read_text())[0]["agrees"]
    honest = subset_sum.count
    monkeypatch.setattr(module.subset_sum, "count", lambda x, low, high: honest(x, low, high) + 1)
    bad = runner.invoke(app, ["verify", "kumar2025.lemma2"])
    assert bad.exit_code == 1, bad.output


def test_verify_compares_with_a_record_and_names_what_changed(tmp_path):
    from prunequant.cli import app

    runner = CliRunner()
    record = tmp_path / "record.json"
    assert runner.invoke(app, ["verify", "kumar2025.lemma2", "--json", str(record)]).exit_code == 0
    assert runner.invoke(app, ["verify", "kumar2025.lemma2", "--against", str(record)]).exit_code == 0
    rows = json.loads(record.read_text())
    rows[0]["evidence"][0][1] = "something else"
    record.write_text(json.dumps(rows))
    changed = runner.invoke(app, ["verify", "kumar2025.lemma2", "--against", str(record)])
    assert changed.exit_code == 1
    assert "something else" in changed.output


def test_verify_refuses_unknown_claims_and_damaged_records(tmp_path):
    from prunequant.cli import app

    runner = CliRunner()
    unknown = runner.invoke(app, ["verify", "kumar2025.lemma99"])
    assert unknown.exit_code == 2 and "kumar2025.lemma2" in unknown.output
    damaged = tmp_path / "damaged.json"
    damaged.write_text("[{")
    assert runner.invoke(app, ["verify", "kumar2025.lemma2", "--against", str(damaged)]).exit_code == 2
