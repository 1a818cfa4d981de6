"""Codes and scales are joined to the weights that they stand for, each layout packed here by plain loops."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from checkpoint import made
from prunequant.checkpoint import open_model
from prunequant.checkpoint.joins import unpack

RNG = np.random.default_rng(6)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def fp8(name, x, kind=ml_dtypes.float8_e4m3fn, dtype="F8_E4M3"):
    x = np.asarray(x).astype(kind)
    return (name, dtype, x.shape, x.tobytes())


def u8(name, x, dtype="U8"):
    x = np.asarray(x, np.uint8)
    return (name, dtype, x.shape, x.tobytes())


def f16(name, x):
    x = np.asarray(x, np.float16)
    return (name, "F16", x.shape, x.tobytes())


def pack_rows(codes, bits):
    """Codes of each row one after the other, the lowest bits first, in words of 32 bits: one bit at a time."""
    words = np.zeros((len(codes), -(-codes.shape[1] * bits // 32)), np.uint64)
    for row, values in enumerate(codes):
        for place, value in enumerate(values):
            for bit in range(bits):
                at = place * bits + bit
                words[row, at // 32] |= np.uint64((int(value) >> bit & 1) << at % 32)
    return words.astype(np.uint32).view(np.int32)


def only(tmp_path, entries, config=None, quantize=None):
    """The single matrix of a file, read whole and in odd pieces."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    if quantize is not None:
        (folder / "quantize_config.json").write_text(json.dumps(quantize))
    path = made.write(folder / "model.safetensors", entries)
    with open_model(path) as model:
        made.accounted(model)
        (matrix,) = model.matrices
        found = made.whole(matrix)
        pieces = [matrix.read(at, min(at + 3, matrix.rows)) for at in range(0, matrix.rows, 3)]
        assert np.array_equal(np.concatenate(pieces), found, equal_nan=True) and found.dtype == np.float32
        assert found.shape == (matrix.rows, matrix.columns) and matrix.read(1, 1).shape == (0, matrix.columns)
        assert matrix.nbytes == sum(len(raw) for *_, raw in entries)
        return matrix, found, model


