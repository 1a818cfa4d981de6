"""Every pattern of bits of the narrow formats, and the wide ones against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from prunequant.checkpoint import values

SIXTEEN = {"F16": np.float16, "BF16": ml_dtypes.bfloat16}
EIGHT = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


def same(a, b):
    """Bit for bit, any NaN for any other."""
    nan = np.isnan(a)
    assert a.dtype == b.dtype == np.float32 and np.array_equal(nan, np.isnan(b))
    return np.array_equal(a[~nan].view(np.uint32), b[~nan].view(np.uint32))


@pytest.mark.parametrize("name", SIXTEEN)
def test_all_65536_patterns_of_16_bits_decode_exactly(name):
    codes = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        expected = codes.view(SIXTEEN[name]).astype(np.float32)
    assert same(values.encoding(name).decode(codes.astype("<u2").view(np.uint8)), expected)


@pytest.mark.parametrize("name", EIGHT)
def test_all_256_patterns_of_8_bits_decode_exactly(name):
    codes = np.arange(256, dtype=np.uint8)
    assert same(values.encoding(name).decode(codes), codes.view(EIGHT[name]).astype(np.float32))


def test_an_e8m0_code_is_a_power_of_two_and_255_is_none():
    found = values.encoding("F8_E8M0").decode(np.arange(256, dtype=np.uint8))
    assert np.array_equal(found[:255].astype(np.float64), 2.0 ** np.arange(-127, 128)) and np.isnan(found[255])


def test_the_lower_half_of_a_byte_of_fp4_is_the_first_value():
    levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    levels += [-x for x in levels]
    found = values.encoding("F4").decode(np.arange(256, dtype=np.uint8)).reshape(256, 2)
    assert [tuple(row) for row in found] == [(levels[byte & 15], levels[byte >> 4]) for byte in range(256)]


@pytest.mark.parametrize("name", ["F64", "F32", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"])
def test_wide_dtypes_are_little_endian_numbers(name):
    kind = np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}")
    x = np.random.default_rng(1).integers(0, 100, 50).astype(kind)
    found = values.encoding(name).decode(x.view(np.uint8))
    assert np.array_equal(found, x) and found.dtype == (np.float64 if name in "F64 I32 U32 I64 U64" else np.float32)


def test_what_has_no_encoding_is_counted_and_never_decoded():
    six = values.encoding("F6_E2M3")
    assert six.nbytes(8) == 6 and not values.readable(six) and values.encoding("F3") is None
    with pytest.raises(ValueError, match="not read"):
        six.decode(np.zeros(3, np.uint8))
