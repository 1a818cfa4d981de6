"""Subset sums against their peers: all targets, one target, counts, threshold curves, and the shift-or roof.

    python benchmarks/subset_sum.py [--quick] [--rounds N] [--threads N] [--output FILE]

Peers: Python's unbounded integers (``bits |= bits << a``), NumPy's table, Horowitz & Sahni's sorted two-pointer search
(compiled), and, where installed, flsss and OR-Tools CP-SAT. A contender that is slow gets fewer of the same instances;
answers are compared on those, and rates are a instance. One thread unless --threads says otherwise.
"""

import importlib
import time
from collections.abc import Callable

import numba
import numpy as np
from common import clock, finish, interleave, parser, rounds, summary, table

from prunequant import subset_sum
from prunequant.subset_sum import _kernels_count, _kernels_reach

CLOCK = time.process_time


def instances(bound: int, n: int, number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, bound, n))
    return rng.integers(-bound, bound + 1, (number, n)), rng.integers(-bound, bound + 1, number)


# ---- peers: each takes rows (and targets) and returns one answer a row


def big_int_bits(row) -> tuple[int, int]:
    bits, origin = 1, 0
    for value in row:
        if value < 0:
            bits |= bits << -value
            origin -= value
        else:
            bits |= bits << value
    return bits, origin


def big_int_covered(rows: list[list[int]], bound: int) -> list[int]:
    mask = (1 << (2 * bound + 1)) - 1
    answers = []
    for row in rows:
        bits, origin = big_int_bits(row)
        low = origin - bound
        answers.append(((bits >> low if low >= 0 else bits << -low) & mask).bit_count())
    return answers


def big_int_one(rows: list[list[int]], targets: list[int]) -> list[bool]:
    answers = []
    for row, target in zip(rows, targets, strict=True):
        bits, origin = big_int_bits(row)
        place = origin + target
        answers.append(place >= 0 and (bits >> place) & 1 == 1)
    return answers


def big_int_curve(rows: list[list[int]], bound: int) -> list[int]:
    """The first prefix that reaches every |t| <= bound, each prefix solved from the start."""
    answers = []
    for row in rows:
        first = len(row) + 1
        for n in range(len(row), 0, -1):
            if big_int_covered([row[:n]], bound)[0] == 2 * bound + 1:
                first = n
        answers.append(first)
    return answers


def numpy_covered(rows: np.ndarray, bound: int) -> list[int]:
    answers = []
    for row in rows:
        total, origin = int(np.abs(row).sum()), int(-np.minimum(row, 0).sum())
        reached = np.zeros(total + 1, dtype=bool)
        reached[0] = True
        for size in np.abs(row):
            if size:
                reached[size:] |= reached[:-size].copy()
        answers.append(int(reached[max(origin - bound, 0) : origin + bound + 1].sum()))
    return answers


def numpy_count(rows: np.ndarray, bound: int, out: np.ndarray) -> np.ndarray:
    out[:] = 0
    for i, row in enumerate(rows):
        total, origin = int(np.abs(row).sum()), int(-np.minimum(row, 0).sum())
        numbers = np.zeros(total + 1, dtype=np.uint64)
        numbers[0] = 1
        for size in np.abs(row):
            if size:
                numbers[size:] += numbers[:-size].copy()
            else:
                numbers *= np.uint64(2)
        low, high = max(origin - bound, 0), min(origin + bound, total)
        out[i, low - origin + bound : high - origin + bound + 1] = numbers[low : high + 1]
    return out


@numba.njit(cache=True)
def two_pointers(x, targets):
    """Horowitz & Sahni 1974: both halves sorted by merging, one pointer up, one down."""
    rows, n = x.shape
    half = n // 2
    size = 1 << (n - half)
    left = np.empty(size, np.int64)
    right = np.empty(size, np.int64)
    spare = np.empty(size, np.int64)
    found = np.zeros(rows, np.bool_)
    for i in range(rows):
        count_a = _kernels_count.sorted_sums(x[i], 0, half, left, spare)
        count_b = _kernels_count.sorted_sums(x[i], half, n, right, spare)
        a = 0
        b = count_b - 1
        while a < count_a and b >= 0:
            total = left[a] + right[b]
            if total == targets[i]:
                found[i] = True
                break
            if total < targets[i]:
                a += 1
            else:
                b -= 1
    return found


def flsss_one(module) -> Callable:
    def run(rows, targets):
        return [len(module.gen(row, int(t), int(t), n_threads=1)) > 0 or t == 0 for row, t in zip(rows, targets)]

    return run


