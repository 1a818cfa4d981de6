"""What a matrix loses: the kernels against the plain twin, and what must hold whatever the matrix."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import checkpoint as naive
from prunequant.checkpoint import Matrix, Scheme, judging
from prunequant.checkpoint.coding import nearest
from prunequant.checkpoint.judging import NotFinite, Settings
from prunequant.checkpoint.methods import code_matrix
from prunequant.distortion import (
    Gaussian,
    best_scale,
    equal_size_keep,
    integer_entropy,
    pruning_snr,
    quantization_snr,
    scale_error,
)

DEFAULT = Settings.checked(judging.BUDGETS, 128, "bitmap", False, "searched")


def wrapped(x, name="w", **more):
    x = np.asarray(x, np.float32)
    return Matrix(name, x.shape, "linear", "F32", *x.shape, x.nbytes, lambda a, b: x[a:b], **more)


def judged(x, asked=DEFAULT, threads=1):
    with ThreadPoolExecutor(threads, initializer=numba.set_num_threads, initargs=(1,)) as executor:
        return judging.judge(wrapped(x), asked, executor.map, threads)


def snr(found):
    return {s.name: s.snr for s in found.schemes}


def agree(found, x, group=128, exponent=0):
    """Every scheme and order loses what the twin says, to 0.3 % of the error and 65 dB below the weights."""
    power = float(np.square(x, dtype=np.float64).sum())
    ours = snr(found)
    if found.order is not None:
        ours |= {key: getattr(found.order, key) for key in ("quantize_first", "by_weights", "joint")}
    theirs = naive.errors(x, group, exponent)
    assert ours.keys() == theirs.keys()
    for name, error in theirs.items():
        mine = power * 10 ** (-ours[name] / 10)
        assert abs(mine - error) <= 0.003 * max(mine, error) + 3e-7 * power, name


LAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "heavy": lambda rng, shape: rng.standard_t(2, shape),
    "shifted": lambda rng, shape: rng.standard_normal(shape) + 3,
    "mostly zero": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.2),
    "integers": lambda rng, shape: rng.integers(-7, 8, shape).astype(float),
}


@pytest.mark.parametrize("shape", [(64, 256), (7, 1), (3, 96), (40, 130), (1, 1000), (17, 8)], ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_scheme_loses_what_the_plain_twin_says(law, shape):
    x = (0.02 * LAWS[law](np.random.default_rng(len(law)), shape)).astype(np.float32)
    agree(judged(x), x)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 70),
    group=st.sampled_from([2, 16, 33]),
    exponent=st.integers(-100, 100),
    seed=st.integers(0, 2**32 - 1),
    spoil=st.sampled_from(["nothing", "a row of zeros", "a constant row", "a tiny row", "one value alone"]),
)
def test_odd_shapes_zeros_constants_and_scales_of_all_sizes_agree_with_the_twin(
    rows, columns, group, exponent, seed, spoil
):
    x = np.random.default_rng(seed).standard_normal((rows, columns))
    if spoil == "a row of zeros":
        x[0] = 0
    elif spoil == "a constant row":
        x[0] = 1.5
    elif spoil == "a tiny row":
        x[0] *= 2.0**-90
    elif spoil == "one value alone":
        x[:] = 0
        x[-1, -1] = 1
    x = np.ldexp(x.astype(np.float32), exponent)
    found = judged(x, Settings.checked([4.25], group, "bitmap", False, "searched"))
    if not x.any():
        assert all(math.isinf(s.snr) for s in found.schemes)
    else:
        largest = math.frexp(float(np.abs(x).max()))[1] - 1
        agree(found, np.ldexp(x, -largest), group, largest)


def test_numbers_do_not_depend_on_threads_nor_on_where_blocks_end_beyond_the_last_digits(monkeypatch):
    x = np.random.default_rng(0).standard_t(4, (700, 260)).astype(np.float32)
    one, three = judged(x), judged(x, threads=3)
    assert one == three
    monkeypatch.setattr(judging, "BLOCK", 5000)
    cut = judged(x)
    assert cut.kurtosis == one.kurtosis and cut.pruning == one.pruning
    for name, value in snr(one).items():
        assert snr(cut)[name] == pytest.approx(value, abs=1e-5)


def test_a_gaussian_matrix_loses_what_the_theory_of_its_law_says():
    x = np.random.default_rng(1).standard_normal((2000, 500)).astype(np.float32)
    found = judged(x)
    for bits in (2, 3, 4, 8):
        assert snr(found)[f"INT{bits} tensor"] == pytest.approx(quantization_snr(Gaussian(), bits), abs=0.05)
    for p in found.pruning:
        assert p.snr == pytest.approx(pruning_snr(Gaussian(), 1 - p.share_kept), abs=0.03)
    assert found.kurtosis == pytest.approx(3, abs=0.02)


def test_kurtosis_zeros_power_and_largest_are_those_of_the_numbers():
    rng = np.random.default_rng(2)
    for x in (rng.standard_t(3, (50, 70)), rng.standard_normal((50, 70)) + 10, rng.integers(-1, 2, (50, 70))):
        x = x.astype(np.float32)
        found = judged(x)
        assert found.kurtosis == pytest.approx(naive.kurtosis(x), rel=1e-4)
        assert found.zeros == np.count_nonzero(x == 0) and found.largest == np.abs(x).max()
        assert found.power == pytest.approx(np.square(x, dtype=np.float64).sum(), rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_matrix_with_a_value_that_is_not_finite_says_where_the_first_is(bad):
    x = np.ones((300, 1000), np.float32)
    x[130, 7] = x[130, 9] = x[200, 0] = bad
    with pytest.raises(NotFinite, match=f"{bad} in row 130, column 7"):
        judged(x)


def test_a_block_of_zeros_loses_nothing_and_a_matrix_of_zeros_says_so():
    x = np.random.default_rng(3).standard_normal((8, 256)).astype(np.float32)
    x[:, :128] = 0
    x[3] = 0
    assert not any(math.isnan(s) for s in snr(judged(x)).values())
    agree(judged(x), x)
    found = judged(np.zeros((4, 32)))
    assert all(s.snr == math.inf for s in found.schemes) and "all weights are zero" in found.notes[0]
    assert found.kurtosis is None and found.zeros == 128


def test_scales_too_small_for_half_precision_are_raised_as_they_are_when_they_are_stored():
    x = np.ldexp(np.random.default_rng(4).standard_normal((8, 64)), -16).astype(np.float32)
    found, plain = judged(x), judged(np.ldexp(x, 16))
    at = {s.name: s for s in plain.schemes}
    for s in found.schemes:
        scheme = Scheme.named(s.name)
        assert s.bits_per_weight == at[s.name].bits_per_weight == scheme.stored_bits(8, 64) / 512
        if scheme.bits is not None and scheme.pattern is None:
            coded = nearest(x, scheme)
            assert coded.clamped == coded.scales.size
            error = np.square(x - coded.decode(), dtype=np.float64).sum()
            assert s.snr == pytest.approx(10 * math.log10(found.power / error), abs=1e-3)
    (note,) = (n for n in found.notes if "the smallest scales are raised" in n)
    assert all(s.name in note for s in found.schemes if "INT" in s.name)


def test_integers_are_no_schemes_for_a_matrix_that_would_be_all_zero_as_they_are_when_it_is_stored():
    x = np.ldexp(np.random.default_rng(4).standard_normal((8, 64)), -60).astype(np.float32)
    found = judged(x)
    assert not any("INT" in s.name for s in found.schemes) and any(
        "INT8 g128" in n and "be zero" in n for n in found.notes
    )
    with pytest.raises(ValueError, match="would be all zero"):
        code_matrix(x, Scheme.named("INT8 channel"))
    judged(np.ldexp(x, -81))  # below the least of float32 that has all its digits


def test_schemes_with_scales_too_large_for_half_precision_are_absent_and_named():
    x = np.ldexp(np.random.default_rng(4).standard_normal((8, 64)), 17).astype(np.float32)
    found = judged(x)
    absent = {s.name for s in judged(np.ldexp(x, -17)).schemes} - {s.name for s in found.schemes}
    assert "INT2 tensor" in absent and "INT8 channel" not in absent
    (note,) = (n for n in found.notes if "larger than half precision holds" in n)
    for name in absent:
        assert name in note
        with pytest.raises(ValueError, match="F16 does not hold"):
            nearest(x, Scheme.named(name))
    assert all(c.quantization.name not in absent for c in found.budgets if c.quantization)


def test_stored_bits_are_those_of_the_scheme_and_a_shape_that_does_not_fit_is_named():
    found = judged(np.random.default_rng(5).standard_normal((6, 10)))
    for s in found.schemes:
        assert s.bits_per_weight * 60 == pytest.approx(Scheme.named(s.name).stored_bits(6, 10))
    assert found.order is None and not any(":" in s.name for s in found.schemes)
    assert any("2:4 FP16" in note and "no whole number of groups of 4" in note for note in found.notes)
    assert any("shorter than a group" in note for note in found.notes)
    found = judged(np.random.default_rng(5).standard_normal((6, 200)))
    assert any("do not divide 200 columns: the last holds 72" in note for note in found.notes)


def test_pruning_is_given_at_the_bits_of_every_quantizer_and_at_the_budgets_for_every_mask():
    x = np.random.default_rng(6).laplace(size=(64, 256)).astype(np.float32)
    found = judged(x)
    bitmap = {p.bits_per_weight: p for p in found.pruning if p.mask == "bitmap"}
    for s in found.schemes:
        if s.family == "quantization":
            p = bitmap[s.bits_per_weight]
            assert p.share_kept == equal_size_keep(s.bits_per_weight, "bitmap")
            gone = (1 - p.share_kept) * x.size
            error = naive.smallest(x, int(gone))
            assert p.snr == pytest.approx(10 * math.log10(found.power / error), abs=0.02)
    masks = {p.mask: p.share_kept for p in found.pruning if p.bits_per_weight == 4.25}
    assert masks["bitmap"] < masks["entropy"] < masks["free"]


def test_the_winner_at_a_budget_is_the_best_that_fits_and_margin_is_quantization_less_pruning():
    found = judged(np.random.default_rng(7).standard_t(3, (64, 256)).astype(np.float32))
    for choice in found.budgets:
        fitting = [s for s in found.schemes if s.bits_per_weight <= choice.bits]
        for family in ("quantization", "both"):
            best = max((s.snr for s in fitting if s.family == family), default=None)
            assert (getattr(choice, family) and getattr(choice, family).snr) == best
        assert choice.pruning.bits_per_weight <= choice.bits and choice.pruning.family == "pruning"
        assert choice.margin == choice.quantization.snr - choice.pruning.snr
        assert getattr(choice, choice.winner).snr >= max(s.snr for s in fitting)


def test_pruning_wins_where_nearly_all_weights_are_zero():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((64, 256)) * (rng.random((64, 256)) < 0.1)
    found = judged(x.astype(np.float32))
    choice = next(c for c in found.budgets if c.bits == 4.25)
    assert choice.winner == "pruning" and choice.pruning.snr == math.inf and choice.margin is None


def test_to_prune_first_or_to_break_ties_by_the_weights_loses_less_than_to_quantize_first():
    order = judged(np.random.default_rng(9).standard_normal((128, 256)).astype(np.float32)).order
    assert order.better == "prune first" and order.cost == order.prune_first - order.quantize_first > 0.1
    assert order.joint >= order.by_weights > order.quantize_first
    assert 0 < order.zeros < 128 * 256


def test_exact_scales_never_lose_more_than_searched_ones():
    x = np.random.default_rng(10).laplace(size=(12, 80)).astype(np.float32)
    exact = Settings.checked([4.25], 32, "bitmap", False, "exact")
    found, fast = judged(x, exact), judged(x, Settings.checked([4.25], 32, "bitmap", False, "searched"))
    for name, value in snr(found).items():
        assert value >= snr(fast)[name] - 0.02
    error = sum(scale_error(row, s, 4) for row, s in zip(x, best_scale(x, 4, axis=1)))
    power = np.square(x, dtype=np.float64).sum()
    assert snr(found)["INT4 channel"] == pytest.approx(10 * math.log10(power / error), abs=0.01)


def test_both_sides_entropy_coded_store_the_same_bits():
    x = np.random.default_rng(11).standard_normal((500, 400)).astype(np.float32)
    found = judged(x, Settings.checked([4.25], 128, "bitmap", True, "searched"))
    coded = {c.name: c for c in found.entropy}
    assert set(coded) == {f"INT{b} {g}" for b in (2, 3, 4, 8) for g in ("tensor", "channel", "g128")}
    assert coded["INT4 tensor"].bits_per_weight == pytest.approx(integer_entropy(Gaussian(), 4), abs=0.05)
    for c in found.entropy:
        assert (
            c.snr == snr(found)[c.name]
            and c.bits_per_weight <= dict((s.name, s.bits_per_weight) for s in found.schemes)[c.name] + 1e-9
        )
        assert c.share_kept == equal_size_keep(c.bits_per_weight, "entropy")
        assert c.pruning == pytest.approx(pruning_snr(Gaussian(), 1 - c.share_kept), abs=0.05)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        (([], 128, "bitmap", False, "searched"), "budgets is empty"),
        (([16], 128, "bitmap", False, "searched"), r"budgets\[0\] is 16"),
        (([4], 1, "bitmap", False, "searched"), "group is 1"),
        (([4], 128, "2:4", False, "searched"), "mask is '2:4'"),
        (([4], 128, "bitmap", False, "best"), "scales is 'best'"),
    ],
)
def test_a_setting_that_is_none_is_named(given_settings, message):
    with pytest.raises(ValueError, match=message):
        Settings.checked(*given_settings)
