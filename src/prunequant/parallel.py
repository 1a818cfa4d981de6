"""Parallel kernels may be called from several threads at once, on every threading layer of numba.

Of numba's layers `tbb` and `omp` allow that. `workqueue`, which is used where neither of them is installed, ends the
whole process when a second thread enters while a first is inside. There a kernel waits until the other has ended: each
uses all threads, so that nothing is lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps

import numba

from . import arguments


class _Gate:
    """A lock that is taken until numba's threads are known to need none."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """As if nothing had been called yet, with a lock that nobody has taken."""
        self.lock = threading.Lock()
        self.needed = True


_GATE = _Gate()
if hasattr(os, "register_at_fork"):  # a copy of this process has no thread that could give the lock back
    os.register_at_fork(after_in_child=_GATE.renew)


def one_at_a_time(kernel: Callable) -> Callable:
    """A compiled kernel with `parallel=True` behind the lock; the decorator stands above `njit`.

    Such a kernel is called from Python only, never from another kernel.
    """
    arguments.function(kernel, "kernel", "a compiled function")

    @wraps(kernel)
    def call(*given):
        if not _GATE.needed:
            return kernel(*given)
        with _GATE.lock:
            result = kernel(*given)
            with suppress(ValueError):  # without compilation numba starts no threads, and has no layer
                _GATE.needed = numba.threading_layer() == "workqueue"
            return result

    return call
