"""Commands that write compressed model files, and look at them again; plain functions, like those of `checkpoints`."""

from __future__ import annotations

import json as reader
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import extras, records
from .calibrating import TEXT, SaveCalibration, SkipTokens, TextOptions, Window, Windows, inputs_of
from .common import Budget, Cluster, Transposed, budget_of, check_writable, executor, fail, progress_bar, tell

if TYPE_CHECKING:
    from ..checkpoint import Compressed

WORST = 5  # matrices named one by one


def compress(
    model: Annotated[Path, typer.Argument(help="a model file, or a folder of one")],
    out: Annotated[Path, typer.Argument(help="the file to write, or for compressed-tensors the folder")],
    plan: Annotated[Path | None, typer.Option(help="a plan.json, as `prunequant allocate` writes it")] = None,
    scheme: Annotated[str | None, typer.Option(help="one for all matrices, such as 'INT4 g128'")] = None,
    budget: Budget = None,
    to: Annotated[str, typer.Option(help="prunequant, compressed-tensors or gguf")] = "prunequant",
    method: Annotated[
        str, typer.Option(help="nearest, wanda, path, optq or sparsegpt: all but the first look at inputs")
    ] = "nearest",
    asymmetric: Annotated[bool, typer.Option("--asymmetric", help="integers with a zero point of every group")] = False,
    calibrate: Annotated[Path | None, typer.Option(help=f".npz of inputs, or Gram matrices, by matrix, {TEXT}")] = None,
    windows: Windows = None,
    window: Window = None,
    skip_tokens: SkipTokens = None,
    save_calibration: SaveCalibration = None,
    transposed: Transposed = None,
    threads: Annotated[int | None, typer.Option(help="threads; all cores unless given")] = None,
    cluster: Cluster = None,
    json: Annotated[Path | None, typer.Option(help="write what became of every tensor here")] = None,
) -> None:
    """Write a smaller file of a model: every matrix by its scheme, the rest as it is, the size known beforehand."""
    from .. import checkpoint

    check_writable(json)
    terminal = Console(stderr=True)
    try:
        settings = checkpoint.Settings(method, grid="zero point" if asymmetric else "symmetric")
        schemes = None if plan is None else _read_plan(plan)
        size = budget_of(budget)
        with ExitStack() as stack:
            pool = executor(stack, 1, cluster)
            text = TextOptions(windows, window, skip_tokens, save_calibration, usual_skip=0)
            inputs = inputs_of(stack, model, calibrate, transposed, cluster, text, out)
            bar = stack.enter_context(progress_bar(terminal))
            task = bar.add_task("compressing")

            def show(done: int, total: int, name: str) -> None:
                bar.update(task, completed=done, total=total, description=name or "written")

            written = checkpoint.compress(
                model, out, plan=schemes, scheme=scheme, **size, to=to, settings=settings,
                calibrate=inputs, transposed=transposed or (), progress=show, executor=pool, threads=threads,
            )  # fmt: skip
    except (TypeError, ValueError, OSError, extras.MissingExtra) as error:
        fail(str(error))
    _print_written(written)
    if json is not None:
        try:
            records.write_json(json, written.to_json())
        except OSError as error:
            fail(f"what became of the tensors could not be written: {error}")


def _read_plan(path: Path) -> Any:
    try:
        written = reader.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON ({error})") from None
    tensors = written.get("tensors", written) if isinstance(written, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(v, str) for v in tensors.values()):
        raise ValueError(f"{path} is no plan: it must name a scheme for each matrix, under 'tensors'")
    return tensors


def _print_written(written: Compressed) -> None:
    """Sizes, the matrices that lost most, and what was left alone."""
    terminal = Console() if sys.stdout.isatty() else Console(width=160)
    ratio = written.source_bytes / written.bytes
    tell(
        terminal,
        f"{written.path.name}: {written.bytes:,} bytes of {written.source_bytes:,} ({ratio:.2f} times smaller), as"
        f" predicted; {written.bits_per_weight:.3f} bits a weight in {len(written.rows)} matrices",
    )
    table = Table(box=None, pad_edge=False, header_style="bold", title="most lost", title_justify="left")
    for heading in ("matrix", "scheme", "method", "SNR", "zeros before", "after"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("matrix", "scheme") else "right")
    for row in sorted(written.rows, key=lambda r: r.snr)[:WORST]:
        count = row.weights
        table.add_row(
            Text(row.name), row.scheme, row.method, f"{row.snr:.2f} dB", f"{row.zeros_before / count:.1%}",
            f"{row.zeros_after / count:.1%}" + ("" if row.keeps_zero else ", zero is no code"),
        )  # fmt: skip
    terminal.print(table)
    share = sum(x.nbytes for x in written.left) / written.source_bytes
    tell(terminal, f"left as they were: {len(written.left)} tensors, {share:.1%} of the bytes")
    reasons: dict[str, list[str]] = {}
    for x in written.left:
        reasons.setdefault(x.reason, []).append(x.name)
    for reason, names in reasons.items():
        tell(terminal, f"  {len(names)} × {reason}: {', '.join(names[:2])}{', …' if len(names) > 2 else ''}")
    clamped = sum(row.clamped for row in written.rows)
    if clamped:
        tell(terminal, f"{clamped} groups are so small that their scale is the least 16-bit float")
    for note in written.notes:
        tell(terminal, note)


def verify_file(
    file: Annotated[Path, typer.Argument(help="a file that `prunequant compress` wrote, or the folder")],
    against: Annotated[Path | None, typer.Option(help="the model it was made of: errors are computed again")] = None,
    transposed: Transposed = None,
) -> None:
    """Check a compressed file: checksums, masks, codes, scales, zeros, recorded errors; exit 2 when any is wrong."""
    from .. import checkpoint

    try:
        verification = checkpoint.verify_file(file, against, transposed or ())
    except (TypeError, ValueError, OSError, extras.MissingExtra) as error:
        fail(str(error))
    print(
        f"{verification.target}: {verification.checksums} checksums agree, {verification.matrices} matrices decoded,"
        f" {verification.compared} errors computed again, {len(verification.problems)} problems"
    )
    for problem in verification.problems:
        tell(Console(), problem)
    if verification.problems:
        raise typer.Exit(2)
