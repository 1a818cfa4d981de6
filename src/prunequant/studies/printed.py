"""What the four papers print, beside what this library computes: paper, place, printed, ours, how the two compare.

A number is *equal* when ours, rounded to the digits that the paper prints, is the printed one; read off a figure, when
the two differ by no more than the figure can be read. Otherwise it is *off*, by the difference. A number of another
setting (other networks, other data) is set beside ours without a judgement, and one that we cannot make says why. What
a claim has measured is taken from the ledger, so that no number stands in two places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from prunequant import distortion, path_following, records, subset_sum
from prunequant.distortion import Gaussian, StudentT
from prunequant.path_following import convex_order
from prunequant.studies.runner import At, Study

EQUAL, OFF, LIMIT, BOUND = "equal", "off", "a limit", "true, not sharp"
SLIP, OTHER, NOT_HERE, FAILS, COUNTED = "slip", "other setting", "not here", "fails", "said in words"
STATUSES = {
    EQUAL: "ours rounds to the printed number, or differs by less than the figure can be read",
    OFF: "ours differs",
    LIMIT: "the printed number is a limit, ours a value on the way to it",
    BOUND: "the printed bound is true, and far from the value",
    FAILS: "what is printed is not enough, or is not so: the verdict of its claim",
    COUNTED: "the paper says it in words; ours is counted from its own table",
    SLIP: "the paper contradicts itself there, or prints what it cannot mean",
    OTHER: "ours is of other networks or data: set beside it, not judged",
    NOT_HERE: "not reproducible here; the reason is given",
}
SEED = 811
SPANNING = "a step that spans the range: r/2^(b−1)"  # the confirmation of the claim on Figure 2


@dataclass(frozen=True)
class Printed:
    """One number (or a few that stand together) of a paper.

    `printed` and what `ours` returns are numbers, tuples of numbers, or words. `digits` are the decimals that the paper
    prints; `read` is how closely a figure can be read. A `status` is given where it does not follow from the numbers.
    """

    paper: str
    place: str
    what: str
    printed: float | tuple[float, ...] | str
    ours: Callable[[], float | tuple[float, ...] | str] | None = None
    unit: str = ""
    digits: int = 1
    read: float = 0.0
    status: str = ""
    why: str = ""
    claim: str = ""


@cache
def _ledger() -> dict[str, dict]:
    return {row["id"]: row for row in records.read("ledger.json")}


def ledger(claim: str, figure: str, confirmation: str = "") -> str:
    """A figure of a claim, or of one of its confirmations, as the ledger prints it.

    Raises
    ------
    KeyError : the ledger has no such figure.
    """
    row = _ledger()[claim]
    row = row["confirmations"][confirmation] if confirmation else row
    figures = dict(map(tuple, row["evidence"]))
    if figure not in figures:
        raise KeyError(f"{claim} has no figure {figure!r}: there are {', '.join(figures)}")
    return figures[figure]


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a figure that holds several.

    Examples
    --------
    >>> numbers("12.6, 15.7 %")
    (12.6, 15.7)
    """
    return tuple(map(float, re.findall(r"-?\d+(?:\.\d+)?", text)))


