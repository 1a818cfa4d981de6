"""Statements proved by machine: for all real blocks of four or eight values, in place of a sample.

A theorem here is a list of named hypotheses and a conclusion, in real arithmetic. An SMT solver (Z3) looks for numbers
that meet the hypotheses and not the conclusion: *unsat* is a proof for all of them. As with every claim there is a
control: one hypothesis is left out, and then a counterexample must be found.

A quantizer is any function that has the properties named, not one of our formats: what is proved holds for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunequant import arguments, extras, records

RECORD = "proofs.json"
LIMITS = (1e-3, 1e6)  # seconds


@dataclass(frozen=True)
class Stated:
    """Hypotheses by name, the conclusion, and the numbers by whose values a counterexample is told."""

    hypotheses: Mapping[str, list]
    conclusion: Any
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Theorem:
    """A statement about `values` real numbers, that belongs to a claim.

    `drop` names the hypotheses without which it is false, one at a time: the controls.
    """

    claim: str
    title: str
    values: int
    state: Callable[[Any, int], Stated]
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """What the solver said: `outcome` is "proved", "counterexample" or "not decided"."""

    theorem: Theorem
    outcome: str
    seconds: float
    assertions: int
    counterexample: str = ""
    controls: Mapping[str, str] = field(default_factory=dict)  # hypothesis left out → counterexample, or ""

    @property
    def agrees(self) -> bool:
        """Whether it is proved, and false without each of the hypotheses that are said to matter."""
        return self.outcome == "proved" and bool(self.controls) and all(self.controls.values())


# --- words of the statements --------------------------------------------------------------------------------------


def _size(z3: Any, x: Any) -> Any:
    return z3.If(x >= 0, x, -x)


def _largest(z3: Any, values: list) -> Any:
    """The largest of them, by halves: fewer cases hang on one another than in a row."""
    if len(values) == 1:
        return values[0]
    left, right = _largest(z3, values[: len(values) // 2]), _largest(z3, values[len(values) // 2 :])
    return z3.If(left >= right, left, right)


def _norm(z3: Any, values: list, p: float) -> Any:
    """The sum or the largest of sizes: the norms that are linear piece by piece."""
    sizes = [_size(z3, value) for value in values]
    return z3.Sum(sizes) if p == 1 else _largest(z3, sizes)


def _error(z3: Any, x: list, q: list, mask: list, p: float) -> Any:
    """The distance of x from q where the mask keeps and 0 elsewhere."""
    return _norm(z3, [z3.If(m, a - b, a) for a, b, m in zip(x, q, mask)], p)


def _keeps(z3: Any, mask: list, score: list) -> list:
    """Half of the places are kept, none with a smaller score than one that is not."""
    n = len(mask)
    rules = [z3.PbEq([(m, 1) for m in mask], n // 2)]
    rules += [z3.Implies(z3.And(mask[i], z3.Not(mask[j])), score[i] >= score[j])
              for i in range(n) for j in range(n) if i != j]  # fmt: skip
    return rules


def _ranked(z3: Any, mask: list, scores: list[list]) -> list:
    """Half are kept: the first by these scores, one after the other, and then by index."""
    n = len(mask)

    def before(i: int, j: int) -> Any:
        ahead = z3.BoolVal(i < j)
        for score in reversed(scores):
            ahead = z3.Or(score[i] > score[j], z3.And(score[i] == score[j], ahead))
        return ahead

    return [mask[i] == z3.PbLe([(before(j, i), 1) for j in range(n) if j != i], n // 2 - 1) for i in range(n)]


def _block(z3: Any, n: int) -> tuple[list, list, dict]:
    """Values, their quantized values, and what a quantizer of one scale can be asked for."""
    x, q = z3.Reals([f"x{i}" for i in range(n)]), z3.Reals([f"q{i}" for i in range(n)])
    a, b = [_size(z3, v) for v in x], [_size(z3, v) for v in q]
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    conditions = {
        "odd": [z3.And(z3.Implies(v >= 0, w >= 0), z3.Implies(v <= 0, w <= 0)) for v, w in zip(x, q)]
        + [z3.Implies(a[i] == a[j], b[i] == b[j]) for i, j in pairs],
        "monotone": [z3.Implies(a[i] < a[j], b[i] <= b[j]) for i, j in pairs],
        "near": [_size(z3, v - w) <= s for v, w, s in zip(x, q, a)],
    }
    return x, q, conditions


def _numbers(x: list, q: list) -> dict:
    return {"x": x, "q": q}


# --- Part IV ------------------------------------------------------------------------------------------------------


def _prune_first(p: float) -> Callable[[Any, int], Stated]:
    def state(z3: Any, n: int) -> Stated:
        x = z3.Reals([f"x{i}" for i in range(n)])
        mask = z3.Bools([f"m{i}" for i in range(n)])
        scale = z3.Function("scale", z3.RealSort(), z3.RealSort())
        quantize = z3.Function("q", z3.RealSort(), z3.RealSort(), z3.RealSort())
        sizes = [_size(z3, v) for v in x]
        pruned = [z3.If(m, v, z3.RealVal(0)) for m, v in zip(mask, x)]
        before, after = scale(_largest(z3, sizes)), scale(_largest(z3, [_size(z3, v) for v in pruned]))
        stored = [quantize(after, v) for v in pruned]
        direct = [quantize(before, v) for v in x]
        hypotheses = {
            "the block keeps a value of its largest size": [
                z3.Or([z3.And(m, s == _largest(z3, sizes)) for m, s in zip(mask, sizes)])
            ],
            "zero is kept": [quantize(after, 0) == 0],
        }
        left = _norm(z3, [v - w for v, w in zip(x, stored)], p)
        right = _norm(z3, [v - w for v, w in zip(x, direct)], p) + _norm(z3, [v - w for v, w in zip(x, pruned)], p)
        return Stated(hypotheses, left <= right, {"x": x, "kept": mask, "q(s(x))": stored, "q(x)": direct})

    return state


def _corollary(p: float) -> Callable[[Any, int], Stated]:
    def state(z3: Any, n: int) -> Stated:
        x, q, asked = _block(z3, n)
        first, last = z3.Bools([f"a{i}" for i in range(n)]), z3.Bools([f"b{i}" for i in range(n)])
        hypotheses = {
            "odd": asked["odd"],
            "monotone": asked["monotone"],
            "pruned by size, any rule for ties": _keeps(z3, first, [_size(z3, v) for v in x]),
            "the other by quantized size, any rule for ties": _keeps(z3, last, [_size(z3, v) for v in q]),
        }
        conclusion = _error(z3, x, q, first, p) <= _error(z3, x, q, last, p)
        return Stated(hypotheses, conclusion, _numbers(x, q))

    return state


def _ties(z3: Any, n: int) -> Stated:
    x, q, asked = _block(z3, n)
    first, last = z3.Bools([f"a{i}" for i in range(n)]), z3.Bools([f"b{i}" for i in range(n)])
    sizes, quantized = [_size(z3, v) for v in x], [_size(z3, v) for v in q]
    hypotheses = {
        "odd": asked["odd"],
        "monotone": asked["monotone"],
        "pruned by size": _ranked(z3, first, [sizes]),
        "the other by quantized size, ties by the original": _ranked(z3, last, [quantized, sizes]),
    }
    same = z3.And([z3.If(a, v, 0) == z3.If(b, v, 0) for a, b, v in zip(first, last, q)])
    return Stated(hypotheses, same, _numbers(x, q))


def _cost(p: float) -> Callable[[Any, int], Stated]:
    def state(z3: Any, n: int) -> Stated:
        x, q, _ = _block(z3, n)
        first, last = z3.Bools([f"a{i}" for i in range(n)]), z3.Bools([f"b{i}" for i in range(n)])
        hypotheses = {
            "pruned by size, any rule for ties": _keeps(z3, first, [_size(z3, v) for v in x]),
            "the other by quantized size, any rule for ties": _keeps(z3, last, [_size(z3, v) for v in q]),
        }
        rounded = [v - w for v, w in zip(x, q)]
        total = _norm(z3, rounded, p) + _norm(z3, [z3.If(m, 0, v) for m, v in zip(first, x)], p)
        more = _norm(z3, [z3.If(m, 0, v) for m, v in zip(first, rounded)], p)
        return Stated(hypotheses, _error(z3, x, q, last, p) <= total + more, _numbers(x, q))

    return state


def _half_a_step(z3: Any, n: int) -> Stated:
    stated = _cost(1)(z3, n)
    x, q = stated.numbers["x"], stated.numbers["q"]
    step = z3.Real("step")
    hypotheses = {**stated.hypotheses, "rounded to nearest": [_size(z3, v - w) <= step / 2 for v, w in zip(x, q)]}
    first, last = z3.Bools([f"a{i}" for i in range(n)]), z3.Bools([f"b{i}" for i in range(n)])
    total = _norm(z3, [v - w for v, w in zip(x, q)], 1) + _norm(z3, [z3.If(m, 0, v) for m, v in zip(first, x)], 1)
    return Stated(hypotheses, _error(z3, x, q, last, 1) <= total + (n // 2) * step / 2, _numbers(x, q))


def _joint(z3: Any, n: int) -> Stated:
    """With any loss for a value that is kept and any for one that is not: the mask of the largest gains is the best."""
    kept_loss, lost = z3.Reals([f"k{i}" for i in range(n)]), z3.Reals([f"l{i}" for i in range(n)])
    best, other = z3.Bools([f"a{i}" for i in range(n)]), z3.Bools([f"b{i}" for i in range(n)])
    hypotheses = {
        "kept by gain": _keeps(z3, best, [b - a for a, b in zip(kept_loss, lost)]),
        "as many kept": [z3.PbEq([(m, 1) for m in other], n // 2)],
    }

    def total(mask: list) -> Any:
        return z3.Sum([z3.If(m, a, b) for m, a, b in zip(mask, kept_loss, lost)])

    return Stated(hypotheses, total(best) <= total(other), {"loss if kept": kept_loss, "loss if not": lost})


def _gain(z3: Any, n: int) -> Stated:
    x, q = z3.Real("x"), z3.Real("q")
    size, level = _size(z3, x), _size(z3, q)
    hypotheses = {"no sign is changed": [x * q >= 0]}
    return Stated(hypotheses, level * (2 * size - level) == x * x - (x - q) * (x - q), {"x": [x], "q": [q]})


def _largest_error(z3: Any, n: int) -> Stated:
    x, q, asked = _block(z3, n)
    first, other = z3.Bools([f"a{i}" for i in range(n)]), z3.Bools([f"b{i}" for i in range(n)])
    hypotheses = {
        "no value moves farther than to 0": asked["near"],
        "pruned by size, any rule for ties": _keeps(z3, first, [_size(z3, v) for v in x]),
        "as many kept": [z3.PbEq([(m, 1) for m in other], n // 2)],
    }
    infinity = float("inf")
    conclusion = _error(z3, x, q, first, infinity) <= _error(z3, x, q, other, infinity)
    return Stated(hypotheses, conclusion, _numbers(x, q))


# --- Part II: the rounding operators -------------------------------------------------------------------------------


def _two_values(z3: Any, n: int) -> Stated:
    """z between neighbours a and a + step: up with probability (z − a)/step."""
    z, low, step, up = z3.Reals("z low step up")
    hypotheses = {
        "a step is positive": [step > 0],
        "z lies between the neighbours": [low <= z, z <= low + step],
        "drawn in proportion": [up * step == z - low],
    }
    fair = z3.And(0 <= up, up <= 1, low * (1 - up) + (low + step) * up == z)
    near = z3.And(_size(z3, low - z) <= step, _size(z3, low + step - z) <= step)
    return Stated(hypotheses, z3.And(fair, near), {"z": [z], "low": [low], "step": [step]})


def _pruned(z3: Any, n: int) -> Stated:
    """z of size at most cK: 0, or with probability 2|z|/((c+1)K) a draw u between cK and K, of mean (c+1)K/2."""
    z, size, c, kept, u = z3.Reals("z K c p u")
    hypotheses = {
        "K > 0": [size > 0],
        "0 < c": [c > 0],
        "c ≤ 1": [c <= 1],
        "0 ≤ z ≤ cK": [0 <= z, z <= c * size],
        "kept in proportion": [kept * (c + 1) * size == 2 * z],
        "u between cK and K": [z3.Or(z3.And(c * size <= u, u <= size), z3.And(size <= u, u <= c * size))],
    }
    fair = z3.And(0 <= kept, kept <= 1, kept * (c + 1) * size / 2 == z)
    near = z3.And(z <= size, _size(z3, u - z) <= size)
    return Stated(hypotheses, z3.And(fair, near), {"z": [z], "K": [size], "c": [c]})


def _three_values(z3: Any, n: int) -> Stated:
    """Pruned, then rounded at random to multiples of 2K: z in [0, 2K] ends in 0 or 2K, unbiased."""
    z, size, kept, up = z3.Reals("z K p up")
    value = z3.Real("value")  # what pruning left, when it left something
    hypotheses = {
        "K > 0": [size > 0],
        "0 ≤ z ≤ 2K": [0 <= z, z <= 2 * size],
        "unbiased pruning, nothing beyond K moved": [
            z3.If(z > size, z3.And(value == z, kept == 1), z3.And(value == size, kept * size == z))
        ],
        "rounded in proportion": [up * 2 * size == value],
    }
    fair = z3.And(0 <= kept * up, kept * up <= 1, kept * up * 2 * size == z)
    near = z3.And(z <= 2 * size, 2 * size - z <= 2 * size)
    return Stated(hypotheses, z3.And(fair, near), {"z": [z], "K": [size]})


MAX = float("inf")
BOTH_ORDERS = ("odd", "monotone")
THEOREMS = (
    *(
        Theorem("harma2025.theorem3_5", f"in {norm}", n, _prune_first(p),
                ("the block keeps a value of its largest size", "zero is kept"))
        for n in (4, 8) for norm, p in (("L1", 1), ("L∞", MAX))
    ),
    *(
        Theorem("harma2025.theorem3_7", f"first bound in {norm}", 4, _cost(p), ("pruned by size, any rule for ties",))
        for norm, p in (("L1", 1), ("L∞", MAX))
    ),
    Theorem("harma2025.theorem3_7", "half a step for each pruned place, in L1", 4, _half_a_step,
            ("rounded to nearest",)),
    *(
        # In L∞ the corollary needs no monotone quantizer: one that is odd is enough.
        Theorem("harma2025.corollary", f"in {norm}", n, _corollary(p), BOTH_ORDERS if p == 1 else ("odd",))
        for n in (4, 8) for norm, p in (("L1", 1), ("L∞", MAX))
    ),
    *(Theorem("ours.ties", "value for value", n, _ties, BOTH_ORDERS) for n in (4, 8)),
    *(Theorem("ours.joint_mask", "for any losses", n, _joint, ("kept by gain",)) for n in (4, 8)),
    Theorem("ours.joint_mask", "the gain is what keeping saves, squared", 1, _gain, ("no sign is changed",)),
    *(
        Theorem("ours.largest_error", "in L∞", n, _largest_error,
                ("no value moves farther than to 0", "pruned by size, any rule for ties"))
        for n in (4, 8)
    ),
    Theorem("zhang2025.quantization", "unbiased, M the step", 1, _two_values, ("drawn in proportion",)),
    Theorem("zhang2025.pruning", "unbiased, M = K, for 0 < c ≤ 1", 1, _pruned, ("c ≤ 1", "kept in proportion")),
    Theorem("zhang2025.joint", "unbiased, M = 2K, three values", 1, _three_values, ("rounded in proportion",)),
)  # fmt: skip


# --- the prover ---------------------------------------------------------------------------------------------------


def _numbers_text(numbers: Mapping[str, Any], model: Any) -> str:
    def text(value: Any) -> str:
        return str(model.eval(value, model_completion=True)).replace("True", "yes").replace("False", "no")

    return "; ".join(f"{name} = ({', '.join(map(text, values))})" for name, values in numbers.items())


def _ask(z3: Any, theorem: Theorem, limit: float, without: str = "") -> tuple[str, float, int, str]:
    stated = theorem.state(z3, theorem.values)
    if without and without not in stated.hypotheses:
        raise ValueError(f"{theorem.claim}: no hypothesis {without!r}; there are {', '.join(stated.hypotheses)}")
    solver = z3.Solver()
    solver.set("timeout", int(1000 * limit))
    solver.set("random_seed", 0)
    for name, asked in stated.hypotheses.items():
        if name != without:
            solver.add(*asked)
    solver.add(z3.Not(stated.conclusion))
    start = time.perf_counter()
    answer = solver.check()
    seconds = time.perf_counter() - start
    outcome = {"unsat": "proved", "sat": "counterexample"}.get(str(answer), "not decided")
    example = _numbers_text(stated.numbers, solver.model()) if str(answer) == "sat" else ""
    return outcome, seconds, len(solver.assertions()), example


def prove(theorem: Theorem, limit: float = 120) -> Proof:
    """Ask the solver, and again without each hypothesis that is said to matter.

    Parameters
    ----------
    limit : seconds for each question, in [0.001, 1e6]; what is not decided by then is said to be so.

    Raises
    ------
    TypeError, ValueError : a limit that is not as above.
    MissingExtra : Z3 is not installed; the extra `prove` brings it.
    """
    limit = arguments.real(limit, "limit", *LIMITS)
    z3 = extras.need("z3")
    outcome, seconds, assertions, example = _ask(z3, theorem, limit)
    controls = {}
    for name in theorem.drop:
        outcome_without, _, _, counterexample = _ask(z3, theorem, limit, without=name)
        controls[name] = counterexample if outcome_without == "counterexample" else ""
    return Proof(theorem, outcome, seconds, assertions, example, controls)


def theorems(ids: Iterable[str] | None = None) -> list[Theorem]:
    """The theorems of these claims, all when None.

    Raises
    ------
    ValueError : a claim has none.
    """
    if ids is None:
        return list(THEOREMS)
    chosen = list(ids)
    known = list(dict.fromkeys(theorem.claim for theorem in THEOREMS))
    unknown = [claim_id for claim_id in chosen if claim_id not in known]
    if unknown:
        raise ValueError(f"no proof by machine for {', '.join(unknown)}; there are proofs for {', '.join(known)}")
    return [theorem for theorem in THEOREMS if theorem.claim in chosen]


def to_record(proofs: Iterable[Proof]) -> list[dict]:
    """Plain rows for JSON."""
    return [
        {
            "claim": proof.theorem.claim,
            "title": proof.theorem.title,
            "values": proof.theorem.values,
            "outcome": proof.outcome,
            "seconds": round(proof.seconds, 2),
            "assertions": proof.assertions,
            "controls": dict(proof.controls),
        }
        for proof in proofs
    ]


def recorded(claim_id: str) -> list[dict]:
    """The rows of the record that belong to a claim; none where there is no record."""
    try:
        rows = records.read(RECORD)["rows"]
    except records.MissingRecord:
        return []
    return [row for row in rows if row["claim"] == claim_id]


def line(claim_id: str) -> str:
    """One sentence for a claim's card: what was proved by machine, and how long it took; empty where nothing was."""
    rows = [row for row in recorded(claim_id) if row["outcome"] == "proved"]
    if not rows:
        return ""
    parts = []
    for values in sorted({row["values"] for row in rows}):
        group = [row for row in rows if row["values"] == values]
        what = {1: "every real number", 4: "all real blocks of four", 8: "all real blocks of eight"}[values]
        seconds = sum(row["seconds"] for row in group)
        facts = sum(row["assertions"] for row in group)
        parts.append(f"for {what} ({', '.join(row['title'] for row in group)}; {seconds:.2g} s, {facts} assertions)")
    return f"*Proved by machine* {'; '.join(parts)}."
