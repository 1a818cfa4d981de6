"""Arguments of every format: any kind of integer counts the same, and `out` is checked before a kernel writes."""

import itertools
from fractions import Fraction
from inspect import unwrap

import ml_dtypes
import numpy as np
import pytest

from prunequant.formats import (
    ELEMENTS,
    HBFP,
    MX,
    NF4,
    NVFP4,
    Element,
    Integer,
    _kernels,
    base,
    integer_snr,
    integer_squared_errors,
    named,
    names,
    pack,
    unpack,
)

NARROW = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
GRIDS = ("narrow", "twos_complement", "zero_point", "gptq")
FAMILIES = {type(named(name)): named(name, block=8) for name in names()}  # one of each class in the table
FORMATS = [*FAMILIES.values(), Integer(4), Integer(4, granularity="row"), Integer(8, granularity=8),
           Integer(4, "gptq", 8), Integer(5, "zero_point"), HBFP(4, 8), MX("fp4_e2m1"), MX("int8", 8),
           NVFP4(), NF4(16)]  # fmt: skip
X = np.random.default_rng(0).standard_normal((6, 40))


def compiled(kernel):
    """Numba's own object behind a kernel, whatever stands around it."""
    return unwrap(kernel, stop=lambda inner: hasattr(inner, "signatures"))


def same_format(made, plain):
    """Two formats that are the same in every stored parameter, every property and every number they give."""
    assert made == plain and hash(made) == hash(plain) and repr(made) == repr(plain)
    np.testing.assert_array_equal(made.levels, plain.levels)
    assert made.bits_per_value() == plain.bits_per_value()
    assert made.bits_per_value((6, 40)) == plain.bits_per_value((6, 40))
    for x in (X, X.astype(np.float32)):
        np.testing.assert_array_equal(made.quantize(x), plain.quantize(x))
        np.testing.assert_array_equal(made.scales(x), plain.scales(x))
        np.testing.assert_array_equal(made.step(x), plain.step(x))
        np.testing.assert_array_equal(made.decode(made.encode(x)), plain.quantize(x))


@pytest.mark.parametrize("kind", NARROW)
def test_integer_parameters_of_any_width_give_the_format_of_the_python_int(kind):
    for bits, grid in itertools.product((2, 4, 8, 16), GRIDS):
        same_format(Integer(kind(bits), grid), Integer(bits, grid))
        same_format(Integer(kind(bits), grid, kind(100), kind(16)), Integer(bits, grid, 100, 16))
    for bits in (3, 8, 16):
        same_format(HBFP(kind(bits), kind(12)), HBFP(bits, 12))
    for block in (1, 16, 100):
        same_format(MX("fp4_e2m1", kind(block)), MX("fp4_e2m1", block))
        same_format(NVFP4(kind(block)), NVFP4(block))
        same_format(NF4(kind(block)), NF4(block))


@pytest.mark.parametrize("kind", NARROW)
def test_axes_seeds_and_shapes_of_any_width_count_as_python_ints(kind):
    for fmt in FORMATS:
        made = fmt.quantize(X, kind(0), rounding="stochastic", seed=kind(7))
        np.testing.assert_array_equal(made, fmt.quantize(X, 0, rounding="stochastic", seed=7))
        assert fmt.bits_per_value((kind(100), kind(50)), kind(1)) == fmt.bits_per_value((100, 50), 1)
        assert fmt.bits_per_value(np.array([100, 50], kind)) == fmt.bits_per_value((100, 50))


@pytest.mark.parametrize("kind", NARROW)
def test_widths_of_any_kind_give_the_same_errors_and_packed_codes(kind):
    bits = (2, 4, 8, 16)
    for x in (X, X.astype(np.float32)):
        np.testing.assert_array_equal(integer_snr(x, np.array(bits, kind)), integer_snr(x, bits))
        made = integer_squared_errors(x, [kind(b) for b in bits], grid="twos_complement")
        np.testing.assert_array_equal(made, integer_squared_errors(x, bits, grid="twos_complement"))
    codes = np.arange(-8, 8, dtype=np.int8)
    packed = pack(codes, kind(4))
    np.testing.assert_array_equal(packed, pack(codes.astype(np.int64), 4))
    np.testing.assert_array_equal(unpack(packed.astype(np.int64), kind(4), kind(16), signed=np.True_), codes)
    np.testing.assert_array_equal(Element(kind(4), kind(3), kind(7), 448.0).levels, ELEMENTS["fp8_e4m3"].levels)