def cp_sat_one(cp_model) -> Callable:
    def run(rows, targets):
        answers = []
        for row, target in zip(rows, targets):
            model = cp_model.CpModel()
            bits = [model.new_bool_var("") for _ in row]
            model.add(sum(int(v) * b for v, b in zip(row, bits)) == int(target))
            solver = cp_model.CpSolver()
            solver.parameters.num_workers = 1
            solver.parameters.max_time_in_seconds = 60
            status = solver.solve(model)
            if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE):
                raise RuntimeError("CP-SAT did not decide an instance in 60 s")
            answers.append(status != cp_model.INFEASIBLE)
        return answers

    return run


def optional(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out (pip install {name.split('.')[0]})")
        return None


# ---- one cell: the contenders, their shares of the instances, the comparison


def run_cell(
    task: str, bound: int, n: int, contenders: dict[str, tuple[int, Callable[[], object]]], repeats: int
) -> list[dict]:
    """Rows of the record; contenders maps a name to (number of instances, call); the first is ours."""
    ours = next(iter(contenders))
    expected = np.asarray(contenders[ours][1]())
    for name, (number, call) in contenders.items():
        if not np.array_equal(np.asarray(call())[:number], expected[:number]):
            raise AssertionError(f"{task}, M = {bound}, n = {n}: {name} and {ours} disagree")
    seconds = interleave({name: call for name, (_, call) in contenders.items()}, repeats, CLOCK)
    rows = summary(seconds, ours, {name: number for name, (number, _) in contenders.items()})
    return [{"task": task, "log2_M": round(float(np.log2(bound)), 2), "n": n, **row} for row in rows]


def share(rate: float, seconds: float, most: int) -> int:
    return max(1, min(most, int(rate * seconds)))


def all_targets(bound: int, n: int, seconds: float, repeats: int) -> list[dict]:
    ours = share(min(3e7, 2e11 / bound / n**2), seconds, 50000)
    big = share(2.5e10 / bound / n**2 if bound > 1000 else 1.5e5, seconds, ours)
    plain = share(1.5e9 / bound / n**2 if bound > 1000 else 1e4, seconds, big)
    x, _ = instances(bound, n, ours)
    rows = x[:big].tolist()
    return run_cell(
        "all targets",
        bound,
        n,
        {
            "prunequant": (ours, lambda: subset_sum.covered(x, -bound, bound)),
            "big int": (big, lambda: big_int_covered(rows, bound)),
            "numpy": (plain, lambda: numpy_covered(x[:plain], bound)),
        },
        repeats,
    )


def one_target(bound: int, n: int, seconds: float, repeats: int, peers: dict[str, Callable]) -> list[dict]:
    ours = share(3e9 / 2 ** (n / 2) / n**1.2, seconds, 200000)
    two = max(1, ours // 8)
    big = share(3e10 / bound / n**2 if bound > 1000 else 1.5e5, seconds, two)
    x, targets = instances(bound, n, ours)
    rows, wanted = x[:big].tolist(), targets[:big].tolist()
    contenders = {
        "prunequant": (ours, lambda: subset_sum.solve_many(x, targets).found),
        "two pointers": (two, lambda: two_pointers(x[:two], targets[:two])),
        "big int": (big, lambda: big_int_one(rows, wanted)),
    }
    for name, call in peers.items():
        number = 20 if name == "flsss" else 3
        contenders[name] = (number, lambda call=call, number=number: call(x[:number], targets[:number]))
    return run_cell("one target", bound, n, contenders, repeats)


def counting(bound: int, n: int, seconds: float, repeats: int) -> list[dict]:
    ours = share(3e10 / bound / n**2, seconds, max(16, 2**24 // (16 * bound)))  # answers of 16 MB at most
    plain = share(2.5e9 / bound / n**2, seconds, ours)
    x, _ = instances(bound, n, ours)
    memory = np.empty((ours, 2 * bound + 1), dtype=np.uint64)
    spare = np.empty((plain, 2 * bound + 1), dtype=np.uint64)
    return run_cell(
        "counts",
        bound,
        n,
        {
            "prunequant": (ours, lambda: subset_sum.count(x, -bound, bound, out=memory)),
            "numpy": (plain, lambda: numpy_count(x[:plain], bound, spare)),
        },
        repeats,
    )


def curves(bound: int, n: int, seconds: float, repeats: int) -> list[dict]:
    """Whole threshold curves: a hitting time a trial, against solving every prefix from the start."""
    ours = share(2e10 / bound / n**2, seconds, 200000)
    big = share(5e9 / bound / n**3, seconds, ours)
    rows = instances(bound, n, big)[0].tolist()
    seconds_ = interleave(
        {
            "prunequant": lambda: subset_sum.hitting_times(n, bound, "all", ours, 1),
            "big int, every n": lambda: big_int_curve(rows, bound),
        },
        repeats,
        CLOCK,
    )
    result = summary(seconds_, "prunequant", {"prunequant": ours, "big int, every n": big})
    return [{"task": "threshold curve", "log2_M": round(float(np.log2(bound)), 2), "n": n, **row} for row in result]


@numba.njit(cache=True)
def shift_or_passes(words, half, size, passes):
    """The bare traffic: d = s | s << a over two buffers in turn."""
    one = np.uint64(1)
    src = np.uint64(0)
    dst = np.uint64(half)
    jump = np.uint64(size >> 6)
    shift = np.uint64(size & 63)
    rest = np.uint64(63) - shift
    for _ in range(passes):
        high = src - jump
        low = src - jump - one
        for w in range(jump + one, np.uint64(half)):
            words[dst + w] = words[src + w] | (words[high + w] << shift) | ((words[low + w] >> one) >> rest)
        src, dst = dst, src
    return words[src]


def words_of_work(row: np.ndarray, bound: int) -> int:
    """Words that `reach_window` writes for one instance: the width of its band, item by item."""
    sizes = np.abs(row[row != 0])
    total, origin = int(sizes.sum()), int(-np.minimum(row, 0).sum())
    first, last = max(origin - bound, 0), min(origin + bound, total)
    if total - first < last:
        first, last = total - last, total - first
    sizes = sizes.copy()
    _kernels_reach.unimodal(sizes, sizes.size, np.empty_like(sizes))
    reached, words = 0, 0
    for size in sizes:
        reached += int(size)
        words += (min(last, reached) >> 6) - (max(first - (total - reached), 0) >> 6) + 1
    return words


def roof(bound: int, n: int, seconds: float, repeats: int) -> list[dict]:
    number = share(2e11 / bound / n**2, seconds, 1000)
    x, _ = instances(bound, n, number)
    work = sum(words_of_work(row, bound) for row in x)
    half = bound * n // 4 // 64 // 512 * 512 + 72  # two buffers a multiple of 4096 bytes apart would collide
    buffer = np.ones(2 * half, dtype=np.uint64)
    passes = max(1, work // half)
    seconds_ = interleave(
        {
            "prunequant": lambda: subset_sum.covered(x, -bound, bound),
            "bare shift-or": lambda: shift_or_passes(buffer, half, bound // 2 + 17, passes),
        },
        repeats,
        CLOCK,
    )
    items = {"prunequant": work, "bare shift-or": passes * (half - (bound // 2 + 17) // 64 - 1)}
    result = summary(seconds_, "prunequant", items)
    return [{"task": "roof (words)", "log2_M": round(float(np.log2(bound)), 2), "n": n, **row} for row in result]


def main() -> None:
    global CLOCK
    options = parser(__doc__.split("\n")[0]).parse_args()
    CLOCK = clock(options)
    numba.set_num_threads(options.threads)
    subset_sum.warm()
    repeats = rounds(options)
    seconds = 0.02 if options.quick else 0.3
    rows: list[dict] = []
    reach_cells = [(2**4, 8), (2**5, 10), (2**8, 14), (2**10, 16), (2**12, 18), (2**16, 22), (2**20, 26)]
    solve_cells = [(2**4, 8), (2**10, 14), (2**16, 20), (2**20, 23)]
    count_cells = [(2**8, 14), (2**10, 16), (2**12, 18), (2**16, 22), (2**20, 20), (2**20, 23)]
    curve_cells = [(2**8, 24), (2**10, 26), (2**16, 32)]
    if options.quick:
        reach_cells, solve_cells, count_cells, curve_cells = (
            reach_cells[:5],
            solve_cells[:3],
            count_cells[:3],
            curve_cells[:2],
        )
    peers = {}
    if flsss := optional("flsss"):
        peers["flsss"] = flsss_one(flsss)
    if cp_model := optional("ortools.sat.python.cp_model"):
        peers["CP-SAT"] = cp_sat_one(cp_model)
    for bound, n in reach_cells:
        rows += all_targets(bound, n, seconds, repeats)
    for bound, n in solve_cells:
        rows += one_target(bound, n, seconds, repeats if bound < 2**16 else min(repeats, 3), peers)
    for bound, n in count_cells:
        rows += counting(bound, n, seconds, repeats)
    for bound, n in curve_cells:
        rows += curves(bound, n, seconds, repeats)
    rows += roof(2**16 if options.quick else 2**20, 26, seconds, repeats)
    print(table(rows, ["task", "log2_M", "n", "name", "items", "seconds", "rate", "ratio"]))
    print("ratio: time for one instance (or word) over ours, median over rounds of neighbouring timings")
    finish("subset_sum", options, rows, packages=("flsss", "ortools"))


if __name__ == "__main__":
    main()
