"""Fewer weights or fewer bits of a language model: every file of a size is equally large, and sums follow from rows."""

import numpy as np
import pytest

pytest.importorskip("torch")
from prunequant.checkpoint.schemes import Scheme
from prunequant.studies import equal_size_model as study
from prunequant.studies import runner


@pytest.mark.parametrize("shape", [(576, 576), (192, 576), (1536, 576), (576, 1536)])
def test_every_scheme_takes_exactly_the_bits_of_its_size_in_every_matrix_of_the_model(shape):
    for size, name in study.schemes(tuple(study.QUANTIZED)):
        scheme = Scheme.named(name)
        if name == study.SHIFTED[size]:
            taken = scheme.stored_bits(*shape) + scheme.bits * shape[0] * -(-shape[1] // 128)  # and the zero points
            assert 0.05 < size - taken / (shape[0] * shape[1]) < 0.15, name
            assert study.methods(name) == tuple(f"{way}, zero point{more}" for way, more in study.INTEGERS)
            continue
        assert scheme.stored_bits(*shape) == size * shape[0] * shape[1], name
        calibrated = "optq" if name == study.QUANTIZED[size] else "sparsegpt"
        assert study.methods(name)[:2] == ("nearest", calibrated)
        rest = [m for m in study.methods(name)[2:] if m != f"{calibrated}, later tokens"]
        if calibrated == "optq":
            assert rest == ["optq, in order", "nearest, scaled", "optq, scaled"]
        else:
            assert rest == ["sparsegpt, in order"]
    asked = [method for _, name in study.schemes(tuple(study.QUANTIZED)) for method in study.methods(name)]
    assert sum(method.endswith(study.LATER) for method in asked) == 2


@pytest.fixture
def record(monkeypatch):
    def losses(seed):
        return np.random.default_rng(seed).random(4).tolist()

    def unit(scheme, method, windows, calibration, seed, folder):
        return {"losses": losses([*scheme.encode(), *method.encode()])}

    monkeypatch.setattr(runner, "check_needs", lambda study: None)  # the model itself is not read
    monkeypatch.setattr(study, "write_grams", lambda path, windows, skip: path.write_bytes(b""))
    monkeypatch.setattr(study, "dense_unit", lambda windows, seed: {"losses": losses(0)})
    monkeypatch.setattr(study, "scheme_unit", unit)
    monkeypatch.setattr(
        study, "scaling_unit", lambda scheme, calibration, seed, folder: {"exponents": {}, "errors": {}}
    )
    return runner.run_study("equal-size-model", {"windows": 4})


def test_what_fewer_weights_lose_is_paired_with_what_quantizing_alone_loses_by_the_like_method(record):
    rows = {(r["scheme"], r.get("method")): np.array(r["losses"]) for r in record["rows"]}
    assert len(record["rows"]) == len(record["summary"]) == 1 + 3 * 13 + 5 * 6 + 2
    assert [one["scheme"] for one in record["scalings"]] == [f"INT{b} g{g}" for b in (4, 3, 2) for g in (64, 128)]
    for one in record["summary"][1:]:
        own, alone = rows[one["scheme"], one["method"]], study.QUANTIZED[one["bits"]]
        assert one["perplexity"] == pytest.approx(np.exp(own.mean()))
        assert one["added"]["mean"] == pytest.approx(np.mean(own - rows["original", None]))
        left_out, pruned = one["method"].endswith(study.LATER), one["scheme"] in study.PRUNED[one["bits"]]
        assert ("behind" in one) == ("behind_zero_point" in one) == (pruned and not left_out)
        assert ("without_first_tokens" in one) == left_out
        for suffix, key in ((study.ORDER, "in_order"), (study.SCALED, "scaled")):
            assert (key in one) == one["method"].endswith(suffix)
            if key in one:
                other = rows[one["scheme"], one["method"].removesuffix(suffix)]
                assert one[key]["mean"] == pytest.approx(np.mean(own - other))
                assert one[key]["p"] <= one[key]["p_holm"] <= 1
        if left_out:
            other = rows[one["scheme"], one["method"].removesuffix(study.LATER)]
            assert one["without_first_tokens"]["mean"] == pytest.approx(np.mean(own - other))
        if "behind" in one:
            like, shifted = "nearest" if one["method"] == "nearest" else "optq", study.SHIFTED[one["bits"]]
            for key, other in (("behind", rows[alone, like]), ("behind_zero_point", rows[shifted, like + study.ZERO])):
                assert one[key]["mean"] == pytest.approx(np.mean(own - other))
                assert one[key]["p"] <= one[key]["p_holm"] <= 1


def test_a_size_that_was_not_planned_is_refused_and_the_lines_shown_are_one_a_file(record):
    with pytest.raises(ValueError, match=r"bits is 5\.0"):
        runner.run_study("equal-size-model", {"bits": (5.0,)})
    assert study.show(record).count("\n") == 71


def test_the_best_of_a_size_are_those_of_least_loss(record):
    mean = {(r["scheme"], r.get("method")): np.mean(r["losses"]) for r in record["rows"]}
    for one in record["best"]:
        for kind, names in (
            ("pruned", study.PRUNED),
            ("integers", {s: (a, study.SHIFTED[s]) for s, a in study.QUANTIZED.items()}),
        ):
            of_kind = [value for (name, _), value in mean.items() if name in names[one["bits"]]]
            assert mean[one[kind]["scheme"], one[kind]["method"]] == min(of_kind)
        difference = mean[tuple(one["pruned"].values())] - mean[tuple(one["integers"].values())]
        assert one["behind"]["mean"] == pytest.approx(difference)


@pytest.mark.parametrize(
    ("method", "name", "grid", "by_activation", "inputs"),
    [
        ("nearest", "nearest", "symmetric", True, None),
        ("optq, in order", "optq", "symmetric", False, "inputs.npz"),
        ("optq, zero point, in order", "optq", "zero point", False, "inputs.npz"),
        ("sparsegpt, later tokens", "sparsegpt", "symmetric", True, "later inputs.npz"),
        ("optq, zero point, scaled", "optq", "zero point", True, "scaled.npz"),
        ("nearest, scaled", "nearest", "symmetric", True, None),
    ],
)
def test_the_name_of_a_method_says_how_a_file_is_made(monkeypatch, tmp_path, method, name, grid, by_activation, inputs):
    def written(out, to, options, windows, source=None, model=None):
        return {"options": options, "source": source}

    def scaled(folder, inputs, exponents, grams):
        assert exponents == {"blocks.0.mlp": 0.5} and inputs.name == "inputs.npz" and grams == (name == "optq")
        return folder / "model", folder / "scaled.npz", None

    monkeypatch.setattr(study, "compressed_losses", written)
    monkeypatch.setattr(study, "write_scaled", scaled)
    study.exponents_path(tmp_path, "INT4 g64").write_text('{"blocks.0.mlp": 0.5}')
    found = study.scheme_unit("INT4 g64", method, 8, 8, 0, str(tmp_path))
    made = found["options"]["settings"]
    assert (made.method, made.grid, made.by_activation) == (name, grid, by_activation)
    assert (found["source"] is not None) == method.endswith("scaled")
    given = found["options"].get("calibrate")
    assert (given and given.name) == inputs


def test_a_scaled_model_and_its_inputs_lie_in_files_that_compress_takes(monkeypatch, tmp_path):
    from prunequant import checkpoint
    from prunequant.checkpoint.verify import stored_matrices
    from prunequant.models import column_scaling, smollm2

    model = smollm2.random(seed=1)
    rng = np.random.default_rng(0)
    gguf = {v: k for k, v in smollm2._OF_BLOCK.items()}
    loud, grams = np.exp(rng.normal(size=128)), {}
    for name, layer in smollm2.linears(model).items():
        _, block, part = name.split(".")
        x = rng.standard_normal((200, layer.in_features)) * loud[: layer.in_features]
        grams[f"blk.{block}.{gguf[part]}.weight.gram"] = (x.T @ x).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", **grams)
    monkeypatch.setattr(smollm2, "load", lambda: model)
    found = study.scaling_unit("INT3 g64", 8, 0, str(tmp_path))
    assert set(found["exponents"]) == set(column_scaling.shared_inputs(model))
    assert max(found["errors"].values()) <= 1 and min(found["errors"].values()) < 1
    source, inputs, changed = study.write_scaled(tmp_path, tmp_path / "inputs.npz", found["exponents"], grams=True)
    checkpoint.compress(
        source, tmp_path / "small", scheme="INT8 g64", settings=checkpoint.Settings(method="optq"), calibrate=inputs
    )
    weights = smollm2.weights(changed)
    for name, values in stored_matrices(tmp_path / "small"):
        w = weights[name.removesuffix(".weight")]
        assert np.abs(values - w).max() < 0.1 * np.abs(w).max()
