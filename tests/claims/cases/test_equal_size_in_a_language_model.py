"""The claims of cases/equal-size-in-a-language-model."""

import copy

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import forget, of
from prunequant import records
from prunequant.claims import Budget, run
from prunequant.claims.cases import equal_size_in_a_language_model as module

CLAIM = "cases.equal_size_lm"


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def broken_by(monkeypatch, change):
    record = copy.deepcopy(records.read("equal_size_model.json"))
    change(record["rows"])
    forget(module)
    monkeypatch.setattr(module.records, "read", lambda name: record)
    try:
        outcome = run(CLAIM, Budget.QUICK)
    except ValueError as error:
        return (str(error),)
    finally:
        monkeypatch.undo()
        forget(module)
    assert outcome.problems, "the claim agrees with a record that was tampered with"
    return outcome.evidence.broken if outcome.evidence is not None else (outcome.error,)


def one_pruned_file_as_good_as_dense(rows):
    (pruned,) = of(rows, scheme="50% INT4 g64", method="sparsegpt")
    pruned["losses"] = [loss + 1e-3 for loss in rows[0]["losses"]]


def a_mask_that_was_not_counted(rows):
    for row in of(rows, scheme="50% INT4 g64"):
        row["bits_per_weight"] -= 1


def a_file_larger_than_promised(rows):
    rows[-1]["bytes"] += 1


def integers_of_four_values_that_read(rows):
    (four,) = of(rows, scheme="INT2 g64", method="optq")
    four["losses"] = [loss + 0.1 for loss in rows[0]["losses"]]


def the_first_token_does_not_matter(rows):
    (left_out,) = of(rows, scheme="INT4 g64", method="optq, later tokens")
    left_out["losses"] = [loss + (-1) ** i * 1e-3 for i, loss in
                          enumerate(of(rows, scheme="INT4 g64", method="optq")[0]["losses"])]  # fmt: skip


def one_file_under_two_names(rows):
    rows[2]["losses"] = rows[1]["losses"]


def a_loss_that_is_none(rows):
    rows[5]["losses"][0] = float("inf")


def a_problem_of_the_second_look(rows):
    rows[3]["verified"]["problems"] = ["blk.0: other codes"]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (one_pruned_file_as_good_as_dense, module.SYMMETRIC),
        (one_pruned_file_as_good_as_dense, module.SHIFTED),
        (integers_of_four_values_that_read, module.FOUR_VALUES),
        (a_mask_that_was_not_counted, module.EQUAL),
        (a_file_larger_than_promised, module.EQUAL),
        (the_first_token_does_not_matter, module.FIRST),
        (one_file_under_two_names, module.SOUND),
        (a_problem_of_the_second_look, "every file was read back without a problem"),
    ],
)
def test_a_tampered_record_turns_the_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, change)


def test_losses_that_are_no_numbers_are_an_error(monkeypatch):
    (error,) = broken_by(monkeypatch, a_loss_that_is_none)
    assert "finite" in error
