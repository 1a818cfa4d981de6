"""Orders in a sentence encoder: a small one, read plainly beside the library's, and what the record must hold."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from prunequant.formats import named  # noqa: E402
from prunequant.models import corpus  # noqa: E402
from prunequant.studies import order_embeddings as study  # noqa: E402
from prunequant.studies import order_vision, runner  # noqa: E402

WIDTH, HEADS = 16, 2
SENTENCES = [
    " ".join(f"word{(7 * i + j * j) % 40}" for j in range(8 + i % 5)) + "." for i in range(24)
]  # of 8 to 12 words


@pytest.fixture
def small(monkeypatch):
    """A Bert of two blocks with weights of a seed, and sentences of words that have numbers."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("encoder.")]

    def encode(texts):
        return [[1 + int(word.strip(".")[4:]) for word in text.split()] for text in texts]

    monkeypatch.setattr(study, "encoder", lambda: study.Encoder(model, layers, encode))
    monkeypatch.setattr(corpus, "text", lambda part: " ".join(SENTENCES if part == "heldout" else SENTENCES[::-1]))
    study._prepared.cache_clear()
    yield model, layers, encode
    study._prepared.cache_clear()


def plainly(weights: dict, ids: list[int]) -> np.ndarray:
    """The embedding of one sentence, block by block and head by head, without padding, in float64."""
    w = {name: value.double().numpy() for name, value in weights.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(x, name):
        away = x - x.mean(1, keepdims=True)
        return away / np.sqrt((away**2).mean(1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = np.array([
        w["embeddings.word_embeddings.weight"][i]
        + w["embeddings.position_embeddings.weight"][t]
        + w["embeddings.token_type_embeddings.weight"][0]
        for t, i in enumerate(ids)
    ])  # fmt: skip
    x = normed(x, "embeddings.LayerNorm")
    for block in ("encoder.layer.0", "encoder.layer.1"):
        q, k, v = (linear(x, f"{block}.attention.self.{part}") for part in ("query", "key", "value"))
        size, heads = WIDTH // HEADS, []
        for h in range(HEADS):
            own = slice(h * size, (h + 1) * size)
            scores = np.exp(q[:, own] @ k[:, own].T / math.sqrt(size))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, own])
        seen = linear(np.concatenate(heads, axis=1), f"{block}.attention.output.dense")
        x = normed(x + seen, f"{block}.attention.output.LayerNorm")
        hidden = linear(x, f"{block}.intermediate.dense")
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = normed(x + linear(hidden, f"{block}.output.dense"), f"{block}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def two_of_four(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The two largest by |by| of every four neighbours kept, the first of equals."""
    out = np.zeros_like(rows)
    for r in range(rows.shape[0]):
        for start in range(0, rows.shape[1], 4):
            four = sorted(range(start, start + 4), key=lambda c: (-abs(by[r, c]), c))
            out[r, four[:2]] = rows[r, four[:2]]
    return out


def test_every_kind_is_what_a_plain_computation_finds(small):
    model, layers, encode = small
    dense = {name: value.clone() for name, value in model.state_dict().items()}
    found = study.order_unit("2:4", "INT4", 4, 3, 5, 0)
    found |= study.order_unit("2:4", "", 4, 3, 5, 0) | study.order_unit("", "INT4", 4, 3, 5, 0)
    quantize = named("INT4").quantize
    made = {kind: dict(dense) for kind in ("s", "q", "sq", "qs first")}
    for name in (f"{layer}.weight" for layer in layers):
        w = dense[name].numpy()
        kinds = {"s": two_of_four(w, w), "q": quantize(w)}
        kinds |= {"sq": quantize(kinds["s"]), "qs first": two_of_four(kinds["q"], kinds["q"])}
        for kind, value in kinds.items():
            made[kind][name] = torch.from_numpy(np.ascontiguousarray(value))
    texts = study.stretches(" ".join(SENTENCES), 4, 3)
    for kind, weights in made.items():
        for i, three in enumerate(texts):
            cosines = [plainly(dense, ids) @ plainly(weights, ids) for ids in encode(three)]
            assert found[kind][i] == pytest.approx(1 - np.mean(cosines), rel=1e-4, abs=1e-6), (kind, i)
    assert found["qs magnitude"] == found["sq"] == found["adaptive magnitude"] and not any(found["changed magnitude"])
    assert found["qs first"] != found["sq"] != found["qs random"]
    assert found["draw A"][0] == found["qs random"][0] and found["draw B"][1] == found["qs random"][1]
    assert all(torch.equal(value, dense[name]) for name, value in model.state_dict().items())


def test_the_order_of_a_layer_is_that_of_the_smaller_output_error_on_other_sentences(small):
    model, layers, encode = small
    found = study.order_unit("0.5", "MXFP4", 4, 3, 5, 0)
    inputs: dict[str, list] = {name: [] for name in layers}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: inputs[name].append(args[0]))
        for name in layers
    ]
    other = [ids for (text,) in study.stretches(" ".join(SENTENCES[::-1]), 5, 1) for ids in encode([text])]
    with torch.no_grad():
        for ids in other:
            model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    better = 0
    for name in layers:
        x = torch.cat([seen[0] for seen in inputs[name]]).double()
        w = model.get_submodule(name).weight.detach()
        errors = {}
        for order in ("sq", "qs"):
            made = study.straight_through.weights(model, [name], named("MXFP4"), 0.5, order)[f"{name}.weight"]
            errors[order] = float(((x @ (w - made).double().T) ** 2).sum())
        better += errors["qs"] < errors["sq"]
    assert found["changed first"] == [better] * 4
    assert 0 < better < len(layers)
    assert found["adaptive first"] not in (found["sq"], found["qs first"])


