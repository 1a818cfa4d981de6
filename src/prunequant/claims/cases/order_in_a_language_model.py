"""The claims about the two orders on SmolLM2-135M, recomputed from the rows of their records."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prunequant import records
from prunequant.cases import runner as case
from prunequant.cases.order_in_a_language_model.summary import cells
from prunequant.statistics import holm, paired

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim

LEFT = 0.25  # the most of the gap that may be left once ties go to the larger original weight
WORKS = 3.0  # nats above dense: a model that adds more predicts hardly better than none, and its order says nothing
Pair = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]

COSTS = "quantizing first costs: its 95 % interval lies above 0"
FAIR = "with fair ties less than a quarter is left: so does that of a quarter of the cost less what is left"
SEEDS = "all kinds have the same five seeds or more, no two alike"
FINITE = "every loss is finite, and no model is broken"
AHEAD = "pruning first is ahead on the mean in all eleven recorded cells at 30 %"


@lru_cache(maxsize=4)
def _record(preset: str) -> dict:
    return case.recorded("order-in-a-language-model", preset)


def _kinds(part: str, fmt: str) -> dict[str, dict[int, NDArray]]:
    """Losses by window of every kind at 30 % in one format; "d", "s" and "q" too."""
    losses = cells(_record("cpu")["rows"], part)
    return {kind: by_seed for (p, f, kind), by_seed in losses.items() if p in ("", "0.3") and f in ("", fmt)}


def _as_given(later: NDArray, earlier: NDArray) -> tuple[NDArray, NDArray]:
    return later, earlier


def _exchanged(later: NDArray, earlier: NDArray) -> tuple[NDArray, NDArray]:
    odd = np.arange(later.size) % 2 == 1
    return np.where(odd, earlier, later), np.where(odd, later, earlier)


def _left(gap: NDArray, fair: NDArray) -> bool:
    """Whether |fair| is less than `LEFT` of the gap, the difference being above 0 with 95 % confidence, both signs."""
    return all(paired(LEFT * gap - sign * fair).low > 0 for sign in (1, -1))


def _sound(kinds: Mapping[str, Mapping[int, NDArray]], names: tuple[str, ...]) -> dict[str, bool]:
    """The hypotheses of a comparison over seeds: the same ones, all different, and models that still work."""
    seeds = sorted(kinds["sq"])
    means = {name: [float(kinds[name][s].mean()) for s in seeds] for name in names if sorted(kinds[name]) == seeds}
    dense = np.array(means.get("d", [np.nan]))
    return {
        SEEDS: len(means) == len(names) and len(seeds) >= 5 and all(len(set(m)) == len(seeds) for m in means.values()),
        FINITE: all(bool(np.all(np.array(m) - dense < WORKS)) for m in means.values()),  # false for NaN, too
    }


def _ahead() -> list[float]:
    """Mean cost of quantizing first in every recorded cell at 30 %: shipped weights and those without their grid."""
    out = []
    for part in ("shipped", "seeds"):
        losses = cells(_record("cpu")["rows"], part)
        for pattern, fmt, kind in losses:
            if (pattern, kind) == ("0.3", "qs"):
                sq = losses[pattern, fmt, "sq"]
                out.append(float(np.mean([losses[pattern, fmt, kind][s].mean() - sq[s].mean() for s in sq])))
    return out


def _shipped() -> tuple[NDArray, NDArray]:
    """On the weights as shipped, MXFP4: what quantizing first costs in each window, by the first index and fairly."""
    kinds = {kind: next(iter(by_seed.values())) for kind, by_seed in _kinds("shipped", "MXFP4").items()}
    return kinds["qs"] - kinds["sq"], kinds["qs magnitude"] - kinds["sq"]


def _evidence(fmt: str, shuffle: Pair = _as_given) -> Evidence:
    kinds = _kinds("seeds", fmt)
    loss = {k: np.array([by[s].mean() for s in sorted(by)]) for k, by in kinds.items()}
    later, earlier = shuffle(loss["qs"], loss["sq"])
    gap, fair = paired(later - earlier), paired(loss["qs magnitude"] - loss["sq"])
    whole, rest = (paired(d) for d in _shipped())
    means = _ahead()
    figures = (
        Figure("seeds where quantizing first is worse", f"{gap.positive} of {gap.seeds}"),
        Figure("loss added by quantizing first", gap.mean, "nats", (gap.low, gap.high), digits=2),
        Figure("the same with fair ties", fair.mean, "nats", (fair.low, fair.high), digits=2),
        Figure("on the shipped weights", whole.mean, "nats", (whole.low, whole.high), digits=2),
        Figure("on the shipped weights with fair ties", rest.mean, "nats", (rest.low, rest.high), digits=2),
        Figure("recorded cells at 30 % with pruning first ahead", f"{sum(m > 0 for m in means)} of {len(means)}"),
    )
    holds = {
        COSTS: gap.verdict == "above",
        FAIR: _left(later - earlier, loss["qs magnitude"] - loss["sq"]),
        "on the shipped weights fair ties leave something: the contrary cell": rest.verdict == "above",
        AHEAD: len(means) == 11 and all(m > 0 for m in means),
        **_sound(kinds, ("d", "s", "q", "sq", "qs", "qs magnitude")),
    }
    return Evidence(holds, figures, trials=gap.seeds, note="read from the record's rows")


@claim(
    id="cases.order_lm",
    title="In MXFP4 the order in a language model is mostly a tie rule",
    statement=r"""SmolLM2-135M, 30 % of every layer pruned, one-shot. At this sparsity pruning first is ahead on the
