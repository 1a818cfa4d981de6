"""The case *hardware*: time, bytes and error of one linear layer, by scheme, shape, batch and threads, on this device.

A row is one shape with one batch: all schemes are stored, multiplied against exact arithmetic, and timed in turn. A
scheme that does not run here is in the row with the reason. Another row holds the limits of the machine, measured in
the same run. On a CPU a few rows are repeated in a process of their own with the newer instructions forbidden.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import torch

from prunequant.cases.runner import Case, Run
from prunequant.threads import using
from prunequant.timing.clock import Stopwatch, fastest, interleave, limits, median_ratio, quartiles, state
from prunequant.timing.kernels import Kernel, Unavailable, prepare
from prunequant.timing.schemes import moved_bytes, operations, scheme, stored_bytes

QUANTIZED = ("int8", "int8-fbgemm", "int8-weight", "int4-weight", "fp8")
HALVED = ("2:4-bf16", "2:4-int8", "2:4-fp8")
SPARSE = tuple(f"csr-{p}" for p in (50, 75, 90, 95, 99))
DENSE = ("fp32", "fp32-packed", "bf16", "bf16-packed")
LARGEST_EXACT = 1 << 23  # weights beyond which the error is taken on fewer rows
# Older instructions: no 512-bit registers, no dot products of bytes, no bfloat16.
OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}

PRESETS = {
    "ci": {
        "seeds": 1,
        "layers": [[64, 128, [1, 16], [1]]],
        "schemes": [*DENSE, *QUANTIZED, *HALVED, "csr-50", "csr-90", "scipy-90"],
        "baseline": ["fp32", "fp32-packed"],
        "older": [],
        "rounds": 3,
        "seconds": 0.2,
        "sweep": 1 << 20,
        "order": 128,
    },
    "cpu": {
        "seeds": 5,
        "layers": [
            [576, 576, [1, 4, 16, 64, 256, 4096], [1]],
            [1536, 576, [1, 16, 256], [1]],
            [1024, 1024, [1, 16, 256], [1]],
            [2048, 2048, [1, 16, 256], [1, 2]],
            [4096, 4096, [1], [1]],
        ],
        "schemes": [*DENSE, *QUANTIZED, *HALVED, *SPARSE, "scipy-50", "scipy-90"],
        "baseline": ["fp32", "fp32-packed"],
        "older": [[576, 576, [1, 256]], [2048, 2048, [1]]],
        "rounds": 9,
        "seconds": 0.8,
        "sweep": 96 << 20,
        "order": 1024,
    },
    "gpu": {
        "seeds": 3,
        "layers": [
            [576, 576, [1, 16, 256, 4096], [1]],
            [1536, 576, [1, 16, 256, 4096], [1]],
            [2048, 2048, [1, 16, 256, 4096], [1]],
            [4096, 4096, [1, 16, 256, 4096], [1]],
            [8192, 8192, [1, 16, 256, 4096], [1]],
        ],
        "schemes": ["fp32", "bf16", "int8", "int8-weight", "int4-weight", "fp8", *HALVED, "csr-50", "csr-90", "csr-99"],
        "baseline": ["bf16"],
        "older": [],
        "rounds": 11,
        "seconds": 1.0,
        "sweep": 256 << 20,
        "order": 8192,
    },
}


def units(settings: Mapping) -> list[dict]:
    """The limits for every number of threads, then every layer and batch, then those with older instructions."""
    counts = sorted({t for *_, threads in settings["layers"] for t in threads} or {1})
    out = [{"part": "limits", "threads": t} for t in counts]
    for outputs, inputs, batches, threads in settings["layers"]:
        for count in threads:
            for batch in batches:
                shape = {"outputs": outputs, "inputs": inputs, "batch": batch}
                out.append({"part": "layer", **shape, "threads": count, "instructions": "all"})
    for outputs, inputs, batches in settings["older"]:
        for batch in batches:
            shape = {"outputs": outputs, "inputs": inputs, "batch": batch}
            out.append({"part": "layer", **shape, "threads": 1, "instructions": "older"})
    return out


def run(settings: Mapping, unit: Mapping, seed: int, run: Run) -> dict:
    """One row; see the module."""
    if unit["part"] == "limits":
        with using(torch=unit["threads"]):
            order = settings["order"]
            ceilings = limits(run.device, size=max(settings["sweep"], 4 << 20), order=order)
        return {"limits": {k: _short(v) for k, v in ceilings.items()}, **state(run.device)}
    if unit["instructions"] == "older":
        return _elsewhere(settings, unit, seed)
    with using(torch=unit["threads"]):
        return {"schemes": measure(settings, unit, seed, run.device), **state(run.device)}


def _short(value: float, digits: int = 4) -> float:
    """So many significant digits: the rest of a time is noise, and a record is read by people."""
    return float(f"{value:.{digits}g}")


@lru_cache(maxsize=1)
def _weight(outputs: int, inputs: int, seed: int, device: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(outputs, inputs, generator=generator).to(device)


_STORED: dict[tuple, tuple[Kernel, Kernel] | str] = {}


def _stored(name: str, key: tuple, batch: int) -> tuple[Kernel, Kernel] | str:
    """The kernel and its sibling, the same on a copy, or the reason why there is none; kept for the layer's batches."""
    if any(wanted[1] != key for wanted in _STORED):
        _STORED.clear()
    wanted = (name, key, batch if name.endswith("packed") else 1)
    if wanted not in _STORED:
        weight = _weight(*key)
        try:
            _STORED[wanted] = prepare(name, weight, wanted[2]), prepare(name, weight.clone(), wanted[2])
        except Unavailable as reason:
            _STORED[wanted] = str(reason)
    return _STORED[wanted]


