"""Claims on one budget for pruning and quantization together: the paper's figure, and ours with the mask charged."""

from __future__ import annotations

from prunequant.distortion import Gaussian, Laplace, StudentT, Uniform, splits

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim

LIGHT = "on the normal and the uniform law nothing beats quantization alone"
LAPLACE = "on the Laplace law at 2 bits both together beat either by more than 1 dB"
HEAVY = "on t(3) both together beat either by more than 1 dB at every budget"


def _joint(budget: Budget, mask: str, tail: float = 3.0) -> Evidence:
    """Best split of each budget for four laws against quantization alone and pruning alone at the same budget."""
    laws = {"normal": Gaussian(), "uniform": Uniform(), "Laplace": Laplace(), "t(3)": StudentT(tail, 100.0)}
    gains, over, figures = {}, {}, []
    for name, law in laws.items():
        for bits in budget.pick((2, 4, 6), (2, 3, 4, 6), (2, 3, 4, 5, 6, 8)):
            rows = splits(law, bits, mask, range(2, budget.pick(bits + 4, bits + 4, 13)))
            alone = next(row for row in rows if row.bits == bits and row.keep == 1)
            pruned = next(row for row in rows if row.bits == 16)
            gains[name, bits], over[name, bits] = rows[0].snr - alone.snr, rows[0].snr - pruned.snr
            text = f"{name}, {bits} bits: {rows[0].keep:.0%} kept at {rows[0].bits} bits, gain"
            figures.append(Figure(text, gains[name, bits], "dB", digits=3))
    heavy = [min(gains[key], over[key]) for key in gains if key[0] == "t(3)"]
    holds = {
        LIGHT: max(v for (name, _), v in gains.items() if name in ("normal", "uniform")) < 1e-6,
        LAPLACE: min(gains["Laplace", 2], over["Laplace", 2]) > 1,
        HEAVY: min(heavy) > 1,
    }
    return Evidence(holds, figures=tuple(figures))


@claim(
    id="ours.joint_budget",
    title="One budget for both: prune first only where the tails are heavy",
    statement=r"""Spend $B$ bits per weight on a share $k$ of the weights, kept and rounded to $b$ bits each, and on
the mask that says which: $kb+H_2(k)=B$, with $H_2$ the binary entropy. With two's-complement integers of fixed length,
on the normal and the uniform law nothing beats $k=1$, quantization alone, at $B=2,\dots,8$. On heavier tails both
together beat either alone: by more than 1 dB for the Laplace law at 2 bits and for Student's law with 3 degrees of
freedom on $[-100,100]$ at every $B$.""",
    source=Source("ours", "exact quadrature over all splits", "ours"),
    verdict=Verdict.HOLDS,
    remark="t(3): 3.2 dB at every budget up to 4 bits, a quarter to a half kept; Laplace: 2.5 dB at 2 bits, 0 from 5.",
)
def joint_budget(budget: Budget) -> Evidence:
    """Exact signal-to-noise ratio of every split, entropy-coded mask charged."""
    return _joint(budget, "entropy")


@joint_budget.control("the mask not charged: pruning first then wins on the normal law too", breaks=LIGHT)
def _(budget: Budget) -> Evidence:
    return _joint(budget, "free")


@joint_budget.control("a normal law under the name of t(3)", breaks=HEAVY)
def _(budget: Budget) -> Evidence:
    return _joint(budget, "entropy", 1e6)


HELPS = "at 2, 3 and 4 bits pruning a wider quantizer is better than quantization alone, by a decibel or more"
MILD = "the best share kept is between a half and nine tenths"
STRONG = "pruning half as much again of what is pruned there helps less"


def _combined(mask: str) -> Evidence:
    """Best splits of 2, 3 and 4 bits on the normal law, and the next wider quantizer pruned harder."""
    figures, gains, shares, harder = [], [], [], []
    for bits in (2, 3, 4):
        rows = splits(Gaussian(), bits, mask, range(2, 10))
        alone = next(r for r in rows if r.bits == bits and r.keep == 1)
        best, wider = rows[0], [r for r in rows if r.bits == bits + 2]
        gains.append(best.snr - alone.snr)
        shares.append(best.keep)
        harder.append(bool(wider) and wider[0].snr < best.snr)
        text = f"{bits} bits on average: {best.keep:.0%} kept at {best.bits} bits, gain"
        figures.append(Figure(text, gains[-1], "dB", digits=3))
        figures.append(
            Figure(
                f"{bits} bits on average: {wider[0].keep:.0%} kept at {bits + 2} bits, gain",
                wider[0].snr - alone.snr,
                "dB",
                digits=3,
            )
        )
    holds = {
        HELPS: min(gains) >= 1,
        MILD: all(0.5 < k < 0.9 for k in shares),
        STRONG: all(harder),
    }
    return Evidence(holds, figures=tuple(figures))


@claim(
    id="kuzmin2023.combination",
    title="Pruning a quantized network a little helps, as long as the mask is free",
    statement=r"""Quantized networks are pruned in addition, and charged the bits of their width times the share of
weights that are not zero; the mask is not counted. Pruned mildly, a network is better than one quantized to the same
average bits.""",
    truth=r"""The ratio of a normal law shows the same: at 2, 3 and 4 bits on average, one bit more on two thirds to
four fifths of the weights is worth 5.0, 3.7 and 2.1 dB. With the mask charged at its entropy nothing is left of it.""",
    difference="What the split gains is less than what its mask costs.",
    source=Source("kuzmin2023", "Section 5, Figure 5", "paraphrased"),
    verdict=Verdict.CONDITIONAL,
    condition="the mask is free",
    remark="Theirs are three fine-tuned networks; ours explains it on a law and does not repeat the experiment.",
    changes=(Change(None, "the paper combines the two, and an earlier page said that it does not"),),
)
def combination(budget: Budget) -> Evidence:
    """Exact ratios of every split of the normal law, mask free."""
    return _combined("free")


@combination.control("the mask charged at its entropy", breaks=(HELPS, MILD))
def _(budget: Budget) -> Evidence:
    return _combined("entropy")
