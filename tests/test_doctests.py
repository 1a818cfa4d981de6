"""Every example in a docstring runs and gives what it shows."""

import doctest
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

SRC = Path(__file__).resolve().parents[1] / "src"


def modules():
    """Names of the modules whose text holds an example; the others are not imported for this."""
    for path in sorted((SRC / "prunequant").rglob("*.py")):
        if ">>> " in path.read_text():
            parts = path.relative_to(SRC).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_of_a_module_are_right(name):
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    with np.printoptions():
        result = doctest.testmod(import_module(name), extraglobs={"np": np}, optionflags=options)
    assert result.failed == 0
    assert result.attempted > 0, "the module shows examples that doctest does not find"
