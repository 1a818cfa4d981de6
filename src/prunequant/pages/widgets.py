"""Small interactive figures for the book: a slider over curves, or menus over bars, drawn by a script of their own.

They need no kernel, no network and no framework. The numbers are computed by the cell that makes the widget, from the
same functions that the tests check; the page only draws them. The scripts are files beside this one, `slider.js` and
`menus.js`; a page carries its own copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike

from prunequant import arguments
from prunequant.pages.plotting import ROLES

MAX_BYTES = 50_000


@dataclass(frozen=True)
class Curve:
    """One curve of a slider figure: a label, a colour role, and its y values, one row a slider stop.

    `dash` (an SVG dash array such as "2 5") tells two curves of one role apart; the role's own dash unless given.
    """

    label: str
    role: str
    y: ArrayLike
    dash: str | None = None


class Widget:
    """HTML that a notebook shows; `data` holds the numbers drawn."""

    def __init__(self, html: str, data: dict) -> None:
        self.html, self.data = html, data

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<widget {self.data['name']}: {len(self.data['stops'])} stops>"


def slider(
    name: str,
    stops: Sequence[str],
    x: ArrayLike,
    curves: Sequence[Curve],
    *,
    slider_label: str,
    x_label: str,
    y_label: str,
    readings: Sequence[str],
    start: int = 0,
    digits: int = 4,
) -> Widget:
    """A figure with one slider.

    Parameters
    ----------
    name : unique on its page; letters, digits and dashes.
    stops : what the slider shows at each of its positions.
    x : (points,) or (stops, points).
    curves : each with y of shape (stops, points); NaN leaves a gap.
    readings : one sentence a stop, read aloud by a screen reader and printed below the figure.
    start : the stop shown first. A page without scripts shows every reading instead.
    digits : significant digits kept of each number.

    Raises
    ------
    TypeError, ValueError : an argument of another kind, shapes that do not match, an unknown role, a start that is no
        stop, or more than `MAX_BYTES` of data.
    """
    name, stops, readings = _name(name), _texts(stops, "stops"), _texts(readings, "readings")
    labels = {"slider_label": slider_label, "x_label": x_label, "y_label": y_label}
    for label, text in labels.items():
        arguments.instance(text, label, str, "a string")
    if len(readings) != len(stops) or not stops:
        raise ValueError(f"{len(stops)} stops but {len(readings)} readings: need one sentence a stop, and a stop")
    start, digits = arguments.integer(start, "start", 0, len(stops) - 1), arguments.integer(digits, "digits", 1, 17)
    grid = np.atleast_2d(arguments.numbers(x, "x", finite=False).astype(float))
    if grid.shape[0] == 1:
        grid = np.repeat(grid, len(stops), axis=0)
    rows = []
    for i, curve in enumerate(arguments.several(curves, "curves", "a sequence of curves")):
        arguments.instance(curve, f"curves[{i}]", Curve, "a Curve")
        y = arguments.numbers(curve.y, f"curves[{i}].y", finite=False).astype(float)
        if curve.role not in ROLES:
            raise ValueError(f"role is {curve.role!r}: one of {', '.join(ROLES)}")
        if y.shape != grid.shape:
            raise ValueError(f"curve {curve.label!r} has shape {y.shape}: need {grid.shape}, stops by points")
        rows.append(
            {
                "label": curve.label,
                "role": curve.role,
                "colour": ROLES[curve.role].colour,
                "dash": _dash(curve.role) if curve.dash is None else curve.dash,
                "y": [_numbers(row, digits) for row in y],
            }
        )
    data = {
        "name": name,
        "stops": stops,
        "x": [_numbers(row, digits) for row in grid],
        "curves": rows,
        "xLabel": x_label,
        "yLabel": y_label,
        "readings": readings,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    if len(text) > MAX_BYTES:
        raise ValueError(f"the widget {name!r} carries {len(text)} bytes: at most {MAX_BYTES}; thin out its points")
    html = _PAGE.format(
        name=escape(name),
        label=escape(slider_label),
        last=len(stops) - 1,
        start=start,
        first=escape(stops[0]),
        final=escape(stops[-1]),
        all_readings=" ".join(escape(text) for text in readings),
        shown=escape(stops[start]),
        reading=escape(readings[start]),
        data=text,
        script=_script("slider"),
    )
    return Widget(html, data)


def menus(
    name: str,
    choices: Mapping[str, Sequence[str]],
    bars: Sequence[str],
    shares: ArrayLike,
    notes: ArrayLike,
    readings: ArrayLike,
    *,
    start: Sequence[int] | None = None,
    role: str = "measured",
    fallback: str = "",
    lengths: bool = False,
) -> Widget:
    """Bars of shares, chosen by one menu for each of several questions.

    Parameters
    ----------
    name : unique on its page; letters, digits and dashes.
    choices : label of each menu → its options, in order.
    bars : label of each bar.
    shares : (options of the first menu, of the second, ..., bars), from 0 to 1; drawn against the largest of all.
    notes : strings of the same shape, one printed below each bar ("" for none).
    readings : strings, one for each choice of options: the sentence below the figure.
    start : the option of each menu shown first.
    lengths : the bars are lengths of another quantity, named in the notes: print no percentages.
    role : the colour of the bars. fallback : what a page without scripts says, beside the first reading.

    Raises
    ------
    TypeError, ValueError : an argument of another kind, shapes that do not match, shares outside [0, 1], an unknown
        role, a start that is no option, more than `MAX_BYTES` of data.
    """
    name, bars, lengths = _name(name), _texts(bars, "bars"), arguments.flag(lengths, "lengths")
    arguments.instance(choices, "choices", Mapping, "a mapping from the label of each menu to its options")
    choices = {label: _texts(given, f"choices[{label!r}]") for label, given in choices.items()}
    shares = arguments.numbers(shares, "shares", finite=False)
    shares, notes, readings = shares.astype(float), _strings(notes, "notes"), _strings(readings, "readings")
    arguments.instance(fallback, "fallback", str, "a string")
    options = tuple(len(given) for given in choices.values())
    if shares.shape != (*options, len(bars)) or notes.shape != shares.shape:
        raise ValueError(
            f"shares has shape {shares.shape}, notes {notes.shape}: need {(*options, len(bars))}, choices by bars"
        )
    if readings.shape != options:
        raise ValueError(f"readings has shape {readings.shape}: need {options}")
    if not (np.all(shares >= 0) and np.all(shares <= 1)):
        raise ValueError("shares must lie in [0, 1]")
    role = arguments.choice(role, "role", ROLES)
    start = (0,) * len(options) if start is None else tuple(arguments.several(start, "start"))
    if len(start) != len(options):
        raise ValueError(f"start has {len(start)} entries for {len(options)} menus")
    start = tuple(arguments.integer(at, f"start[{i}]", 0, options[i] - 1) for i, at in enumerate(start))
    distinct = sorted(set(notes.ravel().tolist()))  # most notes repeat: each is carried once
    place = {note: i for i, note in enumerate(distinct)}
    data = {
        "name": name,
        "sizes": options,
        "bars": list(bars),
        "shares": _numbers(shares.ravel(), 4),
        "notes": [place[note] for note in notes.ravel().tolist()],
        "texts": distinct,
        "readings": readings.ravel().tolist(),
        "role": role,
        "colour": ROLES[role].colour,
        "lengths": lengths,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    if len(text) > MAX_BYTES:
        raise ValueError(f"the widget {name!r} carries {len(text)} bytes: at most {MAX_BYTES}; give fewer options")
    fields = []
    for i, (label, given) in enumerate(choices.items()):
        inside = "".join(
            f'<option value="{j}"{" selected" if j == start[i] else ""}>{escape(option)}</option>'
            for j, option in enumerate(given)
        )
        fields.append(
            f'<label for="pq-{name}-{i}">{escape(label)}</label> <select id="pq-{name}-{i}">{inside}</select>'
        )
    first = readings[start]
    html = _MENUS.format(
        name=escape(name),
        fields="\n".join(f'<span class="pq-widget-field">{field}</span>' for field in fields),
        reading=escape(str(first)),
        fallback=escape(fallback),
        data=text,
        script=_script("menus"),
    )
    return Widget(html, {**data, "stops": data["readings"]})


@cache
def _script(name: str) -> str:
    """The text of a script of this folder, as it stands between the tags of a page."""
    return files(__package__).joinpath(f"{name}.js").read_text(encoding="utf-8").rstrip("\n")


def _name(name: str) -> str:
    arguments.instance(name, "name", str, "letters, digits and dashes")
    if not name.replace("-", "").isalnum():
        raise ValueError(f"name is {name!r}: use letters, digits and dashes")
    return name


def _texts(given: Sequence[str], name: str) -> list[str]:
    texts = list(arguments.several(given, name, "a sequence of strings"))
    return [arguments.instance(text, f"{name}[{i}]", str, "a string") for i, text in enumerate(texts)]


def _strings(given: ArrayLike, name: str) -> np.ndarray:
    """An array of strings; a nested sequence of other lengths is none."""
    try:
        found = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} is {arguments.shown(given)}: it must be an array of strings ({error})") from None
    if found.dtype.kind != "U":
        raise TypeError(f"{name} is {arguments.shown(given)}: it must be an array of strings")
    return found


def _dash(role: str) -> str:
    dash = ROLES[role].dash
    return "" if isinstance(dash, str) else " ".join(f"{3 * length:g}" for length in dash[1])


def _numbers(row: np.ndarray, digits: int) -> list[float | None]:
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in row]


_PAGE = """<figure class="pq-widget" id="pq-{name}">
<div><label for="pq-{name}-input">{label}</label>: <output for="pq-{name}-input" aria-live="off">{shown}</output></div>
<div class="pq-widget-range"><span aria-hidden="true">{first}</span>
<input type="range" id="pq-{name}-input" min="0" max="{last}" step="1" value="{start}" aria-valuetext="{shown}">
<span aria-hidden="true">{final}</span></div>
<div class="pq-widget-plot"></div>
<figcaption aria-live="polite">{reading}</figcaption>
<noscript>This figure needs a script to move. The readings at all its stops: {all_readings}</noscript>
<script type="application/json" id="pq-{name}-data">{data}</script>
<script>{script}</script>
</figure>"""

_MENUS = """<figure class="pq-widget" id="pq-{name}">
<div class="pq-widget-menus">{fields}</div>
<ul class="pq-widget-bars"></ul>
<figcaption aria-live="polite">{reading}</figcaption>
<noscript>This figure needs a script to change. {fallback}</noscript>
<script type="application/json" id="pq-{name}-data">{data}</script>
<script>{script}</script>
</figure>"""
