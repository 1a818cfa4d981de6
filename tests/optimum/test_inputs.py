"""Arguments: every NumPy integer is the number that it holds, and bad input is refused by name, before any work."""

import math
import sys
import warnings

import numpy as np
import pytest

from naive import optimum as naive
from prunequant import optimum

INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.intc, np.longlong)
WEIGHTS, GRAM = naive.random_problem(np.random.default_rng(0), 6, 0.7)
PLAIN = (WEIGHTS, GRAM)

CALLS = {
    "bits of best_quantization": (lambda v: optimum.best_quantization(*PLAIN, v), 4),
    "bits of best_quantization with a scale": (lambda v: optimum.best_quantization(*PLAIN, v, 0.3, grid="narrow"), 8),
    "scale of best_quantization": (lambda v: optimum.best_quantization(*PLAIN, 3, v), 1),
    "node_limit of best_quantization": (lambda v: optimum.best_quantization(*PLAIN, 4, None, v), 7),
    "bits of babai": (lambda v: optimum.babai(*PLAIN, v), 8),
    "search of babai": (lambda v: optimum.babai(*PLAIN, 3, search=v), 2),
    "order of babai": (lambda v: optimum.babai(*PLAIN, 3, order=np.array([3, 1, 0, 2, 5, 4]).astype(type(v))), 0),
    "bits of nearest": (lambda v: optimum.nearest(*PLAIN, v), 8),
    "keep of best_pruning": (lambda v: optimum.best_pruning(*PLAIN, v), 3),
    "keep of best_pruning in place": (lambda v: optimum.best_pruning(*PLAIN, v, refit=False), 3),
    "node_limit of best_pruning": (lambda v: optimum.best_pruning(*PLAIN, 3, v), 1),
    "keep of magnitude_pruning": (lambda v: optimum.magnitude_pruning(*PLAIN, v), 3),
    "keep of obs_pruning": (lambda v: optimum.obs_pruning(*PLAIN, v), 3),
    "bits of sdp_bound": (lambda v: optimum.sdp_bound(*PLAIN, v), 3),
    "cuts of sdp_bound": (lambda v: optimum.sdp_bound(*PLAIN, 2, cuts=v), 1),
    "bits of layer_bound": (lambda v: optimum.layer_bound(*PLAIN, v), 8),
    "chunk of layer_bound": (lambda v: optimum.layer_bound(*PLAIN, 2, 1.0, v), 4),
    "node_limit of layer_bound": (lambda v: optimum.layer_bound(*PLAIN, 2, 1.0, 6, v), 3),
    "error of dual_gap_decibel": (lambda v: optimum.dual_gap_decibel(v, 1), 100),
    "bound of dual_gap_decibel": (lambda v: optimum.dual_gap_decibel(100, v), 5),
}


def numbers_of(result):
    if isinstance(result, optimum.Solution):
        return [np.asarray(getattr(result, name)) for name in ("values", "error", "lower_bound", "proved", "nodes")]
    return [np.asarray(result)]


@pytest.mark.parametrize("name", CALLS)
def test_every_numpy_integer_gives_what_the_python_integer_gives(name):
    call, value = CALLS[name]
    expected = numbers_of(call(value))
    for kind in INTEGERS:
        for given in (kind(value), np.array(value, kind)) if "order" not in name else (kind(value),):
            for mine, right in zip(numbers_of(call(given)), expected, strict=True):
                np.testing.assert_array_equal(mine, right, err_msg=f"{name} as {kind.__name__}")


