"""One triangular kernel against the recursions it replaces, and its promises: threads, chunks, dtypes, bad input."""

from dataclasses import replace
from inspect import unwrap

import numba
import numpy as np
import pytest
from scipy.linalg import cholesky

from naive import path_following as naive
from prunequant.path_following import (
    FiniteGrid,
    Grid,
    OneBit,
    Prune,
    PruneThenQuantize,
    _kernels,
    compress,
    gram,
    size_for_sparsity,
)

OPERATORS = [
    (Grid(0.25), lambda v, u: naive.grid(v, u, 0.25)),
    (Grid(0.25, False), lambda v, u: naive.grid(v, u, 0.25, False)),
    (FiniteGrid(0.25, 9), lambda v, u: naive.finite_grid(v, u, 0.25, 9)),
    (FiniteGrid(0.25, 4, False), lambda v, u: naive.finite_grid(v, u, 0.25, 4, False)),
    (OneBit(4.0), lambda v, u: naive.one_bit(v, u, 4.0)),
    (Prune(0.8), lambda v, u: naive.prune(v, u, 0.8)),
    (Prune(0.8, False), lambda v, u: naive.prune(v, u, 0.8, False)),
    (Prune(0.8, c=0.3), lambda v, u: naive.prune(v, u, 0.8, c=0.3)),
    (PruneThenQuantize(0.75, 0.25), lambda v, u: naive.prune_then_quantize(v, u, 0.75, 0.25)),
]


def compiled(kernel):
    """Numba's own object behind a kernel, whatever stands around it."""
    return unwrap(kernel, stop=lambda inner: hasattr(inner, "signatures"))


def layer(samples=23, features=81, neurons=5, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, spread, (features, neurons)), rng.normal(size=(samples, features))


