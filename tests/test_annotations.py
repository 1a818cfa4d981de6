"""Whatever the library exports says of each parameter what it takes and of each result what it is."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import public


def functions(room):
    """Name and function of everything public of a room that is called or read: methods and properties too."""
    for entry in public.walk(room):
        if entry.kind == "function":
            yield entry.name, public.plain(entry.thing)
        elif entry.kind == "class":
            if "__init__" in vars(entry.thing):
                yield f"{entry.name}.__init__", entry.thing.__init__
            for member in public.members(entry):
                yield member.name, public.inside(member.thing)


def unsaid(function):
    """What the definition of a function leaves open; nothing is asked of a constructor that a decorator wrote."""
    node = public.definition(function)
    if node is None:
        return []
    a = node.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    if given and given[0].arg in ("self", "cls"):
        given = given[1:]
    return [argument.arg for argument in given if argument.annotation is None] + ["return"] * (node.returns is None)


@pytest.mark.parametrize("room", public.rooms())
def test_every_parameter_and_result_of_what_a_room_exports_is_annotated(room):
    found = dict(functions(room))
    assert found, "the walk found nothing"
    assert not {name: missing for name, function in found.items() if (missing := unsaid(function))}


def test_the_check_sees_what_is_not_said():
    def some(a, b: int, *c, d=1, **e: int):
        """A function of this file."""

    public._definitions.cache_clear()
    some.__qualname__ = "test_the_check_sees_what_is_not_said.some"
    assert unsaid(some) == ["a", "d", "c", "return"]
