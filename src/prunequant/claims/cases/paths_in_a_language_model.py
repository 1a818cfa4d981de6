"""The claim about path following in a language model: verdicts recomputed from the raw rows of its record."""

from functools import lru_cache

import numpy as np

from prunequant.cases import runner as case
from prunequant.cases.paths_in_a_language_model import summary as paths_summary

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

BITS = 4


@lru_cache(maxsize=1)
def _record() -> dict:
    """The record of the CPU, read once."""
    return case.recorded("paths-in-a-language-model")


def _difference(name: str, comparison: dict) -> Figure:
    return Figure(name, comparison["mean"], "nats", interval=(comparison["low"], comparison["high"]))


LOWER = "GPFQ is below nearest rounding: its 95 % interval lies below 0"
HIGHER = "SPFQ is above GPFQ: its 95 % interval lies above 0"
COVERED = "no neuron is above its certificate"
ALONE = "no neuron is above the certificate as if the layers below were not compressed"


def _sound(rows: list[dict]) -> dict[str, bool]:
    """The hypotheses of the comparisons: seeds, windows, layers, finite losses and one dense model, from the rows."""
    used = [r for r in rows if r["bits"] == BITS and r["method"] in ("nearest", "path", "coins")]
    by: dict[tuple, list] = {}
    for r in used:
        by.setdefault((r["method"], r["calibration"]), []).append(r)
    seeds = [sorted(r["seed"] for r in each) for each in by.values()]
    dense = [r["losses"] for r in rows if r["method"] == "dense"]
    layers = [r["layers"] for r in used]
    return {
        "all methods have the same five seeds or more, no two alike": all(s == seeds[0] for s in seeds)
        and len(set(seeds[0])) == len(seeds[0]) >= 5
        and all(
            len({tuple(r["losses"]) for r in each}) == len(each) for key, each in by.items() if key[0] != "nearest"
        ),
        "all were read on the same windows, those of the dense model": all(d == dense[0] for d in dense)
        and {len(r["losses"]) for r in used} == {len(dense[0])},
        "every loss is finite and no model is better than dense by a tenth": all(
            bool(np.all(np.isfinite(r["losses"])))
            and np.isclose(np.mean(r["losses"]), r["loss"], atol=1e-5)
            and np.mean(r["losses"]) > np.mean(dense[0]) - 0.1
            for r in used
        ),
        "every run compressed the 210 layers of the model, each once": all(len(set(h["layer"])) == 210 for h in layers)
        and len({tuple(h["layer"]) for h in layers}) == 1,
    }


def _paths(budget: Budget, calibration: str, part: str) -> Evidence:
    """GPFQ against nearest rounding, coins against GPFQ, errors against certificates, paired over the texts."""
    rows = _record()["rows"]
    gain = paths_summary.compared(rows, "path", "nearest", BITS, calibration)
    price = paths_summary.compared(rows, "coins", "path", BITS)
    cover = paths_summary.coverage(rows, BITS, part)
    closest = max(max(r["layers"]["closest"]) for r in paths_summary.chosen(rows, "coins", BITS))
    figures = (
        _difference("cross-entropy, GPFQ minus nearest", gain),
        Figure("windows of text where GPFQ is lower", f"{gain['windows_lower']} of {gain['windows']}"),
        _difference("cross-entropy, SPFQ minus GPFQ", price),
        Figure("layers with all neurons below the bound", f"{cover['layers_covered']:,} of {cover['layers']:,}"),
        Figure("neurons above it", cover["neurons_above"]),
        Figure("neurons", cover["neurons"]),
        Figure("median of bound over error, by layer", cover["slack"]),
        Figure("least bound over error, of any neuron", 1 / cover["closest"]),
    )
    holds = {
        LOWER: gain["high"] < 0,
        HIGHER: price["low"] > 0,
        COVERED if part == "above" else ALONE: cover["neurons_above"] == 0,
        "the closest neuron is as near to its bound as the counts say": (closest <= 1)
        == (paths_summary.coverage(rows, BITS)["neurons_above"] == 0),
        **_sound(rows),
    }
    slack = cover["slack"] if part == "above" else None
    return Evidence(holds, figures, slack=slack, trials=gain["seeds"], seed=0)


@claim(
    id="cases.paths_lm",
    title="The path helps a language model, the certificate holds and costs",
    statement=r"""The 210 linear layers of the decoder of SmolLM2-135M, rounded once to 15 values per row, in the order
in which they run, with 2,048 tokens of calibration text: (i) GPFQ has a lower held-out cross-entropy than nearest
rounding of every weight alone; (ii) SPFQ, coins on a grid without end, has a higher one than GPFQ (95 % intervals,
paired over the draws of the text, exclude 0); (iii) no neuron of any layer has an error above its certificate on the
measured tokens, at a failure probability of 0.001 for the whole model.""",
    source=Source("ours", "cases, paths in a language model", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="The bound holds on every layer, and the model that has it is worse than plain rounding, which has none. "
    "Calibrated on random tokens the path is worse than no path.",
)
def paths_lm(budget: Budget) -> Evidence:
    """Paired intervals and counts from the per-seed rows of the committed record."""
    return _paths(budget, "text", "above")


@paths_lm.control("calibrated on random tokens instead of text", breaks=LOWER)
def _(budget: Budget) -> Evidence:
    return _paths(budget, "noise", "above")


@paths_lm.control("the certificate as if the layers below were not compressed", breaks=ALONE)
def _(budget: Budget) -> Evidence:
    return _paths(budget, "text", "above_alone")
