"""The case of one linear layer: rows, reasons, crossings, and the GPU's settings in small on a CPU."""

import pytest

from prunequant.cases.hardware import case as hardware
from prunequant.cases.runner import run_case

SMALL = {"layers": [[32, 64, [1, 16], [1]]], "sweep": 1 << 16, "order": 32, "rounds": 2, "seconds": 0.0}


@pytest.fixture(scope="module")
def record():
    return run_case("hardware", "ci", settings=SMALL)


def test_a_row_holds_bytes_error_and_times_of_every_scheme_or_a_reason(record):
    for row in (r for r in record["rows"] if r["part"] == "layer"):
        assert list(row["schemes"]) == record["settings"]["schemes"]
        for name, found in row["schemes"].items():
            if "unavailable" in found:
                assert found["unavailable"]
            else:
                assert found["bytes"] > 0 and len(found["cold"]) == 3 and found["ratio"] > 0, name


def test_schemes_for_cuda_are_reported_as_missing_on_a_cpu(record):
    assert {"2:4-bf16", "2:4-int8", "2:4-fp8"} <= set(record["summary"]["unavailable"])


def test_stored_bytes_and_formula_agree_in_the_summary(record):
    assert all(row["bytes"] == row["formula"] for row in record["summary"]["table"])


def test_the_settings_for_a_gpu_run_in_small_on_a_cpu():
    found = run_case("hardware", "gpu", seeds=1, device="cpu", settings=SMALL)
    assert {"fp32", "bf16", "int8-weight", "csr-90"} <= {row["scheme"] for row in found["summary"]["table"]}


def test_older_instructions_are_measured_in_a_process_of_their_own():
    older = {"older": [[32, 64, [1]]], "schemes": ["fp32", "int8-weight", "csr-50"], "layers": []}
    found = run_case("hardware", "ci", settings=SMALL | older)
    row = found["rows"][-1]
    assert row["instructions"] == "older" and row["capability"] in ("AVX2", "DEFAULT")
    assert set(row["schemes"]) == {"fp32", "int8-weight"}


def test_units_name_every_layer_batch_and_number_of_threads_once():
    settings = hardware.PRESETS["cpu"]
    units = hardware.units(settings)
    assert len({tuple(u.items()) for u in units}) == len(units)
    layers = sum(len(batches) * len(threads) for _, _, batches, threads in settings["layers"])
    older = sum(len(batches) for _, _, batches in settings["older"])
    assert len(units) == 2 + layers + older


def test_crossings_are_read_off_the_ratios():
    key = {"outputs": 8, "inputs": 8, "threads": 1, "instructions": "all"}
    sparse = [key | {"batch": 1, "scheme": f"csr-{p}", "ratio": r} for p, r in ((50, 1.5), (75, 1.01), (90, 0.4))]
    coded = [key | {"batch": b, "scheme": "int4-weight", "ratio": r} for b, r in ((1, 0.3), (16, 0.9), (256, 2.0))]
    density = hardware.density_crossings(sparse + coded)
    assert [(d["loses"], d["wins"]) for d in density] == [(0.75, 0.9)]
    batch = hardware.batch_crossings(sparse + coded)
    assert [(b["wins"], b["loses"]) for b in batch] == [(16, 256)]
