"""PyTorch files without torch, compared with torch.load; NumPy archives without unpickling."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from checkpoint import made
from prunequant.checkpoint import ModelFileError, open_model

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(5)


def normal(*shape):
    return torch.from_numpy(RNG.standard_normal(shape).astype(np.float32))


def saved(path, value, **options):
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
def test_tensors_of_a_pytorch_file_are_those_that_torch_loads(tmp_path, zipped):
    base = normal(6, 8)
    state = OrderedDict(
        plain=base, turned=normal(5, 7).T, middle=normal(4, 5, 6).permute(2, 0, 1), part=base[2:4, 1:6],
        every=base[::2], half=normal(3, 4).half(), brain=normal(3, 4).bfloat16(), double=normal(3, 4).double(),
        parameter=torch.nn.Parameter(normal(3, 4)),
    )  # fmt: skip
    if zipped:  # torch writes these two in the older format and does not read them again
        state |= {"e4m3": normal(3, 4).to(torch.float8_e4m3fn), "e5m2": normal(3, 4).to(torch.float8_e5m2)}
    path = saved(tmp_path / "m.pth", state, _use_new_zipfile_serialization=zipped)
    expected = torch.load(path, weights_only=True)
    with open_model(path) as model:
        made.accounted(model)
        assert model.format == "PyTorch" and {t.name for t in model.tensors} == set(state)
        for tensor in model.tensors:
            values = expected[tensor.name].detach().double().numpy().reshape(-1)
            assert np.array_equal(tensor.read(0, tensor.size), values), tensor.name
            assert np.array_equal(tensor.read(3, 9), values[3:9]), tensor.name


def test_the_model_of_a_checkpoint_is_found_and_the_rest_is_listed(tmp_path):
    layer = torch.nn.Linear(4, 3)
    whole = {
        "epoch": 3, "model": layer.state_dict(), "optimizer": {"state": {0: {"exp_avg": normal(3, 4)}}, "lr": 0.1},
    }  # fmt: skip
    model, found = made.opened(saved(tmp_path / "c.pt", whole))
    assert np.array_equal(found["weight"], layer.weight.detach().numpy()) and "'model' are the model" in model.notes[0]
    assert made.reasons(model)["optimizer.state.0.exp_avg"].startswith("it is not under 'model'")


def test_tied_tensors_of_a_pytorch_file_take_their_bytes_once(tmp_path):
    x = normal(6, 8)
    model, found = made.opened(
        saved(tmp_path / "m.bin", {"embed.weight": x, "head.weight": x, "up": x[:3], "c": x + 1})
    )
    assert made.by_name(model)["c"].nbytes == x.nbytes
    assert model.bytes["matrices"] == 2 * x.numel() * 4, "three views of one storage, and another"
    assert {"embed.weight", "up"} <= set(found)


def test_a_tensor_that_repeats_its_storage_is_listed_and_never_spread_out(tmp_path):
    path = saved(tmp_path / "m.pt", {"wide": torch.zeros(1, 1).expand(1 << 20, 1 << 20), "w": normal(2, 2)})
    model, found = made.opened(path)
    assert list(found) == ["w"] and "repeats the 1 values" in made.reasons(model)["wide"]


class Trap:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def traps(path):
    import os

    yield Trap(os.system, f"touch {path}")
    yield Trap(eval, f"open({str(path)!r}, 'w')")
    yield Trap(exec, f"open({str(path)!r}, 'w')")
    yield Trap(io.open, str(path), "w")
    yield Trap(getattr, "", "join")


def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(tmp_path):
    mark = tmp_path / "ran"
    for number, trap in enumerate(traps(mark)):
        state = {"w": normal(2, 2), "t": trap}
        for name, options in (("zip", {}), ("old", {"_use_new_zipfile_serialization": False})):
            path = saved(tmp_path / f"{name}{number}.pth", state, **options)
            with pytest.raises(ModelFileError, match=r"may run code\. Nothing was run") as caught:
                open_model(path)
            assert path.name in str(caught.value) and not mark.exists()
        plain = tmp_path / f"plain{number}.pth"
        plain.write_bytes(pickle.dumps(state, protocol=2))
        with pytest.raises(ModelFileError):
            open_model(plain)
        assert not mark.exists()


def test_a_pickle_may_repeat_itself_without_exploding(tmp_path):
    nest = [normal(2, 2)]
    for _ in range(60):
        nest = [nest, nest]
    _, found = made.opened(saved(tmp_path / "m.pt", {"nest": nest}))
    assert len(found) == 1


def archive(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries:
            file.writestr(name, data)
    return path


def test_archives_that_are_no_model_say_so(tmp_path):
    for name, entries, words in (
        ("a", [("x/data.pkl", b"\x80\x02")], "its pickle is damaged"),
        ("b", [("x/data.pkl", b"")], "its pickle is damaged"),
        ("c", [("x/data.pkl", b"."), ("y/data.pkl", b".")], "one NAME/data.pkl"),
        ("d", [("x/data.pkl", b"N."), ("x/constants.pkl", b"N.")], "TorchScript"),
        ("e", [("x/data.pkl", b"N."), ("x/byteorder", b"big")], "little-endian"),
        ("f", [("w.npy", b"\x93NUMPY\x01\x00")], "header is damaged"),
        ("g", [("w.npy", b"nothing at all")], "header is damaged"),
    ):
        with pytest.raises(ModelFileError, match=words):
            open_model(archive(tmp_path / name, entries))
    with pytest.raises(ModelFileError, match="compressed, which"):
        open_model(archive(tmp_path / "h", [("x/data.pkl", pickle.dumps("y" * 999, 2))], zipfile.ZIP_DEFLATED))
    (tmp_path / "i").write_bytes(b"PK\3\4 and nothing more")
    with pytest.raises(ModelFileError, match="no zip archive"):
        open_model(tmp_path / "i")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_archive_are_those_that_numpy_loads(tmp_path, save):
    x = {
        "w": RNG.standard_normal((40, 30)), "h": RNG.standard_normal((4, 3, 5)).astype(np.float16),
        "turned": RNG.standard_normal((6, 9)).astype(np.float32).T, "b": np.arange(5.0),
        "ids": np.arange(6).reshape(2, 3),
    }  # fmt: skip
    save(tmp_path / "m.npz", **x)
    with open_model(tmp_path / "m.npz") as model:
        made.accounted(model)
        found = {t.name: t.read(0, t.size).reshape(t.shape) for t in model.tensors}
        assert model.format == "npz" and set(found) | set(made.reasons(model)) == set(x)
        assert all(np.array_equal(values, x[name]) for name, values in found.items())
        (w,) = [m for m in model.matrices if m.name == "w"]
        pieces = [w.read(at, at + 10) for at in (30, 0, 20, 10)]  # backwards too
        assert np.array_equal(np.concatenate([pieces[1], pieces[3], pieces[2], pieces[0]]), x["w"].astype(np.float32))


def test_arrays_of_objects_are_listed_and_never_unpickled(tmp_path):
    mark = tmp_path / "ran"
    objects = np.array([next(traps(mark)), None], dtype=object)
    np.savez(tmp_path / "m.npz", bad=objects, big=np.ones((2, 2), ">f4"), text=np.array(["a"]), w=np.ones((2, 2)))
    model, found = made.opened(tmp_path / "m.npz")
    assert list(found) == ["w"] and not mark.exists()
    found = made.reasons(model)
    assert "Python objects" in found["bad"] and "big-endian" in found["big"] and "no numbers" in found["text"]


def test_a_single_array_is_a_model_of_one_tensor(tmp_path):
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    np.save(tmp_path / "weight.npy", x)
    assert np.array_equal(made.opened(tmp_path / "weight.npy")[1]["weight"], x)


def test_what_float32_does_not_hold_of_float64_becomes_infinite_not_a_warning(tmp_path):
    np.savez(tmp_path / "m.npz", w=np.array([[1e300, 1.0], [2.0, -1e39]]))
    _, found = made.opened(tmp_path / "m.npz")
    assert np.array_equal(found["w"], [[np.inf, 1], [2, -np.inf]])


def test_entries_of_an_archive_that_are_longer_than_the_file_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", w=np.ones((40, 30)))
    raw = bytearray((tmp_path / "m.npz").read_bytes())
    at = raw.rindex(b"PK\1\2") + 20  # the compressed size in the directory
    raw[at : at + 4] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "m.npz").write_bytes(raw)
    with pytest.raises(ModelFileError, match="not all in the file"):
        open_model(tmp_path / "m.npz")
