"""The variables of `tools/run.env`; PRUNEQUANT_RUN_ENV names another file (an empty one: no variables at all)."""

from __future__ import annotations

import os
from pathlib import Path


def variables() -> dict[str, str]:
    """Name and value of each line `NAME=VALUE`; comments and blank lines are skipped."""
    path = Path(os.environ.get("PRUNEQUANT_RUN_ENV") or Path(__file__).with_name("run.env"))
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
