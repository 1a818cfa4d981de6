"""The claims of cases/equal-size-in-a-language-model."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by, of
from prunequant import records
from prunequant.claims.cases import equal_size_in_a_language_model as module

CLAIM = "cases.equal_size_lm"


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def one_pruned_file_as_good_as_dense(record, preset):
    rows = record["rows"]
    (pruned,) = of(rows, scheme="50% INT4 g64", method="sparsegpt")
    pruned["losses"] = [loss + 1e-3 for loss in rows[0]["losses"]]


def a_mask_that_was_not_counted(record, preset):
    rows = record["rows"]
    for row in of(rows, scheme="50% INT4 g64"):
        row["bits_per_weight"] -= 1


def a_file_larger_than_promised(record, preset):
    rows = record["rows"]
    rows[-1]["bytes"] += 1


def integers_of_four_values_that_read(record, preset):
    rows = record["rows"]
    (four,) = of(rows, scheme="INT2 g64", method="optq")
    four["losses"] = [loss + 0.1 for loss in rows[0]["losses"]]


def the_first_token_does_not_matter(record, preset):
    rows = record["rows"]
    (left_out,) = of(rows, scheme="INT4 g64", method="optq, later tokens")
    left_out["losses"] = [loss + (-1) ** i * 1e-3 for i, loss in
                          enumerate(of(rows, scheme="INT4 g64", method="optq")[0]["losses"])]  # fmt: skip


def one_file_under_two_names(record, preset):
    rows = record["rows"]
    rows[2]["losses"] = rows[1]["losses"]


def a_file_on_fewer_windows(record, preset):
    rows = record["rows"]
    rows[4]["windows"] = 4


def inputs_of_other_windows(record, preset):
    rows = record["rows"]
    rows[4]["calibration"] = 64


def a_loss_that_is_none(record, preset):
    rows = record["rows"]
    rows[5]["losses"][0] = float("inf")


def a_problem_of_the_second_look(record, preset):
    rows = record["rows"]
    rows[3]["verified"]["problems"] = ["blk.0: other codes"]


def as_in(record, scheme, method, other, by=0.0):
    """The losses of a file in the place of another's, and so much more in every second window."""
    rows = record["rows"]
    (row,), (like,) = of(rows, scheme=scheme, method=method), of(rows, scheme=scheme, method=other)
    row["losses"] = [loss + by + (-1) ** i * 1e-3 for i, loss in enumerate(like["losses"])]


def the_best_pruned_file_as_good_as_dense(record, preset):
    rows = record["rows"]
    (pruned,) = of(rows, scheme="75% INT4 g64", method="sparsegpt")
    pruned["losses"] = [loss + 1e-3 for loss in rows[0]["losses"]]


def the_order_does_not_matter(record, preset):
    as_in(record, "INT2 g128", "optq, zero point, in order", "optq, zero point")


def the_order_of_three_bits_does_not_matter(record, preset):
    as_in(record, "INT3 g64", "optq, in order", "optq")


def an_order_that_is_missing(record, preset):
    rows = record["rows"]
    rows[:] = [r for r in rows if (r["scheme"], r.get("method")) != ("INT4 g64", "optq, in order")]


def few_weights_by_energy_as_in_order(record, preset):
    as_in(record, "75% INT4 g64", "sparsegpt, in order", "sparsegpt")


def few_weights_in_order_far_behind(record, preset):
    as_in(record, "75% INT4 g64", "sparsegpt, in order", "sparsegpt", by=3)


def scales_do_not_help(record, preset):
    as_in(record, "INT3 g64", "optq, scaled", "optq")


def scales_harm_four_bits_with_a_zero_point(record, preset):
    as_in(record, "INT4 g128", "optq, zero point, scaled", "optq, zero point", by=0.01)


def scales_do_not_harm(record, preset):
    as_in(record, "INT3 g128", "nearest, zero point, scaled", "nearest, zero point")


def scaled_integers_behind_a_pruned_file(record, preset):
    as_in(record, "INT2 g128", "optq, zero point, scaled", "optq, zero point", by=3)


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (the_best_pruned_file_as_good_as_dense, module.BEST),
        (the_order_does_not_matter, module.BY_ENERGY),
        (the_order_of_three_bits_does_not_matter, module.BY_ENERGY),
        (the_order_of_three_bits_does_not_matter, module.TURNED),
        (an_order_that_is_missing, module.BY_ENERGY),
        (few_weights_by_energy_as_in_order, module.SPARSE),
        (few_weights_in_order_far_behind, module.TURNED),
        (scales_do_not_help, module.HELPED),
        (scales_harm_four_bits_with_a_zero_point, module.HELPED),
        (scales_do_not_harm, module.HARMED),
        (scaled_integers_behind_a_pruned_file, module.SHIFTED),
        (one_pruned_file_as_good_as_dense, module.SYMMETRIC),
        (one_pruned_file_as_good_as_dense, module.SHIFTED),
        (integers_of_four_values_that_read, module.FOUR_VALUES),
        (a_mask_that_was_not_counted, module.EQUAL),
        (a_file_larger_than_promised, module.EQUAL),
        (the_first_token_does_not_matter, module.FIRST),
        (one_file_under_two_names, module.SOUND),
        (a_file_on_fewer_windows, module.SOUND),
        (inputs_of_other_windows, module.SOUND),
        (a_problem_of_the_second_look, "every file was read back without a problem"),
    ],
)
def test_a_tampered_record_turns_the_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, CLAIM, change, records, "read")


def test_losses_that_are_no_numbers_are_an_error(monkeypatch):
    (error,) = broken_by(monkeypatch, CLAIM, a_loss_that_is_none, records, "read")
    assert "finite" in error


def test_the_claim_names_methods_as_the_study_does_and_counts_the_same_matrix():
    pytest.importorskip("torch")
    from prunequant.studies import equal_size_model as study

    for name in ("LATER", "ZERO", "ORDER", "SCALED", "SIDE"):
        assert getattr(module, name) == getattr(study, name)
