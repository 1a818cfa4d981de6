"""How likely is a block of source units to miss a weight? Bounds that a plan may rely on.

A block of m units serves one input coordinate. Unit k carries u_k (shared by all outputs) and, for each output, a fresh
v_k; the weight w is found when some subset of the items u_k⁺ v_k sums to w·K²/K_t. Write p(m, w) for the
probability that none does. Three facts make a certificate:

1. p(m, w) = p(m, −w), and p(m, 0) = 0, because the law of v is symmetric and the empty set sums to 0.
2. **Disjoint blocks multiply.** A block cut into two disjoint sub-blocks can only miss when both miss, and they are
   independent: p(m₁ + m₂, w) ≤ p(m₁, w)·p(m₂, w). A bound at 64 units thus certifies 128 and 192 units.
   `find` searches sub-block after sub-block, so this product is also the exact law of its own failure.
3. The union bound adds over the weights of a network, whatever the dependence through the shared units.

What is left is a bound for one sub-block. ``method="measured"``: the Clopper-Pearson upper limit of recorded seeded
trials, simultaneous over every entry used, at the stated confidence; each trial decides one block exactly (partial sums
are followed in a window, which can only overstate the failure). ``method="proved"``: the exact law of the window
process on the items that are multiples of K²/K_t (`window_failure`), no trial and no confidence; it proves that a
ticket exists.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from math import lcm, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prunequant.arguments import choice, instance, integer, numbers, real, shown
from prunequant.records import write_text
from prunequant.threads import run_rows
from prunequant.tickets import _kernels_law as kernels
from prunequant.tickets import arithmetic as exact

KINDS = {"relu": kernels.RELU, "linear": kernels.LINEAR, "uniform": kernels.UNIFORM}
MAX_UNITS = 64
CONFIDENCE = 1 - 1e-6
TABLE = "failures.json"
LIVE_TRIALS = 400_000
LIVE_SEED = 20250811
LIVE_SPAN = 255**2  # beyond it fewer trials, so that a live run takes the same time at every step
LIVE_REACH = 510
MAX_LIVE_SPAN = 8191**2
MAX_WINDOW_LEVELS = 8
MAX_SOURCE = 2**15 - 1
MAX_BLOCKS = 254
MAX_REACH = 2**31
MAX_LIVE_REACH = 2**18


class Law(NamedTuple):
    """Which items a block offers: ``kind`` "relu" (u⁺v), "linear" (u·v) or "uniform" (v), K, K_t, the largest |w|."""

    kind: str
    source: int
    target: int
    reach: int

    @property
    def factor(self) -> int:
        """Units of the sum in one unit of target weight: K²/K_t, or K/K_t for "uniform"."""
        span = self.source if self.kind == "uniform" else self.source**2
        return span // self.target


def law(kind: str, source: int, target: int, reach: int | None = None) -> Law:
    """A checked `Law`; reach is the largest |w| asked for, in target units (default K_t).

    kind : "relu", "linear" or "uniform"; source : int in [1, 2^15 − 1]; target : int ≥ 1 that divides source² (source
        when uniform); reach : int in [1, 2^31]
    """
    kind = choice(kind, "kind", KINDS)
    source, target = integer(source, "source", 1, MAX_SOURCE), integer(target, "target", 1, MAX_SOURCE**2)
    reach = target if reach is None else integer(reach, "reach", 1, MAX_REACH)
    span, name = (source, "δ_in") if kind == "uniform" else (source**2, "δ_in²")
    if span % target:
        raise ValueError(
            f"target step 1/{target} is not a multiple of {name} = 1/{span}: sums of source weights live on that "
            f"grid, so exact tickets need K_t to divide {span} (K_t = {target} does not)"
        )
    return Law(kind, source, target, reach)


def check(of: Law) -> Law:
    """A law of whole numbers, whoever made it."""
    return law(*instance(of, "of", Law, "a law, such as certificate.law('relu', 7, 7)"))


def count_failures(of: Law, trials: int, seed: int, units: int = MAX_UNITS) -> NDArray[np.int64]:
    """Seeded trials: entry [w − 1, m − 1] counts those in which w is no subset sum of the first m units.

    Parameters
    ----------
    of : Law with K ≤ 8191 (2^15 − 1 when "uniform") and reach ≤ 2^18
    trials : int in [1, 2^26]; the counts do not depend on the number of threads
    seed : int in [0, 2^64 − 1]
    units : int in [1, 64], the largest block

    Returns
    -------
    (reach, units) int64, falling along a row

    Notes
    -----
    O(trials · units · K²/64) word operations in a window of 3K² (at least twice the largest target).
    """
    of = check(of)
    trials, seed = integer(trials, "trials", 1, 2**26), integer(seed, "seed", 0, 2**64 - 1)
    units = integer(units, "units", 1, MAX_UNITS)
    span = _span(of)
    if span > MAX_LIVE_SPAN or of.reach * of.factor > 2 * MAX_LIVE_SPAN or of.reach > MAX_LIVE_REACH:
        raise ValueError(
            f"source step 1/{of.source}, weights up to {of.reach}/{of.target}: failures are measured for 1/step up to "
            "8191 and weights up to 2"
        )
    window = -(-max(3 * span, 2 * of.reach * of.factor, 128) // 64) * 64
    chunks = min(256, trials, max(1, 2**25 // (of.reach * (units + 2))))
    hits = np.zeros((chunks, of.reach, units + 2), np.int64)
    arguments = (KINDS[of.kind], of.source, of.factor, of.reach, units, window, trials, np.uint64(seed), hits)
    run_rows(lambda start, stop: kernels.count_hits(*arguments, start, stop), chunks, 1)
    return trials - np.cumsum(hits.sum(axis=0), axis=1)[:, 1 : units + 1]


def _span(of: Law) -> int:
    return of.source if of.kind == "uniform" else of.source**2


def live_trials(of: Law) -> int:
    """Trials of a live run: 400,000 up to K = 255 and weights up to 510, beyond as many as take the same time.

    That is about a quarter of a minute on one processor, for a law that the recorded table does not have.
    """
    trials = LIVE_TRIALS * LIVE_SPAN // max(LIVE_SPAN, _span(check(of)))
    return max(1, min(trials, LIVE_TRIALS * LIVE_REACH // max(LIVE_REACH, of.reach)))


@lru_cache(maxsize=1)
def _recorded() -> dict:
    path = resources.files(__package__) / TABLE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"entries": {}}


def failures(of: Law) -> tuple[NDArray[np.int64], int]:
    """(failure counts (reach, 64), trials): the recorded table where it has this law, else a live run."""
    return _failures(check(of))


@lru_cache(maxsize=128)
def _failures(of: Law) -> tuple[NDArray[np.int64], int]:
    entry = _recorded()["entries"].get("/".join(map(str, of)))
    if entry is not None:
        return np.array(entry["failures"], np.int64), int(entry["trials"])
    trials = live_trials(of)
    return count_failures(of, trials, LIVE_SEED), trials


def rates(of: Law) -> NDArray[np.float64]:
    """Measured p(m, w): entry [w, m] for w = 0..reach and m = 0..64 (no units: only w = 0 is found)."""
    counts, trials = failures(check(of))
    return _framed(counts / trials)


def upper_limits(of: Law, confidence: float = CONFIDENCE, laws: int = 1) -> NDArray[np.float64]:
    """Clopper-Pearson upper limits of p(m, w), entry [w, m], all valid at once with this confidence.

    ``laws`` is the number of different laws that share the confidence (Bonferroni over laws and entries).
    """
    confidence, laws = real(confidence, "confidence", 0, 1, open_high=True), integer(laws, "laws", 1, 2**20)
    return _upper_limits(check(of), confidence, laws)


@lru_cache(maxsize=128)
def _upper_limits(of: Law, confidence: float, laws: int) -> NDArray[np.float64]:
    counts, trials = failures(of)
    alpha = (1 - confidence) / (counts.size * laws)
    different, place = np.unique(counts, return_inverse=True)  # a quantile costs more than a look-up
    upper = np.ones(different.shape)
    open_ = different < trials
    upper[open_] = stats.beta.isf(alpha, different[open_] + 1, trials - different[open_])
    return _framed(upper[place].reshape(counts.shape))


def _framed(values: NDArray) -> NDArray:
    framed = np.ones((values.shape[0] + 1, values.shape[1] + 1))
    framed[1:, 1:] = values
    framed[0] = 0.0
    return framed


def block_failure(of: Law, blocks: tuple[int, ...], confidence: float = CONFIDENCE, laws: int = 1) -> NDArray:
    """Certified failure of |w| = 0..reach with these sub-blocks: the product of the sub-blocks' limits.

    blocks : ints in [1, 64]; confidence : float in [0, 1); laws : int in [1, 2^20]
    """
    sizes = [integer(m, f"blocks[{i}]", 1, MAX_UNITS) for i, m in enumerate(exact.several(blocks, "blocks"))]
    if not 1 <= len(sizes) <= MAX_BLOCKS:
        raise ValueError(f"blocks has {len(sizes)} entries: from 1 to {MAX_BLOCKS} are needed")
    return np.prod([upper_limits(of, confidence, laws)[:, m] for m in sizes], axis=0)


def choose_blocks(of: Law, log_failure: float, weight_counts: NDArray | None = None, laws: int = 1) -> tuple[int, ...]:
    """The fewest units, cut into sub-blocks, whose certified failure is at most exp(log_failure).

    With ``weight_counts`` (how many weights have each |w|) the sum over those weights is certified instead of the
    worst weight.
    """
    log_failure = real(log_failure, "log_failure", None, 0, open_high=True)
    of = check(of)
    if weight_counts is not None:
        weight_counts = numbers(weight_counts, "weight_counts").astype(np.float64)
        if weight_counts.shape != (of.reach + 1,) or weight_counts.min() < 0 or weight_counts.max() > 1e18:
            given = shown(weight_counts)
            raise ValueError(f"weight_counts is {given}: it must hold {of.reach + 1} counts in [0, 1e18]")
    limits = upper_limits(of, laws=laws)
    counts = np.zeros(of.reach + 1)
    counts[-1 if weight_counts is None else slice(None)] = 1 if weight_counts is None else weight_counts
    best: tuple[int, ...] | None = None
    for number in range(1, 33):
        for size in range(1, MAX_UNITS + 1):
            if best is not None and number * size >= sum(best):
                break
            powered = limits[:, size] ** number
            total = powered.max() if weight_counts is None else float(counts @ powered)
            if total <= 0 or log(total) <= log_failure:
                best = (size,) * number
                break
    if best is None:
        raise ValueError(
            f"no block of up to {32 * MAX_UNITS} units brings the failure below {np.exp(log_failure):.1e} "
            f"at source step 1/{of.source}, target step 1/{of.target}: allow a larger failure or a finer source"
        )
    return best


def most_window_units(reach: int) -> int:
    """The most units that `window_failure` follows at this reach, in [1, 8]: its work grows with units · 4^reach."""
    return min(2**14, 2**28 >> 2 * integer(reach, "reach", 1, MAX_WINDOW_LEVELS))


def window_failure(of: Law, units: int) -> NDArray[np.float64]:
    """Proved bound on p(m, w), entry [w, m], m ≤ units: exact law of the window process, no randomness in it.

    Only items that are multiples of c = K²/K_t are used, and only sums within ±reach·c. The set of reached sums is then
    a Markov chain on subsets of 2·reach + 1 points, whose law is computed exactly (non-negative float64 sums: relative
    rounding error below 1e-12 a unit). Every reached sum is a subset sum, so the chain's failure bounds the true one.

    Raises
    ------
    TypeError, ValueError : reach above 8 (2^17 subsets), units outside [1, 2^14], units · 4^reach above 2^28, which at
        reach 8 leaves 4096 units and takes a quarter of a minute
    """
    of, units = check(of), integer(units, "units", 1, 2**14)
    if of.reach > MAX_WINDOW_LEVELS:
        raise ValueError(f"the proved bound follows 2^(2·reach) sets: reach {of.reach} is above {MAX_WINDOW_LEVELS}")
    if units > most_window_units(of.reach):
        raise ValueError(f"units is {units}: at reach {of.reach} it must be at most {most_window_units(of.reach)}")
    u = np.arange(1, 2 if of.kind == "uniform" else of.source + 1)
    pairs = []  # how many (u, v > 0) have u·v = s·c
    for s in range(1, 2 * of.reach + 1):
        v = s * of.factor // u
        pairs.append(int(((u * v == s * of.factor) & (v <= of.source)).sum()) * (2 if of.kind == "linear" else 1))
    shifts = np.array([s for s in range(-len(pairs), len(pairs) + 1) if s and pairs[abs(s) - 1]], np.int64)
    size = 2 * of.source + 1
    law_ = np.array([pairs[abs(s) - 1] for s in shifts.tolist()]) / (size if of.kind == "uniform" else size**2)
    points = 2 * of.reach + 1
    now = np.zeros(1 << points)
    now[1 << of.reach] = 1.0
    out = np.ones((of.reach + 1, units + 1))
    out[0] = 0.0
    kernels.window_chain(now, np.empty_like(now), shifts, law_, 1 - law_.sum(), points, out)
    return np.minimum(out * (1 + 1e-9), 1.0)


def table_laws() -> list[Law]:
    """The laws of the recorded table: equal steps, and the whole-number refinements of small targets."""
    listed = [law("relu", k, k) for k in (1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127)]
    listed += [law("relu", k, t) for k, t in ((4, 2), (8, 4), (16, 8), (14, 7), (32, 16))]
    listed += [law("linear", k, k) for k in (3, 4, 7, 8, 15, 16)]
    listed += [law("uniform", k, k) for k in (1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127)]
    listed += [law("uniform", k, k, 2 * k) for k in (3, 4, 7, 8)]
    return listed


def record(path: str, trials: int, seed: int = LIVE_SEED) -> None:
    """Count failures for every law of `table_laws` and write the table (fewer trials where K > 16, as 16/K)."""
    entries = {}
    for of in table_laws():
        number = max(1, integer(trials, "trials", 1, 2**26) * 16 // max(16, of.source))
        counts = count_failures(of, number, seed)
        entries["/".join(map(str, of))] = {"trials": number, "failures": counts.tolist()}
    entry = {
        "version": 1,
        "seed": seed,
        "layout": "kind/K/K_t/reach: failures[w-1][m-1]",
        "command": f"prunequant.tickets.certificate.record(path, trials={trials:_})",
        "entries": entries,
    }
    write_text(path, json.dumps(entry, separators=(",", ":")) + "\n")


def common_grid(source: int, target: int) -> int:
    """The smallest source K' ≥ source with K'² a multiple of K_t: what an indivisible pair may be replaced by.

    source, target : int in [1, 2^20]
    """
    source, target = integer(source, "source", 1, 2**20), integer(target, "target", 1, 2**20)
    k = source
    while k * k % target:
        k += 1
    return min(k, lcm(source, target))
