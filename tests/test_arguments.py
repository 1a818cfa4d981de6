"""One dialect of errors: what it is, what was given, what is allowed; and every number a Python number."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from prunequant import arguments

INTEGER_TYPES = [int, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
NO_INTEGERS = [True, np.True_, 4.0, np.float32(4), "4", None, [4], np.array([4, 5]), np.array(True), 4j, np.ma.masked]
NO_NUMBERS = [True, np.True_, "4", None, [4.0], np.array([1.0, 2.0]), 4j, np.complex64(4), b"4", np.datetime64("2020")]


@pytest.mark.parametrize("kind", INTEGER_TYPES)
def test_an_integer_of_any_width_becomes_a_python_int(kind):
    made = arguments.integer(kind(7), "n", 0, 10)
    assert made == 7 and type(made) is int
    assert type(arguments.real(kind(7), "n")) is float


def test_a_zero_dimensional_array_is_its_number():
    assert arguments.integer(np.array(4, np.uint8), "n") == 4
    assert arguments.real(np.array(0.5, np.float16), "p") == 0.5


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_what_is_no_integer_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"^bits is .*: it must be an integer in \[1, 8\]$"):
        arguments.integer(value, "bits", 1, 8)


@pytest.mark.parametrize("value", [0, 9, -(2**70), 10**5000], ids=["0", "9", "huge", "5000 digits"])
def test_an_integer_out_of_range_is_refused_in_one_line(value):
    with pytest.raises(ValueError, match=r"^bits is .*: it must be an integer in \[1, 8\]$") as caught:
        arguments.integer(value, "bits", 1, 8)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"^scale is .*: it must be a finite number above 0$"):
        arguments.real(value, "scale", 0, open_low=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1.0, np.float32("nan"), 10**400, -0.0])
def test_a_number_out_of_bounds_is_refused(value):
    with pytest.raises(ValueError, match=r"scale is .*: it must be a finite number above 0"):
        arguments.real(value, "scale", 0, open_low=True)


def test_bounds_are_closed_unless_said():
    assert arguments.real(1, "p", 0, 1) == 1 and arguments.real(0, "p", 0, 1) == 0
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        arguments.real(0, "p", 0, 1, open_low=True)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        arguments.real(1, "p", 0, 1, open_high=True)
    assert arguments.real(np.inf, "clip", 0, infinite=True) == np.inf


def test_fractions_and_bfloat16_are_numbers():
    assert arguments.real(Fraction(1, 4), "p") == 0.25
    assert arguments.real(ml_dtypes.bfloat16(0.5), "p") == 0.5


@pytest.mark.parametrize("value", [1, 0, "yes", None, 1.0, np.array([True])], ids=repr)
def test_a_flag_is_true_or_false(value):
    with pytest.raises(TypeError, match=r"stochastic is .*: it must be True or False"):
        arguments.flag(value, "stochastic")


def test_a_choice_lists_the_words():
    with pytest.raises(ValueError, match="order is 'x': it must be one of 'sq', 'qs'"):
        arguments.choice("x", "order", ("sq", "qs"))
    with pytest.raises(TypeError, match="order is 3: it must be one of"):
        arguments.choice(3, "order", ("sq", "qs"))


BAD_ARRAYS = [
    np.array([1j]),
    np.ma.masked_array([1.0, 2.0], [True, False]),
    np.array(["1"]),
    np.array(["2020"], "M8[D]"),
    np.zeros(2, [("a", "f4")]),
    np.zeros(2, "V4"),
    np.array([None]),
    np.array([True]),
    [[1.0], [1.0, 2.0]],
    "abc",
]


@pytest.mark.parametrize("x", BAD_ARRAYS, ids=lambda x: str(getattr(x, "dtype", x)))
def test_an_array_of_anything_else_than_numbers_is_refused_by_name(x):
    for check in (arguments.numbers, arguments.integers):
        with pytest.raises((TypeError, ValueError), match=r"^x (is|has) "):
            check(x, "x")


def test_numbers_keep_their_dtype_and_must_be_finite():
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.uint64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
        assert arguments.numbers(np.ones(3, dtype), "x").dtype == dtype
    for value in (np.nan, np.inf, -np.inf):
        for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
            with pytest.raises(ValueError, match="x holds NaN or infinity"):
                arguments.numbers(np.array([1, value], dtype), "x")
    assert np.isnan(arguments.numbers([np.nan], "x", finite=False))


def test_a_matrix_becomes_a_plain_array():
    assert type(arguments.numbers(np.matrix([[1.0]]), "x")) is np.ndarray


def test_integers_may_be_large_python_integers():
    assert arguments.integers([2**70, 1], "targets").dtype == object
    assert arguments.integers([], "x").dtype == np.int64
    with pytest.raises(TypeError):
        arguments.integers(np.array([2**70, 1.5], object), "targets")


def test_an_output_is_checked_before_it_is_written():
    x = np.zeros((4, 6), np.float32)
    good = np.zeros((4, 6), np.float32)
    assert arguments.output(good, "out", x.shape, x.dtype, x) is good
    assert arguments.output(x, "out", x.shape, x.dtype, x) is x
    frozen = good.copy()
    frozen.flags.writeable = False
    long = np.zeros(40, np.float32)
    for bad, kind, word in [
        (np.matrix(good), TypeError, "matrix"),
        ([0.0], TypeError, "list"),
        (good.astype(np.float64), ValueError, "dtype float64"),
        (good.T, ValueError, "shape"),
        (np.asfortranarray(good), ValueError, "contiguous"),
        (frozen, ValueError, "read-only"),
    ]:
        with pytest.raises(kind, match=word):
            arguments.output(bad, "out", x.shape, x.dtype, x)
    with pytest.raises(ValueError, match="overlaps"):
        arguments.output(long[4:28].reshape(4, 6), "out", x.shape, x.dtype, long[:24].reshape(4, 6))


def test_a_path_is_a_string_or_a_path_and_nothing_else(tmp_path):
    assert arguments.path(str(tmp_path), "path") == arguments.path(tmp_path, "path") == tmp_path
    for bad in (7, b"rows.json", None, np.array(["a"])):
        with pytest.raises(TypeError, match=r"^store is "):
            arguments.path(bad, "store")


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="no wider float here")
def test_a_number_that_float64_does_not_hold_is_refused_not_rounded_to_infinity():
    for finite in (True, False):
        with pytest.raises(ValueError, match=r"^x holds numbers beyond"):
            arguments.numbers(np.array([1, "1e4000"], np.longdouble), "x", finite=finite)
    assert np.isinf(arguments.numbers(np.array([np.inf], np.longdouble), "x", finite=False)).all()
