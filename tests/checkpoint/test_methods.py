"""Methods that look at inputs: they lose less where it counts, keep masks and zeros, and store what they found."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoint.stored import read_back
from prunequant.checkpoint.compression import compress
from prunequant.checkpoint.methods import METHODS, Settings, code_matrix
from prunequant.checkpoint.schemes import Scheme


@pytest.fixture(scope="module")
def layer():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 96)) @ (np.eye(96) + 0.2 * rng.standard_normal((96, 96)))
    return rng.standard_normal((40, 96)).astype(np.float32), inputs.T @ inputs


def lost(w, coded, gram):
    error = w - coded.decode()
    return float(np.sum((error @ gram) * error))


@pytest.mark.parametrize("grid", ["symmetric", "signed", "zero point", "minimum"])
@pytest.mark.parametrize("scheme", ["INT4 g32", "INT3 channel"])
def test_path_following_and_optq_lose_less_of_the_output_than_rounding_to_nearest(scheme, grid, layer):
    w, gram = layer
    found = {m: lost(w, code_matrix(w, Scheme.named(scheme), Settings(m, grid=grid), gram), gram)
             for m in ("nearest", "path", "optq")}  # fmt: skip
    assert found["optq"] < 0.7 * found["nearest"] and found["path"] < 0.9 * found["nearest"]


@pytest.mark.parametrize(
    "scheme", ["2:4 FP16", "50% FP16", "2:4 INT4 g32", "50% INT4 channel", "4:8 INT3 g32", "37.5% FP16"]
)
def test_a_mask_that_sees_the_inputs_loses_less_and_mending_what_it_prunes_less_again(scheme, layer):
    w, gram = layer
    named = Scheme.named(scheme)
    coded = {m: code_matrix(w, named, Settings(m), gram) for m in ("nearest", "wanda", "optq", "sparsegpt")}
    found = {m: lost(w, c, gram) for m, c in coded.items()}
    assert max(found["sparsegpt"], found["optq"]) < 0.97 * min(found["wanda"], found["nearest"])
    if named.bits is None:  # else the codes blur what the mask gains
        assert found["wanda"] < found["nearest"]
    for c in coded.values():
        assert np.count_nonzero(c.mask) == w.size - round(w.size * named.pruned)
        assert not c.decode()[~c.mask].any()
        if isinstance(named.pattern, tuple):
            assert np.all(c.mask.reshape(-1, named.pattern[1]).sum(axis=1) == named.pattern[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", ["symmetric", "zero point"])
def test_weights_that_were_pruned_before_stay_zero_by_every_method(method, grid, layer):
    w, gram = layer
    pruned = np.where(np.random.default_rng(1).random(w.shape) < 0.5, w, 0)
    for scheme in ("INT4 g32", "2:4 INT4 channel"):
        coded = code_matrix(pruned, Scheme.named(scheme), Settings(method, grid=grid), gram)
        assert not coded.decode()[pruned == 0].any()


def test_zeros_are_mended_too_where_they_are_not_to_be_kept(layer):
    w, gram = layer
    pruned = np.where(np.random.default_rng(1).random(w.shape) < 0.5, w, 0)
    free = code_matrix(pruned, Scheme.named("INT4 g32"), Settings("optq", keep_zeros=False), gram)
    held = code_matrix(pruned, Scheme.named("INT4 g32"), Settings("optq"), gram)
    assert free.decode()[pruned == 0].any() and lost(pruned, free, gram) < lost(pruned, held, gram)


@pytest.mark.parametrize("method", ["path", "optq"])
@pytest.mark.parametrize("scheme", ["INT4 g32", "2:4 INT4 g32", "MXFP4", "50% FP16"])
def test_what_a_method_found_is_what_the_file_holds_with_its_error_at_the_output(method, scheme, layer, tmp_path):
    w, gram = layer
    save_file({"w": w, "v": w + 1}, tmp_path / "w.safetensors")
    np.savez(tmp_path / "c.npz", **{"w.gram": gram})
    settings = Settings(method)
    written = compress(
        tmp_path / "w.safetensors", tmp_path / "out", scheme=scheme, settings=settings, calibrate=tmp_path / "c.npz"
    )
    rows = {row.name: row for row in written.rows}
    coded = code_matrix(w, Scheme.named(scheme), settings, gram)
    np.testing.assert_array_equal(read_back(tmp_path / "out", "w").decode(), coded.decode())
    signal = np.sum((w @ gram) * w)
    assert rows["w"].output_snr == pytest.approx(10 * np.log10(signal / lost(w, coded, gram)), abs=1e-3)
    assert rows["w"].method == ("nearest" if scheme == "MXFP4" else method), "what was done, not what was asked for"
    assert rows["v"].method == "nearest" and any("v: no inputs" in note for note in written.notes)


def test_a_method_that_looks_at_inputs_asks_for_them(layer, tmp_path):
    w, _ = layer
    with pytest.raises(ValueError, match="looks at the inputs: give their Gram matrix"):
        code_matrix(w, Scheme.named("INT4 g32"), Settings("optq"))
    save_file({"w": w}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="give a file to calibrate with"):
        compress(tmp_path / "w.safetensors", tmp_path / "out", scheme="INT4 g32", settings=Settings("optq"))
    np.savez(tmp_path / "c.npz", other=np.ones((2, 96)))
    with pytest.raises(ValueError, match="has arrays for other: the model has no such matrix"):
        compress(tmp_path / "w.safetensors", tmp_path / "out", scheme="INT4 g32", calibrate=tmp_path / "c.npz")
    np.savez(tmp_path / "c.npz", w=np.ones((2, 95)))
    with pytest.raises(ValueError, match="its rows must have 96 values"):
        compress(tmp_path / "w.safetensors", tmp_path / "out", scheme="INT4 g32", calibrate=tmp_path / "c.npz")
