"""What every function of the room does with an argument: NumPy's integers are integers, everything else is named."""

import math

import numpy as np
import pytest

from prunequant import distortion as ds
from prunequant.distortion import Empirical, Gaussian, GeneralizedNormal, Laplace, Logistic, StudentT, Uniform, theory

X = np.random.default_rng(8).standard_t(3, 96)
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
FAMILY = ds.clipped_student(2.0)
WITH_INTEGERS = {
    "make_grid": lambda n: ds.make_grid(n(8)).levels.tolist(),
    "make_grid mid-rise": lambda n: ds.make_grid(n(8), "mid_rise").levels.tolist(),
    "integer_range": lambda n: ds.integer_range(n(8)),
    "quantization": lambda n: ds.quantization(Gaussian(), n(8)),
    "quantization_snr": lambda n: ds.quantization_snr(Empirical(X), n(8)),
    "joint": lambda n: ds.joint(Laplace(), 0.5, n(8)),
    "joint_snr": lambda n: ds.joint_snr(Empirical(X), 0.5, n(4)),
    "best_scale": lambda n: ds.best_scale(X.reshape(8, 12), n(8), axis=n(1), block=n(6)).tolist(),
    "best_step": lambda n: ds.best_step(X.reshape(8, 12), n(8), axis=n(1), block=n(6)).tolist(),
    "scale_error": lambda n: ds.scale_error(X, n(2), n(8)),
    "integer_entropy": lambda n: ds.integer_entropy(Gaussian(), n(8)),
    "entropy_coded": lambda n: ds.entropy_coded(Gaussian(), n(2), n(10)),
    "advantage": lambda n: ds.advantage(Gaussian(), n(4)),
    "equal_size_sparsity": lambda n: ds.equal_size_sparsity(Gaussian(), n(4), "same_nonzeros"),
    "equal_size_keep": lambda n: ds.equal_size_keep(n(4), "entropy", n(16)),
    "stored_bits": lambda n: ds.stored_bits(n(1), n(16)),
    "mask_overhead": lambda n: ds.mask_overhead(n(4)),
    "crossover": lambda n: ds.crossover(FAMILY, n(2), points=n(6)),
    "splits": lambda n: [(s.bits, s.keep, s.snr) for s in ds.splits(Gaussian(), n(4), bits=[n(3), n(8)])],
    "laws": lambda n: (GeneralizedNormal(n(2)), StudentT(n(3), n(100)), StudentT(n(3)).kurtosis),
    "inner": lambda n: float(Uniform().inner(n(2), n(1))),
    "upper": lambda n: float(Logistic().upper(n(2), n(1))),
    "truncated_moment": lambda n: float(Gaussian().truncated_moment(n(2), n(0), n(3))),
    "sample": lambda n: Gaussian().sample((n(2), n(3)), np.random.default_rng(0)).tolist(),
    "theory bits": lambda n: theory.uniform_quantization_snr(n(8)),
    "theory levels": lambda n: theory.gaussian_quantization_error(0.1, n(0), n(127)),
}


@pytest.mark.parametrize("call", WITH_INTEGERS.values(), ids=WITH_INTEGERS)
def test_an_integer_of_every_type_gives_the_result_of_the_python_integer(call):
    expected = call(int)
    for kind in INTEGERS:
        assert str(call(kind)) == str(expected)


NO_INTEGER = [4.0, "4", True, None, 4 + 0j, np.float64(4), [4]]


@pytest.mark.parametrize("value", NO_INTEGER, ids=repr)
def test_bits_that_are_no_integer_are_a_type_error(value):
    for call in (
        lambda: ds.make_grid(value),
        lambda: ds.integer_range(value),
        lambda: ds.quantization(Gaussian(), value),
        lambda: ds.joint(Gaussian(), 0.5, value),
        lambda: ds.best_scale(X, value),
        lambda: ds.scale_error(X, 1.0, value),
        lambda: ds.crossover(FAMILY, value),
        lambda: ds.splits(Gaussian(), 4, bits=[value]),
    ):
        with pytest.raises(TypeError, match="bits is"):
            call()


NO_REALS = [np.ones(4) + 1j, np.array(["1", "2"]), np.ma.masked_array(np.ones(4), [0, 1, 0, 0]), np.ones(4, bool)]


