"""llama.cpp beside this library: what follows from the rows of the record, and the parts that need no binding."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nearly import differences
from prunequant import checkpoint, records
from prunequant.extras import MissingExtra
from prunequant.models import corpus
from prunequant.studies import runner

pytest.importorskip("torch")
pytest.importorskip("gguf")
import gguf
import torch

from prunequant.models import smollm2
from prunequant.studies import llama_cpp_files as study
from prunequant.studies import llama_runtime

TINY = smollm2.Config.tiny(vocabulary=64, width=64, layers=2)


def rounded_one(x):
    """One block of 32 as llama.cpp rounds it (ggml-cpu/arch/x86/quants.c, quantize_row_q8_0), number by number."""
    top = np.float32(max(abs(v) for v in x))
    step = np.float32(np.float16(np.float32(top / np.float32(127))))
    inverse = np.float32(np.float32(127) / top) if top else np.float32(0)
    return [np.float32(np.rint(np.float32(v * inverse))) * step for v in x]


def test_inputs_are_rounded_as_the_plain_twin_rounds_them():
    x = np.random.default_rng(0).standard_normal((3, 5, 64)).astype(np.float32)
    x[0, 0, :32] = 0
    found = llama_runtime.rounded(torch.from_numpy(x)).numpy()
    assert np.array_equal(found.reshape(-1, 32), [rounded_one(block) for block in x.reshape(-1, 32)])


def test_rounded_inputs_are_those_of_q8_0_in_the_package_gguf_but_for_ties():
    x = np.random.default_rng(1).standard_normal((64, 640)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    package = gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind)
    assert np.mean(llama_runtime.rounded(torch.from_numpy(x)).numpy() != package) < 1e-4


def test_every_linear_layer_and_the_output_matrix_see_rounded_inputs_and_nothing_remains_afterwards():
    model, tokens = smollm2.random(TINY, 1), np.arange(12)
    plain, seen = study.logits(model, tokens), []
    with study.rounded_inputs(model):
        watching = [
            layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
            for layer in smollm2.linears(model).values()
        ]
        narrow = study.logits(model, tokens)
        features = model.features(torch.from_numpy(tokens)[None])
    for hook in watching:
        hook.remove()
    assert len(seen) == 2 * 7 * TINY.layers
    for x in [*seen, features]:
        assert torch.allclose(llama_runtime.rounded(x), x, rtol=1e-3)
    assert 0 < study.apart(narrow, plain) < 0.1 * plain.std()
    assert np.array_equal(study.logits(model, tokens), plain)


def write(path, tensors, **fields):
    """A GGUF file of float32 tensors, named as `smollm2` names them."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    for name, value in tensors.items():
        writer.add_tensor(stored_name(name), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_value_that_another_reader_decodes_otherwise_is_counted(tmp_path):
    model = smollm2.random(TINY, 2)
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    ours = study.decoded(write(tmp_path / "a.gguf", state))
    weights = smollm2.weights(model)
    assert {name: found.tolist() for name, found in study.layers(ours).items()} == {
        name: wanted.tolist() for name, wanted in weights.items()
    }
    state["blocks.1.down.weight"][3, 5] += 1
    state["norm.weight"][0] += 1
    size = sum(value.size for value in state.values())
    assert study.other_values(tmp_path / "a.gguf", ours) == {"values": size, "other_values": 0}
    assert study.other_values(write(tmp_path / "b.gguf", state), ours) == {"values": size, "other_values": 2}
    state["more"] = np.zeros(32, np.float32)
    with pytest.raises(ValueError, match=r"c\.gguf holds other tensors: more"):
        study.other_values(write(tmp_path / "c.gguf", state), ours)


def stored_name(name):
    names = {v: k for k, v in smollm2._OF_BLOCK.items()} | {"embedding": "token_embd", "norm": "output_norm"}
    parts = name.split(".")
    if parts[0] != "blocks":
        return ".".join([names.get(parts[0], parts[0]), *parts[1:]])
    return ".".join(["blk", parts[1], names[parts[2]], parts[3]])


def test_losses_are_those_of_the_corpus():
    model, tokens = smollm2.random(TINY, 3), np.arange(40) % 23
    (wanted,) = corpus.cross_entropies(model, tokens[None])
    assert study.loss(study.logits(model, tokens), tokens) == wanted


def test_the_differences_of_logits_name_what_they_compare():
    z = np.random.default_rng(0).standard_normal((5, 4, 7)).astype(np.float32)
    found = study.differences(*z)
    theirs, plain, mine, narrow, before = z.astype(np.float64)
    pairs = {"compression": (mine, before), "runtime": (theirs, mine), "own": (theirs, plain),
             "float32": (plain, mine), "rounded_inputs": (theirs, narrow)}  # fmt: skip
    for name, (a, b) in pairs.items():
        assert found[name] == pytest.approx(np.linalg.norm(a - b) / np.sqrt(28), rel=1e-6)
    assert found["same_word"] == np.mean([np.argmax(a) == np.argmax(b) for a, b in zip(theirs, mine)])


# --- without the binding, and with it ---------------------------------------------------------------------------------


def test_a_record_without_the_binding_names_the_extra_before_any_work(monkeypatch, tmp_path):
    known = runner.find_spec
    monkeypatch.setattr(runner, "find_spec", lambda name: None if name == "llama_cpp" else known("json"))
    with pytest.raises(MissingExtra, match=r"this needs llama_cpp: pip install 'prunequant\[llama\]'"):
        runner.run_study("llama-cpp", out=tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_the_runtime_without_the_binding_names_the_extra(monkeypatch):
    llama_runtime.binding.cache_clear()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtra, match=r"pip install 'prunequant\[llama\]'"):
        llama_runtime.about()


def test_the_extra_pins_the_version_of_the_record_and_nothing_installs_it_by_itself():
    root = Path(__file__).parents[2]
    made = records.read("llama_cpp.json")["provenance"]["binding"]
    assert made.replace(" ", "==") in (root / "pyproject.toml").read_text(encoding="utf-8")
    assert "llama-cpp-python" not in (root / "requirements.txt").read_text(encoding="utf-8")


def test_a_variant_that_is_none_is_refused(tmp_path):
    at = runner.At(None, tmp_path)
    with pytest.raises(ValueError, match=r"variants name Q3: give original, llama\.cpp Q4_0, Q4_0, Q4_1, Q8_0"):
        study.make(at, 2, 1, 1, ("Q4_0",), ("Q3",))


BUILT = pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="the extra llama is built by hand")


