"""Files that are looked at again: whole ones pass, and one changed byte is found and named."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from prunequant.checkpoint.compression import compress
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.verify import verify_file


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    save_file({"w": rng.standard_normal((16, 64)).astype(np.float32), "b": np.ones(5)}, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("scheme", ["INT4 g32", "2:4 INT3 channel", "50% FP16", "NVFP4", "NF4"])
@pytest.mark.parametrize("grid", ["symmetric", "zero point"])
def test_a_file_as_it_was_written_passes_and_its_errors_are_those_of_the_source(scheme, grid, model, tmp_path):
    compress(model, tmp_path / "out", scheme=scheme, settings=Settings(grid=grid))
    found = verify_file(tmp_path / "out", against=model)
    assert found.problems == () and found.matrices == found.compared == 1 and found.checksums >= 3


@pytest.mark.parametrize("scheme", ["INT4 g32", "2:4 INT3 channel"])
def test_any_byte_that_was_changed_is_found_with_the_name_of_its_tensor(scheme, model, tmp_path):
    compress(model, tmp_path / "out", scheme=scheme)
    whole = (tmp_path / "out").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole), 97):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        problems = verify_file(tmp_path / "changed").problems
        assert any("its bytes are not those that were written" in p and p[0] in "wb" for p in problems)


def test_another_source_than_that_it_was_made_of_is_noticed(model, tmp_path):
    compress(model, tmp_path / "out", scheme="INT4 g32")
    tensors = load_file(model)
    tensors["w"][0, 0] += 1
    save_file(tensors, tmp_path / "other.safetensors")
    (problem,) = verify_file(tmp_path / "out", against=tmp_path / "other.safetensors").problems
    assert problem.startswith("w: its error is ") and problem.endswith("was recorded")


def test_a_file_that_compress_did_not_write_is_refused(model):
    with pytest.raises(ValueError, match="says nothing of how it was compressed"):
        verify_file(model)
