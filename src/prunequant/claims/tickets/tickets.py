"""Claims on parts of a network and on whole ones: a neuron (lemma 6), a layer (lemma 7), failures added."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy import stats

from prunequant import tickets
from prunequant.statistics import clopper_pearson
from prunequant.tickets import certificate, source
from prunequant.tickets.carve import Recipe, prune
from prunequant.tickets.plan import widths_of_independent_neurons

from ..core import Budget, Evidence, Figure, Source, Verdict, claim
from .first_ticket import digits_ticket

SEED = 1106
LEVELS = 7
UNITS = (60, 60)  # two sub-blocks of 60 units an input: a row of 64 weights is missed less than once in a thousand
STEPS = (3, 7, 15, 31, 63, 127)


class MaskedPair(NamedTuple):
    """A dense random pair and its masks, as integers: U (d·m, d), V (outputs, d·m), and what a weight is scaled by."""

    u: np.ndarray
    keep_u: np.ndarray
    v: np.ndarray
    keep_v: np.ndarray
    factor: int

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(V ⊙ mask) max((U ⊙ mask) x, 0) on rows x (N, d), the definition and nothing else."""
        return np.maximum(x @ (self.u * self.keep_u).T, 0) @ (self.v * self.keep_v).T


def masked_pair(weights: np.ndarray, recipe: Recipe, seed: int) -> MaskedPair:
    """Find the masks that make a random pair multiply by `weights` (outputs, d), and return the whole pair."""
    carving = tickets.carve(weights, recipe, seed)
    pruned = prune(carving, seed)
    d, hidden = carving.columns, carving.columns * recipe.width
    keep = np.zeros((hidden, d), dtype=bool)
    keep[np.arange(hidden), np.arange(d).repeat(recipe.width)] = pruned.u_mask.ravel()
    return MaskedPair(
        source.dense(seed, recipe.layer, source.FIRST, recipe.source, (hidden, d)),
        keep,
        source.dense(seed, recipe.layer, source.SECOND, recipe.source, pruned.v.shape),
        pruned.v_mask,
        recipe.factor,
    )


def wrong_outputs(pair: MaskedPair, weights: np.ndarray, x: np.ndarray) -> tuple[int, int]:
    """Outputs of the pruned pair that are not the target's, and outputs compared."""
    differ = pair.forward(x) != pair.factor * (x @ weights.T)
    return int(differ.sum()), differ.size


def shared_blocks(pair: MaskedPair) -> MaskedPair:
    """The pair with the blocks of inputs 0 and 1, 2 and 3, ... not masked apart: their units see both."""
    partner = np.arange(pair.u.shape[1]) ^ 1
    partner[partner == len(partner)] -= 1
    return pair._replace(keep_u=pair.keep_u | pair.keep_u[:, partner])


def example_layers() -> list[tuple[str, np.ndarray]]:
    """A random matrix and the first layer of the trained classifier of digits, integers −7 … 7."""
    random = np.random.default_rng(SEED).integers(-LEVELS, LEVELS + 1, (32, 24))
    return [("random", random), ("digits", digits_ticket()[0].network.weights[0])]


def _inputs(name: str, columns: int, rows: int) -> np.ndarray:
    """Signed random inputs for the random matrix; test images with their constant 1 for the trained one."""
    if name == "digits":
        images = digits_ticket()[0].images[:rows]
        return np.concatenate([images, np.ones((len(images), columns - images.shape[1]), np.int64)], axis=1)
    return np.random.default_rng(SEED).integers(-50, 51, (rows, columns))


def _recipe(name: str) -> Recipe:
    return Recipe(0, "relu", LEVELS, LEVELS, UNITS, signed=name == "random")


# --- lemma 6 -----------------------------------------------------------------------------------------------------


def _neurons(budget: Budget, change) -> tuple[int, tuple[Figure, ...]]:
    """Outputs that differ over all rows of the example layers, each row in a dense random pair of its own."""
    wrong = compared = rows = 0
    for name, matrix in example_layers():
        x = _inputs(name, matrix.shape[1], budget.pick(20, 60, 800))
        for index, row in enumerate(matrix[:: budget.pick(2, 1, 1)]):
            pair = change(masked_pair(row[None], _recipe(name), SEED + index))
            bad, outputs = wrong_outputs(pair, row[None], x)
            wrong, compared, rows = wrong + bad, compared + outputs, rows + 1
    return wrong, (
        Figure("outputs that differ from w·x", wrong),
        Figure("outputs compared", compared),
        Figure("rows found, random and trained", rows),
    )


