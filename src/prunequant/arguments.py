"""Checks of arguments, the same in every room: an error says what it is, what was given and what is allowed.

A scalar becomes a Python number here, once, before anything is computed with it: NumPy's narrow integers wrap around
in ordinary expressions (`2 ** np.uint8(8)` is 0), so that a width of `np.uint8(4)` bits would give wrong numbers in
silence. Decided once, for the whole library:

* an integer is anything that counts as an index (Python or NumPy integers, 0-d integer arrays), never a bool and never
  a float, whole or not;
* a real number is an integer or a float of any width, never a bool, a complex number, a string or NaN;
* a flag is True or False, NumPy's included;
* an array of numbers holds integers or floats: bool, complex, masked, string, date and structured data are refused, and
  so is an object array, unless all that it holds are Python integers and integers are asked for.

The wrong kind of thing is a TypeError, the wrong value of the right kind a ValueError.
"""

from __future__ import annotations

import math
import operator
import reprlib
import sys
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxdict = 40, 60, 3


def shown(value: object) -> str:
    """A value as an error message shows it: its kind too where the value alone would mislead, never more than a line.

    Examples
    --------
    >>> shown("relu"), shown(2.5), shown(np.uint8(4)), shown(np.zeros((2, 3)))
    ("'relu'", '2.5', '4', 'an array of shape (2, 3) and dtype float64')
    """
    if isinstance(value, np.ndarray):
        kind = "a masked array" if isinstance(value, np.ma.MaskedArray) else "an array"
        return f"{kind} of shape {value.shape} and dtype {value.dtype}"
    try:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
            return f"{'-' if value < 0 else ''}2**{abs(value).bit_length() - 1} or more in size"
        text = _SHORT.repr(value)
    except Exception:  # a repr is foreign code
        text = f"a {type(value).__name__}"
    return " ".join(text.split())


def _wanted(kind: str, low: object, high: object, open_low: bool = False, open_high: bool = False) -> str:
    if low is None and high is None:
        return kind
    if high is None:
        return f"{kind} {'above' if open_low else 'from'} {low}{'' if open_low else ' on'}"
    if low is None:
        return f"{kind} {'below' if open_high else 'up to'} {high}"
    return f"{kind} in {'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"


def integer(value: Any, name: str, low: int | None = None, high: int | None = None) -> int:
    """A Python int from any integer, within [low, high] where they are given.

    Raises
    ------
    TypeError : not an integer (bools and floats are none).
    ValueError : below `low` or above `high`.

    Examples
    --------
    >>> integer(np.uint8(4), "bits", 1, 16)
    4
    >>> integer(4.0, "bits", 1, 16)
    Traceback (most recent call last):
    TypeError: bits is 4.0: it must be an integer in [1, 16]
    """
    wanted = _wanted("an integer", low, high)
    if isinstance(value, bool | np.bool_) or (isinstance(value, np.ndarray) and value.dtype == bool):
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}") from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{name} is {shown(number)}: it must be {wanted}")
    return number


def real(
    value: Any,
    name: str,
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    open_high: bool = False,
    infinite: bool = False,
) -> float:
    """A Python float from any real number, within the bounds where they are given; NaN is refused always.

    Parameters
    ----------
    open_low, open_high : the bound itself is refused too.
    infinite : infinities are allowed (within the bounds).

    Raises
    ------
    TypeError : not a real number (bools, complex numbers and strings are none).
    ValueError : NaN, infinite, too large for a float, or out of bounds.

    Examples
    --------
    >>> real(np.float32(0.5), "sparsity", 0, 1)
    0.5
    >>> real(float("nan"), "scale", 0, open_low=True)
    Traceback (most recent call last):
    ValueError: scale is nan: it must be a finite number above 0
    """
    wanted = _wanted("a number" if infinite else "a finite number", low, high, open_low, open_high)
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray):
        value = value[()]
    known = isinstance(value, int | float | np.integer | np.floating | Fraction)
    narrow = isinstance(value, np.generic) and value.dtype.kind == "V" and value.dtype.names is None  # bfloat16
    if isinstance(value, bool | np.bool_) or not (known or narrow):
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"{name} is {shown(value)}: it must be {wanted}") from None
    bad = math.isnan(number) or (math.isinf(number) and not infinite)
    bad = bad or (low is not None and (number < low or (open_low and number == low)))
    bad = bad or (high is not None and (number > high or (open_high and number == high)))
    if bad:
        raise ValueError(f"{name} is {shown(value)}: it must be {wanted}")
    return number


