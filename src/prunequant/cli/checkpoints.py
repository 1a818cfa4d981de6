"""Commands for model files. Each is a plain function here; `prunequant.cli` makes it a command."""

from __future__ import annotations

import json as reader
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import TaskProgressColumn
from rich.table import Table
from rich.text import Text

from .. import arguments, records
from . import report_text
from .calibrating import TEXT, SaveCalibration, SkipTokens, TextOptions, Window, Windows, inputs_of
from .common import Budget, Cluster, Transposed, budget_of, check_writable, executor, fail, progress_bar, tell

if TYPE_CHECKING:
    from ..checkpoint import Allocation, Model, Report
    from ..checkpoint.calibration import Calibration
    from ..checkpoint.outputs import OutputErrors

SHOWN = 4  # names in a line


def report(
    model: Annotated[Path, typer.Argument(help="a safetensors, PyTorch, .npz, GGUF or ONNX file, or a folder of them")],
    bits: Annotated[list[float] | None, typer.Option(help="bits a weight; several times for several budgets")] = None,
    group: Annotated[int, typer.Option(help="values that share a scale, where a group does")] = 128,
    mask: Annotated[str, typer.Option(help="what pruning pays for its mask: bitmap, entropy or free")] = "bitmap",
    entropy: Annotated[bool, typer.Option("--entropy", help="both sides entropy-coded too")] = False,
    scales: Annotated[str, typer.Option(help="searched, or exact: the least error over all scales, slow")] = "searched",
    transposed: Transposed = None,
    threads: Annotated[int | None, typer.Option(help="threads; all cores unless given")] = None,
    cluster: Cluster = None,
    json: Annotated[Path | None, typer.Option(help="write the report here")] = None,
    html: Annotated[Path | None, typer.Option(help="write it as one page for a browser here")] = None,
) -> None:
    """Which loses less, fewer bits or fewer weights? Every matrix of a model, at the bits really stored."""
    from ..checkpoint import open_model
    from ..checkpoint.judging import BUDGETS

    check_writable(json)
    check_writable(html, "--html")
    settings = {"group": group, "mask": mask, "entropy": entropy, "scales": scales, "threads": threads}
    try:
        with open_model(model, transposed or ()) as opened:
            model_report = _judged(opened, cluster, bits or BUDGETS, **settings)
    except (TypeError, ValueError, ImportError) as error:
        fail(str(error))
    try:
        if json is not None:
            records.write_json(json, model_report.to_json())
        if html is not None:
            records.write_text(html, model_report.to_html())
    except OSError as error:
        fail(f"the report could not be written: {error}")
    terminal = Console() if sys.stdout.isatty() else Console(width=160)
    asked = (bits or [4.25])[0]
    report_text.print_report(model_report, asked, terminal)
    if json is not None:
        tell(terminal, f"report: {json}")
    if html is not None:
        tell(terminal, f"page: {html}")


def _judged(opened: Model, cluster: str | None, *budgets: Any, **settings: Any) -> Report:
    """The report on a model, by this machine's threads or by a cluster, with a bar."""
    from .. import checkpoint

    with (
        ExitStack() as stack,
        progress_bar(Console(stderr=True), TaskProgressColumn(), transient=True) as bar,
    ):
        sizes = {m.name: m.nbytes / max(m.weights, 1) for m in opened.matrices}
        pool = executor(stack, 1, cluster)
        task = bar.add_task("reading", total=2 * sum(m.nbytes for m in opened.matrices))

        def read_again(name: str, weights: int) -> None:
            bar.update(task, advance=weights * sizes[name], description=report_text.shortened(name, 32))

        def counted(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="matrices")

        return checkpoint.report(opened, *budgets, **settings, weights_read=read_again, executor=pool, progress=counted)


def _measured(
    opened: Model,
    judged: Mapping[str, Any],
    inputs: Calibration,
    schemes: list[str] | None,
    threads: int | None,
    cluster: str | None,
) -> OutputErrors:
    """Output errors of every scheme, by this machine's threads or by a cluster, with a bar."""
    from ..checkpoint.allocation import sizes_of
    from ..checkpoint.outputs import output_errors

    weights = {m.name: m.weights for m in opened.matrices}
    with (
        ExitStack() as stack,
        progress_bar(Console(stderr=True), TaskProgressColumn(), transient=True) as bar,
    ):
        pool = executor(stack, 1, cluster)
        total = sum(weights[name] * len(asked) for name, asked in sizes_of(judged, schemes).items())
        task = bar.add_task("outputs", total=total)

        def count_weights(name: str, done: int) -> None:
            bar.update(task, advance=done, description=report_text.shortened(name, 32))

        def counted(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="outputs of matrices")

        return output_errors(opened, judged, inputs, schemes, threads, count_weights, pool, counted)


