"""Every promise of a compressed file, broken one at a time: file and tensor are named, and the exit code is 2."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from checkpoint.forged import Piece, forge, forge_gguf
from prunequant.checkpoint import ModelFileError, Settings, compress, verify_file
from prunequant.checkpoint.verify import stored_matrices
from prunequant.cli import app

SHAPES = {"w": (5, 6), "u": (16, 64)}


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    save_file({**tensors, "b": np.ones(5)}, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def problems(path):
    """What the command says is wrong, line by line, each with the name of the file; its exit code is 2."""
    done = CliRunner().invoke(app, ["verify-file", str(path)])
    assert done.exit_code == 2, done.output
    found = [line for line in done.output.splitlines() if not line.startswith(("prunequant: ", "gguf: ", "compressed"))]
    file = path / "model.safetensors" if path.is_dir() else path
    assert all(str(file) in line for line in found), found
    return found


def put(tensor, dtype, value, place=0):
    def change(said, tensors, metadata):
        tensors[tensor].view(dtype)[place] = value

    return change


def set_bits(tensor, bits, place=-1):
    def change(said, tensors, metadata):
        tensors[tensor].data[place] |= bits

    return change


def tell(matrix, **words):
    def change(said, tensors, metadata):
        said["matrices"][matrix].update(words)

    return change


def describe(matrix, **words):
    def change(said, tensors, metadata):
        said["tensors"][matrix].update(words)

    return change


def reshaped(tensor, shape=None, dtype=None):
    def change(said, tensors, metadata):
        tensors[tensor].shape, tensors[tensor].dtype = shape or tensors[tensor].shape, dtype or tensors[tensor].dtype

    return change


def forgotten(tensor):
    def change(said, tensors, metadata):
        del tensors[tensor]

    return change


def added(said, tensors, metadata):
    tensors["stranger"] = Piece("U8", [3], bytearray(3))


def unsigned(said, tensors, metadata):
    del said["sha256"]["b"]


def not_left(said, tensors, metadata):
    del said["left"]["b"]


def other_bytes(said, tensors, metadata):
    said["raw"]["b"] = ["F64", [7]]


OWN = {
    "a scale is zero": ("INT4 g3", put("w.scales", "<f2", 0), "w.scales", "1 scales are not finite and positive"),
    "a scale is negative": ("INT4 channel", put("w.scales", "<f2", -1), "w.scales", "not finite and positive"),
    "a scale is infinite": ("INT4 tensor", put("w.scales", "<f2", np.inf), "w.scales", "not finite and positive"),
    "bits behind the codes": ("INT3 channel", set_bits("w.codes", 1), "w.codes", "the last 6 bits, which hold no code"),
    "a code that is NaN": ("MXFP8", put("w.codes", "u1", 0x7F), "w.codes", "1 codes are none of MXFP8"),
    "a code out of range": ("MXINT8", put("w.codes", "u1", 0x80), "w.codes", "1 codes are none of MXINT8"),
    "a value is infinite": ("FP16", put("w.values", "<f2", -np.inf), "w.values", "1 values are not finite"),
    "a power of two is NaN": ("MXFP4", put("w.scales", "u1", 255), "w.scales", "1 scales are no number of E8M0"),
    "a small float is negative": ("NVFP4", put("w.scales", "u1", 0x81), "w.scales", "negative, or no number of E4M3"),
    "a small float is NaN": ("NVFP4", put("w.scales", "u1", 0x7F), "w.scales", "negative, or no number of E4M3"),
    "the scale of the tensor": ("NVFP4", put("w.extra", "<f4", np.nan), "w.extra", "not finite and positive"),
    "a 32-bit scale": ("NF4", put("w.scales", "<f4", -1), "w.scales", "1 scales are not finite and positive"),
    "a place twice": ("2:3 INT4 channel", put("w.places", "u1", 0), "w.places", "not 2 different ones of 3 in their"),
    "a place beyond": ("1:3 INT4 channel", put("w.places", "u1", 0xFF), "w.places", "not 1 different ones of 3"),
    "one weight more in the mask": ("50% INT4 channel", set_bits("w.mask", 0xFF, 0), "w.mask", "not as many as 50%"),
    "bits behind the mask": ("50% FP16", set_bits("w.mask", 1), "w.mask", "the last 2 bits, which hold no code"),
    "scales of another shape": (
        "INT4 g3", reshaped("w.scales", [2, 5]), "w.scales", "F16 of shape [2, 5]: its matrix takes F16 of [5, 2]",
    ),
    "codes of another kind": ("INT8 channel", reshaped("w.codes", None, "I8"), "w.codes", "its matrix takes U8"),
    "no scales": ("INT4 channel", forgotten("w.scales"), "w.scales", "the file has no such tensor"),
    "no bias": ("INT4 channel", forgotten("b"), "b", "the file has no such tensor"),
    "a tensor more": ("INT4 channel", added, "stranger", "a tensor that was not written"),
    "a tensor without a checksum": ("INT4 channel", unsigned, "b", "it has no checksum"),
    "a tensor left in silence": ("INT4 channel", not_left, "b", "a tensor that was not written"),
    "a shape of raw bytes": ("INT4 channel", other_bytes, "b", "shape [7] of F64 does not take its 40 bytes"),
    "bytes": ("INT4 channel", tell("w", stored_bytes=7), "w", "its tensors have 25 bytes, 7 are said"),
    "zeros": ("50% FP16", tell("w", zeros_after="3"), "w", "15 weights are zero, 3 were"),
    "more zeros than weights": ("FP16", tell("w", zeros_before="31"), "w", "zeros_before is 31 of 30 weights"),
    "scales at their least": ("INT4 channel", tell("w", clamped="2"), "w", "2 groups are said to have the least scale"),
    "an unknown scheme": ("INT4 channel", tell("w", scheme="INT4"), "w", "say what shares a scale"),
    "a scheme that does not fit": ("INT4 channel", tell("w", scheme="2:4 FP16"), "w", "no whole number of groups of 4"),
    "an unknown method": ("INT4 channel", tell("w", method="guess"), "w", "method is 'guess'"),
    "a negative error": ("INT4 channel", tell("w", error="-1.0"), "w", "error is -1.0: it must be a finite sum"),
    "an SNR that is none": ("INT4 channel", tell("w", snr="nan"), "w", "snr is no number"),
    "a grid without zero": ("INT4 channel", tell("w", keeps_zero=False), "w", "keeps_zero is False, which this grid"),
    "a number that is none": ("INT4 channel", tell("w", error="much"), "w", "error is 'much': it must be a number"),
    "another shape": ("INT4 channel", describe("w", shape=[5, 7]), "w", "shape [5, 7] is not that of 5 × 6 weights"),
    "an unknown kind": ("INT4 channel", describe("w", kind="round"), "w", "kind is 'round'"),
    "experts": ("INT4 channel", describe("w", experts=2), "w", "its 5 rows are no 2 experts"),
    "tied to itself": ("INT4 channel", describe("w", aliases=["b"]), "w", "it is tied to b, which the file stores"),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_one_broken_promise_of_our_own_layout_is_the_one_that_is_named(name, model, tmp_path):
    scheme, change, tensor, message = OWN[name]
    out = tmp_path / "out"
    compress(model, out, plan={"w": scheme})
    assert verify_file(out).problems == ()
    forge(out, change)
    (line,) = problems(out)
    assert f"tensor '{tensor}': " in line and message in line, line


def test_bits_behind_codes_of_zero_are_found(model, tmp_path):
    compress(model, tmp_path / "out", plan={"w": "INT3 channel"}, settings=Settings(grid="zero point"))
    forge(tmp_path / "out", set_bits("w.zeros", 1))
    (line,) = problems(tmp_path / "out")
    assert "tensor 'w.zeros': the last 1 bits, which hold no code, are not zero" in line


def test_a_certificate_is_stored_where_the_method_gives_one_and_must_be_below_what_was_measured(model, tmp_path):
    np.savez(tmp_path / "x.npz", u=np.random.default_rng(3).standard_normal((90, 64)))
    options = {"plan": {"w": "INT4 channel", "u": "2:4 INT4 g32"}, "calibrate": tmp_path / "x.npz"}
    rows = compress(model, tmp_path / "out", settings=Settings(method="path"), **options).rows
    u, w = sorted(rows, key=lambda row: row.name)
    assert u.output_snr - 20 < u.certified_snr < u.output_snr and np.isnan(w.certified_snr)
    assert verify_file(tmp_path / "out", model).problems == ()
    forge(tmp_path / "out", tell("u", certified_snr="+99.0"))
    (line,) = problems(tmp_path / "out")
    assert "tensor 'u': certified_snr is 99.0 dB, more than the " in line
    compress(model, tmp_path / "out", settings=Settings(method="path"), **options)
    forge(tmp_path / "out", tell("u", output_snr="nan"))
    (line,) = problems(tmp_path / "out")
    assert "tensor 'u': certified_snr is " in line and "of an output_snr that was not measured" in line
    compress(model, tmp_path / "optq", settings=Settings(method="optq"), **options)
    forge(tmp_path / "optq", tell("u", certified_snr="+1.0"))
    (line,) = problems(tmp_path / "optq")
    assert "tensor 'u': certified_snr is 1.0, which optq does not give" in line


def test_a_damaged_matrix_is_never_handed_out(model, tmp_path):
    compress(model, tmp_path / "out", plan={"w": "INT4 channel"})
    forge(tmp_path / "out", put("w.scales", "<f2", np.nan))
    with pytest.raises(ModelFileError, match=r"out: tensor 'w.scales': 1 scales are not finite"):
        list(stored_matrices(tmp_path / "out"))


# --- compressed-tensors -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    rng = np.random.default_rng(1)
    save_file({"up.weight": rng.standard_normal((6, 20)).astype(np.float32)}, made / "model.safetensors")
    (made / "config.json").write_text(json.dumps({"dtype": "float16"}))
    return made


def unlabelled(said, tensors, metadata):
    del metadata["format"]


def a_third(said, tensors, metadata):
    """Of the first four weights, of which two are kept, another is no zero any more."""
    words = tensors["up.weight_packed"].view("<u4")
    codes = [int(words[0]) >> 4 * i & 15 for i in range(4)]
    words[0] += 1 << 4 * codes.index(8)  # 8 is the code of zero
    zeros = int(said["matrices"]["up.weight"]["zeros_after"]) - 1
    said["matrices"]["up.weight"]["zeros_after"] = str(zeros)


PACKED = {
    "a scale is NaN": ("INT4 channel", put("up.weight_scale", "<f2", np.nan), "up.weight_scale", "not finite and"),
    "another shape": ("INT4 channel", put("up.weight_shape", "<i8", 7), "up.weight_shape", "it says [7, 20], of"),
    "bits behind the codes": ("INT3 channel", set_bits("up.weight_packed", 0x80), "up.weight_packed", "last 4 bits"),
    "words of another shape": ("INT8 channel", reshaped("up.weight_packed", [5, 6]), "up.weight_packed", "of [6, 5"),
    "scales in another dtype": (
        "INT4 channel", reshaped("up.weight_scale", None, "BF16"), "up.weight_scale", "takes F16 of [6, 1]",
    ),
    "three of four": ("2:4 INT4 channel", a_third, "up.weight", "3 of 4 neighbours are not zero, 2 may be"),
    "no format": ("INT4 channel", unlabelled, "__metadata__", "format must be 'pt'"),
    "no integers": ("INT4 channel", tell("up.weight", scheme="FP16"), "up.weight", "pack-quantized holds integers"),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
def test_one_broken_promise_of_compressed_tensors_is_the_one_that_is_named(name, folder, tmp_path):
    scheme, change, tensor, message = PACKED[name]
    compress(folder, tmp_path / "out", scheme=scheme, to="compressed-tensors")
    assert verify_file(tmp_path / "out").problems == ()
    forge(tmp_path / "out" / "model.safetensors", change)
    assert any(f"tensor '{tensor}': " in line and message in line for line in problems(tmp_path / "out"))
    if name != "no integers":  # config.json still speaks of integers
        assert len(problems(tmp_path / "out")) == 1


def test_bits_behind_packed_zero_points_are_found(folder, tmp_path):
    settings = Settings(grid="zero point")
    compress(folder, tmp_path / "out", scheme="INT4 channel", to="compressed-tensors", settings=settings)
    assert verify_file(tmp_path / "out").problems == ()
    forge(tmp_path / "out" / "model.safetensors", set_bits("up.weight_zero_point", 0x80))
    (line,) = problems(tmp_path / "out")
    assert "tensor 'up.weight_zero_point': the last 8 bits of its words" in line


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"num_bits": 4', '"num_bits": 8', "tensor 'up.weight': config.json says something else of it"),
        ('"up"', '"down"', "tensor 'up.weight': config.json says something else of it, or nothing"),
        ('"compressed"', '"frozen"', "quantization_status is 'frozen': it must be 'compressed'"),
        ("{", "", "it cannot be read, or has no quantization_config"),
    ],
)
def test_a_config_that_does_not_say_what_is_packed_is_named(before, after, message, folder, tmp_path):
    compress(folder, tmp_path / "out", scheme="INT4 channel", to="compressed-tensors")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace(before, after, 1))
    assert any(message in line for line in problems(tmp_path / "out"))


# --- GGUF -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gguf_model(tmp_path):
    from gguf import GGUFWriter

    rng = np.random.default_rng(2)
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(1)
    writer.add_tensor("blk.0.ffn_up.weight", rng.standard_normal((6, 64)).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(5, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "m.gguf"


def half(value, place=0):
    def change(data):
        data[place : place + 2].view("<f2")[:] = value

    return change


def byte(value, place=0):
    def change(data):
        data[place] = value

    return change


def third(data):
    """Of the first four weights, of which two are kept, another is no zero any more."""
    codes = data[2:6] & 15
    data[2 + int(np.argmax(codes == 8))] += 1


BLOCKS = {
    "Q4_0, NaN": ("INT4 g32", {}, half(np.nan), "1 block scales are not finite, or no scales"),
    "Q4_0, zero": ("INT4 g32", {}, half(0), "1 block scales are not finite, or no scales"),
    "Q8_0, infinite": ("INT8 g32", {}, half(np.inf), "1 block scales are not finite, or no scales"),
    "Q8_0, negative": ("INT8 g32", {}, half(-1), "1 block scales are not finite, or no scales"),
    "Q4_1, a minimum": ("INT4 g32", {"grid": "zero point"}, half(np.inf, 2), "1 minima of blocks are not finite"),
    "MXFP4": ("MXFP4", {}, byte(255), "1 scales are no number of E8M0"),
    "NVFP4": ("NVFP4", {}, byte(0x7F, 3), "1 scales are negative, or no number of E4M3"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_scale_of_a_block_of_gguf_that_is_none_is_named(name, gguf_model, tmp_path):
    scheme, settings, change, message = BLOCKS[name]
    compress(gguf_model, tmp_path / "out", scheme=scheme, to="gguf", settings=Settings(**settings))
    assert verify_file(tmp_path / "out").problems == ()
    forge_gguf(tmp_path / "out", "blk.0.ffn_up.weight", change)
    (line,) = problems(tmp_path / "out")
    assert f"tensor 'blk.0.ffn_up.weight': {message}" in line


def test_three_of_four_in_gguf_where_two_were_kept_are_named(gguf_model, tmp_path):
    (row,) = compress(gguf_model, tmp_path / "out", scheme="2:4 INT4 g32", to="gguf").rows
    forge_gguf(tmp_path / "out", "blk.0.ffn_up.weight", third)
    said = f'"zeros_after":"{row.zeros_after} '.encode()
    raw = (tmp_path / "out").read_bytes()
    assert said in raw
    (tmp_path / "out").write_bytes(raw.replace(said, f'"zeros_after":"{row.zeros_after - 1} '.encode()))
    (line,) = problems(tmp_path / "out")
    assert "tensor 'blk.0.ffn_up.weight': 3 of 4 neighbours are not zero, 2 may be" in line


def field(name, sizes=(64, 6)):
    """Where type and offset of a tensor stand behind its name."""
    return name.encode() + len(sizes).to_bytes(4, "little") + b"".join(n.to_bytes(8, "little") for n in sizes)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("sizes", "shape (5, 64) is not that of 6 × 64 weights"),
        ("type", "it is IQ4_NL of shape [6, 64]: its matrix takes Q4_0 of [6, 64]"),
        ("offset", "tensor 'output_norm.weight': its 20 bytes at 65536 are not in the file's data"),
        ("overlap", "tensor 'output_norm.weight': it overlaps 'blk.0.ffn_up.weight'"),
        ("gap", "tensor 'blk.0.ffn_up.weight': 72 bytes after it belong to no tensor"),
        ("padding", "tensor 'output_norm.weight': the bytes after it, which pad it, are not zero"),
        ("end", "tensor 'output_norm.weight': the file ends before its padding does"),
        ("version", "tensor 'general.quantization_version': it is 3: it must be 2"),
    ],
)
def test_sizes_types_and_places_of_gguf_tensors_are_looked_at(what, message, gguf_model, tmp_path):
    compress(gguf_model, tmp_path / "out", scheme="INT4 g32", to="gguf")
    raw = bytearray((tmp_path / "out").read_bytes())
    matrix, vector = field("blk.0.ffn_up.weight"), field("output_norm.weight", (5,))
    at, behind = raw.index(matrix) + len(matrix), raw.index(vector) + len(vector) + 4
    offset = int.from_bytes(raw[behind : behind + 8], "little")
    if what == "sizes":
        raw[at - 8] = 5
    elif what == "type":
        raw[at] = 20  # 18 bytes a block as well
    elif what in ("offset", "overlap", "gap"):
        new = {"offset": 1 << 16, "overlap": 32, "gap": offset + 64}[what]
        raw[behind : behind + 8] = new.to_bytes(8, "little")
        if what == "gap":
            raw[-32:] = bytes(64) + raw[-32:]
    elif what == "padding":
        raw[-1] = 1
    elif what == "end":
        del raw[-4:]
    else:
        key = b"general.quantization_version" + (4).to_bytes(4, "little")
        raw[raw.index(key) + len(key)] = 3
    (tmp_path / "out").write_bytes(raw)
    found = problems(tmp_path / "out")
    assert any(message in line for line in found)
    assert len(found) == 1 or what == "sizes"  # fewer bytes are other bytes, and leave some behind


# --- any byte of what a file says of itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["prunequant", "compressed-tensors", "gguf"])
def test_a_changed_byte_of_what_a_file_says_of_itself_never_ends_in_a_foreign_error(
    to, model, folder, gguf_model, tmp_path
):
    source = {"prunequant": model, "compressed-tensors": folder, "gguf": gguf_model}[to]
    options = {"plan": {"w": "50% INT4 g3", "u": "2:4 NVFP4"}} if to == "prunequant" else {"scheme": "INT4 g32"}
    if to == "compressed-tensors":
        options = {"scheme": "INT4 g10"}
    compress(source, tmp_path / "out", **options, to=to)
    file = tmp_path / "out" / "model.safetensors" if to == "compressed-tensors" else tmp_path / "out"
    whole = file.read_bytes()
    stop = 8 + int.from_bytes(whole[:8], "little") if to != "gguf" else whole.index(b"output_norm.weight") + 64
    r = random.Random(7)
    outcomes = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(r.choice((1, 1, 1, 4))):
            damaged[r.randrange(stop)] = r.choice((r.randrange(256), ord(r.choice('0123456789"[]{},:.-eE '))))
        file.write_bytes(damaged)
        try:
            outcomes.append(bool(verify_file(tmp_path / "out").problems))
        except ValueError as error:
            assert str(file) in str(error)
            outcomes.append(True)
    assert sum(outcomes) > 150  # the rest are reasons, digits of an SNR, settings of a model: words
