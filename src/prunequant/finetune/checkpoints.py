"""Checkpoints that survive a kill: written beside and renamed, checked before they are read.

A checkpoint is one file in torch's zip format that loads with ``weights_only=True`` (so that reading it runs no code).
It is written under another name, forced to the disk and then renamed: whatever happens, the file of that name is a
whole checkpoint, the new one or the one before. Each of its parts carries a CRC32, checked before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping

import torch

from prunequant import arguments
from prunequant.records import beside
from prunequant.timing.devices import check_device

FORMAT = 1


class _Sink:
    """A file for torch.save that remembers the first error instead of raising inside its C++ writer."""

    def __init__(self, file):
        self.file, self.error = file, None

    def write(self, data) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        pass


def write(path: str | os.PathLike, state: Mapping) -> None:
    """Write a state (nested dicts, lists, numbers, strings, tensors) as the checkpoint of this name.

    Raises
    ------
    TypeError, ValueError : no path of a file, no mapping.
    OSError : it could not be written (a full disk, a missing folder); the message names the file, and a checkpoint that
        was there before is untouched.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "run.pt"
    >>> write(path, {"step": 3, "weights": torch.ones(2)})
    >>> read(path)["step"], [file.name for file in path.parent.iterdir()]
    (3, ['run.pt'])
    """
    path = arguments.path(path, "path", file=True)
    arguments.instance(state, "state", Mapping, "a mapping of names to numbers, strings, tensors")
    try:
        with beside(path) as place, open(place, "wb") as file:
            sink = _Sink(file)
            torch.save({"format": FORMAT, **state}, sink)
            if sink.error is not None:
                raise sink.error
    except OSError as error:
        before = "the one before is kept" if path.exists() else "there was none before"
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"checkpoint not written ({reason}; {before})", str(path)) from error


def read(path: str | os.PathLike, device: str | torch.device = "cpu") -> dict:
    """The state of a checkpoint.

    Raises
    ------
    FileNotFoundError : there is none.
    ValueError : the file is damaged, or is no checkpoint of this library; the message names it.
    """
    path, device = arguments.path(path, "path", file=True), check_device(device)
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
        if damaged is not None:
            raise ValueError(f"its part {damaged} fails its checksum")
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {path} is damaged ({reason}): delete it to start again") from error
    return state


def fingerprint(tensors: Iterable[torch.Tensor]) -> str:
    """A hash of tensors: their dtypes, shapes and bits, wherever they live.

    >>> fingerprint([torch.zeros(2)]) == fingerprint([torch.zeros(2)]), len(fingerprint([torch.zeros(2)]))
    (True, 32)
    """
    digest = hashlib.blake2b(digest_size=16)
    for number, tensor in enumerate(arguments.several(tensors, "tensors", "a sequence of tensors")):
        arguments.instance(tensor, f"tensors[{number}]", torch.Tensor, "a tensor")
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def configuration(settings: Mapping) -> dict[str, str]:
    """Settings as JSON texts, one a name: what two runs must share to be the same run."""
    return {name: json.dumps(value, sort_keys=True, default=str) for name, value in settings.items()}


def check_configuration(path: str | os.PathLike, stored: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse a checkpoint of another run, naming the settings that differ."""
    differ = [name for name in {**wanted, **stored} if stored.get(name) != wanted.get(name)]
    if differ:
        shown = "; ".join(f"{n}: {_short(stored.get(n))} there, {_short(wanted.get(n))} here" for n in differ[:3])
        raise ValueError(f"checkpoint {path} belongs to another run ({shown}): delete it or give another path")


def _short(text: str | None) -> str:
    text = text or "nothing"
    return text if len(text) <= 60 else text[:57] + "…"
