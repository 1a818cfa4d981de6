"""The claims about time on the recorded machines: timings are read from the records, bytes are counted live."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from prunequant.cases import runner as case
from prunequant.timing.schemes import kept_weights, moved_bytes, operations, scheme, stored_bytes

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim

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


@lru_cache(maxsize=1)
def _gpu() -> dict:
    return case.recorded("hardware", "gpu")


TENSOR_CORES = ("2:4-bf16", "2:4-int8")
CSRS = ("csr-50", "csr-90", "csr-99")
INPUTS_TOO = ("int8", "fp8")
CROWD = 256  # inputs per call from which four-bit weights are said to be slower
WIDE = 4096  # inputs and outputs of a layer in which CSR may win

FOUR_FEW = "with one input four-bit weights are faster in every layer"
FOUR_MANY = "with 256 inputs or more four-bit weights are slower in every layer"
INPUTS = "int8 and fp8, inputs too, are slower in every row"
HALF = "the half pruned CSR layer is slower in every row"
CSR = "CSR is faster nowhere but with one input, 90 % or more pruned, in layers of 4096 x 4096 or more"
PAIRS = "2:4 is faster nowhere but in the largest layer with the most inputs"


def _work_of_dense(row: dict, name: str) -> float:
    shape = row["outputs"], row["inputs"], row["batch"]
    return operations(name, *shape) / operations("bf16", *shape)


def _bytes_of_dense(row: dict, name: str) -> float:
    shape = row["outputs"], row["inputs"], row["batch"]
    return moved_bytes(name, *shape) / moved_bytes("bf16", *shape)


def _time_of_float32(row: dict, name: str) -> float:
    """Against the rival that the tensor cores leave behind."""
    return _time(row, name) / _time(row, "fp32")


def _between_its_quartiles(row: dict, name: str) -> bool:
    """Whether a median of quotients is where quartiles of numerator and denominator allow one to be."""
    (low, middle, high), (least, half, most) = row["schemes"][name]["cold"], row["schemes"]["bf16"]["cold"]
    ordered = 0 < low <= middle <= high and 0 < least <= half <= most
    return ordered and 0.99 * low / most <= row["schemes"][name]["ratio"] <= 1.01 * high / least


def _on_a_gpu(budget: Budget, cost: Callable[[dict, str], float]) -> Evidence:
    rows = [r for r in _gpu()["rows"] if r["part"] == "layer"]
    places = {(r["outputs"], r["inputs"], r["batch"]) for r in rows}
    last = max(places)
    few = [cost(r, "int4-weight") for r in rows if r["batch"] == 1]
    many = [cost(r, "int4-weight") for r in rows if r["batch"] >= CROWD]
    taken = [cost(r, s) for r in rows for s in INPUTS_TOO]
    half = [cost(r, "csr-50") for r in rows]
    by_csr = [(r, s) for r in rows for s in CSRS if cost(r, s) < 1]
    by_pairs = [r for r in rows for s in TENSOR_CORES if cost(r, s) < 1]
    pairs = [cost(r, s) for r in rows for s in TENSOR_CORES]
    timed = [(r, s, entry) for r in rows for s, entry in r["schemes"].items() if "ratio" in entry]
    stored = [entry["bytes"] == stored_bytes(s, r["outputs"], r["inputs"]) for r, s, entry in timed]
    figures = (
        Figure("four-bit weights faster, one input per call", f"{sum(c < 1 for c in few)} of {len(few)}"),
        Figure("four-bit weights faster, 256 inputs or more", f"{sum(c < 1 for c in many)} of {len(many)}"),
        Figure("int8 and fp8, inputs too, faster", f"{sum(c < 1 for c in taken)} of {len(taken)}"),
        Figure("least time of the half pruned CSR layer, relative to dense", min(half)),
        Figure("least time of 2:4, relative to dense", min(pairs)),
        Figure(
            "sparse layers faster than dense",
            f"{len(by_csr) + len(by_pairs)} of {len(rows) * len(CSRS + TENSOR_CORES)}",
        ),
    )
    holds = {
        FOUR_FEW: all(c < 1 for c in few),
        FOUR_MANY: all(c > 1 for c in many),
        INPUTS: all(c > 1 for c in taken),
        HALF: all(c > 1 for c in half),
        CSR: all(r["batch"] == 1 and s != "csr-50" and min(r["outputs"], r["inputs"]) >= WIDE for r, s in by_csr),
        PAIRS: all((r["outputs"], r["inputs"], r["batch"]) == last for r in by_pairs),
        "every recorded layer has the bytes of the formula": all(stored),
        "every recorded ratio is one that its recorded times allow": all(
            _between_its_quartiles(r, s) for r, s, _ in timed
        ),
        "every layer and batch was timed in one pass": len(rows) == len(places) == 20,
    }
    return Evidence(holds, figures, trials=len(rows))


@claim(
    id="cases.hardware_gpu",
    title="On a GPU four bits pay for one input, and zeros hardly ever",
    statement=r"""On the recorded GPU, with the kernels of the recorded PyTorch, weights not in the cache, time relative
to the dense bfloat16 layer of the same round: four-bit weights are faster with one input per call in every layer and
slower with 256 or more in every layer; int8 and fp8 with inputs quantized in the same call are slower in every row.
CSR with half of the weights pruned is slower in every row, and with 90 % or more it is faster nowhere but with one
input in layers of $4096\times4096$ or more. 2:4 is faster nowhere but in the largest layer, $8192\times8192$, with the
most inputs, 4096.""",
    source=Source("ours", "Part V, measured", "ours"),
    verdict=Verdict.HOLDS,
    remark="One pass on one machine: times are the record's. Against dense float32, or counted in operations or bytes, "
    "some of the layers that lose would win.",
    changes=(Change(None, "a GPU was measured"),),
)
def hardware_on_a_gpu(budget: Budget) -> Evidence:
    """Ratios of cold times of the same round from the record of a GPU; bytes by their formula."""
    return _on_a_gpu(budget, _time)


@hardware_on_a_gpu.control("operations counted instead of time", breaks=(FOUR_FEW, FOUR_MANY, INPUTS, HALF, CSR, PAIRS))
def _(budget: Budget) -> Evidence:
    return _on_a_gpu(budget, _work_of_dense)


@hardware_on_a_gpu.control("bytes counted instead of time", breaks=(FOUR_MANY, INPUTS, CSR, PAIRS))
def _(budget: Budget) -> Evidence:
    return _on_a_gpu(budget, _bytes_of_dense)


@hardware_on_a_gpu.control("compared with dense float32", breaks=(FOUR_MANY, INPUTS, HALF, CSR, PAIRS))
def _(budget: Budget) -> Evidence:
    return _on_a_gpu(budget, _time_of_float32)