def test_padding_is_no_part_of_an_embedding(small):
    model, _, encode = small
    rows = encode([SENTENCES[0], SENTENCES[4]])
    assert len(rows[0]) != len(rows[1])
    together = study.embeddings(model, study.batch(rows))
    alone = np.concatenate([study.embeddings(model, study.batch([row])) for row in rows])
    assert np.allclose(together, alone, atol=1e-6) and np.allclose(np.linalg.norm(together, axis=1), 1)


def test_stretches_share_no_sentence_and_a_text_that_is_too_short_is_named():
    text = " ".join(f"Sentence {i} has as many words as it must." for i in range(20)) + " Too short."
    chosen = study.stretches(text, 3, 4)
    assert [len(s) for s in chosen] == [4, 4, 4] and len({s for some in chosen for s in some}) == 12
    with pytest.raises(ValueError, match="20 sentences of 8 to 60 words: 3 × 7 asked"):
        study.stretches(text, 3, 7)
    for count, kind, words in ((0, ValueError, "count is 0"), (2.0, TypeError, "count is 2.0")):
        with pytest.raises(kind, match=words):
            study.stretches(text, count, 1)
    assert study.stretches(text, np.uint8(3), np.uint8(4)) == chosen


def test_the_error_of_outputs_is_that_of_the_outputs():
    rng = np.random.default_rng(0)
    lost, x = rng.normal(size=(3, 4)), rng.normal(size=(7, 4))
    error = order_vision.output_error(torch.from_numpy(lost), x.T @ x)
    assert error == pytest.approx(np.square(x @ lost.T).sum())


def test_the_record_has_every_comparison(small, monkeypatch):
    for name, few in (("FORMATS", ("INT4", "MXFP4")), ("PATTERNS", ("0.5", "2:4"))):
        monkeypatch.setattr(study, name, few)
    monkeypatch.setattr(runner, "check_needs", lambda asked: None)  # the package of the large model is not read
    record = runner.run_study("order-embeddings", {"sets": 4, "size": 3, "calibration": 5})
    assert record["seeds"] == 4 and 0 < record["apart"] < 2 and record["means"]["dense"] == 0
    assert record["grid"]["alone"] > 0.99 and record["grid"]["half"] < 0.01
    assert len(record["cells"]) == 4 * 3 and len(record["adaptive"]) == 4 * 3 * 2
    assert [d["name"] for d in record["joint"]] == [d["name"] for d in record["chance"]] == [
        "0.5 INT4", "0.5 MXFP4", "2:4 INT4", "2:4 MXFP4"
    ]  # fmt: skip
    m = record["means"]
    for c in record["cells"]:
        key = f"{c['pattern']} {c['format']}"
        assert c["delta"]["mean"] == pytest.approx(m[f"{key} qs {c['ties']}"] - m[f"{key} sq"])
        assert c["threshold"] == pytest.approx(m[f"{key} s"] + m[f"{key} q"])