def _success(samples: int, bound: int, trials: int = 20_000) -> float:
    """Share of draws from {−M … M} without 0 whose first `samples` have a subset of the sum M/2."""
    return float(np.mean(subset_sum.hitting_times(samples, bound, bound // 2, trials, SEED) <= samples))


def _samples_for_half(bound: int) -> float:
    """κ = log₂M/n where half of the draws succeed."""
    times = subset_sum.hitting_times(4 * int(np.log2(bound)), bound, bound // 2, 20_000, SEED)
    return float(np.log2(bound) / np.median(times))


def _resnet50(bits: int) -> str:
    """What Table 1 prints for ResNet-50 quantized to so many bits, and pruned to their size."""
    tables = records.read("kuzmin2023_tables.json")
    (row,) = (row for row in tables["table 1"] if row["model"] == "ResNet-50")
    at = tables["bits"].index(bits)
    return f"{row['quantization'][at]} and {row['pruning'][at]}"


def _crossing(bits: int) -> float:
    """The kurtosis of truncated t(2) from which pruning to the same size beats the best step; infinite if none does."""
    crossing = distortion.crossover(distortion.clipped_student(2.0), bits)
    return crossing.kurtosis if crossing else float("inf")


def _each(function: Callable, arguments) -> tuple[float, ...]:
    return tuple(float(function(argument)) for argument in arguments)


WIDTHS = range(8, 1, -1)

KUMAR = (
    Printed(
        "kumar2025",
        "section 2",
        "threshold of log₂M/n where subset sums begin to exist",
        printed=1.0,
        ours=lambda: _samples_for_half(2**16),
        digits=0,
        status=LIMIT,
        why="a limit: at M = 2¹⁶ half of the draws succeed at ours, and it grows with M",
        claim="kumar2025.lemma4",
    ),
    Printed(
        "kumar2025",
        "Lemma 4, Theorem 1",
        "failure with n = 16 samples, M = 2⁸: n^(−1/7) at constant 1",
        printed=16 ** (-1 / 7),
        ours=lambda: 1 - _success(16, 2**8),
        digits=2,
        status=BOUND,
        why="the truth falls exponentially in n",
        claim="kumar2025.lemma4",
    ),
    Printed(
        "kumar2025",
        "proof of Lemma 5",
        "uniform samples asked for: more than 2·log₂(1/δ), at δ = 1/16 with M = 2⁸",
        printed="8",
        ours=lambda: f"success with 8 samples: {_success(8, 2**8):.0%}",
        status=SLIP,
        why="exactly so many are at the threshold, log₂M/n = 1",
        claim="kumar2025.lemma5",
    ),
    Printed(
        "kumar2025",
        "Theorem 3, introduction",
        "parameters of a two-layer source for width d",
        printed="d·log(1/δ)",
        ours=lambda: "d²·log(1/δ)",
        status=SLIP,
        why="the theorem itself has d²; the introduction means the width",
        claim="kumar2025.theorem3",
    ),
    Printed(
        "kumar2025",
        "Lemma 8",
        "copies of each output that suffice for the next layer",
        printed="log₂(1/δ)",
        ours=lambda: (
            "share of weights missed with so many at δ = 2⁻⁴ … 2⁻¹⁰: "
            + ledger("kumar2025.lemma8", "a weight is missed at exactly log2(1/δ) copies")
        ),
        status=FAILS,
        why="21 more serve a layer of 4 × 4",
        claim="kumar2025.lemma8",
    ),
    Printed(
        "kumar2025",
        "proof of Lemma 5",
        "products that can be kept so that they are uniform on the grid of products, δ = 1/4 … 1/64",
        printed="a constant share",
        ours=lambda: ledger("kumar2025.uniform_products", "products that can be kept, δ = 1/4, 1/8, 1/16, 1/32, 1/64"),
        status=FAILS,
        why="some values are no products; rounded to the grid of the weights a third can be kept",
        claim="kumar2025.uniform_products",
    ),
)

ZHANG = (
    Printed(
        "zhang2025",
        "Lemma 4.3 (e)",
        "variance of the Gaussian above a coin of size 1: π/2",
        printed=round(np.pi / 2, 4),
        ours=lambda: float(convex_order.least_gaussian([-1, 1], [0.5, 0.5])) ** 2,
        digits=4,
        why="and none is smaller",
        claim="zhang2025.convex_order",
    ),
    Printed(
        "zhang2025",
        "Theorem 4.2",
        "factor of the variance at C = 1, 2, 4",
        printed=(1.0, 2.0, 4.0),
        ours=lambda: _each(lambda c: c * c / (2 * c - 1), (1, 2, 4)),
        digits=2,
        status=BOUND,
        why="C²/(2C−1) does as well",
        claim="zhang2025.domination",
    ),
    Printed(
        "zhang2025",
        "section 5",
        "largest move M of the one-bit operator with values ±2K, in K",
        printed=4.0,
        ours=lambda: float(path_following.OneBit(2.0).parameter),
        digits=0,
        claim="zhang2025.one_bit",
    ),
    Printed(
        "zhang2025",
        "section 6",
        "largest move M of the pruning operator, in K",
        printed=1.0,
        ours=lambda: float(path_following.Prune(1.0).parameter),
        digits=0,
        claim="zhang2025.pruning",
    ),
    Printed(
        "zhang2025",
        "Proposition 1",
        "scaling C for two values, N₀ = 1024, failure 1 %",
        printed="constant 32π",
        ours=lambda: (
            f"C = {ledger('zhang2025.one_bit', 'scaling C at N₀ = 1024')} with it, "
            f"{path_following.theory.one_bit_scaling(1024, 1.0, 0.01):.0f} with ours"
        ),
        status=BOUND,
        why="a sharper variance and tail ask for less",
        claim="zhang2025.one_bit",
    ),
    Printed(
        "zhang2025",
        "Proposition 3",
        "scaling C for three values, N₀ = 1024, failure 1 %",
        printed="constant 8π",
        ours=lambda: f"C = {ledger('zhang2025.joint', 'scaling C at N₀ = 1024')} with it",
        status=BOUND,
        why="and in law the operator is rounding at random, without pruning",
        claim="zhang2025.joint",
    ),
    Printed(
        "zhang2025",
        "section 5.1",
        "mean of the one-bit quantizer at z = K, in K",
        printed="1, being unbiased",
        ours=lambda: ledger("zhang2025.one_bit", "mean of the quantizer as printed, at z = K, in units of K"),
        status=SLIP,
        why="its printed formula has the other step; what is meant is unbiased",
        claim="zhang2025.one_bit",
    ),
)

KUZMIN = (
    Printed(
        "kuzmin2023",
        "section 3.3",
        "INT4 on the normal law",
        printed=19.1,
        ours=lambda: distortion.quantization_snr(Gaussian(), 4),
        unit="dB",
        why="with the step of least error",
        claim="kuzmin2023.gaussian",
    ),
    Printed(
        "kuzmin2023",
        "section 3.3",
        "75 % pruned, normal law",
        printed=5.6,
        ours=lambda: distortion.pruning_snr(Gaussian(), 0.75),
        unit="dB",
        claim="kuzmin2023.gaussian",
    ),
    Printed(
        "kuzmin2023",
        "Figure 1",
        "quantized to 8 … 2 bits, normal law",
        printed=(40, 35, 30, 24.5, 19, 14, 8),
        ours=lambda: _each(lambda b: distortion.quantization_snr(Gaussian(), b), WIDTHS),
        unit="dB",
        read=0.6,
        why="read off the figure",
        claim="kuzmin2023.gaussian",
    ),
    Printed(
        "kuzmin2023",
        "Figure 1",
        "pruned to the size of 8 … 2 bits, normal law",
        printed=(11.5, 10, 8.5, 7, 5.6, 4.3, 3),
        ours=lambda: _each(lambda b: distortion.pruning_snr(Gaussian(), 1 - b / 16), WIDTHS),
        unit="dB",
        read=0.3,
        why="read off the figure",
        claim="kuzmin2023.gaussian",
    ),
    Printed(
        "kuzmin2023",
        "Figure 6",
        "kurtosis of t(2) truncated at .5, 10, 20",
        printed=(1.9, 8.0, 17.5),
        ours=lambda: _each(lambda clip: StudentT(2.0, clip).kurtosis, (0.5, 10.0, 20.0)),
        read=0.1,
        why="read off the figure",
        claim="kuzmin2023.heavy_tails",
    ),
    Printed(
        "kuzmin2023",
        "Figure 2",
        "kurtosis from which pruning wins at 2, 3, 4 bits",
        printed=(6.0, 11.0, 18.0),
        ours=lambda: _each(_crossing, (2, 3, 4)),
        read=1.0,
        why="with the best step, as section 2 says; the figure is drawn with a min-max range",
        claim="kuzmin2023.heavy_tails",
    ),
    Printed(
        "kuzmin2023",
        "section 6",
        "a bitmap, as a share of the 16-bit weights",
        printed=6.25,
        ours=lambda: 100 * distortion.mask_overhead(4, of="dense"),
        unit="%",
        digits=2,
        claim="kuzmin2023.mask_overhead",
    ),
    Printed(
        "kuzmin2023",
        "Table 2",
        "zeros made by rounding to 8 … 2 bits, mean over the tensors",
        printed=(13.0, 16.0, 20.0, 27.0, 35.0, 46.0, 59.0),
        ours=lambda: numbers(
            ledger("kuzmin2023.natural_sparsity", "the paper's 2,704 tensors at 8 to 2 bits, from its files")
        ),
        unit="%",
        digits=0,
        why="from the files that the authors publish",
        claim="kuzmin2023.natural_sparsity",
    ),
    Printed(
        "kuzmin2023",
        "Table 2",
        "zeros made by rounding to 8, 4, 2 bits",
        printed=(13.0, 35.0, 59.0),
        ours=lambda: (
            " / ".join(
                f"{100 * float(ledger('kuzmin2023.natural_sparsity', f'zeros at {bits} bits, mean of 50 tensors')):.0f}"
                for bits in (8, 4, 2)
            )
            + " %"
        ),
        unit="%",
        digits=0,
        status=OTHER,
        why="EfficientNet-Lite0 alone",
        claim="kuzmin2023.natural_sparsity",
    ),
    Printed(
        "kuzmin2023",
        "conclusion",
        "quantization ahead after fine-tuning",
        printed="always, on many networks",
        ours=lambda: (
            f"{ledger('kuzmin2023.table1', 'cells where quantization is ahead')} cells of Table 1, and on "
            f"{ledger('kuzmin2023.table1', 'networks on which quantization is ahead at every width')} networks always"
        ),
        status=SLIP,
        why="its own Table 1, counted; ResNet-50 is the exception",
        claim="kuzmin2023.table1",
    ),
    Printed(
        "kuzmin2023",
        "Table 5",
        "twice the epochs: pruning gains more",
        printed="said in words",
        ours=lambda: f"{ledger('kuzmin2023.table5', 'cells where pruning gains at least as much')} cells",
        status=COUNTED,
        why="its own tables, counted",
        claim="kuzmin2023.table5",
    ),
    Printed(
        "kuzmin2023",
        "equation (1)",
        "levels of a b-bit grid, from −2^b to 2^b − 1",
        printed="2^(b+1)",
        ours=lambda: "2^b",
        status=SLIP,
        why="that is a grid of b + 1 bits; Figure 1 is drawn with 2^b",
        claim="kuzmin2023.gaussian",
    ),
    Printed(
        "kuzmin2023",
        "section 3.4, appendix E",
        "networks of the model zoo",
        printed="46 and 45",
        status=SLIP,
        why="the section says 46, the appendix says and lists 45",
    ),
    Printed(
        "kuzmin2023",
        "Table 1",
        "ImageNet accuracies after fine-tuning, 126 numbers",
        printed="see there",
        status=NOT_HERE,
        why="nine networks trained on ImageNet, COCO and text; ours are small networks on small images",
        claim="kuzmin2023.finetuning",
    ),
    Printed(
        "kuzmin2023",
        "Figure 2, with a step that spans the range",
        "kurtosis from which pruning wins at 2 and 3 bits",
        printed=(6.0, 11.0),
        ours=lambda: tuple(
            float(ledger("kuzmin2023.figure2", f"{bits} bits: pruning is ahead from kurtosis", confirmation=SPANNING))
            for bits in (2, 3)
        ),
        read=2.0,
        why="so the figure is drawn, to two of its columns: each is one unit of kurtosis wide",
        claim="kuzmin2023.figure2",
    ),
    Printed(
        "kuzmin2023",
        "Figure 3",
        "kurtosis of even odds at 2 bits",
        printed=9.0,
        ours=lambda: float(records.read("published_tensors.json")["widths"][0]["even_odds"]),
        read=1.0,
        why="read off the figure; ours: two kernel densities over the authors' tensors, impossible kurtoses left out",
        claim="kuzmin2023.kurtosis",
    ),
    Printed(
        "kuzmin2023",
        "section 4.3, Table 3",
        "layers in the comparison of optima",
        printed="10",
        ours=lambda: "11 rows are listed",
        status=SLIP,
        why="one layer stands twice",
        claim="kuzmin2023.optimal_vs_optimal",
    ),
    Printed(
        "kuzmin2023",
        "section 5, limitations",
        "pruning and quantization together",
        printed="not studied",
        ours=lambda: "Figure 5 studies them, on three networks",
        status=SLIP,
        why="the paper has the experiment",
        claim="kuzmin2023.combination",
    ),
    Printed(
        "kuzmin2023",
        "Figure 9",
        "rise of CKA while a pruned ResNet-18 is fine-tuned, 4 bits",
        printed=0.03,
        ours=lambda: ledger("kuzmin2023.representations_trend", "resnet, 4 bits, pruned: rise of CKA"),
        digits=2,
        status=OTHER,
        why="a small residual network on small images",
        claim="kuzmin2023.representations_trend",
    ),
    Printed(
        "kuzmin2023",
        "a summary of it",
        "ResNet-50 with 4 bits, and pruned to that size, in per cent",
        printed=(76.3, 76.1),
        ours=lambda: f"{_resnet50(4)} in Table 1; {_resnet50(5)} are its numbers for 5 bits",
        status=SLIP,
        why="the summary's, not the paper's",
        claim="kuzmin2023.table1",
    ),
)

HARMA = (
    Printed(
        "harma2025",
        "Table 2, as reported",
        "perplexity of OPT-125M, 50 %: pruned first and quantized first",
        printed=(30.22, 34.71),
        digits=2,
        status=NOT_HERE,
        why="fine-tuning of OPT-125M; our SmolLM2-135M is trained for sixteen steps",
        claim="cases.order_lm_trained",
    ),
    Printed(
        "harma2025",
        "Table 1, as reported",
        "perplexity of LLaMA-2-7B, 2:4 and INT8, in the two orders",
        printed=(9.37, 14.65),
        digits=2,
        status=NOT_HERE,
        why="7 billion weights",
        claim="harma2025.order_effect",
    ),
)

ALL = (*KUMAR, *ZHANG, *KUZMIN, *HARMA)


def judged(item: Printed, ours: float | tuple[float, ...] | str | None) -> str:
    """How ours compares with what is printed: a key of `STATUSES`."""
    if item.status:
        return item.status
    printed = np.atleast_1d(np.asarray(item.printed, dtype=float))
    values = np.atleast_1d(np.asarray(ours, dtype=float))
    if printed.shape != values.shape:
        raise ValueError(f"{item.what}: {printed.size} numbers are printed and {values.size} are ours")
    near = np.abs(values - printed) <= item.read if item.read else np.round(values, item.digits) == printed
    return EQUAL if bool(np.all(near)) else OFF


def text(value: float | tuple[float, ...] | str | None, digits: int, unit: str) -> str:
    """Numbers as they are shown, one more decimal than the paper has."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    numbers = value if isinstance(value, tuple) else (value,)
    return f"{' / '.join(f'{number:.{digits}f}' for number in numbers)} {unit}".rstrip()


def rows() -> list[dict]:
    """Every number with ours beside it and how they compare, in the order of the papers."""
    table = []
    for item in ALL:
        ours = item.ours() if item.ours else None
        status = judged(item, ours)
        table.append({
            "paper": item.paper, "place": item.place, "what": item.what,
            "printed": text(item.printed, item.digits, item.unit),
            "ours": text(ours, item.digits + 1, item.unit),
            "status": status, "why": item.why, "claim": item.claim,
        })  # fmt: skip
    return table


def make(at: At) -> dict:
    """The record: what each status means, and the rows."""
    return {"statuses": STATUSES, "rows": rows()}


def show(record: Mapping) -> str:
    """How many of each status."""
    count = {status: sum(row["status"] == status for row in record["rows"]) for status in record["statuses"]}
    return ", ".join(f"{number} {status}" for status, number in count.items() if number)


STUDIES = {
    "printed": Study("printed", "the papers' printed numbers beside ours", ("printed.json",), make, 0.2, show=show)
}
