"""Run checks and their controls, one claim or many, here or on an executor; write the outcome as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, as_completed

from prunequant.extras import missing
from prunequant.records import MissingRecord

from .core import Budget, Evidence, Outcome, registry


def run(claim_id: str, budget: Budget = Budget.QUICK) -> Outcome:
    """Measure one claim and all its controls.

    Raises
    ------
    KeyError : no claim has that id; the message lists those there are.
    """
    claim = registry()[claim_id]
    start = time.perf_counter()
    evidence = _measure(claim.check, budget, claim_id)
    found = {n: _measure(f, budget, f"{claim_id}, control {n!r}") for n, f in claim.controls.items()}
    return Outcome(claim, budget, evidence, found, time.perf_counter() - start)


def _measure(function, budget: Budget, what: str) -> Evidence:
    evidence = function(budget)
    if not isinstance(evidence, Evidence):
        raise TypeError(f"{what}: the check returned {type(evidence).__name__}, not Evidence")
    return evidence


def attempt(claim_id: str, budget: Budget = Budget.QUICK) -> Outcome:
    """`run`, with what a check raises kept in the outcome.

    `skipped` where a package of an extra is not installed or a record is not there; any other exception is an `error`.
    """
    start = time.perf_counter()
    skipped = told = ""
    try:
        return run(claim_id, budget)
    except MissingRecord as error:
        skipped = str(error)
    except ModuleNotFoundError as error:
        extra = missing(error)
        skipped, told = (str(extra), "") if extra else ("", f"{type(error).__name__}: {error}")
    except Exception as error:  # a check is foreign code: one that breaks must not hide the others
        told = f"{type(error).__name__}: {error}".rstrip(": ")
    return Outcome(registry()[claim_id], budget, None, {}, time.perf_counter() - start, skipped, told)


def _run_portable(claim_id: str, budget_name: str) -> tuple:
    """`attempt` for another process: what was measured travels back, the claim is looked up by id on either side."""
    made = attempt(claim_id, Budget(budget_name))
    return claim_id, made.evidence, made.controls, made.seconds, made.skipped, made.error


def run_all(
    ids: Iterable[str] | None = None,
    budget: Budget = Budget.QUICK,
    executor: Executor | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Measure many claims, in registry order in the result, reporting each as it is done.

    Parameters
    ----------
    ids : claim ids, all when None.
    executor : any `concurrent.futures` executor (processes, or a Dask client's); None runs here, one by one.
    progress : called with each `Outcome` as it arrives.

    Notes
    -----
    A check that raises does not end the run: its outcome holds the message, and is a contradiction unless all that is
    missing is a package of an extra or a record.
    """
    known = registry()
    chosen = list(known) if ids is None else [known[i].id for i in ids]
    done: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        done[outcome.claim.id] = outcome
        if progress is not None:
            progress(outcome)

    if executor is None:
        for claim_id in chosen:
            keep(attempt(claim_id, budget))
    else:
        futures = {executor.submit(_run_portable, claim_id, budget.value): claim_id for claim_id in chosen}
        for future in as_completed(futures):
            claim_id, *found = future.result()
            keep(Outcome(known[claim_id], budget, *found))
    return [done[claim_id] for claim_id in chosen]


def to_record(outcomes: Iterable[Outcome], timings: bool = False) -> list[dict]:
    """Plain rows for JSON: the figures as printed, so that two machines write the same record."""
    rows = []
    for outcome in outcomes:
        if outcome.evidence is None:
            why = {"error": outcome.error} if outcome.error else {"skipped": outcome.skipped}
            rows.append({"id": outcome.claim.id, "verdict": outcome.claim.verdict.value, **why})
            continue
        row = {
            "id": outcome.claim.id,
            "verdict": outcome.claim.verdict.value,
            "budget": outcome.budget.value,
            "agrees": outcome.agrees,
            "problems": list(outcome.problems),
            "holds": outcome.evidence.holds,
            "evidence": [list(pair) for pair in outcome.evidence.rows()],
            "controls": {
                name: {"holds": e.holds, "evidence": [list(pair) for pair in e.rows()]}
                for name, e in outcome.controls.items()
            },
        }
        if timings:
            row["seconds"] = round(outcome.seconds, 3)
        rows.append(row)
    return rows
