"""Case studies: the runner, and one folder a case.

`runner` and the summaries read records without torch (extra `torch`).
"""

from types import ModuleType

from prunequant import extras


def __getattr__(name: str) -> ModuleType:
    """A module of this folder, for `from prunequant.cases import NAME`: without torch the error names the extra."""
    return extras.submodule(__name__, name)


def __dir__() -> list[str]:
    return extras.submodules(__name__)
