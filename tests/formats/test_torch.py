"""The formats and the masks in torch are those of the library, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prunequant import sparsity
from prunequant.formats import HBFP, MX, NF4, Integer, named, names
from prunequant.formats._torch import quantize
from prunequant.sparsity._torch import _magnitude, _n_m
from prunequant.sparsity._torch import keep_largest as keep_largest_sorted

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
    fast = fmt.quantize(torch.from_numpy(x)).numpy()
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
    for bad in (torch.tensor([True]), torch.tensor([1j])):
        with pytest.raises(TypeError, match="real numbers"):
            quantize(bad, Integer(4), fast=fast)
    with pytest.raises(ValueError, match="single number"):
        quantize(torch.tensor(1.0), Integer(4), fast=fast)


def test_a_format_without_a_torch_form_says_so_and_still_works_on_a_cpu():
    x = torch.linspace(-1, 1, 64)
    for bad in ("int4", None):
        with pytest.raises(TypeError, match=r"fmt is .*: it must be a format"):
            quantize(x, bad)
    with pytest.raises(TypeError, match=r"x is .*: it must be a tensor"):
        quantize([1.0], Integer(4))
    with pytest.raises(TypeError, match="no torch implementation"):
        quantize(x, NF4(), fast=False)
    assert np.array_equal(NF4().quantize(x).numpy(), NF4().quantize(x.numpy()))


@pytest.mark.parametrize("name", names())
def test_a_format_given_a_tensor_gives_a_tensor_of_the_same_numbers_whatever_else_is_asked(name):
    x = np.random.default_rng(3).standard_normal((6, 4, 20)).astype(np.float32)
    fmt, tensor = named(name, block=8), torch.from_numpy(x).requires_grad_()
    for how in ({}, {"axis": 0}, {"axis": 1, "rounding": "stochastic", "seed": 5}):
        made = fmt.quantize(tensor, **how)
        assert isinstance(made, torch.Tensor) and not made.requires_grad
        assert same_bits(fmt.quantize(x, **how), made.numpy())
    if fmt.takes_scale:
        assert np.array_equal(fmt.quantize(tensor, scale=0.5).numpy(), fmt.quantize(x, scale=0.5))
    whole = torch.arange(-7, 9)
    assert same_bits(fmt.quantize(whole.numpy()), fmt.quantize(whole).numpy())
    assert fmt.quantize(torch.zeros(0, 8)).shape == (0, 8)
    with pytest.raises(TypeError, match=r"^out is given but x is a torch tensor"):
        fmt.quantize(tensor, out=x)


def test_torch_takes_any_axis_and_refuses_what_only_a_cpu_does():
    x = np.random.default_rng(4).standard_normal((6, 4, 20))
    for fmt in (Integer(4), Integer(4, granularity=3), HBFP(4, 5), MX("fp6_e2m3", 4)):
        for axis in (0, 1, -1):
            assert same_bits(fmt.quantize(x, axis), quantize(torch.from_numpy(x), fmt, axis, fast=False).numpy().copy())
    for how, name in (({"rounding": "stochastic"}, "rounding"), ({"scale": 0.5}, "scale")):
        with pytest.raises(ValueError, match=f"^{name} is given for a tensor"):
            quantize(torch.from_numpy(x), Integer(4), fast=False, **how)
    for how, name in (({"rounding": "up"}, "rounding"), ({"axis": 3}, "axis"), ({"seed": -1}, "seed")):
        with pytest.raises(ValueError, match=f"^{name} is"):
            quantize(torch.from_numpy(x), Integer(4), fast=False, **how)


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
        for axis in (None, 0 if isinstance(pattern, float) else -1, 1):
            expected = sparsity.keep_largest(score, pattern, ties, axis=axis, original=original, seed=draw)
            given = dict(axis=axis, original=torch.from_numpy(original), seed=draw)
            for function in (sparsity.keep_largest, keep_largest_sorted):
                assert np.array_equal(expected, function(torch.from_numpy(score), pattern, ties, **given).numpy())


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_masks_of_tensors_are_tensors_of_the_same_bits(axis):
    rng = np.random.default_rng(5)
    x = np.round(rng.standard_normal((12, 4, 8)) * 4).astype(np.float32) / 4
    q = np.round(x)
    tensor, quantized = torch.from_numpy(x).requires_grad_(), torch.from_numpy(q)
    for made, expected in (
        (sparsity.n_m(tensor, 1, 2, axis=axis), sparsity.n_m(x, 1, 2, axis=axis)),
        (_n_m(tensor, 3, 4, axis=axis), sparsity.n_m(x, 3, 4, axis=axis)),
        (sparsity.magnitude(x=tensor, sparsity=0.3, axis=axis), sparsity.magnitude(x, 0.3, axis=axis)),
        (_magnitude(tensor, 0.3, axis=axis), sparsity.magnitude(x, 0.3, axis=axis)),
        (_magnitude(tensor, 0.3, "last"), sparsity.magnitude(x, 0.3, "last")),
        (sparsity.joint(tensor, quantized, "2:4", axis=axis), sparsity.joint(x, q, "2:4", axis=axis)),
        (sparsity.gain(tensor, quantized), sparsity.gain(x, q)),
        (sparsity.channels(tensor, 0.5, axis), sparsity.channels(x, 0.5, axis)),
    ):
        assert isinstance(made, torch.Tensor) and np.array_equal(made.numpy(), expected)
    half = torch.from_numpy(x).to(torch.bfloat16)
    assert torch.equal(sparsity.magnitude(half, 0.5), torch.from_numpy(sparsity.magnitude(half.float().numpy(), 0.5)))


def test_a_mask_without_a_form_on_another_device_says_so():
    away = torch.zeros(4, device="meta")
    with pytest.raises(TypeError, match=r"^channels has no form for tensors on meta: move them to the CPU"):
        sparsity.channels(away, 0.5)


def test_masks_refuse_what_the_library_refuses():
    for function in (sparsity.keep_largest, keep_largest_sorted):
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
