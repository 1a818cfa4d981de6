"""Each format against slow twins in exact arithmetic, its own codes, and its kernels against its definition."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunequant.formats import ELEMENTS, HBFP, MX, NF4, NVFP4, Integer, named, names, pack, unpack

sys.path.insert(0, str(Path(__file__).parents[1]))
from naive import formats as naive

GRIDS = ("narrow", "twos_complement", "zero_point", "gptq")
FAMILIES = {type(named(name)): named(name, block=20) for name in names()}  # one of each class in the table
BLOCKED = [*FAMILIES.values(), HBFP(4), HBFP(8, 16), HBFP(6, 40), NVFP4(), NF4(), NF4(40)] + [
    MX(element, block, rule) for element in ELEMENTS for block in (32, 20) for rule in ("floor", "rceil")
]
INTEGERS = [
    Integer(bits, grid, granularity)
    for bits in (2, 4, 8)
    for grid in GRIDS
    for granularity in ("tensor", "row", 32, 20)
]


def awkward_values(count: int, seed: int = 0) -> np.ndarray:
    """float32 over 30 decades with zeros, subnormals, ties and negative numbers."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count) * np.exp(rng.normal(0, 8, count))
    x[3::13] = np.round(x[3::13] * 4) / 4
    x[::7] = 0
    x[1::11] *= -1
    x[5::101] = 1e-41
    return x.astype(np.float32)


def bits_of(x: np.ndarray) -> np.ndarray:
    return x.view(np.int32 if x.dtype == np.float32 else np.int64)


@pytest.mark.parametrize("fmt", BLOCKED + INTEGERS, ids=str)
@pytest.mark.parametrize("rounding", ["even", "stochastic"])
def test_decoded_codes_are_the_quantized_values_bit_for_bit(fmt, rounding):
    for x in (awkward_values(96 * 80).reshape(-1, 96), awkward_values(96 * 8, 1).astype(np.float64).reshape(-1, 96)):
        values = fmt.quantize(x, rounding=rounding, seed=3)
        decoded = fmt.decode(fmt.encode(x, rounding=rounding, seed=3))
        assert values.dtype == decoded.dtype == x.dtype
        np.testing.assert_array_equal(bits_of(values), bits_of(decoded))


@pytest.mark.parametrize("element", [name for name in ELEMENTS if name != "int8"])
@pytest.mark.parametrize("rule", ["floor", "rceil"])
def test_microscaling_floats_are_the_nearest_values_in_exact_arithmetic(element, rule):
    shape = ELEMENTS[element]
    grid = naive.small_float_grid(shape.exponent_bits, shape.mantissa_bits, shape.bias, shape.largest)
    assert [float(level) for level in grid] == list(shape.levels)
    x = awkward_values(8 * 12, 2).reshape(12, 8)
    expected = [naive.mx(row.tolist(), grid, rule) for row in x]
    np.testing.assert_array_equal(MX(element, 8, rule).quantize(x), np.array(expected, np.float32))


def test_microscaling_integers_are_the_nearest_sixty_fourths_in_exact_arithmetic():
    grid = [naive.Fraction(i, 64) for i in range(-127, 128)]
    x = awkward_values(8 * 12, 3).reshape(12, 8)
    for rule in ("floor", "rceil"):
        expected = [naive.mx(row.tolist(), grid, rule) for row in x]
        np.testing.assert_array_equal(MX("int8", 8, rule).quantize(x), np.array(expected, np.float32))


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_block_floating_point_is_its_definition_in_exact_arithmetic(bits):
    x = awkward_values(8 * 40, 4).reshape(40, 8)
    x[abs(x) < 1e-30] = 0
    x[3] = 2.0 ** np.arange(8)  # a largest magnitude that is a power of two is clipped
    expected = [naive.hbfp(row.tolist(), bits) for row in x]
    np.testing.assert_array_equal(HBFP(bits, 8).quantize(x), np.array(expected, np.float32))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_are_their_formula_one_value_at_a_time(grid, dtype):
    x = np.random.default_rng(5).standard_normal((40, 12)).astype(dtype)
    x[7], x[8] = np.abs(x[7]), -np.abs(x[8])
    x[9] = 0
    for bits in (2, 3, 4, 8):
        expected = [naive.integer(row, bits, grid, dtype) for row in x]
        np.testing.assert_array_equal(Integer(bits, grid, "row").quantize(x), np.array(expected, dtype))


def test_nvfp4_is_its_two_roundings_found_by_search():
    x = np.random.default_rng(6).standard_t(3, (12, 40)).astype(np.float32)
    np.testing.assert_array_equal(NVFP4().quantize(x), naive.nvfp4(x))


@pytest.mark.parametrize("fmt", [*BLOCKED, *INTEGERS[:16]], ids=str)
def test_any_axis_gives_the_transposed_result(fmt):
    x = awkward_values(24 * 60, 7).reshape(24, 60)
    np.testing.assert_array_equal(fmt.quantize(np.ascontiguousarray(x.T), axis=0), fmt.quantize(x).T)


