"""Every integer argument: any NumPy type gives the Python integer's result, and no size of it hangs."""

import math
import time

import numpy as np
import pytest

from prunequant import subset_sum
from prunequant.studies import phase_diagram as phase
from prunequant.subset_sum import theory

X = [7, 6, -5, 3, 3, 1, 1, 1]
CURVE = phase.PhaseCurve(3, "half", "signed", 4, 1, (0, 4, 12, 13, 21, 50))
TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
HUGE = [2**13, 2**22, 2**24, 2**31, 2**40, 2**62, 2**63, 2**64, 2**70, -(2**31), -(2**63), -(2**70), 10**400]

THEORY = {
    "all_targets_failure": (70, 100),
    "all_targets_misses": (12, 100, 100),
    "blocks_failure": (0.01, 18, 100),
    "cauchy_schwarz_bound": (8, 20, 15),
    "certified_samples": (100, 1e-3),
    "closed_failure": (70, 100),
    "closed_samples": (100, 0.01),
    "critical_density": (1,),
    "critical_kappa": (100, 5),
    "critical_window": (1,),
    "edge_failure": (20, 100, 50),
    "expected_growth": (3, 100, 5),
    "first_moment": (12, 100, 50),
    "first_moment_gaussian": (12, 100, 50),
    "interval_law": (2, 5, 100),
    "magnitude_counts": (8, 100),
    "markov_bound": (12, 100, 50),
    "mixture_poisson_failure": (20, 100, 5),
    "mixture_poisson_tail": (40, 100, 3),
    "one_sided_failure": (8, 100, 50),
    "one_target_failure": (50, 100),
    "parity_floor": (10, 100),
    "partition_integral": (X, 3),
    "perfect_partition_probability": (12, 100),
    "poisson_failure": (12, 100, 50),
    "positive_sum_law": (8, 100),
    "random_target_failure": (12, 100),
    "samples_needed": (100, 0.01, 3),
    "second_moment": (8, 20, 15),
    "second_moment_ratio": (8, 20, 15),
    "second_moment_ratio_limit": (12, 100, 50),
    "subset_sum_integral": (X, 3),
    "window_kappa": (20, 1),
}
ROOM = {
    "count": (X, 0, 9),
    "covered": (X, 0, 9),
    "hitting_times": (20, 100, 50, 30, 7, "signed", 3),
    "karmarkar_karp": (X, 9),
    "karmarkar_karp_many": ([X], 9),
    "reachable": (X, 0, 9),
    "solve": (X, 9),
    "solve_many": ([X], 9),
    "solve_words": ([X], 9),
}
CALLS = (
    [(name, getattr(theory, name), given) for name, given in THEORY.items()]
    + [(name, getattr(subset_sum, name), given) for name, given in ROOM.items()]
    + [("count_times", phase.count_times, (3, "half", "signed", 4, 100, 1, 1)), ("failed", CURVE.failed, (2,))]
)
INTEGERS = [
    pytest.param(function, given, place, id=f"{name}-{place}")
    for name, function, given in CALLS
    for place, value in enumerate(given)
    if isinstance(value, int)
]
PROBABILITIES = [
    *("all_targets_failure", "blocks_failure", "cauchy_schwarz_bound", "closed_failure", "critical_window"),
    *("edge_failure", "interval_law", "markov_bound", "mixture_poisson_failure", "mixture_poisson_tail"),
    *("one_sided_failure", "one_target_failure", "parity_floor", "perfect_partition_probability"),
    *("poisson_failure", "positive_sum_law", "random_target_failure"),
]


def same(a, b):
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(p, q) for p, q in zip(a, b, strict=True))
    return a == b if isinstance(a, dict) or a is None or b is None else np.array_equal(a, b)


def test_every_function_of_the_theory_stands_in_the_table():
    assert sorted(THEORY) == sorted(theory.__all__)


@pytest.mark.parametrize(("function", "given", "place"), INTEGERS)
def test_an_integer_of_any_numpy_type_gives_the_result_of_the_python_integer(function, given, place):
    expected = function(*given)
    for kind in TYPES:
        narrow = (*given[:place], kind(given[place]), *given[place + 1 :])
        assert same(function(*narrow), expected), kind


@pytest.mark.parametrize(("function", "given", "place"), INTEGERS)
def test_a_bool_is_no_number_and_a_huge_one_is_answered_or_refused_in_seconds(function, given, place):
    with pytest.raises(TypeError, match=r"True|dtype bool"):
        function(*given[:place], True, *given[place + 1 :])
    start = time.process_time()
    for value in HUGE:
        if value in (2**22, 2**24) and function not in (theory.first_moment_gaussian, subset_sum.solve):
            continue  # legal in some of the functions, and then up to ten seconds
        try:
            result = function(*given[:place], value, *given[place + 1 :])
        except ValueError as error:
            assert len(str(error)) < 250
        else:
            if isinstance(result, float):
                assert math.isfinite(result)
    assert time.process_time() - start < 20


@pytest.mark.parametrize("name", PROBABILITIES)
def test_what_is_a_probability_lies_between_0_and_1(name):
    function, given = getattr(theory, name), THEORY[name]
    for place in range(len(given)):
        for value in (-1, 0, 1, 2, 5, 41, 64, 200, 1000, -(2**62), 1e-9, 0.3, 1e300):
            try:
                result = np.asarray(function(*given[:place], value, *given[place + 1 :]))
            except (TypeError, ValueError):
                continue
            assert ((result >= 0) & (result <= 1)).all(), (place, value)


def test_a_second_moment_too_large_for_a_float_is_refused_at_once():
    with pytest.raises(ValueError, match=r"n is 1000: it must be an integer in \[0, 500\]"):
        theory.second_moment(1000, 8, 1)
    assert math.isfinite(theory.second_moment(200, 1, 3))


def test_a_target_out_of_reach_has_no_solution_whatever_its_size():
    assert theory.first_moment(10, 8, 2**70) == theory.first_moment(10, 8, -81) == 0
    assert theory.partition_integral(X, 28) == theory.subset_sum_integral(X, -6) == 0
    assert theory.mixture_poisson_failure(1e-9, 8, 8) == theory.mixture_poisson_failure(20, 8, 2**70) == 1
    assert theory.all_targets_misses(12, 16, 2**18) == pytest.approx(2**19 + 1, rel=1e-13)
    with pytest.raises(ValueError, match=r"E\[Z\] is 0"):
        theory.second_moment_ratio(3, 1, 2, "partition")


def test_the_smallest_failures_are_planned_for():
    n = theory.closed_samples(256, 1e-300)
    assert theory.closed_failure(n, 256) <= 1e-300 < theory.closed_failure(n - 1, 256)
    assert theory.closed_samples(256, math.ulp(0.0)) > n
    assert theory.samples_needed(256, 1e-300, "random") > theory.samples_needed(256, 1e-200, "random")


def test_counts_of_a_curve_are_added_without_wrapping():
    narrow = phase.PhaseCurve(3, "half", "signed", 1, 1, tuple(np.array([200, 100, 7], np.uint8)))
    assert narrow.trials == 307 and narrow.failed(0) == 107
    with pytest.raises(ValueError, match="counts has 2 entries"):
        phase.PhaseCurve(3, "half", "signed", 1, 1, (1, 2))
