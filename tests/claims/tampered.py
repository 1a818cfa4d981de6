"""What the tests of claims on records share: change a record in one place, and see the claim turn red."""

import copy
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType

from prunequant.cases import runner as case
from prunequant.claims import Budget, registry, run


def forget(module: ModuleType) -> None:
    """Empty the caches of a claims module: what it has read of a record is read again."""
    for thing in vars(module).values():
        if hasattr(thing, "cache_clear"):
            thing.cache_clear()


def broken_by(
    monkeypatch, claim_id: str, change: Callable[[dict, str], None], source: ModuleType = case, reader: str = "recorded"
) -> tuple[str, ...]:
    """The conditions that a claim finds broken once `change(record, preset)` has altered every record in place.

    Records are read by `source.reader`: those of a case, unless said. The claim must then disagree with its verdict; an
    error that names the fault is as good, and its words are given.
    """
    module = import_module(registry()[claim_id].check.__module__)
    whole = getattr(source, reader)

    def altered(name: str, *preset: str) -> dict:
        record = copy.deepcopy(whole(name, *preset))
        change(record, *(preset or ("cpu",)))
        return record

    monkeypatch.setattr(source, reader, altered)
    forget(module)
    try:
        outcome = run(claim_id, Budget.QUICK)
    except ValueError as error:
        return (str(error),)
    finally:
        monkeypatch.undo()
        forget(module)
    assert outcome.problems, f"{claim_id} agrees with a record that was tampered with"
    return outcome.evidence.broken if outcome.evidence is not None else (outcome.error,)


def of(rows: Iterable[dict], **cell) -> list[dict]:
    """The rows with these values; at least one."""
    found = [row for row in rows if all(row.get(key) == value for key, value in cell.items())]
    assert found, f"no row with {cell}"
    return found
