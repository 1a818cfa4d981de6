"""Every public callable of the library, found by walking: nothing is listed here but what stays outside, and why.

A room is a module or package directly below `prunequant`. Public is what its `__all__` names, or without one every
name without an underscore that the module itself defines; a module that an `__all__` names is walked in turn. Of a
class these are the constructor, the public methods and `__call__`. A class that stores what it is given (a dataclass
without `__post_init__`, a named tuple) has no constructor to try: its fields are the results of other calls.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import prunequant

OUTSIDE = {
    "cases": "runs the case studies; needs torch and minutes",
    "claims": "measures the other rooms; its own tests run every claim",
    "cli": "a command, tried as a process in tests/test_cli.py",
    "finetune": "trains networks; needs torch",
    "pages": "draws the book's figures",
    "parallel": "takes kernels, which are called from their own rooms",
    "threads": "sets numbers of threads; takes functions over rows, which are called from their own rooms",
    "timing": "measures a machine; needs torch",
    "warm": "a command",
}

# Rooms of which some modules are tried: the others read files of models, or train for minutes.
WALKED = {"models": ("networks",), "studies": ("paths",)}


@dataclass(frozen=True)
class Target:
    """One callable: `owner` is the class of a method or constructor, `name` the path below prunequant."""

    room: str
    name: str
    function: Callable
    owner: type | None = None
    kind: str = "function"  # or constructor, method, static

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        listed = list(inspect.signature(self.function).parameters.values())
        return {p.name: p for p in (listed[1:] if self.kind == "method" else listed)}


def rooms() -> list[str]:
    names = sorted(m.name for m in pkgutil.iter_modules(prunequant.__path__) if not m.name.startswith("_"))
    return [name for name in names if name not in OUTSIDE]


def _names(module: ModuleType) -> list[str]:
    listed = WALKED.get(module.__name__.removeprefix("prunequant.")) or getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    own = [n for n, o in vars(module).items() if getattr(o, "__module__", None) == module.__name__]
    return [n for n in own if not n.startswith("_")]


def stores_only(cls: type) -> bool:
    """Whether the constructor takes anything: generated from the fields, with no check of its own."""
    made = getattr(cls, "__dataclass_params__", None)
    generated = made is not None and made.init and not hasattr(cls, "__post_init__")
    by_hand = "__init__" in vars(cls) and not hasattr(cls, "__dataclass_fields__")
    return (generated or hasattr(cls, "_fields")) and not by_hand


def methods(cls: type) -> Iterator[tuple[str, Callable, str]]:
    for name in dir(cls):
        if name.startswith("_") and name != "__call__":
            continue
        definer = next((c for c in cls.__mro__ if name in vars(c)), None)
        if definer is None or not definer.__module__.startswith("prunequant"):
            continue
        raw = vars(definer)[name]
        if isinstance(raw, (staticmethod, classmethod)):
            yield name, getattr(cls, name), "static"
        elif inspect.isfunction(raw):
            yield name, raw, "method"


def _of(room: str, path: str, thing: object) -> Iterator[Target]:
    if inspect.isclass(thing):
        if issubclass(thing, (BaseException, enum.Enum)):
            return
        if not stores_only(thing) and "__init__" in dir(thing) and thing.__init__ is not object.__init__:
            yield Target(room, path, thing, thing, "constructor")
        for name, function, kind in methods(thing):
            yield Target(room, f"{path}.{name}", function, thing, kind)
    elif inspect.isfunction(thing):  # compiled functions are for kernels: their arguments are typed there
        yield Target(room, path, thing)


def targets() -> list[Target]:
    """All of them, each once, under the first name that the walk meets."""
    found: list[Target] = []
    seen: set[int] = set()

    def walk(room: str, module: ModuleType) -> None:
        below: list[ModuleType] = []
        for name in _names(module):
            thing = getattr(module, name)
            if isinstance(thing, ModuleType):
                below.append(thing)
            elif callable(thing) and id(thing) not in seen and _home(thing).startswith("prunequant"):
                seen.add(id(thing))
                found.extend(_of(room, f"{module.__name__.removeprefix('prunequant.')}.{name}", thing))
        for thing in below:
            if id(thing) not in seen:
                seen.add(id(thing))
                walk(room, thing)

    for room in rooms():
        walk(room, importlib.import_module(f"prunequant.{room}"))
    owners = {target.owner for target in found if target.owner}
    bases = {base for owner in owners for base in owner.__mro__[1:]}  # tried through their subclasses
    return [target for target in found if target.owner not in bases]


def _home(thing: object) -> str:
    return getattr(thing, "__module__", None) or ""
