import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import tickets as naive
from prunequant import tickets
from prunequant.tickets import arithmetic as exact
from prunequant.tickets import blocks, certificate, structured

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1), (2, 0), (3, 2)])
def test_convolution_is_torchs_in_int64_and_the_naive_one(stride, padding):
    torch = pytest.importorskip("torch")
    kernel, x = rng.integers(-7, 8, (3, 2, 3, 3)), rng.integers(-20, 21, (2, 2, 8, 7))
    ours = structured.convolve(x, kernel, stride, padding)
    theirs = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(kernel), stride=stride, padding=padding)
    assert np.array_equal(ours, theirs.numpy())
    assert ours[0].tolist() == naive.convolve(x[0], kernel, stride, padding)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]), st.integers(1, 2), st.booleans(), st.booleans())
def test_a_pruned_random_pair_convolves_like_its_target(seed, size, stride, signed, depthwise):
    torch = pytest.importorskip("torch")
    r = np.random.default_rng(seed)
    channels = int(r.integers(1, 4))
    kernel = r.integers(-7, 8, (channels if depthwise else 2, 1 if depthwise else channels, size, size))
    x = r.integers(-99 if signed else 0, 100, (2, channels, 6, 5))
    pair = tickets.find_pair(kernel, 7, failure=1e-5, seed=seed, signed=signed, depthwise=depthwise)
    theirs = torch.nn.functional.conv2d(
        torch.from_numpy(x), torch.from_numpy(kernel), stride=stride, padding=1, groups=channels if depthwise else 1
    ).numpy()
    assert np.array_equal(pair.forward(x, stride, 1), pair.factor * theirs)
    assert np.array_equal(pair.kernel(), kernel)


def test_one_subset_sum_a_kernel_weight_however_large_the_image():
    pair = tickets.find_pair(rng.integers(-7, 8, (4, 3, 3, 3)), 7, failure=1e-4, signed=False)
    assert pair.carving.words.size == 4 * 3 * 3 * 3


def test_a_linear_pair_needs_one_subset_sum_for_both_signs_and_fewer_units():
    w = rng.integers(-7, 8, (10, 10))
    linear = tickets.find_pair(w, 7, failure=0.01, linear=True)
    relu = tickets.find_pair(w, 7, failure=0.01)
    assert linear.carving.words.size == 100 and relu.carving.words.size == 200
    assert linear.carving.recipe.width < 0.7 * relu.carving.recipe.width
    x = rng.integers(-50, 50, (6, 10, 1, 1))
    assert np.array_equal(linear.forward(x)[:, :, 0, 0], 7 * x[:, :, 0, 0] @ w.T)


def test_an_attention_block_is_exact_end_to_end():
    weights = [rng.integers(-7, 8, (12, 12)) for _ in range(4)]
    block = blocks.Attention(*weights, heads=3, temperature=2e-4)
    x = rng.integers(-30, 31, (9, 12))
    out = blocks.find_attention(block, 7, seed=5, failure=1e-4).forward(x)
    assert np.array_equal(out, block.forward(x)) and len(np.unique(out)) > 20


def test_an_attention_block_is_torchs_with_the_same_rounding_of_its_weights():
    torch = pytest.importorskip("torch")
    weights = [rng.integers(-7, 8, (8, 8)) for _ in range(4)]
    x = rng.integers(-9, 10, (5, 8))
    q, k, v, o = (torch.from_numpy(w) for w in weights)
    tokens = torch.from_numpy(x)
    scores = (tokens @ q.T) @ (tokens @ k.T).T
    share = torch.round(torch.softmax(scores.double() * 1e-3, dim=1) * 255).long()
    expected = (share @ (tokens @ v.T)) @ o.T
    assert np.array_equal(blocks.Attention(*weights, heads=1, temperature=1e-3).forward(x), expected.numpy())


def test_a_residual_block_is_exact_at_both_depths_and_not_without_its_skip():
    w = rng.integers(-7, 8, (10, 10))
    x = rng.integers(-40, 41, (30, 10))
    expected = blocks.residual(w, x, 7, 11)
    assert np.array_equal(blocks.residual_ticket(tickets.find_pair(w, 7, failure=1e-4), x, 7, 11), expected)
    x = np.abs(x)
    expected = blocks.residual(w, x, 7, 11)
    assert np.array_equal(blocks.find_shallow_residual(w, 7, 0, 1e-4).forward(x, 11), expected)
    assert (blocks.find_shallow_residual(w, 7, 0, 1e-4, skip=False).forward(x, 11) != expected).mean() > 0.3


def test_padding_is_refused_where_the_padded_array_passes_the_limit_and_not_before(monkeypatch):
    x, padding = np.ones((2, 3, 5, 4), int), ((1, 0), (2, 1))
    padded = structured.pad(x, padding)
    assert padded.shape == (2, 3, 6, 7)
    monkeypatch.setattr(structured, "MAX_PADDED", padded.size)
    assert np.array_equal(structured.pad(x, padding), padded)
    monkeypatch.setattr(structured, "MAX_PADDED", padded.size - 1)
    with pytest.raises(ValueError, match=f"at most {padded.size - 1} values are made"):
        structured.pad(x, padding)


