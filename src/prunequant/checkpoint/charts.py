"""Charts of a report's page, as SVG inside HTML: they stretch with the page while their words keep their size.

Places are percentages of the chart, so that nothing is computed twice for a phone. Every name is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

SHAPES = {  # by family: round, square, diamond, so that colour is never alone
    "quantization": '<circle r="{r:.1f}" class="mark q"/>',
    "pruning": '<rect x="-{r:.1f}" y="-{r:.1f}" width="{d:.1f}" height="{d:.1f}" class="mark p"/>',
    "both": '<path d="M0-{d2:.1f} {d2:.1f} 0 0 {d2:.1f}-{d2:.1f} 0z" class="mark b"/>',
    "none": '<circle r="{r:.1f}" class="mark n"/>',
}
FAMILIES = {"quantization": "q", "pruning": "p", "both": "b", "none": "n"}


def shape(family: str, radius: float) -> str:
    return SHAPES[family].format(r=radius, d=2 * radius, d2=1.25 * radius)


def key(entries: Iterable[tuple[str, str]]) -> str:
    """What the marks mean: (SVG of a mark around the origin, words)."""
    rows = (
        f'<li><svg viewBox="-8 -8 16 16" aria-hidden="true">{mark}</svg>{escape(words)}</li>' for mark, words in entries
    )
    return f'<ul class="key">{"".join(rows)}</ul>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers inside [low, high], at most so many."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(f for f in (1, 2, 5, 10, 20) if (high - low) / (step * f) <= most)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass
class Plot:
    """One chart with two axes; add marks and lines, then take `html`.

    x, y : (low, high) of the axes
    xname, yname : what the axes show, with the unit
    words : what the chart says, for those who do not see it
    """

    x: tuple[float, float]
    y: tuple[float, float]
    xname: str
    yname: str
    words: str
    height: int = 300
    inside: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Percent from the left and from the top."""
        left = 100 * (x - self.x[0]) / (self.x[1] - self.x[0])
        return left, 100 * (self.y[1] - y) / (self.y[1] - self.y[0])

    def mark(self, x: float, y: float, drawing: str, title: str, label: str = "", minor: bool = False) -> None:
        """A drawing around the origin, placed at a point; a label stands beside it, clear of a rising curve."""
        left, top = self.at(x, y)
        words = ""
        if label:
            side = 'x="7" y="17"' if left < 70 else 'x="-7" y="-7" text-anchor="end"'
            words = f"<text {side}{' class=minor' if minor else ''}>{escape(label)}</text>"
        self.inside.append(
            f'<svg x="{left:.2f}%" y="{top:.2f}%" width="1" height="1">'
            f"<title>{escape(title)}</title>{drawing}{words}</svg>"
        )

    def line(self, a: tuple[float, float], b: tuple[float, float], css_class: str) -> None:
        (x1, y1), (x2, y2) = self.at(*a), self.at(*b)
        self.inside.append(f'<line x1="{x1:.2f}%" y1="{y1:.2f}%" x2="{x2:.2f}%" y2="{y2:.2f}%" class="{css_class}"/>')

    def curve(self, points: Sequence[tuple[float, float]], title: str) -> None:
        """A line through points; those that a page could not tell apart are left out."""
        drawn, last = [], (-9.0, -9.0)
        for i, point in enumerate(points):
            place = self.at(*point)
            if i in (0, len(points) - 1) or math.dist(place, last) > 0.15:
                drawn.append(f"{place[0]:.2f},{place[1]:.2f}")
                last = place
        self.inside.append(
            f'<svg viewBox="0 0 100 100" preserveAspectRatio="none"><title>{escape(title)}</title>'
            f'<polyline class="curve" points="{" ".join(drawn)}"/></svg>'
        )

    def html(self) -> str:
        grid, xs, ys = [], [], []
        for tick in ticks(*self.x):
            left, _ = self.at(tick, self.y[0])
            grid.append(f'<line x1="{left:.2f}%" x2="{left:.2f}%" y1="0" y2="100%" class="grid"/>')
            xs.append(f'<span style="left:{left:.2f}%">{tick:g}</span>')
        for tick in ticks(*self.y):
            _, top = self.at(self.x[0], tick)
            grid.append(f'<line x1="0" x2="100%" y1="{top:.2f}%" y2="{top:.2f}%" class="grid"/>')
            ys.append(f'<span style="top:{top:.2f}%">{tick:g}</span>')
        return (
            f'<div class="plot"><div class="yname">{escape(self.yname)}</div><div class="y">{"".join(ys)}</div>'
            f'<div class="area" style="--height:{self.height}px">'
            f'<svg role="img"><title>{escape(self.words)}</title>{"".join(grid)}{"".join(self.inside)}</svg></div>'
            f'<div class="x">{"".join(xs)}</div><div class="xname">{escape(self.xname)}</div></div>'
        )


@dataclass(frozen=True)
class Tile:
    """A rectangle of a map, in percent of it."""

    left: float
    top: float
    width: float
    height: float


def tiles(areas: Sequence[float], width: float = 2.0, height: float = 1.0) -> list[Tile]:
    """Rectangles with these areas, largest first, close to squares (Bruls, Huizing and van Wijk 2000).

    Parameters
    ----------
    areas : falling, above 0
    width, height : of the map, in any unit: a wide map gets a wide arrangement
    """
    scale = width * height / math.fsum(areas)
    sizes = [a * scale for a in areas]
    placed: list[Tile] = []
    left, top, w, h = 0.0, 0.0, width, height

    def worst(row: Sequence[float], side: float) -> float:
        total = math.fsum(row)
        return max(side * side * max(row) / total**2, total**2 / (side * side * min(row)))

    i = 0
    while i < len(sizes):
        side, j = min(w, h), i + 1
        while j < len(sizes) and worst(sizes[i : j + 1], side) <= worst(sizes[i:j], side):
            j += 1
        thick, offset = math.fsum(sizes[i:j]) / side, 0.0
        for size in sizes[i:j]:
            long = size / thick
            x, y, a, b = (left, top + offset, thick, long) if w >= h else (left + offset, top, long, thick)
            placed.append(Tile(100 * x / width, 100 * y / height, 100 * a / width, 100 * b / height))
            offset += long
        if w >= h:
            left, w = left + thick, max(w - thick, 1e-12)
        else:
            top, h = top + thick, max(h - thick, 1e-12)
        i = j
    return placed
