"""The claim about the two orders on SmolLM2-135M, recomputed from the rows of its record."""

import numpy as np

from prunequant.finetune import case
from prunequant.finetune.order_summary import cells
from prunequant.interplay.paired import paired

from .core import Budget, Evidence, Figure, Source, Verdict, claim

LEFT = 0.25  # the most of the gap that may be left once ties go to the larger original weight


def _losses(fmt: str) -> dict[str, np.ndarray]:
    """Mean cross-entropy by kind of compression, one per seed, at 30 % on the weights without their grid."""
    found = cells(case.recorded("order-in-a-language-model")["rows"], "seeds")
    kinds = {kind: by_seed for (pattern, f, kind), by_seed in found.items() if (pattern, f) == ("0.3", fmt)}
    return {kind: np.array([by_seed[s].mean() for s in sorted(by_seed)]) for kind, by_seed in kinds.items()}


def _evidence(fmt: str, shuffle=lambda later, earlier: (later, earlier)) -> Evidence:
    losses = _losses(fmt)
    later, earlier = shuffle(losses["qs"], losses["sq"])
    gap, fair = paired(later - earlier), paired(losses["qs magnitude"] - losses["sq"])
    figures = (
        Figure("seeds where quantizing first is worse", f"{gap.positive} of {gap.seeds}"),
        Figure("loss added by quantizing first", gap.mean, "nats", (gap.low, gap.high), digits=2),
        Figure("the same with fair ties", fair.mean, "nats", (fair.low, fair.high), digits=2),
    )
    holds = gap.verdict == "above" and abs(fair.mean) < LEFT * gap.mean
    return Evidence(holds=holds, figures=figures, trials=gap.seeds, note="read from the record's rows")


@claim(
    id="cases.order_lm",
    title="The order in a language model is a tie rule",
    statement=r"""SmolLM2-135M, its storage grid removed by noise, 30 % of every layer pruned, MXFP4, no training:
quantizing first costs held-out cross-entropy (the mean difference over paired seeds is positive, its 95 % interval
excludes 0) when ties of the mask go to the first index. With ties to the larger original weight less than a quarter of
that is left.""",
    source=Source("ours", "Part V; the setting of Harma et al. 2024, Table 2", "ours"),
    chapter="cases/order-in-a-language-model",
    verdict=Verdict.CONDITIONAL,
    condition="MXFP4 at 30 %, one-shot; INT4 with a scale per row keeps its gap under any tie rule",
    remark="MXFP4 blocks share powers of two, so equal codes are nearly equal weights and ties are frequent. INT4 rows "
    "have scales of their own: there the mask of the quantized weights is a different mask.",
)
def order_lm(budget: Budget) -> Evidence:
    """The recorded seeds, each with its own noise and its own held-out windows."""
    return _evidence("MXFP4")


@order_lm.control("INT4: the gap is not a matter of ties")
def _(budget: Budget) -> Evidence:
    return _evidence("INT4")


@order_lm.control("the labels of the orders exchanged for every other seed")
def _(budget: Budget) -> Evidence:
    def exchange(later, earlier):
        odd = np.arange(later.size) % 2 == 1
        return np.where(odd, earlier, later), np.where(odd, later, earlier)

    return _evidence("MXFP4", exchange)


@order_lm.control("seeds that are not paired")
def _(budget: Budget) -> Evidence:
    return _evidence("MXFP4", lambda later, earlier: (later, np.roll(earlier, 1)))
