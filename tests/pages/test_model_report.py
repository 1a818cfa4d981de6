"""The page's own judge of model files: the same numbers, the same refusals as Python, in a JavaScript engine."""

import base64
import json
import math
import re
import shutil
import struct
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from prunequant import checkpoint
from prunequant.checkpoint import schemes

JS = Path(__file__).resolve().parents[2] / "book" / "_static" / "js"
CORE, PAGE = JS / "model-report-worker.js", JS / "model-report.js"
NODE = shutil.which("node")
node = pytest.mark.skipif(NODE is None, reason="node is not installed")

RUN = """
const core = require(process.argv[1]), fs = require('fs');
function opened(path) {
  const size = fs.statSync(path).size, handle = fs.openSync(path, 'r');
  return { name: path.split('/').pop(), size, slice: (a, b) => ({ arrayBuffer: async () => {
    const bytes = new Uint8Array(Math.max(Math.min(b, size) - a, 0));
    fs.readSync(handle, bytes, 0, bytes.length, a);
    return bytes.buffer;
  } }) };
}
(async () => {
  const { options, paths } = JSON.parse(fs.readFileSync(0, 'utf8')), found = [];
  for (const path of paths) {
    try { found.push(await core(options).report(opened(path))); } catch (error) {
      if (!error.problem) throw error;
      found.push({ problem: error.problem, tensor: error.tensor });
    }
  }
  const { CANDIDATES, WORSE } = core(options);
  const demo = Buffer.from(await core(options).demo().arrayBuffer()).toString('base64');
  console.log(JSON.stringify({ found, CANDIDATES, WORSE, demo }));
})();
"""


def told(paths=(), **options):
    """What the core says of files, and the tables that it goes by."""
    given = json.dumps({"options": options, "paths": [str(path) for path in paths]})
    done = subprocess.run([NODE, "-e", RUN, str(CORE)], input=given, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CODES = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "BF16": ml_dtypes.bfloat16}
CODES |= {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_}


def written(path, tensors, change=lambda entries: entries, data=None):
    """A safetensors file of {name: (dtype, values)}; `change` may spoil its header."""
    entries, parts, at = {}, [], 0
    for name, (dtype, values) in tensors.items():
        raw = np.asarray(values).astype(CODES[dtype]).tobytes()
        entries[name] = {"dtype": dtype, "shape": list(np.shape(values)), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    changed = change(entries)
    head = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + (b"".join(parts) if data is None else data))
    return path


def model(rng):
    """Tensors of every kind and dtype that the page reads."""
    bell, tails = rng.standard_normal, lambda shape: rng.standard_t(2, shape)
    pruned = bell((32, 64)) * (rng.random((32, 64)) < 0.3)
    return {
        "model.embed_tokens.weight": ("BF16", 0.02 * bell((70, 48))),
        "h.0.attn.c_attn.weight": ("F32", 0.02 * bell((24, 72))),
        "h.0.mlp.c_proj.weight": ("F16", 0.02 * bell((96, 24))),
        "layers.0.q_proj.weight": ("BF16", 0.03 * tails((40, 136))),
        "layers.0.pruned.weight": ("F16", pruned),
        "layers.0.wide.weight": ("F64", 1e-2 * bell((16, 300))),
        "layers.0.odd.weight": ("F32", bell((7, 13))),
        "layers.0.large.weight": ("F32", 3e4 * tails((16, 32))),
        "layers.0.small.weight": ("F32", 3e-4 * tails((16, 32))),
        "layers.0.tiny.weight": ("F64", 1e-6 * bell((16, 32))),
        "layers.0.experts.down": ("BF16", bell((3, 8, 40))),
        "layers.0.fp8.weight": ("F8_E4M3", bell((24, 32))),
        "layers.1.fp8.weight": ("F8_E5M2", bell((24, 32))),
        "stem.conv.weight": ("F16", bell((12, 8, 3, 3))),
        "stem.depthwise.weight": ("F32", bell((12, 1, 5, 5))),
        "up.conv_transpose.weight": ("F32", bell((6, 10, 2, 2))),
        "all.zero.weight": ("F16", np.zeros((8, 8))),
        "nan.weight": ("F32", np.where(np.arange(64).reshape(8, 8) == 37, np.nan, 1.0)),
        "infinite.weight": ("BF16", np.where(np.arange(64).reshape(8, 8) >= 50, -np.inf, 1.0)),
        "norm.weight": ("F32", np.ones(24)),
        "h.0.attn.bias": ("BOOL", np.ones((1, 1, 4, 4))),
        "position_ids": ("I64", np.arange(12).reshape(1, 12)),
        "scalar": ("F32", np.float32(3)),
        "empty.weight": ("F32", np.zeros((0, 4))),
    }


