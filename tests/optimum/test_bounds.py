"""Lower bounds: below the optimum always, certified from whatever multipliers, tighter with the box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import optimum as naive
from prunequant import optimum


@given(st.integers(0, 10**6), st.floats(0, 5), st.floats(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_multipliers_give_a_bound_below_the_optimum(seed, size_nu, size_mu):
    rng = np.random.default_rng(seed)
    weights, gram = naive.random_problem(rng, 5, 0.5)
    low, high = -2, 1
    floor = np.floor(weights).astype(int)
    cuts = np.tile([0, -1, 1], (5, 1))
    nu, mu = size_nu * rng.random((5, 3)), size_mu * rng.random(5)
    bound = optimum.certified_bound(gram, weights - floor, cuts, nu, low - floor, high - floor, mu)
    assert 0 <= bound <= naive.best_quantization_error(weights, gram, 1.0, low, high) + 1e-12


def test_nonsense_from_a_solver_still_gives_a_valid_bound():
    weights, gram = naive.random_problem(np.random.default_rng(1), 4)
    cuts, box = np.zeros((4, 1), int), (np.full(4, -2), np.full(4, 1))
    for nu in (np.full((4, 1), np.nan), np.full((4, 1), 1e9), np.full((4, 1), -3.0)):
        bound = optimum.certified_bound(gram, weights, cuts, nu, *box, np.zeros(4))
        assert 0 <= bound <= naive.best_quantization_error(weights, gram, 1.0, -2, 1) + 1e-12


def test_the_relaxation_is_below_the_optimum_and_the_box_tightens_it():
    rng = np.random.default_rng(2)
    for _ in range(6):
        weights, gram = naive.random_problem(rng, 10, 0.6)
        exact = optimum.best_quantization(weights, gram, 2, 1.0)
        paper = optimum.sdp_bound(weights, gram, 2, 1.0, box=False, cuts=0)
        boxed = optimum.sdp_bound(weights, gram, 2, 1.0)
        assert exact.proved
        assert paper <= boxed * (1 + 1e-5)
        assert 0 < boxed <= exact.error * (1 + 1e-9)
        assert optimum.dual_gap_decibel(exact.error, paper) >= optimum.dual_gap_decibel(exact.error, boxed) - 1e-4


@pytest.mark.parametrize("scale", [1e-6, 1e-9, 1e-14])
def test_weights_far_outside_the_grid_are_bounded_by_its_ends_where_the_solver_fails(scale):
    weights, gram = naive.random_problem(np.random.default_rng(4), 5, 0.5)
    exact = optimum.best_quantization(weights, gram, 4, scale)
    with pytest.warns(UserWarning, match="that of the grid's ends alone"):
        bound = optimum.sdp_bound(weights, gram, 4, scale)
    assert (1 - 1e-9) * exact.error <= bound <= exact.error


def test_the_dual_value_reaches_the_primal_relaxation():
    import cvxpy as cp

    weights, gram = naive.random_problem(np.random.default_rng(3), 8, 0.5)
    floor = np.floor(weights)
    d = weights - floor
    x, big = cp.Variable(8), cp.Variable((8, 8), symmetric=True)
    block = cp.bmat([[big, cp.reshape(x, (8, 1), order="C")], [cp.reshape(x, (1, 8), order="C"), np.ones((1, 1))]])
    objective = cp.trace(gram @ big) - 2 * (gram @ d) @ x + d @ gram @ d
    primal = cp.Problem(cp.Minimize(objective), [block >> 0, cp.diag(big) >= x]).solve(solver="CLARABEL")
    certified = optimum.sdp_bound(weights, gram, 4, 1.0, box=False, cuts=0)
    assert certified == pytest.approx(primal, rel=1e-4)
    assert certified <= primal * (1 + 1e-6)


def test_a_layer_bound_holds_where_the_sum_of_chunks_does_not():
    rng = np.random.default_rng(4)
    broken = 0
    for _ in range(40):
        weights, gram = naive.random_problem(rng, 12, 0.9)
        exact = optimum.best_quantization(weights, gram, 2, 1.0)
        assert optimum.layer_bound(weights, gram, 2, 1.0, chunk=4) <= exact.error * (1 + 1e-9)
        chunks = [
            optimum.best_quantization(weights[i : i + 4], gram[i : i + 4, i : i + 4], 2, 1.0).error for i in (0, 4, 8)
        ]
        broken += sum(chunks) > exact.error
    assert broken > 0


def test_one_chunk_is_the_optimum_itself():
    weights, gram = naive.random_problem(np.random.default_rng(5), 9)
    exact = optimum.best_quantization(weights, gram, 3, 0.4).error
    assert optimum.layer_bound(weights, gram, 3, 0.4, chunk=9) == pytest.approx(exact, rel=1e-9)


def test_several_neurons_have_several_bounds():
    rng = np.random.default_rng(6)
    _, gram = naive.random_problem(rng, 6)
    weights = rng.standard_normal((6, 3))
    exact = optimum.best_quantization(weights, gram, 3, 0.5)
    for bound in (optimum.sdp_bound(weights, gram, 3, 0.5), optimum.layer_bound(weights, gram, 3, 0.5, chunk=2)):
        assert bound.shape == (3,)
        assert np.all(bound <= exact.error * (1 + 1e-9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimum.sdp_bound(np.ones(2), np.eye(2), 4, 0.3, cuts=-1), "cuts is -1"),
        (lambda: optimum.sdp_bound(np.ones(2), np.ones((2, 2)), 4, 0.3), "add a ridge"),
        (lambda: optimum.layer_bound(np.ones(2), np.eye(2), 4, 0.3, chunk=0), "chunk is 0"),
        (lambda: optimum.layer_bound(np.ones(2), np.ones((2, 2)), 4, 0.3), "add a ridge"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
