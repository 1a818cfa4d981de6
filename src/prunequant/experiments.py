"""Grids of seeded runs: here, on threads or processes, or on a Dask cluster; a killed sweep resumes where it stopped.

A work unit is a pure function of its parameters and a seed. Its row is stored under a hash of four things: the name of
the function, a version that its author raises when results may change, the parameters, and the seed. So a unit is never
computed twice and never counted twice, whatever the executor and however often the run was interrupted, and a
function that moves or is tidied up keeps its rows. The code itself is not hashed: what a function calls may change its
results as well, and only its author knows when. Each stored row carries a checksum, so that a damaged or edited row is
named and never taken for a result.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import FunctionType
from typing import BinaryIO

import numpy as np

from . import arguments

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAX_UNITS = 10**7
LOCK = "lock"  # the file in a run's folder that it holds


def lock(file: BinaryIO, wait: bool = True) -> bool:
    """Lock an open file against other processes until it is closed; False if another holds it and `wait` is not set.

    The system gives the lock back when its process ends, however it ends. On a file system without locks this returns
    True at once: there, one process at a time is the reader's own duty.
    """
    wait = arguments.flag(wait, "wait")
    if not callable(getattr(file, "fileno", None)):
        raise TypeError(f"file is {arguments.shown(file)}: it must be an open binary file")
    if sys.platform == "win32":
        place = file.tell()
        file.seek(2**62)  # far behind the end, so that reading is never blocked
        try:
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    return True
                except OSError:
                    if not wait:
                        return False
                time.sleep(0.05)
        finally:
            file.seek(place)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    return True


@contextmanager
def alone(path: str | os.PathLike) -> Iterator[None]:
    """Inside the block this process is alone with the lock file `path`; others wait for it.

    For what several processes of a run need and one of them makes. The file and its folder are made if need be. Blocks
    of one process must not nest on one path.

    Raises
    ------
    TypeError, ValueError : no path, or one without a name.
    OSError : the file cannot be made.

    Examples
    --------
    >>> from prunequant import records
    >>> with alone(records.scratch("made once.lock")):
    ...     pass
    """
    place = arguments.path(path, "path", file=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("ab") as file:
        lock(file)
        yield


def checksum(key: str, row: Mapping) -> str:
    """A hash of a row together with its key, so that neither a changed row nor two swapped rows pass.

    Examples
    --------
    >>> checksum("a", {"n": 1}) == checksum("a", {"n": 1}), checksum("a", {"n": 1}) == checksum("b", {"n": 1})
    (True, False)
    """
    arguments.instance(key, "key", str, "a string")
    arguments.instance(row, "row", Mapping, "a mapping of plain values by name")
    try:
        text = json.dumps([key, row], sort_keys=True, separators=(",", ":"))
    except TypeError as error:
        raise TypeError(f"row holds what JSON has no form for ({error})") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """A file of JSON lines, one finished work unit a line: its key, its row, a checksum of both.

    Lines are only ever appended, under a lock, so that several processes may fill one store; a unit that two of them
    finish is kept once, as it was finished first. A run that is killed while it writes, or whose disk is full, leaves
    at most one unfinished line at the end of the file: it is not read, and the next row that is added takes its place.

    Raises
    ------
    ValueError : a finished line is no stored unit, has no checksum (stores from before there were checksums, whose keys
        are others too) or does not match it; the message names the file and the line.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "units.jsonl"
    >>> Store(place).add("a", {"n": 1})
    >>> Store(place).rows
    {'a': {'n': 1}}
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = arguments.path(path, "path")
        self.rows: dict[str, dict] = {}
        self._end = 0  # of the last whole line that was read
        self._lines = 0
        if self.path.exists():
            with self.path.open("rb") as file:
                self._take(file)

    def _take(self, file: BinaryIO) -> bool:
        """Read the whole lines behind those that are known; True if an unfinished one follows them."""
        if file.seek(0, os.SEEK_END) < self._end:
            raise ValueError(f"{self.path} is shorter than it was: it was changed or replaced while it was in use")
        file.seek(self._end)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].split(b"\n")[:-1]:
            self._lines += 1
            try:
                entry = json.loads(line)
                key, row, check = entry["key"], entry["row"], entry.get("check")
                if check is None:
                    raise ValueError("it has no checksum; stores written before there were any cannot be used")
                if check != checksum(key, row):
                    raise ValueError("it does not match its checksum")
                self.rows.setdefault(key, row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(
                    f"{self.path}, line {self._lines}: not a stored work unit ({error}); "
                    "delete the line to compute its unit again"
                ) from None
            self._end += len(line) + 1
        return whole < len(data)

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def refresh(self) -> None:
        """Take the rows that other processes have added meanwhile.

        Raises
        ------
        ValueError : a line that is no stored unit, or a file that is shorter than it was.
        """
        if self.path.exists():
            with self.path.open("rb") as file:
                self._take(file)

    def add(self, key: str, row: Mapping) -> None:
        """Append one finished unit and force it to the disk; nothing happens if the store has that unit already.

        Raises
        ------
        OSError : it could not be written; what the file held before is untouched, and the store may be used further.
        ValueError : another process left a damaged line meanwhile.
        """
        arguments.instance(key, "key", str, "a string")
        arguments.instance(row, "row", Mapping, "a mapping of plain values by name")
        stored: dict = json.loads(json.dumps(row, default=plain))
        line = json.dumps({"key": key, "row": stored, "check": checksum(key, stored)}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", 0) as file:
            lock(file)
            torn = self._take(file)
            if key in self.rows:
                return
            try:
                if torn:  # nobody else is writing now, so this is what a killed process left
                    file.truncate(self._end)
                file.seek(self._end)
                rest = memoryview(line.encode("utf-8", "surrogatepass"))
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(self._end)
                raise
            self._end = file.tell()
            self._lines += 1
        self.rows[key] = stored


def unit_key(name: str, version: int, parameters: Mapping, seed: int) -> str:
    """Hash of what determines a work unit: a name, the version of its results, its parameters, its seed.

    Parameters
    ----------
    name : of the function, lasting: a function that moves keeps it.
    version : from 1 on; its author raises it when results may change, and every unit is then run anew.
    parameters : plain values by name; the order of names does not matter.
    seed : an integer in [-2**63, 2**64 - 1].

    Raises
    ------
    TypeError, ValueError : an argument of another kind or out of range.

    Examples
    --------
    >>> unit_key("area", 1, {"width": 2, "height": 5}, 0) == unit_key("area", 1, {"height": 5, "width": 2}, 0)
    True
    >>> unit_key("area", 1, {"width": 2}, 0) == unit_key("area", 2, {"width": 2}, 0)
    False
    """
    arguments.instance(name, "name", str, "a string")
    arguments.instance(parameters, "parameters", Mapping, "a mapping of plain values by name")
    parts = [name, _version(version), _named(parameters), _seed(seed)]
    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _version(value: int) -> int:
    return arguments.integer(value, "version", 1, 2**31 - 1)


def _seed(value: int, name: str = "seed") -> int:
    return arguments.integer(value, name, -(2**63), 2**64 - 1)


def _named(value: object) -> object:
    """The value, with mappings as dicts; a name that is no string is refused: JSON would merge 1 and "1"."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"the name {arguments.shown(name)} of a parameter is not a string")
        return {name: _named(inner) for name, inner in value.items()}
    return [_named(inner) for inner in value] if isinstance(value, list | tuple) else value


def plain(value: object) -> object:
    """JSON form of NumPy numbers and arrays and of paths; anything else is an error that names the type."""
    if isinstance(value, np.longdouble):  # its own `item`; float64 is what JSON holds
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a work unit's parameters and results must be plain values, not {type(value).__name__}")


def grid(**axes: Sequence) -> list[dict]:
    """All combinations of the named axes, the last axis turning fastest; at most 10**7 of them.

    Raises
    ------
    TypeError : an axis is no sequence of values (a string is none).
    ValueError : too many combinations.

    Examples
    --------
    >>> grid(n=[1, 2], bits=[4])
    [{'n': 1, 'bits': 4}, {'n': 2, 'bits': 4}]
    """
    total = 1
    for name, axis in axes.items():
        sized = isinstance(axis, Iterable) and hasattr(axis, "__len__") and getattr(axis, "ndim", 1) > 0
        if not sized or isinstance(axis, str | bytes):
            raise TypeError(f"{name} is {arguments.shown(axis)}: it must be a sequence of values")
        total *= len(axis)
    if total > MAX_UNITS:
        raise ValueError(f"the grid has {arguments.shown(total)} combinations: at most {MAX_UNITS} are allowed")
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


class _Processes(ProcessPoolExecutor):
    """A pool of fresh processes that end with this one, and at once when its `with` block is left by an error."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, mp_context=get_context("spawn"), initializer=_begin_work)

    def __exit__(self, kind, error, trace) -> bool | None:
        if kind is not None:
            self.kill()
        return super().__exit__(kind, error, trace)

    def kill(self) -> None:
        """End every process now; what is pending is cancelled, what was running fails."""
        processes = list((self._processes or {}).values())
        manager = getattr(self, "_executor_manager_thread", None)
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        if manager is not None:  # else it may close its pipe while Python, at its own end, writes to it
            manager.join(5)


def _begin_work() -> None:
    """In a process of the pool: leave Ctrl-C to the parent, which kills this process; end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def processes(jobs: int) -> ProcessPoolExecutor:
    """An executor of `jobs` fresh processes, for `sweep`: safe whatever this process has computed before.

    Python's own `ProcessPoolExecutor` copies the running process on Linux (before Python 3.14), and a copy of a process
    whose kernels have started OpenMP threads dies or waits for ever. Here every process starts anew: the functions it
    is given must stand in modules (or in a script with `if __name__ == "__main__":`). When the `with` block is left by
    an error or Ctrl-C the processes end at once, and when this process is killed they end too.

    Parameters
    ----------
    jobs : processes, in [1, 61] (Windows allows no more).

    Examples
    --------
    >>> from math import hypot
    >>> with processes(1) as pool:
    ...     pool.submit(hypot, 3, 4).result()
    5.0
    """
    return _Processes(arguments.integer(jobs, "jobs", 1, 61))


def _refuse_unsafe_fork(executor: Executor) -> None:
    """A pool that would copy this process after its kernels started threads is refused: the copies die or hang."""
    context = getattr(executor, "_mp_context", None)
    if not isinstance(executor, ProcessPoolExecutor) or context is None or context.get_start_method() != "fork":
        return
    started = getattr(executor, "_processes", None) or {}
    if len(started) >= getattr(executor, "_max_workers", 1):
        return  # its processes were copied before
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        threads = "torch"
    elif _numba_layer() == "omp":
        threads = "a compiled kernel"
    else:
        return
    raise ValueError(
        f"executor copies this process (start method fork), in which {threads} has started OpenMP threads; the copies "
        "would die or hang: give experiments.processes(jobs), or mp_context=multiprocessing.get_context('spawn')"
    )


def _numba_layer() -> str | None:
    """The threads of numba that run in this process, None when none do."""
    numba = sys.modules.get("numba")
    if numba is None:
        return None
    try:
        return numba.threading_layer()
    except (ValueError, AttributeError):  # not started, or numba is only half imported
        return None


def _lasting_name(function: Callable) -> str | None:
    """`module.qualname` of a function that any process finds under that name, else None."""
    if not isinstance(function, FunctionType) or function.__module__ in (None, "__main__", "__mp_main__"):
        return None
    resolved = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        resolved = getattr(resolved, part, None)
    return f"{function.__module__}.{function.__qualname__}" if resolved is function else None


def sweep(
    function: Callable[..., Mapping],
    grid: Iterable[Mapping],
    seeds: Iterable[int] = (0,),
    executor: Executor | None = None,
    store: Store | str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    name: str | None = None,
    version: int = 1,
) -> list[dict]:
    """Run `function(**parameters, seed=seed)` over a grid and seeds; each unit once, ever.

    Parameters
    ----------
    function : pure, importable by other processes; returns a mapping of plain values.
    grid : the parameter sets, for instance `grid(n=[8, 16])`; at most 10**7 units with the seeds.
    seeds : every parameter set is run under each of them; integers in [-2**63, 2**64 - 1].
    executor : any `concurrent.futures` executor: threads, `processes(jobs)`, a Dask client's `get_executor()`.
    store : a `Store` or its path; units found there are not run again.
    progress : called with (units done, units in all), those found in the store included.
    name : the lasting name under which the store keeps the units. A function of a module need not give it (it is
        `module.name` then); a script's own function, a closure, a lambda, a method or a callable object must, since
        another one could go by the same name. What else such a function depends on belongs into the name.
    version : in [1, 2**31 - 1]; raise it when the results of the function may change, through whatever it calls: the
        store then answers for no earlier version.

    Returns
    -------
    one dict a unit, parameters and seed and result together, in the order of the grid and the seeds.

    Raises
    ------
    TypeError : an argument of the wrong kind; a result that JSON cannot hold.
    ValueError : an argument out of range; a store for a function without a lasting name; a damaged store; an executor
        that copies this process after its kernels have started threads (see `processes`).

    An error of a unit ends the sweep: units not begun are cancelled, and those finished stay in the store.

    Examples
    --------
    >>> def area(width, height, seed):
    ...     return {"area": width * height}
    >>> sweep(area, grid(width=[2, 3], height=[5]))
    [{'width': 2, 'height': 5, 'seed': 0, 'area': 10}, {'width': 3, 'height': 5, 'seed': 0, 'area': 15}]
    """
    arguments.function(function, "function", "a function of parameters and a seed")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor is {arguments.shown(executor)}: it must be a concurrent.futures executor")
    if progress is not None:
        arguments.function(progress, "progress", "a function of two numbers")
    version = _version(version)
    name = _name(function, name, store is not None)
    sets, all_seeds = _parameter_sets(grid), _seeds(seeds)
    if len(sets) * len(all_seeds) > MAX_UNITS:
        raise ValueError(f"the grid and the seeds make {len(sets) * len(all_seeds)} units: above {MAX_UNITS}")
    units = [(unit_key(name, version, p, s), p, s) for p, s in itertools.product(sets, all_seeds)]
    if executor is not None:
        _refuse_unsafe_fork(executor)
    rows_store = (
        store if isinstance(store, Store) else Store(arguments.path(store, "store")) if store is not None else None
    )
    rows: dict[str, dict] = {}
    missing: dict[str, tuple[dict, int]] = {}
    for key, parameters, seed in units:
        if rows_store is not None and key in rows_store:
            rows[key] = rows_store.rows[key]
        else:
            missing[key] = (parameters, seed)
    total = len(rows) + len(missing)

    def finish(key: str, result: Mapping) -> None:
        parameters, seed = missing[key]
        if not isinstance(result, Mapping):
            raise TypeError(
                f"the function {_called(function)} returned {arguments.shown(result)}: it must return a mapping"
            )
        row = json.loads(json.dumps({**parameters, "seed": seed, **result}, default=plain))
        if rows_store is not None:
            rows_store.add(key, row)
            row = rows_store.rows[key]  # another process may have finished it first
        rows[key] = row
        if progress is not None:
            progress(len(rows), total)

    if executor is None:
        for key, (parameters, seed) in missing.items():
            finish(key, function(**parameters, seed=seed))
    else:
        futures = {}
        try:
            for key, (parameters, seed) in missing.items():
                futures[executor.submit(function, **parameters, seed=seed)] = key
            for future in as_completed(futures):
                finish(futures[future], future.result())
        except BaseException:  # Ctrl-C too: else the executor would work off all that is pending before it closes
            for future in futures:
                future.cancel()
            for future, key in futures.items():
                if key not in rows and future.done() and not future.cancelled() and future.exception() is None:
                    with suppress(Exception):  # the first error is the one to raise
                        finish(key, future.result())
            raise
    return [copy.deepcopy(rows[key]) for key, _, _ in units]


def _name(function: Callable, name: str | None, stored: bool) -> str:
    if name is not None:
        return arguments.instance(name, "name", str, "a string")
    lasting = _lasting_name(function)
    if lasting is None and stored:
        raise ValueError(
            f"the store needs a lasting name for {_called(function)}, which is no plain function of a module: give "
            "name='…', with all that tells it from others of its kind, and raise version when its results change"
        )
    return lasting or ""


def _called(function: Callable) -> str:
    return getattr(function, "__qualname__", None) or f"a {type(function).__name__}"


def _parameter_sets(grid: Iterable[Mapping]) -> list[dict]:
    arguments.several(grid, "grid", "a sequence of parameter sets, such as grid(n=[8])")
    sets = list(itertools.islice(grid, MAX_UNITS + 1))
    for parameters in sets:
        arguments.instance(parameters, "a parameter set of the grid", Mapping, "a mapping of plain values by name")
        if "seed" in parameters:
            raise ValueError("the grid has a parameter 'seed': give seeds= instead")
    return [dict(parameters) for parameters in sets]


def _seeds(seeds: Iterable[int]) -> list[int]:
    arguments.several(seeds, "seeds", "a sequence of integers, such as range(4)")
    return [_seed(seed, f"seeds[{i}]") for i, seed in enumerate(itertools.islice(seeds, MAX_UNITS + 1))]


@contextmanager
def workplace(out: str | os.PathLike | None, resume: bool = False) -> Iterator[Path]:
    """The folder of rows and checkpoints of one run, locked: `OUT.partial` beside the record, or a passing one.

    It goes when the block ends without an error, for then the record stands; else what was finished is kept.

    Parameters
    ----------
    out : where the record will go; None for a folder that goes with the block.
    resume : go on with what is there; else neither the record nor a folder with work in it may exist.

    Raises
    ------
    TypeError : no path, or no flag.
    FileExistsError : the record or its folder is there, and `resume` is not set.
    BlockingIOError : another process is at work in the folder.

    Examples
    --------
    >>> with workplace(None) as folder:
    ...     folder.is_dir()
    True
    """
    resume = arguments.flag(resume, "resume")
    if out is None:
        with tempfile.TemporaryDirectory() as passing:
            yield Path(passing)
        return
    record = Path(arguments.instance(out, "out", (str, os.PathLike), "the path of a record"))
    folder = Path(f"{os.fspath(record)}.partial")

    def check() -> None:
        for place, there in ((record, record.exists()), (folder, _holds_work(folder))):
            if there and not resume:
                raise FileExistsError(f"{place} exists: go on with --resume, or move it away")

    check()
    with _locked(folder):
        try:
            check()  # again: another run may have ended meanwhile
            yield folder
        except BaseException:
            if not _holds_work(folder):  # nothing was finished: leave no trace that asks for --resume
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)  # on Windows the lock file stays: it is open


def _holds_work(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(place.name != LOCK for place in folder.iterdir()))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; the lock goes with the process, however it ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / LOCK).open("a+b")
        except FileNotFoundError:  # the run that held it has ended in this moment and removed the folder
            continue
        with file:
            if not lock(file, wait=False):
                raise BlockingIOError(f"another process is at work in {folder}: wait until it has ended")
            try:
                same = os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat())
            except FileNotFoundError:
                same = False
            if same:
                yield
                return


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