@pytest.mark.parametrize("rows, columns", [(256, 128), (200, 300), (130, 7)])
def test_fp8_weights_take_their_128_by_128_blocks_of_scales(tmp_path, rows, columns):
    codes, scale = normal(rows, columns), np.abs(normal(-(-rows // 128), -(-columns // 128))) + 0.5
    entries = [fp8("w.weight", codes), made.f32("w.weight_scale_inv", scale)]
    matrix, found, _ = only(tmp_path, entries)
    stored = codes.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    expected = [[stored[i, j] * scale[i // 128, j // 128] for j in range(columns)] for i in range(rows)]
    assert np.array_equal(found, np.array(expected, np.float32)) and matrix.dtype == "F8_E4M3"
    assert matrix.parts == ("w.weight", "w.weight_scale_inv") and matrix.kind == "linear"


def test_the_settings_say_how_large_blocks_are(tmp_path):
    codes, scale = normal(10, 12), normal(3, 3)
    entries = [fp8("w.weight", codes), made.f32("w.weight_scale_inv", scale)]
    _, found, _ = only(tmp_path, entries, config={"weight_block_size": [4, 5]})
    stored = codes.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(found, stored * scale.repeat(4, 0)[:10].repeat(5, 1)[:, :12])


@pytest.mark.parametrize("shape", [(), (1,), (6,), (6, 1), (1, 1), (6, 2)], ids=str)
def test_scales_of_a_tensor_a_row_and_a_group_multiply_integers_and_fp8(tmp_path, shape):
    scale = np.abs(normal(*shape)) + 1
    grid = np.asarray(scale).reshape({0: (1, 1), 1: (-1, 1), 2: shape}[len(shape)]).astype(np.float32)
    grid = np.repeat(grid, 8 // grid.shape[1], 1)
    codes = RNG.integers(-8, 8, (6, 8)).astype(np.int8)
    integers = ("w.weight", "I8", codes.shape, codes.tobytes())
    assert np.array_equal(only(tmp_path, [integers, made.f32("w.weight_scale", scale)])[1], codes * grid)
    assert np.array_equal(only(tmp_path, [fp8("w.weight", codes), made.f32("w.weight_scale", scale)])[1], codes * grid)


def test_int8_weights_take_their_zero_points(tmp_path):
    codes, zero, scale = RNG.integers(-128, 128, (6, 8)), RNG.integers(-9, 9, (6, 1)), np.abs(normal(6, 1)) + 1
    entries = [
        ("w.weight", "I8", (6, 8), codes.astype(np.int8).tobytes()), made.f32("w.weight_scale", scale),
        ("w.weight_zero_point", "I8", (6, 1), zero.astype(np.int8).tobytes()),
    ]  # fmt: skip
    assert np.array_equal(only(tmp_path, entries)[1], ((codes - zero) * scale).astype(np.float32))


def test_stacked_fp8_experts_take_the_scales_of_their_own(tmp_path):
    codes, scale = normal(3, 4, 6), np.abs(normal(3, 4, 1)) + 1
    entries = [fp8("mlp.experts.down_proj", codes), made.f32("mlp.experts.down_proj_scale", scale)]
    matrix, found, _ = only(tmp_path, entries)
    stored = codes.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(found, (stored * scale).reshape(12, 6)) and (matrix.kind, matrix.experts) == ("experts", 3)


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_of_any_width_are_unpacked_where_a_loop_over_bits_put_them(bits):
    codes = RNG.integers(0, 1 << bits, (3, 77))
    assert np.array_equal(unpack(pack_rows(codes, bits).view(np.uint32), bits, 77), codes)


@pytest.mark.parametrize("bits, columns, group", [(4, 64, 16), (8, 40, 40), (3, 96, 32), (4, 44, 44)])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_packed_integers_of_compressed_tensors_are_joined(tmp_path, bits, columns, group, asymmetric):
    rows = 10
    codes, middle = RNG.integers(0, 1 << bits, (rows, columns)), 1 << (bits - 1)
    scale = (np.abs(normal(rows, columns // group)) + 0.5).astype(np.float16).astype(np.float32)
    zero = RNG.integers(0, 1 << bits, scale.shape) if asymmetric else np.full(scale.shape, middle)
    entries = [
        made.i32("w.weight_packed", pack_rows(codes, bits)), f16("w.weight_scale", scale),
        ("w.weight_shape", "I64", (2,), np.array([rows, columns], "<i8").tobytes()),
    ]  # fmt: skip
    if asymmetric:
        entries.append(made.i32("w.weight_zero_point", pack_rows(zero.T, bits).T))
    matrix, found, model = only(tmp_path, entries, config={"config_groups": {"a": {"weights": {"num_bits": bits}}}})
    expected = (codes - zero.repeat(group, 1)) * scale.repeat(group, 1)
    assert np.array_equal(found, expected.astype(np.float32)) and matrix.dtype == f"INT{bits}"
    assert any(f"{bits}-bit integers" in note for note in model.notes)


def gptq(bits, inputs, outputs, group, stored_less=0, shuffled=False):
    codes, groups = RNG.integers(0, 1 << bits, (outputs, inputs)), inputs // group
    zero = RNG.integers(1, 1 << bits, (groups, outputs))
    scale = (np.abs(normal(groups, outputs)) + 0.5).astype(np.float16).astype(np.float32)
    of = np.arange(inputs) // group
    if shuffled:
        of = RNG.permutation(of)
    entries = [
        made.i32("w.qweight", pack_rows(codes, bits).T), made.i32("w.qzeros", pack_rows(zero - stored_less, bits)),
        f16("w.scales", scale), made.i32("w.g_idx", of),
    ]  # fmt: skip
    expected = [[scale[of[i], o] * np.float32(codes[o, i] - zero[of[i], o]) for i in range(inputs)]
                for o in range(outputs)]  # fmt: skip
    return entries, np.array(expected, np.float32)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_both_zero_point_conventions_of_gptq_give_their_weights_and_are_said(tmp_path, bits, version):
    entries, expected = gptq(bits, 64, 32, 16, stored_less=version == "gptq", shuffled=True)
    settings = {"bits": bits, "group_size": 16, "checkpoint_format": version}
    matrix, found, model = only(tmp_path, entries, quantize=settings)
    assert np.array_equal(found, expected)
    assert (matrix.rows, matrix.columns, matrix.kind) == (32, 64, "linear")
    wanted = "v2: zero points as they are" if version == "gptq_v2" else "v1: zero points stored less one"
    assert any(wanted in note and "says checkpoint_format" in note for note in model.notes)


def test_a_zero_point_of_nought_in_the_first_convention_wraps_around(tmp_path):
    entries, _ = gptq(4, 32, 8, 32)
    entries[1] = made.i32("w.qzeros", np.full((1, 1), -1))
    _, found, _ = only(tmp_path, entries, quantize={"bits": 4, "checkpoint_format": "gptq"})
    assert found.min() >= 0, "the zero point is 0, not 16"


def test_gptq_without_settings_is_read_from_its_shapes_and_says_what_it_assumed(tmp_path):
    entries, expected = gptq(4, 64, 32, 16, stored_less=1)
    _, found, model = only(tmp_path, entries)
    assert np.array_equal(found, expected) and any("v1" in note and "nothing says so" in note for note in model.notes)
    entries[1] = made.i32("w.qzeros", np.full((4, 4), 0x88888888 - (1 << 32)))
    _, _, model = only(tmp_path, entries)
    assert any("v2" in note and "middle code" in note for note in model.notes)


def test_awq_words_lie_along_the_output_in_an_order_of_their_own(tmp_path):
    inputs, outputs, group = 32, 24, 16
    codes, zero = RNG.integers(0, 16, (inputs, outputs)), RNG.integers(0, 16, (2, outputs))
    scale = (np.abs(normal(2, outputs)) + 0.5).astype(np.float16).astype(np.float32)
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def pack(x):
        words = np.zeros((len(x), outputs // 8), np.uint32)
        for word in range(outputs // 8):
            for i in range(8):
                words[:, word] |= x[:, word * 8 + order[i]].astype(np.uint32) << np.uint32(4 * i)
        return words.view(np.int32)

    entries = [made.i32("w.qweight", pack(codes)), made.i32("w.qzeros", pack(zero)), f16("w.scales", scale)]
    _, found, model = only(tmp_path, entries)
    expected = (codes - zero.repeat(group, 0)).astype(np.float32) * scale.repeat(group, 0)
    assert np.array_equal(found, expected.T) and any("AWQ" in note for note in model.notes)


LEVELS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def test_mxfp4_blocks_are_pairs_of_fp4_times_a_power_of_two(tmp_path):
    codes, powers = RNG.integers(0, 16, (3, 5, 2, 32)), RNG.integers(110, 140, (3, 5, 2))
    entries = [
        u8("mlp.experts.gate_up_proj_blocks", codes[..., ::2] | codes[..., 1::2] << 4),
        u8("mlp.experts.gate_up_proj_scales", powers),
    ]
    matrix, found, _ = only(tmp_path, entries)
    expected = LEVELS[codes] * (2.0 ** (powers - 127.0))[..., None]
    assert np.array_equal(found, expected.reshape(15, 64).astype(np.float32))
    assert (matrix.kind, matrix.experts, matrix.dtype) == ("experts", 3, "MXFP4")


@pytest.mark.parametrize("layout", ["packed", "second scale"])
def test_nvfp4_has_two_scales_and_one_layout_divides_by_the_second(tmp_path, layout):
    codes = RNG.integers(0, 16, (4, 32))
    pairs, scale = codes[:, ::2] | codes[:, 1::2] << 4, (np.abs(normal(4, 2)) + 1).astype(ml_dtypes.float8_e4m3fn)
    if layout == "packed":
        names = ("w.weight_packed", "w.weight_scale", "w.weight_global_scale")
    else:
        names = ("w.weight", "w.weight_scale", "w.weight_scale_2")
    entries = [u8(names[0], pairs), fp8(names[1], scale), made.f32(names[2], np.float32([8]).reshape(1))]
    _, found, _ = only(tmp_path, entries)
    factor = 1 / 8 if layout == "packed" else 8
    assert np.array_equal(found, LEVELS[codes] * scale.astype(np.float32).repeat(16, 1) * np.float32(factor))


@pytest.mark.parametrize(
    "entries, words",
    [
        ([fp8("w", np.ones((6, 6))), made.f32("w_scale", np.ones((4, 4)))], "do not cover"),
        ([fp8("w", np.ones((6, 6))), made.f32("w_scale", np.ones((4, 4, 4)))], "do not fit"),
        ([u8("w", np.ones((6, 6))), made.f32("w_scale", np.ones(6))], "nothing says whether"),
        ([u8("w.weight", np.ones((6, 1))), made.f32("w.weight.absmax", np.ones(6))], "bitsandbytes"),
        ([made.i32("w_packed", np.ones((6, 6))), made.f32("w_scale", np.ones(6))], "_shape"),
        ([made.i32("w.qweight", np.ones((6, 6))), f16("w.scales", np.ones((2, 5)))], "neither GPTQ"),
        ([u8("w_blocks", np.ones((6, 2, 16))), u8("w_scales", np.ones((6, 3)))], "do not fit"),
        ([fp8("w", np.ones((2, 3, 4))), made.f32("w_scale", np.ones(1))], "no name says"),
    ],
)
def test_codes_that_do_not_fit_their_scales_are_listed_with_both(tmp_path, entries, words):
    model, found = made.opened(made.write(tmp_path / "m.safetensors", entries))
    listed = made.reasons(model)
    assert not found and words in listed[entries[0][0]] and "not joined" in listed[entries[1][0]]
    assert model.bytes["untreated"] == sum(len(raw) for *_, raw in entries)


def test_groups_that_g_idx_names_and_that_do_not_exist_are_found_before_reading(tmp_path):
    entries, _ = gptq(4, 32, 8, 16)
    entries[3] = made.i32("w.g_idx", np.full(32, 2))
    model, _ = made.opened(made.write(tmp_path / "m", entries))
    assert "g_idx names group 2 of 2" in made.reasons(model)["w.qweight"]


def test_a_code_that_is_its_zero_point_is_a_weight_of_exactly_nought(tmp_path):
    entries, expected = gptq(4, 64, 32, 16, stored_less=1)
    _, found, _ = only(tmp_path, entries, quantize={"bits": 4, "checkpoint_format": "gptq"})
    assert np.count_nonzero(found == 0) == np.count_nonzero(expected == 0) > 0


@pytest.mark.parametrize("scale", [0.0, 1e-40, 1e-45, 2.0**-126])
def test_scales_that_are_zero_or_subnormal_give_finite_weights(tmp_path, scale):
    codes = np.arange(-8, 8).reshape(2, 8)
    entries = [("w.weight", "I8", (2, 8), codes.astype(np.int8).tobytes()), made.f32("w.weight_scale", [scale, scale])]
    _, found, _ = only(tmp_path, entries)
    assert np.array_equal(found, codes.astype(np.float32) * np.float32(scale)) and np.isfinite(found).all()


def test_a_block_whose_power_of_two_is_the_least_one_is_finite_and_the_code_255_is_no_number(tmp_path):
    blocks = [u8("experts.w_blocks", np.full((1, 1, 2, 16), 0x77)), u8("experts.w_scales", [[[0, 255]]])]
    _, found, _ = only(tmp_path, blocks)
    assert np.array_equal(found[0, :32], np.full(32, 6 * 2.0**-127, np.float32)) and np.isnan(found[0, 32:]).all()
