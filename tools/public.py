"""What the library shows to its users, found by walking it: a new public function is there without being listed.

A room is a module or package directly below `prunequant`. Public is what its `__all__` names, or without one every
function and class that the module itself defines under a name without an underscore, and the modules of its folder.
The text of a definition is read from its source, so that annotations stand as they were written.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import prunequant

SOURCE = Path(prunequant.__file__).resolve().parents[1]
# Rooms that are commands, or that only the library itself uses: no page of the book describes them.
INSIDE = ("cli", "kernel_cache", "warm")


def rooms() -> list[str]:
    """The rooms that have a page."""
    return [name for name in dir(prunequant) if not name.startswith("_") and name not in INSIDE]


@dataclass(frozen=True)
class Entry:
    """One public thing: `name` is how a user reaches it, below `prunequant`; `thing` what is found there."""

    name: str
    thing: Any

    @property
    def short(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def kind(self) -> str:
        """ "module", "class", "function" or "data"."""
        if inspect.ismodule(self.thing):
            return "module"
        if inspect.isclass(self.thing):
            return "class"
        return "function" if inspect.isfunction(plain(self.thing)) else "data"


def plain(thing: Any) -> Any:
    """The Python function inside a compiled or wrapped one."""
    thing = getattr(thing, "py_func", thing)
    return inspect.unwrap(thing) if callable(thing) and not inspect.isclass(thing) else thing


def inside(thing: Any) -> Any:
    """The Python function of a method or property, as the body of its class holds it."""
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    return plain(getattr(thing, "fget", None) or getattr(thing, "func", None) or thing)


def entries(module: ModuleType) -> list[Entry]:
    """What a module or package shows, in the order of `__all__` or of its text; modules last."""
    path = module.__name__.removeprefix("prunequant.")
    listed = getattr(module, "__all__", None)
    if listed is None:
        own = (
            name for name, thing in vars(module).items() if getattr(plain(thing), "__module__", "") == module.__name__
        )
        listed = [name for name in own if not name.startswith("_") and callable(getattr(module, name))]
        if hasattr(module, "__path__"):
            listed += [found.name for found in pkgutil.iter_modules(module.__path__) if not found.name.startswith("_")]
    found = []
    for name in listed:
        thing = getattr(module, name, None)
        if thing is None:
            thing = importlib.import_module(f"{module.__name__}.{name}")
        found.append(Entry(f"{path}.{name}", thing))
    return sorted(found, key=lambda entry: entry.kind == "module")


def members(entry: Entry) -> list[Entry]:
    """The public methods and properties of a class, its private bases' included; a public base shows its own."""
    found: dict[str, Entry] = {}
    for base in entry.thing.__mro__:
        if base is not entry.thing and not (
            base.__name__.startswith("_") and base.__module__.startswith("prunequant.")
        ):
            continue
        for name, raw in vars(base).items():
            function = inside(raw)
            if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__"):
                if Path(inspect.getfile(function)).is_relative_to(SOURCE):  # not what a decorator made
                    found.setdefault(name, Entry(f"{entry.name}.{name}", raw))
    return list(found.values())


def walk(room: str) -> Iterator[Entry]:
    """Everything public of a room: functions, classes, constants and, entered in turn, its modules."""
    waiting = [importlib.import_module(f"prunequant.{room}")]
    while waiting:
        for entry in entries(waiting.pop(0)):
            yield entry
            if entry.kind == "module":
                waiting.append(entry.thing)


# --- the text of a definition ----------------------------------------------------------------------------------------


