"""prunequant: fewer weights, or fewer bits per weight?

The library behind the book "Prune or Quantize?". Sub-packages carry the names of the book's parts; importing
``prunequant`` alone loads neither torch nor matplotlib nor cvxpy.
"""

from importlib import import_module
from importlib.metadata import version

from . import kernel_cache

__version__ = version("prunequant")

kernel_cache.settle()

_ROOMS = (
    "arguments",
    "cases",
    "claims",
    "distortion",
    "experiments",
    "extras",
    "finetune",
    "formats",
    "interplay",
    "statistics",
    "models",
    "optimum",
    "pages",
    "path_following",
    "random",
    "records",
    "sparsity",
    "studies",
    "subset_sum",
    "threads",
    "tickets",
    "timing",
    "tolerance",
)


def __getattr__(name: str):
    """Load a sub-package the first time it is named, so that a plain import stays light."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
