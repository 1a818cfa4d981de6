"""Safetensors: what the library writes is read, and what it would refuse is refused with the name of the tensor."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoint import sample_files as files
from prunequant.checkpoint import ModelFileError, open_model

RNG = np.random.default_rng(3)


def test_a_file_of_the_library_is_read_bit_for_bit(tmp_path):
    x = {f"w.{d}": RNG.standard_normal((5, 6)).astype(d) for d in ("float64", "float32", "float16")}
    save_file(x, tmp_path / "m.safetensors", metadata={"format": "np"})
    model, found = files.opened(tmp_path / "m.safetensors")
    assert model.metadata == {"format": "np"} and model.format == "safetensors"
    for name, values in x.items():
        assert found[name].dtype == np.float32 and np.array_equal(found[name], values.astype(np.float32))


@pytest.mark.parametrize(
    "dtype, kind",
    [("BF16", ml_dtypes.bfloat16), ("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2)],
)
def test_dtypes_that_numpy_lacks_are_read_from_their_bytes(tmp_path, dtype, kind):
    x = RNG.standard_normal((7, 12)).astype(kind)
    path = files.write(tmp_path / "m.safetensors", [("a/b..c é", dtype, x.shape, x.tobytes())])
    _, found = files.opened(path)
    assert np.array_equal(found["a/b..c é"], x.astype(np.float32))


def test_rows_are_read_in_pieces_as_in_one(tmp_path):
    x = RNG.standard_normal((33, 7)).astype(np.float32)
    with open_model(files.write(tmp_path / "m", [files.f32("w", x)])) as model:
        pieces = [model.matrices[0].read(start, min(start + 4, 33)) for start in range(0, 33, 4)]
        assert np.array_equal(np.concatenate(pieces), x)
        assert np.array_equal(model.tensors[0].read(10, 20), x.reshape(-1)[10:20])
        assert model.matrices[0].read(5, 5).shape == (0, 7)


def test_scalars_empties_and_vectors_are_listed_and_take_their_bytes(tmp_path):
    entries = [
        files.f32("scalar", np.float32(1)), files.f32("empty", np.zeros((0, 4))),
        files.f32("empty too", np.zeros((3, 0))),
        files.f32("norm", np.ones(9)), files.i32("ids", np.arange(6).reshape(2, 3)), files.f32("w", np.ones((2, 3))),
        ("odd", "F6_E2M3", (4, 4), bytes(12)), ("unknown", "X9", (4, 4), bytes(5)),
        files.f32("w.bias", np.ones((2, 3))),
    ]  # fmt: skip
    model, found = files.opened(files.write(tmp_path / "m", entries))
    assert list(found) == ["w"]
    assert files.reasons(model) == {
        "scalar": "a scalar", "empty": "empty", "empty too": "empty", "norm": "a vector: kept as it is",
        "ids": "integers without a scale", "odd": "values of F6_E2M3 are not read",
        "unknown": "values of X9 are not read", "w.bias": "biases: kept as they are",
    }  # fmt: skip
    assert model.bytes["untreated"] == 4 + 36 + 24 + 12 + 5 + 24


GOOD = [files.f32("first", np.ones((2, 2))), files.f32("second", np.ones((2, 3)))]


def entry(**change):
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | change


@pytest.mark.parametrize(
    "header, words",
    [
        ({"a": entry(data_offsets=[0, 12])}, "takes 16 bytes, its offsets 12"),
        ({"a": entry(data_offsets=[16, 0])}, "are not among"),
        ({"a": entry(data_offsets=[0, 1 << 70])}, "are not among"),
        ({"a": entry(data_offsets=[-16, 0])}, "two whole numbers"),
        ({"a": entry(data_offsets=[0.0, 16.0])}, "two whole numbers"),
        ({"a": entry(data_offsets=[True, 16])}, "two whole numbers"),
        ({"a": entry(shape=[2, -2])}, "list of whole numbers"),
        ({"a": entry(shape="22")}, "list of whole numbers"),
        ({"a": entry(shape=[1] * 65)}, "list of whole numbers"),
        ({"a": entry(shape=[1 << 60, 1 << 60])}, "takes"),
        ({"a": 5}, "must have dtype"),
        ({"a": {"dtype": "F32"}}, "must have dtype"),
        ({"a": entry(), "b": entry()}, "overlaps 'a'"),
        ({"a": entry(), "b": entry(data_offsets=[8, 24])}, "overlaps 'a'"),
        ({"a": entry(), "b": entry(data_offsets=[24, 40])}, "leaves a gap after 'a'"),
        ({"a": entry(data_offsets=[24, 40])}, "leaves a gap after the header"),
        ({"a": entry()}, "24 bytes at its end belong to no tensor"),
        ({"a\ud800": entry()}, "no text"),
        ({"a": entry(), "__metadata__": {"x": 1}}, "__metadata__ must hold strings"),
        ({"a": entry(), "__metadata__": []}, "__metadata__ must hold strings"),
        ([], "must be a JSON object"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path, header, words):
    path = files.write(tmp_path / "m.safetensors", [("x", "F32", (10,), bytes(40))], header=json.dumps(header).encode())
    with pytest.raises(ModelFileError, match=words) as caught:
        open_model(path)
    assert str(path) in str(caught.value) and caught.value.file == str(path)


@pytest.mark.parametrize(
    "header, words",
    [
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "'dtype' stands twice"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"", "no JSON"),
    ],
    ids=["key twice", "inner key twice", "cut off", "no UTF-8", "nested", "long number", "nothing"],
)
def test_a_header_that_is_no_json_object_is_refused(tmp_path, header, words):
    with pytest.raises(ModelFileError, match=words):
        open_model(files.write(tmp_path / "m.safetensors", [], header=header))


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"", "empty"),
        (b"1234567", "no safetensors"),
        (b"\xff" * 8, "no safetensors file, or damaged: its header would have"),
        (b"\x00\x10\0\0\0\0\0\0{}", "cut off"),
        (files.safetensors(GOOD)[:-1], "not among"),
        (files.safetensors(GOOD) + b"\0", "1 bytes at its end"),
    ],
)
def test_a_file_that_is_cut_off_or_too_long_is_refused(tmp_path, raw, words):
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=words):
        open_model(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path, words in ((tmp_path / "none", "no such file"), (tmp_path, "no safetensors file in this folder")):
        with pytest.raises(ModelFileError, match=words):
            open_model(path)
    with pytest.raises(ModelFileError, match=r"no such file|opened"):
        open_model("a\0b")
    with pytest.raises(TypeError, match="path is 7"):
        open_model(7)


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error_not_a_crash(tmp_path):
    path = files.write(tmp_path / "m", [files.f32("w", np.ones((64, 64)))])
    with open_model(path) as model:
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ModelFileError, match="it ends at byte 1000"):
            files.whole(model.matrices[0])
    with pytest.raises(ModelFileError, match="closed"):
        model.matrices[0].read(0, 1)


def index(folder, places, **more):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places} | more))


def test_an_index_is_trusted_and_what_disagrees_with_it_is_said(tmp_path):
    a, b = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    files.write(tmp_path / "one.safetensors", [files.f32("a", a), files.f32("twice", b), files.f32("lost", b)])
    files.write(tmp_path / "two.safetensors", [files.f32("b", b + 1), files.f32("twice", b + 2)])
    files.write(tmp_path / "stray.safetensors", [files.f32("c", a)])
    places = {"a": "one.safetensors", "b": "two.safetensors", "twice": "two.safetensors", "gone": "one.safetensors"}
    index(tmp_path, places | {"moved": "two.safetensors"}, metadata={"total_size": 3})
    model, found = files.opened(tmp_path)
    assert set(found) == {"a", "b", "twice"} and np.array_equal(found["twice"], b + 2)
    assert files.reasons(model) == {
        "twice in one.safetensors": "the index takes it from another shard",
        "lost in one.safetensors": "the index does not name it",
    }
    notes = "\n".join(model.notes)
    assert "stray.safetensors" in notes and "'gone'" in notes and "no shard holds it" in notes
    assert model.metadata == {"total_size": 3}


def test_an_index_that_names_a_missing_shard_is_refused(tmp_path):
    files.write(tmp_path / "one.safetensors", [files.f32("a", np.ones((2, 2)))])
    index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    with pytest.raises(ModelFileError, match=r"tensor 'b': the shard 'two.safetensors' is missing"):
        open_model(tmp_path)


@pytest.mark.parametrize("shard", ["../one.safetensors", "/etc/passwd", "", ".", "a/b", "a\\b", "x\0y", "\ud800"])
def test_a_shard_outside_the_folder_is_never_opened(tmp_path, shard):
    index(tmp_path, {"a": shard})
    with pytest.raises(ModelFileError, match="no name of a file beside the index"):
        open_model(tmp_path)


def test_files_without_an_index_are_read_together_unless_they_disagree(tmp_path):
    files.write(tmp_path / "one.safetensors", [files.f32("a", np.ones((2, 2)))])
    files.write(tmp_path / "two.safetensors", [files.f32("b", np.zeros((2, 2)))])
    assert set(files.opened(tmp_path)[1]) == {"a", "b"}
    files.write(tmp_path / "three.safetensors", [files.f32("a", np.ones((2, 2)))])
    with pytest.raises(ModelFileError, match="no index says which one counts"):
        open_model(tmp_path)


def test_settings_beside_a_model_are_data_and_a_damaged_file_of_them_is_a_note(tmp_path):
    path = files.write(tmp_path / "m.safetensors", [files.f32("a", np.ones((2, 2)))])
    (tmp_path / "config.json").write_text('{"quantization_config": {"format": "__import__(\'os\')"}}')
    assert not [note for note in files.opened(path)[0].notes if "config" in note]
    (tmp_path / "config.json").write_text("{")
    assert any("config.json is not used" in note for note in files.opened(path)[0].notes)