mean in all eleven recorded cells. In MXFP4, the storage grid of the weights removed by noise, quantizing first costs
held-out cross-entropy when ties of the mask go to the first index, and with ties to the larger original weight less
than a quarter of that is left (95 % intervals over paired seeds). On the weights as shipped fair ties leave something:
the interval over windows excludes 0.""",
    source=Source("ours", "Part V; the setting of Harma et al. 2024, Table 2", "ours"),
    verdict=Verdict.CONDITIONAL,
    condition="MXFP4 at 30 % without the storage grid; fair ties were recorded for one more format, INT4 with a scale "
    "per row, which keeps its gap under any tie rule",
    remark="MXFP4 blocks share powers of two, so equal codes are nearly equal weights and ties are frequent. INT4 rows "
    "have scales of their own: there the mask of the quantized weights is a different mask.",
)
def order_lm(budget: Budget) -> Evidence:
    """The recorded seeds, each with its own noise and its own held-out windows; the shipped weights beside them."""
    return _evidence("MXFP4")


@order_lm.control("INT4: the gap is not a matter of ties", breaks=FAIR)
def _(budget: Budget) -> Evidence:
    return _evidence("INT4")


@order_lm.control("the labels of the orders exchanged for every other seed", breaks=(COSTS, FAIR))
def _(budget: Budget) -> Evidence:
    return _evidence("MXFP4", _exchanged)


@order_lm.control("seeds that are not paired", breaks=(COSTS, FAIR))
def _(budget: Budget) -> Evidence:
    return _evidence("MXFP4", lambda later, earlier: (later, np.roll(earlier, 1)))


JOINT = "the joint mask changes the loss of pruning first by less than 0.04 nats"
SLIGHT = 0.04  # nats
EQUAL = "with fair ties both orders start from the same loss in every seed"
STEPS = "every run has as many steps as the settings say, all losses of the training finite"


def _trained(pattern: str, shuffle: Pair = _as_given, index: str = "qs", joint: str = "joint") -> Evidence:
    """Both orders, both tie rules and the joint mask, MXFP4: losses of the first training step and after training."""
    record = _record("trained")
    dense = {row["seed"]: np.array(row["losses"]["d"]) for row in record["rows"] if row["kind"] == "d"}
    rows = [row for row in record["rows"] if (row["pattern"], row["format"]) == (pattern, "MXFP4")]
    by = {
        kind: {row["seed"]: row for row in rows if row["kind"] == kind}
        for kind in ("sq", "qs", "qs magnitude", "joint")
    }
    seeds = sorted(by["sq"])
    loss = {kind: np.array([np.mean(by_seed[s]["losses"][kind]) for s in seeds]) for kind, by_seed in by.items()}
    start = {kind: np.array([by_seed[s]["training"][0] for s in seeds]) for kind, by_seed in by.items()}
    kinds = {"d": dense, **{k: {s: np.array(r["losses"][k]) for s, r in by_seed.items()} for k, by_seed in by.items()}}
    later, earlier = shuffle(loss[index], loss["sq"])
    gap, fair = paired(later - earlier), paired(loss["qs magnitude"] - loss["sq"])
    other = paired(loss[joint] - loss["sq"])
    same = int(np.sum(start["qs magnitude"] == start["sq"]))
    figures = (
        Figure("seeds where quantizing first is worse", f"{gap.positive} of {gap.seeds}"),
        Figure("loss added by quantizing first", gap.mean, "nats", (gap.low, gap.high), digits=2),
        Figure("the same with fair ties", fair.mean, "nats", (fair.low, fair.high), digits=2),
        Figure("the same with the joint mask", other.mean, "nats", (other.low, other.high), digits=2),
        Figure("seeds where fair ties start from the same loss", f"{same} of {gap.seeds}"),
    )
    holds = {
        COSTS: gap.verdict == "above",
        FAIR: _left(later - earlier, loss["qs magnitude"] - loss["sq"]),
        JOINT: max(-other.low, other.high) < SLIGHT,
        EQUAL: same == gap.seeds,
        STEPS: all(
            len(row["training"]) == record["settings"]["steps"] and bool(np.all(np.isfinite(row["training"])))
            for row in rows
        ),
        **_sound(kinds, ("d", "sq", "qs", "qs magnitude", "joint")),
    }
    return Evidence(holds, figures, trials=gap.seeds, note="read from the record's rows")


@claim(
    id="cases.order_lm_trained",
    title="Short training does not heal a tie rule",
    statement=r"""SmolLM2-135M is trained through 2:4 and MXFP4, the same start, steps and batches for both orders.
