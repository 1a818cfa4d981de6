"""The claims of cases/order-in-a-language-model."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by, of
from prunequant import records
from prunequant.claims.cases import order_in_a_language_model as claims


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def mxfp4(record, part):
    return of(record["rows"], part=part, pattern="0.3", format="MXFP4")


def a_broken_quantized_model(record, preset):
    for row in record["rows"]:
        if "q" in row.get("losses", {}):
            row["losses"]["q"] = [99.0] * len(row["losses"]["q"])


def one_seed_for_all(record, preset):
    rows = mxfp4(record, "seeds")
    for row in rows:
        row["losses"] = rows[0]["losses"]


def fair_ties_that_leave_a_third(record, preset):
    for row in mxfp4(record, "seeds"):
        kinds = row["losses"]
        kinds["qs magnitude"] = [a + (b - a) / 3 for a, b in zip(kinds["sq"], kinds["qs"])]


def nothing_left_on_the_shipped_weights(record, preset):
    for row in mxfp4(record, "shipped"):
        if "losses" in row:
            row["losses"]["qs magnitude"] = row["losses"]["sq"]


def quantizing_first_ahead_in_one_format(record, preset):
    for row in of(record["rows"], part="shipped", pattern="0.3", format="INT8"):
        if "losses" in row:
            row["losses"]["qs"] = [v - 0.02 for v in row["losses"]["qs"]]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (a_broken_quantized_model, claims.FINITE),
        (one_seed_for_all, claims.SEEDS),
        (fair_ties_that_leave_a_third, claims.FAIR),
        (nothing_left_on_the_shipped_weights, "on the shipped weights fair ties leave something: the contrary cell"),
        (quantizing_first_ahead_in_one_format, claims.AHEAD),
    ],
)
def test_a_tampered_record_turns_the_claim_on_the_order_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.order_lm", change)


def trained(record, **cell):
    return of(record["rows"], pattern="2:4", format="MXFP4", **cell)


def another_start(record, preset):
    trained(record, kind="qs magnitude")[0]["training"][0] += 0.1


def twice_the_steps(record, preset):
    for row in trained(record, kind="sq"):
        row["training"] = row["training"] * 2


def a_broken_run(record, preset):
    for row in trained(record, kind="qs", seed=3):
        row["losses"]["qs"] = [99.0] * len(row["losses"]["qs"])


def healed(record, preset):
    for row, other in zip(trained(record, kind="qs"), trained(record, kind="qs magnitude")):
        row["losses"]["qs"] = other["losses"]["qs magnitude"]


def another_joint_mask(record, preset):
    for row in trained(record, kind="joint"):
        row["losses"]["joint"] = [v + 0.03 for v in row["losses"]["joint"]]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (another_joint_mask, claims.JOINT),
        (another_start, claims.EQUAL),
        (twice_the_steps, claims.STEPS),
        (a_broken_run, claims.FINITE),
        (healed, claims.COSTS),
    ],
)
def test_a_tampered_record_turns_the_claim_on_trained_models_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.order_lm_trained", change)


def of_gpu(record, preset, **cell):
    return of(record["rows"], **cell) if preset == "gpu" else []


def the_same_seed_twice(record, preset):
    first = {r["kind"]: r for r in of_gpu(record, preset, seed=0, pattern="0.5")}
    for row in of_gpu(record, preset, seed=1, pattern="0.5"):
        row["losses"] = first[row["kind"]]["losses"]


def fewer_windows(record, preset):
    for row in of_gpu(record, preset, kind="s then qa"):
        row["losses"]["s then qa"] = row["losses"]["s then qa"][:16]


def a_shorter_run(record, preset):
    for row in of_gpu(record, preset, kind="qs a", seed=2):
        row["training"] = row["training"][:50]


def a_loss_that_is_none(record, preset):
    for row in of_gpu(record, preset, kind="s", seed=2):
        row["training"][7] = float("inf")


def an_order_that_costs(record, preset):
    for row in of_gpu(record, preset, kind="qs"):
        row["losses"]["qs"] = [v + 0.03 for v in row["losses"]["qs"]]


def quantizing_at_the_end_harms(record, preset):
    for row in of_gpu(record, preset, kind="s then qa"):
        row["losses"]["s then qa"] = [v + 0.03 for v in row["losses"]["s then qa"]]


def a_dense_network_made_worse(record, preset):
    for row in of_gpu(record, preset, kind="d", seed=3):
        row["losses"]["d"] = [v + 0.5 for v in row["losses"]["d"]]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (the_same_seed_twice, claims.FOUR_SEEDS),
        (fewer_windows, claims.FOUR_SEEDS),
        (a_shorter_run, claims.DONE),
        (a_loss_that_is_none, claims.DONE),
        (an_order_that_costs, claims.NO_ORDER),
        (quantizing_at_the_end_harms, claims.NO_PROTOCOL),
        (a_dense_network_made_worse, claims.UNHURT),
    ],
)
def test_a_tampered_record_turns_the_claim_on_healed_models_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.order_lm_healed", change)


def of_formats(record, preset, **cell):
    return of(record["rows"], **cell) if preset == "gpu_formats" else []


def moved(rows, by):
    for row in rows:
        kind = row["kind"]
        row["losses"][kind] = [v + by for v in row["losses"][kind]]


def six_windows(record, preset):
    for row in of_formats(record, preset, kind="qs", format="HBFP6"):
        row["losses"]["qs"] = row["losses"]["qs"][:6]


def a_seed_that_is_another(record, preset):
    first = {(r["kind"], r["format"], r["pattern"]): r for r in of_formats(record, preset, seed=0)}
    for row in of_formats(record, preset, seed=2):
        row["losses"] = first[row["kind"], row["format"], row["pattern"]]["losses"]


def half_the_steps(record, preset):
    for row in of_formats(record, preset, kind="sq", format="HBFP8"):
        row["training"] = row["training"][:50]


def another_first_loss(record, preset):
    for row in of_formats(record, preset, kind="qs magnitude", format="HBFP6", pattern="2:4", seed=1):
        row["training"][0] += 1e-4


def four_bits_cost_nothing(record, preset):
    moved(of_formats(record, preset, kind="qs", format="MXFP4", pattern="0.5"), -0.04)


def eight_bits_cost(record, preset):
    moved(of_formats(record, preset, kind="qs", format="HBFP8", pattern="0.5"), 0.04)


def fair_ties_cost_in_groups(record, preset):
    moved(of_formats(record, preset, kind="qs magnitude", format="HBFP6", pattern="2:4"), 0.03)


def fair_ties_cost_in_blocks(record, preset):
    moved(of_formats(record, preset, kind="qs magnitude", format="MXFP4", pattern="0.5"), 0.04)


def fair_ties_help_in_rows(record, preset):
    moved(of_formats(record, preset, kind="qs magnitude", format="INT4", pattern="0.5"), -0.04)


def on_the_threshold(record, preset):
    moved(of_formats(record, preset, kind="q", format="MXFP4"), 0.06)


def another_day(record, preset):
    moved(of(record["rows"], kind="sq", seed=1) if preset == "gpu_groups" else [], -0.06)


def a_dense_network_that_lost(record, preset):
    moved(of_formats(record, preset, kind="d", seed=1), 0.5)


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (six_windows, claims.THREE_SEEDS),
        (a_seed_that_is_another, claims.THREE_SEEDS),
        (half_the_steps, claims.DONE),
        (another_first_loss, claims.ONE_START),
        (four_bits_cost_nothing, claims.FOUR_BITS),
        (eight_bits_cost, claims.EIGHT_BITS),
        (fair_ties_cost_in_groups, claims.FAIR_GROUPS),
        (fair_ties_cost_in_blocks, claims.FAIR_BLOCKS),
        (fair_ties_help_in_rows, claims.OWN_SCALES),
        (on_the_threshold, claims.APART),
        (another_day, claims.AGAIN),
        (a_dense_network_that_lost, claims.UNHURT),
    ],
)
def test_a_tampered_record_turns_the_claim_on_formats_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.order_lm_formats", change)


def test_a_cell_without_one_of_its_seeds_is_refused():
    record = claims._record("gpu_formats")
    rows = [r for r in record["rows"] if (r["seed"], r["kind"], r["format"]) != (1, "qs", "INT8")]
    with pytest.raises(ValueError, match="the same three seeds"):
        claims._formats(rows, record["settings"], claims._again())


def groups_of_outliers(record, **cell):
    return of(record["rows"], pattern="3:4", format="INT8", **cell)


def another_dense_model(record, preset):
    of(record["rows"], pattern="", format="", factor=32)[1]["losses"]["d"][0] += 1e-12


def a_mask_that_moves(record, preset):
    for row in of(record["rows"], pattern="3:4", format="", factor=32):
        row["moved"] = 0.02


def the_order_costs_nothing(record, preset):
    for row in groups_of_outliers(record, factor=32):
        row["losses"]["qs first"] = [v + 0.01 * (-1) ** row["seed"] for v in row["losses"]["sq"]]


def as_much_without_outliers(record, preset):
    for plain, made in zip(groups_of_outliers(record, factor=1), groups_of_outliers(record, factor=32)):
        gap = [b - a for a, b in zip(made["losses"]["sq"], made["losses"]["qs first"])]
        plain["losses"]["qs first"] = [v + g for v, g in zip(plain["losses"]["sq"], gap)]


def random_ties_for_nothing(record, preset):
    for row in groups_of_outliers(record, factor=32):
        row["losses"]["qs random"] = [v + 0.01 * (-1) ** row["seed"] for v in row["losses"]["sq"]]


def fair_ties_that_help_a_whole_layer(record, preset):
    for row in of(record["rows"], pattern="0.3", format="INT8", factor=32):
        row["losses"]["qs magnitude"] = [v + 0.01 * (-1) ** row["seed"] for v in row["losses"]["sq"]]


def fair_ties_that_cost(record, preset):
    groups_of_outliers(record, factor=4)[0]["losses"]["qs magnitude"][1] += 1e-9


def fair_ties_that_are_another_model(record, preset):
    groups_of_outliers(record, factor=16)[2]["same"].remove("qs magnitude")


def fewer_ties_at_a_larger_factor(record, preset):
    for row in groups_of_outliers(record, factor=16):
        row["tied"] = 0.05


def a_formula_that_is_off(record, preset):
    for row in groups_of_outliers(record, factor=4):
        row["normal"] *= 1.3


def the_same_outliers_twice(record, preset):
    for factor in (1, 4, 16, 32):
        first, second = groups_of_outliers(record, factor=factor)[:2]
        second["losses"] = first["losses"]


def a_seed_left_out(record, preset):
    record["rows"].remove(groups_of_outliers(record, factor=16, seed=3)[0])


def a_model_with_outliers_that_breaks(record, preset):
    for row in groups_of_outliers(record, factor=32, seed=1):
        row["losses"]["qs random"] = [99.0, 99.0]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (another_dense_model, claims.SAME_MODEL),
        (a_mask_that_moves, claims.SAME_MASK),
        (the_order_costs_nothing, claims.BY_INDEX),
        (as_much_without_outliers, claims.MORE),
        (random_ties_for_nothing, claims.BLIND),
        (fair_ties_that_help_a_whole_layer, claims.SCALES),
        (fair_ties_that_cost, claims.ONE_MODEL),
        (fair_ties_that_are_another_model, claims.ONE_MODEL),
        (fewer_ties_at_a_larger_factor, claims.OFTEN),
        (a_formula_that_is_off, claims.NORMAL),
        (the_same_outliers_twice, claims.FOUR_OUTLIERS),
        (a_seed_left_out, claims.FOUR_OUTLIERS),
        (a_model_with_outliers_that_breaks, claims.UNBROKEN),
    ],
)
def test_a_tampered_record_turns_the_claim_on_outliers_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.order_outliers", change, records, "read")
