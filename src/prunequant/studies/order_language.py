"""Record the order study on a small character model: book/results/order_language.json.

    python benchmarks/records/order_language.py               8 seeds, half of them tuned; 15 minutes, two cores
    python benchmarks/records/order_language.py --seeds 2     a rehearsal

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

from prunequant.experiments import Store, processes, sweep
from prunequant.records import provenance, write_json
from prunequant.statistics import holm, paired
from prunequant.studies import characters as language
from prunequant.studies import orders as studies

ROOT = Path(__file__).resolve().parents[2]


def plain_unit(steps: int, seed: int) -> dict:
    return language.order_effect(seed, steps=steps)


def tuned_unit(steps: int, tune: int, seed: int) -> dict:
    return language.order_effect(seed, steps=steps, formats=("HBFP6", "MXFP4", "INT4"), patterns=("2:4",), tune=tune)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=8)
    options.add_argument("--steps", type=int, default=400)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--store", type=Path, default=ROOT / "_build" / "order_language.jsonl")
    options.add_argument("--output", type=Path, default=ROOT / "book" / "results" / "order_language.json")
    given = options.parse_args()
    store, clock = Store(given.store), time.perf_counter()

    def say(done: int, total: int) -> None:
        print(f"{done} of {total} units, {time.perf_counter() - clock:.0f} s", flush=True)

    with processes(given.jobs) as pool:
        rows = sweep(
            plain_unit, [{"steps": given.steps}], range(given.seeds), pool, store, say, name="order_language: plain"
        )
        setting = {"steps": given.steps, "tune": 40}
        fewer = range(max(2, given.seeds // 2))
        tuned = sweep(tuned_unit, [setting], fewer, pool, store, say, name="order_language: tuned")
    names = sorted({k.rsplit(" ", 1)[0] for k in tuned[0] if k.startswith("tuned") and k.endswith(" sq")})
    pairs = [
        (f"{n} {k}", paired([r[f"{n} {k}"] - r[f"{n} sq"] for r in tuned]))
        for n in names
        for k in ("qs first", "qs magnitude")
    ]
    corrected = holm([d.p for _, d in pairs])
    means = {k: sum(r[k] for r in rows) / len(rows) for k in rows[0] if isinstance(rows[0][k], float)}
    record = {
        "provenance": provenance(
            f"python benchmarks/records/order_language.py --seeds {given.seeds}",
            jobs=given.jobs,
            seconds=round(time.perf_counter() - clock),
            text_sha256=language.text()[1],
        ),
        "seeds": len(rows),
        "means": means,
        "cells": [
            {
                "pattern": c.pattern,
                "format": c.format,
                "ties": c.ties,
                "delta": asdict(c.delta),
                "p_holm": c.p_holm,
                "threshold": c.excess.value,
                "excess": asdict(c.excess.excess),
            }
            for c in studies.cells(rows)
        ],
        "tuned_seeds": len(tuned),
        "tuned": [{"name": n, **asdict(d), "p_holm": float(p)} for (n, d), p in zip(pairs, corrected)],
        "tuned_means": {k: sum(r[k] for r in tuned) / len(tuned) for k in tuned[0] if k.startswith("tuned")},
    }
    write_json(given.output, record)
    print(f"record: {given.output}")


if __name__ == "__main__":
    main()
