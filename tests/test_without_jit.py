"""Kernels as plain Python, the compiler off: an index out of bounds raises, a name that is missing raises, and the
answers on tiny inputs are those of the naive twins. Compiled, the same mistakes read foreign memory in silence."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parent
INSIDE = "PRUNEQUANT_TESTS_WITHOUT_JIT"
# Plain NumPy integers warn where 64-bit arithmetic wraps around, as the generators of random numbers mean it to.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
plain = pytest.mark.skipif(INSIDE not in os.environ, reason="runs in the process without the compiler, below")


@pytest.mark.skipif(INSIDE in os.environ, reason="already in that process")
def test_the_kernels_give_the_twins_answers_as_plain_python():
    kept = {**os.environ, "NUMBA_DISABLE_JIT": "1", INSIDE: "1"}
    kept["PYTHONPATH"] = os.pathsep.join([*(p for p in sys.path if p), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", __file__],
        cwd=TESTS.parent, env=kept, capture_output=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr


@plain
def test_the_compiler_is_off():
    import numba

    from prunequant.subset_sum import _kernels_solve

    assert numba.config.DISABLE_JIT
    assert not any(hasattr(thing, "py_func") for thing in vars(_kernels_solve).values())


@plain
def test_subset_sums():
    from naive import subset_sum as naive
    from prunequant import subset_sum

    rng = np.random.default_rng(1)
    for n in (1, 4, 7):
        x = rng.integers(-9, 10, n)
        table = naive.counts(x)
        window = range(-12, 13)
        assert subset_sum.reachable(x, -12, 12).tolist() == [t in table for t in window]
        assert subset_sum.count(x, -12, 12).tolist() == [table.get(t, 0) for t in window]
        for target in (-7, 0, 5, 11):
            mask = subset_sum.solve(x, target)
            assert (mask is not None) == (target in table)
            assert mask is None or int(x[mask].sum()) == target
            assert subset_sum.karmarkar_karp(x, target) is None or naive.karmarkar_karp(x, target)


@plain
def test_masks():
    from naive import sparsity as naive
    from prunequant import sparsity

    x = np.array([[3.0, -3.0, 1.0, 0.5, -2.0, 2.0, 2.0, 0.0]])
    for ties in ("first", "last"):
        assert np.array_equal(sparsity.n_m(x, 2, 4, ties), naive.n_m(x, 2, 4, ties))
        assert sparsity.magnitude(x[0], 0.5, ties).tolist() == naive.keep_largest(np.abs(x[0]).tolist(), 4, ties)


@plain
def test_formats():
    from naive import formats as naive
    from prunequant.formats import HBFP, MX, Integer

    x = np.random.default_rng(2).standard_normal(8)
    grid = naive.small_float_grid(2, 1, 1, 6.0)
    assert HBFP(4, 8).quantize(x).tolist() == naive.hbfp(x.tolist(), 4)
    assert MX("fp4_e2m1", 8).quantize(x).tolist() == naive.mx(x.tolist(), grid)
    assert Integer(4).quantize(x).tolist() == naive.integer(x.tolist(), 4, "narrow", np.float64)


@plain
@pytest.mark.parametrize("stochastic", [True, False])
def test_path_following(stochastic):
    from naive import path_following as naive
    from prunequant.path_following import Grid, compress

    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((5, 2)), rng.standard_normal((6, 5))
    values, _ = naive.follow(w, x, lambda v, u: naive.grid(v, u, 0.25, stochastic), seed=11)
    assert np.allclose(compress(w, x, Grid(0.25, stochastic), seed=11).weights, values, atol=1e-12)
    values = naive.optq(w, x, lambda v, u: naive.grid(v, u, 0.25, stochastic))
    assert np.allclose(compress(w, x, Grid(0.25, stochastic), "optq", damping=0.01).weights, values, atol=1e-12)


@plain
def test_scales_of_least_error():
    from naive import distortion as naive
    from prunequant import distortion

    x = np.random.default_rng(4).standard_normal(6)
    scale = distortion.best_scale(x, 3)
    assert np.isclose(distortion.scale_error(x, scale, 3), naive.best_scale_error(x, 3, "twos_complement"), rtol=1e-12)


@plain
def test_layerwise_optima():
    from naive import optimum as naive
    from prunequant import optimum

    w, gram = naive.random_problem(np.random.default_rng(5), 4)
    found = optimum.best_quantization(w, gram, bits=2, scale=0.7)
    assert found.proved and np.isclose(found.error, naive.best_quantization_error(w, gram, 0.7, -2, 1), rtol=1e-9)
    pruned = optimum.best_pruning(w, gram, 2)
    assert pruned.proved and np.isclose(pruned.error, naive.best_pruning_error(w, gram, 2, True), rtol=1e-9)


@plain
def test_tickets():
    from naive import tickets as naive
    from prunequant import tickets

    net = tickets.random_network((2, 2, 1), 2, seed=0)
    plan = tickets.plan(net, failure=1e-2)
    ticket = tickets.find(net, plan, seed=1)
    inputs = [[1, -2], [0, 3]]
    assert ticket.verify(inputs).identical
    expected = [naive.forward(net.weights, x, net.divisors, net.constants) for x in inputs]
    assert net.forward(np.array(inputs)).tolist() == expected