@pytest.mark.parametrize("scaling", [1.0, 3.0])
@pytest.mark.parametrize(("operator", "twin"), OPERATORS, ids=lambda o: repr(o) if not callable(o) else "")
def test_the_triangular_form_is_the_walk(operator, twin, scaling):
    w, x = layer()
    w = np.clip(w, -3, 3)
    values, walk = naive.follow(w, x, twin, scaling, seed=11)
    result = compress(w, x, operator, scaling=scaling, seed=11)
    assert np.allclose(result.weights, values, rtol=0, atol=1e-12)
    assert np.allclose(result.error, np.abs(walk).max(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_whole_blocks_of_features_are_the_walk_to_their_last_row(blocks):
    w, x = layer(features=blocks * _kernels.BLOCK, neurons=70)
    out, nothing, steps = np.empty_like(w), np.zeros(len(w)), np.full(70, 0.25)
    interpreted = getattr(_kernels.round_chunk, "py_func", _kernels.round_chunk)  # so that every index is checked
    interpreted(
        w, np.zeros((1, 1)), nothing, _kernels.GRID, False, steps, steps, 0, *_kernels.key(0), 0, 0, 70, out,
        np.zeros(70, np.int64),
    )  # fmt: skip
    assert np.array_equal(out, Grid(0.25, False)(w))
    values, _ = naive.follow(w, x, lambda v, u: naive.grid(v, u, 0.25), seed=11)
    assert np.allclose(compress(w, x, Grid(0.25), seed=11).weights, values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator", [o for o, _ in OPERATORS], ids=repr)
def test_memoryless_rounding_is_the_operator_itself(operator):
    w, x = layer()
    w = np.clip(w, -3, 3)
    assert np.array_equal(compress(w, x, operator, feedback="none", seed=4).weights, operator(w, seed=4))


@pytest.mark.parametrize("stochastic", [True, False])
def test_the_reversed_cholesky_factor_gives_textbook_optq(stochastic):
    w, x = layer(samples=200, features=70)
    expected = naive.optq(w, x, lambda v, u: naive.grid(v, u, 0.25, stochastic), damping=0.01)
    assert np.array_equal(compress(w, x, Grid(0.25, stochastic), feedback="optq").weights, expected)


def test_the_factor_of_optq_needs_no_inverse():
    h = np.cov(np.random.default_rng(0).normal(size=(12, 40)))
    lower, diagonal = gram.reversed_cholesky(h)
    assert np.allclose(lower.T @ np.diag(diagonal) @ lower, h)
    assert np.array_equal(lower, np.tril(lower)) and np.allclose(np.diag(lower), 1)
    upper = cholesky(np.linalg.inv(h))
    assert np.allclose(upper / np.diag(upper)[:, None], np.linalg.inv(lower).T)


@pytest.mark.parametrize("samples", [8192, 8193, 50_001])
def test_products_of_many_single_precision_samples_are_added_up_in_double_precision(samples):
    x, y = np.random.default_rng(samples).integers(0, 41, (2, samples, 3))  # 8192 products are whole numbers < 2**24
    single = x.astype(np.float32), y.astype(np.float32)
    assert np.array_equal(gram.gram(single[0]), x.T @ x)
    assert np.array_equal(gram.gram(*single), x.T @ y)


@pytest.mark.parametrize("features", [1, 2, 3, 4])
def test_without_feedback_an_error_is_what_is_rounded_off_and_nothing_else(features):
    g = np.cov(np.random.default_rng(0).normal(size=(features, 40))).reshape(features, features)
    factor, gain, cost = gram.gram_factor(g, "none")
    assert np.array_equal(gram.unit_lower(factor, gain), np.eye(features))
    assert np.array_equal(cost, np.diagonal(g))


@pytest.mark.parametrize("order", [1, 2, 5])
def test_alignment_by_triangular_solves_is_the_rank_one_recursion(order):
    w, x = layer(samples=40, features=30)
    y = x + 0.3 * np.random.default_rng(5).normal(size=x.shape)
    assert np.allclose(gram.align(w, x, y, order), naive.align(w, x, y, order), atol=1e-12)


def test_many_passes_of_alignment_are_least_squares():
    w, x = layer(samples=60, features=12)
    y = x + 0.2 * np.random.default_rng(5).normal(size=x.shape)
    exact = np.linalg.lstsq(y, x @ w, rcond=None)[0]
    assert np.allclose(gram.align(w, x, y, 200), exact, atol=1e-10)
    assert np.allclose(gram.align(w, x, y, "least-squares"), exact, atol=1e-10)


def test_order_one_alignment_and_nearest_rounding_is_gpfq():
    w, x = layer(samples=40, features=30)
    y = x + 0.3 * np.random.default_rng(5).normal(size=x.shape)
    expected = naive.gpfq_changed(w, x, y, lambda v, u: naive.grid(v, u, 0.25, False))
    result = compress(w, x, Grid(0.25, False), quantized_inputs=y)
    assert np.allclose(result.weights, expected, atol=1e-12)
    assert np.allclose(result.error, np.abs(x @ w - y @ expected).max(0), atol=1e-10)


@pytest.mark.parametrize("order", [1, 3])
def test_damping_is_one_more_sample_for_each_feature(order):
    w, x = layer(samples=40, features=30)
    y = x + 0.3 * np.random.default_rng(5).normal(size=x.shape)
    extra = np.sqrt(0.1 * np.mean(np.sum(y**2, axis=0))) * np.eye(30)
    more, changed = np.vstack([x, extra]), np.vstack([y, extra])
    ours = compress(w, x, Grid(0.25), quantized_inputs=y, alignment=order, damping=0.1)
    theirs = compress(w, more, Grid(0.25), quantized_inputs=changed, alignment=order)
    assert np.allclose(ours.weights, theirs.weights, atol=1e-12)
    assert np.allclose(gram.align(w, x, y, 300, 0.1), gram.align(w, x, y, "least-squares", 0.1), atol=1e-9)


def test_damping_keeps_a_nearly_dead_feature_from_being_given_a_huge_weight():
    w, x = layer(samples=300, features=40)
    x[:, 20] *= 1e-5
    wild = compress(w, x, Grid(0.1)).weights[20]
    tame = compress(w, x, Grid(0.1), damping=0.01).weights[20]
    assert np.abs(wild).max() > 1e3 and np.abs(tame - w[20]).max() < 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_and_chunks_do_not_change_a_bit(dtype):
    w, x = layer(samples=50, features=150, neurons=300)
    w, x = w.astype(dtype), x.astype(dtype)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in sorted({1, threads}):
            numba.set_num_threads(count)
            results.append(compress(w, x, Grid(0.25), seed=9).weights)
    finally:
        numba.set_num_threads(threads)
    factor, gain = gram.feedback_factor(x, "path")
    sizes = np.full(300, 0.25, dtype)
    for chunk in (4, 12, 64, 100, 256, 1000):
        out = np.empty_like(w)
        _kernels.triangular_rounding(
            w, factor, gain, _kernels.GRID, True, sizes, sizes, 0, *_kernels.key(9), 0, chunk, out,
            np.zeros(300, np.int64),
        )  # fmt: skip
        results.append(out)
    assert all(np.array_equal(results[0], other) for other in results[1:])
    assert results[0].dtype == dtype


def test_a_neuron_does_not_depend_on_its_neighbours():
    w, x = layer(neurons=70)
    whole = compress(w, x, Prune(0.8), seed=2).weights
    assert np.array_equal(compress(w[:, :33], x, Prune(0.8), seed=2).weights, whole[:, :33])


def test_single_precision_has_the_same_error_in_law():
    w, x = layer(samples=300, features=200, neurons=60)
    exact = compress(w, x, Grid(0.1), seed=1)
    single = compress(w.astype(np.float32), x.astype(np.float32), Grid(0.1), seed=1)
    assert single.weights.dtype == np.float32
    assert single.relative_error == pytest.approx(exact.relative_error, rel=0.02)
    assert np.mean(np.isclose(single.weights, exact.weights, atol=1e-6)) > 0.95


def test_different_seeds_and_streams_draw_differently():
    w, x = layer()
    first = compress(w, x, Grid(0.25), seed=1).weights
    assert not np.array_equal(first, compress(w, x, Grid(0.25), seed=2).weights)
    assert not np.array_equal(first, compress(w, x, Grid(0.25), seed=1, stream=1).weights)
    assert not np.array_equal(first, compress(w, x, Grid(0.25), seed=1 + 2**32).weights)


@pytest.mark.parametrize("feedback", ["none", "path", "optq"])
def test_zero_dependent_and_too_many_features_stay_finite(feedback):
    w, x = layer(samples=10, features=40)
    x[:, 3] = 0
    x[:, 8] = x[:, 7]
    x[:, 9] = 2 * x[:, 7] - x[:, 6]
    result = compress(w, x, Grid(0.25), feedback=feedback)
    assert np.all(np.isfinite(result.weights)) and np.all(np.isfinite(result.certificate))
    assert np.all(np.abs(result.weights[3] - w[3]) <= 0.25 if feedback == "path" else True)
    assert np.array_equal(compress(w, 0 * x, Grid(0.25), feedback=feedback).error, np.zeros(5))


def test_a_dead_changed_feature_keeps_its_weight_under_alignment():
    w, x = layer(samples=60, features=20)
    y = x.copy()
    y[:, 4] = 0
    for order in (1, 3):
        aligned = gram.align(w, x, y, order)
        assert np.array_equal(aligned[4], w[4]) and np.all(np.isfinite(aligned))


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
def test_the_unit_of_the_inputs_does_not_matter(size):
    w, x = layer()
    for dtype in (np.float32, np.float64):
        scaled = (x * size).astype(dtype)
        reference = compress(w.astype(dtype), (scaled * dtype(1 / size)).astype(dtype), Grid(0.25), seed=3)
        result = compress(w.astype(dtype), scaled, Grid(0.25), seed=3)
        assert np.mean(np.isclose(result.weights, reference.weights, atol=1e-6)) > 0.9


def test_saturation_counts_the_clipped_steps():
    w, x = layer(spread=0.2)
    assert not compress(w, x, Grid(0.25)).saturation.any()
    assert not compress(w, x, FiniteGrid(0.25, 65)).saturation.any()
    tight = compress(np.clip(3 * w, -1, 1), x, OneBit(1.0))
    assert np.all(tight.saturation > 0)
    assert np.all(np.isinf(tight.certificate))
    assert set(np.unique(tight.weights)) == {-1.0, 1.0}


def test_size_for_sparsity_reaches_it_and_says_when_it_cannot():
    w, x = layer(samples=100, features=64, neurons=40)
    size, result = size_for_sparsity(w, x, 0.6)
    assert result.sparsity == pytest.approx(0.6, abs=0.01)
    assert np.abs(result.weights[result.weights != 0]).min() >= size
    w, x = layer(samples=8, features=4000, neurons=10)
    with pytest.raises(ValueError, match="out of reach"):
        size_for_sparsity(w, x, 0.9, stochastic=True)


BAD = {
    "nan inputs": (dict(inputs=np.array([[np.nan, 1.0]])), r"inputs holds nan at \(0, 0\)"),
    "infinite weights": (dict(weights=np.array([[1.0], [np.inf]])), r"weights holds inf at \(1, 0\)"),
    "shapes": (dict(inputs=np.ones((4, 3))), r"weights has shape \(2, 1\) but inputs has shape \(4, 3\)"),
    "axes": (dict(weights=np.ones(2)), r"weights has shape \(2,\): it must be a matrix"),
    "empty": (dict(inputs=np.ones((0, 2))), "it is empty"),
    "scaling": (dict(scaling=0.5), r"scaling is 0.5: it must be a finite number in \[1, 1e\+100\]"),
    "nan scaling": (dict(scaling=np.nan), "scaling is nan"),
    "feedback": (dict(feedback="greedy"), "one of 'none', 'path', 'optq'"),
    "changed": (dict(quantized_inputs=np.ones((3, 2))), "the same samples and features"),
    "order": (dict(quantized_inputs=np.ones((2, 2)), alignment=-1), "alignment is -1"),
    "too many passes": (dict(quantized_inputs=np.ones((2, 2)), alignment=2**32), "alignment is 4294967296"),
    "order by name": (dict(quantized_inputs=np.ones((2, 2)), alignment="all"), "alignment is 'all'"),
    "stream": (dict(stream=2**32), "stream is 4294967296"),
    "negative stream": (dict(stream=-1), "stream is -1"),
    "large damping": (dict(damping=1e308), r"damping is 1e\+308"),
    "far too large": (dict(weights=np.ones((2, 1), np.float32), inputs=np.array([[1e300, 1.0]])), r"holds 1e\+300 at"),
    "immense": (dict(inputs=np.full((2, 2), 1e80)), r"inputs holds values beyond 1e\+75"),
    "order alone": (dict(alignment=2), "no quantized_inputs to align to"),
    "seed": (dict(seed=-1), "seed is -1"),
    "failure": (dict(failure=0.0), "failure is 0.0"),
    "damping": (dict(damping=-1.0), "damping is -1.0"),
    "one bit": (dict(operator=OneBit(0.5)), r"OneBit\(size=0.5, stochastic=True\) is too small.*largest is 1"),
    "singular": (dict(feedback="optq", damping=0.0), "singular.*raise damping"),
    "sizes": (dict(operator=Grid(np.ones(3))), "3 sizes but there are 1 neurons"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_work_and_by_name(name):
    change, message = BAD[name]
    arguments = dict(weights=np.ones((2, 1)), inputs=np.ones((2, 2)), operator=Grid(0.5)) | change
    with pytest.raises(ValueError, match=message):
        compress(**arguments)


WRONG = {
    "scaling": [None, "2", True, 1j, [1.0]],
    "damping": ["x", False, np.ma.masked],
    "failure": [None, "x", True],
    "stream": [1.5, np.nan, None, "x", True, 2.0],
    "seed": [1.5, None, True, "0"],
    "alignment": [1.5, True, 0.0],
    "feedback": [None, 3],
    "operator": [None, "x", np.float32(4)],
    "weights": [np.ones((2, 1), bool), np.ma.ones((2, 1)), np.array([["1"], ["2"]])],
}


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_kind_of_argument_is_refused_by_name(name):
    for value in WRONG[name]:
        arguments = dict(weights=np.ones((2, 1)), inputs=np.ones((2, 2)), operator=Grid(0.5)) | {name: value}
        with pytest.raises(TypeError, match=rf"^{name} (is|has) "):
            compress(**arguments)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_of_any_type_give_what_python_integers_give(kind):
    w, x = layer()
    y = x + 0.1
    wanted = compress(w, x, Grid(0.25), quantized_inputs=y, seed=100, stream=7, alignment=2)
    given = compress(w, x, Grid(0.25), quantized_inputs=y, seed=kind(100), stream=kind(7), alignment=kind(2))
    assert np.array_equal(given.weights, wanted.weights)
    assert size_for_sparsity(w, x, 0.5, steps=kind(4))[0] == size_for_sparsity(w, x, 0.5, steps=4)[0]


def test_read_only_arrays_are_not_compiled_for_anew():
    w, x = layer(neurons=70)
    sizes = np.full(70, 0.25)
    compress(w, x, Grid(sizes), seed=2)
    before = len(compiled(_kernels.round_chunks).signatures), len(compiled(_kernels.round_chunk).signatures)
    expected = compress(w, x, Grid(0.25), seed=2).weights
    w.flags.writeable = x.flags.writeable = False
    for feedback in ("none", "path"):
        compress(w, x, Grid(sizes), feedback, seed=2)
    assert np.array_equal(compress(w, x, Grid(sizes), seed=2).weights, expected)
    Grid(0.25)(w)
    assert (len(compiled(_kernels.round_chunks).signatures), len(compiled(_kernels.round_chunk).signatures)) == before


def test_a_bisection_ends_where_no_number_is_left_and_has_a_stated_length():
    w, x = layer(features=8)
    assert size_for_sparsity(w, x, 0.5, steps=100)[0] == size_for_sparsity(w, x, 0.5, steps=80)[0]
    for change, message in [
        (dict(steps=2**31), "steps is 2147483648"),
        (dict(sparsity=1), "sparsity is 1"),
        (dict(weights=0 * w), "weights are all zero"),
        (dict(weights=1e-310 * w), "weights reach"),
        (dict(seed=-1), "seed is -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            size_for_sparsity(**(dict(weights=w, inputs=x, sparsity=0.5) | change))
    for change in (dict(stochastic=1), dict(stochastic="x"), dict(operator=3), dict(steps=2.0)):
        with pytest.raises(TypeError, match=f"{next(iter(change))} is"):
            size_for_sparsity(w, x, 0.5, **change)


def test_an_immense_scaling_is_no_correction_at_all():
    w, x = layer()
    alone = compress(w, x, Grid(0.25), feedback="none", seed=3).weights
    assert np.array_equal(compress(w, x, Grid(0.25), scaling=1e100, seed=3).weights, alone)


def test_errors_on_other_samples_are_those_of_the_definition():
    w, x = layer()
    result = compress(w, x, Grid(0.25))
    assert result.held_out_error(x) == pytest.approx(result.relative_error)
    assert compress(w, x, Grid(0.25)).held_out_error(0 * x) == 0
    with pytest.raises(ValueError, match=r"they must be \(samples, 81\)"):
        result.held_out_error(x[:, 1:])


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match=r"operator is 0\.5"):
        compress(np.ones((2, 1)), np.ones((2, 2)), 0.5)
    with pytest.raises(TypeError, match="complex"):
        compress(np.ones((2, 1)) * 1j, np.ones((2, 2)), Grid(0.5))


def test_overflow_is_an_error_and_never_a_nan():
    w = np.full((3, 1), 3e38, np.float32)
    x = np.array([[1, 1, 1e-6]], np.float32)
    with pytest.raises(ValueError, match=r"left the range|outside the range"):
        compress(w, x, Grid(1e-37))


@pytest.mark.parametrize("operator", [Grid(1e-39), Prune(1e39), PruneThenQuantize(1e10, 1e-30)], ids=repr)
@pytest.mark.parametrize("stochastic", [True, False])
def test_a_size_or_a_ratio_of_sizes_that_float32_does_not_hold_is_refused(operator, stochastic):
    w, x = np.full((2, 1), 0.5, np.float32), np.ones((3, 2), np.float32)
    operator = replace(operator, stochastic=stochastic)
    with pytest.raises(ValueError, match="a size is outside the range of float32"):
        compress(w, x, operator)
    assert np.all(np.isfinite(compress(w.astype(np.float64), x, operator).weights))


def test_inputs_below_the_smallest_normal_number_are_those_of_another_unit():
    w, x = layer()
    tiny = x * 1e-320
    for feedback in ("none", "path", "optq"):
        result = compress(w, tiny, Grid(0.25, False), feedback)
        assert np.array_equal(result.weights, compress(w, tiny * 2.0**1000, Grid(0.25, False), feedback).weights)
        assert np.all(np.isfinite(result.certificate))