def measure(settings: Mapping, unit: Mapping, seed: int, device: str) -> dict[str, dict]:
    """Every scheme on one layer and batch: bytes, error, milliseconds, ratio to the best dense baseline of the round.

    Returns
    -------
    dict by scheme: {"unavailable": reason}, or
        "bytes" : of the tensors that the kernel reads; "error" : of its arithmetic, relative;
        "cold", "hot" : quartiles in milliseconds; "ratio", "hot_ratio" : median over rounds of the quotient with the
        fastest of `settings["baseline"]` in the same round (below 1: faster than dense).
    """
    shape, batch = (unit["outputs"], unit["inputs"]), unit["batch"]
    generator = torch.Generator().manual_seed(2000 + seed)
    x = torch.randn(batch, shape[1], generator=generator).to(device)
    rows: dict[str, dict] = {}
    calls, siblings = {}, {}
    for name in settings["schemes"]:
        stored = _stored(name, (*shape, seed, device), batch)
        if isinstance(stored, str):
            rows[name] = {"unavailable": stored}
            continue
        kernel, sibling = stored
        try:
            prepared = kernel.inputs(x)
            error = kernel.error(x, 64 if shape[0] * shape[1] < LARGEST_EXACT else 8)
        except RuntimeError as reason:  # a batch that this kernel does not take
            rows[name] = {"unavailable": str(Unavailable(reason))}
            continue
        rows[name] = {"bytes": kernel.bytes, "error": _short(error, 2)}
        calls[name] = lambda run=kernel.run, prepared=prepared: run(prepared)
        siblings[name] = lambda run=sibling.run, prepared=prepared: run(prepared)
    watch = Stopwatch(device, settings["sweep"])
    seconds = interleave(calls, watch, rounds=settings["rounds"], siblings=siblings, seconds=settings["seconds"])
    names = tuple(settings["baseline"])
    base = {kind: fastest(seconds, names, kind) for kind in ("cold", "hot")}
    for name, times in seconds.items():
        rows[name] |= {kind: [_short(1e3 * t) for t in quartiles(times[kind])] for kind in ("cold", "hot")}
        rows[name]["ratio"] = _short(median_ratio(times["cold"], base["cold"]))
        rows[name]["hot_ratio"] = _short(median_ratio(times["hot"], base["hot"]))
    return rows


def _elsewhere(settings: Mapping, unit: Mapping, seed: int) -> dict:
    """The same row from a process in which the newer instructions are forbidden before torch looks for them."""
    chosen = [s for s in settings["schemes"] if scheme(s).kind != "pruning" and not s.startswith("2:4")]
    task = {"settings": {**settings, "schemes": chosen}, "unit": dict(unit), "seed": seed}
    code = "import prunequant.cases.hardware.case as h; h.answer()"
    source = str(Path(__file__).resolve().parents[3])
    places = os.pathsep.join(p for p in (source, os.environ.get("PYTHONPATH", "")) if p)
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(task),
        env={**os.environ, **OLDER, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"the process with older instructions failed: {process.stderr.strip()[-300:]}")
    return json.loads(process.stdout)


