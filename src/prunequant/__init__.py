"""prunequant: fewer weights, or fewer bits per weight?

The library behind the book "Prune or Quantize?". Sub-packages carry the names of the book's parts; importing
``prunequant`` alone loads neither torch nor matplotlib nor cvxpy.
"""

from importlib import import_module
from importlib.metadata import version
from pkgutil import iter_modules
from types import ModuleType

from . import kernel_cache

__version__ = version("prunequant")

kernel_cache.settle()

# The rooms are the modules and packages beside this file: a new one is there without being listed.
_ROOMS = tuple(sorted(found.name for found in iter_modules(__path__) if not found.name.startswith("_")))


def __getattr__(name: str) -> ModuleType:
    """Load a sub-package the first time it is named, so that a plain import stays light."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*_ROOMS, *(name for name in globals() if name.startswith("__"))})
