"""Gram matrices of a text: those of a plain loop over hooks, under the names of the file, and what cannot be read."""

import json
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from prunequant.checkpoint import Settings, compress, open_model
from prunequant.cli import app

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402

from prunequant.models.text import text_grams  # noqa: E402

RUN = CliRunner()
LETTERS = ["<unk>", "ab", "Ġ", *map(chr, range(33, 126))]
WORDS = [f"w{i}" for i in range(95)]
TEXT = " ".join(np.random.default_rng(0).choice(WORDS, 200))
WINDOW = 16


def tokenizer(words=WORDS):
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*words, "<unk>"])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(llama, tmp_path_factory):
    place = tmp_path_factory.mktemp("llama")
    llama.save_pretrained(place)
    tokenizer().save_pretrained(place)
    return place


def by_hooks(model, rows, skip=0):
    """Σ x xᵀ of every linear layer, window by window and token by token, by the name of its weight."""
    grams = {}

    def watch(name):
        def see(layer, inputs):
            for x in inputs[0][0, skip:].double().numpy():
                grams[name] = grams.get(name, 0) + np.outer(x, x)

        return see

    handles = [
        layer.register_forward_pre_hook(watch(f"{name}.weight"))
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    with torch.no_grad():
        for row in rows:
            model(row[None])
    for handle in handles:
        handle.remove()
    return grams


def rows_of(text, chosen):
    ids = torch.tensor([WORDS.index(word) for word in text.split()])
    return [ids[WINDOW * i : WINDOW * (i + 1)] for i in chosen]


def compared(found, wanted):
    assert set(found) == {f"{name}.gram" for name in wanted}
    for name, gram in wanted.items():
        np.testing.assert_allclose(found[f"{name}.gram"], gram, rtol=1e-5, atol=1e-5 * gram.max(), err_msg=name)


def test_of_a_folder_they_are_those_of_a_loop_over_hooks_on_windows_spread_over_the_text(llama, folder):
    counted = []
    with open_model(folder) as model:
        found = text_grams(model, TEXT, windows=4, window=WINDOW, progress=lambda *done: counted.append(done))
        every = text_grams(model, TEXT, windows=50, window=WINDOW)
    compared(found, by_hooks(llama, rows_of(TEXT, [0, 3, 6, 9])))
    compared(every, by_hooks(llama, rows_of(TEXT, range(12))))
    assert counted == [(i, 4) for i in range(5)]


@pytest.mark.parametrize("skip", [0, np.uint8(1), 5, WINDOW - 1])
def test_so_many_tokens_at_the_start_of_every_window_are_read_and_not_counted(skip, llama, folder):
    with open_model(folder) as model:
        found = text_grams(model, TEXT, windows=3, window=WINDOW, skip=skip)
    compared(found, by_hooks(llama, rows_of(TEXT, [0, 4, 8]), int(skip)))


def test_an_expert_that_a_router_sends_some_of_the_tokens_counts_all_of_them(folder, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    whole = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda mlp, x: whole(mlp, x[:, ::2]).repeat_interleave(2, 1))
    with open_model(folder) as model:
        found, counted = (text_grams(model, TEXT, windows=3, window=WINDOW, skip=skip) for skip in (1, 0))
    for name in found:
        if ".mlp." in name:
            np.testing.assert_array_equal(found[name], counted[name])
        else:
            assert np.trace(found[name]) < np.trace(counted[name])


@pytest.fixture(scope="module")
def gguf_file(folder, tmp_path_factory):
    """The same model in Q8_0, with a tokenizer of single letters."""
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    place = tmp_path_factory.mktemp("gguf")
    compress(folder, place / "bare.gguf", scheme="INT8 g32", to="gguf")
    bare, writer = gguf.GGUFReader(place / "bare.gguf"), gguf.GGUFWriter(place / "m.gguf", "llama")
    for name, field in bare.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in bare.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(LETTERS)
    writer.add_token_types([1] * len(LETTERS))
    writer.add_token_merges(["a b"])
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place / "m.gguf"


def test_of_a_gguf_file_they_have_its_names_though_it_permutes_rows_of_queries_and_keys(gguf_file):
    ids = torch.tensor(np.random.default_rng(1).integers(3, 95, 3 * WINDOW))
    with open_model(gguf_file) as model:
        found = text_grams(model, "".join(LETTERS[i] for i in ids), window=WINDOW)
    same = transformers.AutoModelForCausalLM.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    parts = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"}
    parts |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}

    def stored(name):  # model.layers.0.mlp.down_proj.weight
        if name == "lm_head.weight":
            return "output.weight"
        _, _, layer, _, kind, _ = name.split(".")
        return f"blk.{layer}.{parts[kind.removesuffix('_proj')]}.weight"

    compared(found, {stored(n): g for n, g in by_hooks(same, ids.view(3, WINDOW)).items()})


