"""Batch-norm statistics, representations and sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from naive import finetune as naive
from prunequant.finetune import batch_norm, cka, lsq, sizes, straight_through
from prunequant.formats import Integer


def images(step):
    generator = torch.Generator().manual_seed(step)
    return (torch.randn(5 + step, 2, 4, 4, generator=generator) * 3 + step,)


def test_statistics_are_those_of_all_values_of_the_batches():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5))
    model[0].running_mean.fill_(77.0)
    model.train()
    model[2].eval()
    batch_norm.reestimate(model, images, 3)
    everything = torch.cat([images(step)[0] for step in range(3)]).movedim(1, 0).flatten(1).double()
    torch.testing.assert_close(model[0].running_mean.double(), everything.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model[0].running_var.double(), everything.var(1), rtol=1e-6, atol=1e-6)
    assert model.training and not model[2].training and model[0].momentum == 0.1
    assert int(model[0].num_batches_tracked) == 3


def test_deeper_layers_see_what_they_see_in_training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.9))
    batch_norm.reestimate(model, images, 4)
    with torch.no_grad():
        seen = [model[1](nn.functional.batch_norm(images(s)[0], None, None, training=True)) for s in range(4)]
    everything = torch.cat(seen).movedim(1, 0).flatten(1)
    torch.testing.assert_close(model[2].running_mean, everything.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model[2].running_var, everything.var(1), rtol=1e-5, atol=1e-5)


def test_a_scaled_weight_is_forgiven_after_new_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    x = torch.randn(64, 3)
    batch_norm.reestimate(model, lambda step: (x,), 1)
    before = model(x)
    with torch.no_grad():
        model[0].weight.mul_(5)
        model[0].bias.mul_(5)
    assert not torch.allclose(model(x), before, atol=1e-2)
    batch_norm.reestimate(model, lambda step: (x,), 1, forward=lambda m, x: m(x))
    torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-3)


def test_a_model_without_batch_norm_is_left_alone_and_no_batches_are_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    assert batch_norm.reestimate(model, images, 1) is model
    with pytest.raises(TypeError, match=r"count is 2.0"):
        batch_norm.reestimate(model, images, 2.0)
    with pytest.raises(ValueError, match="count"):
        batch_norm.reestimate(model, images, 0)


@pytest.mark.parametrize("shape", ((20, 3, 5), (6, 30, 40)))
def test_cka_is_one_with_itself_invariant_and_equal_to_its_definition(shape):
    n, p, q = shape
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, p)), rng.standard_normal((n, q))
    value = cka.linear_cka(x, y)
    assert value == pytest.approx(naive.linear_cka(x, y), rel=1e-10)
    assert 0 <= value <= 1 and cka.linear_cka(y, x) == pytest.approx(value, rel=1e-12)
    assert cka.linear_cka(x, x) == pytest.approx(1, abs=1e-12)
    turn = np.linalg.qr(rng.standard_normal((p, p)))[0]
    assert cka.linear_cka(7 * x @ turn + 3, y) == pytest.approx(value, rel=1e-10)
    stretch = np.diag(np.arange(1.0, p + 1))
    assert cka.linear_cka(x @ stretch, y) != pytest.approx(value, rel=1e-3)


def test_cka_of_one_feature_is_the_squared_correlation_and_of_orthogonal_ones_zero():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((50, 1)), rng.standard_normal((50, 1))
    assert cka.linear_cka(x, y) == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2)
    assert cka.linear_cka([[1.0], [-1.0], [0.0], [0.0]], [[0.0], [0.0], [1.0], [-1.0]]) == 0
    assert np.isnan(cka.linear_cka(np.ones((4, 2)), x[:4]))


def test_layers_are_compared_by_name_in_evaluation_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).train()
    other = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    x = torch.randn(30, 4)
    batches = [x[:10], x[10:]]
    values = cka.compare(model, other, ["0", "2"], batches)
    assert values["0"] == pytest.approx(cka.linear_cka(model[0](x), other[0](x)), rel=1e-5)
    assert cka.compare(model, model, ["1"], x)["1"] == pytest.approx(1, abs=1e-12)
    assert model.training and model[1].training
    with pytest.raises(ValueError, match="no such layer"):
        cka.compare(model, other, ["9"], x)


def test_cka_refuses_other_samples_and_nan():
    with pytest.raises(ValueError, match="same samples"):
        cka.linear_cka(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="two samples"):
        cka.linear_cka(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="NaN"):
        cka.linear_cka(np.full((3, 2), np.nan), np.ones((3, 2)))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 3))


def test_all_stored_numbers_are_counted_once():
    model = network()
    others = 4 + 4 * 4 + 8 + 3  # biases; scale, shift, mean, variance
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    for mask, bits in (("entropy", entropy), ("bitmap", 1.0), ("free", 0.0)):
        found = sizes.stored_bits(model, {"0": 8, "3": 4}, {"3": 0.25, "4": 0.25}, mask)
        layers = [(72, 8, 1, 0, 1), (128, 4, 0.25, bits, 1), (24, 16, 0.25, bits, 0)]
        assert found == pytest.approx(naive.stored_bits(layers, others, 16), rel=1e-12)
    parts = sizes.account(model, {"0": 8}, {"3": 0.5}, "bitmap")
    assert parts["total"] == sum(value for name, value in parts.items() if name != "total")


def test_learned_steps_count_as_scales_and_masks_of_a_parametrization_do_not_count_twice():
    model = network()
    handle = lsq.attach(model, 4, per="row")
    parts = sizes.account(model, handle.bits_by_layer)
    assert parts["scales"] == 32 * (4 + 8 + 3)
    assert parts["weights"] + parts["scales"] == handle.bits()
    model = network()
    straight_through.attach(model, ["3"], Integer(4), "2:4", "sq")
    parts = sizes.account(model, {"3": 4}, {"3": 0.5}, "2:4", scales_by_layer={"3": 8})
    assert (parts["weights"], parts["masks"], parts["scales"]) == (256, 128, 256)
    assert parts["rest"] == 16 * (72 + 24 + 4 + 16 + 8 + 3)


def test_shared_weights_are_stored_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert sizes.stored_bits(model) == 256
    assert sizes.stored_bits(model, {"0": 8, "1": 8}) == 16 * 8 + 32


@pytest.mark.parametrize("mask", ("free", "bitmap", "entropy"))
def test_the_equal_size_density_stores_what_the_quantized_model_stores(mask):
    target = sizes.stored_bits(network(), {"0": 8, "3": 3, "4": 8})
    for layers, others in ((None, {}), (["3"], {"0": 8, "4": 8})):
        density = sizes.equal_size_density(network(), target, layers, mask, bits_by_layer=others)
        pruned = dict.fromkeys(layers or ["0", "3", "4"], density)
        assert sizes.stored_bits(network(), others, pruned, mask) == pytest.approx(target, rel=1e-9)
    with pytest.raises(ValueError, match="total_bits"):
        sizes.equal_size_density(network(), 10.0, mask=mask)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="no such layer"):
        sizes.stored_bits(network(), {"7": 4})
    with pytest.raises(ValueError, match=r"density_by_layer\['0'\] is 1\.5"):
        sizes.stored_bits(network(), {}, {"0": 1.5})
    with pytest.raises(ValueError, match="bits_by_layer"):
        sizes.stored_bits(network(), {"0": 0})
    with pytest.raises(ValueError, match="mask"):
        sizes.stored_bits(network(), {}, {"0": 0.5}, "zip")
