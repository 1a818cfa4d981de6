"""The claims of tickets/moments, and what they measure with."""

from itertools import product

import numpy as np
import pytest

from claims.measured import as_recorded, claims_of
from prunequant.claims.tickets.moments import failure_by_size_bias, sign_counts, size_bias_bound
from prunequant.claims.tickets.subset_sums import sign_vector_counts


@pytest.mark.parametrize("claim_id", claims_of(__file__))
def test_a_claim_agrees_with_its_verdict_and_with_the_ledger_and_its_controls_fail(claim_id):
    as_recorded(claim_id)


@pytest.mark.parametrize(("n", "bound"), [(1, 4), (4, 3), (5, 2)])
def test_signs_of_all_magnitudes_are_counted_as_by_walking_through_them(n, bound):
    counts = sign_counts(n, bound)
    rows = product(range(1, bound + 1), repeat=n)
    for row, x in zip(counts, rows, strict=True):
        known = sign_vector_counts(np.array(x))
        assert {y - n * bound: int(c) for y, c in enumerate(row) if c} == known


@pytest.mark.parametrize(("n", "bound", "t"), [(4, 2, 1), (5, 2, 2), (5, 3, 2), (6, 3, 1), (6, 4, 3), (7, 3, 3)])
def test_the_bound_by_two_moments_is_above_the_exact_failure_and_below_one(n, bound, t):
    exact = failure_by_size_bias(sign_counts(n, bound), t) / (2 * bound) ** n
    assert exact <= size_bias_bound(n, bound, t) <= 1 + 1e-9


def test_the_bound_uses_the_exact_moments():
    n, bound, t = 5, 3, 2
    counts = sign_counts(n, bound)
    y = np.arange(counts.shape[1])
    first, second = counts.mean(axis=0), (counts.astype(float) ** 2).mean(axis=0)
    even = counts[:, ::2].any(axis=1).mean()  # column y stands for the sum y − nM
    right = np.where(y % 2 == 0, even, 1 - even)
    if (n * bound) % 2:  # column y stands for the sum y − nM
        right = np.where(
            (y - n * bound) % 2 == 0, counts[:, 1::2].any(axis=1).mean(), counts[:, ::2].any(axis=1).mean()
        )
    empty = right - np.divide(first**2, second, out=np.zeros_like(first), where=second > 0)
    shifted = np.concatenate([np.zeros(2 * t), empty])[: len(y)]
    shifted[: 2 * t] = right[: 2 * t]
    by_hand = np.minimum(first, np.sqrt(second * np.clip(shifted, 0, None))).sum() / 2**n
    assert size_bias_bound(n, bound, t) == pytest.approx(by_hand, rel=1e-6)