def test_a_folder_saved_without_the_head_has_its_own_names(tmp_path):
    config = transformers.GPT2Config(vocab_size=96, n_positions=32, n_embd=32, n_layer=1, n_head=2)
    headless = transformers.GPT2Model(config).eval()
    headless.save_pretrained(tmp_path)
    for_causal = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["GPT2LMHeadModel"]}
    (tmp_path / "config.json").write_text(json.dumps(for_causal))
    tokenizer().save_pretrained(tmp_path)
    with open_model(tmp_path) as model:
        found = text_grams(model, TEXT, windows=2, window=WINDOW)
        columns = {m.name: m.columns for m in model.matrices}
    linear = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert set(found) == {f"h.0.{name}.weight.gram" for name in linear}
    for name, gram in found.items():
        assert gram.shape == (columns[name.removesuffix(".gram")],) * 2 and np.trace(gram) > 0


def run(command, text, *more):
    return RUN.invoke(app, [*command, "--calibrate", str(text), "--window", str(WINDOW), "--windows", "4", *more])


def test_the_commands_do_with_a_text_what_they_do_with_its_gram_matrices(folder, tmp_path):
    text, grams = tmp_path / "text.txt", tmp_path / "kept.npz"
    text.write_text(TEXT, encoding="utf-8")
    line = ["compress", str(folder), str(tmp_path / "a"), "--scheme", "INT3 g32", "--method", "optq"]
    done = run(line, text, "--save-calibration", str(grams))
    assert done.exit_code == 0, done.output
    with open_model(folder) as model, np.load(grams) as archive:
        wanted = text_grams(model, TEXT, windows=4, window=WINDOW)
        assert set(archive) == set(wanted)
        for name, gram in wanted.items():
            np.testing.assert_array_equal(archive[name], gram)
    compress(folder, tmp_path / "b", scheme="INT3 g32", settings=Settings(method="optq"), calibrate=grams)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    line = ["allocate", str(folder), "--budget", "4.5", "--schemes", "INT4 *,INT3 *"]
    plans = [tmp_path / "by_text.json", tmp_path / "by_grams.json"]
    by_text = run(line, text, "--json", str(plans[0]), "--save-calibration", str(grams))
    with open_model(folder) as model, np.load(grams) as archive:  # errors of outputs are planned by: one is left out
        for name, gram in text_grams(model, TEXT, windows=4, window=WINDOW, skip=1).items():
            np.testing.assert_array_equal(archive[name], gram)
    by_grams = RUN.invoke(app, [*line, "--calibrate", str(grams), "--json", str(plans[1])])
    for done in (by_text, by_grams):
        assert done.exit_code == 0 and "by the errors of their outputs" in done.output, done.output
    assert plans[0].read_bytes() == plans[1].read_bytes()


def without(name):
    def missing(folder, text, monkeypatch):
        monkeypatch.setitem(sys.modules, name, None)

    return missing


def lacking(*names):
    def remove(folder, text, monkeypatch):
        for name in names:
            (folder / name).unlink()

    return remove


def one_tensor_less(folder, text, monkeypatch):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def other_tokenizer(folder, text, monkeypatch):
    tokenizer([f"x{i}" for i in range(50)] + WORDS).save_pretrained(folder)


def never_read(folder, text, monkeypatch):
    monkeypatch.setattr("prunequant.models.text_grams", lambda *_, **__: pytest.fail("the text is read"))


