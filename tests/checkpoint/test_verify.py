"""Files that are looked at again: whole ones pass, and one changed byte is found and named."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from checkpoint.stored import read_back
from prunequant.checkpoint import Report
from prunequant.checkpoint.compression import compress
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.verify import verify_file
from prunequant.cli import app


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    save_file({"w": rng.standard_normal((16, 64)).astype(np.float32), "b": np.ones(5)}, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("scheme", ["INT4 g32", "2:4 INT3 channel", "50% FP16", "NVFP4", "NF4"])
@pytest.mark.parametrize("grid", ["symmetric", "zero point"])
def test_a_file_as_it_was_written_passes_and_its_errors_are_those_of_the_source(scheme, grid, model, tmp_path):
    compress(model, tmp_path / "out", scheme=scheme, settings=Settings(grid=grid))
    found = verify_file(tmp_path / "out", against=model)
    assert found.problems == () and found.matrices == found.compared == 1 and found.checksums >= 3


@pytest.mark.parametrize("scheme", ["INT4 g32", "2:4 INT3 channel"])
def test_any_byte_that_was_changed_is_found_with_the_name_of_its_tensor(scheme, model, tmp_path):
    compress(model, tmp_path / "out", scheme=scheme)
    whole = (tmp_path / "out").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole), 97):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        problems = verify_file(tmp_path / "changed").problems
        assert any(re.search(r"tensor '[wb].*': its bytes are not those that were written", p) for p in problems)


def test_a_count_of_zeros_that_was_changed_in_what_the_file_says_of_itself_is_found(model, tmp_path):
    (row,) = compress(model, tmp_path / "out", scheme="INT4 g32").rows
    whole, said = (tmp_path / "out").read_bytes(), rb"zeros_after\":\""
    first, rest = whole.split(said)
    assert rest.startswith(f"{row.zeros_after} ".encode())
    (tmp_path / "out").write_bytes(first + said + f"{row.zeros_after + 1}".encode() + rest[len(str(row.zeros_after)) :])
    (problem,) = verify_file(tmp_path / "out").problems
    assert problem == f"{tmp_path / 'out'}: tensor 'w': {row.zeros_after} weights are zero, {row.zeros_after + 1} were"


def test_another_source_than_that_it_was_made_of_is_noticed(model, tmp_path):
    compress(model, tmp_path / "out", scheme="INT4 g32")
    tensors = load_file(model)
    tensors["w"][0, 0] += 1
    save_file(tensors, tmp_path / "other.safetensors")
    (problem,) = verify_file(tmp_path / "out", against=tmp_path / "other.safetensors").problems
    assert "tensor 'w': its error is " in problem and problem.endswith("was recorded")


def test_a_file_that_compress_did_not_write_is_refused(model):
    with pytest.raises(ValueError, match="says nothing of how it was compressed"):
        verify_file(model)


def test_every_command_takes_the_names_of_tensors_whose_first_axis_is_the_input(tmp_path):
    w = np.random.default_rng(3).standard_normal((64, 24)).astype(np.float32)  # 64 inputs, 24 outputs
    save_file({"ffn.w": w}, tmp_path / "m.safetensors")
    save_file({"ffn.w": np.ascontiguousarray(w.T)}, tmp_path / "turned.safetensors")
    model, out, turned = tmp_path / "m.safetensors", tmp_path / "out", ["--transposed", "*.w"]

    def run(*line):
        done = CliRunner().invoke(app, [str(part) for part in line])
        assert done.exit_code == 0, done.output

    run("report", model, *turned, "--json", tmp_path / "report.json")
    report = Report.from_json(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))
    assert [(m.rows, m.columns) for m in report.matrices] == [(24, 64)]
    run("allocate", model, *turned, "--budget", "5", "--schemes", "INT4 *", "--json", tmp_path / "plan.json")
    run("compress", model, out, *turned, "--plan", tmp_path / "plan.json")
    run("verify-file", out, "--against", model, *turned)
    assert CliRunner().invoke(app, ["verify-file", str(out), "--against", str(model)]).exit_code == 2
    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["tensors"]
    compress(tmp_path / "turned.safetensors", tmp_path / "other", plan=plan)
    np.testing.assert_array_equal(read_back(out, "ffn.w").decode(), read_back(tmp_path / "other", "ffn.w").decode())


def test_a_report_and_the_blocks_of_gguf_say_already_how_matrices_lie(model, tmp_path):
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    line = ["allocate", str(tmp_path / "report.json"), "--budget", "4", "--transposed", "*"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 2 and "--transposed is for a model" in done.stderr
    with pytest.raises(ValueError, match=r"transposed .* last axis"):
        compress(model, tmp_path / "out", scheme="INT4 g32", to="gguf", transposed=["w"])
