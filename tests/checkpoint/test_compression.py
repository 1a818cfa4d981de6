"""Compressed files: sizes promised and kept, masks and zeros, what is refused before any work, whole files or none."""

import json
import subprocess
import sys

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants
from safetensors.numpy import load_file, save_file

from checkpoint.stored import read_back
from prunequant.checkpoint.allocation import allocate
from prunequant.checkpoint.coding import Codes, nearest, with_minimum
from prunequant.checkpoint.compression import compress
from prunequant.checkpoint.files import ModelFileError
from prunequant.checkpoint.methods import Settings, code_matrix
from prunequant.checkpoint.reporting import report
from prunequant.checkpoint.schemes import Scheme
from prunequant.checkpoint.verify import stored_matrices, verify_file
from prunequant.distortion import scale_error

SCHEMES = (
    "INT2 tensor", "INT3 channel", "INT4 g32", "INT5 g48", "INT8 g128", "MXFP4", "MXFP6", "MXFP8", "MXINT8", "NVFP4",
    "NF4", "FP16", "2:4 FP16", "4:8 INT3 g32", "2:4 MXFP4", "50% INT4 channel", "75% FP16", "62.5% NVFP4",
)  # fmt: skip


@pytest.fixture
def weights():
    return np.random.default_rng(1).standard_normal((48, 96)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A model of two linear layers, a norm and an embedding, as a folder."""
    rng = np.random.default_rng(2)
    made = tmp_path / "model"
    made.mkdir()
    tensors = {
        "model.embed_tokens.weight": rng.standard_normal((50, 64)),
        "model.layers.0.mlp.up_proj.weight": rng.standard_normal((96, 64)),
        "model.layers.0.mlp.down_proj.weight": rng.standard_normal((64, 96)),
        "model.norm.weight": np.ones(64),
    }
    save_file({n: t.astype(np.float32) for n, t in tensors.items()}, made / "model.safetensors")
    config = {
        "model_type": "llama", "dtype": "float32", "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "vocab_size": 50,
    }  # fmt: skip
    (made / "config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_stored_in_its_bits_and_read_back_as_it_was_coded(name, weights, tmp_path):
    save_file({"w": weights}, tmp_path / "w.safetensors")
    written = compress(tmp_path / "w.safetensors", tmp_path / "out.safetensors", scheme=name)
    assert written.bytes == written.predicted_bytes == (tmp_path / "out.safetensors").stat().st_size
    bits = Scheme.named(name).stored_bits(*weights.shape)
    assert 0 <= written.rows[0].stored_bytes - bits / 8 < 3  # three tensors at most, each of whole bytes
    expected = code_matrix(weights, Scheme.named(name))
    found = read_back(tmp_path / "out.safetensors", "w")
    np.testing.assert_array_equal(found.decode(), expected.decode())
    assert written.rows[0].error == pytest.approx(np.sum((weights - found.decode()).astype(float) ** 2), rel=1e-5)


def test_an_asymmetric_grid_is_read_back_and_loses_less_on_weights_of_one_sign(weights, tmp_path):
    save_file({"w": np.abs(weights)}, tmp_path / "w.safetensors")
    settings = Settings(grid="zero point")
    shifted = compress(tmp_path / "w.safetensors", tmp_path / "a", scheme="INT4 g32", settings=settings)
    about_zero = compress(tmp_path / "w.safetensors", tmp_path / "b", scheme="INT4 g32")
    assert shifted.rows[0].snr > about_zero.rows[0].snr + 3
    found = read_back(tmp_path / "a", "w", symmetric=False)
    np.testing.assert_array_equal(
        found.decode(), code_matrix(np.abs(weights), Scheme.named("INT4 g32"), settings).decode()
    )


def test_what_is_stored_is_within_a_rounded_scale_of_the_exact_optimum(weights):
    coded = nearest(weights, Scheme.named("INT4 channel"))
    assert np.array_equal(coded.scales, coded.scales.astype(np.float16).astype(np.float32))
    for row, scale, got in zip(weights[:4], coded.scales[:4, 0], coded.decode()[:4]):
        best = min(scale_error(row, scale * (1 + d), 4) for d in np.linspace(-0.3, 0.3, 601))
        assert np.sum((row - got) ** 2) <= best * 1.002


@pytest.mark.parametrize("grid", ["symmetric", "signed", "zero point"])
def test_zeros_stay_zeros_on_every_grid_that_has_a_code_for_zero(grid, weights):
    mask = np.random.default_rng(3).random(weights.shape) < 0.5
    coded = nearest(np.where(mask, weights + 0.5, 0), Scheme.named("INT4 g32"), grid=grid)
    assert not coded.decode()[~mask].any()


def test_a_scale_of_either_sign_never_loses_more_than_a_positive_one(weights):
    scheme = Scheme.named("INT3 g32")
    errors = {g: np.sum((weights - nearest(weights, scheme, grid=g).decode()) ** 2) for g in ("symmetric", "signed")}
    assert errors["signed"] < errors["symmetric"]


def test_a_minimum_and_scale_lose_no_more_than_those_of_the_largest_and_smallest_value(weights):
    groups = weights.reshape(-1, 32)
    d, m, q = with_minimum(groups, 4)
    ours = np.sum((groups - d[:, None] * q - m[:, None]) ** 2, axis=1)
    low, step = groups.min(1, keepdims=True), np.ptp(groups, axis=1, keepdims=True) / 15
    low, step = low.astype(np.float16).astype(np.float32), step.astype(np.float16).astype(np.float32)
    usual = np.sum((groups - low - step * np.clip(np.rint((groups - low) / step), 0, 15)) ** 2, axis=1)
    assert np.all(ours <= usual * (1 + 1e-5)) and ours.sum() < 0.9 * usual.sum()


def test_a_block_of_zeros_gets_scale_one_and_a_scale_that_would_underflow_is_counted():
    w = np.zeros((2, 64), np.float32)
    w[0, :32], w[1, :32] = 1.0, 1e-7
    coded = nearest(w, Scheme.named("INT4 g32"))
    assert coded.scales[0, 1] == coded.scales[1, 1] == 1 and coded.scales[1, 0] == 2.0**-14 and coded.clamped == 1
    assert np.all(np.isfinite(coded.decode()))


def test_a_matrix_that_would_become_all_zero_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layer\.weight would be all zero by INT4 channel"):
        code_matrix(np.full((2, 8), 1e-9), Scheme.named("INT4 channel"), name="layer.weight")


def test_a_scale_beyond_half_precision_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layer\.weight needs a scale of 1\.\d+e\+06"):
        code_matrix(np.full((2, 8), 1e7), Scheme.named("INT4 channel"), name="layer.weight")


def test_the_joint_mask_loses_less_than_that_of_the_largest_where_rows_have_scales_of_their_own(weights):
    scheme = Scheme.named("50% INT2 channel")
    lost = [
        np.sum((weights - code_matrix(weights, scheme, Settings(mask=m)).decode()) ** 2) for m in ("joint", "magnitude")
    ]
    assert lost[0] < lost[1] - 1


@pytest.mark.parametrize("mask", ["joint", "magnitude"])
def test_two_of_four_are_kept_of_every_four_by_either_mask(mask, weights):
    coded = code_matrix(weights, Scheme.named("2:4 INT2 g32"), Settings(mask=mask))
    assert np.all(coded.mask.reshape(-1, 4).sum(axis=1) == 2)
    assert np.all(np.count_nonzero(coded.decode().reshape(-1, 4), axis=1) <= 2)


def test_a_pruned_model_that_is_quantized_keeps_its_mask(weights, tmp_path):
    mask = np.zeros((48 * 24, 4), bool)
    mask[np.arange(len(mask))[:, None], np.argsort(-np.abs(weights.reshape(-1, 4)), axis=1)[:, :2]] = True
    save_file({"w": np.where(mask.reshape(48, 96), weights, 0)}, tmp_path / "w.safetensors")
    written = compress(tmp_path / "w.safetensors", tmp_path / "out", scheme="INT4 g32")
    decoded = read_back(tmp_path / "out", "w").decode()
    assert np.all(np.count_nonzero(decoded.reshape(-1, 4), axis=1) <= 2) and not decoded[~mask.reshape(48, 96)].any()
    assert written.rows[0].zeros_before == weights.size // 2 <= written.rows[0].zeros_after


def test_what_is_not_compressed_is_copied_bit_for_bit_and_listed_with_its_reason(folder, tmp_path):
    written = compress(folder, tmp_path / "out.safetensors", plan={"model.layers.0.mlp.up_proj.weight": "INT4 g32"})
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out.safetensors")
    left = {x.name: x.reason for x in written.left}
    assert set(left) == set(before) - {"model.layers.0.mlp.up_proj.weight"}
    for name in left:
        np.testing.assert_array_equal(after[name], before[name])
    assert left["model.layers.0.mlp.down_proj.weight"] == "the plan does not name it"
    assert written.source_bytes == (folder / "model.safetensors").stat().st_size


def test_groups_that_do_not_divide_are_named_before_any_work(folder, tmp_path):
    with pytest.raises(ValueError, match=r"down_proj\.weight: groups of 64 do not divide its rows of 96"):
        compress(folder, tmp_path / "out", scheme="INT4 g64", to="compressed-tensors")
    with pytest.raises(
        ValueError, match=r"up_proj\.weight: blocks of 64 do not divide|down_proj\.weight: blocks of 64"
    ):
        plan = {"model.layers.0.mlp.down_proj.weight": "NVFP4"}
        compress(folder, tmp_path / "out", plan=plan, to="gguf")
    assert not (tmp_path / "out").exists()


def test_a_plan_that_names_no_matrix_or_a_scheme_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"plan names nothing\.weight: the model has no such matrix"):
        compress(folder, tmp_path / "out", plan={"nothing.weight": "INT4 g32"})
    with pytest.raises(ValueError, match=r"down_proj\.weight: rows of 96 values are no whole number of groups of 7"):
        compress(folder, tmp_path / "out", plan={"model.layers.0.mlp.down_proj.weight": "3:7 FP16"})
    with pytest.raises(ValueError, match=r"Q4_1 has no code for zero"):
        plan = {"model.layers.0.mlp.down_proj.weight": "2:4 INT4 g32"}
        compress(folder, tmp_path / "out", plan=plan, to="gguf", settings=Settings(grid="zero point"))


def test_a_matrix_with_nan_is_left_alone_and_said_to_be_unless_it_was_asked_for(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][7, 3] = np.nan
    save_file(tensors, folder / "model.safetensors")
    written = compress(folder, tmp_path / "out", scheme="INT4 g32")
    assert {x.name: x.reason for x in written.left}["model.layers.0.mlp.up_proj.weight"] == (
        "it holds NaN or infinity, first in row 7"
    )
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        compress(folder, tmp_path / "again", plan={"model.layers.0.mlp.up_proj.weight": "INT4 g32"})


def two_tensors(tmp_path):
    """A light-tailed and a heavy-tailed matrix: they deserve different widths."""
    rng = np.random.default_rng(4)
    tensors = {"even": rng.uniform(-1, 1, (64, 128)), "heavy": rng.standard_t(3, (64, 128))}
    save_file({k: v.astype(np.float32) for k, v in tensors.items()}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("budget", [2.3, 4.25, 5.2, 8.3])
def test_a_budget_is_the_plan_of_allocate_and_is_kept(budget, tmp_path):
    path = two_tensors(tmp_path)
    written = compress(path, tmp_path / "out", budget=budget)
    plan = allocate(report(path), budget)
    assert {row.name: row.scheme for row in written.rows} == dict(plan.tensors)
    assert written.bits_per_weight <= budget
    assert any("for every matrix, the best of one scheme" in note for note in written.notes)


@pytest.mark.parametrize("to", ["compressed-tensors", "gguf"])
def test_a_budget_takes_only_what_the_file_holds(to, folder, tmp_path):
    written = compress(folder, tmp_path / "out", budget=5.0, to=to)
    assert written.bits_per_weight <= 5.0 and written.predicted_bytes == written.bytes
    assert len({row.scheme for row in written.rows}) >= 1 and written.rows


def test_a_budget_outside_of_what_plans_take_names_both_ends(folder, tmp_path):
    with pytest.raises(ValueError, match=r"budget is 0\.5"):
        compress(folder, tmp_path / "out", budget=0.5)
    with pytest.raises(ValueError, match="symmetric"):
        compress(folder, tmp_path / "out", budget=4.5, settings=Settings(grid="zero point"))


def test_the_file_of_the_model_itself_is_never_written_over(weights, tmp_path):
    save_file({"w": weights}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="the model itself"):
        compress(tmp_path / "w.safetensors", tmp_path / "w.safetensors", scheme="INT4 g32")


def test_names_that_the_new_tensors_would_have_are_refused_in_a_model_that_has_them_already(weights, tmp_path):
    save_file({"w": weights, "w.scales": np.ones(3, np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"m\.safetensors: it has w\.scales, as compressed files do"):
        compress(tmp_path / "m.safetensors", tmp_path / "out", scheme="INT4 g32")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and nothing", b"\x93NUMPY"])
def test_inputs_in_a_file_that_is_no_npz_are_refused_by_name(content, folder, tmp_path):
    (tmp_path / "inputs.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"calibrate is .*: it is no \.npz file"):
        compress(folder, tmp_path / "out", scheme="INT4 g32", calibrate=tmp_path / "inputs.npz")


def test_one_array_is_no_file_of_inputs(folder, tmp_path):
    np.save(tmp_path / "inputs.npy", np.ones((3, 64)))
    with pytest.raises(ValueError, match="calibrate is"):
        compress(folder, tmp_path / "out", scheme="INT4 g32", calibrate=tmp_path / "inputs.npy")


def test_an_error_in_the_middle_leaves_what_was_there_and_nothing_beside(folder, tmp_path):
    (tmp_path / "out").write_text("before")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][:] = 1e7  # the second matrix of the file
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="needs a scale"):
        compress(folder, tmp_path / "out", scheme="INT2 g32")
    assert (tmp_path / "out").read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]


KILLED = """
import os, signal, sys, time
import gguf, numpy as np
from pathlib import Path
from prunequant.checkpoint import compression, methods
from prunequant.checkpoint.reporting import report
from prunequant.checkpoint.schemes import Scheme
def slow(*args):
    time.sleep(0.1)
    return methods.code_matrix(*args)
compression.code_matrix = slow
methods.code_matrix(np.ones((2, 32)), Scheme.named("INT4 g32"))
model, folder = Path(sys.argv[1]), Path(sys.argv[2])
for to in compression.TARGETS:
    for number in range(8):  # from the first moment to after the last
        out = folder / f"{to} {number}"
        child = os.fork()
        if not child:
            compression.compress(model, out, scheme="INT4 g32", to=to)
            os._exit(0)
        time.sleep(0.05 * number)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file_or_none(folder, tmp_path):
    outs = tmp_path / "outs"
    outs.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(outs)], check=True)
    found = [p for p in outs.iterdir() if not p.name.startswith(".")]
    assert 0 < len(found) < 24
    for out in found:
        if out.name.startswith("gguf"):
            GGUFReader(out)
        else:
            load_file(out / "model.safetensors" if out.is_dir() else out)


