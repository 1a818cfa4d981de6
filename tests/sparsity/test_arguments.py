"""Arguments of the masks: any kind of integer counts the same, and `out` is checked before a kernel writes."""

from inspect import unwrap

import numpy as np
import pytest

from prunequant import sparsity
from prunequant.sparsity import _kernels, select

NARROW = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
X = np.random.default_rng(0).standard_normal((6, 120))


def compiled(kernel):
    """Numba's own object behind a kernel, whatever stands around it."""
    return unwrap(kernel, stop=lambda inner: hasattr(inner, "signatures"))


@pytest.mark.parametrize("kind", NARROW)
def test_counts_axes_and_seeds_of_any_width_count_as_python_ints(kind):
    for n, m in ((2, 4), (1, 2), (60, 120), (100, 120)):
        expected = sparsity.n_m(X, n, m, "random", axis=1, seed=100)
        np.testing.assert_array_equal(
            sparsity.n_m(X, kind(n), kind(m), "random", axis=kind(1), seed=kind(100)), expected
        )
    for k in (1, 100, 127):
        assert sparsity.kth_largest_magnitude(X, kind(k)) == sparsity.kth_largest_magnitude(X, k)
        assert sparsity.pruned_count(0.29, kind(k)) == sparsity.pruned_count(0.29, k)
    for fraction in (0, 1):
        np.testing.assert_array_equal(sparsity.magnitude(X, kind(fraction)), sparsity.magnitude(X, float(fraction)))
        np.testing.assert_array_equal(sparsity.keep_largest(X, kind(fraction)), sparsity.keep_largest(X, fraction))
    np.testing.assert_array_equal(sparsity.channels(X, 0.5, kind(1), norm=kind(2)), sparsity.channels(X, 0.5, 1))
    np.testing.assert_array_equal(sparsity.gain(X, X.round(), kind(3)), sparsity.gain(X, X.round(), 3.0))
    np.testing.assert_array_equal(sparsity.prune_2_4(X, kind(1)), sparsity.prune_2_4(X, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_of_another_kind_layout_or_place_is_refused_and_left_alone(dtype):
    x = X.astype(dtype)
    readonly = np.zeros_like(x)
    readonly.flags.writeable = False
    for out, error in (
        (np.zeros_like(x).view(np.matrix), TypeError),
        (np.ma.zeros(x.shape, dtype), TypeError),
        (readonly, ValueError),
        (np.zeros_like(x, np.float16), ValueError),
        (np.zeros(x.shape[::-1], dtype), ValueError),
        (np.zeros(x.shape[::-1], dtype).T, ValueError),
        (np.zeros((6, 240), dtype)[:, ::2], ValueError),
    ):
        with pytest.raises(error, match=r"^out "):
            sparsity.prune_2_4(x, out=out)
        assert not np.any(np.array(out))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_may_be_x_itself_but_no_shifted_part_of_it(dtype):
    memory = X.astype(dtype).ravel()
    expected = sparsity.prune_2_4(memory[:64])
    for shift in range(1, 64):
        for x, out in ((memory[:64], memory[shift : shift + 64]), (memory[shift : shift + 64], memory[:64])):
            with pytest.raises(ValueError, match="overlaps"):
                sparsity.prune_2_4(x, out=out)
    np.testing.assert_array_equal(memory, X.astype(dtype).ravel())
    np.testing.assert_array_equal(sparsity.prune_2_4(memory[:64], out=memory[64:128]), expected)
    sparsity.prune_2_4(memory[:64], out=memory[:64])
    np.testing.assert_array_equal(memory[:64], expected)


def test_read_only_inputs_give_the_same_masks_and_compile_no_kernel_again():
    x = np.random.default_rng(1).standard_normal(select.SMALL + 100).astype(np.float32)
    readonly = x.copy()
    readonly.flags.writeable = False
    for call in (
        sparsity.prune_2_4,
        lambda v: sparsity.magnitude(v, 0.5),
        lambda v: sparsity.kth_largest_magnitude(v, 1000),
    ):
        np.testing.assert_array_equal(call(x), call(readonly))
    if hasattr(compiled(_kernels.two_of_four), "signatures"):  # not where the JIT is off
        for kernel in (_kernels.two_of_four, _kernels.bracket, _kernels.keep_from):
            assert len(compiled(kernel).signatures) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_and_joint_masks_do_not_change_with_the_unit(dtype):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((12, 16)).astype(dtype)
    quantized = np.round(x)
    x[7] *= dtype(2.0**-20)
    for exponent in (-100, -70, 0, 70, 120) if dtype == np.float32 else (-900, -600, 0, 600, 1000):
        scaled, rounded = np.ldexp(x, exponent), np.ldexp(quantized, exponent)
        for norm in (1, 2, 3, 50, np.inf):
            expected = sparsity.channels(x, 0.5, norm=norm)
            np.testing.assert_array_equal(sparsity.channels(scaled, 0.5, norm=norm), expected)
        for norm in (1, 2, 3):
            expected = sparsity.joint(x, quantized, "2:4", norm=norm)
            np.testing.assert_array_equal(sparsity.joint(scaled, rounded, "2:4", norm=norm), expected)


def test_channels_far_apart_in_size_are_still_ordered():
    sizes = np.float32([1e-30, 1e-25, 1e30, 1e-38])
    lines = np.random.default_rng(3).uniform(1, 2, (4, 10)).astype(np.float32) * sizes[:, None]
    for norm in (1, 2, 3, 1000, np.inf):
        for pruned in range(5):
            kept = sparsity.channels(lines, pruned / 4, norm=norm).any(axis=1)
            np.testing.assert_array_equal(kept, np.argsort(np.argsort(sizes)) >= pruned)


def test_arrays_without_values_have_masks_of_their_shape():
    for shape in ((0,), (4, 0), (0, 4), (3, 0, 2)):
        x = np.zeros(shape)
        assert sparsity.n_m(x, 1, 2).shape == sparsity.magnitude(x, 0.5, axis=-1).shape == shape
        assert sparsity.magnitude(x, 0.5).shape == sparsity.channels(x, 0.5).shape == shape
        assert sparsity.joint(x, x, 0.5).shape == sparsity.prune_2_4(np.zeros((4, *shape)), 0).shape[1:] == shape


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: sparsity.parse_pattern(None), TypeError, "^pattern is None.*'N:M'"),
        (lambda: sparsity.parse_pattern(True), TypeError, "^pattern is True"),
        (lambda: sparsity.parse_pattern(float("nan")), ValueError, "^pattern is nan"),
        (lambda: sparsity.parse_pattern("2:" + "9" * 5000), ValueError, "^pattern is"),
        (lambda: sparsity.parse_pattern("2:4:8"), ValueError, "^pattern is '2:4:8'.*'N:M'"),
        (lambda: sparsity.parse_pattern("half"), ValueError, "^pattern is 'half'.*'0.5'"),
        (lambda: sparsity.parse_pattern("nan"), ValueError, "^pattern is 'nan'"),
        (lambda: sparsity.parse_pattern("1.5"), ValueError, r"^pattern is '1.5'.*\[0, 1\]"),
        (lambda: sparsity.parse_pattern(""), ValueError, "^pattern is ''"),
        (lambda: sparsity.n_m(X, 2, 2**32), ValueError, "^n:m is"),
        (lambda: sparsity.pruned_count(0.5, np.inf), TypeError, "^count is inf"),
        (lambda: sparsity.pruned_count("0.5", 4), TypeError, "^sparsity is '0.5'"),
        (lambda: sparsity.pruned_count(0.5, -1), ValueError, "^count is -1"),
        (lambda: sparsity.magnitude(X, None), TypeError, "^sparsity is None"),
        (lambda: sparsity.magnitude(X, 0.5, None), TypeError, "^ties is None"),
        (lambda: sparsity.magnitude(X, 0.5, seed=1.5), TypeError, "^seed is 1.5"),
        (lambda: sparsity.magnitude(X, 0.5, "magnitude", original=X * np.nan), ValueError, "^original holds NaN"),
        (lambda: sparsity.magnitude(X > 0, 0.5), TypeError, "^x has dtype bool"),
        (lambda: sparsity.magnitude(1j * X, 0.5), TypeError, "^x has dtype complex128"),
        (lambda: sparsity.magnitude(np.ma.masked_array(X), 0.5), TypeError, "masked"),
        (lambda: sparsity.magnitude(["a"], 0.5), TypeError, "^x has dtype <U1"),
        (lambda: sparsity.gain(X, X, 2**5000), ValueError, "^norm is"),
        (lambda: sparsity.channels(X, 0.5, norm="2"), TypeError, "^norm is '2'"),
        (lambda: sparsity.channels(X, 0.5, norm=2 + 70j), TypeError, "^norm is"),
        (lambda: sparsity.channels(X, "2:4"), TypeError, "^sparsity is '2:4'"),
        (lambda: sparsity.channels(X, 0.5, axis=None), TypeError, "^axis is None"),
        (lambda: sparsity.n_m(X, 2, 4, axis=None), TypeError, "^axis is None"),
        (lambda: sparsity.kth_largest_magnitude([], 1), ValueError, "^x is empty"),
        (lambda: sparsity.kth_largest_magnitude(X, 1.0), TypeError, "^k is 1.0"),
        (lambda: sparsity.prune_2_4(3.0), ValueError, "single number"),
    ],
)
def test_a_bad_argument_is_named_before_any_work(call, error, says):
    with pytest.raises(error, match=says):
        call()
