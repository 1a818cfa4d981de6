"""Claims of Harma et al. 2025 on trained models, on a perceptron that trains in a fraction of a second."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from prunequant import records
from prunequant.cases import runner as case
from prunequant.cases.order_in_a_language_model.summary import cells
from prunequant.sparsity.masks import TIES
from prunequant.statistics import Paired, holm, paired
from prunequant.studies.orders import order_effect

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

LIVE = "digits, MXFP4, ties by the index: quantizing first is worse, the 95 % interval above 0"
BY_INDEX = "on both tasks, MXFP4 and HBFP4, ties by the index: worse, p < 0.05 after Holm's correction"
AT_RANDOM = "on curves ties at random leave some of it in both formats, p < 0.05 after Holm's correction"
EIGHT = "in INT8 nothing is seen on either task, whatever the rule"
TUNED = "after training with masks taken anew in every step at most one difference keeps p < 0.05, corrected"


@lru_cache(maxsize=1)
def _rows(budget: Budget) -> list[dict]:
    """One row a seed, both formats from the same trained weights; shared by the claim and its controls."""
    seeds = budget.pick(5, 20, 40)
    return [order_effect("digits", seed, formats=("INT8", "MXFP4"), patterns=("0.75",)) for seed in range(seeds)]


@lru_cache(maxsize=1)
def _record() -> dict:
    return records.read("order_effect.json")


def _cells(fmt: str, ties: str = "first", pattern: str = "0.75", inputs: bool = False) -> dict[str, dict]:
    """The recorded cell of each task: weights alone, or the inputs of every layer too."""
    return {
        part["task"]: cell
        for part in _record()["orders"]
        for cell in part["cells"]
        if part["activations"] is inputs and (cell["pattern"], cell["format"], cell["ties"]) == (pattern, fmt, ties)
    }


def _costs(cells: Mapping[str, dict]) -> list[bool]:
    return [c["delta"]["mean"] > 0 and c["p_holm"] < 0.05 for c in cells.values()]


def _tuned(kinds: Sequence[str]) -> list[dict]:
    """Recorded differences of these protocols from pruning first, after as many steps: all tasks, formats, patterns."""
    every = [d for part in _record()["fine_tuned"] for d in part["differences"]]
    return [d for d in every if d["name"].endswith(tuple(kinds))]


def _order(
    budget: Budget,
    fmt: str = "MXFP4",
    ties: str = "first",
    recorded: str = "first",
    protocols: Sequence[str] = ("qs first", "qs random", "qs magnitude"),
) -> Evidence:
    """Loss of "quantize, then prune" minus loss of "prune, then quantize": live on one task, recorded on two."""
    rows = _rows(budget)
    delta = paired([row[f"0.75 {fmt} qs {ties}"] - row[f"0.75 {fmt} sq"] for row in rows])
    random = paired([row[f"0.75 {fmt} qs random"] - row[f"0.75 {fmt} sq"] for row in rows])
    four = {name: _cells(name, recorded) for name in ("MXFP4", "HBFP4")}
    drawn = {name: _cells(name, "random") for name in four}
    tuned = _tuned(protocols)
    left = [d for d in tuned if d["p_holm"] < 0.05]
    figures = [
        Figure("seeds where quantizing first is worse", f"{delta.positive} of {delta.seeds}"),
        Figure("loss added by quantizing first", delta.mean, "nats", digits=1),
        Figure("the same with random ties", random.mean, "nats", digits=1),
    ]
    for task in ("digits", "curves"):
        for name in four:
            index, chance = four[name][task]["delta"], drawn[name][task]["delta"]
            figures.append(Figure(f"{task}, {name}, recorded, by index", index["mean"], "nats", digits=2))
            figures.append(Figure(f"{task}, {name}, recorded, at random", chance["mean"], "nats", digits=2))
    figures.append(Figure("after training, differences that survive the correction", f"{len(left)} of {len(tuned)}"))
    figures += [
        Figure(f"after training, {d['name']}", d["mean"], "nats", (d["low"], d["high"]), digits=1) for d in left
    ]
    holds = {
        LIVE: delta.verdict == "above",
        BY_INDEX: all(all(_costs(cells)) for cells in four.values()),
        AT_RANDOM: all(c["curves"]["delta"]["mean"] > 0 and c["curves"]["p_holm"] < 0.05 for c in drawn.values()),
        EIGHT: all(c["delta"]["low"] < 0 < c["delta"]["high"] for ties in TIES for c in _cells("INT8", ties).values()),
        TUNED: len(tuned) >= 32 and len(left) <= 1,
    }
    return Evidence(holds, tuple(figures), trials=len(rows), seed=0, note="recorded cells: 40 seeds each")


@claim(
    id="harma2025.order_effect",
    title="Pruning first gives the better trained model",
    statement=r"""Trained models lose less when they are pruned and then quantized than when they are quantized and
