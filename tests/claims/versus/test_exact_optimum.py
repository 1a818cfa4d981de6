"""The claims of versus/exact-optimum, and what they measure with."""

from itertools import combinations

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
from prunequant import optimum
from prunequant.claims.versus import exact_optimum


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_boxed_optimum_is_the_best_of_all_masks_and_the_free_one_when_the_box_is_wide(keep):
    from scipy.optimize import lsq_linear

    for seed in range(6):
        weights, gram = exact_optimum.random_layer(np.random.default_rng(seed), 8)
        low, high = 0.7 * weights.min(), 0.7 * weights.max()
        root, errors = np.linalg.cholesky(gram).T, []
        for kept in combinations(range(8), keep):
            errors.append(2 * lsq_linear(root[:, kept], root @ weights, (low, high)).cost)
        _, error = exact_optimum.boxed_optimum(weights, gram, keep, low, high)
        assert error == pytest.approx(min(errors), rel=1e-6)
        _, free = exact_optimum.boxed_optimum(weights, gram, keep, -100, 100)
        assert free == pytest.approx(optimum.best_pruning(weights, gram, keep).error, rel=1e-9)
        assert error >= free * (1 - 1e-9)


def test_the_ratio_of_a_layer_weighs_its_channels_by_their_power():
    rows = np.array([[9.0, 1.0, 2.0, 1, 1], [1.0, 0.0, 3.0, 1, 1]])
    assert exact_optimum.whole(rows, 1) == pytest.approx(10.0)
    assert exact_optimum.whole(rows, 2) == pytest.approx(10 * np.log10(2.0))
