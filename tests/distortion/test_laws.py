"""Laws: closed forms against quadrature, and what a law must satisfy."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from prunequant.distortion import (
    Empirical,
    Gaussian,
    GeneralizedNormal,
    Laplace,
    Logistic,
    StudentT,
    Uniform,
    theory,
)

LAWS = [
    Gaussian(),
    Laplace(),
    Uniform(),
    Logistic(),
    StudentT(10.0),
    StudentT(3.0),
    StudentT(2.0, 100.0),
    StudentT(1.0, 10.0),
    StudentT(2.3, 50.0),
    StudentT(0.7, 20.0),
    StudentT(2.00001, 30.0),
    GeneralizedNormal(0.5),
    GeneralizedNormal(3.7),
]
NAMES = [str(law) for law in LAWS]


def smooth_quadrature(law, order, low, high):
    """∫ x^order p by 400 panels in asinh(x), so that tails cost nothing: independent of the law's own method."""
    edges = np.sinh(np.linspace(math.asinh(low), math.asinh(high), 401))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = 0.5 * np.diff(edges)[:, None]
    x = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * nodes
    return float(np.sum(half * weights * x**order * law.density(x)))


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_inner_moments_agree_with_quadrature_to_1e_12(law, order):
    cusp = isinstance(law, GeneralizedNormal) and law.beta < 1  # not analytic at 0: start the comparison beside it
    for t in (0.01, 0.3, 1.0, 2.7):
        t = min(t, law.support)
        start = 0.005 if cusp else 0.0
        mine = float(law.inner(order, t)) - (float(law.inner(order, start)) if cusp else 0.0)
        assert mine == pytest.approx(smooth_quadrature(law, order, start, t), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("order", [0, 1])
def test_upper_moments_agree_with_quadrature_to_1e_12(law, order):
    for t in (0.2, 0.9, 2.5):
        stop = min(law.support, 60.0)
        between = float(law.upper(order, t)) - float(law.upper(order, stop))
        expected = smooth_quadrature(law, order, min(t, stop), stop)
        assert between == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_nothing_lies_beyond_the_end_of_a_law_and_below_it_all_up_to_the_end(law, order):
    assert float(law.upper(order, law.support)) == pytest.approx(0, abs=1e-12)
    if math.isfinite(law.support):
        for t in (0.2, 0.9):
            expected = smooth_quadrature(law, order, t, law.support)
            assert float(law.upper(order, t)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_the_two_halves_add_up_to_one(law):
    t = np.array([0.1, 0.5, 0.99])
    np.testing.assert_allclose(law.inner(0, t) + law.upper(0, t), 0.5, rtol=0, atol=1e-14)
    np.testing.assert_allclose(law.cdf(t) + law.cdf(-t), 1.0, atol=1e-14)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_the_magnitude_quantile_inverts_the_distribution(law):
    p = np.array([1e-3, 0.25, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(2 * law.inner(0, law.magnitude_quantile(p)), p, rtol=1e-9)
    np.testing.assert_allclose(law.cdf(law.quantile(p)), p, rtol=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=NAMES)
def test_truncated_moments_add_over_neighbouring_intervals(law):
    points = [-math.inf, -0.7, 0.2, 0.8, math.inf]
    for order in (0, 1, 2):
        if order == 2 and law == StudentT(2.0):
            continue
        parts = sum(float(law.truncated_moment(order, a, b)) for a, b in itertools.pairwise(points))
        whole = {0: 1.0, 1: 0.0, 2: law.second_moment}[order]
        assert parts == pytest.approx(whole, rel=1e-12, abs=1e-12)
        assert float(law.truncated_moment(order, -0.7, 0.2)) == pytest.approx(
            integrate.quad(lambda x, k=order: x**k * float(law.density(x)), -0.7, 0.2, points=[0.0], epsabs=1e-12)[0],
            abs=1e-9,
        )


@pytest.mark.parametrize(
    ("law", "kurtosis"),
    [(Gaussian(), 3), (Laplace(), 6), (Uniform(), 1.8), (Logistic(), 4.2), (StudentT(5.0), 9), (StudentT(10.0), 4)],
)
def test_kurtosis_is_the_textbook_value(law, kurtosis):
    assert law.kurtosis == pytest.approx(kurtosis, rel=1e-12)


@pytest.mark.parametrize("nu", [1.0, 1.5, 2.0, 3.0, 6.0])
def test_student_second_moments_agree_with_integration_by_parts(nu):
    law = StudentT(nu, 40.0)
    t = np.array([0.5, 1.0, 5.0, 40.0])
    mass = 2 * stats.t(nu).cdf(40.0) - 1
    np.testing.assert_allclose(law.inner(2, t), theory.student_inner_second(nu, t) / mass, rtol=1e-11)


def test_densities_are_scipys():
    x = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(Gaussian().density(x), stats.norm.pdf(x), rtol=1e-13)
    np.testing.assert_allclose(Laplace().density(x), stats.laplace.pdf(x), rtol=1e-13)
    np.testing.assert_allclose(Logistic().density(x), stats.logistic.pdf(x), rtol=1e-13)
    np.testing.assert_allclose(StudentT(2.5).density(x), stats.t(2.5).pdf(x), rtol=1e-12)
    np.testing.assert_allclose(GeneralizedNormal(1.3).density(x), stats.gennorm(1.3).pdf(x), rtol=1e-12)


def test_the_generalized_normal_contains_gaussian_and_laplace():
    t = np.array([0.2, 1.0, 3.0])
    for order in (0, 1, 2):
        same = GeneralizedNormal(2.0).upper(order, t / math.sqrt(2)) * math.sqrt(2) ** order
        np.testing.assert_allclose(same, Gaussian().upper(order, t), rtol=1e-12)
        np.testing.assert_allclose(GeneralizedNormal(1.0).upper(order, t), Laplace().upper(order, t), rtol=1e-12)


def test_moments_that_do_not_exist_are_infinite():
    assert math.isinf(StudentT(2.0).second_moment)
    assert math.isinf(StudentT(1.5).second_moment)
    assert math.isinf(StudentT(4.0).fourth_moment)
    assert math.isfinite(StudentT(4.001).kurtosis)
    assert np.all(np.isinf(StudentT(1.0).upper(1, np.array([1.0]))))


def test_an_empirical_law_counts_its_numbers():
    x = np.array([3.0, -1.0, 0.0, 2.0, -4.0])
    law = Empirical(x)
    assert float(law.upper(0, 1.5)) == 0.4
    assert float(law.lower(1, 0.5)) == pytest.approx(1.0)
    assert law.second_moment == pytest.approx(np.mean(x**2))
    assert law.kurtosis == pytest.approx(stats.kurtosis(x, fisher=False))
    assert float(law.cdf(0.0)) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StudentT(0.0), "nu is 0.0"),
        (lambda: StudentT(3.0, -1.0), "clip is -1.0"),
        (lambda: GeneralizedNormal(-2.0), "beta is -2.0"),
        (lambda: Empirical(np.zeros(3)), "not all of them zero"),
        (lambda: Empirical(np.array([1.0, np.nan])), "finite"),
        (lambda: Empirical(np.array([])), "finite"),
    ],
)
def test_a_law_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_generalized_normal_is_scipys_where_that_is_stable():
    x = np.array([0.0, 0.05, 0.3, 0.7, 0.97, 1.0])
    for beta in (0.1, 0.5, 5.0, 50.0, 190.0):
        law, other = GeneralizedNormal(beta), stats.gennorm(beta)
        np.testing.assert_allclose(law.density(x), other.pdf(x), rtol=1e-13)
        np.testing.assert_allclose(law.cdf(x), other.cdf(x), rtol=1e-14)
        np.testing.assert_allclose(law.second_moment, other.var(), rtol=1e-12)
    beyond = np.array([0.999, 1.0, 1.001])  # scipy's own powers vanish further in
    np.testing.assert_allclose(GeneralizedNormal(1e4).upper(0, beyond), stats.gennorm(1e4).sf(beyond), rtol=1e-11)


@pytest.mark.parametrize("beta", [250.0, 999.0, 1001.0, 3000.0, 1e6])
def test_a_steep_generalized_normal_keeps_its_digits_where_powers_underflow(beta):
    law = GeneralizedNormal(beta)
    edge = math.exp(-690 / beta)  # t^beta leaves the floats a little further in
    for t in (0.3, 0.9 * edge, edge * (1 - 3 / beta), edge, min(edge * (1 + 3 / beta), 1.0)):
        for order in (0, 1, 2):
            nodes, weights = np.polynomial.legendre.leggauss(60)
            low = min(t, 1 - 40 / beta)  # flat up to there
            part = low ** (order + 1) / (order + 1)
            x = low + (t - low) * 0.5 * (nodes + 1)
            part += (t - low) * 0.5 * np.sum(weights * x**order * np.exp(-np.exp(beta * np.log(x))))
            part *= 0.5 / math.gamma(1 + 1 / beta)
            assert float(law.inner(order, t)) == pytest.approx(part, rel=1e-12)
            full = 0.5 * math.gamma(1 + (order + 1) / beta) / math.gamma(1 + 1 / beta) / (order + 1)
            assert float(law.upper(order, t)) == pytest.approx(full - part, rel=1e-9, abs=1e-14)
    p = np.array([1e-6, 0.3, 0.9, 0.999])
    np.testing.assert_allclose(2 * law.inner(0, law.magnitude_quantile(p)), p, rtol=1e-12)


def test_the_generalized_normal_tends_to_the_uniform_law():
    t = np.array([0.1, 0.5, 0.9, 0.99])
    for order in (0, 1, 2):
        np.testing.assert_allclose(GeneralizedNormal(1e17).inner(order, t), Uniform().inner(order, t), rtol=1e-14)
    assert GeneralizedNormal(1e300).kurtosis == pytest.approx(1.8, rel=1e-12)
    assert float(GeneralizedNormal(1000.0).cdf(0.3)) == pytest.approx(0.5 + 0.15 / math.gamma(1.001), rel=1e-14)


EXTREME = [(0.1, 1e-3), (0.1, 1e9), (0.5, 1e6), (1.0, 1e-3), (1.0001, 1e9), (2.0000001, 1e9), (2.5, 1e9), (4.0, 1e-3),
           (1e3, 5.0), (1.1e3, 5.0), (1e6, 8.0), (1e9, 8.0), (1e9, 1e-3)]  # fmt: skip


@pytest.mark.parametrize(("nu", "clip"), EXTREME)
def test_student_moments_hold_at_the_ends_of_their_ranges(nu, clip):
    nodes, weights = np.polynomial.legendre.leggauss(20)

    def moment(order, low, high):  # in x = √nu sinh v, 800 panels, up to a factor
        edges = np.linspace(*np.arcsinh(np.array([low, high]) / math.sqrt(nu)), 801)
        half = 0.5 * np.diff(edges)[:, None]
        v = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * nodes
        values = np.sinh(v) ** order * np.exp(-0.5 * nu * np.log1p(np.sinh(v) ** 2))
        return math.sqrt(nu) ** (order + 1) * float(np.sum(half * weights * values))

    law, mass = StudentT(nu, clip), 2 * moment(0, 0.0, clip)
    for t in np.array([1e-3, 0.3, 0.9, 1.0]) * clip:
        for order in (0, 1, 2, 4):
            assert float(law.inner(order, t)) == pytest.approx(moment(order, 0.0, t) / mass, rel=1e-10)
        for order in (0, 1):
            whole = moment(order, 0.0, clip) / mass
            assert float(law.upper(order, t)) == pytest.approx(moment(order, t, clip) / mass, abs=1e-10 * whole)
    for p in (1e-3, 0.5, 0.999):
        assert 2 * moment(0, 0.0, float(law.magnitude_quantile(p))) / mass == pytest.approx(p, rel=1e-9)


def test_student_tends_to_the_normal_law():
    t = np.array([0.1, 1.0, 3.0])
    for order in (0, 1, 2):
        np.testing.assert_allclose(StudentT(1e9).inner(order, t), Gaussian().inner(order, t), rtol=1e-8)
    assert StudentT(1e9).kurtosis == pytest.approx(3, rel=1e-8)
    assert StudentT(1e6).fourth_moment == pytest.approx(3 * (1e6 / (1e6 - 2)) * (1e6 / (1e6 - 4)), rel=1e-13)


def test_the_moments_of_given_numbers_are_sums():
    x = np.array([3.0, -1.0, 0.0, 2.0, -4.0])
    law = Empirical(x)
    for order in range(5):
        assert float(law.inner(order, 2.5)) == 2.0**order / 5
        assert float(law.inner(order, np.inf)) == (2.0**order + 3.0**order) / 5
    assert law.fourth_moment == np.mean(x**4)
    assert law.truncated_moment(1, [-2.0, 0.0], [0.0, 2.0]).tolist() == [-0.2, 0.4]
    x[0] = 7.0
    assert law.second_moment == 6.0  # the law keeps the numbers it was given


def test_kurtosis_does_not_depend_on_the_unit():
    x = np.random.default_rng(1).standard_t(5, 200)
    for unit in (1e-74, 1e-40, 1e70):
        assert Empirical(x * unit).kurtosis == pytest.approx(Empirical(x).kurtosis, rel=1e-12)


def test_quantiles_of_given_numbers_take_probabilities_of_any_shape():
    law, p = Empirical([3.0, -1.0, 0.0, 2.0]), np.array([[0.1, 0.5], [0.75, 1.0]])
    np.testing.assert_array_equal(law.quantile(p), [[-1, 0], [2, 3]])
    np.testing.assert_array_equal(law.magnitude_quantile(p[None, :, :1]), [[[0], [2]]])
    assert law.quantile(0.5) == 0.0 and law.quantile(p[:, :0]).shape == (2, 0)
