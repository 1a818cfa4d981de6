import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from prunequant.models import smollm2

spec = importlib.util.spec_from_file_location("naive_llama", Path(__file__).parents[1] / "naive" / "llama.py")
naive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(naive)

TINY = smollm2.Config.tiny(vocabulary=40, width=64, layers=2)
STORED = {v: k for k, v in smollm2._OF_BLOCK.items()} | {"embedding": "token_embd", "norm": "output_norm"}


def write(path, model, *, skip=(), extra=(), architecture="llama", **changed):
    """A GGUF file like SmolLM2's: linear layers Q4_1, embedding Q8_0, norms float32."""
    c = model.config
    w = gguf.GGUFWriter(path, architecture)
    fields = dict(vocab_size=c.vocabulary, embedding_length=c.width, block_count=c.layers, head_count=c.heads,
                  head_count_kv=c.kv_heads, feed_forward_length=c.hidden, rope_dimension_count=c.head,
                  rope_freq_base=c.base, layer_norm_rms_eps=c.epsilon) | changed  # fmt: skip
    for name, value in fields.items():
        if value is not None:
            getattr(w, f"add_{name}")(value)
    for name, value in model.state_dict().items():
        parts = name.split(".")
        stored = f"blk.{parts[1]}.{STORED[parts[2]]}.weight" if parts[0] == "blocks" else f"{STORED[parts[0]]}.weight"
        if stored in skip:
            continue
        kind = Kind.F32 if "norm" in name else Kind.Q8_0 if parts[0] == "embedding" else Kind.Q4_1
        w.add_tensor(stored, gguf.quants.quantize(value.numpy(), kind), raw_dtype=kind)
    for name, value in extra:
        w.add_tensor(name, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", smollm2.random(TINY, 3))


def test_logits_are_those_of_the_naive_twin():
    model, tokens = smollm2.random(TINY, 1), np.array([3, 1, 39, 0, 7, 7])
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
        found = model(torch.from_numpy(tokens)[None])[0].numpy()
    expected = naive.logits({k: v.numpy() for k, v in model.state_dict().items()}, TINY, tokens)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_rotary_positions_turn_neighbouring_pairs():
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    found = smollm2.rotary(torch.from_numpy(x), 100.0).numpy()
    np.testing.assert_allclose(found, [naive.rotate(r, t, 100.0) for t, r in enumerate(x)], atol=1e-6)


def test_rotary_products_depend_on_the_distance_of_two_times_only():
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    turned_q, turned_k = (smollm2.rotary(v.expand(20, 16), 1e4) for v in (q, k))
    products = torch.stack([turned_q[t + 3] @ turned_k[t] for t in range(17)])
    assert float(products.max() - products.min()) < 1e-4


def test_a_model_that_was_read_in_inference_mode_first_can_be_trained_afterwards():
    config = replace(TINY, base=12_345.0)  # its table of angles is in no other test
    model, tokens = smollm2.random(config, 0), torch.arange(7)[None]
    with torch.inference_mode():
        model(tokens)
    model(tokens).sum().backward()
    assert float(model.blocks[0].q.weight.grad.abs().sum()) > 0


def test_a_later_token_does_not_change_an_earlier_logit():
    model = smollm2.random(TINY, 0)
    a = torch.arange(12)[None]
    b = a.clone()
    b[0, 8:] = 5
    with torch.no_grad():
        x, y = model(a), model(b)
    assert torch.equal(x[:, :8], y[:, :8]) and not torch.allclose(x[:, 8:], y[:, 8:])


def test_two_sequences_in_one_batch_do_not_see_each_other():
    model, tokens = smollm2.random(TINY, 0), torch.arange(20).view(2, 10)
    with torch.no_grad():
        together, alone = model(tokens), torch.cat([model(tokens[:1]), model(tokens[1:])])
    torch.testing.assert_close(together, alone)


def test_the_default_sizes_are_those_of_smollm2():
    with torch.device("meta"):
        model = smollm2.Llama()
    layers = smollm2.linears(model)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert len(layers) == 210 and sum(m.weight.numel() for m in layers.values()) == 106_168_320


def test_the_same_seed_gives_the_same_random_model():
    a, b, c = (smollm2.weights(smollm2.random(TINY, s)) for s in (4, 4, 5))
    assert all(np.array_equal(a[n], b[n]) for n in a) and not np.array_equal(a["blocks.0.q"], c["blocks.0.q"])


def test_weights_go_out_and_in_again():
    model, other = smollm2.random(TINY, 1), smollm2.random(TINY, 2)
    values = smollm2.weights(other)
    smollm2.set_weights(model, values)
    assert all(np.array_equal(values[n], w) for n, w in smollm2.weights(model).items())
    with pytest.raises(ValueError, match=r"blocks\.9\.q"):
        smollm2.set_weights(model, {"blocks.9.q": values["blocks.0.q"]})
    with pytest.raises(ValueError, match="shape"):
        smollm2.set_weights(model, {"blocks.0.q": values["blocks.0.up"]})


def test_a_gguf_file_gives_the_model_that_was_written(stored):
    found, made = smollm2.load(stored), smollm2.random(TINY, 3)
    assert replace(found.config, epsilon=1e-5) == TINY and found.config.epsilon == np.float32(1e-5)
    assert not found.training
    for name, value in made.state_dict().items():
        kind = Kind.F32 if "norm" in name else Kind.Q8_0 if name.startswith("embedding") else Kind.Q4_1
        expected = gguf.quants.dequantize(gguf.quants.quantize(value.numpy(), kind), kind)
        np.testing.assert_array_equal(found.state_dict()[name].numpy(), expected)


def test_stored_weights_lie_on_the_grid_whose_spacing_is_given(stored):
    values, spacing = smollm2.weights(smollm2.load(stored)), smollm2.grid(stored)
    assert list(spacing) and set(spacing) == set(values)
    for name, w in values.items():
        blocks, d = w.reshape(-1, 32), spacing[name].reshape(-1, 32)
        code = (blocks - blocks.min(1, keepdims=True)) / d
        assert np.abs(code - code.round()).max() < 1e-3 and code.round().max() <= 15
        assert np.ptp(d, axis=1).max() == 0


def test_a_missing_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(FileNotFoundError, match="make models"):
        smollm2.load()


def test_a_file_of_other_content_in_the_package_is_refused(stored, monkeypatch):
    monkeypatch.setattr(smollm2, "weights_path", lambda: stored)
    with pytest.raises(ValueError, match="SHA-256"):
        smollm2.load()


def test_a_missing_tensor_another_shape_and_another_architecture_are_named(tmp_path):
    model = smollm2.random(TINY, 0)
    with pytest.raises(ValueError, match="holds 19 tensors"):
        smollm2.load(write(tmp_path / "a", model, skip=("blk.1.attn_k.weight",)))
    swapped = write(tmp_path / "b", model, skip=("blk.1.attn_k.weight",), extra=[("other", np.zeros(4, np.float32))])
    with pytest.raises(ValueError, match=r"blocks\.1\.k\.weight"):
        smollm2.load(swapped)
    with pytest.raises(ValueError, match="shape"):
        smollm2.load(write(tmp_path / "c", model, feed_forward_length=96))
    with pytest.raises(ValueError, match="architecture 'gpt2'"):
        smollm2.load(write(tmp_path / "d", model, architecture="gpt2"))
    with pytest.raises(ValueError, match="metadata"):
        smollm2.load(write(tmp_path / "e", model, head_count_kv=None))
    with pytest.raises(ValueError, match="NaN"):
        broken = smollm2.random(TINY, 0)
        broken.norm.weight.data[3] = float("nan")
        smollm2.load(write(tmp_path / "f", broken))


def test_a_file_that_is_not_there_or_not_gguf_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        smollm2.load(tmp_path / "none.gguf")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ValueError, match="not a readable GGUF file"):
        smollm2.load(tmp_path / "text")


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(stored, tmp_path_factory, cut):
    whole = stored.read_bytes()
    path = tmp_path_factory.mktemp("cut") / "x.gguf"
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(ValueError):
        smollm2.load(path)
    shutil.rmtree(path.parent)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2500), value=st.integers(0, 255))
def test_a_changed_byte_in_the_header_is_refused_or_harmless(stored, tmp_path_factory, place, value):
    data = bytearray(stored.read_bytes())
    data[place] = value
    path = tmp_path_factory.mktemp("flip") / "x.gguf"
    path.write_bytes(bytes(data))
    try:
        model = smollm2.load(path)
    except ValueError:
        pass
    else:
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("field", "value"), [("heads", 0), ("width", 2.5), ("kv_heads", 2), ("head", 31), ("base", -1.0), ("epsilon", 0.0)]
)
def test_impossible_sizes_are_named(field, value):
    sizes = dict(vocabulary=40, width=64, layers=1, heads=3, kv_heads=1, head=32, hidden=64)
    with pytest.raises(ValueError, match=field):
        smollm2.Config(**(sizes | {field: value}))
