"""Orders on vision networks: what is compressed is what is measured, and no choice of an order costs more outputs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prunequant.cases.lsq_against_pruning import case  # noqa: E402
from prunequant.models import images  # noqa: E402
from prunequant.studies import order_vision, runner  # noqa: E402


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Two steps on a handful of images in place of hours on thousands."""
    rng = np.random.default_rng(0)
    few = [np.clip(rng.normal(20 * k, 30, (40, 28, 28)), 0, 255).astype(np.uint8) for k in range(10)]
    monkeypatch.setattr(images, "fashion_part", lambda part, folder: images.part_of(few, part, 12, 4))
    for model in order_vision.MODELS:
        preset = order_vision.PRESETS[f"converged_{model}"]
        own = {**preset["models"][model], "dense_steps": 3}
        monkeypatch.setitem(
            order_vision.PRESETS, f"converged_{model}", {**preset, "models": {model: own}, "reestimate": 2, "batch": 16}
        )
    monkeypatch.setattr(order_vision, "CALIBRATION", 20)
    return {"data": str(tmp_path), "folder": str(tmp_path)}


@pytest.mark.parametrize("model", order_vision.MODELS)
def test_orders_agree_where_they_must_and_the_dense_network_is_left_as_it_was(model, short):
    found = order_vision.order_unit(model, 0, formats=("MXFP4", "INT8"), patterns=("2:4",), **short)
    assert all(np.isfinite(v) for v in found.values())
    # blocks of 4 lie within one scale of MXFP4, so fair ties give one mask: the two orders are one computation
    assert found["2:4 MXFP4 qs magnitude"] == found["2:4 MXFP4 sq"] == found["2:4 MXFP4 adaptive magnitude"]
    assert found["2:4 MXFP4 changed magnitude"] == 0
    assert found["2:4 MXFP4 q"] != found["2:4 MXFP4 s"] != found["dense"]
    again = order_vision.order_unit(model, 0, formats=("INT8",), patterns=("2:4",), **short)
    assert {k: found[k] for k in again} == again


def test_frozen_masks_stay_and_masks_taken_anew_are_those_of_the_weights_at_the_end(short, monkeypatch):
    kept, whole = [], case.training.fit

    def watched(network, feed, **how):
        if not how.get("hooks"):  # the dense network
            return whole(network, feed, **how)
        (handle,) = how["hooks"]
        before = {n: m.clone() for n, m in handle.masks().items()}
        losses = whole(network, feed, **how)
        kept.append(all(torch.equal(before[n], m) for n, m in handle.masks().items()))
        return losses

    monkeypatch.setattr(case.training, "fit", watched)
    options = {"steps": 4, "rate": 0.05, "formats": ("MXFP4",), "patterns": ("2:4",)}
    found = order_vision.tuned_unit("vit", 0, **options, **short)
    assert kept == [False] * 4 + [True] * 4
    assert found["anew 2:4 MXFP4 qs magnitude"] == found["anew 2:4 MXFP4 sq"]
    assert found["frozen 2:4 MXFP4 qs first"] != found["frozen 2:4 MXFP4 sq"]


def test_the_record_has_every_comparison_and_names_no_place(monkeypatch, tmp_path):
    def losses(keys, seed):
        return dict(zip(keys, np.random.default_rng(seed).random(len(keys)).tolist(), strict=True))

    fixed = ["s", "q", "sq", "joint"]
    chosen = [f"{kind} {ties}" for kind in ("qs", "adaptive", "changed") for ties in order_vision.RULES]
    plain = ["dense", "accuracy", *(f"0.5 INT4 {kind}" for kind in fixed + chosen)]
    after = [f"{m} 0.5 INT4 {kind}" for m in order_vision.MASKS for kind in ["sq", *chosen[:3]]]
    monkeypatch.setattr(order_vision, "order_unit", lambda model, seed, data, folder: losses(plain, seed))
    monkeypatch.setattr(
        order_vision, "tuned_unit", lambda model, seed, steps, rate, data, folder: losses(["dense", *after], seed)
    )
    record = runner.run_study("order-vision", {"data": tmp_path, "seeds": 2, "steps": 2})
    assert [o["model"] for o in record["orders"]] == ["vit", "resnet"] and str(tmp_path) not in str(record)
    for plain, tuned in zip(record["orders"], record["fine_tuned"], strict=True):
        assert {d["name"] for d in plain["adaptive"]} == {
            f"0.5 INT4 {ties} against {fixed}" for ties in order_vision.RULES for fixed in ("sq", f"qs {ties}")
        }
        assert len(plain["cells"]) == 3 and len(tuned["differences"]) == 6 and len(tuned["protocols"]) == 3
        lead = {d["name"]: d["mean"] for d in tuned["differences"]}
        for row in tuned["protocols"]:
            assert row["mean"] == pytest.approx(lead[f"frozen {row['name']}"] - lead[f"anew {row['name']}"])
