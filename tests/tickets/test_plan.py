from fractions import Fraction
from math import log2

import numpy as np
import pytest

from prunequant import tickets
from prunequant.tickets.plan import inverse, widths_of_independent_neurons


def test_the_certified_failure_is_at_most_the_one_asked_for():
    for failure in (0.5, 0.01, 1e-6):
        for depth in ("2l", "l+1"):
            plan = tickets.plan((20, 12, 6, 3), 1 / 8, 1 / 8, failure, True, depth=depth)
            assert 0 < plan.certified <= failure


def test_smaller_failures_cost_units_by_the_logarithm():
    sizes = [sum(tickets.plan((64, 10), Fraction(1, 7), failure=10.0**-e).blocks[0]) for e in (2, 4, 6, 8)]
    steps = np.diff(sizes)
    assert (steps > 10).all() and (steps < 60).all()


def test_a_plan_for_one_network_needs_no_more_than_a_plan_for_all_of_its_shape():
    net = tickets.random_network((30, 20, 10), 7, 0)
    mine, worst = tickets.plan(net), tickets.plan(net.shape, Fraction(1, 7))
    assert mine.parameters < worst.parameters and mine.certified <= 0.01
    assert mine.subset_sums == worst.subset_sums


def test_widths_subset_sums_and_parameters_of_the_deep_plan():
    plan = tickets.plan((5, 4, 3), Fraction(1, 7), signed_inputs=True, biases=True).with_blocks([10, (20, 20)])
    assert plan.widths == (6, 60, 5, 200, 3)
    assert plan.subset_sums == (2 * 6 * 4, 5 * 3)
    assert plan.parameters == 6 * 60 + 60 * 4 + 5 * 200 + 200 * 3
    assert plan.target_parameters == 6 * 4 + 5 * 3
    assert plan.counting_bound == pytest.approx(39 * log2(15) - 1)
    assert plan.ratio == plan.parameters / plan.counting_bound


def test_widths_subset_sums_and_parameters_of_the_shallow_plan():
    plan = tickets.plan((5, 4, 3, 2), Fraction(1, 7), depth="l+1").with_blocks([10, 6, 7])
    assert plan.widths == (5, 50, 24, 21, 2) and plan.copies == (6, 7, 1)
    assert plan.subset_sums == (2 * 5 * 4 * 6, 4 * 3 * 7, 3 * 2)
    assert plan.parameters == 5 * 50 + 50 * 24 + 24 * 21 + 21 * 2


def test_the_shallow_plan_pays_its_logarithm_in_parameters_not_in_width():
    deep, shallow = (tickets.plan((32, 32, 32, 32), 1 / 16, depth=d) for d in ("2l", "l+1"))
    assert max(shallow.widths) < 2 * max(deep.widths)
    assert shallow.parameters > 4 * deep.parameters


def test_independent_neurons_would_be_wider_by_the_number_of_outputs():
    plan = tickets.plan((6, 5, 4), Fraction(1, 7))
    assert widths_of_independent_neurons(plan) == (plan.widths[1] * 5, plan.widths[3] * 4)


def test_the_proved_plan_needs_no_trials_and_more_units():
    net = tickets.random_network((8, 6, 4), 7, 0)
    measured, proved = tickets.plan(net), tickets.plan(net, method="proved")
    assert proved.confidence == 1.0 and proved.certified <= 0.01
    assert 1.5 < proved.parameters / measured.parameters < 10
    assert tickets.find(net, proved, 0).verify(np.eye(8, dtype=int)).identical


def test_precision_may_differ_by_layer():
    net = tickets.Network([w for k in (31, 7, 3) for w in tickets.random_network((5, 5), k, k).weights], (31, 7, 3))
    plan = tickets.plan(net, source_step=[Fraction(1, 31), Fraction(1, 7), Fraction(1, 3)])
    assert tickets.find(net, plan, 0).verify(np.random.default_rng(0).integers(-9, 9, (20, 5))).identical


def test_one_block_size_for_all_layers_wastes_the_same_units():
    steps = [Fraction(1, 127), Fraction(1, 7), Fraction(1, 3)]
    budget = tickets.controls.layerwise_budget((16, 16, 16, 16), steps, 0.01)
    assert budget.by_layer.certified <= 0.01 < budget.uniform.certified
    assert budget.uniform.parameters <= budget.by_layer.parameters


def test_a_step_is_a_unit_fraction():
    assert inverse(0.125, "x") == 8 and inverse(Fraction(1, 7), "x") == 7 and inverse(1 / 7, "x") == 7
    assert tickets.step(4) == Fraction(1, 7)
    for wrong in (0.3, 0, -0.5, 2):
        with pytest.raises(ValueError, match="source_step"):
            tickets.plan((2, 2), 1 / 4, wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"failure": 0}, "failure"),
        ({"depth": "3l"}, "depth"),
        ({"method": "guess"}, "method"),
        ({"target_step": None}, "target_step"),
        ({"shape": (3,)}, "shape"),
        ({"source_step": [1 / 4]}, "source_step has 1 entries"),
        ({"source_step": Fraction(1, 3), "target_step": 1 / 2}, "not a multiple of δ_in²"),
        ({"source_step": 1 / 4, "target_step": 1 / 8, "depth": "l+1"}, "not a multiple of δ_in ="),
    ],
)
def test_impossible_requests_are_named(change, message):
    given = {"shape": (3, 2, 2), "target_step": 1 / 4, "source_step": 1 / 4, **change}
    with pytest.raises(ValueError, match=message):
        tickets.plan(given.pop("shape"), **given)


def test_a_plan_reads_as_a_table():
    text = str(tickets.plan((784, 128, 10), Fraction(1, 7), failure=0.01, signed_inputs=False))
    assert "784 → 128 → 10" in text and "confidence 0.999999" in text and "counting" in text