@pytest.mark.parametrize("x", NO_REALS, ids=lambda x: type(x).__name__ + str(x.dtype))
def test_arrays_that_hold_no_real_numbers_are_refused(x):
    for call in (
        lambda: Empirical(x),
        lambda: ds.best_scale(x, 4),
        lambda: ds.scale_error(x, 1.0, 4),
        lambda: ds.binary_entropy(x),
        lambda: Gaussian().cdf(x),
        lambda: Laplace().inner(2, x),
        lambda: Uniform().quantile(x),
        lambda: ds.make_grid(grid=x),
        lambda: theory.laplace_pruning_error(x),
    ):
        with pytest.raises(TypeError, match=r"(x|t|p|probability|grid|sparsity) (is|has)"):
            call()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ds.crossover("student", 4), TypeError, "family is 'student'"),
        (lambda: ds.crossover(FAMILY, 4, points=2**31), ValueError, "points is 2147483648"),
        (lambda: ds.advantage("gaussian", 4), TypeError, "law is a str"),
        (lambda: ds.equal_size_sparsity(None, 4), TypeError, "law is a NoneType"),
        (lambda: ds.splits("gaussian", 4), TypeError, "law is a str"),
        (lambda: ds.splits(Gaussian(), 4, "x:y"), ValueError, "mask is 'x:y'"),
        (lambda: ds.splits(Gaussian(), 4, 2), TypeError, "mask is 2"),
        (lambda: ds.splits(Gaussian(), 4, bits=4), TypeError, "bits is 4"),
        (lambda: ds.splits(Gaussian(), 4, bits=np.array(4)), TypeError, "bits is an array"),
        (lambda: theory.student_inner_second(3.0, math.inf), ValueError, "t holds infinity"),
        (lambda: ds.splits(Gaussian(), math.nan), ValueError, "budget is nan"),
        (lambda: ds.mask_bits(0.5, "1:" + "9" * 5000), ValueError, "mask is"),
        (lambda: ds.mask_bits("0.5"), TypeError, "keep is '0.5'"),
        (lambda: ds.stored_bits(math.nan), ValueError, "keep is nan"),
        (lambda: ds.binary_entropy(1.5), ValueError, "p holds"),
        (lambda: ds.best_scale(X, 4, axis=2**31), ValueError, "axis is 2147483648"),
        (lambda: ds.best_scale(X, 4, axis=0, block=np.uint8(5)), ValueError, "block is 5"),
        (lambda: ds.best_scale(np.full(8, 5e-324), 4), ValueError, "largest magnitude is 4.94066e-324"),
        (lambda: ds.best_scale(np.full(600, 5e-324), 4), ValueError, "largest magnitude is 4.94066e-324"),
        (lambda: ds.scale_error([1.0, math.nan], 1.0, 4), ValueError, "x holds NaN"),
        (lambda: ds.scale_error([1e200], 1.0, 4), ValueError, "above the largest float"),
        (lambda: ds.quantization(Gaussian(), 4, scale="1"), TypeError, "scale is '1'"),
        (lambda: ds.quantization(Gaussian(), 4, scale=1e-310), ValueError, "scale is 1e-310"),
        (lambda: ds.quantization(Gaussian(), 4, grid=None), TypeError, "grid is None"),
        (lambda: ds.quantization(Gaussian(), 4, grid=[-1e-300, 0, 1e-300]), ValueError, "grid reaches to 1e-300"),
        (lambda: ds.pruning(Gaussian(), "0.5"), TypeError, "sparsity is '0.5'"),
        (lambda: ds.joint(Gaussian(), math.nan, 4), ValueError, "sparsity is nan"),
        (lambda: ds.entropy_coded(Gaussian(), "2"), TypeError, "rate is '2'"),
        (lambda: Empirical([1e200]), ValueError, "largest magnitude of 1e\\+200"),
        (lambda: Empirical([1e-200]), ValueError, "largest magnitude of 1e-200"),
        (lambda: StudentT(5e-324), ValueError, "nu is 5e-324"),
        (lambda: StudentT(1e308), ValueError, "nu is 1e\\+308"),
        (lambda: StudentT(3.0, 1e-16), ValueError, "clip is 1e-16"),
        (lambda: GeneralizedNormal(1e-16), ValueError, "beta is 1e-16"),
        (lambda: GeneralizedNormal(1j), TypeError, "beta is 1j"),
        (lambda: Gaussian().inner(2, -1.0), ValueError, "t holds negative"),
        (lambda: Gaussian().inner(2, math.nan), ValueError, "t holds NaN"),
        (lambda: Gaussian().inner(2.0, 1.0), TypeError, "order is 2.0"),
        (lambda: StudentT(9.0).upper(3, 1.0), ValueError, "order is 3"),
        (lambda: Gaussian().truncated_moment(1, 2.0, 1.0), ValueError, "low is above high"),
        (lambda: Gaussian().quantile(1.5), ValueError, "probability holds"),
        (lambda: Gaussian().inner_by_quadrature(2, np.inf), ValueError, "^t holds infinity"),
        (lambda: Gaussian().sample(3, 0), TypeError, "rng is 0"),
        (lambda: Gaussian().sample(2**40, np.random.default_rng(0)), ValueError, "size is"),
        (lambda: theory.uniform_quantization_snr(4, "cube"), ValueError, "grid is 'cube'"),
        (lambda: theory.gaussian_pruning_error(1.0), ValueError, "sparsity holds 1"),
        (lambda: theory.high_rate_error(math.inf), ValueError, "scale is inf"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
