import numpy as np
import pytest
import torch

from prunequant.cases import runner as cases
from prunequant.cases.order_in_a_language_model import case as order
from prunequant.cases.order_in_a_language_model import summary as order_summary
from prunequant.cases.runner import Run, run_case
from prunequant.formats import named, names
from prunequant.interplay.orders import apply_orders
from prunequant.models import corpus, smollm2

NAME = "order-in-a-language-model"
TINY = {"model": "bytes", "recover": 4, "steps": 3, "batch": [2, 16], "few": 4, "windows": 4, "at_once": 4,
        "formats": ["INT4"], "patterns": ["0.3"], "joint_patterns": ["0.3"], "destroyed": ["2:4"],
        "destroyed_formats": ["INT4"], "seed_patterns": ["0.3"], "seed_formats": ["INT4"], "tie_formats": ["INT4"],
        "tuned": {"2:4": ["MXFP4"]}, "tuned_thresholds": ["2:4"], "tuned_joint": ["MXFP4"], "shares": 1,
        "afterwards": ["MXFP4"], "inputs": ["MXFP4"]}  # fmt: skip


@pytest.fixture(scope="module")
def record():
    return run_case(NAME, "gpu", seeds=2, device="cpu", threads=1, settings=TINY)


def test_the_gpu_preset_runs_end_to_end_at_a_tiny_size(record):
    parts = [row["part"] for row in record["rows"]]
    assert parts.count("tuned") == 2 * 9 and set(record["summary"]) == {
        "shipped",
        "destroyed",
        "seeds",
        "tuned",
        "grid",
    }
    assert record["settings"]["amp"] is True and record["settings"]["steps"] == 3
    for row in record["rows"]:
        for losses in row.get("losses", {}).values():
            assert len(losses) == 4 and np.all(np.isfinite(losses))
    (tuned,) = record["summary"]["tuned"]
    assert (
        set(tuned["nats"]) == {"d", "s", "q", "sq", "qs", "joint", "s then q", "s then qa", "qs a"}
        and tuned["seeds"] == 2
    )
    assert {f"{one} minus {other}" for one, other in order_summary.PROTOCOLS} <= set(tuned)


def test_the_units_of_a_seed_side_by_side_give_the_rows_of_one_process(record, tmp_path):
    out = tmp_path / "record.json"
    beside = run_case(NAME, "gpu", seeds=2, device="cpu", threads=1, settings=TINY, jobs=4, out=out)
    assert [r.get("losses") for r in beside["rows"]] == [r.get("losses") for r in record["rows"]]
    assert beside["keys"] == record["keys"] and [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_run_is_the_same_twice(record):
    again = run_case(NAME, "gpu", seeds=1, device="cpu", threads=1, settings=TINY)
    assert [r["losses"] for r in again["rows"]] == [r["losses"] for r in record["rows"] if r["seed"] == 0]


@pytest.mark.parametrize("preset", ["ci", "cpu", "gpu"])
def test_every_preset_names_known_formats_and_each_unit_once(preset):
    settings = order.PRESETS[preset]
    assert settings["seeds"] >= {"ci": 2, "cpu": 5, "gpu": 4}[preset]
    units = order.units(settings)
    assert len({tuple(sorted(u.items())) for u in units}) == len(units)
    assert {u["format"] for u in units} <= {"", *names()}
    for pattern in settings["seed_patterns"]:
        kinds = [order._kinds(settings, u) for u in units if u["part"] == "seeds" and u["pattern"] == pattern]
        assert all({"sq", "qs"} <= set(k) for k in kinds[1:])


def test_the_cpu_preset_has_all_formats_and_usable_sparsities():
    assert set(order.PRESETS["cpu"]["formats"]) == set(order.SEVEN) and len(order.SEVEN) == 7
    assert order.PRESETS["cpu"]["patterns"] == ("0.1", "0.2", "0.3")


def test_compressed_weights_are_those_of_the_orders():
    dense = {"a": np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)}
    for kind, which, ties in (("sq", "sq", "first"), ("qs", "qs", "first"), ("qs magnitude", "qs", "magnitude")):
        expected = apply_orders(dense["a"], named("MXFP4"), "2:4", (which,), ties).compressed[which]
        np.testing.assert_array_equal(order.compressed(dense, "MXFP4", "2:4", kind)["a"], expected)
    both = apply_orders(dense["a"], named("INT4"), 0.3)
    np.testing.assert_array_equal(order.compressed(dense, "INT4", "0.3", "s")["a"], both.pruned)
    np.testing.assert_array_equal(order.compressed(dense, "INT4", "", "q")["a"], both.quantized)
    assert order.compressed(dense, "", "", "d") == dense