def flag(value: Any, name: str) -> bool:
    """True or False.

    Examples
    --------
    >>> flag(np.True_, "stochastic")
    True
    >>> flag(1, "stochastic")
    Traceback (most recent call last):
    TypeError: stochastic is 1: it must be True or False
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {shown(value)}: it must be True or False")
    return bool(value)


def choice(value: Any, name: str, options: Collection[str]) -> str:
    """One of some words.

    Examples
    --------
    >>> choice("even", "rounding", ("even", "stochastic"))
    'even'
    >>> choice("odd", "rounding", ("even", "stochastic"))
    Traceback (most recent call last):
    ValueError: rounding is 'odd': it must be one of 'even', 'stochastic'
    """
    wanted = f"one of {', '.join(repr(option) for option in options)}"
    if not isinstance(value, str):
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    if value not in options:
        raise ValueError(f"{name} is {shown(value)}: it must be {wanted}")
    return str(value)


def instance(value: Any, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
    """The value itself, if it is of a kind; `wanted` says which, with how to get one.

    Examples
    --------
    >>> instance("int4", "fmt", np.ndarray, "a format, such as formats.Integer(4)")
    Traceback (most recent call last):
    TypeError: fmt is 'int4': it must be a format, such as formats.Integer(4)
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    return value


def several(value: Any, name: str, wanted: str = "a sequence") -> Iterable:
    """The value itself, if it holds several: no string, no mapping, no single number that calls itself an array.

    Examples
    --------
    >>> several([1, 2], "seeds")
    [1, 2]
    >>> several(np.array(3), "seeds", "a sequence of integers")
    Traceback (most recent call last):
    TypeError: seeds is an array of shape () and dtype int64: it must be a sequence of integers
    """
    single = not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping)
    if single or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    return value


def function(value: Any, name: str, wanted: str = "a function") -> Any:
    """The value itself, if it can be called.

    Examples
    --------
    >>> function(len, "progress")
    <built-in function len>
    >>> function(3, "progress", "a function of two numbers, or None")
    Traceback (most recent call last):
    TypeError: progress is 3: it must be a function of two numbers, or None
    """
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}")
    return value


def path(value: Any, name: str, *, file: bool = False) -> Path:
    """The path of a file or folder, from a string or a path; nothing need lie there.

    With `file` it must end in a name, as the current folder "." and the root do not.

    Examples
    --------
    >>> path("rows.json", "path").name
    'rows.json'
    >>> path(7, "store")
    Traceback (most recent call last):
    TypeError: store is 7: it must be the path of a file, a string or a pathlib.Path
    """
    wanted = "the path of a file, a string or a pathlib.Path"
    instance(value, name, (str, PathLike), wanted)
    try:
        location = Path(value)
    except TypeError:  # a path of bytes
        raise TypeError(f"{name} is {shown(value)}: it must be {wanted}") from None
    if file and location.name in ("", ".."):
        raise ValueError(f"{name} is {shown(value)}: it must be {wanted}")
    return location


def _plain_array(x: Any, name: str, wanted: str) -> NDArray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is {shown(x)}: it must be {wanted}; fill or compress it first")
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, OverflowError) as error:
        raise type(error)(f"{name} is {shown(x)}: it must be {wanted} ({error})") from None
    except RuntimeError as error:  # a tensor that requires grad, or lives on another device
        raise TypeError(f"{name} is a {type(x).__name__}: it must be {wanted} ({error})") from None
    return array.view(np.ndarray)


class _Device(Protocol):
    @property
    def type(self) -> str: ...


class _Tensor(Protocol):
    """What is asked of a torch tensor where torch is not imported."""

    @property
    def device(self) -> _Device: ...


