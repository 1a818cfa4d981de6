"""Models and data sets: pretrained networks and small ones, images, text, photographs; compression of a whole network.

Modules here are imported by name; most need torch (extra `torch`) or scikit-learn (extra `book`), where they are used.
"""

from types import ModuleType

from prunequant import extras


def __getattr__(name: str) -> ModuleType:
    """A module of this folder, for `from prunequant.models import NAME`: without torch the error names the extra."""
    return extras.submodule(__name__, name)


def __dir__() -> list[str]:
    return extras.submodules(__name__)
