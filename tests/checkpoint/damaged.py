"""Damaged model files of every kind, drawn by a seed, and what must hold for each: a model or an error that says why.

A case is a function of a random generator and an empty folder; it writes files and returns the path to open. What must
come of it is in its name: `refused_…` must be refused, `sound_…` must be read, all others may end in either way.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import random
import resource
import struct
import warnings
import zipfile
from collections import Counter
from functools import cache

import numpy as np

from checkpoint import made
from prunequant.checkpoint import ModelFileError, open_model
from prunequant.checkpoint.values import ENCODINGS

NAMES = (
    "w",
    "layer.0.weight",
    "a/b",
    "..",
    "../../etc/passwd",
    ".",
    "",
    " ",
    "é",
    "名前",
    "\U0001f600",
    "a\0b",
    "a\nb",
    "__metadata",
    "x" * 300,
    "model.embed_tokens.weight",
    "experts.down_proj",
    "conv.weight",
    "h.0.attn.c_attn.weight",
    "blk.0.ffn_up_exps.weight",
    "h.0.attn.bias",
    "norm.weight",
    "C:\\x",
    "%s{0}",
    "w.weight_scale",
    "w_scale",
)
EXTREME = (0, 1, 7, 8, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
MEMORY = 96 * 1024 * 1024  # bytes that reading files of some kilobytes may take at most beside the program


# --- values and sound files ------------------------------------------------------------------------------------------


def raw_values(r, dtype, count):
    """Bytes of values: usual ones, or all zero, NaN, infinite, subnormal, or any bits."""
    size = ENCODINGS[dtype].nbytes(count)
    kind = r.random()
    if kind < 0.1:
        return bytes(size)
    if kind < 0.2:
        return b"\xff" * size
    if dtype == "F32" and kind < 0.7:
        special = (0.0, math.nan, math.inf, -math.inf, 1e-40, 1e38, -0.0)
        x = [r.choice(special) if r.random() < 0.02 else r.gauss(0, 1) for _ in range(count)]
        return struct.pack(f"<{count}f", *x)
    if dtype == "BOOL":
        return bytes(r.getrandbits(1) for _ in range(size))
    return r.randbytes(size)


def shape_of(r):
    axes = r.choice((0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6))
    shape = [r.choice((1, 2, 3, 4, 8, 16)) for _ in range(axes)]
    if axes and r.random() < 0.1:
        shape[r.randrange(axes)] = 0
    while math.prod(shape) > 4096:
        shape.pop()
    return shape


def tensors(r):
    found = []
    for number in range(r.randrange(1, 6)):
        name = r.choice(NAMES) + (f".{number}" if r.random() < 0.7 else f"{number}")
        dtype, shape = r.choice(tuple(ENCODINGS)), shape_of(r)
        if dtype == "F4" and math.prod(shape) % 2:
            dtype = "F32"
        found.append((name, dtype, shape, raw_values(r, dtype, math.prod(shape))))
    if r.random() < 0.3:  # tied
        found.append(("again", *found[0][1:]))
    return list({row[0]: row for row in found}.values())


def quantized(r):
    """Codes and scales in one of the layouts that are joined, sometimes of shapes or dtypes that do not fit."""

    def u8(name, *shape, dtype="U8"):
        return (name, dtype, shape, raw_values(r, dtype, math.prod(shape)))

    rows, columns = r.choice((1, 8, 16, 130)), r.choice((8, 32, 64, 130))
    bits = r.choice((2, 3, 4, 8))
    words = -(-columns * bits // 32)
    layout = r.randrange(6)
    if layout == 0:
        shape = r.choice(((), (1,), (rows,), (rows, 1), (-(-rows // 128), -(-columns // 128)), (rows, 2)))
        scale = r.choice(("F32", "F16", "BF16", "F8_E8M0"))
        found = [
            u8("w.weight", rows, columns, dtype=r.choice(("F8_E4M3", "F8_E5M2", "I8", "U8"))),
            u8(r.choice(("w.weight_scale", "w.weight_scale_inv")), *shape, dtype=scale),
        ]
    elif layout == 1:
        found = [
            u8("w.weight_packed", rows, words, dtype="I32"),
            u8("w.weight_scale", rows, 1, dtype="F16"),
            ("w.weight_shape", "I64", (2,), struct.pack("<2q", rows, columns)),
        ]
        if r.random() < 0.5:
            found.append(u8("w.weight_zero_point", -(-rows * bits // 32), 1, dtype="I32"))
    elif layout == 2:
        groups = r.choice((1, 2))
        found = [
            u8("w.qweight", columns * bits // 32 or 1, rows, dtype="I32"),
            u8("w.scales", groups, rows, dtype="F16"),
            u8("w.qzeros", groups, -(-rows * bits // 32), dtype="I32"),
        ]
        if r.random() < 0.5:
            group = [i * groups // columns for i in range(columns)]
            found.append(("w.g_idx", "I32", (columns,), struct.pack(f"<{columns}i", *group)))
    elif layout == 3:
        found = [
            u8("w.qweight", columns, 2, dtype="I32"),
            u8("w.scales", 1, 16, dtype="F16"),
            u8("w.qzeros", 1, 2, dtype="I32"),
        ]
    elif layout == 4:
        found = [u8("experts.w_blocks", 2, rows, 2, 16), u8("experts.w_scales", 2, rows, 2)]
    else:
        found = [
            u8("w.weight_packed", rows, columns // 2),
            u8("w.weight_scale", rows, max(columns // 16, 1), dtype="F8_E4M3"),
            u8("w.weight_global_scale", 1, dtype="F32"),
        ]
    if r.random() < 0.5:  # one of them is of another dtype or shape
        at = r.randrange(len(found))
        name = found[at][0]
        dtype, shape = r.choice(tuple(ENCODINGS)), shape_of(r)
        if dtype != "F4":
            found[at] = (name, dtype, shape, raw_values(r, dtype, math.prod(shape)))
    return found


@cache
def torch_files():
    import torch

    found = []
    base = torch.arange(48.0).reshape(6, 8)
    states = [
        {"w": base, "b": base[0], "half": base.half(), "t": base.T, "part": base[1:3, 2:5]},
        {"state_dict": {"a.weight": base, "b.weight": base}, "optimizer": {"state": {0: {"m": base + 1}}}, "epoch": 3},
        {"w": torch.nn.Parameter(base), "n": torch.tensor(3), "i": torch.arange(5), "e": torch.zeros(0, 4)},
        [base, (base + 1, {"x": base.bfloat16()})],
    ]
    for state in states:
        for zipped in (True, False):
            out = io.BytesIO()
            torch.save(state, out, _use_new_zipfile_serialization=zipped)
            found.append(out.getvalue())
    return found


@cache
def numpy_files():
    found = []
    x = np.arange(60.0, dtype=np.float32).reshape(6, 10)
    for save in (np.savez, np.savez_compressed):
        for arrays in (
            {"w": x, "b": x[0]},
            {"t": x.T, "h": x.astype(np.float16), "i": np.arange(4)},
            {"é/..": x * np.float64(1e300)},
        ):
            out = io.BytesIO()
            save(out, **arrays)
            found.append(out.getvalue())
    out = io.BytesIO()
    np.save(out, x)
    return [*found, out.getvalue()]


@cache
def onnx_files():
    from onnx import helper, numpy_helper

    x = np.arange(24.0, dtype=np.float32).reshape(4, 6)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Conv", ["y", "c"], ["z"])]
    stored = [
        numpy_helper.from_array(x, "w"),
        numpy_helper.from_array(x.reshape(2, 3, 2, 2), "c"),
        helper.make_tensor("f", 1, (2, 2), [1.0, 2.0, 3.0, 4.0]),
        helper.make_tensor("h", 10, (2,), [1.0, 2.0]),
    ]
    return [helper.make_model(helper.make_graph(nodes, "g", [], [], initializer=stored)).SerializeToString()]


def gguf_file(r):
    def text(x):
        return struct.pack("<Q", len(x)) + x

    settings = [
        text(b"general.alignment") + struct.pack("<II", 4, 32),
        text(b"a") + struct.pack("<I", 8) + text(b"llama"),
        text(b"t") + struct.pack("<IIQ", 9, 8, 2) + text(b"x") + text(b"yz"),
        text(b"n") + struct.pack("<IIQ3i", 9, 5, 3, 1, 2, 3),
    ]
    rows, data = b"", b""
    count = r.randrange(1, 4)
    for number in range(count):
        kind, block, size = r.choice(
            ((0, 1, 4), (1, 1, 2), (2, 32, 18), (3, 32, 20), (8, 32, 34), (14, 256, 210), (30, 1, 2))
        )
        shape = (block * r.choice((1, 2)), r.choice((1, 3)))
        name = (r.choice(NAMES) + str(number)).encode()
        rows += text(name) + struct.pack("<I2QIQ", 2, *shape, kind, len(data))
        data += r.randbytes(math.prod(shape) // block * size)
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(settings)) + b"".join(settings) + rows
    return head + bytes(-len(head) % 32) + data


# --- damages ---------------------------------------------------------------------------------------------------------


def hurt(r, raw):
    """Some bytes changed, cut out, doubled or cut off; the beginning is where most is decided."""
    raw = bytearray(raw)
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        if not raw:
            break
        place = r.randrange(len(raw)) if r.random() < 0.5 else r.randrange(min(len(raw), 400))
        kind = r.randrange(7)
        if kind == 0:
            del raw[place:]
        elif kind == 1:
            raw[place] ^= 1 << r.randrange(8)
        elif kind == 2:
            raw[place] = r.randrange(256)
        elif kind == 3:
            size = r.choice((1, 2, 4, 8))
            raw[place : place + size] = (r.choice(EXTREME) % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 4:
            del raw[place : place + r.choice((1, 4, 8, 50))]
        elif kind == 5:
            raw[place:place] = raw[place : place + r.choice((1, 8, 50))]
        else:
            raw += r.randbytes(r.choice((1, 16)))
    return bytes(raw)


def file(folder, raw, name="model.safetensors"):
    path = folder / name
    path.write_bytes(raw)
    return path


# --- cases -----------------------------------------------------------------------------------------------------------


def sound_safetensors(r, folder):
    return file(folder, made.safetensors(tensors(r)))


def sound_layouts(r, folder):
    if r.random() < 0.5:
        settings = {
            "bits": r.choice((4, 0, "4", None, 99)),
            "checkpoint_format": r.choice(("gptq", "gptq_v2", 1)),
            "group_size": r.choice((-1, 16, [])),
            "weight_block_size": r.choice(([128, 128], [0, 1], "x")),
        }
        (folder / "config.json").write_text(json.dumps({"quantization_config": settings}))
    return file(folder, made.safetensors(quantized(r)))


def sound_gguf(r, folder):
    return file(folder, gguf_file(r), "model.gguf")


def refused_truncated(r, folder):
    raw = made.safetensors([*tensors(r), made.f32("last", np.ones((2, 2)))])
    return file(folder, raw[: r.randrange(len(raw))])


def any_safetensors_bits(r, folder):
    return file(folder, hurt(r, made.safetensors(tensors(r) if r.random() < 0.6 else quantized(r))))


def any_safetensors_header(r, folder):
    """A header of JSON in which one thing is of another value or kind."""
    entries = tensors(r)
    table, data = json.loads(header_text(entries)), b"".join(raw for *_, raw in entries)
    name = r.choice(list(table))
    key = r.choice(("dtype", "shape", "data_offsets"))
    wrong = r.choice(
        (None, True, -1, 1.5, "", [], {}, [0], [0, 0], [-1, 4], [4, 0], [1 << 70, 1 << 71], "F99", "F32", [[]])
    )
    what = r.randrange(5)
    if what == 0:
        table[name][key] = wrong
    elif what == 1:
        del table[name][key]
    elif what == 2:
        table[name] = wrong
    elif what == 3:
        table[r.choice(NAMES)] = table[name]
    else:
        place = r.randrange(2)
        table[name]["data_offsets"][place] += r.choice((-8, -1, 1, 8, 1 << 40))
    return file(folder, made.safetensors([], header=json.dumps(table).encode(), tail=data))


def header_text(entries):
    raw = made.safetensors(entries)
    return raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]]


def refused_header_length(r, folder):
    raw = made.safetensors(tensors(r))
    length = struct.unpack("<Q", raw[:8])[0]
    wrong = r.choice([n for n in (*EXTREME, length + 1, length - 1, len(raw)) if n != length])
    return file(folder, struct.pack("<Q", wrong) + raw[8:])


def refused_duplicate_keys(r, folder):
    text = header_text([made.f32("a", np.ones((2, 2)))])
    entry = text[1:-1]
    return file(folder, made.safetensors([("x", "U8", (16,), bytes(16))], header=b"{" + entry + b"," + entry + b"}"))


def refused_nested(r, folder):
    depth = r.choice((2000, 50_000))
    return file(folder, made.safetensors([], header=b'{"a":' + b"[" * depth + b"]" * r.choice((0, depth)) + b"}"))


def any_unknown_dtype(r, folder):
    name = r.choice(("F9", "INT4", "", "f32", "F6_E2M3", "C64", "x" * 500))
    return file(folder, made.safetensors([("w", name, (2, 4), r.randbytes(r.choice((0, 6, 8, 64))))]))


def shards(r, folder):
    names = ("one.safetensors", "two.safetensors", "three.safetensors")
    places = {}
    for shard in names:
        rows = [(f"{name}.{shard[0]}", *rest) for name, *rest in tensors(r)]
        file(folder, made.safetensors(rows), shard)
        places |= dict.fromkeys((row[0] for row in rows), shard)
    return places


def any_folder(r, folder):
    """A folder with an index in which shards are missing, stray, named twice, damaged, or elsewhere."""
    places = shards(r, folder)
    index = {"weight_map": places, "metadata": {"total_size": 1}}
    name = r.choice(list(places))
    what = r.randrange(8)
    if what == 0:
        os.unlink(folder / "two.safetensors")
    elif what == 1:
        places["absent"] = "one.safetensors"
    elif what == 2:
        places[name] = r.choice(
            ("../x.safetensors", "/etc/passwd", "", "one", "x\0y", "\ud800", "a/../one.safetensors")
        )
    elif what == 3:
        del places[name]
    elif what == 4:
        places[name] = r.choice(("one.safetensors", "two.safetensors", "three.safetensors"))
    elif what == 5:
        path = folder / "three.safetensors"
        path.write_bytes(hurt(r, path.read_bytes()))
    elif what == 6:
        index["weight_map"] = r.choice((None, [], "x", {name: 3}, {name: None}))
    text = json.dumps(index).encode()
    (folder / "model.safetensors.index.json").write_bytes(hurt(r, text) if what == 7 else text)
    return folder


def any_pytorch(r, folder):
    return file(folder, hurt(r, r.choice(torch_files())), "model.pth")


def sound_pytorch(r, folder):
    return file(folder, r.choice(torch_files()), "model.bin")


def any_pickle(r, folder):
    """An archive whose pickle is any sequence of instructions."""
    pieces = (
        b"c",
        b"cos\nsystem\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"R",
        b"b",
        b"s",
        b"u",
        b"a",
        b"e",
        b"q\x01",
        b"h\x01",
        b"r\xff\xff\xff\x7f",
        b"j\xff\xff\xff\x7f",
        b"K\x02",
        b"M\x00\x01",
        b"X\x01\x00\x00\x00w",
        b"X\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 8,
        b"Q",
        b"0",
        b"2",
        b"\x85",
        b"\x86",
        b"\x87",
        b"N",
        b"\x88",
        b"\x81",
        b"\x93",
        b"\x8c\x02os",
        b"\x8c\x06system",
        b"o",
        b"i",
        b"\x82\x01",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"\x94",
        b"1",
        b"I5\n",
        b"L9L\n",
        b"F1\n",
        b"G" + bytes(8),
    )
    program = b"\x80\x02" + b"".join(r.choice(pieces) for _ in range(r.randrange(1, 40))) + r.choice((b".", b""))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data.pkl", program)
        archive.writestr("m/data/0", bytes(16))
    return file(folder, out.getvalue() if r.random() < 0.8 else program, "model.pt")


class Trap:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


def refused_trap(r, folder):
    """A pickle that writes a file when it is loaded as pickles are."""
    import torch

    mark = str(folder / "executed")
    call = r.choice(
        (
            (os.system, (f"touch {mark}",)),
            (eval, (f"open({mark!r}, 'w')",)),
            (exec, (f"open({mark!r}, 'w')",)),
            (io.open, (mark, "w")),
            (os.mkdir, (mark,)),
        )
    )
    state = r.choice(({"w": torch.ones(2, 2), "t": Trap(call)}, [Trap(call)], Trap(call), {Trap(call): 1}))
    out = io.BytesIO()
    how = r.randrange(3)
    if how == 2:
        pickle.dump(state, out, protocol=2)
    else:
        torch.save(state, out, _use_new_zipfile_serialization=how == 0)
    return file(folder, out.getvalue(), r.choice(("model.pth", "model.bin", "model.pt")))


def sound_objects(r, folder):
    """Arrays of Python objects in an archive, which must be listed and never unpickled."""
    mark = str(folder / "executed")
    np.savez(folder / "model.npz", bad=np.array([Trap((os.mkdir, (mark,))), 1], dtype=object), w=np.ones((2, 2)))
    return folder / "model.npz"


def any_numpy(r, folder):
    return file(folder, hurt(r, r.choice(numpy_files())), "model.npz")


def any_gguf(r, folder):
    return file(folder, hurt(r, gguf_file(r)), "model.gguf")


def any_onnx(r, folder):
    return file(folder, hurt(r, r.choice(onnx_files())), "model.onnx")


def refused_nothing(r, folder):
    return file(
        folder, r.randbytes(r.choice((0, 1, 7, 8, 100))), r.choice(("model.pth", "a.safetensors", "b.npz", "c"))
    )


CASES = {name: value for name, value in list(globals().items()) if name.startswith(("sound_", "any_", "refused_"))}


# --- what must hold --------------------------------------------------------------------------------------------------


def memory():
    """The most memory that this process ever took, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(path):
    """ "read" or "refused"; anything else that happens is raised."""
    try:
        model = open_model(path)
    except ModelFileError as error:
        assert path.name in str(error) and error.problem, f"an error that names no file: {error}"
        return "refused"
    with model:
        made.accounted(model)
        assert all(tensor.reason for tensor in model.untreated)
        try:
            for matrix in model.matrices:
                step = max((1 << 16) // matrix.columns, 1)
                for first in range(0, matrix.rows, step):
                    stop = min(first + step, matrix.rows)
                    block = matrix.read(first, stop)
                    assert block.shape == (stop - first, matrix.columns) and block.dtype == np.float32
        except ModelFileError as error:  # what only the values can tell: a damaged stream of deflated bytes
            assert model.format == "npz" and path.name in str(error)
            return "refused"
    return "read"


def check(number, seed, folder, case=None):
    """Make one file, open it, and return (case, outcome); raises what must not happen."""
    r = random.Random(f"{seed} {number}")
    name = case or r.choice(list(CASES))
    path = CASES[name](r, folder)
    before = memory()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = outcome(path)
    assert not (folder / "executed").exists(), "something was executed"
    assert memory() - before < MEMORY, f"{memory() - before} bytes for a file of {path.stat().st_size}"
    if name.startswith("sound_"):
        assert found == "read", "a sound file is refused"
    if name.startswith("refused_"):
        assert found == "refused", "a damaged file is read"
    return name, found


def run(numbers, seed, folder):
    """Counts of (case, outcome), and the failures: the number of the file, its case, what happened."""
    counts, failures = Counter(), []
    for number in numbers:
        for path in folder.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        try:
            counts[check(number, seed, folder)] += 1
        except Exception as error:
            r = random.Random(f"{seed} {number}")
            failures.append((number, r.choice(list(CASES)), f"{type(error).__name__}: {str(error)[:200]}"))
    return counts, failures
