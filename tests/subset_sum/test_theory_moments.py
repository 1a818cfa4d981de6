"""Moments against exact enumeration over all samples, integrals against counts."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from naive import subset_sum as naive
from prunequant import subset_sum
from prunequant.subset_sum import theory


def enumerated(n, bound, target, problem):
    """(E[Z], E[Z²]) as fractions, over every sample."""
    law = range(-bound, bound + 1) if problem == "subset_sum" else range(1, bound + 1)
    first = second = Fraction(0)
    for x in product(law, repeat=n):
        if problem == "subset_sum":
            number = naive.counts(x).get(target, 0)
        else:
            number = sum(sum(s * v for s, v in zip(signs, x)) == target for signs in product((-1, 1), repeat=n))
        first += number
        second += number**2
    total = len(law) ** n
    return first / total, second / total


@pytest.mark.parametrize("problem", ["subset_sum", "partition"])
@pytest.mark.parametrize(("n", "bound", "target"), [(1, 3, 2), (3, 2, 0), (3, 3, 1), (4, 2, 3), (4, 3, -2), (2, 2, 9)])
def test_first_and_second_moments_are_those_of_enumeration(n, bound, target, problem):
    first, second = enumerated(n, bound, target, problem)
    assert theory.first_moment(n, bound, target, problem) == pytest.approx(float(first), abs=1e-11)
    assert theory.second_moment(n, bound, target, problem) == pytest.approx(float(second), abs=1e-11)


def test_integrals_count_solutions_on_random_instances():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.integers(-40, 41, 10)
        target = int(rng.integers(-60, 60))
        exact = int(subset_sum.count(x, target, target)[0])
        assert theory.subset_sum_integral(x, target) == pytest.approx(exact, abs=1e-9)
        discrepancy = int(x.sum()) - 2 * target
        assert theory.partition_integral(x, discrepancy) == pytest.approx(exact, abs=1e-9)
        assert theory.partition_integral(x, discrepancy + 1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("problem", "bound", "target"), [("subset_sum", 64, 32), ("partition", 64, 0)])
def test_the_gaussian_first_moment_errs_by_order_one_over_n(problem, bound, target):
    errors = []
    for n in (12, 24, 48):
        exact = theory.first_moment(n, bound, target, problem)
        errors.append(n * (exact / theory.first_moment_gaussian(n, bound, target, problem) - 1))
    assert max(map(abs, errors)) < 0.3
    assert abs(errors[2] - errors[1]) < abs(errors[1]) + 0.05


def test_the_parity_factor_makes_the_partition_ratio_two():
    for n, bound, expected in ((16, 64, 2.0319), (20, 256, 2.0230), (24, 64, 2.0174)):
        ratio = theory.second_moment_ratio(n, bound, 0, "partition")
        assert ratio == pytest.approx(expected, abs=6e-5)
        assert ratio == pytest.approx(theory.second_moment_ratio_limit(n, bound, 0, "partition"), abs=0.15 / n)


def test_the_subset_sum_ratio_stays_above_two_over_root_three():
    for n, target, expected in ((24, 256, 1.2581), (24, 128, 1.1818), (16, 256, 1.3140)):
        ratio = theory.second_moment_ratio(n, 256, target)
        assert ratio == pytest.approx(expected, abs=6e-5)
        assert ratio == pytest.approx(theory.second_moment_ratio_limit(n, 256, target), abs=0.15 / n)
        assert ratio > 2 / 3**0.5
    assert theory.cauchy_schwarz_bound(60, 16, 0) < 3**0.5 / 2


def test_markov_and_cauchy_schwarz_enclose_the_exact_probability():
    for n, bound, target in ((3, 3, 1), (4, 2, 2), (4, 3, 3)):
        law = range(-bound, bound + 1)
        hits = sum(target in naive.all_sums(x) for x in product(law, repeat=n))
        probability = hits / len(law) ** n
        assert theory.cauchy_schwarz_bound(n, bound, target) <= probability + 1e-12
        assert probability <= theory.markov_bound(n, bound, target) + 1e-12


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="problem is 'sums'"):
        theory.first_moment(3, 2, 1, "sums")
    with pytest.raises(TypeError, match=r"n is 3\.0: it must be an integer"):
        theory.second_moment(3.0, 2, 1)
    with pytest.raises(ValueError, match="bytes"):
        theory.second_moment(40, 2**24, 1)
