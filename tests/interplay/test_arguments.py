"""What every function of the room does with an argument: NumPy's integers are integers, everything else is named."""

import numpy as np
import pytest

from prunequant.formats import HBFP, Integer
from prunequant.interplay import (
    apply_orders,
    compare,
    counterexample,
    decompose,
    dot_products,
    excess_bound,
    hypotheses,
    pythagorean,
    threshold,
)
from prunequant.interplay.audit import audit
from prunequant.interplay.orders import norm
from prunequant.interplay.search import STATEMENTS, TOLERANCE, integer_vectors, violations
from prunequant.models.perceptron import curves, start
from prunequant.statistics import holm, paired
from prunequant.studies import orders as studies

INT4 = Integer(4, granularity="row")
X = np.random.default_rng(3).standard_normal((4, 8))
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
NETWORK = ([X, X[:, :4]], [np.zeros(4), np.zeros(4)], X, np.arange(4))


def orders_of(n):
    made = apply_orders(
        X, INT4, "2:4", ties="random", axis=n(1), scale_axis=n(1), rounding="stochastic", seed=n(5), batch=n(1)
    )
    return [made.error(which, n(p)).tolist() for which in ("s", "q", "sum", "sq", "qs", "joint") for p in (1, 2, 3)]


WITH_INTEGERS = {
    "apply_orders": orders_of,
    "compare": lambda n: compare(X, INT4, "2:4", axis=n(1), scale_axis=n(0), seed=n(3)).values.tolist(),
    "relative": lambda n: compare(X, INT4, "2:4").relative("both", n(2)),
    "hypotheses": lambda n: hypotheses(
        HBFP(6, 8), "2:4", axis=n(0), scale_axis=n(1), ndim=n(2), offset=n(4)
    ).reasons,
    "pythagorean": lambda n: pythagorean(X, INT4, "2:4", n(3), axis=n(1)),
    "excess_bound": lambda n: excess_bound(X, INT4, "2:4", n(3), scale_axis=n(1)),
    "counterexample": lambda n: str(
        counterexample(
            INT4, "1:2", "qs<=sq", n(1), shape=(n(1), n(4)), axis=n(1), scale_axis=n(1), radius=n(4), trials=n(9),
            seed=n(0),
        )
    ),
    "integer_vectors": lambda n: [batch.tolist() for batch in integer_vectors(n(3), n(3), n(100))],
    "audit": lambda n: audit({"INT4": INT4}, radius=n(2), length=n(4), norms=(n(1), n(3))),
    "curves": lambda n: curves(n(1), n(20), n(10)).test.tolist(),
    "start": lambda n: start(curves(1, 20, 10), (n(4),), n(2)).weights[0].tolist(),
}  # fmt: skip


@pytest.mark.parametrize("call", WITH_INTEGERS.values(), ids=WITH_INTEGERS)
def test_an_integer_of_every_type_gives_the_result_of_the_python_integer(call):
    expected = call(int)
    for kind in INTEGERS:
        assert str(call(kind)) == str(expected)


def test_the_seed_of_a_study_may_be_a_narrow_integer():
    def run(seed):
        return studies.fine_tuned("digits", seed, formats=("MXFP4",), patterns=("2:4",), steps=2)

    assert run(np.uint8(250)) == run(250)


@pytest.mark.parametrize("fmt", ["int4", None, Integer, 4], ids=repr)
def test_what_is_no_format_is_refused_by_name(fmt):
    for call in (
        lambda: compare(X, fmt, "2:4"),
        lambda: apply_orders(X, fmt, "2:4", ()),
        lambda: hypotheses(fmt, "2:4"),
        lambda: pythagorean(X, fmt, "2:4"),
        lambda: excess_bound(X, fmt, "2:4"),
        lambda: dot_products(X, X, fmt, "2:4"),
        lambda: counterexample(fmt, "2:4"),
        lambda: decompose(*NETWORK, fmt, "2:4"),
        lambda: studies.variants([X], fmt, "2:4"),
        lambda: audit({"mine": fmt}),
    ):
        with pytest.raises(TypeError, match=r"it must be a format, such as formats\.Integer\(4\)"):
            call()
    if fmt is not None:
        with pytest.raises(TypeError, match=r"^activations is"):
            dot_products(X, X, INT4, "2:4", activations=fmt)


NO_REALS = [np.ones(4) + 1j, np.array(["1", "2"]), np.ma.masked_array(np.ones(4), [0, 1, 0, 0]), np.ones(4, bool)]


