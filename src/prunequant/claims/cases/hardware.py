"""The claim about time on the recorded machine: timings are read from the record, bytes are counted live."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from prunequant.cases import runner as case
from prunequant.timing.schemes import kept_weights, operations, scheme, stored_bytes

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

PERCENTS = (50, 75, 90, 95, 99)
MANY = 64  # inputs per call from which the claim speaks
NEAR = 1.25  # how far a median of ratios may be from the ratio of medians; in the record it is at most 1.2 away


@lru_cache(maxsize=8)
def _csr_bytes(outputs: int, inputs: int, percent: int) -> int:
    """Bytes of the arrays that SciPy really holds for a pruned float32 matrix with 32-bit indices."""
    from scipy.sparse import csr_array

    from prunequant.sparsity import magnitude

    w = np.random.default_rng(percent).standard_normal((outputs, inputs)).astype(np.float32)
    sparse = csr_array(np.where(magnitude(w, percent / 100), w, 0))
    return sparse.data.nbytes + sparse.indices.astype(np.int32).nbytes + sparse.indptr.astype(np.int32).nbytes


@lru_cache(maxsize=1)
def _record() -> dict:
    return case.recorded("hardware")


def _rows() -> list[dict]:
    """All recorded layers on one thread with every instruction the machine has."""
    rows = _record()["rows"]
    return [r for r in rows if r["part"] == "layer" and r["threads"] == 1 and r["instructions"] == "all"]


def _first_winner(rows: list[dict], cost: Callable[[dict, str], float]) -> dict[int, int]:
    """By batch of the smallest layer: the least sparsity (%) from which CSR was cheaper than dense in every pass."""
    winners = {}
    for batch in sorted({r["batch"] for r in rows if (r["outputs"], r["inputs"]) == (576, 576)}):
        same = [r for r in rows if (r["outputs"], r["inputs"], r["batch"]) == (576, 576, batch)]
        wins = [p for p in PERCENTS if all(cost(r, f"csr-{p}") < 1 for r in same)]
        winners[batch] = min(wins, default=100)
    return winners


def _time(row: dict, name: str) -> float:
    return row["schemes"][name]["ratio"]


def _work(row: dict, name: str) -> float:
    """The cost if multiplications were all that is paid for."""
    shape = row["outputs"], row["inputs"], row["batch"]
    return operations(name, *shape) / operations("fp32", *shape)


def _times_agree(rows: list[dict], names: tuple[str, ...]) -> bool:
    """Whether each recorded ratio is that of the recorded times: quartiles in order, medians over the best dense."""
    baseline = _record()["settings"]["baseline"]
    for r in rows:
        dense = min(r["schemes"][b]["cold"][1] for b in baseline)
        for name in (*names, *baseline):
            cold, ratio = r["schemes"][name]["cold"], r["schemes"][name]["ratio"]
            if not 0 < cold[0] <= cold[1] <= cold[2] or not 1 / NEAR < ratio / (cold[1] / dense) < NEAR:
                return False
    return True


SLOWER = "with 64 inputs or more the half pruned layer is slower in every row"
RISES = "the sparsity that wins is higher with 256 inputs or more than with one"
LARGER = "the half pruned layer stores more bytes"
BYTES = "the arrays held now have the bytes of the formula"


def _hardware(
    budget: Budget, cost: Callable[[dict, str], float], count: Callable[[str, int, int], int] = stored_bytes
) -> Evidence:
    rows, shape = _rows(), (576, 576)
    slower = [cost(r, "csr-50") > 1 for r in rows if r["batch"] >= MANY]
    first = _first_winner(rows, cost)
    batches = sorted(first)
    stored = [
        entry["bytes"] == stored_bytes(name, r["outputs"], r["inputs"])
        for r in rows
        for name, entry in r["schemes"].items()
        if "bytes" in entry
    ]
    places = {(r["outputs"], r["inputs"], r["batch"]) for r in rows}
    passes = {(r["outputs"], r["inputs"], r["batch"], r["seed"]) for r in rows}
    figures = (
        Figure("rows with 50 % pruned, 64 inputs or more", len(slower)),
        Figure("of these slower than dense", sum(slower)),
        *(Figure(f"sparsity that wins, {b:,} per call", first[b], "%") for b in (1, 256, batches[-1])),
        Figure("stored layers with the bytes of the formula", f"{sum(stored)} of {len(stored)}"),
    )
    holds = {
        SLOWER: all(slower),
        RISES: min(first[b] for b in batches if b >= 256) > first[1],
        LARGER: count("csr-50", *shape) > count("fp32", *shape),
        BYTES: all(_csr_bytes(*shape, p) == count(f"csr-{p}", *shape) for p in PERCENTS),
        "every recorded layer has the bytes of the formula": all(stored),
        "every recorded ratio is that of its recorded times": _times_agree(rows, ("csr-50",)),
        "every layer and batch was timed in five passes, each once": len(passes) == len(rows) == 5 * len(places),
    }
    return Evidence(holds, figures, trials=len(rows))


@claim(
    id="cases.hardware",
    title="Half of the weights is not half of the time",
    statement=r"""On the recorded processor, one thread: a linear layer with half of its weights pruned and kept as CSR
(float32 values, 32-bit indices) stores more bytes than the dense float32 layer, and with 64 or more inputs per call it
is slower than the dense layer in every recorded row, though it does half of the operations. The sparsity from which
CSR is faster in every pass ($576\times576$) is higher with 256 or more inputs per call than with one.""",
    source=Source("ours", "Part V, measured", "ours"),
    verdict=Verdict.HOLDS,
    remark="Times are the record's and belong to its machine; bytes are counted live. Counting operations instead of "
    "time would have pruning win everywhere.",
)
def hardware_claim(budget: Budget) -> Evidence:
    """Ratios of cold times of the same round from the record; bytes of arrays made now."""
    return _hardware(budget, _time)


@hardware_claim.control("operations counted instead of time", breaks=(SLOWER, RISES))
def _(budget: Budget) -> Evidence:
    return _hardware(budget, _work)


@hardware_claim.control("no bytes for the places of the weights", breaks=(LARGER, BYTES))
def _(budget: Budget) -> Evidence:
    return _hardware(budget, _time, values_alone)


def values_alone(name: str, outputs: int, inputs: int) -> int:
    """Bytes of the values, the places of pruned matrices and the scales left out."""
    if scheme(name).kind == "pruning":
        return kept_weights(name, outputs, inputs) * 4
    bits = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4, "fp8": 8}[name.split("-")[0]]
    return outputs * inputs * bits // 8
