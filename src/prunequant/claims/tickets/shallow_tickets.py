"""Claims of Kumar and Natale 2025 on shallow tickets: theorem 2 (depth ℓ + 1) and lemma 8 (copies)."""

from fractions import Fraction
from math import ceil, log2

import numpy as np

from prunequant import subset_sum, tickets
from prunequant.statistics import clopper_pearson
from prunequant.tickets import arithmetic as exact

from ..core import Budget, Change, Evidence, Figure, Source, Verdict, claim

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


def copies_too_few(plan: tickets.Plan, copies: int) -> tickets.Plan:
    """The same plan with so many copies of every neuron, and its blocks of the first layer."""
    return plan.with_blocks([plan.blocks[0], *[(copies,)] * (len(plan.blocks) - 1)])


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


EXACT = "every output of the rounded network is the target's"
NARROW = "no layer is 1.5 times as wide as at depth 2ℓ"
HEAVY = "the source has more than five times the weights"
ENOUGH = "the copies are enough for the sources tried"


def _theorem2(budget: Budget, outputs, copies: int = 0, widths=lambda plan: plan.widths) -> Evidence:
    """A rounded network found at depth ℓ + 1, outputs, widths and weights; sources with so many copies (0: "
    "planned)."""
    wrong, compared, ticket = _exactness(budget, outputs)
    wider, heavier = [], []
    for levels in STEPS:
        deep, shallow = both_plans(levels)
        wider.append(max(widths(shallow)) / max(deep.widths))
        heavier.append(shallow.parameters / deep.parameters)
    plan = tickets.plan(example(), failure=0.01, depth="l+1")
    sources = budget.pick(20, 50, 200)
    missed = tickets.controls.undersized(example(), copies_too_few(plan, copies) if copies else plan, range(sources))
    figures = (
        Figure("outputs that differ", wrong),
        Figure("outputs compared", compared),
        Figure("layers of weights, target / source", f"{len(ticket.carvings)} / {len(ticket.plan.widths) - 1}"),
        Figure("widest layer over depth 2ℓ's, most over 3 to 8 bits", max(wider)),
        Figure("weights over depth 2ℓ's, least over 3 to 8 bits", min(heavier)),
        Figure("copies of a neuron", copies or plan.samples[1]),
        Figure("sources without a ticket", f"{missed.without_ticket} of {sources}"),
    )
    holds = {
        EXACT: wrong == 0,
        NARROW: max(wider) < 1.5,
        HEAVY: min(heavier) > 5,
        ENOUGH: missed.without_ticket <= sources // 10,
    }
    return Evidence(holds, figures, trials=compared, seed=SEED)


@claim(
    id="kumar2025.theorem2",
    title="One layer more instead of twice as many",
    statement=r"""A random network of depth $\ell+1$ has weights uniform on $S_{\delta_{\rm in}}$ without 0, rounded
to $\gamma$ after every layer but the first; $\delta_{\rm in}\le\delta\le\delta_t$. Its first hidden layer is
$Cd_0\log_2\frac1\delta$ wide, the later ones more than $d_i\log_2\frac1\delta$. Then its masks contain, exactly and
with high probability, a given target of depth $\ell$ with weights in $S_{\delta_t}$. (The probability is not legible
in our copy. The introduction puts the extra factor $\log\frac1\delta$ into the width.)""",
    truth=r"""With $\log_2\frac1\delta+c$ copies in place of $\log_2\frac1\delta$, where $c$ grows like $\log N_t$
with the number of weights, the same network contains the target with a probability as near to one as one likes. Its
widths stay
$O(d\log\frac1\delta)$; it is the number of weights that has one factor $\log\frac1\delta$ more.""",
    difference="At exactly $\\log_2\\frac1\\delta$ copies the next layer stands at the threshold, $\\kappa=1$. The "
    "sizes of lemma 8 put the extra factor into the weights, the introduction into the width.",
    source=Source("kumar2025", "Theorem 2", "restored"),
    verdict=Verdict.CONDITIONAL,
    condition="the extra factor counted in weights, as the sizes of lemma 8 have it, not in width; more than "
    "$\\log_2\\frac1\\delta$ copies, by a constant; and $\\log N_t=O(\\log\\frac1\\delta)$",
    remark="No layer is more than 1.4 times as wide as at depth $2\\ell$, while the source holds 11 to 13 times as "
    "many weights. With $\\delta$ fixed the copies grow like $\\log N_t$, since failures add.",
    changes=(
        Change(
            Verdict.CONDITIONAL,
            "the paper's hypotheses are stated (no weight 0, $\\delta_{\\rm in}\\le\\delta_t$ and not its square); "
            "the condition names the constant number of further copies and the size of the network",
        ),
    ),
)
def theorem2(budget: Budget) -> Evidence:
    """A rounded network found at depth ℓ + 1, all outputs exact; widths and weights of both depths from 3 to 8 "
    "bits."""
    return _theorem2(budget, lambda t, x: t.forward(x))


