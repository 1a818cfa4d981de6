"""Whole networks: each layer compressed on what the compressed layers below it hand on."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from prunequant.distortion import best_step
from prunequant.models import networks
from prunequant.path_following import Grid, OneBit, Prune, compress
from prunequant.studies import paths as studies
from zoo import ZOO, Tied, Twice, build


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


def rows_of(model, x):
    """What reaches each linear layer, a list of uses a layer, by plain hooks."""
    seen = {}
    hooks = [
        m.register_forward_pre_hook(lambda m, args, n=n: seen.setdefault(n, []).append(args[0].detach().flatten(0, -2)))
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", [Tied, Twice])
def test_a_weight_used_twice_is_compressed_once_on_what_both_uses_see(kind):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(40, 6)
    seen = rows_of(model, x)
    both = torch.cat(seen["a"] + seen.get("b", []))
    small, report = networks.compress_network(model, x, Grid(0.1, False), samples=1000)
    expected = compress(model.a.weight.detach().T, both, Grid(0.1, False), damping=0.01)
    assert len(both) == 80 and torch.allclose(small.a.weight.T, expected.weights, atol=1e-6)
    assert [(r.name, r.uses, r.samples) for r in report] == [("a", 2, 80), ("c", 1, 40)]
    assert "2 uses" in report[0].note and report[0].relative_error == pytest.approx(expected.relative_error, rel=1e-5)
    assert report[1].note == ""
    if kind is Tied:
        assert small.a.weight is small.b.weight
    assert model.a.weight.unique().numel() == 36


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_is_in_a_report_or_named_as_left_alone(name):
    model, x = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    small, report = networks.compress_network(model, x, Grid(1e-3), alignment=0)
    compressed = [p for layer in report for p in layer.parameters]
    alone = [entry.name for entry in report.left_alone]
    assert {*compressed, *alone} == {n for n, _ in model.named_parameters()}
    assert not {*compressed} & {*alone} and all(entry.why for entry in report.left_alone)
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    assert report.compressed_share == pytest.approx(sum(sizes[n] for n in {*compressed}) / sum(sizes.values()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items() if not key.endswith("_u"))
    # what is reported as compressed lies on the grid and is what runs; what is left alone is what it was
    mine = dict(small.named_parameters(remove_duplicate=False))
    for n, p in model.named_parameters():
        if n in alone:
            assert torch.equal(mine[n], p)
        elif n in mine:
            assert torch.allclose(mine[n] / 1e-3, (mine[n] / 1e-3).round(), atol=2e-2) and not torch.equal(mine[n], p)
    with torch.no_grad():
        right, ours = model.eval()(x), small(x)
    assert float((right - ours).norm() / right.norm()) < 0.02
    assert compressed == [] or not torch.equal(right, ours)


def test_what_is_left_alone_has_its_reason_and_share():
    model, x = build("language")
    _, report = networks.compress_network(model, x, Grid(0.1))
    assert [r.name for r in report] == ["middle"]
    why = {entry.name: (entry.shape, entry.why) for entry in report.left_alone}
    assert why["table.weight"] == ((9, 6), "last: also used as table.weight of Embedding")
    assert why["spare.weight"] == ((6, 6), "spare: did not run on the calibration batch")
    assert why["middle.bias"] == ((6,), "a vector or a bias: only matrices are compressed")
    model, x = build("experts")
    _, report = networks.compress_network(model, x, Grid(0.1))
    (experts,) = (entry for entry in report.left_alone if entry.name == "experts")
    assert experts.shape == (3, 6, 6) and "a parameter of Experts, which is no linear layer" in experts.why
    assert experts.share == 108 / (108 + 18 + 3)
    _, report = networks.compress_network(model, x, lambda w: None)
    assert len(report) == 0 and "gave None" in report.left_alone[1].why and report.compressed_share == pytest.approx(0)


@pytest.mark.parametrize("name", ["encoder layer", "cross attention"])
def test_the_projections_of_attention_are_compressed_on_what_they_see(name):
    model, x = build(name)
    model.eval()
    attend = model.self_attn if name == "encoder layer" else model.attend
    small, report = networks.compress_network(model, x, Grid(0.05, False), "none", samples=1000, damping=None)
    parts = [r.name.rpartition("attn.")[2].rpartition("attend.")[2] for r in report][:4]
    assert parts == ["in_proj.query", "in_proj.key", "in_proj.value", "out_proj"]
    assert all(r.samples == 20 for r in report)
    # by hand: the heads' outputs of the compressed projections, as torch's own function gives them
    other = small.self_attn if name == "encoder layer" else small.attend

    def heads(module):
        q = x.transpose(0, 1)
        k, v = (q, q) if name == "encoder layer" else (q[..., :4], q[..., 1:])
        own = {} if name == "encoder layer" else dict(
            use_separate_proj_weight=True, q_proj_weight=module.q_proj_weight, k_proj_weight=module.k_proj_weight,
            v_proj_weight=module.v_proj_weight,
        )  # fmt: skip
        return nn.functional.multi_head_attention_forward(
            q, k, v, 6, 2, module.in_proj_weight, module.in_proj_bias, module.bias_k, module.bias_v, False, 0.0,
            torch.eye(6), torch.zeros(6), training=False, **own,
        )[0].detach().reshape(-1, 6)  # fmt: skip

    w, q = attend.out_proj.weight.detach().T, other.out_proj.weight.detach().T
    right, ours = heads(attend) @ w, heads(other) @ q
    assert report[3].relative_error == pytest.approx(float((right - ours).norm() / right.norm()), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_keeps_its_dtype(dtype):
    model, x = build("encoder layer")
    model, x = model.to(dtype), x.to(dtype)
    small, report = networks.compress_network(model, x, networks.grids(4, True, finite=False))
    assert {p.dtype for p in small.parameters()} == {dtype} and len(report) == 6
    assert all(r.certified == 1 for r in report)


def test_mode_and_hooks_of_the_original_are_as_before():
    model, x = build("encoder layer")
    model.train()
    model.linear1.eval()
    small, _ = networks.compress_network(model, x, Grid(0.1))
    assert model.training and not model.linear1.training and not small.training
    assert not any(m._forward_pre_hooks for m in (*model.modules(), *small.modules()))


def test_a_result_of_zeros_alone_is_said_and_bad_layers_are_named(mlp):
    x = networks.digits()[0][:100]
    _, report = networks.compress_network(mlp, x, Prune(100.0, False), "none")
    assert [r.note for r in report] == ["every compressed weight is zero"] * 3
    _, report = networks.compress_network(mlp, x, Grid(0.01))
    assert [r.note for r in report] == [""] * 3
    with pytest.raises(ValueError, match=r"layer 0: OneBit"):
        networks.compress_network(mlp, x, OneBit(1e-3))
    with pytest.raises(ValueError, match=r"parameter 0.weight has no values yet"):
        networks.compress_network(nn.Sequential(nn.LazyLinear(3)), x, Grid(0.1))
    for change in (
        dict(operator="x"), dict(model=3), dict(samples=1.0), dict(seed=None), dict(certify=1), dict(scaling="1"),
        dict(failure=None), dict(damping="x"), dict(alignment=1.5), dict(feedback=None),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"^{next(iter(change))} is"):
            networks.compress_network(**(dict(model=mlp, calibration=x, operator=Grid(0.1)) | change))


def test_a_grid_of_a_network_has_the_exact_step_of_each_neuron():
    w = np.random.default_rng(0).normal(size=(300, 4))
    for bits in (1, 2, 4):
        chosen = networks.grids(bits)(w)
        assert chosen.levels == 2**bits and np.array_equal(chosen.step, best_step(w, 2**bits, axis=0))
        assert np.array_equal(networks.grids(bits, finite=False)(w).step, chosen.step)


def test_a_neuron_of_zeros_stays_one_at_every_width():
    w = np.stack([np.zeros(40), np.random.default_rng(0).normal(size=40)], axis=1)
    x = np.random.default_rng(1).normal(size=(60, 40))
    for bits, stochastic in ((1, False), (3, False), (3, True)):
        for dtype in (np.float64, np.float32):
            result = compress(w.astype(dtype), x.astype(dtype), networks.grids(bits, stochastic)(w.astype(dtype)))
            assert result.error[0] < 1e-25 < result.error[1]


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


def test_data_that_cannot_be_made_is_refused_by_name():
    for change, error in [
        (dict(kind="pink"), ValueError), (dict(kind=None), TypeError), (dict(features=1), ValueError),
        (dict(samples=2**31), ValueError), (dict(samples=2.0), TypeError), (dict(seed=-1), ValueError),
    ]:  # fmt: skip
        with pytest.raises(error, match=f"{next(iter(change))} is"):
            studies.data(**(dict(kind="white", samples=3, features=4) | change))
    assert np.array_equal(studies.data("white", np.uint8(200), np.int8(4)), studies.data("white", 200, 4))


def test_fitted_steps_and_grids_refuse_what_they_cannot_make():
    w = np.ones((3, 2))
    for call, message in [
        (lambda: networks.grids(17), "bits is 17"),
        (lambda: networks.grids(4)(np.full((3, 2), np.nan)), "x holds NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="stochastic is 1"):
        networks.grids(4, 1)
    narrow = networks.grids(np.uint8(8), True)(w)
    assert narrow.levels == 256 and np.array_equal(narrow.step, networks.grids(8, True)(w).step)


def test_a_function_that_gives_no_operator_is_named_with_its_layer():
    model = torch.nn.Sequential(torch.nn.Linear(4, 2))
    with pytest.raises(TypeError, match="operator gave 4 for layer 0"):
        networks.compress_network(model, torch.ones(8, 4), len)


def test_coverage_of_weights_on_the_grid_has_no_error_and_an_infinite_slack():
    made = studies.coverage_of(np.ones((3, 2)), np.ones((2, 5)), Grid(0.5), failure=Fraction(1, 8))
    assert made["bound_passed"] == made["certificate_passed"] == 0
    assert made["bound_slack"] == made["certificate_slack"] == np.inf and made["failure"] == 0.125
    with pytest.raises(ValueError, match=r"^sparsities\[1\] is 0"):
        studies.compare_pruners(sparsities=(0.5, 0))
