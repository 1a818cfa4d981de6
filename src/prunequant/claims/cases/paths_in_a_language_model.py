"""The claim about path following in a language model: verdicts recomputed from the raw rows of its record."""

from functools import lru_cache

from prunequant.cases import runner as case
from prunequant.cases.paths_in_a_language_model import summary as paths_summary

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

BITS = 4


@lru_cache(maxsize=1)
def _record() -> dict:
    """The record of the CPU, read once."""
    return case.recorded("paths-in-a-language-model")


def _difference(name: str, found: dict) -> Figure:
    return Figure(name, found["mean"], "nats", interval=(found["low"], found["high"]))


def _paths(budget: Budget, calibration: str, part: str) -> Evidence:
    """GPFQ against nearest rounding, coins against GPFQ, errors against certificates, paired over the texts."""
    rows = _record()["rows"]
    gain = paths_summary.compared(rows, "path", "nearest", BITS, calibration)
    price = paths_summary.compared(rows, "coins", "path", BITS)
    cover = paths_summary.coverage(rows, BITS, part)
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
    holds = gain["high"] < 0 < price["low"] and cover["neurons_above"] == 0
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


@paths_lm.control("calibrated on random tokens instead of text")
def _(budget: Budget) -> Evidence:
    return _paths(budget, "noise", "above")


@paths_lm.control("the certificate as if the layers below were not compressed")
def _(budget: Budget) -> Evidence:
    return _paths(budget, "text", "above_alone")
