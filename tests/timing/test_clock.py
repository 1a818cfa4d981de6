"""Turns, baselines and limits; no test here depends on how long anything takes."""

import math

import pytest

from prunequant.timing import clock as timing


def test_every_contender_has_its_turn_in_every_round():
    seen = []
    calls = {name: (lambda name=name: seen.append(name)) for name in "ab"}
    seconds = timing.interleave(calls, timing.Stopwatch("cpu", 4), rounds=2, hot=False)
    assert seen == ["a", "b"] * 3
    assert all(len(times["cold"]) == 2 and not times["hot"] for times in seconds.values())


def test_a_cold_time_follows_a_call_of_the_sibling():
    seen = []
    timing.interleave(
        {"a": lambda: seen.append("a")},
        timing.Stopwatch("cpu", 4),
        rounds=1,
        hot=False,
        siblings={"a": lambda: seen.append("sibling")},
    )
    assert seen == ["a", "sibling", "a"]


def test_a_long_contender_gets_three_rounds_at_least():
    found = timing.interleave({"a": lambda: None}, timing.Stopwatch("cpu", 4), rounds=9, seconds=0.0)
    assert len(found["a"]["cold"]) == 3


def test_without_a_limit_every_round_is_run():
    found = timing.interleave({"a": lambda: None}, timing.Stopwatch("cpu", 4), rounds=5, hot=False)
    assert len(found["a"]["cold"]) == 5


def test_the_baseline_is_the_fastest_of_the_round_and_ratios_are_taken_within_it():
    seconds = {"x": {"cold": [2.0, 8.0]}, "y": {"cold": [4.0, 4.0]}, "z": {"cold": [1.0, 4.0]}}
    base = timing.fastest(seconds, ("x", "y"), "cold")
    assert base == [2.0, 4.0]
    assert timing.median_ratio(seconds["z"]["cold"], base) == 0.75


def test_a_baseline_that_was_not_timed_is_an_error():
    with pytest.raises(ValueError, match="bf16"):
        timing.fastest({"x": {"cold": [1.0]}}, ("bf16",), "cold")


def test_quartiles_of_one_value_are_that_value():
    assert timing.quartiles([3.0]) == [3.0, 3.0, 3.0]
    assert timing.quartiles([1.0, 2.0, 3.0]) == [1.5, 2.0, 2.5]


def test_the_limits_of_a_machine_are_positive_numbers():
    found = timing.limits("cpu", size=1 << 16, order=32, rounds=2)
    assert {"copy", "read", "fp32"} <= set(found)
    assert all(math.isfinite(v) and v > 0 for v in found.values())


def test_a_run_without_rounds_is_refused():
    with pytest.raises(ValueError, match="rounds is 0"):
        timing.interleave({}, timing.Stopwatch("cpu", 4), rounds=0)


def test_a_hot_sample_on_a_gpu_has_fewer_calls_where_they_last_long(monkeypatch):
    watch, asked = timing.Stopwatch("cpu", 4), []
    watch.cuda = True
    monkeypatch.setattr(watch, "_events", lambda call, count: asked.append(count) or count * 1e-3)
    for about in (0.0, 1e-4, 4e-3, 1.0):
        assert watch.hot(lambda: None, about) == pytest.approx(1e-3)
    assert asked == [20, 20, 5, 1]
