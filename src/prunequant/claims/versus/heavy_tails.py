"""Claims of Kuzmin et al. 2023 on heavy tails, and on kurtosis as a metric."""

from __future__ import annotations

import numpy as np

from prunequant import distortion
from prunequant.distortion import Empirical, Gaussian, StudentT, pruning_snr, quantization_snr
from prunequant.studies import real_layers

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

PAPER = "kuzmin2023"
BITS = range(2, 9)


def _crossovers(family, budget: Budget) -> Evidence:
    """The kurtosis from which pruning wins, for each width; holds if it exists for every width and rises with it."""
    widths = budget.pick((2, 4, 6, 8), tuple(BITS), tuple(BITS))
    found = [distortion.crossover(family, b) for b in widths]
    known = [c.kurtosis for c in found if c]
    figures = [
        Figure(f"crossover kurtosis at {b} bits", c.kurtosis if c else "none", digits=3) for b, c in zip(widths, found)
    ]
    figures.append(
        Figure("bits through which pruning wins on t(2) on [−100, 100]", _wins_through(StudentT(2.0, 100.0)), "bits")
    )
    rising = len(known) == len(found) and all(np.diff(known) > 0)
    return Evidence(holds=rising and known[0] > Gaussian().kurtosis, figures=tuple(figures))


def _wins_through(law) -> int:
    return max((b for b in BITS if distortion.advantage(law, b) > 0), default=0)


@claim(
    id="kuzmin2023.heavy_tails",
    title="Pruning wins in heavy tails, and needs heavier ones the more bits there are",
    statement=r"""Let $W$ follow Student's law with 2 degrees of freedom, truncated to $|w|\le T$. For every width
$b=2,\dots,8$ there is a kurtosis above which pruning to the same size beats quantization; it rises with $b$, so that
pruning is the better choice only at 2-3 bits or for extreme outliers.""",
    source=Source(PAPER, "comparison on truncated Student laws"),
    verdict=Verdict.CONDITIONAL,
    condition="the family: t(2) truncated; t(ν), ν > 4, untruncated never crosses, however large its kurtosis",
    remark="From kurtosis 8.9 at 2 bits to 371 at 8; t(2) on [−100, 100], kurtosis 160: pruning wins through 6 bits.",
)
def heavy_tails(budget: Budget) -> Evidence:
    """The crossover of each width, by root finding on exact ratios."""
    return _crossovers(distortion.clipped_student(2.0), budget)


@heavy_tails.control("untruncated Student laws with more than four degrees of freedom")
def _(budget: Budget) -> Evidence:
    return _crossovers(distortion.student_on(None), budget)


@heavy_tails.control("Student laws with three degrees of freedom, truncated")
def _(budget: Budget) -> Evidence:
    return _crossovers(distortion.clipped_student(3.0), budget)


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive has a larger score than a negative, ties half."""
    difference = score[positive][:, None] - score[~positive]
    return float(np.mean(0.5 * (np.sign(difference) + 1)))


@claim(
    id="kuzmin2023.kurtosis",
    title="Kurtosis tells which of the two wins",
    statement=r"""Among the weight tensors of a trained network, those on which magnitude pruning beats quantization at
the same size are those of largest kurtosis: at 2 bits the kurtosis ranks a tensor won by pruning above one won by
quantization with probability at least 0.9.""",
    source=Source(PAPER, "kurtosis as a metric"),
    verdict=Verdict.CONDITIONAL,
    condition="trained tensors; as a law it fails: the threshold moves from 9 to 181 at 2 bits with the family",
    remark="EfficientNet-Lite0: exact, pruning wins the 7 highest of 50. MiniLM: quantization wins at kurtosis 1585.",
)
def kurtosis(budget: Budget) -> Evidence:
    """Every tensor of EfficientNet-Lite0 with its exact best step."""
    laws = [Empirical(w) for w in real_layers.tensors().values()]
    values = np.array([law.kurtosis for law in laws])
    wins = np.array([pruning_snr(law, 1 - 2 / 16) > quantization_snr(law, 2) for law in laws])
    auc = _auc(values, wins)
    figures = (
        Figure("area under the ranking curve", auc, digits=3),
        Figure("tensors won by pruning at 2 bits", int(wins.sum()), f"of {wins.size}"),
        Figure("largest kurtosis won by quantization", float(values[~wins].max()), digits=3),
        Figure("least kurtosis won by pruning", float(values[wins].min()), digits=3),
    )
    return Evidence(holds=auc >= 0.9, figures=figures)


@kurtosis.control("as a law: four Student laws ranked by kurtosis")
def _(budget: Budget) -> Evidence:
    laws = [StudentT(4.001), StudentT(5.0), StudentT(2.0, 12.0), StudentT(2.0, 15.0)]
    values = np.array([law.kurtosis for law in laws])
    wins = np.array([distortion.advantage(law, 2) > 0 for law in laws])
    figures = (
        Figure("area under the ranking curve", _auc(values, wins), digits=3),
        Figure("kurtosis of t(4.001), won by quantization", values[0], digits=4),
        Figure("kurtosis of t(2) on [−12, 12], won by pruning", values[2], digits=3),
    )
    return Evidence(holds=_auc(values, wins) >= 0.9, figures=figures)
