"""What a page shows: figures, tables, interactive parts."""

from types import ModuleType

from prunequant import extras


def __getattr__(name: str) -> ModuleType:
    """A module of this folder, for `from prunequant.pages import NAME`: without torch the error names the extra."""
    return extras.submodule(__name__, name)


def __dir__() -> list[str]:
    return extras.submodules(__name__)
