"""Real networks and their fine-tuning, for which most modules here need torch (extra `torch`).

`case` reads records without it.
"""

from importlib import import_module

from prunequant.extras import missing


def __getattr__(name: str):
    """A module of this folder, for `from prunequant.finetune import NAME`: without torch the error names the extra."""
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise missing(error) or error from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
