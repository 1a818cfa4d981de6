"""A torch module stored by a scheme: every kind of layer, every tensor named, what it loses said as it is."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from prunequant import models
from prunequant.checkpoint.methods import METHODS, Settings, code_matrix
from prunequant.checkpoint.schemes import Scheme
from prunequant.models.calibration import Grams
from prunequant.models.inventory import Inventory
from zoo import ZOO, Conv1D, Tied, Twice, build


def answers(module, x):
    with torch.no_grad():
        return module.eval()(x)


@pytest.mark.parametrize("name", ZOO)
def test_every_tensor_is_in_a_report_or_named_as_untreated_and_what_runs_is_the_decoded_scheme(name):
    model, x = build(name)
    model.eval()  # spectral norm moves its vectors in training
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        small = models.compress(model, [x], scheme="INT8 channel")
    except ValueError as error:
        assert name in ("three axes", "bilinear") and "no layers that are known" in str(error)
        return
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    compressed = [p for layer in small.layers for p in layer.parameters]
    alone = [entry.name for entry in small.untreated]
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    assert {*compressed, *alone} == {*parameters, *buffers} and not {*compressed} & {*alone}
    assert all(entry.why for entry in small.untreated)
    sizes = {n: t.nbytes for n, t in (parameters | buffers).items()}
    done = sum(sizes[n] for n in {*compressed})
    assert sum(entry.share for entry in small.untreated) == pytest.approx(1 - done / sum(sizes.values()))
    assert sum(layer.nbytes for layer in small.layers) <= done and small.bytes_after < small.bytes_before
    now = dict(small.module.named_parameters())
    assert all(torch.equal(now[n], parameters[n]) for n in alone if n in parameters)
    right, ours = answers(model, x), answers(small.module, x)
    assert 0 < float((right - ours).norm() / right.norm()) < 0.03
    for layer in small.layers:
        assert layer.samples > 0 and layer.uses > 0 and layer.snr > 35 and layer.output_snr > 25
        assert layer.bits == layer.weights * 8 + layer.rows * 16 and math.isnan(layer.held_out_snr)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["INT4 g8", "2:4 INT4 channel", "50% FP16", "MXFP4"])
def test_a_linear_layer_gets_what_the_scheme_gives_its_matrix(method, scheme):
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 12), torch.randn(50, 16)
    batches = [x[:20], (x[20:],)]
    gram = models.input_grams(layer, batches)["weight.gram"]  # to the last bit: methods decide by thresholds
    assert np.allclose(gram, x.double().T @ x.double())
    try:
        coded = code_matrix(layer.weight.detach().numpy(), Scheme.named(scheme), Settings(method), gram)
    except ValueError as error:  # a method that is not for every scheme: then it is not for this layer, by name
        with pytest.raises(ValueError, match="layer ") as raised:
            models.compress(layer, batches, scheme=scheme, method=method)
        assert str(raised.value) == str(error).replace("weights", "layer ", 1)
        return
    small = models.compress(layer, batches, scheme=scheme, method=method)
    assert np.array_equal(small.module.weight.detach().numpy(), coded.decode())
    (report,) = small.layers
    lost = (layer.weight - small.module.weight).detach().double()
    wrong, right = (x.double() @ lost.T).norm(), (x.double() @ layer.weight.detach().double().T).norm()
    assert report.output_snr == pytest.approx(20 * math.log10(right / wrong), abs=1e-6)
    assert report.snr == pytest.approx(20 * math.log10(layer.weight.detach().norm() / lost.norm()), abs=1e-4)
    assert report.zeros == float((small.module.weight == 0).double().mean()) and report.samples == 50
    assert report.bits == Scheme.named(scheme).stored_bits(12, 16)


@pytest.mark.parametrize(
    ("scheme", "columns", "note"),
    [
        ("INT4 g128", 100, "the last group of each row has 100 values, not 128"),
        ("INT4 g32", 100, "the last group of each row has 4 values, not 32"),
        ("MXFP4", 40, "the last group of each row has 8 values, not 32"),
        ("INT4 g32", 64, ""),
        ("INT4 channel", 100, ""),
        ("INT4 tensor", 100, ""),
        ("FP16", 100, ""),
    ],
)
def test_a_row_that_does_not_fill_its_last_group_is_said_so(scheme, columns, note):
    torch.manual_seed(0)
    (layer,) = models.compress(nn.Linear(columns, 3), scheme=scheme).layers
    assert layer.note == note


def test_a_weight_that_is_stored_transposed_is_grouped_along_its_inputs():
    torch.manual_seed(0)
    layer, x = Conv1D(12, 16), torch.randn(50, 16)
    small = models.compress(layer, [x], scheme="50% INT4 g8", method="wanda")
    gram = (x.double().T @ x.double()).numpy()
    coded = code_matrix(layer.weight.detach().numpy().T, Scheme.named("50% INT4 g8"), Settings("wanda"), gram)
    assert np.array_equal(small.module.weight.detach().numpy().T, coded.decode())
    assert (small.layers[0].rows, small.layers[0].columns, small.layers[0].kind) == (12, 16, "Conv1D")


@pytest.mark.parametrize("kind", [Tied, Twice])
def test_a_weight_used_twice_is_compressed_once_for_what_both_uses_see(kind):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(40, 6)
    second = torch.relu(model.a(x))
    both = torch.cat([x, second]).detach().double()
    inventory = Inventory(model)
    grams = Grams(inventory.key)
    grams.collect(model, inventory.open, [x])
    assert np.allclose(grams.matrices[inventory.key["a"]][0], both.T @ both, rtol=1e-6)
    small = models.compress(model, [x], scheme="50% INT4 channel", method="wanda")
    coded = code_matrix(
        model.a.weight.detach().numpy(), Scheme.named("50% INT4 channel"), Settings("wanda"), (both.T @ both).numpy()
    )
    assert np.array_equal(small.module.a.weight.detach().numpy(), coded.decode())
    first = small.layers[0]
    assert (first.name, first.uses, first.samples) == ("a", 2, 80) and "2 uses" in first.note
    assert [layer.name for layer in small.layers] == ["a", "c"]
    if kind is Tied:
        assert small.module.a.weight is small.module.b.weight


def test_groups_of_a_convolution_are_matrices_of_their_own_to_a_method_that_looks_at_inputs():
    torch.manual_seed(0)
    model, x = nn.Conv2d(4, 6, 3, groups=2, bias=False), torch.randn(3, 4, 6, 6)
    scheme = Scheme.named("50% INT4 channel")
    small = models.compress(model, [x], scheme=scheme.name, method="wanda")
    patches = nn.functional.unfold(x, 3).transpose(1, 2).reshape(-1, 2, 18).double()
    for group in range(2):
        w = model.weight.detach().reshape(2, 3, 18)[group].numpy()
        gram = (patches[:, group].T @ patches[:, group]).numpy()
        expected = code_matrix(w, scheme, Settings("wanda"), gram).decode()
        assert np.array_equal(small.module.weight.detach().reshape(2, 3, 18)[group].numpy(), expected)
    lost = (answers(model, x) - answers(small.module, x)).double()
    snr = 20 * math.log10(answers(model, x).double().norm() / lost.norm())
    assert small.layers[0].output_snr == pytest.approx(snr, abs=1e-3)
    assert small.layers[0].bits == 2 * scheme.stored_bits(3, 18)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_module_keeps_its_dtype_and_reports_what_it_really_computes_with(dtype):
    model, x = build("encoder layer")
    model, x = model.to(dtype), x.to(dtype)
    small = models.compress(model, [x], scheme="INT4 channel")
    assert {p.dtype for p in small.module.parameters()} == {dtype} and len(small.layers) == 6
    layer = next(layer for layer in small.layers if layer.name == "linear1")
    before, after = model.linear1.weight.detach().double(), small.module.linear1.weight.detach().double()
    assert layer.snr == pytest.approx(20 * math.log10(before.norm() / (before - after).norm()), abs=1e-6)


def test_two_of_four_stays_two_of_four_in_every_dtype_and_what_does_not_fit_is_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(128, 16)).bfloat16()
    small = models.compress(model, [torch.randn(4, 1, 6, 6).bfloat16()], scheme="2:4 INT4 g128")
    groups = small.module[2].weight.reshape(-1, 4).count_nonzero(1)
    assert int(groups.max()) == 2
    entry = next(entry for entry in small.untreated if entry.name == "0.weight")
    assert "rows of 9 values are no whole number of groups of 4" in entry.why and entry.nbytes == 144
    with pytest.raises(ValueError, match=r"the plan gives 2:4 FP16 for layer 0: rows of 9"):
        models.compress(model, scheme={"0": "2:4 FP16"})


@pytest.mark.parametrize(("grid", "shift"), [("zero point", 4), ("minimum", 16), ("signed", 0)])
def test_the_shift_of_a_grid_that_is_not_symmetric_is_charged(grid, shift):
    torch.manual_seed(0)
    layer = nn.Linear(64, 8)
    small = models.compress(layer, scheme="INT4 g32", method=Settings(grid=grid))
    assert small.layers[0].bits == 8 * (64 * 4 + 2 * (16 + shift)) and 0 < small.layers[0].saturation < 0.5


def test_a_plan_names_layers_or_parameters_and_the_rest_is_left_alone():
    model, x = build("encoder layer")
    plan = {"self_attn.in_proj_weight": "INT8 channel", "linear2": "NF4", "linear1.weight": "INT4 channel"}
    small = models.compress(model, [x], scheme=plan)
    assert {layer.name: layer.scheme for layer in small.layers} == {
        "self_attn.in_proj.query": "INT8 channel",
        "self_attn.in_proj.key": "INT8 channel",
        "self_attn.in_proj.value": "INT8 channel",
        "linear1": "INT4 channel",
        "linear2": "NF4",
    }
    why = {entry.name: entry.why for entry in small.untreated}
    assert why["self_attn.out_proj.weight"] == "self_attn.out_proj: the plan does not name it"
    with pytest.raises(ValueError, match="the plan names linear3: the module has no such layer"):
        models.compress(model, [x], scheme={**plan, "linear3": "NF4"})


def test_one_pass_over_batches_of_every_form_and_a_second_over_those_held_out():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(30, 16)
    forms = iter([x[:10], (x[10:20],), {"input": x[20:]}])
    small = models.compress(model, forms, scheme="INT4 channel", held_out=[torch.randn(50, 16)])
    assert [layer.samples for layer in small.layers] == [30, 30]
    assert all(abs(layer.held_out_snr - layer.output_snr) < 6 for layer in small.layers)
    labelled = [(x, torch.zeros(30))]
    again = models.compress(model, labelled, scheme="INT4 channel", forward=lambda module, batch: module(batch[0]))
    assert torch.equal(again.module[0].weight, small.module[0].weight)
    told = []
    alone = models.compress(model, scheme="INT4 channel", progress=lambda *step: told.append(step))
    assert torch.equal(alone.module[0].weight, small.module[0].weight)
    assert all(math.isnan(layer.output_snr) and layer.uses == 0 for layer in alone.layers)
    assert told == [(0, 2, "0"), (1, 2, "2"), (2, 2, "")]


def test_rows_are_drawn_by_the_seed_and_layers_that_share_an_input_share_the_draw():
    model, x = build("encoder layer")
    grams = []
    for seed in (0, 0, 1):
        inventory = Inventory(model)
        collected = Grams(inventory.key, samples=7, seed=seed)
        collected.collect(model, inventory.open, [x, x])
        assert set(collected.rows.values()) == {14}
        grams.append({site.name: collected.matrices[site.key] for site in inventory.sites})
    assert all(np.array_equal(grams[0][name], grams[1][name]) for name in grams[0])
    assert not np.array_equal(grams[0]["linear1"], grams[2]["linear1"])
    assert np.array_equal(grams[0]["self_attn.in_proj.query"], grams[0]["self_attn.in_proj.value"])
    parts = [f"self_attn.in_proj.{part}" for part in ("query", "key", "value")]
    assert collected.stages == [parts, ["self_attn.out_proj"], ["linear1"], ["linear2"]]


def test_a_layer_may_be_compressed_for_what_the_compressed_layers_before_it_hand_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 8))
    batches, scheme = [torch.randn(40, 16), torch.randn(30, 16)], "50% INT4 channel"
    small = models.compress(model, batches, scheme=scheme, method="wanda", inputs="compressed")
    x = torch.cat(batches)
    for k in (0, 2, 4):
        gram = (x.double().T @ x.double()).numpy()
        w = model[k].weight.detach().numpy()
        expected = code_matrix(w, Scheme.named(scheme), Settings("wanda"), gram).decode()
        assert np.array_equal(small.module[k].weight.detach().numpy(), expected)
        with torch.no_grad():
            x = torch.relu(small.module[k](x))
    again = models.compress(model, iter(batches), scheme=scheme, method="wanda", inputs="compressed", in_place=True)
    assert again.module is model and torch.equal(model[4].weight, small.module[4].weight)
    assert [layer.row() for layer in again.layers] == [layer.row() for layer in small.layers]


@pytest.mark.parametrize(
    "name", ["encoder", "cross attention", "twice", "tied", "weight norm", "decoder layer", "no batch"]
)
def test_every_kind_of_module_can_be_compressed_in_the_order_in_which_it_runs(name):
    model, x = build(name)
    parts = [models.compress(model, [x], scheme="INT8 channel", inputs=inputs) for inputs in ("original", "compressed")]
    first, second = (list(small.module.parameters()) for small in parts)
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))  # to nearest, whatever a layer sees
    assert str(parts[0].layers) == str(parts[1].layers) and str(parts[0].untreated) == str(parts[1].untreated)


def test_in_place_changes_the_module_and_only_when_every_layer_is_done():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4)), torch.randn(9, 16)
    model.train()
    expected = models.compress(model, [x], scheme="INT4 channel").module
    assert expected.training and expected is not model
    broken = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
    with torch.no_grad():
        broken[1].weight.fill_(1e-12)
    kept = broken[0].weight.clone()
    with pytest.raises(ValueError, match="layer 1 would be all zero by FP16"):
        models.compress(broken, scheme="FP16", in_place=True)
    assert torch.equal(broken[0].weight, kept)
    small = models.compress(model, [x], scheme="INT4 channel", in_place=True)
    assert small.module is model and torch.equal(model[1].weight, expected[1].weight)


def test_parametrized_weights_of_a_module_in_place_become_plain_parameters():
    model, x = build("weight norm")
    right = answers(model, x)
    small = models.compress(model, [x], scheme="INT8 channel", in_place=True)
    assert small.module is model and isinstance(model[0].weight, nn.Parameter)
    assert small.layers[0].parameters == (
        "0.parametrizations.weight.original0", "0.parametrizations.weight.original1",
    )  # fmt: skip
    assert 0 < float((right - answers(model, x)).norm() / right.norm()) < 0.02


def test_weights_that_are_not_numbers_are_left_alone_and_inputs_that_are_not_are_an_error():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.ones(3, 4)
    with torch.no_grad():
        model[1].weight[1, 2] = math.nan
    small = models.compress(model, [x], scheme="INT8 channel")
    assert next(e.why for e in small.untreated if e.name == "1.weight") == "1: it holds NaN or infinity"
    x[1, 1] = math.inf
    with pytest.raises(ValueError, match="layer 0 sees NaN or infinity in batch 2 of batches"):
        models.compress(model, [torch.ones(3, 4), x], scheme="INT8 channel")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(batches=torch.ones(3, 4)), TypeError, "batches is .*such as a list"),
        (dict(batches=5), TypeError, "batches is 5"),
        (dict(batches=[5]), TypeError, r"batches\[0\] is 5"),
        (dict(batches=[torch.ones(3, 4), 5]), TypeError, r"batches\[1\] is 5"),
        (dict(batches=[{"x": 1}]), TypeError, "batch is .*: the module does not take it"),
        (dict(held_out=[[1, 2]]), TypeError, r"held_out\[0\]: batch is \[1, 2\]: the module does not take it"),
        (dict(held_out=[5]), TypeError, r"held_out\[0\] is 5"),
        (dict(held_out=[torch.full((3, 4), math.inf)]), ValueError, "infinity in batch 1 of held_out"),
        (dict(forward=3), TypeError, "forward is 3: it must be a function of a module and a batch"),
        (dict(progress="all"), TypeError, "progress is 'all': it must be a function"),
        (dict(held_out=torch.ones(3, 4)), TypeError, "held_out is"),
        (dict(scheme="INT9 channel"), ValueError, "scheme is 'INT9 channel'"),
        (dict(scheme=4), TypeError, "scheme is 4"),
        (dict(method="gptq!"), ValueError, "method is 'gptq!'"),
        (dict(method="wanda", batches=None), ValueError, "method is 'wanda', which looks at inputs: give batches"),
        (dict(batches=None, inputs="compressed"), ValueError, "inputs is 'compressed', which looks at inputs"),
        (dict(inputs="both"), ValueError, "inputs is 'both'"),
        (dict(samples=0), ValueError, "samples is 0"),
        (dict(seed=-1), ValueError, "seed is -1"),
        (dict(in_place=1), TypeError, "in_place is 1"),
        (dict(module=nn.Linear), TypeError, "module is"),
        (dict(module=nn.ReLU()), ValueError, "no layer is to be compressed: the module has no layers that are known"),
        (dict(module=nn.LazyLinear(3)), ValueError, "parameter weight has no values yet"),
        (dict(scheme={}), ValueError, "scheme is an empty plan"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(change, error, message):
    given = dict(module=nn.Linear(4, 2), batches=[torch.ones(3, 4)], scheme="INT8 channel") | change
    with pytest.raises(error, match=message):
        models.compress(given.pop("module"), given.pop("batches"), **given)


def test_grams_of_a_live_module_go_by_the_names_of_its_parameters():
    model, x = build("encoder layer")
    grams = models.input_grams(model, [x, x])
    rows = x.reshape(-1, 6).double().numpy()
    assert np.allclose(grams["self_attn.in_proj_weight.gram"], 2 * rows.T @ rows)
    assert set(grams) == {
        f"{name}.weight.gram" for name in ("linear1", "linear2", "self_attn.out_proj")
    } | {"self_attn.in_proj_weight.gram"}  # fmt: skip
    model, x = build("decoder layer")  # its second attention sees two tensors by one parameter
    names = set(models.input_grams(model, [x]))
    assert "inner.self_attn.in_proj_weight.gram" in names and "inner.multihead_attn.in_proj_weight.gram" not in names
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 1, 2))
    assert set(models.input_grams(grouped, [torch.randn(2, 2, 6, 6)])) == {"1.weight.gram"}


@pytest.mark.parametrize("scheme", ["INT4 g8", "2:4 INT4 channel", "2:4 FP16", "NVFP4"])
@pytest.mark.parametrize("method", ["nearest", "path", "optq"])
def test_every_layer_says_what_vouches_for_it_and_path_following_keeps_what_it_certifies(method, scheme):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Unflatten(1, (4, 3)), nn.Conv1d(4, 8, 2, groups=2))
    plan = {"0": scheme, "3": "INT4 channel"}
    small = models.compress(module, [torch.randn(50, 16)], scheme=plan, method=method)
    for layer in small.layers:
        certified = method == "path" and layer.scheme != "NVFP4"  # whose blocks are rounded to nearest
        assert layer.certificate == ("path following" if certified else "measured")
        if certified:
            assert layer.output_snr - 25 < layer.certified_snr <= layer.output_snr + 1e-6
        else:
            assert math.isnan(layer.certified_snr) and math.isfinite(layer.output_snr)
    if method == "nearest":
        (layer, _) = models.compress(module, scheme="INT4 channel").layers
        assert layer.certificate == "weights" and math.isnan(layer.output_snr) and math.isfinite(layer.snr)
