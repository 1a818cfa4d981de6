"""Compressed models in the programs they are made for: transformers with compressed-tensors, and its reader of GGUF.

A tiny Llama with random weights is compressed, loaded by the runtime, and its logits are compared with those of the
same model with our decoded weights. Bytes are those that were promised.
"""

import copy
import json

import numpy as np
import pytest

from prunequant.checkpoint import opening
from prunequant.checkpoint.compressed_tensors import pack_words, unpack_words
from prunequant.checkpoint.compression import compress
from prunequant.checkpoint.gguf_writing import blocks_of
from prunequant.checkpoint.methods import Settings, code_matrix
from prunequant.checkpoint.schemes import Scheme

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("compressed_tensors")
gguf = pytest.importorskip("gguf")

ZERO_POINT = Settings(grid="zero point")
IDS = torch.arange(40)[None] % 96


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folders(llama, tmp_path_factory):
    """The model in single precision and in bfloat16."""
    base = tmp_path_factory.mktemp("llama")
    llama.save_pretrained(base / "float32")
    copy.deepcopy(llama).to(torch.bfloat16).save_pretrained(base / "bfloat16")
    return base


def logits(model):
    with torch.no_grad():
        return model(IDS).logits.float()


def decoded(model, folder, scheme, settings):
    """The same model with weights that were coded and decoded by us."""
    ours = copy.deepcopy(model)
    with opening.open_model(folder) as file, torch.no_grad():
        for matrix in file.matrices:
            if matrix.kind == "linear":
                coded = code_matrix(matrix.read(0, matrix.rows), Scheme.named(scheme), settings)
                ours.get_parameter(matrix.name).copy_(torch.from_numpy(coded.decode()))
    return ours


@pytest.mark.parametrize("bits", range(2, 9))
def test_words_are_those_of_the_package(bits):
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    top = 1 << (bits - 1)
    codes = np.random.default_rng(bits).integers(-top, top, (5, 45)).astype(np.int8)
    np.testing.assert_array_equal(pack_words(codes, bits), pack_to_int32(torch.from_numpy(codes), bits).numpy())
    np.testing.assert_array_equal(unpack_words(pack_words(codes, bits), bits, 45), codes)


@pytest.mark.parametrize("scheme", ["INT4 g32", "INT3 channel", "INT8 tensor", "2:4 INT4 g32"])
def test_transformers_loads_packed_weights_and_computes_our_logits(scheme, llama, folders, tmp_path):
    written = compress(folders / "float32", tmp_path / "out", scheme=scheme, to="compressed-tensors")
    assert written.predicted_bytes == written.bytes == sum(p.stat().st_size for p in (tmp_path / "out").iterdir())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ours = logits(decoded(llama, folders / "float32", scheme, Settings()))
    torch.testing.assert_close(logits(loaded), ours, atol=1e-6, rtol=1e-5)
    assert (ours - logits(llama)).abs().max() > 1e-3  # the model was compressed at all


def test_transformers_loads_zero_points_where_it_decompresses_while_loading(llama, folders, tmp_path):
    # transformers 5.24 makes room for zero points that are not packed, unless it decompresses at once
    compress(folders / "float32", tmp_path / "out", scheme="INT4 g32", to="compressed-tensors", settings=ZERO_POINT)
    at_once = transformers.CompressedTensorsConfig(dequantize=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", quantization_config=at_once).eval()
    ours = decoded(llama, folders / "float32", "INT4 g32", ZERO_POINT)
    for name, weight in ours.named_parameters():  # the package multiplies in the half precision of its scales
        torch.testing.assert_close(loaded.get_parameter(name), weight, atol=0, rtol=2**-10)
    assert (logits(loaded) - logits(ours)).abs().max() < (logits(ours) - logits(llama)).abs().max() / 50


def test_a_model_in_bfloat16_gets_scales_in_bfloat16_and_the_weights_that_we_decode(llama, folders, tmp_path):
    compress(folders / "bfloat16", tmp_path / "out", scheme="INT4 g32", to="compressed-tensors")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    logits(loaded.eval())  # weights are unpacked at the first call
    ours = decoded(
        copy.deepcopy(llama).to(torch.bfloat16), folders / "bfloat16", "INT4 g32", Settings(scale_dtype="BF16")
    )
    for name, weight in ours.named_parameters():
        assert torch.equal(loaded.get_parameter(name), weight), name


def test_a_plan_of_several_schemes_is_several_groups_of_the_configuration(llama, folders, tmp_path):
    with opening.open_model(folders / "float32") as model:
        names = [m.name for m in model.matrices if m.kind == "linear"]
    plan = {name: ("INT4 g32", "INT8 channel", "INT3 g64")[i % 3] for i, name in enumerate(names[:-1])}
    compress(folders / "float32", tmp_path / "out", plan=plan, to="compressed-tensors")
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert len(said["config_groups"]) == 3
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ours = copy.deepcopy(llama)
    with opening.open_model(folders / "float32") as file, torch.no_grad():
        for matrix in file.matrices:
            if matrix.name in plan:
                coded = code_matrix(matrix.read(0, matrix.rows), Scheme.named(plan[matrix.name]))
                ours.get_parameter(matrix.name).copy_(torch.from_numpy(coded.decode()))
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-5)


