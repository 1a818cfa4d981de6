"""Columns scaled before rounding: the model computes the same, errors are those of outputs, a search is a search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import torch

from prunequant import checkpoint
from prunequant.checkpoint import Scheme, Settings, open_model
from prunequant.checkpoint.methods import code_matrix
from prunequant.models import column_scaling, smollm2

MODEL = smollm2.random(seed=3)
TOKENS = torch.arange(24)[None] % 17
SHARED = column_scaling.shared_inputs(MODEL)


def inputs_of(model, tokens=TOKENS):
    """What every linear layer sees, (samples, columns) float64, by name."""
    seen, hooks = {}, []
    for name, layer in smollm2.linears(model).items():
        hooks.append(layer.register_forward_pre_hook(
            lambda _, x, name=name: seen.update({name: x[0].detach().flatten(0, -2).numpy().astype(np.float64)})
        ))  # fmt: skip
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return seen


def some_scales(seed):
    rng = np.random.default_rng(seed)
    return {
        name: 2 ** rng.uniform(-4, 4, MODEL.get_submodule(shared.matrices[0]).in_features)
        for name, shared in SHARED.items()
    }


def naive_error(w, values, x):
    """Squared differences of outputs, one by one."""
    total = 0.0
    for row, other in zip(w, values):
        for sample in x:
            total += (sum(a * b for a, b in zip(row, sample)) - sum(a * b for a, b in zip(other, sample))) ** 2
    return total


def naive_search(matrices, x, scheme, grid, exponents):
    """The exponent and its error, from inputs and without a Gram matrix."""
    size = [np.sqrt(sum(v * v for v in column)) for column in x.T]
    found = []
    for exponent in exponents:
        s = [max(v / max(size), 1e-4) ** exponent for v in size]
        s = np.array([v / np.sqrt(max(s) * min(s)) for v in s])
        error = sum(
            naive_error(w, code_matrix(w * s, Scheme.named(scheme), Settings(grid=grid)).decode() / s, x)
            for w in matrices
        )
        found.append((error, exponent))
    return min(found)


def test_the_scaled_model_computes_the_same():
    other = column_scaling.scaled(MODEL, some_scales(0))
    with torch.no_grad():
        before, after = MODEL(TOKENS), other(TOKENS)
    assert float((before - after).abs().max()) < 1e-5 * float(before.abs().max())
    for name, shared in SHARED.items():
        for matrix in (*shared.matrices, shared.before):
            assert not torch.equal(MODEL.get_submodule(matrix).weight, other.get_submodule(matrix).weight), (
                name,
                matrix,
            )
    for name in ("blocks.0.o", "blocks.1.v"):  # the one is left alone, of the other only columns change
        ratio = (other.get_submodule(name).weight / MODEL.get_submodule(name).weight).detach()
        assert float((ratio / ratio[:1] - 1).abs().max()) < 1e-5


def test_an_inverse_in_another_place_would_be_seen():
    other = column_scaling.scaled(MODEL, some_scales(0))
    with torch.no_grad():
        other.blocks[0].norm_mlp.weight.copy_(MODEL.blocks[0].norm_mlp.weight)
        assert float((MODEL(TOKENS) - other(TOKENS)).abs().max()) > 1e-2


def test_gram_matrices_of_the_scaled_model_are_those_of_its_inputs():
    scales = some_scales(1)
    before, after = inputs_of(MODEL), inputs_of(column_scaling.scaled(MODEL, scales))
    found = column_scaling.scaled_grams(MODEL, {name: x.T @ x for name, x in before.items()}, scales)
    for name, x in after.items():
        assert np.allclose(found[name], x.T @ x, rtol=1e-3, atol=1e-4 * np.abs(x.T @ x).max()), name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_error_by_a_gram_matrix_is_that_of_the_outputs(seed):
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal((3, 8)), rng.standard_normal((5, 8)) * 10 ** rng.uniform(-3, 3, 8)
    values = w + rng.standard_normal(w.shape) / 10
    assert column_scaling.output_error(w, values, x.T @ x) == pytest.approx(naive_error(w, values, x), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["INT2 g8", "INT3 g8", "INT4 g16"]),
    st.sampled_from(["symmetric", "zero point"]),
)
def test_the_search_finds_what_the_naive_one_finds_and_is_never_worse_than_no_scaling(seed, scheme, grid):
    rng = np.random.default_rng(seed)
    matrices = [rng.standard_normal((rows, 16)).astype(np.float32) for rows in (4, 3)]
    x = rng.standard_normal((12, 16)) * 10 ** rng.uniform(-2, 1, 16)
    exponents = (0.0, 0.25, 0.5, 0.75, 1.0)
    found = column_scaling.best_exponent(matrices, x.T @ x, scheme, Settings(grid=grid), exponents)
    error, _ = naive_search(matrices, x, scheme, grid, exponents)
    assert found.error == pytest.approx(error, rel=1e-3)  # exponents that are as good may change places
    assert found.error <= found.unscaled_error
    plain = sum(naive_error(w, code_matrix(w, Scheme.named(scheme), Settings(grid=grid)).decode(), x) for w in matrices)
    assert found.unscaled_error == pytest.approx(plain, rel=1e-3)
    only = column_scaling.best_exponent(matrices, x.T @ x, scheme, Settings(grid=grid), (0,))
    assert (only.exponent, only.error) == (0, only.unscaled_error) and np.array_equal(only.scales, np.ones(16))


def test_loud_columns_are_scaled_up_and_it_helps():
    rng = np.random.default_rng(0)
    w, sizes = rng.standard_normal((32, 64)), np.where(np.arange(64) < 1, 20.0, 1.0)
    found = column_scaling.best_exponent([w], np.diag(sizes**2), "INT3 g64")
    assert found.exponent > 0 and found.scales[0] > found.scales[-1] and found.error < 0.95 * found.unscaled_error


def test_a_file_of_the_scaled_model_is_compressed_and_is_better_on_its_inputs(tmp_path):
    grams = {name: x.T @ x for name, x in inputs_of(MODEL).items()}
    rng = np.random.default_rng(0)
    loud = column_scaling.scaled(MODEL, {n: np.exp(rng.normal(size=len(s))) for n, s in some_scales(0).items()})
    grams = {name: x.T @ x for name, x in inputs_of(loud).items()}
    found = column_scaling.search(loud, grams, "INT2 g32")
    assert list(found) == list(SHARED)
    scales = {name: one.scales for name, one in found.items()}
    column_scaling.write(column_scaling.scaled(loud, scales), tmp_path / "scaled.safetensors")
    with open_model(tmp_path / "scaled.safetensors") as model:
        linear = {m.name.removesuffix(".weight") for m in model.matrices if m.kind == "linear"}
    assert linear == set(smollm2.linears(MODEL))
    written = checkpoint.compress(tmp_path / "scaled.safetensors", tmp_path / "small", scheme="INT2 g32")
    assert written.bytes == written.predicted_bytes
    values = {n.removesuffix(".weight"): v for n, v in checkpoint.verify.stored_matrices(tmp_path / "small")}
    again = column_scaling.scaled_grams(loud, grams, scales)
    other = smollm2.weights(column_scaling.scaled(loud, scales))
    for name in ("blocks.0.attention", "blocks.1.down"):  # whose rows nothing else scales
        error = sum(column_scaling.output_error(other[m], values[m], again[m]) for m in SHARED[name].matrices)
        assert error == pytest.approx(found[name].error, rel=1e-2)


GRAM = np.eye(8)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: column_scaling.column_scales([-1.0], 0.5), ValueError, "sizes holds -1: no input"),
        (lambda: column_scaling.column_scales([[1.0]], 0.5), ValueError, "vector"),
        (lambda: column_scaling.column_scales([1.0], 2), ValueError, "exponent is 2"),
        (lambda: column_scaling.output_error([[1.0]], [[1.0, 2.0]], [[1.0]]), ValueError, "shapes"),
        (lambda: column_scaling.best_exponent([], GRAM, "INT4 g8"), ValueError, "at least one"),
        (lambda: column_scaling.best_exponent([np.ones((2, 4))], GRAM, "INT4 g8"), ValueError, "gram has shape"),
        (lambda: column_scaling.best_exponent([GRAM], GRAM, "INT4 g8", exponents=[-1]), ValueError, "an exponent"),
        (lambda: column_scaling.best_exponent([np.ones((2, 8))], GRAM, "INT4 g8", "nearest"), TypeError, "settings"),
        (lambda: column_scaling.search(MODEL, {}, "INT4 g8"), ValueError, r"lacks blocks\.0\.q"),
        (lambda: column_scaling.search(torch.nn.Linear(1, 1), {}, "INT4 g8"), TypeError, "model"),
        (lambda: column_scaling.scaled(MODEL, {"blocks.0.o": np.ones(64)}), ValueError, r"scales names 'blocks\.0\.o'"),
        (lambda: column_scaling.best_exponent(np.ones((2, 8)), GRAM, "INT4 g8"), ValueError, "in a list"),
        (lambda: column_scaling.shared_inputs("m"), TypeError, "model is 'm'"),
        (lambda: column_scaling.scaled(MODEL, {"blocks.0.mlp": np.ones(3)}), ValueError, r"it must be \(64,\)"),
        (lambda: column_scaling.scaled(MODEL, {"blocks.0.mlp": np.zeros(64)}), ValueError, "hold 0: they must be pos"),
        (lambda: column_scaling.scaled_grams(MODEL, {}, {"x": [1]}), ValueError, "scales names 'x'"),
        (lambda: column_scaling.scaled_grams(MODEL, [], {}), TypeError, "grams is"),
        (lambda: column_scaling.scaled_grams(MODEL, {"blocks.0.gate": GRAM}, {"blocks.0.mlp": np.zeros(64)}),
         ValueError, "hold 0"),
        (lambda: column_scaling.scaled_grams(MODEL, {"blocks.0.gate": GRAM}, {"blocks.0.mlp": np.ones(64)}),
         ValueError, r"of blocks\.0\.gate has shape \(8, 8\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_scaled_is_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_inputs_that_are_all_zero_leave_columns_alone():
    assert np.array_equal(column_scaling.column_scales(np.zeros(3), 1), np.ones(3))
    found = column_scaling.best_exponent([np.eye(8)], np.zeros((8, 8)), "INT4 g8")
    assert (found.exponent, found.error) == (0, 0)
