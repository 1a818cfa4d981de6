"""The style of figures: roles can be told apart without colour, and text can be read on the card."""

import itertools

import matplotlib as mpl
import pytest

from prunequant.pages import plotting


@pytest.fixture(autouse=True)
def no_window():
    mpl.use("agg")
    with mpl.rc_context():
        yield


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_on_the_card_has_the_contrast_of_wcag_aa():
    for colour in (plotting.INK, plotting.MUTED, *plotting.verdict_colours().values()):
        assert contrast(colour, plotting.CARD) >= 4.5


def test_roles_differ_in_colour_and_in_mark_or_dash():
    for one, other in itertools.combinations(plotting.ROLES.values(), 2):
        assert one.colour != other.colour
        assert (one.marker, one.dash) != (other.marker, other.dash)


def test_use_replaces_personal_settings_and_keeps_the_backend():
    mpl.rcParams["font.size"] = 3
    plotting.use()
    assert mpl.rcParams["font.size"] == plotting.FONT
    assert mpl.get_backend().lower() == "agg"


def test_a_figure_is_a_card_of_the_books_width_and_a_role_draws_on_it():
    plotting.use()
    figure, axes = plotting.figure(rows=2)
    assert figure.get_figwidth() == plotting.WIDTH and len(axes) == 2
    (theory,) = axes[0].plot([0, 1], **plotting.THEORY.line())
    (measured,) = axes[0].plot([0, 1], **plotting.MEASURED.marks())
    assert theory.get_marker() == "none" and measured.get_linestyle() == "None"
    assert mpl.colors.to_hex(figure.get_facecolor()).upper() == plotting.CARD
