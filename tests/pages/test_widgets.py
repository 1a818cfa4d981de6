"""Sliders: the numbers on the page are the numbers given, and a page stays light and self-contained."""

import json
import re

import numpy as np
import pytest

from prunequant.pages.widgets import Curve, menus, slider

COMMON = dict(slider_label="bits", x_label="x", y_label="y")


def test_the_page_carries_the_numbers_given_at_the_digits_kept():
    y = np.array([[0.123456, np.nan], [1.0, 2.0]])
    widget = slider("a-1", ["2", "3"], [0.0, 1.0], [Curve("c", "theory", y)], readings=["r", "s"], **COMMON)
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', widget.html).group(1))
    assert data["curves"][0]["y"] == [[0.1235, None], [1.0, 2.0]]


def test_the_page_loads_nothing_from_elsewhere_and_has_a_label():
    widget = slider("a", ["2"], [0.0, 1.0], [Curve("c", "both", [[1, 2]])], readings=["only one"], **COMMON)
    assert "http" not in widget.html and "src=" not in widget.html
    assert '<label for="pq-a-input">' in widget.html and "only one" in widget.html


def test_two_curves_of_one_role_can_have_dashes_of_their_own():
    curves = [Curve("a", "pruning", [[1, 2]]), Curve("b", "pruning", [[2, 3]], dash="2 5")]
    data = slider("a", ["2"], [0.0, 1.0], curves, readings=["r"], **COMMON).data
    assert [c["dash"] for c in data["curves"]] == ["15 6", "2 5"]


def test_text_cannot_close_the_script():
    widget = slider("a", ["</script>"], [0.0], [Curve("c", "both", [[1]])], readings=["<b>"], **COMMON)
    assert widget.html.count("</script>") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(readings=[]), "one sentence a stop"),
        (dict(curves=[Curve("c", "both", [[1, 2, 3]])]), "stops by points"),
        (dict(curves=[Curve("c", "red", [[1, 2]])]), "role"),
        (dict(name="a b"), "letters"),
        (dict(x=np.arange(20000), curves=[Curve("c", "both", [np.arange(20000)])]), "thin out"),
    ],
)
def test_a_widget_that_cannot_be_drawn_is_refused(change, message):
    given = dict(name="a", stops=["2"], x=[0, 1], curves=[Curve("c", "both", [[1, 2]])], readings=["r"], **COMMON)
    with pytest.raises(ValueError, match=message):
        slider(**{**given, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(name=3), TypeError, r"^name is 3"),
        (dict(stops="2"), TypeError, r"^stops is '2'"),
        (dict(stops=[2]), TypeError, r"^stops\[0\] is 2"),
        (dict(stops=[], readings=[]), ValueError, r"^0 stops"),
        (dict(readings=[None]), TypeError, r"^readings\[0\] is None"),
        (dict(x=["a"]), TypeError, r"^x has dtype"),
        (dict(curves=Curve("c", "both", [[1, 2]])), TypeError, r"^curves is"),
        (dict(curves=["c"]), TypeError, r"^curves\[0\] is 'c'"),
        (dict(curves=[Curve("c", "both", "x")]), TypeError, r"^curves\[0\]\.y"),
        (dict(start=1), ValueError, r"^start is 1"),
        (dict(start=-1), ValueError, r"^start is -1"),
        (dict(digits=0), ValueError, r"^digits is 0"),
        (dict(digits="4"), TypeError, r"^digits is '4'"),
        (dict(x_label=None), TypeError, r"^x_label is None"),
    ],
)
def test_an_argument_of_a_slider_is_refused_by_name(change, error, message):
    given = dict(name="a", stops=["2"], x=[0, 1], curves=[Curve("c", "both", [[1, 2]])], readings=["r"], **COMMON)
    with pytest.raises(error, match=message):
        slider(**{**given, **change})


MENUS = dict(
    name="m",
    choices={"format": ["a", "b"], "norm": ["L1", "L2", "L3"]},
    bars=["x", "y"],
    shares=np.arange(12).reshape(2, 3, 2) / 20,
    notes=np.full((2, 3, 2), "same"),
    readings=np.array([["r00", "r01", "r02"], ["r10", "r11", "r12"]]),
)


def test_menus_carry_every_share_once_and_every_repeated_note_once():
    widget = menus(**MENUS, start=(1, 2))
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', widget.html).group(1))
    assert data["shares"] == [i / 20 for i in range(12)] and data["texts"] == ["same"]
    assert data["readings"][1 * 3 + 2] == "r12" and '<figcaption aria-live="polite">r12<' in widget.html
    assert widget.html.count("<option") == 5 and widget.html.count(" selected") == 2
    assert 'for="pq-m-1"' in widget.html and 'id="pq-m-1"' in widget.html
    assert "http" not in widget.html and "src=" not in widget.html


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(shares=np.zeros((2, 3))), "shares has shape"),
        (dict(notes=np.full((2, 3), "")), "notes"),
        (dict(readings=["r"]), "readings has shape"),
        (dict(shares=np.full((2, 3, 2), 1.5)), r"\[0, 1\]"),
        (dict(role="red"), "role"),
        (dict(name="a b"), "letters"),
        (dict(readings=np.full((2, 3), "long " * 3000)), "fewer options"),
    ],
)
def test_menus_that_cannot_be_drawn_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        menus(**{**MENUS, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(choices=[["a"]]), TypeError, r"^choices is"),
        (dict(choices={"format": "ab", "norm": ["L1"]}), TypeError, r"^choices\['format'\] is 'ab'"),
        (dict(bars=3), TypeError, r"^bars is 3"),
        (dict(shares="x"), TypeError, r"^shares has dtype"),
        (dict(start=(0, 3)), ValueError, r"^start\[1\] is 3"),
        (dict(start=(0,)), ValueError, r"^start has 1 entries for 2 menus"),
        (dict(lengths=1), TypeError, r"^lengths is 1"),
    ],
)
def test_an_argument_of_menus_is_refused_by_name(change, error, message):
    with pytest.raises(error, match=message):
        menus(**{**MENUS, **change})


def test_bars_of_another_quantity_print_no_percentages():
    assert menus(**MENUS, lengths=True).data["lengths"] is True
    assert menus(**MENUS).data["lengths"] is False
    assert "data.lengths?''" in menus(**MENUS).html
