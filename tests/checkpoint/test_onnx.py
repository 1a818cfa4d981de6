"""ONNX: initializers inline and beside, axes by the nodes that use them."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoint import made
from prunequant.checkpoint import ModelFileError, open_model

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(8)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(nodes, initializers):
    return helper.make_model(helper.make_graph(nodes, "g", [], [], initializer=initializers))


def saved(path, nodes, initializers):
    path.write_bytes(model_of(nodes, initializers).SerializeToString())
    return path


def test_nodes_say_which_axis_of_a_weight_is_the_input(tmp_path):
    weights = {name: normal(4, 6) for name in ("matmul", "gemm", "turned", "table", "free")}
    weights |= {"conv": normal(4, 6, 3, 3), "up": normal(4, 6, 3, 3)}
    nodes = [
        helper.make_node("MatMul", ["x", "matmul"], ["a"]), helper.make_node("Gemm", ["a", "gemm"], ["b"]),
        helper.make_node("Gemm", ["b", "turned"], ["c"], transB=1), helper.make_node("Gather", ["table", "i"], ["d"]),
        helper.make_node("Conv", ["c", "conv"], ["e"]), helper.make_node("ConvTranspose", ["e", "up"], ["f"]),
    ]  # fmt: skip
    stored = [numpy_helper.from_array(x, name) for name, x in weights.items()]
    model, found = made.opened(saved(tmp_path / "m.onnx", nodes, stored))
    kinds = {name: m.kind for name, m in made.by_name(model).items()}
    assert kinds == {
        "matmul": "linear, transposed", "gemm": "linear, transposed", "turned": "linear", "table": "embedding",
        "free": "linear", "conv": "convolution", "up": "convolution",
    }  # fmt: skip
    assert np.array_equal(found["matmul"], weights["matmul"].T) and np.array_equal(found["turned"], weights["turned"])
    assert np.array_equal(found["up"], weights["up"].swapaxes(0, 1).reshape(6, 36)) and model.format == "ONNX"


def test_values_of_typed_fields_are_those_of_raw_ones(tmp_path):
    x = RNG.integers(-4, 5, (3, 4)).astype(np.float32) / 2
    stored = []
    for name, kind in (("F32", TensorProto.FLOAT), ("F16", TensorProto.FLOAT16), ("F64", TensorProto.DOUBLE),
                       ("BF16", TensorProto.BFLOAT16)):  # fmt: skip
        stored.append(helper.make_tensor(name, kind, x.shape, x.reshape(-1).tolist()))
    stored.append(helper.make_tensor("ids", TensorProto.INT64, (2, 2), [1, -2, 3, -4]))
    stored.append(helper.make_tensor("text", TensorProto.STRING, (1,), [b"word"]))
    model, found = made.opened(saved(tmp_path / "m.onnx", [], stored))
    assert set(found) == {"F32", "F16", "F64", "BF16"}, "equal values of several dtypes are no ties"
    with open_model(tmp_path / "m.onnx") as again:
        tensors = {t.name: t.read(0, t.size) for t in again.tensors}
    assert all(np.array_equal(tensors[name], x.reshape(-1)) for name in ("F32", "F16", "F64", "BF16"))
    assert tensors["ids"].tolist() == [1, -2, 3, -4] and made.reasons(model)["text"] == "text"


def external(name, shape, **said):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in said.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_values_beside_the_file_are_read_in_pieces(tmp_path):
    x, y = normal(4, 6), normal(4, 6)
    (tmp_path / "m.bin").write_bytes(x.tobytes() + y.tobytes())
    stored = [external("x", x.shape, location="m.bin", length=96), external("y", y.shape, location="m.bin", offset=96)]
    model, found = made.opened(saved(tmp_path / "m.onnx", [], stored))
    assert np.array_equal(found["x"], x) and np.array_equal(found["y"], y)
    assert model.bytes["matrices"] == 192


@pytest.mark.parametrize(
    "said, words",
    [
        ({"location": "../m.bin"}, "outside of the folder"),
        ({"location": "/etc/passwd"}, "outside of the folder"),
        ({"location": "a/../../m.bin"}, "outside of the folder"),
        ({"location": "link"}, "outside of the folder"),
        ({"location": ""}, "outside of the folder"),
        ({"location": "none"}, "cannot be opened"),
        ({"location": "m.bin", "offset": 8}, "are not in"),
        ({"location": "m.bin", "offset": -8}, "are not in"),
        ({"location": "m.bin", "offset": "x"}, "whole numbers"),
        ({"location": "m.bin", "length": 8}, "takes 96 bytes, not 8"),
    ],
)
def test_values_outside_of_the_folder_or_the_file_are_refused(tmp_path, said, words):
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "m.bin").write_bytes(bytes(96))
    (folder / "m.bin").write_bytes(bytes(96))
    (folder / "link").symlink_to(tmp_path / "m.bin")
    path = saved(folder / "m.onnx", [], [external("x", (4, 6), **said)])
    with pytest.raises(ModelFileError, match=words):
        open_model(path)


def test_constants_and_graphs_within_nodes_are_listed(tmp_path):
    inner = helper.make_graph([], "inner", [], [], initializer=[numpy_helper.from_array(normal(2, 3), "deep")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(normal(4, 5), "v")),
        helper.make_node("If", ["q"], ["r"], then_branch=inner, else_branch=inner),
        helper.make_node("DequantizeLinear", ["a", "b"], ["d"]),
    ]
    model, found = made.opened(saved(tmp_path / "m.onnx", nodes, [numpy_helper.from_array(normal(2, 2), "w")]))
    listed = [name for name in made.reasons(model)]
    assert list(found) == ["w"] and len(listed) == 3 and any("deep" in name for name in listed)
    assert any("1 nodes use integers with scales" in note for note in model.notes)


@pytest.mark.parametrize("raw", [b"not a model", b"\x08", b"\xff" * 40, b"\x08\x01"])
def test_what_is_no_onnx_file_is_refused(tmp_path, raw):
    (tmp_path / "m.onnx").write_bytes(raw)
    with pytest.raises(ModelFileError, match="no ONNX file"):
        open_model(tmp_path / "m.onnx")