@pytest.mark.parametrize("fmt", BLOCKED, ids=str)
def test_a_short_last_block_is_the_block_padded_with_zeros(fmt):
    x = awkward_values(5 * 50, 8).reshape(5, 50)
    pad = -50 % fmt.block_size
    padded = fmt.quantize(np.pad(x, ((0, 0), (0, pad))))
    np.testing.assert_array_equal(fmt.quantize(x), padded[:, :50])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=12), st.sampled_from(BLOCKED + INTEGERS))
def test_stated_properties_hold_on_any_values(values, fmt):
    x = np.array(values, np.float64)
    q = fmt.quantize(x)
    assert np.all(q[x == 0] == 0)
    if fmt.odd:
        np.testing.assert_array_equal(fmt.quantize(-x), -q)
    order = np.argsort(x)
    if fmt.block_size is None or fmt.block_size == 0 or fmt.block_size >= x.size:
        assert np.all(np.diff(q[order]) >= 0)
    np.testing.assert_array_equal(np.sign(q) * np.sign(x) >= 0, True)


@pytest.mark.parametrize("fmt", [f for f in BLOCKED + INTEGERS if not f.saturates], ids=str)
def test_no_error_exceeds_half_the_step_unless_the_format_saturates(fmt):
    x = np.random.default_rng(9).standard_t(3, (40, 40))
    assert np.all(np.abs(x - fmt.quantize(x)) <= fmt.step(x) / 2 * (1 + 1e-12))


@pytest.mark.parametrize(
    "fmt", [Integer(4, granularity=16), HBFP(4, 16), MX("fp4_e2m1", 16), MX("int8", 16), NF4(16), NVFP4()], ids=str
)
def test_stochastic_rounding_is_unbiased_inside_the_range_and_repeats_for_a_seed(fmt):
    rng = np.random.default_rng(10)
    x = np.repeat(rng.uniform(-1, 1, (1, 16)), 40_000, axis=0).astype(np.float32)
    x[:, 0] = 1.0625 if isinstance(fmt, HBFP | MX) else 1.0
    mean = fmt.quantize(x, rounding="stochastic", seed=1).mean(axis=0, dtype=np.float64)
    inside = slice(1, None)
    deviation = fmt.step(x)[0, inside] / 2 / np.sqrt(40_000)
    assert np.all(np.abs(mean - x[0])[inside] < 5 * deviation)
    again = fmt.quantize(x, rounding="stochastic", seed=1)
    np.testing.assert_array_equal(again, fmt.quantize(x, rounding="stochastic", seed=1))
    assert np.any(again != fmt.quantize(x, rounding="stochastic", seed=2))
    np.testing.assert_array_equal(
        fmt.quantize(x, rounding="stochastic"), fmt.quantize(x, rounding="stochastic", seed=0)
    )


def test_the_number_of_threads_changes_nothing():
    import numba

    x = awkward_values(200_000, 11)
    formats = [Integer(4), Integer(4, granularity=96), HBFP(6), MX("fp4_e2m1")]
    before = numba.get_num_threads()
    many = [f.quantize(x, rounding="stochastic", seed=5) for f in formats]
    try:
        numba.set_num_threads(1)
        for f, expected in zip(formats, many):
            np.testing.assert_array_equal(f.quantize(x, rounding="stochastic", seed=5), expected)
    finally:
        numba.set_num_threads(before)


def test_stored_bits_count_the_scales():
    assert MX("fp6_e2m3").bits_per_value() == MX("fp6_e2m3").bits_per_value((7, 64)) == 6.25
    assert MX("fp4_e2m1").bits_per_value((1, 33)) == 4 + 16 / 33
    assert NVFP4().bits_per_value((4, 16)) == 4.5 + 32 / 64
    assert HBFP(6).bits_per_value() == 6 + 8 / 64
    assert Integer(4, granularity="row").bits_per_value((3, 10)) == 4 + 3.2
    assert Integer(4, "zero_point").bits_per_value((3, 10)) == 4 + 36 / 30
    assert Integer(4, granularity=8).bits_per_value((3, 10), axis=0) == 4 + 32 / 3


@given(st.integers(1, 16), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_packed_codes_come_back(bits, count, seed):
    codes = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count)
    packed = pack(codes, bits)
    assert packed.size == -(-count * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, count, signed=True), codes)


def test_all_zero_and_constant_tensors_have_exact_results():
    for fmt in BLOCKED + INTEGERS:
        assert np.all(fmt.quantize(np.zeros((2, 64), np.float32)) == 0)
    assert np.all(Integer(4).quantize(np.full(5, -0.3)) == -0.3)
    assert np.all(MX("fp4_e2m1").quantize(np.full(5, 3e-45, np.float32)) == 0)
    assert Integer(8).quantize(np.float32([1e-45, -3e-45])).tolist() == np.float32([1e-45, -3e-45]).tolist()


def test_the_largest_floats_do_not_overflow():
    top = np.finfo(np.float32).max
    x = np.array([top, -top, np.nextafter(np.float32(top / 2), np.float32(0)), 1], np.float32)
    for fmt in BLOCKED + INTEGERS:
        assert np.all(np.isfinite(fmt.quantize(x[2:])))
        with pytest.raises(ValueError, match="too large"):
            fmt.quantize(x)


