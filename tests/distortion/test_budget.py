"""Crossovers to the printed digits, the cost of masks, and the best split of a budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from prunequant import distortion as ds
from prunequant.distortion import Gaussian, Laplace, StudentT, Uniform, equal_size_keep
from prunequant.distortion.accounting import binary_entropy

NONE = None
CROSSOVERS = [
    (ds.clipped_student(2.0), "free", [8.87, 16.0, 28.4, 51.8, 97.7, 189, 371]),
    (ds.clipped_student(2.0), "bitmap", [17.8, 26.5, 43.7, 77.3, 144, 280, 557]),
    (ds.clipped_student(2.0), "entropy", [11.6, 21.3, 38.5, 71.9, 139, 275, 554]),
    (ds.clipped_student(2.0), "same_nonzeros", [62.5, 124, 230, 434, 842, 1660, 3310]),
    (ds.clipped_student(3.0), "free", [14.0, 61.9, NONE, NONE, NONE, NONE, NONE]),
    (ds.clipped_student(3.0), "entropy", [29.5, NONE, NONE, NONE, NONE, NONE, NONE]),
    (ds.student_on(100.0), "free", [43.4, 71.9, 91.0, 110, 138, NONE, NONE]),
    (ds.student_on(100.0), "bitmap", [91.3, 105, 119, 137, 159, NONE, NONE]),
    (ds.student_on(1000.0), "free", [181, 536, 816, 1030, 1210, 1360, 1490]),
    (ds.student_on(None), "free", [NONE] * 7),
    (ds.generalized_normal(), "free", [11.0, 16.8, 22.7, 29.5, 37.3, 46.1, 55.9]),
]


@pytest.mark.parametrize(("family", "mask", "kurtosis"), CROSSOVERS, ids=lambda v: getattr(v, "name", str(v))[:24])
def test_the_crossover_kurtosis_is_reproduced_to_its_digits(family, mask, kurtosis):
    for bits, expected in zip(range(2, 9), kurtosis):
        found = ds.crossover(family, bits, mask)
        if expected is None:
            assert found is None
        else:
            assert float(f"{found.kurtosis:.3g}") == expected


def test_at_a_crossover_both_signal_to_noise_ratios_are_equal():
    found = ds.crossover(ds.clipped_student(2.0), 3, "entropy")
    assert ds.advantage(StudentT(2.0, found.parameter), 3, "entropy") == pytest.approx(0, abs=1e-6)


def test_kurtosis_alone_does_not_decide():
    wild, mild = StudentT(4.001), StudentT(2.0, 12.0)
    assert wild.kurtosis > 500 * mild.kurtosis
    assert ds.advantage(wild, 2) < 0 < ds.advantage(mild, 2)


@pytest.mark.parametrize("law", [Gaussian(), Laplace(), Uniform(), StudentT(2.0, 100.0)], ids=str)
def test_a_charged_bitmap_is_one_bit_less(law):
    for bits in range(3, 9):
        charged = ds.pruning_snr(law, ds.equal_size_sparsity(law, bits, "bitmap"))
        assert charged == pytest.approx(ds.pruning_snr(law, 1 - (bits - 1) / 16), abs=1e-12)


def test_the_mask_is_a_quarter_of_the_compressed_size_at_four_bits():
    assert ds.mask_overhead(4, of="dense") == 1 / 16
    assert [ds.mask_overhead(b) for b in (8, 4, 2)] == [0.125, 0.25, 0.5]
    entropy = [round(100 * ds.mask_overhead(b, "entropy"), 1) for b in (8, 4, 2)]
    assert entropy == [12.5, 20.3, 27.2]


@given(st.floats(1.1, 15.0), st.sampled_from(["free", "bitmap", "entropy"]))
def test_the_equal_size_share_fills_the_budget_exactly(bits, mask):
    keep = ds.equal_size_keep(bits, mask)
    assert ds.stored_bits(keep, 16, mask) == pytest.approx(bits, abs=1e-9)


def test_two_of_four_costs_one_bit_a_weight():
    assert ds.stored_bits(0.5, 8, "2:4") == 5.0
    assert ds.mask_bits(0.25, "1:4") == 0.5


def test_splits_fill_the_budget_and_come_best_first():
    rows = ds.splits(StudentT(3.0, 100.0), 3, "entropy")
    snr = [row.snr for row in rows]
    assert snr == sorted(snr, reverse=True)
    for row in rows:
        assert row.keep * row.bits + row.mask_bits == pytest.approx(min(3, row.bits) if row.keep == 1 else 3, abs=1e-9)
    assert {row.bits for row in rows} == {2, 3, 4, 5, 6, 7, 8, 16}


def test_a_pattern_limits_the_widths_to_those_that_fit():
    assert {row.bits for row in ds.splits(Gaussian(), 4, "2:4")} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ds.equal_size_keep(1, "bitmap"), "a bitmap alone"),
        (lambda: ds.equal_size_keep(16), "bits is 16"),
        (lambda: ds.equal_size_keep(4, value_bits=0), "^value_bits is 0"),
        (lambda: ds.equal_size_keep(4, value_bits=-0.5), r"^value_bits is -0\.5"),
        (lambda: ds.equal_size_keep(4, value_bits=65), "^value_bits is 65"),
        (lambda: ds.mask_bits(0.5, "braille"), "mask is 'braille'"),
        (lambda: ds.mask_bits(0.4, "2:4"), "keeps 0.5"),
        (lambda: ds.mask_bits(1.5), "keep is 1.5"),
        (lambda: ds.equal_size_sparsity(Gaussian(), 4, "gift"), "mask is 'gift'"),
        (lambda: ds.splits(Gaussian(), 20), "budget is 20"),
        (lambda: ds.splits(Gaussian(), 1e-16), "budget is 1e-16: it keeps"),
        (lambda: ds.equal_size_sparsity(Gaussian(), 1e-300), "bits is 1e-300: it keeps"),
        (lambda: ds.advantage(Gaussian(), 5e-324), "bits is 5e-324: it keeps"),
        (lambda: ds.mask_overhead(4, of="moon"), "of is 'moon'"),
        (lambda: ds.crossover(ds.clipped_student(2.0), 4, points=1), "points is 1"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_budget_below_the_mask_leaves_quantized_rows_only():
    assert all(np.isfinite(row.snr) for row in ds.splits(Gaussian(), 1.0, "entropy"))


@pytest.mark.parametrize("share", [1e-300, 1e-12, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
@pytest.mark.parametrize("value_bits", [0.1, 1.0, 2.0, 16.0, 64.0])
def test_the_share_kept_beside_an_entropy_coded_mask_is_the_root_that_scipy_finds(value_bits, share):
    bits = share * value_bits
    excess = lambda k: k * value_bits + float(binary_entropy(k)) - bits  # noqa: E731
    keep = equal_size_keep(bits, "entropy", value_bits)
    assert keep == pytest.approx(brentq(excess, 0.0, share, xtol=1e-15), rel=1e-12, abs=1e-14)
    assert excess(keep) == pytest.approx(0, abs=1e-14 * max(bits, 1))


def test_a_budget_below_what_one_weight_in_the_mask_costs_keeps_nothing():
    assert equal_size_keep(5e-324, "entropy") == 0