Quantizing first with ties to the first index still costs held-out cross-entropy (the mean difference over paired
seeds is positive, its 95 % interval excludes 0). With ties to the larger original weight both orders start as the
same model, with equal loss at the first step, and less than a quarter of the cost is left after training (95 %
interval). The joint mask ends within 0.04 nats of pruning first (95 % interval).""",
    source=Source("ours", "Part V; the setting of Harma et al. 2024, Table 2", "ours"),
    verdict=Verdict.HOLDS,
    remark="That they start equal is a theorem: four neighbours share a scale, so quantization cannot swap two of them "
    "(claim ours.ties). They may part later: a pruned weight can set the scale of its block in one order only. What is "
    "said of the joint mask was worded after its rows were seen.",
    changes=(Change(Verdict.HOLDS, "trained through the joint mask, too"),),
)
def order_lm_trained(budget: Budget) -> Evidence:
    """The recorded losses of the trained models, and of their first steps."""
    return _trained("2:4")


@order_lm_trained.control(
    "half of each layer: the mask compares weights under different scales", breaks=(COSTS, FAIR, EQUAL)
)
def _(budget: Budget) -> Evidence:
    return _trained("0.5")


@order_lm_trained.control("the labels of the orders exchanged for every other seed", breaks=(COSTS, FAIR))
def _(budget: Budget) -> Evidence:
    return _trained("2:4", _exchanged)


@order_lm_trained.control(
    "ties to the larger original weight from the beginning: nothing is paid", breaks=(COSTS, FAIR)
)
def _(budget: Budget) -> Evidence:
    return _trained("2:4", index="qs magnitude")


@order_lm_trained.control(
    "the losses of quantizing first, by the first index, for those of the joint mask", breaks=JOINT
)
def _(budget: Budget) -> Evidence:
    return _trained("2:4", joint="qs")


SMALL = 0.02  # nats: a difference below it is called none; a seventh of what the paper is reported to have
REPORTED = float(np.log(34.71 / 30.22))  # OPT-125M, HBFP8, half pruned, fine-tuned, as a summary has it
NO_ORDER = "the order changes the loss by less than 0.02 nats"
NO_PROTOCOL = "so does training through the quantizer, against quantizing at the end, with quantized inputs and without"
NOT_REPORTED = "no interval reaches the difference that is reported"
UNHURT = "the dense network, trained on alike, is better than the published one in every seed"
FOUR_SEEDS = "all kinds have the same four seeds, no two alike, and all 133 windows"
DONE = "every run has as many steps as the settings say, all losses finite"


def _healed(rows: list[dict], settings: Mapping, preset: str = "gpu") -> Evidence:
    """Half pruned, HBFP8, trained: the order, and what is quantized when, from the rows of the record."""
    losses = cells(rows, "tuned")
    kinds = {kind: by_seed for (p, f, kind), by_seed in losses.items() if p in ("", "0.5") and f in ("", "HBFP8")}
    seeds = sorted(kinds["sq"])
    means = {kind: np.array([by_seed[s].mean() for s in seeds if s in by_seed]) for kind, by_seed in kinds.items()}
    order = paired(means["qs"] - means["sq"])
    late = paired(means["qs"] - means["s then q"])
    inputs = paired(means["qs a"] - means["s then qa"])
    gained = _gained(preset)
    runs = [row for row in rows if "training" in row]
    whole = all(sorted(by) == seeds and all(v.shape == (133,) for v in by.values()) for by in kinds.values())
    return Evidence(
        {
            NO_ORDER: max(abs(order.low), abs(order.high)) < SMALL,
            NO_PROTOCOL: max(abs(d) for each in (late, inputs) for d in (each.low, each.high)) < SMALL,
            NOT_REPORTED: all(each.high < REPORTED for each in (order, late, inputs)),
            UNHURT: len(gained) >= 4 and min(gained) > 0,
            FOUR_SEEDS: whole and len(seeds) == 4 and all(len(set(m.tolist())) == 4 for m in means.values()),
            DONE: all(
                len(row["training"]) == settings["steps"] and bool(np.all(np.isfinite(row["training"]))) for row in runs
            )
            and all(bool(np.all(np.isfinite(m))) for m in means.values()),
        },
        (
            Figure("loss added by quantizing first", order.mean, "nats", (order.low, order.high), digits=2),
            Figure("by quantizing in the loop, not at the end", late.mean, "nats", (late.low, late.high), digits=2),
            Figure("the same with quantized inputs", inputs.mean, "nats", (inputs.low, inputs.high), digits=2),
            Figure("reported for OPT-125M", REPORTED, "nats", digits=3),
            Figure("least gain of the dense network by the same training", min(gained), "nats", digits=2),
        ),
        trials=len(seeds),
        note="read from the record's rows",
    )


def _gained(preset: str) -> list[float]:
    """By how much the dense network of each seed is better than the published one, on windows that both were read on.

    The published one was read on every second of sixteen windows; a seed on all 133, or on its share of the sixteen.
    """
    published = cells(_record("cpu")["rows"], "shipped")["", "", "d"][0]
    shares = _record(preset)["settings"]["shares"]
    places = np.linspace(0, 132, 16).astype(int)
    gained = []
    for seed, losses in cells(_record(preset)["rows"], "tuned")["", "", "d"].items():
        own = range(seed % shares, 16, shares) if shares else range(16)  # which of the sixteen
        both = [i for i in own if i % 2 == 0]
        after = [losses[list(own).index(i) if shares else places[i]] for i in both]
        gained.append(float(np.mean([published[i // 2] for i in both]) - np.mean(after)))
    return gained


@claim(
    id="cases.order_lm_healed",
    title="Healed, half pruned, in eight-bit blocks: no order, no protocol",
    statement=r"""SmolLM2-135M is freed from its storage grid, healed by 200 steps of dense training, and trained for
