"""Courses of representations: what is watched is what the case trains, and watching changes nothing."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prunequant.cases.lsq_against_pruning import case  # noqa: E402
from prunequant.cases.lsq_against_pruning import record as lsq_record  # noqa: E402
from prunequant.cases.runner import Run  # noqa: E402
from prunequant.models import images, small  # noqa: E402
from prunequant.studies import lsq_representations as courses  # noqa: E402
from prunequant.studies import runner  # noqa: E402


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Six steps on a handful of images in place of hundreds on thousands."""
    rng = np.random.default_rng(0)
    few = [np.clip(rng.normal(20 * k, 30, (60, 28, 28)), 0, 255).astype(np.uint8) for k in range(10)]
    monkeypatch.setattr(images, "fashion_part", lambda part, folder: images.part_of(few, part, 40, 20))
    for model in courses.MODELS:
        preset = courses.PRESETS[f"converged_{model}"]
        own = {**preset["models"][model], "dense_steps": 3, "steps": 6}
        tiny = {**preset, "models": {model: own}, "reestimate": 2, "batch": 16, "inputs": 15}
        monkeypatch.setitem(courses.PRESETS, f"converged_{model}", tiny)
    return {"data": str(tmp_path), "folder": str(tmp_path)}


def row(model, method, schedule="none", bits=2, **short):
    rate = {"lsq": 1e-3, "tuned": 1e-3, "pruning": 3e-3, "fresh": 0.0}[method]
    return courses.course_unit(model, method, schedule, bits, rate, 0, **short)


def by_the_case(model, method, bits, rate, short):
    """The row that the case itself gives, at the same rate."""
    settings = {**courses.PRESETS[f"converged_{model}"], "checkpoints": 0, "watch": [1.0]}
    own = {**settings["models"][model], "fine_rate": {method: {str(bits): rate}}}
    settings = {**settings, "models": {model: own}}
    unit = {"model": model, "method": method, "bits": bits, "mask": "free", "length": 1}
    return case.run_unit(settings, unit, 0, Run("cpu", short["data"], courses.Path(short["folder"]), lambda *a: None))


def test_a_network_is_watched_after_every_half_of_a_pass_over_the_images_and_at_the_end():
    for count, batch, steps in ((9000, 64, 600), (40, 16, 6), (40, 16, 1), (10, 64, 3), (7, 2, 7)):
        seen = [s for s in range(1, steps) if any(s == round(k * count / batch / 2) for k in range(1, 20 * steps))]
        assert courses.points(count, batch, steps) == [*seen, steps]
    with pytest.raises(ValueError, match="steps is 0"):
        courses.points(10, 1, 0)


@pytest.mark.parametrize("model", courses.MODELS)
def test_what_the_classifier_is_given_is_what_it_makes_its_answers_from(model):
    torch.manual_seed(0)
    network = small.build(courses.PRESETS[f"converged_{model}"]["models"][model]["network"], 28).eval()
    x = torch.rand(5, 1, 28, 28)
    found = courses.outputs(network, small.layers(network), x)
    assert list(found) == [*small.layers(network), "block", "pooled"]
    assert torch.allclose(network.head(found["pooled"]), network(x), atol=1e-6)
    if model == "resnet":
        assert torch.allclose(found["block"].view(5, 32, -1).mean(2), found["pooled"], atol=1e-6)


