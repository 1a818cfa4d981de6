"""Grids of seeded runs: here, on threads or processes, or on a Dask cluster; a killed sweep resumes where it stopped.

A work unit is a pure function of its parameters and a seed. Its result is stored under a hash of both, so that a unit
is never computed twice and never counted twice, whatever the executor and however often the run was interrupted.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np


class Store:
    """An append-only file of JSON lines, one finished work unit a line, keyed by its hash.

    A run that is killed while it writes leaves at most one unfinished line; it is cut off when the store is opened
    again.

    Raises
    ------
    ValueError : a line before the last is not a stored unit; the message names the file and the line.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.rows: dict[str, dict] = {}
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                self.rows[entry["key"]] = entry["row"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number}: not a stored work unit ({error})") from None
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def add(self, key: str, row: dict) -> None:
        """Append one finished unit and flush it to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "row": row}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows[key] = row


def unit_key(function: Callable, parameters: Mapping, seed: int) -> str:
    """Hash of what determines a work unit: the function's name and source, its parameters, its seed.

    A changed function gets new keys, so that an old store never answers for new code.
    """
    try:
        body = inspect.getsource(function)
    except (OSError, TypeError):
        body = ""
    name = f"{function.__module__}.{function.__qualname__}"
    text = json.dumps([name, body, sorted(parameters.items()), int(seed)], default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def plain(value: object) -> object:
    """JSON form of NumPy numbers and arrays and of paths; anything else is an error that names the type."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a work unit's parameters and results must be plain values, not {type(value).__name__}")


def grid(**axes: Sequence) -> list[dict]:
    """All combinations of the named axes, the last axis turning fastest.

    Examples
    --------
    >>> grid(n=[1, 2], bits=[4])
    [{'n': 1, 'bits': 4}, {'n': 2, 'bits': 4}]
    """
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def sweep(
    function: Callable[..., Mapping],
    grid: Iterable[Mapping],
    seeds: Iterable[int] = (0,),
    executor: Executor | None = None,
    store: Store | str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict]:
    """Run `function(**parameters, seed=seed)` over a grid and seeds; each unit once, ever.

    Parameters
    ----------
    function : pure, importable by other processes; returns a mapping of plain values.
    grid : the parameter sets, for instance `grid(n=[8, 16])`.
    seeds : every parameter set is run under each of them.
    executor : any `concurrent.futures` executor: threads, processes, `dask.distributed.Client(…).get_executor()`.
    store : a `Store` or its path; units found there are not run again.
    progress : called with (units done, units in all), those found in the store included.

    Returns
    -------
    one dict a unit, parameters and seed and result together, in the order of the grid and the seeds.

    Raises
    ------
    TypeError : a result that JSON cannot hold. What was finished before stays in the store.

    Examples
    --------
    >>> def area(width, height, seed):
    ...     return {"area": width * height}
    >>> sweep(area, grid(width=[2, 3], height=[5]))
    [{'width': 2, 'height': 5, 'seed': 0, 'area': 10}, {'width': 3, 'height': 5, 'seed': 0, 'area': 15}]
    """
    kept = store if isinstance(store, Store) else Store(store) if store is not None else None
    units = [(unit_key(function, p, s), dict(p), int(s)) for p, s in itertools.product(list(grid), list(seeds))]
    rows: dict[str, dict] = {}
    missing: dict[str, tuple[dict, int]] = {}
    for key, parameters, seed in units:
        if kept is not None and key in kept:
            rows[key] = kept.rows[key]
        else:
            missing[key] = (parameters, seed)
    total = len(rows) + len(missing)

    def finish(key: str, result: Mapping) -> None:
        parameters, seed = missing[key]
        row = json.loads(json.dumps({**parameters, "seed": seed, **result}, default=plain))
        if kept is not None:
            kept.add(key, row)
        rows[key] = row
        if progress is not None:
            progress(len(rows), total)

    if executor is None:
        for key, (parameters, seed) in missing.items():
            finish(key, function(**parameters, seed=seed))
    else:
        futures = {executor.submit(function, **p, seed=s): key for key, (p, s) in missing.items()}
        for future in as_completed(futures):
            finish(futures[future], future.result())
    return [rows[key] for key, _, _ in units]


def write_json(path: str | os.PathLike, rows: object) -> Path:
    """Write JSON beside its place and rename it there, so that no reader ever sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def provenance(command: str, **more: object) -> dict:
    """What a recorded run must say of itself: command, date, versions, processor, threads.

    `more` adds fields (device, trials, wall seconds). No path of the machine is recorded.
    """
    packages = ("prunequant", "numpy", "scipy", "numba", "torch", "ml_dtypes", "cvxpy", "clarabel")
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        **more,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Stopwatch:
    """Wall seconds of a `with` block, for records; never for a test.

    Examples
    --------
    >>> with Stopwatch() as watch:
    ...     pass
    >>> watch.seconds >= 0
    True
    """

    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self._start