@pytest.mark.parametrize("kind", [*INTEGERS, np.float32, np.float64, np.longdouble])
def test_weights_and_grams_of_every_width_are_the_numbers_they_hold(kind):
    weights, gram = np.array([5, 3, 7, 2]), np.array([[9, 2, 3, 1], [2, 8, 4, 3], [3, 4, 9, 2], [1, 3, 2, 7]])
    scale = np.array([2, 2, 3, 1])
    floats = [x.astype(float) for x in (weights, gram, scale)]
    given = [x.astype(kind) for x in (weights, gram, scale)]
    for solve in (
        lambda w, g, s: optimum.best_quantization(w, g, 3, s),
        lambda w, g, s: optimum.babai(w, g, 3, s),
        lambda w, g, _: optimum.best_pruning(w, g, 2),
        lambda w, g, _: optimum.best_pruning(w, g, 2, refit=False),
    ):
        found, right = solve(*given), solve(*floats)
        for mine, expected in zip(numbers_of(found), numbers_of(right), strict=True):
            np.testing.assert_array_equal(mine, expected)
        assert found.snr(given[0], given[1]) == right.snr(floats[0], floats[1])
    mask = np.array([True, False, True, True])
    np.testing.assert_array_equal(optimum.refitted(*given[:2], mask), optimum.refitted(*floats[:2], mask))


WORDS, HOLES = np.array(["a"] * 6), np.ma.masked_array(WEIGHTS, [1, 0, 0, 0, 0, 0])
ARRAYS = (
    lambda x: optimum.best_quantization(x, GRAM, 3, 0.5),
    lambda x: optimum.babai(x, GRAM, 3, 0.5),
    lambda x: optimum.nearest(x, GRAM, 3, 0.5),
    lambda x: optimum.best_pruning(x, GRAM, 2),
    lambda x: optimum.obs_pruning(x, GRAM, 2),
    lambda x: optimum.magnitude_pruning(x, GRAM, 2),
    lambda x: optimum.refitted(x, GRAM, np.ones(6, bool)),
    lambda x: optimum.layer_bound(x, GRAM, 3, 0.5),
    lambda x: optimum.sdp_bound(x, GRAM, 3, 0.5),
    lambda x: optimum.nearest(WEIGHTS, GRAM, 3, 0.5).snr(x, GRAM),
)


@pytest.mark.parametrize("call", ARRAYS)
@pytest.mark.parametrize("bad", [WORDS, HOLES, WEIGHTS + 0j, WEIGHTS.astype(object), WEIGHTS > 0, None, "x"])
def test_what_is_not_an_array_of_real_numbers_is_refused_by_name(call, bad):
    with pytest.raises(TypeError, match="weights"):
        call(bad)