@pytest.mark.parametrize("model", courses.MODELS)
@pytest.mark.parametrize(
    ("method", "schedule", "bits"), [("lsq", "none", 2), ("pruning", "gradual", 2), ("tuned", "none", 16)]
)
def test_a_course_ends_where_the_run_of_the_case_ends(model, method, schedule, bits, short):
    found = row(model, method, schedule, bits, **short)
    theirs = by_the_case(model, method, bits, {"pruning": 3e-3}.get(method, 1e-3), short)
    end = found["watch"][-1]
    assert end["loss"] == pytest.approx(theirs["loss"], rel=1e-5)  # the order of sums may differ
    assert end["step"] == theirs["steps"] == found["steps"]
    assert end["cka"] == pytest.approx(theirs["cka"], abs=1e-5)
    assert end["snr"] == pytest.approx(theirs["output_snr"], abs=1e-3)
    assert found["bits_per_weight"] == theirs["bits_per_weight"] and found["inner"] == theirs["inner"]
    if method == "lsq":
        assert found["stale"]["loss"] == pytest.approx(theirs["watch"][0]["loss"], rel=1e-5)
    else:
        assert found["dense_loss"] == pytest.approx(theirs["watch"][0]["loss"], rel=1e-5)


@pytest.mark.parametrize("model", courses.MODELS)
def test_what_is_pruned_in_one_shot_is_the_smallest_of_the_dense_network_and_stays_pruned(model, short, monkeypatch):
    seen, whole = [], case.half

    def watched(network, names):
        whole(network, names)
        seen.append({n: network.get_submodule(n).weight.detach().clone() for n in names})

    monkeypatch.setattr(case, "half", watched)
    found = row(model, "pruning", "once", **short)
    settings = courses.PRESETS[f"converged_{model}"]
    run = Run("cpu", short["data"], courses.Path(short["folder"]), lambda *a: None)
    dense = case.dense(settings, model, 0, run, case.task(settings, 0, run))
    assert [w["step"] for w in found["watch"]] == [0, *courses.points(40 * 10, 16, 6)]
    for name, count, kept, inner in zip(found["layers"], found["weights"], found["kept"], found["inner"]):
        original = dense.get_submodule(name).weight.detach()
        assert kept == lsq_record.keep(count, 2 if inner else 8, "free")
        largest = original.abs().flatten().sort(descending=True).values[:kept]
        first = seen[0][name]
        assert torch.equal(first.abs().flatten().sort(descending=True).values[:kept], largest.half().float())
        assert all(torch.equal(w[name] == 0, first == 0) for w in seen)
    assert not torch.equal(seen[0][found["layers"][0]], seen[-1][found["layers"][0]])


def test_an_untrained_network_is_another_one_and_a_dense_one_is_its_own(short):
    fresh, tuned = row("resnet", "fresh", bits=16, **short), row("resnet", "tuned", bits=16, **short)
    assert len(fresh["watch"]) == 1 and fresh["watch"][0]["pooled_cka"] < 0.999 < tuned["watch"][0]["pooled_cka"]
    assert tuned["watch"][0]["pooled_snr"] > 50 and fresh["dense_loss"] == tuned["dense_loss"]


def test_the_record_has_every_cell_and_names_no_place(short, tmp_path):
    record = runner.run_study("lsq-representations", {"data": tmp_path, "seeds": 1, "models": ("vit",), "bits": (3, 4)})
    assert str(tmp_path) not in str(record)
    assert record["settings"]["vit"]["task"] == "fashion-part"
    got = [(r["method"], r["schedule"], r["bits"]) for r in record["rows"]]
    fewest = [("lsq", "none", 3), ("pruning", "once", 3), ("pruning", "gradual", 3)]
    more = [("lsq", "none", 4), ("pruning", "once", 4)]
    assert got == [("fresh", "none", 16), ("tuned", "none", 16), *fewest, *more, fewest[0]]
    rates = courses.PRESETS["converged_vit"]["models"]["vit"]["fine_rate"]
    assert [r["rate"] for r in record["rows"]][2:] == [
        *(rates[m]["3"] for m in ("lsq", "pruning", "pruning")), *(rates[m]["4"] for m in ("lsq", "pruning")),
        rates["pruning"]["3"],
    ]  # fmt: skip


def test_bits_without_a_rate_and_networks_without_a_preset_are_refused():
    with pytest.raises(ValueError, match="bits holds 5"):
        courses.asked("vit", (2, 5))
    with pytest.raises(ValueError, match="model"):
        courses.asked("perceptron", (2,))