@pytest.mark.parametrize("x", NO_REALS, ids=lambda x: type(x).__name__ + str(x.dtype))
def test_arrays_that_hold_no_real_numbers_are_refused(x):
    for call in (
        lambda: compare(x, INT4, "2:4"),
        lambda: compare(np.ones(4), INT4, "2:4", saliency=x),
        lambda: dot_products(x, x, INT4, "2:4"),
        lambda: paired(x),
        lambda: holm(x),
        lambda: threshold(x, [1, 2], [1, 2], [1, 2]),
    ):
        with pytest.raises(TypeError, match=r"^(x|saliency|differences|p_values|dense) (is|has)"):
            call()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: compare(X, INT4, "2:4", axis=2**31), ValueError, "axis is 2147483648"),
        (lambda: compare(X, INT4, "2:4", axis=0.0), TypeError, "axis is 0.0"),
        (lambda: compare(X, INT4, "2:4", order=None), TypeError, "order is None"),
        (lambda: compare(X, INT4, "2:4", seed=-1), ValueError, "seed is -1"),
        (lambda: compare(X, INT4, "2:4", rounding="up"), ValueError, "rounding is 'up'"),
        (lambda: compare(X, INT4, "2:4", saliency=np.ones(3)), ValueError, "^saliency has shape"),
        (lambda: compare([], INT4, 0.5, saliency=np.ones(4)), ValueError, "^saliency has shape"),
        (lambda: compare(X, INT4, "2:4", saliency=np.ones((2, 4, 8))), ValueError, "saliency has shape"),
        (lambda: compare(X, INT4, "2:4", saliency=[np.nan] * 8), ValueError, "saliency holds NaN"),
        (lambda: compare(3.0, INT4, 0.5), ValueError, "x is a single number"),
        (lambda: compare(X, INT4, "2:4").relative("both", 3), ValueError, "p is 3"),
        (lambda: compare(X, INT4, "2:4").relative("nothing"), ValueError, "which is 'nothing'"),
        (lambda: apply_orders(X, INT4, "2:4", "sq"), TypeError, "orders is 'sq'"),
        (lambda: apply_orders(X, INT4, "2:4", batch=2), ValueError, "batch is 2"),
        (lambda: apply_orders(X, INT4, "2:4").error("sq", np.nan), ValueError, "p is nan"),
        (lambda: hypotheses(INT4, "2:4", axis=64), ValueError, "axis is 64"),
        (lambda: hypotheses(INT4, "2:4", offset="abc"), TypeError, "offset is 'abc'"),
        (lambda: hypotheses(INT4, "2:4", ndim=0), ValueError, "ndim is 0"),
        (lambda: hypotheses(INT4, "2:4", saliency="no"), TypeError, "saliency is 'no'"),
        (lambda: hypotheses(INT4, "2:4", rounding="odd"), ValueError, "rounding is 'odd'"),
        (lambda: hypotheses(INT4, "2:4").applies(3), TypeError, "theorem is 3"),
        (lambda: pythagorean(X, INT4, "2:4", 0.5), ValueError, "p is 0.5"),
        (lambda: pythagorean(X, INT4, "2:4", batch=1), TypeError, "batch is no argument here"),
        (lambda: counterexample(INT4, "2:4", shape=2**31), ValueError, "shape is 2147483648"),
        (lambda: counterexample(INT4, "2:4", shape=(16, 8)), ValueError, "at most 64 values"),
        (lambda: counterexample(INT4, "2:4", shape=()), ValueError, "shape is"),
        (lambda: counterexample(INT4, "2:4", trials=2**31), ValueError, "trials is 2147483648"),
        (lambda: counterexample(INT4, "2:4", radius=2**31), ValueError, "radius is 2147483648"),
        (lambda: counterexample(INT4, "2:4", statement="sq<qs"), ValueError, "statement is 'sq<qs'"),
        (lambda: counterexample(INT4, "2:4", axis=1), ValueError, "axis is 1"),
        (lambda: next(integer_vectors(256, 64)), ValueError, "length is 64"),
        (lambda: next(integer_vectors(1, 0)), ValueError, "length is 0"),
        (lambda: audit({"INT4": INT4}, radius=200), ValueError, "radius is 200"),
        (lambda: audit({"INT4": INT4}, columns=(("sq<qs", "first"),)), ValueError, "statement is 'sq<qs'"),
        (lambda: audit("INT4"), TypeError, "formats is 'INT4'"),
        (lambda: compare(X, INT4, "2:4", saliency=[1e308] * 8), ValueError, "^saliency is too large"),
        (lambda: compare([np.nan] * 8, INT4, "2:4"), ValueError, "^x holds NaN"),
        (lambda: dot_products(np.ones((1, 4)), [[1, 2, 3, np.inf]], INT4, "2:4"), ValueError, "^w holds NaN"),
        (lambda: apply_orders(X, INT4, "2:4", np.array("sq")), TypeError, "^orders is"),
        (lambda: excess_bound(np.ones(6), INT4, "2:4"), ValueError, r"pattern 2:4"),
        (lambda: decompose(NETWORK[0], [], *NETWORK[2:], INT4, "2:4"), ValueError, "^biases has 0 entries"),
        (lambda: decompose(np.array(1.5), *NETWORK[1:], INT4, "2:4"), TypeError, "weights is an array"),
        (lambda: paired([1e300, 1.0]), ValueError, r"differences reaches to 1e\+300"),
        (lambda: paired([1.0, np.nan]), ValueError, "differences holds NaN"),
        (lambda: paired([1.0, 2.0], confidence=95), ValueError, "confidence is 95"),
        (lambda: paired(3.0), ValueError, "differences has shape"),
        (lambda: threshold([1, 2], [1, 2], [1, 2], [1, 2, 3]), ValueError, "both has shape"),
        (lambda: threshold(*[[1, 2]] * 4, transform=lambda a: 1), ValueError, r"transform\(dense\) has shape \(\)"),
        (lambda: threshold(*[[1, 2]] * 4, transform=np.add), Exception, "add"),
        (lambda: threshold(*[[1, 2]] * 4, transform="exp"), TypeError, "transform is 'exp'"),
        (lambda: threshold(*[[1, 2]] * 4, lower_is_better="yes"), TypeError, "lower_is_better is 'yes'"),
        (lambda: decompose(NETWORK[0], NETWORK[1], X[:, :5], np.arange(4), INT4, "2:4"), ValueError, "layer 0"),
        (lambda: decompose(*NETWORK[:3], np.arange(4) + 1, INT4, "2:4"), ValueError, r"one class in \[0, 4\)"),
        (lambda: decompose(*NETWORK[:3], [0.0, 1, 2, 3], INT4, "2:4"), TypeError, "labels has dtype float64"),
        (lambda: dot_products(X, X, INT4, "2:4").rms("all"), ValueError, "which is 'all'"),
        (lambda: studies.order_effect("letters", 0), ValueError, "task is 'letters'"),
        (lambda: studies.order_effect(formats="INT8"), TypeError, "formats is 'INT8'"),
        (lambda: studies.order_effect(formats=("INT9",)), ValueError, "format is 'INT9'"),
        (lambda: studies.order_effect(patterns=(None,)), TypeError, "pattern is None"),
        (lambda: studies.order_effect(patterns=("half",)), ValueError, "pattern is 'half'"),
        (lambda: studies.trained("digits", -1), ValueError, "seed is -1"),
        (lambda: studies.low_rank(rank=0), ValueError, "rank is 0"),
        (lambda: studies.cells([1, 2]), TypeError, "a row is 1"),
        (lambda: curves(0, 2**31), ValueError, "train is 2147483648"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 1000.0, np.inf])
