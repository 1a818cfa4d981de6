"""One look for every figure: colours with a fixed meaning, marks that say the same without them, type a phone can show.

Figures are opaque light cards: the same picture serves the light and the dark page, and print. `use()` sets the style;
the constants say which colour, marker and dash a quantity has wherever it appears.

Examples
--------
>>> QUANTIZATION.colour, QUANTIZATION.marker
('#0072B2', 'o')
>>> sorted(THEORY.line())
['color', 'linestyle', 'linewidth', 'marker', 'zorder']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunequant import arguments
from prunequant.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Role:
    """How one kind of quantity is drawn: colour, marker and dash agree, so that any one of them is enough to read it.

    The colours are Okabe and Ito's, told apart with every common colour vision.
    """

    name: str
    colour: str
    marker: str
    dash: str | tuple[float, tuple[float, ...]]
    width: float = 2.0

    def line(self, **more: Any) -> dict[str, Any]:
        """Arguments of `Axes.plot` for a line without marks; `more` overrides."""
        line = {"color": self.colour, "linestyle": self.dash, "linewidth": self.width, "marker": "none", "zorder": 2}
        return {**line, **more}

    def marks(self, **more: Any) -> dict[str, Any]:
        """Arguments of `Axes.plot` for marks without a line; `more` overrides."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": "none",
            "markersize": 6,
            "markeredgecolor": CARD,
            "markeredgewidth": 0.8,
            "zorder": 3,
            **more,
        }

    def both(self, **more: Any) -> dict[str, Any]:
        """Arguments of `Axes.plot` for a line with marks; `more` overrides."""
        return {**self.line(), **self.marks(), "linestyle": self.dash, **more}


CARD = "#FCFCFA"
INK = "#222222"
GRID = "#DDDDD8"
MUTED = "#6E6E6E"

PRUNING = Role("pruning", "#D55E00", "s", (0, (5, 2)))
QUANTIZATION = Role("quantization", "#0072B2", "o", "solid")
BOTH = Role("both", "#009E73", "D", (0, (5, 1.5, 1, 1.5)))
THEORY = Role("theory", "#595959", "none", (0, (2, 1.4)), 1.8)
MEASURED = Role("measured", "#CC79A7", "^", "solid")

ROLES: dict[str, Role] = {role.name: role for role in (PRUNING, QUANTIZATION, BOTH, THEORY, MEASURED)}

# For more curves than roles, in an order that stays apart in grey; black last.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
DASHES = ("solid", (0, (5, 2)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)), "solid")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")

# Inches and points. A figure of this width shown 360 px wide (a phone) has 9 px letters, shown 620 px wide 16 px.
WIDTH = 5.6
HEIGHT = 3.5
FONT = 10.5


def style() -> dict[str, Any]:
    """The settings `use` applies, as a mapping for `matplotlib.rc_context`."""
    need("matplotlib")
    from matplotlib import cycler

    return {
        "figure.figsize": (WIDTH, HEIGHT),
        "figure.dpi": 200,
        "figure.facecolor": CARD,
        "figure.constrained_layout.use": True,
        "savefig.facecolor": CARD,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.12,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": FONT,
        "mathtext.fontset": "dejavusans",
        "axes.facecolor": CARD,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.labelsize": FONT,
        "axes.titlesize": FONT,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=CYCLE, linestyle=DASHES),
        "axes.formatter.use_mathtext": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "lines.linewidth": 2.0,
        "lines.markersize": 6,
        "lines.markeredgecolor": CARD,
        "lines.markeredgewidth": 0.8,
        "legend.fontsize": FONT - 1,
        "legend.frameon": True,
        "legend.framealpha": 0.85,
        "legend.facecolor": CARD,
        "legend.edgecolor": "none",
        "legend.handlelength": 2.6,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": FONT - 1,
        "ytick.labelsize": FONT - 1,
        "image.cmap": "cividis",
        "image.interpolation": "nearest",
        "svg.hashsalt": "prunequant",
    }


def use() -> None:
    """Set the style for every figure that follows: the first thing a chapter does.

    Starts from matplotlib's defaults, so that a personal `matplotlibrc` does not change the book. In a notebook figures
    become PNG at twice the pixels they are shown with.
    """
    need("matplotlib")
    import matplotlib as mpl

    backend = mpl.get_backend()
    mpl.rcdefaults()
    mpl.rcParams.update(style())
    if "inline" in backend.lower():
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        mpl.use(backend)
        shell = get_ipython()
        if shell is not None:
            from matplotlib_inline.config import InlineBackend

            # The inline backend would lay its own small settings over the style.
            InlineBackend.instance(parent=shell).rc = {}
        set_matplotlib_formats("png", bbox_inches="tight", pad_inches=0.12, facecolor=CARD)


def figure(
    rows: int = 1, columns: int = 1, *, height: float | None = None, **more: Any
) -> tuple[Figure, Axes | NDArray[Any]]:
    """A figure of the book's width, with panels stacked so that a phone can read each.

    Parameters
    ----------
    rows, columns : panels, in [1, 64]. Side by side they share one width: more than two columns are too small on a
        phone.
    height : inches of the whole figure, in (0, 1000]; `HEIGHT` for one row, a little less for each of several.
    more : passed to `matplotlib.pyplot.subplots`.

    Returns
    -------
    figure, axes : as `matplotlib.pyplot.subplots` gives them.

    Raises
    ------
    TypeError, ValueError : a number of panels or a height that is none.
    """
    rows, columns = arguments.integer(rows, "rows", 1, 64), arguments.integer(columns, "columns", 1, 64)
    if height is not None:
        height = arguments.real(height, "height", 0, 1000, open_low=True)
    need("matplotlib")
    import matplotlib.pyplot as plt

    if height is None:
        height = HEIGHT if rows == 1 else 2.7 * rows
    return plt.subplots(rows, columns, figsize=(WIDTH, height), **more)


def verdict_colours() -> dict[str, str]:
    """Colours of the five verdicts, the same as the badges of the pages."""
    return {
        "holds": "#00785A",
        "loose": "#8A6100",
        "conditional": "#0A5C94",
        "fails": "#B3400A",
        "open": "#5B5B5B",
    }
