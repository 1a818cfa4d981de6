"""`python -m prunequant.cli`, the same as the command `prunequant`."""

from prunequant.cli import app

app()
