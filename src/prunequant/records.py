"""Records and small data sets: where they lie, what a record says of its making, and how a file is written whole.

The book keeps them in `book/results` and `book/data`; a wheel carries copies of both. One function finds them, one says
with what a record was made, and everything that writes a file somebody may be reading does it through `beside`.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import arguments

PACKAGES = ("prunequant", "numpy", "scipy", "numba", "torch", "ml_dtypes", "cvxpy", "clarabel")
_PACKAGE = Path(__file__).resolve().parent
SHIPPED = "_records"  # the folder of the copies in an installed package; setup.py makes it
_number = itertools.count()


class MissingRecord(FileNotFoundError):
    """No record or data file of that name lies in any of the places looked at."""


def folders() -> list[Path]:
    """The places looked at, in their order: `$PRUNEQUANT_RECORDS` if set, a checkout's folders, else the package's."""
    given = os.environ.get("PRUNEQUANT_RECORDS")
    places = [Path(given)] if given else []
    root = _PACKAGE.parents[1]
    if _PACKAGE.parent.name == "src" and (root / "book").is_dir():
        return [*places, root / "book" / "results", root / "book" / "data"]
    return [*places, _PACKAGE / SHIPPED]


def find(name: str) -> Path:
    """Where a record or a data file lies.

    Parameters
    ----------
    name : the name of the file alone, such as "real_weights.json" or "fashion-mnist-6000.npz".

    Raises
    ------
    ValueError : not the name of a file alone.
    MissingRecord : it is in none of the places (a FileNotFoundError); the message names them.

    Examples
    --------
    >>> find("ledger.json").name
    'ledger.json'
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}: it must be the name of a file, such as 'ledger.json'")
    if not name or name in (".", "..") or "\0" in name or set(name) & {"/", "\\"}:
        raise ValueError(f"name is {name!r}: it must be the name of a file alone, such as 'ledger.json'")
    places = folders()
    for place in places:
        if (place / name).is_file():
            return place / name
    raise MissingRecord(
        f"no record {name}: it is not in {', '.join(map(str, places))}; "
        f"set PRUNEQUANT_RECORDS to the folder that holds it"
    )


def read(name: str) -> Any:
    """What a JSON record holds.

    Raises
    ------
    MissingRecord : it is in none of the places, see `find`.
    ValueError : it is no JSON; the message names the file.

    Examples
    --------
    >>> sorted(read("lsq_rates.json"))[:2]
    ['provenance', 'rows']
    """
    path = find(name)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON ({error})") from None


def _file(path: str | os.PathLike) -> Path:
    return arguments.path(path, "path", file=True)


def scratch(name: str) -> Path:
    """Where a file of this name may be written that nobody keeps: in a new folder, deleted when the process ends.

    Raises
    ------
    TypeError, ValueError : no name, or one with folders.

    Examples
    --------
    >>> scratch("small.safetensors").name
    'small.safetensors'
    """
    arguments.instance(name, "name", str, "the name of a file")
    if name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        raise ValueError(f"name is {arguments.shown(name)}: it must be the name of a file, without folders")
    folder = tempfile.TemporaryDirectory(prefix="prunequant-")
    atexit.register(folder.cleanup)
    return Path(folder.name) / name


@contextmanager
def beside(path: str | os.PathLike) -> Iterator[Path]:
    """A place to write a file to, which takes the place of `path`, whole, when the block ends without an error.

    What is written is forced to the disk and then renamed, so that no reader ever sees half a file, and neither a full
    disk nor a killed process costs the file that was there before. After an error nothing is left beside it.

    Parameters
    ----------
    path : of the file; its folder must exist.

    Raises
    ------
    TypeError, ValueError : no path of a file.
    OSError : the file could not be written; what was there before is untouched.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with beside(path) as place:
    ...     _ = place.write_text("whole")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)
    """
    path = _file(path)
    place = path.with_name(
        f".{os.getpid()}-{next(_number)}.part"
    )  # short: the name of the file may be as long as allowed
    try:
        yield place
        with place.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(place, path)
    finally:
        with suppress(OSError):
            place.unlink()
    with suppress(OSError):  # Windows opens no folders, and some folders may be written but not read: the file stands
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Write a file, whole or not at all (see `beside`); a folder that is missing is made."""
    path = _file(path)
    arguments.instance(data, "data", (bytes, bytearray, memoryview), "bytes")
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as place:
        place.write_bytes(data)
    return path


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write a text in UTF-8, whole or not at all (see `beside`); a folder that is missing is made."""
    try:
        data = arguments.instance(text, "text", str, "a string").encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"text is {arguments.shown(text)}: UTF-8 has no form for it ({error.reason})") from None
    return write_bytes(path, data)


def write_json(path: str | os.PathLike, value: object) -> Path:
    """Write JSON, whole or not at all (see `beside`); a folder that is missing is made.

    Raises
    ------
    TypeError : JSON has no form for a part of the value.
    ValueError : a part of it is NaN or infinite: other readers of JSON refuse the file.
    OSError : it could not be written.
    """
    path = _file(path)
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"value holds what JSON has no form for ({error}): {path.name} is not written") from None
    return write_text(path, text + "\n")


def provenance(command: str, packages: Sequence[str] = (), **more: object) -> dict:
    """What a recorded run must say of itself: command, date, processor, cores, versions.

    No path of the machine is recorded.

    Parameters
    ----------
    command : the line that makes the record again.
    packages : distributions whose versions matter beside those of `PACKAGES`.
    more : further fields (seconds, threads, device, trials); one of the same name replaces the usual one.

    Examples
    --------
    >>> made = provenance("prunequant record order-effect", seconds=1232)
    >>> list(made), made["seconds"]
    (['command', 'date', 'cpu', 'cores', 'versions', 'seconds'], 1232)
    """
    arguments.instance(command, "command", str, "the line that makes the record again")
    versions = {"python": platform.python_version()}
    for name in (*PACKAGES, *packages):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        **more,
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
