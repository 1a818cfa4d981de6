"""Convolutions through their patches, with the layer's real stride, padding, dilation and groups."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from naive import path_following as naive
from prunequant.path_following import Grid, compress, compress_convolution, unfold

SHAPES = [
    dict(kernel=(3, 3), stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1),
    dict(kernel=(3, 2), stride=(2, 1), padding=((0, 1), (2, 0)), dilation=(1, 2), groups=2),
    dict(kernel=(2, 3), stride=(3, 2), padding=((1, 0), (0, 1)), dilation=(2, 1), groups=6),
    dict(kernel=(1, 1), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_patches_equal_six_loops(shape):
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 9))
    assert np.array_equal(unfold(x, **shape), naive.patches(x, **shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_patches_times_filters_are_the_convolution_of_torch(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 7, 9))
    groups = shape["groups"]
    weight = rng.normal(size=(12, 6 // groups, *shape["kernel"]))
    (top, bottom), (left, right) = shape["padding"]
    expected = F.conv2d(
        F.pad(torch.from_numpy(x), (left, right, top, bottom)),
        torch.from_numpy(weight),
        stride=shape["stride"],
        dilation=shape["dilation"],
        groups=groups,
    ).numpy()
    patches = unfold(x, **shape)
    filters = weight.reshape(groups, 12 // groups, -1)
    outputs = np.concatenate([patches[g] @ filters[g].T for g in range(groups)], axis=1)
    assert np.allclose(outputs.reshape(2, *expected.shape[2:], 12).transpose(0, 3, 1, 2), expected)


def test_each_group_is_a_layer_of_its_own():
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(3, 4, 6, 6)), rng.normal(size=(6, 2, 3, 3))
    values, results = compress_convolution(weight, x, Grid(0.2), padding=1, groups=2, seed=8)
    assert values.shape == weight.shape and len(results) == 2
    patches = unfold(x, 3, padding=1, groups=2)
    for g in range(2):
        alone = compress(weight[3 * g : 3 * g + 3].reshape(3, -1).T, patches[g], Grid(0.2), seed=8, stream=g)
        assert np.array_equal(alone.weights.T.reshape(3, 2, 3, 3), values[3 * g : 3 * g + 3])


def test_tensors_in_give_tensors_out():
    rng = np.random.default_rng(1)
    x, weight = torch.from_numpy(rng.normal(size=(2, 3, 6, 6))), torch.from_numpy(rng.normal(size=(4, 3, 3, 3)))
    values, _ = compress_convolution(weight, x, Grid(0.2), quantized_inputs=x + 0.01)
    assert isinstance(values, torch.Tensor) and values.shape == weight.shape and values.dtype == weight.dtype


def test_one_step_a_filter():
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(2, 3, 5, 5)), rng.normal(size=(3, 1, 2, 2))
    steps = np.array([0.5, 0.25, 0.125])
    values, _ = compress_convolution(weight, x, Grid(steps), groups=3)
    for g, step in enumerate(steps):
        assert np.array_equal(values[g] / step, np.rint(values[g] / step))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=np.ones((2, 3, 4))), r"x has shape \(2, 3, 4\)"),
        (dict(groups=2), "groups is 2: x has 3 channels"),
        (dict(kernel=9), "does not fit"),
        (dict(stride=0), "stride is 0"),
        (dict(padding=-1), "padding is"),
        (dict(padding=2**20), "padding is 1048576: x of shape"),
        (dict(stride=2**40), "stride is 1099511627776"),
        (dict(groups=0), "groups is 0"),
        (dict(rows=[18]), "rows is .*numbers of samples, from 0 below 18"),
        (dict(padding=((0, 1, 2), 1)), "padding is"),
        (dict(kernel=(1, 2, 3)), r"kernel is \(1, 2, 3\)"),
    ],
)
def test_impossible_convolutions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        unfold(**(dict(x=np.ones((2, 3, 4, 4)), kernel=2) | change))


@pytest.mark.parametrize(
    "change", [dict(stride="x"), dict(dilation=1.0), dict(padding=None), dict(groups=True), dict(rows=[0.5])], ids=str
)
def test_the_wrong_kind_of_shape_is_refused_by_name(change):
    with pytest.raises(TypeError, match=next(iter(change))):
        unfold(**(dict(x=np.ones((2, 3, 4, 4)), kernel=2) | change))


def test_no_rows_are_patches_too_and_no_images_are_refused():
    x = np.ones((2, 4, 4, 4))
    for none in ([], np.zeros(0, int), np.zeros(0, object)):
        assert unfold(x, 2, groups=2, rows=none).shape == (2, 0, 8)
    assert unfold(x[:0], 2).shape == (1, 0, 16)
    assert np.array_equal(unfold(x, 2, rows=np.array([0, 3], dtype=object)), unfold(x, 2, rows=[0, 3]))
    weight = np.ones((2, 4, 2, 2))
    with pytest.raises(ValueError, match=r"^inputs has shape"):
        compress_convolution(weight, x[:0], Grid(0.5))
    with pytest.raises(ValueError, match=r"^weight holds values beyond"):
        compress_convolution(weight * 1e80, x, Grid(0.5))


def test_shapes_of_any_integer_type():
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 9))
    for kind in (np.int8, np.uint8, np.uint64):
        small = dict(stride=kind(2), padding=(kind(1), kind(2)), dilation=np.array([1, 2], kind), groups=kind(3))
        assert np.array_equal(unfold(x, kind(2), **small), unfold(x, 2, 2, (1, 2), (1, 2), 3))


def test_integer_filters_are_not_cut_to_integers_again():
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(2, 3, 5, 5)), rng.integers(-5, 6, (4, 3, 3, 3))
    values, _ = compress_convolution(weight, x, Grid(0.75))
    assert np.array_equal(values, compress_convolution(weight.astype(float), x, Grid(0.75))[0])


def test_filters_without_values_or_operator_are_refused():
    x = np.ones((1, 2, 5, 5))
    with pytest.raises(ValueError, match="weight has shape"):
        compress_convolution(np.ones((0, 2, 3, 3)), x, Grid(0.5))
    with pytest.raises(TypeError, match="operator is 'x'"):
        compress_convolution(np.ones((1, 2, 3, 3)), x, "x")


def test_a_weight_that_does_not_fit_its_inputs_is_refused():
    with pytest.raises(ValueError, match="patches of 27 numbers, not 18"):
        compress_convolution(np.ones((4, 2, 3, 3)), np.ones((1, 3, 5, 5)), Grid(0.1))
