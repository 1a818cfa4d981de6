"""Models and data sets: pretrained networks and small ones, images, text, photographs; compression of a whole network.

`compress` stores a torch module by a scheme, `compare_outputs` compares what two modules answer. Modules here are
imported by name; most need torch (extra `torch`) or scikit-learn (extra `book`), where they are used.
"""

from importlib import import_module
from typing import Any

from prunequant import extras

_OFFERED = {
    "Compressed": "compression",
    "compress": "compression",
    "Comparison": "comparison",
    "compare_outputs": "comparison",
    "input_grams": "calibration",
    "text_grams": "text",
}


def __getattr__(name: str) -> Any:
    """What the room offers, or a module of this folder: without torch the error names the extra."""
    if name in _OFFERED:
        return getattr(import_module(f"{__name__}.{_OFFERED[name]}"), name)
    return extras.submodule(__name__, name)


def __dir__() -> list[str]:
    return sorted({*_OFFERED, *extras.submodules(__name__)})
