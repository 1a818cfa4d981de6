"""Every counterexample the book prints, by its own numbers."""

import numpy as np
import pytest

from prunequant.formats import HBFP, MX, NF4, NVFP4, Integer
from prunequant.interplay import apply_orders, compare, counterexample, dot_products
from prunequant.interplay.audit import FORMATS, audit, table
from prunequant.interplay.search import integer_vectors

INT4 = Integer(4)


def close(a, b):
    return a == pytest.approx(b, abs=1e-9)


@pytest.mark.parametrize("p", [1, 2, 3, np.inf])
def test_quantize_then_prune_exceeds_the_sum_in_every_norm(p):
    made = apply_orders(np.array([2.6, 3.4, 7.0, 0.0]), INT4, "1:2")
    assert made.quantized.tolist() == [3, 3, 7, 0]
    assert made.error("qs", p) > made.error("sum", p) + 0.2
    assert made.error("sq", p) <= made.error("sum", p) + 1e-12


def test_one_witness_exceeds_the_sum_in_all_norms_but_the_largest_error():
    made = apply_orders(np.array([2.51, 3.0, 7.0, 0.0]), INT4, "1:2")
    assert close(made.error("qs", 1) - made.error("sum", 1), 0.49)
    assert made.error("qs", 2) > made.error("sum", 2) and made.error("qs", 3) > made.error("sum", 3)
    assert close(made.error("qs", np.inf), made.error("sum", np.inf))


@pytest.mark.parametrize("gap", [0.1, 0.01, 0.001])
def test_the_bound_on_the_excess_is_sharp(gap):
    errors = compare([2.5 + gap, 3.0, 7.0, 0.0], INT4, "1:2", "qs").errors[1]
    assert close(errors["extra"], 0.5 - gap)


def test_over_several_scales_prune_first_can_be_the_worse_order():
    x = np.array([3, 1.4, 1.39, 0])
    made = apply_orders(x, Integer(3, granularity=2), 0.5)
    assert made.quantized.tolist() == [3, 1, 1.39, 0]
    assert close(made.error("sq", 1), 1.79) and close(made.error("qs", 1), 1.40)
    assert close(made.error("sq", 2), np.sqrt(0.4**2 + 1.39**2)) and close(made.error("qs", 2), 1.4)
    assert round(float(made.error("sq", 2)), 4) == 1.4464
    assert made.error("joint", 2) == made.error("qs", 2)


def test_scales_across_the_pruning_axis_break_the_sum():
    x = np.array([[7.0, 8.0], [3.0, 0.0], [2.0, 0.0]])
    made = apply_orders(x, Integer(4, granularity="row"), "1:2", axis=1, scale_axis=0)
    np.testing.assert_allclose(made.quantized, x, atol=1e-12)
    assert close(made.error("s", 1), 7) and close(made.error("s", 2), 7)
    assert close(made.error("sq", 1), 7 + 1 / 7)
    assert round(float(made.error("sq", 2)), 4) == 7.0015


def test_a_zero_point_breaks_the_sum():
    made = apply_orders(np.array([-1.0, 14, 7, 8]), Integer(4, "zero_point"), "2:4")
    assert close(made.error("q", 1), 0) and close(made.error("s", 1), 8) and close(made.error("sq", 1), 8.4)


def test_the_copied_quantizer_halves_a_row_that_lost_its_negative_values():
    made = apply_orders(np.array([-1.0, 127, 100, 20]), Integer(8, "gptq"), "2:4")
    np.testing.assert_allclose(made.quantized, [-1.0, 126.5, 99.6, 19.9], atol=0.06)
    np.testing.assert_allclose(made.compressed["sq"], [0, 63.3, 63.3, 0], atol=0.06)


def test_two_quantization_errors_that_cancel_make_a_dot_product_exceed_the_sum():
    d = dot_products([[0.0, 1, 1, 0]], [[7, 3.4, 1.6, 0]], INT4, "2:4")
    assert close(d.q[0], 0) and close(d.s[0], 1.6) and close(d.sq[0], 2.0) and close(d.qs[0], 2.0)
    assert d.exceeds("sq") == d.exceeds("qs") == 1


