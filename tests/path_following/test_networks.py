"""Whole networks: each layer compressed on what the compressed layers below it hand on."""

import numpy as np
import pytest
import torch
from torch import nn

from prunequant.path_following import FiniteGrid, Grid, compress, networks, studies


class Padded(nn.Conv2d):
    """A convolution with its own, uneven padding."""

    def padding_of(self, height, width):
        return (0, 1), (0, 1)

    def forward(self, x):
        return nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1)), self.weight, None, self.stride)


@pytest.fixture(scope="module")
def mlp():
    return networks.digits_mlp((32, 24), steps=120)


def test_each_layer_is_compressed_on_its_compressed_inputs(mlp):
    x = networks.digits()[0][:200]
    small, reports = networks.compress_network(mlp, x, Grid(0.2, False), samples=200)
    original, changed = x.numpy(), x.numpy()
    for k, report in zip((0, 2, 4), reports, strict=True):
        w = mlp[k].weight.detach().numpy().T
        y = None if k == 0 else changed
        expected = compress(w, original, Grid(0.2, False), quantized_inputs=y, damping=0.01)
        assert np.allclose(small[k].weight.detach().numpy().T, expected.weights, atol=1e-6)
        assert report.relative_error == pytest.approx(expected.relative_error, rel=1e-3)
        b = mlp[k].bias.detach().numpy()
        original = np.maximum(original @ w + b, 0)
        changed = np.maximum(changed @ small[k].weight.detach().numpy().T + b, 0)


def test_the_original_is_not_touched_and_the_seed_decides(mlp):
    before = [p.clone() for p in mlp.parameters()]
    x = networks.digits()[0][:100]
    first, _ = networks.compress_network(mlp, x, networks.grids(4, True), seed=3, certify=False)
    again, _ = networks.compress_network(mlp, x, networks.grids(4, True), seed=3, certify=False)
    other, _ = networks.compress_network(mlp, x, networks.grids(4, True), seed=4, certify=False)
    assert all(torch.equal(p, q) for p, q in zip(mlp.parameters(), before, strict=True))
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first[0].weight, other[0].weight)


def test_every_kind_of_convolution_keeps_its_output_at_fine_steps():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv2d(8, 12, (2, 3), dilation=(1, 2), groups=4, padding="valid"),
        Padded(12, 6, 3, stride=2),
        nn.Flatten(),
        nn.Linear(18, 4),
    )
    x = torch.randn(20, 3, 12, 12)
    model[6] = nn.Linear(model[:6](x).shape[1], 4)
    small, reports = networks.compress_network(model, x, Grid(1e-3), alignment=0)
    assert [r.groups for r in reports] == [1, 8, 4, 1, 1]
    assert networks.output_error(model, small, x) < 0.01
    assert all(r.certified == 1 for r in reports)
    for before, after in zip(model, small, strict=True):
        if hasattr(before, "weight"):
            assert not torch.equal(before.weight, after.weight)
            assert torch.allclose(after.weight / 1e-3, torch.round(after.weight / 1e-3), atol=1e-2)


def test_four_bits_keep_the_digits_and_certificates_hold(mlp):
    train, _, test, labels = networks.digits()
    full = networks.accuracy(mlp, test, labels)
    small, reports = networks.compress_network(mlp, train, networks.grids(4, True, finite=False))
    assert full > 0.95
    assert networks.accuracy(small, test, labels) > full - 0.03
    assert networks.agreement(mlp, mlp, test) == 1
    assert all(r.certified == 1 and r.slack > 1 for r in reports)


def test_a_layer_may_be_left_alone(mlp):
    x = networks.digits()[0][:100]
    small, reports = networks.compress_network(mlp, x, lambda w: Grid(0.3) if w.shape[0] == 64 else None)
    assert len(reports) == 1
    assert torch.equal(small[2].weight, mlp[2].weight)


def test_a_layer_that_runs_twice_is_refused():
    layer = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="runs more than once"):
        networks.compress_network(nn.Sequential(layer, nn.ReLU(), layer), torch.ones(5, 4), Grid(0.1))


def test_the_fitted_step_is_the_best_of_a_fine_scan():
    w = np.random.default_rng(0).normal(size=(300, 4))
    for levels in (2, 4, 7, 16):

        def errors(steps, levels=levels):
            return np.sum((FiniteGrid(steps, levels, False)(w) - w) ** 2, axis=0)

        scanned = [errors(np.full(4, step)) for step in np.linspace(0.02, 3, 150)]
        assert np.all(errors(networks.fit_step(w, levels)) <= 1.02 * np.min(scanned, axis=0))


def test_studies_return_rows_with_their_names():
    rows = studies.weight_laws(("gaussian", "signs"), samples=40, features=40, neurons=8)
    assert [r["law"] for r in rows] == ["gaussian", "signs"] and all(r["held"] for r in rows)
    row = studies.coverage("outliers", Grid(0.2), seeds=200, samples=20, features=40)
    assert row["certificate_passed"] <= 30 and row["bound_passed"] == 0
    assert 1 < row["certificate_slack"] < row["bound_slack"]
    rows = studies.compare_pruners(samples=60, features=32, neurons=8, sparsities=(0.5,))
    assert {"magnitude", "sparsegpt", "hard optq", "unbiased C=4"} <= {r["method"] for r in rows}
    rows = studies.compare_quantizers(samples=60, features=32, neurons=8, bits=(3,))
    assert all(0 < r["train"] < 1 for r in rows)


def test_one_bit_is_never_clipped_at_a_large_scaling_and_fitted_values_always_are():
    rows = studies.one_bit_scaling((1.0, 64.0), (2.0, None), hidden=(16,), seeds=1)
    named = {(r["size"], r["scaling"]): r for r in rows}
    assert len(rows) == 4 + 3 and {"nearest", "gpfq", "optq"} <= {r["size"] for r in rows}
    assert named["2 × largest", 64.0]["saturation"] < 0.01 < named["2 × largest", 1.0]["saturation"]
    assert named["fitted", 64.0]["saturation"] > 0.1
    assert named["fitted", 64.0]["output_error"] < named["2 × largest", 64.0]["output_error"]


def test_a_hard_threshold_leaves_more_zeros_for_the_same_size():
    rows = [studies.prune_and_quantize((4,), (4,), seeds=1, stochastic=s)[0] for s in (True, False)]
    assert all(r["certified"] > 0.9 for r in rows)
    assert rows[0]["sparsity"] < rows[1]["sparsity"]


@pytest.mark.parametrize("kind", studies.DATA)
def test_five_kinds_of_data_are_what_they_say(kind):
    x = studies.data(kind, 300, 120)
    assert x.shape == (300, 120) and np.array_equal(x, studies.data(kind, 300, 120))
    values = np.linalg.eigvalsh(x.T @ x / 300)
    if kind == "correlated":
        assert values[-1] > 10 * np.median(values)
    if kind in ("relu", "digits"):
        assert x.min() == 0
    if kind == "digits":
        assert np.linalg.norm(x) > 0 and (x == 0).mean() > 0.2
    if kind == "outliers":
        norms = np.linalg.norm(x, axis=0)
        assert norms.max() > 10 * np.median(norms)
