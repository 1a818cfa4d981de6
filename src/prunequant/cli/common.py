"""What the commands share: words for the terminal, the error that ends one, processes or a cluster to work on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from .. import experiments

Transposed = Annotated[
    list[str] | None, typer.Option(help="tensors whose first axis is the input, such as '*.c_fc.weight'")
]

Cluster = Annotated[
    str | None, typer.Option(help="address of a Dask scheduler, whose workers find the model under the same path")
]

_DEATHS = ("KilledWorker", "FutureCancelledError", "CancelledError")  # of dask.distributed, which may not be there


Budget = Annotated[
    str | None, typer.Option(help="bits a weight over the matrices, such as 4.25, or a size of the file, such as 60MB")
]
_UNITS = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}


def budget_of(text: str | None) -> dict[str, float]:
    """What `--budget` says, by the name that the library has for it.

    Raises
    ------
    ValueError : neither a number nor a size.
    """
    if text is None:
        return {}
    number = text.strip()
    unit = next((u for u in _UNITS if number.lower().endswith(u.lower())), "")
    try:
        value = float(number.removesuffix(number[len(number) - len(unit) :]) if unit else number)
    except ValueError:
        raise ValueError(
            f"--budget is {text!r}: it must be bits a weight, such as 4.25, or a size, such as 60MB or 1.5GB"
        ) from None
    return {"megabytes": value * _UNITS[unit]} if unit else {"budget": value}


def tell(terminal: Console, *parts: str | tuple[str, str]) -> None:
    """Print text as it is: what a user typed, or a library said, is never read as rich's markup."""
    terminal.print(Text.assemble(*parts), soft_wrap=True)


def fail(message: str) -> NoReturn:
    """End with exit code 2, the code for a command that cannot be carried out as given."""
    tell(Console(stderr=True), ("error", "bold red"), f" {message}")
    raise typer.Exit(2)


def progress_bar(terminal: Console, *counts: ProgressColumn, transient: bool = False) -> Progress:
    """A bar with a name, what is done of how much (a count unless columns are given) and the time; none where nobody
    looks."""
    columns = counts or (MofNCompleteColumn(),)
    name = TextColumn("{task.description}", markup=False)
    shown = terminal.is_terminal
    return Progress(
        name, BarColumn(), *columns, TimeElapsedColumn(), console=terminal, disable=not shown, transient=transient
    )


def leave_on_sigterm(stack: ExitStack) -> None:
    """SIGTERM leaves the `with` blocks, as Ctrl-C does: a pool that is left so ends its processes at once."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, leave)
        stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL if before is None else before)


def executor(stack: ExitStack, jobs: int, cluster: str | None) -> Executor | None:
    """Who does the work: a Dask cluster, processes of this machine, or None for this process."""
    stack.enter_context(_no_workers_left())
    if cluster is not None:
        try:
            from dask.distributed import Client
        except ImportError:
            fail("--cluster needs dask: install prunequant with its 'cluster' extra")
        try:
            client = stack.enter_context(Client(cluster, timeout="10s"))
        except (OSError, ValueError) as error:
            fail(f"no Dask scheduler answers at {cluster!r}: {error}")
        return client.get_executor()
    if jobs > 1:
        leave_on_sigterm(stack)
        return stack.enter_context(experiments.processes(jobs))
    return None


@contextmanager
def _no_workers_left() -> Iterator[None]:
    """What a pool or a cluster says when whoever was to do the work died, again and again, as one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ in _DEATHS:
            fail(f"the workers died: {' '.join(str(error).split())}")
        raise


def check_writable(path: Path | None, option: str = "--json") -> None:
    """Find out before any work whether a file can be written there."""
    if path is None:
        return
    if path.is_dir():
        fail(f"{option} is {path}: that is a folder, give the name of a file")
    probe = path.with_name(f".{path.name}.probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        fail(f"{option} is {path}: no file can be written there ({error.strerror})")
