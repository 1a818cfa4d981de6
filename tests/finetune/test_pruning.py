"""Gradual pruning: the cubic, exact sparsities, masks that stay."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunequant.finetune import lsq, pruning, training
from prunequant.sparsity import magnitude, pruned_count


def network():
    training.seed_everything(4)
    return nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3))


def run(model, hooks, steps=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 9, generator=generator)
    y = torch.randn(16, 3, generator=generator)
    return training.fit(
        model,
        lambda step: (x, y),
        steps=steps,
        loss=lambda m, x, y: (m(x) - y).square().mean(),
        optimiser=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
        seed=seed,
        hooks=hooks,
    )


class Watch(training.Hook):
    def __init__(self, pruner):
        self.pruner, self.masks = pruner, []

    def after_step(self, step, steps):
        self.masks.append({name: mask.clone() for name, mask in self.pruner.masks.items()})


def test_the_cubic_has_its_values_at_both_ends_and_in_the_middle():
    assert pruning.cubic(5, 5, 10, 0.75) == 0.0
    assert pruning.cubic(15, 5, 10, 0.75) == 0.75
    assert pruning.cubic(10, 5, 10, 0.8, initial=0.2) == pytest.approx(0.8 - 0.6 / 8)
    assert pruning.cubic(-3, 5, 10, 0.8, initial=0.2) == pytest.approx(0.2)


@given(st.integers(0, 50), st.integers(1, 200), st.floats(0, 1))
def test_the_cubic_never_falls_and_slows_down(start, steps, final):
    values = [pruning.cubic(step, start, steps, final) for step in range(start + steps + 3)]
    rises = np.diff(values[start : start + steps + 1])
    assert (np.diff(values) >= -1e-15).all() and values[-1] == final
    assert (np.diff(rises) <= 1e-12).all()


def test_every_pruning_is_exact_nested_and_by_magnitude():
    model = network()
    pruner = pruning.GradualPruner(model, None, 0.71, start=2, end=13, every=4)
    watch = Watch(pruner)
    run(model, [pruner, watch])
    at = [2, 6, 10, 13]
    for step, masks in enumerate(watch.masks):
        last = max((a for a in at if a <= step), default=None)
        sparsity = 0.0 if last is None else pruning.cubic(last, 2, 11, 0.71)
        for mask in masks.values():
            assert int((~mask).sum()) == pruned_count(sparsity, mask.numel())
        if step:
            assert all((mask <= watch.masks[step - 1][name]).all() for name, mask in masks.items())


def test_masks_stay_fixed_after_the_end_and_pruned_weights_are_zero():
    model = network()
    pruner = pruning.GradualPruner(model, ["0"], 0.5, start=0, end=6, every=3)
    watch = Watch(pruner)
    run(model, [pruner, watch])
    assert all(torch.equal(masks["0"], watch.masks[6]["0"]) for masks in watch.masks[6:])
    assert torch.equal(model[0].weight != 0, pruner.masks["0"])
    assert int((model[0].weight == 0).sum()) == pruned_count(0.5, 63)
    assert (model[2].weight != 0).all()


def test_a_single_pruning_is_the_magnitude_mask_of_the_library():
    model = network()
    expected = magnitude(model[0].weight.detach().numpy(), 0.4)
    pruner = pruning.GradualPruner(model, ["0"], 0.4, start=0, end=1, every=1)
    pruner.before_forward(1, 2)
    assert np.array_equal(pruner.masks["0"].numpy(), expected)


def test_layers_may_have_their_own_sparsities():
    model = network()
    pruner = pruning.GradualPruner(model, None, {"0": 0.5, "2": 0.25}, start=0, end=4, every=1)
    run(model, [pruner], steps=6)
    assert pruner.densities() == {"0": 1 - 31 / 63, "2": 1 - 5 / 21}


def test_the_dense_weight_behind_a_learned_step_is_pruned():
    model = network()
    lsq.attach(model, 4)
    pruner = pruning.GradualPruner(model, None, 0.5, start=0, end=3, every=1)
    run(model, [pruner], steps=5)
    assert ((model[0].weight == 0) >= ~pruner.masks["0"]).all()


def test_a_fixed_mask_holds_through_momentum_and_decay():
    model = network()
    mask = torch.rand(7, 9) > 0.5
    hook = pruning.FixedMask(model, {"0": mask})
    run(model, [hook])
    assert torch.equal(model[0].weight != 0, mask)
    mask.fill_(True)  # the hook has its own copy
    assert not hook.masks["0"].all()


def test_hooks_give_back_their_state():
    model, other = network(), network()
    pruner = pruning.GradualPruner(model, None, 0.5, start=0, end=3, every=1)
    run(model, [pruner], steps=5)
    again = pruning.GradualPruner(other, None, 0.5, start=0, end=3, every=1)
    again.load_state_dict(pruner.state_dict())
    assert all(torch.equal(mask, again.masks[name]) for name, mask in pruner.masks.items())
    assert (other[0].weight[~again.masks["0"]] == 0).all()


def test_bad_arguments_are_refused():
    model = network()
    for arguments, message in (
        ((None, 1.5, 0, 4), "final"),
        ((None, 0.5, 4, 4), "end is 4: it must be an integer from 5 on"),
        ((None, {"0": 0.5, "2": 2.0}, 0, 4), "final of layer '2' is 2.0"),
        ((None, 0.5, -1, 4), "start"),
        ((["7"], 0.5, 0, 4), "no such layer"),
        ((None, 0.5, 0, 4, 0), "every"),
    ):
        with pytest.raises(ValueError, match=message):
            pruning.GradualPruner(model, *arguments)
    for arguments, message in (
        ((None, "x", 0, 4), "final"),
        ((None, 0.5, 0.0, 4), "start"),
        ((None, 0.5, 0, 4, 1.5), "every"),
    ):
        with pytest.raises(TypeError, match=f"{message} is"):
            pruning.GradualPruner(model, *arguments)
    with pytest.raises(TypeError, match="step is None"):
        pruning.cubic(None, 0, 5, 0.5)
    small = [pruning.cubic(np.uint8(s), np.uint8(10), np.uint8(40), np.float64(0.75)) for s in (0, 10, 30, 90)]
    assert small == [pruning.cubic(s, 10, 40, 0.75) for s in (0, 10, 30, 90)]
    with pytest.raises(ValueError, match="ramp is cut"):
        run(model, [pruning.GradualPruner(model, None, 0.5, start=0, end=30)])
    with pytest.raises(ValueError, match="shape"):
        pruning.FixedMask(model, {"0": torch.ones(3, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match="bool"):
        pruning.FixedMask(model, {"0": torch.ones(7, 9)})
    with pytest.raises(ValueError, match="steps"):
        pruning.cubic(0, 0, 0, 0.5)
    with pytest.raises(ValueError, match="final"):
        pruning.cubic(0, 0, 5, 1.5)
