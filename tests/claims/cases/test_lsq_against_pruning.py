"""The claims of cases/lsq-against-pruning."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by, of
from prunequant import records
from prunequant.claims.cases import lsq_against_pruning as claims

SIZE = "both are stored in as many bits, counted anew"
STEPS = "both are trained for as many steps"
SEEDS = "both have the same five seeds or more, no two alike"
START = "each pruned network starts as the dense one of its seed"
RATE = "each has the learning rate that its own search found best"
CONVERGED = ("kuzmin2023.finetuning", "cases.lsq_vs_pruning", "cases.lsq_both")


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def pruned(record):
    return of(record["rows"], method="pruning", mask="free")


def half_the_bits(record, preset):
    for row in pruned(record):
        row["bits_per_weight"] /= 2


def half_the_weights(record, preset):
    for row in pruned(record):
        row["kept"] = [k // 2 for k in row["kept"]]


def ten_times_the_steps(record, preset):
    for row in of(record["rows"], method="lsq"):
        row["steps"] *= 10


def one_seed_for_all(record, preset):
    for row in of(record["rows"], method="lsq"):
        first = of(record["rows"], **{k: row[k] for k in ("model", "method", "mask", "bits", "length")}, seed=0)[0]
        row["loss"], row["cka"] = first["loss"], first["cka"]


def a_loss_that_is_no_number(record, preset):
    for row in of(record["rows"], method="lsq", bits=2, seed=1, length=1):
        row["loss"] = float("inf")


def another_start(record, preset):
    for row in pruned(record):
        row["watch"][0]["loss"] += 0.1


def the_rate_of_lsq_for_both(record, preset):
    for chosen in record["settings"]["models"].values():
        chosen["fine_rate"]["pruning"] = dict(chosen["fine_rate"]["lsq"])


@pytest.mark.parametrize("claim_id", (*CONVERGED, "cases.lsq_own_images"))
@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (half_the_bits, SIZE),
        (half_the_weights, SIZE),
        (ten_times_the_steps, STEPS),
        (one_seed_for_all, SEEDS),
        (another_start, START),
        (the_rate_of_lsq_for_both, RATE),
    ],
)
def test_a_record_without_a_hypothesis_of_the_comparison_turns_the_claim_red(monkeypatch, claim_id, change, condition):
    assert condition in broken_by(monkeypatch, claim_id, change)


@pytest.mark.parametrize("claim_id", CONVERGED)
def test_an_infinite_loss_turns_the_claim_red(monkeypatch, claim_id):
    found = broken_by(monkeypatch, claim_id, a_loss_that_is_no_number)
    assert "every loss is finite" in found or "infinity" in found[0] or "finite" in found[0]


# ---- representations ----


COURSES = ("kuzmin2023.representations_trend", "kuzmin2023.representations_level")


def of_courses(change):
    """`change(rows)` where the record is that of the courses; other records are left as they are."""

    def changed(record, preset):
        if "lsq-representations" in record["provenance"]["command"]:
            change(record["rows"])

    return changed


def courses_of_half_the_weights(rows):
    for row in of(rows, method="pruning"):
        row["kept"] = [k // 2 for k in row["kept"]]


def courses_that_go_on_for_longer(rows):
    for row in of(rows, method="lsq"):
        row["steps"] *= 2


def courses_of_one_seed(rows):
    for row in of(rows, method="lsq"):
        first = of(rows, **{k: row[k] for k in ("model", "method", "bits", "rate")}, seed=0)[0]
        row["watch"] = first["watch"]


def courses_from_another_network(rows):
    of(rows, method="pruning", seed=1)[0]["dense_loss"] += 0.01


def courses_with_an_infinite_likeness(rows):
    of(rows, method="lsq", bits=2, seed=1)[0]["watch"][3]["pooled_snr"] = float("inf")


def a_search_that_found_another_rate(record, preset):
    if "lsq-rates-converged" in record["provenance"]["command"]:
        of(record["rows"], method="lsq", bits=2, rate=1e-3, length=1)[0]["loss"] = 0.1


@pytest.mark.parametrize("claim_id", COURSES)
@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (of_courses(courses_of_half_the_weights), SIZE),
        (of_courses(courses_that_go_on_for_longer), STEPS),
        (of_courses(courses_of_one_seed), SEEDS),
        (of_courses(courses_from_another_network), claims.ONE_DENSE),
        (of_courses(courses_with_an_infinite_likeness), claims.LEGIBLE),
        (a_search_that_found_another_rate, RATE),
    ],
)
def test_courses_without_a_hypothesis_of_the_comparison_turn_the_claim_red(monkeypatch, claim_id, change, condition):
    assert condition in broken_by(monkeypatch, claim_id, change, records, "read")


def as_good_as_lsq(record, preset):
    rows = record["rows"]
    for row in pruned(record):
        twin = {k: row[k] for k in ("model", "bits", "length", "seed")}
        row["loss"] = of(rows, **twin, method="lsq")[0]["loss"]


@pytest.mark.parametrize("claim_id", ["kuzmin2023.finetuning", "cases.lsq_vs_pruning", "cases.lsq_own_images"])
def test_pruned_networks_as_good_as_quantized_ones_turn_the_claim_red(monkeypatch, claim_id):
    assert any("ahead" in c or "smaller loss" in c for c in broken_by(monkeypatch, claim_id, as_good_as_lsq))


def images_that_are_shared(record, preset):
    record["settings"]["task"] = "fashion-small"


def a_dense_network_that_guesses(record, preset):
    for row in of(record["rows"], method="dense"):
        row["accuracy"] = 0.8


def pruned_and_right_as_often(record, preset):
    for row in pruned(record):
        twin = {k: row[k] for k in ("model", "bits", "length", "seed")}
        row["accuracy"] = of(record["rows"], **twin, method="lsq")[0]["accuracy"]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (images_that_are_shared, claims.APART),
        (a_dense_network_that_guesses, claims.BETTER_THAN_LINEAR),
        (pruned_and_right_as_often, claims.OWN_RIGHT),
    ],
)
def test_a_tampered_record_turns_the_claim_on_images_of_its_own_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.lsq_own_images", change)


@pytest.mark.parametrize("claim_id", CONVERGED)
def test_seeds_that_share_images_turn_a_claim_on_networks_trained_out_red(monkeypatch, claim_id):
    assert claims.APART in broken_by(monkeypatch, claim_id, images_that_are_shared)


def longer_for_nothing(record, preset):
    for row in of(record["rows"], method="pruning", mask="free", length=3):
        row["loss"] = of(record["rows"], method="pruning", mask="free", length=1, bits=row["bits"], seed=row["seed"])[
            0
        ]["loss"]


def mixed(record):
    return of(record["rows"], method="both")


def half_of_what_mixtures_keep(record, preset):
    for row in mixed(record):
        row["kept"] = [k // 2 for k in row["kept"]]


def mixtures_trained_for_longer(record, preset):
    for row in mixed(record):
        row["steps"] *= 3


def better_mixtures(record, preset):
    for row in mixed(record):
        row["loss"] -= 0.1


def mixtures_no_worse(record, preset):
    for row in of(record["rows"], method="both", bits=4, sparsity=0.65):
        row["loss"] = of(record["rows"], method="lsq", bits=3, length=1, seed=row["seed"])[0]["loss"]


@pytest.mark.parametrize(
    ("claim_id", "change", "condition"),
    [
        ("cases.lsq_vs_pruning", longer_for_nothing, claims.MORE),
        ("cases.lsq_both", half_of_what_mixtures_keep, claims.COUNTED),
        ("cases.lsq_both", mixtures_trained_for_longer, "all are trained for as many steps"),
        ("cases.lsq_both", better_mixtures, claims.NONE_BETTER),
        ("cases.lsq_both", mixtures_no_worse, claims.MUCH_WORSE),
    ],
)
def test_tampered_rows_turn_the_claims_on_networks_trained_out_red(monkeypatch, claim_id, change, condition):
    assert condition in broken_by(monkeypatch, claim_id, change)
