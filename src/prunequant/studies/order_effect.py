"""Record the small trained-model studies: book/results/order_effect.json.

    python benchmarks/records/order_effect.py                 40 seeds, about ten minutes on two cores
    python benchmarks/records/order_effect.py --seeds 4       a rehearsal

Finished work units are kept in a store; a run that was killed goes on where it stopped. The page
book/interplay/trained-models shows the record.
"""

import argparse
import os
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

from prunequant.experiments import Store, grid, processes, sweep
from prunequant.records import provenance, write_json
from prunequant.statistics import holm, paired
from prunequant.studies import orders as studies

ROOT = Path(__file__).resolve().parents[2]


def order_unit(task: str, activations: bool, seed: int) -> dict:
    return studies.order_effect(task, seed, activations=activations)


def tuned_unit(task: str, distil: bool, seed: int) -> dict:
    return studies.fine_tuned(task, seed, distil=distil)


def other_unit(study: str, task: str, seed: int) -> dict:
    return getattr(studies, study)(task, seed)


def cell(c: studies.Cell) -> dict:
    return {
        "pattern": c.pattern,
        "format": c.format,
        "ties": c.ties,
        "delta": asdict(c.delta),
        "p_holm": c.p_holm,
        "threshold": c.excess.value,
        "excess": asdict(c.excess.excess),
    }


def means(rows: list[dict]) -> dict:
    keys = [k for k, v in rows[0].items() if isinstance(v, float)]
    return {k: sum(row[k] for row in rows) / len(rows) for k in keys}


def differences(rows: list[dict], pairs: list[tuple[str, str, str]]) -> list[dict]:
    """Paired differences of named columns, corrected together."""
    found = [(name, paired([row[a] - row[b] for row in rows])) for name, a, b in pairs]
    corrected = holm([d.p for _, d in found])
    return [{"name": n, **asdict(d), "p_holm": float(p)} for (n, d), p in zip(found, corrected)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=40)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--store", type=Path, default=ROOT / "_build" / "order_effect.jsonl")
    options.add_argument("--output", type=Path, default=ROOT / "book" / "results" / "order_effect.json")
    given = options.parse_args()
    store, clock = Store(given.store), time.perf_counter()
    seeds, fewer = range(given.seeds), range(max(2, given.seeds // 2))
    record: dict = {"orders": [], "fine_tuned": [], "others": []}

    def say(done: int, total: int) -> None:
        print(f"\r{done} of {total} units, {time.perf_counter() - clock:.0f} s", end="", flush=True)

    with processes(given.jobs) as pool:
        for setting in grid(task=["digits", "curves"], activations=[False, True]):
            rows = sweep(order_unit, [setting], seeds, pool, store, say, name="order_effect: order")
            record["orders"].append(
                {**setting, "seeds": len(rows), "means": means(rows), "cells": [cell(c) for c in studies.cells(rows)]}
            )
        for setting in grid(task=["digits", "curves"], distil=[False, True]):
            rows = sweep(tuned_unit, [setting], fewer, pool, store, say, name="order_effect: tuned")
            names = sorted({k.rsplit(" sq", 1)[0] for k in rows[0] if k.endswith(" sq")})
            pairs = [
                (f"{n} {k}", f"{n} {k}", f"{n} sq")
                for n in names
                for k in ("qs first", "qs random", "qs magnitude", "sq one shot")
            ]
            record["fine_tuned"].append(
                {**setting, "seeds": len(rows), "means": means(rows), "differences": differences(rows, pairs)}
            )
        for setting in grid(study=["ranking", "structured", "low_rank"], task=["digits", "curves"]):
            chosen = seeds if setting["study"] != "ranking" else fewer
            rows = sweep(other_unit, [setting], chosen, pool, store, say, name="order_effect: other")
            suffix = {"structured": (" qs", " sq"), "low_rank": (" lqs", " lsq")}.get(setting["study"])
            pairs = []
            if suffix:
                names = sorted(k.removesuffix(suffix[1]) for k in rows[0] if k.endswith(suffix[1]))
                pairs = [(n, n + suffix[0], n + suffix[1]) for n in names]
            record["others"].append(
                {
                    **setting,
                    "seeds": len(rows),
                    "means": means(rows),
                    "differences": differences(rows, pairs) if pairs else [],
                }
            )
    print()
    command = f"python benchmarks/records/order_effect.py --seeds {given.seeds}"
    about = provenance(command, jobs=given.jobs, seconds=round(time.perf_counter() - clock))
    write_json(given.output, {"provenance": about, **record})
    print(f"record: {given.output}")


if __name__ == "__main__":
    main()