@pytest.mark.parametrize("fmt", BLOCKED[:8] + INTEGERS[:16], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_are_refused(fmt, dtype, bad):
    x = np.ones((2, 70), dtype)
    x[1, 69] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        fmt.quantize(x)
    with pytest.raises(ValueError, match="NaN or infinity"):
        fmt.encode(x)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Integer(1), ValueError, r"\[2, 16\]"),
        (lambda: Integer(4, "signed"), ValueError, "narrow"),
        (lambda: Integer(4, granularity=0), ValueError, "group size"),
        (lambda: HBFP(2), ValueError, r"\[3, 16\]"),
        (lambda: MX("fp5"), ValueError, "fp4_e2m1"),
        (lambda: MX("int8", 0), ValueError, "block"),
        (lambda: MX("int8", scale_rule="up"), ValueError, "rceil"),
        (lambda: NVFP4(tensor_scale=0.0), ValueError, "tensor_scale"),
        (lambda: Integer(4).quantize(np.ones(3), axis=1), ValueError, "axis is 1"),
        (lambda: Integer(4).quantize(np.ones(3), rounding="up"), ValueError, "stochastic"),
        (lambda: Integer(4).quantize(np.ones(3), rounding="stochastic", seed=-1), ValueError, "seed"),
        (lambda: Integer(4).quantize(np.ones(3), scale=0.0), ValueError, "positive"),
        (lambda: Integer(4).quantize(np.ones(3), scale=np.ones(3)), ValueError, "one a block"),
        (lambda: Integer(4, "zero_point").quantize(np.ones(3), scale=1.0), ValueError, "^scale is given"),
        (lambda: MX("int8").quantize(np.ones(3), scale=1.0), ValueError, "scale"),
        (lambda: MX("int8").quantize(np.ones(3), out=np.ones(4)), ValueError, "out"),
        (lambda: MX("int8").quantize(1j * np.ones(3)), TypeError, "complex"),
        (lambda: MX("int8").quantize(3.0), ValueError, "single number"),
        (lambda: MX("int8").quantize(np.array([1e300])), ValueError, "too large"),
        (lambda: MX("int8").bits_per_value((0,)), ValueError, "shape"),
        (lambda: pack(np.array([8]), 2), ValueError, "2 bits"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_half_precisions_are_widened_and_out_is_filled():
    import ml_dtypes

    x = np.array([1.0, 0.3], ml_dtypes.bfloat16)
    assert Integer(4).quantize(x).dtype == np.float32
    x = awkward_values(256)
    out = np.empty_like(x)
    assert HBFP(6).quantize(x, out=out) is out
    np.testing.assert_array_equal(out, HBFP(6).quantize(x))
    assert HBFP(6).quantize(np.empty((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("fmt", BLOCKED + INTEGERS, ids=str)
def test_row_by_row_gives_each_row_what_it_would_get_alone(fmt):
    x = np.random.default_rng(12).integers(-8, 9, (50, 24)).astype(np.float64)
    x[:, 0] = 8  # every row holds the largest magnitude, so that scales of the whole array are those of a row
    alone = np.concatenate([fmt.quantize(row[None]) for row in x])
    np.testing.assert_array_equal(fmt.row_by_row(8.0).quantize(x), alone)
    x[0] *= 16
    np.testing.assert_array_equal(fmt.row_by_row(8.0).quantize(x)[1:], alone[1:])  # whatever stands beside it


@pytest.mark.parametrize("fmt", BLOCKED + INTEGERS, ids=str)
def test_with_block_changes_the_block_and_nothing_else(fmt):
    made = fmt.with_block(np.uint8(12))
    assert made.block_size == 12 and made.with_block(7) != made
    if fmt.block_size:
        assert made.with_block(fmt.block_size) == fmt
    for bad, error in ((0, ValueError), (2.0, TypeError), ("row", TypeError)):
        with pytest.raises(error, match=r"^block is"):
            fmt.with_block(bad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_halfway_between_two_levels_of_nf4_goes_to_the_lower_one(dtype):
    levels = NF4(16).levels.astype(dtype)
    halfway = (levels[1:] + levels[:-1]) / 2
    x = np.append(dtype(1), halfway)  # the block's largest magnitude is 1, so that its scale is 1
    np.testing.assert_array_equal(NF4(16).quantize(x)[1:], levels[:-1])
    above = np.append(dtype(1), np.nextafter(halfway, dtype(2)))
    np.testing.assert_array_equal(NF4(16).quantize(above)[1:], levels[1:])


@pytest.mark.parametrize(
    ("grid", "low", "high"), [("twos_complement", -8, 7), ("narrow", -7, 7), ("zero_point", 0, 15)]
)
def test_the_codes_of_four_bits_by_grid(grid, low, high):
    assert Integer(4, grid).code_range == (low, high)
    assert list(Integer(4, grid).levels) == list(range(low, high + 1))