def test_noise_of_the_grid_stays_in_the_cell_and_breaks_ties(monkeypatch):
    rng = np.random.default_rng(1)
    spacing = {"blocks.0.q": np.full((40, 32), 0.5, np.float32)}
    stored = {"blocks.0.q": (0.5 * rng.integers(-7, 8, (40, 32)) + 0.1).astype(np.float32)}
    monkeypatch.setattr(smollm2, "grid", lambda: spacing)
    monkeypatch.setattr(order, "_shipped", lambda: (None, stored))
    order._dithered.cache_clear()
    a, b = order._dithered(0), order._dithered(1)
    order._dithered.cache_clear()
    moved = a["blocks.0.q"] - stored["blocks.0.q"]
    assert (
        np.abs(moved).max() <= 0.25
        and abs(moved.mean()) < 0.02
        and not np.array_equal(a["blocks.0.q"], b["blocks.0.q"])
    )
    assert order.boundary_ties(stored.values()) > 0.02 and order.boundary_ties(a.values()) == 0


def test_other_seeds_have_no_shipped_weights_and_read_other_windows(tmp_path):
    run = Run("cpu", None, tmp_path, lambda *a: None)
    unit = {"part": "shipped", "pattern": "0.3", "format": "INT4"}
    assert order.run(order.PRESETS["cpu"], unit, 1, run) == {}
    seeds = [order._windows(order.PRESETS["cpu"], {"part": "seeds"}, s) for s in range(5)]
    together = np.concatenate(seeds)
    assert together.shape == (16, 512) and len(np.unique(together, axis=0)) == 16
    assert {tuple(w) for w in together} == {tuple(w) for w in corpus.windows(16)}


def test_the_jackknife_of_a_mean_is_the_values_themselves():
    values = np.random.default_rng(0).normal(size=7)
    np.testing.assert_allclose(order_summary.jackknife(lambda v: float(v.mean()), values), values)
    with pytest.raises(ValueError, match="one length"):
        order_summary.jackknife(lambda a, b: 0.0, values, values[:3])


