"""Times that can be compared: contenders take turns, caches are emptied, and what is kept is the ratio of neighbours.

Two kernels timed minutes apart measure the machine's mood. Here every round calls every contender once. A *cold* time
is that of one call on weights that more bytes than the caches hold have driven out, while the program and the inputs
are in them, as a layer of a large network finds its own; a *hot* time is the mean of calls that follow each other on
the same weights.

On a GPU the times are those between two events on the stream; a short wait on the device lets the launches queue up
first, so that not the speed of Python is timed. On a CPU they are wall seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping

import torch

from prunequant import arguments
from prunequant.timing.devices import check_device

LEAST = 5e-4  # seconds that a hot sample lasts at least on a CPU
HOT_CALLS = 20  # calls in a hot sample on a GPU, fewer where they last longer than MOST
MOST = 0.02  # seconds
MAX_SWEEP = 1 << 30
MAX_ROUNDS = 10_000
KINDS = ("cold", "hot")
WAIT = 400_000  # clock ticks of the device for which a launch queue is held back


class Stopwatch:
    """Seconds of one call, cold or hot, on a device.

    Parameters
    ----------
    device : "cpu" or "cuda".
    sweep : bytes that pass through the caches before a cold call, in [4, 2**30]; twice the largest cache or more.
    """

    def __init__(self, device: str, sweep: int = 96 << 20) -> None:
        found, sweep = check_device(device), arguments.integer(sweep, "sweep", 4, MAX_SWEEP)
        self.cuda = found.type == "cuda"
        self._sweep = torch.ones(sweep // 4, device=found)

    def cold(self, call: Callable[[], object], sibling: Callable[[], object] | None = None) -> float:
        """Seconds of a single call with emptied caches; a sibling, the same on other weights, warms the program."""
        arguments.function(call, "call")
        if sibling is not None:
            arguments.function(sibling, "sibling", "a function, or None")
        self._sweep.zero_() if self.cuda else self._sweep.sum()
        if sibling is not None:
            sibling()
        if self.cuda:
            return self._events(call, 1)
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def hot(self, call: Callable[[], object], about: float) -> float:
        """Seconds per call in a run of calls after an uncounted one; `about` says roughly how long one takes."""
        arguments.function(call, "call")
        about = arguments.real(about, "about", 0)
        call()
        if self.cuda:
            count = max(1, min(HOT_CALLS, int(MOST / max(about, 1e-7))))
            return self._events(call, count) / count
        count = max(1, round(LEAST / max(about, 1e-7)))
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    def _events(self, call: Callable[[], object], count: int) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(WAIT * (1 + count // 4))
        begin.record()
        for _ in range(count):
            call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3


def captured(call: Callable[[], object]) -> tuple[Callable[[], object], bool]:
    """The work of a call as one CUDA graph, launched at once, and whether that was possible; else the call itself.

    Thousands of small kernels launched one by one would time the launching.
    """
    try:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            call()
            call()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay, True
    except RuntimeError:
        torch.cuda.synchronize()
        return call, False


def interleave(
    calls: Mapping[str, Callable[[], object]],
    watch: Stopwatch,
    *,
    rounds: int,
    siblings: Mapping[str, Callable[[], object]] | None = None,
    hot: bool = True,
    seconds: float = float("inf"),
) -> dict[str, dict[str, list[float]]]:
    """Seconds of every call in every round, {name: {"cold": [...], "hot": [...]}}; one uncounted round comes first.

    Parameters
    ----------
    siblings : by name the same work on other weights, called before a cold time.
    rounds : rounds that count, in [1, 10000]. Fewer, but at least 3, if they would take longer than `seconds`.
    """
    calls, siblings = _functions(calls, "calls"), _functions({} if siblings is None else siblings, "siblings")
    arguments.instance(watch, "watch", Stopwatch, "a Stopwatch")
    rounds, hot = arguments.integer(rounds, "rounds", 1, MAX_ROUNDS), arguments.flag(hot, "hot")
    if not (isinstance(seconds, float) and seconds == float("inf")):
        seconds = arguments.real(seconds, "seconds", 0)
    out: dict[str, dict[str, list[float]]] = {name: {"cold": [], "hot": []} for name in calls}
    about = {}
    begin = time.perf_counter()
    for name, call in calls.items():
        call()
        about[name] = watch.cold(call) if hot else 0.0
    took = time.perf_counter() - begin
    if rounds * took > seconds:
        rounds = min(rounds, max(3, int(seconds / took)))
    for _ in range(rounds):
        for name, call in calls.items():
            out[name]["cold"].append(watch.cold(call, siblings.get(name)))
            if hot:
                out[name]["hot"].append(watch.hot(call, min(about[name], out[name]["cold"][-1])))
    return out


def fastest(seconds: Mapping[str, Mapping[str, list[float]]], names: tuple[str, ...], kind: str) -> list[float]:
    """Per round, the shortest time among these contenders: the baseline that a ratio is taken to."""
    kind = arguments.choice(kind, "kind", KINDS)
    arguments.instance(seconds, "seconds", Mapping, "what interleave returns")
    words = [
        arguments.instance(name, f"names[{i}]", str, "the name of a contender")
        for i, name in enumerate(arguments.several(names, "names", "a sequence of names"))
    ]
    present = [_times(seconds[name][kind], "seconds") for name in words if name in seconds]
    if not present:
        raise ValueError(
            f"names is {', '.join(words) or 'empty'}: none of them is in seconds, and a ratio needs a baseline"
        )
    return [min(times) for times in zip(*present, strict=True)]


def median_ratio(times: list[float], baseline: list[float]) -> float:
    """Median over rounds of time / baseline of the same round."""
    found, base = _times(times, "times"), _times(baseline, "baseline")
    if len(found) != len(base) or not all(base):
        raise ValueError(
            f"times and baseline have {len(found)} and {len(base)} values: give the same rounds, none of 0 s"
        )
    return statistics.median(a / b for a, b in zip(found, base))


def quartiles(times: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile; of fewer than two values the value itself."""
    times = _times(times, "times")
    if len(times) < 2:
        return [times[0]] * 3
    return list(statistics.quantiles(times, n=4, method="inclusive"))


