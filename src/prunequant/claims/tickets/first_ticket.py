"""Claims of Kumar and Natale 2025 on tickets: lemma 5 (a weight) and theorem 1 (a network of twice the depth)."""

from fractions import Fraction
from functools import lru_cache
from math import log2

import numpy as np

from prunequant import subset_sum, tickets
from prunequant.models.integer_digits import shipped_digits
from prunequant.statistics import clopper_pearson, paired_mean

from ..core import Budget, Evidence, Figure, Source, Verdict, claim

SEED = 2508


def weight_tickets(bits: int, units: int, trials: int, source: int, target: int, seed: int = SEED):
    """Try to find random target weights in blocks of random hidden units, and evaluate what was found.

    Returns the share of weights found and the number of outputs, over x = −8 … 8, at which a found block is not w·x.
    """
    generator = np.random.default_rng([seed, bits, units])
    u = generator.integers(-source, source + 1, (trials, units))
    v = generator.integers(-source, source + 1, (trials, units))
    w = generator.integers(-target, target + 1, trials)
    wanted = Fraction(source**2, target)
    if wanted.denominator != 1:
        reachable = w % wanted.denominator == 0
        w, u, v = w[reachable], u[reachable], v[reachable]
    goal = w * wanted.numerator // wanted.denominator
    positive = subset_sum.solve_many(np.where(u > 0, u * v, 0), goal)
    negative = subset_sum.solve_many(np.where(u < 0, -u * v, 0), -goal)
    found = positive.found & negative.found
    kept = np.where(u > 0, positive.masks, negative.masks) & (u != 0)
    x = np.arange(-8, 9)
    hidden = np.maximum(u[found, :, None] * x, 0)
    outputs = np.einsum("tk,tkx->tx", (v * kept)[found], hidden)
    wrong = int((outputs * wanted.denominator != (w[found, None] * x) * wanted.numerator).sum())
    return found.sum() / trials, wrong


def _lemma5(budget: Budget, extra: int, source: int = 0, target: int = 0) -> Evidence:
    trials = budget.pick(1_000, 10_000, 200_000)
    shares, wrong, names = [], 0, []
    for bits in (3, 4, 6):
        steps = (source or 2**bits, target or 2**bits)
        units = 2 * (2 * bits + extra)
        share, bad = weight_tickets(bits, units, trials, *steps)
        shares.append(share)
        wrong += bad
        names.append(units)
    worst = int(np.argmin(shares))
    low, high = clopper_pearson(round(shares[worst] * trials), trials, 0.99)
    figures = (
        Figure("weights found, least of three block sizes", shares[worst], interval=(low, high)),
        Figure("hidden units in a block", " / ".join(map(str, names))),
        Figure("outputs of found blocks that are not w·x", wrong),
    )
    return Evidence(low >= 0.98 and wrong == 0, figures, trials=trials, seed=SEED)


@claim(
    id="kumar2025.lemma5",
    title="A weight is a masked pair of random layers",
    statement=r"""Let $u,v$ be vectors of $2n$ independent weights, uniform on the grid $S_{\delta_{\mathrm{in}}}$ of
step $\delta_{\mathrm{in}}$ in $[-1,1]$. If $n\ge C\log_2(1/\delta_{\mathrm{in}})$, then for a target weight
$w\in S_{\delta_t}$ there is, with high probability, a mask $s$ with $(v\odot s)^\top\relu(ux)=wx$ for **every** $x$.
Added here: $\delta_t$ must be a whole multiple of $\delta_{\mathrm{in}}^2$.""",
    source=Source("kumar2025", "Lemma 5"),
    verdict=Verdict.CONDITIONAL,
    condition="$\\delta_t\\in\\delta_{\\mathrm{in}}^2\\,\\mathbb Z$",
    remark="$n=2\\log_2(1/\\delta)+20$ finds more than 99 % of the weights, both signs of the input served; at "
    "$n=2\\log_2(1/\\delta)$ the block is below the threshold and more than eight in ten are missed.",
)
def lemma5(budget: Budget) -> Evidence:
    """Blocks of 2(2 log2(1/δ) + 20) hidden units, all steps equal."""
    return _lemma5(budget, 20)


@lemma5.control("2n = 4 log2(1/δ) hidden units, exactly at the threshold")
def _(budget: Budget) -> Evidence:
    return _lemma5(budget, 0)


@lemma5.control("steps that do not divide: δ_in = 1/3, δ_t = 1/2")
def _(budget: Budget) -> Evidence:
    return _lemma5(budget, 20, source=3, target=2)


@lru_cache(maxsize=1)
def digits_ticket():
    """The trained digits classifier, the plan made for its shape, and the ticket found for it."""
    digits = shipped_digits()
    plan = tickets.plan(digits.network, failure=1e-3, signed_inputs=False)
    return digits, tickets.find(digits.network, plan, seed=1)