def written(path, model):
    c = model.config
    return write(
        path, {name: value.numpy() for name, value in model.state_dict().items()}, tokenizer_model="no_vocab",
        context_length=64, vocab_size=c.vocabulary, embedding_length=c.width, block_count=c.layers,
        head_count=c.heads, head_count_kv=c.kv_heads, feed_forward_length=c.hidden, rope_dimension_count=c.head,
        rope_freq_base=c.base, layer_norm_rms_eps=c.epsilon,
    )  # fmt: skip


@BUILT
def test_llama_cpp_computes_what_torch_computes_of_weights_in_float32(tmp_path):
    model, tokens = smollm2.random(TINY, 4), np.arange(48) % 61
    with llama_runtime.reader(written(tmp_path / "tiny.gguf", model), 48) as runtime:
        found = runtime(tokens)
        assert study.apart(found, study.logits(model, tokens)) < 1e-5 * found.std()
        assert np.array_equal(runtime(tokens), found)
        with pytest.raises(ValueError, match="tokens are 3: 48 were announced"):
            runtime(tokens[:3])
    with pytest.raises(ValueError, match=r"llama.cpp does not load .*none\.gguf"):
        with llama_runtime.reader(tmp_path / "none.gguf", 8):
            pass


@BUILT
@pytest.mark.parametrize("scheme", ["INT4 g32", "INT8 g32", "MXFP4", "NVFP4"])
def test_llama_cpp_decodes_our_files_and_differs_by_its_rounded_inputs_alone(scheme, tmp_path):
    """In one block. With more, one code that a last bit turns makes the errors after it others, of the same size."""
    model = smollm2.random(smollm2.Config.tiny(vocabulary=64, width=64, layers=1), 4)
    source, small, tokens = written(tmp_path / "tiny.gguf", model), tmp_path / "small.gguf", np.arange(48) % 61
    plan = {name: scheme for name in study.decoded(source) if "norm" not in name}
    plan["token_embd.weight"] = "INT8 g32"  # the output matrix too
    made = checkpoint.compress(source, small, plan=plan, to="gguf")
    assert made.bytes == made.predicted_bytes == small.stat().st_size
    llama_runtime.requantized(small, tmp_path / "wide.gguf", "F32", "F32")
    ours = study.decoded(small)
    values = sum(value.numel() for value in model.state_dict().values())
    assert study.other_values(tmp_path / "wide.gguf", ours) == {"values": values, "other_values": 0}
    assert study.other_values(source, ours)["other_values"] > 0
    smollm2.set_weights(model, study.layers(ours))
    model.embedding.weight.data = torch.from_numpy(ours["token_embd.weight"])
    plain = study.logits(model, tokens)
    with study.rounded_inputs(model):
        narrow = study.logits(model, tokens)
    with llama_runtime.reader(small, 48) as runtime:
        found = runtime(tokens)
    assert study.apart(found, plain) > 1e-3 * plain.std()
    assert study.apart(found, narrow) < 1e-3 * study.apart(found, plain)


