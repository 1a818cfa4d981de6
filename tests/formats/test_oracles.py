"""Every format against independent implementations, bit for bit, on millions of values."""

import ml_dtypes
import numpy as np
import pytest

from prunequant.formats import ELEMENTS, HBFP, MX, NF4, NVFP4, Integer

ML_DTYPES = {
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}
GFLOAT = {
    "fp4_e2m1": "format_info_mxfp4_e2m1",
    "fp6_e2m3": "format_info_mxfp6_e2m3",
    "fp6_e3m2": "format_info_mxfp6_e3m2",
    "fp8_e4m3": "format_info_mxfp8_e4m3",
    "fp8_e5m2": "format_info_mxfp8_e5m2",
}


def spread_values(rows: int, columns: int, seed: int) -> np.ndarray:
    """float32 rows of every kind: Gaussian, heavy-tailed, over many decades, on ties, with zeros and subnormals."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns))
    x[1::5] = rng.standard_t(2, x[1::5].shape)
    x[2::5] *= np.exp(rng.normal(0, 10, x[2::5].shape))
    x[3::5] = rng.integers(-96, 97, x[3::5].shape) / 16
    x[4::25] = 0
    x[9::25] *= 1e-41
    x[14::25, 1:] *= 1e-30
    return x.astype(np.float32)


def same_bits(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(a, np.float32).view(np.int32), np.asarray(b, np.float32).view(np.int32))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_elements_round_as_ml_dtypes_casts_on_two_million_values(name):
    element = ELEMENTS[name]
    rng = np.random.default_rng(1)
    t = np.concatenate(
        [
            rng.uniform(-1.2, 1.2, 1_000_000) * element.largest,
            rng.standard_normal(500_000) * np.exp(rng.normal(-3, 4, 500_000)),
            rng.integers(-4096, 4097, 500_000) * element.magnitudes[1] / 4,  # on ties of the subnormal numbers
            (element.magnitudes[1:] + element.magnitudes[:-1]) / 2,
            [0.0, -0.0, 1e-45, -1e-45],
        ]
    ).astype(np.float32)
    inside = np.clip(t, -element.largest, element.largest)  # the 8-bit casts of ml_dtypes do not saturate
    cast = inside.astype(ML_DTYPES[name])
    same_bits(element.round(t), cast.astype(np.float32))
    np.testing.assert_array_equal(element.to_codes(element.round(t)), cast.view(np.uint8))
    same_bits(element.from_codes(cast.view(np.uint8), np.float32), cast.astype(np.float32))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_microscaling_blocks_are_the_specification_written_with_ml_dtypes(name):
    x = spread_values(32_768, 64, 2)
    blocks = x.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1, keepdims=True).astype(np.float64)
    exponent = np.floor(np.log2(np.where(largest > 0, largest, 1))) - ELEMENTS[name].largest_exponent
    exponent = np.where(largest > 0, np.clip(exponent, -127, 127), -127).astype(int)
    scale = np.ldexp(1.0, exponent)
    t = np.clip(blocks / scale, -ELEMENTS[name].largest, ELEMENTS[name].largest).astype(np.float32)
    expected = (t.astype(ML_DTYPES[name]).astype(np.float64) * scale).reshape(x.shape)
    fmt = MX(name)
    same_bits(fmt.quantize(x), expected)
    np.testing.assert_array_equal(
        fmt.encode(x).scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64).reshape(-1, 1), scale
    )
    np.testing.assert_array_equal(fmt.quantize(x.astype(np.float64)), expected)


@pytest.mark.parametrize("name", GFLOAT)
def test_microscaling_blocks_equal_gfloat(name):
    import gfloat
    from gfloat import formats as known

    element = getattr(known, GFLOAT[name])
    x = spread_values(150, 32, 3).astype(np.float64)
    expected = [gfloat.quantize_block(element, row, gfloat.compute_scale_amax) for row in x]
    same_bits(MX(name).quantize(x), np.array(expected))


def test_microscaling_integers_equal_gfloat_but_for_the_code_that_breaks_symmetry():
    import gfloat
    from gfloat.formats import format_info_mxint8

    x = spread_values(150, 32, 3).astype(np.float64)
    expected = np.array([gfloat.quantize_block(format_info_mxint8, row, gfloat.compute_scale_amax) for row in x])
    differ = MX("int8").quantize(x) != expected
    scale = MX("int8").scales(x)
    assert np.all((expected / scale)[differ] == -2)  # the code -128, which we leave unused
    assert np.all((MX("int8").quantize(x) / scale)[differ] == -127 / 64)


def test_integers_equal_the_fake_quantization_of_torch():
    torch = pytest.importorskip("torch")

    x = np.random.default_rng(4).standard_normal(2_000_000).astype(np.float32)
    for bits in (2, 3, 4, 8):
        scale = np.float32(2.0**-bits * 5)  # a power of two times 5: x·(1/s) and x/s agree except at distance zero
        low, high = Integer(bits, "twos_complement").code_range
        expected = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), float(scale), 0, low, high).numpy()
        got = Integer(bits, "twos_complement").quantize(x, scale=scale)
        differ = got != expected
        # torch multiplies by 1/s: only values within one rounding of a tie may differ, and then by one step
        tie = np.abs(np.abs(x.astype(np.float64) / scale % 1) - 0.5)
        assert np.all(tie[differ] < 1e-6)
        exact = Integer(bits, "twos_complement").quantize(x, scale=0.125)
        expected = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), 0.125, 0, low, high).numpy()
        np.testing.assert_array_equal(exact, expected)


@pytest.mark.parametrize("name", ["fp4_e2m1", "fp8_e4m3", "fp8_e5m2"])
def test_microscaling_blocks_equal_torchao(name):
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")

    kind = {"fp4_e2m1": "float4_e2m1fn_x2", "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}[name]
    x = spread_values(4096, 64, 5)
    largest = np.abs(x.reshape(4096, 2, 32)).max(axis=2).min(axis=1)
    x = x[(largest == 0) | (largest > 1e-20)]  # torchao keeps scales above 2^-126, the specification goes to 2^-127
    tensor = mx.MXTensor.to_mx(torch.from_numpy(x), getattr(torch, kind), 32, mx.ScaleCalculationMode.FLOOR)
    same_bits(MX(name).quantize(x), tensor.dequantize(torch.float32).numpy())


def test_nvfp4_equals_torchao():
    torch = pytest.importorskip("torch")
    nv = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")

    x = np.random.default_rng(6).standard_normal((2048, 64)).astype(np.float32)
    t = torch.from_numpy(x)
    tensor = nv.NVFP4Tensor.to_nvfp4(t, per_tensor_scale=nv.per_tensor_amax_to_scale(t.abs().max()))
    np.testing.assert_array_equal(NVFP4().quantize(x), tensor.dequantize(torch.float32).numpy())


def test_block_floating_point_with_eight_bits_differs_from_mxint8_only_in_its_scale_rule():
    x = spread_values(2000, 64, 7).astype(np.float64)
    x[np.abs(x) < 1e-20] = 0
    x[0, :32] = np.arange(32) / 16 - 1  # largest magnitude 1, a power of two
    hbfp, mxint = HBFP(8, 32).quantize(x), MX("int8").quantize(x)
    largest = np.abs(x.reshape(-1, 32)).max(axis=1)
    same_scale = np.repeat(np.frexp(largest)[0] != 0.5, 32).reshape(x.shape)
    np.testing.assert_array_equal(hbfp[same_scale], mxint[same_scale])
    assert np.any(hbfp != mxint)


def test_nf4_takes_the_nearest_of_its_sixteen_levels():
    x = spread_values(400, 64, 8)
    scale = np.abs(x).max(axis=1, keepdims=True)
    scale[scale == 0] = 1
    levels = NF4().levels.astype(np.float32)
    nearest = levels[np.argmin(np.abs((x / scale)[..., None] - levels), axis=-1)] * scale
    np.testing.assert_array_equal(NF4().quantize(x), nearest)
