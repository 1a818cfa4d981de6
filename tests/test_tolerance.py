"""A tolerance is declared, has a reason, and is for the numbers that declare it; everything else is exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunequant.claims import Evidence, Figure
from prunequant.claims.render import evidence_table
from prunequant.claims.run import drift, kinds
from prunequant.tolerance import NUMBER, Tolerance, compare, is_whole, value

NEAR = Tolerance("trained here", relative=0.01, absolute=0.001, counts=2)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("loss 0.195, .5 and 1,969 of 2,000", ["0.195", ".5", "1,969", "2,000"]),
        ("2:4 in MXFP4 or fp4_e2m1, x=-0.3", ["2", "4", "-0.3"]),
        ("1.2e-05 [−3.5, 0.2]; 3.5x; 50 %. End 5.", ["1.2e-05", "−3.5", "0.2", "3.5", "50", "5"]),
        ("12345 and 1,23", ["12345", "1", "23"]),
    ],
)
def test_numbers_are_found_as_a_reader_sees_them(text, numbers):
    assert NUMBER.findall(text) == numbers


@given(st.floats(-1e9, 1e9), st.integers(-(10**9), 10**9))
def test_a_printed_number_is_read_back(x, n):
    for text in (f"{x:.3f}", f"{x:.3e}", f"{n:,}", f"{n}"):
        assert NUMBER.findall(f"a {text} b") == [text] and value(text) == float(text.replace(",", ""))
    assert is_whole(f"{n:,}") and not is_whole(f"{x:.3f}")


def test_without_a_tolerance_the_last_digit_counts():
    assert compare("a 0.195", "a 0.195").equal
    assert not compare("a 0.195", "a 0.1950").equal
    assert not compare("a  0.195", "a 0.195").equal


@pytest.mark.parametrize(
    ("text", "equal", "used"),
    [
        ("loss 1.0110 after 100 steps", True, 1.0),
        ("loss 1.0055 after 100 steps", True, 0.5),
        ("loss 1.0111 after 100 steps", False, None),
        ("loss 0.9890 after 98 steps", True, 1.0),
        ("loss 1.0000 after 103 steps", False, None),
        ("loss   1.0000 after   99 steps", True, 0.5),
        ("loss 1.0000 after 100 rounds", False, None),
        ("loss 1.0000 after 100", False, None),
        ("loss 1.0000 after 100 steps\nmore", False, None),
        ("", False, None),
    ],
)
def test_a_number_may_lie_as_far_as_declared_and_no_farther(text, equal, used):
    found = compare(text, "loss 1.0000 after 100 steps", NEAR)
    assert found.equal == equal
    if equal:
        assert found.used == pytest.approx(used)
    else:
        assert found.difference


def test_whole_numbers_stay_exact_unless_counts_are_declared():
    loose = Tolerance("trained here", relative=0.5)
    assert not compare("101 of 2.0", "100 of 2.0", loose).equal
    assert compare("100 of 2.9", "100 of 2.0", loose).equal


@pytest.mark.parametrize(
    "fields",
    [{"reason": " "}, {"reason": "x"}, {"absolute": 1}, {"reason": "x", "size": 1}, {"reason": "x", "counts": 1.5}],
)
def test_a_tolerance_without_reason_size_or_with_an_unknown_field_is_refused(fields):
    with pytest.raises((ValueError, TypeError)):
        Tolerance.read(fields)


def test_a_tolerance_is_read_back_from_its_fields():
    assert Tolerance.read(NEAR.fields()) == NEAR
    assert Tolerance.read(Tolerance("x", counts=1).fields()).fields() == {"reason": "x", "counts": 1}


def row(loss, seeds, tolerance, holds=True):
    evidence = [["loss", loss], ["seeds", seeds]]
    tolerances = {"loss": tolerance.fields()} if tolerance else {}
    part = {"holds": holds, "evidence": evidence, "tolerances": tolerances}
    return {"id": "ours.x", **part, "controls": {"worse": {**part, "holds": False}}}


def test_the_ledger_is_compared_by_the_same_rule():
    recorded = {"ours.x": row("0.195 nats", "5 of 5", None)}
    near = Tolerance("trained here", absolute=0.01)
    assert drift([row("0.195 nats", "5 of 5", None)], recorded) == ([], {})
    lines, used = drift([row("0.198 nats", "5 of 5", near)], recorded)
    assert lines == [] and used == {"ours.x, check: loss": 0.3, "ours.x, control worse: loss": 0.3}
    for changed, word in [
        (row("0.198 nats", "5 of 5", None), "compared exactly"),
        (row("0.206 nats", "5 of 5", near), "trained here"),
        (row("0.195 nats", "4 of 5", near), "compared exactly"),
        (row("0.195 nats", "5 of 5", near, holds=False), "became"),
    ]:
        lines, _ = drift([changed], recorded)
        assert lines and word in lines[0]
    assert "not in the record" in drift([row("1", "1", None)], {})[0][0]
    assert kinds([row("0.195 nats", "5 of 5", near)]) == {"exact": 4, "stable": 0, "sensitive": 2}


def test_the_reader_sees_a_tolerance_beside_the_figure():
    figure = Figure("loss", 0.1951, "nats", tolerance=Tolerance("a network trained here", absolute=0.002))
    assert "0.195 nats (compared within ±0.002: a network trained here)" in evidence_table(Evidence(True, (figure,)))
