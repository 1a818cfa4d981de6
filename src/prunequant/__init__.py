"""prunequant: fewer weights, or fewer bits per weight?

The library behind the book "Prune or Quantize?". Sub-packages carry the names of the book's parts; importing
``prunequant`` alone loads neither torch nor matplotlib nor cvxpy.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from pkgutil import iter_modules
from types import ModuleType

from . import kernel_cache

__version__ = version("prunequant")

kernel_cache.settle()


class _OwnModules(PathFinder):
    """Finds the modules of the package; where one imports what is not installed, the error names the extra."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            try:
                run(module)
            except ModuleNotFoundError as error:
                from prunequant import extras

                raise extras.missing(error) or error from None

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _OwnModules)

# The rooms are the modules and packages beside this file: a new one is there without being listed.
_ROOMS = tuple(sorted(found.name for found in iter_modules(__path__) if not found.name.startswith("_")))


def __getattr__(name: str) -> ModuleType:
    """Load a sub-package the first time it is named, so that a plain import stays light."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*_ROOMS, *(name for name in globals() if name.startswith("__"))})
