"""Inputs to calibrate with, of the commands that look at them: an .npz file, or a text that the model reads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .. import extras
from .common import check_writable, progress_bar

if TYPE_CHECKING:
    from ..checkpoint import Model

TEXT = "or UTF-8 text that the model reads (a folder or GGUF file that transformers loads)"
Windows = Annotated[
    int | None, typer.Option(help="of a text to calibrate with: how many windows, spread evenly; 16 unless given")
]
Window = Annotated[int | None, typer.Option(help="tokens in each window of the text; 512 unless given")]
SkipTokens = Annotated[
    int | None,
    typer.Option(
        help="tokens at the start of each window that are read and not counted, as their inputs can be far larger than"
        " all others; unless given, 1 to plan by output errors and 0 to choose codes"
    ),
]
SaveCalibration = Annotated[
    Path | None, typer.Option(help="keep the Gram matrices of a text here, an .npz file for --calibrate")
]
_ZIP = b"PK\3\4"


@dataclass(frozen=True)
class TextOptions:
    """What a command was told of the text to calibrate with, None where nothing was, and how many it skips then."""

    windows: int | None
    window: int | None
    skip: int | None
    save: Path | None
    usual_skip: int

    def named(self) -> dict[str, Any]:
        """Values by the names of their options."""
        options = {"--windows": self.windows, "--window": self.window, "--skip-tokens": self.skip}
        return {**options, "--save-calibration": self.save}

    def sizes(self) -> dict[str, int]:
        """What is to be read and counted, by the names that `models.text_grams` has for it."""
        skip = self.usual_skip if self.skip is None else self.skip
        given = {"windows": self.windows, "window": self.window, "skip": skip}
        return {name: value for name, value in given.items() if value is not None}


def inputs_of(
    stack: ExitStack,
    model: Path,
    calibrate: Path | None,
    transposed: list[str] | None,
    cluster: str | None,
    options: TextOptions,
    out: Path | None = None,
) -> Path | Callable[[Model], Path] | None:
    """The .npz file of inputs that was given, or for a text a function of the open model that makes one of it.

    The file of a text is removed by `stack`, unless it is to be saved. `out` is where the command writes.

    Raises
    ------
    TypeError, ValueError, OSError, ImportError : options that need a text without one, a text that cannot be read, or
        that the model cannot read; a place to save that is the text, the model or `out`. See `models.text_grams`.
    """
    if calibrate is None or _is_npz(calibrate):
        for option, value in options.named().items():
            if value is not None:
                given = "no text is given" if calibrate is None else f"{calibrate.name} is an .npz file"
                raise ValueError(f"{option} is for a text to calibrate with, and {given}")
        return calibrate
    check_writable(options.save, "--save-calibration")
    _check_apart(options.save, {"the text": calibrate, "the model": model, "the file to write": out})
    if cluster is not None and options.save is None:
        raise ValueError(
            f"{calibrate.name} is text, whose Gram matrices every worker of --cluster reads from a file: give"
            " --save-calibration a place where they find it"
        )
    text = _text(calibrate)
    for package in ("torch", "transformers"):
        extras.need(package)

    from ..checkpoint import open_model
    from ..models.text import windows_of

    with open_model(model, transposed or ()) as opened:
        windows_of(opened, text, **options.sizes())  # refused before any work
    place = options.save or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "inputs.npz"

    def read(opened: Model) -> Path:
        _write_grams(place, opened, text, options.sizes())
        return place

    return read


def _write_grams(place: Path, opened: Model, text: str, sizes: dict[str, int]) -> None:
    """Let a model read a text, with a bar, and write what its matrices saw."""
    from .. import models
    from ..checkpoint.calibration import write_inputs

    with ExitStack() as bars:
        bar = progress_bar(Console(stderr=True), transient=True)
        task = bar.add_task("reading the text")

        def show(done: int, total: int) -> None:
            if not done:  # until then the model is loaded, with a bar of transformers
                bars.enter_context(bar)
            bar.update(task, completed=done, total=total)

        write_inputs(place, models.text_grams(opened, text, **sizes, progress=show))


def _check_apart(save: Path | None, others: dict[str, Path | None]) -> None:
    for what, other in others.items():
        if save is not None and other is not None and save.resolve() == other.resolve():
            raise ValueError(f"--save-calibration is {save}, {what}: give another name")


def _is_npz(path: Path) -> bool:
    if path.suffix == ".npz":
        return True  # one that is not there has its error from `Calibration`
    if not path.is_file():
        problem = "that is a folder, give a file" if path.is_dir() else "there is no such file"
        raise ValueError(f"--calibrate is {path}: {problem}")
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--calibrate is {path}: it is neither an .npz file nor UTF-8 text (byte {error.start} is no part of a"
            " character)"
        ) from None
