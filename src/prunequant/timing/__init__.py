"""What a machine offers: schemes to store and multiply the weights of a layer, their bytes, their kernels, and clocks.

`schemes` needs no torch, the other modules do (extra `torch`).
"""

from types import ModuleType

from prunequant import extras


def __getattr__(name: str) -> ModuleType:
    """A module of this folder, for `from prunequant.timing import NAME`: without torch the error names the extra."""
    return extras.submodule(__name__, name)


def __dir__() -> list[str]:
    return extras.submodules(__name__)