def test_bad_kernels_and_inputs_are_refused():
    with pytest.raises(ValueError, match="off the grid"):
        tickets.find_pair([[9]], 7)
    with pytest.raises(ValueError, match="not a multiple"):
        tickets.find_pair([[1]], 2, 3)
    with pytest.raises(ValueError, match="kernel has shape"):
        tickets.find_pair(np.ones((2, 2, 3, 3), int), 7, depthwise=True)
    pair = tickets.find_pair([[1, 2]], 7, failure=1e-4, signed=False)
    with pytest.raises(ValueError, match="negative"):
        pair.forward(-np.ones((1, 2, 1, 1), int))
    with pytest.raises(ValueError, match="x has shape"):
        pair.forward(np.ones((1, 3, 1, 1), int))
    with pytest.raises(ValueError, match=r"^x reaches 1152921504606846976: a sum may pass"):
        pair.forward(np.full((1, 2, 1, 1), 2**60))


def test_what_does_not_fit_a_block_or_a_layer_is_named():
    w, x = np.eye(3, dtype=int), np.ones((5, 3), int)
    block = blocks.Attention(3 * w, w, w, w, heads=1, temperature=1.0)
    for call, message in [
        (lambda: blocks.residual(w[:2], x, 7, 3), r"^weights has shape"),
        (lambda: blocks.residual(w, x[:, :2], 7, 3), r"^weights has shape"),
        (lambda: blocks.find_shallow_residual(w, 7, 0).forward(x[:, :2], 3), r"x \(5, 2\)"),
        (lambda: blocks.find_attention(block, 2, 0), r"^query of the block reaches 3"),
        (lambda: tickets.find_pair([[9]], 7), r"^kernel reaches 9"),
        (lambda: tickets.controls.layerwise_budget((4, 2), (0.5, 0.5)), r"^steps has 2 entries"),
        (lambda: tickets.counting.distinct_functions(w, w[:0], x), r"^v has 0 rows"),
        (lambda: structured.pad([[1]], 1), r"^x has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    for signed in (1, np.zeros(0)):
        with pytest.raises(TypeError, match=r"^signed is"):
            tickets.find_pair([[1]], 7, signed=signed)


def test_sums_beyond_64_bits_are_mixed_and_divided_as_python_integers():
    w = np.eye(2, dtype=int)
    block = blocks.Attention(w, w, w, w, heads=2, temperature=0.0, levels=2**31)
    big = np.array([[2**62, 1], [2**62, 1]])
    assert block.forward(big).tolist() == [[2 * 2**30 * 2**62, 2**31]] * 2
    assert [part.tolist() for part in exact.divide(np.array([2**70 + 1], object), 4)] == [[2**68], [1]]


def test_a_law_of_many_weights_is_measured_in_bounded_time_and_others_as_before():
    law, trials = certificate.law, certificate.live_trials
    assert trials(law("relu", 255, 255)) == trials(law("uniform", 255, 255, 510)) == certificate.LIVE_TRIALS
    assert trials(law("relu", 7, 7, 5100)) == certificate.LIVE_TRIALS // 10


def test_the_four_maps_of_an_attention_block_share_the_failure_that_is_asked_for():
    r = np.random.default_rng(4)
    query, key, value, output = (r.integers(-7, 8, (4, 4)) for _ in range(4))
    block = blocks.Attention(query, key, value, output, heads=2, temperature=0.01)
    found = blocks.find_attention(block, 7, seed=1, failure=0.04)
    certified = []
    for pair, matrix in zip(found.pairs, block.matrices):
        recipe = pair.carving.recipe
        limits = certificate.block_failure(recipe.law, recipe.blocks)
        certified.append(limits[np.abs(matrix)].sum())
    assert all(failure <= 0.01 for failure in certified) and sum(certified) <= 0.04


@given(
    st.sampled_from([9, 2**31, 2**62, 2**70]).flatmap(lambda m: st.lists(st.integers(-m, m), max_size=4)),
    st.sampled_from([9, 2**32, 2**70]).flatmap(lambda m: st.integers(-m, m)),
    st.booleans(),
)
def test_a_scaled_array_is_that_of_python_integers_in_64_bits_where_they_hold_it(values, factor, wide):
    largest = max(map(abs, values), default=0)
    x = np.array(values, object if wide or largest >= 2**63 else np.int64)
    assert exact.largest(x) == largest
    scaled = exact.scale(x, factor)
    assert scaled.tolist() == [v * factor for v in values]
    if x.dtype == object:
        assert all(type(v) is int for v in scaled)
    elif max(largest, 1) * abs(factor) < 2**63:
        assert scaled.dtype == np.int64
