"""Torch's number of threads, kept while compiled kernels run.

Numba's OpenMP layer sets the number of threads of the runtime that torch shares with it. Sums that torch splits among
threads (the statistics of batch normalisation, say) then come out different in their last bits: a run would depend on
which kernel was called before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept() -> Iterator[int]:
    """Run a block of code and give torch the number of threads back that it had before.

    >>> before = torch.get_num_threads()
    >>> with kept() as threads:
    ...     torch.set_num_threads(threads + 1)
    >>> torch.get_num_threads() == before
    True
    """
    threads = torch.get_num_threads()
    try:
        yield threads
    finally:
        pin(threads)


def pin(threads: int) -> None:
    """Set torch's number of threads where it is another."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