100 more through half of each layer pruned and HBFP8, at a rate that makes the dense network better. Then quantizing
first, or training through the quantizer instead of quantizing at the end, changes the held-out loss by less than 0.02
nats, also when the inputs of every layer are quantized (95 % intervals over four seeds, 133 windows each). For OPT-125M
in this format 34.71 against 30.22 is reported, which is 0.14 nats.""",
    source=Source("ours", "Part V; the setting of Harma et al. 2024, Table 2", "ours"),
    verdict=Verdict.HOLDS,
    remark="Another model, text, number of steps and masks that are frozen: that the report is wrong does not follow. "
    "What follows is that neither the order nor the moment of quantizing makes such a difference by itself.",
    changes=(Change(None, "recorded on a GPU, after healing, on the whole held-out text"),),
)
def order_lm_healed(budget: Budget) -> Evidence:
    """The recorded losses of every window, four seeds."""
    record = _record("gpu")
    return _healed(record["rows"], record["settings"])


@order_lm_healed.control(
    "what the order costs in MXFP4 and groups of four, in each of the three seeds that have it",
    breaks=(NO_ORDER, NOT_REPORTED),
)
def _(budget: Budget) -> Evidence:
    groups, record = cells(_record("gpu_groups")["rows"], "tuned"), _record("gpu")
    first, second = (groups["2:4", "MXFP4", kind] for kind in ("sq", "qs"))
    gains = {seed: float(first[seed].mean() - second[seed].mean()) for seed in first}
    return _healed(_moved(record["rows"], "sq", gains), record["settings"])


@order_lm_healed.control(
    "the reported difference, put on every seed that was quantized first", breaks=(NO_ORDER, NO_PROTOCOL, NOT_REPORTED)
)
def _(budget: Budget) -> Evidence:
    record = _record("gpu")
    return _healed(_moved(record["rows"], "qs", dict.fromkeys(range(4), REPORTED)), record["settings"])


@order_lm_healed.control("the inputs quantized in the loop alone", breaks=NO_PROTOCOL)
def _(budget: Budget) -> Evidence:
    record = _record("gpu")
    return _healed(_moved(record["rows"], "qs a", dict.fromkeys(range(4), 0.05)), record["settings"])


@order_lm_healed.control("a rate that harms: the dense network of the short record", breaks=UNHURT)
def _(budget: Budget) -> Evidence:
    record = _record("gpu")
    return _healed(record["rows"], record["settings"], preset="trained")


def _moved(rows: list[dict], kind: str, by: Mapping[int, float]) -> list[dict]:
    """The rows with the losses of one kind moved, seed by seed."""
    return [
        {**r, "losses": {kind: [x + by.get(r["seed"], 0.0) for x in r["losses"][kind]]}} if r["kind"] == kind else r
        for r in rows
    ]


FOUR_BITS = "in four bits quantizing first costs by the first index, half pruned and at 2:4: four intervals above 0"
ONE_START = "at 2:4 with fair ties both orders have the same loss in the first step, in every format and seed"
FAIR_GROUPS = (
    "at 2:4 with fair ties no interval leaves ±0.04 nats, each holds 0, and in INT4 less than a quarter is left"
)
FAIR_BLOCKS = "half pruned, MXFP4: fair ties cost less than the first index, the interval of the difference above 0"
OWN_SCALES = "half pruned, INT4: fair ties leave more than half of the cost, the interval of the rest above 0"
EIGHT_BITS = "in eight bits no interval of the order leaves ±0.04 nats, by the first index or with fair ties"
APART = "MXFP4 lies above the threshold in nats under both patterns, INT4 half pruned below it (intervals)"
AGAIN = "an earlier run of the same seeds, MXFP4 at 2:4, has every mean loss within 0.05 nats"
THREE_SEEDS = "all kinds have the same three seeds, no two alike, and all 133 windows"
REPEATED = 0.05  # nats: the kernels of a GPU do not sum in one order, and training makes that larger
Kinds = dict[tuple, dict[int, NDArray]]


def _formats(rows: list[dict], settings: Mapping, again: Kinds, preset: str = "gpu_formats") -> Evidence:
    """Healed, five formats, two patterns, two rules for ties: what the order costs after training, from the rows.

    Raises
    ------
    ValueError : a cell lacks a kind.
    """
    losses = cells(rows, "tuned")
    seeds = sorted(losses["", "", "d"])
    if any(sorted(by_seed) != seeds for by_seed in losses.values()):
        raise ValueError(THREE_SEEDS)
    mean = {cell: np.array([by_seed[s].mean() for s in seeds]) for cell, by_seed in losses.items()}
    asked = [(pattern, fmt) for pattern, formats in settings["tuned"].items() for fmt in formats]
    gap = {cell: mean[*cell, "qs"] - mean[*cell, "sq"] for cell in asked}
    fair = {cell: mean[*cell, "qs magnitude"] - mean[*cell, "sq"] for cell in asked}
    order, rest = ({cell: paired(d) for cell, d in each.items()} for each in (gap, fair))
    excess = {
        (p, f): paired(mean[p, f, "sq"] - mean[p, "", "s"] - mean["", f, "q"] + mean["", "", "d"]) for p, f in asked
    }
    start = {(r["seed"], r["pattern"], r["format"], r["kind"]): r["training"][0] for r in rows}
    groups = [f for p, f in asked if p == "2:4"]
    four = [(p, f) for p, f in asked if f in ("INT4", "MXFP4")]
    eight = [(p, f) for p, f in asked if f in ("INT8", "HBFP8")]
    half, pair = ("0.5", "INT4"), ("2:4", "INT4")
    blocks = paired(mean["0.5", "MXFP4", "qs"] - mean["0.5", "MXFP4", "qs magnitude"])
    repeated = [abs(float(by[s].mean() - losses[cell][s].mean())) for cell, by in again.items() for s in by]
    gained = _gained(preset)
    corrected = holm([order[cell].p for cell in asked])
    small = all(max(abs(d.low), abs(d.high)) < SLIGHT for cell in eight for d in (order[cell], rest[cell]))
    none = all(d.low < 0 < d.high and max(-d.low, d.high) < SLIGHT for d in (rest["2:4", f] for f in groups))
    holds = {
        FOUR_BITS: len(four) == 4 and all(order[cell].low > 0 for cell in four),
        ONE_START: all(start[s, "2:4", f, "sq"] == start[s, "2:4", f, "qs magnitude"] for s in seeds for f in groups),
        FAIR_GROUPS: none and _left(gap[pair], fair[pair]),
        FAIR_BLOCKS: blocks.low > 0,
        OWN_SCALES: paired(fair[half] - gap[half] / 2).low > 0,
        EIGHT_BITS: len(eight) == 3 and small,
        APART: min(excess["0.5", "MXFP4"].low, excess["2:4", "MXFP4"].low) > 0 > excess[half].high,
        AGAIN: len(repeated) == 15 and max(repeated) < REPEATED,
        UNHURT: len(gained) >= 3 and min(gained) > 0,
        THREE_SEEDS: len(seeds) == 3
        and all(len(set(m.tolist())) == 3 for m in mean.values())
        and all(v.shape == (133,) for by_seed in losses.values() for v in by_seed.values()),
        DONE: all(len(row["training"]) == settings["steps"] and np.all(np.isfinite(row["training"])) for row in rows)
        and all(bool(np.all(np.isfinite(m))) for m in mean.values()),
    }
    shown = [
        Figure(f"{fmt}, {'half pruned' if p == '0.5' else p}: {words}", d.mean, "nats", (d.low, d.high), digits=2)
        for p, fmt in four
        for words, d in (("by the first index", order[p, fmt]), ("with fair ties", rest[p, fmt]))
    ]
    widest = max(max(abs(d.low), abs(d.high)) for cell in eight for d in (order[cell], rest[cell]))
    return Evidence(
        holds,
        (
            *shown,
            Figure("farthest end of an interval in eight bits", widest, "nats", digits=2),
            Figure(
                "cells with an order after Holm's correction", f"{sum(p < 0.05 for p in corrected)} of {len(asked)}"
            ),
            Figure("largest difference to an earlier run of the same seeds", max(repeated), "nats", digits=2),
        ),
        trials=len(seeds),
        note="read from the record's rows",
    )


def _again() -> Kinds:
    """The earlier run: dense, quantized, pruned, and both orders by the first index in MXFP4 at 2:4."""
    return cells(_record("gpu_groups")["rows"], "tuned")


@claim(
    id="cases.order_lm_formats",
    title="Healed and trained, in four bits the order still costs; at 2:4 it is a tie rule",
    statement=r"""SmolLM2-135M, healed by 200 steps, is trained for 100 more through half of each layer pruned, or 2:4,
