"""Outlier channels change no output, and what is counted under them is what a plain computation counts."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from prunequant.cases.order_in_a_language_model import case  # noqa: E402
from prunequant.models import smollm2  # noqa: E402
from prunequant.studies import order_outliers as study  # noqa: E402
from prunequant.studies import runner  # noqa: E402


@pytest.fixture
def small(monkeypatch):
    """A random model of two blocks and random tokens in place of SmolLM2 and the messages."""
    model = smollm2.random(smollm2.Config.tiny(), seed=3)
    monkeypatch.setattr(study, "base", lambda seed: (model, smollm2.weights(smollm2.random(model.config, seed))))
    monkeypatch.setattr(study, "windows", lambda seed: np.random.default_rng(seed).integers(0, 96, (2, 40)))
    needs = replace(study.STUDIES["order-outliers"], needs=("torch",))  # not the model itself
    monkeypatch.setitem(study.STUDIES, "order-outliers", needs)
    study._prepared.cache_clear()
    yield model
    study._prepared.cache_clear()


def naive_losses(model, rows):
    """Mean negative log-probability of the next token, token by token."""
    out = []
    with torch.no_grad():
        for row in rows:
            logits = model(torch.from_numpy(row)[None])[0].double()
            logp = logits - logits.exp().sum(1, keepdim=True).log()
            out.append(-np.mean([float(logp[t, row[t + 1]]) for t in range(len(row) - 1)]))
    return out


def naive_int8(w, bits=8):
    """Each row over its own step, rounded half to even."""
    top = np.float32(2 ** (bits - 1) - 1)
    step = np.abs(w).max(axis=1, keepdims=True) / top
    return step * np.rint(w / step)


def naive_mask(score, keep, group):
    """Group by group the largest, the earlier of equal ones."""
    mask = np.zeros(score.shape, bool)
    for r, row in enumerate(score):
        for start in range(0, len(row), group):
            order = sorted(range(group), key=lambda i: (-row[start + i], i))
            for i in order[:keep]:
                mask[r, start + i] = True
    return mask


@pytest.mark.parametrize("factor", [2, 64, 2**-3])
def test_outlier_channels_leave_every_output_the_same_bits_and_are_undone_by_the_inverse(factor):
    model, tokens = smollm2.random(seed=1), torch.arange(60).reshape(2, 30)
    before, kept = model(tokens), {k: v.clone() for k, v in model.state_dict().items()}
    columns = [0, 17, 63]
    study.outlier_channels(model, columns, factor)
    assert torch.equal(model(tokens), before)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, kept[k])}
    assert {k.split(".", 2)[2] for k in changed} == {
        "norm_attention.weight", "norm_mlp.weight", *(f"{n}.weight" for n in ("q", "k", "v", "gate", "up")),
    }  # fmt: skip
    for name in ("q", "up"):
        moved = (model.blocks[1].get_submodule(name).weight / kept[f"blocks.1.{name}.weight"]).mean(0)
        assert [i for i, m in enumerate(moved.tolist()) if m != 1] == columns and moved[17] == factor
    study.outlier_channels(model, columns, 1 / factor)
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("columns", "factor", "words"),
    [([0], 3, "power of two"), ([64], 2, r"columns\[0\]"), ([1, 1], 2, "twice"), ([0], 0, "factor is 0")],
)
def test_a_factor_that_rounds_and_a_channel_that_is_not_there_are_refused(columns, factor, words):
    with pytest.raises(ValueError, match=words):
        study.outlier_channels(smollm2.random(), columns, factor)


@pytest.mark.parametrize(("seed", "factor"), [(0, 1), (1, 64)])
def test_a_unit_measures_what_a_plain_computation_measures(small, seed, factor):
    rows, columns = study.windows(seed), study.channels_of(seed, 64)
    plain = smollm2.weights(smollm2.random(small.config, seed))

    def made():
        return study.outlier_channels(smollm2.set_weights(copy.deepcopy(small), plain), columns, factor)

    weights = smollm2.weights(made())
    unit = {fp: study.outlier_unit(factor, *fp, seed) for fp in itertools.product(("", "INT8"), ("", "3:4"))}

    def loss(change):
        return naive_losses(smollm2.set_weights(made(), {n: change(w) for n, w in weights.items()}), rows)

    sq = loss(lambda w: naive_int8(w * naive_mask(np.abs(w), 3, 4)))
    first = loss(lambda w: (q := naive_int8(w)) * naive_mask(np.abs(q), 3, 4))
    found = unit["INT8", "3:4"]["losses"]
    assert unit["", ""]["losses"]["d"] == pytest.approx(loss(lambda w: w), abs=1e-5)
    assert unit["", "3:4"]["losses"]["s"] == pytest.approx(loss(lambda w: w * naive_mask(np.abs(w), 3, 4)), abs=1e-5)
    assert unit["INT8", ""]["losses"]["q"] == pytest.approx(loss(naive_int8), abs=1e-5)
    assert found["sq"] == pytest.approx(sq, abs=1e-5) and found["qs first"] == pytest.approx(first, abs=1e-5)
    # four neighbours share the scale of their row: fair ties give the mask of S→Q, and so its model
    assert {"qs magnitude", "joint"} <= set(unit["INT8", "3:4"]["same"]) and found["qs magnitude"] == found["sq"]
    fed = [n for n in weights if n.rsplit(".")[-1] in ("q", "k", "v", "gate", "up")]
    kept = [naive_int8(weights[n])[:: study.SAMPLED].reshape(-1, 4) for n in fed]
    naive = [np.mean([(m := sorted(abs(g)))[0] == m[1] > 0 for g in groups]) for groups in kept]
    assert unit["INT8", "3:4"]["tied"] == pytest.approx(np.mean(naive))
    zeros = np.mean([np.mean(naive_int8(weights[n]) == 0) for n in fed])
    assert unit["INT8", ""]["zeros"] == pytest.approx(zeros)
    moved = [np.mean(naive_mask(np.abs(weights[n]), 3, 4) != naive_mask(np.abs(plain[n]), 3, 4)) for n in fed]
    assert unit["", "3:4"]["moved"] == pytest.approx(np.mean(moved)) and (np.mean(moved) > 0) == (factor > 1)


def test_a_unit_leaves_the_model_that_it_is_given_as_it_was(small):
    before = {k: v.clone() for k, v in small.state_dict().items()}
    first = study.outlier_unit(16, "INT8", "3:4", 0)
    study.outlier_unit(1, "INT8 tensor", "0.5", 0)
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())
    assert study.outlier_unit(16, "INT8", "3:4", 0) == first
    assert study.outlier_unit(16, "", "", 0)["losses"] == study.outlier_unit(1, "", "", 0)["losses"]


@given(st.floats(0.05, 6), st.integers(1, 3), st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_the_tie_rate_of_normal_weights_is_the_sum_over_all_codes_of_a_group(step, keep, group):
    keep = min(keep, group - 1)
    coarse = max(step, 1.2)  # few codes, so that all groups can be listed
    levels = np.arange(int(9 / coarse) + 2)
    from scipy.stats import norm

    p = norm.sf((levels - 0.5) * coarse) * 2 - norm.sf((levels + 0.5) * coarse) * 2
    p[0] = 1 - 2 * norm.sf(coarse / 2)
    some = zero = 0.0
    for codes in itertools.product(levels, repeat=group):
        ordered = sorted(codes, reverse=True)
        if ordered[keep - 1] == ordered[keep]:
            chance = float(np.prod(p[list(codes)]))
            some, zero = (some + chance, zero) if ordered[keep] else (some, zero + chance)
    assert study.tie_rate(coarse, keep, group) == pytest.approx((some, zero), abs=1e-9)
    assert 0 <= sum(study.tie_rate(step, keep, group)) <= 1 + 1e-12


def test_ties_are_counted_as_drawn_and_twice_the_step_has_twice_the_ties():
    w = np.random.default_rng(5).standard_normal((4000, 400)).astype(np.float32)
    for step in (0.05, 0.2, 0.8):
        quantized = np.rint(w / np.float32(step))
        for keep in (2, 3):
            assert study.tied(quantized, f"{keep}:4") == pytest.approx(study.tie_rate(step, keep, 4), abs=0.003)
        assert sum(study.tied(quantized, "2:4")) == pytest.approx(case.boundary_ties([quantized]), abs=1e-12)
    assert study.tie_rate(0.002, 3, 4)[0] / study.tie_rate(0.001, 3, 4)[0] == pytest.approx(2, rel=0.01)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.sampled_from([0.1, 0.3, 0.5, 0.75]))
@settings(max_examples=50, deadline=None)
def test_ties_at_a_threshold_are_those_of_a_plain_ranking(values, sparsity):
    values = np.array(values, float)
    pruned = int(np.floor(sparsity * values.size + 1e-9))
    ordered = sorted(values)
    expected = (0.0, 0.0)
    if 0 < pruned < values.size and ordered[pruned - 1] == ordered[pruned]:
        share = np.mean(values == ordered[pruned])
        expected = (share, 0.0) if ordered[pruned] else (0.0, share)
    assert study.tied(values, sparsity) == pytest.approx(expected)


def test_the_record_has_a_row_for_every_cell_and_seed(small):
    record = runner.run_study("order-outliers", {"factors": [1, 32], "seeds": 2})
    assert record["factors"] == [1, 32] and record["seeds"] == 2
    cells = {(r["factor"], r["format"], r["pattern"], r["seed"]) for r in record["rows"]}
    assert len(cells) == len(record["rows"]) and {c[3] for c in cells} == {0, 1}
    assert {(1, "INT4", "3:4"), (32, "INT8", "3:4"), (1, "INT8 tensor", "3:4"), (32, "INT8", "0.5")} <= {
        c[:3] for c in cells
    }
    with pytest.raises(ValueError, match="at most 8"):
        runner.run_study("order-outliers", {"seeds": 9})