def float32(values):
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_of_another_kind_layout_or_place_is_refused_and_left_alone(fmt, dtype):
    x = X.astype(dtype)[:, :32].copy()
    readonly = np.zeros_like(x)
    readonly.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
    for out, error in (
        (np.zeros_like(x).view(np.matrix), TypeError),
        (np.ma.zeros(x.shape, dtype), TypeError),
        (x.tolist(), TypeError),
        (readonly, ValueError),
        (unaligned, ValueError),
        (np.zeros_like(x, np.float16), ValueError),
        (np.zeros(x.shape, x.dtype.newbyteorder()), ValueError),
        (np.zeros((x.shape[0] + 1, x.shape[1]), dtype), ValueError),
        (np.zeros(x.shape[::-1], dtype).T, ValueError),
        (np.zeros((x.shape[0], 2 * x.shape[1]), dtype)[:, ::2], ValueError),
    ):
        before = np.array(out)
        with pytest.raises(error, match=r"^out "):
            fmt.quantize(x, out=out)
        np.testing.assert_array_equal(np.array(out), before)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_may_be_x_itself_but_no_shifted_part_of_it(fmt, dtype):
    memory = np.tile(X.astype(dtype).ravel(), 2)
    expected = fmt.quantize(memory[:64])
    for shift in range(1, 65):
        for x, out in (
            (memory[:64], memory[shift : shift + 64]),
            (memory[shift : shift + 64], memory[:64]),
        ):
            if shift == 64:
                continue
            before = memory.copy()
            with pytest.raises(ValueError, match="overlaps"):
                fmt.quantize(x, out=out)
            np.testing.assert_array_equal(memory, before)
    beside = fmt.quantize(memory[:64], out=memory[64:128])  # shifted by its whole length: apart
    np.testing.assert_array_equal(beside, expected)
    x = memory[:64].reshape(4, 16).copy()
    expected, drawn = fmt.quantize(x), fmt.quantize(x, rounding="stochastic", seed=3)
    again = x.copy()
    assert fmt.quantize(x, out=x) is x
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(fmt.quantize(again, rounding="stochastic", seed=3, out=again), drawn)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("bad", [2.0**127, np.finfo(np.float32).max, np.inf, np.nan])
def test_bad_values_are_refused_in_place_as_they_are_elsewhere(fmt, bad):
    x = float32(X)
    x[3, 17] = bad
    with pytest.raises(ValueError) as caught:
        fmt.quantize(x)
    with pytest.raises(ValueError, match=str(caught.value).replace("+", r"\+")):
        fmt.quantize(x, out=x)


def test_a_scale_may_lie_in_the_memory_of_out():
    for dtype in (np.float32, np.float64):
        x, out = X[:4, :8].astype(dtype), np.full((4, 8), 0.25, dtype)
        expected = Integer(4, granularity=1).quantize(x, scale=out.copy())
        np.testing.assert_array_equal(Integer(4, granularity=1).quantize(x, scale=out, out=out), expected)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(4, 8), (0, 8)])
def test_a_scale_is_taken_or_refused_by_name_and_never_ignored(fmt, shape):
    x = np.ones(shape)
    if fmt.takes_scale:
        assert np.all(fmt.quantize(x, scale=0.5) == 1) and fmt.quantize(x, scale=0.5).shape == shape
    else:
        with pytest.raises(ValueError, match=r"^scale is given but .* takes its scales from the data"):
            fmt.quantize(x, scale=0.5)
    for bad in (0.0, -1.0, np.nan, np.ones(3)):
        with pytest.raises(ValueError, match=r"^scale "):
            fmt.quantize(x, scale=bad)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_arrays_without_values_pass_in_any_shape(fmt):
    for shape in ((4, 0), (0, 4), (0,), (3, 0, 2)):
        for dtype in (np.float32, np.float64):
            x = np.zeros(shape, dtype)
            assert fmt.quantize(x).shape == fmt.quantize(x, out=np.empty_like(x)).shape == shape
            assert fmt.decode(fmt.encode(x)).shape == fmt.step(x).shape == shape
            assert fmt.scales(x).size == 0 or shape != (4, 0)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_a_block_beyond_the_row_is_the_row(fmt):
    if fmt.block_size:
        longest, row = fmt.with_block(2**31), fmt.with_block(40)
        for x in (X, float32(X)):
            np.testing.assert_array_equal(longest.quantize(x), row.quantize(x))


def test_inputs_that_are_read_only_byte_swapped_unaligned_or_narrow_give_the_numbers_of_their_values():
    x = float32(X)
    readonly = x.copy()
    readonly.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    half = x.astype(ml_dtypes.bfloat16)
    for fmt in FORMATS:
        for other in (readonly, unaligned, x.astype(">f4"), np.asfortranarray(x), x.view(np.matrix)):
            np.testing.assert_array_equal(fmt.quantize(other), fmt.quantize(x))
        np.testing.assert_array_equal(fmt.quantize(half), fmt.quantize(half.astype(np.float32)))