@cache
def _definitions(path: Path) -> dict[str, ast.AST]:
    """Dotted name → node of every function, class and plain assignment of a module."""
    found: dict[str, ast.AST] = {}

    def enter(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[f"{prefix}{child.name}"] = child
                enter(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.AnnAssign | ast.Assign):
                for target in child.targets if isinstance(child, ast.Assign) else [child.target]:
                    if isinstance(target, ast.Name):
                        found[f"{prefix}{target.id}"] = child
            elif isinstance(child, ast.If | ast.Try):
                enter(child, prefix)

    if path.is_file():  # what a decorator wrote has none
        enter(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def file_of(thing: Any) -> Path:
    return Path(inspect.getfile(plain(thing))).resolve()


def definition(thing: Any) -> ast.AST | None:
    """The node of a function or class in its module's source; None for what is made at run time."""
    return _definitions(file_of(thing)).get(thing.__qualname__)


def arguments_of(node: ast.FunctionDef, bound: bool) -> list[str]:
    """Each parameter of a function as it is written, with the marks `/` and `*`; `bound` leaves the first out."""
    a = node.args
    plainly = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plainly) - len(a.defaults)) + list(a.defaults)

    def text(argument: ast.arg, default: ast.expr | None, stars: str = "") -> str:
        said = f"{stars}{argument.arg}" + (f": {ast.unparse(argument.annotation)}" if argument.annotation else "")
        if default is None:
            return said
        return f"{said} = {ast.unparse(default)}" if argument.annotation else f"{said}={ast.unparse(default)}"

    found = [text(argument, default) for argument, default in zip(plainly, defaults)]
    if a.posonlyargs:
        found.insert(len(a.posonlyargs), "/")
    if bound:
        found = found[1:]
    if a.vararg:
        found.append(text(a.vararg, None, "*"))
    elif a.kwonlyargs:
        found.append("*")
    found += [text(argument, default) for argument, default in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg:
        found.append(text(a.kwarg, None, "**"))
    return found


def _fields(cls: type) -> list[str]:
    """The fields of a dataclass or named tuple, as the constructor takes them."""
    found = []
    for name, parameter in inspect.signature(cls).parameters.items():
        if name.startswith("_"):  # what the library keeps for itself in a result
            continue
        for base in cls.__mro__:
            node = _definitions(file_of(base)).get(f"{base.__qualname__}.{name}") if _ours(base) else None
            if isinstance(node, ast.AnnAssign):
                value = "" if parameter.default is parameter.empty else " = ..."
                if value and node.value is not None and not isinstance(node.value, ast.Call):
                    value = f" = {ast.unparse(node.value)}"
                found.append(f"{name}: {ast.unparse(node.annotation)}{value}")
                break
        else:
            found.append(str(parameter))
    return found


def _ours(cls: type) -> bool:
    return cls.__module__.startswith("prunequant")


def signature(entry: Entry) -> str | None:
    """How a function or class is called, as its source says it, on as many lines as it needs; None where it is not."""
    thing, name, result = entry.thing, entry.short, ""
    if entry.kind == "class":
        maker = next((base for base in thing.__mro__ if "__init__" in vars(base)), object)
        if hasattr(thing, "__dataclass_fields__") or hasattr(thing, "_fields"):
            parts = _fields(thing)
        elif _ours(maker) and isinstance(node := definition(maker.__init__), ast.FunctionDef):
            parts = arguments_of(node, bound=True)
        else:
            return None
    else:
        function = inside(thing)
        node = definition(function)
        if not isinstance(node, ast.FunctionDef):
            return None
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        if isinstance(thing, property) or hasattr(thing, "attrname"):
            return name + result.replace(" ->", ":")
        parts = arguments_of(node, bound="." in function.__qualname__ and not isinstance(thing, staticmethod))
    line = f"{name}({', '.join(parts)}){result}"
    return line if len(line) <= 88 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def value(entry: Entry, module: ModuleType) -> str:
    """A constant as it is written where it is set, if that is short; else what kind of thing it is."""
    for path in sorted(Path(inspect.getfile(module)).parent.rglob("*.py")):
        node = _definitions(path.resolve()).get(entry.short)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            text = ast.unparse(node.value)
            if len(text) <= 80:
                return f"{entry.short} = {text}"
    return f"{entry.short}: {type(entry.thing).__name__}"