def made_rows():
    """Formats of known costs: A adds exactly; B exceeds the sum by 0.2 nats, quantizing first costs it 0.1 more."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(4):
        d = 3 + rng.normal(0, 0.5, 8)
        for part in ("seeds", "shipped")[: 1 if seed else 2]:
            at = dict(part=part, pattern="0.3", seed=seed)
            rows.append({**at, "format": "", "losses": {"d": d, "s": d + 0.3}})
            rows.append({**at, "format": "A", "losses": {"q": d + 0.1, "sq": d + 0.4, "qs": d + 0.4}})
            sq = d + 0.6 + rng.normal(0, 0.01, 8)
            rows.append({**at, "format": "B", "losses": {"q": d + 0.1, "sq": sq, "qs": sq + 0.1}})
    return rows


def test_excess_and_order_come_out_as_they_went_in():
    settings = {"patterns": ["0.3"], "destroyed": [], "seed_patterns": ["0.3"], "tuned": {}}
    found = order_summary.summarise(settings, made_rows())
    for part in ("shipped", "seeds"):
        a, b = found[part]
        assert a["format"] == "A" and abs(a["excess"]["mean"]) < 1e-12 and abs(a["qs minus sq"]["mean"]) < 1e-12
        assert b["excess"]["mean"] == pytest.approx(0.2, abs=0.02) and b["excess"]["low"] > 0
        assert b["qs minus sq"]["mean"] == pytest.approx(0.1) and b["qs minus sq"]["p_holm"] < 0.01
    assert found["shipped"][0]["windows"] == 8 and found["seeds"][0]["seeds"] == 4
    # costs that add in nats compound in perplexity: e^(s+q) − e^s − e^q + 1 > 0
    assert found["shipped"][0]["excess_perplexity"] > 0 and found["seeds"][0]["excess_perplexity_interval"]["mean"] > 0


def test_cells_on_fewer_windows_are_compared_on_those_windows():
    rows = made_rows()
    d = np.arange(8.0)
    short = [
        {"part": "shipped", "pattern": "0.1", "seed": 0, "format": "", "losses": {"s": d[::2] + 1}},
        {"part": "shipped", "pattern": "0.1", "seed": 0, "format": "A", "losses": {"sq": d[::2] + 3, "qs": d[::2] + 3}},
        {"part": "shipped", "pattern": "0.3", "seed": 0, "format": "", "losses": {"d": d}},
        {"part": "shipped", "pattern": "0.3", "seed": 0, "format": "A", "losses": {"q": d + 2}},
    ]
    (entry,) = order_summary.over_windows(order_summary.cells(short, "shipped"), ["0.1"])
    assert entry["windows"] == 4 and entry["excess"]["mean"] == pytest.approx(0)
    assert order_summary.cells(rows, "tuned") == {}


def test_training_through_a_compression_moves_the_weights_and_keeps_the_pattern(tmp_path):
    settings = {**order.PRESETS["ci"], **TINY}
    run = Run("cpu", None, tmp_path, lambda *a: None)
    held, caught = [], corpus.cross_entropies
    for kind, fmt in (("d", ""), ("sq", "MXFP4"), ("qs", "MXFP4")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                corpus, "cross_entropies", lambda model, *a, **k: (held.append(model), caught(model, *a, **k))[1]
            )
            order.run(settings, {"part": "tuned", "pattern": "2:4", "format": fmt, "kind": kind}, 0, run)
    start = order.byte_model(0, settings["recover"])[0]
    for model, sparse in zip(held, (False, True, True)):
        w = model.blocks[0].up.weight.detach()
        zeros = (w.reshape(-1, 4) == 0).sum(1)
        assert bool((zeros >= 2).all()) is sparse
        assert not torch.equal(w, start.blocks[0].up.weight) and torch.equal(
            model.embedding.weight, start.embedding.weight
        )


def test_training_under_fair_ties_takes_another_mask_in_the_same_order(tmp_path, monkeypatch):
    settings = {**order.PRESETS["ci"], **TINY, "tie_formats": ["MXFP4"], "afterwards": [], "tuned_joint": []}
    kinds = [u["kind"] for u in order.units(settings) if u["part"] == "tuned" and u["format"] == "MXFP4"]
    assert kinds == ["q", "sq", "qs", "qs magnitude"]
    attached, real = [], order.straight_through.attach

    def attach(*given, **more):
        made = real(*given, **more)
        attached.append((made.configuration(), {n: m.clone() for n, m in made.masks().items()}))
        return made

    monkeypatch.setattr(order.straight_through, "attach", attach)
    run = Run("cpu", None, tmp_path, lambda *a: None)
    for kind in kinds[2:]:
        unit = {"part": "tuned", "pattern": "2:4", "format": "MXFP4", "kind": kind}
        assert set(order.run(order.relevant(settings, unit), unit, 0, run)["losses"]) == {kind}
    (first, blind), (fair, seeing) = attached
    assert (first["order"], first["ties"], fair["order"], fair["ties"]) == ("qs", "first", "qs", "magnitude")
    assert any(not torch.equal(blind[n], seeing[n]) for n in blind)


def test_a_one_shot_row_does_not_depend_on_training_nor_a_trained_one_on_lists_of_formats():
    settings = order.PRESETS["cpu"]
    shot = order.relevant(settings, {"part": "seeds"})
    tuned = order.relevant(settings, {"part": "tuned"})
    assert not {"steps", "rate", "tuned"} & set(shot) and {"windows", "main", "tie_formats"} <= set(shot)
    assert not {"formats", "patterns", "seed_formats"} & set(tuned) and {"steps", "rate", "amp"} <= set(tuned)
    assert "recover" in order.relevant(order.PRESETS["ci"], {"part": "seeds"})  # its model is trained so long


@pytest.mark.parametrize("settings", [{"seed_formats": ["FP3"]}, {"tuned": {"2:4": ["INT4", "FP3"]}}])
def test_a_format_that_does_not_exist_is_refused_before_any_work(settings, tmp_path):
    with pytest.raises(ValueError, match="no format FP3; the formats are INT3"):
        run_case(NAME, "ci", settings=settings, out=tmp_path / "record.json")
    assert not list(tmp_path.iterdir())


def test_the_case_is_found_by_its_name():
    assert cases.load(NAME) is order.CASE
    assert set(order.CASE.presets) == {"ci", "cpu", "trained", "gpu", "gpu_groups", "gpu_formats"}


def test_inputs_are_quantized_inside_the_block_alone_and_let_the_gradient_through():
    model = order.byte_model(0, 4)[0]
    tokens, fmt = torch.arange(24).reshape(2, 12), named("HBFP6")
    seen = []
    layer = next(iter(smollm2.linears(model).values()))
    handle = layer.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    plain = model(tokens)
    with order.quantized_inputs(model, fmt):
        loss = model(tokens).square().mean()
        loss.backward()
    with order.quantized_inputs(model, None):
        assert torch.equal(model(tokens), plain)
    handle.remove()
    assert torch.equal(model(tokens), plain) and not torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[1].detach(), fmt.quantize(seen[0].detach()), rtol=0, atol=1e-6)
    assert model.blocks[0].norm_attention.weight.grad.abs().sum() > 0
    model.zero_grad()


def test_quantized_afterwards_is_the_network_trained_through_its_mask_quantized_once(tmp_path):
    settings = {**order.PRESETS["ci"], **TINY}
    run = Run("cpu", None, tmp_path, lambda *a: None)
    unit = {"part": "tuned", "pattern": "2:4", "format": "MXFP4", "kind": "s then q"}
    found = order.run(settings, unit, 0, run)["losses"]["s then q"]
    pruned = order._trained_through(settings, {**unit, "kind": "s", "format": ""}, 0, run)[0]
    with torch.no_grad():
        for layer in smollm2.linears(pruned).values():
            layer.weight.copy_(torch.from_numpy(named("MXFP4").quantize(layer.weight.numpy())))
    assert found == order._read(pruned, settings, unit, 0, run)
    again = order.run(settings, {**unit, "kind": "s then qa"}, 0, run)["losses"]["s then qa"]
    assert again != found  # the inputs too, from the network that was kept
