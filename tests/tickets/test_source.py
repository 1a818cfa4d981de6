import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naive import tickets as naive
from prunequant.tickets import _kernels, source


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 300), st.integers(0, 1), st.integers(1, 2**15 - 1), st.integers(0, 2**45)
)
def test_every_source_weight_is_the_naive_one(seed, layer, matrix, half_range, start):
    ours = source.weights(seed, layer, matrix, half_range, start, 6)
    assert ours.tolist() == [naive.source_weight(seed, layer, matrix, half_range, start + k) for k in range(6)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**45), st.integers(1, 2**15 - 1))
def test_a_lane_that_has_to_be_drawn_again_is_the_naive_one(seed, index, half_range):
    again = _kernels._redraw(index >> 2, index & 3, half_range, 1, 5, np.uint64(seed))
    assert again == naive.source_weight(seed, 5, 1, half_range, index, attempt=1)


@pytest.mark.parametrize(("index", "attempt"), [(63213, 0), (24021, 1)])
def test_a_lane_beyond_the_last_whole_multiple_is_drawn_again_each_time(index, attempt):
    """One lane in 65,000 at this half range, more than at any other; these two fall beyond at the attempt named."""
    half_range = 32587
    size = 2 * half_range + 1
    lane = naive.philox((index // 4, 0, 1 + (attempt << 8), 5), (0, 0))[index % 4]
    assert lane >= 2**32 // size * size
    if attempt == 0:
        again = source.weights(0, 5, 1, half_range, index, 1)[0]
    else:
        again = _kernels._redraw(index >> 2, index & 3, half_range, 1, 5, np.uint64(0))
    assert again == naive.source_weight(0, 5, 1, half_range, index, attempt + 1) != lane % size - half_range


@pytest.mark.parametrize("matrix", [-1, 256])
def test_a_matrix_that_is_no_byte_is_refused(matrix):
    assert source.weights(1, 0, 255, 3, 0, 4).tolist() == [naive.source_weight(1, 0, 255, 3, k) for k in range(4)]
    with pytest.raises(ValueError, match=rf"matrix is {matrix}: it must be an integer in \[0, 255\]"):
        source.weights(1, 0, matrix, 3, 0, 4)


def test_source_weights_are_uniform():
    counts = np.bincount(source.weights(1, 0, 1, 7, 0, 300_000) + 7, minlength=15)
    assert np.square(counts - 20_000).sum() / 20_000 < 42.6  # chi-squared, 14 degrees, 1e-4


def test_blocks_are_the_diagonal_blocks_of_the_dense_first_matrix():
    d, m = 3, 5
    dense = source.dense(4, 2, source.FIRST, 7, (d * m, d))
    blocks = source.blocks(4, 2, 7, d, m)
    assert all(blocks[j, k] == dense[j * m + k, j] for j in range(d) for k in range(m))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", True])
def test_a_seed_that_is_no_64_bit_number_is_refused(seed):
    with pytest.raises(
        (TypeError, ValueError), match=r"seed is .*: it must be an integer in \[0, 18446744073709551615\]"
    ):
        source.weights(seed, 0, 0, 3, 0, 4)


def test_a_source_of_too_many_columns_or_units_is_refused_though_it_would_be_empty():
    with pytest.raises(ValueError, match="columns is 67108865: "):
        source.blocks(0, 0, 8, 2**26 + 1, 0)
    with pytest.raises(ValueError, match="width is 67108865: "):
        source.blocks(0, 0, 8, 0, 2**26 + 1)
