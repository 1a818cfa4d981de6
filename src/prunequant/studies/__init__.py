"""What chapters record: grids of seeded runs, one module a record."""

from prunequant import extras


def __getattr__(name: str):
    """A module of this folder, for `from prunequant.studies import NAME`: without torch the error names the extra."""
    return extras.submodule(__name__, name)
