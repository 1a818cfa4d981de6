"""prunequant: fewer weights, or fewer bits per weight?

The library behind the book "Prune or Quantize?". Sub-packages carry the names of the book's parts; importing
``prunequant`` alone loads neither torch nor matplotlib nor cvxpy.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType

from . import kernel_cache

__version__: str

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


def __getattr__(name: str) -> ModuleType:
    """Load a sub-package, or look up the version, the first time it is named: a plain import stays light.

    The rooms are the modules and packages beside this file: a new one is there without being listed.
    """
    if name == "__version__":
        from importlib.metadata import version

        return globals().setdefault(name, version("prunequant"))  # declared above: a checker does not come here
    if name.isidentifier() and not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from pkgutil import iter_modules

    rooms = (module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
    return sorted({"__version__", *rooms, *(name for name in globals() if name.startswith("__"))})
