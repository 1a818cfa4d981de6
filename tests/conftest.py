"""Property tests draw the same examples everywhere, no timing decides a test, and threads are set as for the book."""

import os
import runpy
from pathlib import Path

from hypothesis import settings

TOOLS = Path(__file__).resolve().parents[1] / "tools"
# Before NumPy is imported; what the caller has set wins.
os.environ.update({**runpy.run_path(str(TOOLS / "run_environment.py"))["variables"](), **os.environ})

settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
