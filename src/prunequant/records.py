"""Where the records and the small data sets lie that claims, case studies and chapters read.

The book keeps them in `book/results` and `book/data`; a wheel carries copies of both. One function finds them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent
SHIPPED = "_records"  # the folder of the copies in an installed package; setup.py makes it


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
