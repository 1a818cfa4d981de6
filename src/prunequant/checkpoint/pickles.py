"""A pickle read as data: what it would build is described, nothing that it names is imported, called or built.

A pickle is a program for a small stack machine, with instructions that import and call what they name. This machine
has no such instruction: a name stays a `Named`, a call a `Called` with its arguments. What a file of tensors has no
reason to name is refused on sight, so that nobody takes a file for harmless that is a trap elsewhere.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, cast

from prunequant.checkpoint.files import ModelFileError, shown_name
from prunequant.checkpoint.streams import Stream


@dataclass(frozen=True)
class Named:
    """What the pickle would import."""

    name: str


@dataclass(eq=False)
class Called:
    """What the pickle would call, with which arguments, and the state that it would set."""

    name: str
    args: tuple
    state: list = field(default_factory=list)


@dataclass(eq=False)
class Stored:
    """What the pickle asks of the file around it: a storage."""

    key: Any


_DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict")
_HARMLESS = re.compile(
    r"collections\.(OrderedDict|defaultdict|Counter)"
    r"|builtins\.(set|frozenset|list|dict|tuple|int|float|bool|complex|str|bytes|bytearray|slice|range|object)"
    r"|torch\.(\w*Storage|Size|device|Tensor|strided|sparse_coo|q?u?int\d+(x\d)?|bool|double|half|float|long"
    r"|b?float\d+\w*|complex\d+|per_tensor_affine|per_channel_affine)"
    r"|torch\.storage\.(UntypedStorage|TypedStorage|_load_from_bytes_)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state|qtensor|sparse_tensor)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout"
    r"|torch\.nn\.parameter\.(Parameter|Buffer|UninitializedParameter)"
    r"|numpy\.(_?core\.(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer)|dtype|ndarray|dtypes\.\w+|\w*int\d*"
    r"|float\d+|bool_?)"
    r"|_codecs\.encode|argparse\.Namespace|types\.SimpleNamespace|datetime\.(datetime|date|timedelta|timezone)"
    r"|pathlib\.(Pure)?(Posix|Windows)?Path|copyreg\._reconstructor|decimal\.Decimal|uuid\.UUID"
)
_KEYS = (str, int, float, bool, bytes, type(None))
_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_DAMAGES = (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, AttributeError)


def load(stream: Stream, what: str) -> Any:
    """What the next pickle of a stream would build, as lists, dicts, tuples, numbers, strings and the classes above.

    Parameters
    ----------
    what : for messages, such as "the pickle of the tensors"

    Raises
    ------
    ModelFileError : no pickle, a damaged one, or one that names what tensors do not need.
    """
    machine = _Machine(stream, what)
    try:
        for opcode, arg, _ in pickletools.genops(cast(IO[bytes], stream)):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, arg)
    except ModelFileError:
        raise
    except _DAMAGES as error:
        words = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelFileError(stream.file.path, f"{what} is damaged ({words})") from None
    raise ModelFileError(stream.file.path, f"{what} has no end")


class _Machine:
    def __init__(self, stream: Stream, what: str) -> None:
        self.path, self.what = stream.file.path, what
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def refused(self, name: str) -> ModelFileError:
        return ModelFileError(
            self.path, f"{self.what} names {shown_name(name)}, which no tensor needs: it may run code. Nothing was run"
        )

    def marked(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def named(self, module: object, name: object) -> Named:
        module = "builtins" if module == "__builtin__" else module
        full = f"{module}.{name}"
        if not isinstance(module, str) or not isinstance(name, str) or not _HARMLESS.fullmatch(full):
            raise self.refused(full)
        return Named(full)

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Named) or not isinstance(args, tuple):
            raise ModelFileError(self.path, f"{self.what} calls what is no function")
        if function.name in _DICTS:
            items = args[0] if function.name != "collections.defaultdict" and args else ()
            mapping: dict = {}
            for pair in items.items() if isinstance(items, dict) else items:
                self.insert(mapping, *pair)
            return mapping
        if function.name == "torch._tensor._rebuild_from_type_v2" and len(args) >= 3:
            return self.call(args[0], args[2])
        return Called(function.name, args)

    def insert(self, target: Any, key: Any, value: Any) -> None:
        if not isinstance(target, dict):
            raise TypeError("an item is set of what is no dict")
        if isinstance(key, tuple) and all(isinstance(part, _KEYS) for part in key):
            key = str(key)
        if not isinstance(key, _KEYS):
            raise TypeError("a key is no name and no number")
        target[key] = value

    def step(self, name: str, arg: Any) -> None:
        stack = self.stack
        if name in _PUSHED:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(arg)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(arg)])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "GLOBAL":
            stack.append(self.named(*arg.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(self.named(module, last))
        elif name in ("PERSID", "BINPERSID"):
            stack.append(Stored(arg if name == "PERSID" else stack.pop()))
        elif name not in ("PROTO", "FRAME"):
            self.compose(name)

    def compose(self, name: str) -> None:
        stack = self.stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = [stack.pop() for _ in range(count)][::-1]
            stack.append(tuple(items))
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = self.marked()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else self.marked()
            if not isinstance(stack[-1], list):
                raise TypeError("something is added to what is no list")
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            if name == "SETITEM":
                self.marks.append(len(stack) - 2)
            items = self.marked()
            if name == "DICT":
                stack.append({})
            for key, value in zip(items[::2], items[1::2], strict=True):
                self.insert(stack[-1], key, value)
        elif name in ("REDUCE", "NEWOBJ"):
            args, function = stack.pop(), stack.pop()
            stack.append(self.call(function, args))
        elif name == "NEWOBJ_EX":
            _, args, function = stack.pop(), stack.pop(), stack.pop()
            stack.append(self.call(function, args))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Called):
                stack[-1].state.append(state)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.marked()
        elif name == "DUP":
            stack.append(stack[-1])
        else:  # INST, OBJ, extension registry, buffers out of band: no file of tensors has them
            raise self.refused(f"the instruction {name}")