@theorem2.control("as many copies as a weight has bits, log2(1/δ) + 1", breaks=ENOUGH)
def _(budget: Budget) -> Evidence:
    return _theorem2(budget, lambda t, x: t.forward(x), copies=ceil(log2(LEVELS)) + 1)


@theorem2.control("the first hidden layer is rounded too", breaks=EXACT)
def _(budget: Budget) -> Evidence:
    return _theorem2(budget, rounded_first_layer)


@theorem2.control("one more logarithm in the width: every copy of an input is given a block of its own", breaks=NARROW)
def _(budget: Budget) -> Evidence:
    def separate(plan: tickets.Plan) -> list[int]:
        return [width * copies for width, copies in zip(plan.widths[1:-1], plan.copies)]

    return _theorem2(budget, lambda t, x: t.forward(x), widths=separate)


# --- lemma 8 -----------------------------------------------------------------------------------------------------

LAYER = "a 4 × 4 layer in copies misses a weight in at most one source in ten"


def weights_missed(levels: int, copies: int, trials: int) -> int:
    """How many of `trials` random weights w are no subset sum of so many copies' weights, uniform on ±1 … ±K."""
    rng = np.random.default_rng([SEED, levels, copies])
    v = rng.integers(1, levels + 1, (trials, copies)) * rng.choice([-1, 1], (trials, copies))
    return trials - int(subset_sum.solve_many(v, rng.integers(-levels, levels + 1, trials)).found.sum())


def _lemma8(budget: Budget, further: int) -> Evidence:
    trials = budget.pick(40_000, 200_000, 2_000_000)
    one, layers = [], []
    for bits in (4, 6, 8, 10):
        missed = weights_missed(2**bits, bits + further, trials)
        high = clopper_pearson(missed, trials, 0.99).high
        one.append(missed / trials)
        layers.append(4 * 4 * (bits + further) * high)
    exact = [weights_missed(2**bits, bits, trials) / trials for bits in (4, 6, 8, 10)]
    listed = " / ".join
    figures = (
        Figure("copies beyond log2(1/δ)", further),
        Figure("a weight is missed, δ = 2⁻⁴ / 2⁻⁶ / 2⁻⁸ / 2⁻¹⁰", listed(f"{m:.2g}" for m in one)),
        Figure("weights that a 4 × 4 layer in copies misses, at most", listed(f"{m:.2g}" for m in layers)),
        Figure("a weight is missed at exactly log2(1/δ) copies", listed(f"{m:.2g}" for m in exact)),
    )
    holds = {
        LAYER: max(layers) <= 0.1,
        "at exactly log2(1/δ) copies more than six weights in ten are missed": min(exact) > 0.6,
    }
    return Evidence(holds, figures, trials=trials, seed=SEED)


@claim(
    id="kumar2025.lemma8",
    title="A layer in copies",
    statement=r"""As lemma 7, with weights that are never 0, and each of the $d_2$ outputs wanted
$\log_2\frac1\delta$ times. A random $N$ of size $d_2\log_2\frac1\delta\times Cd_1\log_2\frac1\delta$ over $M$ of
size $Cd_1\log_2\frac1\delta\times d_1$ suffices, with a mask of its own for every copy; the proof adds the failures
of $d_1d_2\log_2\frac1\delta$ weights in the sense of lemma 5. (In theorem 2 these copies are the samples of the next
layer.)""",
    truth=r"""With exactly $\log_2\frac1\delta$ copies the next layer's subset sums stand at $\kappa=1$, where more
than six in ten fail. With $\log_2\frac1\delta+c$ copies they succeed, where $c=\log_2\frac{d_1d_2}\eta$ and a few
more; $c=21$ serves $d_1=d_2=4$ for $\eta=0.1$.""",
    difference="Lemma 4 needs a limit of $\\kappa$ below one. And a sum of $d_1d_2\\log_2\\frac1\\delta$ failures of "
    "$(\\log_2\\frac1\\delta)^{-1/7}$ each grows as $\\delta\\to0$: it takes an exponential rate to add them.",
    source=Source("kumar2025", "Lemma 8", "restored"),
    verdict=Verdict.CONDITIONAL,
    condition="more than $\\log_2\\frac1\\delta$ copies, by a constant that depends on the layer and the failure",
    remark="The lemma's own construction is right, copy by copy. What fails is the number of copies that theorem 2 "
    "needs of it.",
    changes=(Change(None, "the paper's lemma on copies, on which its theorem 2 rests"),),
)
def lemma8(budget: Budget) -> Evidence:
    """Random weights wanted from log2(1/δ) + 21 copies, whose weights are uniform and never 0."""
    return _lemma8(budget, 21)


@lemma8.control("exactly log2(1/δ) copies", breaks=LAYER)
def _(budget: Budget) -> Evidence:
    return _lemma8(budget, 0)
