"""The pipeline's tools are scripts beside the Makefile: put them on the path for the tests that read them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
