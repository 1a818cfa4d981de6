"""Errors of outputs: those of the plain twin, of weights where inputs are white; plans by them; files that are none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from naive import checkpoint as naive
from prunequant import checkpoint
from prunequant.checkpoint.calibration import Calibration
from prunequant.checkpoint.judging import Settings
from prunequant.checkpoint.matrices import Matrix
from prunequant.checkpoint.outputs import NO_INPUTS, NO_OUTPUTS, output_errors, relative_errors
from prunequant.cli import app

RUN = CliRunner()
SETTINGS = Settings.checked([4.25], 32, "bitmap", False, "searched")
SHAPES = {"a.weight": (48, 96), "b.weight": (64, 64), "c.weight": (32, 128), "d.weight": (40, 64)}


def correlated(rng, columns, samples=400):
    """Inputs of which few directions hold most of the energy."""
    return (rng.standard_normal((samples, columns)) * np.geomspace(5, 0.05, columns)) @ np.linalg.qr(
        rng.standard_normal((columns, columns))
    )[0]


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_t(3 + i, shape) / 30).astype(np.float32) for i, (name, shape) in enumerate(SHAPES.items())
    }


@pytest.fixture
def model(tensors, tmp_path):
    save_file({**tensors, "norm.weight": np.ones(64, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def inputs(tmp_path):
    rng = np.random.default_rng(1)
    grams = {}
    for name, (_, columns) in SHAPES.items():
        v = correlated(rng, columns)
        grams[f"{name}.gram"] = v.T @ v
    np.savez(tmp_path / "inputs.npz", **grams)
    return tmp_path / "inputs.npz"


def measured(model, path, **options):
    with checkpoint.open_model(model) as opened:
        report = checkpoint.report(opened, [4.25])
        return report, output_errors(opened, report, Calibration(path, opened), **options)


def matrix(x):
    return Matrix("w", x.shape, "linear", "F32", *x.shape, x.nbytes, lambda a, b: x[a:b])


@pytest.mark.parametrize("shape", [(48, 96), (7, 30), (3, 8), (65, 257)], ids=str)
def test_the_output_error_of_every_scheme_is_that_of_the_plain_twin(shape, monkeypatch):
    rng = np.random.default_rng(shape[0])
    x = (rng.standard_t(4, shape) / 30).astype(np.float32)
    v = correlated(rng, shape[1])
    gram = v.T @ v
    theirs = naive.output_errors(x, gram, 32)
    whole = relative_errors(matrix(x), gram, theirs, SETTINGS)
    monkeypatch.setattr("prunequant.checkpoint.outputs.BLOCK", 5 * shape[1])
    blocks = relative_errors(matrix(x), gram, theirs, SETTINGS)
    for name, error in theirs.items():
        assert whole[name] == pytest.approx(error, rel=0.003, abs=1e-6), name
        assert blocks[name] == pytest.approx(whole[name], rel=1e-5, abs=1e-9), name


def test_with_white_inputs_it_is_the_error_of_the_weights_and_the_plan_is_the_same(model, tmp_path):
    np.savez(tmp_path / "white.npz", **{f"{n}.gram": 7 * np.eye(columns) for n, (_, columns) in SHAPES.items()})
    report, found = measured(model, tmp_path / "white.npz")
    assert not found.by_weights
    for row in report.matrices:
        for loss in row.schemes:
            # of a share the last bin of the histogram goes by place; a report counts the mean of its squares
            digits = 1e-2 if loss.name.endswith("% FP16") else 1e-5
            assert found.errors[row.name][loss.name] == pytest.approx(10 ** (-loss.snr / 10), rel=digits, abs=1e-9)
    for budget in (2.25, 3.5, 4.25, 6.0):
        by_weights = checkpoint.allocate(report, budget)
        assert checkpoint.allocate(report, budget, errors=found.errors).tensors == by_weights.tensors


def test_a_plan_is_never_worse_than_one_scheme_for_all_by_the_errors_of_outputs(model, inputs):
    report, found = measured(model, inputs)
    weights = {row.name: row.weights for row in report.matrices}

    def error(schemes):
        return sum(w * found.errors[n][schemes[n]] for n, w in weights.items()) / sum(weights.values())

    by_weights = checkpoint.allocate(report, 4.25)
    plan = checkpoint.allocate(report, 4.25, errors=found.errors)
    assert plan.tensors != by_weights.tensors and plan.weighting == "outputs" and plan.by_weights == ()
    assert plan.error == pytest.approx(error(plan.tensors)) and plan.gap == 0
    assert plan.error <= error(by_weights.tensors)
    for same in checkpoint.pareto(report, errors=found.errors).uniform:
        if same.bits_per_weight <= 4.25:
            assert plan.error <= same.error
            assert same.error == pytest.approx(error(dict.fromkeys(weights, same.scheme)))


def test_inputs_and_their_gram_matrix_are_the_same_and_threads_change_nothing(model, tmp_path):
    rng = np.random.default_rng(3)
    samples = {name: correlated(rng, columns, 50) for name, (_, columns) in SHAPES.items()}
    np.savez(tmp_path / "samples.npz", **samples)
    np.savez(tmp_path / "grams.npz", **{f"{name}.gram": v.T @ v for name, v in samples.items()})
    _, one = measured(model, tmp_path / "samples.npz", threads=1)
    _, three = measured(model, tmp_path / "grams.npz", threads=3)
    assert one == three


def test_matrices_without_inputs_or_without_outputs_count_by_their_weights_and_are_named(model, tmp_path):
    dead = np.zeros((64, 64))
    np.savez(tmp_path / "some.npz", **{"a.weight.gram": np.diag(np.arange(1.0, 97)), "b.weight.gram": dead})
    counts: dict[str, int] = {}
    report, found = measured(
        model,
        tmp_path / "some.npz",
        weights_measured=lambda n, w: counts.update({n: counts.get(n, 0) + w}),
        schemes=["INT*"],
    )
    assert found.by_weights == {"b.weight": NO_OUTPUTS, "c.weight": NO_INPUTS, "d.weight": NO_INPUTS}
    assert list(found.errors) == ["a.weight"] and len(found.errors["a.weight"]) == 12
    assert counts == {row.name: 12 * row.weights for row in report.matrices}
    plan = checkpoint.allocate(report, 4.25, schemes=["INT*"], errors=found.errors)
    assert plan.by_weights == ("b.weight", "c.weight", "d.weight")
    assert checkpoint.Allocation.from_json(plan.to_json()) == plan


def test_the_command_writes_the_plan_of_the_library_and_names_what_had_no_inputs(model, inputs, tmp_path):
    with np.load(inputs) as archive:
        np.savez(tmp_path / "three.npz", **{n: archive[n] for n in archive.files if n != "d.weight.gram"})
    out = tmp_path / "plan.json"
    line = ["allocate", str(model), "--budget", "4.25", "--json", str(out), "--calibrate", str(tmp_path / "three.npz")]
    done = RUN.invoke(app, line)
    assert done.exit_code == 0, done.output
    report, found = measured(model, tmp_path / "three.npz")
    plan = checkpoint.allocate(report, 4.25, errors=found.errors)
    written = checkpoint.Allocation.from_json(out)
    assert written == replace(plan, overhead_bytes=written.overhead_bytes)
    assert "SNR of outputs" in done.output and f"{plan.snr:.2f} dB" in done.output
    assert "1 matrix by its weights, without inputs: d.weight" in done.output


def broken(place):
    """The one array of an .npz file with a byte in its middle turned."""
    np.savez(place, **{"a.weight.gram": np.eye(96)})
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 0xFF
    place.write_bytes(data)


FILES = {
    "text": (lambda p: p.write_text("no archive"), "it is no .npz file that can be read"),
    "missing": (lambda p: None, "it is no .npz file that can be read"),
    "damaged": (broken, "array a.weight.gram cannot be read"),
    "stranger": (lambda p: np.savez(p, **{"z.weight.gram": np.eye(96)}), "z.weight.gram: the model has no such matrix"),
    "narrow": (lambda p: np.savez(p, **{"a.weight": np.ones((5, 95))}), "array a.weight has shape (5, 95)"),
    "oblong": (lambda p: np.savez(p, **{"a.weight.gram": np.ones((5, 96))}), "a.weight.gram is no Gram matrix: it has"),
    "negative": (lambda p: np.savez(p, **{"a.weight.gram": -np.eye(96)}), "-1 stands on its diagonal"),
    "one-sided": (lambda p: np.savez(p, **{"a.weight.gram": np.triu(np.ones((96, 96)))}), "it is not symmetric, by 1"),
    "too large": (lambda p: np.savez(p, **{"a.weight.gram": np.full((96, 96), 2.0) - np.eye(96)}), "product of two"),
    "NaN": (lambda p: np.savez(p, **{"a.weight.gram": np.full((96, 96), np.nan)}), "array a.weight.gram"),
    "texts": (lambda p: np.savez(p, **{"a.weight.gram": np.full((96, 96), "x")}), "array a.weight.gram"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_holds_no_inputs_ends_in_one_line_that_names_it_and_exit_code_2(kind, model, tmp_path):
    write, message = FILES[kind]
    place, out = tmp_path / "inputs.npz", tmp_path / "plan.json"
    write(place)
    done = RUN.invoke(app, ["allocate", str(model), "--budget", "4.25", "--json", str(out), "--gram", str(place)])
    assert done.exit_code == 2 and message in done.stderr and "inputs.npz" in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout and not out.exists()


def test_a_report_has_no_weights_to_multiply_and_says_so(model, inputs, tmp_path):
    place = tmp_path / "report.json"
    place.write_text(json.dumps(checkpoint.report(model).to_json()), encoding="utf-8")
    done = RUN.invoke(app, ["allocate", str(place), "--budget", "4.25", "--calibrate", str(inputs)])
    assert done.exit_code == 2 and "--calibrate needs the weights, and report.json is a report" in done.stderr