def allocate(
    model: Annotated[Path, typer.Argument(help="a model, or the report that `prunequant report --json` wrote of it")],
    budget: Budget = None,
    megabytes: Annotated[float | None, typer.Option(help="10^6 bytes of the file, as --budget 60MB")] = None,
    to: Annotated[
        str, typer.Option(help="the file that is planned for: prunequant, compressed-tensors or gguf")
    ] = "prunequant",
    schemes: Annotated[
        str | None, typer.Option(help="names and patterns with commas between, such as 'INT4 *,INT8 g128'")
    ] = None,
    weighting: Annotated[
        str, typer.Option(help="what a matrix counts by: weights, tensors (all the same) or power (plain squares)")
    ] = "weights",
    sensitivities: Annotated[
        Path | None, typer.Option(help="JSON: a factor on the error of each matrix that is named")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate", "--gram", help=f".npz of inputs, or Gram matrices, by matrix, {TEXT}: plan by output errors"
        ),
    ] = None,
    windows: Windows = None,
    window: Window = None,
    skip_tokens: SkipTokens = None,
    save_calibration: SaveCalibration = None,
    transposed: Transposed = None,
    cluster: Cluster = None,
    threads: Annotated[int | None, typer.Option(help="threads; all cores unless given")] = None,
    json: Annotated[Path | None, typer.Option(help="write the plan here")] = None,
    html: Annotated[Path | None, typer.Option(help="write the report with this plan as one page here")] = None,
) -> None:
    """Choose how to store every matrix, so that a model of a given size loses least."""
    from .. import checkpoint
    from ..checkpoint.compression import TARGETS

    check_writable(json)
    check_writable(html, "--html")
    left: dict[str, str] = {}
    names = None if schemes is None else [part.strip() for part in schemes.split(",") if part.strip()]
    try:
        arguments.choice(to, "to", TARGETS)
        size: dict[str, Any] = {**budget_of(budget)}
        factors = None if sensitivities is None else reader.loads(sensitivities.read_text(encoding="utf-8"))
        whole = model.suffix == ".json" and not model.name.endswith(".index.json")
        if whole and (transposed or cluster):
            option = "--transposed" if transposed else "--cluster"
            raise ValueError(f"{option} is for a model, and {model.name} is a report: its matrices are judged already")
        if whole and calibrate is not None:
            raise ValueError(f"--calibrate needs the weights, and {model.name} is a report: give the model itself")
        if megabytes is not None:
            size["megabytes"] = megabytes
        options: dict[str, Any] = {"schemes": names, "weighting": weighting, "sensitivities": factors}
        with ExitStack() as stack:
            text = TextOptions(windows, window, skip_tokens, save_calibration, usual_skip=1)
            inputs = inputs_of(stack, model, calibrate, transposed, cluster, text, json)
            if whole:
                judged: Path | Report = model
                plan = checkpoint.allocate(model, **size, **options)
            else:
                opened = stack.enter_context(checkpoint.open_model(model, transposed or ()))
                judged, plan, left = _planned(opened, inputs, to, cluster, threads, size, options)
    except (TypeError, ValueError, OSError, ImportError) as error:
        fail(str(error))
    _print_plan(plan, to, left)
    try:
        if json is not None:
            records.write_json(json, plan.to_json())
        if html is not None:
            from ..checkpoint.page import page

            records.write_text(html, page(judged, plan))
    except OSError as error:
        fail(f"the plan could not be written: {error}")
    for what, path in (("plan", json), ("page", html)):
        if path is not None:
            print(f"{what}: {path}")


