"""`python -m tests.surface`, from the root of the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from surface.run import main

if __name__ == "__main__":
    sys.exit(main())