and four to eight bits. By the first index quantizing first costs in INT4 and MXFP4 under both patterns; in INT8 and
HBFP8 it changes the loss by less than 0.04 nats (95 % intervals over three seeds, 133 windows each). At 2:4 with ties
to the larger original both orders start as one model, and no difference is seen after training. Half pruned, fair ties
help in MXFP4 and leave more than half of the cost in INT4, whose rows have scales of their own. In MXFP4 pruning and
quantizing together cost more than the sum of both, in INT4 half pruned less.""",
    source=Source("ours", "Part V; the setting of Harma et al. 2024, Table 2", "ours"),
    verdict=Verdict.HOLDS,
    remark="Three seeds; of the nine cells only the two of INT4 keep their order after Holm's correction. The "
    "conditions were written after the record was seen. HBFP8 at 2:4 was not trained.",
    changes=(Change(None, "recorded on a GPU: fair ties, and the formats of four, six and eight bits, healed"),),
)
def order_lm_formats(budget: Budget) -> Evidence:
    """The recorded losses of every window, three seeds."""
    record = _record("gpu_formats")
    return _formats(record["rows"], record["settings"], _again())


def _in_place_of(rows: list[dict], what: dict[str, str], **instead: str) -> list[dict]:
    """The rows, those of one description with the losses and the training of those of another."""
    named = [{key: row[key] for key in ("seed", "pattern", "format", "kind")} for row in rows]
    found = {tuple(name.values()): row for name, row in zip(named, rows)}
    out = []
    for name, row in zip(named, rows):
        other = row
        if all(name[key] == value for key, value in what.items()):
            other = found[tuple((name | instead).values())]
        out.append(
            {**row, "training": other["training"], "losses": {row["kind"]: next(iter(other["losses"].values()))}}
        )
    return out


@order_lm_formats.control(
    "the losses of INT8 for those of INT4: nothing is paid", breaks=(FOUR_BITS, FAIR_GROUPS, OWN_SCALES, APART)
)
def _(budget: Budget) -> Evidence:
    record = _record("gpu_formats")
    return _formats(_in_place_of(record["rows"], {"format": "INT4"}, format="INT8"), record["settings"], _again())


@order_lm_formats.control("ties to the first index for the fair ones", breaks=(ONE_START, FAIR_GROUPS, FAIR_BLOCKS))
def _(budget: Budget) -> Evidence:
    record = _record("gpu_formats")
    rows = _in_place_of(record["rows"], {"kind": "qs magnitude"}, kind="qs")
    return _formats(rows, record["settings"], _again())


@order_lm_formats.control("the losses of INT4 for those of INT8", breaks=EIGHT_BITS)
def _(budget: Budget) -> Evidence:
    record = _record("gpu_formats")
    return _formats(_in_place_of(record["rows"], {"format": "INT8"}, format="INT4"), record["settings"], _again())


@order_lm_formats.control("seeds that are not paired with those of the earlier run", breaks=AGAIN)
def _(budget: Budget) -> Evidence:
    record = _record("gpu_formats")
    rolled = {cell: {s: by_seed[(s + 1) % 3] for s in by_seed} for cell, by_seed in _again().items()}
    return _formats(record["rows"], record["settings"], rolled)


@order_lm_formats.control("a rate that harms: the dense network of the short record", breaks=UNHURT)
def _(budget: Budget) -> Evidence:
    record = _record("gpu_formats")
    return _formats(record["rows"], record["settings"], _again(), preset="trained")


SAME_MODEL = "outlier channels change no loss of the dense model, to the last bit"
SAME_MASK = "they move less than a hundredth of the mask of pruning alone"
BY_INDEX = "with the largest outliers quantizing first costs by the first index: its 95 % interval lies above 0"
MORE = "it costs more than without outliers: so does the interval of the difference"
BLIND = "ties at random cost with the largest outliers: their interval lies above 0"
SCALES = "over a whole layer it costs with fair ties, too: their interval lies above 0"
ONE_MODEL = "with ties to the larger original both orders are one model, at every factor and in every seed"
OFTEN = "each larger factor ties more groups, the largest nine tenths as many as INT4 without outliers, or more"
NORMAL = "normal weights with these steps would tie as often, within a fifth"
FOUR_OUTLIERS = "every cell has the same four seeds or more, no two alike, and every loss is finite"
UNBROKEN = "no model of the comparison adds more than three nats to the dense one"


@lru_cache(maxsize=1)
def _outlier_record() -> dict:
    return records.read("order_outliers.json")


def _cell(rows: list[dict], factor: int, fmt: str = "INT8", pattern: str = "3:4") -> list[dict]:
    """The rows of a cell, by seed."""
    found = [r for r in rows if (r["factor"], r["format"], r["pattern"]) == (factor, fmt, pattern)]
    return sorted(found, key=lambda row: row["seed"])


def _means(cell: list[dict], kind: str) -> NDArray[np.float64]:
    return np.array([np.mean(row["losses"][kind]) for row in cell])


def _gap(cell: list[dict], ties: str) -> NDArray[np.float64]:
    """What quantizing first costs in each seed, by a rule for ties."""
    return _means(cell, f"qs {ties}") - _means(cell, "sq")


def _outliers(rows: list[dict], factors: list[int]) -> Evidence:
    """Groups of four that keep three, INT8 with a scale per row: the cost of the order by factor and rule.

    Raises
    ------
    ValueError : a cell lacks a seed that another has.
    """
    wanted = [(f, "INT8", "3:4") for f in factors] + [(factors[-1], "INT8", "0.3")]
    wanted += [(f, "", pattern) for f in (factors[0], factors[-1]) for pattern in ("", "3:4")]
    if len({tuple(row["seed"] for row in _cell(rows, *cell)) for cell in wanted}) > 1:
        raise ValueError(FOUR_OUTLIERS)
    by_factor = {factor: _cell(rows, factor) for factor in factors}
    first, last = factors[0], factors[-1]
    gaps = {(f, ties): _gap(cell, ties) for f, cell in by_factor.items() for ties in ("first", "random", "magnitude")}
    plain, whole, random = (paired(gaps[key]) for key in ((first, "first"), (last, "first"), (last, "random")))
    more = paired(gaps[last, "first"] - gaps[first, "first"])
    free = _cell(rows, last, pattern="0.3")
    spread, rest = (paired(_gap(free, ties)) for ties in ("first", "magnitude"))
    largest = max(float(np.max(np.abs(gaps[f, "magnitude"]))) for f in factors)
    ties = [float(np.mean([row["tied"] for row in by_factor[f]])) for f in factors]
    four = float(np.mean([row["tied"] for row in _cell(rows, 1, "INT4")]))
    normal = [float(np.mean([row["normal"] for row in by_factor[f]])) for f in factors]
    dense = {f: _cell(rows, f, "", "") for f in (first, last)}
    moved = max(row["moved"] for row in _cell(rows, last, ""))
    seeds = [row["seed"] for row in by_factor[first]]
    compared = [*by_factor.values(), free, *dense.values()]
    levels = _means(dense[first], "d")
    tops = [_means(cell, kind) - levels for cell in [*by_factor.values(), free] for kind in cell[0]["losses"]]
    every = [row["losses"] for cell in compared for row in cell]
    holds = {
        SAME_MODEL: last > first and [r["losses"] for r in dense[first]] == [r["losses"] for r in dense[last]],
        SAME_MASK: 0 < moved < 0.01,
        BY_INDEX: whole.verdict == "above",
        MORE: more.verdict == "above",
        BLIND: random.verdict == "above",
        SCALES: rest.verdict == "above",
        ONE_MODEL: all(
            "qs magnitude" in row["same"] and row["losses"]["qs magnitude"] == row["losses"]["sq"]
            for cell in by_factor.values()
            for row in cell
        ),
        OFTEN: all(a < b for a, b in pairwise(ties)) and ties[-1] >= 0.9 * four,
        NORMAL: all(abs(n / t - 1) < 0.2 for n, t in zip(normal, ties)),
        FOUR_OUTLIERS: len(set(seeds)) == len(seeds) >= 4
        and all(len(set(_means(cell, kind).tolist())) == len(seeds) for cell in compared for kind in cell[0]["losses"])
        and all(bool(np.all(np.isfinite(values))) for losses in every for values in losses.values()),
        UNBROKEN: all(bool(np.all(top < WORKS)) for top in tops),
    }
    figures = (
        Figure("loss added by quantizing first, no outliers", plain.mean, "nats", (plain.low, plain.high), digits=2),
        Figure(f"the same, outliers {last} times as large", whole.mean, "nats", (whole.low, whole.high), digits=2),
        Figure("with ties at random", random.mean, "nats", (random.low, random.high), digits=2),
        Figure("with ties to the larger original, the most", largest, "nats", digits=2),
        Figure("groups with a tie, no outliers", ties[0], digits=2),
        Figure("groups with a tie, largest outliers", ties[-1], digits=2),
        Figure("groups with a tie, INT4 without outliers", four, digits=2),
        Figure("30 % of a layer, first index", spread.mean, "nats", (spread.low, spread.high), digits=2),
        Figure("30 % of a layer, larger original", rest.mean, "nats", (rest.low, rest.high), digits=2),
    )  # fmt: skip
    return Evidence(holds, figures, trials=len(seeds), note="read from the record's rows")


@claim(
    id="cases.order_outliers",
    title="Eight bits are not immune: outliers bring the order back",
    statement=r"""In SmolLM2-135M, freed from its storage grid, four of the 576 input channels of the matrices behind
