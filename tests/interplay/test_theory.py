"""The theorems as properties of random tensors, and the report that says where they apply."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prunequant.formats import HBFP, MX, NF4, NVFP4, Integer, named, names
from prunequant.interplay import (
    apply_orders,
    compare,
    decompose,
    dot_products,
    excess_bound,
    hypotheses,
    pythagorean,
    threshold,
)
from prunequant.interplay.levels import cross_entropy
from prunequant.statistics import holm, paired

FORMATS = [
    *(named(name, block=4) for name in names()),
    Integer(3, granularity="row"),
    Integer(4, granularity=8),
    Integer(4, "twos_complement"),
    Integer(4, "zero_point"),
    HBFP(4, 8),
    HBFP(6, 4),
    MX("fp4_e2m1", 8),
    MX("fp8_e4m3", 2),
    MX("int8", 8),
    NVFP4(8),
    NF4(8),
]
TENSORS = arrays(np.float64, (3, 16), elements=st.floats(-50, 50).map(lambda v: round(v, 3)))
PATTERNS = ["2:4", "1:2", 0.5, 0.75]
NORMS = [1, 2, 3, np.inf]


@settings(max_examples=150, deadline=None)
@given(TENSORS, st.sampled_from(FORMATS), st.sampled_from(PATTERNS), st.sampled_from(["first", "last", "random"]))
def test_wherever_a_theorem_applies_its_statement_is_true(x, fmt, pattern, ties):
    report = hypotheses(fmt, pattern)
    made = apply_orders(x, fmt, pattern, ties=ties, seed=1)
    slack = 1 + 1e-9
    for p in NORMS:
        if report.applies("sum"):
            assert made.error("sq", p) <= made.error("sum", p) * slack + 1e-12
            both, parts = pythagorean(x, fmt, pattern, p, ties=ties, seed=1)
            assert both == pytest.approx(parts, rel=1e-9, abs=1e-12)
        if report.applies("order"):
            assert made.error("sq", p) <= made.error("qs", p) * slack + 1e-12
        exact, half = excess_bound(x, fmt, pattern, p, ties=ties, seed=1)
        assert made.error("qs", p) <= (made.error("sum", p) + exact) * slack + 1e-9
        if report.applies("half_step"):
            assert exact <= half * slack + 1e-9
    if report.applies("joint"):
        assert made.error("joint", 2) <= min(made.error("sq", 2), made.error("qs", 2)) * slack + 1e-12
    assert made.error("joint", 2) <= made.error("qs", 2) * slack + 1e-12


@settings(max_examples=80, deadline=None)
@given(TENSORS, st.sampled_from(FORMATS), st.sampled_from(["2:4", "1:2"]))
def test_ties_by_the_original_magnitude_make_the_two_orders_one(x, fmt, pattern):
    assume(hypotheses(fmt, pattern).applies("order"))
    made = apply_orders(x, fmt, pattern, ties="magnitude")
    np.testing.assert_array_equal(made.compressed["sq"], made.compressed["qs"])


def test_the_report_names_the_hypothesis_that_fails():
    assert hypotheses(Integer(4), "2:4").applies("order")
    assert hypotheses(Integer(4), 0.5).applies("order")  # one scale for the whole tensor
    assert hypotheses(Integer(4, granularity="row"), 0.5).missing("order") == ("one_scale",)
    assert hypotheses(Integer(4, granularity="row"), 0.5, axis=-1).applies("order")
    assert hypotheses(Integer(4, "zero_point"), "2:4").missing("sum") == ("max_scaled",)
    assert hypotheses(NF4(), "2:4").missing("order") == ("odd",)
    assert hypotheses(NF4(), "2:4").applies("sum")
    assert hypotheses(MX("fp4_e2m1"), "2:4", axis=0).missing("sum") == ("scale_preserved",)
    assert hypotheses(MX("fp4_e2m1"), "2:4", offset=2).missing("sum") == ("scale_preserved",)
    assert hypotheses(MX("fp4_e2m1", 2), "2:4").applies("sum")  # blocks inside groups
    assert hypotheses(MX("fp4_e2m1", 2), "2:4").missing("order") == ("one_scale",)
    assert hypotheses(MX("fp4_e2m1"), "2:4").missing("half_step") == ("unsaturated",)
    assert hypotheses(MX("fp4_e2m1", 32, "rceil"), "2:4").applies("half_step")
    assert "by_magnitude" in hypotheses(Integer(4), "2:4", saliency=True).missing("bound")
    assert hypotheses(Integer(4), "2:4", rounding="stochastic").missing("bound") == ()
    assert "not promised" in hypotheses(NF4(), "2:4")._repr_markdown_()
    with pytest.raises(ValueError, match="order"):
        hypotheses(NF4(), "2:4").applies("3.5")


def test_saturation_breaks_the_half_step_but_not_the_bound_itself():
    x = np.array([7.9, 7.9])  # 8 is the next power of two: both saturate at 6
    exact, half = excess_bound(x, MX("fp4_e2m1", 4), "1:2", 1)
    assert exact == pytest.approx(1.9) and exact > half


def test_compare_reports_errors_relative_and_absolute():
    x = np.random.default_rng(0).standard_normal((64, 64))
    for order in ("sq", "qs", "joint"):
        c = compare(x, MX("fp4_e2m1"), "2:4", order)
        assert c.mask.sum() == x.size // 2 and np.all(c.values[~c.mask] == 0)
        assert c.errors[2]["both"] == pytest.approx(np.linalg.norm(x - c.values))
        assert c.relative() == pytest.approx(np.linalg.norm(x - c.values) / np.linalg.norm(x))
        assert c.errors[2]["extra"] < 0
    assert "L∞" in c._repr_markdown_()
    assert np.isnan(compare(np.zeros(4), Integer(4), "2:4").relative())


def test_saliency_changes_the_mask():
    x = np.array([[1.0, 2.0, 3.0, 4.0]])
    c = compare(x, Integer(8), "2:4", saliency=np.array([10.0, 1, 1, 1]))
    assert c.mask.tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("shape", [(), (1,), (8,), (4, 1), (1, 8), (1, 1), (4, 8)])
def test_saliency_of_any_shape_that_broadcasts_is_that_saliency_written_out(shape):
    rng = np.random.default_rng(5)
    x, saliency = rng.standard_normal((4, 8)), rng.uniform(0.1, 3, shape)
    found = compare(x, Integer(8), 0.5, saliency=saliency)
    score = np.abs(x) * saliency
    assert np.array_equal(found.mask, score > np.sort(score, axis=None)[15])


def test_gaussian_rows_tie_as_often_as_the_theory_of_the_penalty_needs():
    x = np.random.default_rng(1).standard_normal((4000, 256))
    expected = {3: 0.595, 4: 0.389, 5: 0.209, 6: 0.111, 8: 0.0285}
    for bits, rate in expected.items():
        q = np.sort(np.abs(Integer(bits, granularity="row").quantize(x)).reshape(-1, 4), axis=1)
        assert np.mean(q[:, 1] == q[:, 2]) == pytest.approx(rate, abs=0.004)


def test_the_dot_product_identity_is_exact():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((500, 64)), rng.standard_normal((500, 64))
    for fmt in (Integer(4, granularity="row"), HBFP(4), MX("fp4_e2m1")):
        d = dot_products(x, w, fmt, "2:4")
        np.testing.assert_allclose(d.sq, d.q + d.s - d.interaction, atol=1e-12)
        assert d.rms("sq") < d.rms("s") + d.rms("q")
        assert 0 < d.exceeds("sq") < d.exceeds("qs") < 0.5
        assert d.qs_better + d.qs_worse <= 1
    with pytest.raises(ValueError, match="same shape"):
        dot_products(x, w[:3], fmt, "2:4")


def test_decompose_follows_the_network_by_hand():
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal((8, 4)), rng.standard_normal((3, 8))]
    biases = [rng.standard_normal(8), rng.standard_normal(3)]
    x, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    levels = decompose(weights, biases, x, y, Integer(4), "2:4")
    q = [Integer(4).quantize(w) for w in weights]
    out = np.maximum(x @ q[0].T + biases[0], 0) @ q[1].T + biases[1]
    assert levels.loss["q"] == pytest.approx(cross_entropy(out, y))
    last = next(e for e in levels.layers if e.kind == "q" and e.layer == 1)
    dense = np.maximum(x @ weights[0].T + biases[0], 0) @ weights[1].T + biases[1]
    assert last.carried == pytest.approx(np.linalg.norm(out - dense) / np.linalg.norm(dense))
    assert last.weights == pytest.approx(np.linalg.norm(q[1] - weights[1]) / np.linalg.norm(weights[1]))
    assert set(levels.excess) == {"sq", "qs", "joint"}
    same = decompose(weights, biases, x, y, Integer(16), 0.0, activations=Integer(16))
    assert max(e.carried for e in same.layers) < 1e-3


def test_the_threshold_is_the_sum_of_the_costs_with_a_paired_interval():
    rng = np.random.default_rng(4)
    base = rng.standard_normal(10)
    d, s, q = base + 1, base + 1.5, base + 1.2
    t = threshold(d, s, q, s + q - d + 0.1 + 0.01 * rng.standard_normal(10))
    assert t.value == pytest.approx(np.mean(base) + 1.7) and t.compounds == "above"
    assert t.excess.low < 0.1 < t.excess.high and t.excess.p < 1e-6
    assert threshold(d, s, q, s + q - d - 0.1 + 0.01 * rng.standard_normal(10)).compounds == "below"
    better = threshold(d, s, q, s + q - d - 0.1 + 0.01 * rng.standard_normal(10), lower_is_better=False)
    assert better.compounds == "above"
    wide = threshold(d, s, q, rng.permutation(s) + q - d)  # seeds no longer paired
    assert wide.compounds == "undecided"
    # perplexity and cross-entropy have different thresholds, for exp is convex
    assert threshold(d, s, q, s, transform=np.exp).value != pytest.approx(np.exp(t.value))


def test_paired_and_holm_are_the_textbook_numbers():
    from scipy import stats

    d = np.random.default_rng(5).standard_normal(12) + 0.4
    test = stats.ttest_1samp(d, 0)
    result = paired(d)
    assert result.p == pytest.approx(test.pvalue) and result.positive == (d > 0).sum()
    assert (result.low, result.high) == pytest.approx(tuple(test.confidence_interval()))
    np.testing.assert_allclose(holm([0.005, 0.011, 0.02, 0.04, 0.13]), [0.025, 0.044, 0.06, 0.08, 0.13])
    assert holm([]).size == 0 and paired([0.0, 0.0]).p == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: compare(np.ones(4), Integer(4), "2:4", "both"), "order"),
        (lambda: compare(np.ones(4), Integer(4), "2:4", "sq", "any"), "ties"),
        (lambda: compare(np.ones(6), Integer(4), "2:4"), "do not divide"),
        (lambda: compare(np.ones(4), Integer(4), "5:4"), "5:4"),
        (lambda: compare(np.ones(4), Integer(4), "2:4", axis=1), "axis"),
        (lambda: compare(np.ones(4), Integer(4), "2:4", scale_axis=1), "axis"),
        (lambda: compare(np.array([1, np.nan, 2, 3]), Integer(4), "2:4"), "NaN"),
        (lambda: threshold([1], [1], [1], [1]), "at least two"),
        (lambda: threshold([1, 2], [1, 2], [1, 2], [1, np.nan]), "NaN"),
        (lambda: holm([2.0]), "p_values"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
