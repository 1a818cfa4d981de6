"""The process in which calls are made: one task a line on its input, one JSON line an outcome on its output.

A call that uses up its seconds of processor time is ended by the kernel (SIGPROF, so that compiled loops end too), and
the process with it; the address space is limited, so that an absurd request of memory is a MemoryError.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

MEMORY = 2 << 30  # bytes above what the imports take
COMPILING = 120.0  # seconds for a canonical call and for its twins, which may compile a kernel


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    folder = tempfile.TemporaryDirectory(prefix="surface-")
    os.chdir(folder.name)
    warnings.simplefilter("error", RuntimeWarning)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)

    from surface import calls, judge, values, walk

    calls.prepare_folder()
    known = {target.name: target for target in walk.targets()}
    if Path("/proc/self/statm").exists():  # Linux; elsewhere memory is not limited
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    limit = 5.0

    def say(**fields: object) -> None:
        replies.write(json.dumps(fields) + "\n")

    @contextmanager
    def timed(seconds: float) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def reference(target: walk.Target, name: str | None) -> tuple[list | None, str]:
        try:
            with timed(COMPILING):
                flat, _ = judge.run(target, name)
                if flat[-1] > judge.SECONDS:  # once more, compiled
                    flat, _ = judge.run(target, name)
        except Exception as error:
            return None, f"{type(error).__name__}: {str(error)[:200]}"
        return flat[:-1], f"{flat[-1]:.2f} s" if flat[-1] > judge.SECONDS else ""

    def work(task: dict) -> None:
        target, name = known[task["target"]], task["parameter"]
        say(begin="canonical")
        if name is None:
            flat, fault = reference(target, None)
            say(case="canonical", kind="accepted" if flat is not None else "canonical", detail=fault, seconds=0)
            return
        flat, fault = reference(target, name)
        if not task["skip"]:
            say(case="canonical", kind="accepted" if flat is not None else "canonical", detail=fault, seconds=0)
        given = calls.arguments(target, name)
        cases = values.catalogue(target.parameters[name], given.get(name))
        if task["sample"] is not None:
            count, seed = task["sample"]
            draw = random.Random(f"{seed} {target.name} {name}")
            cases = draw.sample(cases, min(count, len(cases)))
        for case in cases:
            if case.label in task["skip"]:
                continue
            say(begin=case.label)
            long = calls.LONG.get(f"{target.name}: {name}", 0.0)
            allowance = partial(timed, COMPILING if case.same else max(limit, long))
            outcome = judge.judge(target, name, case, flat, allowance)
            if judge.SECONDS < outcome.seconds and not outcome.seconds < long:  # once more, compiled
                outcome = judge.judge(target, name, case, flat, allowance)
            say(case=case.label, kind=outcome.kind, detail=outcome.detail, seconds=round(outcome.seconds, 3))

    for line in sys.stdin:
        task = json.loads(line)
        limit = task["limit"]
        try:
            work(task)
        except Exception:  # a fault of the test itself
            say(broken=traceback.format_exc())
        say(end=True)


if __name__ == "__main__":
    main()