each norm are multiplied by a factor of up to 32 and the norm is divided by it: the dense model does not change. Three
of every four weights are kept and stored in INT8 with a scale per row, without training. With the largest factor
quantizing first costs held-out cross-entropy when ties of the mask go to the first index, more than without outliers,
and when they are broken at random (95 % intervals over paired seeds). With ties to the larger original weight both
orders are one model at every factor. How many groups have a tie is what normal weights with these steps would have,
within a fifth; with the largest factor at least nine tenths as many as in INT4 without outliers. With 30 % of a whole
layer pruned and the largest factor, quantizing first costs with fair ties, too.""",
    source=Source("ours", "Part V; Harma et al. 2024 are reported to see an order in 2:4 and INT8", "ours"),
    verdict=Verdict.HOLDS,
    remark="The largest weight over the spread, for each scale, decides; the name of the format does not. That fair "
    "ties leave nothing in groups is a theorem (claim ours.ties): four neighbours share a scale. Over a whole layer "
    "rows of different scales are compared, and no tie is needed to go wrong.",
    changes=(Change(None, "eight bits were called immune where the record held no row with outliers"),),
)
def order_outliers(budget: Budget) -> Evidence:
    """The recorded seeds, each with its own noise, outlier channels and held-out windows."""
    record = _outlier_record()
    return _outliers(record["rows"], record["factors"])


@order_outliers.control("no outliers in place of the largest", breaks=(SAME_MASK, BY_INDEX, MORE, BLIND, OFTEN))
def _(budget: Budget) -> Evidence:
    record = _outlier_record()
    first, last = record["factors"][0], record["factors"][-1]
    rows = [row for row in record["rows"] if row["factor"] != last]
    rows += [{**row, "factor": last} for row in rows if row["factor"] == first]
    rows += [row for row in record["rows"] if row["factor"] == last and row["pattern"] == "0.3"]
    return _outliers(rows, record["factors"])


@order_outliers.control("ties to the larger original from the beginning: nothing is paid", breaks=(BY_INDEX, MORE))
def _(budget: Budget) -> Evidence:
    return _renamed("qs first", "qs magnitude")


@order_outliers.control("ties at random taken for fair ones", breaks=ONE_MODEL)
def _(budget: Budget) -> Evidence:
    return _renamed("qs magnitude", "qs random")


@order_outliers.control(
    "the labels of the orders exchanged for every other seed", breaks=(BY_INDEX, MORE, BLIND, SCALES)
)
def _(budget: Budget) -> Evidence:
    record = _outlier_record()
    return _outliers([_swapped(row) if row["seed"] % 2 else row for row in record["rows"]], record["factors"])


@order_outliers.control("the formula with the steps that there are without outliers", breaks=NORMAL)
def _(budget: Budget) -> Evidence:
    record = _outlier_record()
    plain = {row["seed"]: row["normal"] for row in _cell(record["rows"], record["factors"][0])}
    rows = [{**row, "normal": plain[row["seed"]]} if "normal" in row else row for row in record["rows"]]
    return _outliers(rows, record["factors"])


def _renamed(kind: str, by: str) -> Evidence:
    """The evidence with the losses of one kind in the place of another's, in every row in groups of four."""
    record = _outlier_record()

    def other(row: dict) -> dict:
        if row["pattern"] != "3:4" or not row["format"]:
            return row
        return {**row, "losses": {**row["losses"], kind: row["losses"][by]}}

    return _outliers([other(row) for row in record["rows"]], record["factors"])


def _swapped(row: dict) -> dict:
    """In groups with what the first index does, over a whole layer with what fair ties do."""
    losses, other = row["losses"], {"3:4": "qs first", "0.3": "qs magnitude"}.get(row["pattern"], "")
    if other not in losses:
        return row
    exchanged = {**losses, "sq": losses[other], other: losses["sq"]}
    if row["pattern"] == "3:4":
        exchanged["qs magnitude"] = losses[other]  # still the model of pruning first
    return {**row, "losses": exchanged}
