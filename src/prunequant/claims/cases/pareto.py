"""The claim about loss and bytes of a language model: losses are read from the record, bytes are counted live."""

import numpy as np

from prunequant.cases import runner as case
from prunequant.cases.pareto.frontier import nondominated
from prunequant.statistics import paired_bootstrap
from prunequant.timing.schemes import scheme, stored_bytes

from ..core import Budget, Evidence, Figure, Source, Verdict, claim
from .hardware import values_alone

BLOCK = ((576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536))
LAYERS = 30


def _model_bytes(name: str, count) -> int:
    """Bytes of the 210 linear layers of SmolLM2-135M."""
    return LAYERS * sum(count(name, *shape) for shape in BLOCK)


def _pareto(budget: Budget, count, pair: bool = True) -> Evidence:
    rows = case.recorded("pareto")["rows"]
    names = [s for s, found in rows[0]["schemes"].items() if "loss" in found]
    loss = {s: np.array([r["schemes"][s]["loss"] for r in rows]) for s in names}
    costs = {s: (float(loss[s].mean()), _model_bytes(s, count)) for s in names}
    right = all(r["schemes"][s]["bytes"] == _model_bytes(s, stored_bytes) for r in rows for s in names)
    best = nondominated(costs)
    pruned = [s for s in best if scheme(s).kind == "pruning"]
    dense = loss["fp32"] if pair else np.roll(loss["fp32"], 1)
    added, low, high = paired_bootstrap(loss["int8-weight"], dense)
    near = -0.02 < low and high < 0.02
    figures = (
        Figure("schemes", len(names)),
        Figure("not dominated in loss and bytes", ", ".join(best)),
        Figure("pruned ones among them", ", ".join(pruned) or "none"),
        Figure("loss added by int8 weights", added, "nats", (low, high), digits=2),
    )
    return Evidence(holds=right and near and not pruned, figures=figures, trials=len(rows))


@claim(
    id="cases.pareto",
    title="No pruned model is worth its bytes here",
    statement=r"""SmolLM2-135M without fine-tuning, its 210 linear layers stored as the record's schemes store them: no
pruned scheme (2:4, or 30, 50 or 90 % by magnitude, as CSR) is in the set that no other scheme beats in both mean loss
and stored bytes, and int8 weights change the loss by less than 0.02 nats (95 % interval, paired over windows).""",
    source=Source("ours", "Part V, measured", "ours"),
    verdict=Verdict.HOLDS,
    remark="Without fine-tuning, and with masks stored so that a kernel can multiply them. If places cost nothing, the "
    "90 % model would be the smallest and enter the set, useless as it is.",
)
def pareto_claim(budget: Budget) -> Evidence:
    """The set recomputed from the record's losses by window and from bytes by formula."""
    return _pareto(budget, stored_bytes)


@pareto_claim.control("no bytes for masks and scales")
def _(budget: Budget) -> Evidence:
    return _pareto(budget, values_alone)


@pareto_claim.control("windows that are not paired")
def _(budget: Budget) -> Evidence:
    return _pareto(budget, stored_bytes, pair=False)