def test_read_only_and_memory_mapped_inputs_compile_no_kernel_again(tmp_path):
    x = float32(X)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    kernels = [_kernels.integer_blocks, _kernels.shared_float, _kernels.shared_integer, _kernels.nearest_level,
               _kernels.scaled_e2m1, _kernels.largest_bits, _kernels.integer_scales]  # fmt: skip
    for given in (x, mapped):
        for fmt in FORMATS:
            fmt.quantize(given)
        Integer(4, granularity="row").quantize(given, scale=np.full((6, 1), 0.5, np.float32))
    if hasattr(compiled(kernels[0]), "signatures"):  # not where the JIT is off
        assert [len(compiled(kernel).signatures) for kernel in kernels] == [1] * len(kernels)


@pytest.mark.parametrize("scale", [10.0**k for k in range(-40, 31, 5)])
@pytest.mark.parametrize("grid", ["narrow", "twos_complement"])
def test_squared_errors_of_float32_are_the_sums_of_exact_fractions_at_every_scale(scale, grid):
    bits = (2, 4, 8)
    x = float32(np.random.default_rng(1).standard_normal(400) * scale)
    exact = []
    for b in bits:
        q = Integer(b, grid).quantize(x)
        exact.append(sum((Fraction(float(u)) - Fraction(float(v))) ** 2 for u, v in zip(x, q)))
    made = integer_squared_errors(x, bits, grid=grid)
    np.testing.assert_allclose(made, [float(e) for e in exact], rtol=2e-5)
    power = sum(Fraction(float(u)) ** 2 for u in x)
    expected = [10 * np.log10(float(power / e)) for e in exact]
    np.testing.assert_allclose(integer_snr(x, bits, grid=grid), expected, atol=1e-4)


@pytest.mark.parametrize("exponent", [-1030, -700, -300, 0, 300, 700, 1000])
def test_the_ratio_of_float64_squares_does_not_change_with_the_unit(exponent):
    x = np.ldexp(np.round(np.random.default_rng(2).standard_normal(500) * 2**20), -20)
    scale = np.array([0.5, 0.25])
    expected = integer_snr(x, (3, 5), scale=scale)
    made = integer_snr(np.ldexp(x, exponent), (3, 5), scale=np.ldexp(scale, exponent))
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_allclose(integer_snr(np.ldexp(x, exponent), (8,)), integer_snr(x, (8,)), atol=1e-6)


def test_errors_far_below_the_largest_value_are_not_lost():
    x = float32([1.0, 0.0, 1e-25, -3e-30])  # 1.0 is a multiple of the scale, the others become 0
    exact = float(Fraction(float(x[2])) ** 2 + Fraction(float(x[3])) ** 2)
    np.testing.assert_allclose(integer_squared_errors(x, (4, 8), scale=[0.25, 0.25]), exact, rtol=1e-12)
    np.testing.assert_array_equal(integer_squared_errors(float32([3.0, -2.0, 0.0]), (3,)), 0)
    assert np.all(np.isinf(integer_snr(np.zeros(4, np.float32), (3, 5))))


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e20, 1e38])
def test_a_given_scale_of_any_size_gives_the_errors_of_the_format(scale):
    for unit in (1e-38, 1.0, 1e35):
        x = float32(X * unit)
        expected = np.sum((x.astype(np.float64) - Integer(4).quantize(x.ravel(), scale=scale).reshape(x.shape)) ** 2)
        np.testing.assert_allclose(integer_squared_errors(x, (4,), scale=[scale])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0**-126, 1e-30, 1.0, 1e30, 3e38])
