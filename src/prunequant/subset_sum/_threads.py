"""Rows over threads: the kernels release the interpreter lock, so plain threads share out the rows.

Plain threads rather than a compiled thread pool: a compiled pool may neither be entered from two threads at once nor
survive a fork, and sweeps do both. Every row is a pure function of its input, so the split never changes a result.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba

MIN_ROWS = 64


def run_rows(work: Callable[[int, int], object], rows: int, minimum: int = MIN_ROWS, pieces: int = 4) -> list:
    """Call ``work(start, stop)`` over [0, rows), on as many threads as `numba.get_num_threads()` allows.

    A thread has at least `minimum` rows and gets about `pieces` stretches of them: few where a stretch sets up
    large tables.
    """
    threads = min(numba.get_num_threads(), max(1, rows // max(1, minimum)))
    if threads <= 1:
        return [work(0, rows)]
    pieces = min(pieces * threads, rows)
    edges = [rows * k // pieces for k in range(pieces + 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, edges[:-1], edges[1:]))


def apart(words: int) -> int:
    """At least `words` 8-byte words: two buffers of this length in a row never lie a multiple of 4096 bytes apart.

    Loads and stores at such distances look alike to the store buffer, and a shift-or over them runs at a fraction of
    its speed.
    """
    return words + (72 - words) % 512