def _planned(
    opened: Model,
    inputs: Path | Callable[[Model], Path] | None,
    to: str,
    cluster: str | None,
    threads: int | None,
    size: dict[str, Any],
    options: dict[str, Any],
) -> tuple[Report, Allocation, dict[str, str]]:
    """The report on a model, the plan of a size, by the errors of outputs where there are inputs, and what is left."""
    from ..checkpoint.calibration import Calibration
    from ..checkpoint.compression import GROUPS, holdable, predictor
    from ..checkpoint.methods import Settings
    from ..checkpoint.sizing import plan_file

    if isinstance(inputs, Path):
        Calibration(inputs, opened)  # refused before any work
    judged = _judged(opened, cluster, threads=threads, group=GROUPS[to])
    document, left = holdable(judged.document, opened, to)
    plan = plan_file(document, predictor(opened, opened.path, to, Settings()), **size, **options)
    if inputs is not None:  # the options are known to be good, and the model reads the text
        file = inputs if isinstance(inputs, Path) else inputs(opened)
        measured = _measured(opened, document, Calibration(file, opened), options["schemes"], threads, cluster)
        options = {**options, "errors": measured.errors}
        plan = plan_file(document, predictor(opened, opened.path, to, Settings()), **size, **options)
    return judged, plan, left


def _print_plan(plan: Allocation, to: str, left: Mapping[str, str]) -> None:
    """Sizes and errors of the plan and of the best uniform one, and how many matrices each scheme stores."""
    terminal = Console() if sys.stdout.isatty() else Console(width=160)
    table = Table(box=None, pad_edge=False, header_style="bold")
    by_outputs = plan.weighting == "outputs"
    for heading in ("plan", "bits a weight", "MB", "SNR of outputs" if by_outputs else "SNR"):
        table.add_column(heading, overflow="fold", justify="left" if heading == "plan" else "right")
    untreated = plan.untreated_bytes / 1e6
    beside = untreated + (plan.overhead_bytes or 0) / 1e6
    table.add_row(
        "a scheme for each matrix", f"{plan.bits_per_weight:.3f}", f"{plan.megabytes:.3f}", _decibel(plan.snr)
    )
    if plan.uniform is not None:
        same = plan.uniform
        size = f"{same.bits / 8e6 + beside:.3f}"
        table.add_row(Text(f"all {same.scheme}"), f"{same.bits_per_weight:.3f}", size, _decibel(same.snr))
    terminal.print(table)
    if plan.uniform is None:
        tell(terminal, "no scheme for all matrices is within this budget")
    proof = "no plan of these schemes is better" if plan.gap <= 0 else f"at most {_share(plan)} from the best plan"
    tell(terminal, f"{proof}; {untreated:.3f} MB that are not treated are counted as they are stored")
    if plan.overhead_bytes is None:
        tell(terminal, "headers of a file are not counted: give the model, not its report, and they are")
    else:
        size = f"{round(plan.megabytes * 1e6):,} bytes in all, {plan.overhead_bytes:,} of them headers and padding"
        tell(terminal, f"the file that `prunequant compress --plan` writes as {to}: {size}")
    for name, why in left.items():
        tell(terminal, f"left as it is: {name}: {why}")
    if by_outputs:
        count, others = len(plan.tensors) - len(plan.by_weights), plan.by_weights
        tell(terminal, f"{_matrices(count)} by the errors of their outputs for the inputs that were given")
        if others:
            more, whose = ", …" if len(others) > SHOWN else "", "its" if len(others) == 1 else "their"
            named = ", ".join(others[:SHOWN]) + more
            tell(terminal, f"{_matrices(len(others))} by {whose} weights, without inputs: {named}")
    counts: dict[str, int] = {}
    for scheme in plan.tensors.values():
        counts[scheme] = counts.get(scheme, 0) + 1
    used = Table(box=None, pad_edge=False, header_style="bold")
    used.add_column("scheme")
    used.add_column("matrices", justify="right")
    for scheme, count in sorted(counts.items(), key=lambda item: -item[1]):
        used.add_row(Text(scheme), str(count))
    terminal.print(used)


def _matrices(count: int) -> str:
    return "1 matrix" if count == 1 else f"{count} matrices"


def _decibel(snr: float) -> str:
    return "lossless" if math.isinf(snr) else f"{snr:.2f} dB"


def _share(plan: Allocation) -> str:
    return f"{10 * math.log10(plan.error / plan.bound):.2g} dB" if plan.bound > 0 else "its whole error"
