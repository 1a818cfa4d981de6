"""Names of schemes, and their sizes to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from naive.checkpoint import half, rounded, searched
from prunequant import formats, sparsity
from prunequant.checkpoint import Scheme
from prunequant.checkpoint.schemes import CANDIDATES
from prunequant.distortion import best_scale, scale_error


@pytest.mark.parametrize(
    "name", ["INT4 channel", "INT2 g64", "INT8 tensor", "MXFP4", "NVFP4", "NF4", "FP16", "4:8 FP16"]
)
def test_a_name_is_the_scheme_that_bears_it(name):
    assert Scheme.named(name).name == name and Scheme.named(name) == Scheme.named(name)


@pytest.mark.parametrize(
    "name", ["", "INT4", "INT1 channel", "INT9 channel", "int4 channel", "INT4 g0", "4:2 FP16", "0:4 FP16", "0% FP16",
             "100% FP16", "2:4", "FP32", "INT4  channel", "HBFP4"]
)  # fmt: skip
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="scheme"):
        Scheme.named(name)
    with pytest.raises(TypeError, match="scheme"):
        Scheme.named(4)


@pytest.mark.parametrize("shape", [(3, 64), (5, 40), (1, 7), (16, 128)])
@pytest.mark.parametrize("name", ["MXFP4", "MXFP6", "MXFP8", "NVFP4", "NF4"])
def test_the_size_of_a_format_is_that_of_its_codes_and_scales(name, shape):
    stored = Scheme.named(name).stored_bits(*shape)
    assert stored == pytest.approx(formats.named(name).bits_per_value(shape) * shape[0] * shape[1], abs=1e-6)


def test_integers_have_a_scale_of_sixteen_bits_for_every_started_group():
    assert Scheme.named("INT4 g32").stored_bits(2, 40) == 4 * 80 + 16 * 2 * 2
    assert Scheme.named("INT3 channel").stored_bits(5, 40) == 3 * 200 + 16 * 5
    assert Scheme.named("INT8 tensor").stored_bits(5, 40) == 8 * 200 + 16


def test_a_mask_is_charged():
    x = np.random.default_rng(0).standard_normal((6, 16))
    kept = int(sparsity.magnitude(x, 0.7).sum())
    assert Scheme.named("70% FP16").stored_bits(6, 16) == 16 * kept + 96
    assert Scheme.named("2:4 INT4 channel").stored_bits(6, 16) == 48 * 4 + 48 * 2 + 6 * 16
    assert Scheme.named("4:8 FP16").stored_bits(6, 16) == 48 * 16 + 48 * 3


def test_a_shape_that_a_pattern_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"2:4 FP16 does not fit 3 × 9: rows of 9"):
        Scheme.named("2:4 FP16").stored_bits(3, 9)


@pytest.mark.parametrize("length", [32, 128, 1536])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_candidates_lose_little_against_the_exact_scale(bits, length):
    rng = np.random.default_rng(bits * length)
    laws = (rng.standard_normal, lambda size: rng.laplace(size=size), lambda size: rng.standard_t(3, size=size))
    allowed = {2: 0.015, 3: 0.04, 4: 0.04, 8: 0.65}[bits] if length > 32 else {2: 0.02, 3: 0.06, 4: 0.09, 8: 1.3}[bits]
    for law in laws:
        x = law((60, length)).astype(np.float32)
        exact = sum(scale_error(row, s, bits) for row, s in zip(x, best_scale(x, bits, axis=1)))
        loss = 10 * np.log10(searched(x, bits)[0].sum() / exact)
        assert -1e-4 < loss < allowed


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_one_step_of_least_squares_never_makes_an_error_larger_and_mostly_a_smaller_one(bits):
    x = np.random.default_rng(bits).laplace(size=(200, 64)).astype(np.float32)
    found, _ = searched(x, bits)
    tried = [rounded(x, half(np.float32(r * 2.0 ** (1 - bits)) * np.abs(x).max(1)), bits)[1] for r in CANDIDATES[bits]]
    assert np.all(found <= np.min(tried, axis=0)) and np.mean(found < np.min(tried, axis=0)) > 0.3


@pytest.mark.parametrize("name", ["INT4", "2:4 INT4", "50% INT8"])
def test_integers_without_what_shares_their_scale_are_told_how_to_say_it(name):
    with pytest.raises(ValueError, match=f"say what shares a scale: '{name} channel', '{name} g128'"):
        Scheme.named(name)
