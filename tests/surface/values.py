"""The catalogue of values that every parameter is given, each with what may come of it.

A value is `same` when it stands for the canonical argument (another width of integer, another memory order, a read-only
copy): whatever is accepted must give the same result. It is `barred` when the library's one dialect of arguments
(`prunequant.arguments`) has no room for it: a complex number, a date, True where a number is asked for. It is `near`
when it is of the canonical kind (a number for a number, an array for an array), so that the error may as well name
another argument that no longer fits.
"""

from __future__ import annotations

import inspect
import numbers
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np

INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
FLOATS = (np.float16, np.float32, np.float64, np.longdouble, ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Case:
    label: str
    make: Callable[[], object]
    same: bool = False
    barred: bool = False
    near: bool = False
    tolerance: float = 0.0  # of a same value in another float type


class _Array(np.ndarray):
    """A subclass that changes nothing."""


class _Text(str):
    pass


class Own(Exception):
    """What a function of the caller's raises: the library called it, and lets its error pass."""


def _raising(*given: object, **named: object) -> None:
    raise Own


class _Raising:
    __init__ = _raising


def _of(value: object) -> Callable[[], object]:
    return lambda: value


def _plain() -> Iterator[tuple[str, Callable[[], object]]]:
    """Python values of every kind, and every extreme."""
    yield from {
        "None": _of(None),
        "'x'": _of("x"),
        "'4'": _of("4"),
        "''": _of(""),
        "b'x'": _of(b"x"),
        "[]": list,
        "()": tuple,
        "{}": dict,
        "set": set,
        "object": object,
        "function": _of(len),
        "class": _of(int),
        "Fraction": _of(Fraction(1, 3)),
        "Decimal": _of(Decimal("0.5")),
        "1j": _of(1j),
        "True": _of(True),
        "False": _of(False),
        "generator": lambda: (i for i in range(3)),
        "[None]": _of([None]),
        "['a']": _of(["a"]),
        "ragged": _of([[1, 2], [3]]),
        "[[]]": _of([[]]),
    }.items()
    for n in (0, -1, 1, 2, 3, 7, 100, 1000):
        yield str(n), _of(n)
    for power in (15, 31, 32, 40, 62, 63, 64, 70):
        yield f"2**{power}", _of(2**power)
        yield f"-2**{power}", _of(-(2**power))
    for x in (0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-16, 1e-300, 5e-324, 1e16, 1e300, 1e308, -1e308):
        yield repr(x), _of(x)
    for text in ("nan", "inf", "-inf"):
        yield text, _of(float(text))


def _numpy() -> Iterator[tuple[str, Callable[[], object]]]:
    for kind in INTEGERS:
        for n in (0, 1, 3, 100):
            yield f"{kind.__name__}({n})", _of(kind(n))
    yield "uint64(2**63)", _of(np.uint64(2**63))
    yield "int64(-2**63)", _of(np.int64(-(2**63)))
    for kind in FLOATS:
        yield f"{kind.__name__}(0.5)", _of(kind(0.5))
        yield f"{kind.__name__}(nan)", _of(kind(float("nan")))
    yield from {
        "longdouble(1e4000)": lambda: np.longdouble("1e4000"),
        "complex64": _of(np.complex64(1 + 1j)),
        "bool_": _of(np.True_),
        "str_": _of(np.str_("x")),
        "bytes_": _of(np.bytes_(b"x")),
        "datetime64": _of(np.datetime64("2020-01-01")),
        "timedelta64": _of(np.timedelta64(3, "s")),
        "void": lambda: np.zeros(1, "V4")[0],
        "0-d int": lambda: np.array(3),
        "0-d float": lambda: np.array(0.5),
        "0-d object": lambda: np.array(None, dtype=object),
        "array of 0": lambda: np.zeros(0),
        "array of 1": lambda: np.array([0.5]),
        "array of 3": lambda: np.array([0.5, -1.0, 2.0]),
        "array (2, 0)": lambda: np.zeros((2, 0)),
        "array (0, 2)": lambda: np.zeros((0, 2)),
        "array (2, 2)": lambda: np.eye(2),
        "array (1, 1, 1, 1, 1)": lambda: np.ones((1,) * 5),
        "integers of 3": lambda: np.array([1, 2, 3]),
        "masked": lambda: np.ma.array([1.0, 2.0], mask=[False, True]),
        "masked scalar": _of(np.ma.masked),
        "strings": lambda: np.array(["a", "b"]),
        "objects": lambda: np.array([1, None], dtype=object),
        "dates": lambda: np.array(["2020-01-01", "2021-01-01"], dtype="M8[D]"),
        "structured": lambda: np.zeros(2, dtype=[("a", int), ("b", float)]),
        "voids": lambda: np.zeros(2, "V4"),
        "complexes": lambda: np.array([1 + 1j, 2.0]),
        "bools": lambda: np.array([True, False]),
        "matrix": _matrix,
    }.items()


def _matrix(a: object = ((1.0, 0.0), (0.0, 1.0))) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(a)


def _cast(a: np.ndarray, kind: type) -> Callable[[], np.ndarray]:
    def make() -> np.ndarray:
        with np.errstate(all="ignore"):
            return a.astype(kind)

    return make


def _file(a: np.ndarray) -> np.ndarray:
    held = np.memmap(tempfile.TemporaryFile(), dtype=a.dtype, mode="w+", shape=a.shape or (1,))
    held[...] = a
    return held.reshape(a.shape) if a.shape == () else held


def _frozen(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.setflags(write=False)
    return a


def _strided(a: np.ndarray) -> np.ndarray:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    return raw


def _with(a: np.ndarray, value: object) -> np.ndarray:
    a = a.copy()
    with np.errstate(all="ignore"):
        a.reshape(-1)[:1] = value
    return a


def _layouts(a: np.ndarray) -> Iterator[tuple[str, Callable[[], object]]]:
    """The same array in other places and orders of memory."""
    yield "copy", lambda: a.copy()
    yield "Fortran order", lambda: np.asfortranarray(a)
    yield "read-only", lambda: _frozen(a)
    yield "byte-swapped", lambda: a.astype(a.dtype.newbyteorder())
    yield "subclass", lambda: a.copy().view(_Array)
    yield "memmap", lambda: _file(a)
    yield "list", lambda: a.tolist()
    yield "unaligned", lambda: _unaligned(a)
    if a.ndim:
        yield "strided", lambda: _strided(a)
        yield "negative strides", lambda: a[..., ::-1].copy()[..., ::-1]
    if a.ndim == 2:
        yield "np.matrix", lambda: _matrix(a)
        yield "tuple of rows", lambda: tuple(a.tolist())
        yield "transposed twice", lambda: np.ascontiguousarray(a.T).T


def _other_arrays(a: np.ndarray) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "empty", lambda: a[..., :0].copy() if a.ndim else np.zeros(0, a.dtype)
    yield "one value", lambda: np.array(a.reshape(-1)[0])
    yield "flat", lambda: a.reshape(-1).copy()
    yield "axis in front", lambda: a[None].copy()
    yield "axis behind", lambda: a[..., None].copy()
    yield "three axes in front", lambda: a[None, None, None].copy()
    if a.ndim:
        yield "one longer", lambda: np.concatenate([a, a[..., :1]], axis=-1)
        yield "one shorter", lambda: a[..., :-1].copy()
        yield "one row less", lambda: a[:-1].copy()
        yield "one row more", lambda: np.concatenate([a, a[:1]], axis=0)
        yield "no rows", lambda: a[:0].copy()
        yield "one of each", lambda: a[(slice(1),) * a.ndim].copy()
        yield "reversed", lambda: a[..., ::-1].copy()
    if a.ndim == 2:
        yield "transposed", lambda: a.T.copy()
    yield "zeros", lambda: np.zeros_like(a)
    if a.dtype.kind != "b":
        yield "negative zeros", lambda: -np.zeros_like(a)
    yield "ones", lambda: np.ones_like(a)
    yield "negated", lambda: -a if a.dtype.kind in "if" else ~a
    if a.dtype.kind == "f":
        for text in ("nan", "inf", "-inf", "1e308", "5e-324", "1e19", "1e-30"):
            yield f"a {text}", lambda text=text: _with(a, float(text))
        yield "all tiny", lambda: a * 1e-310
        yield "all huge", lambda: a * (1e307 / max(1.0, float(np.abs(a).max(initial=0.0))))
    else:
        for power in (15, 31, 40, 53, 62):
            yield f"a 2**{power}", lambda power=power: _with(a.astype(np.int64), 2**power)
        yield "a -2**63", lambda: _with(a.astype(np.int64), -(2**63))
        yield "unsigned 2**63", lambda: _with(np.abs(a).astype(np.uint64), 2**63)
        yield "Python 2**70", lambda: _with(a.astype(object), 2**70)
        yield "halves", lambda: a + 0.5


def _not_numbers(a: np.ndarray) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "complex", lambda: a.astype(complex)
    yield "as strings", lambda: a.astype(str)
    yield "as bytes", lambda: a.astype("S")
    yield "as dates", lambda: np.zeros(a.shape, "M8[s]")
    yield "as spans", lambda: np.zeros(a.shape, "m8[s]")
    yield "as records", lambda: np.zeros(a.shape, [("a", float), ("b", int)])
    yield "as voids", lambda: np.zeros(a.shape, "V8")
    yield "masked values", lambda: np.ma.array(a, mask=np.arange(a.size).reshape(a.shape) == 0)
    yield "mixed objects", lambda: _with(a.astype(object), None)
    yield "list of strings", lambda: a.astype(str).tolist()


def _words(parameter: inspect.Parameter) -> set[str]:
    if parameter.annotation is parameter.empty:
        return set()
    note = parameter.annotation
    note = note if isinstance(note, str) else getattr(note, "__name__", "") if isinstance(note, type) else str(note)
    return set(re.findall(r"\w+", note))


_SCALARS = {"int", "float", "bool", "str", "None", "Fraction"}
_NO_NUMBERS = {
    *("b'x'", "{}", "set", "object", "function", "class", "1j", "complex64", "bytes_", "datetime64", "timedelta64"),
    *("void", "['a']", "strings", "dates", "structured", "voids", "complexes", "complex", "[None]", "0-d object"),
    *("masked", "masked scalar", "ragged"),
}


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def _equal_scalar(a: object, b: object) -> bool:
    try:
        return bool(a == b) and not isinstance(a, (bool, np.bool_)) and (a != 0 or np.signbit(float(a)) == 0)
    except Exception:
        return False


def catalogue(parameter: inspect.Parameter, canonical: object) -> list[Case]:
    """All values for one parameter, whose canonical argument is given."""
    found: dict[str, Case] = {}
    words = _words(parameter)
    scalar = bool(words) and words <= _SCALARS
    wants_number = scalar and _is_number(canonical) and bool(words & {"int", "float"})
    wants_integer = wants_number and "float" not in words and "Fraction" not in words
    array = isinstance(canonical, np.ndarray) and canonical.dtype.kind in "iuf"

    def add(label: str, make: Callable[[], object], **kind: object) -> None:
        if label not in found:
            found[label] = Case(label, make, **kind)

    if isinstance(canonical, np.ndarray):
        yields_same = canonical.dtype.kind in "iufb"
        for label, make in _layouts(canonical):
            add(label, make, same=yields_same, near=True)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for kind in (*INTEGERS, *FLOATS, bool):
                cast = canonical.astype(kind)
                exact = bool(np.array_equal(cast.astype(np.float64), canonical.astype(np.float64)))
                narrow = kind in (np.float16, np.float32, ml_dtypes.bfloat16) and canonical.dtype.kind == "f"
                tolerance = float(ml_dtypes.finfo(kind).eps) if narrow else 0.0
                if kind is np.longdouble:  # computed with more digits, or rounded to float64 first
                    tolerance = float(np.finfo(np.float64).eps)
                exact = exact and kind is not bool
                barred = array and kind is bool
                label, kinds = f"as {np.dtype(kind).name}", {"same": exact, "barred": barred, "tolerance": tolerance}
                add(label, _cast(canonical, kind), near=True, **kinds)
        if canonical.dtype.kind in "iu":
            add("Python integers", lambda: canonical.astype(object), same=True, near=True)
        for label, make in _other_arrays(canonical):
            add(label, make, near=True)
        for label, make in _not_numbers(canonical):
            add(label, make, barred=array)
    elif isinstance(canonical, bool):
        add("bool_ twin", lambda: np.bool_(canonical), same=True)
    elif isinstance(canonical, str):
        add("str_ twin", lambda: np.str_(canonical), same=True)
        add("str subclass", lambda: _Text(canonical), same=True)
        add("upper case", lambda: canonical.upper(), near=True)
        add("bytes twin", lambda: canonical.encode())
    elif _is_number(canonical):
        kinds = FLOATS if isinstance(canonical, float) else (*INTEGERS, *FLOATS)
        for kind in kinds:
            with np.errstate(all="ignore"):
                try:
                    twin = kind(canonical)
                except (OverflowError, TypeError):
                    continue
            if float(twin) == float(canonical):
                integral = not isinstance(twin, tuple(INTEGERS))
                add(f"{kind.__name__} twin", _of(twin), same=True, near=True, barred=wants_integer and integral)
                if kind not in (np.longdouble, ml_dtypes.bfloat16):
                    make = lambda twin=twin: np.array(twin)  # noqa: E731
                    add(f"0-d {kind.__name__} twin", make, same=True, near=True, barred=wants_integer and integral)
        add("Fraction twin", lambda: Fraction(canonical), same=not wants_integer, near=True, barred=wants_integer)
        if not isinstance(canonical, Fraction) and float(canonical).is_integer():
            add("float twin", lambda: float(canonical), same=True, near=True, barred=wants_integer)
            add("int twin", lambda: int(canonical), same=True, near=True)
        add("string twin", lambda: str(canonical), barred=wants_number and "str" not in words)
        add("[twin]", lambda: [canonical])
        add("one more", lambda: canonical + 1, near=True)
        add("one less", lambda: canonical - 1, near=True)
        add("twice", lambda: canonical * 2, near=True)
        add("negated", lambda: -canonical, near=True)
    elif isinstance(canonical, (tuple, list)):
        plain = all(_is_number(v) for v in canonical)
        add("list twin", lambda: list(canonical), same=True, near=True)
        add("tuple twin", lambda: tuple(canonical), same=True, near=True)
        add("iterator", lambda: iter(canonical), near=True)
        add("one shorter", lambda: canonical[:-1], near=True)
        add("one longer", lambda: canonical + canonical[-1:], near=True)
        add("None inside", lambda: [*canonical[:-1], None])
        add("text inside", lambda: [*canonical[:-1], "x"])
        add("nan inside", lambda: [*canonical[:-1], float("nan")])
        add("inf inside", lambda: [*canonical[:-1], float("inf")])
        add("-1 inside", lambda: [*canonical[:-1], -1], near=True)
        add("0 inside", lambda: [*canonical[:-1], 0], near=True)
        add("2**31 inside", lambda: [*canonical[:-1], 2**31], near=True)
        add("2**63 inside", lambda: [*canonical[:-1], 2**63], near=True)
        add("2**70 inside", lambda: [*canonical[:-1], 2**70], near=True)
        add("half inside", lambda: [*canonical[:-1], 0.5], near=True)
        if plain and all(isinstance(v, int) for v in canonical):
            for kind in INTEGERS:
                if all(np.iinfo(kind).min <= v <= np.iinfo(kind).max for v in canonical):
                    add(f"{kind.__name__} inside", lambda kind=kind: [kind(v) for v in canonical], same=True, near=True)
                    add(f"array of {kind.__name__}", lambda kind=kind: np.array(canonical, kind), same=True, near=True)

    if callable(canonical):
        add("function", _of(_raising))
        add("class", _of(_Raising))
        add("function of None", _of(lambda *given, **named: None))
    for label, make in (*_plain(), *_numpy()):
        value = make() if label != "generator" else None
        same = wants_number and _equal_scalar(value, canonical) and type(value) in (int, float, *INTEGERS, *FLOATS)
        barred = (wants_number or array) and label in _NO_NUMBERS
        if wants_number:
            barred |= label in ("True", "False", "bool_", "nan", "Decimal", "generator", "[]", "()", "ragged", "[[]]")
            barred |= isinstance(value, (float, np.floating)) and bool(np.isnan(value))
            barred |= isinstance(value, (str, bytes)) and "str" not in words
            barred |= value is None and "None" not in words and parameter.default is not None
        if wants_integer:
            barred |= isinstance(value, (float, np.floating, Fraction, ml_dtypes.bfloat16))
        if array:
            barred |= isinstance(value, (str, bytes)) and "str" not in words
        if isinstance(canonical, bool) and words == {"bool"}:
            barred |= not isinstance(value, (bool, np.bool_))
        if parameter.kind is parameter.VAR_POSITIONAL:
            barred &= label != "()"  # the call without any
        single = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"  # counts as a number
        single |= isinstance(value, ml_dtypes.bfloat16)
        near = _is_number(value) or single or (array and isinstance(value, (np.ndarray, list, tuple)))
        add(label, make, same=bool(same) and not barred, barred=bool(barred), near=bool(near) and not barred)
    return list(found.values())