def rounded_inside(ticket: tickets.Ticket, inputs: np.ndarray, fineness: int = 1) -> np.ndarray:
    """The ticket's outputs when its hidden units are rounded too, to 1/fineness of an activation step.

    Twin of `Ticket.forward` for a depth-2ℓ ticket, with one rounding more in each pair.
    """
    x, scale = np.asarray(inputs, dtype=np.int64), 1
    last = len(ticket.carvings) - 1
    for index, (carving, layer) in enumerate(zip(ticket.carvings, ticket.layers)):
        recipe, divisor = carving.recipe, ticket.divisors[index]
        if ticket.constants[index]:
            x = np.concatenate([x, np.full((len(x), 1), ticket.constants[index] * scale)], axis=1)
        hidden = np.maximum(x[:, :, None] * layer.u[None], 0).reshape(len(x), -1)
        grain = recipe.source * scale
        hidden = np.floor_divide(2 * hidden * fineness + grain, 2 * grain) * grain
        x = hidden @ layer.v.T
        scale *= recipe.factor * fineness
        if divisor:
            x, scale = np.floor_divide(2 * x + scale * divisor, 2 * scale * divisor), 1
        if index < last:
            x = np.maximum(x, 0)
    return x / scale


def _missed_by_undersized(budget: Budget) -> tuple[np.ndarray, float]:
    """Weights missed under each seed by a source that is too small, and how many its plan predicts."""
    network = tickets.random_network((8, 6, 3), 7, seed=4)
    plan = tickets.plan(network, failure=0.01, signed_inputs=False).with_blocks([(32,), (32,)])
    missed = np.zeros(budget.pick(300, 1_000, 20_000))
    for seed in range(missed.size):
        try:
            tickets.find(network, plan, seed)
        except tickets.TicketNotFound as error:
            missed[seed] = sum(error.failures.values())
    return missed, sum(plan.expected_failures(network))


@claim(
    id="kumar2025.theorem1",
    title="Twice the depth: a quantized network inside a random one, exactly",
    statement=r"""Take a random network of depth $2\ell$ and widths
$d,\,Cd\log_2(1/\delta),\,d,\,Cd\log_2(1/\delta),\dots$ with independent weights, uniform on $S_{\delta_{\mathrm{in}}}$,
where $\delta=\delta_{\mathrm{in}}$. For a target of depth $\ell$, width at most $d$ and $N_t$ weights in $S_{\delta_t}$
there are, with probability at least $1-N_t\,O\bigl((\log_2\frac1\delta)^{-1/7}\bigr)$, masks with which the pruned
network equals the target **exactly**, for every input. Activations may be rounded after each pair of layers, not within
one. (Added here, as in lemma 5: $\delta_t\in\delta_{\mathrm{in}}^2\ZZ$.)""",
    source=Source("kumar2025", "Theorem 1"),
    verdict=Verdict.LOOSE,
    factor=1000,
    remark="The construction is right, and better than its probability: with constant one that is below zero for every "
    "network of some size, while fewer than 400 random weights per target weight are certified to fail for fewer than "
    "one seed in a thousand.",
)
def theorem1(budget: Budget) -> Evidence:
    """A trained classifier found by masks alone; and the failure rate of undersized sources against its prediction."""
    digits, ticket = digits_ticket()
    outcome = ticket.verify(digits.images)
    missed, expected = _missed_by_undersized(budget)
    mean, (low, high) = paired_mean(missed, 0.9999)
    union = ticket.plan.target_parameters * log2(ticket.plan.source[0]) ** (-1 / 7)
    figures = (
        Figure("logits that differ on the test images", outcome.differing),
        Figure("logits compared", outcome.outputs),
        Figure("certified failure probability of the source", ticket.plan.certified, digits=2),
        Figure("weights missed by sources that are too small, mean", mean, interval=(low, high)),
        Figure("predicted for them", expected),
    )
    return Evidence(
        holds=outcome.identical and low <= expected <= high,
        figures=figures,
        bound=Figure("the theorem's failure bound with constant 1 (above 1 it says nothing)", union),
        slack=min(1.0, union) / ticket.plan.certified,
        trials=missed.size,
        seed=0,
    )


@theorem1.control("rounding also inside each pair of layers")
def _(budget: Budget) -> Evidence:
    digits, ticket = digits_ticket()
    images = digits.images[: budget.pick(60, 200, 899)]
    exact, rounded = ticket.logits(images), rounded_inside(ticket, images)
    differ = float((exact != rounded).mean())
    figures = (Figure("share of logits that differ", differ, digits=2), Figure("logits compared", exact.size))
    return Evidence(holds=differ == 0, figures=figures, slack=None, seed=0)


@theorem1.control("blocks of 4 log2(1/δ) units, half of them awake")
def _(budget: Budget) -> Evidence:
    digits, ticket = digits_ticket()
    units = int(np.ceil(4 * log2(ticket.plan.source[0])))
    small = ticket.plan.with_blocks([(units,)] * len(ticket.plan.blocks))
    missed = 0
    try:
        tickets.find(digits.network, small, seed=1)
    except tickets.TicketNotFound as error:
        missed = sum(error.failures.values())
    figures = (Figure("weights not found", missed), Figure("weights wanted", sum(small.subset_sums)))
    return Evidence(holds=missed == 0, figures=figures, seed=1)
