"""Claims of Kumar and Natale 2025 on parts of a network: lemma 6 (a neuron) and lemma 7 (a layer)."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from prunequant import tickets
from prunequant.statistics import clopper_pearson
from prunequant.tickets import source
from prunequant.tickets.carve import Recipe, prune
from prunequant.tickets.plan import widths_of_independent_neurons

from .core import Budget, Evidence, Figure, Source, Verdict, claim
from .kumar2025_tickets import digits_ticket

SEED = 1106
LEVELS = 7
UNITS = (60, 60)  # two sub-blocks of 60 units an input: a row of 64 weights is missed less than once in a thousand


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
    chapter="tickets/tickets",
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
    chapter="tickets/tickets",
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
