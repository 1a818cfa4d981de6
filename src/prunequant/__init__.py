"""prunequant: fewer weights, or fewer bits per weight?

The library behind the book "Prune or Quantize?". Sub-packages carry the names of the book's parts; importing
``prunequant`` alone loads neither torch nor matplotlib nor cvxpy.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("prunequant")

_ROOMS = (
    "checkpoint",
    "claims",
    "distortion",
    "experiments",
    "finetune",
    "formats",
    "interplay",
    "optimum",
    "path_following",
    "plotting",
    "random",
    "sparsity",
    "subset_sum",
    "tickets",
)


def __getattr__(name: str):
    """Load a sub-package the first time it is named, so that a plain import stays light."""
    if name in _ROOMS:
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name == f"{__name__}.{name}":
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
