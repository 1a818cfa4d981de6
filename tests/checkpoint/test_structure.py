"""Kinds of matrices, axes, experts, and tensors that are the same."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoint import made
from prunequant.checkpoint import open_model
from prunequant.checkpoint.matrices import KINDS

RNG = np.random.default_rng(4)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "name, shape, kind, rows, columns, experts",
    [
        ("lm_head.weight", (6, 4), "linear", 6, 4, 1),
        ("model.embed_tokens.weight", (6, 4), "embedding", 6, 4, 1),
        ("transformer.wte.weight", (6, 4), "embedding", 6, 4, 1),
        ("pos_embed", (1, 6, 4), "embedding", 6, 4, 1),
        ("conv.weight", (6, 4, 3, 3), "convolution", 6, 36, 1),
        ("conv1d.weight", (6, 4, 3), "convolution", 6, 12, 1),
        ("depthwise.weight", (6, 1, 3, 3), "depthwise convolution", 6, 9, 1),
        ("video.weight", (6, 4, 2, 3, 3), "convolution", 6, 72, 1),
        ("layers.0.mlp.experts.gate_up_proj", (5, 6, 4), "experts", 30, 4, 5),
        ("blk.0.ffn_gate_exps.weight", (5, 6, 4), "experts", 30, 4, 5),
        ("rnn.weight_hh_l0", (8, 2), "linear", 8, 2, 1),
        ("attention.in_proj_weight", (12, 4), "linear", 12, 4, 1),
    ],
)
def test_a_kind_follows_from_name_and_shape_and_rows_are_outputs(tmp_path, name, shape, kind, rows, columns, experts):
    x = normal(*shape)
    model, found = made.opened(made.write(tmp_path / "m", [made.f32(name, x)]))
    (matrix,) = model.matrices
    assert (matrix.kind, matrix.rows, matrix.columns, matrix.experts) == (kind, rows, columns, experts)
    assert matrix.kind in KINDS and matrix.weights == x.size and np.array_equal(found[name], x.reshape(rows, columns))


def test_conv1d_layers_of_gpt2_are_turned_and_linear_layers_of_the_same_names_are_not(tmp_path):
    names = [f"h.0.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    shapes = [(4, 12), (4, 4), (4, 16), (16, 4)]
    x = [normal(*shape) for shape in shapes]
    mask = made.f32("h.0.attn.bias", np.tri(5)[None, None])
    model, found = made.opened(made.write(tmp_path / "gpt2", [*(made.f32(*p) for p in zip(names, x)), mask]))
    assert {matrix.kind for matrix in model.matrices} == {"linear, transposed"}
    assert all(np.array_equal(found[name], value.T) for name, value in zip(names, x))
    assert made.reasons(model) == {"h.0.attn.bias": "an attention mask, which holds no weights"}
    model, found = made.opened(made.write(tmp_path / "nano", [made.f32(n, v.T) for n, v in zip(names, x)]))
    assert {matrix.kind for matrix in model.matrices} == {"linear"}
    assert all(np.array_equal(found[name], value.T) for name, value in zip(names, x))


def test_an_option_says_which_axis_is_the_input(tmp_path):
    flat, stack, kernel = normal(6, 4), normal(3, 5, 4), normal(6, 4, 2, 2)
    entries = [made.f32("a.weight", flat), made.f32("experts.down", stack), made.f32("up.weight", kernel)]
    model, found = made.opened(made.write(tmp_path / "m", entries), transposed=["*"])
    kinds = {name: (m.kind, m.rows, m.columns) for name, m in made.by_name(model).items()}
    assert kinds == {
        "a.weight": ("linear, transposed", 4, 6),
        "experts.down": ("experts", 12, 5),
        "up.weight": ("convolution", 4, 24),
    }
    assert np.array_equal(found["a.weight"], flat.T)
    assert np.array_equal(found["experts.down"], stack.swapaxes(1, 2).reshape(12, 5))
    assert np.array_equal(found["up.weight"], kernel.swapaxes(0, 1).reshape(4, 24))
    with pytest.raises(TypeError, match="transposed"):
        open_model(tmp_path / "m", transposed="a.weight")


@pytest.mark.parametrize("rows", [1, 7, 64, 300])
def test_turned_matrices_are_the_same_in_any_pieces(tmp_path, rows):
    x = normal(2, 50, 300)
    with open_model(made.write(tmp_path / "m", [made.f32("experts.w", x)]), transposed=["experts*"]) as model:
        (matrix,) = model.matrices
        pieces = [matrix.read(at, min(at + rows, 600)) for at in range(0, 600, rows)]
    assert np.array_equal(np.concatenate(pieces), x.swapaxes(1, 2).reshape(600, 50))


def test_tensors_of_equal_content_are_one_matrix_with_aliases_and_their_bytes_are_said(tmp_path):
    x = normal(64, 64)
    y = x.copy()
    y[40, 40] += 1  # outside of the bytes that are sampled
    entries = [made.f32(name, value) for name, value in (("a", x), ("b", y), ("c", x), ("d", x.reshape(32, 128)))]
    model, _ = made.opened(made.write(tmp_path / "m", entries))
    found = made.by_name(model)
    assert set(found) == {"a", "b", "d"} and found["a"].aliases == ("c",) and not found["b"].aliases
    assert model.bytes["copies"] == x.nbytes and found["a"].nbytes == x.nbytes
    assert any("'c' holds the same as 'a', stored again in 16384 bytes" in note for note in model.notes)


def test_what_is_not_a_matrix_says_why(tmp_path):
    entries = [
        made.f32("six", normal(2, 2, 2, 2, 2, 2)), made.f32("rope.cos_cached", normal(4, 4)),
        made.f32("row", normal(1, 9)), ("flags", "BOOL", (2, 2), bytes(4)),
    ]  # fmt: skip
    model, found = made.opened(made.write(tmp_path / "m", entries))
    assert not found and made.reasons(model) == {
        "six": "6 axes: none is known as the input", "rope.cos_cached": "computed, not learned",
        "row": "a vector: kept as it is", "flags": "flags without a scale",
    }  # fmt: skip


def test_a_transposed_convolution_is_known_by_its_name_and_its_rows_are_outputs(tmp_path):
    x = normal(6, 4, 2, 2)
    model, found = made.opened(made.write(tmp_path / "m", [made.f32("decoder.conv_transpose.weight", x)]))
    assert (model.matrices[0].rows, model.matrices[0].columns) == (4, 24)
    assert np.array_equal(found["decoder.conv_transpose.weight"], x.swapaxes(0, 1).reshape(4, 24))


def test_experts_that_are_most_of_a_file_are_most_of_what_is_treated(tmp_path):
    stack = normal(8, 32, 16)
    entries = [made.f32("mlp.experts.gate_up_proj", stack), made.f32("mlp.experts.gate_up_proj_bias", normal(8, 32))]
    model, found = made.opened(made.write(tmp_path / "m", entries))
    assert np.array_equal(found["mlp.experts.gate_up_proj"].reshape(8, 32, 16), stack)
    assert model.bytes["matrices"] == stack.nbytes and model.bytes["untreated"] == 8 * 32 * 4
    assert made.reasons(model) == {"mlp.experts.gate_up_proj_bias": "biases: kept as they are"}
