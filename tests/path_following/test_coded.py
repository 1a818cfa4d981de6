"""Rounding to the codes of a file: groups, zeros, masks and orders, against the recursions written plainly."""

import numpy as np
import pytest

from naive import path_following as naive
from prunequant.path_following import Choice, CodeGrid, FiniteGrid, compress, round_to_codes
from prunequant.path_following.coded import path_energy_bound


@pytest.fixture
def layer():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((200, 72)) @ (np.eye(72) + 0.3 * rng.standard_normal((72, 72)))
    return rng.standard_normal((72, 5)).astype(np.float32), inputs.T @ inputs, inputs


def lost(weights, values, gram):
    error = weights - values
    return float(np.sum(error * (gram @ error)))


def grouped(weights, size, zeros=False):
    group = np.arange(len(weights)) // size
    scales = np.stack([np.abs(weights[group == h]).max(axis=0) / 6 for h in range(group[-1] + 1)])
    return CodeGrid(scales, 0 if zeros else -8, 15 if zeros else 7, group, np.full_like(scales, 7) if zeros else None)


@pytest.mark.parametrize("feedback", ["optq", "path"])
@pytest.mark.parametrize("zeros", [False, True])
def test_groups_with_scales_and_zeros_of_their_own_agree_with_the_plain_recursion(feedback, zeros, layer):
    w, gram, _ = layer
    grid = grouped(w, 24, zeros)
    found = round_to_codes(w, gram, grid, feedback)
    offsets = grid.zeros if zeros else np.zeros_like(grid.scales)
    plain, _ = naive.round_to_codes(w, gram, grid.scales, offsets, grid.group, grid.low, grid.high, feedback)
    # a value at the middle of two codes may fall to either in another precision: few do, and the error is the same
    assert np.mean(np.abs(found.values - plain) > 1e-5) < 0.02
    assert lost(w, found.values, gram) == pytest.approx(lost(w, plain, gram), rel=0.02)
    np.testing.assert_allclose(found.values, grid.scales[grid.group] * (found.codes - offsets[grid.group]), rtol=1e-6)


@pytest.mark.parametrize("feedback", ["none", "path", "optq"])
def test_one_scale_a_neuron_is_the_rounding_of_compress(feedback, layer):
    w, gram, inputs = layer
    step = np.abs(w).max(axis=0) / 7
    found = round_to_codes(w, gram, CodeGrid(step[None], -7, 7), feedback, damping=0.01)
    other = compress(w, inputs, FiniteGrid(step, 15, stochastic=False), feedback, damping=0.01)
    assert np.mean(np.abs(found.values - other.weights) > 1e-5) < 0.02


@pytest.mark.parametrize("grid", [True, False])
def test_a_mask_chosen_on_the_way_is_that_of_the_plain_recursion(grid, layer):
    w, gram, _ = layer
    codes = grouped(w, 24) if grid else None
    found = round_to_codes(w, gram, codes, "optq", mask=Choice(4, 2))
    scales = (codes.scales, np.zeros_like(codes.scales)) if grid else (None, None)
    group = np.arange(72) // 24
    plain, stays = naive.round_to_codes(w, gram, *scales, group, -8, 7, "optq", width=4, keep=2)
    assert np.mean(found.mask != stays) < 0.02
    assert np.all(found.mask.reshape(18, 4, 5).sum(axis=1) == 2) and not found.values[~found.mask].any()
    assert lost(w, found.values, gram) == pytest.approx(lost(w, plain, gram), rel=0.05)


def test_a_chosen_mask_loses_less_than_the_largest_weights_of_the_same_neighbours(layer):
    w, gram, _ = layer
    ranks = np.argsort(np.argsort(-np.abs(w.reshape(9, 8, 5)), axis=1), axis=1)
    chosen, given = (round_to_codes(w, gram, None, mask=m) for m in (Choice(8, 4), (ranks < 4).reshape(w.shape)))
    assert lost(w, chosen.values, gram) < lost(w, given.values, gram)


def test_a_given_mask_stays_and_the_others_mend_what_it_prunes(layer):
    w, gram, _ = layer
    mask = np.random.default_rng(1).random(w.shape) < 0.6
    found = round_to_codes(w, gram, grouped(w, 12), "optq", mask=mask, by_activation=True)
    assert not found.values[~mask].any()
    plain = round_to_codes(w, gram, grouped(w, 12), "none", mask=mask)
    assert lost(w, found.values, gram) < 0.7 * lost(w, plain.values, gram)


def test_the_order_of_the_features_leaves_groups_and_codes_in_their_places(layer):
    w, gram, _ = layer
    grid = grouped(w, 8)
    found = round_to_codes(w, gram, grid, by_activation=True)
    order = np.argsort(-np.diagonal(gram), kind="stable")
    by_hand = round_to_codes(
        w[order], gram[np.ix_(order, order)], CodeGrid(grid.scales, grid.low, grid.high, grid.group[order])
    )
    np.testing.assert_array_equal(found.codes[order], by_hand.codes)