@pytest.mark.parametrize(
    "bad", [GRAM + 0j, GRAM.astype(object), np.ma.masked_array(GRAM, GRAM > 0), np.array([["a"] * 6] * 6), "x", None]
)
def test_what_is_not_a_gram_is_refused_by_name(bad):
    for call in (
        lambda: optimum.best_quantization(WEIGHTS, bad, 3, 0.5),
        lambda: optimum.best_pruning(WEIGHTS, bad, 2),
        lambda: optimum.refitted(WEIGHTS, bad, np.ones(6, bool)),
        lambda: optimum.sdp_bound(WEIGHTS, bad),
    ):
        with pytest.raises(TypeError, match="gram"):
            call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: optimum.best_quantization(*PLAIN, 3, 0.5, 2**63), ValueError, "node_limit is 9223372036854775808"),
        (lambda: optimum.best_quantization(*PLAIN, 3, 0.5, 0), ValueError, "node_limit is 0"),
        (lambda: optimum.best_quantization(*PLAIN, 3, 0.5, 1e6), TypeError, "node_limit is 1000000.0"),
        (lambda: optimum.best_quantization(*PLAIN, True), TypeError, "bits is True"),
        (lambda: optimum.best_quantization(*PLAIN, 17, 0.5), ValueError, "bits is 17"),
        (lambda: optimum.best_quantization(*PLAIN, 3, 1j), TypeError, "scale has dtype complex128"),
        (lambda: optimum.best_quantization(*PLAIN, 3, "x"), TypeError, "scale has dtype"),
        (lambda: optimum.best_quantization(*PLAIN, 3, math.nan), ValueError, "scale holds NaN"),
        (lambda: optimum.best_quantization(*PLAIN, 3, 0.5, grid=None), TypeError, "grid is None"),
        (lambda: optimum.best_quantization(*PLAIN, 3, 0.5, rounding=1), TypeError, "rounding is 1"),
        (lambda: optimum.best_pruning(*PLAIN, 2, 2**70), ValueError, "node_limit is"),
        (lambda: optimum.best_pruning(*PLAIN, 2, refit=1), TypeError, "refit is 1"),
        (lambda: optimum.magnitude_pruning(*PLAIN, 2, refit="no"), TypeError, "refit is 'no'"),
        (lambda: optimum.obs_pruning(*PLAIN, 2, swaps=None), TypeError, "swaps is None"),
        (lambda: optimum.magnitude_pruning(WEIGHTS, -GRAM, 2), ValueError, "not positive semidefinite"),
        (lambda: optimum.babai(*PLAIN, 3, search=1.0), TypeError, "search is 1.0"),
        (lambda: optimum.babai(*PLAIN, 3, order=np.arange(6.0)), TypeError, "order has dtype float64"),
        (lambda: optimum.babai(*PLAIN, 3, order=np.arange(5)), ValueError, "order has shape"),
        (lambda: optimum.babai(*PLAIN, 3, order=[0, 0, 1, 2, 3, 4]), ValueError, "must be a permutation of 0 … 5"),
        (lambda: optimum.babai(*PLAIN, 3, order="best"), ValueError, "order is 'best'"),
        (lambda: optimum.refitted(*PLAIN, np.ones(6)), TypeError, "mask has dtype float64"),
        (lambda: optimum.refitted(*PLAIN, np.ones(5, bool)), ValueError, r"mask \(5,\)"),
        (lambda: optimum.refitted(WEIGHTS[:, None], GRAM, np.ones(6, bool)), ValueError, "one neuron"),
        (lambda: optimum.sdp_bound(*PLAIN, cuts=33), ValueError, "cuts is 33"),
        (lambda: optimum.sdp_bound(*PLAIN, cuts=1.0), TypeError, "cuts is 1.0"),
        (lambda: optimum.sdp_bound(*PLAIN, box=1), TypeError, "box is 1"),
        (lambda: optimum.sdp_bound(*PLAIN, solver=None), TypeError, "solver is None"),
        (lambda: optimum.layer_bound(*PLAIN, 2, 1.0, 2.5), TypeError, "chunk is 2.5"),
        (lambda: optimum.layer_bound(*PLAIN, 2, 1.0, 3, 2**63), ValueError, "node_limit is"),
        (lambda: optimum.nearest(*PLAIN).snr(WEIGHTS[:, None], GRAM), ValueError, r"it must be \(6,\), as values"),
        (lambda: optimum.dual_gap_decibel(-1.0, 1.0), ValueError, "error is -1.0"),
        (lambda: optimum.dual_gap_decibel(1.0, "x"), TypeError, "bound is 'x'"),
        (lambda: optimum.dual_gap_decibel(math.nan, 1.0), ValueError, "error is nan"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def certified(**change):
    arguments = {
        "p": np.eye(2),
        "d": np.array([0.4, 0.3]),
        "cuts": np.zeros((2, 1), int),
        "nu": np.full((2, 1), 0.2),
        "low": np.full(2, -2),
        "high": np.full(2, 1),
        "mu": np.zeros(2),
    }
    return optimum.certified_bound(**arguments | change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"p": np.eye(3)}, ValueError, r"p has shape \(3, 3\): it must be \(2, 2\)"),
        ({"p": np.array([[1.0, 0.5], [0.0, 1.0]])}, ValueError, "p is not symmetric"),
        ({"cuts": np.zeros((2, 1))}, TypeError, "cuts has dtype float64"),
        ({"cuts": np.zeros(2, int)}, ValueError, "cuts has shape"),
        ({"nu": np.zeros((2, 2))}, ValueError, "nu has shape"),
        ({"mu": "x"}, TypeError, "mu has dtype"),
        ({"low": np.array([-math.inf, 0])}, ValueError, "low holds NaN or infinity"),
        ({"high": np.zeros(3)}, ValueError, "high has shape"),
        ({"d": np.zeros(0)}, ValueError, "p has shape"),
        ({"p": 1e307 * np.eye(2)}, ValueError, "p reaches 1e"),
        ({"d": np.array([1e308, 0.0])}, ValueError, "d reaches 1e"),
    ],
)
def test_a_certificate_refuses_arrays_that_do_not_fit(change, error, message):
    with pytest.raises(error, match=message):
        certified(**change)


