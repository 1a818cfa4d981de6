"""Files of inputs: what is written is what is read, in any dtype and at any size, and what is no input is refused."""

import json

import ml_dtypes
import numpy as np
import pytest

from prunequant.checkpoint import open_model
from prunequant.checkpoint.calibration import Calibration, write_inputs
from prunequant.checkpoint.outcome import NotDescribed, read_document

WEIGHTS = np.random.default_rng(0).standard_normal((3, 4))


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "model.npz", w=WEIGHTS)
    with open_model(tmp_path / "model.npz") as opened:
        yield opened


@pytest.fixture
def gram_of(model, tmp_path):
    """What is read for the only matrix, of arrays that were written."""

    def read(**arrays):
        write_inputs(tmp_path / "inputs.npz", arrays)
        return Calibration(tmp_path / "inputs.npz", model).gram(model.matrices[0])

    return read


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
)
def test_inputs_of_every_dtype_come_back_as_the_numbers_that_they_are(dtype, gram_of):
    x = np.array([[1, 2, 3, 4], [7, 0, 5, 1]], dtype)
    wide = x.astype(np.float64)
    np.testing.assert_array_equal(gram_of(w=x), wide.T @ wide)


@pytest.mark.parametrize("name", [1, None, b"w", ("w",)])
def test_a_name_that_is_no_text_is_refused_and_nothing_is_written(name, tmp_path):
    with pytest.raises(TypeError, match="a name among arrays"):
        write_inputs(tmp_path / "inputs.npz", {name: np.eye(4)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e150, 1e300])
def test_a_gram_matrix_of_any_size_is_taken_as_it_is(size, gram_of):
    wanted = size * (np.eye(4) + 0.5)
    np.testing.assert_array_equal(gram_of(**{"w.gram": wanted}), wanted)


@pytest.mark.parametrize("size", [1e-160, 1.0, 1e150, 1e300])
def test_products_that_exceed_the_squares_are_refused_at_any_size(size, gram_of):
    with pytest.raises(ValueError, match="a product of two inputs exceeds both of their squares"):
        gram_of(**{"w.gram": size * (np.eye(4) + 1.5 * (1 - np.eye(4)))})


def test_inputs_whose_squares_overflow_are_refused_by_name(gram_of):
    with pytest.raises(ValueError, match=r"holds values up to 1e[+]200, whose squares float64 does not hold"):
        gram_of(w=np.full((2, 4), 1e200))


@pytest.mark.parametrize("part", ["left", "sha256"])
def test_a_document_that_says_no_text_of_a_tensor_is_refused_also_where_its_name_is_empty(part):
    said = {"version": 1, "target": "prunequant", "symmetric": True, "matrices": {}, "left": {}, "sha256": {}}
    read_document(json.dumps(said))
    for name in ("", "w"):
        with pytest.raises(NotDescribed, match=f"{part} must be a text for each tensor"):
            read_document(json.dumps({**said, part: {name: 5}}))
