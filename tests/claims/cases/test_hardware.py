"""The claims of cases/hardware."""

import pytest

from claims.measured import as_recorded, claims_of
from claims.tampered import broken_by, of


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


def layers(record):
    return of(record["rows"], part="layer", threads=1, instructions="all")


def sparse_seven_times_faster(record, preset):
    for row in layers(record):
        row["schemes"]["csr-50"]["cold"] = [t / 7 for t in row["schemes"]["csr-50"]["cold"]]


def half_pruned_faster_than_dense(record, preset):
    for row in of(layers(record), batch=256, seed=0):
        row["schemes"]["csr-50"]["ratio"] = 0.9


def no_places_stored(record, preset):
    for row in layers(record):
        row["schemes"]["csr-50"]["bytes"] //= 2


def one_pass_for_all(record, preset):
    for row in layers(record):
        row["seed"] = 0


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (sparse_seven_times_faster, "every recorded ratio is that of its recorded times"),
        (half_pruned_faster_than_dense, "with 64 inputs or more the half pruned layer is slower in every row"),
        (no_places_stored, "every recorded layer has the bytes of the formula"),
        (one_pass_for_all, "every layer and batch was timed in five passes, each once"),
    ],
)
def test_a_tampered_record_turns_the_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.hardware", change)


def on_a_gpu(record):
    return of(record["rows"], part="layer")


def two_four_on_small_layers(record, preset):
    for row in of(on_a_gpu(record), batch=16):
        row["schemes"]["2:4-bf16"]["ratio"] = 0.9


def two_four_in_no_time(record, preset):
    for row in of(on_a_gpu(record), outputs=8192, batch=4096):
        row["schemes"]["2:4-bf16"]["cold"] = [0.001, 0.001, 0.001]


def sparse_with_many_inputs(record, preset):
    for row in of(on_a_gpu(record), outputs=8192, batch=256):
        row["schemes"]["csr-99"]["ratio"] = 0.9


def four_bits_slow_once(record, preset):
    of(on_a_gpu(record), outputs=576, batch=1)[0]["schemes"]["int4-weight"]["ratio"] = 1.1


def four_bits_fast_with_many(record, preset):
    of(on_a_gpu(record), outputs=2048, batch=256)[0]["schemes"]["int4-weight"]["ratio"] = 0.9


def fp8_fast_once(record, preset):
    of(on_a_gpu(record), outputs=8192, batch=4096)[0]["schemes"]["fp8"]["ratio"] = 0.9


def half_of_the_weights_in_half_of_the_time(record, preset):
    of(on_a_gpu(record), outputs=8192, batch=1)[0]["schemes"]["csr-50"]["ratio"] = 0.5


def a_layer_left_out(record, preset):
    record["rows"] = [r for r in record["rows"] if (r.get("outputs"), r.get("batch")) != (2048, 16)]


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (two_four_on_small_layers, "2:4 is faster nowhere but in the largest layer with the most inputs"),
        (two_four_in_no_time, "every recorded ratio is one that its recorded times allow"),
        (
            sparse_with_many_inputs,
            "CSR is faster nowhere but with one input, 90 % or more pruned, in layers of 4096 x 4096 or more",
        ),
        (four_bits_slow_once, "with one input four-bit weights are faster in every layer"),
        (four_bits_fast_with_many, "with 256 inputs or more four-bit weights are slower in every layer"),
        (fp8_fast_once, "int8 and fp8, inputs too, are slower in every row"),
        (half_of_the_weights_in_half_of_the_time, "the half pruned CSR layer is slower in every row"),
        (no_places_stored, "every recorded layer has the bytes of the formula"),
        (a_layer_left_out, "every layer and batch was timed in one pass"),
    ],
)
def test_a_tampered_record_of_a_gpu_turns_its_claim_red(monkeypatch, change, condition):
    assert condition in broken_by(monkeypatch, "cases.hardware_gpu", change)