then pruned, consistently over models and formats.""",
    source=Source("harma2025", "Table 2"),
    verdict=Verdict.CONDITIONAL,
    condition="four bits, a mask that ranks quantized values blindly where they tie, and no training after it",
    truth=r"""Perceptrons on handwritten digits and on noisy curves, 75 % pruned, no fine-tuning, 40 paired seeds:
in MXFP4 and HBFP4 with ties to the first index quantizing first is the worse order on both tasks, after Holm's
correction. On curves ties at random leave half to three quarters of that; ties to the larger original weight leave
none. In INT8 nothing is seen. After 100 steps of training in which masks are taken anew in every step one of 96
differences survives the correction, by 0.009 nats (MXFP4, 2:4, curves, ties at random; p = 0.047). Four corrections at
5 % let one through by chance in up to one study of five.""",
    difference="The effect is that of blind ties: how much of it is the index depends on the task. Nothing is seen "
    "at eight bits in integers. Reported: the paper's experiments all fine-tune, and may quantize activations in one "
    "order only. A language model trained with its mask frozen at the first step keeps the price of ties (claim "
    "cases.order_lm_trained): the protocol of the mask is a likely reason for the two opposite answers.",
    remark="In MXFP4: digits 0.13 nats by index and 0.03 at random, curves 0.08 and 0.05; none by magnitude.",
)
def order_effect_claim(budget: Budget) -> Evidence:
    """Five or more live seeds of the digits perceptron, and the recorded cells of both tasks."""
    return _order(budget)


@order_effect_claim.control("INT8 instead of MXFP4", breaks=LIVE)
def _(budget: Budget) -> Evidence:
    return _order(budget, "INT8")


@order_effect_claim.control("ties by the original magnitude", breaks=(LIVE, BY_INDEX))
def _(budget: Budget) -> Evidence:
    return _order(budget, ties="magnitude", recorded="magnitude")


@order_effect_claim.control(
    "pruned in full precision and quantized once at the end, against both in the loop", breaks=TUNED
)
def _(budget: Budget) -> Evidence:
    return _order(budget, protocols=("sq one shot",))


ABOVE = "on digits MXFP4 and, with inputs quantized too, MXFP8 lie above it, p < 0.05 after Holm's correction"
BELOW = "the language model lies below it in INT4, p < 0.05 after Holm's correction"
FREE = "a format that costs under 0.0005 nats by itself has the pruned model's loss for a threshold: INT8"
NOTHING = 0.0005  # nats


def _excess(task: str, fmt: str, inputs: bool) -> tuple[dict, float]:
    """Recorded loss minus threshold at 75 %, and its p-value corrected over the cells of that study."""
    part = next(o for o in _record()["orders"] if (o["task"], o["activations"]) == (task, inputs))
    cells = [c for c in part["cells"] if c["ties"] == "first"]
    at = next(i for i, c in enumerate(cells) if (c["pattern"], c["format"]) == ("0.75", fmt))
    return cells[at]["excess"], float(holm([c["excess"]["p"] for c in cells])[at])


def _language(fmt: str) -> tuple[Paired, float]:
    """The same for SmolLM2 as shipped, 30 % pruned, over windows of text, corrected over the seven formats."""
    losses = cells(case.recorded("order-in-a-language-model")["rows"], "shipped")
    by = {f: {k: next(iter(losses["" if k in "dq" else "0.3", "" if k in "ds" else f, k].values()))
              for k in ("d", "s", "q", "sq")} for p, f, k in losses if (p, k) == ("0.3", "sq")}  # fmt: skip
    excess = {f: paired(v["sq"] - (v["s"] + v["q"] - v["d"])) for f, v in by.items()}
    return excess[fmt], float(dict(zip(excess, holm([e.p for e in excess.values()])))[fmt])


def _against_threshold(four: str = "MXFP4", eight: str = "MXFP8", below: str = "INT4") -> Evidence:
    """Recorded loss minus threshold, 95 % intervals over paired seeds, and what a format costs by itself."""
    excesses = {(f, i): _excess("digits", f, i) for f, i in ((four, False), (four, True), (eight, True))}
    alone, _ = _excess("digits", eight, False)
    under, p_under = _language(below)
    means = next(o["means"] for o in _record()["orders"] if o["task"] == "digits" and not o["activations"])
    cost = {f: means[f"0.75 {f} q"] - means["dense"] for f in ("INT8", "MXFP8", "MXFP4")}
    excess = [(f"digits, {f}{', inputs too' if i else ''}", e["mean"], e["low"], e["high"])
              for (f, i), (e, _) in excesses.items()]  # fmt: skip
    excess.append((f"digits, {eight}, not sure after the correction", alone["mean"], alone["low"], alone["high"]))
    excess.append((f"SmolLM2, {below}, 30 %", under.mean, under.low, under.high))
    figures = [
        Figure(f"{name}: loss minus threshold", m, "nats", (low, high), digits=2) for name, m, low, high in excess
    ]
    figures += [Figure(f"digits, {f}: what quantization costs alone", c, "nats", digits=1) for f, c in cost.items()]
    holds = {
        ABOVE: all(e["mean"] > 0 and p < 0.05 for e, p in excesses.values()),
        BELOW: under.mean < 0 and p_under < 0.05,
        FREE: abs(cost["INT8"]) < NOTHING,
    }
    return Evidence(holds, tuple(figures), trials=alone["seeds"], note="read from the cells and rows of two records")


@claim(
    id="harma2025.threshold",
    title="The orthogonality threshold",
    statement=r"""Let $T=\ell_S+\ell_Q-\ell_D$ with the test losses of the pruned, the quantized and the dense model.