def test_a_certificate_takes_no_notice_of_multipliers_that_are_not_numbers():
    for nonsense in (math.inf, -math.inf, math.nan, 1e308):
        assert certified(nu=np.array([[nonsense], [0.2]])) == certified(nu=np.array([[0.0], [0.2]])) > 0
    narrow = certified(cuts=np.zeros((2, 1), np.uint8), low=np.full(2, -2, np.int8), high=np.ones(2, np.uint8))
    assert narrow == certified()


def test_an_unknown_solver_is_refused_with_those_installed():
    for name, why in (("CLARABELL", "not installed"), ("SCIPY", "cannot solve semidefinite programmes")):
        with pytest.raises(ValueError, match=f"solver is '{name}', which .*{why}.*'CLARABEL'"):
            optimum.sdp_bound(*PLAIN, 3, 0.5, solver=name)
    assert optimum.sdp_bound(*PLAIN, 3, 0.5, solver="clarabel") == optimum.sdp_bound(*PLAIN, 3, 0.5)


def test_a_solver_that_fails_leaves_the_bound_of_the_grid_s_ends_and_a_warning(monkeypatch):
    import cvxpy as cp

    def fail(self, solver):
        raise cp.error.SolverError("out of luck")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    with pytest.warns(UserWarning, match="CLARABEL failed on neuron 0, whose bound is that of the grid's ends alone"):
        bound = optimum.sdp_bound(*PLAIN, 3, 0.5)
    assert 0 < bound <= optimum.best_quantization(*PLAIN, 3, 0.5).error
    for case in (dict(scale=0.5, box=False, cuts=0), dict(scale=50.0)):  # all weights lie within the grid's ends
        with pytest.warns(UserWarning, match="CLARABEL failed on neuron 0, whose bound is 0: out of luck"):
            assert optimum.sdp_bound(*PLAIN, 3, **case) == 0.0


def test_a_gram_whose_negative_entries_wrapped_around_is_refused():
    gram = np.array([[17, -6, -8, -9], [-6, 26, 12, -3], [-8, 12, 13, -2], [-9, -3, -2, 22]]).astype(np.uint64)
    with pytest.raises(ValueError, match="gram is not positive semidefinite"):
        optimum.best_quantization(np.ones(4), gram, 4)


def test_a_ratio_of_sizes_far_apart_keeps_its_digits():
    found = optimum.nearest(*PLAIN, 3, 0.5)
    for shift in (0, -300, -900):
        tiny = found.snr(PLAIN[0] * 2.0**shift, PLAIN[1])
        assert tiny == pytest.approx(found.snr(*PLAIN) + 20 * shift * math.log10(2), rel=1e-12)
        assert found.snr(PLAIN[0], PLAIN[1] * 2.0**shift) == pytest.approx(
            found.snr(*PLAIN) + 10 * shift * math.log10(2), rel=1e-12
        )


def test_a_solver_that_ends_well_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optimum.sdp_bound(*PLAIN, 3, 0.5) > 0


