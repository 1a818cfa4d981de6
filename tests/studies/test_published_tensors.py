"""The reader of the paper's published measurements, what is computed of them, and the tables that ship."""

import json

import numpy as np
import pytest

from prunequant import records
from prunequant.studies import published_tensors as published
from prunequant.studies.runner import run_study

KEYS = (*published.FIELDS.values(), "pruning_mse", "pruning_mse_corrected")


def entry(**given):
    plain = dict.fromkeys(KEYS, 1.0) | {"quant_sqnr": 10.0, "pruning_sqnr": 5.0, "pruning_sqnr_corrected": 4.0}
    return plain | {"quant_sparsity": 0.25, "sample_kurtosis": 1.0, "quant_mse": 0.01} | given


@pytest.fixture
def folder(tmp_path):
    """Two networks; in each pruning is ahead on the tensors of largest kurtosis."""
    place = tmp_path / "plots_data" / "weights_sqnr"
    place.mkdir(parents=True)
    for model in ("a_net", "b_net_2"):
        for bits in range(2, 9):
            tensors = {
                f"layer.{i}": entry(sample_kurtosis=float(i), pruning_sqnr=5.0 + 8.0 * (i > 9 + bits))
                for i in range(20)
            }
            tensors["lost"] = entry(sample_kurtosis=-3.0, pruning_sqnr=11.0)
            tensors["none"] = entry(sample_kurtosis=float("inf"))
            (place / f"{model}_{bits}_bits_mse.json").write_text(json.dumps(tensors))
    return tmp_path


def test_every_entry_is_read_with_its_network_and_width(folder):
    rows = published.read(folder)
    assert len(rows["bits"]) == 2 * 7 * 22
    assert set(rows["model"]) == {"a_net", "b_net_2"} and set(rows["bits"]) == set(range(2, 9))
    assert rows["pruning_as_sparse"].tolist() == [4.0] * 308


def test_the_record_counts_winners_and_leaves_out_impossible_kurtosis(folder):
    record = run_study("published-tensors", {"data_dir": folder})
    assert record["provenance"]["command"] == "prunequant record published-tensors"
    assert (record["models"], record["tensors"]) == (2, 44)
    assert record["kurtosis"]["impossible"] == record["kurtosis"]["not_finite"] == 2
    for row in record["widths"]:
        above = 10 - row["bits"]
        assert row["compared"] == 44 and row["pruning_ahead"] == 2 * (above + 1)
        assert row["pruning_ahead_as_sparse"] == 0 and row["zeros"] == 0.25
        assert row["area_possible"] == 1.0 and row["area_all"] < 1.0
        assert row["tensors_possible"] == 40 and sum(n for n, _ in row["map"]) == 40
        assert sum(won for _, won in row["map"]) == 2 * above


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda place: [p.unlink() for p in place.rglob("*.json")], "no file MODEL_BITS_bits_mse.json lies there"),
        (lambda place: next(place.rglob("a_net_4*")).unlink(), "a_net does not have every width of 2 to 8 bits"),
        (lambda place: next(place.rglob("a_net_4*")).write_text("{"), "a_net_4_bits_mse.json is damaged"),
        (lambda place: next(place.rglob("a_net_4*")).write_text('{"x": {}}'), "a_net_4_bits_mse.json is damaged"),
    ],
)
def test_a_folder_of_another_kind_is_refused_by_name(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        published.read(folder)


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    for _ in range(50):
        score, won = rng.integers(0, 6, 12), rng.random(12) < 0.4
        if won.all() or not won.any():
            assert np.isnan(published.ranking_area(score, won))
            continue
        pairs = [(a > b) + 0.5 * (a == b) for a in score[won] for b in score[~won]]
        assert published.ranking_area(score, won) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_the_interval_is_wider_when_whole_networks_are_drawn():
    rng = np.random.default_rng(1)
    network = np.repeat(np.arange(10), 30)
    score = rng.standard_normal(300) + 2 * rng.standard_normal(10)[network]
    won = score + rng.standard_normal(300) > 1
    alone = published.area_interval(score, won, np.arange(300), draws=300)
    together = published.area_interval(score, won, network, draws=300)
    assert alone[0] <= published.ranking_area(score, won) <= alone[1]
    assert together[1] - together[0] > alone[1] - alone[0]


@pytest.mark.parametrize("sigma", [0.001, 0.004, 0.009])
def test_half_precision_loses_the_kurtosis_of_small_weights(sigma):
    weights = sigma * np.random.default_rng(2).standard_normal(20_000)
    assert published.half_kurtosis(weights) == -3.0
    assert abs(published.half_kurtosis(weights / sigma)) < 0.2
    assert np.isinf(published.half_kurtosis(10 * weights / sigma))


def test_the_record_that_ships_says_why_kurtosis_is_lost():
    record = records.read("published_tensors.json")
    lost = record["kurtosis"]
    assert (record["models"], record["tensors"], lost["impossible"], lost["not_finite"]) == (45, 2704, 139, 12)
    assert lost["impossible_other"] == 0 and lost["largest_sigma_impossible"] < 0.0101
    assert lost["of_these_whole"] > 0.95 * lost["one_to_eight_steps"] > 300
    for row in record["half_precision"]:
        assert (row["kurtosis"] == -3) == (row["sigma"] < 0.01)


def test_the_tables_that_ship_hold_the_printed_cells():
    tables = records.read("kuzmin2023_tables.json")
    assert tables["bits"] == list(range(8, 1, -1))
    cells = [n for row in tables["table 1"] for side in ("quantization", "pruning") for n in row[side]]
    assert len(cells) == 126 and len(tables["table 5"]) == 3
    by_name = {row["model"]: row for row in tables["table 1"]}
    assert by_name["ResNet-50"]["quantization"][3:5] == [76.3, 76.2]  # 5 and 4 bits
    assert by_name["ResNet-50"]["pruning"][3:5] == [76.1, 75.9]
    assert {row["model"] for row in tables["table 5"]} <= set(by_name)
