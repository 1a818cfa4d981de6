"""Write the README's picture, book/_static/answer.png: the first figure of the front page, from the same cell.

python tools/picture.py
"""

from pathlib import Path

import jupytext
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the front page's figure cell and save what it drew."""
    page = jupytext.read(ROOT / "book" / "index.md")
    cell = next(cell for cell in page.cells if cell.cell_type == "code")
    plt.show = lambda: plt.gcf().savefig(ROOT / "book" / "_static" / "answer.png", dpi=130)
    exec(compile(cell.source, "book/index.md", "exec"), {})


if __name__ == "__main__":
    main()
