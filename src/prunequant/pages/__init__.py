"""What a page shows: figures, tables, interactive parts."""

from prunequant import extras


def __getattr__(name: str):
    """A module of this folder, for `from prunequant.pages import NAME`: without torch the error names the extra."""
    return extras.submodule(__name__, name)
