"""Threads: how many, for whom, and rows shared out among them.

Numba's OpenMP layer sets the number of threads of the runtime that torch shares with it. Sums that torch splits among
threads (the statistics of batch normalisation, say) then come out different in their last bits: a run would depend on
which kernel was called before it. So a number of threads is set, and given back, in one place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numba

from . import arguments

MIN_ROWS = 64
MAX_THREADS = 1 << 16


def _most_kernel_threads() -> int:
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # numba's settings are set when it is imported


@contextmanager
def using(torch: int | None = None, kernels: int | None = None) -> Iterator[int | None]:
    """So many threads for torch and for compiled kernels inside the block; both are given back what they had.

    Parameters
    ----------
    torch : int in [1, 65536] or None — threads of torch; None leaves them as they are, and so keeps them through
        kernels that start inside
    kernels : int in [1, threads of numba] or None — threads of compiled kernels, likewise

    Yields
    ------
    int or None — torch's number of threads inside the block; None where it has not been imported and none is asked for

    Raises
    ------
    TypeError, ValueError : a number of threads that is none, before any work

    Examples
    --------
    >>> import numba
    >>> before = numba.get_num_threads()
    >>> with using(kernels=1):
    ...     numba.get_num_threads()
    1
    >>> numba.get_num_threads() == before
    True
    """
    if torch is not None:
        torch = arguments.integer(torch, "torch", 1, MAX_THREADS)
        import torch as library
    else:
        library = sys.modules.get("torch")
    if kernels is not None:
        kernels = arguments.integer(kernels, "kernels", 1, _most_kernel_threads())
    threads = library.get_num_threads() if library else None
    of_kernels = numba.get_num_threads()  # starts numba's threads: a later start would undo what is set here
    try:
        if kernels is not None:
            numba.set_num_threads(kernels)
        if threads is not None:
            pin(torch or threads)
        yield torch or threads
    finally:
        if kernels is not None:
            numba.set_num_threads(of_kernels)
        if threads is not None:
            pin(threads)


def pin(threads: int | None) -> None:
    """Set torch's number of threads, in [1, 65536], where it is another; None leaves it as it is."""
    if threads is not None:
        threads = arguments.integer(threads, "threads", 1, MAX_THREADS)
    import torch

    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def run_rows(work: Callable[[int, int], object], rows: int, minimum: int = MIN_ROWS, pieces: int = 4) -> list:
    """Call ``work(start, stop)`` over [0, rows), on as many threads as `numba.get_num_threads()` allows.

    A thread has at least `minimum` rows and gets about `pieces` stretches of them: few where a stretch sets up
    large tables. The kernels release the interpreter lock, so plain threads share out the rows: a compiled pool may
    neither be entered from two threads at once nor survive a fork, and sweeps do both. Every row is a pure function of
    its input, so the split never changes a result.

    Raises
    ------
    TypeError, ValueError : a work that is no function, negative rows, no row a thread, pieces outside [1, 1024].

    Examples
    --------
    >>> run_rows(lambda start, stop: stop - start, 10)
    [10]
    """
    arguments.function(work, "work", "a function of a first row and the row after the last")
    rows, minimum = arguments.integer(rows, "rows", 0), arguments.integer(minimum, "minimum", 1)
    pieces = arguments.integer(pieces, "pieces", 1, 1024)
    threads = min(numba.get_num_threads(), max(1, rows // minimum))
    if threads <= 1:
        return [work(0, rows)]
    pieces = min(pieces * threads, rows)
    edges = [rows * k // pieces for k in range(pieces + 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))
