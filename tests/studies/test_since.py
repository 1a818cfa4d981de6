"""What the chapter on later papers measures with, against slow twins, closed forms and exact laws."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from prunequant.formats import Integer
from prunequant.interplay import compare
from prunequant.studies import since
from prunequant.studies.inputs import LAWS


def babai_by_projection(w, x, step):
    """Babai 1986, literally: the plane nearest to what is left, feature after feature, by orthogonal projection."""
    left, q = x @ w, np.zeros(len(w))
    for t in range(len(w)):
        later = x[:, t + 1 :]
        across = x[:, t] - (later @ np.linalg.lstsq(later, x[:, t], rcond=None)[0] if later.size else 0)
        q[t] = np.rint(across @ left / (across @ across) / step)
        left = left - step * q[t] * x[:, t]
    return step * q


def test_gptq_takes_the_planes_that_projections_find():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((30, 12)) @ rng.standard_normal((12, 12)), rng.standard_normal((12, 5))
    found = since.nearest_plane(w, x, 0.3)
    planes = np.column_stack([babai_by_projection(column, x, 0.3) for column in w.T])
    across = [x[:, t] - x[:, t + 1 :] @ np.linalg.lstsq(x[:, t + 1 :], x[:, t], rcond=None)[0] for t in range(11)] + [
        x[:, 11]
    ]
    bound = 0.3**2 / 4 * sum(a @ a for a in across)
    assert found["differ"] == 0
    np.testing.assert_allclose(found["share"], np.sum((x @ (w - planes)) ** 2, axis=0) / bound, rtol=1e-8)


def test_the_bound_is_reached_by_weights_halfway_between_levels():
    found = since.nearest_plane(np.full((3, 1), 0.5), np.eye(3), 1.0)
    assert found["share"][0] == pytest.approx(1.0, abs=1e-15)
    assert since.nearest_plane(np.full((3, 1), 9.0), np.eye(3), 1.0, bits=3)["share"][0] == pytest.approx(4 * 36)


def test_a_gap_and_an_advantage_are_those_of_the_errors_of_one_tensor():
    fmt = Integer(3, granularity="row")
    row = since.order_gaps({"a scale per row": {"INT3": fmt}}, (0.75,), ("laplace",), "magnitude", (16, 32), seed=5)[0]
    x = LAWS["laplace"](np.random.default_rng([5, 0]), (16, 32))
    first, second = (compare(x, fmt, 0.75, order, "magnitude").errors[2] for order in ("sq", "qs"))
    assert row["gap"] == pytest.approx(np.log(first["q"] / first["s"]), rel=1e-12)
    assert row["advantage"] == pytest.approx(np.log(second["both"] / first["both"]), rel=1e-12) and row["advantage"] > 0


def test_the_rank_correlation_is_spearmans_and_its_interval_encloses_it():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 6, 60)
    b = a + rng.normal(0, 3, 60)
    rho, low, high = since.rank_correlation(a, b)
    assert rho == pytest.approx(spearmanr(a, b)[0], abs=1e-12) and 0 < low < rho < high < 1


def water_level(variances, distortion):
    low, high = 0.0, max(variances)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(middle, variances).sum() < distortion else (low, middle)
    return 0.5 * np.log2(np.maximum(np.array(variances) / high, 1)).sum()


@pytest.mark.parametrize("distortion", [1e-6, 0.01, 0.3, 1.0, 5.0, 10.4, 10.5, 20.0])
def test_reverse_water_filling_finds_the_level_that_bisection_finds(distortion):
    variances = [6.0, 0.5, 3.0, 1.0]
    expected = 0.0 if distortion >= 10.5 else water_level(variances, distortion)
    assert since.reverse_water_filling(variances, distortion) == pytest.approx(expected, abs=1e-9)


def test_water_filling_refuses_an_error_of_zero():
    with pytest.raises(ValueError, match="distortion is 0"):
        since.reverse_water_filling([1.0], 0.0)


def test_the_entropy_of_few_draws_is_right_on_average():
    p = np.array([0.5, 0.25, 0.125, 0.125])
    rows = np.random.default_rng(2).choice(4, (4000, 40), p=p)
    assert since.entropy_bits(rows) == pytest.approx(1.75, abs=0.01)


def test_on_white_inputs_all_ways_to_round_are_one_and_pay_nothing_more():
    found = [since.coded(np.eye(5), 0.2, method, 500) for method in since.METHODS]
    assert found[0] == pytest.approx(found[1]) and found[1] == pytest.approx(found[2])
    assert all(since.extra_bits(np.eye(5), method) == 0 for method in since.METHODS)


def test_the_error_of_coded_weights_is_that_of_the_output():
    """One step: the same integers as GPTQ on inputs with this Gram matrix, and their output error a weight."""
    gram, lam = since.falling_gram(6, 1.5, 3)
    np.testing.assert_allclose(np.linalg.eigvalsh(gram)[::-1], lam, rtol=1e-10)
    x = np.linalg.cholesky(gram).T
    w = np.random.default_rng(7).standard_normal((6, 300))
    planes = np.column_stack([babai_by_projection(column, x, 0.5) for column in w.T])
    found = since.coded(gram, 0.5, "one step", 300, seed=7)
    assert found["distortion"] == pytest.approx(np.sum((x @ (w - planes)) ** 2) / w.size, rel=1e-8)
    assert found["rate"] == pytest.approx(since.entropy_bits(np.rint(planes / 0.5).astype(int)), rel=1e-12)


def test_repairs_are_those_of_least_squares_on_the_kept_inputs():
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((40, 8)) @ rng.standard_normal((8, 8)), rng.standard_normal((8, 3))
    found, refit = since.repaired(w, x.T @ x), 0.0
    for column in w.T:
        kept = np.argsort(np.abs(column) * np.linalg.norm(x, axis=0))[4:]
        refit += np.linalg.lstsq(x[:, kept], x @ column, rcond=None)[1].sum()
    assert found["refit"] == pytest.approx(refit, rel=1e-9)
    assert found["compensated"] == pytest.approx(found["refit"] + found["kept rounding"], rel=1e-9)
    assert found["refit"] < found["mask"] < found["zero"] == pytest.approx(np.sum((x @ w) ** 2))


def test_failures_of_signs_follow_their_exact_law():
    """Samples −1, 0, 1 reach −1, 0 and 1 as soon as both signs were drawn."""
    share, count = since.failures(1, 50_000, seed=4, n_max=12)
    n = np.arange(13)
    exact = np.minimum(1, 2 * (2 / 3) ** n - (1 / 3) ** n)
    assert np.abs(share - exact).max() < 5 * 0.5 / np.sqrt(50_000) and np.array_equal(count, np.rint(share * 50_000))


def test_the_least_kappa_touches_the_failures_and_covers_all():
    share, n = since.failures(16, 5000, seed=5, n_max=30)[0], np.arange(31)
    kappa = since.least_kappa(share, 4.0)
    room = [2 * np.exp(-((k - 4.0) ** 2) / (kappa * k)) / share[k] for k in n if k > 4 and share[k] > 0]
    assert min(room) == pytest.approx(1.0, rel=1e-9)
