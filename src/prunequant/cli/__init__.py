"""The command line.

`verify` measures claims, `prove` proves some of them for all real numbers, `plan` sizes a random network, `case` runs a
case study, `record` makes what chapters read.
"""

from __future__ import annotations

import json as reader
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import arguments, claims, experiments, extras, records
from ..claims import chapters
from ..claims.core import Budget, Outcome
from . import checkpoints, compressing
from .common import check_writable, executor, fail, progress_bar, tell

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Fewer weights, or fewer bits per weight?")


@app.callback()
def main() -> None:
    """Exact solvers, certificates and checked claims about pruning and quantization."""


app.command()(checkpoints.report)
app.command()(checkpoints.allocate)
app.command()(compressing.compress)
app.command()(compressing.verify_file)


@app.command()
def verify(
    ids: Annotated[list[str] | None, typer.Argument(help="claims to check, by id; all when none is named")] = None,
    budget: Annotated[Budget, typer.Option(help="how much work a check may do")] = Budget.QUICK,
    jobs: Annotated[int, typer.Option(min=1, max=61, help="processes to use")] = 1,
    cluster: Annotated[str | None, typer.Option(help="address of a Dask scheduler")] = None,
    json: Annotated[Path | None, typer.Option(help="write the outcome here")] = None,
    against: Annotated[Path | None, typer.Option(help="a record to compare every printed figure with")] = None,
    files: Annotated[
        bool,
        typer.Option("--files", help="measure nothing: print the files that a claim, or a chapter, changes"),
    ] = False,
) -> None:
    """Measure claims and their controls; exit 1 when any contradicts its verdict."""
    if files:
        return _print_files(ids or [])
    known = claims.registry()
    unknown = [i for i in ids or [] if i not in known]
    if unknown:
        fail(f"no claim {', '.join(unknown)}; known claims: {', '.join(known)}")
    recorded = _read_record(against)
    check_writable(json)
    terminal = Console(stderr=True)
    with (
        ExitStack() as stack,
        progress_bar(terminal) as bar,
    ):
        pool = executor(stack, jobs, cluster)
        task = bar.add_task("checking", total=len(ids or known))

        def show_outcome(outcome: Outcome) -> None:
            bar.update(task, advance=1, description=outcome.claim.id)
            if not sys.stderr.isatty():
                state = "agrees" if outcome.agrees else "not run" if outcome.skipped else "CONTRADICTS"
                tell(terminal, f"{outcome.claim.id} {state} {outcome.seconds:.1f} s")

        outcomes = claims.run_all(ids or None, budget, pool, show_outcome)
    _print(outcomes)
    rows = claims.to_record(outcomes)
    if json is not None:
        try:
            records.write_json(json, rows)
        except OSError as error:
            fail(f"the outcome could not be written: {error}")
    drifted, used = claims.drift(rows, recorded) if recorded is not None else ([], {})
    if used:
        name, share = max(used.items(), key=lambda item: item[1])
        tell(terminal, f"{len(used)} figures within a tolerance; most used, {share:.0%}: {name}")
    if recorded is not None:
        numbers = ", ".join(f"{count:,} {kind}" for kind, count in claims.kinds(rows).items())
        tell(terminal, f"numbers compared: {numbers}")
    for line in drifted:
        tell(terminal, ("differs from the record", "bold red"), f" {line}")
    wrong = [o for o in outcomes if o.problems]
    skipped = [o for o in outcomes if o.skipped]
    passed = len(outcomes) - len(wrong) - len(skipped)
    for why in dict.fromkeys(o.skipped for o in skipped):
        print(f"not run, {', '.join(o.claim.id for o in skipped if o.skipped == why)}: {why}")
    print(f"{passed} passed, {len(wrong) + len(drifted)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    if wrong or drifted:
        raise typer.Exit(1)


@app.command()
def prove(
    ids: Annotated[list[str] | None, typer.Argument(help="claims, by id; all that have such a proof when none")] = None,
    limit: Annotated[float, typer.Option(help="seconds for each question to the solver")] = 120,
    json: Annotated[Path | None, typer.Option(help="write the outcome here")] = None,
) -> None:
    """Prove statements for all real blocks of a size, by an SMT solver; exit 1 when one is not proved."""
    from ..claims import proofs

    try:
        chosen = proofs.theorems(ids or None)
        limit = arguments.real(limit, "--limit", *proofs.LIMITS)
    except ValueError as error:
        fail(str(error))
    check_writable(json)
    proven = []
    for theorem in chosen:
        try:
            proof = proofs.prove(theorem, limit)
        except extras.MissingExtra as error:
            fail(str(error))
        proven.append(proof)
        values = f"{theorem.values} value{'s' if theorem.values > 1 else ''}"
        print(f"{theorem.claim}, {theorem.title}, {values}: {proof.outcome} in {proof.seconds:.2f} s")
        if proof.counterexample:
            print(f"  counterexample: {proof.counterexample}")
        for name, example in proof.controls.items():
            print(f'  without "{name}": {example or "NO COUNTEREXAMPLE FOUND"}')
    if json is not None:
        about = records.provenance("prunequant prove", packages=("z3-solver",))
        try:
            records.write_json(json, {"provenance": about, "rows": proofs.to_record(proven)})
        except OSError as error:
            fail(f"the outcome could not be written: {error}")
    good = sum(proof.agrees for proof in proven)
    print(f"{good} of {len(proven)} proved, each false without a hypothesis that it names")
    if good < len(proven):
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
    from .. import tickets
    from ..tickets.plan import DEPTHS, METHODS

    try:
        shape = _integers(widths, "--widths", 1, 2**31 - 1)
        if len(shape) < 2:
            raise ValueError(f"--widths is {widths}: at least two layer widths are needed, such as 784,128,10")
        target = _steps(bits, len(shape) - 1, "--bits")
        source = target if source_bits is None else _steps(source_bits, len(shape) - 1, "--source-bits")
        failure = arguments.real(failure, "--failure", 0, 1, open_low=True, open_high=True)
        arguments.choice(depth, "--depth", DEPTHS)
        arguments.choice(method, "--method", METHODS)
        planned = tickets.plan(shape, target, source, failure, signed_inputs, depth=depth, biases=biases, method=method)
    except ValueError as error:
        fail(str(error))
    print(planned)


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
    jobs: Annotated[int, typer.Option(min=1, max=61, help="processes: seeds, or units, side by side")] = 1,
) -> None:
    """Run a case study and write its record; exit 3 when it stopped before the end and can be resumed."""
    try:
        from prunequant.cases import runner as cases

        cases.load(name)
    except ValueError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        fail(f"case studies need {error.name}: install prunequant with its 'book' extra")
    out = out or Path(f"case_{name.replace('-', '_')}_{preset}.json")
    terminal = Console(stderr=True)
    shown = sys.stderr.isatty()
    with progress_bar(terminal) as bar:
        whole, inside = bar.add_task(name), bar.add_task("")

        def show_units(done: int, total: int) -> None:
            bar.update(whole, completed=done, total=total)
            if not shown:
                tell(terminal, f"{done} of {total} units")

        def show_step(what: str, step: int, steps: int) -> None:
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
                jobs=jobs,
                progress=show_units,
                unit_progress=show_step,
            )
        except cases.Unfinished as stopped:
            tell(terminal, str(stopped))
            raise typer.Exit(3) from None
        except KeyboardInterrupt:
            if Path(f"{out}.partial").exists():
                tell(
                    terminal, f"stopped: what is finished is kept in {out}.partial; run it again with --resume to go on"
                )
            raise
        except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
            fail(str(error))
    print(f"{len(record['rows'])} rows, {record['provenance']['seconds']} s: {out}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def record(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="the record, such as order-effect")] = None,
    every: Annotated[bool, typer.Option("--list", help="list the records: needs, minutes, last made")] = False,
    out: Annotated[Path | None, typer.Option(help="the record; its usual name, here, unless said")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that stopped")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=61, help="processes to use")] = 1,
    cluster: Annotated[str | None, typer.Option(help="address of a Dask scheduler")] = None,
) -> None:
    """Make a record that chapters read; its own settings follow its name, such as order-effect --seeds 4."""
    from prunequant.studies import runner

    if every:
        if name is not None:
            fail(f"--list names every record: leave out {name}")
        _list_records(runner)
        return
    if name is None:
        fail(f"name a record, or say --list; the records are {', '.join(runner.STUDIES)}")
    try:
        study = runner.load(name)
        settings = runner.parse(study, context.args)
    except (ValueError, ModuleNotFoundError) as error:
        fail(str(error))
    place = out or Path(study.files[0] if len(study.files) == 1 else study.name)
    terminal, shown = Console(stderr=True), sys.stderr.isatty()
    with ExitStack() as stack, progress_bar(terminal) as bar:
        _limit_threads(stack, study.threads)
        pool = executor(stack, jobs, cluster) or stack.enter_context(experiments.processes(1))
        task = bar.add_task(name)

        def show_units(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not shown:
                tell(terminal, f"{done} of {total} units")

        try:
            finished = runner.run_study(
                name,
                settings,
                out=place,
                resume=resume,
                executor=pool,
                about={} if cluster else {"jobs": jobs},
                progress=show_units,
                log=lambda text: tell(terminal, text),
            )
        except KeyboardInterrupt:
            tell(terminal, f"stopped: what is finished is kept in {place}.partial; run it again with --resume to go on")
            raise
        except (ValueError, OSError, ModuleNotFoundError) as error:
            fail(str(error))
    if study.show is not None:
        print(study.show(finished))
    print(f"record: {place}")


def _limit_threads(stack: ExitStack, threads: int | None) -> None:
    """So many threads for the processes that are started from now on, unless the reader's shell says otherwise."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if threads else ():
        if name not in os.environ:
            os.environ[name] = str(threads)
            stack.callback(os.environ.pop, name, None)


def _list_records(runner) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("record", "what", "needs", "minutes", "made"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "minutes" else "left")
    for name in runner.STUDIES:
        try:
            study = runner.load(name)
        except ModuleNotFoundError as error:
            missing = extras.missing(error)
            table.add_row(Text(name), "", Text(f"[{missing.extra}]" if missing else str(error)), "", "")
            continue
        row = (name, study.title, ", ".join(runner.needs(study)), f"{study.minutes:g}", runner.last_made(study))
        table.add_row(*map(Text, row))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)


def _integers(text: str, option: str, low: int, high: int) -> list[int]:
    """The whole numbers, separated by commas, that an option was given."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.removeprefix("-").isdecimal() and part.isascii() and len(part) < 30 for part in parts):
        wanted = f"one whole number in [{low}, {high}], or several separated by commas"
        raise ValueError(f"{option} is {arguments.shown(text)}: it must be {wanted}")
    return [arguments.integer(int(part), option, low, high) for part in parts]


def _steps(text: str, layers: int, option: str) -> list:
    """The steps of grids of so many bits, one a layer."""
    from .. import tickets

    steps = [tickets.step(bits) for bits in _integers(text, option, 2, 16)]
    if len(steps) not in (1, layers):
        raise ValueError(f"{option} has {len(steps)} entries for {layers} layers: give one number, or one a layer")
    return steps * layers if len(steps) == 1 else steps


def _print_files(names: list[str]) -> None:
    """One line a file: its path, and what stands there or the command that writes it."""
    if not names:
        fail("--files needs the id of a claim, or a chapter such as tickets/subset-sums")
    try:
        what_to_do = {path: what for name in names for path, what in chapters.files(name).items()}
    except ValueError as error:
        fail(str(error))
    width = max(map(len, what_to_do))
    for path, what in what_to_do.items():
        print(f"{path:{width}}  {what}")


def _read_record(path: Path | None) -> dict[str, dict] | None:
    if path is None:
        return None
    try:
        rows = {row["id"]: row for row in reader.loads(path.read_text(encoding="utf-8"))}
        for row in rows.values():
            for measured in (row, *row["controls"].values()):
                measured["evidence"]  # a KeyError here, not after an hour of work
        return rows
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        fail(f"{path} is not a record written by verify --json: {error!r}")


def _print(outcomes: list[Outcome]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("claim", "verdict", "measured", "controls", "time"):
        table.add_column(name, overflow="fold", justify="right" if name == "time" else "left")
    for outcome in outcomes:
        failing = f"{sum(not e.holds for e in outcome.controls.values())} of {len(outcome.controls)} fail"
        if outcome.problems:
            detail = Text("; ".join(outcome.problems), "bold red")
        elif outcome.evidence is None:
            detail = Text("not run")
        else:
            figure = outcome.evidence.figures[0]
            detail = Text(f"{figure.name}: {figure.text()}")
        table.add_row(
            Text(outcome.claim.id),
            Text(outcome.claim.verdict.value, "red" if outcome.problems else ""),
            detail,
            "" if outcome.evidence is None else failing,
            f"{outcome.seconds:.1f} s",
        )
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
