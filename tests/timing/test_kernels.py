"""Every scheme stores what its formula says and multiplies what it stores; what cannot run here says why."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from prunequant.formats import Integer, pack
from prunequant.timing import schemes as linear_schemes
from prunequant.timing.codes import four_bit_codes, magnitude_mask, row_codes, two_of_four
from prunequant.timing.kernels import Unavailable, prepare

EVERYWHERE = (
    *("fp32", "fp32-packed", "bf16", "int8", "int8-fbgemm", "int8-weight", "int4-weight", "int4-weight-32", "fp8"),
    *("2:4-csr", "csr-30", "csr-50", "csr-90", "csr-99", "scipy-50"),
)
CUDA_ONLY = ("2:4-bf16", "2:4-int8", "2:4-fp8")
# float32 sums, and outputs rounded to bfloat16 (half a unit of 2^-8 at most, 2^-9 relative to the norm)
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8}


def matrix(outputs, inputs, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("shape", [(32, 64), (192, 576)], ids=str)
def test_the_bytes_of_the_stored_tensors_are_those_of_the_formula(name, shape):
    assert prepare(name, matrix(*shape)).bytes == linear_schemes.stored_bytes(name, *shape)


@pytest.mark.parametrize("name", [n for n in EVERYWHERE if n != "int8"])
@pytest.mark.parametrize("batch", [1, 5, 40])
def test_a_kernel_gives_the_product_with_the_matrix_that_it_stores(name, batch):
    kernel = prepare(name, matrix(48, 128), batch)
    assert kernel.error(matrix(batch, 128, 1)) < ROUNDING[kernel.dtype]


@pytest.mark.parametrize("batch", [1, 5, 40])
def test_the_int8_product_is_exact_where_this_machine_adds_bytes_without_saturation(batch):
    x, w = matrix(batch, 128, 1), matrix(48, 128)
    codes = [row_codes(m, 127)[0].round().to(torch.int8) for m in (x, w)]
    product = torch._int_mm(codes[0], codes[1].t())
    saturates = not torch.equal(product.long(), codes[0].long() @ codes[1].long().t())
    assert (prepare("int8", w).error(x) > 1e-6) == saturates


@pytest.mark.parametrize("name", ["csr-50", "scipy-50", "2:4-csr"])
def test_a_pruned_kernel_equals_the_dense_product_of_the_pruned_matrix(name):
    kernel, x = prepare(name, matrix(48, 128)), matrix(7, 128, 1)
    assert_allclose(kernel(x).numpy(), (x @ kernel.weights.t()).numpy(), atol=1e-4)
    assert int((kernel.weights != 0).sum()) == 48 * 128 // 2


@pytest.mark.parametrize("name", CUDA_ONLY)
def test_a_scheme_for_cuda_says_on_a_cpu_that_it_is_not_available(name):
    with pytest.raises(Unavailable, match="CUDA"):
        prepare(name, matrix(64, 128))


def test_a_shape_that_a_scheme_cannot_store_is_unavailable_with_the_reason():
    with pytest.raises(Unavailable, match="multiple of its group, 64"):
        prepare("int4-weight", matrix(64, 96))


def test_an_unknown_scheme_lists_those_there_are():
    for call in (lambda: prepare("int3", matrix(8, 8)), lambda: linear_schemes.stored_bytes("csr-100", 8, 8)):
        with pytest.raises(ValueError, match="give one of fp32"):
            call()


def test_a_matrix_of_another_type_is_refused_with_what_it_is():
    with pytest.raises(ValueError, match="float64"):
        prepare("fp32", matrix(8, 8).double())


def test_per_row_int8_codes_are_those_of_the_format():
    w = matrix(16, 96)
    codes, scale = row_codes(w, 127)
    assert_allclose((codes.round() * scale).numpy(), Integer(8, granularity="row").quantize(w.numpy()), atol=1e-7)


def test_four_bit_codes_fill_four_bits_and_give_back_their_matrix():
    w = matrix(32, 128)
    codes, pairs, values = four_bit_codes(w, 32)
    assert codes.min() >= 0 and codes.max() <= 15
    assert pack(codes.numpy().astype(np.uint8), 4).nbytes + 2 * pairs.numel() == linear_schemes.stored_bytes(
        "int4-weight-32", 32, 128
    )
    scale, offset = (pairs[..., i].float().t().repeat_interleave(32, 1) for i in (0, 1))
    assert_allclose(((codes - 8) * scale + offset).numpy(), values.numpy(), atol=1e-6)
    assert float((values - w).abs().max()) < 0.75 * float(scale.max())


def test_a_matrix_on_the_grid_of_q4_1_survives_groups_of_32_up_to_the_rounding_of_its_scales():
    rng = np.random.default_rng(0)
    step, low = rng.uniform(0.01, 0.02, (16, 4, 1)), rng.normal(0, 0.1, (16, 4, 1))
    codes = rng.integers(0, 16, (16, 4, 32))
    codes[..., :2] = (0, 15)  # the quantizer of Q4_1 always uses both ends
    w = torch.from_numpy((low + step * codes).reshape(16, 128).astype(np.float32))
    same = four_bit_codes(w, 32)[0].numpy().reshape(codes.shape)
    assert np.abs(same - codes).max() <= 1
    assert np.mean(same == codes) > 0.9
    assert float((four_bit_codes(w, 32)[2] - w).norm() / w.norm()) < 2.0**-7


@given(st.integers(1, 99), st.integers(0, 2**16))
@settings(deadline=None, max_examples=30)
def test_pruning_keeps_exactly_the_largest_magnitudes(percent, seed):
    w = torch.from_numpy(np.random.default_rng(seed).integers(-9, 9, (8, 12)).astype(np.float32) + 0.5)
    out, count = w * magnitude_mask(w, f"csr-{percent}"), linear_schemes.kept_weights(f"csr-{percent}", 8, 12)
    assert int((out != 0).sum()) == count
    assert torch.equal(out[out != 0], w[out != 0])
    gone = w[out == 0].abs()
    assert not len(gone) or not count or float(gone.max()) <= float(out[out != 0].abs().min())


def test_weights_that_are_zero_and_kept_are_stored():
    w = torch.zeros(16, 64)
    w[:, ::8] = 1.0
    for name in ("2:4-csr", "csr-50", "scipy-50"):
        assert prepare(name, w).bytes == linear_schemes.stored_bytes(name, 16, 64)


def test_two_of_four_keeps_the_two_larger_of_every_four():
    w = torch.tensor([[1.0, -3.0, 2.0, 0.5, 4.0, 4.5, -5.0, 0.0]])
    assert two_of_four(w).tolist() == [[0.0, -3.0, 2.0, 0.0, 0.0, 4.5, -5.0, 0.0]]


def test_no_time_is_below_the_larger_of_both_roofs():
    assert linear_schemes.roofline(100, 10, bandwidth=10, peak=10) == 10
    assert linear_schemes.roofline(10, 100, bandwidth=10, peak=10) == 10
    dense, half = (linear_schemes.operations(s, 64, 64, 3) for s in ("fp32", "csr-50"))
    assert dense == 2 * half == 2 * 64 * 64 * 3
    assert linear_schemes.moved_bytes("bf16", 64, 32, 5) == 2 * (64 * 32 + 5 * (64 + 32))