def shares(rows):
    return {(r.format, r.statement, r.ties, r.norm): round(r.share, 3) for r in rows}


def test_all_small_vectors_give_the_printed_shares():
    found = shares(audit(norms=(1.0, 2.0, np.inf)))
    expected = {  # quantize, then prune, is the worse order, ties to the first: L1, L2, L∞
        "INT3 narrow": (0.130, 0.160, 0.151),
        "INT4 narrow": (0.040, 0.040, 0.038),
        "INT3 two's complement": (0.124, 0.152, 0.145),
        "INT4 two's complement": (0.035, 0.035, 0.034),
        "HBFP4": (0.052, 0.080, 0.076),
        "MXFP4 E2M1": (0.056, 0.119, 0.115),
        "MXFP6 E2M3": (0, 0, 0),
        "NF4": (0.057, 0.067, 0.056),
        "INT4 zero-point": (0.295, 0.288, 0.015),
        "INT4 gptq": (0.027, 0.050, 0.055),
    }
    for name, values in expected.items():
        assert tuple(found[(name, "qs<=sq", "first", p)] for p in (1, 2, np.inf)) == values, name
    for name, fmt in FORMATS.items():
        for p in (1, 2, np.inf):
            if fmt.max_scaled:
                assert found[(name, "sq<=sum", "first", p)] == 0
            if fmt.max_scaled and fmt.odd:
                assert found[(name, "sq<=qs", "first", p)] == found[(name, "sq<=qs", "magnitude", p)] == 0
                assert found[(name, "qs<=sq", "magnitude", p)] == 0
    assert found[("NF4", "sq<=qs", "first", 1)] == 0.025
    assert found[("INT4 zero-point", "sq<=sum", "first", 1)] == 0.029
    assert found[("INT4 gptq", "sq<=sum", "first", np.inf)] == 0.077


@pytest.mark.parametrize("name", ["INT3 narrow", "NF4", "INT4 zero-point", "NVFP4"])
def test_the_audit_names_the_vector_that_the_search_finds(name):
    for share in audit({name: FORMATS[name]}, radius=5, norms=(1.0, np.inf)):
        found = counterexample(FORMATS[name], "2:4", share.statement, share.norm, share.ties, radius=5, trials=0)
        assert share.smallest == (None if found is None else tuple(int(v) for v in found.x))
        assert (share.smallest is None) == (share.violations == 0)


def test_two_blocks_and_one_threshold_give_the_printed_shares():
    formats = {f"INT{b}": Integer(b, granularity=2) for b in (3, 4)} | {f"HBFP{b}": HBFP(b, 2) for b in (4, 6)}
    formats["MXFP4"] = MX("fp4_e2m1", 2)
    rows = audit(formats, 0.5, norms=(1.0, 2.0, np.inf), columns=(("sq<=sum", "first"), ("sq<=qs", "first")))
    found = shares(rows)
    expected = {
        "INT3": (0.028, 0.019, 0),
        "INT4": (0.022, 0.022, 0),
        "HBFP4": (0.019, 0.019, 0),
        "HBFP6": (0.016, 0.016, 0),
    }
    for name, values in expected.items():
        assert tuple(found[(name, "sq<=qs", "first", p)] for p in (1, 2, np.inf)) == values, name
    assert all(found[(name, "sq<=sum", "first", p)] == 0 for name in formats for p in (1, 2, np.inf))
    assert all(found[("MXFP4", "sq<=qs", "first", p)] == 0 for p in (1, 2, np.inf))
    assert table(rows).count("\n") == len(formats) + 1


