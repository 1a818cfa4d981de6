"""Proofs by machine: of what they are asked, with controls that find a counterexample, and as recorded."""

import json

import pytest
from typer.testing import CliRunner

from prunequant import cli, records
from prunequant.claims import proofs, registry, show

SMALL = [theorem for theorem in proofs.THEOREMS if theorem.values <= 4]


def named(theorem):
    return f"{theorem.claim}-{theorem.title}-{theorem.values}".replace(" ", "_")


@pytest.mark.parametrize("theorem", SMALL, ids=named)
def test_it_is_proved_for_all_real_blocks_of_four_and_false_without_each_hypothesis_named(theorem):
    proof = proofs.prove(theorem, limit=120)
    assert proof.outcome == "proved", proof
    assert proof.controls and all(proof.controls.values()), proof.controls


def test_a_false_statement_is_answered_by_a_counterexample():
    """The corollary the other way round: quantizing first is never worse."""

    def exchanged(z3, n):
        stated = proofs._corollary(1)(z3, n)
        left, right = stated.conclusion.children()
        return proofs.Stated(stated.hypotheses, right <= left, stated.numbers)

    proof = proofs.prove(proofs.Theorem("harma2025.corollary", "exchanged", 4, exchanged, ("odd",)))
    assert proof.outcome == "counterexample" and "x = (" in proof.counterexample and not proof.agrees


def test_hypotheses_do_not_contradict_one_another():
    """From a contradiction anything follows: some numbers must meet all hypotheses."""
    z3 = pytest.importorskip("z3")
    for theorem in SMALL:
        solver = z3.Solver()
        for asked in theorem.state(z3, theorem.values).hypotheses.values():
            solver.add(*asked)
        assert solver.check() == z3.sat, theorem


def test_a_hypothesis_that_does_not_exist_cannot_be_left_out():
    with pytest.raises(ValueError, match="no hypothesis"):
        proofs.prove(proofs.Theorem("ours.ties", "x", 4, proofs._ties, ("shiny",)))


def test_the_record_holds_every_theorem_and_the_card_says_what_was_proved():
    rows = records.read(proofs.RECORD)["rows"]
    listed = {(theorem.claim, theorem.title, theorem.values) for theorem in proofs.THEOREMS}
    assert {(row["claim"], row["title"], row["values"]) for row in rows} == listed
    for row in rows:
        assert row["outcome"] in ("proved", "not decided"), row
        assert row["values"] > 4 or (row["outcome"] == "proved" and all(row["controls"].values())), row
    for claim_id in {theorem.claim for theorem in proofs.THEOREMS}:
        assert claim_id in registry()
        assert "Proved by machine" in show(claim_id).markdown
    assert proofs.line("kumar2025.lemma2") == ""


def test_the_command_proves_and_names_what_has_no_proof(tmp_path):
    run = CliRunner().invoke
    found = run(cli.app, ["prove", "zhang2025.quantization", "--json", str(tmp_path / "proofs.json")])
    assert found.exit_code == 0 and "1 of 1 proved" in found.output, found.output
    assert json.loads((tmp_path / "proofs.json").read_text("utf-8"))["rows"][0]["outcome"] == "proved"
    found = run(cli.app, ["prove", "kumar2025.lemma2"])
    assert found.exit_code == 2 and "no proof by machine for kumar2025.lemma2" in found.output


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "a", None, True])
def test_a_limit_that_is_no_time_is_refused_before_any_work(limit):
    with pytest.raises((TypeError, ValueError), match="limit is"):
        proofs.prove(SMALL[0], limit)
    found = CliRunner().invoke(cli.app, ["prove", "ours.ties", "--limit", str(limit)])
    assert found.exit_code == 2