@claim(
    id="kumar2025.lemma6",
    title="A neuron is a row of blocks, one for each input",
    statement=r"""Let $w\in S_{\delta_t}^d$, and let $U$ ($dm$ rows, $d$ columns) and $v$ ($dm$ entries) be random,
uniform on $S_{\delta_{\mathrm{in}}}$. Keep in each group of $m$ rows of $U$ only one column, its own: masked so, group
$j$ sees $x_j$ and nothing else. If a single weight is missed with probability at most $p$, then with probability at
least $1-dp$ there is a mask of $v$ with $(v\odot s)^\top\relu\bigl((U\odot S)x\bigr)=w^\top x$ for every $x$.""",
    source=Source("kumar2025", "Lemma 6"),
    verdict=Verdict.HOLDS,
    remark="Exact on random rows and on the rows of a trained classifier; sources that are too small fail as often as "
    "$dp$ allows, and no more.",
)
def lemma6(budget: Budget) -> Evidence:
    """Random rows with signed inputs and trained rows with images, each in a dense random pair of its own."""
    wrong, figures = _neurons(budget, lambda pair: pair)
    row = tickets.Network([np.random.default_rng(SEED).integers(-LEVELS, LEVELS + 1, (1, 16))], LEVELS)
    small = tickets.plan(row, failure=0.01).with_blocks([48])
    seeds = budget.pick(400, 2_000, 40_000)
    tried = tickets.controls.undersized(row, small, range(seeds))
    low, high = clopper_pearson(tried.without_ticket, seeds, 0.99)
    figures += (
        Figure("sources of 48 units an input that miss a row of 16", tried.without_ticket / seeds, "", (low, high), 2),
        Figure("at most, adding over its weights", tried.predicted, digits=2),
    )
    return Evidence(wrong == 0 and low <= tried.predicted, figures, trials=seeds, seed=SEED)


@lemma6.control("two inputs share their blocks, not masked apart")
def _(budget: Budget) -> Evidence:
    wrong, figures = _neurons(budget, shared_blocks)
    return Evidence(wrong == 0, figures, seed=SEED)


@lemma6.control("the first matrix is left unpruned")
def _(budget: Budget) -> Evidence:
    wrong, figures = _neurons(budget, lambda pair: pair._replace(keep_u=np.ones_like(pair.keep_u)))
    return Evidence(wrong == 0, figures, seed=SEED)


# --- lemma 7 -----------------------------------------------------------------------------------------------------


def _growth(outputs: int, widths) -> float:
    """How much wider the source of a 64 → `outputs` layer is than that of one neuron, failure at most 1 % for both."""
    one, many = (tickets.plan((64, o), Fraction(1, LEVELS), failure=0.01) for o in (1, outputs))
    return widths(many) / widths(one)


def _layer(budget: Budget, change, widths) -> Evidence:
    wrong = compared = 0
    for name, matrix in example_layers():
        x = _inputs(name, matrix.shape[1], budget.pick(100, 400, 899))
        pair = change(masked_pair(matrix, _recipe(name), SEED))
        bad, outputs = wrong_outputs(pair, matrix, x)
        wrong, compared = wrong + bad, compared + outputs
    wider = _growth(1_000, widths)
    figures = (
        Figure("outputs that differ from Wx", wrong),
        Figure("outputs compared", compared),
        Figure("hidden units for 1000 outputs, over those for one", wider, "×"),
        Figure("hidden units that serve the digits' 32 neurons, each", sum(UNITS), "an input"),
    )
    return Evidence(wrong == 0 and wider <= 2, figures, seed=SEED)


def _shared_width(made: tickets.Plan) -> int:
    return made.widths[1]


@claim(
    id="kumar2025.lemma7",
    title="A layer is no wider than a neuron",
    statement=r"""Let $W\in S_{\delta_t}^{d_2\times d_1}$. One random $U$ with $d_1m$ rows, masked into blocks as for a
neuron, serves all $d_2$ outputs; each output has a row of $V$ of its own, and
$W_{ij}=\sum_{k\in\text{block }j}s_{ik}V_{ik}U^+_{kj}$. With probability at least $1-d_1d_2p$ the pruned pair equals
$Wx$ for every $x$. Its width is $d_1m$ with $m=O(\log\frac1\delta)$: the number of outputs enters only through the
failure probability.""",
    source=Source("kumar2025", "Lemma 7"),
    verdict=Verdict.HOLDS,
    remark="Exact; a thousand outputs need a source less than twice as wide as one output does.",
)
def lemma7(budget: Budget) -> Evidence:
    """A random and a trained layer, in dense random pairs; and the widths that plans give to 1 and 1000 outputs."""
    return _layer(budget, lambda pair: pair, _shared_width)


@lemma7.control("every output is a neuron with blocks of its own")
def _(budget: Budget) -> Evidence:
    return _layer(budget, lambda pair: pair, lambda made: widths_of_independent_neurons(made)[0])


@lemma7.control("all outputs share one mask as well")
def _(budget: Budget) -> Evidence:
    return _layer(
        budget, lambda pair: pair._replace(keep_v=np.broadcast_to(pair.keep_v[:1], pair.v.shape)), _shared_width
    )


