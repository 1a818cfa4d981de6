"""One call and what came of it: the same result, a refusal by name, or a fault of a stated kind."""

from __future__ import annotations

import builtins
import inspect
import re
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction

import numpy as np

from surface import calls, twins
from surface.values import Case, Own
from surface.walk import Target, methods

SECONDS = 1.0  # of processor time; a slower call is made once more, so that compiling a kernel does not count
_BUILT_IN = {error for error in vars(builtins).values() if isinstance(error, type) and issubclass(error, OSError)}
_ALLOWED = {TypeError, ValueError, ImportError, ModuleNotFoundError, *_BUILT_IN}
# A probability by its name, so that a new one is held to [0, 1] too (bounds of it may exceed 1).
_PROBABILITY = re.compile(r"subset_sum\.theory\.(\w*_failure|\w*probability|parity_floor|mixture_poisson_tail)$")


@dataclass
class Outcome:
    kind: str  # "accepted", "refused" or one of the faults of run.py
    detail: str = ""
    seconds: float = 0.0


def leaves(value: object, depth: int = 0) -> Iterator[object]:
    """A result as the numbers, strings and arrays that it holds, in a fixed order."""
    if depth > 6 or isinstance(value, (types.FunctionType, types.ModuleType, type, np.dtype)):
        yield "dtype" if isinstance(value, np.dtype) else type(value).__name__
    elif isinstance(value, np.ndarray):
        whole = value.dtype == object and all(type(v) is int and abs(v) < 1 << 63 for v in value.flat)
        held = value.astype(np.int64) if whole else value
        yield from leaves(held.tolist(), depth + 1) if held.dtype == object else [np.asarray(held)]
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            yield repr(key)
            yield from leaves(value[key], depth + 1)
    elif isinstance(value, (list, tuple)):
        yield len(value)
        for one in value:
            yield from leaves(one, depth + 1)
    elif type(value) in calls.SEEN_AS:
        yield from leaves(calls.SEEN_AS[type(value)](value), depth + 1)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from leaves(getattr(value, field.name), depth + 1)
    elif hasattr(value, "detach"):
        held = value.detach()
        yield (held.float() if str(held.dtype) == "torch.bfloat16" else held).numpy()
    elif callable(getattr(value, "named_modules", None)):  # a torch module: the numbers that it holds
        yield from leaves(dict(value.state_dict()), depth + 1)
    elif type(value).__module__.startswith("prunequant"):
        for name in sorted(getattr(value, "__dict__", {})):
            yield from leaves(vars(value)[name], depth + 1)
    elif isinstance(value, (bool, int, float, complex, str, bytes, np.generic, type(None))):
        yield value
    else:
        yield float(value) if isinstance(value, Fraction) else type(value).__name__


def _numeric(leaf: object) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        narrow = leaf.dtype.kind == "V" and leaf.dtype.type is not np.void  # bfloat16
        return leaf.dtype.kind in "iufcb" or narrow
    return isinstance(leaf, (int, float))


def difference(result: list, reference: list, tolerance: float) -> str:
    """How two flattened results differ; empty when they do not. A dtype alone is no difference."""
    if len(result) != len(reference):
        return f"{len(result)} values, not {len(reference)}"
    for a, b in zip(result, reference):
        if _numeric(a) and _numeric(b):
            x, y = np.asarray(a), np.asarray(b)
            if x.shape != y.shape:
                return f"shape {x.shape}, not {y.shape}"
            if tolerance:
                x, y = x.astype(np.float64), y.astype(np.float64)
                width = 64 * tolerance * max(1e-300, float(np.max(np.abs(y), initial=0.0)))
                if x.size and not np.allclose(x, y, rtol=0, atol=width, equal_nan=True):
                    return f"{_short(x)}, not {_short(y)}"
            elif not np.array_equal(x, y, equal_nan=x.dtype.kind in "fc" and y.dtype.kind in "fc"):
                return f"{_short(x)}, not {_short(y)}"
        elif isinstance(a, (str, bytes)) and isinstance(b, (str, bytes)):
            if a != b:
                return f"{str(a)[:60]!r}, not {str(b)[:60]!r}"
        elif {type(a), type(b)} == {str, type(None)} and "dtype" in (a, b):  # a narrow dtype remembered, or none
            continue
        elif type(a) is not type(b) or (not isinstance(a, np.ndarray) and a != b):
            return f"{str(a)[:60]}, not {str(b)[:60]}"
    return ""


def _short(x: np.ndarray) -> str:
    return np.array2string(x.reshape(-1)[:4], precision=6) + ("..." if x.size > 4 else "")


def _has_nan(flat: list) -> bool:
    for leaf in flat:
        if _numeric(leaf):
            x = np.asarray(leaf)
            if x.dtype.kind in "fc" and bool(np.isnan(x).any()):
                return True
    return False


def _all_finite(value: object) -> bool:
    held = [np.asarray(leaf) for leaf in leaves(value) if _numeric(leaf)]
    return all(bool(np.isfinite(x).all()) for x in held if x.dtype.kind in "fcV")