def test_without_cvxpy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)  # what an import finds where the package is not installed
    with pytest.raises(ImportError, match=r"needs cvxpy: pip install 'prunequant\[sdp\]'"):
        optimum.sdp_bound(*PLAIN, 3, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimum.best_quantization([1e10, 1.0], np.eye(2), 4, 1e-310), r"within 2\*\*52 steps"),
        (lambda: optimum.best_quantization([1e308, 1.0], np.eye(2), 4), "weights reach 1e"),
        (lambda: optimum.best_quantization([1e200, 1.0], np.eye(2), 4), "could pass the largest float"),
        (lambda: optimum.best_quantization([1.0, 1.0], np.eye(2), 4, 1e200), "could pass the largest float"),
        (lambda: optimum.best_quantization([1.0, 1.0], np.eye(2), 4, 1e305), "scale is 1e"),
        (lambda: optimum.best_pruning([1e200, 1.0], np.eye(2), 1), "could pass the largest float"),
        (lambda: optimum.best_pruning([1.0, 1.0], 1e308 * np.eye(2), 1), "could pass the largest float"),
        (lambda: optimum.refitted([1e308, 1.0], np.eye(2), [True, False]), "weights reach 1e"),
        (lambda: optimum.refitted([1.0, 1.0], np.eye(2), [[True], [False, True]]), "^mask is"),
        (lambda: optimum.sdp_bound([1e10, 1.0], np.eye(2), 4, 1e-310), r"within 2\*\*52 steps"),
    ],
)
def test_numbers_too_large_for_a_right_answer_are_refused_before_work(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("gram", "weight"), [(1e308, 1e-20), (1e-300, 1e100), (1.0, 1e140), (1e200, 1e-300), (1e-320, 1)]
)
def test_the_optimum_of_extreme_sizes_is_the_plain_one_in_other_units(gram, weight):
    g, w = 2.0 ** round(math.log2(gram)), 2.0 ** round(math.log2(weight))
    small = np.array([[1.0, 0.5], [0.5, 0.75]])  # exact even as subnormal numbers
    weights = np.array([0.4, -1.3])
    pairs = [(optimum.best_quantization(v * weights, f * small, 3, v * 0.5), v, f) for v, f in ((1.0, 1.0), (w, g))]
    pairs += [(optimum.best_quantization(v * weights, f * small, 3), v, f) for v, f in ((1.0, 1.0), (w, g))]
    for refit in (True, False):
        pairs += [(optimum.best_pruning(v * weights, f * small, 1, refit=refit), v, f) for v, f in ((1.0, 1.0), (w, g))]
    for call in (optimum.babai, optimum.nearest, optimum.layer_bound):
        pairs += [(call(v * weights, f * small, 3, v * 0.5), v, f) for v, f in ((1.0, 1.0), (w, g))]
    pairs += [(optimum.obs_pruning(v * weights, f * small, 1), v, f) for v, f in ((1.0, 1.0), (w, g))]
    pairs += [(optimum.magnitude_pruning(v * weights, f * small, 1), v, f) for v, f in ((1.0, 1.0), (w, g))]
    for (plain, _, _), (other, v, f) in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(plain, optimum.Solution):
            assert other == pytest.approx(plain * v * v * f, rel=1e-12, abs=1e-323)
            continue
        np.testing.assert_allclose(other.values, plain.values * v, rtol=1e-14)
        assert other.error == pytest.approx(plain.error * v * v * f, rel=1e-12, abs=1e-323)
        assert other.lower_bound <= other.error and other.proved == plain.proved
        assert other.snr(v * weights, f * small) == pytest.approx(plain.snr(weights, small), rel=1e-9) or (
            other.error < 1e-300
        )


def test_the_gap_between_numbers_of_any_size_is_a_number_or_an_infinity():
    assert optimum.dual_gap_decibel(1e300, 1e-300) == pytest.approx(6000)
    assert optimum.dual_gap_decibel(1e-300, 1e300) == pytest.approx(-6000)
    assert optimum.dual_gap_decibel(1.0, 0.0) == optimum.dual_gap_decibel(0.0, -1.0) == math.inf
    assert optimum.dual_gap_decibel(0.0, 1.0) == -math.inf


def test_a_layer_without_error_has_an_infinite_ratio():
    found = optimum.best_quantization(np.array([0.3, -0.2]), np.zeros((2, 2)), 4, 0.1)
    assert found.snr(np.array([0.3, -0.2]), np.zeros((2, 2))) == math.inf