def test_every_tensor_scale_of_nvfp4_gives_finite_numbers_and_their_codes(scale):
    fmt = NVFP4(tensor_scale=scale)
    for x in (float32(X), X, float32(X * 1e37), X * 1e37, X * 1e-300, float32(X * 1e-40)):
        made = fmt.quantize(x)
        assert np.all(np.isfinite(made))
        np.testing.assert_array_equal(fmt.decode(fmt.encode(x)), made)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Integer(4.0), TypeError, "^bits is 4.0"),
        (lambda: Integer(True), TypeError, "^bits is True"),
        (lambda: Integer(4, granularity=True), TypeError, "^granularity is True.*'tensor', 'row' or a group size"),
        (lambda: Integer(4, granularity="rows"), ValueError, "^granularity is 'rows'.*'tensor', 'row'"),
        (lambda: Integer(4, granularity=2**31 + 1), ValueError, "^granularity"),
        (lambda: Integer(4, ["narrow"]), TypeError, "^grid"),
        (lambda: Integer(4, scale_dtype_bits=-1), ValueError, "^scale_dtype_bits"),
        (lambda: HBFP(4, np.inf), TypeError, "^block is inf"),
        (lambda: MX({}), TypeError, "^element"),
        (lambda: NVFP4(tensor_scale=1e300), ValueError, "^tensor_scale"),
        (lambda: NVFP4(tensor_scale=1e-40), ValueError, "^tensor_scale"),
        (lambda: NVFP4(tensor_scale="1"), TypeError, "^tensor_scale is '1'"),
        (lambda: Integer(4).quantize(np.ma.masked_array([1.0, 2.0], [0, 1])), TypeError, "masked"),
        (lambda: Integer(4).quantize(np.array([True])), TypeError, "bool"),
        (lambda: Integer(4).quantize(["1"]), TypeError, "^x has dtype <U1"),
        (lambda: Integer(4).quantize(np.ones(3, np.longdouble)), TypeError, "float64 or narrower"),
        (lambda: Integer(4).quantize(np.ones(3), axis=0.0), TypeError, "^axis"),
        (lambda: Integer(4).quantize(np.ones(3), seed=0.5), TypeError, "^seed"),
        (lambda: Integer(4).quantize(np.ones(3), rounding=None), TypeError, "^rounding"),
        (lambda: Integer(4).quantize(np.ones(3), scale="1"), TypeError, "^scale"),
        (lambda: Integer(4).quantize(np.ones(3), scale=np.nan), ValueError, "^scale"),
        (lambda: Integer(4).quantize(float32([1, 2]), scale=1e-60), ValueError, "^scale must be positive"),
        (lambda: Integer(4).quantize(np.ones((3, 2)), 0, out=np.ones((3, 2))), ValueError, "last axis"),
        (lambda: Integer(4).encode(np.ones(3), rounding="up"), ValueError, "^rounding"),
        (lambda: Integer(4).decode("codes"), TypeError, "^encoded"),
        (lambda: Integer(4).bits_per_value((np.inf, 3)), TypeError, r"^shape\[0\] is inf"),
        (lambda: Integer(4).bits_per_value(np.ma.masked_array([3, 4], [0, 1])), TypeError, r"^shape\[1\]"),
        (lambda: Integer(4).bits_per_value(3), TypeError, "^shape is 3"),
        (lambda: Integer(4).bits_per_value(()), ValueError, "^shape is"),
        (lambda: integer_snr(np.ones(3), 4), TypeError, "^bits is 4"),
        (lambda: integer_snr(np.ones(3), (4.0,)), TypeError, "^bits is 4.0"),
        (lambda: integer_snr(np.ones(3), (4,), grid="gptq"), ValueError, "^grid"),
        (lambda: integer_snr(np.ones(3), (4,), scale=[np.inf]), ValueError, "^scale"),
        (lambda: integer_snr(float32([1, np.nan]), (4,), scale=[1.0]), ValueError, "NaN"),
        (lambda: pack([1], "4"), TypeError, "^bits"),
        (lambda: pack([0.5], 4), TypeError, "^codes"),
        (lambda: unpack(np.array([300]), 4, 1), ValueError, "300"),
        (lambda: unpack(np.array([30], np.uint8), 4, -1), ValueError, "^count is -1"),
        (lambda: unpack(np.array([30], np.uint8), 4, 3), ValueError, "2 codes of 4 bits.*count is 3"),
        (lambda: unpack(np.array([30], np.uint8), 4, 1, signed=1), TypeError, "^signed"),
        (lambda: Element(5, 4, 7, 1.0), ValueError, "together"),
        (lambda: Element(2, 1, 1, 0.0), ValueError, "^largest"),
        (lambda: ELEMENTS["fp4_e2m1"].to_codes(np.array([0.7])), ValueError, "levels"),
        (lambda: ELEMENTS["fp8_e4m3"].from_codes(np.array([0x7F]), np.float32), ValueError, "codes"),
        (lambda: ELEMENTS["fp4_e2m1"].from_codes(np.array([16]), np.float32), ValueError, "codes"),
        (lambda: base.uniform32(np.array([0.5]), 0), TypeError, "^index"),
        (lambda: base.uniform32(np.arange(3), 2**128), ValueError, "^seed"),
    ],
)
def test_a_bad_argument_is_named_before_any_work(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("size", [100, base._SMALL + 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_infinity_or_nan_anywhere_is_seen_and_the_largest_number_is_none(size, dtype):
    x = np.ones(size, dtype)
    for value, finite in ((np.finfo(dtype).max, True), (np.inf, False), (-np.inf, False), (np.nan, False)):
        x[-1] = value
        assert base.all_finite(x) is finite