def answer() -> None:
    """Read a task from standard input, measure it on the CPU, write the row to standard output."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["unit"]["threads"])
    schemes = measure(task["settings"], task["unit"], task["seed"], "cpu")
    capability = torch.backends.cpu.get_cpu_capability()
    json.dump({"schemes": schemes, "capability": capability, **state("cpu")}, sys.stdout)


def summarise(settings: Mapping, rows: list[dict]) -> dict:
    """Medians over seeds by layer, batch, threads and scheme; where schemes cross dense; the machine's limits."""
    table = []
    for unit in units(settings):
        same = [r for r in rows if all(r.get(k) == v for k, v in unit.items())]
        if unit["part"] == "limits" or not same:
            continue
        for name in settings["schemes"]:
            timed = [r["schemes"][name] for r in same if "ratio" in r["schemes"].get(name, {})]
            if timed:
                table.append({**unit, "scheme": name, **_middle(unit, name, timed)})
    missing = {
        name: row["schemes"][name]["unavailable"]
        for row in rows
        if row["part"] == "layer" and row["instructions"] == "all"
        for name in row["schemes"]
        if "unavailable" in row["schemes"][name]
    }
    measured = [r for r in rows if r["part"] == "limits"]
    counts = sorted({r["threads"] for r in measured})
    return {
        "limits": [{"threads": t} | _best([r["limits"] for r in measured if r["threads"] == t]) for t in counts],
        "table": table,
        "unavailable": missing,
        "density": density_crossings(table),
        "batch": batch_crossings(table),
    }


def _best(rows: list[dict]) -> dict[str, float]:
    return {k: max(f[k] for f in rows if k in f) for k in rows[0]} if rows else {}


def _middle(unit: Mapping, name: str, rows: list[dict]) -> dict:
    """Medians over seeds, the range of the ratio, and what bytes and operations make of the cold time."""
    shape, batch = (unit["outputs"], unit["inputs"]), unit["batch"]
    cold = statistics.median(f["cold"][1] for f in rows)
    return {
        "bytes": rows[0]["bytes"],
        "formula": stored_bytes(name, *shape),
        "error": max(f["error"] for f in rows),
        "cold": _short(cold),
        "hot": _short(statistics.median(f["hot"][1] for f in rows)),
        "ratio": _short(statistics.median(f["ratio"] for f in rows)),
        "hot_ratio": _short(statistics.median(f["hot_ratio"] for f in rows)),
        "low": min(f["ratio"] for f in rows),
        "high": max(f["ratio"] for f in rows),
        "bytes_per_second": _short(moved_bytes(name, *shape, batch) / cold * 1e3),
        "operations_per_second": _short(operations(name, *shape, batch) / cold * 1e3),
    }


def _groups(table: list[dict], keys: tuple[str, ...]) -> Iterator[tuple[dict, list[dict]]]:
    chosen = [row for row in table if row["instructions"] == "all"]
    for values in dict.fromkeys(tuple(row[k] for k in keys) for row in chosen):
        yield dict(zip(keys, values)), [r for r in chosen if tuple(r[k] for k in keys) == values]


def density_crossings(table: list[dict]) -> list[dict]:
    """By layer, batch and threads: the least pruned fraction of CSR that beat dense, and the largest that did not."""
    out = []
    for key, rows in _groups(table, ("outputs", "inputs", "batch", "threads")):
        by = sorted((scheme(r["scheme"]).pruned, r["ratio"]) for r in rows if r["scheme"].startswith("csr"))
        if by:
            wins = [p for p, ratio in by if ratio < 1]
            loses = [p for p, ratio in by if ratio >= 1]
            out.append({**key, "loses": max(loses, default=None), "wins": min(wins, default=None)})
    return out


def batch_crossings(table: list[dict]) -> list[dict]:
    """By layer, threads and quantized scheme: the largest batch that beat dense float32, the least that did not."""
    out = []
    for key, rows in _groups(table, ("outputs", "inputs", "threads", "scheme")):
        if scheme(key["scheme"]).kind == "quantization":
            wins = [r["batch"] for r in rows if r["ratio"] < 1]
            loses = [r["batch"] for r in rows if r["ratio"] >= 1]
            out.append({**key, "wins": max(wins, default=None), "loses": min(loses, default=None)})
    return out


CASE = Case(
    name="hardware",
    title="What a linear layer costs on this machine",
    presets=PRESETS,
    units=units,
    run=run,
    summarise=summarise,
    timed=True,
)