Were pruning and quantization orthogonal, a model with both would lose at most $T$; models lose more. (Reported: with
INT8 and 50 % they lie near it.)""",
    source=Source("harma2025", "Equation 12"),
    verdict=Verdict.CONDITIONAL,
    condition="by model and format: above $T$ on digits in MXFP4 and MXFP8, below it in a language model in INT4",
    truth=r"""Pruned and then quantized: a perceptron on digits at 75 % lies above $T$ in MXFP4, and in MXFP8 once
its inputs are quantized too (40 paired seeds); SmolLM2 at 30 % lies below in INT4 (8 windows of text); $p<0.05$
after Holm's correction. INT8 costs under 0.0005 nats by itself, so its $T$ is the pruned model's loss: that it lies
there says nothing about orthogonality.""",
    difference="Both sides of the threshold occur. A format that changes nothing lies on it exactly: near the "
    "threshold is evidence only where quantization costs something.",
    remark="Eight bits are not one case: MXFP8 is above the threshold though it costs nothing alone.",
)
def threshold_claim(budget: Budget) -> Evidence:
    """Excess over the threshold of the recorded cells, and the cost of each format alone."""
    return _against_threshold()


@threshold_claim.control("a format that changes next to nothing, INT8, for both", breaks=ABOVE)
def _(budget: Budget) -> Evidence:
    return _against_threshold("INT8", "INT8")


@threshold_claim.control("MXFP8 in the language model", breaks=BELOW)
def _(budget: Budget) -> Evidence:
    return _against_threshold(below="MXFP8")
