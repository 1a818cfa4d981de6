"""Layer by layer through a decoder: what each layer sees, what it becomes, and what bounds its error."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from prunequant.models import block_by_block, smollm2
from prunequant.models.block_by_block import Method, Rows, compress_in_order, record_groups, row_steps
from prunequant.models.layers import layer_seed
from prunequant.path_following import FiniteGrid, Grid, compress
from prunequant.path_following._torch import compress_tensors
from prunequant.path_following.layer import Layer, Rounding, Rule

BITS = 4


@pytest.fixture(scope="module")
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 96, (6, 32)))


@pytest.fixture(scope="module")
def model():
    return smollm2.random(smollm2.Config.tiny(), seed=1)


@pytest.fixture(scope="module")
def groups(model, tokens):
    return record_groups(smollm2.linears(model), lambda: model.features(tokens))


ROWS = Rows.choose(5 * 32, 32, 40)


def compressed(model, tokens, groups, method, seed=0, rows=ROWS):
    """(copy, report) after compressing all layers."""
    other = copy.deepcopy(model)
    steps = {name: row_steps(w, BITS) for name, w in smollm2.weights(model).items()}
    report = compress_in_order(
        smollm2.linears(other), groups, lambda: other.features(tokens), rows, method, BITS, steps, seed=seed
    )
    return other, report


def test_layers_that_read_one_tensor_share_a_group(groups):
    assert [tuple(n.split(".")[2] for n in g.names) for g in groups] == 2 * [
        ("q", "k", "v"), ("o",), ("gate", "up"), ("down",)
    ]  # fmt: skip
    assert [g.inputs.shape for g in groups[:4]] == [(192, 64), (192, 64), (192, 64), (192, 128)]


def test_the_recorded_inputs_are_what_the_layer_reads(model, tokens, groups):
    with torch.no_grad():
        seen = model.blocks[0].norm_attention(model.embedding(tokens)).flatten(0, 1)
    assert np.array_equal(groups[0].inputs, seen.numpy())


def test_a_layer_that_runs_twice_is_refused():
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="layer a runs more than once"):
        record_groups({"a": layer}, lambda: layer(layer(torch.ones(2, 3))))


def test_a_layer_that_does_not_run_is_named():
    with pytest.raises(ValueError, match="layer b does not run"):
        layer = nn.Linear(3, 3)
        record_groups({"a": layer, "b": nn.Linear(2, 2)}, lambda: layer(torch.ones(2, 3)))


def test_equal_tensors_that_are_not_one_object_are_two_groups():
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    x = torch.ones(4, 3)
    assert len(record_groups({"a": a, "b": b}, lambda: (a(x), b(x.clone())))) == 2


def test_rows_are_spread_and_held_out_rows_come_after():
    rows = Rows.choose(100, 10, 20)
    assert rows.measured[[0, -1]].tolist() == [0, 99] and set(np.diff(rows.measured)) == {5, 6}
    assert rows.held.tolist() == list(range(100, 110))


@pytest.mark.parametrize("given", [(10, 5, 11), (10, 5, 0), (10, 0, 2)])
def test_impossible_rows_are_refused(given):
    with pytest.raises(ValueError, match=r"(measured|held) is .*: it must be an integer"):
        Rows.choose(*given)


def test_the_step_of_a_row_puts_its_largest_weight_on_the_last_point():
    w = np.random.default_rng(3).standard_normal((5, 40))
    assert np.allclose(row_steps(w, 3) * 3, np.abs(w).max(axis=1))


def test_nearest_rounding_rounds_every_weight_alone_and_clips_nothing(model, tokens, groups):
    other, report = compressed(model, tokens, groups, Method("none"))
    for name, w in smollm2.weights(model).items():
        step = row_steps(w, BITS)[:, None]
        found = smollm2.weights(other)[name]
        assert np.allclose(found, np.rint(w / step) * step, atol=1e-6)
    assert all(row["saturation"] == 0 for row in report)


@pytest.mark.parametrize(
    "method", [Method("path"), Method("optq"), Method("path", alignment=1), Method("path", True, False)]
)
def test_every_layer_sees_what_the_compressed_layers_below_hand_on(model, tokens, groups, method):
    """The literal procedure: a whole forward pass for every layer, each compressed alone."""
    other, report = compressed(model, tokens, groups, method, seed=5)
    literal = copy.deepcopy(model)
    layers, weights = smollm2.linears(literal), smollm2.weights(model)
    for number, group in enumerate(groups):
        now = record_groups(layers, lambda: literal.features(tokens))[number]
        matrix = np.concatenate([weights[n] for n in group.names])
        steps = np.concatenate([row_steps(weights[n], BITS) for n in group.names])
        operator = Grid(steps) if method.stochastic else FiniteGrid(steps, 15, False)
        found = compress(
            matrix.T, group.inputs[:160], operator, method.feedback, quantized_inputs=now.inputs[:160],
            alignment=method.alignment, damping=0.01, seed=layer_seed(5, number),
        ).weights.T  # fmt: skip
        parts = np.split(found, np.cumsum([len(weights[n]) for n in group.names])[:-1])
        smollm2.set_weights(literal, dict(zip(group.names, parts)))
    for name, w in smollm2.weights(other).items():
        assert np.array_equal(w, smollm2.weights(literal)[name]), name
    assert [row["layer"] for row in report] == [n for g in groups for n in g.names]


def test_reported_errors_are_those_of_the_outputs(model, tokens, groups):
    other, report = compressed(model, tokens, groups, Method("path"))
    after = record_groups(smollm2.linears(other), lambda: other.features(tokens))
    w, q = (smollm2.weights(m)["blocks.1.down"].T.astype(np.float64) for m in (model, other))
    x, y = groups[-1].inputs[ROWS.measured], after[-1].inputs[ROWS.measured]
    assert report[-1]["error"] == pytest.approx(np.linalg.norm(x @ w - y @ q) / np.linalg.norm(x @ w), rel=1e-4)
    assert report[-1]["own"] == pytest.approx(np.linalg.norm(y @ (w - q)) / np.linalg.norm(y @ w), rel=1e-4)
    x, y = groups[-1].inputs[ROWS.held], after[-1].inputs[ROWS.held]
    assert report[-1]["held_error"] == pytest.approx(np.linalg.norm(x @ w - y @ q) / np.linalg.norm(x @ w), rel=1e-4)


@pytest.mark.parametrize("alignment", [0, 1])
def test_bounds_on_all_calibration_tokens_are_the_certificate_of_the_result(alignment):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((60, 24))
    y = x + 0.1 * rng.standard_normal(x.shape)
    w = rng.standard_normal((24, 5))
    result = compress(w, x, Grid(np.full(5, 0.2)), quantized_inputs=y, alignment=alignment, damping=0.01, failure=0.003)
    bounds, known, random = block_by_block.certified_bounds(result, Rows.choose(60, 1, 60), np.full(5, 0.003))
    assert np.allclose(bounds, result.certificate, rtol=1e-12)
    assert np.all(known < bounds) and np.all(random < bounds)


def test_every_layer_is_below_its_certificate_for_many_coins(model, tokens, groups):
    above = alone = 0
    for seed in range(4):
        _, report = compressed(model, tokens, groups, Method("path", True, False), seed=seed)
        above += sum(row["above"] for row in report)
        alone += sum(row["above_alone"] for row in report)
        assert all(row["closest"] < 1 and row["slack"] > 1 and 0 <= row["known"] < 1 for row in report)
    assert above == 0
    assert alone > 0  # without the part that is known beforehand the bound would be false


def test_the_original_is_not_touched(model, tokens, groups):
    before = smollm2.weights(model)
    compressed(model, tokens, groups, Method("optq"))
    assert all(np.array_equal(before[n], w) for n, w in smollm2.weights(model).items())


def test_hooks_are_gone_after_an_error(model):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        record_groups(smollm2.linears(model), fail)
    assert not any(layer._forward_pre_hooks for layer in smollm2.linears(model).values())


@pytest.mark.parametrize("method", [Method("path", True, False), Method("optq"), Method("path", alignment=1)])
def test_the_rounding_of_a_gpu_gives_the_same_model_up_to_a_few_choices(model, tokens, groups, method, monkeypatch):
    expected, plain = compressed(model, tokens, groups, method)

    def on_device(weights, inputs, operator, feedback, quantized_inputs, alignment, damping, seed):
        layer = Layer(weights, inputs, quantized_inputs, Rule(feedback, alignment=alignment, damping=damping))
        rounding = Rounding(operator, seed)
        return compress_tensors(layer, rounding, rounding.sizes(layer))

    monkeypatch.setattr(block_by_block, "compress", on_device)
    found, report = compressed(model, tokens, groups, method)
    for name, w in smollm2.weights(found).items():
        assert np.mean(np.abs(w - smollm2.weights(expected)[name]) > 1e-3) < 0.02, name
    assert all(a["error"] == pytest.approx(b["error"], rel=0.05) for a, b in zip(report, plain))
    assert sum(row.get("above", 0) for row in report) == 0


def test_layers_in_bfloat16_are_compressed_and_certified():
    torch.manual_seed(0)
    own = nn.ModuleDict({"a": nn.Linear(12, 8), "b": nn.Linear(8, 4)}).bfloat16()
    x = torch.randn(60, 12).bfloat16()
    before = {n: layer.weight.detach().clone() for n, layer in own.items()}

    def forward():
        return own["b"](torch.relu(own["a"](x)))

    groups = record_groups(own, forward)
    steps = {n: row_steps(layer.weight.detach().float().numpy(), 6) for n, layer in own.items()}
    method = Method("path", stochastic=True, finite=False)
    report = compress_in_order(own, groups, forward, Rows.choose(50, 10, 20), method, 6, steps)
    assert [row["layer"] for row in report] == ["a", "b"] and all(row["above"] == 0 for row in report)
    for n, layer in own.items():
        assert layer.weight.dtype == torch.bfloat16 and not torch.equal(layer.weight, before[n])