def _times(given: object, name: str) -> list[float]:
    """Seconds of some rounds, of one at least."""
    found = arguments.numbers(given, name)
    if found.ndim != 1 or not found.size or (found < 0).any():
        raise ValueError(f"{name} has shape {found.shape}: it must hold the seconds of each round, none negative")
    return found.astype(float).tolist()


def _functions(given: Mapping[str, Callable[[], object]], name: str) -> dict[str, Callable[[], object]]:
    found = dict(arguments.instance(given, name, Mapping, "a mapping from names to functions"))
    return {at: arguments.function(call, f"{name}[{at!r}]") for at, call in found.items()}


def limits(device: str, *, size: int = 64 << 20, order: int = 1024, rounds: int = 3) -> dict[str, float]:
    """What the machine can do, measured: bytes per second of a copy and of a read, operations per second of products.

    Parameters
    ----------
    size : bytes of the arrays that are copied and read; more than the caches hold.
    order : the products are (order, order) by (order, order).

    Returns
    -------
    dict : "copy" (bytes read and written), "read" in bytes/s; "fp32", "bf16", "int8" in operations/s, each the best
        of the rounds over the kernels there are. What cannot run is absent.
    """
    watch = Stopwatch(device, sweep=4)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    a = torch.randn(order, order, device=device)
    half, codes = a.bfloat16(), a.clamp(-3, 3).mul(30).to(torch.int8)
    contenders = {
        "copy": (2 * size, lambda: target.copy_(source)),
        "read": (size, lambda: source.sum()),
        "fp32": (2 * order**3, lambda: a @ a),
        "bf16": (2 * order**3, lambda: half @ half),
        "int8": (2 * order**3, lambda: torch._int_mm(codes, codes.t())),  # the layout that tensor cores take
    }
    if torch.device(device).type == "cpu":
        packed = torch.ops.mkldnn._reorder_linear_weight(a, order)
        contenders["fp32 packed"] = (
            2 * order**3,
            lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""),
        )
    rates = {}
    for name, (work, call) in contenders.items():
        try:
            call()
            rates[name] = work / min(watch.cold(call) for _ in range(rounds))
        except RuntimeError:
            continue
    rates["fp32"] = max(rates["fp32"], rates.pop("fp32 packed", 0.0))
    return rates


def state(device: str) -> dict[str, object]:
    """What disturbs a timing: load average on a CPU, clocks, power and temperature of a GPU where the driver tells."""
    about: dict[str, object] = {"load": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}
    if check_device(device).type == "cuda":
        query = "clocks.sm,clocks.mem,power.draw,temperature.gpu"
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        try:
            about["gpu"] = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            about["gpu"] = "unknown"
    return about
