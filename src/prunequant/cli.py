"""The command line: `verify` measures claims, `plan` sizes a random network, `case` runs a case study."""

from __future__ import annotations

import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import claims
from .claims.core import Budget, Outcome

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Fewer weights, or fewer bits per weight?")


@app.callback()
def main() -> None:
    """Exact solvers, certificates and checked claims about pruning and quantization."""


def _fail(message: str) -> None:
    """End with exit code 2, the code for a command that cannot be carried out as given."""
    Console(stderr=True).print(f"[bold red]error[/] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def _executor(stack: ExitStack, jobs: int, cluster: str | None) -> Executor | None:
    if cluster is not None:
        try:
            from dask.distributed import Client
        except ImportError:
            _fail("--cluster needs dask: install prunequant with its 'cluster' extra")
        try:
            client = stack.enter_context(Client(cluster, timeout="10s"))
        except (OSError, ValueError) as error:
            _fail(f"no Dask scheduler answers at {cluster!r}: {error}")
        return client.get_executor()
    if jobs > 1:
        return stack.enter_context(ProcessPoolExecutor(jobs, mp_context=get_context("spawn")))
    return None


@app.command()
def verify(
    ids: Annotated[list[str] | None, typer.Argument(help="claims to check, by id; all when none is named")] = None,
    budget: Annotated[Budget, typer.Option(help="how much work a check may do")] = Budget.QUICK,
    jobs: Annotated[int, typer.Option(min=1, help="processes to use")] = 1,
    cluster: Annotated[str | None, typer.Option(help="address of a Dask scheduler")] = None,
    json: Annotated[Path | None, typer.Option(help="write the outcome here")] = None,
    against: Annotated[Path | None, typer.Option(help="a record to compare every printed figure with")] = None,
) -> None:
    """Measure claims and their controls; exit 1 when any contradicts its verdict."""
    known = claims.registry()
    unknown = [i for i in ids or [] if i not in known]
    if unknown:
        _fail(f"no claim {', '.join(unknown)}; known claims: {', '.join(known)}")
    recorded = _read_record(against)
    terminal = Console(stderr=True)
    with (
        ExitStack() as stack,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=terminal,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        executor = _executor(stack, jobs, cluster)
        task = bar.add_task("checking", total=len(ids or known))

        def told(outcome: Outcome) -> None:
            bar.update(task, advance=1, description=outcome.claim.id)
            if not sys.stderr.isatty():
                state = "agrees" if outcome.agrees else "not run" if outcome.skipped else "CONTRADICTS"
                terminal.print(f"{outcome.claim.id} {state} {outcome.seconds:.1f} s", highlight=False, soft_wrap=True)

        outcomes = claims.run_all(ids or None, budget, executor, told)
    _print(outcomes)
    rows = claims.to_record(outcomes)
    if json is not None:
        claims.write_json(json, rows)
    drifted, used = claims.drift(rows, recorded) if recorded is not None else ([], {})
    if used:
        name, share = max(used.items(), key=lambda item: item[1])
        terminal.print(f"{len(used)} figures within a tolerance; most used, {share:.0%}: {name}", highlight=False)
    if recorded is not None:
        numbers = ", ".join(f"{count:,} {kind}" for kind, count in claims.kinds(rows).items())
        terminal.print(f"numbers compared: {numbers}", highlight=False)
    for line in drifted:
        terminal.print(f"[bold red]differs from the record[/] {line}", highlight=False, soft_wrap=True)
    wrong = [o for o in outcomes if o.problems]
    skipped = [o for o in outcomes if o.skipped]
    passed = len(outcomes) - len(wrong) - len(skipped)
    for why in dict.fromkeys(o.skipped for o in skipped):
        print(f"not run, {', '.join(o.claim.id for o in skipped if o.skipped == why)}: {why}")
    print(f"{passed} passed, {len(wrong) + len(drifted)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    if wrong or drifted:
        raise typer.Exit(1)


@app.command()
def plan(
    widths: Annotated[str, typer.Option(help="layer widths of the target, such as 784,128,10")],
    bits: Annotated[str, typer.Option(help="bits of the target's weights, one number or one a layer")] = "4",
    source_bits: Annotated[
        str | None, typer.Option(help="bits of the random weights; the target's unless said")
    ] = None,
    failure: Annotated[float, typer.Option(help="failure probability to stay below, for the whole network")] = 0.01,
    depth: Annotated[str, typer.Option(help="2l: twice the target's depth; l+1: one layer more")] = "2l",
    biases: Annotated[bool, typer.Option(help="the target has biases")] = False,
    signed_inputs: Annotated[bool, typer.Option(help="inputs may be negative")] = True,
    method: Annotated[str, typer.Option(help="measured or proved")] = "measured",
) -> None:
    """How wide must a random network be to contain a given one, exactly?"""
    from . import tickets

    try:
        shape = [int(part) for part in widths.split(",")]
        layers = max(len(shape) - 1, 1)
        target = _steps(bits, layers, "bits")
        source = target if source_bits is None else _steps(source_bits, layers, "source bits")
        made = tickets.plan(shape, target, source, failure, signed_inputs, depth=depth, biases=biases, method=method)
    except ValueError as error:
        _fail(str(error))
    print(made)


@app.command()
def case(
    name: Annotated[str, typer.Argument(help="the case, such as order-in-a-language-model")],
    preset: Annotated[str, typer.Option(help="ci (seconds), cpu (minutes), gpu, or another that the case has")] = "cpu",
    seeds: Annotated[int | None, typer.Option(min=1, help="paired seeds; the preset's number unless said")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; by preset unless said")] = None,
    out: Annotated[Path | None, typer.Option(help="the record; case_NAME_PRESET.json here unless said")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that stopped, or add seeds")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="folder of data sets that are at hand")] = None,
    limit: Annotated[float | None, typer.Option(min=1, help="seconds after which no unit is begun")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="torch threads; all cores unless said")] = None,
) -> None:
    """Run a case study and write its record; exit 3 when it stopped before the end and can be resumed."""
    try:
        from .finetune import case as cases

        cases.load(name)
    except ValueError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        _fail(f"case studies need {error.name}: install prunequant with its 'book' extra")
    out = out or Path(f"case_{name.replace('-', '_')}_{preset}.json")
    terminal = Console(stderr=True)
    shown = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, disable=not shown) as bar:
        whole, inside = bar.add_task(name), bar.add_task("")

        def told(done: int, total: int) -> None:
            bar.update(whole, completed=done, total=total)
            if not shown:
                terminal.print(f"{done} of {total} units", highlight=False)

        def say(what: str, step: int, steps: int) -> None:
            bar.update(inside, description=what, completed=step, total=steps)

        try:
            record = cases.run_case(
                name,
                preset,
                seeds=seeds,
                device=device,
                out=out,
                resume=resume,
                data=data_dir,
                limit=limit,
                threads=threads,
                progress=told,
                say=say,
            )
        except cases.Unfinished as stopped:
            terminal.print(str(stopped), highlight=False, soft_wrap=True)
            raise typer.Exit(3) from None
        except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
            _fail(str(error))
    print(f"{len(record['rows'])} rows, {record['provenance']['seconds']} s: {out}")


def _steps(text: str, layers: int, name: str) -> list:
    """The steps of grids of so many bits, one a layer."""
    from . import tickets

    steps = [tickets.step(int(part)) for part in text.split(",")]
    if len(steps) not in (1, layers):
        raise ValueError(f"{name} has {len(steps)} entries for {layers} layers: give one number, or one a layer")
    return steps * layers if len(steps) == 1 else steps


def _read_record(path: Path | None) -> dict[str, dict] | None:
    if path is None:
        return None
    import json as reader

    try:
        return {row["id"]: row for row in reader.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        _fail(f"{path} is not a record written by verify --json: {error}")


def _print(outcomes: list[Outcome]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("claim", "verdict", "measured", "controls", "time"):
        table.add_column(name, overflow="fold", justify="right" if name == "time" else "left")
    for outcome in outcomes:
        failing = f"{sum(not e.holds for e in outcome.controls.values())} of {len(outcome.controls)} fail"
        if outcome.problems:
            told = "[bold red]" + escape("; ".join(outcome.problems)) + "[/]"
        elif outcome.skipped:
            told = "not run"
        else:
            figure = outcome.evidence.figures[0]
            told = f"{figure.name}: {figure.text()}"
        verdict = outcome.claim.verdict.value
        table.add_row(
            outcome.claim.id,
            f"[red]{verdict}[/]" if outcome.problems else verdict,
            told,
            "" if outcome.evidence is None else failing,
            f"{outcome.seconds:.1f} s",
        )
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)


if __name__ == "__main__":
    app()