# --- the record -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record():
    return records.read("llama_cpp.json")


def test_perplexities_and_intervals_follow_from_the_losses(record):
    whole = [row for row in record["rows"] if row["read"] == row["windows"]]
    found = study.summary(whole, study.in_torch(8))
    assert [one["name"] for one in found] == ["original", study.RUNTIME, "Q4_0", "Q4_0 OPTQ"]
    assert differences(json.loads(json.dumps(found)), record["summary"]) == []
    losses = {row["name"]: np.array(row["losses"]) for row in record["rows"]}
    for one in record["summary"]:
        own = losses[one["name"]]
        assert len(own) == 8 and one["perplexity"] == pytest.approx(np.exp(own.mean()), rel=1e-12)
        for other, d in one["difference"].items():
            if other == "torch":
                continue
            apart = own - losses[other]
            half = stats.t.ppf(0.975, 7) * apart.std(ddof=1) / np.sqrt(8)
            assert [d["low"], d["high"]] == pytest.approx([apart.mean() - half, apart.mean() + half], abs=1e-12)


def test_every_file_has_the_bytes_that_were_promised_and_those_of_the_other_record(record):
    other = {row["name"]: row["bytes"] for row in records.read("compressed_model.json")["rows"]}
    for row in record["rows"]:
        assert row["bytes"] == row.get("promised_bytes", row["bytes"])
        if row["name"] in other:
            assert row["bytes"] == other[row["name"]]
    assert sum("promised_bytes" in row for row in record["rows"]) == len(record["rows"]) - 2


def test_llama_cpp_decodes_every_weight_as_we_do_and_makes_the_same_token_ids(record):
    for row in record["rows"]:
        assert row["values"] == 134_515_008 and row["other_values"] == 0
    assert record["tokenizer"] == {"seed": 0, "tokens": len(corpus.tokens("heldout")), "same": True}


def test_logits_differ_by_the_rounding_of_inputs_and_by_nothing_else(record):
    for row in record["rows"]:
        for far in row["logits"]:
            assert far["float32"] < 1e-4 * far["spread"]  # the order of sums
            assert far["runtime"] == pytest.approx(far["own"], rel=1e-2)
            assert far["rounded_inputs"] < 1.5 * far["runtime"]  # no more than two errors of one size
    original = record["rows"][0]
    assert original["name"] == "original" and record["rounding"]["windows"] == original["windows"]
    for changed, far in zip(record["rounding"]["changed"], original["logits"], strict=True):
        assert changed == pytest.approx(far["runtime"], rel=0.05)


def test_the_losses_by_torch_are_those_of_the_other_record(record):
    known = study.in_torch(8)
    assert set(known) >= {"original", "Q4_0", "Q4_0 OPTQ", study.RUNTIME}
    for row in record["rows"]:
        for ours, theirs in zip(row["torch_losses"], known.get(row["name"], [])):
            assert ours == pytest.approx(theirs, abs=1e-5)
