"""Random subset sums and number partitioning: solvers, counts, hitting times, probabilities.

The problem at the heart of the strong lottery ticket theorem: samples x drawn at random, a target t; is t a sum of some
of the x, which ones, in how many ways, and with what probability over the draw?

`solve`, `solve_many`, `solve_words` find a subset; `karmarkar_karp` finds one fast when samples abound; `reachable` and
`covered` decide a window of targets; `count` counts subsets; `hitting_times` samples the number of samples needed;
`theory` predicts all of it, and bounds it.
"""

from importlib import import_module

from . import theory
from ._validate import MAX_SUM, MAX_TABLE_BYTES, SearchTooLarge
from .counts import count
from .differencing import karmarkar_karp, karmarkar_karp_many
from .hitting import hitting_times
from .reach import covered, reachable
from .solvers import Solutions, Words, solve, solve_many, solve_words

__all__ = [
    "MAX_SUM",
    "MAX_TABLE_BYTES",
    "SearchTooLarge",
    "Solutions",
    "Words",
    "count",
    "covered",
    "hitting_times",
    "karmarkar_karp",
    "karmarkar_karp_many",
    "reachable",
    "solve",
    "solve_many",
    "solve_words",
    "theory",
]


def warm() -> None:
    """Compile every kernel of the package on tiny inputs."""
    for name in ("solve", "reach", "hitting", "count", "difference"):
        import_module(f"._kernels_{name}", __name__).warm()
