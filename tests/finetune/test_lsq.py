"""Learned steps: the gradients of the paper, the best start, the bits that are stored."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from naive.finetune import lsq_gradients_one_by_one, lsq_written_out
from prunequant.distortion.scale import scale_error
from prunequant.finetune import lsq, sizes, training


def network():
    training.seed_everything(3)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("bits", (2, 3, 4, 8))
@pytest.mark.parametrize("per", ("tensor", "row"))
def test_gradients_equal_autograd_of_the_written_out_definition(bits, per):
    rng = np.random.default_rng(bits)
    layer = nn.Linear(7, 5, bias=False).double()
    layer.weight.data = torch.from_numpy(rng.standard_normal((5, 7)))
    dense = layer.weight.detach().clone().requires_grad_()
    lsq.attach(nn.Sequential(layer), bits, first_last=None, per=per)
    quantizer = layer.parametrizations.weight[0]
    with torch.no_grad():
        quantizer.step.mul_(0.6)  # so that some weights lie outside the range
    step = quantizer.step.detach().clone().requires_grad_()
    count = 35 if per == "tensor" else 7
    factor = 1 / np.sqrt(count * (2 ** (bits - 1) - 1))
    upstream = torch.from_numpy(rng.standard_normal((5, 7)))
    expected = lsq_written_out(dense, step, bits, factor)
    torch.testing.assert_close(layer.weight.detach(), expected.detach(), rtol=1e-15, atol=0)
    (expected * upstream).sum().backward()
    (layer.weight * upstream).sum().backward()
    original = layer.parametrizations.weight.original
    torch.testing.assert_close(original.grad, dense.grad, rtol=1e-15, atol=0)
    torch.testing.assert_close(quantizer.step.grad, step.grad, rtol=1e-12, atol=1e-14)


def test_gradients_equal_the_formula_one_weight_at_a_time():
    rng = np.random.default_rng(0)
    w, upstream = rng.standard_normal(40) * 3, rng.standard_normal(40)
    for bits in (2, 4):
        tensor = torch.from_numpy(w).requires_grad_()
        step = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        factor = 1 / np.sqrt(40 * high)
        lsq._Round.apply(tensor, step, low, high, factor).backward(torch.from_numpy(upstream))
        weights, expected = lsq_gradients_one_by_one(w, 0.7, upstream, bits, factor)
        assert np.array_equal(tensor.grad.numpy(), weights)
        assert float(step.grad) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bits", (2, 3, 4, 8))
def test_the_first_step_is_never_worse_than_a_fine_grid_of_steps(bits):
    rng = np.random.default_rng(5)
    for law in (rng.standard_normal, lambda n: rng.standard_t(3, n), lambda n: rng.uniform(-1, 1, n)):
        values = law(600)
        layer = nn.Linear(30, 20, bias=False).double()
        layer.weight.data = torch.from_numpy(values.reshape(20, 30))
        lsq.attach(nn.Sequential(layer), bits, first_last=None)
        start = layer.parametrizations.weight[0].step.item()
        largest = np.abs(values).max()
        grid = largest * np.linspace(0.001, 1.5, 1500)
        best = min(scale_error(values, s, bits) for s in grid)
        assert scale_error(values, start, bits) <= best * (1 + 1e-12)


def test_each_row_gets_its_own_best_step():
    model = nn.Sequential(nn.Linear(16, 6))
    whole, rows = copy.deepcopy(model), copy.deepcopy(model)
    lsq.attach(whole, 3, first_last=None)
    lsq.attach(rows, 3, first_last=None, per="row")
    dense = model[0].weight
    assert rows[0].parametrizations.weight[0].step.shape == (6, 1)
    assert (rows[0].weight - dense).square().sum() <= (whole[0].weight - dense).square().sum() + 1e-9


@pytest.mark.parametrize("first_last, bits", ((8, {"0": 8, "3": 2, "5": 8}), (None, {"0": 2, "3": 2, "5": 2}),
                                              (16, {"0": 16, "3": 2, "5": 16})))  # fmt: skip
def test_the_first_and_last_layer_follow_the_policy_and_are_counted(first_last, bits):
    model = network()
    dense = copy.deepcopy(model)
    handle = lsq.attach(model, 2, first_last=first_last)
    assert handle.bits_by_layer == bits
    counts = {"0": 72, "3": 128, "5": 24}
    quantized = [name for name, own in bits.items() if own < 16]
    expected = sum(counts[name] * own for name, own in bits.items()) + 32 * len(quantized)
    assert handle.bits() == expected
    assert len(handle.steps()) == len(quantized)
    biases = 4 + 8 + 3
    assert sizes.stored_bits(model, handle.bits_by_layer) == expected + 16 * biases
    for name, own in bits.items():
        module, before = model.get_submodule(name), dense.get_submodule(name).weight
        if own == 16:
            assert torch.equal(module.weight, before)
        else:
            levels = handle.levels()[name]
            assert levels.min() >= -(2 ** (own - 1)) and levels.max() < 2 ** (own - 1)
            assert torch.equal(levels.to(module.weight.dtype) * module.parametrizations.weight[0].step, module.weight)


def test_every_parameter_is_in_one_group_and_the_steps_in_their_own():
    model = network()
    handle = lsq.attach(model, 4)
    groups = handle.groups(step_rate=1e-4, lr=0.1, weight_decay=0.01)
    assert [group["lr"] for group in groups] == [0.1, 1e-4] and groups[1]["weight_decay"] == 0
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in handle.steps()}


def test_training_moves_the_steps_and_lowers_the_loss():
    model = network()
    handle = lsq.attach(model, 2)
    before = [step.detach().clone() for step in handle.steps()]
    torch.manual_seed(0)
    x, y = torch.randn(32, 2, 4, 4), torch.randint(3, (32,))
    losses = training.fit(
        model,
        lambda step: (x, y),
        steps=40,
        loss=lambda m, x, y: nn.functional.cross_entropy(m(x), y),
        optimiser=torch.optim.Adam(handle.groups(step_rate=1e-3, lr=1e-2)),
        seed=0,
    )
    assert losses[-1] < 0.7 * losses[0]
    assert all(not torch.equal(a, b) for a, b in zip(before, handle.steps()))


def test_a_step_driven_below_zero_still_gives_finite_weights():
    model = nn.Sequential(nn.Linear(3, 3))
    handle = lsq.attach(model, 4, first_last=None)
    for value in (0.0, -0.1):
        with torch.no_grad():
            handle.steps()[0].fill_(value)
        assert torch.isfinite(model[0].weight).all()


def test_taking_the_steps_off_leaves_the_quantized_or_the_dense_weights():
    for quantized in (True, False):
        model = network()
        dense = {name: t.clone() for name, t in model.state_dict().items()}
        handle = lsq.attach(model, 3)
        seen = {name: model.get_submodule(name).weight.detach().clone() for name in ("0", "3", "5")}
        handle.remove(quantized=quantized)
        assert set(model.state_dict()) == set(dense)
        for name, weight in seen.items():
            after = model.get_submodule(name).weight
            assert torch.equal(after, weight if quantized else dense[f"{name}.weight"])


def test_taking_the_steps_off_a_copy_leaves_the_original_as_it_was():
    model = network()
    handle = lsq.attach(model, 3)
    copied, own = copy.deepcopy((model, handle))
    own.remove()
    assert not any("parametrizations" in name for name, _ in copied.named_parameters())
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(model(x), copied(x)) and len(handle.steps()) == 3


def test_bad_arguments_are_refused():
    for options, message in (
        (dict(bits=1), "bits"),
        (dict(bits=13), "bits"),
        (dict(bits=4, first_last=14), "first_last"),
        (dict(bits=4, per="column"), "per"),
        (dict(bits=4, first_last=1), "first_last"),
        (dict(bits=4, layers=["9"]), "no such layer"),
        (dict(bits=4, layers=[]), "empty"),
        (dict(bits=4, layers=["0", "0"]), "twice"),
    ):
        with pytest.raises(ValueError, match=message):
            lsq.attach(network(), **options)
    for options, message in (
        (dict(bits=2.0), "bits"),
        (dict(bits=4, first_last=8.0), "first_last"),
        (dict(bits=4, per=1), "per"),
    ):
        with pytest.raises(TypeError, match=f"{message} is"):
            lsq.attach(network(), **options)
    narrow = lsq.attach(network(), np.uint8(4), first_last=np.int8(8))
    assert (
        narrow.bits_by_layer == lsq.attach(network(), 4).bits_by_layer
        and narrow.bits() == lsq.attach(network(), 4).bits()
    )
    model = network()
    lsq.attach(model, 4)
    with pytest.raises(ValueError, match="parametrized already"):
        lsq.attach(model, 4)
    broken = network()
    broken[0].weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        lsq.attach(broken, 4)
