"""Inputs to calibrate with, of the commands that look at them: an .npz file, or a text that the model reads."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import extras
from .common import check_writable, progress_bar

TEXT = "or UTF-8 text that the model reads (a folder or GGUF file that transformers loads)"
Windows = Annotated[
    int | None, typer.Option(help="of a text to calibrate with: how many windows, spread evenly; 16 unless given")
]
Window = Annotated[int | None, typer.Option(help="tokens in each window of the text; 512 unless given")]
SaveCalibration = Annotated[
    Path | None, typer.Option(help="keep the Gram matrices of a text here, an .npz file for --calibrate")
]
_ZIP = b"PK\3\4"


def inputs_file(
    stack: ExitStack,
    model: Path,
    calibrate: Path | None,
    transposed: list[str] | None,
    cluster: str | None,
    windows: int | None,
    window: int | None,
    save: Path | None,
) -> Path | None:
    """The .npz file of inputs: the one that was given, or the one made of a text, which `stack` removes unless kept.

    Raises
    ------
    TypeError, ValueError, OSError, ImportError : options that need a text without one, a text that cannot be read, a
        model that cannot read it; see `models.text_grams`.
    """
    if calibrate is None or _is_npz(calibrate):
        for option, value in (("--windows", windows), ("--window", window), ("--save-calibration", save)):
            if value is not None:
                given = "no text is given" if calibrate is None else f"{calibrate.name} is an .npz file"
                raise ValueError(f"{option} is for a text to calibrate with, and {given}")
        return calibrate
    check_writable(save, "--save-calibration")
    if cluster is not None and save is None:
        raise ValueError(
            f"{calibrate.name} is text, whose Gram matrices every worker of --cluster reads from a file: give"
            " --save-calibration a place where they find it"
        )
    text = _text(calibrate)
    for package in ("torch", "transformers"):
        extras.need(package)

    from .. import models
    from ..checkpoint import open_model
    from ..checkpoint.calibration import write_inputs

    sizes = {name: size for name, size in (("windows", windows), ("window", window)) if size is not None}
    place = save or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "inputs.npz"
    with open_model(model, transposed or ()) as opened, ExitStack() as bars:
        bar = progress_bar(Console(stderr=True), transient=True)
        task = bar.add_task("reading the text")

        def show(done: int, total: int) -> None:
            if not done:  # until then the model is loaded, with a bar of transformers
                bars.enter_context(bar)
            bar.update(task, completed=done, total=total)

        write_inputs(place, models.text_grams(opened, text, **sizes, progress=show))
    return place


def _is_npz(path: Path) -> bool:
    if path.suffix == ".npz" or not path.is_file():
        return True  # a file that is not there has its error from `Calibration`
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