def example() -> tickets.Network:
    """A random 4-bit network of 136 weights whose inputs may be negative: 232 subset sums."""
    return tickets.random_network((12, 8, 5), 7, seed=1)


# --- the certificate ---------------------------------------------------------------------------------------------


def bits_a_unit(levels: int, first: int = 44, last: int = 64) -> float:
    """By how many bits the measured failure of the worst weight falls with each hidden unit."""
    worst = certificate.rates(certificate.law("relu", levels, levels)).max(axis=0)
    return float(np.log2(worst[first] / worst[last]) / (last - first))


def _proofs_contradicted(levels: int) -> int:
    """Entries of the recorded table, to 64 units, whose 99.9999 % lower limit is above the proved bound."""
    of = certificate.law("relu", levels, levels)
    counts, trials = certificate.failures(of)
    lower = stats.beta.ppf(1e-6, counts, trials - counts + 1)
    return int((np.nan_to_num(lower) > certificate.window_failure(of, counts.shape[1])[1:, 1:]).sum())


def _tried(network: tickets.Network, made: tickets.Plan, seeds: int, bound: float) -> tuple[bool, Figure]:
    """Whether the share of sources without a ticket may be below `bound`, and that share."""
    failed = tickets.controls.undersized(network, made, range(seeds)).without_ticket
    low, high = clopper_pearson(failed, seeds, 0.99)
    name = f"sources without a ticket, certified ≤ {bound:.2g}"
    return low <= bound, Figure(name, failed / seeds, interval=(low, high), digits=2)


@claim(
    id="ours.ticket_certificate",
    title="A source fails no more often than its weights' failures, added",
    statement=r"""Give each input $m=m_1+\dots+m_r$ hidden units in disjoint sub-blocks, and let $p(m_i,w)$ be the
probability that a random sub-block of $m_i$ units misses the weight $w$. Then a source contains no ticket for a network
with weights $w_1,\dots,w_{N_t}$ with probability at most $\sum_j\prod_i p(m_i,w_j)$ (a weight on a signed input counts
twice). And $p(m,w)$ falls exponentially with $m$ for every $\delta$: a failure of $\eta$ costs
$m=O_\delta\bigl(\log\frac{N_t}\eta\bigr)$ units.""",
    source=Source("ours", "repair of theorem 1's probability", wording="ours"),
    verdict=Verdict.HOLDS,
    remark="Each unit buys 0.22 to 0.24 bits of failure probability, at every precision from 3 to 8 bits: a factor of "
    "ten costs about 15 units an input.",
)
def ticket_certificate(budget: Budget) -> Evidence:
    """Planned sources against their certificate; proved against measured failure of one block; the slope of it."""
    network, seeds = example(), budget.pick(250, 1_000, 20_000)
    kept, figures = [], []
    for asked in (0.5, 0.1, 0.02):
        made = tickets.plan(network, failure=asked)
        inside, figure = _tried(network, made, seeds, made.certified)
        kept.append(inside)
        figures.append(figure)
    small = tickets.plan(network).with_blocks([44, 44])
    counted = tickets.controls.undersized(network, small, range(seeds))
    contradicted = sum(_proofs_contradicted(k) for k in (1, 2, 3, 4))
    slopes = [bits_a_unit(k) for k in STEPS]
    figures += [
        Figure("weights missed by sources of 44 units an input, mean", counted.measured, digits=2),
        Figure("expected", counted.predicted, digits=2),
        Figure("measured blocks that contradict the proved bound", contradicted),
        Figure("bits of failure a unit, δ = 1/3 to 1/127", f"{min(slopes):.2f} to {max(slopes):.2f}"),
    ]
    fair = abs(counted.measured - counted.predicted) <= 4 * counted.standard_error
    return Evidence(all(kept) and fair and contradicted == 0, tuple(figures), trials=seeds, seed=0)


@ticket_certificate.control("one weight's failure for the whole network, nothing added")
def _(budget: Budget) -> Evidence:
    network = example()
    made = tickets.plan(network).with_blocks([56, 56])
    single = certificate.rates(certificate.law("relu", 7, 7)).max(axis=0)[56]
    inside, figure = _tried(network, made, budget.pick(250, 1_000, 20_000), float(single))
    return Evidence(inside, (figure,), seed=0)


@ticket_certificate.control("one block counted twice, as if it were two")
def _(budget: Budget) -> Evidence:
    network = example()
    twice = sum(tickets.plan(network).with_blocks([(48, 48)] * 2).expected_failures(network))
    once = tickets.plan(network).with_blocks([48, 48])
    inside, figure = _tried(network, once, budget.pick(250, 1_000, 20_000), twice)
    return Evidence(inside, (figure,), seed=0)
