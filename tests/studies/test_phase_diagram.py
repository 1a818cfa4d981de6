"""Shards of a phase diagram: the same trials wherever they run, added up once."""

import json

import numpy as np
import pytest

from prunequant.experiments import sweep
from prunequant.statistics import clopper_pearson
from prunequant.studies import phase_diagram as phase
from prunequant.subset_sum import hitting_times

POINT = {"log2_bound": 5, "targets": "half", "sampler": "signed", "n_max": 12}


def shards(trials, count):
    return [{**POINT, "trials": trials, "shard": k} for k in range(count)]


def test_shards_add_up_to_the_one_long_run():
    (merged,) = phase.merge(sweep(phase.count_times, shards(250, 4), [3]))
    (whole,) = phase.merge(sweep(phase.count_times, shards(1000, 1), [3]))
    assert merged == whole
    times = hitting_times(12, 32, 16, 1000, 3)
    assert merged.failed(8) == (times > 8).sum()
    assert np.allclose(merged.failure(), [(times > n).mean() for n in range(13)])
    assert merged.interval(8) == clopper_pearson(merged.failed(8), 1000)


def test_a_quantile_is_the_least_number_that_reaches_the_level():
    curve = phase.PhaseCurve(5, "half", "signed", 4, 1, (0, 1, 4, 3, 1, 1))
    assert [curve.quantile(level) for level in (0.1, 0.5, 0.8, 0.9, 0.95)] == [1, 2, 3, 4, None]


def test_a_killed_run_resumes_and_counts_no_trial_twice(tmp_path):
    place = tmp_path / "store.jsonl"
    sweep(phase.count_times, shards(100, 4), [3], store=place)
    data = place.read_bytes()
    place.write_bytes(data[: len(data) // 2])
    (curve,) = phase.merge(sweep(phase.count_times, shards(100, 4), [3], store=place))
    assert curve.trials == 400
    assert (curve,) == tuple(phase.merge(sweep(phase.count_times, shards(100, 4), [3])))


def test_the_same_shard_twice_is_refused():
    rows = sweep(phase.count_times, shards(10, 1), [3])
    with pytest.raises(ValueError, match=r"shard 0 .* is there twice"):
        phase.merge(rows + rows)


def test_shards_of_different_sizes_are_refused():
    rows = sweep(phase.count_times, [*shards(10, 1), {**POINT, "trials": 20, "shard": 1}], [3])
    with pytest.raises(ValueError, match="different sizes"):
        phase.merge(rows)


def test_a_record_survives_its_file_and_a_damaged_one_is_named(tmp_path):
    curves = phase.merge(sweep(phase.count_times, shards(50, 2), [3]))
    place = tmp_path / "record.json"
    place.write_text(json.dumps(phase.to_json({"cpu": "a", "cores": 2, "date": "2026-01-01"}, curves)))
    record = phase.read(place)
    assert record.curve(5, "half") == curves[0]
    assert "measured on a (2 cores) on 2026-01-01" in record.origin()
    with pytest.raises(KeyError, match=r"recorded: 2\^5 half signed"):
        record.curve(6, "half")
    place.write_text(place.read_text()[:40])
    with pytest.raises(ValueError, match=r"record\.json: not a recorded phase diagram"):
        phase.read(place)


def test_an_unknown_name_of_targets_is_refused():
    with pytest.raises(ValueError, match="targets is 'some'"):
        phase.count_times(3, "some", "signed", 4, 10, 0, 1)


def test_a_dask_cluster_of_two_workers_counts_the_same_trials(tmp_path):
    from dask import distributed

    plain = sweep(phase.count_times, shards(100, 4), [3])
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        spread = sweep(phase.count_times, shards(100, 4), [3], client.get_executor(), tmp_path / "store.jsonl")
    assert phase.merge(spread) == phase.merge(plain)
