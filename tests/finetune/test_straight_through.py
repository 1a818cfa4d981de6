"""Training through a compression: forward the compressed weights, backward the identity."""

import numpy as np
import pytest
import torch
from torch import nn

from prunequant.finetune import straight_through, training
from prunequant.formats import HBFP, MX, Integer
from prunequant.interplay import apply_orders

FORMATS = (Integer(4, granularity="row"), HBFP(4), MX("fp4_e2m1"), MX("fp6_e2m3"))


def layer(dtype=torch.float32, ties=True):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(64, 12).to(dtype))
    if ties:
        with torch.no_grad():
            model[0].weight.copy_((model[0].weight * 64).round() / 64)
    return model


@pytest.mark.parametrize("order", ("s", "q", "sq", "qs", "joint"))
@pytest.mark.parametrize("ties", ("first", "last", "random", "magnitude"))
@pytest.mark.parametrize("pattern", ("2:4", 0.3))
def test_the_forward_pass_sees_what_the_orders_of_the_library_make(order, ties, pattern):
    for fmt in FORMATS:
        for dtype in (torch.float32, torch.float64):
            model = layer(dtype)
            dense = model[0].weight.detach().numpy().copy()
            orders = (order,) if order in ("sq", "qs", "joint") else ()
            made = apply_orders(dense, fmt, pattern, orders, ties, seed=3)
            expected = {"s": made.pruned, "q": made.quantized, **made.compressed}[order]
            given = (None if order == "s" else fmt, None if order == "q" else pattern, order)
            once = straight_through.weights(model, None, *given, ties, seed=3)["0.weight"]
            handle = straight_through.attach(model, None, *given, ties=ties, seed=3)
            assert np.array_equal(model[0].weight.detach().numpy(), expected)
            assert np.array_equal(once.numpy(), expected)
            if orders:
                assert np.array_equal(handle.masks()["0"].numpy(), made.masks[order])


@pytest.mark.parametrize("order", ("s", "q", "sq", "qs", "joint"))
def test_the_gradient_is_the_identity_or_the_mask(order):
    upstream = torch.randn(12, 64, generator=torch.Generator().manual_seed(0))
    for gradient in ("dense", "kept"):
        model = layer()
        handle = straight_through.attach(model, None, HBFP(4), "2:4", order, gradient=gradient)
        model[0].weight.backward(upstream)
        grad = model[0].parametrizations.weight.original.grad
        mask = handle.masks().get("0")
        assert torch.equal(grad, upstream if gradient == "dense" or mask is None else upstream * mask)


def test_filters_are_rows_with_their_input_channels_fastest():
    weight = torch.arange(2 * 4 * 3 * 3, dtype=torch.float32).reshape(2, 4, 3, 3)
    rows = straight_through.to_rows(weight)
    assert rows.shape == (2, 36)
    assert rows[1, :4].tolist() == weight[1, :, 0, 0].tolist()
    assert torch.equal(straight_through.from_rows(rows, weight.shape), weight)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 3, 3))
    expected = straight_through.weights(model, None, HBFP(6), "2:4", "sq")["0.weight"]
    straight_through.attach(model, None, HBFP(6), "2:4", "sq")
    assert torch.equal(model[0].weight, expected)
    assert ((expected != 0).sum(1) <= 2).all()


def fit(model, handle, steps):
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    y = torch.randn(32, 12, generator=torch.Generator().manual_seed(2))
    return training.fit(
        model,
        lambda step: (x, y),
        steps=steps,
        loss=lambda m, x, y: (m(x) - y).square().mean(),
        optimiser=torch.optim.SGD(model.parameters(), lr=0.3),
        seed=0,
        hooks=[handle],
    )


def test_a_fixed_mask_stays_and_a_refreshed_one_follows_the_weights():
    model = layer()
    handle = straight_through.attach(model, None, HBFP(4), 0.5, "qs")
    before = handle.masks()["0"].clone()
    losses = fit(model, handle, 30)
    assert torch.equal(handle.masks()["0"], before) and losses[-1] < losses[0]
    model = layer()
    handle = straight_through.attach(model, None, HBFP(4), 0.5, "qs", refresh=10)
    seen = []
    for _ in range(3):
        fit(model, handle, 10)
        seen.append(handle.masks()["0"].clone())
    assert not torch.equal(seen[0], seen[2])
    handle.update()
    dense = model[0].parametrizations.weight.original.detach().numpy()
    assert np.array_equal(model[0].weight.detach().numpy(), apply_orders(dense, HBFP(4), 0.5).compressed["qs"])


def test_pruned_weights_stay_what_they_were_when_only_kept_ones_get_the_gradient():
    model = layer()
    dense = model[0].weight.detach().clone()
    handle = straight_through.attach(model, None, HBFP(4), 0.5, "qs", gradient="kept")
    fit(model, handle, 10)
    mask, after = handle.masks()["0"], model[0].parametrizations.weight.original
    assert torch.equal(after[~mask], dense[~mask]) and not torch.equal(after[mask], dense[mask])


def test_the_mask_is_part_of_the_state_of_the_model():
    model, other = layer(), layer()
    with torch.no_grad():
        other[0].weight.mul_(torch.rand_like(other[0].weight))
    for each in (model, other):
        straight_through.attach(each, None, HBFP(4), 0.5, "sq")
    assert not torch.equal(model[0].weight, other[0].weight)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model[0].weight, other[0].weight)


def test_taking_the_compression_off_leaves_the_compressed_or_the_dense_weights():
    for compressed in (True, False):
        model = layer()
        dense = model[0].weight.detach().clone()
        handle = straight_through.attach(model, None, Integer(4), "2:4", "sq")
        seen = model[0].weight.detach().clone()
        handle.remove(compressed=compressed)
        assert torch.equal(model[0].weight, seen if compressed else dense)


def test_bad_arguments_are_refused():
    def attach(*given, **options):
        return straight_through.attach(layer(), None, *given, **options)

    for given, options, error, message in (
        ((HBFP(4), "2:4", "sqs"), {}, ValueError, "order"),
        ((None, "2:4", "sq"), {}, TypeError, "fmt"),
        ((HBFP(4), None, "sq"), {}, ValueError, "pattern"),
        ((HBFP(4), "3:2", "sq"), {}, ValueError, "n:m"),
        ((HBFP(4), "2:5", "sq"), {}, ValueError, "do not divide"),
        ((HBFP(4), "2:4", "sq"), dict(ties="middle"), ValueError, "ties"),
        ((HBFP(4), "2:4", "sq"), dict(refresh=0), ValueError, "refresh"),
        ((HBFP(4), "2:4", "sq"), dict(refresh=2.0), TypeError, "refresh is 2.0"),
        ((HBFP(4), "2:4", "sq"), dict(seed=None), TypeError, "seed is None"),
        ((HBFP(4), "2:4", "sq"), dict(seed=-1), ValueError, "seed is -1"),
        (("int4", "2:4", "sq"), {}, TypeError, "fmt is 'int4': it must be a format"),
        ((HBFP(4), "2:4", None), {}, TypeError, "order is None"),
        ((HBFP(4), "2:4", "sq"), dict(gradient="none"), ValueError, "gradient"),
    ):
        with pytest.raises(error, match=message):
            attach(*given, **options)
    model = layer()
    straight_through.attach(model, None, HBFP(4), "2:4", "sq")
    with pytest.raises(ValueError, match="parametrized already"):
        straight_through.attach(model, None, HBFP(4), "2:4", "sq")