def is_tensor(x: object) -> TypeGuard[_Tensor]:
    """Whether it is a torch tensor; torch is not imported for the question.

    >>> is_tensor(np.ones(3))
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def integers(x: Any, name: str) -> NDArray:
    """An array of integers in the dtype that it has; the Python integers of an object array stay as they are.

    Raises
    ------
    TypeError : anything else (an empty list counts as no integers).

    Examples
    --------
    >>> integers([3, -1], "x").dtype.kind
    'i'
    >>> integers([0.5], "x")
    Traceback (most recent call last):
    TypeError: x has dtype float64: it must hold integers
    """
    array = _plain_array(x, name, "an array of integers")
    if array.size == 0 and array.dtype.kind == "f" and not isinstance(x, np.ndarray):  # np.asarray([]) is float
        array = array.astype(np.int64)
    whole = array.dtype == object and all(isinstance(v, int) and not isinstance(v, bool) for v in array.flat)
    if array.dtype.kind not in "iu" and not whole:
        raise TypeError(f"{name} has dtype {array.dtype}: it must hold integers")
    return array


def booleans(x: Any, name: str) -> NDArray[np.bool_]:
    """An array of True and False, such as a mask.

    Examples
    --------
    >>> booleans([True, False], "mask").dtype
    dtype('bool')
    >>> booleans([1, 0], "mask")
    Traceback (most recent call last):
    TypeError: mask has dtype int64: it must hold True and False
    """
    array = _plain_array(x, name, "an array of True and False")
    if array.dtype != bool:
        raise TypeError(f"{name} has dtype {array.dtype}: it must hold True and False")
    return array


def numbers(x: Any, name: str, *, finite: bool = True) -> NDArray:
    """An array of real numbers in the dtype that it has: integers, floats of any width, bfloat16 and narrower.

    Raises
    ------
    TypeError : bool, complex, masked, string, date, structured or object data.
    ValueError : NaN or infinity, unless `finite` is False; a finite number that float64 does not hold.

    Examples
    --------
    >>> numbers([1, 2.5], "weights").dtype
    dtype('float64')
    >>> numbers([1j], "weights")
    Traceback (most recent call last):
    TypeError: weights has dtype complex128: it must hold real numbers
    """
    array = _plain_array(x, name, "an array of real numbers")
    narrow = array.dtype.kind == "V" and array.dtype.names is None and array.dtype.type is not np.void  # ml_dtypes
    if array.dtype.kind not in "iuf" and not narrow:
        raise TypeError(f"{name} has dtype {array.dtype}: it must hold real numbers")
    if array.dtype == np.longdouble and np.any(np.isfinite(array) & (np.abs(array) > np.finfo(np.float64).max)):
        raise ValueError(f"{name} holds numbers beyond the range of float64")
    if finite and array.dtype.kind not in "iu" and array.size and not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds NaN or infinity: every value must be finite")
    return array


def output(out: Any, name: str, shape: tuple[int, ...], dtype: Any, *inputs: NDArray) -> NDArray:
    """An array to write results into: its shape and dtype, C-contiguous, writable, and apart from the inputs.

    A kernel that reads an input while it writes may write over the very array that it reads (an operation in place),
    never over a shifted part of it.

    Raises
    ------
    TypeError : not a plain NumPy array (subclasses have other rules of indexing).
    ValueError : another shape, dtype or layout, read-only, or memory that overlaps an input without being it.

    Examples
    --------
    >>> x = np.zeros(5)
    >>> output(x[1:], "out", (4,), np.float64, x[:4])
    Traceback (most recent call last):
    ValueError: out overlaps the memory of an input: give an array of its own, or the input itself
    """
    wanted = f"a C-contiguous, writable array of shape {tuple(shape)} and dtype {np.dtype(dtype)}"
    if type(out) is not np.ndarray:
        raise TypeError(f"{name} is a {type(out).__name__}: it must be {wanted}")
    if out.shape != tuple(shape) or out.dtype != np.dtype(dtype):
        raise ValueError(f"{name} has shape {out.shape} and dtype {out.dtype}: it must be {wanted}")
    if not (out.flags.c_contiguous and out.flags.aligned):
        raise ValueError(f"{name} is not contiguous: it must be {wanted}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only: it must be {wanted}")
    for other in inputs:
        same = other.ctypes.data == out.ctypes.data and other.shape == out.shape and other.strides == out.strides
        if not same and np.may_share_memory(other, out):
            raise ValueError(f"{name} overlaps the memory of an input: give an array of its own, or the input itself")
    return out
