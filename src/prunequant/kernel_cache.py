"""A place on the disk for compiled kernels where Numba itself finds none.

Numba keeps compiled kernels beside the source, else in the user's cache folder, else it refuses to load them. In a
container the package is often read-only and the home folder missing or read-only too; then they go to a temporary
folder of the user's own. `NUMBA_CACHE_DIR` comes before all of these.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, tried as Numba tries it (permissions alone do not tell)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _home_cache() -> Path:
    """The folder that Numba asks the system for."""
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches/numba"))
    return Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))) / "numba"


def _own_folder() -> str:
    """A temporary folder that nobody else can write to: what lies in it is executed.

    The same one in each process, so that a kernel is compiled once; a fresh one where somebody else holds that name.
    """
    folder = os.path.join(tempfile.gettempdir(), f"prunequant-numba-{os.getuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            return tempfile.mkdtemp(prefix="prunequant-numba-")
    return folder


def settle() -> None:
    """Set `NUMBA_CACHE_DIR` to a temporary folder if Numba would find no place; called when the package is imported.

    A value that is set and can be written to stays.

    Raises
    ------
    RuntimeError : there is no temporary folder either.
    """
    if sys.platform == "win32":
        return
    given = os.environ.get("NUMBA_CACHE_DIR")
    if (given and _writable(Path(given))) or _writable(_PACKAGE / "__pycache__") or _writable(_home_cache()):
        return
    try:
        folder = _own_folder()
    except OSError as error:
        raise RuntimeError(f"no writable folder for compiled kernels: set NUMBA_CACHE_DIR to one ({error})") from None
    os.environ["NUMBA_CACHE_DIR"] = folder
    if "numba" in sys.modules:  # it read the variable when it was imported
        sys.modules["numba"].config.CACHE_DIR = folder
