"""The build step that pyproject.toml cannot say: a wheel carries copies of the book's records and small data sets.

They lie in book/results and book/data, from where the book is built; installed, `prunequant.records` finds the copies
in the folder `_records` of the package. An editable install reads the book's folders and needs no copies.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithRecords(build_py):
    def _copies(self) -> dict[Path, Path]:
        """Source → copy, of every record and data file."""
        folder = Path(self.build_lib) / "prunequant" / "_records"
        found = [*(ROOT / "book" / "results").glob("*.json"), *(ROOT / "book" / "data").iterdir()]
        return {path: folder / path.name for path in sorted(found) if path.is_file()}

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, copy in self._copies().items():
                self.mkpath(str(copy.parent))
                self.copy_file(str(source), str(copy), preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copies = [] if self.editable_mode else map(str, self._copies().values())
        return [*super().get_outputs(include_bytecode), *copies]


setup(cmdclass={"build_py": BuildWithRecords})
