"""The formats and the masks in torch are those of the library, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prunequant.formats import HBFP, MX, NF4, Integer
from prunequant.formats._torch import quantize
from prunequant.sparsity import keep_largest as keep_largest_numpy
from prunequant.sparsity._torch import keep_largest, keep_largest_sorted

ELEMENTS = ("fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "int8")
FORMATS = (
    *(Integer(bits, granularity="row") for bits in (2, 4, 8, 16)),
    Integer(4),
    Integer(4, granularity=5),
    Integer(3, grid="twos_complement", granularity="row"),
    *(HBFP(bits) for bits in (3, 4, 6, 8, 16)),
    HBFP(8, block=7),
    *(MX(element) for element in ELEMENTS),
    *(MX(element, block=5, scale_rule="rceil") for element in ELEMENTS),
)
DTYPES = (np.float32, np.float64)


def same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    bits = np.uint32 if a.dtype == np.float32 else np.uint64
    return np.array_equal(a.view(bits), b.view(bits))


def both(x, fmt):
    expected = fmt.quantize(x)
    slow = quantize(torch.from_numpy(x), fmt, fast=False).numpy()
    fast = quantize(torch.from_numpy(x), fmt).numpy()
    return expected, np.ascontiguousarray(slow), fast


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_random_numbers_of_every_size_become_the_same_bits(fmt, dtype):
    rng = np.random.default_rng(1)
    for shape in ((7,), (6, 70), (3, 4, 33)):
        for exponents in (0.0, 30.0):
            x = (rng.standard_normal(shape) * np.exp2(exponents * rng.standard_normal(shape))).astype(dtype)
            x = np.clip(x, -1e37, 1e37)
            expected, slow, fast = both(x, fmt)
            assert same_bits(expected, slow) and same_bits(expected, fast)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_zeros_subnormals_huge_numbers_and_ties_become_the_same_bits(fmt, dtype):
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max / 4
    halves = np.arange(-40, 41) / 4
    rows = [
        np.zeros(64),
        np.full(64, -0.0),
        np.concatenate([[tiny, -tiny, 3 * tiny, 0.0], np.zeros(60)]),
        tiny * np.arange(64) * 9173,
        2.0**-126 * np.linspace(-2, 2, 64),
        2.0**-120 * np.linspace(-2, 2, 64),
        huge * np.linspace(-1, 1, 64),
        np.concatenate([[huge], tiny * np.arange(63)]),
        halves[:64],
        halves[17:],
        np.concatenate([[7.0], halves[1:64]]),
        np.exp2(np.arange(-32.0, 32.0)),
        np.nextafter(np.exp2(np.arange(-32.0, 32.0)).astype(dtype), dtype(np.inf)),
        np.nextafter(np.exp2(np.arange(-32.0, 32.0)).astype(dtype), dtype(0)),
    ]
    for row in rows:  # one at a time, so that formats with one scale for the tensor see each
        x = np.asarray(row, dtype)[None].repeat(2, axis=0)
        expected, slow, fast = both(x, fmt)
        assert same_bits(expected, slow) and same_bits(expected, fast)


@settings(max_examples=40)
@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2, max_side=40),
                 elements=st.floats(-2.0**100, 2.0**100, width=32)),
    fmt=st.sampled_from(FORMATS),
)  # fmt: skip
def test_any_numbers_become_the_same_bits(x, fmt):
    expected, slow, _ = both(x, fmt)
    assert same_bits(expected, slow)


def test_half_precision_is_widened_as_the_library_widens_it():
    x = torch.linspace(-3, 3, 64).to(torch.bfloat16)
    for fast in (True, False):
        y = quantize(x, HBFP(4), fast=fast)
        assert y.dtype == torch.float32
        assert np.array_equal(y.numpy(), HBFP(4).quantize(x.float().numpy()))


@pytest.mark.parametrize("fast", (True, False))
def test_bad_numbers_are_refused(fast):
    for bad in (float("nan"), float("inf"), -float("inf")):
        for fmt in (Integer(4, granularity="row"), HBFP(4), MX("fp4_e2m1")):
            with pytest.raises(ValueError, match="NaN or infinity"):
                quantize(torch.tensor([1.0, bad]), fmt, fast=fast)
    for fmt in (Integer(4), HBFP(4)):
        with pytest.raises(ValueError, match="too large"):
            quantize(torch.tensor([3.0e38]), fmt, fast=fast)
    with pytest.raises(TypeError, match="floating"):
        quantize(torch.arange(3), Integer(4), fast=fast)
    with pytest.raises(ValueError, match="single number"):
        quantize(torch.tensor(1.0), Integer(4), fast=fast)


def test_a_format_without_a_torch_form_says_so_and_still_works_on_a_cpu():
    x = torch.linspace(-1, 1, 64)
    for bad in ("int4", None):
        with pytest.raises(TypeError, match=r"fmt is .*: it must be a format"):
            quantize(x, bad)
    with pytest.raises(TypeError, match=r"x is .*: it must be a floating-point tensor"):
        quantize([1.0], Integer(4))
    with pytest.raises(TypeError, match="no torch implementation"):
        quantize(x, NF4(), fast=False)
    assert np.array_equal(quantize(x, NF4()).numpy(), NF4().quantize(x.numpy()))


def test_the_result_shares_no_memory_with_the_input():
    x = torch.tensor([1.0, 2.0])
    quantize(x, Integer(8)).zero_()
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("ties", ("first", "last", "random", "magnitude"))
@pytest.mark.parametrize("pattern", ("2:4", "1:3", "5:12", 0.0, 0.29, 0.5, 0.9, 1.0))
def test_masks_by_sorting_equal_the_masks_of_the_library(pattern, ties):
    rng = np.random.default_rng(2)
    for draw in range(5):
        original = rng.standard_normal((10, 12)).astype(np.float32)
        score = np.abs(np.round(2 * original) / 2) if draw else np.ones_like(original)
        expected = keep_largest_numpy(score, pattern, ties, original=original, seed=draw)
        given = dict(original=torch.from_numpy(original), seed=draw)
        for function in (keep_largest, keep_largest_sorted):
            assert np.array_equal(expected, function(torch.from_numpy(score), pattern, ties, **given).numpy())


def test_masks_refuse_what_the_library_refuses():
    for function in (keep_largest, keep_largest_sorted):
        with pytest.raises(ValueError, match="do not divide"):
            function(torch.ones(2, 6), "2:4")
        with pytest.raises(ValueError, match="ties"):
            function(torch.ones(4), "2:4", "middle")
        with pytest.raises(TypeError, match="seed"):
            function(torch.ones(4), "2:4", "random", seed=1.5)
        with pytest.raises(ValueError, match="original"):
            function(torch.ones(4), "2:4", "magnitude")
        with pytest.raises(ValueError, match="NaN"):
            function(torch.tensor([1.0, float("nan")]), 0.5)