GGUF = [
    ("INT4 g32", "symmetric", "signed", "Q4_0"),
    ("INT4 g32", "zero point", "minimum", "Q4_1"),
    ("INT8 g32", "symmetric", "symmetric", "Q8_0"),
    ("MXFP4", "symmetric", "symmetric", "MXFP4"),
    ("NVFP4", "symmetric", "symmetric", "NVFP4"),
    ("2:4 INT4 g32", "symmetric", "signed", "Q4_0"),
]


@pytest.mark.parametrize(("scheme", "grid", "stored", "kind"), GGUF, ids=[f"{s} {k}" for s, _, _, k in GGUF])
def test_the_readers_of_gguf_and_of_transformers_see_our_weights_and_logits(
    scheme, grid, stored, kind, llama, folders, tmp_path
):
    settings = Settings(grid=grid)
    written = compress(folders / "float32", tmp_path / "m.gguf", scheme=scheme, to="gguf", settings=settings)
    assert written.predicted_bytes == written.bytes == (tmp_path / "m.gguf").stat().st_size
    ours = decoded(llama, folders / "float32", scheme, Settings(grid=stored, unit_scale=True))
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    down = next(t for t in reader.tensors if t.name == "blk.1.ffn_down.weight")
    assert down.tensor_type == gguf.GGMLQuantizationType[kind]
    found = gguf.quants.dequantize(down.data, down.tensor_type)
    np.testing.assert_array_equal(found, ours.get_parameter("model.layers.1.mlp.down_proj.weight").detach().numpy())
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    state = load_gguf_checkpoint(tmp_path / "m.gguf", return_tensors=True, model_to_load=llama)["tensors"]
    loaded = transformers.LlamaForCausalLM(llama.config).eval()
    loaded.load_state_dict(state)
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-5)


def test_transformers_loads_a_gguf_file_by_its_name(llama, folders, tmp_path):
    pytest.importorskip("accelerate")  # which transformers asks for here
    compress(folders / "float32", tmp_path / "m.gguf", scheme="INT4 g32", to="gguf")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf").eval()
    ours = decoded(llama, folders / "float32", "INT4 g32", Settings(grid="signed"))
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "MXFP4"])
def test_our_blocks_lose_no_more_than_those_of_the_package(kind):
    w = np.random.default_rng(5).standard_t(4, (64, 256)).astype(np.float32)
    scheme = {"Q8_0": "INT8 g32", "MXFP4": "MXFP4"}.get(kind, "INT4 g32")
    settings = Settings(grid={"Q4_0": "signed", "Q4_1": "minimum"}.get(kind, "symmetric"))
    number = gguf.GGMLQuantizationType[kind]
    ours = gguf.quants.dequantize(blocks_of(code_matrix(w, Scheme.named(scheme), settings), kind), number)
    theirs = gguf.quants.dequantize(gguf.quants.quantize(w, number), number)
    assert np.sum((w - ours) ** 2) <= np.sum((w - theirs) ** 2) * (1 + 1e-6)
