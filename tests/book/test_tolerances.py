"""Every tolerance that is declared is tight: on some machine that was stood for, a run uses at least a tenth of it."""

import json
from pathlib import Path

from chapters import Book

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "book" / "results" / "portability.json").read_text(encoding="utf-8"))
LEDGER = json.loads((ROOT / "book" / "results" / "ledger.json").read_text(encoding="utf-8"))


def declared():
    """Every place with a tolerance, named as the record of profiles names it."""
    for chapter in Book(ROOT).chapters():
        cells = [cell for cell in chapter.read().cells if cell.cell_type == "code"]
        yield from (f"{chapter.name}, cell {n}" for n, cell in enumerate(cells) if "tolerance" in cell.metadata)
    for row in LEDGER:
        for what, part in [("check", row), *((f"control {name}", c) for name, c in row["controls"].items())]:
            yield from (f"{row['id']}, {what}: {name}" for name in part.get("tolerances", {}))


def used():
    """The largest share of each tolerance that any recorded profile used."""
    found = {}
    for row in RECORD["rows"]:
        for stage in ("claims", "chapters"):
            for where, share in row.get(stage, {}).get("tolerances", {}).items():
                found[where] = max(found.get(where, 0.0), share)
    return found


def test_every_declared_tolerance_is_used_by_a_tenth_at_least_and_never_exceeded():
    shares = used()
    wrong = {where: shares.get(where) for where in declared() if not 0.1 <= shares.get(where, 0.0) <= 1}
    assert not wrong, f"tighten these, or run `make portability` again: {wrong}"


def test_every_recorded_profile_passed_everything_that_was_run_under_it():
    failed = {
        f"{row['profile']}, {stage}": row[stage]["which"]
        for row in RECORD["rows"]
        for stage in ("units", "claims", "chapters")
        if row.get(stage, {}).get("failed")
    }
    assert not failed


def test_processors_without_newer_instructions_were_stood_for():
    ran = {row["profile"] for row in RECORD["rows"] if "chapters" in row and "claims" in row}
    assert "no AVX2, no FMA" in ran
