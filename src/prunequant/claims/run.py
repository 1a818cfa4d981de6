"""Run checks and their controls, one claim or many, here or on an executor; write the outcome as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, as_completed

from prunequant.extras import missing
from prunequant.records import MissingRecord
from prunequant.tolerance import NUMBER, Tolerance, compare, is_whole

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
    controls, confirmations = (
        {name: _measure(function, budget, f"{claim_id}, control {name!r}") for name, function in group.items()}
        for group in (claim.controls, claim.confirmations)
    )
    return Outcome(claim, budget, evidence, controls, time.perf_counter() - start, confirmations=confirmations)


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
    skipped = failure = ""
    try:
        return run(claim_id, budget)
    except MissingRecord as error:
        skipped = str(error)
    except ModuleNotFoundError as error:
        extra = missing(error)
        skipped, failure = (str(extra), "") if extra else ("", f"{type(error).__name__}: {error}")
    except Exception as error:  # a check is foreign code: one that breaks must not hide the others
        failure = f"{type(error).__name__}: {error}".rstrip(": ")
    return Outcome(registry()[claim_id], budget, None, {}, time.perf_counter() - start, skipped, failure)


def _run_portable(claim_id: str, budget_name: str) -> tuple:
    """`attempt` for another process: what was measured travels back, the claim is looked up by id on either side."""
    outcome = attempt(claim_id, Budget(budget_name))
    return (
        claim_id,
        outcome.evidence,
        outcome.controls,
        outcome.seconds,
        outcome.skipped,
        outcome.error,
        outcome.confirmations,
    )


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
            claim_id, *parts = future.result()
            keep(Outcome(known[claim_id], budget, *parts))
    return [done[claim_id] for claim_id in chosen]


def _measured(evidence: Evidence) -> dict:
    """What was measured, as printed, with what had to be so and the tolerance of each sensitive figure."""
    row: dict = {"holds": evidence.holds, "evidence": [list(pair) for pair in evidence.rows()]}
    if evidence.conditions:
        row["conditions"] = dict(evidence.conditions)
    tolerances = {figure.name: figure.tolerance.fields() for figure in evidence.all_figures if figure.tolerance}
    return {**row, "tolerances": tolerances} if tolerances else row


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
            **_measured(outcome.evidence),
            "controls": {name: _measured(e) for name, e in outcome.controls.items()},
        }
        if outcome.confirmations:
            row["confirmations"] = {name: _measured(e) for name, e in outcome.confirmations.items()}
        if timings:
            row["seconds"] = round(outcome.seconds, 3)
        rows.append(row)
    return rows


def drift(rows: Iterable[dict], recorded: Mapping[str, dict]) -> tuple[list[str], dict[str, float]]:
    """What differs between two records: a line for each difference, and the share of each tolerance that was used.

    Words and figures are compared exactly, a figure with a tolerance within it (as the new row declares it).
    """
    lines: list[str] = []
    used: dict[str, float] = {}
    for row in rows:
        old = recorded.get(row["id"])
        if old is None:
            lines.append(f"{row['id']}: not in the record (make ledger writes it anew)")
            continue
        if "evidence" not in row:  # skipped or failed: what the record has was not measured
            lines.append(
                f"{row['id']}: in the record, but not measured here ({row.get('skipped') or row.get('error')})"
            )
            continue
        pairs = [("check", old, row)]
        for kind in ("controls", "confirmations"):
            before, after = old.get(kind, {}), row.get(kind, {})
            pairs += [(f"{kind[:-1]} {name}", before.get(name, {}), now) for name, now in after.items()]
        for what, was, now in pairs:
            before, after = was.get("evidence", []), now["evidence"]
            same = all(was.get(key) == now.get(key) for key in ("holds", "conditions"))
            if not same or [name for name, _ in before] != [name for name, _ in after]:
                lines.append(f"{row['id']}, {what}: {before} became {after}")
                continue
            for (name, there), (_, here) in zip(before, after):
                declared = now.get("tolerances", {}).get(name)
                tolerance = Tolerance.read(declared) if declared else None
                comparison = compare(here, there, tolerance)
                if tolerance is not None:
                    key = f"{row['id']}, {what}: {name}"
                    used[key] = max(used.get(key, 0.0), comparison.used)
                if not comparison.equal:
                    why = tolerance.text() if tolerance else "compared exactly"
                    lines.append(f"{row['id']}, {what}: {name}: {there} became {here} ({why})")
    return lines, used


def kinds(rows: Iterable[dict]) -> dict[str, int]:
    """How many printed numbers of a record are exact (whole), stable (other) and sensitive (with a tolerance)."""
    count = {"exact": 0, "stable": 0, "sensitive": 0}
    for row in rows:
        if "evidence" not in row:
            continue
        for part in (row, *row["controls"].values(), *row.get("confirmations", {}).values()):
            for name, text in part["evidence"]:
                numbers = NUMBER.findall(text)
                if name in part.get("tolerances", {}):
                    count["sensitive"] += len(numbers)
                else:
                    whole = sum(map(is_whole, numbers))
                    count["exact"] += whole
                    count["stable"] += len(numbers) - whole
    return count
