from itertools import combinations

import numpy as np
import pytest

from prunequant import tickets
from prunequant.tickets import noise
from prunequant.tickets.carve import Recipe, carve, effective, kept_totals, usable
from prunequant.tickets.source import SECOND, blocks, weights


def test_without_interior_rounding_nothing_differs():
    assert noise.interior_rounding(coarseness=0)[::3] == (0.0, 0.0)


def test_rounding_inside_the_pair_changes_a_quarter_of_the_outputs():
    differing = [noise.interior_rounding(coarseness=c, weights=120).differing for c in (1 / 16, 1 / 4, 1)]
    assert 0.005 < differing[0] < 0.05 < differing[1] < 0.15 < differing[2] < 0.4


def test_stochastic_rounding_has_the_variance_of_the_kept_sum_of_squares():
    result = noise.interior_rounding(coarseness=0.25, weights=100, samples=20_000, mode="stochastic")
    assert result.measured == pytest.approx(result.predicted, rel=0.01)


def test_nearest_rounding_of_a_shared_input_needs_its_correlations():
    for seed in (0, 1):
        result = noise.interior_rounding(coarseness=0.25, weights=100, samples=20_000, seed=seed)
        assert result.measured == pytest.approx(result.correlated, rel=0.01)
        assert abs(result.measured / result.predicted - 1) > 0.02


def test_the_quietest_ticket_is_the_least_of_all_subsets():
    recipe = Recipe(0, "relu", 3, 3, (14,), False)
    target = np.array([[2], [-3], [1], [3]])
    for seed in range(40):
        fit = usable(blocks(seed, 0, 3, 1, 14), 1)
        n = int(fit.number[0])
        v = weights(seed, 0, SECOND, 3, 0, 4 * 14).reshape(4, 14)[:, fit.position[0, :n]]
        least = []
        for row, w in zip(v, target[:, 0]):
            energies = [
                int(np.square(row[list(s)]).sum())
                for size in range(n + 1)
                for s in combinations(range(n), size)
                if (row * fit.factor[0, :n])[list(s)].sum() == w * recipe.factor
            ]
            least.append(min(energies, default=None))
        if None in least:
            with pytest.raises(tickets.TicketNotFound):
                noise.quietest(target, recipe, seed)
            continue
        carving = noise.quietest(target, recipe, seed)
        assert kept_totals(carving, seed).energy[:, 0, 0].tolist() == least
        assert np.array_equal(effective(carving, seed), target)


def test_the_quietest_ticket_beats_the_first_one_and_more_units_make_it_quieter():
    target = np.random.default_rng(0).integers(-7, 8, (12, 12))
    energies = []
    for units in (40, 52, 64):
        recipe = Recipe(0, "relu", 7, 7, (units,) * 3, True)
        energies.append(kept_totals(noise.quietest(target, recipe, 4), 4).energy.mean())
    first = kept_totals(carve(target, recipe, 4), 4).energy.mean()
    assert energies[0] > energies[1] > energies[2] and energies[2] < 0.5 * first


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="mode"):
        noise.interior_rounding(mode="up")
    with pytest.raises(ValueError, match="cost"):
        noise.quietest(np.array([[1]]), Recipe(0, "relu", 3, 3, (8,)), 0, "price")


def test_the_quietest_tickets_let_through_half_the_error():
    first, quiet = (
        noise.interior_rounding(coarseness=0.25, weights=100, samples=4_000, mode="stochastic", quiet=q)
        for q in (False, True)
    )
    assert quiet.measured == pytest.approx(quiet.predicted, rel=0.02)
    assert quiet.measured < first.measured / 3 and quiet.differing < 0.6 * first.differing