def test_codes_of_a_group_are_in_the_range_of_their_bits(weights):
    for bits in (2, 3, 5, 8):
        coded = nearest(weights * 10, Scheme.named(f"INT{bits} channel"))
        assert isinstance(coded, Codes)
        assert -(1 << (bits - 1)) <= coded.codes.min() and coded.codes.max() < 1 << (bits - 1)


@pytest.fixture
def quantized(tmp_path):
    """A small GGUF file as llama.cpp ships them: layers in Q4_1, the embedding in Q8_0, a norm, words, a number."""
    rng = np.random.default_rng(7)
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_context_length(64)
    writer.add_file_type(3)
    writer.add_token_list(["a", "b", "longer", "é"])
    for name, shape, kind in [
        ("token_embd.weight", (50, 64), "Q8_0"), ("blk.0.attn_q.weight", (64, 64), "Q4_1"),
        ("blk.0.ffn_down.weight", (64, 96), "Q4_1"), ("output_norm.weight", (64,), "F32"),
    ]:  # fmt: skip
        values = rng.standard_normal(shape).astype(np.float32)
        number = GGMLQuantizationType[kind]
        writer.add_tensor(name, quants.quantize(values, number) if kind != "F32" else values, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf"


@pytest.mark.parametrize(("grid", "kind"), [("symmetric", "Q4_0"), ("zero point", "Q4_1")])
def test_of_a_gguf_file_layers_are_coded_anew_and_all_else_is_copied(grid, kind, quantized, tmp_path):
    out = tmp_path / "small.gguf"
    written = compress(quantized, out, scheme="INT4 g32", to="gguf", settings=Settings(grid=grid))
    assert written.bytes == written.predicted_bytes == out.stat().st_size
    assert verify_file(out, quantized).problems == () and verify_file(out, quantized).compared == 2
    before, after = GGUFReader(quantized), GGUFReader(out)
    assert [t.name for t in after.tensors] == [t.name for t in before.tensors]
    found = dict(stored_matrices(out))
    assert set(found) == {"blk.0.attn_q.weight", "blk.0.ffn_down.weight"}
    for old, new in zip(before.tensors, after.tensors):
        if new.name not in found:
            assert new.tensor_type == old.tensor_type and np.array_equal(new.data, old.data)
            continue
        assert new.tensor_type == GGMLQuantizationType[kind]
        np.testing.assert_array_equal(found[new.name], quants.dequantize(new.data, new.tensor_type))
    fields = {n: f.contents() for n, f in before.fields.items() if not n.startswith("GGUF.")}
    copied = {n: after.fields[n].contents() for n in fields}
    assert copied == {**fields, "general.file_type": {"Q4_0": 2, "Q4_1": 3}[kind]}


def test_a_grid_with_a_minimum_finds_the_weights_of_a_q4_1_file_again(quantized, tmp_path):
    settings = Settings(grid="zero point")
    anew = compress(quantized, tmp_path / "q4_1.gguf", scheme="INT4 g32", to="gguf", settings=settings)
    coarser = compress(quantized, tmp_path / "q4_0.gguf", scheme="INT4 g32", to="gguf")
    assert min(r.snr for r in anew.rows) > max(r.snr for r in coarser.rows) + 20


@pytest.mark.parametrize("name", ["INT4 g32", "MXFP4", "2:4 INT4 channel"])
def test_the_file_has_the_same_bytes_whatever_the_number_of_threads(name, folder, tmp_path):
    files = []
    for threads in (1, np.uint8(2), 7, None):
        shown = []
        written = compress(
            folder,
            tmp_path / f"{threads}.file",
            scheme=name,
            threads=threads,
            progress=lambda *done, shown=shown: shown.append(done),
        )
        assert [row.name for row in written.rows] == [n for _, _, n in shown[:-1]] and shown[-1] == (2, 2, "")
        files.append((tmp_path / f"{threads}.file").read_bytes())
    assert files[0] == files[1] == files[2] == files[3]


def test_an_error_of_one_thread_ends_the_others_and_leaves_no_file(folder, tmp_path):
    tensors = {f"layer.{i}.weight": np.full((64, 64), 10.0 ** (20 if i == 1 else 0)) for i in range(9)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"layer\.1\.weight"):
        compress(tmp_path / "w.safetensors", tmp_path / "out.safetensors", scheme="INT4 g32", threads=3)
    assert [path.name for path in tmp_path.glob("*") if path.is_file()] == ["w.safetensors"]


@pytest.mark.parametrize("threads, error", [(0, ValueError), (1025, ValueError), (2.5, TypeError), ("2", TypeError)])
def test_threads_are_refused_by_name_before_any_work(threads, error, folder, tmp_path):
    with pytest.raises(error, match="threads is"):
        compress(folder, tmp_path / "out", scheme="INT4 g32", threads=threads)
    assert not (tmp_path / "out").exists()