@pytest.mark.parametrize(
    ("fmt", "pattern", "statement", "where"),
    [
        (INT4, "1:2", "qs<=sum", {}),
        (INT4, "2:4", "qs<=sq", {}),
        (NF4(), "2:4", "sq<=qs", {}),
        (Integer(4, "zero_point"), "2:4", "sq<=sum", {}),
        (Integer(4, "gptq"), "2:4", "sq<=sum", {}),
        (Integer(3, granularity=2), 0.5, "sq<=qs", {}),
        (HBFP(6, 2), 0.5, "sq<=qs", {}),
        (Integer(4, granularity="row"), "1:2", "sq<=sum", {"shape": (3, 2), "axis": 1, "scale_axis": 0}),
        (Integer(4, granularity="row"), "1:2", "sq<=qs", {"shape": (2, 2), "axis": 1, "scale_axis": 0}),
    ],
)
@pytest.mark.parametrize("p", [1, 2])
def test_the_search_finds_what_the_theory_says_exists(fmt, pattern, statement, where, p):
    found = counterexample(fmt, pattern, statement, p, **where)
    assert found is not None and found.excess > 0
    where = {k: v for k, v in where.items() if k != "shape"}
    made = apply_orders(found.x, fmt, pattern, **where)
    left, right = statement.split("<=")
    assert made.error(left, p) > made.error(right, p)
    assert found.x.ravel()[np.abs(found.x.ravel()).argmax()] != 0 and str(found).startswith("x = (")


@pytest.mark.parametrize("fmt", [INT4, Integer(3), HBFP(4), MX("fp4_e2m1"), NVFP4(tensor_scale=12 / 2688)], ids=str)
def test_the_search_finds_nothing_where_the_theorems_apply(fmt):
    for p in (1, 2, np.inf):
        for statement in ("sq<=sum", "sq<=qs", "joint<=sq"):
            if statement.startswith("joint") and p != 2:
                continue
            assert counterexample(fmt, "2:4", statement, p, radius=5, trials=60_000) is None
        assert counterexample(fmt, "2:4", "qs<=sq", p, "magnitude", radius=5, trials=60_000) is None


def test_random_search_finds_and_simplifies_what_small_integers_do_not_show():
    fmt = MX("fp4_e2m1", 2)
    found = counterexample(fmt, 0.5, "sq<=qs", 2, radius=3, trials=200_000)
    assert found is not None
    assert np.all(found.x == np.round(found.x, 5))


def test_a_multiple_of_a_harmless_vector_can_be_a_counterexample_where_scales_are_powers_of_two():
    small, large = np.array([0.0, 11, 11, 12]), 7 * np.array([0.0, 11, 11, 12])
    fmt = MX("fp6_e2m3")
    harmless, made = (apply_orders(x, fmt, "2:4", ("sq", "qs")) for x in (small, large))
    assert harmless.quantized.tolist() == small.tolist() and harmless.error("qs", 1) == harmless.error("sq", 1)
    assert made.quantized.tolist() == [0, 80, 80, 80]
    assert close(made.error("sq", 1), 84) and close(made.error("qs", 1), 90)


@pytest.mark.parametrize("fmt", [Integer(4, granularity="row"), Integer(3, granularity="row")])
def test_a_multiple_of_a_vector_is_compressed_to_the_multiple_where_scales_follow_the_largest_value(fmt):
    x = np.random.default_rng(0).integers(-9, 10, (500, 4)).astype(float)
    one, seven = (apply_orders(k * x, fmt, "2:4", ("sq", "qs"), batch=1) for k in (1, 8))
    for order in ("sq", "qs"):
        np.testing.assert_allclose(seven.compressed[order], 8 * one.compressed[order], rtol=1e-12)


def test_the_two_orders_of_twos_complement_differ_in_values_and_never_in_error():
    x = np.concatenate(list(integer_vectors(9, 4)))
    x = x[np.any(x != 0, axis=1)]
    made = apply_orders(x, Integer(4, "twos_complement", "row"), "2:4", ("sq", "qs"), "magnitude", batch=1)
    different = np.any(made.compressed["sq"] != made.compressed["qs"], axis=1)
    assert np.count_nonzero(different) == 1053
    for p in (1, 2, np.inf):
        np.testing.assert_allclose(made.error("sq", p), made.error("qs", p), atol=1e-9)