def differences(ours, theirs, where=""):
    """Where two reports differ; dB by more than .01, other numbers by more than a millionth."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in (ours.keys() | theirs.keys()) - {"provenance", "curve"}:
            if key not in ours or key not in theirs:
                yield f"{where}/{key} is missing"
            else:
                yield from differences(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield f"{where}: {len(ours)} and {len(theirs)} entries"
        for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
            yield from differences(a, b, f"{where}/{a.get('name', i) if isinstance(a, dict) else i}")
    elif isinstance(ours, float) and isinstance(theirs, int | float):
        decibel = where.endswith(("/snr", "/margin", "/cost"))
        if not math.isclose(ours, theirs, rel_tol=0 if decibel else 1e-6, abs_tol=0.01 if decibel else 0):
            yield f"{where}: {ours} and {theirs}"
    elif ours != theirs:
        yield f"{where}: {ours!r} and {theirs!r}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return written(tmp_path_factory.mktemp("model") / "made.safetensors", model(np.random.default_rng(5)))


def losses(report):
    return {(row["name"], s["name"]): s["snr"] for row in report["matrices"] for s in row["schemes"]}


@node
def test_the_candidates_of_the_page_are_those_of_the_schemes():
    tables = told()
    assert {int(b) for b in tables["CANDIDATES"]} == {2, 3, 4, 8} and tables["WORSE"] == schemes.WORSE
    for bits, candidates in tables["CANDIDATES"].items():
        assert candidates == pytest.approx(schemes.CANDIDATES[int(bits)], rel=1e-15)


@node
def test_vectors_and_plain_loops_and_pieces_of_a_matrix_give_the_same(made):
    vectors, plain, pieces = (
        losses(told([made], **options)["found"][0])
        for options in ({"vectors": True}, {"plain": True}, {"vectors": True, "piece": 500})
    )
    assert len(vectors) > 300 and vectors.keys() == plain.keys() == pieces.keys()
    for key, snr in vectors.items():
        for other in (plain[key], pieces[key]):
            assert snr == other if snr is None else snr == pytest.approx(other, abs=1e-4), key


@node
def test_the_page_reports_what_python_reports(made, tmp_path):
    demo = tmp_path / "demo.safetensors"
    demo.write_bytes(base64.b64decode(told()["demo"]))
    for path, theirs in zip((made, demo), told([made, demo], vectors=True)["found"], strict=True):
        ours = checkpoint.report(path).to_json()
        assert not list(differences(ours, theirs))
    assert {b["winner"] for row in theirs["matrices"] for b in row["budgets"]} == {"quantization", "pruning", "both"}


@node
def test_codes_with_scales_are_not_judged_without_them(tmp_path):
    tensors = {
        "a.weight": ("F8_E4M3", np.ones((4, 8))),
        "a.weight_scale_inv": ("F32", np.ones((1, 1))),
        "b.weight": ("F8_E4M3", np.ones((4, 8))),
    }
    (found,) = told([written(tmp_path / "x.safetensors", tensors)])["found"]
    assert [row["name"] for row in found["matrices"]] == ["b.weight"]
    reasons = {row["name"]: row["reason"] for row in found["untreated"]}
    assert "prunequant report joins them" in reasons["a.weight"]
    assert reasons["a.weight_scale_inv"] == "belongs to 'a.weight', which is not joined"


def _entry(**changes):
    def change(entries):
        entries["a"].update(changes)
        return entries

    return change


SPOILED = {
    "no header": lambda path: path.write_bytes(b"abc"),
    "nothing": lambda path: path.write_bytes(b""),
    "a huge header": lambda path: path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}"),
    "a cut header": lambda path: path.write_bytes(struct.pack("<Q", 1000) + b"{}"),
    "no JSON": lambda path: written(path, GOOD, lambda entries: b'{"a": ]'),
    "no UTF-8": lambda path: written(path, GOOD, lambda entries: b'{"\xff": 1}'),
    "a list": lambda path: written(path, GOOD, lambda entries: b"[1, 2]"),
    "a key twice": lambda path: written(path, GOOD, lambda e: b'{"a": 1, "b": {"a": 2}, "a": 3}'),
    "metadata": lambda path: written(path, GOOD, lambda entries: {**entries, "__metadata__": {"a": 1}}),
    "no entry": lambda path: written(path, GOOD, lambda entries: {**entries, "a": 3}),
    "no offsets": lambda path: written(path, GOOD, lambda e: {**e, "a": {"dtype": "F32", "shape": [2, 4]}}),
    "a shape": lambda path: written(path, GOOD, _entry(shape=[2, -4])),
    "offsets": lambda path: written(path, GOOD, _entry(data_offsets=[0, 1, 2])),
    "offsets beyond": lambda path: written(path, GOOD, _entry(data_offsets=[0, 1 << 40])),
    "a size": lambda path: written(path, GOOD, _entry(shape=[2, 5])),
    "an overlap": lambda path: written(path, GOOD, lambda e: {**e, "b": {**e["b"], "data_offsets": [16, 48]}}),
    "a gap": lambda path: written(path, GOOD, lambda e: {**e, "b": {**e["b"], "data_offsets": [40, 72]}}, bytes(72)),
    "a rest": lambda path: written(path, GOOD, data=bytes(70)),
    "quotes": lambda path: written(path, {"it's\n\\": GOOD["a"], "b": GOOD["b"]}, data=bytes(60)),
}  # fmt: skip
GOOD = {"a": ("F32", np.ones((2, 4))), "b": ("F32", np.ones((2, 4)))}


@node
def test_what_is_wrong_with_a_file_is_said_in_the_words_of_python(tmp_path):
    paths = []
    for number, spoil in enumerate(SPOILED.values()):
        paths.append(tmp_path / f"{number}.safetensors")
        spoil(paths[-1])
    for path, name, said in zip(paths, SPOILED, told(paths)["found"], strict=True):
        with pytest.raises(checkpoint.ModelFileError) as refused, checkpoint.open_model(path):
            pass
        problem, tensor = refused.value.problem, refused.value.tensor
        if "is no JSON" in problem:  # each engine has words of its own for that
            problem, said["problem"] = (text.split(" (")[0] for text in (problem, said["problem"]))
        assert (said["problem"], said["tensor"]) == (problem, tensor), name


@node
def test_an_unknown_dtype_is_untreated_and_nothing_is_passed_over(tmp_path):
    path = written(tmp_path / "x.safetensors", GOOD, _entry(dtype="F3_E1M1"))
    (found,) = told([path])["found"]
    assert [row["name"] for row in found["matrices"]] == ["b"]
    assert found["untreated"] == [
        {"name": "a", "shape": [2, 4], "dtype": "F3_E1M1", "nbytes": 32, "reason": "values of F3_E1M1 are not read"}
    ]


@pytest.mark.parametrize("path", (CORE, PAGE), ids=lambda path: path.name)
def test_the_scripts_load_nothing_and_run_no_text_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"</script|https?:|\bimport\b|\bfetch\b|XMLHttpRequest|\beval\b|importScripts|sendBeacon", text
    )