def test_a_norm_follows_the_unit_as_far_as_floats_reach(dtype, p):
    x = np.array([[3.0, -4.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0], [1e-3, 2e-3, 0.0, 0.0]], dtype)
    largest = np.abs(x).max(axis=1, initial=1e-9).astype(float)
    tight = 40 * float(np.finfo(dtype).eps)
    expected = x.astype(float) / largest[:, None]
    expected = largest * (np.abs(expected).max(axis=1) if p == np.inf else (np.abs(expected) ** p).sum(1) ** (1 / p))
    reach = 30 if dtype == np.float32 else 250
    for exponent in (-reach, -20, 0, 20, reach):
        unit = 2.0 ** (exponent * 10 // 3)
        rows = norm((x * unit).astype(dtype), p, (1,))
        assert rows.dtype == dtype
        np.testing.assert_allclose(rows.astype(float) / unit, expected, rtol=tight)
        assert float(norm((x[0] * unit).astype(dtype), p)) / unit == pytest.approx(expected[0], rel=tight)


@pytest.mark.parametrize(("by", "above"), [(0.5, False), (1.5, True)])
def test_a_violation_is_more_than_rounding_of_what_has_about_the_size_one(by, above):
    class Errors:
        """Two tensors, whose left sides are larger by a multiple of the tolerance."""

        def error(self, which, p):
            right = np.array([0.5, 4.0])
            scale = np.maximum(right, 1)
            return right + by * TOLERANCE * scale if which == STATEMENTS[name][0] else right

    name = next(iter(STATEMENTS))
    assert violations(Errors(), name, 2.0)[2].tolist() == [above, above]
