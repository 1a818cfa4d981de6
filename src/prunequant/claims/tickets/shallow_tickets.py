"""Claim of Kumar and Natale 2025 on shallow tickets: theorem 2 (depth ℓ + 1)."""

from fractions import Fraction
from math import ceil, log2

import numpy as np

from prunequant import tickets
from prunequant.tickets import arithmetic as exact

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2022
LEVELS = 15
STEPS = (3, 7, 15, 31, 63, 127)


def example(shape=(8, 8, 8, 8)) -> tickets.Network:
    """A random network of ℓ = 3 layers at 5 bits, its activations rounded after every layer but the last."""
    return tickets.random_network(shape, LEVELS, SEED, divisors=[LEVELS] * (len(shape) - 2) + [0])


def both_plans(levels: int, shape=(32,) * 4) -> tuple[tickets.Plan, tickets.Plan]:
    """Plans of depth 2ℓ and ℓ + 1 that fail for at most one source in a hundred, all inputs signed."""
    step = Fraction(1, levels)
    deep, shallow = (tickets.plan(shape, step, failure=0.01, depth=depth) for depth in ("2l", "l+1"))
    return deep, shallow


def copies_too_few(made: tickets.Plan, copies: int) -> tickets.Plan:
    """The same plan with so many copies of every neuron, and its blocks of the first layer."""
    return made.with_blocks([made.blocks[0], *[(copies,)] * (len(made.blocks) - 1)])


def rounded_first_layer(ticket: tickets.Ticket, x: np.ndarray, grain: int = LEVELS) -> np.ndarray:
    """Raw outputs of a depth ℓ + 1 ticket whose first hidden layer, no target neuron yet, is rounded to `grain`."""
    scale = 1
    for index, (carving, layer, divisor) in enumerate(zip(ticket.carvings, ticket.layers, ticket.divisors)):
        if index == 0:
            hidden = exact.round_half_up(exact.outer_relu(x, layer.u), grain) * grain
        else:
            hidden = np.maximum(x, 0)
        x = hidden @ layer.v.T
        scale *= carving.recipe.factor
        if divisor:
            x, scale = exact.round_half_up(x, scale * divisor), 1
    return x


def _exactness(budget: Budget, outputs) -> tuple[int, int, tickets.Ticket]:
    network = example()
    ticket = tickets.find(network, tickets.plan(network, failure=0.01, depth="l+1"), seed=1)
    x = np.random.default_rng(SEED).integers(-60, 61, (budget.pick(500, 5_000, 100_000), 8))
    wanted = network.forward(x) * ticket.scale
    return int((outputs(ticket, x) != wanted).sum()), wanted.size, ticket


@claim(
    id="kumar2025.theorem2",
    title="One layer more instead of twice as many",
    statement=r"""Take a random network of depth $\ell+1$, weights independent and uniform on
$S_{\delta_{\mathrm{in}}}$. At the cost of one more factor $\log_2(1/\delta)$ its masks still contain, exactly and with
high probability, every given target of depth $\ell$ with weights in $S_{\delta_t}$: each neuron of the target is made
in $\rho=O(\log_2(1/\delta))$ copies, and a weight of the next layer is a subset sum over the copies of one neuron.""",
    source=Source("kumar2025", "Theorem 2"),
    verdict=Verdict.CONDITIONAL,
    condition="the extra factor counted in weights: a width does not need it",
    remark="No layer is more than 1.4 times as wide as at depth $2\\ell$, while the source holds 11 to 13 times as "
    "many weights.",
)
def theorem2(budget: Budget) -> Evidence:
    """A rounded network found at depth ℓ + 1, all outputs exact; widths and weights of both depths from 3 to 8 bits."""
    wrong, compared, ticket = _exactness(budget, lambda t, x: t.forward(x))
    wider, heavier = [], []
    for levels in STEPS:
        deep, shallow = both_plans(levels)
        wider.append(max(shallow.widths) / max(deep.widths))
        heavier.append(shallow.parameters / deep.parameters)
    figures = (
        Figure("outputs that differ", wrong),
        Figure("outputs compared", compared),
        Figure("layers of weights, target / source", f"{len(ticket.carvings)} / {len(ticket.plan.widths) - 1}"),
        Figure("widest layer over depth 2ℓ's, most over 3 to 8 bits", max(wider)),
        Figure("weights over depth 2ℓ's, least over 3 to 8 bits", min(heavier)),
    )
    holds = wrong == 0 and max(wider) < 1.5 and min(heavier) > 5
    return Evidence(holds, figures, trials=compared, seed=SEED)


@theorem2.control("as many copies as a weight has bits, log2(1/δ) + 1")
def _(budget: Budget) -> Evidence:
    network = example()
    made = tickets.plan(network, failure=0.01, depth="l+1")
    few = copies_too_few(made, ceil(log2(LEVELS)) + 1)
    sums = sum(few.subset_sums)
    sources = budget.pick(20, 50, 200)
    missed = tickets.controls.undersized(network, few, range(sources))
    figures = (
        Figure("sources without a ticket", f"{missed.without_ticket} of {sources}"),
        Figure("weights missed in a source, mean", missed.measured),
        Figure("subset sums in a source", sums),
    )
    return Evidence(missed.without_ticket == 0, figures, trials=sources, seed=0)


@theorem2.control("the first hidden layer is rounded too")
def _(budget: Budget) -> Evidence:
    wrong, compared, _ = _exactness(budget, rounded_first_layer)
    figures = (Figure("share of outputs that differ", wrong / compared, digits=2), Figure("outputs compared", compared))
    return Evidence(wrong == 0, figures, seed=SEED)