def test_features_that_never_speak_are_rounded_to_nearest(layer):
    w, gram, _ = layer
    gram = gram.copy()
    gram[10], gram[:, 10] = 0, 0
    grid = grouped(w, 72)
    for feedback in ("path", "optq"):
        found = round_to_codes(w, gram, grid, feedback)
        np.testing.assert_array_equal(found.codes[10], np.rint(w[10] / grid.scales[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gram": np.eye(3)}, r"gram has shape \(3, 3\): it must be \(72, 72\)"),
        ({"gram": -np.eye(72)}, "gram is no Gram matrix"),
        ({"grid": CodeGrid(np.zeros((1, 5)), -8, 7)}, "without a zero"),
        ({"grid": CodeGrid(np.ones((1, 5)), -8, 7, np.full(72, 1))}, "one of 1 groups"),
        ({"mask": np.ones((2, 2), bool)}, "that of the weights"),
        ({"mask": Choice(3, 1)}, "mask.width is 3"),
        ({"mask": Choice(4, 2), "by_activation": True}, "made among neighbours"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message, layer):
    w, gram, _ = layer
    given = {"gram": gram, "grid": CodeGrid(np.ones((1, 5)), -8, 7)} | change
    with pytest.raises(ValueError, match=message):
        round_to_codes(w, **given)


def test_the_result_does_not_depend_on_the_neurons_beside_it():
    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((40, 150)).astype(np.float32), rng.standard_normal((60, 40))
    grid = CodeGrid(np.full((1, 150), 0.3), -8, 7)
    whole = round_to_codes(w, x.T @ x, grid).codes
    part = round_to_codes(w[:, 70:90], x.T @ x, CodeGrid(np.full((1, 20), 0.3), -8, 7)).codes
    np.testing.assert_array_equal(whole[:, 70:90], part)


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("low", [-128, -2])
def test_the_output_error_of_path_following_is_below_its_certificate_clipped_and_pruned_or_not(
    by_activation, damping, low
):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((30, 12)) @ rng.standard_normal((12, 12))
    x[:, 3] = 0
    w = rng.standard_normal((12, 9)).astype(np.float32)
    mask = rng.random(w.shape) < 0.7 if low == -2 else np.ones(w.shape, bool)
    grid = CodeGrid(np.full((1, 9), 0.25), low, -low - 1)
    options = {"damping": damping, "by_activation": by_activation}
    found = round_to_codes(w, x.T @ x, grid, "path", mask=mask, **options)
    half = np.where(mask, 0.125, 0)
    bound = path_energy_bound(w, found.values, x.T @ x, half, **options)
    energy = np.sum(x**2, axis=0)
    order = np.argsort(-energy, kind="stable") if by_activation else np.arange(12)
    plain = naive.path_energy_bound(w.astype(float), found.values.astype(float), x, half, damping, order)
    np.testing.assert_allclose(bound, plain, rtol=1e-9)
    error = np.sum((x @ (w - found.values)) ** 2, axis=0)
    assert np.all(error <= bound * (1 + 1e-5)) and np.all(error > bound / 50)
    if low == -128:  # nothing clipped, nothing pruned: known from the inputs and the steps alone
        np.testing.assert_allclose(bound, np.sum(0.125**2 * (energy + damping * energy.mean())), rtol=1e-5)
    else:
        assert np.all(bound > np.sum(half.T**2 * energy, axis=1))


@pytest.mark.parametrize(
    "change, message",
    (
        ({"gram": np.eye(3)}, "gram has shape"),
        ({"gram": [[1.0, 5.0], [-7.0, 1.0]]}, "gram is no Gram matrix"),
        ({"gram": [[1.0, 0.0], [0.0, -1.0]]}, "gram is no Gram matrix"),
        ({"half_steps": np.full((2, 3), -0.5)}, "half_steps holds negative numbers"),
        ({"half_steps": np.ones((3, 2))}, r"half_steps have shapes .*\(features, neurons\)"),
        (dict.fromkeys(("weights", "values", "half_steps"), np.ones(2)), r"must be \(features, neurons\)"),
        (dict.fromkeys(("weights", "values", "half_steps"), 1.0), r"must be \(features, neurons\)"),
        (dict.fromkeys(("weights", "values", "half_steps"), np.ones((0, 3))), r"must be \(features, neurons\)"),
    ),
)
def test_a_certificate_of_arrays_that_do_not_belong_together_or_of_no_gram_matrix_is_refused(change, message):
    given = {name: np.ones((2, 3)) for name in ("weights", "values", "half_steps")} | {"gram": np.eye(2)}
    assert path_energy_bound(**given).shape == (3,)
    with pytest.raises(ValueError, match=message):
        path_energy_bound(**{**given, **change})
