"""Every public callable of the library, found by walking: nothing is listed here but what stays outside, and why.

A room is a module or package directly below `prunequant`. Public is what its `__all__` names, or without one every
name without an underscore that the module itself defines or offers when it is asked for (its `__dir__`), and the
modules of its folder, which are walked in turn. Of a class these are the constructor, the public methods and
`__call__`. A class that stores what it is given (a dataclass without `__post_init__`, a named tuple) has no constructor
to try: its fields are the results of other calls.
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

_PRETRAINED = "reads a pretrained model or pictures of it; its own tests damage those files"
_TRANSFORMERS = "loads a model by transformers, which takes seconds; its own tests give it what cannot be loaded"
_PARTS = "what compress and input_grams are made of: every module that they are given is taken apart by it"
_RECORD = "makes a record of the book, or a part of it: its settings come through studies.runner"
_BOOK = "a network or data of the book, made by its chapters and cases, which its own tests hold"
_PAGE = "measures for one page of the book, which gives it the settings that are printed there"
_CASE = "one case study: its settings come from presets, and from the command that cases.runner checks"

OUTSIDE = {
    "cases.byte_model": _CASE,
    "cases.hardware": _CASE,
    "cases.lsq_against_pruning": _CASE,
    "cases.order_in_a_language_model": _CASE,
    "cases.pareto": _CASE,
    "cases.paths_in_a_language_model": _CASE,
    "cases.runner.Case": "made by the cases themselves",
    "claims": "states and measures what the other rooms compute; its own tests run every claim",
    "cli": "a command, tried as a process in tests/test_cli.py",
    "models.block_by_block": _CASE,
    "models.calibration.Grams": _PARTS,
    "models.column_scaling": "takes a language model and its Gram matrices; its own tests give it what cannot be",
    "models.corpus": _BOOK,
    "models.efficientnet": _PRETRAINED,
    "models.images": "reads and fetches files of pictures; its own tests damage them",
    "models.integer_digits": _PRETRAINED,
    "models.integer_efficientnet": _PRETRAINED,
    "models.inventory": _PARTS,
    "models.layers": _PARTS,
    "models.perceptron": _BOOK,
    "models.photographs": _PRETRAINED,
    "models.small": _BOOK,
    "models.smollm2": _PRETRAINED,
    "models.text": _TRANSFORMERS,
    "models.text_grams": _TRANSFORMERS,
    "studies.characters": _RECORD,
    "studies.compressed_model": _RECORD,
    "studies.corpus": _RECORD,
    "studies.equal_size_model": _RECORD,
    "studies.fashion_mnist_6000": _RECORD,
    "studies.imagenet_ticket": _RECORD,
    "studies.inputs": _RECORD,
    "studies.llama_cpp_files": _RECORD,
    "studies.llama_runtime": _RECORD,
    "studies.llama_speed": _RECORD,
    "studies.lsq_rates": _RECORD,
    "studies.logistic_baseline": _RECORD,
    "studies.lsq_representations": _RECORD,
    "studies.lsq_searches": _RECORD,
    "studies.model_reports": _RECORD,
    "studies.order_audit": _RECORD,
    "studies.order_effect": _RECORD,
    "studies.order_embeddings": _RECORD,
    "studies.order_language": _RECORD,
    "studies.order_outliers": _RECORD,
    "studies.order_vision": _RECORD,
    "studies.orders": _RECORD,
    "studies.paths_coverage": _RECORD,
    "studies.paths_networks": _RECORD,
    "studies.paths_studies": _RECORD,
    "studies.phase_diagram": _RECORD,
    "studies.phase_plan": _RECORD,
    "studies.printed": _RECORD,
    "studies.published_tensors": _RECORD,
    "studies.real_layers": _RECORD,
    "studies.real_rows": _RECORD,
    "studies.real_weights": _RECORD,
    "studies.runner": "runs the recorded studies; tests/studies/test_runner.py gives it settings of a wrong kind",
    "studies.since": _PAGE,
    "studies.threshold_efficientnet": _RECORD,
    "studies.ticket_efficientnet": _RECORD,
    "warm": "a command",
}


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
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    names = [n for n, o in vars(module).items() if getattr(o, "__module__", None) == module.__name__]
    if hasattr(module, "__path__"):
        offered = vars(module).get("__dir__")
        names += offered() if offered else [found.name for found in pkgutil.iter_modules(module.__path__)]
    return [n for n in dict.fromkeys(names) if not n.startswith("_") and not _imported(module, n)]


def _imported(module: ModuleType, name: str) -> bool:
    """Whether a module only imported this other module, of another folder."""
    thing = vars(module).get(name)
    return isinstance(thing, ModuleType) and not thing.__name__.startswith(f"{module.__name__}.")


def named(module: ModuleType, name: str) -> object:
    if not hasattr(module, name):
        importlib.import_module(f"{module.__name__}.{name}")
    return getattr(module, name)


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
        if name == "forward" and any(base.__module__ == "torch.nn.modules.module" for base in cls.__mro__):
            continue  # called by torch, with what the module is called with
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
            path = f"{module.__name__.removeprefix('prunequant.')}.{name}"
            if path in OUTSIDE:
                continue
            thing = named(module, name)
            if isinstance(thing, ModuleType):
                below.append(thing)
            elif callable(thing) and id(thing) not in seen and _home(thing).startswith("prunequant"):
                seen.add(id(thing))
                found.extend(_of(room, path, thing))
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