def uses(target: Target, thing: object) -> list:
    """What an object does: its public properties and methods on their canonical arguments, flattened."""
    found: list = list(leaves(thing))
    cls = type(thing)
    for name in sorted(n for n in dir(cls) if not n.startswith("_")):
        definer = next((c for c in cls.__mro__ if name in vars(c)), None)
        raw = vars(definer)[name] if definer else None
        if isinstance(raw, property) and definer.__module__.startswith("prunequant"):
            found.extend(leaves(getattr(thing, name)))
    owner = target.name
    for name, function, kind in methods(cls):
        method = Target(target.room, f"{owner}.{name}", function, cls, kind)
        if kind == "method" and method.name not in calls.MAY_REFUSE and method.name not in calls.SEPARATE:
            found.extend(leaves(calls.call(method, calls.arguments(method), thing)))
    return found


def run(target: Target, name: str | None, make: Callable[[], object] | None = None) -> tuple[list, dict]:
    """The flattened result of the call with the parameter's value replaced, and the arguments given."""
    owner = calls.instance(target) if target.kind == "method" else None
    given = calls.arguments(target, *([name] if name else []))
    if make is not None:
        given[name] = make()
    before = {k: v.copy() for k, v in given.items() if type(v) is np.ndarray and not k.startswith("out")}
    flags = {k: given[k].flags.writeable for k in before}
    start = time.process_time()
    result = calls.call(target, given, owner)
    flat = uses(target, result) if target.kind == "constructor" else list(leaves(result))
    seconds = time.process_time() - start
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")  # it keeps what was drawn
    for key, old in before.items():
        if flags[key] != given[key].flags.writeable:
            raise Changed(f"{key} is made read-only by the call")
        if old.dtype != object and old.tobytes() != given[key].tobytes():
            raise Changed(f"{key} is changed by the call")
    return [*flat, seconds], given


class Changed(Exception):
    """The caller's array is not what it was."""


def allowed(error: BaseException) -> bool:
    kind = type(error)
    own = kind.__module__.startswith("prunequant") and isinstance(error, (ValueError, TypeError, OSError, RuntimeError))
    return kind in _ALLOWED or own or kind is np.exceptions.AxisError


def names(message: str, name: str, parameter: inspect.Parameter) -> bool:
    forms = {name, name.replace("_", " ")}
    if name == "batches":  # an error may name the one that is at fault
        forms.add("batch")
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        forms.add(name.rstrip("s"))
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", message) for form in forms)


def judge(
    target: Target, name: str, case: Case, reference: list | None, timed: Callable[[], AbstractContextManager]
) -> Outcome:
    """The case's outcome, the call made inside `timed()`.

    `reference` is the flattened result for the canonical argument, None where that is refused.
    """
    start = time.process_time()
    parameters = target.parameters
    most = calls.LONG.get(f"{target.name}: {name}", SECONDS)
    try:
        with timed():
            flat, given = run(target, name, case.make)
    except Changed as error:
        return Outcome("wrong", str(error), time.process_time() - start)
    except BaseException as error:
        seconds = time.process_time() - start
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        if isinstance(error, Own):
            return Outcome("accepted", "", seconds)
        if not allowed(error):
            return Outcome("foreign", text, seconds)
        if seconds > most:
            return Outcome("slow", text, seconds)
        message = str(error)
        own = type(error).__module__.startswith("prunequant")
        # where every call is refused the message says why, and no argument is at fault
        others = (reference is None and target.name in calls.MAY_REFUSE) or (
            case.near and any(names(message, other, parameters[other]) for other in parameters)
        )
        if own or isinstance(error, (ImportError, OSError)) or names(message, name, parameters[name]) or others:
            return Outcome("refused", text, seconds)
        return Outcome("unnamed", text, seconds)
    seconds = flat.pop()
    if seconds > most:
        return Outcome("slow", f"{seconds:.1f} s", seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Outcome(*_verdict(target, name, case, reference, given, flat), seconds)


def _verdict(target: Target, name: str, case: Case, reference: list | None, given: dict, flat: list) -> tuple[str, str]:
    """Whether an accepted call is right."""
    if case.barred:
        return "lax", "accepted, though the dialect has no room for it"
    if case.same and reference is not None and target.name.startswith(calls.SECONDS):
        return ("accepted", "") if len(flat) == len(reference) else ("wrong", f"{len(flat)} values")
    if case.same and reference is not None:
        apart = difference(flat, reference, case.tolerance)
        return ("wrong", apart) if apart else ("accepted", "")
    defined = target.name not in calls.MAY_BE_NAN
    if defined and _has_nan(flat) and reference is not None and not _has_nan(reference) and _all_finite(given[name]):
        return "wrong", "NaN in the result"
    if _PROBABILITY.search(target.name) and not given.get("log") and flat and _numeric(flat[0]):
        if not 0 <= float(flat[0]) <= 1 + 1e-12:
            return "wrong", f"a probability of {flat[0]}"
    apart = twins.difference(target.name, given, flat)
    return ("wrong", apart) if apart else ("accepted", "")