WRONG = {
    "no transformers": (without("transformers"), [], "this needs transformers: pip install 'prunequant[export]'"),
    "no tokenizer": (lacking("tokenizer.json", "tokenizer_config.json"), [], "has no tokenizer that transformers can"),
    "no configuration": (lacking("config.json"), [], "no folder with config.json"),
    "no architecture": (lambda f, t, m: (f / "config.json").write_text("{}"), [], "is no model that transformers can"),
    "a tensor less": (one_tensor_less, [], "lacks 1 parameters of a LlamaForCausalLM, such as model.layers.1.mlp.up"),
    "too short": (lambda f, t, m: t.write_text("w1 w2"), [], "too short: it has 2 tokens, and one window takes 16"),
    "empty": (lambda f, t, m: t.write_text(""), [], "too short: it has 0 tokens"),
    "Latin-1": (lambda f, t, m: t.write_bytes(b"caf\xe9 w1"), [], "nor UTF-8 text (byte 3 is"),
    "long windows": (lambda f, t, m: None, ["--window", "65"], "window is 65: the model takes 64 tokens at most"),
    "no windows": (lambda f, t, m: None, ["--windows", "0"], "windows is 0"),
    "all skipped": (lambda f, t, m: None, ["--skip-tokens", "16"], "skip is 16"),
    "no file": (lambda f, t, m: t.unlink(), [], "text.txt: there is no such file"),
    "a folder": (lambda f, t, m: (t.unlink(), t.mkdir()), [], "text.txt: that is a folder, give a file"),
    "kept in the plan": (lambda f, t, m: None, ["--save-calibration", "PLAN"], "the file to write: give another name"),
    "kept in the text": (lambda f, t, m: None, ["--save-calibration", "TEXT"], "the text: give another name"),
    "a wrong scheme": (never_read, ["--schemes", "INT99 *"], "INT99"),
    "another tokenizer": (other_tokenizer, [], "and the model only 96 tokens"),
    "a cluster": (lambda f, t, m: None, ["--cluster", "nowhere"], "give --save-calibration a place"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_read_ends_in_one_line_and_exit_code_2(kind, folder, tmp_path, monkeypatch):
    spoil, more, message = WRONG[kind]
    copy, text, plan = tmp_path / "model", tmp_path / "text.txt", tmp_path / "plan.json"
    shutil.copytree(folder, copy)
    text.write_text(TEXT, encoding="utf-8")
    spoil(copy, text, monkeypatch)
    more = [{"PLAN": str(plan), "TEXT": str(text)}.get(word, word) for word in more]
    done = run(["allocate", str(copy), "--budget", "4.5", "--json", str(plan)], text, *more)
    assert done.exit_code == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout and not plan.exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--scheme", "INT99 *"], "INT99"),
        (["--scheme", "INT4 g32", "--method", "magic"], "magic"),
        (["--scheme", "INT4 g32", "--threads", "0"], "threads is 0"),
        (["--budget", "0.01"], "0.01"),
    ],
)
def test_what_is_wrong_in_a_line_is_said_before_the_model_reads_a_text(options, message, folder, tmp_path, monkeypatch):
    never_read(folder, None, monkeypatch)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    done = run(["compress", str(folder), str(tmp_path / "out")], tmp_path / "text.txt", *options)
    assert done.exit_code == 2 and message in done.stderr and not (tmp_path / "out").exists(), done.stderr


@pytest.mark.parametrize("option", ["--windows", "--window", "--skip-tokens", "--save-calibration"])
def test_an_option_for_a_text_is_refused_without_one(option, folder, tmp_path):
    np.savez(tmp_path / "inputs.npz", **{"model.layers.0.mlp.up_proj.weight.gram": np.eye(64)})
    line = ["compress", str(folder), str(tmp_path / "out"), "--scheme", "INT4 g32", option, "7"]
    for more, message in (([], "no text is given"), (["--calibrate", str(tmp_path / "inputs.npz")], "is an .npz file")):
        done = RUN.invoke(app, [*line, *more])
        assert done.exit_code == 2 and f"{option} is for a text" in done.stderr and message in done.stderr
    assert not (tmp_path / "out").exists()
